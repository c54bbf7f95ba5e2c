"""Reading a task: its snapshot, and the log for what came after (design 6)."""

from __future__ import annotations

import time

from a2a_events import limits
from a2a_events.errors import TaskNotFoundError, Unreadable
from a2a_events.log.port import Log
from a2a_events.metrics.catalog import FOLD_SECONDS, UNKNOWN_EVENTS
from a2a_events.timeline.fold import TaskFold
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Record
from a2a_events.timeline.snapshot import restore, take


async def load(log: Log, task: TaskRef) -> TaskFold:
    """The task as the leader has it now; an empty fold if it has no record.

    A terminal snapshot is the task for ever, so it costs one round trip; otherwise a second for the newest record, and
    more only for what the snapshot lacks. Writes a snapshot when it had to fold much.

    Raises:
        Unavailable: no answer; repeating is safe.
        Unreadable: a record is damaged or newer than this version.
    """
    begun = time.monotonic()
    fold = await _load(log, task)
    FOLD_SECONDS.observe(time.monotonic() - begun)
    return fold


async def load_for(log: Log, task: TaskRef, subject: str) -> TaskFold:
    """As :func:`load`, for somebody: the task if it is theirs.

    Whether it belongs to somebody else or is not there makes no difference, to the answer or to what is read for it: a
    look for a snapshot and one for the first record, and nothing more. That a look finds something takes longer: a
    snapshot is fetched and decoded before it says whose task it is. To ask the first record before would cost owners a
    round trip.

    Raises:
        TaskNotFoundError: it is not theirs, or clients do not see it yet.
        Unavailable, Unreadable: as :func:`load`.
    """
    begun = time.monotonic()
    fold = await _snapshot(log, task)
    if not _is_of(fold, subject):
        first = await _first(log, task)
        fold = TaskFold.empty()
        if first is None or first.header.tombstone:
            raise TaskNotFoundError
        fold.apply(first)
        if not _is_of(fold, subject):
            refused = TaskNotFoundError()
            refused.of_somebody_else = True
            raise refused
    fold = await _rest(log, task, fold)
    FOLD_SECONDS.observe(time.monotonic() - begun)
    if not fold.head.exists or not _is_of(fold, subject):
        raise TaskNotFoundError
    return fold


async def _first(log: Log, task: TaskRef) -> Record | None:
    """The task's first record; its tombstone where that record is half removed."""
    try:
        return await log.first_after(task, 0)
    except Unreadable:
        last = await log.last(task)
        if last is None or not last.header.tombstone:
            raise
        return last


def _is_of(fold: TaskFold, subject: str) -> bool:
    return fold.head.owner is not None and fold.head.owner.subject == subject


async def _load(log: Log, task: TaskRef) -> TaskFold:
    return await _rest(log, task, await _snapshot(log, task))


async def _snapshot(log: Log, task: TaskRef) -> TaskFold:
    """What the newest snapshot says; an empty fold without one of this log's incarnation."""
    stored = await log.snapshot(task)
    fold = restore(stored) if stored else None
    return fold if fold is not None and fold.head.incarnation == log.incarnation(task) else TaskFold.empty()


async def _rest(log: Log, task: TaskRef, fold: TaskFold) -> TaskFold:
    """What came after; nothing that matters comes after the end."""
    if fold.head.terminal:
        return fold
    before = fold.head.revision
    await advance(log, task, fold)
    if fold.head.revision - before >= limits.SNAPSHOT_EVENTS:
        await log.save(task, take(fold))
    return fold


async def advance(log: Log, task: TaskRef, fold: TaskFold) -> bool:
    """Bring a fold up to what the leader has now; whether anything was new. Errors as :func:`load`."""
    moved = False
    unknown = fold.head.unknown
    async for records in log.read(task, fold.head.position + 1):
        for record in records:
            moved = fold.apply(record) or moved
    if fold.head.unknown > unknown:
        UNKNOWN_EVENTS.inc(by=fold.head.unknown - unknown)
    return moved


def worth_a_snapshot(fold: TaskFold, first_position: int) -> bool:
    """Whether reading the task from the log costs more than its snapshot: many events, or far apart (ADR 0005)."""
    span = fold.head.position - first_position
    return fold.head.revision > limits.SNAPSHOT_FROM_EVENTS or span > limits.SNAPSHOT_FROM_SPAN


async def content(log: Log, task: TaskRef, fold: TaskFold, keys: list[str]) -> tuple[TaskFold, dict[str, bytes]]:
    """The segments that rendering needs; if one is missing, the same fold made anew from the log, which needs none."""
    if not keys:
        return fold, {}
    segments = await log.segments(task, keys)
    if len(segments) == len(keys):
        return fold, segments
    # As far as the fold went and no further: readers go on from its position, and must not be shown twice what follows.
    whole = TaskFold.empty()
    async for records in log.read(task):
        for record in records:
            if record.position <= fold.head.position:
                whole.apply(record)
    return whole, {}
