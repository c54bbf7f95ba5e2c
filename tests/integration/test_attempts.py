"""Turns that are tried more than once: crash policies, hand-over, durable steps and timers (turns 4.8–4.12)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from a2a_events import limits
from a2a_events.model import Artifact, Task, TaskState
from a2a_events.runtime.agent import Agent, agent
from a2a_events.runtime.turn import Turn
from a2a_events.testing import eventually
from a2a_events.timeline.events import Step, TaskDeadLettered, TurnClaimed, TurnReleased, TurnSuspended
from tests.integration.conftest import StackOf
from tests.integration.stack import RunningWorker, Stack, accumulate, text_of

Handler = Callable[[Turn], Awaitable[None]]
RUN_AGAIN = ("rerun", "resume")


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RETRY_PAUSE_SECONDS", 0.01)


class Gate:
    """Holds an agent up at one place, until it is opened; how often agents came by is counted."""

    def __init__(self) -> None:
        self.reached = 0
        self.open = asyncio.Event()

    async def wait(self) -> None:
        """Come by."""
        self.reached += 1
        await self.open.wait()

    async def reached_by(self, times: int) -> None:
        """Wait until agents have come by this often."""
        await eventually(lambda: self.reached >= times, what=f"the gate to be reached {times} times")


def made(handler: Handler, policy: str, **terms: object) -> Agent:
    return agent(name="tried", policy=policy, **terms)(handler)  # type: ignore[arg-type]


def texts(task: Task) -> dict[str, list[str]]:
    def of(artifact: Artifact) -> list[str]:
        return [str(part.text) for part in artifact.parts]

    return {artifact.artifact_id: of(artifact) for artifact in task.artifacts}


async def owner_of(workers: list[RunningWorker]) -> RunningWorker:
    def found() -> RunningWorker | None:
        return next((w for w in workers if any(w.worker._running.values())), None)

    owner: RunningWorker = await eventually(found, what="a worker to run the turn")
    return owner


async def claims(stack: Stack, task_id: str) -> list[TurnClaimed]:
    events = [event for record in await stack.records(task_id) for event in record.events()]
    return [event for event in events if isinstance(event, TurnClaimed)]


# --- a worker that disappears -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", RUN_AGAIN)
async def test_a_turn_whose_worker_disappeared_is_tried_again(serve: StackOf, policy: str) -> None:
    gate = Gate()
    seen: list[tuple[int, str]] = []

    async def work(turn: Turn) -> None:
        seen.append((turn.attempt, turn.text))
        if turn.attempt == 1:
            await gate.wait()

    stack = await serve(made(work, policy))
    workers = [await stack.worker(), await stack.worker()]
    stream = stack.calls.stream("go")
    updates = [await anext(stream)]
    await gate.reached_by(1)
    await (await owner_of(workers)).vanish()
    updates += [update async for update in stream]

    assert updates[0].task is not None
    assert [(1, "go"), (2, "go")] == seen
    ended = await stack.calls.get(updates[0].task.id)
    assert ended.status.state is TaskState.COMPLETED
    accumulate(updates).assert_equals(ended)
    assert ["", "the worker that ran this turn disappeared"] == [c.reason for c in await claims(stack, ended.id)]


async def test_a_turn_that_kills_every_worker_ends_failed_and_is_given_up(serve: StackOf) -> None:
    gate = Gate()

    async def work(_: Turn) -> None:
        await gate.wait()

    stack = await serve(made(work, "rerun", attempts=2))
    workers = [await stack.worker(), await stack.worker(), await stack.worker()]
    sending = asyncio.create_task(stack.calls.send_task("go"))
    for times in (1, 2):
        await gate.reached_by(times)
        owner = await owner_of(workers)
        workers.remove(owner)
        await owner.vanish()
    task = await sending

    assert task.status.state is TaskState.FAILED
    assert "disappeared, in attempt 2" in text_of(task.status.message)
    assert 2 == gate.reached
    letters = [e for r in await stack.records(task.id) for e in r.events() if isinstance(e, TaskDeadLettered)]
    assert [2] == [letter.attempts for letter in letters]


async def test_what_an_agent_reports_again_replaces_what_it_had_reported(serve: StackOf) -> None:
    gate = Gate()

    async def work(turn: Turn) -> None:
        if turn.text == "first":
            await turn.chunk("log", "before ")
            turn.require_input("more?")
            return
        assert {"log": ["before "]} == texts(turn.task), "an agent that is run anew sees the task before the turn"
        await turn.chunk("log", f"attempt {turn.attempt} ")
        await turn.chunk("log", "goes on")
        await turn.artifact("whole", name="unnamed")
        await turn.flush()
        if turn.attempt == 1:
            await gate.wait()

    stack = await serve(made(work, "rerun"))
    workers = [await stack.worker(), await stack.worker()]
    asked = await stack.calls.send_task("first")
    stream = stack.calls.stream("second", task_id=asked.id)
    updates = [await anext(stream)]
    await gate.reached_by(1)
    await (await owner_of(workers)).vanish()
    updates += [update async for update in stream]

    ended = await stack.calls.get(asked.id)
    [_, unnamed] = ended.artifacts
    assert {"log": ["before ", "attempt 2 ", "goes on"], unnamed.artifact_id: ["whole"]} == texts(ended)
    accumulate(updates).assert_equals(ended)


async def test_an_agent_that_resumes_sees_what_it_has_reported_and_adds_to_it(serve: StackOf) -> None:
    gate = Gate()

    async def work(turn: Turn) -> None:
        done = len(texts(turn.task).get("log", []))
        for number in range(done, 4):
            await turn.chunk("log", str(number))
            await turn.flush()
            if turn.attempt == 1 and number == 1:
                await gate.wait()

    stack = await serve(made(work, "resume"))
    workers = [await stack.worker(), await stack.worker()]
    sending = asyncio.create_task(stack.calls.send_task("go"))
    await gate.reached_by(1)
    await (await owner_of(workers)).vanish()

    assert {"log": ["0", "1", "2", "3"]} == texts(await sending)


# --- an agent that raises ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", RUN_AGAIN)
async def test_an_agent_that_raises_is_tried_again_and_may_succeed(serve: StackOf, policy: str) -> None:
    async def work(turn: Turn) -> None:
        if turn.attempt < 3:
            raise ConnectionError("the model is busy")
        await turn.artifact(f"attempt {turn.attempt}", artifact_id="a")

    stack = await serve(made(work, policy))
    await stack.worker()
    task = await stack.calls.send_task("go")

    assert task.status.state is TaskState.COMPLETED
    assert {"a": ["attempt 3"]} == texts(task)
    reasons = [claim.reason for claim in await claims(stack, task.id)]
    assert ["", *["the agent raised ConnectionError; its log says more"] * 2] == reasons


@pytest.mark.parametrize(("policy", "attempts", "runs"), [("fail", 3, 1), ("rerun", 2, 2), ("resume", 1, 1)])
async def test_an_agent_that_always_raises_ends_its_task_and_no_other(
    serve: StackOf, policy: str, attempts: int, runs: int
) -> None:
    started: list[str] = []

    async def work(turn: Turn) -> None:
        started.append(turn.text)
        if turn.text == "poison":
            raise ValueError("always")

    stack = await serve(made(work, policy, attempts=attempts))
    await stack.worker()
    poisoned, healthy = await asyncio.gather(stack.calls.send_task("poison"), stack.calls.send_task("fine"))

    assert TaskState.COMPLETED is healthy.status.state
    assert TaskState.FAILED is poisoned.status.state
    assert "raised ValueError" in text_of(poisoned.status.message)
    assert runs == started.count("poison")
    assert 1 == (await stack.kinds(poisoned.id)).count("L")


async def test_a_cancel_between_two_attempts_ends_the_task_at_once(
    serve: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RETRY_PAUSE_SECONDS", 3600.0)
    monkeypatch.setattr(limits, "RETRY_LONGEST_PAUSE_SECONDS", 3600.0)

    async def work(_: Turn) -> None:
        raise ValueError("always")

    stack = await serve(made(work, "rerun"))
    await stack.worker()
    task = await stack.calls.send_task("go", immediately=True)
    await eventually(lambda: _claimed_twice(stack, task.id), what="the second claim")

    assert (await stack.calls.cancel(task.id)).status.state is TaskState.CANCELED


async def _claimed_twice(stack: Stack, task_id: str) -> bool:
    return len(await claims(stack, task_id)) == 2


# --- a worker that is stopped -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", RUN_AGAIN)
async def test_a_worker_that_is_stopped_hands_its_turns_over_at_once(
    serve: StackOf, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    monkeypatch.setattr(limits, "HANDOVER_SECONDS", 0.05)
    gate = Gate()
    attempts: list[int] = []

    async def work(turn: Turn) -> None:
        attempts.append(turn.attempt)
        if not gate.reached:
            await turn.chunk("log", "said before the stop")
            await gate.wait()

    stack = await serve(made(work, policy))
    first = await stack.worker(drain_seconds=3600)
    stream = stack.calls.stream("go")
    updates = [await anext(stream)]
    await gate.reached_by(1)
    await stack.worker()
    await first.stop()
    updates += [update async for update in stream]

    assert updates[0].task is not None
    task = await stack.calls.get(updates[0].task.id)
    assert TaskState.COMPLETED is task.status.state
    assert [1, 1] == attempts, "a planned hand-over is no attempt"
    assert {"log": ["said before the stop"]} == texts(task)
    accumulate(updates).assert_equals(task)
    events = [event for record in await stack.records(task.id) for event in record.events()]
    assert ["its worker was stopped"] == [e.reason for e in events if isinstance(e, TurnReleased)]


# --- durable steps ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", RUN_AGAIN)
async def test_a_step_that_was_recorded_is_not_done_again(serve: StackOf, policy: str) -> None:
    gate = Gate()
    done: list[str] = []
    keys: list[str] = []

    def charge(amount: int) -> dict[str, int]:
        done.append(f"charge {amount}")
        return {"amount": amount}

    async def book(place: str) -> str:
        done.append(f"book {place}")
        return place

    async def work(turn: Turn) -> None:
        keys.append(turn.idempotency_key("charge"))
        receipt = await turn.step("charge", charge, 7, result=dict[str, int])
        places = [await turn.step("book", book, place) for place in ("a", "b")]
        if turn.attempt == 1:
            await gate.wait()
        await turn.artifact({"receipt": receipt, "places": places}, artifact_id="a")

    stack = await serve(made(work, policy))
    workers = [await stack.worker(), await stack.worker()]
    sending = asyncio.create_task(stack.calls.send_task("go"))
    await gate.reached_by(1)
    await (await owner_of(workers)).vanish()
    task = await sending

    assert ["charge 7", "book a", "book b"] == done
    assert {"receipt": {"amount": 7}, "places": ["a", "b"]} == task.artifacts[0].parts[0].data
    assert 1 == len(set(keys))
    events = [event for record in await stack.records(task.id) for event in record.events()]
    assert ["charge", "book", "book#2"] == [e.name for e in events if isinstance(e, Step)]


async def test_the_steps_of_one_turn_are_not_those_of_the_next(serve: StackOf) -> None:
    done: list[str] = []
    keys: set[str] = set()

    async def work(turn: Turn) -> None:
        keys.add(turn.idempotency_key("note"))
        await turn.step("note", done.append, turn.text)
        if turn.text == "first":
            turn.require_input()

    stack = await serve(made(work, "resume"))
    await stack.worker()
    task = await stack.calls.send_task("first")
    await stack.calls.send_task("second", task_id=task.id)

    assert ["first", "second"] == done
    assert 2 == len(keys)


async def test_a_step_that_raised_leaves_nothing_and_is_done_again(serve: StackOf) -> None:
    tries: list[int] = []

    async def work(turn: Turn) -> None:
        def flaky() -> int:
            tries.append(turn.attempt)
            if turn.attempt == 1:
                raise ConnectionError("no")
            return turn.attempt

        assert 2 == await turn.step("flaky", flaky)

    stack = await serve(made(work, "rerun"))
    await stack.worker()
    task = await stack.calls.send_task("go")

    assert TaskState.COMPLETED is task.status.state
    assert [1, 2] == tries
    assert 1 == (await stack.kinds(task.id)).count("p")


async def test_what_cannot_be_a_step_is_refused_and_leaves_nothing(
    serve: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STEPS", 2)
    refused: list[type[Exception]] = []

    async def work(turn: Turn) -> None:
        for name, do in (
            ("", int),
            ("a#2", int),
            ("x" * 129, int),
            ("object", object),
            ("1", int),
            ("2", int),
            ("3", int),
        ):
            try:
                await turn.step(name, do)
            except (ValueError, TypeError) as error:
                refused.append(type(error))

    stack = await serve(made(work, "rerun"))
    await stack.worker()
    task = await stack.calls.send_task("go")

    assert [ValueError, ValueError, ValueError, TypeError, ValueError] == refused
    assert 2 == (await stack.kinds(task.id)).count("p")


# --- durable timers ---------------------------------------------------------------------------------------------------


async def test_no_process_waits_for_a_turn_that_sleeps_and_any_worker_goes_on_with_it(
    serve: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SUSPEND_SECONDS", 0.0)
    ran: list[str] = []

    async def work(turn: Turn) -> None:
        await turn.step("before", ran.append, "before")
        await turn.chunk("log", "waiting")
        await turn.sleep(2)
        await turn.step("after", ran.append, "after")

    stack = await serve(made(work, "resume"))
    first = await stack.worker()
    task = await stack.calls.send_task("go", immediately=True)
    await eventually(lambda: _holds(stack, task.id, "h"), what="the turn to be suspended")
    await eventually(lambda: not first.worker._running, what="its worker to be free")
    await first.vanish()
    await stack.worker()
    ended = await _ended(stack, task.id)

    assert TaskState.COMPLETED is ended.status.state
    assert ["before", "after"] == ran
    assert [1, 1] == [claim.attempt for claim in await claims(stack, task.id)]
    assert 1 == (await stack.kinds(task.id)).count("t")


async def _holds(stack: Stack, task_id: str, kind: str) -> bool:
    return kind in await stack.kinds(task_id)


async def _ended(stack: Stack, task_id: str) -> Task:
    updates = [update async for update in stack.calls.subscribe(task_id)]
    assert updates
    return await stack.calls.get(task_id)


async def test_a_message_wakes_a_turn_that_sleeps_and_the_turn_sleeps_on(
    serve: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SUSPEND_SECONDS", 0.0)
    runs: list[list[str]] = []

    async def work(turn: Turn) -> None:
        runs.append([str(message.parts[0].text) for message in turn.messages])
        if runs[-1][-1] != "stop":
            await turn.sleep(3600)

    stack = await serve(made(work, "rerun"))
    await stack.worker()
    task = await stack.calls.send_task("go", immediately=True)
    await eventually(lambda: _holds(stack, task.id, "h"), what="the turn to be suspended")
    await stack.calls.send_task("more", task_id=task.id, immediately=True)
    await eventually(lambda: _suspended_again(stack, task.id), what="the turn to be suspended again")
    ended = await stack.calls.send_task("stop", task_id=task.id)

    assert TaskState.COMPLETED is ended.status.state
    assert [["go"], ["go", "more"], ["go", "more", "stop"]] == runs


async def _suspended_again(stack: Stack, task_id: str) -> bool:
    return (await stack.kinds(task_id)).count("h") == 2


async def test_a_turn_that_sleeps_is_woken_although_an_older_wake_up_was_asked_for_later(
    serve: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a worker that hears late that it has suspended the turn: others have woken and suspended it since."""
    monkeypatch.setattr(limits, "SUSPEND_SECONDS", 0.0)

    async def work(turn: Turn) -> None:
        await turn.sleep(3600)

    stack = await serve(made(work, "rerun"))
    workers = [await stack.worker(), await stack.worker()]
    task = await stack.calls.send_task("go", immediately=True)
    await eventually(lambda: _holds(stack, task.id, "h"), what="the turn to be suspended")
    await stack.calls.send_task("more", task_id=task.id, immediately=True)
    await eventually(lambda: _suspended_again(stack, task.id), what="the turn to be suspended again")
    await eventually(lambda: not any(w.worker._running for w in workers), what="all wake-ups to be asked for")
    (first, _), (second, until) = await _suspensions(stack, task.id)

    await stack.log.wake_at(stack.ref(task.id), first, 0)

    async def asked_for_again() -> bool:
        asked = await stack.log.waking(stack.ref(task.id))
        return asked is not None and asked[0] >= second and until <= asked[1] <= until + 1000

    await eventually(asked_for_again, what="the wake-up of the turn that sleeps now")
    assert 2 == (await stack.kinds(task.id)).count("h")
    assert "r" not in await stack.kinds(task.id)


async def _suspensions(stack: Stack, task_id: str) -> list[tuple[int, int]]:
    """Of each its revision, and until when."""
    return [
        (revision, event.until)
        for record in await stack.records(task_id)
        for revision, event in enumerate(record.events(), record.header.revision)
        if isinstance(event, TurnSuspended)
    ]


async def test_a_turn_that_sleeps_is_canceled_at_once(serve: StackOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SUSPEND_SECONDS", 0.0)

    async def work(turn: Turn) -> None:
        await turn.sleep(3600)

    stack = await serve(made(work, "resume"))
    await stack.worker()
    task = await stack.calls.send_task("go", immediately=True)
    await eventually(lambda: _holds(stack, task.id, "h"), what="the turn to be suspended")

    assert TaskState.CANCELED is (await stack.other.cancel(task.id)).status.state


async def test_an_agent_that_is_never_run_again_may_not_sleep_long(serve: StackOf) -> None:
    async def work(turn: Turn) -> None:
        await turn.sleep(0.01)
        with pytest.raises(ValueError, match="policy"):
            await turn.sleep(3600)

    stack = await serve(made(work, "fail"))
    await stack.worker()

    assert TaskState.COMPLETED is (await stack.calls.send_task("go")).status.state
