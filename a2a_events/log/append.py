"""The one way to write: every record of every writer goes through :func:`append` (design 4, turns 3).

A lost answer is resolved by the log itself: whatever stands right after the expected position says whether this record
was stored, and if nothing stands there the same record is sent again, under the same id and condition.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Final

from a2a_events import limits, tracing
from a2a_events.errors import Conflict, Unavailable, Uncertain, Unreachable
from a2a_events.log.port import Log
from a2a_events.metrics.catalog import (
    APPEND_DUPLICATES,
    APPEND_INDETERMINATE,
    APPEND_SECONDS,
    DEAD_LETTERS,
    EVENTS_APPENDED,
    TASKS_CREATED,
)
from a2a_events.metrics.kinds import OTHER
from a2a_events.timeline.events import Kind
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Draft
from a2a_events.tracing import Span

DESTINATION: Final = "log.{log}.{shard}.{agent}.{tenant}.{task}.{lane}"
"""Where records go, as spans say it: a subject without its names."""
_TYPES: Final = {kind.value: kind.name.lower() for kind in Kind}
_GIVEN_UP: Final = {Kind.TASK_DEAD_LETTERED.value: "given_up", Kind.DEAD_LETTER.value: "webhook"}


async def append(
    log: Log,
    task: TaskRef,
    draft: Draft,
    expected: int,
    *,
    trace: str = "",
    patience_seconds: float = limits.APPEND_PATIENCE_SECONDS,
) -> int:
    """Store a record right after a position; one round trip when nothing goes wrong.

    Args:
        log: where to.
        task: whose record it is.
        draft: the record; its id must be its own (turns 3.6).
        expected: position of the task's last record as the writer knows it, 0 for none.
        trace: trace context to keep beside the record (``tracing``); empty: the current one.
        patience_seconds: how long to try.

    Returns:
        The record's position, durable.

    Raises:
        Conflict: another record stands there; this one was not and never will be stored. Read, fold, decide again.
        Unavailable: nothing was written. ``Unreachable``, for a task of another region, comes without any patience.
        Uncertain: it may be stored; nothing else may be claimed (turns 3.5).
        RecordTooLarge: nothing was written and repeating cannot help.
    """
    begun = time.monotonic()
    with _span(task, draft) as span:
        position = await _append(log, task, draft, expected, trace or span.context, patience_seconds)
    APPEND_SECONDS.observe(time.monotonic() - begun)
    _count(draft)
    return position


async def _append(  # noqa: PLR0917 -- as above
    log: Log, task: TaskRef, draft: Draft, expected: int, trace: str, patience_seconds: float
) -> int:
    deadline = time.monotonic() + patience_seconds
    tried = False
    pause = 0.02
    while True:
        try:
            return await log.try_append(task, draft, expected, trace=trace)
        except Conflict:
            if not tried:
                raise
            position = await _resolve(log, task, draft, expected, deadline)
            if position is None:
                raise
            APPEND_DUPLICATES.inc()
            return position
        except Unreachable:
            if tried:
                raise Uncertain("the task's region cannot be reached; the record may be stored") from None
            raise
        except Unavailable:
            if tried:
                # An earlier try may still have landed: only the log can tell.
                position = await _resolve(log, task, draft, expected, deadline)
                if position is not None:
                    return position
            if time.monotonic() >= deadline:
                if tried:
                    raise Uncertain("the log did not answer; the record may be stored") from None
                raise
        except Uncertain:
            tried = True
            position = await _settle(log, task, draft, expected, deadline)
            if position is not None:
                return position
            if time.monotonic() >= deadline:
                raise
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 -- jitter
        pause = min(pause * 2, 1.0)


async def _settle(log: Log, task: TaskRef, draft: Draft, expected: int, deadline: float) -> int | None:
    """As :func:`_resolve`, and count what came of a lost answer."""
    try:
        position = await _resolve(log, task, draft, expected, deadline)
    except Conflict:
        APPEND_INDETERMINATE.inc("conflict")
        raise
    except Uncertain:
        APPEND_INDETERMINATE.inc("unknown")
        raise
    APPEND_INDETERMINATE.inc("absent" if position is None else "present")
    return position


def _span(task: TaskRef, draft: Draft) -> Span:
    if not tracing.recording():
        return tracing.NOTHING
    attributes: dict[str, str | int] = {
        "messaging.system": "nats",
        "messaging.operation.type": "send",
        "messaging.operation.name": "append",
        "messaging.destination.name": f"log.{task.log}.{task.shard}",
        "messaging.destination.template": DESTINATION,
        "messaging.message.id": draft.header.record_id,
        "messaging.message.body.size": len(draft.payload),
        "a2a.task.id": task.task_id,
        "a2a.record.kinds": draft.header.kinds,
    }
    return tracing.span("producer", f"send {DESTINATION}", attributes)


def _count(draft: Draft) -> None:
    """What a record that is stored says."""
    kinds = draft.header.kinds
    for code in kinds if len(kinds) == 1 else set(kinds):
        EVENTS_APPENDED.inc(_TYPES.get(code, OTHER), by=kinds.count(code))
        if code in _GIVEN_UP:
            DEAD_LETTERS.inc(_GIVEN_UP[code])
    if draft.header.revision == 1 and not draft.past:
        TASKS_CREATED.inc()


async def _resolve(log: Log, task: TaskRef, draft: Draft, expected: int, deadline: float) -> int | None:
    """Position of the record if an earlier try stored it, None if nothing stands there yet.

    Raises:
        Conflict: another record stands there.
        Uncertain: the log could not be asked before the deadline.
    """
    pause = 0.05
    while True:
        try:
            record = await log.first_after(task, expected)
        except Unreachable:
            raise Uncertain("the task's region cannot be reached; the record may be stored") from None
        except Unavailable:
            if time.monotonic() >= deadline:
                raise Uncertain("the log did not answer; the record may be stored") from None
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)
            continue
        if record is None:
            return None
        if record.header.record_id == draft.header.record_id:
            return record.position
        raise Conflict("another record stands at the expected position")
