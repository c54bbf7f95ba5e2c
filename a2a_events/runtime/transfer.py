"""Timelines out of a log and into one: export, import, and fork.

Reading needs no worker and disturbs none. What is imported asks nobody for anything: it is the past, and its records
are dispatched to no worker.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec
from msgspec import Raw

from a2a_events import limits
from a2a_events.errors import Conflict, RecordTooLarge
from a2a_events.log.append import append
from a2a_events.log.memory import MemoryLog
from a2a_events.log.port import Log
from a2a_events.model import encode
from a2a_events.runtime.commit import drafted
from a2a_events.timeline import ids
from a2a_events.timeline.bundle import Bundle, moved, renamed, without_secrets
from a2a_events.timeline.decide import RESUME
from a2a_events.timeline.events import NOTHING, Event, Forked, MessageReceived, Step, Submitted, Timer, TurnClaimed
from a2a_events.timeline.fold import Head, TaskFold
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Draft, Record, Writer, entry
from a2a_events.timeline.render import task as render_task
from a2a_events.timeline.revisions import fold_at, part, up_to
from a2a_events.timeline.rows import Origin


class NotImportable(Exception):
    """The bundle cannot become a task of this log; says why and what to do. Nothing was written by this attempt."""


class NotForkable(Exception):
    """No task can begin with this state; says why. Nothing was written."""


async def records_of(log: Log, task: TaskRef) -> list[Record]:
    """The task's whole timeline.

    Raises:
        Unavailable: no answer; repeating is safe.
        Unreadable: a record is damaged.
    """
    return [record async for records in log.read(task) for record in records]


async def export(log: Log, task: TaskRef) -> Bundle:
    """The task's timeline as it is now, without secrets. Costs what reading it costs, and one round trip.

    Raises:
        Unavailable: no answer; repeating is safe.
        Unreadable: a record is damaged.
    """
    records = tuple(without_secrets(record) for record in await records_of(log, task))
    announced = (await log.agents()).get(task.agent)
    return Bundle(task, records, Raw(announced.card) if announced else NOTHING)


def memory_log(bundle: Bundle) -> MemoryLog:
    """A log in memory that holds the bundle's task, every record at the position where it was recorded."""
    log = MemoryLog(bundle.task.log)
    log.restore(bundle.task, bundle.records)
    return log


async def import_bundle(log: Log, bundle: Bundle, *, new_id: bool = False) -> TaskRef:
    """Write a bundle's timeline into a log. The fold is the recorded one; positions and incarnation are the log's.

    One append a record. Interrupted, it goes on where it was when it is repeated under the same id.

    Args:
        log: where to; nobody should work in it.
        bundle: what was recorded.
        new_id: whether the task gets an id of its own, so that it can stand beside the recorded one.

    Returns:
        The task.

    Raises:
        NotImportable: there is another task of this id, or a worker would take the unfinished task up.
        Unavailable: repeating is safe.
        Uncertain: repeating is safe.
    """
    if not bundle.records:
        raise NotImportable("the bundle holds no records")
    if not TaskFold.of(bundle.records).head.terminal and bundle.task.agent in await log.attended():
        raise NotImportable(
            f"the task has not ended, and workers of {bundle.task.agent} are alive here: they would go on with it;"
            " import it into a log that nobody works in, or fork it"
        )
    if new_id:
        bundle = renamed(bundle, _beside(log, bundle.task))
    task = bundle.task
    if task.log != log.name or task.shard >= log.shards:
        raise NotImportable(
            f"task {task.task_id} lives in shard {task.shard} of log {task.log!r}: import it under a new id"
        )
    there = await records_of(log, task)
    positions: dict[int, int] = {}
    last = 0
    for number, recorded in enumerate(bundle.records):
        if number < len(there):
            if there[number].header.record_id != recorded.header.record_id:
                raise NotImportable(f"there is another task {task.task_id} here: import it under a new id")
            last = there[number].position
        else:
            last = await _put(log, task, moved(recorded, positions), last)
        positions[recorded.position] = last
    return task


async def _put(log: Log, task: TaskRef, record: Record, expected: int) -> int:
    header = msgspec.structs.replace(record.header, incarnation=log.incarnation(task))
    try:
        return await append(log, task, Draft(header, record.payload, past=True), expected, trace=record.trace)
    except Conflict:
        raise NotImportable(f"somebody else writes to task {task.task_id}") from None
    except RecordTooLarge as error:
        raise NotImportable(f"{error}: raise the log's content_bytes") from None


async def fork(log: Log, task: TaskRef, revision: int, writer: Writer) -> TaskRef:
    """A new task that goes on from the state of another at a revision; the other one is not touched.

    Its owner, context and agent are the other's. Within a turn, an agent that resumes goes on from the state of that
    revision; any other begins the turn anew, with the steps that it had taken by then. Webhooks, idempotency keys and
    a cancel of the other task are not carried over. Costs what reading the task costs, and one append.

    Args:
        log: of both.
        task: to start from.
        revision: of its last event that counts.
        writer: who forks.

    Raises:
        NotForkable: the task had ended by then or was none, there is no such revision, or its state does not fit into
            one record.
        Unavailable: nothing was written.
        Uncertain: the new task may be there.
        Unreadable: a record is damaged.
    """
    records = await records_of(log, task)
    newest = records[-1].header.last_revision if records else 0
    if not 1 <= revision <= newest:
        raise NotForkable(f"task {task.task_id} has revisions 1 to {newest}: {revision} is none of them")
    new = _beside(log, task)
    try:
        events = _beginning(records, revision, task, new)
        now = int(time.time() * 1000)
        made = drafted(log, writer, new, Head(), [entry(event, now) for event in events])
        await append(log, new, made, 0)
    except RecordTooLarge as error:
        raise NotForkable(
            f"the state of task {task.task_id} at {revision} is too large for one record: {error}"
        ) from None
    return new


def _beside(log: Log, task: TaskRef) -> TaskRef:
    shard = task.shard % log.shards
    new_id = ids.task_id(log.name, shard, os.urandom(ids.RANDOM_BYTES))
    return msgspec.structs.replace(task, log=log.name, shard=shard, task_id=new_id)


def _beginning(records: list[Record], revision: int, task: TaskRef, new: TaskRef) -> list[Event]:
    """The events that a fork begins with."""
    fold = fold_at(records, revision)
    head = fold.head
    if head.terminal:
        raise NotForkable(f"task {task.task_id} had ended by revision {revision}: fork it at an earlier one")
    base = fold
    if head.turn_revision and _policy(records, revision) != RESUME:
        base = fold_at(records, head.turn_revision - 1)
    events = {number: (record, event) for record, number, event in _events(up_to(records, revision))}
    submitted = events[1][1]
    assert isinstance(submitted, Submitted), "a timeline begins with its submission"
    origin = Raw(encode(Origin(task.task_id, revision)))
    beginning: list[Event] = [msgspec.structs.replace(_readdressed(submitted, task, new), origin=origin)]
    pending: list[int] = []
    for waiting in head.pending:
        record, said = events[waiting.revision]
        if waiting.revision > base.head.revision:
            base.content.apply(part(record, waiting.revision, waiting.revision))
        if isinstance(said, MessageReceived):
            beginning.append(_readdressed(said, task, new))
        pending.append(len(beginning) if isinstance(said, MessageReceived) else 1)
    for done in head.steps:
        step = events[done.revision][1]
        assert isinstance(step, Step | Timer), "the fold names steps and timers by their revisions"
        beginning.append(msgspec.structs.replace(step, epoch=0))
    state = render_task(base, task.task_id, {}).replace(task.task_id.encode(), new.task_id.encode())
    forked = Forked(
        state=Raw(state),
        pending=tuple(pending),
        status_in_history=base.content.status_in_history,
        public=base.head.public,
    )
    beginning.append(forked)
    if len(beginning) > limits.RECORD_EVENTS:
        raise NotForkable(f"task {task.task_id} has {len(beginning)} messages and steps, more than fit into one record")
    return beginning


def _events(records: Iterable[Record]) -> Iterator[tuple[Record, int, Event]]:
    for record in records:
        for revision, event in enumerate(record.events(), record.header.revision):
            yield record, revision, event


def _policy(records: list[Record], revision: int) -> str:
    """Crash policy of the newest claim."""
    claims = [event for _, _, event in _events(up_to(records, revision)) if isinstance(event, TurnClaimed)]
    return claims[-1].policy if claims else ""


Asked = TypeVar("Asked", Submitted, MessageReceived)


def _readdressed(event: Asked, task: TaskRef, new: TaskRef) -> Asked:
    """What a client said to a task, as said to another; a retry of the client's send still finds the first."""
    message = bytes(event.message).replace(task.task_id.encode(), new.task_id.encode())
    return msgspec.structs.replace(event, message=Raw(message), idempotency_key="", body_hash="")
