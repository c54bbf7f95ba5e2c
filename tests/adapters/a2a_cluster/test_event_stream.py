"""What a ``TaskEventStream`` promises, and what ours does beyond a2a-sdk's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest
from a2a.server.cluster import TaskVersion, VersionedEvent
from a2a.server.events.event_queue import Event
from a2a.types import Message, Part, Role, Task, TaskState

from a2a_events.timeline.ids import reference
from tests.adapters.a2a_cluster.replicas import AGENT, ALICE, Replica, Saver, chunk, new_task, said, status

Pair = tuple[Replica, Replica]
WORKING, COMPLETED = TaskState.TASK_STATE_WORKING, TaskState.TASK_STATE_COMPLETED
WAIT_SECONDS = 20


async def take(events: AsyncGenerator[VersionedEvent], count: int) -> list[VersionedEvent]:
    async with asyncio.timeout(WAIT_SECONDS), aclosing(events):
        got: list[VersionedEvent] = []
        while len(got) < count:
            got.append(await anext(events))
        return got


def kinds(events: list[VersionedEvent]) -> list[Any]:
    return [versioned.event for versioned in events]


async def begun(replica: Replica) -> Saver:
    saver = Saver(replica.store, new_task())
    await saver.save(saver.task)
    return saver


async def test_a_subscriber_gets_what_is_saved_at_the_other_replica_in_order(pair: Pair) -> None:
    saver = await begun(pair[0])
    events: list[Event] = [
        status(saver.task, WORKING, "at it"),
        *(chunk(saver.task, f"{n}", append=n > 0) for n in range(5)),
    ]
    listening = asyncio.create_task(take(pair[1].stream.subscribe("task-1", after=saver.version), len(events)))
    versions = [await saver.save(event) for event in events]

    got = await listening

    assert kinds(got) == events
    assert [versioned.version for versioned in got] == versions


async def test_a_late_subscriber_gets_everything_after_its_version(pair: Pair) -> None:
    saver = await begun(pair[0])
    events = [chunk(saver.task, f"{n}", append=n > 0) for n in range(5)]
    versions = [saver.version, *[await saver.save(event) for event in events]]

    for at in range(5):
        got = await take(pair[1].stream.subscribe("task-1", after=versions[at]), 5 - at)
        assert kinds(got) == events[at:]


async def test_a_subscriber_without_a_version_gets_the_task_first(pair: Pair) -> None:
    saver = await begun(pair[0])
    first = Task()
    first.CopyFrom(saver.task)
    working = status(saver.task, WORKING)
    await saver.save(working)

    got = await take(pair[1].stream.subscribe("task-1", after=TaskVersion.MISSING), 2)

    assert kinds(got) == [first, working]


async def test_what_is_saved_without_an_event_is_shown_to_nobody_and_counted_all_the_same(pair: Pair) -> None:
    saver = Saver(pair[0].store, new_task())
    first = await saver.save()
    saver.task.metadata.update({"changed": True})
    second = await saver.save()
    working = status(saver.task, WORKING)
    third = await saver.save(working)

    got = await take(pair[1].stream.subscribe("task-1", after=TaskVersion.MISSING), 1)

    assert kinds(got) == [working]
    assert got[0].version == third
    assert third.is_after(second)
    assert second.is_after(first)


async def test_a_cancel_at_one_replica_is_heard_of_at_the_other(pair: Pair) -> None:
    saver = await begun(pair[0])
    listening = asyncio.create_task(take(pair[0].stream.subscribe("task-1", after=saver.version), 1))
    other = Saver(pair[1].store, saver.task)
    canceled = status(saver.task, TaskState.TASK_STATE_CANCELED)
    await other.save(canceled)

    assert kinds(await listening) == [canceled]


async def test_publishing_what_was_saved_shows_it_no_second_time(pair: Pair) -> None:
    saver = await begun(pair[0])
    before = saver.version
    for number in range(3):
        event = chunk(saver.task, f"{number}", append=number > 0)
        await saver.save(event)
        await pair[0].stream.publish("task-1", VersionedEvent(event, saver.version))

    got = await take(pair[1].stream.subscribe("task-1", after=before), 3)

    assert [v.event.artifact.parts[0].text for v in got] == ["0", "1", "2"]  # type: ignore[union-attr]


async def test_subscribers_of_one_task_hear_nothing_of_another(pair: Pair) -> None:
    saver = await begun(pair[0])
    other = Saver(pair[0].store, new_task("task-2"))
    await other.save(other.task)
    working = status(saver.task, WORKING)
    await saver.save(working)

    assert kinds(await take(pair[1].stream.subscribe("task-1", after=TaskVersion.MISSING), 2))[1] == working


# --- more than that --------------------------------------------------------------------------------------------------


async def test_a_message_that_a_client_adds_is_shown_to_nobody(ours: Pair) -> None:
    """At its own server it is not either; and shown as a Task that waits for input, it would end streams elsewhere."""
    saver = await begun(ours[0])
    await saver.save(status(saver.task, TaskState.TASK_STATE_INPUT_REQUIRED, "and?"))
    asked = saver.version
    saver.task.history.append(saver.task.status.message)
    saver.task.status.ClearField("message")
    saver.task.history.append(said("that", "m-2"))
    await saver.save(saver.task)
    working = status(saver.task, WORKING)
    await saver.save(working)

    assert kinds(await take(ours[1].stream.subscribe("task-1", after=asked), 1)) == [working]
    found = await ours[1].store.get("task-1", ALICE)
    assert found is not None
    assert found.task == saver.task


async def test_a_task_that_is_saved_whole_is_shown_whole(ours: Pair) -> None:
    saver = await begun(ours[0])
    before = saver.version
    saver.task.metadata.update({"anew": True})
    await saver.save(saver.task)
    saver.task.status.state = TaskState.TASK_STATE_FAILED
    await saver.save(saver.task)

    got = await take(ours[1].stream.subscribe("task-1", after=before), 2)

    assert kinds(got)[1] == saver.task
    assert [v.event.status.state for v in got] == [  # type: ignore[union-attr]
        TaskState.TASK_STATE_SUBMITTED,
        TaskState.TASK_STATE_FAILED,
    ]


async def test_a_message_that_an_agent_answers_with_reaches_the_other_replica(ours: Pair) -> None:
    saver = await begun(ours[0])
    before = saver.version
    answer = Message(message_id="a-1", role=Role.ROLE_AGENT, parts=[Part(text="42")])
    await ours[0].stream.publish("task-1", VersionedEvent(answer, saver.version))
    working = status(saver.task, WORKING)
    await saver.save(working)  # which the message is no conflict for

    got = await take(ours[1].stream.subscribe("task-1", after=before), 2)

    assert kinds(got) == [answer, working]
    assert got[0].version.is_after(before)


async def test_an_answer_that_makes_no_task_is_in_the_log_and_no_task(ours: Pair) -> None:
    answer = Message(message_id="a-1", context_id="c-1", role=Role.ROLE_AGENT, parts=[Part(text="42")])
    await ours[0].stream.publish("task-1", VersionedEvent(answer, TaskVersion.MISSING))

    assert await ours[1].store.get("task-1", ALICE) is None
    assert ours[1].cluster is not None
    ref = reference(await ours[1].cluster.log_task_id("task-1"), agent=AGENT, tenant="")
    assert ref is not None
    log = await ours[1].cluster._journal.log()
    written = [kind for run in [r async for r in log.read(ref)] for record in run for kind in record.header.kinds]
    assert written == ["s", "M"]


async def test_a_subscription_ends_when_its_task_is_deleted(ours: Pair) -> None:
    saver = await begun(ours[0])

    async def listen() -> list[VersionedEvent]:
        return [event async for event in ours[1].stream.subscribe("task-1", after=saver.version)]

    listening = asyncio.create_task(listen())
    await saver.save(status(saver.task, WORKING))
    await ours[0].store.delete("task-1", ALICE)

    assert len(await asyncio.wait_for(listening, WAIT_SECONDS)) <= 1
    assert [e async for e in ours[1].stream.subscribe("task-1", after=saver.version)] == []


async def test_a_subscriber_that_stops_leaves_nothing_behind(ours: Pair) -> None:
    saver = await begun(ours[0])
    events = ours[1].stream.subscribe("task-1", after=TaskVersion.MISSING)
    await anext(events)
    assert ours[1].cluster is not None
    log: Any = await ours[1].cluster._journal.log()
    assert len(log._watched) == 1
    await events.aclose()

    assert not log._watched
    await saver.save(status(saver.task, WORKING))


async def test_what_is_forgotten_is_read_again(ours: Pair) -> None:
    saver = await begun(ours[0])
    await ours[0].stream.destroy("task-1")
    await saver.save(status(saver.task, WORKING))
    found = await ours[0].store.get("task-1", ALICE)

    assert found is not None
    assert found.task == saver.task


async def test_a_version_of_another_kind_cannot_be_subscribed_to(ours: Pair) -> None:
    with pytest.raises(TypeError, match="integer versions"):
        await anext(ours[0].stream.subscribe("task-1", after=TaskVersion("two")))
