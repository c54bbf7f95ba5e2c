"""Tasks that were given up: the letters by which operators find them, and trying them again as new tasks.

The log says which tasks were given up (``TaskDeadLettered``). A letter is that fact in a place that need not be
searched for. Whoever holds a delivery of the task puts it before acknowledging, so none is missing for good.
"""

from __future__ import annotations

import structlog

from a2a_events.errors import LogError, Unreadable
from a2a_events.log.port import Letter, Log
from a2a_events.timeline.events import TaskDeadLettered
from a2a_events.timeline.fold import Head
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Record

logger = structlog.get_logger(__name__)


async def put(log: Log, task: TaskRef, head: Head) -> None:
    """Put the letter of a task that was given up. Putting it again changes nothing.

    Args:
        log: where to.
        task: that was given up.
        head: of it.

    Raises:
        Unavailable: it is not known to be kept; do not acknowledge, and repeat.
        Unreadable: the log does not say why the task was given up.
    """
    record = await _record_of(log, task, head.dead_letter)
    at = head.dead_letter - record.header.revision
    event = record.events()[at]
    if not isinstance(event, TaskDeadLettered):
        raise Unreadable(f"revision {head.dead_letter} of task {task.task_id} does not say why it was given up")
    letter = Letter(
        task=task,
        time=record.header.times[at],
        reason=event.reason,
        attempts=event.attempts,
        revision=head.dead_letter,
        epoch=event.epoch,
        context_id=head.context_id,
        tenant=head.owner.tenant if head.owner else "",
        agent_version=head.agent_version,
    )
    await log.put_dead_letter(letter)


async def put_unreadable(log: Log, task: TaskRef, deliveries: int, reason: str, now: int) -> None:
    """Put a letter for a task that nobody could read so far. The log stays as it is, and its delivery comes back."""
    try:
        await log.put_dead_letter(Letter(task=task, time=now, reason=f"unreadable: {reason}", attempts=deliveries))
    except LogError as error:
        logger.warning("dead letter not put; with the next delivery again", task_id=task.task_id, error=str(error))


async def _record_of(log: Log, task: TaskRef, revision: int) -> Record:
    """The record that holds a revision: mostly the task's last, for nothing but webhooks changes after the end."""
    last = await log.last(task)
    if last is not None and _holds(last, revision):
        return last
    async for records in log.read(task):
        for record in records:
            if _holds(record, revision):
                return record
    raise Unreadable(f"revision {revision} of task {task.task_id} is gone")


def _holds(record: Record, revision: int) -> bool:
    return record.header.revision <= revision <= record.header.last_revision
