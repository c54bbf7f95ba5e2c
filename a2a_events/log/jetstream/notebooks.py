"""What agents keep for contexts: notes under one subject a notebook, each in pieces that a message can hold.

A note that replaces the others says so, and readers begin with the newest one that does: what stands before it is
removed when it is stored, and does no harm if that fails. The pieces of a note stand next to each other, since each is
written on the condition that the one before is the newest; pieces without an end are of a writer that was interrupted.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Protocol

from a2a_events import limits
from a2a_events.errors import Conflict, Unavailable
from a2a_events.log.jetstream import reads
from a2a_events.log.jetstream.connection import Connection
from a2a_events.log.jetstream.names import NOTE, Names
from a2a_events.log.jetstream.reads import Message
from a2a_events.log.jetstream.wire import header_value
from a2a_events.log.port import Notes
from a2a_events.timeline.ids import ContextRef

_ANEW = "anew"


class Put(Protocol):
    """Stores a message if the newest of its subject stands at a position."""

    async def __call__(self, subject: str, content: bytes, expected: int, headers: dict[str, str], /) -> int:
        """See ``JetStreamLog._put``."""
        ...


class Notebooks:
    """The notes of one log's agents.

    Args:
        connection: to the servers.
        names: of everything shared with them.
        put: stores a message on a condition.
        purge: removes the messages of a subject in front of a position.
    """

    def __init__(
        self, connection: Connection, names: Names, put: Put, purge: Callable[[str, str, int], Awaitable[None]]
    ) -> None:
        self._connection = connection
        self._names = names
        self._put = put
        self._purge = purge

    async def read(self, context: ContextRef, name: str) -> Notes:
        """See ``port.Log.notes``."""
        stream, subject = self._names.notes_stream(context.log), self._names.notes(context, name)
        newest = await reads.from_leader(self._connection, stream, {"last_by_subj": subject})
        if newest is None:
            return Notes()
        alone = header_value(newest.headers, NOTE.encode()).split()
        if alone[1:] == ["0", "0", _ANEW]:
            return Notes((newest.payload,), newest.position)
        found: list[Message] = []
        async for run in reads.batches(self._connection, stream, subject, 1, newest.position):
            found += run
        return Notes(tuple(_whole(found)), newest.position)

    async def write(self, context: ContextRef, name: str, content: bytes, position: int, *, anew: bool) -> int:
        """See ``port.Log.note``."""
        subject = self._names.notes(context, name)
        size = min(limits.RECORD_BYTES, self._connection.max_payload - limits.HEADER_BYTES)
        pieces = [content[at : at + size] for at in range(0, len(content), size)] or [b""]
        note_id, first = os.urandom(9).hex(), 0
        for number, piece in enumerate(pieces):
            said = f"{note_id} {number} {len(pieces) - 1 - number}" + (f" {_ANEW}" if anew else "")
            position = await self._put(subject, piece, position, {NOTE: said})
            first = first or position
        if anew:
            with suppress(Conflict, Unavailable):
                await self._purge(self._names.notes_stream(context.log), subject, first)
        return position


def _whole(found: Iterable[Message]) -> list[bytes]:
    """The notes that messages are the pieces of, from the newest on that replaced all others."""
    notes: list[bytes] = []
    pieces: list[bytes] = []
    open_note = ""
    for message in found:
        note_id, number, left, *anew = header_value(message.headers, NOTE.encode()).split()
        if number == "0":
            open_note, pieces = note_id, []
        if note_id != open_note:
            continue  # its first piece was removed with what was replaced
        pieces.append(message.payload)
        if left == "0":
            if anew:
                notes.clear()
            notes.append(b"".join(pieces))
    return notes
