"""The load client: `python -m bench.load` reads one order from standard input and answers on standard output.

A process for itself, so that its own work is neither in the servers' CPU nor in the orchestrator's way, and a new one
for each measurement, so that none inherits the garbage of the one before.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import re
import resource
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
import uvloop

from bench.cpu import cpu_seconds, family, resident_bytes
from bench.jobs import Answer, Fanout, Gets, Idle, Job, Make, Order, Script, Server, Streams
from bench.wire import NUMBERS, Body, Broken, Connection, Subscription, Tally, TaskStream

_T = TypeVar("_T")

_CONNECTING = 100  # at once, well under any server's backlog
_CHUNK = re.compile(rb"(\d{6}) x")


class Requests:
    """Requests as bytes, encoded once: only the message id changes, and it keeps its length."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._count: Iterator[int] = itertools.count()

    def _post(self, method: str, params: dict[str, Any]) -> bytes:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        return (
            b"POST / HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\na2a-version: 1.0\r\n"
            b"accept: application/json, text/event-stream\r\ncontent-length: %d\r\n\r\n%s"
        ) % (self._server.port, len(body), body)

    def streams(self, script: Script) -> Iterator[bytes]:
        return self._sends(self._server.dialect.stream, script)

    def blocking_sends(self, script: Script) -> Iterator[bytes]:
        return self._sends(self._server.dialect.send, script)

    def immediate_sends(self, script: Script) -> Iterator[bytes]:
        return self._sends(self._server.dialect.send, script, at_once=True)

    def get(self, task: str) -> bytes:
        return self._post(self._server.dialect.get, {"id": task})

    def subscribe(self, task: str) -> bytes:
        return self._post(self._server.dialect.subscribe, {"id": task})

    def _sends(self, method: str, script: Script, *, at_once: bool = False) -> Iterator[bytes]:
        place = "0" * 32
        message = {
            "messageId": place,
            "role": self._server.dialect.role,
            "parts": [{"data": {"script": msgspec.to_builtins(script)}}],
        }
        params: dict[str, Any] = {"message": message}
        if at_once and self._server.dialect.send == "SendMessage":
            params["configuration"] = {"returnImmediately": True}
        before, after = self._post(method, params).split(place.encode())
        for number in self._count:
            yield b"%s%032x%s" % (before, number, after)


class Load:
    def __init__(self, order: Order) -> None:
        self._server = order.server
        self._timeout = order.timeout
        self._requests = Requests(order.server)
        self._connections: list[Connection] = []
        self._pids = family(order.server.pids)
        self._answer = Answer()
        self._stage: Callable[[], str] = lambda: ""  # how far it got, for whoever reads that it did not get to the end

    async def run(self, job: Job) -> Answer:
        try:
            async with asyncio.timeout(self._timeout):
                await self._dispatch(job)
        except TimeoutError:
            self._answer.failure = f"not done after {self._timeout:.0f} s: {self._stage()}"
        except (Broken, OSError) as error:
            self._answer.failure = str(error)
        finally:
            for connection in self._connections:
                connection.close()
        return self._answer

    async def _dispatch(self, job: Job) -> None:
        match job:
            case Streams():
                await self._streams(job)
            case Make():
                await self._make(job)
            case Gets():
                await self._gets(job)
            case Fanout():
                await self._fanout(job)
            case Idle():
                await self._idle(job)

    async def _connect(self) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", self._server.port)
        self._connections.append(connection)
        return connection

    async def _connect_all(self, count: int) -> list[Connection]:
        return await _limited([self._connect() for _ in range(count)])

    async def _streams(self, job: Streams) -> None:
        """Connections first, then the clock: what is measured is tasks, not TCP."""
        tally = Tally(job.script.chunks, self._server.dialect.completed, stamped=job.script.stamp)
        loop = _ClosedLoop(job, tally, self._requests, self._connect)
        tenths = _Parts(job, tally, self._pids)
        connections = await self._connect_all(job.clients)
        cpu, own, started = cpu_seconds(self._pids), time.process_time(), time.perf_counter()
        loop.deadline = started + job.seconds
        client = loop.sends if job.blocking else loop.streams
        self._stage = lambda: f"{len(loop.terminal)} tasks of {job.clients} clients ended, {tally.events} events"

        async def later(connection: Connection, number: int) -> None:
            if job.stagger:
                await asyncio.sleep(job.stagger * number / job.clients)
            await client(connection)

        await _all([later(connection, number) for number, connection in enumerate(connections)])
        answer = self._answer
        answer.elapsed = time.perf_counter() - started
        answer.cpu = cpu_seconds(self._pids) - cpu
        answer.client_cpu = time.process_time() - own
        answer.events = tally.events
        answer.tasks = len(loop.terminal)
        answer.first = _quantiles(loop.first)
        answer.terminal = _quantiles(loop.terminal)
        answer.chunk = _quantiles([delay / 1e9 for delay in tally.delays] if job.script.stamp else loop.chunk)
        answer.parts = tenths.costs()

    async def _make(self, job: Make) -> None:
        tally = Tally(job.script.chunks, self._server.dialect.completed, stamped=False)
        connection = await self._connect()
        ids: list[str] = []

        class Named(TaskStream):
            def on_block(self, block: bytes) -> None:
                if not ids:
                    ids.append(_task_id(block.split(self.separator)[0]))
                super().on_block(block)

        stream = Named(tally)
        begun = time.perf_counter()
        await connection.exchange(next(self._requests.streams(job.script)), stream)
        stream.check_ended()
        self._answer.elapsed = time.perf_counter() - begun
        self._answer.task = ids[0]

    async def _gets(self, job: Gets) -> None:
        connection = await self._connect()
        request = self._requests.get(job.task)
        times: list[float] = []
        body = Body()
        cpu, started = cpu_seconds(self._pids), time.perf_counter()
        while (begun := time.perf_counter()) - started < job.seconds or len(times) < 3:
            body = Body()
            await connection.exchange(request, body)
            times.append(time.perf_counter() - begun)
        answer = self._answer
        answer.elapsed = time.perf_counter() - started
        answer.cpu = cpu_seconds(self._pids) - cpu
        answer.tasks = len(times)
        answer.terminal = _quantiles(times)
        answer.size = len(body.bytes())
        if b'"result"' not in body.bytes():
            raise Broken(body.bytes()[:300].decode(errors="replace"))
        answer.events = len(_CHUNK.findall(body.bytes()))

    async def _fanout(self, job: Fanout) -> None:
        """The task speaks while subscriptions are still being opened; only what comes after the last one counts."""
        script = Script(chunks=9_999, delay_ms=job.delay_ms, stamp=True)
        tally = Tally(script.chunks, self._server.dialect.completed, stamped=True)
        loop = asyncio.get_running_loop()
        named: asyncio.Future[str] = loop.create_future()
        owner = await self._connect()
        running = owner.exchange(
            next(self._requests.streams(script)),
            Subscription(tally, lambda frame: named.set_result(_task_id(frame)), lambda _number, _delay: None),
        )
        request = self._requests.subscribe(await _first_of(named, running))
        await self._settle()
        before = resident_bytes(self._server.gateway)
        delays: dict[int, list[float]] = {}
        enough: asyncio.Future[None] = loop.create_future()

        def arrived(number: int, delay: int) -> None:
            if not everyone:
                return
            bucket = delays.setdefault(number, [])
            bucket.append(delay / 1e9)
            if len(bucket) == job.subscribers and not enough.done():
                complete = sum(len(bucket) == job.subscribers for bucket in delays.values())
                if complete == job.events:
                    enough.set_result(None)

        everyone = False
        started = time.perf_counter()
        streams = await self._subscribe_all(tally, [request] * job.subscribers, arrived)
        self._answer.open_seconds = time.perf_counter() - started
        await self._settle()
        self._answer.memory = (resident_bytes(self._server.gateway) - before) / job.subscribers
        self._stage = lambda: f"of the events, subscriptions got {[len(bucket) for bucket in delays.values()]}"
        everyone = True
        cpu = cpu_seconds(self._pids)
        await _first_of(enough, running, *streams)
        self._answer.cpu = cpu_seconds(self._pids) - cpu
        whole = [bucket for bucket in delays.values() if len(bucket) == job.subscribers]
        self._answer.chunk = _quantiles([delay for bucket in whole for delay in bucket])
        self._answer.to_all = _quantiles([max(bucket) for bucket in whole])
        self._answer.events = len(whole) * job.subscribers

    async def _idle(self, job: Idle) -> None:
        """The tasks exist before the first measurement of memory, so that it is subscriptions that are weighed."""
        script = Script(chunks=2, delay_ms=3_600_000)
        requests = self._requests.immediate_sends(script)
        tally = Tally(script.chunks, self._server.dialect.completed, stamped=False)
        ids: list[str] = []

        async def create(connection: Connection, count: int) -> None:
            for _ in range(count):
                body = Body()
                await connection.exchange(next(requests), body)
                ids.append(_task_id(body.bytes()))

        self._stage = lambda: f"{len(ids)} of {job.subscribers} tasks created"
        makers = await self._connect_all(50)
        each = job.subscribers // len(makers)
        await _all([create(maker, each) for maker in makers])
        await self._settle()
        before = resident_bytes(self._server.gateway)
        started = time.perf_counter()
        streams = await self._subscribe_all(
            tally, [self._requests.subscribe(task) for task in ids], lambda _number, _delay: None
        )
        self._answer.open_seconds = time.perf_counter() - started
        await self._settle()
        self._answer.memory = (resident_bytes(self._server.gateway) - before) / job.subscribers
        ended = next((stream for stream in streams if stream.done()), None)
        if ended is not None:
            ended.result()
            raise Broken("an idle subscription was ended")

    async def _subscribe_all(
        self, tally: Tally, requests: Sequence[bytes], arrived: Callable[[int, int], None]
    ) -> list[asyncio.Future[None]]:
        loop = asyncio.get_running_loop()

        async def subscribe(request: bytes) -> asyncio.Future[None]:
            connection = await self._connect()
            ready: asyncio.Future[None] = loop.create_future()

            def first(frame: bytes) -> None:
                if not ready.done():
                    ready.set_result(None)
                if b'"error"' in frame:
                    raise Broken(frame[:300].decode(errors="replace"))

            running = connection.exchange(request, Subscription(tally, first, arrived))
            await _first_of(ready, running)
            opened.append(running)
            return running

        opened: list[asyncio.Future[None]] = []
        self._stage = lambda: f"{len(opened)} of {len(requests)} subscriptions opened"

        return await _limited([subscribe(request) for request in requests])

    async def _settle(self) -> None:
        """Wait until the servers rest: what they still do for the connections just opened is not to be measured."""
        for _ in range(40):
            before = cpu_seconds(self._pids)
            await asyncio.sleep(0.25)
            if cpu_seconds(self._pids) - before < 0.02:
                return


class _ClosedLoop:
    """What each client does until the time is over; the times it took are seconds since its request."""

    def __init__(
        self, job: Streams, tally: Tally, requests: Requests, connect: Callable[[], Coroutine[Any, Any, Connection]]
    ) -> None:
        self._tally = tally
        self._connect = connect
        self._requests = requests.blocking_sends(job.script) if job.blocking else requests.streams(job.script)
        self.deadline = 0.0
        self.first: list[float] = []
        self.chunk: list[float] = []
        self.terminal: list[float] = []

    async def streams(self, connection: Connection) -> None:
        while True:
            if connection.closed:
                connection = await self._connect()
            stream = TaskStream(self._tally)
            begun = time.perf_counter()
            await connection.exchange(next(self._requests), stream)
            stream.check_ended()
            self.first.append(stream.first_at - begun)
            self.chunk.append(stream.chunk_at - begun)
            self.terminal.append(stream.terminal_at - begun)
            if time.perf_counter() >= self.deadline:
                return

    async def sends(self, connection: Connection) -> None:
        while True:
            if connection.closed:
                connection = await self._connect()
            body = Body()
            begun = time.perf_counter()
            await connection.exchange(next(self._requests), body)
            self.terminal.append(time.perf_counter() - begun)
            _check_task(body.bytes(), self._tally)
            if time.perf_counter() >= self.deadline:
                return


class _Parts:
    """CPU per event of each part of a run, by how many events have arrived."""

    def __init__(self, job: Streams, tally: Tally, pids: Sequence[int]) -> None:
        self._tally = tally
        self._pids = pids
        self._samples: list[tuple[int, float]] = []
        self._marks: list[int] = []
        if job.marks:
            total = job.clients * job.script.chunks
            # The first a little after the start, so that creating the tasks is not charged to their first events; the
            # last a little before the end, so that ending them is not charged to their last.
            inner = [total * part // job.marks for part in range(1, job.marks)]
            self._marks = [total // 100, *inner, total * 99 // 100]
            tally.next_mark = self._marks[0]
            tally.on_mark = self._sample

    def costs(self) -> list[float]:
        return [
            (cpu_after - cpu_before) / (after - before)
            for (before, cpu_before), (after, cpu_after) in itertools.pairwise(self._samples)
        ]

    def _sample(self) -> None:
        events = self._tally.events
        self._samples.append((events, cpu_seconds(self._pids)))
        self._tally.next_mark = next((mark for mark in self._marks if mark > events), 0)


def _check_task(body: bytes, tally: Tally) -> None:
    if tally.completed not in body:
        raise Broken(body[:300].decode(errors="replace"))
    # Wherever they stand: a server may keep the chunks as parts or as one text.
    numbers = _CHUNK.findall(body)
    if numbers != NUMBERS[: tally.expected]:
        raise Broken(f"task has {len(numbers)} chunks instead of {tally.expected}")
    tally.events += tally.expected


def _task_id(frame: bytes) -> str:
    data = frame[frame.index(b"{") :]
    answer = json.loads(data)
    if "result" not in answer:
        raise Broken(json.dumps(answer)[:300])
    task = answer["result"].get("task")
    if task is None:
        raise Broken(f"expected a task first: {json.dumps(answer)[:300]}")
    return str(task["id"])


def _quantiles(values: list[float]) -> list[float]:
    """[p50, p99], nothing from nothing."""
    if not values:
        return []
    ordered = sorted(values)
    return [ordered[int((len(ordered) - 1) * share)] for share in (0.5, 0.99)]


async def _first_of(wanted: asyncio.Future[_T], *others: asyncio.Future[None]) -> _T:
    """The result of `wanted`, unless one of the streams it depends on ends before."""
    either: list[asyncio.Future[Any]] = [wanted, *others]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if wanted.done():
        return wanted.result()
    for other in others:
        if other.done():
            other.result()
    raise Broken("a stream ended before its time")


async def _all(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """All of it, and when one breaks none of it: the others would only go on loading a server that has failed."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _limited(work: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
    """All of it, only so many at a time."""
    slots = asyncio.Semaphore(_CONNECTING)

    async def one(each: Coroutine[Any, Any, _T]) -> _T:
        async with slots:
            return await each

    return await asyncio.gather(*(one(each) for each in work))


def main() -> None:
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.disable()  # a collection of ours would show as a latency of theirs; a run is too short to need one

    async def run() -> Answer:
        return await Load(order).run(order.job)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        answer = runner.run(run())
    sys.stdout.buffer.write(msgspec.json.encode(answer))


if __name__ == "__main__":
    main()
