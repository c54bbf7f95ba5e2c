"""Agents that do not stop, in real worker processes: their turns end, the process is replaced, others go on."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from a2a_events.testing import Deployment, ServiceProcess, eventually
from tests.integration.http import client, message

pytestmark = [pytest.mark.integration, pytest.mark.processes, pytest.mark.timeout(120)]

AGENTS = '''
import asyncio
import time

from a2a_events import Deadlines, ThreadTurn, Turn, agent


@agent(name="thread", cancel_grace_seconds=0.5)
def thread(turn: ThreadTurn) -> None:
    """Blocks its thread, whatever it is told."""
    turn.artifact("begun", artifact_id="a")
    turn.flush()
    while True:
        time.sleep(3600)


@agent(name="late", cancel_grace_seconds=0.5, deadlines=Deadlines(turn_seconds=0.5))
def late(turn: ThreadTurn) -> None:
    """The same, past its deadline."""
    while True:
        time.sleep(3600)


@agent(name="stubborn", cancel_grace_seconds=0.5)
async def stubborn(turn: Turn) -> None:
    """Ignores its cancellation."""
    await turn.artifact("begun", artifact_id="a")
    await turn.flush()
    while True:
        try:
            await asyncio.sleep(0.05)
            await turn.chunk("b", "too late")
        except BaseException as error:
            print("refused" if type(error).__name__ == "TurnOver" else type(error).__name__, flush=True)


@agent(name="blocking")
async def blocking(turn: Turn) -> None:
    """Blocks the event loop."""
    await turn.artifact("begun", artifact_id="a")
    await turn.flush()
    await asyncio.sleep(0.2)
    if turn.attempt == 1:
        time.sleep(3600)


@agent(name="resuming", policy="resume")
async def resuming(turn: Turn) -> None:
    """Works a while, and goes on where an earlier attempt was."""
    said = sum(len(artifact.parts) for artifact in turn.task.artifacts)
    for number in range(said, int(turn.text)):
        await turn.chunk("a", str(number))
        await turn.flush()
        await asyncio.sleep(0.1)


@agent(name="slow")
async def slow(turn: Turn) -> None:
    """Works a while."""
    for number in range(int(turn.text)):
        await turn.chunk("a", str(number))
        await asyncio.sleep(0.1)
'''
NAMES = ("thread", "late", "stubborn", "blocking", "resuming", "slow")
ACK_WAIT_SECONDS = 2


@contextlib.asynccontextmanager
async def deployed(nats_url: str, folder: Path, workers: int = 1, **settings: str) -> AsyncIterator[Deployment]:
    (folder / "awkward.py").write_text(AGENTS)
    agents = ",".join(f"awkward:{name}" for name in NAMES)
    values = {"ack_wait_seconds": str(ACK_WAIT_SECONDS), **settings}
    async with Deployment(nats_url, agents=agents, workers=workers, settings=values, folder=folder) as made:
        async with client(made.gateways[0].url) as http:
            for name in NAMES:

                async def known(name: str = name) -> bool:
                    card = await http.get(f"/agents/{name}/.well-known/agent-card.json")
                    return card.status_code == 200

                await eventually(known)
        yield made


async def send(http: httpx.AsyncClient, agent: str, text: str, *, wait: bool = False) -> Any:
    params = {**message(text), "configuration": {"returnImmediately": not wait}}
    return (await http.post(f"/agents/{agent}/message:send", json=params)).raise_for_status().json()["task"]


async def task_of(http: httpx.AsyncClient, agent: str, task_id: str) -> Any:
    return (await http.get(f"/agents/{agent}/tasks/{task_id}")).raise_for_status().json()


async def begun(http: httpx.AsyncClient, agent: str, task_id: str) -> None:
    async def shown() -> bool:
        return bool((await task_of(http, agent, task_id)).get("artifacts"))

    await eventually(shown, what=f"the beginning of {agent}")


async def ended(http: httpx.AsyncClient, agent: str, task_id: str, timeout_seconds: float = 30) -> Any:
    async def found() -> Any:
        task = await task_of(http, agent, task_id)
        return (
            task if task["status"]["state"].removeprefix("TASK_STATE_") in {"COMPLETED", "FAILED", "CANCELED"} else None
        )

    return await eventually(found, timeout_seconds=timeout_seconds, what=f"the end of {agent}'s task")


def lives(worker: ServiceProcess) -> int:
    return worker.output.count('"event":"worker ready"')


async def replaced(*workers: ServiceProcess, lives_before: int = 1) -> ServiceProcess:
    """The worker that was replaced in its own process, once it serves again."""

    def one() -> ServiceProcess | None:
        return next((w for w in workers if lives(w) > lives_before), None)

    found: ServiceProcess = await eventually(one, timeout_seconds=40, what="a replaced worker")
    assert found.running
    assert '"event":"process is replaced"' in found.output
    return found


async def echoes(http: httpx.AsyncClient) -> None:
    """The deployment serves."""
    assert (await send(http, "slow", "1", wait=True))["status"]["state"] == "TASK_STATE_COMPLETED"


async def test_a_thread_that_does_not_stop_is_canceled_and_its_process_replaced(nats_url: str, tmp_path: Path) -> None:
    async with deployed(nats_url, tmp_path) as deployment, client(deployment.gateways[0].url) as http:
        (worker,) = deployment.workers
        pid = worker.pid
        other = await send(http, "slow", "20")
        task = await send(http, "thread", "go")
        await begun(http, "thread", task["id"])
        answer = (await http.post(f"/agents/thread/tasks/{task['id']}:cancel")).json()

        assert answer["status"]["state"] == "TASK_STATE_CANCELED"
        assert [a["artifactId"] for a in answer["artifacts"]] == ["a"]
        await replaced(worker)
        assert worker.pid == pid
        assert "time.sleep(3600)" in worker.output, "the log shows where the thread was"
        assert (await ended(http, "slow", other["id"]))["status"]["state"] == "TASK_STATE_COMPLETED"
        await echoes(http)
        assert await task_of(http, "thread", task["id"]) == answer


async def test_a_thread_past_its_deadline_ends_failed_and_its_process_is_replaced(
    nats_url: str, tmp_path: Path
) -> None:
    async with deployed(nats_url, tmp_path) as deployment, client(deployment.gateways[0].url) as http:
        task = await send(http, "late", "go", wait=True)

        assert task["status"]["state"] == "TASK_STATE_FAILED"
        assert "longer than 0.5 seconds" in task["status"]["message"]["parts"][0]["text"]
        await replaced(*deployment.workers)
        await echoes(http)


async def test_what_a_coroutine_that_ignores_its_cancellation_says_later_is_refused(
    nats_url: str, tmp_path: Path
) -> None:
    async with deployed(nats_url, tmp_path) as deployment, client(deployment.gateways[0].url) as http:
        (worker,) = deployment.workers
        await send(http, "slow", "30")  # keeps the worker for a while, so that the agent gets to talk
        task = await send(http, "stubborn", "go")
        await begun(http, "stubborn", task["id"])
        answer = (await http.post(f"/agents/stubborn/tasks/{task['id']}:cancel")).json()

        assert answer["status"]["state"] == "TASK_STATE_CANCELED"
        await replaced(worker)
        assert "\nrefused\n" in worker.output
        assert await task_of(http, "stubborn", task["id"]) == answer
        await echoes(http)


async def test_the_other_turns_of_a_replaced_worker_are_handed_over(nats_url: str, tmp_path: Path) -> None:
    async with deployed(nats_url, tmp_path, workers=2) as deployment, client(deployment.gateways[0].url) as http:
        others = [await send(http, "resuming", "100") for _ in range(6)]
        task = await send(http, "thread", "go")
        for other in others:
            await begun(http, "resuming", other["id"])
        await begun(http, "thread", task["id"])
        answer = (await http.post(f"/agents/thread/tasks/{task['id']}:cancel")).json()
        assert answer["status"]["state"] == "TASK_STATE_CANCELED"
        await replaced(*deployment.workers)

        for other in others:
            end = await ended(http, "resuming", other["id"])
            assert end["status"]["state"] == "TASK_STATE_COMPLETED"
            assert [part["text"] for part in end["artifacts"][0]["parts"]] == [str(n) for n in range(100)]
        reasons = "".join(worker.output for worker in deployment.workers)
        assert "its worker was replaced because another agent did not stop" in reasons


async def test_a_worker_that_is_stopped_with_an_agent_that_does_not_stop_ends_all_the_same(
    nats_url: str, tmp_path: Path
) -> None:
    async with deployed(nats_url, tmp_path, drain_seconds="0.2") as deployment:
        (worker,) = deployment.workers
        async with client(deployment.gateways[0].url) as http:
            for agent in ("thread", "stubborn"):
                await begun(http, agent, (await send(http, agent, "go"))["id"])
            worker.ask_to_stop()

            assert await worker.stopped() == 0
        assert lives(worker) == 1


async def test_code_that_blocks_the_event_loop_is_named_and_its_process_replaced(nats_url: str, tmp_path: Path) -> None:
    async with deployed(nats_url, tmp_path, workers=2) as deployment, client(deployment.gateways[0].url) as http:
        task = await send(http, "blocking", "go")
        end = await ended(http, "blocking", task["id"], timeout_seconds=ACK_WAIT_SECONDS + 15)
        assert end["status"]["state"] == "TASK_STATE_FAILED"
        worker = await replaced(*deployment.workers)
        lines = [msgspec.json.decode(line) for line in worker.output.splitlines() if line.startswith("{")]
        (blocked,) = (line for line in lines if line["event"] == "event loop is blocked")
        assert blocked["by"] == f"agent blocking, task {task['id']}"
        assert "time.sleep(3600)" in blocked["stack"]
        assert "awkward.py" in blocked["stack"]
        await echoes(http)


async def test_an_agent_that_is_replaced_again_and_again_does_not_keep_the_machine_busy(
    nats_url: str, tmp_path: Path
) -> None:
    async with deployed(nats_url, tmp_path) as deployment, client(deployment.gateways[0].url) as http:
        (worker,) = deployment.workers
        for life in range(1, 4):
            await send(http, "late", "go")
            await replaced(worker, lives_before=life)
        lines = [msgspec.json.decode(line) for line in worker.output.splitlines() if line.startswith("{")]
        pauses = [line["pause_seconds"] for line in lines if line["event"] == "process is replaced"]
        assert pauses == [0.0, 0.5, 1.0]
        await echoes(http)
