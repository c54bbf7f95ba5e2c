"""The notes of a context, and the thread in them, without a turn."""

from __future__ import annotations

from a2a_events.adapters.langgraph.run import NOTEBOOK
from a2a_events.adapters.langgraph.thread import Thread
from a2a_events.log.port import Log, Notes
from a2a_events.runtime.notebook import Notebook
from a2a_events.timeline.ids import ContextRef


class Shelf:
    """See ``runtime.notebook.Shelf``."""

    def __init__(self, log: Log, context: ContextRef) -> None:
        self.log = log
        self.context = context

    async def notes(self, name: str) -> Notes:
        return await self.log.notes(self.context, name)

    async def note(self, name: str, content: bytes, position: int, *, anew: bool) -> int:
        return await self.log.note(self.context, name, content, position, anew=anew)

    async def book(self) -> Notebook:
        book = Notebook(NOTEBOOK, self, lambda: None)
        await book.read()
        return book

    async def thread(self) -> Thread:
        return await Thread.open(await self.book())
