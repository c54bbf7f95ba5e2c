"""Handing out work: durable pull consumers on the shards (design 3).

One a shard and agent is shared by all workers of the agent, one a shard by all notifiers.

A worker's free capacity is one number for all shards. Pull requests are renewed as they are used up and never ask for
more than is free; with less capacity than shards the requests are short and take turns.

A worker that is full *looks ahead* (ADR 0019): it asks, again and again, for what is there now and nobody took. A
request that stayed would compete with those of workers that are free.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeAlias

import msgspec
import structlog

from a2a_events.errors import LogError, Unavailable
from a2a_events.log.jetstream import names as n
from a2a_events.log.jetstream.connection import Connection, Subscription
from a2a_events.log.jetstream.names import Names
from a2a_events.log.jetstream.wire import header_value, status
from a2a_events.log.port import Handle, Wakeup
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Record, unpack

PULL_RECORDS: Final = 64
"""Most records asked for in one pull request; it is renewed when half are used."""
PULL_SECONDS: Final = 30.0
OVERDUE_SECONDS: Final = 1.0
"""How long after its end a pull request is still waited for."""
SHORT_PULL_SECONDS: Final = 1.0
"""With less capacity than shards, so that every shard gets its turn."""
TEND_SECONDS: Final = 0.5
LOOK_RECORDS: Final = 8
"""Most records of a shard that one look takes: workers that look at the same time get equal shares of a flood."""
LOOK_SECONDS: Final = 0.05
"""How long a shard that had nothing is left alone by a worker that looks ahead."""
_V2_TOKENS: Final = 11
_NO_RESPONDERS: Final = 503

Whole: TypeAlias = Callable[[TaskRef, Record], Awaitable[Record]]
"""Makes a stored record what its writer offered; see ``claim_check``."""

Ensure: TypeAlias = Callable[[int], Awaitable[None]]
"""Makes the consumer of a shard if it is not there."""

logger = structlog.get_logger(__name__)


class JetStreamHandle:
    """See ``port.Handle``."""

    __slots__ = ("_connection", "_reply", "count", "record", "task")

    def __init__(self, connection: Connection, task: TaskRef, record: Record, count: int, reply: str) -> None:
        self._connection = connection
        self._reply = reply
        self.task = task
        self.record = record
        self.count = count

    async def acknowledge(self) -> None:
        """See ``port.Handle``."""
        await self._say(b"+ACK")

    async def in_progress(self) -> bool:
        """See ``port.Handle``."""
        return await self._say(b"+WPI")

    async def give_back(self) -> None:
        """See ``port.Handle``."""
        await self._say(b"-NAK")

    async def _say(self, word: bytes) -> bool:
        try:
            await self._connection.publish(self._reply, word)
        except Unavailable:
            return False  # an acknowledgement may be lost without harm; the record comes back and is settled then
        return True


class _Pulls:
    """The pull requests under way on one consumer: what the broker may still send."""

    def __init__(self, connection: Connection, stream: str, consumer: str) -> None:
        self._connection = connection
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self.inbox = connection.new_inbox()
        self._requests: deque[list[float]] = deque()  # [id, records left, when it ends]
        self._next = 0
        self.empty_until = 0.0
        """Until when it is not worth while to look: nothing was there."""

    @property
    def outstanding(self) -> int:
        """Records that may still come."""
        return int(sum(request[1] for request in self._requests))

    async def ask(self, batch: int, seconds: float) -> None:
        """One more request; with 0 seconds for what is there now."""
        now = asyncio.get_running_loop().time()
        number = self._next
        self._next += 1
        until = {"expires": int(seconds * 1e9)} if seconds else {"no_wait": True}
        body = msgspec.json.encode({"batch": batch, **until})
        await self._connection.publish(self._subject, body, reply=f"{self.inbox}.{number}")
        self._requests.append([number, batch, now + seconds + OVERDUE_SECONDS])

    def received(self) -> None:
        """A record came: the oldest request has one less."""
        if self._requests:
            self._requests[0][1] -= 1
            if self._requests[0][1] <= 0:
                self._requests.popleft()

    def ended(self, subject: str) -> None:
        """The broker ended a request early, or in time."""
        number = int(subject.rsplit(".", 1)[1])
        self.empty_until = asyncio.get_running_loop().time() + LOOK_SECONDS
        self._requests = deque(r for r in self._requests if r[0] != number)

    def forget_overdue(self) -> None:
        """Requests whose end was never heard of."""
        now = asyncio.get_running_loop().time()
        self._requests = deque(r for r in self._requests if r[2] > now)

    def refused(self, headers: bytes) -> bool:
        """Whether a status says that there is no consumer (any more)."""
        return status(headers) == _NO_RESPONDERS or b"Consumer Deleted" in headers.partition(b"\r\n")[0]

    def forget_all(self) -> None:
        """The connection broke: the broker has forgotten them too."""
        self._requests.clear()


class JetStreamDispatch:
    """See ``port.Dispatch``."""

    def __init__(  # noqa: PLR0917 -- made in one place
        self,
        connection: Connection,
        names: Names,
        log: str,
        shards: int,
        consumer: str,
        whole: Whole | None,
        ensure: Ensure,
    ) -> None:
        self._connection = connection
        self._ensure = ensure
        self._gone: set[int] = set()
        """Shards whose consumer is not there: deleted, or lost by the broker."""
        self._names = names
        self._whole = whole
        """None: payloads are not wanted."""
        self._fetching: set[asyncio.Task[None]] = set()
        """Deliveries whose payload is still under way; others overtake them."""
        streams = [names.log_stream(log, shard) for shard in range(shards)]
        self._pulls = [_Pulls(connection, stream, consumer) for stream in streams]
        self._looks = [_Pulls(connection, stream, consumer) for stream in streams]
        self._queue: asyncio.Queue[JetStreamHandle] = asyncio.Queue()
        self._subscriptions: list[Subscription] = []
        self._free = 0
        self._ahead = 0
        self._next_shard = 0
        self._next_look = 0
        self._changed = asyncio.Event()
        self._tending: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Subscribe; nothing is asked for before :meth:`grant`."""
        for shard, pulls in [*enumerate(self._pulls), *enumerate(self._looks)]:
            self._subscriptions.append(await self._connection.subscribe(f"{pulls.inbox}.*", self._sink(shard, pulls)))
        self._connection.on_return.append(self._returned)
        self._tending = asyncio.get_running_loop().create_task(self._tend())

    def grant(self, free: int, ahead: int = 0) -> None:
        """See ``port.Dispatch``."""
        self._free, self._ahead = free, ahead
        self._changed.set()

    async def __aiter__(self) -> AsyncIterator[Handle]:
        """See ``port.Dispatch``."""
        while True:
            handle = await self._queue.get()
            self._free -= 1  # until the worker says anew what it can take
            yield handle

    async def close(self) -> None:
        """See ``port.Dispatch``."""
        if self._tending is not None:
            self._tending.cancel()
        for fetching in self._fetching:
            fetching.cancel()
        if self._returned in self._connection.on_return:
            self._connection.on_return.remove(self._returned)
        for subscription in self._subscriptions:
            await self._connection.unsubscribe(subscription)

    def _sink(self, shard: int, pulls: _Pulls) -> Callable[[str, str, bytes, bytes], None]:
        def sink(subject: str, reply: str, headers: bytes, payload: bytes) -> None:
            if subject.startswith(pulls.inbox):
                if status(headers):
                    pulls.ended(subject)
                    if pulls.refused(headers):
                        self._gone.add(shard)  # asked again when it is there, and not at once for ever
                    self._changed.set()
                return
            pulls.received()
            self._changed.set()
            tokens = reply.split(".")
            count, position = (
                (int(tokens[6]), int(tokens[7])) if len(tokens) >= _V2_TOKENS else (int(tokens[4]), int(tokens[5]))
            )
            try:
                header = unpack(header_value(headers, n.RECORD.encode()))
            except ValueError as error:
                # Left unacknowledged: it comes back, and the count is the alarm (turns 4.9).
                logger.error("unreadable record delivered", position=position, count=count, error=str(error))
                return
            inbound = subject.endswith("." + n.IN)
            record = Record(position, header, payload, inbound, trace_of(headers))
            task = self._names.task_of(subject)
            if header.encoding and self._whole is not None:
                fetching = asyncio.get_running_loop().create_task(self._fetch(self._whole, task, record, count, reply))
                self._fetching.add(fetching)
                fetching.add_done_callback(self._fetching.discard)
            else:
                self._queue.put_nowait(JetStreamHandle(self._connection, task, record, count, reply))

        return sink

    async def _fetch(self, fetch: Whole, task: TaskRef, record: Record, count: int, reply: str) -> None:
        try:
            whole = await fetch(task, record)
        except LogError as error:
            # Left unacknowledged, as an unreadable one: it comes back.
            logger.error("delivered record not fetched", position=record.position, count=count, error=str(error))
            return
        self._queue.put_nowait(JetStreamHandle(self._connection, task, whole, count, reply))

    def _returned(self) -> None:
        for pulls in [*self._pulls, *self._looks]:
            pulls.forget_all()
        self._changed.set()

    async def _tend(self) -> None:
        while True:
            try:
                # And not wait_for, which may swallow a cancellation.
                async with asyncio.timeout(LOOK_SECONDS if self._looking else TEND_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                for pulls in [*self._pulls, *self._looks]:
                    pulls.forget_overdue()
            self._changed.clear()
            try:
                await self._restore()
                await self._renew()
                if self._looking:
                    await self._look()
            except LogError:
                pass  # not connected; the return of the connection wakes this loop

    async def _restore(self) -> None:
        """Make the consumers anew that are gone. They begin with the oldest record: what is settled is so at once."""
        for shard in sorted(self._gone):
            logger.warning("consumer is gone, making it anew", shard=shard)
            try:
                await self._ensure(shard)
            except LogError as error:
                # Perhaps there is one of other settings, which serves as well; if not, this is heard of again.
                logger.warning("consumer not made", shard=shard, error=str(error))
                await asyncio.sleep(TEND_SECONDS)
            self._pulls[shard].forget_all()
            self._gone.discard(shard)

    @property
    def _looking(self) -> bool:
        return self._free <= 0 < self._ahead

    async def _look(self) -> None:
        """Ask each shard for what is there, if the last answer was that there is more, or is some time ago."""
        shards = len(self._looks)
        for look in self._looks:
            look.forget_overdue()
        waiting = self._queue.qsize() + len(self._fetching) + sum(look.outstanding for look in self._looks)
        budget = self._ahead + self._free - waiting
        want = max(1, min(LOOK_RECORDS, budget // shards))
        now = asyncio.get_running_loop().time()
        for step in range(shards):
            shard = (self._next_look + step) % shards
            look = self._looks[shard]
            if budget > 0 and not look.outstanding and now >= look.empty_until:
                await look.ask(want, 0)
                budget -= want
        self._next_look += 1

    async def _renew(self) -> None:
        shards = len(self._pulls)
        free = self._free - self._queue.qsize() - len(self._fetching)
        budget = free - sum(pulls.outstanding for pulls in self._pulls)
        want = max(1, min(PULL_RECORDS, free // shards))
        seconds = PULL_SECONDS if free >= shards else SHORT_PULL_SECONDS
        first = self._next_shard
        for step in range(shards):
            shard = (first + step) % shards
            pulls = self._pulls[shard]
            have = pulls.outstanding
            batch = min(want - have, budget)
            if shard not in self._gone and batch > 0 and have <= want // 2:
                await pulls.ask(batch, seconds)
                budget -= batch
                self._next_shard = shard + 1  # only a shard that was asked has had its turn


def trace_of(headers: bytes) -> str:
    """The trace context of a record."""
    parent, state = header_value(headers, n.TRACE.encode()), header_value(headers, n.TRACE_STATE.encode())
    return f"{parent} {state}" if state else parent


class JetStreamWakeup:
    """See ``port.Wakeup``."""

    def __init__(self, connection: Connection, task: TaskRef, revision: int, reply: str) -> None:
        self._connection = connection
        self._reply = reply
        self.task = task
        self.revision = revision

    async def acknowledge(self) -> None:
        """See ``port.Wakeup``."""
        try:
            await self._connection.publish(self._reply, b"+ACK")
        except Unavailable:
            pass  # it comes back


async def wakeups(
    connection: Connection, names: Names, log: str, agent: str, ensure: Callable[[], Awaitable[None]]
) -> AsyncIterator[Wakeup]:
    """Due wake-ups of an agent, for as long as the iterator lives; ``ensure`` makes a consumer that is gone."""
    pulls = _Pulls(connection, names.timer_stream(log), names.worker_consumer(agent))
    queue: asyncio.Queue[JetStreamWakeup] = asyncio.Queue()
    gone = asyncio.Event()

    def sink(subject: str, reply: str, headers: bytes, payload: bytes) -> None:
        if subject.startswith(pulls.inbox):
            if status(headers):
                pulls.ended(subject)
                if pulls.refused(headers):
                    gone.set()
            return
        pulls.received()
        if payload.isdigit():
            queue.put_nowait(JetStreamWakeup(connection, names.task_of(subject), int(payload), reply))

    subscription = await connection.subscribe(f"{pulls.inbox}.*", sink)
    connection.on_return.append(pulls.forget_all)
    try:
        while True:
            pulls.forget_overdue()
            try:
                if gone.is_set():
                    await ensure()
                    gone.clear()
                if not pulls.outstanding:
                    await pulls.ask(PULL_RECORDS, PULL_SECONDS)
                async with asyncio.timeout(TEND_SECONDS):
                    due = await queue.get()
                yield due
            except TimeoutError:
                continue
            except LogError:
                await asyncio.sleep(TEND_SECONDS)
    finally:
        connection.on_return.remove(pulls.forget_all)
        await connection.unsubscribe(subscription)
