"""What a ``VersionedTaskStore`` promises: ours and a2a-sdk's own are held to the same, and then ours to more."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from a2a.server.cluster import ConcurrentTaskModificationError, TaskVersion, VersionedTaskStore
from a2a.types import (
    Artifact,
    ListTasksRequest,
    ListTasksResponse,
    Part,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatus,
    TaskStatusUpdateEvent,
)
from a2a.utils.errors import InvalidAgentResponseError, InvalidParamsError
from google.protobuf.json_format import ParseDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from a2a_events.adapters.a2a_cluster import Cluster
from a2a_events.errors import Uncertain
from a2a_events.log.memory import MemoryLog
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Draft
from tests.adapters.a2a_cluster.replicas import (
    ALICE,
    BOB,
    Replica,
    Saver,
    chunk,
    new_task,
    opened,
    said,
    status,
)

Pair = tuple[Replica, Replica]
WORKING, COMPLETED, CANCELED = (
    TaskState.TASK_STATE_WORKING,
    TaskState.TASK_STATE_COMPLETED,
    TaskState.TASK_STATE_CANCELED,
)


async def save(store: VersionedTaskStore, task: Task, version: TaskVersion = TaskVersion.MISSING, **given: Any) -> Any:
    return await store.save(task, event=None, prev=None, prev_version=version, **{"context": ALICE, **given})


async def stored(replica: Replica, task_id: str = "task-1") -> Task:
    found = await replica.store.get(task_id, ALICE)
    assert found is not None
    return found.task


# --- what any VersionedTaskStore holds -------------------------------------------------------------------------------


async def test_what_is_saved_at_one_replica_is_read_at_the_other_at_its_version(pair: Pair) -> None:
    task = new_task()
    first = await save(pair[0].store, task)
    assert not first.is_missing

    found = await pair[1].store.get("task-1", ALICE)

    assert found is not None
    assert (found.task, found.version) == (task, first)


async def test_what_is_not_there_is_not_found(pair: Pair) -> None:
    assert await pair[0].store.get("task-1", ALICE) is None


async def test_every_save_is_later_than_the_one_before(pair: Pair) -> None:
    first = await save(pair[0].store, new_task())
    second = await save(pair[0].store, new_task(state=WORKING), first)

    assert second.is_after(first)
    assert (await stored(pair[0])).status.state == WORKING


async def test_a_save_of_an_old_version_is_refused_and_changes_nothing(pair: Pair) -> None:
    first = await save(pair[0].store, new_task())
    second = await save(pair[1].store, new_task(state=WORKING), first)

    for replica in pair:
        with pytest.raises(ConcurrentTaskModificationError):
            await save(replica.store, new_task(state=COMPLETED), first)

    found = await pair[0].store.get("task-1", ALICE)
    assert found is not None
    assert (found.task.status.state, found.version) == (WORKING, second)


async def test_of_many_saves_of_one_version_one_is_taken(pair: Pair) -> None:
    first = await save(pair[0].store, new_task())
    saves = [save(pair[number % 2].store, new_task(state=WORKING), first) for number in range(10)]

    done = await asyncio.gather(*saves, return_exceptions=True)

    assert sum(isinstance(result, TaskVersion) for result in done) == 1
    assert sum(isinstance(result, ConcurrentTaskModificationError) for result in done) == 9


async def test_of_two_first_saves_one_is_taken(pair: Pair) -> None:
    await save(pair[0].store, new_task())
    for replica in pair:
        with pytest.raises(ConcurrentTaskModificationError):
            await save(replica.store, new_task(state=WORKING))


async def test_canceled_needs_no_version(pair: Pair) -> None:
    first = await save(pair[0].store, new_task())
    second = await save(pair[0].store, new_task(state=WORKING), first)

    canceled = await save(pair[1].store, new_task(state=CANCELED), first)

    assert canceled.is_after(second)
    assert (await stored(pair[0])).status.state == CANCELED


@pytest.mark.parametrize("state", [COMPLETED, CANCELED, TaskState.TASK_STATE_FAILED, TaskState.TASK_STATE_REJECTED])
async def test_canceled_does_not_replace_an_end(pair: Pair, state: TaskState) -> None:
    first = await save(pair[0].store, new_task(state=COMPLETED))
    with pytest.raises(ConcurrentTaskModificationError):
        await save(pair[1].store, new_task(state=CANCELED), first)


async def test_what_is_not_there_cannot_be_canceled(pair: Pair) -> None:
    with pytest.raises(ConcurrentTaskModificationError):
        await save(pair[0].store, new_task(state=CANCELED), TaskVersion(123))


async def test_a_version_of_another_kind_is_refused(pair: Pair) -> None:
    await save(pair[0].store, new_task())
    with pytest.raises(TypeError, match="integer versions"):
        await save(pair[0].store, new_task(state=WORKING), TaskVersion("two"))


async def test_a_task_is_its_owner_s(pair: Pair) -> None:
    await save(pair[0].store, new_task())

    assert await pair[1].store.get("task-1", BOB) is None
    assert not (await pair[1].store.list(ListTasksRequest(), BOB)).tasks
    await pair[1].store.delete("task-1", BOB)
    assert await pair[0].store.get("task-1", ALICE) is not None


async def test_an_id_is_its_first_owner_s(pair: Pair) -> None:
    await save(pair[0].store, new_task())
    with pytest.raises(ConcurrentTaskModificationError):
        await save(pair[1].store, new_task(), context=BOB)
    with pytest.raises(ConcurrentTaskModificationError):
        await save(pair[1].store, new_task(state=CANCELED), context=BOB)

    assert await stored(pair[0]) == new_task()


async def test_what_is_deleted_is_gone(pair: Pair) -> None:
    await save(pair[0].store, new_task())
    await pair[1].store.delete("task-1", ALICE)

    assert await pair[0].store.get("task-1", ALICE) is None
    assert not (await pair[0].store.list(ListTasksRequest(), ALICE)).tasks
    await pair[0].store.delete("task-1", ALICE)


async def test_a_task_comes_back_with_all_its_members(pair: Pair) -> None:
    task = ParseDict(
        {
            "id": "task-1",
            "contextId": "context-1",
            "status": {
                "state": "TASK_STATE_WORKING",
                "timestamp": "2026-11-21T20:00:00.123456Z",
                "message": {"messageId": "a-1", "role": "ROLE_AGENT", "parts": [{"text": "at it"}]},
            },
            "history": [
                {"messageId": "m-1", "role": "ROLE_USER", "parts": [{"data": {"n": 1.5, "deep": [None, True, {}]}}]},
                {"messageId": "a-0", "role": "ROLE_AGENT", "parts": [{"url": "https://x", "mediaType": "a/b"}]},
            ],
            "artifacts": [
                {"artifactId": "one", "parts": [{"raw": "AAH/"}], "metadata": {"k": "v"}, "extensions": ["urn:x"]},
                {"artifactId": "two", "name": "empty"},
            ],
            "metadata": {"count": 3, "nested": {"list": [1, "two"]}},
        },
        Task(),
    )
    await save(pair[0].store, task)

    assert await stored(pair[1]) == task


async def test_nobody_changes_what_is_stored_by_changing_what_they_hold(pair: Pair) -> None:
    task = new_task()
    await save(pair[0].store, task)
    task.status.state = COMPLETED
    (await stored(pair[0])).history.append(said("more", "m-2"))

    assert await stored(pair[0]) == new_task()


async def test_an_update_is_saved_with_the_task_that_it_makes(pair: Pair) -> None:
    saver = Saver(pair[0].store, new_task())
    await saver.save(saver.task)
    working = status(saver.task, WORKING, "at it")
    working.metadata.update({"by": "agent"})
    events: list[TaskStatusUpdateEvent | TaskArtifactUpdateEvent] = [
        working,
        chunk(saver.task, "a", append=False),
        chunk(saver.task, "b", append=True),
        chunk(saver.task, "other", append=False, artifact_id="second"),
        chunk(saver.task, "anew", append=False),
        status(saver.task, COMPLETED),
    ]
    for event in events:
        await saver.save(event)
        assert await stored(pair[1]) == saver.task


async def test_who_saves_with_its_last_version_goes_on(pair: Pair) -> None:
    saver = Saver(pair[0].store, new_task())
    await saver.save(saver.task)
    for number in range(20):
        await saver.save(chunk(saver.task, f"{number}", append=number > 0))

    assert len((await stored(pair[1])).artifacts[0].parts) == 20


# --- ListTasks -------------------------------------------------------------------------------------------------------


async def pages(replica: Replica, **given: Any) -> list[ListTasksResponse]:
    got: list[ListTasksResponse] = []
    token = ""
    while not got or token:
        got.append(await replica.store.list(ListTasksRequest(page_token=token, **given), ALICE))
        token = got[-1].next_page_token
    return got


def dated(number: int, state: TaskState = WORKING, context_id: str = "context-1") -> Task:
    task = new_task(f"task-{number}", state, context_id)
    task.status.timestamp.FromJsonString(f"2026-11-21T20:00:{number:02d}Z")
    return task


async def test_a_list_has_the_newest_status_first_in_pages(pair: Pair) -> None:
    for number in [3, 1, 4, 0, 2]:
        await save(pair[0].store, dated(number))

    got = await pages(pair[1], page_size=2)

    assert [[task.id for task in page.tasks] for page in got] == [
        ["task-4", "task-3"],
        ["task-2", "task-1"],
        ["task-0"],
    ]
    assert {(page.total_size, page.page_size) for page in got} == {(5, 2)}


async def test_a_list_can_be_of_a_context_a_state_or_since_a_time(pair: Pair) -> None:
    await save(pair[0].store, dated(0))
    await save(pair[0].store, dated(1, COMPLETED))
    await save(pair[0].store, dated(2, context_id="context-2"))

    async def listed(**given: Any) -> list[str]:
        return [task.id for page in await pages(pair[1], **given) for task in page.tasks]

    assert await listed(context_id="context-2") == ["task-2"]
    assert await listed(status=COMPLETED) == ["task-1"]
    since = ListTasksRequest()
    since.status_timestamp_after.FromJsonString("2026-11-21T20:00:01Z")
    assert await listed(status_timestamp_after=since.status_timestamp_after) == ["task-2", "task-1"]


async def test_a_list_shows_tasks_as_they_are_now(pair: Pair) -> None:
    saver = Saver(pair[0].store, dated(0))
    await saver.save(saver.task)
    assert (await pages(pair[1]))[0].tasks[0] == saver.task
    await saver.save(chunk(saver.task, "a", append=False))
    await saver.save(status(saver.task, COMPLETED, "done"))

    assert (await pages(pair[1]))[0].tasks[0] == saver.task


async def test_a_page_token_of_somebody_else_is_refused(pair: Pair) -> None:
    with pytest.raises(InvalidParamsError):
        await pair[0].store.list(ListTasksRequest(page_token="no token"), ALICE)


# --- more than that --------------------------------------------------------------------------------------------------


async def test_what_was_deleted_cannot_be_saved_again_by_whom_it_was_deleted_under(ours: Pair) -> None:
    saver = Saver(ours[0].store, new_task())
    await saver.save(saver.task)
    await ours[1].store.delete("task-1", ALICE)

    with pytest.raises(ConcurrentTaskModificationError):
        await saver.save(status(saver.task, WORKING))
    for replica in ours:
        with pytest.raises(ConcurrentTaskModificationError):
            await save(replica.store, new_task())
        with pytest.raises(ConcurrentTaskModificationError):
            await save(replica.store, new_task(state=CANCELED))
        assert await replica.store.get("task-1", ALICE) is None


async def test_canceling_keeps_what_landed_meanwhile(ours: Pair) -> None:
    saver = Saver(ours[0].store, new_task())
    first = await saver.save(saver.task)
    await saver.save(chunk(saver.task, "kept", append=False))
    canceled = new_task(state=CANCELED)
    event = status(canceled, CANCELED)
    canceled.status.CopyFrom(event.status)

    await ours[1].store.save(canceled, event=event, prev=None, prev_version=first, context=ALICE)

    task = await stored(ours[0])
    assert task.status == event.status
    assert task.artifacts[0].parts[0].text == "kept"


async def test_a_task_without_a_state_is_refused(ours: Pair) -> None:
    with pytest.raises(InvalidAgentResponseError, match=r"status\.state"):
        await save(ours[0].store, Task(id="task-1", context_id="context-1"))
    assert await ours[0].store.get("task-1", ALICE) is None


@pytest.mark.parametrize(
    "task_id", ["a.b.*.>", "", "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA", "t1-main-999-" + "A" * 22, "ü" * 99]
)
async def test_an_id_can_be_any_text(ours: Pair, task_id: str) -> None:
    await save(ours[0].store, new_task(task_id))

    assert (await stored(ours[1], task_id)).id == task_id
    assert [task.id for task in (await ours[1].store.list(ListTasksRequest(), ALICE)).tasks] == [task_id]


async def test_a_task_larger_than_a_message_of_the_broker_is_stored(ours: Pair) -> None:
    saver = Saver(ours[0].store, new_task())
    await saver.save(saver.task)
    await saver.save(chunk(saver.task, "x" * 1_500_000, append=False))
    saver.task.metadata.update({"whole": "anew"})
    await saver.save(saver.task)

    assert await stored(ours[1]) == saver.task


async def test_an_update_costs_its_size_and_not_the_task_s() -> None:
    log = MemoryLog()
    cluster = Cluster(opened(log), "sdk-agent")
    saver = Saver(cluster.task_store, new_task())
    await saver.save(saver.task)
    for number in range(300):
        await saver.save(chunk(saver.task, "x", append=number > 0))

    written = [len(stored.record.payload) async for batch in log.scan(0, 1, 10_000) for stored in batch]
    await cluster.aclose()
    await log.close()
    assert len(written) == 301
    assert max(written[1:]) < 300


async def test_a_process_that_reads_a_task_for_the_first_time_reads_the_same(ours: Pair) -> None:
    saver = Saver(ours[0].store, new_task())
    await saver.save(saver.task)
    for number in range(600):
        await saver.save(chunk(saver.task, f"{number}", append=number > 0))

    assert await stored(ours[1]) == saver.task


class Forgetful(MemoryLog):
    """A log whose answers get lost, as over a network: of every third append, after it was stored."""

    lost = 0

    async def try_append(self, task: TaskRef, draft: Draft, expected: int, *, trace: str = "") -> int:
        position = await super().try_append(task, draft, expected, trace=trace)
        if position % 3 == 0:
            self.lost += 1
            raise Uncertain("the answer got lost")
        return position


async def test_a_lost_answer_is_neither_a_conflict_nor_a_second_save() -> None:
    log = Forgetful()
    one, other = (Cluster(opened(log), "sdk-agent") for _ in range(2))
    saver = Saver(one.task_store, new_task())
    await saver.save(saver.task)
    for number in range(9):
        await saver.save(chunk(saver.task, f"{number}", append=number > 0))
    found = await other.task_store.get("task-1", ALICE)

    assert found is not None
    assert (found.task, found.version) == (saver.task, saver.version)
    assert log.lost == 3
    assert (await log.ends())[0].position == 10
    await log.close()


TEXTS = st.sampled_from(["", "a", "ü\n\u2028", '{"statusUpdate":1}'])
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("status"), st.sampled_from([WORKING, COMPLETED, TaskState.TASK_STATE_INPUT_REQUIRED]), TEXTS),
        st.tuples(st.just("chunk"), st.booleans(), TEXTS),
        st.tuples(st.just("message"), st.booleans(), TEXTS),
        st.tuples(st.just("metadata"), st.booleans(), TEXTS),
        st.tuples(st.just("anything"), st.booleans(), TEXTS),
    ),
    max_size=12,
)


@given(EVENTS)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_is_saved_comes_back_exactly(steps: list[tuple[str, Any, str]]) -> None:
    log = MemoryLog()
    one, other = (Cluster(opened(log), "sdk-agent") for _ in range(2))
    saver = Saver(one.task_store, new_task())
    await saver.save(saver.task)
    for number, (kind, choice, text) in enumerate(steps):
        task = saver.task
        match kind:
            case "status":
                await saver.save(status(task, choice, text))
            case "chunk":
                await saver.save(chunk(task, text, append=choice and bool(task.artifacts)))
            case "message":
                if task.status.HasField("message"):
                    task.history.append(task.status.message)
                    task.status.ClearField("message")
                task.history.append(said(text, f"m-{number + 2}"))
                await saver.save(task if choice else None)
            case "metadata":
                task.metadata.update({text: number})
                await saver.save(task if choice else None)
            case _:  # an event that is not what became of the task
                del task.history[:]
                task.status.CopyFrom(TaskStatus(state=WORKING))
                event = TaskArtifactUpdateEvent(
                    artifact=Artifact(artifact_id="no", parts=[Part(text=text)]), append=choice
                )
                await save_as_it_is(saver, event)
        found = await other.task_store.get("task-1", ALICE)
        assert found is not None
        assert (found.task, found.version) == (saver.task, saver.version)
    fresh = Cluster(opened(log), "sdk-agent")
    found = await fresh.task_store.get("task-1", ALICE)
    assert found is not None
    assert (found.task, found.version) == (saver.task, saver.version)
    await log.close()


async def save_as_it_is(saver: Saver, event: TaskArtifactUpdateEvent) -> None:
    saver.version = await saver._store.save(
        saver.task, event=event, prev=None, prev_version=saver.version, context=ALICE
    )
