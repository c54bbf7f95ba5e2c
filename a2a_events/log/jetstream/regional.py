"""One log over those of all regions: the own one as it is, the others from their mirrors (ADR 0025).

A task lives in one log, which its id names. What is asked of a task goes where that log is read or written; what is
asked of the whole log is asked of the own one.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

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
        domains = sorted(set(regions.values()))
        self._foreign = {
            log: ForeignLog(
                connection,
                names,
                log,
                domain,
                elsewhere=[other for other in domains if other != domain],
                content_bytes=content_bytes,
            )
            for log, domain in regions.items()
        }
        self._homes = dict(homes)
        self._agents: frozenset[str] = frozenset()
        """Those that were ever announced in this region."""
        self.logs = (self.name, *self._foreign)
        self._domains = [DomainConnection(connection, domain) for domain in domains]
        self._sole_at = time.monotonic()
        """When every other region last said that it has not taken the own log over."""
        self.overtaken = ""
        """Why nothing can be written to the own log here any more: another region has taken it over."""
        self._taken = asyncio.Event()
        self._guarding: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Find the streams and mirrors.

        Raises:
            NotProvisioned: some are not there, or another region has taken the own log over.
            Unavailable: no answer, or no leader yet; repeating is safe.
        """
        await super().begin()
        for foreign in self._foreign.values():
            await foreign.begin()
        await self._look()
        if self.overtaken:
            raise NotProvisioned(f"{self.overtaken}: nothing can be written to it here")
        for foreign in self._foreign.values():
            foreign.start()
        self._guarding = asyncio.get_running_loop().create_task(self._guard())

    async def close(self) -> None:
        """See ``port.Log``."""
        self.stop()
        await super().close()

    def stop(self) -> None:
        """Watch nothing any more, neither the other regions nor any task."""
        if self._guarding is not None:
            self._guarding.cancel()
        for foreign in self._foreign.values():
            foreign.stop()
        self.unwatch()

    # --- regions ------------------------------------------------------------------------------------------------------

    @property
    def mirrors(self) -> list[MirrorState]:
        """How well each mirror follows, for metrics; no round trip. Logs that were taken over here have none."""
        return [foreign.state for foreign in self._foreign.values() if not foreign.taken_over]

    def staleness(self, log: str = "") -> float | None:
        """See ``port.Log``. That of the own log counts once another region has taken it over: it is read no further."""
        ages = [self._age(name) for name in ([log] if log else self.logs)]
        return max((age for age in ages if age is not None), default=None)

    def _age(self, log: str) -> float | None:
        if (foreign := self._foreign.get(log)) is not None:
            return foreign.staleness()
        return time.monotonic() - self._sole_at if self.overtaken else None

    def home(self, tenant: str, key: str = "", agent: str = "") -> Home:
        """See ``port.Log``. An unpinned tenant's key that begins with a log's name and a dot belongs there.

        Others are spread over all logs of the agent: one more moves its share only.
        """
        log = self._homes.get(tenant) or self._homes.get(ANY_TENANT, "")
        if not log:
            # An agent that nobody has announced yet may come anywhere.
            logs = [name for name in self.logs if agent in self._agents_of(name)] or self.logs
            log = self._keyed(logs, tenant, key) if key else self.name if self.name in logs else min(logs)
        of = self._foreign[log].mirror if log in self._foreign else self
        return Home(log, of.shards, of.keyed_shards)

    @staticmethod
    def _keyed(logs: Sequence[str], tenant: str, key: str) -> str:
        named = key.partition(".")[0]
        return named if named in logs else max(logs, key=lambda name: _weight(f"{tenant}\n{key}", name))

    def _agents_of(self, log: str) -> frozenset[str]:
        foreign = self._foreign.get(log)
        return self._agents if foreign is None else foreign.agents

    async def until_overtaken(self) -> None:
        """Wait until another region has taken the own log over."""
        await self._taken.wait()

    async def _guard(self) -> None:
        """A region that was cut off learns here that another one has taken its log over."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await self._look()
            except LogError as error:
                logger.info("regions not asked", error=str(error))

    async def _look(self) -> None:
        await self._look_for_successor()
        with suppress(LogError):
            self._agents = frozenset(await self.registered())

    async def _look_for_successor(self) -> None:
        stream = self._names.log_stream(self.name, 0)
        own = self.view(0)
        if self.overtaken or own is None:
            return
        asked, answered = time.monotonic(), True
        for there in self._domains:
            try:
                info = await there.api(f"STREAM.INFO.{stream}", timeout=_LOOK_SECONDS)
            except LogError:
                answered = False
                continue
            if "error" in info:
                continue
            other = ShardView.of(self._names, info["config"])
            if not other.mirror and other.epoch > own.epoch:
                self.overtaken = f"log {self.name!r} was taken over by another region (epoch {other.epoch})"
                self._taken.set()
                logger.error("log taken over", log=self.name, epoch=other.epoch)
                return
        if answered:
            self._sole_at = asked

    # --- what belongs to a task ---------------------------------------------------------------------------------------

    def _of(self, log: str) -> JetStreamLog | ForeignLog:
        """Another region's log, or the own one (also for an empty name, and for one that is no log)."""
        found: Any = self._foreign.get(log) or super()
        at: JetStreamLog | ForeignLog = found
        return at

    def incarnation(self, task: TaskRef) -> str:
        """See ``port.Log``."""
        return self._of(task.log).incarnation(task)

    async def reach(self, task: TaskRef, position: int) -> None:
        """See ``port.Log``."""
        await self._of(task.log).reach(task, position)

    async def try_append(self, task: TaskRef, draft: Draft, expected: int, *, trace: str = "") -> int:
        """See ``port.Log``."""
        if self.overtaken and task.log == self.name:
            raise Unreachable(self.overtaken)
        return await self._of(task.log).try_append(task, draft, expected, trace=trace)

    async def first_after(self, task: TaskRef, position: int) -> Record | None:
        """See ``port.Log``."""
        return await self._of(task.log).first_after(task, position)

    async def last(self, task: TaskRef) -> Record | None:
        """See ``port.Log``."""
        return await self._of(task.log).last(task)

    async def stored(self, task: TaskRef, position: int = 0) -> Stored | None:
        """See ``port.Log``."""
        return await self._of(task.log).stored(task, position)

    async def read(self, task: TaskRef, start: int = 1) -> AsyncIterator[list[Record]]:
        """See ``port.Log``."""
        async for records in self._of(task.log).read(task, start):
            yield records

    def watch(self, task: TaskRef) -> TailWatch:
        """See ``port.Log``."""
        return self._of(task.log).watch(task)

    async def snapshot(self, task: TaskRef) -> bytes | None:
        """See ``port.Log``."""
        return await self._of(task.log).snapshot(task)

    async def segments(self, task: TaskRef, keys: list[str]) -> dict[str, bytes]:
        """See ``port.Log``."""
        return await self._of(task.log).segments(task, keys)

    async def save(self, task: TaskRef, snapshot: Snapshot) -> None:
        """See ``port.Log``."""
        await self._of(task.log).save(task, snapshot)

    async def notified(self, task: TaskRef) -> tuple[bytes, int]:
        """See ``port.Log``."""
        return await self._of(task.log).notified(task)

    async def sealing_key(self, log: str = "") -> bytes:
        """See ``port.Log``."""
        return await self._of(log).sealing_key()

    async def waking(self, task: TaskRef) -> tuple[int, int] | None:
        """See ``port.Log``."""
        return await self._of(task.log).waking(task)

    async def dead_letter(self, task: TaskRef) -> Letter | None:
        """See ``port.Log``."""
        return await self._of(task.log).dead_letter(task)

    async def find(self, task_id: str) -> TaskRef | None:
        """See ``port.Log``."""
        place = parse_task_id(task_id)
        return await self._of(place[0] if place is not None else "").find(task_id)

    # --- what belongs to all ------------------------------------------------------------------------------------------

    async def agents(self) -> dict[str, AgentEntry]:
        """See ``port.Log``. The own region's entry of an agent that several have."""
        found: dict[str, AgentEntry] = {}
        for foreign in self._foreign.values():
            try:
                there = await foreign.mirror.agents()
            except LogError as error:
                logger.warning("agents of another region not read", log=foreign.name, error=str(error))
                continue
            foreign.agents = frozenset(there)
            found.update(there)
        own = await super().agents()
        self._agents = frozenset(own)
        return found | own

    async def ends(self, log: str = "") -> dict[int, End]:
        """See ``port.Log``."""
        return await self._of(log).ends()

    async def scan(self, shard: int, start: int, end: int, log: str = "") -> AsyncIterator[list[Stored]]:
        """See ``port.Log``."""
        async for batch in self._of(log).scan(shard, start, end):
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
