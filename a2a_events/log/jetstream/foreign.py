"""The log of another region: read from its mirror here, written at its home over the leaf (ADR 0025).

Who has written, or was told of a conflict, sees that here: the mirror is waited for, for a bounded time, before the
task is read on. So loops that load, decide and append need not know where a task lives.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final

import structlog
from msgspec import Struct

from a2a_events import limits
from a2a_events.errors import Conflict, LogError, Unavailable, Uncertain, Unreachable
from a2a_events.log.jetstream.connection import Connection, NobodyServes
from a2a_events.log.jetstream.domain import DomainConnection
from a2a_events.log.jetstream.log import JetStreamLog
from a2a_events.log.jetstream.names import Names
from a2a_events.log.jetstream.streams import StreamSettings
from a2a_events.log.port import Stored
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Draft, Record

_OWED: Final = 4096
"""Tasks whose mirror is waited for before they are read; of more the oldest are read as the mirror has them."""

_LOOKED_SECONDS: Final = limits.REGION_LOOK_SECONDS
"""How long the origin may take to say where it ends."""

logger = structlog.get_logger(__name__)


class MirrorState(Struct, frozen=True):
    """How well a mirror follows."""

    log: str
    lag_seconds: float
    """What is read of the log is at most so old; infinite if it was never seen even."""
    active_seconds: float
    """Since the mirror last heard of its origin. A mirror that is cut off says itself that it lacks nothing."""
    records_behind: int
    """When the origin last answered."""
    reachable: bool
    """Whether the origin answered just now."""


class ForeignLog:
    """One log of another region, as this region has it.

    Args:
        connection: to the servers here.
        names: of everything shared with them.
        name: of the log.
        domain: JetStream domain in which it is written.
        content_bytes: largest payload of one record.
    """

    def __init__(self, connection: Connection, names: Names, name: str, domain: str, *, content_bytes: int) -> None:
        settings = StreamSettings(log=name)
        self.name = name
        self.domain = domain
        self._connection = connection
        self._names = names
        self._there = DomainConnection(connection, domain)
        self.mirror = JetStreamLog(connection, names, settings, content_bytes=content_bytes)
        self._home = JetStreamLog(self._there, names, settings, content_bytes=content_bytes)
        self._owed: dict[TaskRef, int] = {}
        """Positions that were told of at home and may not be here yet, the oldest first."""
        self._even = -math.inf
        """When this mirror was last known to have everything."""
        self._answered = -math.inf
        self._active_seconds = math.inf
        self._behind = 0
        self._looking: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Find the mirrors, and begin to watch how well they follow.

        Raises:
            NotProvisioned: there are none here: run ``a2a-events provision`` with the same regions.
            Unavailable: no answer here; repeating is safe. The other region need not be there.
        """
        await self.mirror.begin()
        await self._look()
        self._looking = asyncio.get_running_loop().create_task(self._keep_looking())

    def stop(self) -> None:
        """Watch no longer."""
        if self._looking is not None:
            self._looking.cancel()

    @property
    def taken_over(self) -> bool:
        """Whether what was a mirror is the log itself by now."""
        view = self.mirror.view(0)
        return view is not None and not view.mirror

    @property
    def home(self) -> JetStreamLog:
        """The log where it is written."""
        if self.taken_over:
            return self.mirror
        if self._home.shards != self.mirror.shards or self._home.view(0) is None:
            self._home.adopt(self.mirror)
        return self._home

    @property
    def state(self) -> MirrorState:
        """How well the mirror follows now."""
        now = time.monotonic()
        return MirrorState(
            self.name, now - self._even, self._active_seconds, self._behind, now - self._answered < 2 * _LOOKED_SECONDS
        )

    @property
    def staleness(self) -> float | None:
        """See ``port.Log``."""
        return None if self.taken_over else time.monotonic() - self._even

    # --- written at home ----------------------------------------------------------------------------------------------

    async def try_append(self, task: TaskRef, draft: Draft, expected: int, *, trace: str = "") -> int:
        """See ``port.Log``. Returns when the record can be read here, or was waited for in vain.

        Raises:
            Uncertain: as there; also where this region took the log over while the old one stored the record.
        """
        self.require_home()
        try:
            position = await self.home.try_append(task, draft, expected, trace=trace)
        except NobodyServes:
            raise self._unreachable() from None
        except Conflict:
            with suppress(LogError):
                # What stands there has been stored by now: it is not behind the end.
                self._owe(task, await self._end_at_home(task.shard))
            raise
        if self.taken_over:
            return position
        self._owe(task, position)
        with suppress(Unavailable):  # it is written; who reads on waits again, or hears that it cannot be read
            await self.settled(task)
        if self.taken_over:
            # Meanwhile: whether this was there in time is told by the log, which is here by now.
            raise Uncertain(f"log {self.name!r} was taken over by this region while it was written in another")
        return position

    async def first_after(self, task: TaskRef, position: int) -> Record | None:
        """See ``port.Log``. A mirror is how its origin began: what it has after a position is what stands there."""
        found = await self.mirror.first_after(task, position)
        if found is not None or self.taken_over:
            return found
        await self._as_at_home(task)
        return await self.mirror.first_after(task, position)

    def require_home(self) -> None:
        """Ask nothing of a region that has long been silent: a dead link swallows requests.

        Raises:
            Unreachable: it is.
        """
        if not self.taken_over and time.monotonic() - self._answered > limits.REGION_SILENT_SECONDS:
            raise self._unreachable()

    def _unreachable(self) -> Unreachable:
        return Unreachable(f"log {self.name!r} is written in domain {self.domain!r}, which cannot be reached from here")

    # --- read here ----------------------------------------------------------------------------------------------------

    async def last(self, task: TaskRef) -> Record | None:
        """See ``port.Log``."""
        await self.settled(task)
        last = await self.mirror.last(task)
        if last is None and not self.taken_over:
            await self._as_at_home(task)
            last = await self.mirror.last(task)
        return last

    async def stored(self, task: TaskRef, position: int = 0) -> Stored | None:
        """See ``port.Log``."""
        await self.settled(task)
        return await self.mirror.stored(task, position)

    async def read(self, task: TaskRef, start: int = 1) -> AsyncIterator[list[Record]]:
        """See ``port.Log``."""
        await self.settled(task)
        found = False
        async for records in self.mirror.read(task, start):
            found = True
            yield records
        if not found and start <= 1 and not self.taken_over:
            await self._as_at_home(task)
            async for records in self.mirror.read(task, start):
                yield records

    async def reach(self, task: TaskRef, position: int) -> None:
        """See ``port.Log``."""
        if self.taken_over or await self._end_here(task.shard) >= position:
            return
        try:
            if await self._end_at_home(task.shard) < position:
                return  # nothing stands there, here or at home
        except LogError:
            pass
        await self._wait(task.shard, position)

    async def _as_at_home(self, task: TaskRef) -> None:
        """Wait until the mirror is as far as the task's shard is at home now: only that may say what is not there.

        Its end is asked for and not the record itself, whose JSON is over what a leaf takes where it is large.

        Raises:
            Unavailable: its home cannot say, or the mirror is behind for too long.
        """
        await self._wait(task.shard, await self._end_at_home(task.shard))

    async def _end_at_home(self, shard: int) -> int:
        self.require_home()
        try:
            info = await self._info(self._there, shard)
        except NobodyServes:
            raise self._unreachable() from None
        return int(info["state"]["last_seq"])

    async def settled(self, task: TaskRef) -> None:
        """Wait until what this process knows to be written of a task is here.

        Raises:
            Unavailable: it is not, after ``limits.MIRROR_PATIENCE_SECONDS``.
        """
        position = self._owed.get(task)
        if position is None:
            return
        if not self.taken_over:
            await self._wait(task.shard, position)
        if self._owed.get(task) == position:
            del self._owed[task]

    def _owe(self, task: TaskRef, position: int) -> None:
        if self.taken_over or self._owed.get(task, 0) >= position:
            return
        self._owed.pop(task, None)
        self._owed[task] = position
        if len(self._owed) > _OWED:
            del self._owed[next(iter(self._owed))]

    async def _wait(self, shard: int, position: int) -> None:
        deadline = time.monotonic() + limits.MIRROR_PATIENCE_SECONDS
        pause, longest = limits.MIRROR_LOOK_SECONDS
        while await self._end_here(shard) < position and not self.taken_over:
            if time.monotonic() > deadline or not self.state.reachable:
                raise Unavailable(f"the mirror of log {self.name!r} is behind what was written: it shows it later")
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)

    async def _end_here(self, shard: int) -> int:
        info = await self._info(self._connection, shard)
        if "mirror" not in info["config"] and not self.taken_over:
            await self.mirror.refresh()
        return int(info["state"]["last_seq"])

    async def _info(self, connection: Connection, shard: int) -> dict[str, Any]:
        try:
            info: dict[str, Any] = await connection.api(f"STREAM.INFO.{self._names.log_stream(self.name, shard)}")
        except Uncertain as error:
            raise Unavailable(str(error)) from None
        if "error" in info:
            raise Unavailable(f"cannot read shard {shard} of log {self.name!r}: {info['error'].get('description')}")
        return info

    # --- how well it follows ------------------------------------------------------------------------------------------

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(limits.REGION_LOOK_SECONDS)
            try:
                await self._look()
            except LogError as error:
                logger.info("mirror not read", log=self.name, error=str(error))

    async def _look(self) -> None:
        """Compare the mirror with its origin. The origin is asked first: what it has by then is here, or lacks."""
        asked = time.monotonic()
        streams = [self._names.log_stream(self.name, shard) for shard in range(self.mirror.shards)]
        ends: list[int] | None = None
        try:
            infos = await asyncio.gather(
                *(self._there.api(f"STREAM.INFO.{stream}", timeout=_LOOKED_SECONDS) for stream in streams)
            )
            ends = [int(info["state"]["last_seq"]) for info in infos]
            self._answered = time.monotonic()
        except (LogError, KeyError):
            pass  # cut off, or gone
        here = await self.mirror.refresh()
        follows: list[dict[str, Any]] = [info["mirror"] for info in here.values() if "mirror" in info]
        ages = [mirror["active"] / 1e9 if mirror["active"] >= 0 else math.inf for mirror in follows]
        self._active_seconds = max(ages, default=0.0)
        if ends is not None:
            behind = [max(0, end - here[shard]["state"]["last_seq"]) for shard, end in enumerate(ends) if shard in here]
            self._behind = sum(behind)
            if not self._behind:
                self._even = asked
        elif self._even == -math.inf and not any(mirror["lag"] for mirror in follows):
            self._even = asked - self._active_seconds  # when the origin was last heard of, nothing was missing
