"""``TaskEventStream`` of a2a-sdk on the log: subscribing is following a timeline, and saving has published."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from a2a.server.cluster import TaskEventStream, TaskVersion, VersionedEvent
from a2a.types.a2a_pb2 import Message

from a2a_events import limits
from a2a_events.adapters.a2a_cluster import changes
from a2a_events.adapters.a2a_cluster.fold import published
from a2a_events.adapters.a2a_cluster.journal import Journal, position_of
from a2a_events.errors import Unavailable
from a2a_events.log.port import Log
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Record


class LogTaskEventStream(TaskEventStream):
    """What is saved at one replica, at all of them. Made by :class:`~a2a_events.adapters.a2a_cluster.Cluster`.

    Args:
        journal: of the agent.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def publish(self, task_id: str, event: VersionedEvent) -> None:
        """Store a message that an agent answered with, which no store is given; all else was stored when it was saved.

        Raises:
            Unavailable: nothing was written.
            Uncertain: it may be stored.
        """
        if not isinstance(event.event, Message):
            return
        ref = await self._journal.ref(task_id)
        while True:
            fold = await self._journal.current(ref)
            if fold.head.removed or fold.head.replied:
                return
            if await self._journal.append(fold, changes.replied(fold.task, event.event, self._journal.now(fold))):
                return

    async def subscribe(self, task_id: str, *, after: TaskVersion) -> AsyncGenerator[VersionedEvent]:
        """Every event after a version, once and in order, as it is stored, at whichever replica.

        Ends when the task is deleted; otherwise whoever listens knows when it has heard enough. Costs the broker one
        subscription a task and process, and what reading from the version on costs.

        Raises:
            TypeError: the version is not one of this store.
            Unreadable: a record is damaged.
        """
        position = position_of(after)
        ref = await self._journal.ref(task_id)
        log = await self._journal.log()
        async with log.watch(ref) as watch:
            # Turns 8.2: interest first, then what is stored, then what comes.
            seen = revision = 0
            async for record in _stored(log, ref, position):
                if record.header.tombstone:
                    return
                seen, revision = record.position, record.header.last_revision
                if seen > position:
                    for event in published(record):
                        yield VersionedEvent(event, TaskVersion(seen))
            async with aclosing(watch.after(seen, revision)) as runs:
                async for run in runs:
                    for record in run:
                        if record.header.tombstone:
                            return
                        if record.position > position:
                            for event in published(record):
                                yield VersionedEvent(event, TaskVersion(record.position))

    async def destroy(self, task_id: str) -> None:
        """Forget what is kept in memory of the task. Its timeline stays, as long as retention lets it."""
        self._journal.forget(await self._journal.ref(task_id))


async def _stored(log: Log, ref: TaskRef, position: int) -> AsyncIterator[Record]:
    """What the leader has of the task from a position on, itself included; asked for until there is an answer."""
    start = max(position, 1)
    while True:
        try:
            async for records in log.read(ref, start):
                for record in records:
                    yield record
                    start = record.position + 1
        except Unavailable:
            await asyncio.sleep(limits.VERIFY_AFTER_SECONDS[-1])
            continue
        return
