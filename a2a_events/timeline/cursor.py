"""Where a reader stands: position and revision, as opaque text that survives restarts, gateways and regions.

``1.<log>.<shard>.<incarnation>.<check>.<position>.<revision>``. The incarnation tells a recreated log from the one the
cursor was taken in; the check binds the cursor to its task and tenant. A reader resumes *at* the position, inclusive,
and skips inside that record by revision (turns 8.6).
"""

from __future__ import annotations

import hashlib

from msgspec import Struct

from a2a_events.errors import InvalidParamsError
from a2a_events.timeline.ids import TaskRef

_VERSION = "1"
_FIELDS = 7
_LARGEST = 2**63


class Cursor(Struct, frozen=True):
    """A place in one task's timeline: everything up to ``revision`` has been seen."""

    incarnation: str
    position: int
    revision: int


def prefix(task: TaskRef, incarnation: str) -> str:
    """What all cursors of one task and one incarnation begin with; position and revision follow, joined by a dot."""
    return f"{_VERSION}.{task.log}.{task.shard}.{incarnation}.{_check(task)}."


def text(task: TaskRef, cursor: Cursor) -> str:
    """The cursor as a client keeps it; ASCII, no spaces."""
    return f"{prefix(task, cursor.incarnation)}{cursor.position}.{cursor.revision}"


def parse(raw: str, task: TaskRef) -> Cursor:
    """Read a cursor that a client sent back.

    Raises:
        InvalidParamsError: not a cursor, of another version, or of another task or tenant.
    """
    fields = raw.split(".")
    if len(fields) == _FIELDS and fields[0] == _VERSION:
        _, log, shard, incarnation, check, position, revision = fields
        numbers = [int(n) for n in (position, revision) if n.isascii() and n.isdecimal() and len(n) < 20]  # noqa: PLR2004 -- digits of 2**64
        if (log, shard, check) == (task.log, str(task.shard), _check(task)) and len(numbers) == 2:  # noqa: PLR2004 -- both
            at, seen = numbers
            if at < _LARGEST and seen < _LARGEST:
                return Cursor(incarnation, at, seen)
    message = "This cursor was not issued for this task"
    raise InvalidParamsError(message, violations=(("Last-Event-ID", message),))


def _check(task: TaskRef) -> str:
    return hashlib.blake2s(f"{task.task_id}/{task.agent}/{task.tenant}".encode(), digest_size=6).hexdigest()
