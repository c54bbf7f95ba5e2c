"""The operators' view of all tasks: whose they are, in which order, and what a follower is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from a2a_events import limits
from a2a_events.agents import echo, scripted
from a2a_events.log.memory import MemoryLog
from a2a_events.model import Task, TaskState, milliseconds_of
from a2a_events.runtime.agent import agent
from a2a_events.runtime.index import TaskIndex
from a2a_events.runtime.survey import Seen, Survey, Wanted
from a2a_events.runtime.transfer import export, fork, memory_log
from a2a_events.runtime.turn import Turn
from a2a_events.testing import in_memory
from a2a_events.timeline.record import Writer
from tests.integration.conftest import StackOf

ASKS = {"script": {"chunks": 2, "inputAt": 1}}
EVERY = Wanted()


async def seen(survey: Survey, wanted: Wanted = EVERY, size: int = 100) -> list[Seen]:
    await survey.caught_up()
    return survey.page(wanted, size)


def ids(found: list[Seen]) -> list[str]:
    return [one.task.task_id for one in found]


async def told(changes: AsyncGenerator[Seen], state: TaskState, *, task_id: str = "") -> list[Seen]:
    """What a follower is told up to a task in this state."""
    found: list[Seen] = []
    async with asyncio.timeout(30), aclosing(changes):
        async for one in changes:
            found.append(one)
            if one.state is state and task_id in {"", one.task.task_id}:
                return found
    raise AssertionError("a follower is told without end")


async def test_a_survey_shows_tasks_of_every_tenant_as_the_log_has_them(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    first = await stack.calls.send_task("hi")
    second = await stack.calls_of("acme").send_task(ASKS)
    survey = Survey(stack.log)

    found = await seen(survey)

    assert ids(found) == [second.id, first.id]
    for one, task, tenant in zip(found, (second, first), ("acme", ""), strict=True):
        records = [record async for run in stack.log.read(one.task) for record in run]
        assert one.task == stack.ref(task.id, tenant)
        assert one.context_id == task.context_id
        assert one.subject == "anonymous"
        assert one.state is task.status.state
        assert one.created == records[0].header.times[0]
        assert one.revision == records[-1].header.last_revision
        assert one.position == records[-1].position
        assert abs(one.updated - milliseconds_of(task.status.timestamp)) < 60_000
        assert not one.failed
    assert survey.count(EVERY) == 2
    await survey.close()


async def test_filters_add_up_and_pages_hold_every_task_once(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    made: list[Task] = [await stack.calls.send_task("hi", context_id="Orders-2026") for _ in range(3)]
    made += [await stack.calls.send_task({"script": {"fail": True}}) for _ in range(2)]
    made += [await stack.calls.send_task({"script": {"reject": True}}, context_id="orders-x")]
    made += [await stack.calls.send_task(ASKS)]
    survey = Survey(stack.log)
    everything = await seen(survey)

    def of(wanted: Wanted) -> set[str]:
        found = survey.page(wanted, 100)
        assert survey.count(wanted) == len(found)
        return set(ids(found))

    assert len(everything) == 7
    assert of(Wanted(agent="scripted")) == {task.id for task in made}
    assert of(Wanted(agent="other")) == set()
    assert of(Wanted(states=frozenset({TaskState.FAILED, TaskState.INPUT_REQUIRED}))) == {made[n].id for n in (3, 4, 6)}
    assert of(Wanted(failed_only=True)) == {made[n].id for n in (3, 4, 5)}
    assert of(Wanted(failed_only=True, states=frozenset({TaskState.REJECTED}))) == {made[5].id}
    assert of(Wanted(failed_only=True, states=frozenset({TaskState.COMPLETED}))) == set()
    assert of(Wanted(text="ORDERS-")) == {made[n].id for n in (0, 1, 2, 5)}
    assert of(Wanted(text=made[6].id[-12:])) == {made[6].id}
    assert of(Wanted(text="orders-", failed_only=True)) == {made[5].id}
    assert of(Wanted(text="%' or 1 --")) == set()
    middle = everything[3]
    assert of(Wanted(since=middle.updated)) == set(ids([one for one in everything if one.updated >= middle.updated]))

    shown = [survey.page(EVERY, 3)]
    while shown[-1]:
        shown.append(survey.page(EVERY, 3, shown[-1][-1].place))
    assert ids([one for page in shown for one in page]) == ids(everything)
    assert [len(page) for page in shown] == [3, 3, 1, 0]
    await survey.close()


async def test_a_task_that_was_given_up_says_so(serve: StackOf) -> None:
    @agent(name="raises")
    async def raises(turn: Turn) -> None:
        raise RuntimeError("no")

    stack = await serve(raises)
    await stack.worker()
    given_up = await stack.calls.send_task("hi")
    survey = Survey(stack.log)

    (one,) = await seen(survey, Wanted(failed_only=True))

    assert one.task.task_id == given_up.id
    assert one.given_up
    assert one.failed
    await survey.close()


async def test_a_follower_is_told_what_changes_after_its_mark_and_nothing_else(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    before = await stack.calls.send_task("hi")
    survey = Survey(stack.log)
    await survey.caught_up()
    mark = survey.mark
    waiting = await stack.calls.send_task(ASKS)

    found = await told(survey.follow(EVERY, mark), TaskState.INPUT_REQUIRED)
    await stack.calls.send_task("go on", task_id=waiting.id)
    more = await told(survey.follow(EVERY, found[-1].mark), TaskState.COMPLETED)

    assert before.id not in ids(found)
    assert set(ids(found)) == set(ids(more)) == {waiting.id}
    assert found[-1].position < more[-1].position
    assert more[-1] == survey.page(EVERY, 1)[0]
    await survey.close()


async def test_a_follower_is_told_only_of_what_it_wants(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    survey = Survey(stack.log)
    await survey.caught_up()
    mark = survey.mark
    await stack.calls.send_task("hi")
    failed = await stack.calls.send_task({"script": {"fail": True}})

    found = await told(survey.follow(Wanted(failed_only=True), mark), TaskState.FAILED)

    assert ids(found) == [failed.id]
    await survey.close()


async def test_many_changes_are_told_in_runs_without_loss(serve: StackOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("a2a_events.runtime.survey._CHUNK", 3)
    stack = await serve(echo)
    made = [(await stack.calls.send_task("hi", immediately=True)).id for _ in range(10)]
    survey = Survey(stack.log)
    await survey.caught_up()

    found: list[Seen] = []
    async with asyncio.timeout(30), aclosing(survey.follow(EVERY, 0)) as changes:
        async for one in changes:
            found.append(one)
            if len(found) == len(made):
                break

    assert sorted(ids(found)) == sorted(made)
    assert [one.mark for one in found] == sorted(one.mark for one in found)
    await survey.close()


async def test_a_survey_and_lists_of_tasks_share_an_index(serve: StackOf) -> None:
    stack = await serve(echo)
    await stack.worker()
    task = await stack.calls.send_task("hi")
    index = TaskIndex(stack.log)
    survey = Survey(stack.log, index=index)

    assert ids(await seen(survey)) == [task.id]
    await survey.close()
    await index.caught_up()  # it is not closed with the survey
    await index.close()


async def test_a_bundle_in_memory_is_surveyed(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    task = await stack.calls.send_task({"script": {"chunks": 3, "fail": True}})
    log = memory_log(await export(stack.log, stack.ref(task.id)))
    survey, original = Survey(log), Survey(stack.log)

    (one,) = await seen(survey)
    (recorded,) = await seen(original)

    assert (one.task, one.state, one.created, one.revision) == (
        recorded.task,
        TaskState.FAILED,
        recorded.created,
        recorded.revision,
    )
    await survey.close()
    await original.close()
    await log.close()


async def test_a_fork_is_listed_in_the_state_that_it_begins_with(serve: StackOf) -> None:
    """Its newest status is the other task's, as GetTask shows it, until its own agent says more."""
    stack = await serve(scripted)
    worker = await stack.worker()
    asking = await stack.calls.send_task(ASKS)
    await worker.stop()
    records = await stack.records(asking.id)
    new = await fork(stack.log, stack.ref(asking.id), records[-1].header.last_revision, Writer("operator", "test"))
    survey = Survey(stack.log)

    one = next(found for found in await seen(survey) if found.task == new)

    assert one.state is TaskState.INPUT_REQUIRED
    got = await stack.calls.get(new.task_id)
    listed = next(found for found in (await stack.calls.page()).tasks if found.id == new.task_id)
    assert listed.status == got.status
    await survey.close()


async def test_the_index_of_a_file_goes_on_counting_changes(serve: StackOf, tmp_path: object) -> None:
    stack = await serve(echo)
    path = f"{tmp_path}/survey.sqlite"
    await stack.calls.send_task("hi", immediately=True)
    early = Survey(stack.log, path)
    await early.caught_up()
    mark = early.mark
    await early.close()
    second = await stack.calls.send_task("hi", immediately=True)

    late = Survey(stack.log, path)
    assert late.mark == mark
    await late.caught_up()

    assert late.mark == mark + 1
    assert late.page(EVERY, 1)[0].task.task_id == second.id
    await late.close()


async def test_an_exchange_that_ended_with_a_bare_message_is_not_listed() -> None:
    log = MemoryLog()
    async with in_memory(scripted, log=log) as calls:
        await calls.send({"script": {"message": True}})
        survey = Survey(log)
        assert await seen(survey) == []
        await survey.close()
    await log.close()


async def test_a_task_whose_chunks_come_moves_without_a_status(serve: StackOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it said last, and when, is seen while it runs."""
    monkeypatch.setattr(limits, "INDEX_KEEP_UP_SECONDS", 0.05)
    go_on = asyncio.Event()

    @agent(name="slow")
    async def slow(turn: Turn) -> None:
        await turn.chunk("one", "a")
        await go_on.wait()
        await turn.chunk("one", "b")
        await asyncio.Event().wait()

    stack = await serve(slow)
    await stack.worker()
    task = await stack.calls.send_task("hi", immediately=True)
    survey = Survey(stack.log)
    found: list[Seen] = []
    async with asyncio.timeout(30), aclosing(survey.follow(Wanted(agent="slow"), 0)) as changes:
        async for one in changes:
            found.append(one)
            if one.revision == len("scSA"):
                go_on.set()
            if one.revision == len("scSAA"):
                break

    assert await stack.kinds(task.id) == "scSAA"
    assert [one.revision for one in found] == sorted({one.revision for one in found})
    assert len(found) > 1
    await survey.close()
