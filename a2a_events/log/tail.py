"""The reader's side of the turn protocol (turns 8), shared by every adapter.

A :class:`Watched` task has one source of live records per process and any number of :class:`Tail` objects. Live
records are hints that arrive early: a tail shows one only if it follows what it has shown, and reads the log for
everything else. The guarantee rests on asking the leader: soon after the first interest, after every reconnect, and
whenever the task has been silent: first for ``limits.SILENCE_SECONDS``, because the record that is missing may be the
task's last, and from then on for ``limits.KEEP_ALIVE_SECONDS``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

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

    __slots__ = (
        *("_behind", "_buffer", "_bytes", "_confirmed", "_source", "_waiter", "_waiting_since"),
        *("position", "revision", "task"),
    )

    def __init__(self, task: TaskRef, source: Source) -> None:
        self.task = task
        self._source = source
        self._buffer: list[Record] = []
        self._bytes = 0
        self._behind = False
        self._confirmed = False
        """Whether the leader has said, since the last record, that nothing came after it."""
        self._waiter: asyncio.Future[None] | None = None
        self._waiting_since = 0.0
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

    def tick(self, now: float) -> None:
        """Wake a reader that has waited for long enough."""
        patience_seconds = limits.KEEP_ALIVE_SECONDS
        if not self._confirmed:
            patience_seconds = min(patience_seconds, limits.SILENCE_SECONDS)
        if self._waiter is not None and now - self._waiting_since >= patience_seconds:
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def run(self, position: int, revision: int, *, start_behind: bool) -> AsyncGenerator[list[Record]]:
        """As ``port.Watch.after``."""
        self.position, self.revision = position, revision
        self._behind = self._behind or start_behind
        loop = asyncio.get_running_loop()
        while True:
            if self._buffer:
                run = self._take()
                if run:
                    self._confirmed = False
                    yield run
                continue
            if self._behind:
                self._behind = False
                self._confirmed = False
                async for records in self._catch_up():
                    yield records
                continue
            self._waiter = loop.create_future()
            self._waiting_since = loop.time()
            try:
                await self._waiter
            finally:
                self._waiter = None
            if not self._buffer and not self._behind:
                async for records in self._verify():
                    yield records

    def _take(self) -> list[Record]:
        shown: list[Record] = []
        buffered, self._buffer, self._bytes = self._buffer, [], 0
        for record in buffered:
            if record.header.last_revision <= self.revision:
                continue
            if record.header.revision > self.revision + 1:
                self.fall_behind()
                break
            self.revision, self.position = record.header.last_revision, record.position
            shown.append(record)
        return shown

    async def _catch_up(self) -> AsyncIterator[list[Record]]:
        """Everything that the leader has after what was shown; live records wait in the buffer meanwhile."""
        while True:
            try:
                async for records in self._source.read(self.task, max(self.position, 1)):
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
            missed = await self._source.first_after(self.task, self.position)
            self._confirmed = missed is None
        except Unavailable:
            missed = None
        if missed is None:
            yield []
        elif not self._buffer:
            self._behind = True


class Watched:
    """One task that somebody in this process watches: its tails, and the checks that its live records need."""

    __slots__ = ("_checks", "_due", "_newest", "_own", "_source", "proven", "subscription", "tails", "task")

    def __init__(self, task: TaskRef, source: Source) -> None:
        self.task = task
        self.tails: list[Tail] = []
        self.subscription: Any = None
        """The adapter's own."""
        self.proven = False
        self._own = 0
        self._newest = 0
        self._source = source
        self._checks = iter(limits.VERIFY_AFTER_SECONDS)
        self._due: asyncio.TimerHandle | None = None

    def offer(self, record: Record) -> None:
        """A live record arrived."""
        self._newest = max(self._newest, record.position)
        if record.position == self._own:
            self._prove()
        for tail in self.tails:
            tail.offer(record)

    def announced(self, position: int) -> None:
        """A live record arrived that is to be read from the log: tails do that before they go on."""
        self._newest = max(self._newest, position)
        if position == self._own:
            self._prove()
        self.missed()

    def appended(self, position: int) -> None:
        """This process has stored a record: its live copy will prove that interest has spread."""
        self._own = position
        if self._newest >= position:
            self._prove()

    def _prove(self) -> None:
        """Live copies arrive: no need to ask the leader before the next keep-alive."""
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
        """A live record may be missing: every tail reads the log before it goes on."""
        for tail in self.tails:
            tail.fall_behind()

    def _check(self) -> None:
        self._due = None
        self.missed()
        self.start()


class Silence:
    """Notices silent tails, all of a process with one task: a timer for each would cost more than the rest of a tail.

    Args:
        watched: the tasks that are watched now; looked at while there are any.
    """

    def __init__(self, watched: Mapping[TaskRef, Watched]) -> None:
        self._watched = watched
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Somebody watches."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look())

    def stop(self) -> None:
        """Nobody will watch any more."""
        if self._looking is not None:
            self._looking.cancel()

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while self._watched:
            await asyncio.sleep(min(1.0, limits.KEEP_ALIVE_SECONDS / 4))
            now = loop.time()
            for watched in list(self._watched.values()):
                for tail in watched.tails:
                    tail.tick(now)


class TailWatch:
    """See ``port.Watch``: one reader's interest, for adapters that share a :class:`Watched` among readers.

    Args:
        tail: of this reader.
        enter: registers the tail; returns what ``leave`` takes.
        leave: gives the interest up.
        start_behind: whether the log is read before anything is waited for.
    """

    __slots__ = ("_enter", "_entered", "_leave", "_start_behind", "_tail")

    def __init__(
        self,
        tail: Tail,
        enter: Callable[[Tail], Awaitable[None]],
        leave: Callable[[Tail], Awaitable[None]],
        *,
        start_behind: bool = False,
    ) -> None:
        self._tail = tail
        self._enter = enter
        self._leave = leave
        self._start_behind = start_behind
        self._entered = False

    async def __aenter__(self) -> Self:
        """See ``port.Watch``."""
        await self._enter(self._tail)
        self._entered = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See ``port.Watch``."""
        await self.close()

    async def close(self) -> None:
        """See ``port.Watch``."""
        if self._entered:
            self._entered = False
            await self._leave(self._tail)

    def after(self, position: int, revision: int) -> AsyncGenerator[list[Record]]:
        """See ``port.Watch``."""
        return self._tail.run(position, revision, start_behind=self._start_behind)
