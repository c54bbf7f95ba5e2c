"""Turns: cancels, messages on the way, deadlines, hand-over; each ends in one clear state, on whichever gateway."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from a2a_events import limits
from a2a_events.agents import scripted
from a2a_events.errors import (
    TaskNotCancelableError,
    TaskNotFoundError,
    UnavailableError,
    UnsupportedOperationError,
)
from a2a_events.model import TERMINAL_STATES, Message, Part, Role, StreamResponse, Task, TaskState
from a2a_events.runtime.agent import Deadlines, agent
from a2a_events.runtime.turn import Turn, TurnOver
from a2a_events.runtime.worker import Unfit
from a2a_events.testing import Calls, eventually
from tests.integration.conftest import StackOf
from tests.integration.stack import ACK_WAIT_SECONDS, Stack, accumulate, states, text_of

WORKING, COMPLETED, FAILED, CANCELED = (
    TaskState.WORKING,
    TaskState.COMPLETED,
    TaskState.FAILED,
    TaskState.CANCELED,
)


async def in_state(calls: Calls, task_id: str, *wanted: TaskState, timeout_seconds: float = 20) -> Task:
    async def reached() -> Task | None:
        try:
            task = await calls.get(task_id)
        except TaskNotFoundError:
            return None
        return task if task.status.state in wanted else None

    found: Task = await eventually(reached, timeout_seconds=timeout_seconds, what=f"{wanted}")
    return found


class Paused:
    """An agent that waits until the test lets it go on; reports what became of it."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.proceed = asyncio.Event()
        self.canceled = asyncio.Event()
        self.turns: list[list[str]] = []

    async def run(self, turn: Turn) -> None:
        """Waits."""
        self.turns.append([])
        self.started.set()
        try:
            await self.proceed.wait()
        except asyncio.CancelledError:
            self.canceled.set()
            raise
        self.turns[-1] = [str(m.parts[0].text) for m in turn.messages]

    async def has_started(self) -> None:
        async with asyncio.timeout(20):
            await self.started.wait()


# --- cancel -----------------------------------------------------------------------------------------------------------


async def test_a_cancel_at_the_other_gateway_reaches_the_agent_and_ends_the_task(serve: StackOf) -> None:
    paused = Paused()
    stack = await serve(paused)
    await stack.worker()
    task = await stack.calls.send_task("go", immediately=True)
    await paused.has_started()

    answer = await stack.other.cancel(task.id)

    assert answer.status.state is CANCELED
    assert paused.canceled.is_set()
    assert await stack.calls.get(task.id) == answer


async def test_a_stream_of_a_canceled_task_ends_with_canceled(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    seen: list[StreamResponse] = []
    canceling: asyncio.Task[Task] | None = None
    async for update in stack.calls.stream({"script": {"chunks": 10_000, "delayMs": 20}}):
        seen.append(update)
        if len(seen) == 5:
            task_id = next(u.status_update.task_id for u in seen if u.status_update is not None)
            canceling = asyncio.create_task(stack.other.cancel(task_id))

    assert states(seen)[-1] is CANCELED
    assert canceling is not None
    accumulate(seen).assert_equals(await canceling)


async def test_canceling_twice_at_once_is_success_for_both_or_says_that_it_has_ended(serve: StackOf) -> None:
    paused = Paused()
    stack = await serve(paused)
    await stack.worker()
    task = await stack.calls.send_task("go", immediately=True)
    await paused.has_started()

    answers = await asyncio.gather(
        *(calls.cancel(task.id) for calls in [stack.calls, stack.other] * 3), return_exceptions=True
    )

    assert any(isinstance(a, Task) and a.status.state is CANCELED for a in answers)
    assert all(isinstance(a, Task | TaskNotCancelableError) for a in answers)
    assert (await stack.kinds(task.id)).count("x") == 1


async def test_a_task_that_nobody_works_on_is_canceled_at_once(serve: StackOf) -> None:
    stack = await serve(Paused())
    task = await stack.calls.send_task("go", immediately=True)

    assert (await stack.other.cancel(task.id)).status.state is CANCELED

    worker = await stack.worker()
    assert (await stack.calls.get(task.id)).status.state is CANCELED
    await worker.stop()
    assert "c" not in await stack.kinds(task.id)


async def test_a_task_that_waits_for_its_client_is_canceled_at_once(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    task = await stack.calls.send_task({"script": {"chunks": 3, "inputAt": 1}})

    assert (await stack.other.cancel(task.id)).status.state is CANCELED


async def test_a_task_that_has_ended_cannot_be_canceled(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    task = await stack.calls.send_task("go")

    with pytest.raises(TaskNotCancelableError):
        await stack.other.cancel(task.id)


async def test_a_cancel_that_races_completion_has_one_winner(serve: StackOf) -> None:
    """What CancelTask answers, what the stream showed last and what GetTask shows are one state, at every gateway."""
    stack = await serve(scripted)
    await stack.worker()
    outcomes: list[TaskState] = []

    async def race(number: int) -> None:
        seen, canceling = [], None
        async for update in stack.calls.stream({"script": {"chunks": 6, "delayMs": number % 4}}):
            seen.append(update)
            if canceling is None and update.status_update is not None:
                canceling = asyncio.create_task(_cancel(stack.other, update.status_update.task_id, number))
        assert canceling is not None
        answer = await canceling
        task_id = next(u.status_update.task_id for u in seen if u.status_update is not None)
        final = states(seen)[-1]
        assert final in {COMPLETED, CANCELED}
        assert answer is None or (answer.status.state is CANCELED) == (final is CANCELED)
        for calls in (stack.calls, stack.other):
            accumulate(seen).assert_equals(await calls.get(task_id))
        terminal = [s for s in states(seen) if s in TERMINAL_STATES]
        assert terminal == [final]
        outcomes.append(final)

    for batch in range(5):
        await asyncio.gather(*(race(batch * 12 + number) for number in range(12)))

    assert len(outcomes) == 60


async def _cancel(calls: Calls, task_id: str, number: int) -> Task | None:
    for _ in range(number % 7):
        await asyncio.sleep(0.001)
    try:
        return await calls.cancel(task_id)
    except TaskNotCancelableError:
        return None


async def test_an_agent_that_watches_for_cancellation_may_finish_what_it_says(serve: StackOf) -> None:
    started = asyncio.Event()

    async def tidy(turn: Turn) -> None:
        waiting = asyncio.create_task(turn.wait_canceled())
        await asyncio.sleep(0)
        started.set()
        await waiting
        await turn.artifact("half of it", artifact_id="half")
        turn.complete("stopped")

    stack = await serve(tidy)
    await stack.worker()
    task = await stack.calls.send_task("go", immediately=True)
    async with asyncio.timeout(20):
        await started.wait()
    answer = await stack.calls.cancel(task.id)

    assert answer.status.state is CANCELED
    assert [a.artifact_id for a in answer.artifacts] == ["half"]


async def test_an_agent_that_ignores_cancellation_is_abandoned_after_its_grace_time(serve: StackOf) -> None:
    started, release, refused = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @agent(name="stubborn", cancel_grace_seconds=0.3)
    async def stubborn(turn: Turn) -> None:
        started.set()
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()
        try:
            await turn.artifact("too late")
        except TurnOver:
            refused.set()

    stack = await serve(stubborn)
    worker = await stack.worker()
    task = await stack.calls.send_task("go", immediately=True)
    async with asyncio.timeout(20):
        await started.wait()
    answer = await stack.calls.cancel(task.id)
    assert answer.status.state is CANCELED

    release.set()
    async with asyncio.timeout(20):
        await refused.wait()
    assert await stack.calls.get(task.id) == answer
    with pytest.raises(Unfit, match="stubborn"):  # its process is to be replaced
        await asyncio.wait_for(worker.task, 20)
    await stack.worker()
    assert (await stack.calls.send_task("again")).status.state is COMPLETED


# --- messages during a turn -------------------------------------------------------------------------------------------


async def test_a_message_that_the_agent_does_not_take_gets_a_turn_of_its_own(serve: StackOf) -> None:
    paused = Paused()
    stack = await serve(paused)
    await stack.worker()
    task = await stack.calls.send_task("first", immediately=True)
    await paused.has_started()
    sending = asyncio.create_task(stack.other.send_task("second", task_id=task.id))
    await eventually(lambda: _has(stack, task.id, "m"))
    paused.proceed.set()

    ended = await sending
    assert ended.status.state is COMPLETED
    assert paused.turns == [["first"], ["second"]]
    assert [str(m.parts[0].text) for m in ended.history] == ["first", "second"]


async def _has(stack: Stack, task_id: str, kind: str) -> bool:
    return kind in await stack.kinds(task_id)


async def test_a_message_that_the_agent_takes_belongs_to_its_turn(serve: StackOf) -> None:
    turns: list[list[str]] = []
    started = asyncio.Event()

    async def listens(turn: Turn) -> None:
        started.set()
        await turn.receive()
        turns.append([str(m.parts[0].text) for m in turn.messages])

    stack = await serve(listens)
    await stack.worker()
    task = await stack.calls.send_task("first", immediately=True)
    async with asyncio.timeout(20):
        await started.wait()
    ended = await stack.other.send_task("second", task_id=task.id)

    assert ended.status.state is COMPLETED
    assert turns == [["first", "second"]]
    assert (await stack.kinds(task.id)).count("c") == 1


async def test_many_messages_during_turns_are_each_given_once_and_in_order(serve: StackOf) -> None:
    given: list[str] = []

    async def works(turn: Turn) -> None:
        await asyncio.sleep(0.005)
        more = turn.receive_nowait()
        while more is not None:
            more = turn.receive_nowait()
        given.extend(str(m.parts[0].text) for m in turn.messages)
        if len(given) < 20:
            turn.require_input()

    stack = await serve(works)
    await stack.worker()
    task = await stack.calls.send_task("0", immediately=True)
    for number in range(1, 20):
        calls = (stack.calls, stack.other)[number % 2]
        await calls.send_task(str(number), task_id=task.id, immediately=True)

    await in_state(stack.calls, task.id, COMPLETED)
    assert given == [str(number) for number in range(20)]


async def test_a_message_that_fails_to_be_read_is_named_when_the_task_fails(serve: StackOf) -> None:
    started, proceed = asyncio.Event(), asyncio.Event()

    async def fails(turn: Turn) -> None:
        started.set()
        await proceed.wait()
        turn.fail("no")

    stack = await serve(fails)
    await stack.worker()
    task = await stack.calls.send_task("first", immediately=True)
    async with asyncio.timeout(20):
        await started.wait()
    sending = asyncio.create_task(stack.other.send_task("second", task_id=task.id))
    await eventually(lambda: _has(stack, task.id, "m"))
    proceed.set()

    assert (await sending).status.state is FAILED
    assert "u" in await stack.kinds(task.id)


async def test_too_many_unread_messages_are_refused_and_do_not_keep_a_task_from_ending(serve: StackOf) -> None:
    started, proceed = asyncio.Event(), asyncio.Event()

    async def fails(turn: Turn) -> None:
        started.set()
        await proceed.wait()
        turn.fail("no")

    stack = await serve(fails)
    await stack.worker()
    task = await stack.calls.send_task("first", immediately=True)
    async with asyncio.timeout(20):
        await started.wait()

    async def send(number: int) -> None:
        # An id that is six times as long as JSON.
        long = f"{number:05d}".ljust(512, "\x01")
        said = Message(message_id=long, role=Role.USER, parts=(Part(text="x"),), task_id=task.id)
        await stack.calls.send(said, immediately=True)

    for number in range(1, limits.PENDING_MESSAGES):
        await send(number)
    with pytest.raises(UnavailableError):
        await send(limits.PENDING_MESSAGES)
    proceed.set()

    ended = await in_state(stack.other, task.id, FAILED)
    assert len(ended.history) >= limits.PENDING_MESSAGES
    assert (await stack.calls.send_task("again", immediately=True)).id  # the worker's event loop still turns


async def test_a_message_to_a_task_that_has_ended_is_refused(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    task = await stack.calls.send_task("go")
    before = await stack.kinds(task.id)

    with pytest.raises(UnsupportedOperationError):
        await stack.other.send("more", task_id=task.id)

    assert await stack.kinds(task.id) == before


# --- waiting for input, deadlines -------------------------------------------------------------------------------------


async def test_a_task_that_waits_for_input_goes_on_at_another_worker(serve: StackOf) -> None:
    stack = await serve(scripted)
    first = await stack.worker()
    task = await stack.calls.send_task({"script": {"chunks": 6, "inputAt": 3}})
    assert task.status.state is TaskState.INPUT_REQUIRED
    await first.stop()
    await stack.worker()

    ended = await stack.other.send_task("yes", task_id=task.id)

    assert ended.status.state is COMPLETED
    assert [str(p.text)[:6] for p in ended.artifacts[0].parts] == [f"{n:06d}" for n in range(6)]
    assert [m.role.value for m in ended.history] == ["ROLE_USER", "ROLE_AGENT", "ROLE_USER"]


async def test_a_subscription_goes_on_through_waiting_for_input_to_the_end(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    task = await stack.calls.send_task({"script": {"chunks": 4, "inputAt": 2}})
    subscription = stack.other.subscribe(task.id)
    seen = [await anext(subscription)]
    await stack.calls.send_task("yes", task_id=task.id)
    seen += [update async for update in subscription]

    assert states(seen)[0] is TaskState.INPUT_REQUIRED
    assert states(seen)[-1] is COMPLETED
    accumulate(seen).assert_equals(await stack.calls.get(task.id))


async def test_a_task_whose_client_never_comes_back_ends_failed(serve: StackOf) -> None:
    @agent(name="asks", deadlines=Deadlines(input_seconds=1.0))
    async def asks(turn: Turn) -> None:
        turn.require_input("still there?")

    stack = await serve(asks)
    await stack.worker()
    task = await stack.calls.send_task("go")
    assert task.status.state is TaskState.INPUT_REQUIRED

    ended = await in_state(stack.other, task.id, FAILED)
    assert "no input" in text_of(ended.status.message)


async def test_input_that_came_in_time_is_not_overtaken_by_its_deadline(serve: StackOf) -> None:
    @agent(name="asks", deadlines=Deadlines(input_seconds=1.0))
    async def asks(turn: Turn) -> None:
        if turn.text != "end":
            turn.require_input("still there?")

    stack = await serve(asks)
    await stack.worker()
    task = await stack.calls.send_task("go")
    begun = time.monotonic()
    answers = 0
    while time.monotonic() - begun < 2.5:
        task = await stack.calls.send_task("more", task_id=task.id)
        assert task.status.state is TaskState.INPUT_REQUIRED
        answers += 1
        await asyncio.sleep(0.2)
    assert (await stack.other.send_task("end", task_id=task.id)).status.state is COMPLETED


async def test_a_deadline_for_input_stands_although_an_older_one_was_asked_for_later(serve: StackOf) -> None:
    """As by a worker that hears late that it has ended its turn: the task has been answered and waits again since."""

    @agent(name="asks", deadlines=Deadlines(input_seconds=3600.0))
    async def asks(turn: Turn) -> None:
        turn.require_input("still there?")

    stack = await serve(asks)
    worker = await stack.worker()
    task = await stack.calls.send_task("go")
    first = (await stack.records(task.id))[-1].header.last_revision
    await stack.calls.send_task("more", task_id=task.id)
    second = (await stack.records(task.id))[-1].header.last_revision
    await eventually(lambda: not worker.worker._running, what="all wake-ups to be asked for")

    await stack.log.wake_at(stack.ref(task.id), first, 0)

    async def asked_for_again() -> bool:
        asked = await stack.log.waking(stack.ref(task.id))
        return asked is not None and asked[0] == second > first

    await eventually(asked_for_again, what="the deadline of the task as it waits now")
    assert (await stack.other.get(task.id)).status.state is TaskState.INPUT_REQUIRED


@pytest.mark.parametrize(
    ("deadlines", "said"),
    [(Deadlines(turn_seconds=0.5), "longer than"), (Deadlines(idle_seconds=0.5), "said nothing")],
    ids=["turn", "idle"],
)
async def test_an_agent_that_hangs_ends_failed_at_its_deadline(serve: StackOf, deadlines: Deadlines, said: str) -> None:
    @agent(name="hangs", deadlines=deadlines)
    async def hangs(turn: Turn) -> None:
        await turn.artifact("begun")
        await asyncio.Event().wait()

    stack = await serve(hangs)
    await stack.worker()
    updates = await stack.calls.collect("go")

    last = updates[-1].status_update
    assert last is not None
    assert last.status.state is FAILED
    assert said in text_of(last.status.message)


async def test_an_agent_that_keeps_talking_is_not_idle(serve: StackOf) -> None:
    @agent(name="talks", deadlines=Deadlines(idle_seconds=0.6))
    async def talks(turn: Turn) -> None:
        for _ in range(8):
            await asyncio.sleep(0.15)
            await turn.chunk("a", "tick")

    stack = await serve(talks)
    await stack.worker()

    assert (await stack.calls.send_task("go")).status.state is COMPLETED


# --- workers that come and go -----------------------------------------------------------------------------------------


async def test_a_task_sent_while_no_worker_is_there_waits_for_one(serve: StackOf) -> None:
    stack = await serve(scripted)
    sending = asyncio.create_task(stack.calls.send_task("patience"))
    await asyncio.sleep(0.05)
    assert not sending.done()
    await stack.worker()

    assert (await sending).status.state is COMPLETED


async def test_a_turn_whose_worker_vanished_ends_failed_and_no_stream_hangs(serve: StackOf) -> None:
    paused = Paused()
    stack = await serve(paused)
    workers = [await stack.worker(), await stack.worker()]
    stream = stack.other.stream("go")
    seen = [await anext(stream)]
    await paused.has_started()
    # Whichever has the turn vanishes; the other takes it over as evidence allows.
    owner = next(w for w in workers if w.worker._running)
    await owner.vanish()
    seen += [update async for update in stream]

    last = seen[-1].status_update
    assert last is not None
    assert last.status.state is FAILED
    assert "disappeared" in text_of(last.status.message)


async def test_a_long_turn_is_not_taken_from_a_worker_that_lives(serve: StackOf) -> None:
    paused = Paused()
    stack = await serve(paused)
    await stack.worker()
    await stack.worker()
    task = await stack.calls.send_task("go", immediately=True)
    await paused.has_started()
    await asyncio.sleep(ACK_WAIT_SECONDS * 2.5)  # what would let a silent worker's turn go to another
    paused.proceed.set()

    assert (await in_state(stack.calls, task.id, *TERMINAL_STATES)).status.state is COMPLETED
    assert (await stack.kinds(task.id)).count("c") == 1


async def test_a_worker_that_stops_lets_its_turns_end(serve: StackOf) -> None:
    stack = await serve(scripted)
    worker = await stack.worker(drain_seconds=15)
    sending = asyncio.create_task(stack.calls.send_task({"script": {"chunks": 5, "delayMs": 100}}))
    await eventually(lambda: bool(worker.worker._running) and any(worker.worker._running.values()))
    await worker.stop()

    assert (await sending).status.state is COMPLETED


async def test_a_turn_that_outlives_the_drain_time_ends_failed_with_the_reason(serve: StackOf) -> None:
    paused = Paused()
    stack = await serve(paused)
    worker = await stack.worker(drain_seconds=0.3)
    task = await stack.calls.send_task("go", immediately=True)
    await paused.has_started()
    await worker.stop()

    ended = await stack.calls.get(task.id)
    assert ended.status.state is FAILED
    assert "stopped" in text_of(ended.status.message)


async def test_a_worker_that_stops_takes_no_more_turns(serve: StackOf) -> None:
    stack = await serve(scripted)
    worker = await stack.worker()
    await worker.stop()
    sending = asyncio.create_task(stack.calls.send_task("go"))
    await asyncio.sleep(0.1)
    assert not sending.done()

    await stack.worker()
    assert (await sending).status.state is COMPLETED


# --- readers ----------------------------------------------------------------------------------------------------------


async def test_both_gateways_show_the_same_task_and_it_is_what_clients_accumulate(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    scripts: list[dict[str, object]] = [
        {"chunks": 40, "artifacts": 4, "bytes": 20},
        {"chunks": 5, "fail": True},
        {"chunks": 5, "reject": True},
        {"chunks": 3, "delayMs": 10},
        {"chunks": 0},
    ]

    async def once(script: dict[str, object], calls: Calls) -> None:
        seen = await calls.collect({"script": script})
        task_id = next(u.task.id for u in seen if u.task is not None)
        one, two = await asyncio.gather(stack.calls.get(task_id), stack.other.get(task_id))
        assert one == two
        accumulate(seen).assert_equals(one)

    await asyncio.gather(*(once(script, calls) for script in scripts for calls in (stack.calls, stack.other)))


async def test_streams_that_begin_at_any_time_end_with_what_gettask_shows(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    task_ids: list[str] = []
    late: list[asyncio.Task[None]] = []

    async def follow(task_id: str, calls: Calls) -> None:
        try:
            seen = [update async for update in calls.subscribe(task_id)]
        except UnsupportedOperationError:
            return
        accumulate(seen).assert_equals(await stack.calls.get(task_id))

    async for update in stack.calls.stream({"script": {"chunks": 60, "delayMs": 5}}):
        if update.status_update is not None:
            task_ids.append(update.status_update.task_id)
        if task_ids:
            late.append(asyncio.create_task(follow(task_ids[0], (stack.calls, stack.other)[len(late) % 2])))
    await asyncio.gather(*late)

    assert len(late) > 50
