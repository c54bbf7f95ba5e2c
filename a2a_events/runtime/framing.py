"""What one stream shows of records: their public lines as they are, or with the members that its client asked for.

Plain A2A 1.0 needs no decoding: a line in the log is the update. The replay extension (``docs/extensions/replay.md``)
puts revision and cursor into each update's metadata, A2A 1.1 a generation beside it; both take the decoding path.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from a2a_events.model import encode
from a2a_events.timeline import cursor as cursors
from a2a_events.timeline.events import MEMBERS, Kind
from a2a_events.timeline.fold import Head, is_public
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Record, visible

REPLAY_EXTENSION: Final = "urn:a2a-events:replay:v1"
"""URI of the replay extension; a gap is marked in a Task's metadata under it too."""

_REPLY: Final = MEMBERS[Kind.REPLY]
_members: Final = msgspec.json.Decoder(dict[str, Raw])


class Update(Struct, frozen=True):
    """One frame of a stream: a StreamResponse as JSON, its revision, and the cursor that resumes after it."""

    revision: int
    cursor: str
    line: bytes


class Framing:
    """How one stream is shown.

    Args:
        task: whose it is.
        incarnation: of the log, for cursors.
        replay: whether each update carries its revision and cursor.
        generations: whether it carries its generation.
    """

    __slots__ = ("_generations", "_prefix", "_replay")

    def __init__(self, task: TaskRef, incarnation: str, *, replay: bool = False, generations: bool = False) -> None:
        self._prefix = cursors.prefix(task, incarnation)
        self._replay = replay
        self._generations = generations

    def updates(self, record: Record, after_revision: int) -> list[Update]:
        """The public events of a record after a revision."""
        if not is_public(record):
            return []
        place = f"{self._prefix}{record.position}."
        shown = [Update(revision, f"{place}{revision}", line) for revision, line in record.updates(after_revision)]
        if not self._replay and not self._generations:
            return shown
        header = record.header
        return [
            self._with_members(u, header.generation + visible(header.kinds[: u.revision - header.revision]))
            for u in shown
        ]

    def task(self, head: Head, shown: bytes, *, gap: bool = False) -> Update:
        """A Task as it is at the head; ``gap`` marks that updates before it can no longer be shown."""
        cursor = f"{self._prefix}{head.position}.{head.revision}"
        update = Update(head.revision, cursor, b'{"task":' + shown + b"}")
        if not self._replay and not self._generations and not gap:
            return update
        return self._with_members(update, head.generation, gap=gap)

    def reply(self, head: Head, message: bytes) -> Update:
        """The bare Message that was the whole answer."""
        cursor = f"{self._prefix}{head.position}.{head.revision}"
        update = Update(head.revision, cursor, b'{"message":' + message + b"}")
        return self._with_members(update, head.generation) if self._replay else update

    def _with_members(self, update: Update, generation: int, *, gap: bool = False) -> Update:
        ((kind, inner),) = _members.decode(update.line).items()
        members: dict[str, Any] = dict(_members.decode(inner))
        if self._replay or gap:
            metadata: dict[str, Any] = dict(_members.decode(members["metadata"])) if "metadata" in members else {}
            mark: dict[str, Any] = {"revision": update.revision, "cursor": update.cursor} if self._replay else {}
            if gap:
                mark["gap"] = True
            members["metadata"] = {**metadata, REPLAY_EXTENSION: mark}
        if self._generations and kind != _REPLY:
            members["generation"] = str(generation)  # an int64 is a string in ProtoJSON
        return Update(update.revision, update.cursor, encode({kind: members}))


def with_generation(task: bytes, generation: int) -> bytes:
    """A Task's JSON with the member that A2A 1.1 adds."""
    return b'%b,"generation":"%d"}' % (task[:-1], generation)
