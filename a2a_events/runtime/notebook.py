"""What an agent keeps for a context: notes, in order, that survive tasks, workers and restarts.

For what a framework calls its memory, its thread or its checkpoints. Notes are no part of a task's log: clients never
see them, and bundles do not hold them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from a2a_events import limits
from a2a_events.errors import Conflict, Unavailable, Uncertain
from a2a_events.log.port import Notes


class Shelf(Protocol):
    """Where notes are (``turn.Reports``)."""

    async def notes(self, name: str) -> Notes:
        """See ``turn.Reports``."""
        ...

    async def note(self, name: str, content: bytes, position: int, *, anew: bool) -> int:
        """See ``turn.Reports``."""
        ...


class Notebook:
    """The notes of one context under one name, as one turn has them (``Turn.notebook``).

    Args:
        name: of the notes.
        shelf: where they are.
        check: raises once the turn has ended.

    Attributes:
        notes: as last read or written, oldest first.
    """

    def __init__(self, name: str, shelf: Shelf, check: Callable[[], None]) -> None:
        self._name = name
        self._shelf = shelf
        self._check = check
        self._position = 0
        self.notes: list[bytes] = []

    async def read(self) -> None:
        """Look anew: other tasks of the context may have written. One round trip or two.

        Raises:
            LogError: the log does not answer.
        """
        found = await self._shelf.notes(self._name)
        self.notes, self._position = [note for note in found.contents if note], found.position

    async def add(self, note: bytes) -> bool:
        """Add a note; durable when this returns. One round trip.

        Returns:
            Whether others have written since :attr:`notes` was read: what they wrote stands there before this note.

        Raises:
            OutputTooLarge: no record could hold it.
            TurnOver: the turn has ended.
            Fenced, LogError: the turn is somebody else's, or the log does not answer: let it pass.
        """
        others = False
        while not await self._write(note, anew=False):
            if self.notes and self.notes[-1] == note:
                break  # it was ours, and its answer was lost
            others = True
        return others

    async def replace(self, note: bytes) -> bool:
        """Put one note in the place of all; durable when this returns. Two round trips.

        Returns:
            Whether it is done. Otherwise others have written since :attr:`notes` was read, and it was read anew.

        Raises:
            OutputTooLarge, TurnOver, Fenced, LogError: as :meth:`add`.
        """
        return await self._write(note, anew=True) or self.notes == [note]

    async def _write(self, note: bytes, *, anew: bool) -> bool:
        while True:
            self._check()
            try:
                self._position = await self._shelf.note(self._name, note, self._position, anew=anew)
            except Unavailable:
                await asyncio.sleep(limits.LOG_PAUSE_SECONDS)
            except (Conflict, Uncertain):
                await self.read()
                return False
            else:
                kept = [] if anew else self.notes
                self.notes = [*kept, note] if note else kept
                return True
