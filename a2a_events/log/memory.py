"""A log in memory, for tests of agents and for trying things: the same guarantees, for as long as the process lives.

A product and not a mock: it passes the contract suite that the JetStream log passes. Deliveries come back after
``ack_wait_seconds`` without a sign of life, appends conflict, tails read what they missed.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec

from a2a_events import limits
from a2a_events.errors import Conflict, RecordTooLarge
from a2a_events.log.port import AgentEntry, Dispatch, End, Handle, Home, Letter, Notes, Queue, Stored, Wakeup
from a2a_events.log.tail import Silence, Tail, TailWatch, Watched
from a2a_events.timeline.ids import ContextRef, TaskRef
from a2a_events.timeline.record import Draft, Record
from a2a_events.timeline.snapshot import Snapshot


class MemoryLog:
    """See ``port.Log``.

    Args:
        name: of the log.
        shards: over which new tasks are spread; they differ in nothing here.
        ack_wait_seconds: silence after which a delivery goes to another follower.
        content_bytes: largest payload of one record.
    """

    def __init__(
        self,
        name: str = "main",
        *,
        shards: int = 1,
        ack_wait_seconds: float = limits.ACK_WAIT_SECONDS,
        content_bytes: int = limits.CONTENT_BYTES,
    ) -> None:
        self.name = name
        self.logs: tuple[str, ...] = (name,)
        self.shards = self.keyed_shards = shards
        self.content_bytes = content_bytes
        self._ack_wait_seconds = ack_wait_seconds
        self._incarnation = os.urandom(6).hex()
        self._position = 0
        self._timelines: dict[TaskRef, list[Record]] = {}
        self._watched: dict[TaskRef, Watched] = {}
        self._silence = Silence(self._watched)
        self._notices: dict[TaskRef, dict[_Notice, None]] = {}
        """Owners' interests, in the order in which they came."""
        self._queues: dict[str, _Queue] = {}
        self._heads: dict[TaskRef, bytes] = {}
        self._segments: dict[tuple[TaskRef, str], bytes] = {}
        self._agents: dict[str, AgentEntry] = {}
        self._announced: dict[str, dict[str, int]] = {}
        """Milliseconds, by agent and instance."""
        self._wakeups: dict[str, asyncio.Queue[_Wakeup]] = {}
        self._woken: set[_Wakeup] = set()
        """Wake-ups that were given out and not acknowledged."""
        self._timers: dict[TaskRef, asyncio.TimerHandle] = {}
        self._wanted: dict[TaskRef, tuple[int, int]] = {}
        """Of each timer the revision, and the time in milliseconds."""
        self._all: _Queue | None = None
        """Every record, for notifiers; made when one comes."""
        self._notified: dict[TaskRef, tuple[bytes, int]] = {}
        self._progress: dict[str, tuple[bytes, int]] = {}
        self._remembered: dict[ContextRef, tuple[bytes, int]] = {}
        self._notes: dict[tuple[ContextRef, str], Notes] = {}
        self._stored_at: dict[int, int] = {}
        """Milliseconds, by position."""
        self._sealing_key = os.urandom(32)
        self._letters: dict[TaskRef, Letter] = {}
        """Dead letters in the order in which they came, and marks of those that were forgotten."""

    def home(self, tenant: str, key: str = "", agent: str = "") -> Home:  # noqa: ARG002 -- there is one log
        """See ``port.Log``."""
        return Home(self.name, self.shards, self.keyed_shards)

    def staleness(self, log: str = "") -> float | None:  # noqa: ARG002 -- it is read where it is written
        """See ``port.Log``."""
        return None

    async def reach(self, task: TaskRef, position: int) -> None:
        """See ``port.Log``: it is read where it is written."""

    def incarnation(self, task: TaskRef) -> str:  # noqa: ARG002 -- one incarnation for all shards
        """See ``port.Log``."""
        return self._incarnation

    async def try_append(self, task: TaskRef, draft: Draft, expected: int, *, trace: str = "") -> int:
        """See ``port.Log``."""
        if len(draft.payload) > self.content_bytes:
            raise RecordTooLarge(f"a record of {len(draft.payload)} bytes is over the limit of {self.content_bytes}")
        await asyncio.sleep(0)
        timeline = self._timelines.get(task, [])
        last = timeline[-1].position if timeline else 0
        if last != expected:
            raise Conflict(f"the last position is {last}, not {expected}")
        self._position += 1
        record = Record(self._position, draft.header, draft.payload, draft.inbound, trace)
        self._timelines.setdefault(task, []).append(record)
        self._stored_at[record.position] = _now()
        watched = self._watched.get(task)
        if watched is not None:
            watched.offer(record)
        if record.inbound:
            for notice in list(self._notices.get(task, ())):
                notice.woken()
            self._queue(task.agent).put(task, record)
        if self._all is not None:
            self._all.put(task, _without_payload(record))
        return record.position

    def restore(self, task: TaskRef, records: Sequence[Record]) -> None:
        """Put a recorded timeline into this log, every record at its own position; nothing is dispatched.

        Raises:
            ValueError: the task is here already, or another record is at one of these positions.
        """
        taken = {record.position for timeline in self._timelines.values() for record in timeline}
        if task in self._timelines or not taken.isdisjoint(record.position for record in records):
            message = f"the log holds task {task.task_id} or another record at one of its positions"
            raise ValueError(message)
        self._timelines[task] = list(records)
        for record in records:
            self._incarnation = record.header.incarnation or self._incarnation
            self._position = max(self._position, record.position)
            self._stored_at[record.position] = record.header.times[-1]

    async def first_after(self, task: TaskRef, position: int) -> Record | None:
        """See ``port.Log``."""
        return next((r for r in self._timelines.get(task, ()) if r.position > position), None)

    async def last(self, task: TaskRef) -> Record | None:
        """See ``port.Log``."""
        timeline = self._timelines.get(task)
        return timeline[-1] if timeline else None

    async def stored(self, task: TaskRef, position: int = 0) -> Stored | None:
        """See ``port.Log``."""
        await asyncio.sleep(0)
        record = next((r for r in reversed(self._timelines.get(task, ())) if position in {0, r.position}), None)
        return Stored(task, record, self._stored_at[record.position]) if record else None

    async def read(self, task: TaskRef, start: int = 1) -> AsyncIterator[list[Record]]:
        """See ``port.Log``."""
        found = [r for r in self._timelines.get(task, ()) if r.position >= start]
        found = found[-1:] if found and found[-1].header.tombstone else found
        for at in range(0, len(found), limits.READ_BATCH_RECORDS):
            yield found[at : at + limits.READ_BATCH_RECORDS]
            await asyncio.sleep(0)

    def watch(self, task: TaskRef) -> TailWatch:
        """See ``port.Log``."""
        # What was stored before the interest is read first, as it is on a broker.
        return TailWatch(Tail(task, self), self._enter, self._leave, start_behind=True)

    async def _enter(self, tail: Tail) -> None:
        self._watched.setdefault(tail.task, Watched(tail.task, self)).tails.append(tail)
        self._silence.start()

    async def _leave(self, tail: Tail) -> None:
        watched = self._watched.get(tail.task)
        if watched is not None and tail in watched.tails:
            watched.tails.remove(tail)
            if not watched.tails:
                del self._watched[tail.task]

    async def notice(self, task: TaskRef, woken: Callable[[], None]) -> _Notice:
        """See ``port.Log``."""
        notices = self._notices.setdefault(task, {})
        notice = _Notice(notices, woken)
        notices[notice] = None
        return notice

    async def follow(self, agent: str) -> Dispatch:
        """See ``port.Log``."""
        return _Dispatch(self._queue(agent))

    async def follow_all(self) -> Dispatch:
        """See ``port.Log``."""
        if self._all is None:
            self._all = _Queue(self._ack_wait_seconds)
            stored = ((record, task) for task, records in self._timelines.items() for record in records)
            for record, task in sorted(stored, key=lambda pair: pair[0].position):
                self._all.put(task, _without_payload(record))
        return _Dispatch(self._all)

    async def handed_out(self, agent: str) -> dict[int, int]:
        """See ``port.Log``."""
        return {0: self._queue(agent).handed_out}

    async def progress(self, name: str) -> tuple[bytes, int]:
        """See ``port.Log``."""
        await asyncio.sleep(0)
        return self._progress.get(name, (b"", 0))

    async def put_progress(self, name: str, content: bytes, version: int) -> int:
        """See ``port.Log``."""
        await asyncio.sleep(0)
        known = self._progress.get(name, (b"", 0))[1]
        if known != version:
            raise Conflict(f"the version is {known}, not {version}")
        self._progress[name] = (content, version + 1)
        return version + 1

    async def notified(self, task: TaskRef) -> tuple[bytes, int]:
        """See ``port.Log``."""
        await asyncio.sleep(0)
        return self._notified.get(task, (b"", 0))

    async def put_notified(self, task: TaskRef, content: bytes, version: int) -> int:
        """See ``port.Log``."""
        await asyncio.sleep(0)
        known = self._notified.get(task, (b"", 0))[1]
        if known != version:
            raise Conflict(f"the version is {known}, not {version}")
        self._notified[task] = (content, version + 1)
        return version + 1

    async def remembered(self, context: ContextRef) -> tuple[bytes, int]:
        """See ``port.Log``."""
        await asyncio.sleep(0)
        return self._remembered.get(context, (b"", 0))

    async def put_remembered(self, context: ContextRef, content: bytes, version: int) -> int:
        """See ``port.Log``."""
        await asyncio.sleep(0)
        known = self._remembered.get(context, (b"", 0))[1]
        if known != version:
            raise Conflict(f"the version is {known}, not {version}")
        self._remembered[context] = (content, version + 1)
        return version + 1

    async def notes(self, context: ContextRef, name: str) -> Notes:
        """See ``port.Log``."""
        await asyncio.sleep(0)
        return self._notes.get((context, name), Notes())

    async def note(self, context: ContextRef, name: str, content: bytes, position: int, *, anew: bool = False) -> int:
        """See ``port.Log``."""
        if len(content) > self.content_bytes:
            raise RecordTooLarge(f"a note of {len(content)} bytes is over the limit of {self.content_bytes}")
        known = await self.notes(context, name)
        if known.position != position:
            raise Conflict(f"the newest note stands at {known.position}, not {position}")
        contents = (content,) if anew else (*known.contents, content)
        self._notes[context, name] = Notes(contents, position + 1)
        return position + 1

    async def sealing_key(self, log: str = "") -> bytes:  # noqa: ARG002 -- there is one log
        """See ``port.Log``."""
        return self._sealing_key

    async def snapshot(self, task: TaskRef) -> bytes | None:
        """See ``port.Log``."""
        return self._heads.get(task)

    async def segments(self, task: TaskRef, keys: list[str]) -> dict[str, bytes]:
        """See ``port.Log``."""
        return {key: self._segments[task, key] for key in keys if (task, key) in self._segments}

    async def save(self, task: TaskRef, snapshot: Snapshot) -> None:
        """See ``port.Log``."""
        for segment in snapshot.segments:
            self._segments[task, segment.key] = segment.content
        self._heads[task] = snapshot.head

    async def announce(self, entry: AgentEntry, instance: str) -> None:
        """See ``port.Log``."""
        self._agents[entry.name] = entry
        self._announced.setdefault(entry.name, {})[instance] = _now()

    async def agents(self) -> dict[str, AgentEntry]:
        """See ``port.Log``."""
        return dict(self._agents)

    async def attended(self) -> set[str]:
        """See ``port.Log``."""
        return {agent for agent in self._announced if await self.workers(agent)}

    async def workers(self, agent: str) -> dict[str, int]:
        """See ``port.Log``."""
        since = _now() - 3000 * limits.AGENT_HEARTBEAT_SECONDS
        return {name: at for name, at in self._announced.get(agent, {}).items() if at > since}

    async def queue(self, agent: str, shard: int, position: int = 0) -> Queue | None:  # noqa: ARG002 -- a log in memory has one queue an agent
        """See ``port.Log``."""
        await asyncio.sleep(0)
        queue = self._queues.get(agent)
        return queue.told(position) if queue is not None and queue.followed else None

    async def queue_depth(self, agent: str) -> int:
        """See ``port.Log``."""
        await asyncio.sleep(0)
        queue = self._queues.get(agent)
        return queue.depth if queue is not None else 0

    async def wake_at(self, task: TaskRef, revision: int, milliseconds: int) -> None:
        """See ``port.Log``."""
        if task in self._timers:
            self._timers.pop(task).cancel()
        delay = max(0.0, milliseconds / 1000 - time.time())
        wakeup = _Wakeup(task, revision, self._woken)
        queue = self._wakeups.setdefault(task.agent, asyncio.Queue())
        self._timers[task] = asyncio.get_running_loop().call_later(delay, queue.put_nowait, wakeup)
        self._wanted[task] = (revision, milliseconds)

    async def waking(self, task: TaskRef) -> tuple[int, int] | None:
        """See ``port.Log``."""
        await asyncio.sleep(0)
        asked = self._wanted.get(task)
        return asked if asked is not None and asked[1] > _now() else None

    async def wakeups(self, agent: str) -> AsyncIterator[Wakeup]:
        """See ``port.Log``."""
        return self._due(self._wakeups.setdefault(agent, asyncio.Queue()))

    async def _due(self, queue: asyncio.Queue[_Wakeup]) -> AsyncIterator[Wakeup]:
        while True:
            wakeup = await queue.get()
            wakeup.given(queue, self._ack_wait_seconds)
            yield wakeup

    async def put_dead_letter(self, letter: Letter) -> None:
        """See ``port.Log``."""
        kept = self._letters.get(letter.task)
        if kept is None or kept.revision < letter.revision:
            self._letters.pop(letter.task, None)
            self._letters[letter.task] = letter

    async def dead_letter(self, task: TaskRef) -> Letter | None:
        """See ``port.Log``."""
        kept = self._letters.get(task)
        return None if kept is None or kept.forgotten else kept

    async def dead_letters(self, agent: str = "") -> AsyncIterator[Letter]:
        """See ``port.Log``."""
        for letter in list(self._letters.values()):
            if not letter.forgotten and agent in {"", letter.task.agent}:
                yield letter

    async def forget_dead_letter(self, letter: Letter) -> None:
        """See ``port.Log``."""
        kept = self._letters.get(letter.task)
        if kept is None or kept.revision <= letter.revision:
            self._letters[letter.task] = msgspec.structs.replace(letter, forgotten=True)

    async def ends(self, log: str = "") -> dict[int, End]:  # noqa: ARG002 -- there is one log
        """See ``port.Log``."""
        return {0: End(self._incarnation, self._position, _now())}

    async def scan(
        self,
        shard: int,
        start: int,
        end: int,
        log: str = "",  # noqa: ARG002 -- there is one log
    ) -> AsyncIterator[list[Stored]]:
        """See ``port.Log``."""
        assert shard == 0, "a log in memory has one shard"
        found = [
            Stored(task, record, self._stored_at[record.position])
            for task, timeline in self._timelines.items()
            for record in timeline
            if start <= record.position <= end
        ]
        found.sort(key=lambda stored: stored.record.position)
        for at in range(0, len(found), limits.SCAN_BATCH_RECORDS):
            yield found[at : at + limits.SCAN_BATCH_RECORDS]
            await asyncio.sleep(0)

    async def find(self, task_id: str) -> TaskRef | None:
        """See ``port.Log``."""
        return next((task for task in self._timelines if task.task_id == task_id), None)

    async def remove_snapshots(self, task: TaskRef) -> None:
        """See ``port.Removing``."""
        await asyncio.sleep(0)
        self._heads.pop(task, None)
        self._segments = {key: kept for key, kept in self._segments.items() if key[0] != task}

    async def forget_contexts(self, tenant: str) -> None:
        """See ``port.Removing``."""
        await asyncio.sleep(0)
        self._notes = {key: kept for key, kept in self._notes.items() if key[0].tenant != tenant}
        self._remembered = {context: kept for context, kept in self._remembered.items() if context.tenant != tenant}

    async def remove(self, task: TaskRef, before: int) -> None:
        """See ``port.Removing``."""
        last = next(reversed(self._timelines.get(task, [])), None)
        if last is None or last.position < before or last.header.tombstone:
            await self.remove_snapshots(task)
            self._notified.pop(task, None)
            self._wanted.pop(task, None)
            self._letters.pop(task, None)
            if task in self._timers:
                self._timers.pop(task).cancel()
        kept = [record for record in self._timelines.pop(task, []) if record.position >= before]
        if kept:
            self._timelines[task] = kept

    async def close(self) -> None:
        """See ``port.Log``."""
        for timer in self._timers.values():
            timer.cancel()
        for wakeup in list(self._woken):
            await wakeup.acknowledge()
        for queue in [*self._queues.values(), *([self._all] if self._all else [])]:
            queue.close()
        self._silence.stop()
        for watched in self._watched.values():
            watched.stop()

    def _queue(self, agent: str) -> _Queue:
        return self._queues.setdefault(agent, _Queue(self._ack_wait_seconds))


def _now() -> int:
    return int(time.time() * 1000)


def _without_payload(record: Record) -> Record:
    return msgspec.structs.replace(record, payload=b"")


class _Notice:
    """See ``port.Notice``."""

    def __init__(self, notices: dict[_Notice, None], woken: Callable[[], None]) -> None:
        self._notices = notices
        self.woken = woken

    async def close(self) -> None:
        """See ``port.Notice``."""
        self._notices.pop(self, None)


class _Wakeup:
    """See ``port.Wakeup``."""

    def __init__(self, task: TaskRef, revision: int, woken: set[_Wakeup]) -> None:
        self.task = task
        self.revision = revision
        self._woken = woken
        self._again: asyncio.TimerHandle | None = None

    def given(self, queue: asyncio.Queue[_Wakeup], ack_wait_seconds: float) -> None:
        """Somebody has it; it comes again unless it is acknowledged."""
        self._woken.add(self)
        self._again = asyncio.get_running_loop().call_later(ack_wait_seconds, queue.put_nowait, self)

    async def acknowledge(self) -> None:
        """See ``port.Wakeup``."""
        self._woken.discard(self)
        if self._again is not None:
            self._again.cancel()


class _Handle:
    """See ``port.Handle``."""

    def __init__(self, queue: _Queue, task: TaskRef, record: Record, count: int) -> None:
        self._queue = queue
        self.task = task
        self.record = record
        self.count = count

    async def acknowledge(self) -> None:
        """See ``port.Handle``."""
        self._queue.settle(self.record.position)

    async def in_progress(self) -> bool:
        """See ``port.Handle``."""
        self._queue.extend(self.record.position)
        return True

    async def give_back(self) -> None:
        """See ``port.Handle``."""
        self._queue.give_back(self.record.position)


class _Queue:
    """What one agent's workers share: records that wait, and timers for those that were handed out."""

    def __init__(self, ack_wait_seconds: float) -> None:
        self._ack_wait_seconds = ack_wait_seconds
        self._ready: deque[tuple[TaskRef, Record, int]] = deque()
        self._out: dict[int, tuple[TaskRef, Record, int, asyncio.TimerHandle]] = {}
        self.followers: list[_Dispatch] = []
        self.followed = False
        """Whether anybody ever followed."""
        self.handed_out = 0
        """Newest position that a follower was given."""

    def told(self, position: int) -> Queue:
        """See ``port.Log.queue``."""
        waiting = [record.position for _, record, count in self._ready if not count]
        under_way = {record.position: count for _, record, count in self._ready if count}
        under_way |= {at: count for at, (_, _, count, _) in self._out.items()}
        return Queue(
            handed_out=self.handed_out,
            settled=min([self.handed_out, *(at - 1 for at in under_way)]),
            waiting=len(waiting),
            ahead=sum(at < position for at in waiting),
            under_way=len(under_way),
            repeated=sum(count > 1 for count in under_way.values()),
            wanted=any(follower.free > 0 for follower in self.followers),
            ack_wait_seconds=self._ack_wait_seconds,
        )

    def put(self, task: TaskRef, record: Record, count: int = 0) -> None:
        """A record waits for a follower."""
        self._ready.append((task, record, count))
        self.hand_out()

    def hand_out(self) -> None:
        """Give what waits to followers that can take it, in turns: to those that are free, then to those that wait."""
        while self._ready:
            follower = next((f for f in self.followers if f.free > 0), None)
            follower = follower or next((f for f in self.followers if f.free <= 0 < f.ahead), None)
            if follower is None:
                return
            self.followers.append(self.followers.pop(self.followers.index(follower)))
            task, record, count = self._ready.popleft()
            self._start(task, record, count + 1)
            self.handed_out = max(self.handed_out, record.position)
            follower.give(_Handle(self, task, record, count + 1))

    @property
    def depth(self) -> int:
        """Records that are not acknowledged."""
        return len(self._ready) + len(self._out)

    def settle(self, position: int) -> None:
        """Acknowledged: whichever delivery it was, the record is done (as the broker does)."""
        held = self._out.pop(position, None)
        if held is not None:
            held[3].cancel()

    def extend(self, position: int) -> None:
        """In progress: another ack wait."""
        held = self._out.pop(position, None)
        if held is not None:
            held[3].cancel()
            self._start(*held[:3])

    def give_back(self, position: int) -> None:
        """Not wanted any more by who has it."""
        held = self._out.get(position)
        if held is not None:
            held[3].cancel()
            self._expire(position)

    def close(self) -> None:
        """Stop every timer."""
        for *_, timer in self._out.values():
            timer.cancel()

    def _start(self, task: TaskRef, record: Record, count: int) -> None:
        timer = asyncio.get_running_loop().call_later(self._ack_wait_seconds, self._expire, record.position)
        self._out[record.position] = (task, record, count, timer)

    def _expire(self, position: int) -> None:
        task, record, count, _ = self._out.pop(position)
        self.put(task, record, count)


class _Dispatch:
    """See ``port.Dispatch``."""

    def __init__(self, queue: _Queue) -> None:
        self._queue = queue
        self._given: asyncio.Queue[_Handle] = asyncio.Queue()
        self.free = 0
        self.ahead = 0
        queue.followers.append(self)
        queue.followed = True

    def grant(self, free: int, ahead: int = 0) -> None:
        """See ``port.Dispatch``."""
        self.free = free - self._given.qsize()
        self.ahead = ahead + min(0, self.free)
        self._queue.hand_out()

    def give(self, handle: _Handle) -> None:
        """One delivery."""
        if self.free > 0:
            self.free -= 1
        else:
            self.ahead -= 1
        self._given.put_nowait(handle)

    async def __aiter__(self) -> AsyncIterator[Handle]:
        """See ``port.Dispatch``."""
        while True:
            yield await self._given.get()

    async def close(self) -> None:
        """See ``port.Dispatch``."""
        if self in self._queue.followers:
            self._queue.followers.remove(self)
