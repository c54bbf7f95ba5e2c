"""Tasks that the broker has forgotten are found by their silence; those that somebody has are left to them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from a2a_events.agents import echo, scripted
from a2a_events.log.jetstream import JetStreamLog
from a2a_events.log.memory import MemoryLog
from a2a_events.log.port import End, Log
from a2a_events.model import TERMINAL_STATES, TaskState
from a2a_events.runtime.agent import agent
from a2a_events.runtime.load import load
from a2a_events.runtime.sweeper import MISSED_PASSES, Sweeper, Watcher, read_progress
from a2a_events.runtime.turn import Turn
from a2a_events.runtime.waiting_room import WaitingRoom
from a2a_events.testing import eventually
from a2a_events.timeline import decide
from a2a_events.timeline.events import PushConfigSet
from a2a_events.timeline.fold import draft_after
from a2a_events.timeline.record import Writer
from tests.integration.conftest import StackOf
from tests.integration.stack import ACK_WAIT_SECONDS, Stack, text_of
from tests.integration.test_turns import Paused, in_state

SILENCE_SECONDS = ACK_WAIT_SECONDS * 1.5


async def forget(stack: Stack) -> None:
    """Make the broker forget every delivery, as one does whose consumer was made anew at the end of the log."""
    log: Any = stack.log
    if isinstance(log, MemoryLog):
        queue = log._queue(stack.agent.name)
        queue.handed_out = log._position
        queue._ready.clear()
        queue.close()
        queue._out.clear()
        return
    name = log._names.worker_consumer(stack.agent.name)
    for shard in range(log.shards):
        stream = log._names.log_stream(log.name, shard)
        config = (await log._connection.api(f"CONSUMER.INFO.{stream}.{name}"))["config"]
        made = {"stream_name": stream, "config": {**config, "deliver_policy": "new"}, "action": ""}

        async def replaced(stream: str = stream, config: Any = config, made: Any = made) -> bool:
            # In one breath: workers make it anew, from the beginning, as soon as they hear that it is gone.
            verbs = (f"CONSUMER.DELETE.{stream}.{name}", f"CONSUMER.CREATE.{stream}.{name}.{config['filter_subject']}")
            await asyncio.gather(*(log._connection.api(v, p) for v, p in zip(verbs, (None, made), strict=True)))
            # The server may have taken them the other way round.
            found = await log._connection.api(f"CONSUMER.INFO.{stream}.{name}")
            return bool(found.get("config", {}).get("deliver_policy") == "new")

        await eventually(replaced)


def watcher(stack: Stack, name: str = "sweeper-1") -> Watcher:
    return Watcher(stack.log, Writer("worker", name), silence_seconds=SILENCE_SECONDS)


def sweeper(log: Log, name: str = "sweeper-1", silence_seconds: float = SILENCE_SECONDS) -> Sweeper:
    return Sweeper(log, Writer("worker", name), silence_seconds=silence_seconds)


class Sweeping:
    """A watcher that runs while the block does."""

    def __init__(self, stack: Stack) -> None:
        self._watcher = watcher(stack)

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._watcher.run())

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


@agent(name="talker", description="Does what it is told.")
async def talker(turn: Turn) -> None:
    if turn.text == "fail":
        turn.fail("as asked")
    elif turn.text == "ask":
        turn.require_input("what?")
    else:
        await turn.working(turn.text)


async def test_messages_that_the_broker_forgot_are_worked_on(serve: StackOf) -> None:
    paused = Paused()
    stack = await serve(paused)
    await stack.worker(turns=1)
    first = await stack.calls.send_task("go", immediately=True)
    await paused.has_started()
    waiting = [await stack.calls.send_task("go", immediately=True) for _ in range(3)]
    await forget(stack)
    paused.proceed.set()
    await in_state(stack.calls, first.id, *TERMINAL_STATES)

    async with Sweeping(stack):
        for task in waiting:
            assert (await in_state(stack.calls, task.id, *TERMINAL_STATES)).status.state is TaskState.COMPLETED


async def test_a_turn_whose_worker_died_and_whose_delivery_was_forgotten_ends(serve: StackOf) -> None:
    paused = Paused()
    stack = await serve(paused)
    owner = await stack.worker()
    task = await stack.calls.send_task("go", immediately=True)
    await paused.has_started()
    await stack.worker()
    await owner.vanish()
    await forget(stack)

    async with Sweeping(stack):
        ended = await in_state(stack.calls, task.id, *TERMINAL_STATES)

    assert ended.status.state is TaskState.FAILED
    assert "disappeared" in text_of(ended.status.message)


async def test_a_turn_that_is_silent_and_healthy_answers_and_goes_on(serve: StackOf) -> None:
    paused = Paused()
    stack = await serve(paused)
    await stack.worker()
    await stack.worker()
    task = await stack.calls.send_task("go", immediately=True)
    await paused.has_started()
    async with Sweeping(stack):

        async def answered_twice() -> bool:
            return (await stack.kinds(task.id)).count("y") >= 2

        await eventually(answered_twice, timeout_seconds=30)
        paused.proceed.set()
        ended = await in_state(stack.calls, task.id, *TERMINAL_STATES)

    assert ended.status.state is TaskState.COMPLETED
    kinds = await stack.kinds(task.id)
    assert kinds.count("c") == 1  # nobody took it over
    assert kinds.count("n") == kinds.count("y")
    assert paused.turns == [["go"]]


async def test_what_waits_to_be_written_answers_a_nudge(serve: StackOf) -> None:
    said, proceed = asyncio.Event(), asyncio.Event()

    @agent(name="slow", description="Says something now and then.", linger_seconds=600.0)
    async def slow(turn: Turn) -> None:
        await turn.chunk("a", "first")
        await turn.flush()
        await turn.chunk("a", "second")  # lingers
        said.set()
        await proceed.wait()

    stack = await serve(slow)
    await stack.worker()
    task = await stack.calls.send_task("go", immediately=True)
    await said.wait()
    one = sweeper(stack.log)

    async def answered() -> bool:
        await one.sweep()
        kinds = await stack.kinds(task.id)
        return "n" in kinds and kinds.index("n") < len(kinds) - 1

    await eventually(answered, timeout_seconds=30)
    kinds = await stack.kinds(task.id)
    proceed.set()

    assert kinds[kinds.index("n") + 1] == "A"
    assert (await in_state(stack.calls, task.id, *TERMINAL_STATES)).status.state is TaskState.COMPLETED


async def test_two_sweepers_at_once_ask_once(serve: StackOf) -> None:
    paused = Paused()
    stack = await serve(paused)
    owner = await stack.worker()
    task = await stack.calls.send_task("go", immediately=True)
    await paused.has_started()
    await owner.vanish()
    await forget(stack)  # so that nobody answers
    sweepers = [sweeper(stack.log, f"sweeper-{number}") for number in range(2)]

    async def swept() -> int:
        return sum(await asyncio.gather(*(one.sweep() for one in sweepers)))

    assert await eventually(swept) == 1
    assert await swept() == 0
    assert (await stack.kinds(task.id)).count("n") == 1


async def test_a_long_queue_does_not_grow_by_being_long(serve: StackOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WaitingRoom, "appetite", lambda *_: 0)
    paused = Paused()
    stack = await serve(paused)
    await stack.worker(turns=1)
    first = await stack.calls.send_task("go", immediately=True)
    await paused.has_started()
    waiting = [await stack.calls.send_task("go", immediately=True) for _ in range(5)]
    one = sweeper(stack.log)

    async def first_nudged() -> bool:
        await one.sweep()
        return (await stack.kinds(first.id)).count("n") >= 2

    await eventually(first_nudged, timeout_seconds=30)
    assert [await stack.kinds(task.id) for task in waiting] == ["s"] * 5
    paused.proceed.set()
    for task in waiting:
        assert (await in_state(stack.calls, task.id, *TERMINAL_STATES)).status.state is TaskState.COMPLETED


async def test_what_waits_with_a_busy_worker_is_nudged_ever_more_rarely(
    serve: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused = Paused()
    stack = await serve(paused)
    await stack.worker(turns=1)
    await stack.calls.send_task("go", immediately=True)
    await paused.has_started()
    waiting = await stack.calls.send_task("go", immediately=True)
    shard = stack.ref(waiting.id).shard

    async def taken() -> bool:
        newest = (await stack.records(waiting.id))[-1].position
        return (await stack.log.handed_out(stack.agent.name)).get(shard, 0) >= newest

    one, really = Sweeper(stack.log, Writer("worker", "sweeper"), silence_seconds=10), stack.log.ends

    async def nudges_after(seconds: int) -> int:
        async def later() -> dict[int, End]:
            return {at: replace(end, time=end.time + seconds * 1000) for at, end in (await really()).items()}

        await eventually(taken, what="the worker to take ahead all that there is of the task")
        monkeypatch.setattr(stack.log, "ends", later)
        await one.sweep()
        return (await stack.kinds(waiting.id)).count("n")

    assert [1, 2, 3, 4, 5] == [await nudges_after(seconds) for seconds in (12, 22, 42, 82, 162)]
    assert [5, 5, 6] == [await nudges_after(seconds) for seconds in (200, 300, 322)]


async def test_tasks_that_are_settled_cost_the_sweeper_nothing(serve: StackOf) -> None:
    stack = await serve(talker)
    one = sweeper(stack.log)
    queued = await stack.calls.send_task("wait", immediately=True)
    assert await one.sweep() == 0
    assert one.suspects == 1
    await stack.calls.cancel(queued.id)
    await stack.worker()
    for text in ("say", "ask", "fail"):
        await stack.calls.send_task(text)
    await one.sweep()

    assert one.suspects == 0


async def test_what_cannot_be_told_from_a_record_is_read_once_and_dropped(serve: StackOf) -> None:
    stack = await serve(talker)
    await stack.worker()
    ended = await stack.calls.send_task("go")
    ref = stack.ref(ended.id)
    head = (await load(stack.log, ref)).head
    later = decide.set_webhook(head, PushConfigSet(id="w", url="https://example.com/hook"), head.time)
    draft = draft_after(head, later, record_id="w", writer=Writer("gateway", "test"), incarnation=head.incarnation)
    await stack.log.try_append(ref, draft, head.position)  # after the end, and says nothing about it
    one = sweeper(stack.log, silence_seconds=0.1)
    await one.sweep()
    assert one.suspects == 1

    async def dropped() -> bool:
        assert await one.sweep() == 0
        return one.suspects == 0

    await eventually(dropped)


async def test_one_process_sweeps_and_another_takes_over_where_it_was(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    for _ in range(3):
        await stack.calls.send_task({"script": {"chunks": 3}})
    one, two = watcher(stack, "one"), watcher(stack, "two")
    await one.step()
    await two.step()
    assert (one.on_duty, two.on_duty) == (True, False)
    progress = await read_progress(stack.log)
    assert progress.instance == "one"
    ends = await stack.log.ends()
    assert {shard: end.position for shard, end in progress.shards.items()} == {s: e.position for s, e in ends.items()}

    async def taken_over() -> bool:  # one says nothing any more
        await two.step()
        return two.on_duty

    loop = asyncio.get_running_loop()
    begun = loop.time()
    await eventually(taken_over, timeout_seconds=30)
    assert loop.time() - begun > SILENCE_SECONDS / 4 * MISSED_PASSES * 0.9
    assert (await read_progress(stack.log)).instance == "two"
    await one.step()
    assert (one.on_duty, two.on_duty) == (False, True)


async def test_a_sweeper_that_begins_where_another_was_knows_of_every_unsettled_task(serve: StackOf) -> None:
    stack = await serve(talker)
    worker = await stack.worker()
    await stack.calls.send_task("go")
    await worker.stop()
    queued = [await stack.calls.send_task("wait", immediately=True) for _ in range(4)]
    one, two = sweeper(stack.log), sweeper(stack.log)
    await one.sweep()
    two.begin(one.resume_at())
    await two.sweep()

    assert (one.suspects, two.suspects) == (len(queued), len(queued))
    assert any(end.position for end in one.resume_at().values())


@pytest.mark.integration
async def test_workers_make_a_consumer_anew_that_was_deleted_and_no_task_is_lost(serve: StackOf) -> None:
    stack = await serve(echo)
    log: Any = stack.log
    if not isinstance(log, JetStreamLog):
        pytest.skip("a log in memory has no consumers")
    await stack.worker()
    await stack.calls.send_task("before")
    for shard in range(log.shards):
        stream, name = log._names.log_stream(log.name, shard), log._names.worker_consumer(stack.agent.name)
        assert "error" not in await log._connection.api(f"CONSUMER.DELETE.{stream}.{name}")
    tasks = [await stack.calls.send_task(f"{number}", immediately=True) for number in range(10)]

    for task in tasks:
        assert (await in_state(stack.calls, task.id, *TERMINAL_STATES)).status.state is TaskState.COMPLETED
