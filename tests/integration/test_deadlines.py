"""Deadlines and cancels in real processes: whoever is restarted, whatever else there is to do, each task ends."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from a2a_events.services.nats_server import NatsServer
from a2a_events.testing import Deployment, eventually
from tests.integration.http import client, message

pytestmark = [pytest.mark.integration, pytest.mark.processes, pytest.mark.timeout(120)]

AGENTS = '''
import asyncio
import time

from a2a_events import Deadlines, Turn, agent


@agent(name="asks", deadlines=Deadlines(input_seconds=4.0))
async def asks(turn: Turn) -> None:
    """Asks, and is never answered."""
    turn.require_input("still there?")


@agent(name="hangs", deadlines=Deadlines(turn_seconds=1.5))
async def hangs(turn: Turn) -> None:
    """Talks for ever."""
    while True:
        await asyncio.sleep(0.3)
        await turn.working()


@agent(name="silent", deadlines=Deadlines(idle_seconds=1.0))
async def silent(turn: Turn) -> None:
    """Says nothing."""
    await asyncio.Event().wait()


@agent(name="again", policy="rerun", deadlines=Deadlines(turn_seconds=6.0))
async def again(turn: Turn) -> None:
    """Hangs, in every attempt."""
    await turn.artifact(f"{turn.attempt} {time.time()}", artifact_id=f"attempt-{turn.attempt}")
    await asyncio.Event().wait()


@agent(name="watches")
async def watches(turn: Turn) -> None:
    """Says when it saw the cancel."""
    await turn.artifact("begun", artifact_id="a")
    await turn.flush()
    await turn.wait_canceled()
    await turn.artifact(str(time.time()), artifact_id="seen")


@agent(name="quick")
async def quick(turn: Turn) -> None:
    """Answers."""
    await turn.artifact("done")
'''
AGENT_NAMES = "awkward:asks,awkward:hangs,awkward:silent,awkward:again,awkward:watches,awkward:quick"


def deployed(url: str, folder: Path, ack_wait_seconds: int = 2, **counts: Any) -> Deployment:
    (folder / "awkward.py").write_text(AGENTS)
    settings = {"ack_wait_seconds": str(ack_wait_seconds)}
    return Deployment(url, agents=AGENT_NAMES, settings=settings, folder=folder, **counts)


async def known(url: str) -> None:
    async with client(url) as http:

        async def all_known() -> bool:
            names = [one.removeprefix("awkward:") for one in AGENT_NAMES.split(",")]
            cards = [await http.get(f"/agents/{name}/.well-known/agent-card.json") for name in names]
            return all(card.status_code == 200 for card in cards)

        await eventually(all_known)


async def send(http: httpx.AsyncClient, agent: str, *, wait: bool = False) -> Any:
    params = {**message("go"), "configuration": {"returnImmediately": not wait}}
    return (await http.post(f"/agents/{agent}/message:send", json=params)).raise_for_status().json()["task"]


async def get(http: httpx.AsyncClient, agent: str, task_id: str) -> Any:
    return (await http.get(f"/agents/{agent}/tasks/{task_id}")).raise_for_status().json()


async def failed(http: httpx.AsyncClient, agent: str, task_id: str) -> str:
    async def ended() -> Any:
        task = await get(http, agent, task_id)
        return task if task["status"]["state"] == "TASK_STATE_FAILED" else None

    task = await eventually(ended, timeout_seconds=40, what=f"the end of {agent}'s task")
    text: str = task["status"]["message"]["parts"][0]["text"]
    return text


async def artifact(http: httpx.AsyncClient, agent: str, task_id: str, artifact_id: str) -> str:
    async def shown() -> Any:
        found = (await get(http, agent, task_id)).get("artifacts", [])
        return next((a["parts"][0]["text"] for a in found if a["artifactId"] == artifact_id), None)

    text: str = await eventually(shown, what=f"the artifact {artifact_id}")
    return text


async def test_the_input_deadline_survives_a_restart_of_everything(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats")
    await server.start()
    try:
        async with deployed(server.url, tmp_path, gateways=1, workers=1) as deployment:
            await known(deployment.gateways[0].url)
            async with client(deployment.gateways[0].url) as http:
                task = await send(http, "asks", wait=True)
                assert task["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
            for process in [*deployment.gateways, *deployment.workers]:
                process.kill()
            server.kill()
            await server.start()
            await deployment.add_worker()
            gateway = await deployment.add_gateway()
            async with client(gateway.url) as http:
                assert "no input came within 4 seconds" in await failed(http, "asks", task["id"])
    finally:
        await server.stop()
        server.clean()


async def test_the_turn_deadline_counts_anew_at_the_next_worker(nats_url: str, tmp_path: Path) -> None:
    async with deployed(nats_url, tmp_path, workers=1) as deployment:
        await known(deployment.gateways[0].url)
        async with client(deployment.gateways[0].url) as http:
            task = await send(http, "again")
            await artifact(http, "again", task["id"], "attempt-1")
            deployment.workers[0].kill()
            await deployment.add_worker()
            begun = float((await artifact(http, "again", task["id"], "attempt-2")).split()[1])
            assert "longer than 6 seconds" in await failed(http, "again", task["id"])
            assert time.time() - begun > 5.5, "it was ended before its own time was over"


async def test_deadlines_hold_while_there_is_much_else_to_do(nats_url: str, tmp_path: Path) -> None:
    async with deployed(nats_url, tmp_path, workers=2) as deployment:
        await known(deployment.gateways[0].url)
        async with client(deployment.gateways[0].url) as http:
            hung = [(agent, await send(http, agent)) for agent in ("hangs", "silent") for _ in range(20)]
            quick = await asyncio.gather(*(send(http, "quick", wait=True) for _ in range(300)))
            assert {task["status"]["state"] for task in quick} == {"TASK_STATE_COMPLETED"}
            for agent, task in hung:
                text = await failed(http, agent, task["id"])
                assert ("longer than 1.5 seconds" if agent == "hangs" else "said nothing for 1 seconds") in text


async def test_a_cancel_at_one_gateway_reaches_agents_at_all_workers(nats_url: str, tmp_path: Path) -> None:
    async with deployed(nats_url, tmp_path, ack_wait_seconds=30, gateways=2, workers=2) as deployment:
        for gateway in deployment.gateways:
            await known(gateway.url)
        one, two = (client(gateway.url) for gateway in deployment.gateways)
        took: list[float] = []
        async with one, two:

            async def cancel() -> None:
                task = await send(one, "watches")
                await artifact(one, "watches", task["id"], "a")
                asked = time.time()
                answer = (await two.post(f"/agents/watches/tasks/{task['id']}:cancel")).raise_for_status().json()
                assert answer["status"]["state"] == "TASK_STATE_CANCELED"
                seen = next(a["parts"][0]["text"] for a in answer["artifacts"] if a["artifactId"] == "seen")
                took.append(float(seen) - asked)

            for _ in range(10):
                await asyncio.gather(*(cancel() for _ in range(5)))
        assert max(took) < 5  # a fifth of a second where nothing else runs
