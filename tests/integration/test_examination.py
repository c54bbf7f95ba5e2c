"""Why tasks stand still, asked of the log alone: workers absent, busy, killed or frozen, and tasks that wait."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from a2a_events import limits
from a2a_events.agents import echo
from a2a_events.log.memory import MemoryLog
from a2a_events.log.port import AgentEntry, Log
from a2a_events.model import TaskState
from a2a_events.runtime.agent import Deadlines, agent
from a2a_events.runtime.examination import examine
from a2a_events.runtime.transfer import export, import_bundle, memory_log
from a2a_events.runtime.turn import Turn
from a2a_events.services.connect import jetstream_log
from a2a_events.services.nats_server import NatsServer
from a2a_events.testing import Deployment, eventually
from a2a_events.timeline.decide import RESUME
from a2a_events.timeline.diagnosis import Case, Diagnosis
from a2a_events.timeline.ids import TaskRef
from tests.contract.logs import Author, offered
from tests.integration.conftest import StackOf
from tests.integration.http import client, message
from tests.integration.stack import ACK_WAIT_SECONDS, Stack
from tests.integration.test_sweeper import forget
from tests.integration.test_turns import Paused, in_state

ASKS = {"script": {"chunks": 2, "inputAt": 1}}


async def of(stack: Stack, task_id: str) -> Diagnosis:
    return await examine(stack.log, stack.ref(task_id))


async def becomes(log: Log, task: TaskRef, case: Case, timeout_seconds: float = 30) -> Diagnosis:
    async def found() -> Diagnosis | None:
        diagnosis = await examine(log, task)
        return diagnosis if diagnosis.case is case else None

    diagnosis: Diagnosis = await eventually(found, timeout_seconds=timeout_seconds, what=f"the task to be {case}")
    return diagnosis


async def idle_worker(stack: Stack) -> None:
    """A worker that announces its agent and takes nothing."""
    await (await stack.log.follow("echo")).close()
    await stack.log.announce(AgentEntry(name="echo", card=b"{}"), "elsewhere")


@pytest.fixture
def quick_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are missed soon: those of JetStream after a second, its shortest memory."""
    monkeypatch.setattr(limits, "AGENT_HEARTBEAT_SECONDS", 0.35)


async def test_a_task_without_any_worker_says_so(serve: StackOf) -> None:
    stack = await serve(echo)
    task = await stack.calls.send_task("hi", immediately=True)

    found = await of(stack, task.id)

    assert (found.case, found.stuck, found.state, found.phase) == (Case.NO_WORKER, True, "SUBMITTED", "queued")
    assert "None was ever here" in found.why
    assert found.workers == ()
    assert found.untold == ()
    assert found.newest_writer.startswith("gateway/")
    assert found.silent_seconds is not None
    assert 0 <= found.silent_seconds < 60


async def test_a_worker_that_works_is_named_with_its_signs_of_life(serve: StackOf) -> None:
    paused = Paused()
    stack = await serve(paused)
    worker = await stack.worker()
    task = await stack.calls.send_task("hi", immediately=True)
    await paused.has_started()

    found = await of(stack, task.id)

    name = worker.worker._writer.instance
    assert (found.case, found.stuck, found.owner) == (Case.RUNNING, False, name)
    assert name in found.why
    assert [one.name for one in found.workers or ()] == [name]
    assert found.owner_announced_seconds_ago is not None
    assert [(claim.attempt, claim.worker, claim.reason) for claim in found.attempts] == [(1, name, "")]
    assert found.deliveries is not None
    assert found.deliveries.under_way == 1
    assert found.deliveries.settled < found.deliveries.position <= found.deliveries.handed_out
    assert found.ack_wait_seconds == ACK_WAIT_SECONDS
    paused.proceed.set()
    await in_state(stack.calls, task.id, TaskState.COMPLETED)
    ended = await of(stack, task.id)
    assert (ended.case, ended.stuck) == (Case.ENDED, False)


@pytest.mark.usefixtures("quick_heartbeats")
async def test_a_turn_whose_only_worker_died_waits_for_another(serve: StackOf) -> None:
    paused = Paused()
    stack = await serve(paused)
    worker = await stack.worker()
    task = await stack.calls.send_task("hi", immediately=True)
    await paused.has_started()
    await worker.vanish()

    found = await becomes(stack.log, stack.ref(task.id), Case.WORKER_SILENT)

    assert found.owner == worker.worker._writer.instance
    assert found.owner in found.why
    alone = await becomes_alone(stack, task.id)
    assert "No other worker" in alone.why
    assert "ends the task FAILED" in alone.advice
    await stack.worker()
    await in_state(stack.calls, task.id, TaskState.FAILED)
    assert (await of(stack, task.id)).case is Case.GIVEN_UP


async def becomes_alone(stack: Stack, task_id: str) -> Diagnosis:
    """Once the last worker's announcement is too old to be kept."""

    async def found() -> Diagnosis | None:
        diagnosis = await of(stack, task_id)
        return diagnosis if diagnosis.stuck else None

    diagnosis: Diagnosis = await eventually(found, what="nobody to be there")
    return diagnosis


async def test_what_a_full_worker_has_taken_ahead_is_told_as_handed_out(serve: StackOf) -> None:
    paused = Paused()
    stack = await serve(paused)
    await stack.worker(turns=1)
    await stack.calls.send_task("first", immediately=True)
    await paused.has_started()
    waiting = await stack.calls.send_task("second", immediately=True)

    found = await becomes(stack.log, stack.ref(waiting.id), Case.HANDED_OUT)

    assert not found.stuck
    assert found.pending_messages == 1
    assert "1 s of silence" in found.why


async def test_what_nobody_takes_stands_behind_others_in_its_queue(serve: StackOf) -> None:
    stack = await serve(echo)
    await idle_worker(stack)
    tasks = [await stack.calls.send_task("hi", immediately=True) for _ in range(8)]
    shards: dict[int, int] = {}

    for task in tasks:
        found = await of(stack, task.id)
        assert found.case is Case.QUEUED
        assert found.deliveries is not None
        shard = stack.ref(task.id).shard
        assert found.deliveries.ahead == shards.get(shard, 0)
        shards[shard] = shards.get(shard, 0) + 1


async def test_a_task_that_waits_for_its_client_says_when_it_expires(serve: StackOf) -> None:
    @agent(name="asks", deadlines=Deadlines(input_seconds=7290))
    async def asks(turn: Turn) -> None:
        turn.require_input("what?")

    stack = await serve(asks)
    await stack.worker()
    task = await stack.calls.send_task("hi")

    async def armed() -> Diagnosis | None:  # after the task shows that it waits
        found = await of(stack, task.id)
        return found if found.wakes_at else None

    found: Diagnosis = await eventually(armed)

    assert (found.case, found.stuck, found.state) == (Case.WAITS_FOR_CLIENT, False, "INPUT_REQUIRED")
    assert "ends FAILED" in found.why
    assert "in 2 h 1 min" in found.why


async def test_a_sleeping_task_says_until_when_also_without_a_worker(
    serve: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SUSPEND_SECONDS", 0.5)

    @agent(name="sleeper", policy=RESUME)
    async def sleeper(turn: Turn) -> None:
        await turn.sleep(3690)

    stack = await serve(sleeper)
    worker = await stack.worker()
    task = await stack.calls.send_task("hi", immediately=True)
    await becomes(stack.log, stack.ref(task.id), Case.SLEEPS)
    await worker.vanish()

    found = await of(stack, task.id)

    assert (found.case, found.stuck, found.phase) == (Case.SLEEPS, False, "suspended")
    assert "for 1 h 1 min more" in found.why
    assert "no wake-up" not in found.why
    assert found.owner == ""


async def test_a_cancel_that_the_agent_ignores_is_told_while_it_lasts(serve: StackOf) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    @agent(name="stubborn", cancel_grace_seconds=60)
    async def stubborn(turn: Turn) -> None:
        begun.set()
        waited = asyncio.create_task(turn.wait_canceled())
        await waited
        await go_on.wait()

    stack = await serve(stubborn)
    await stack.worker()
    task = await stack.calls.send_task("hi", immediately=True)
    await begun.wait()
    canceling = asyncio.create_task(stack.calls.cancel(task.id))

    found = await becomes(stack.log, stack.ref(task.id), Case.CANCELING)

    assert found.cancel_asked
    go_on.set()
    await canceling
    await in_state(stack.calls, task.id, TaskState.CANCELED)


async def test_a_delivery_that_the_broker_forgot_is_told(serve: StackOf) -> None:
    stack = await serve(echo)
    await idle_worker(stack)
    task = await stack.calls.send_task("hi", immediately=True)
    await forget(stack)

    await becomes(stack.log, stack.ref(task.id), Case.FORGOTTEN)


async def test_a_task_that_was_given_up_names_every_attempt(serve: StackOf) -> None:
    @agent(name="raises", policy=RESUME, attempts=2)
    async def raises(turn: Turn) -> None:
        raise RuntimeError(turn.text)

    stack = await serve(raises)
    await stack.worker()
    task = await stack.calls.send_task("hi")
    await eventually(lambda: stack.log.dead_letter(stack.ref(task.id)))

    found = await of(stack, task.id)

    assert (found.case, found.stuck) == (Case.GIVEN_UP, True)
    assert [claim.attempt for claim in found.attempts] == [1, 2]
    assert all("RuntimeError" in claim.reason for claim in found.attempts)
    assert found.letter is not None
    assert found.letter.reason in found.why


async def test_an_imported_task_that_was_running_is_nobodys(serve: StackOf) -> None:
    paused = Paused()
    stack = await serve(paused)
    await stack.worker()
    task = await stack.calls.send_task("hi", immediately=True)
    await paused.has_started()
    bundle = await export(stack.log, stack.ref(task.id))
    elsewhere = MemoryLog("main", shards=8)
    here = memory_log(bundle)

    imported = await examine(elsewhere, await import_bundle(elsewhere, bundle))
    recorded = bundle.records[-1].header.times[-1]
    restored = await examine(here, bundle.task, now=recorded + 60_000)

    assert (imported.case, imported.stuck) == (Case.IMPORTED, True)
    assert (restored.case, restored.stuck) == (Case.WORKER_SILENT, True)
    assert restored.owner == imported.owner
    assert restored.owner_silent_seconds is not None
    assert 59 <= restored.owner_silent_seconds <= 60
    for log in (elsewhere, here):
        await log.close()


async def test_a_record_that_cannot_be_read_is_named(serve: StackOf) -> None:
    stack = await serve(echo)
    task = await stack.calls.send_task("hi", immediately=True)
    ref = stack.ref(task.id)
    author = Author(stack.log, ref)
    author.records = await stack.records(task.id)
    damaged = offered(author.revision)
    await stack.log.try_append(ref, type(damaged)(damaged.header, b"no json\nat all"), author.position)

    found = await of(stack, task.id)

    assert (found.case, found.stuck) == (Case.UNREADABLE, True)
    assert damaged.header.record_id in found.why
    assert found.revision == 2


async def test_a_task_that_is_not_there_is_told_and_not_raised(serve: StackOf) -> None:
    stack = await serve(echo)

    found = await of(stack, (await stack.calls.send_task("hi", immediately=True)).id[:-4] + "AAAA")

    assert found.case is Case.NO_TASK


# --- processes -------------------------------------------------------------------------------------------------------

FREEZES = '''
import asyncio

from a2a_events import Turn, agent, limits

limits.AGENT_HEARTBEAT_SECONDS = 0.5


@agent(name="hangs", policy="rerun")
async def hangs(turn: Turn) -> None:
    """Never returns."""
    await asyncio.Event().wait()
'''


@pytest.mark.integration
@pytest.mark.processes
@pytest.mark.timeout(120)
async def test_a_frozen_worker_is_found_and_so_is_a_broker_that_is_gone(
    broker: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "AGENT_HEARTBEAT_SECONDS", 0.5)
    monkeypatch.setattr(limits, "REQUEST_TIMEOUT_SECONDS", 1.0)
    (tmp_path / "freezes.py").write_text(FREEZES)
    settings = {"ack_wait_seconds": "2"}
    async with (
        Deployment(
            broker.url, agents="freezes:hangs", gateways=1, workers=1, settings=settings, folder=tmp_path
        ) as deployment,
        jetstream_log(deployment.settings, "test") as (log, _),
    ):
        async with client(deployment.gateways[0].url) as http:
            asked = {**message("hi"), "configuration": {"returnImmediately": True}}
            task_id = (await http.post("/message:send", json=asked)).json()["task"]["id"]
        task = await log.find(task_id)
        assert task is not None
        running = await becomes(log, task, Case.RUNNING)
        frozen = deployment.workers[0]
        os.kill(frozen.pid, signal.SIGSTOP)
        try:
            silent = await becomes(log, task, Case.WORKER_SILENT)
            assert silent.owner == running.owner
            assert silent.owner in silent.why

            await deployment.add_worker()
            again = await becomes(log, task, Case.RUNNING)
            assert again.owner != running.owner
            assert again.attempt == 2
            assert "disappeared" in again.attempts[0].reason
        finally:
            os.kill(frozen.pid, signal.SIGCONT)
        broker.kill()
        gone = await examine(log, task)
        await broker.start()

        assert (gone.case, gone.stuck) == (Case.UNAVAILABLE, True)
        assert gone.untold
        await becomes(log, task, Case.RUNNING)
