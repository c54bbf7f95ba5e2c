"""``demo``: a gateway dies in mid-stream and its client loses nothing."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from a2a_events.cli.outcome import Exit

if TYPE_CHECKING:
    from a2a_events.services.up import Child
    from a2a_events.settings import Settings

SHOWN_EVERY: Final = 10
"""Chunks, so that the output fits on a screen."""


@click.command(short_help="Kill a gateway in mid-stream and watch the client go on.")
@click.option("--chunks", type=click.IntRange(3, 600), default=60, show_default=True, help="Length of the stream.")
@click.option("--delay-ms", type=click.IntRange(0, 1000), default=100, show_default=True, help="Between two chunks.")
def demo(chunks: int, delay_ms: int) -> int:
    """Show what this is for, in half a minute and without questions.

    Starts a NATS server, two gateways and a worker as processes of their own; streams a task through gateway A; kills
    A with SIGKILL after a third of it. The client goes on at gateway B from its cursor, and counts: each chunk has to
    come once, in order. Then the whole timeline is printed. The exit code is 0 only if nothing was lost or repeated.
    """
    from a2a_events.services import logs

    logs.configure("error")
    return asyncio.run(_demo(chunks, delay_ms))


async def _demo(chunks: int, delay_ms: int) -> int:
    from msgspec.structs import replace

    from a2a_events.cli.up import DEMO_AGENT, service_command
    from a2a_events.services import provisioner
    from a2a_events.services.nats_server import NatsServer
    from a2a_events.services.up import Child, cards_shown
    from a2a_events.settings import Settings

    with tempfile.TemporaryDirectory(prefix="a2a-events-demo-") as folder:
        server = NatsServer(Path(folder) / "nats")
        children: list[Child] = []
        try:
            await server.start()
            settings = Settings(nats=server.url, agent=DEMO_AGENT, log_level="error")
            await provisioner.run(settings)
            gateways = [replace(settings, port=port) for port in _free_ports(2)]
            children = [
                Child("gateway A", service_command("gateway"), gateways[0]),
                Child("gateway B", service_command("gateway"), gateways[1]),
                Child("worker", service_command("worker"), settings),
            ]
            await asyncio.gather(*(child.start() for child in children))
            await cards_shown(gateways)
            print(f"nats-server  {server.url}, pid {server.pid}")
            for child, one in zip(children, gateways, strict=False):
                print(f"{child.name}    {one.base_url}, pid {child.pid}")
            print(f"worker       pid {children[2].pid}\n", flush=True)
            return await _stream(chunks, delay_ms, gateways, children[0])
        finally:
            await asyncio.gather(*(child.stop(0.0 if child.name == "gateway A" else 10.0) for child in children))
            await server.stop()
            server.clean()


async def _stream(chunks: int, delay_ms: int, gateways: list[Settings], victim: Child) -> int:
    from a2a_events.cli import source, timeline
    from a2a_events.client import Client
    from a2a_events.model import Message, Part, Role, TaskState

    script = {"chunks": chunks, "delayMs": delay_ms, "bytes": 24}
    message = Message(message_id=os.urandom(16).hex(), role=Role.USER, parts=(Part(data={"script": script}),))
    came: list[int] = []
    state: TaskState | None = None
    killed = False
    async with Client([one.base_url for one in gateways]) as client, client.stream(message) as updates:
        async for update in updates:
            if update.state is not None:
                state = update.state
                print(f"state        {state.name}")
            if update.artifact is None:
                continue
            came += [int(str(part.text).split(maxsplit=1)[0]) for part in update.artifact.artifact.parts]
            if came[-1] % SHOWN_EVERY == 0 or came[-1] == chunks - 1:
                print(f"chunk {came[-1]:>3}    cursor {update.cursor}", flush=True)
            if not killed and len(came) >= chunks // 3:
                killed = True
                victim.kill()
                code = await victim.wait()
                click.secho(f"kill -9      gateway A is gone (exit code {code}); the client goes on at B", fg="red")
        task_id = updates.task_id or ""
    whole = came == list(range(chunks)) and state is TaskState.COMPLETED
    if whole:
        click.secho(f"\nWhole: {chunks} of {chunks} chunks, each chunk once, in order, and the end.\n", fg="green")
    else:
        click.secho(f"\nNOT whole: {chunks} chunks were sent, these came: {came}; state {state}\n", fg="red")
    print(f"The timeline of task {task_id}, from the log:\n", flush=True)
    async with source.opened(task_id, gateways[1], "timeline") as opened:
        await timeline.show(opened, "table")
    return Exit.OK if whole else Exit.FAILED


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at this moment."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
