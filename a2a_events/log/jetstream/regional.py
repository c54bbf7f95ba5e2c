"""One log over those of all regions: the own one as it is, the others from their mirrors (ADR 0025).

A task lives in one log, which its id names. What is asked of a task goes where that log is read or written; what is
asked of the whole log is asked of the own one.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import Final

import structlog

from a2a_events import limits
from a2a_events.errors import LogError, NotProvisioned, Unreachable
from a2a_events.log.jetstream.connection import Connection
from a2a_events.log.jetstream.domain import DomainConnection
from a2a_events.log.jetstream.foreign import ForeignLog, MirrorState
from a2a_events.log.jetstream.log import JetStreamLog, ShardView
from a2a_events.log.jetstream.names import Names
from a2a_events.log.jetstream.streams import StreamSettings
from a2a_events.log.port import AgentEntry, End, Home, Letter, Stored
from a2a_events.log.tail import TailWatch
from a2a_events.timeline.ids import TaskRef, parse_task_id
from a2a_events.timeline.record import Draft, Record
from a2a_events.timeline.snapshot import Snapshot

ANY_TENANT: Final = "*"
"""Stands for every tenant that has no home of its own."""
_LOOK_SECONDS: Final = limits.REGION_LOOK_SECONDS

logger = structlog.get_logger(__name__)


class RegionalLog(JetStreamLog):
    """See ``port.Log``. Made by :func:`open_regional`.

    Args:
        connection: to the servers of this region.
        names: of everything shared with them.
        settings: of the own log.
        regions: the other logs, and the JetStream domain in which each is written.
        homes: raw names of tenants, and the log to which their new tasks go; ``*`` for all others.
        content_bytes: largest payload of one record.
    """

    def __init__(
        self,
        connection: Connection,
        names: Names,
        settings: StreamSettings,
        *,
        regions: Mapping[str, str],
        homes: Mapping[str, str],
        content_bytes: int = limits.CONTENT_BYTES,
    ) -> None:
        super().__init__(connection, names, settings, content_bytes=content_bytes)
        self._foreign = {
            log: ForeignLog(connection, names, log, domain, content_bytes=content_bytes)
            for log, domain in regions.items()
        }
        self._homes = dict(homes)
        self.logs = (self.name, *self._foreign)
        self._domains = [DomainConnection(connection, domain) for domain in sorted(set(regions.values()))]
        self._overtaken = ""
        self._guarding: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Find the streams and mirrors.

        Raises:
            NotProvisioned: some are not there, or another region has taken the own log over.
            Unavailable: no answer, or no leader yet; repeating is safe.
        """
        await super().begin()
        await asyncio.gather(*(foreign.begin() for foreign in self._foreign.values()))
        await self._look_for_successor()
        if self._overtaken:
            raise NotProvisioned(f"{self._overtaken}: nothing can be written to it here")
        self._guarding = asyncio.get_running_loop().create_task(self._guard())

    async def close(self) -> None:
        """See ``port.Log``."""
        self.stop()
        await super().close()

    def stop(self) -> None:
        """Watch the other regions no longer."""
        if self._guarding is not None:
            self._guarding.cancel()
        for foreign in self._foreign.values():
            foreign.stop()

    # --- regions ------------------------------------------------------------------------------------------------------

    @property
    def mirrors(self) -> list[MirrorState]:
        """How well each mirror follows, for metrics; no round trip. Logs that were taken over here have none."""
        return [foreign.state for foreign in self._foreign.values() if not foreign.taken_over]

    def staleness(self, log: str = "") -> float | None:
        """See ``port.Log``."""
        foreign = [self._foreign[log]] if log in self._foreign else [] if log else list(self._foreign.values())
        ages = [age for age in (each.staleness for each in foreign) if age is not None]
        return max(ages) if ages else None

    def home(self, tenant: str, key: str = "") -> Home:
        """See ``port.Log``. An unpinned tenant's keys are spread over all logs: adding one moves its share only."""
        log = self._homes.get(tenant) or self._homes.get(ANY_TENANT, "")
        if not log:
            log = max(self.logs, key=lambda name: _weight(key, name)) if key else self.name
        of = self._foreign[log].mirror if log in self._foreign else self
        return Home(log, of.shards, of.keyed_shards)

    async def reach(self, task: TaskRef, position: int) -> None:
        """See ``port.Log``."""
        if (foreign := self._foreign.get(task.log)) is not None:
            await foreign.reach(task, position)

    async def _guard(self) -> None:
        """A region that was cut off learns here that another one has taken its log over."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await self._look_for_successor()
            except LogError as error:
                logger.info("regions not asked", error=str(error))

    async def _look_for_successor(self) -> None:
        stream = self._names.log_stream(self.name, 0)
        own = self.view(0)
        if self._overtaken or own is None:
            return
        for there in self._domains:
            try:
                info = await there.api(f"STREAM.INFO.{stream}", timeout=_LOOK_SECONDS)
            except LogError:
                continue
            if "error" in info:
                continue
            other = ShardView.of(self._names, info["config"])
            if not other.mirror and other.epoch > own.epoch:
                self._overtaken = f"log {self.name!r} was taken over by another region (epoch {other.epoch})"
                logger.error("log taken over", log=self.name, epoch=other.epoch)

    # --- what belongs to a task ---------------------------------------------------------------------------------------

    def _read_at(self, log: str) -> JetStreamLog | None:
        """Another region's log, where it is read; None: it is the own one."""
        foreign = self._foreign.get(log)
        return None if foreign is None else foreign.mirror

    def _written_at(self, log: str) -> JetStreamLog | None:
        """Another region's log, where it is written; None: it is the own one.

        Raises:
            Unreachable: it has long been silent.
        """
        foreign = self._foreign.get(log)
        if foreign is None:
            return None
        foreign.require_home()
        return foreign.home

    def incarnation(self, task: TaskRef) -> str:
        """See ``port.Log``."""
        there = self._read_at(task.log)
        return super().incarnation(task) if there is None else there.incarnation(task)

    async def try_append(self, task: TaskRef, draft: Draft, expected: int, *, trace: str = "") -> int:
        """See ``port.Log``."""
        foreign = self._foreign.get(task.log)
        if foreign is not None:
            return await foreign.try_append(task, draft, expected, trace=trace)
        if self._overtaken:
            raise Unreachable(self._overtaken)
        return await super().try_append(task, draft, expected, trace=trace)

    async def first_after(self, task: TaskRef, position: int) -> Record | None:
        """See ``port.Log``."""
        foreign = self._foreign.get(task.log)
        return await (super().first_after if foreign is None else foreign.first_after)(task, position)

    async def last(self, task: TaskRef) -> Record | None:
        """See ``port.Log``."""
        foreign = self._foreign.get(task.log)
        return await (super().last if foreign is None else foreign.last)(task)

    async def stored(self, task: TaskRef, position: int = 0) -> Stored | None:
        """See ``port.Log``."""
        foreign = self._foreign.get(task.log)
        return await (super().stored if foreign is None else foreign.stored)(task, position)

    async def read(self, task: TaskRef, start: int = 1) -> AsyncIterator[list[Record]]:
        """See ``port.Log``."""
        foreign = self._foreign.get(task.log)
        async for records in (super().read if foreign is None else foreign.read)(task, start):
            yield records

    def watch(self, task: TaskRef) -> TailWatch:
        """See ``port.Log``."""
        there = self._read_at(task.log)
        return super().watch(task) if there is None else there.watch(task)

    async def snapshot(self, task: TaskRef) -> bytes | None:
        """See ``port.Log``."""
        there = self._read_at(task.log)
        return await (super().snapshot if there is None else there.snapshot)(task)

    async def segments(self, task: TaskRef, keys: list[str]) -> dict[str, bytes]:
        """See ``port.Log``."""
        there = self._read_at(task.log)
        return await (super().segments if there is None else there.segments)(task, keys)

    async def save(self, task: TaskRef, snapshot: Snapshot) -> None:
        """See ``port.Log``. Of another region's task none is written: that is left to those who work on it."""
        if task.log not in self._foreign:
            await super().save(task, snapshot)

    async def notified(self, task: TaskRef) -> tuple[bytes, int]:
        """See ``port.Log``."""
        there = self._written_at(task.log)
        return await (super().notified if there is None else there.notified)(task)

    async def sealing_key(self, log: str = "") -> bytes:
        """See ``port.Log``."""
        there = self._written_at(log)
        return await (super().sealing_key if there is None else there.sealing_key)()

    async def waking(self, task: TaskRef) -> tuple[int, int] | None:
        """See ``port.Log``."""
        there = self._written_at(task.log)
        return await (super().waking if there is None else there.waking)(task)

    async def dead_letter(self, task: TaskRef) -> Letter | None:
        """See ``port.Log``."""
        there = self._read_at(task.log)
        return await (super().dead_letter if there is None else there.dead_letter)(task)

    async def find(self, task_id: str) -> TaskRef | None:
        """See ``port.Log``."""
        place = parse_task_id(task_id)
        there = self._read_at(place[0]) if place is not None else None
        return await (super().find if there is None else there.find)(task_id)

    # --- what belongs to all ------------------------------------------------------------------------------------------

    async def agents(self) -> dict[str, AgentEntry]:
        """See ``port.Log``. The own region's entry of an agent that several have."""
        found: dict[str, AgentEntry] = {}
        for foreign in self._foreign.values():
            try:
                found.update(await foreign.mirror.agents())
            except LogError as error:
                logger.warning("agents of another region not read", log=foreign.name, error=str(error))
        return found | await super().agents()

    async def ends(self, log: str = "") -> dict[int, End]:
        """See ``port.Log``."""
        there = self._read_at(log)
        return await (super().ends if there is None else there.ends)()

    async def scan(self, shard: int, start: int, end: int, log: str = "") -> AsyncIterator[list[Stored]]:
        """See ``port.Log``."""
        there = self._read_at(log)
        async for batch in (super().scan if there is None else there.scan)(shard, start, end):
            yield batch


async def open_regional(
    connection: Connection,
    names: Names,
    settings: StreamSettings,
    *,
    regions: Mapping[str, str],
    homes: Mapping[str, str],
    content_bytes: int = limits.CONTENT_BYTES,
) -> RegionalLog:
    """The logs of all regions, over the streams and mirrors that ``provision`` has made here.

    Raises:
        NotProvisioned: some are not there, or another region has taken the own log over.
        Unavailable: no answer here, or no leader yet; repeating is safe. Other regions need not be there.
    """
    log = RegionalLog(connection, names, settings, regions=regions, homes=homes, content_bytes=content_bytes)
    try:
        await log.begin()
    except BaseException:
        log.stop()
        raise
    return log


def _weight(key: str, log: str) -> bytes:
    return hashlib.blake2s(f"{log}\n{key}".encode(errors="surrogatepass"), digest_size=8).digest()
