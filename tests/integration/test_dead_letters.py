"""Tasks that are given up: FAILED with the reason, one letter each whoever dies on the way, and tried again once."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from a2a_events import limits
from a2a_events.errors import Unavailable
from a2a_events.log.jetstream import JetStreamLog, provision
from a2a_events.log.port import Letter, Log
from a2a_events.model import Task, TaskState
from a2a_events.runtime.agent import agent
from a2a_events.runtime.turn import Turn
from a2a_events.testing import eventually
from a2a_events.timeline.decide import RERUN
from a2a_events.timeline.events import Submitted, TaskDeadLettered, TurnClaimed
from tests.integration.conftest import StackOf
from tests.integration.stack import Stack, text_of
from tests.integration.test_turns import in_state

FAILED, COMPLETED = TaskState.FAILED, TaskState.COMPLETED


class Broken:
    """An agent that raises until it is repaired."""

    def __init__(self) -> None:
        self.repaired = False
        self.texts: list[list[str]] = []

    def __call__(self, *, policy: str = RERUN, attempts: int = 2, name: str = "broken") -> object:
        @agent(name=name, policy=policy, attempts=attempts, version="2.1.0")
        async def run(turn: Turn) -> None:
            """Works once it is repaired."""
            self.texts.append([text_of(message) for message in turn.messages])
            if turn.text == "ask" and len(turn.messages) == 1:
                turn.require_input("what for?")
                return
            if not self.repaired and "fine" not in turn.text:
                raise RuntimeError("secret of the operator")
            await turn.artifact("done: " + ", ".join(self.texts[-1]))

        return run


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RETRY_PAUSE_SECONDS", 0.01)


async def letters(log: Log) -> list[Letter]:
    return [letter async for letter in log.dead_letters()]


async def given_up(stack: Stack, text: str = "poison") -> tuple[Task, Letter]:
    """A task that was given up, and its letter."""
    task = await stack.calls.send_task(text)
    assert task.status.state is FAILED
    letter: Letter = await eventually(lambda: stack.log.dead_letter(stack.ref(task.id)))
    return task, letter


async def test_a_poisoned_task_fails_after_its_attempts_with_a_reason_and_one_letter(serve: StackOf) -> None:
    broken = Broken()
    stack = await serve(broken())
    await stack.worker()

    task, letter = await given_up(stack)

    assert len(broken.texts) == 2
    said = text_of(task.status.message)
    assert "failed" in said
    assert "RuntimeError" in said
    assert "secret" not in said
    events = [event for record in await stack.records(task.id) for event in record.events()]
    first, second = [event for event in events if isinstance(event, TurnClaimed)]
    assert (first.attempt, first.reason) == (1, "")
    assert second.attempt == 2
    assert "RuntimeError" in second.reason
    [dead] = [event for event in events if isinstance(event, TaskDeadLettered)]
    assert await letters(stack.log) == [letter]
    assert (letter.task, letter.attempts, letter.epoch, letter.reason) == (stack.ref(task.id), 2, 2, dead.reason)
    assert (letter.context_id, letter.agent_version) == (task.context_id, "2.1.0")
    assert events[letter.revision - 1] == dead


async def test_a_task_that_ended_by_its_agents_word_has_no_letter(serve: StackOf) -> None:
    @agent(name="honest")
    async def honest(turn: Turn) -> None:
        """Fails, and says so."""
        if turn.text == "fail":
            turn.fail("no such city")

    stack = await serve(honest)
    worker = await stack.worker()
    assert (await stack.calls.send_task("fail")).status.state is FAILED
    assert (await stack.calls.send_task("go")).status.state is COMPLETED
    await worker.stop()

    assert await letters(stack.log) == []


async def test_a_worker_killed_between_ending_and_letter_leaves_one_letter(
    serve: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = await serve(Broken()())
    worker = await stack.worker()
    reached = asyncio.Event()

    async def never(letter: Letter) -> None:
        reached.set()
        await asyncio.Event().wait()

    log = worker.worker._log
    with monkeypatch.context() as patched:
        patched.setattr(log, "put_dead_letter", never)
        task = await stack.calls.send_task("poison")
        assert task.status.state is FAILED
        async with asyncio.timeout(20):
            await reached.wait()
        await worker.vanish()
    assert await letters(stack.log) == []

    await stack.worker()
    letter = await eventually(lambda: stack.log.dead_letter(stack.ref(task.id)))

    assert await letters(stack.log) == [letter]
    assert (await stack.kinds(task.id)).count("L") == 1


async def test_one_poisoned_task_delays_no_other(serve: StackOf) -> None:
    stack = await serve(Broken()())
    await stack.worker(turns=4)
    poisoned = [await stack.calls.send_task("poison", immediately=True) for _ in range(3)]
    fine = await asyncio.gather(*(stack.other.send_task("fine") for _ in range(20)))

    assert {task.status.state for task in fine} == {COMPLETED}
    for task in poisoned:
        await in_state(stack.calls, task.id, FAILED)
    await eventually(lambda: _count(stack.log, 3))


async def _count(log: Log, wanted: int) -> bool:
    return len(await letters(log)) == wanted


async def test_a_record_that_nobody_can_read_gets_a_letter_and_the_log_stays_as_it_is(serve: StackOf) -> None:
    stack = await serve(Broken()())
    task = await stack.calls.send_task("fine", immediately=True)
    [first] = await stack.records(task.id)
    damaged = msgspec.structs.replace(
        first.header, record_id="damaged", revision=9, generation=9
    )  # a hole between revisions
    from a2a_events.timeline.record import Draft

    await stack.log.try_append(stack.ref(task.id), Draft(damaged, first.payload), first.position)
    await stack.worker()
    letter = await eventually(lambda: stack.log.dead_letter(stack.ref(task.id)), timeout_seconds=30)

    assert letter.revision == 0
    assert letter.attempts >= limits.UNREADABLE_DELIVERIES
    assert letter.reason.startswith("unreadable")
    assert len(await stack.records(task.id)) == 2
    assert await letters(stack.log) == [letter]


async def test_workers_go_on_before_an_upgraded_deployment_is_provisioned_and_letters_come_after_it(
    serve: StackOf,
) -> None:
    stack = await serve(Broken()())
    log = stack.log
    if not isinstance(log, JetStreamLog):
        pytest.skip("a log in memory is provisioned by being made")
    await log._connection.api(f"STREAM.DELETE.{log._names.dead_stream(log.name)}")
    await stack.worker()

    task = await stack.calls.send_task("poison")
    assert task.status.state is FAILED
    assert (await stack.calls.send_task("fine")).status.state is COMPLETED
    with pytest.raises(Unavailable, match="provision"):
        await letters(log)

    done = await provision(log._connection, log._names, log._settings)
    assert done[log._names.dead_stream(log.name)] == "created"
    letter = await eventually(lambda: log.dead_letter(stack.ref(task.id)))
    assert await letters(log) == [letter]
