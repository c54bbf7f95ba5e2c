"""Retention: what ended long ago is gone for everybody, a tombstone stays, and nothing is left half removed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from a2a_events import Turn, agent, limits
from a2a_events.errors import A2AError, InvalidParamsError, TaskNotFoundError, Unavailable, Unreadable
from a2a_events.log.append import append
from a2a_events.log.jetstream import JetStreamLog
from a2a_events.log.jetstream import claim_check as module_of_references
from a2a_events.log.memory import MemoryLog
from a2a_events.log.port import Letter
from a2a_events.model import TERMINAL_STATES, ListTasksRequest, TaskState
from a2a_events.runtime import retention as module
from a2a_events.runtime.commit import commit
from a2a_events.runtime.load import load
from a2a_events.runtime.retention import Removed, Retention
from a2a_events.testing import Calls
from a2a_events.timeline import cursor as cursors
from a2a_events.timeline.cursor import Cursor
from a2a_events.timeline.events import Actor, PushConfigDeleted
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Record, Writer, entry
from a2a_events.timeline.snapshot import take
from tests.integration.conftest import StackOf
from tests.integration.stack import Stack
from tests.integration.test_idempotent_send import Sender


@agent(name="keeper")
async def keeper(turn: Turn) -> None:
    """Asks for more if it is told to ask; says as many words as it is told, and repeats the rest."""
    if turn.text == "ask":
        turn.require_input("what else?")
        return
    for word in turn.text.split():
        await turn.artifact(word)
        await turn.flush()


def retention(stack: Stack, **how: Any) -> Retention:
    log = stack.log
    assert isinstance(log, JetStreamLog | MemoryLog)
    given: dict[str, Any] = {"older_than_seconds": 0.0, "grace_seconds": 0.0} | how
    return Retention(log, Writer("retention", "test"), **given)


async def kept(stack: Stack, task: TaskRef) -> dict[str, int]:
    """How many messages each stream has of a task; of a log in memory, how many records and things beside it."""
    log = stack.log
    if isinstance(log, MemoryLog):
        beside = [task in kept for kept in (log._heads, log._notified, log._timers, log._letters)]
        return {"log": len(log._timelines.get(task, [])), "beside": sum(beside)}
    assert isinstance(log, JetStreamLog)
    names, found = log._names, {}
    for stream in [
        *(names.log_stream("main", shard) for shard in range(log.shards)), names.snapshot_stream("main"),
        names.push_stream("main"), names.timer_stream("main"), names.dead_stream("main"), f"OBJ_{names.bucket('main')}",
    ]:  # fmt: skip
        info = await log._connection.api(f"STREAM.INFO.{stream}", {"subjects_filter": ">"})
        subjects: dict[str, int] = info["state"].get("subjects") or {}
        count = sum(n for subject, n in subjects.items() if task.task_id in subject or subject.startswith("$O."))
        if count:
            kind = next(k for k in ("LOG", "SNAP", "PUSH", "TIMER", "DEAD", "CONTENT") if f"_{k}_" in stream)
            found[kind] = count
    return found


async def with_everything(stack: Stack) -> tuple[TaskRef, str]:
    """A task that has ended and has something in every place; and a cursor of its first event."""
    log = stack.log
    big = "x" * (limits.RECORD_BYTES + 10)
    ended = await stack.calls.send_task(big)
    assert ended.status.state in TERMINAL_STATES  # of a large message on a busy machine a worker may be given up
    task = stack.ref(ended.id)
    fold = await load(log, task)
    await log.save(task, take(fold))
    await log.put_notified(task, b"{}", 0)
    await log.wake_at(task, 1, 4_000_000_000_000)
    await log.put_dead_letter(Letter(task, 1, "it raised", 3, 4))
    if isinstance(log, JetStreamLog):
        assert {"LOG", "SNAP", "PUSH", "TIMER", "DEAD", "CONTENT"} == set(await kept(stack, task))
    first = (await stack.records(ended.id))[0]
    return task, cursors.text(task, Cursor(log.incarnation(task), first.position, 1))


async def subscribed(calls: Calls, task_id: str, cursor: str | None = None) -> list[Any]:
    return [update async for update in calls.subscribe(task_id, cursor=cursor)]


async def test_what_ended_is_gone_for_everybody(serve: StackOf) -> None:
    stack = await serve(keeper)
    await stack.worker()
    task, cursor = await with_everything(stack)
    assert [one.id for one in (await stack.calls.page()).tasks] == [task.task_id]  # this gateway has indexed it
    assert await subscribed(stack.calls, task.task_id, cursor)

    assert await retention(stack).run() == Removed(tasks=1)

    for calls in (stack.calls, stack.other):
        with pytest.raises(TaskNotFoundError):
            await calls.get(task.task_id)
        with pytest.raises(TaskNotFoundError):
            await calls.cancel(task.task_id)
        with pytest.raises(TaskNotFoundError):
            await calls.send_task("more", task_id=task.task_id)
        for at in (None, cursor):
            with pytest.raises(TaskNotFoundError):
                await subscribed(calls, task.task_id, at)
        assert (await calls.page(ListTasksRequest())).tasks == ()
    assert await stack.kinds(task.task_id) == "z"
    assert set(await kept(stack, task)) == ({"LOG"} if isinstance(stack.log, JetStreamLog) else {"log", "beside"})
    assert next(iter((await kept(stack, task)).values())) == 1
    assert (await kept(stack, task)).get("beside", 0) == 0
    assert await stack.log.dead_letter(task) is None
    assert await retention(stack).run() == Removed(), "there is nothing left to do"


async def test_what_has_not_ended_or_is_young_stays(serve: StackOf) -> None:
    stack = await serve(keeper)
    await stack.worker()
    waits = await stack.calls.send_task("ask")
    ended = await stack.calls.send_task("a b c")
    assert await retention(stack, older_than_seconds=3600.0).run() == Removed()
    assert await retention(stack).run() == Removed(tasks=1)
    assert await stack.calls.get(waits.id) == waits
    with pytest.raises(TaskNotFoundError):
        await stack.calls.get(ended.id)
    again = await stack.calls.send_task("and more", task_id=waits.id)
    assert again.status.state is TaskState.COMPLETED


STEPS = ("remove", *(f"_purge {number}" for number in range(1, 6)))


@pytest.mark.parametrize("step", STEPS)
async def test_what_an_interrupted_pass_left_the_next_one_removes(
    serve: StackOf, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = await serve(keeper)
    await stack.worker()
    task, _ = await with_everything(stack)
    method, _, number = step.partition(" ")
    if not hasattr(stack.log, method):
        pytest.skip("a log in memory removes at once")
    ours, left = getattr(stack.log, method), int(number or 0)

    async def interrupted(*arguments: Any) -> None:
        nonlocal left
        if left == 0:
            raise Unavailable("the broker is gone")
        left -= 1
        await ours(*arguments)

    with monkeypatch.context() as broken:
        broken.setattr(stack.log, method, interrupted)
        with pytest.raises(Unavailable):
            await retention(stack).run()
    with pytest.raises(TaskNotFoundError):
        await stack.other.get(task.task_id)
    assert (await stack.other.page()).tasks == ()
    assert await stack.kinds(task.task_id) == "z", "what is left is shown to nobody"
    assert sum((await kept(stack, task)).values()) > 1

    # Old as it is: the tombstone of the pass before is young, and must not keep the rest.
    assert await retention(stack).run() == Removed(tasks=1)
    assert await stack.kinds(task.task_id) == "z"
    assert sum((await kept(stack, task)).values()) == 1


async def test_one_damaged_record_keeps_nothing_but_its_own_task(
    serve: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = await serve(keeper)
    if not isinstance(stack.log, JetStreamLog):
        pytest.skip("a log in memory cannot be damaged")
    await stack.worker()
    damaged, _ = await with_everything(stack)
    whole = stack.ref((await stack.calls.send_task("a")).id)
    reference = module_of_references.referred

    def broken(names: Any, task: TaskRef, record: Record) -> Any:
        if task == damaged:
            raise Unreadable(f"record at {record.position} holds no reference")
        return reference(names, task, record)

    # After it was judged, which reads it as well.
    remove = stack.log.remove
    with monkeypatch.context() as hurt:

        async def removing(task: TaskRef, before: int) -> None:
            hurt.setattr(module_of_references, "referred", broken)
            await remove(task, before)

        hurt.setattr(stack.log, "remove", removing)
        assert await retention(stack).run() == Removed(tasks=1, unreadable=1)
    assert await stack.kinds(whole.task_id) == "z"
    assert (await kept(stack, whole))["LOG"] == 1
    assert await retention(stack).run() == Removed(tasks=1)


async def test_what_a_full_log_lets_it_bury_makes_room(serve: StackOf, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = await serve(keeper)
    await stack.worker()
    tasks = [stack.ref((await stack.calls.send_task("a")).id) for _ in range(6)]
    before = sum([sum((await kept(stack, task)).values()) for task in tasks])
    ours, left = append, 3

    async def full(*arguments: Any) -> int:
        nonlocal left
        if not left:
            raise Unavailable("maximum bytes exceeded")
        left -= 1
        return await ours(*arguments)

    with monkeypatch.context() as broken:
        broken.setattr(module, "append", full)
        with pytest.raises(Unavailable, match="maximum bytes"):
            await retention(stack).run()
    after = [sum((await kept(stack, task)).values()) for task in tasks]
    assert sorted(after)[:3] == [1, 1, 1], "three are tombstones"
    assert sum(after) < before
    assert await retention(stack).run() == Removed(tasks=3)


async def test_no_more_than_a_batch_is_kept_in_memory_and_one_is_removed_before_the_next_is_judged(
    serve: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REMOVAL_BATCH_TASKS", 2)
    monkeypatch.setattr(limits, "SCAN_BATCH_RECORDS", 1)
    stack = await serve(keeper)
    await stack.worker()
    for _ in range(7):
        await stack.calls.send_task("a")
    done: list[str] = []
    log = stack.log
    assert isinstance(log, JetStreamLog | MemoryLog)
    if isinstance(log, MemoryLog):
        pytest.skip("it is scanned as a whole")
    ours, remove = append, log.remove

    async def buried(*arguments: Any) -> int:
        done.append("bury")
        return await ours(*arguments)

    async def removed(task: TaskRef, before: int) -> None:
        done.append("remove")
        await remove(task, before)

    monkeypatch.setattr(module, "append", buried)
    monkeypatch.setattr(log, "remove", removed)
    assert await retention(stack).run() == Removed(tasks=7)
    text = "".join(word[0] for word in done)
    assert "bbb" not in text, text
    assert text.count("b") == text.count("r") == 7


async def test_a_task_that_moves_while_it_is_judged_stays(serve: StackOf, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = await serve(keeper)
    await stack.worker()
    ended = await stack.calls.send_task("a")
    ours = append

    async def later(log: Any, task: TaskRef, *rest: Any) -> int:
        fold = await load(stack.log, task)
        event = PushConfigDeleted(id="none", actor=Actor())
        await commit(stack.log, Writer("gateway", "other"), task, fold, lambda: [entry(event, 1)])
        return await ours(log, task, *rest)

    monkeypatch.setattr(module, "append", later)
    assert await retention(stack).run() == Removed()
    assert (await stack.calls.get(ended.id)).status.state is TaskState.COMPLETED


async def test_a_snapshot_that_a_reader_stores_late_does_not_bring_the_task_back(
    serve: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = await serve(keeper)
    await stack.worker()
    ended = await stack.calls.send_task("a")
    task = stack.ref(ended.id)
    fold = await load(stack.log, task)
    assert isinstance(stack.log, JetStreamLog | MemoryLog)
    ours = stack.log.remove_snapshots

    async def late(of: TaskRef) -> None:
        await ours(of)
        monkeypatch.setattr(stack.log, "remove_snapshots", ours)
        await stack.log.save(task, take(fold))

    monkeypatch.setattr(stack.log, "remove_snapshots", late)
    assert await retention(stack).run() == Removed(tasks=1)
    assert await stack.log.snapshot(task) is None
    with pytest.raises(TaskNotFoundError):
        await stack.calls.get(ended.id)


async def test_nor_does_one_that_is_stored_when_all_else_is_gone(
    serve: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = await serve(keeper)
    await stack.worker()
    ended = await stack.calls.send_task("a")
    task = stack.ref(ended.id)
    fold = await load(stack.log, task)
    assert isinstance(stack.log, JetStreamLog | MemoryLog)
    ours = stack.log.remove

    async def removed(of: TaskRef, before: int) -> None:
        await ours(of, before)
        await stack.log.save(of, take(fold))

    monkeypatch.setattr(stack.log, "remove", removed)
    assert await retention(stack).run() == Removed(tasks=1)
    assert await stack.log.snapshot(task) is None
    with pytest.raises(TaskNotFoundError):
        await stack.calls.get(ended.id)


async def test_who_replays_a_task_while_it_is_removed_is_told_and_does_not_hang(
    serve: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "READ_BATCH_RECORDS", 1)
    stack = await serve(keeper)
    if isinstance(stack.log, MemoryLog):
        pytest.skip("what was begun is read whole")
    await stack.worker()
    ended = await stack.calls.send_task("a b c")
    records = await stack.records(ended.id)
    cursor = cursors.text(stack.ref(ended.id), Cursor(records[0].header.incarnation, records[0].position, 1))
    replay = stack.calls.subscribe(ended.id, cursor=cursor)
    await anext(replay)
    await retention(stack).run()

    async def rest() -> None:
        async for _ in replay:
            pass

    with pytest.raises(TaskNotFoundError):
        await asyncio.wait_for(rest(), 20)


async def test_a_retry_of_the_request_that_made_the_task_does_not_make_it_again(serve: StackOf) -> None:
    stack = await serve(keeper)
    await stack.worker()
    sender = Sender(stack._operations[0], stack.agent)
    first = await sender.task("a b", "key-1")
    await retention(stack).run()
    with pytest.raises(TaskNotFoundError, match="was removed"):
        await sender.send("a b", "key-1")
    with pytest.raises(InvalidParamsError, match="another request"):
        await sender.send("other", "key-1")
    assert await stack.kinds(first.id) == "z"

    gone = retention(stack, tombstones_older_than_seconds=0.0)
    assert await gone.run() == Removed(tombstones=1)
    assert await stack.kinds(first.id) == ""
    assert (await sender.task("a b", "key-1")).id == first.id


async def test_who_forgets_a_task_late_takes_nothing_from_one_that_was_made_again(serve: StackOf) -> None:
    stack = await serve(keeper)
    await stack.worker()
    sender = Sender(stack._operations[0], stack.agent)
    task = stack.ref((await sender.task("a b", "key-1")).id)
    await retention(stack).run()
    (tombstone,) = await stack.records(task.task_id)
    await retention(stack, tombstones_older_than_seconds=0.0).run()
    assert (await sender.task("a b", "key-1")).id == task.task_id
    log = stack.log
    assert isinstance(log, JetStreamLog | MemoryLog)
    again = await stack.records(task.task_id)
    await log.save(task, take(await load(log, task)))
    await log.put_notified(task, b"{}", 0)
    await log.wake_at(task, 1, 4_000_000_000_000)
    await log.put_dead_letter(Letter(task, 1, "it raised", 3, 4))
    beside = await kept(stack, task)

    for before in (tombstone.position, tombstone.position + 1):  # as the slower one of two passes would
        await log.remove(task, before)
    assert await kept(stack, task) == beside
    assert await stack.records(task.task_id) == again


async def test_a_tombstone_has_nobody_s_words(serve: StackOf) -> None:
    stack = await serve(keeper)
    await stack.worker()
    ended = await stack.calls.send_task("a secret", context_id="my-context")
    await retention(stack).run()
    (record,) = await stack.records(ended.id)
    assert record.payload == b'{"tombstone":{"reason":"retention"}}'
    assert not record.inbound, "no worker is given it"


async def test_only_wanted_tasks_are_removed(serve: StackOf) -> None:
    stack = await serve(keeper)
    await stack.worker()
    mine = await stack.calls_of("mine").send_task("a")
    other = await stack.calls_of("other").send_task("a")
    tenant = stack.ref(mine.id, "mine").tenant
    assert await retention(stack, wanted=lambda task: task.tenant == tenant).run() == Removed(tasks=1)
    assert (await stack.calls_of("other").get(other.id)).id == other.id
    with pytest.raises(A2AError):
        await stack.calls_of("mine").get(mine.id)
