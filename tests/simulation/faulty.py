"""The log as one process reaches it: through a network that loses, delays, refuses and repeats.

The log itself is the memory log, untouched. Every call of a process travels there and back as on a wire: it may be
refused, its request may be lost or come late (after its sender gave up, or died), its answer may be lost. Leader reads
are never stale; snapshots may be. Live copies and wake-ups are hints and may vanish.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from msgspec import Struct

from a2a_events import limits
from a2a_events.errors import Conflict, LogError, Unavailable, Uncertain
from a2a_events.log.memory import MemoryLog
from a2a_events.log.port import AgentEntry, Dispatch, End, Handle, Home, Letter, Notes, Notice, Queue, Stored, Wakeup
from a2a_events.log.tail import Silence, Tail, TailWatch, Watched
from a2a_events.timeline.ids import ContextRef, TaskRef
from a2a_events.timeline.record import Draft, Record
from a2a_events.timeline.snapshot import Snapshot
from tests.simulation.history import History
from tests.simulation.loop import Process

PULL_SECONDS: Final = 5.0


class Chances(Struct):
    """How often each thing goes wrong, 0 to 1. A run has its own; when it heals they are all 0."""

    refused: float = 0.0
    """The server says no and stored nothing (another append is in flight, no leader)."""
    request_lost: float = 0.0
    answer_lost: float = 0.0
    late: float = 0.0
    """The request arrives after its sender gave up waiting."""
    slow: float = 0.0
    """A request or answer takes up to a second."""
    read_cut: float = 0.0
    """A read of many records breaks in between."""
    live_lost: float = 0.0
    live_late: float = 0.0
    live_doubled: float = 0.0
    notice_lost: float = 0.0
    delivery_lost: float = 0.0
    acknowledgement_lost: float = 0.0
    acknowledgement_late: float = 0.0
    sign_lost: float = 0.0
    snapshot_stale: float = 0.0
    snapshot_lost: float = 0.0


class Network:
    """What lies between the processes and the log; in the end the one place where faults are decided."""

    def __init__(self, log: MemoryLog, rng: random.Random, chances: Chances, history: History) -> None:
        self.log = log
        self.rng = rng
        self.chances = chances
        self.history = history
        self.cut: set[str] = set()
        """Names of processes that reach nothing now; ``*`` for all."""
        self.held: dict[int, Handle] = {}
        """Deliveries that were handed out and not acknowledged, by position."""
        self.heads: dict[TaskRef, list[bytes]] = {}
        self.watchers: list[FaultyLog] = []
        self._context = contextvars.copy_context()

    def heal(self) -> None:
        """Nothing goes wrong any more."""
        self.chances = Chances()
        self.cut.clear()

    def happens(self, chance: float, what: str) -> bool:
        """Whether it does; counted."""
        if chance and self.rng.random() < chance:
            self.history.counts[what] += 1
            return True
        return False

    def delay(self) -> float:
        """Of one message, seconds."""
        if self.chances.slow and self.rng.random() < self.chances.slow:
            return self.rng.random()
        return 0.0002 + 0.002 * self.rng.random()

    def reaches(self, process: Process) -> bool:
        """Whether anything goes through between a process and the log."""
        return not process.dead and process.name not in self.cut and "*" not in self.cut

    def run(self, act: Callable[..., Any], *args: Any) -> Any:
        """Do something as the server does it: timers that it starts are the server's, not the caller's."""
        return self._context.copy().run(act, *args)

    def later(self, delay: float, act: Callable[..., Any], *args: Any, context: Any = None) -> None:
        """Do something after a delay: as the server, or in the context of a process."""
        asyncio.get_running_loop().call_later(delay, act, *args, context=context or self._context.copy())

    def start(self, work: Any) -> asyncio.Task[Any]:
        """A task of the server."""
        return asyncio.get_running_loop().create_task(work, context=self._context.copy())

    def send(
        self, process: Process, act: Callable[[], Awaitable[Any]], *, lost: bool = False, late: float = 0.0
    ) -> None:
        """A message without an answer."""
        if lost or not self.reaches(process):
            return

        async def arrive() -> None:
            await asyncio.sleep(self.delay() + late)
            await act()

        self.start(arrive())

    async def request(
        self, process: Process, what: str, act: Callable[[], Awaitable[Any]], unanswered: type[LogError] = Unavailable
    ) -> Any:
        """A message and its answer.

        Raises:
            Unavailable: it was refused.
            unanswered: no answer came in time.
        """
        chances = self.chances
        if not self.reaches(process):
            await asyncio.sleep(limits.REQUEST_TIMEOUT_SECONDS)
            self.history.note(process.name, f"{what}: no way there")
            raise unanswered("cut off")
        if self.happens(chances.refused, "refused"):
            await asyncio.sleep(self.delay())
            self.history.note(process.name, f"{what}: refused")
            raise Unavailable("refused by the simulation")
        if self.happens(chances.request_lost, "request lost"):
            await asyncio.sleep(limits.REQUEST_TIMEOUT_SECONDS)
            self.history.note(process.name, f"{what}: request was lost")
            raise unanswered("request lost")
        there, back = self.delay(), self.delay()
        late = self.happens(chances.late, "request late")
        if late:
            there = limits.REQUEST_TIMEOUT_SECONDS * (0.5 + 2 * self.rng.random())
        unheard = late or self.happens(chances.answer_lost, "answer lost")
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.start(self._carry(process, act, there, back, answer))
        if unheard:
            await asyncio.sleep(limits.REQUEST_TIMEOUT_SECONDS)
            self.history.note(process.name, f"{what}: {'request is late' if late else 'answer was lost'}")
            raise unanswered("no answer")
        try:
            async with asyncio.timeout(limits.REQUEST_TIMEOUT_SECONDS):
                return await answer
        except TimeoutError:
            self.history.note(process.name, f"{what}: no answer in time")
            raise unanswered("no answer in time") from None

    async def _carry(
        self,
        process: Process,
        act: Callable[[], Awaitable[Any]],
        there: float,
        back: float,
        answer: asyncio.Future[Any],
    ) -> None:
        await asyncio.sleep(there)
        try:
            result, error = await act(), None
        except LogError as refusal:
            result, error = None, refusal
        await asyncio.sleep(back)
        if not answer.done() and self.reaches(process):
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)

    async def store(self, task: TaskRef, made: Draft, expected: int, trace: str) -> int:
        """The server appends, and tells whoever listens."""
        try:
            position = await self.log.try_append(task, made, expected, trace=trace)
        except Conflict:
            self.history.counts["conflict"] += 1
            raise
        record = Record(position, made.header, made.payload, made.inbound, trace)
        self.history.stored(task, record)
        for watcher in list(self.watchers):
            watcher.published(task, record)
        return position

    async def storm(self) -> int:
        """Every delivery that was not acknowledged is made again, at once; how many."""
        held = list(self.held.values())
        for handle in held:
            await handle.give_back()
        return len(held)


class FaultyLog:
    """See ``port.Log``: the log as one process has it."""

    def __init__(self, network: Network, process: Process) -> None:
        self.name = network.log.name
        self.logs = network.log.logs
        self.shards = network.log.shards
        self.keyed_shards = network.log.keyed_shards
        self.content_bytes = network.log.content_bytes
        self._network = network
        self._process = process
        self._log = network.log
        self._watched: dict[TaskRef, Watched] = {}
        self._silence = Silence(self._watched)
        self._unsure: set[str] = set()
        """Ids of records of which this process does not know whether they are stored."""
        self._pumps: list[asyncio.Task[Any]] = []
        self._dispatches: list[Dispatch] = []
        network.watchers.append(self)

    def home(self, tenant: str, key: str = "", agent: str = "") -> Home:
        return self._log.home(tenant, key, agent)

    def staleness(self, log: str = "") -> float | None:
        return self._log.staleness(log)

    async def reach(self, task: TaskRef, position: int) -> None:
        await self._log.reach(task, position)

    def incarnation(self, task: TaskRef) -> str:
        return self._log.incarnation(task)

    async def _request(
        self, what: str, act: Callable[[], Awaitable[Any]], unanswered: type[LogError] = Unavailable
    ) -> Any:
        return await self._network.request(self._process, what, act, unanswered)

    async def try_append(self, task: TaskRef, draft: Draft, expected: int, *, trace: str = "") -> int:
        header = draft.header
        what = f"append {_short(task)} [{header.kinds}] {header.revision} epoch {header.epoch} after {expected}"
        if header.record_id in self._unsure:
            self._network.history.counts["lost answer resolved as not stored"] += 1
            self._unsure.discard(header.record_id)
        try:
            position: int = await self._request(
                what, lambda: self._network.store(task, draft, expected, trace), Uncertain
            )
        except Uncertain:
            self._unsure.add(header.record_id)
            raise
        except LogError as error:
            self._network.history.note(self._process.name, f"{what}: {type(error).__name__}")
            raise
        self._network.history.note(self._process.name, f"{what}: at {position}")
        watched = self._watched.get(task)
        if watched is not None:
            watched.appended(position)
        return position

    async def first_after(self, task: TaskRef, position: int) -> Record | None:
        record: Record | None = await self._request(
            f"first after {position}", lambda: self._log.first_after(task, position)
        )
        if record is not None and record.header.record_id in self._unsure:
            self._network.history.counts["lost answer resolved as stored"] += 1
            self._unsure.discard(record.header.record_id)
        return record

    async def last(self, task: TaskRef) -> Record | None:
        record: Record | None = await self._request("last", lambda: self._log.last(task))
        return record

    async def read(self, task: TaskRef, start: int = 1) -> AsyncIterator[list[Record]]:
        async def all_of_it() -> list[Record]:
            return [record async for run in self._log.read(task, start) for record in run]

        records: list[Record] = await self._request(f"read {_short(task)} from {start}", all_of_it)
        at = 0
        while at < len(records):
            step = self._network.rng.randint(1, 8)
            yield records[at : at + step]
            at += step
            if at < len(records) and self._network.happens(self._network.chances.read_cut, "read cut"):
                raise Unavailable("the read broke in between")

    # --- live copies, which are hints ---

    def watch(self, task: TaskRef) -> TailWatch:
        return TailWatch(Tail(task, self), self._enter, self._leave, start_behind=True)

    async def _enter(self, tail: Tail) -> None:
        watched = self._watched.get(tail.task)
        if watched is None:
            watched = self._watched[tail.task] = Watched(tail.task, self)
            watched.tails.append(tail)
            self._silence.start()
            watched.start()
        else:
            watched.tails.append(tail)

    async def _leave(self, tail: Tail) -> None:
        watched = self._watched.get(tail.task)
        if watched is None or tail not in watched.tails:
            return
        watched.tails.remove(tail)
        if not watched.tails:
            del self._watched[tail.task]
            watched.stop()

    def published(self, task: TaskRef, record: Record) -> None:
        """The server has stored a record: its live copy sets out."""
        network, chances = self._network, self._network.chances
        if task not in self._watched or not network.reaches(self._process):
            return
        if network.happens(chances.live_lost, "live copy lost"):
            return
        delay = network.delay()
        if network.happens(chances.live_late, "live copy late"):
            delay += 3 * network.rng.random()
        for _ in range(2 if network.happens(chances.live_doubled, "live copy doubled") else 1):
            network.later(delay, self._live, task, record, context=self._process.context.copy())
            delay += network.delay()

    def _live(self, task: TaskRef, record: Record) -> None:
        watched = self._watched.get(task)
        if watched is not None:
            watched.offer(record)

    async def notice(self, task: TaskRef, woken: Callable[[], None]) -> Notice:
        network, process = self._network, self._process

        def rung() -> None:
            if network.reaches(process) and not network.happens(network.chances.notice_lost, "notice lost"):
                network.later(network.delay(), woken, context=process.context.copy())

        return await self._log.notice(task, rung)

    # --- work ---

    async def follow(self, agent: str) -> Dispatch:
        inner = await self._log.follow(agent)
        dispatch = _FaultyDispatch(self._network, self._process, inner)
        self._dispatches.append(inner)
        self._pumps.append(self._network.start(dispatch.pump()))
        return dispatch

    async def wakeups(self, agent: str) -> AsyncIterator[Wakeup]:
        inner = await self._log.wakeups(agent)
        given: asyncio.Queue[Wakeup] = asyncio.Queue()

        async def pump() -> None:
            async for wakeup in inner:
                if not self._network.happens(self._network.chances.delivery_lost, "wake-up lost"):
                    faulty = _FaultyWakeup(self._network, self._process, wakeup)
                    self._network.later(self._network.delay(), given.put_nowait, faulty)

        async def due() -> AsyncIterator[Wakeup]:
            while True:
                yield await given.get()

        self._pumps.append(self._network.start(pump()))
        return due()

    async def wake_at(self, task: TaskRef, revision: int, milliseconds: int) -> None:
        await self._request("wake at", lambda: self._log.wake_at(task, revision, milliseconds))

    async def lost_connection(self) -> None:
        """The server has noticed that the process is gone."""
        for dispatch in self._dispatches:
            await dispatch.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        if self in self._network.watchers:
            self._network.watchers.remove(self)

    # --- beside the log ---

    async def snapshot(self, task: TaskRef) -> bytes | None:
        head: bytes | None = await self._request("snapshot", lambda: self._log.snapshot(task))
        older = self._network.heads.get(task, [])
        if older and self._network.happens(self._network.chances.snapshot_stale, "snapshot stale"):
            return self._network.rng.choice([None, *older])
        if head is not None:
            self._network.history.counts["snapshot used"] += 1
        return head

    async def segments(self, task: TaskRef, keys: list[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = await self._request("segments", lambda: self._log.segments(task, keys))
        if found and self._network.happens(self._network.chances.snapshot_lost, "segment missing"):
            found.pop(self._network.rng.choice(sorted(found)))
        return found

    async def save(self, task: TaskRef, snapshot: Snapshot) -> None:
        if self._network.happens(self._network.chances.snapshot_lost, "snapshot lost"):
            return
        self._network.heads.setdefault(task, []).append(snapshot.head)
        self._network.history.counts["snapshot saved"] += 1
        self._network.send(self._process, lambda: self._log.save(task, snapshot))

    async def announce(self, entry: AgentEntry, instance: str) -> None:
        await self._request("announce", lambda: self._log.announce(entry, instance))

    async def agents(self) -> dict[str, AgentEntry]:
        found: dict[str, AgentEntry] = await self._request("agents", self._log.agents)
        return found

    async def put_dead_letter(self, letter: Letter) -> None:
        await self._request("dead letter", lambda: self._log.put_dead_letter(letter))

    async def dead_letter(self, task: TaskRef) -> Letter | None:
        letter: Letter | None = await self._request("dead letter of", lambda: self._log.dead_letter(task))
        return letter

    def dead_letters(self, agent: str = "") -> AsyncIterator[Letter]:
        return self._log.dead_letters(agent)

    async def forget_dead_letter(self, letter: Letter) -> None:
        await self._request("forget dead letter", lambda: self._log.forget_dead_letter(letter))

    async def handed_out(self, agent: str) -> dict[int, int]:
        found: dict[int, int] = await self._request("handed out", lambda: self._log.handed_out(agent))
        return found

    async def progress(self, name: str) -> tuple[bytes, int]:
        found: tuple[bytes, int] = await self._request("progress", lambda: self._log.progress(name))
        return found

    async def put_progress(self, name: str, content: bytes, version: int) -> int:
        put: int = await self._request("put progress", lambda: self._log.put_progress(name, content, version))
        return put

    async def remembered(self, context: ContextRef) -> tuple[bytes, int]:
        found: tuple[bytes, int] = await self._request("remembered", lambda: self._log.remembered(context))
        return found

    async def put_remembered(self, context: ContextRef, content: bytes, version: int) -> int:
        put: int = await self._request("put remembered", lambda: self._log.put_remembered(context, content, version))
        return put

    async def attended(self) -> set[str]:
        found: set[str] = await self._request("attended", self._log.attended)
        return found

    async def stored(self, task: TaskRef, position: int = 0) -> Stored | None:
        found: Stored | None = await self._request("stored", lambda: self._log.stored(task, position))
        return found

    async def workers(self, agent: str) -> dict[str, int]:
        found: dict[str, int] = await self._request("workers", lambda: self._log.workers(agent))
        return found

    async def queue(self, agent: str, shard: int, position: int = 0) -> Queue | None:
        found: Queue | None = await self._request("queue", lambda: self._log.queue(agent, shard, position))
        return found

    async def waking(self, task: TaskRef) -> tuple[int, int] | None:
        found: tuple[int, int] | None = await self._request("waking", lambda: self._log.waking(task))
        return found

    async def queue_depth(self, agent: str) -> int:
        depth: int = await self._request("queue depth", lambda: self._log.queue_depth(agent))
        return depth

    async def ends(self, log: str = "") -> dict[int, End]:
        found: dict[int, End] = await self._request("ends", self._log.ends)
        return found

    async def find(self, task_id: str) -> TaskRef | None:
        return await self._log.find(task_id)

    async def close(self) -> None:
        self._silence.stop()

    # What only notifiers and projections use is not simulated; asking for it is a mistake of the scenario.

    async def follow_all(self) -> Dispatch:
        raise NotImplementedError

    async def notified(self, task: TaskRef) -> tuple[bytes, int]:
        raise NotImplementedError

    async def put_notified(self, task: TaskRef, content: bytes, version: int) -> int:
        raise NotImplementedError

    async def notes(self, context: ContextRef, name: str) -> Notes:
        raise NotImplementedError

    async def note(self, context: ContextRef, name: str, content: bytes, position: int, *, anew: bool = False) -> int:
        raise NotImplementedError

    async def sealing_key(self, log: str = "") -> bytes:
        raise NotImplementedError

    def scan(self, shard: int, start: int, end: int, log: str = "") -> AsyncIterator[list[Stored]]:
        raise NotImplementedError


class _FaultyDispatch:
    """See ``port.Dispatch``."""

    def __init__(self, network: Network, process: Process, inner: Dispatch) -> None:
        self._network = network
        self._process = process
        self._inner = inner
        self._given: asyncio.Queue[Handle] = asyncio.Queue()
        self._on_the_way = 0
        self._free = 0
        self._ahead = 0

    def grant(self, free: int, ahead: int = 0) -> None:
        self._free, self._ahead = free, ahead
        self._pull()

    def _pull(self) -> None:
        coming = self._given.qsize() + self._on_the_way
        self._network.run(self._inner.grant, max(0, self._free - coming), max(0, self._ahead - coming))

    async def pump(self) -> None:
        """The server hands out."""
        network = self._network
        async for handle in self._inner:
            network.held[handle.record.position] = handle
            if handle.count > 1:
                network.history.counts["redelivered"] += 1
            if not network.reaches(self._process) or network.happens(network.chances.delivery_lost, "delivery lost"):
                # What was asked for and never came is asked for again, as a pull that expires is.
                network.later(PULL_SECONDS, self._pull)
                continue
            self._on_the_way += 1
            faulty = _FaultyHandle(network, self._process, handle)
            network.later(network.delay(), self._arrive, faulty)

    def _arrive(self, handle: Handle) -> None:
        self._on_the_way -= 1
        self._given.put_nowait(handle)

    async def __aiter__(self) -> AsyncIterator[Handle]:
        while True:
            handle = await self._given.get()
            record = handle.record
            self._network.history.note(
                self._process.name,
                f"got {_short(handle.task)} [{record.header.kinds}] of {record.position}, delivery {handle.count}",
            )
            yield handle

    async def close(self) -> None:
        await self._inner.close()


class _FaultyHandle:
    """See ``port.Handle``."""

    def __init__(self, network: Network, process: Process, inner: Handle) -> None:
        self._network = network
        self._process = process
        self._inner = inner
        self.task = inner.task
        self.record = inner.record
        self.count = inner.count

    async def acknowledge(self) -> None:
        network, chances = self._network, self._network.chances
        lost = network.happens(chances.acknowledgement_lost, "acknowledgement lost")
        late = 10 * network.rng.random() if network.happens(chances.acknowledgement_late, "acknowledgement late") else 0
        network.history.note(self._process.name, f"acknowledges {self.record.position}{', lost' if lost else ''}")

        async def arrive() -> None:
            network.held.pop(self.record.position, None)
            await self._inner.acknowledge()

        network.send(self._process, arrive, lost=lost, late=late)

    async def in_progress(self) -> bool:
        lost = self._network.happens(self._network.chances.sign_lost, "sign of life lost")
        self._network.send(self._process, self._inner.in_progress, lost=lost)
        return True

    async def give_back(self) -> None:
        lost = self._network.happens(self._network.chances.acknowledgement_lost, "acknowledgement lost")
        self._network.send(self._process, self._inner.give_back, lost=lost)


class _FaultyWakeup:
    """See ``port.Wakeup``."""

    def __init__(self, network: Network, process: Process, inner: Wakeup) -> None:
        self._network = network
        self._process = process
        self._inner = inner
        self.task = inner.task
        self.revision = inner.revision

    async def acknowledge(self) -> None:
        lost = self._network.happens(self._network.chances.acknowledgement_lost, "acknowledgement lost")
        self._network.send(self._process, self._inner.acknowledge, lost=lost)


def _short(task: TaskRef) -> str:
    return task.task_id[-6:]
