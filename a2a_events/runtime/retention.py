"""Retention: tasks that have ended are removed after a while, and a tombstone stays (ADR 0026).

A task is removed in two steps. First a tombstone is appended, on the condition that the task is still as it was when it
was judged; from that moment on no client sees the task. Then, after a grace time for those who were reading it, what
came before the tombstone goes, the records last. Interrupted anywhere, the next pass finds the records and goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import structlog
from msgspec import Struct

from a2a_events import audit, limits
from a2a_events.errors import Conflict, Unavailable, Unreadable
from a2a_events.log.append import append
from a2a_events.log.port import End, Removing, Stored
from a2a_events.runtime.commit import drafted
from a2a_events.runtime.load import advance, load
from a2a_events.runtime.sweeper import settles
from a2a_events.timeline.events import Tombstone
from a2a_events.timeline.fold import Phase
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Writer, entry

logger = structlog.get_logger(__name__)


class Removed(Struct, frozen=True):
    """What one pass did."""

    tasks: int = 0
    """That were removed, those included that another pass had begun to remove."""
    tombstones: int = 0
    """That were removed: from now on nothing is known of their tasks."""
    unreadable: int = 0
    """Times that something of a task was left, because this version cannot read it."""

    def and_then(self, later: Removed) -> Removed:
        """Both together."""
        return Removed(self.tasks + later.tasks, self.tombstones + later.tombstones, self.unreadable + later.unreadable)


class _Batch(Struct, frozen=True):
    """What is judged and removed together."""

    ended: dict[TaskRef, None]
    """Tasks that have a record after which they may have ended, in order."""
    tombstones: dict[TaskRef, int]
    """Old ones, and their positions."""


class Retention:
    """Removes tasks.

    Args:
        log: whose.
        writer: this process.
        older_than_seconds: age of a task's newest record, by the log's own clock.
        tombstones_older_than_seconds: age of tombstones that go as well. Until then a retry of the request that made a
            task, under its idempotency key, finds that the task was there; after that it makes a new one.
        wanted: which tasks; default: all.
        reason: for the tombstones.
        grace_seconds: between the tombstone and the end of the records; default: ``limits.REMOVAL_GRACE_SECONDS``.
    """

    def __init__(
        self,
        log: Removing,
        writer: Writer,
        *,
        older_than_seconds: float,
        tombstones_older_than_seconds: float | None = None,
        wanted: Callable[[TaskRef], bool] = lambda _task: True,
        reason: str = "retention",
        grace_seconds: float | None = None,
    ) -> None:
        self._log = log
        self._writer = writer
        self._older_than = int(older_than_seconds * 1000)
        later = tombstones_older_than_seconds
        self._tombstones_older_than = None if later is None else int(later * 1000)
        self._wanted = wanted
        self._reason = reason
        self._grace_seconds = limits.REMOVAL_GRACE_SECONDS if grace_seconds is None else grace_seconds

    async def run(self) -> Removed:
        """One pass. Reads all records that are old enough, and takes as long as the server is busy with it again.

        Raises:
            LogError: no answer, or a log that is full: what was buried before is removed, and the next pass goes on.
        """
        done = Removed()
        for shard, end in (await self._log.ends()).items():
            async for batch in self._old(shard, end):
                done = done.and_then(await self._remove(batch, end.time))
        return done

    async def _old(self, shard: int, end: End) -> AsyncIterator[_Batch]:
        """Tasks that may have ended long ago, and tombstones that are old."""
        batch = _Batch({}, {})
        async for run in self._log.scan(shard, 1, end.position):
            for stored in run:
                if end.time - stored.time < self._older_than:
                    yield batch
                    return  # whatever follows is younger still
                if self._wanted(stored.task):
                    self._note(stored, end.time, batch)
            if len(batch.ended) + len(batch.tombstones) >= limits.REMOVAL_BATCH_TASKS:
                yield batch
                batch = _Batch({}, {})
        yield batch

    def _note(self, stored: Stored, now: int, batch: _Batch) -> None:
        record = stored.record
        if not record.header.tombstone:
            if settles(record):
                batch.ended[stored.task] = None
        elif self._tombstones_older_than is not None and now - stored.time >= self._tombstones_older_than:
            batch.tombstones[stored.task] = record.position

    async def _remove(self, batch: _Batch, now: int) -> Removed:
        gone: dict[TaskRef, int] = {}
        unreadable = 0
        refused: Unavailable | None = None
        for task in batch.ended:
            if task in batch.tombstones:
                continue
            try:
                position = await self._bury(task, now)
            except Unreadable as error:
                unreadable += 1
                logger.error("unreadable task is not removed", task_id=task.task_id, error=str(error))
                continue
            except Unavailable as error:
                refused = error  # as by a log that is full: what is buried already makes room
                break
            if position:
                gone[task] = position
        if gone:
            await asyncio.sleep(self._grace_seconds)
        for task, before in [*gone.items(), *((task, at + 1) for task, at in batch.tombstones.items())]:
            begun = time.monotonic()
            try:
                await self._log.remove(task, before)
            except Unreadable as error:
                unreadable += 1
                (gone if task in gone else batch.tombstones).pop(task)
                logger.error("unreadable task is not wholly removed", task_id=task.task_id, error=str(error))
            else:
                what = "task" if task in gone else "tombstone"
                by = self._writer.instance
                audit.deleted(what, task_id=task.task_id, agent=task.agent, reason=self._reason, by=by)
            await asyncio.sleep(time.monotonic() - begun)  # whoever serves clients needs the broker too
        if gone:
            # Who was slower than the grace time may have stored its snapshot only now: it would be believed for ever.
            await asyncio.sleep(self._grace_seconds)
            for task in gone:
                await self._log.remove_snapshots(task)
        if refused is not None:
            raise refused
        return Removed(len(gone), len(batch.tombstones), unreadable)

    async def _bury(self, task: TaskRef, now: int) -> int:
        """Position of the task's tombstone, which is made if there is none; 0: the task is not to be removed."""
        newest = await self._log.stored(task)
        if newest is None:
            return 0
        if newest.record.header.tombstone:
            return newest.record.position
        if now - newest.time < self._older_than:
            return 0
        fold = await load(self._log, task)
        await advance(self._log, task, fold)  # a terminal snapshot may lack what came after the end
        if fold.head.phase is not Phase.TERMINAL or fold.head.position != newest.record.position:
            return 0
        made_under = fold.head.created_under
        event = Tombstone(
            reason=self._reason,
            idempotency_key=made_under.key if made_under else "",
            body_hash=made_under.body if made_under else "",
        )
        made = drafted(self._log, self._writer, task, fold.head, [entry(event, int(time.time() * 1000))])
        # Before, so that nobody is shown the task by its snapshot after the tombstone, even if this is interrupted.
        await self._log.remove_snapshots(task)
        try:
            return await append(self._log, task, made, fold.head.position)
        except Conflict:
            return 0  # somebody is at it after all: the next pass judges anew
