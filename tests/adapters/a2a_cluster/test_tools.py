"""Tasks of an a2a-sdk server are timelines: what tools for timelines show of them, and what leaves them alone."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
from a2a.types import Task, TaskState
from google.protobuf.json_format import Parse

from a2a_events.adapters.a2a_cluster import Cluster
from a2a_events.log.memory import MemoryLog
from a2a_events.runtime.examination import examine
from a2a_events.runtime.load import load
from a2a_events.runtime.retention import Retention
from a2a_events.runtime.sweeper import Sweeper
from a2a_events.runtime.transfer import records_of
from a2a_events.timeline.diagnosis import Case
from a2a_events.timeline.fold import Phase
from a2a_events.timeline.ids import TaskRef, reference
from a2a_events.timeline.record import Writer
from a2a_events.timeline.render import task as render_task
from a2a_events.timeline.rows import rows_of
from tests.adapters.a2a_cluster.replicas import AGENT, ALICE, Saver, chunk, new_task, opened, said, status

WRITER = Writer("worker", "test")
WORKING, COMPLETED, ASKING = (
    TaskState.TASK_STATE_WORKING,
    TaskState.TASK_STATE_COMPLETED,
    TaskState.TASK_STATE_INPUT_REQUIRED,
)


@pytest.fixture
async def log() -> AsyncIterator[MemoryLog]:
    made = MemoryLog()
    yield made
    await made.close()


@pytest.fixture
def cluster(log: MemoryLog) -> Cluster:
    return Cluster(opened(log), AGENT)


async def ref_of(cluster: Cluster, task_id: str = "task-1") -> TaskRef:
    ref = reference(await cluster.log_task_id(task_id), agent=AGENT, tenant="")
    assert ref is not None
    return ref


async def two_turns(cluster: Cluster, *, end: bool = True) -> Saver:
    saver = Saver(cluster.task_store, new_task())
    saver.task.status.timestamp.GetCurrentTime()
    await saver.save(saver.task)
    await saver.save(status(saver.task, ASKING, "and?"))
    saver.task.history.append(saver.task.status.message)
    saver.task.status.ClearField("message")
    saver.task.history.append(said("that", "m-2"))
    await saver.save(saver.task)
    await saver.save(status(saver.task, WORKING))
    await saver.save(chunk(saver.task, "a", append=False))
    await saver.save(chunk(saver.task, "b", append=True))
    if end:
        await saver.save(status(saver.task, COMPLETED, "done"))
    return saver


async def test_a_timeline_shows_who_said_what(cluster: Cluster, log: MemoryLog) -> None:
    await two_turns(cluster)

    rows = [row for record in await records_of(log, await ref_of(cluster)) for row in rows_of(record)]

    assert [row.kind for row in rows] == [
        "submitted", "forked", "statusUpdate",
        "statusUpdate",
        "messageReceived", "forked",
        "statusUpdate", "artifactUpdate", "artifactUpdate", "statusUpdate",
    ]  # fmt: skip
    assert rows[0].summary == "message m-1, context context-1, by alice"
    assert {row.writer.partition("/")[0] for row in rows} == {"a2a-sdk"}


async def test_our_fold_shows_the_task_as_a2a_sdk_does(cluster: Cluster, log: MemoryLog) -> None:
    saver = await two_turns(cluster)
    fold = await load(log, await ref_of(cluster))
    shown = Parse(render_task(fold, "task-1", {}), Task())

    assert shown == saver.task
    assert fold.head.owner is not None
    assert (fold.head.owner.subject, fold.head.phase) == ("alice", Phase.TERMINAL)


@pytest.mark.parametrize("end", [False, True])
async def test_nobody_is_asked_to_work_on_it(cluster: Cluster, log: MemoryLog, end: bool) -> None:
    await two_turns(cluster, end=end)
    records = await records_of(log, await ref_of(cluster))

    assert not any(record.inbound for record in records)
    sweeper = Sweeper(log, WRITER, silence_seconds=0.0)
    await sweeper.sweep()
    time.sleep(0.01)  # noqa: ASYNC251 -- the log's clock has milliseconds, and silence begins with the next
    assert await sweeper.sweep() == 0
    assert len(await records_of(log, await ref_of(cluster))) == len(records)
    assert not sweeper.suspects


async def test_retention_removes_what_has_ended_and_nothing_else(cluster: Cluster, log: MemoryLog) -> None:
    await two_turns(cluster)
    other = Saver(cluster.task_store, new_task("task-2"))
    await other.save(other.task)
    await other.save(status(other.task, WORKING))
    time.sleep(0.01)  # noqa: ASYNC251 -- as above

    removed = await Retention(log, WRITER, older_than_seconds=0.0, grace_seconds=0.0).run()

    assert removed.tasks == 1
    assert await cluster.task_store.get("task-1", ALICE) is None
    assert await cluster.task_store.get("task-2", ALICE) is not None


async def test_who_asks_why_it_does_not_go_on_hears_where_it_runs(cluster: Cluster, log: MemoryLog) -> None:
    await two_turns(cluster, end=False)
    running = await examine(log, await ref_of(cluster))
    asking = Saver(cluster.task_store, new_task("task-2"))
    await asking.save(asking.task)
    await asking.save(status(asking.task, ASKING, "and?"))
    waiting = await examine(log, await ref_of(cluster, "task-2"))

    assert (running.case, running.state, running.stuck) == (Case.ELSEWHERE, "WORKING", False)
    assert "a2a-sdk/" in running.why
    assert waiting.case is Case.WAITS_FOR_CLIENT
