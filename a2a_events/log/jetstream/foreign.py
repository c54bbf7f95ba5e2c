"""The log of another region: read from its mirror here, written at its home over the leaf (ADR 0025).

Who has written, or was told of a conflict, sees that here: the mirror is waited for, for a bounded time, before the
task is read on. So loops that load, decide and append need not know where a task lives.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import structlog
from msgspec import Struct

from a2a_events import limits
from a2a_events.errors import Conflict, LogError, Unavailable, Uncertain, Unreachable
from a2a_events.log.jetstream.connection import Connection, NobodyServes
from a2a_events.log.jetstream.domain import DomainConnection
from a2a_events.log.jetstream.log import JetStreamLog, ShardView
from a2a_events.log.jetstream.names import STREAM_NOT_FOUND, Names
from a2a_events.log.jetstream.streams import INCARNATION, StreamSettings
from a2a_events.log.port import End, Letter, Stored
from a2a_events.log.tail import TailWatch
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Draft, Record
from a2a_events.timeline.snapshot import Snapshot

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
    """One log of another region, as this region has it. What it does with a task is as ``port.Log`` says.

    Args:
        connection: to the servers here.
        names: of everything shared with them.
        name: of the log.
        domain: JetStream domain in which it is written.
        elsewhere: the domains of further regions, any of which may have taken it over.
        content_bytes: largest payload of one record.
    """

    def __init__(
        self,
        connection: Connection,
        names: Names,
        name: str,
        domain: str,
        *,
        elsewhere: Sequence[str] = (),
        content_bytes: int,
    ) -> None:
        settings = StreamSettings(log=name)
        self.name = name
        self.domain = domain
        self._connection = connection
        self._names = names
        self._there = DomainConnection(connection, domain)
        self._elsewhere = {domain: DomainConnection(connection, domain) for domain in elsewhere}
        self.mirror = JetStreamLog(connection, names, settings, content_bytes=content_bytes)
        self._home = JetStreamLog(self._there, names, settings, content_bytes=content_bytes)
        self._owed: dict[TaskRef, int] = {}
        """Positions that were told of at home and may not be here yet, the oldest first."""
        self._even = -math.inf
        """When this mirror was last known to have everything."""
        self._answered = -math.inf
        self._active_seconds = math.inf
        self._behind = 0
        self._moved = ""
        """Why what is written in the domain that was told is not the log any more."""
        self._highest = 1, ""
        """The newest epoch that was seen in a domain elsewhere, and in which."""
        self.agents: frozenset[str] = frozenset()
        """Those that were ever announced in its region."""
        self._looking: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Find the mirrors.

        Raises:
            NotProvisioned: there are none here: run ``a2a-events provision`` with the same regions.
            Unavailable: no answer here; repeating is safe. The other region need not be there.
        """
        await self.mirror.begin_to_read()
        await self._look()

    def start(self) -> None:
        """Watch how well the mirrors follow."""
        self._looking = asyncio.get_running_loop().create_task(self._keep_looking())

    def stop(self) -> None:
        """Watch no longer, neither the mirrors nor any task."""
        if self._looking is not None:
            self._looking.cancel()
        self.mirror.unwatch()
        self._home.unwatch()

    @property
    def taken_over(self) -> bool:
        """Whether all of what was a mirror is the log itself by now."""
        return all(self.is_here(shard) for shard in self.mirror.views)

    def is_here(self, shard: int) -> bool:
        """Whether a shard is written here by now; fail-over takes one after the other."""
        view = self.mirror.views.get(shard)
        return view is not None and not view.mirror and not view.fenced

    @property
    def state(self) -> MirrorState:
        """How well the mirror follows now."""
        now = time.monotonic()
        return MirrorState(
            self.name, now - self._even, self._active_seconds, self._behind, now - self._answered < 2 * _LOOKED_SECONDS
        )

    def staleness(self) -> float | None:
        """See ``port.Log``."""
        return None if self.taken_over else time.monotonic() - self._even

    def incarnation(self, task: TaskRef) -> str:
        """See ``port.Log``."""
        return self.mirror.incarnation(task)

    # --- written at home ----------------------------------------------------------------------------------------------

    async def try_append(self, task: TaskRef, draft: Draft, expected: int, *, trace: str = "") -> int:
        """See ``port.Log``. Returns when the record can be read here, or was waited for in vain.

        Raises:
            Uncertain: as there; also where the log was taken over while the old region stored the record.
        """
        if self.is_here(task.shard):
            return await self.mirror.try_append(task, draft, expected, trace=trace)
        epoch = self._epoch(task.shard)
        with self._over_the_link():
            try:
                position = await self._home.try_append(task, draft, expected, trace=trace)
            except Conflict:
                with suppress(LogError):
                    # What stands there has been stored by now: it is not behind the end.
                    self._owe(task, await self._end_at_home(task.shard))
                raise
        self._owe(task, position)
        with suppress(Unavailable):  # it is written; who reads on waits again, or hears that it cannot be read
            await self.settled(task)
        if self.is_here(task.shard) or self._moved or self._epoch(task.shard) != epoch:
            # Meanwhile: whether this was there in time is told by the log, which is elsewhere by now.
            raise Uncertain(f"log {self.name!r} was taken over by another region while it was written")
        return position

    async def notified(self, task: TaskRef) -> tuple[bytes, int]:
        """See ``port.Log``."""
        with self._over_the_link():
            return await self._written_at.notified(task)

    async def sealing_key(self, log: str = "") -> bytes:
        """See ``port.Log``."""
        with self._over_the_link():
            return await self._written_at.sealing_key(log)

    async def waking(self, task: TaskRef) -> tuple[int, int] | None:
        """See ``port.Log``."""
        with self._over_the_link():
            return await self._written_at.waking(task)

    async def save(self, task: TaskRef, snapshot: Snapshot) -> None:
        """See ``port.Log``. None is written: that is left to those who work on the task."""

    @property
    def _written_at(self) -> JetStreamLog:
        """The log where what stands beside its tasks is written."""
        return self.mirror if self.taken_over else self._home

    def _epoch(self, shard: int) -> int:
        view = self._home.views.get(shard)
        return view.epoch if view is not None else 1

    @contextmanager
    def _over_the_link(self) -> Generator[None]:
        """Ask nothing of a region that has long been silent: a dead link swallows requests.

        Raises:
            Unreachable: it has, or there is no way to it, or the log is not there any more.
        """
        if self.taken_over:
            yield
            return
        if self._moved:
            raise Unreachable(self._moved)
        if time.monotonic() - self._answered > limits.REGION_SILENT_SECONDS:
            raise self._unreachable()
        try:
            yield
        except NobodyServes:
            raise self._unreachable() from None

    def _unreachable(self) -> Unreachable:
        return Unreachable(f"log {self.name!r} is written in domain {self.domain!r}, which cannot be reached from here")

    # --- read here ----------------------------------------------------------------------------------------------------

    async def first_after(self, task: TaskRef, position: int) -> Record | None:
        """See ``port.Log``. A mirror is how its origin began: what it has after a position is what stands there."""
        found = await self.mirror.first_after(task, position)
        if found is not None or self.is_here(task.shard):
            return found
        await self._as_at_home(task)
        return await self.mirror.first_after(task, position)

    async def last(self, task: TaskRef) -> Record | None:
        """See ``port.Log``."""
        await self.settled(task)
        last = await self.mirror.last(task)
        if last is None and not self.is_here(task.shard):
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
        if not found and start <= 1 and not self.is_here(task.shard):
            await self._as_at_home(task)
            async for records in self.mirror.read(task, start):
                yield records

    def watch(self, task: TaskRef) -> TailWatch:
        """See ``port.Log``."""
        return self.mirror.watch(task)

    async def snapshot(self, task: TaskRef) -> bytes | None:
        """See ``port.Log``."""
        return await self.mirror.snapshot(task)

    async def segments(self, task: TaskRef, keys: list[str]) -> dict[str, bytes]:
        """See ``port.Log``."""
        return await self.mirror.segments(task, keys)

    async def dead_letter(self, task: TaskRef) -> Letter | None:
        """See ``port.Log``."""
        return await self.mirror.dead_letter(task)

    async def find(self, task_id: str) -> TaskRef | None:
        """See ``port.Log``."""
        return await self.mirror.find(task_id)

    async def ends(self, log: str = "") -> dict[int, End]:
        """See ``port.Log``. What this process knows to be written is waited for, unless the link is cut.

        Raises:
            Unavailable: as there; or the mirror is behind it for too long.
        """
        owed: dict[int, int] = {}
        for task, position in self._owed.items():
            owed[task.shard] = max(position, owed.get(task.shard, 0))
        for shard, position in owed.items():
            try:
                await self._wait(shard, position)
            except Unavailable:
                if self.state.reachable:
                    raise
            else:
                self._owed = {t: p for t, p in self._owed.items() if t.shard != shard or p > position}
        return await self.mirror.ends(log)

    async def scan(self, shard: int, start: int, end: int, log: str = "") -> AsyncIterator[list[Stored]]:
        """See ``port.Log``."""
        async for batch in self.mirror.scan(shard, start, end, log):
            yield batch

    async def reach(self, task: TaskRef, position: int) -> None:
        """See ``port.Log``."""
        if self.is_here(task.shard) or await self._end_here(task.shard) >= position:
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
        with self._over_the_link():
            info = await self._info(self._there, shard)
        return int(info["state"]["last_seq"])

    async def settled(self, task: TaskRef) -> None:
        """Wait until what this process knows to be written of a task is here.

        Raises:
            Unavailable: it is not, after ``limits.MIRROR_PATIENCE_SECONDS``.
        """
        position = self._owed.get(task)
        if position is None:
            return
        await self._wait(task.shard, position)
        if self._owed.get(task) == position:
            del self._owed[task]

    def _owe(self, task: TaskRef, position: int) -> None:
        if self.is_here(task.shard) or self._owed.get(task, 0) >= position:
            return
        self._owed.pop(task, None)
        self._owed[task] = position
        if len(self._owed) > _OWED:
            del self._owed[next(iter(self._owed))]

    async def _wait(self, shard: int, position: int) -> None:
        deadline = time.monotonic() + limits.MIRROR_PATIENCE_SECONDS
        pause, longest = limits.MIRROR_LOOK_SECONDS
        while not self.is_here(shard) and await self._end_here(shard) < position and not self.is_here(shard):
            if time.monotonic() > deadline or not self.state.reachable:
                raise Unavailable(f"the mirror of log {self.name!r} is behind what was written: it shows it later")
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)

    async def _end_here(self, shard: int) -> int:
        info = await self._info(self._connection, shard)
        if "mirror" not in info["config"] and not self.is_here(shard):
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
            begun = time.monotonic()
            try:
                await self._look()
            except LogError as error:
                logger.info("mirror not read", log=self.name, error=str(error))
            # Counted from the beginning: one look without an answer must not pass for long silence.
            await asyncio.sleep(max(limits.REGION_LOOK_SECONDS - (time.monotonic() - begun), 0.1))

    async def _look(self) -> None:
        """Compare the mirror with its origin. The origin is asked first: what it has by then is here, or lacks."""
        asked = time.monotonic()
        with suppress(LogError):
            self.agents = frozenset(await self.mirror.registered())
        if self.taken_over:
            await self.mirror.refresh()
            self._even = asked
            return
        (whole, origins), _ = await asyncio.gather(self._ask_origin(), self._ask_elsewhere())
        here = await self.mirror.refresh()
        views = {shard: ShardView.of(self._names, info["config"]) for shard, info in origins.items()}
        # Where it is written the epoch is known better than from what a mirror was given when it was made.
        self._home.adopt(self.mirror.views | self._home.views | views)
        self._judge(views)
        follows: list[dict[str, Any]] = [info["mirror"] for info in here.values() if "mirror" in info]
        ages = [mirror["active"] / 1e9 if mirror["active"] >= 0 else math.inf for mirror in follows]
        self._active_seconds = max(ages, default=math.inf)
        if origins:
            lacks = {shard: _lacks(info, here.get(shard)) for shard, info in origins.items()}
            self._behind = sum(lacks.values())
            if whole and not self._behind and not self._moved:
                self._even = asked
        elif self._even == -math.inf and follows and not any(mirror["lag"] for mirror in follows):
            self._even = asked - self._active_seconds  # when the origin was last heard of, nothing was missing

    async def _ask_origin(self) -> tuple[bool, dict[int, dict[str, Any]]]:
        """Its shards, one more than are known here if there is one; and whether it told of all that are known."""
        known = max(1, self.mirror.shards)
        streams = [self._names.log_stream(self.name, shard) for shard in range(known + 1)]
        answers = await asyncio.gather(*(_told(self._there, stream) for stream in streams))
        if any(answer is not None for answer in answers):
            self._answered = time.monotonic()  # also to say that it cannot tell now, as while it elects a leader
        found = {shard: answer for shard, answer in enumerate(answers) if answer and "error" not in answer}
        beyond = answers[-1]
        told = beyond is not None and ("error" not in beyond or beyond["error"].get("err_code") == STREAM_NOT_FOUND)
        return told and found.keys() >= set(range(known)), found

    async def _ask_elsewhere(self) -> None:
        stream = self._names.log_stream(self.name, 0)
        for domain, there in self._elsewhere.items():
            info = await _told(there, stream)
            if info is None or "error" in info:
                continue
            view = ShardView.of(self._names, info["config"])
            if not view.mirror and not view.fenced:
                self._highest = max(self._highest, (view.epoch, domain))

    def _judge(self, views: dict[int, ShardView]) -> None:
        """Whether what the told domain has is the log still; what it said last holds while it says nothing."""
        before = self._moved
        epoch, domain = self._highest
        if epoch > self._epoch(0):
            self._moved = f"log {self.name!r} is written in domain {domain!r} by now, and not in {self.domain!r}"
        elif any(view.fenced or view.mirror for view in views.values()):
            self._moved = f"log {self.name!r} was taken over by another region than {self.domain!r}"
        elif views:
            self._moved = ""
        if self._moved and self._moved != before:
            logger.error("log is written elsewhere: correct the regions that are set here", why=self._moved)


async def _told(there: Connection, stream: str) -> dict[str, Any] | None:
    """What a domain says of a stream, be it an error; None: no answer."""
    try:
        info: dict[str, Any] = await there.api(f"STREAM.INFO.{stream}", timeout=_LOOKED_SECONDS)
    except LogError:
        return None
    return info


def _lacks(origin: dict[str, Any], here: dict[str, Any] | None) -> int:
    """How many records of its origin a mirror has not got; all of them, if it is not there or follows another."""
    end: int = origin["state"]["last_seq"]
    if here is None or _incarnation(here) != _incarnation(origin):
        return max(1, end)
    return max(0, end - int(here["state"]["last_seq"]))


def _incarnation(info: dict[str, Any]) -> str:
    metadata: dict[str, str] = info["config"].get("metadata") or {}
    return metadata.get(INCARNATION, "")
