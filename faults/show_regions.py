"""``make regions``: two regions joined by a link; a client changes regions in mid-stream, the link is cut and healed.

Everything is real: two nats-servers with a JetStream domain each, a gateway and a worker as processes in each region.
The exit code is 0 only if every step showed what it should.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import AsyncExitStack
from typing import Final

import click
import httpx
from msgspec.structs import replace

from a2a_events.cli.up import service_command
from a2a_events.client import Client
from a2a_events.client.stream import Update
from a2a_events.model import Message, Part, Role, Task, TaskState
from a2a_events.services import event_loop, logs
from a2a_events.services.up import Child, cards_shown
from a2a_events.settings import Settings
from a2a_events.testing import eventually, free_port
from faults.regions import EU, US, Regions

CHUNKS: Final = 90
DELAY_MS: Final = 100
AGENT: Final = "a2a_events.agents:scripted"


class Failed(Exception):
    """A step did not show what it should."""


def main() -> None:
    """Entry point."""
    logs.configure("error")
    try:
        event_loop.run(_show())
    except Failed as error:
        click.secho(f"FAILED  {error}", fg="red")
        sys.exit(1)


async def _show() -> None:
    began = time.monotonic()
    async with AsyncExitStack() as exits:
        two = await exits.enter_async_context(Regions())
        gateways = {region: replace(two.settings(region), port=free_port(), log_level="error") for region in (EU, US)}
        children = [
            Child(f"{role} {region}", service_command(role), replace(settings, agent=AGENT))
            for region, settings in gateways.items()
            for role in ("gateway", "worker")
        ]
        exits.push_async_callback(_stop, children)
        await asyncio.gather(*(child.start() for child in children))
        await cards_shown(list(gateways.values()))
        for region, settings in gateways.items():
            print(f"{region}      nats-server {two.servers[region].url}, gateway {settings.base_url}")
        eu = await exits.enter_async_context(Client([gateways[EU].base_url]))
        us = await exits.enter_async_context(Client([gateways[US].base_url]))
        await _steps(two, gateways, eu, us)
        click.secho(f"\nEverything is as it should be, after {time.monotonic() - began:.0f} s.", fg="green")


async def _steps(two: Regions, gateways: dict[str, Settings], eu: Client, us: Client) -> None:
    script = Message(
        message_id=os.urandom(8).hex(),
        role=Role.USER,
        parts=(Part(data={"script": {"chunks": CHUNKS, "delayMs": DELAY_MS, "bytes": 24}}),),
    )
    came: list[int] = []
    # No key: a key may choose either region for its task (docs/regions.md), and this is to be one of eu's.
    async with eu.stream(script, idempotency_key="") as updates:
        async for update in updates:
            came += _chunks(update)
            if len(came) >= CHUNKS // 6:
                break
        task_id, cursor = updates.task_id or "", updates.cursor
    print(f"\n{len(came)} of {CHUNKS} chunks of task {task_id} came in eu; the client goes to us with its cursor")
    async with us.subscribe(task_id, cursor) as updates:
        async for update in updates:
            came += _chunks(update)
            if len(came) >= CHUNKS // 3:
                break
        cursor = updates.cursor
        print(f"{len(came)} chunks came by now, each once")
        two.link.cut()
        click.secho("CUT     the link between the regions", fg="red")
        await _while_cut(gateways, eu, us, task_id)
        two.link.heal()
        click.secho("HEALED", fg="green")
        state: TaskState | None = None
        async for update in updates:
            came += _chunks(update)
            state = update.state or state
    if came != list(range(CHUNKS)) or state is not TaskState.COMPLETED:
        raise Failed(f"these chunks came, and {state}: {came}")
    print(f"the stream in us went on by itself: {CHUNKS} of {CHUNKS} chunks, each once, in order")

    async def alike() -> bool:
        return await _tasks(eu) == await _tasks(us)

    await eventually(alike, timeout_seconds=20, what="the same list in both regions")
    listed = await _tasks(us)
    print(f"both regions list the same {len(listed)} tasks: {_count(listed, EU)} of eu, {_count(listed, US)} of us")


async def _while_cut(gateways: dict[str, Settings], eu: Client, us: Client, task_id: str) -> None:
    at_home, abroad = await eu.get(task_id), await us.get(task_id)
    if abroad.id != task_id or at_home.status.state is not TaskState.WORKING:
        raise Failed("the task is not what it was")
    async with httpx.AsyncClient(base_url=gateways[US].base_url, headers={"A2A-Version": "1.0"}) as http:
        read = await http.get(f"/tasks/{task_id}")
        print(f"GET     in us: {read.status_code}, A2A-Staleness-Seconds: {read.headers.get('a2a-staleness-seconds')}")
        began = time.monotonic()
        refused = await http.post(f"/tasks/{task_id}:cancel", json={})
        seconds = time.monotonic() - began
        retry = refused.headers.get("retry-after")
        print(f"CANCEL  in us: {refused.status_code} after {seconds * 1000:.0f} ms, Retry-After: {retry}")
        if (read.status_code, refused.status_code) != (200, 503) or not retry:
            raise Failed(refused.text)
    own = await us.send("hello", idempotency_key="")
    if not isinstance(own, Task) or own.status.state is not TaskState.COMPLETED:
        raise Failed("us cannot work alone")
    print(f"SEND    in us: task {own.id} of us itself completed")
    if task_id not in await _tasks(us):
        raise Failed("the list lacks a task")


async def _tasks(client: Client) -> dict[str, str]:
    return {task.id: task.status.state.value async for task in client.tasks()}


def _count(tasks: dict[str, str], log: str) -> int:
    return sum(task_id.split("-")[1] == log for task_id in tasks)


def _chunks(update: Update) -> list[int]:
    if update.artifact is None:
        return []
    return [int(str(part.text).split(maxsplit=1)[0]) for part in update.artifact.artifact.parts]


async def _stop(children: list[Child]) -> None:
    await asyncio.gather(*(child.stop(5.0) for child in children))


if __name__ == "__main__":
    main()
