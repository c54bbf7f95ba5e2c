"""Deciding and appending for everybody who owns no turn: gateways and notifiers (turns 3.2)."""

from __future__ import annotations

import os
from collections.abc import Callable

from a2a_events import limits
from a2a_events.errors import Conflict, UnavailableError
from a2a_events.log.append import append
from a2a_events.log.port import Log
from a2a_events.metrics.catalog import TASKS_TERMINAL
from a2a_events.model import TaskState
from a2a_events.runtime.load import advance
from a2a_events.timeline.fold import Head, TaskFold, draft_after
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Draft, Entry, Record, Writer


async def create(log: Log, writer: Writer, task: TaskRef, entries: list[Entry]) -> TaskFold | None:
    """Append the first record of a task; its fold, or None if the task has a record already.

    Raises:
        LogError: as ``append.append``.
    """
    fold = TaskFold.empty()
    return fold if await _append(log, writer, task, fold, entries) else None


async def commit(log: Log, writer: Writer, task: TaskRef, fold: TaskFold, decision: Callable[[], list[Entry]]) -> bool:
    """Append what is decided at the position it is decided on; decide again when others were faster.

    Args:
        log: where to.
        writer: this process.
        task: whose.
        fold: of the task; advanced to the record, and past those of others.
        decision: asked once for each position; no entries: there is nothing to do.

    Returns:
        Whether there was something to write; it is durable.

    Raises:
        UnavailableError: the task is too busy; nothing was written.
        A2AError: what the decision raises.
        LogError: as ``append.append``.
    """
    for _ in range(limits.DECIDE_ATTEMPTS):
        entries = decision()
        if not entries:
            return False
        if await _append(log, writer, task, fold, entries):
            return True
        await advance(log, task, fold)
    raise UnavailableError("The task is too busy; nothing was written, please retry")


async def _append(log: Log, writer: Writer, task: TaskRef, fold: TaskFold, entries: list[Entry]) -> bool:
    """Append behind the fold, and advance it; False if another record stands there."""
    try:
        await store(log, task, fold, drafted(log, writer, task, fold.head, entries))
    except Conflict:
        return False
    return True


def drafted(log: Log, writer: Writer, task: TaskRef, head: Head, entries: list[Entry]) -> Draft:
    """A record of its own that is to stand behind a head."""
    return draft_after(head, entries, record_id=os.urandom(9).hex(), writer=writer, incarnation=log.incarnation(task))


async def store(
    log: Log, task: TaskRef, fold: TaskFold, made: Draft, *, patience_seconds: float = limits.APPEND_PATIENCE_SECONDS
) -> None:
    """Append a record behind the fold that it was made of, and advance the fold; errors as ``append.append``."""
    rested = fold.head.terminal
    position = await append(log, task, made, fold.head.position, patience_seconds=patience_seconds)
    fold.apply(Record(position, made.header, made.payload, made.inbound))
    if fold.head.terminal and not rested:
        TASKS_TERMINAL.inc(state_label(fold.head.state))


def state_label(state: TaskState) -> str:
    """A state as metrics show it."""
    return state.name.lower()
