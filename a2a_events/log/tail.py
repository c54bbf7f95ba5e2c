"""The reader's side of the turn protocol (turns 8), shared by every adapter.

A :class:`Watched` task has one source of live records per process and any number of :class:`Tail`\\ s. Live records are
hints that arrive early: a tail shows one only if it follows what it has shown, and reads the log for everything else.
The guarantee rests on asking the leader: soon after the first interest, after every reconnect, and whenever the task has
been silent for ``limits.KEEP_ALIVE_SECONDS``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Protocol

from a2a_events import limits
from a2a_events.errors import Unavailable, Unreadable
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Record


class Source(Protocol):
    """What a tail needs of an adapter."""

    def read(self, task: TaskRef, start: int = 1) -> AsyncIterator[list[Record]]:
        """As ``port.Log.read``."""
        ...

    async def first_after(self, task: TaskRef, position: int) -> Record | None:
        """As ``port.Log.first_after``."""
        ...


class Tail:
    """One reader of one task. Bounded: when its buffer is full it forgets it and reads the log instead."""

    __slots__ = ("_behind", "_buffer", "_bytes", "_source", "_task", "_waiter", "position", "revision")

    def __init__(self, task: TaskRef, source: Source) -> None:
        self._task = task
        self._source = source
        self._buffer: deque[Record] = deque()
        self._bytes = 0
        self._behind = False
        self._waiter: asyncio.Future[None] | None = None
        self.position = 0
        self.revision = 0

    def offer(self, record: Record) -> None:
        """A record was stored (live, or found by a check). Never blocks, never fails."""
        if self._behind:
            return
        if len(self._buffer) >= limits.TAIL_BUFFER_RECORDS or self._bytes > limits.TAIL_BUFFER_BYTES:
            self.fall_behind()
            return
        self._buffer.append(record)
        self._bytes += len(record.payload)
        self._wake()

    def fall_behind(self) -> None:
        """Something may have been missed: the reader reads the log before it goes on."""
        self._buffer.clear()
        self._bytes = 0
        self._behind = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def run(self, position: int, revision: int, *, start_behind: bool) -> AsyncIterator[list[Record]]:
        """As ``port.Watch.after``."""
        self.position, self.revision = position, revision
        self._behind = self._behind or start_behind
        loop = asyncio.get_running_loop()
        while True:
            if self._buffer:
                run = self._take()
                if run:
                    yield run
                continue
            if self._behind:
                self._behind = False
                async for records in self._catch_up():
                    yield records
                continue
            self._waiter = loop.create_future()
            timer = loop.call_later(limits.KEEP_ALIVE_SECONDS, self._wake)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
            if not self._buffer and not self._behind:
                async for records in self._verify():
                    yield records

    def _take(self) -> list[Record]:
        shown: list[Record] = []
        while self._buffer:
            record = self._buffer.popleft()
            if record.header.last_revision <= self.revision:
                continue
            if record.header.revision > self.revision + 1 and not self._overlaps(record):
                self.fall_behind()
                break
            self.revision, self.position = record.header.last_revision, record.position
            shown.append(record)
        if not self._buffer:
            self._bytes = 0
        return shown

    def _overlaps(self, record: Record) -> bool:
        return record.header.revision <= self.revision + 1

    async def _catch_up(self) -> AsyncIterator[list[Record]]:
        """Everything that the leader has after what was shown; live records wait in the buffer meanwhile."""
        while True:
            try:
                async for records in self._source.read(self._task, max(self.position, 1)):
                    run = [r for r in records if r.header.last_revision > self.revision]
                    if not run:
                        continue
                    for record in run:
                        if record.header.revision > self.revision + 1:
                            message = f"revisions {self.revision + 1} to {record.header.revision - 1} are gone"
                            raise Unreadable(message)
                        self.revision, self.position = record.header.last_revision, record.position
                    yield run
            except Unavailable:
                yield []
                await asyncio.sleep(limits.VERIFY_AFTER_SECONDS[-1])
                continue
            return

    async def _verify(self) -> AsyncIterator[list[Record]]:
        try:
            missed = await self._source.first_after(self._task, self.position)
        except Unavailable:
            missed = None
        if missed is None:
            yield []
        elif not self._buffer:
            self._behind = True


class Watched:
    """One task that somebody in this process watches: its tails, and the checks that its live records need."""

    __slots__ = ("_checks", "_due", "_source", "proven", "subscription", "tails", "task", "users")

    def __init__(self, task: TaskRef, source: Source) -> None:
        self.task = task
        self.tails: list[Tail] = []
        self.users = 0
        self.subscription: Any = None
        """The adapter's own."""
        self.proven = False
        self._source = source
        self._checks = iter(limits.VERIFY_AFTER_SECONDS)
        self._due: asyncio.TimerHandle | None = None

    def offer(self, record: Record) -> None:
        """A live record arrived."""
        for tail in self.tails:
            tail.offer(record)

    def prove(self) -> None:
        """A live copy of what this process itself has just appended arrived: interest has spread, no need to ask."""
        self.proven = True
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def start(self) -> None:
        """Ask the leader soon, and again, whether a live record was missed while interest spread."""
        delay = next(self._checks, None)
        if delay is not None and not self.proven:
            self._due = asyncio.get_running_loop().call_later(delay, self._check)

    def stop(self) -> None:
        """Nobody watches any more."""
        self.proven = True
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def missed(self) -> None:
        """The connection was away: every tail reads the log before it goes on."""
        for tail in self.tails:
            tail.fall_behind()

    def _check(self) -> None:
        self._due = None
        self.missed()
        self.start()
