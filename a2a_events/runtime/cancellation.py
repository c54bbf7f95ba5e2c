"""An operator's cancel: the one that clients have, for who needs no client's credentials."""

from __future__ import annotations

import time

from a2a_events.log.port import Log
from a2a_events.runtime.commit import commit
from a2a_events.runtime.load import load
from a2a_events.timeline import decide
from a2a_events.timeline.events import NOTHING, Actor
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Writer

OPERATOR = Actor(subject="operator", role="operator")


async def cancel(log: Log, writer: Writer, task: TaskRef) -> bool:
    """Ask for the end of a task, whoever owns it. Safe to repeat.

    Returns:
        Whether it has ended: a task that nobody works on ends at once, another when its worker has heard of it.

    Raises:
        TaskNotFoundError: there is none, or it was removed.
        TaskNotCancelableError: it has ended before.
        LogError: as ``append.append``.
    """
    fold = await load(log, task)
    await commit(
        log,
        writer,
        task,
        fold,
        lambda: decide.cancel(fold.head, task.task_id, OPERATOR, NOTHING, int(time.time() * 1000)),
    )
    return fold.head.terminal
