"""ListTasks: what is in the list, in which order, and what holds while tasks change between pages."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from a2a_events import limits
from a2a_events.agents import echo, scripted
from a2a_events.errors import InvalidParamsError, UnavailableError
from a2a_events.log.memory import MemoryLog
from a2a_events.model import ListTasksRequest, ListTasksResponse, Task, TaskState, milliseconds_of, timestamp_of
from a2a_events.runtime.agent import agent
from a2a_events.runtime.caller import Caller
from a2a_events.runtime.index import Filters, Scope, TaskIndex
from a2a_events.runtime.operations import Operations
from a2a_events.runtime.turn import Turn
from a2a_events.testing import Calls, in_memory
from a2a_events.timeline.ids import token
from a2a_events.timeline.record import Writer
from tests.integration.conftest import StackOf

ASKS = {"script": {"chunks": 2, "inputAt": 1}}


async def pages(calls: Calls, request: ListTasksRequest) -> list[ListTasksResponse]:
    found = [await calls.page(request)]
    while found[-1].next_page_token:
        found.append(await calls.page(replace(request, page_token=found[-1].next_page_token)))
    return found


def ids(found: list[ListTasksResponse]) -> list[str]:
    return [task.id for page in found for task in page.tasks]


def in_order(tasks: list[Task]) -> bool:
    keys = [(milliseconds_of(task.status.timestamp), task.id) for task in tasks]
    return keys == sorted(keys, reverse=True)


async def test_a_list_of_nothing_has_all_four_members(serve: StackOf) -> None:
    stack = await serve(echo)

    assert await stack.calls.page() == ListTasksResponse(
        tasks=(), next_page_token="", page_size=limits.PAGE_TASKS, total_size=0
    )


async def test_a_task_just_created_is_in_the_list_of_every_gateway(serve: StackOf) -> None:
    stack = await serve(echo)
    for calls, other in [(stack.calls, stack.other), (stack.other, stack.calls)] * 5:
        task = await calls.send_task("hi", immediately=True)
        assert task.id in ids([await other.page()])
        assert task.id in ids([await calls.page()])


async def test_a_listed_task_is_the_task_without_artifacts_and_history(serve: StackOf) -> None:
    stack = await serve(echo)
    await stack.worker()
    task = await stack.calls.send_task("hi")

    (listed,) = (await stack.other.page()).tasks
    (whole,) = (await stack.other.page(ListTasksRequest(include_artifacts=True, history_length=10))).tasks

    assert task.artifacts
    assert task.history
    assert listed == replace(task, artifacts=(), history=())
    assert whole == task


async def test_the_newest_status_comes_first_and_filters_add_up(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    context = (await stack.calls.send_task(ASKS)).context_id
    for _ in range(3):
        await stack.calls.send_task("done", context_id=context)
        await stack.calls.send_task("elsewhere")
    asking = await stack.calls.send_task(ASKS)
    everything = list((await stack.calls.page()).tasks)
    middle = everything[4].status.timestamp

    assert in_order(everything)
    assert len(everything) == 8
    page = await stack.calls.page(ListTasksRequest(context_id=context))
    assert {task.context_id for task in page.tasks} == {context}
    assert page.total_size == 4
    page = await stack.calls.page(ListTasksRequest(status="TASK_STATE_INPUT_REQUIRED"))
    assert {task.status.state for task in page.tasks} == {TaskState.INPUT_REQUIRED}
    assert asking.id in ids([page])
    assert page.total_size == 2
    page = await stack.calls.page(ListTasksRequest(context_id=context, status="TASK_STATE_INPUT_REQUIRED"))
    assert page.total_size == 1
    page = await stack.calls.page(ListTasksRequest(status_timestamp_after=middle))
    assert ids([page]) == [task.id for task in everything if task.status.timestamp >= middle]
    page = await stack.calls.page(ListTasksRequest(status="TASK_STATE_UNSPECIFIED"))
    assert page.total_size == 8


async def test_pages_hold_every_task_once_while_tasks_change_and_come(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    tasks = [await stack.calls.send_task(ASKS) for _ in range(9)]
    before = list((await stack.calls.page()).tasks)
    request = ListTasksRequest(page_size=2)
    found = [await stack.calls.page(request)]
    others = [stack.other, stack.calls]
    while found[-1].next_page_token:
        # The last in the list moves to its head, one of those shown does too, and a new one comes.
        await stack.calls.send_task("go on", task_id=tasks[len(found) - 1].id)
        await stack.calls.send_task("go on", task_id=tasks[-len(found)].id)
        await stack.calls.send_task("new")
        others.reverse()
        found.append(await others[0].page(replace(request, page_token=found[-1].next_page_token)))

    assert ids(found) == [task.id for task in before]
    assert {page.total_size for page in found} == {9}
    assert [len(page.tasks) for page in found] == [2, 2, 2, 2, 1]


@pytest.mark.parametrize("size", [1, 3, 7, 100])
async def test_pages_of_any_size_make_the_same_list(serve: StackOf, size: int) -> None:
    stack = await serve(echo)
    made = {(await stack.calls.send_task("hi", immediately=True)).id for _ in range(7)}

    found = await pages(stack.calls, ListTasksRequest(page_size=size))

    assert sorted(ids(found)) == sorted(made)
    assert in_order([task for page in found for task in page.tasks])
    assert {page.page_size for page in found} == {size}
    assert found[-1].next_page_token == ""


async def test_nobody_sees_another_callers_tasks(serve: StackOf) -> None:
    stack = await serve(echo)
    operations = Operations(stack.log, Writer("gateway", "third"))
    callers = [Caller(), Caller(tenant="t"), Caller(subject="alice"), Caller(tenant="t", subject="alice")]
    calls = [Calls(operations, stack.agent, caller=caller) for caller in callers]
    made = [(await c.send_task("hi", immediately=True)).id for c in calls]

    assert [ids([await c.page()]) for c in calls] == [[task_id] for task_id in made]
    assert [(await c.page()).total_size for c in calls] == [1, 1, 1, 1]
    await operations.close()


async def test_a_page_token_is_good_for_its_own_list_only(serve: StackOf) -> None:
    stack = await serve(echo)
    for _ in range(3):
        await stack.calls.send_task("hi", immediately=True)
    first = ListTasksRequest(page_size=1)
    page_token = (await stack.calls.page(first)).next_page_token
    operations = Operations(stack.log, Writer("gateway", "third"))
    foreign = Calls(operations, stack.agent, caller=Caller(tenant="t"))

    for calls, request in [
        (foreign, replace(first, page_token=page_token)),
        (stack.calls, replace(first, page_token=page_token, status="TASK_STATE_WORKING")),
        (stack.calls, replace(first, page_token=page_token, context_id="c")),
        (stack.calls, replace(first, page_token="nonsense")),
        (stack.calls, replace(first, page_token=page_token[:-4])),
        (stack.calls, replace(first, page_token="é")),
    ]:
        with pytest.raises(InvalidParamsError) as refused:
            await calls.page(request)
        assert refused.value.violations[0][0] == "pageToken"
    await operations.close()


async def test_an_old_page_token_is_refused(serve: StackOf, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = await serve(echo)
    for _ in range(2):
        await stack.calls.send_task("hi", immediately=True)
    page_token = (await stack.calls.page(ListTasksRequest(page_size=1))).next_page_token
    monkeypatch.setattr(limits, "PAGE_TOKEN_SECONDS", -1)

    with pytest.raises(InvalidParamsError, match="too old"):
        await stack.calls.page(ListTasksRequest(page_size=1, page_token=page_token))


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("status", ListTasksRequest(status="WORKING")),
        ("statusTimestampAfter", ListTasksRequest(status_timestamp_after="yesterday")),
        ("statusTimestampAfter", ListTasksRequest(status_timestamp_after="2026-02-30T00:00:00Z")),
    ],
)
async def test_a_filter_that_is_none_is_refused_by_name(serve: StackOf, field: str, request_: ListTasksRequest) -> None:
    stack = await serve(echo)

    with pytest.raises(InvalidParamsError) as refused:
        await stack.calls.page(request_)
    assert [name for name, _ in refused.value.violations] == [field]


async def test_a_bare_message_is_in_no_list_and_an_undecided_task_neither(serve: StackOf) -> None:
    go = asyncio.Event()

    @agent(name="both", replies="either")
    async def both(turn: Turn) -> None:
        if turn.text == "message":
            turn.reply("hello")
            return
        await go.wait()
        await turn.artifact("a task after all")

    stack = await serve(both)
    await stack.worker()
    await stack.calls.send("message")
    waiting = asyncio.get_running_loop().create_task(stack.calls.send_task("task"))
    seen = await stack.other.page()
    go.set()
    task = await waiting

    assert seen.tasks == ()
    assert seen.total_size == 0
    assert ids([await stack.other.page()]) == [task.id]


async def test_a_large_status_message_is_listed_whole(serve: StackOf) -> None:
    text = "x" * (limits.INDEX_STATUS_BYTES + 1)

    async def wordy(turn: Turn) -> None:
        turn.complete(text)

    stack = await serve(wordy)
    await stack.worker()
    task = await stack.calls.send_task("hi")

    (listed,) = (await stack.calls.page()).tasks
    assert listed.status == task.status


async def test_an_index_on_disk_goes_on_where_it_was_and_survives_damage(serve: StackOf, tmp_path: Path) -> None:
    stack = await serve(echo)
    await stack.worker()
    path = tmp_path / "index.sqlite"
    scope = Scope(stack.agent.name, token(""), "anonymous")
    for damaged in (False, False, True):
        await stack.calls.send_task("hi")
        if damaged:
            path.write_bytes(os.urandom(4096))
        index = TaskIndex(stack.log, str(path))
        known = sum(end.position for end in index.ends.values())
        await index.caught_up()
        assert index.count(scope, Filters()) == (await stack.calls.page()).total_size
        assert (known == 0) == (damaged or (await stack.calls.page()).total_size == 1)
        await index.close()


async def test_an_index_file_belongs_to_one_process(serve: StackOf, tmp_path: Path) -> None:
    stack = await serve(echo)
    path = str(tmp_path / "index.sqlite")
    index = TaskIndex(stack.log, path)
    await index.caught_up()

    with pytest.raises(OSError, match="locked"):
        TaskIndex(stack.log, path)
    await index.close()
    with pytest.raises(OSError, match="cannot open"):
        TaskIndex(stack.log, str(tmp_path / "no folder" / "index.sqlite"))


async def test_an_index_that_is_being_built_says_so_and_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SCAN_BATCH_RECORDS", 2)
    log = MemoryLog()
    async with in_memory(echo, log=log) as calls:
        for _ in range(5):
            await calls.send_task("hi")
        index = TaskIndex(log)
        with pytest.raises(UnavailableError, match="being built"):
            await index.caught_up(patience_seconds=0)
        await index.caught_up(patience_seconds=60)
        assert index.count(Scope("echo", token(""), "anonymous"), Filters()) == 5
        await index.close()
    await log.close()


async def test_the_index_agrees_with_the_tasks_whatever_order_they_were_told_in(serve: StackOf) -> None:
    """An index built at the end equals one that was fed all along."""
    stack = await serve(scripted)
    await stack.worker()
    early = TaskIndex(stack.log)
    scope = Scope(stack.agent.name, token(""), "anonymous")
    for script in ({"fail": True}, {"reject": True}, {"chunks": 3}, {"chunks": 2, "authAt": 1}, {"message": True}):
        await stack.calls.send({"script": script})
        await early.caught_up()
    late = TaskIndex(stack.log)
    await late.caught_up()

    for index in (early, late):
        rows = index.page(scope, Filters(), 10, as_of={s: e.position for s, e in index.ends.items()})
        shown = {row.task.task_id: row for row in rows}
        assert len(shown) == 4
        for task_id, row in shown.items():
            task = await stack.calls.get(task_id)
            assert timestamp_of(row.place.updated) == task.status.timestamp
            assert row.context_id == task.context_id
        await index.close()


async def test_questions_are_answered_while_the_index_keeps_up_by_itself(
    serve: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks and what keeps up read the log in turns: neither takes the other's reading for its own."""
    monkeypatch.setattr(limits, "INDEX_KEEP_UP_SECONDS", 0)
    stack = await serve(echo)
    index = TaskIndex(stack.log)
    scope = Scope(stack.agent.name, token(""), "anonymous")
    for made in range(1, 151):
        await stack.calls.send_task("hi", immediately=True)
        await asyncio.gather(index.caught_up(), index.caught_up())
        assert made == index.count(scope, Filters())
    await index.close()


async def test_a_page_ends_where_its_tasks_hold_too_much_and_the_next_one_goes_on(
    serve: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PAGE_BYTES", 500_000)
    stack = await serve(scripted)
    await stack.worker()
    for size in (100_000, 100_000, 100_000, 700_000, 100_000, 100_000, *[10] * 12):
        await stack.calls.send_task({"script": {"chunks": 1, "bytes": size}})
    asked = ListTasksRequest(include_artifacts=True, page_size=100)

    plain = await pages(stack.calls, replace(asked, include_artifacts=False))
    found = await pages(stack.calls, asked)

    assert len(plain) == 1, "what holds little is on one page"
    assert len(found) > 2
    assert ids(found) == ids(plain), "each task is there once"
    assert {page.total_size for page in found} == {18}
    sizes = [
        [sum(len(part.text or "") for a in task.artifacts for part in a.parts) for task in page.tasks] for page in found
    ]
    assert all(sum(page) < 500_000 for page in sizes if len(page) > 1)
    assert [690_000 < sum(page) for page in sizes if len(page) == 1] == [True], "one task in any case"
