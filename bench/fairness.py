"""One tenant asks as fast as it can, and another one goes on as usual: ``python -m bench.fairness``.

What is measured is the other one: the first update and the end of its streams, and GetTask. In each round three
measurements take turns, in changing order: it is *alone*; beside it is a *neighbour*, who sends as much as a tenant
may and no more; beside it is an *abuser*, who sends from many connections without a pause, whatever it is answered.
Whatever else the machine does falls on all three. Who is beside runs at the lowest priority: on a network it would
have a machine of its own, and here it must not take the gateway's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from a2a_events.bindings.identity.api_keys import new_key, written
from a2a_events.bindings.identity.port import Scope
from bench.cpu import cpu_seconds
from bench.jobs import Server
from bench.load import _all, _quantiles, _task_id
from bench.targets.ours import Ours
from bench.wire import Body, Broken, Connection, Tally, TaskStream

_FOLDER = Path(".bench")
_MODES = ("alone", "neighbour", "abuser")
_KINDS = ("first update", "end of stream", "GetTask")
_CHUNKS = 5

Times = dict[str, dict[str, list[list[float]]]]
"""Seconds, by what was beside and what was measured, of each round."""

_READY_SECONDS = 60.0
_LEAD_SECONDS = 3.0
"""What who is beside gets to use up its burst before anything is measured."""


_REST_SECONDS = 2.0
"""Between two measurements, for what is left to end."""


class Part(msgspec.Struct, frozen=True):
    """What one client process does."""

    port: int
    key: str
    connections: int
    seconds: float
    pause_seconds: float = 0.0
    per_second: float = 0.0
    """0: as fast as it can."""


class Found(msgspec.Struct):
    """Seconds of each kind, or how often each status was answered."""

    times: dict[str, list[float]] = {}
    statuses: dict[int, int] = {}


def _request(part: Part, method: str, params: dict[str, Any]) -> bytes:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    return (
        b"POST / HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\na2a-version: 1.0\r\n"
        b"x-api-key: %s\r\ncontent-length: %d\r\n\r\n%s"
    ) % (part.port, part.key.encode(), len(body), body)


def _stream(part: Part) -> bytes:
    script = {"script": {"chunks": _CHUNKS, "bytes": 64, "delayMs": 0}}
    message = {"messageId": os.urandom(8).hex(), "role": "ROLE_USER", "parts": [{"data": script}]}
    return _request(part, "SendStreamingMessage", {"message": message})


async def _connect(part: Part) -> Connection:
    _, made = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", part.port)
    return made


async def usual(part: Part) -> Found:
    """A stream, three times GetTask, a pause; on each connection."""
    times: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    tally = Tally(_CHUNKS, "TASK_STATE_COMPLETED", stamped=False)
    until = time.perf_counter() + part.seconds

    class Named(TaskStream):
        task = ""

        def on_block(self, block: bytes) -> None:
            self.task = self.task or _task_id(block.split(self.separator)[0])
            super().on_block(block)

    async def client(number: int) -> None:
        connection = await _connect(part)
        await asyncio.sleep(part.pause_seconds * number / part.connections)
        while time.perf_counter() < until:
            stream, begun = Named(tally), time.perf_counter()
            await connection.exchange(_stream(part), stream)
            stream.check_ended()
            times["first update"].append(stream.first_at - begun)
            times["end of stream"].append(stream.terminal_at - begun)
            for _ in range(3):
                begun = time.perf_counter()
                await connection.exchange(_request(part, "GetTask", {"id": stream.task}), Body())
                times["GetTask"].append(time.perf_counter() - begun)
            await asyncio.sleep(part.pause_seconds)
        connection.close()

    await _all([client(number) for number in range(part.connections)])
    return Found(times=times)


class Careless(asyncio.Protocol):
    """A connection on which requests are sent without regard to what is answered; statuses are counted."""

    def __init__(self, statuses: Counter[int]) -> None:
        self._statuses = statuses
        self._rest = b""
        self._next: asyncio.Future[None] | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # it is one

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- the protocol's
        self.transport = None
        if self._next is not None and not self._next.done():
            self._next.set_result(None)

    async def ask(self, request: bytes) -> None:
        """One request, until its answer has ended or the connection has."""
        if self.transport is None:
            return
        self._rest = b""
        self._next = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        await self._next

    def data_received(self, data: bytes) -> None:
        data = self._rest = self._rest + data
        head, blank, body = data.partition(b"\r\n\r\n")
        if not blank or self._next is None or self._next.done():
            return
        lower = head.lower()
        at = lower.find(b"\r\ncontent-length:")
        whole = body.endswith(b"0\r\n\r\n") if at < 0 else len(body) >= int(lower[at + 17 :].split(b"\r\n", 1)[0])
        if whole:
            self._statuses[int(head[9:12])] += 1
            self._next.set_result(None)


async def beside(part: Part) -> Found:
    """Streaming sends: so many in a second, evenly, or as many as there can be."""
    statuses: Counter[int] = Counter()
    until = time.perf_counter() + part.seconds

    async def client(number: int) -> None:
        connection = Careless(statuses)
        every = part.connections / part.per_second if part.per_second else 0.0
        due = time.perf_counter() + every * number / part.connections
        while time.perf_counter() < until:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            due = max(due + every, time.perf_counter())  # what is late is not made up for
            if connection.transport is None:
                connection = Careless(statuses)
                try:
                    await asyncio.get_running_loop().create_connection(
                        partial(_same, connection), "127.0.0.1", part.port
                    )
                except OSError:
                    statuses[0] += 1
                    continue
            await connection.ask(_stream(part))

    tasks = [asyncio.ensure_future(client(number)) for number in range(part.connections)]
    ended, waiting = await asyncio.wait(tasks, timeout=part.seconds + 1)
    for task in waiting:
        task.cancel()
    for task in ended:
        task.result()  # a client that broke would leave the other one alone
    return Found(statuses=dict(statuses))


def _same(connection: Careless) -> Careless:
    return connection


async def _child(role: str, part: Part) -> Found:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.fairness", "--as", role),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        output, errors = await child.communicate(msgspec.json.encode(part))
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode:
        raise Broken(f"the {role} broke: {errors.decode(errors='replace')[-500:]}")
    return msgspec.json.decode(output, type=Found)


async def _measure(options: argparse.Namespace, folder: Path) -> None:
    keys, lines = zip(*(new_key(name, tenant=name, scopes=list(Scope)) for name in ("usual", "beside")), strict=True)
    file = folder / "keys.jsonl"
    file.write_bytes(written(list(lines)))
    settings = {
        "A2A_EVENTS_AUTH": "api_keys",
        "A2A_EVENTS_AUTH_API_KEYS": str(file),
        "A2A_EVENTS_RATE_PER_TENANT": str(options.rate),
        "A2A_EVENTS_RATE_PER_TENANT_BURST": str(2 * options.rate),
    }
    target = Ours("ours", options.fsync, folder, settings)
    server = await target.start()
    try:
        me = Part(server.port, keys[0], options.clients, options.seconds, pause_seconds=options.pause)
        async with asyncio.timeout(_READY_SECONDS):
            while not await _is_ready(me):  # a gateway may listen before any worker does
                pass
        _report(options, await _rounds(options, server, me, keys[1]))
    finally:
        await target.stop()


async def _is_ready(me: Part) -> bool:
    try:
        await _child("usual", msgspec.structs.replace(me, seconds=_LEAD_SECONDS))
    except Broken:
        await asyncio.sleep(0.5)
        return False
    return True


async def _rounds(options: argparse.Namespace, server: Server, me: Part, their_key: str) -> Times:
    seconds = options.seconds + 2 * _LEAD_SECONDS
    beside = {
        "neighbour": Part(server.port, their_key, 16, seconds, per_second=options.rate * 0.95),
        "abuser": Part(server.port, their_key, options.connections, seconds),
    }
    found: Times = {mode: {kind: [] for kind in _KINDS} for mode in _MODES}
    for turn in range(options.rounds):
        for mode in _MODES[turn % 3 :] + _MODES[: turn % 3]:
            other = asyncio.create_task(_child("beside", beside[mode])) if mode in beside else None
            await asyncio.sleep(_LEAD_SECONDS)
            used, begun = cpu_seconds([server.gateway]), time.perf_counter()
            times = (await _child("usual", me)).times
            cpu = (cpu_seconds([server.gateway]) - used) / (time.perf_counter() - begun)
            statuses = (await other).statuses if other is not None else {}
            if mode == "abuser" and not statuses.get(429):
                raise Broken(f"the abuser was never told that it asks for too much: {statuses}")
            for kind in _KINDS:
                found[mode][kind].append(times[kind])
            p99 = ", ".join(f"{kind} {_ms(times[kind])[1]:.1f}" for kind in _KINDS)
            answered = ", ".join(f"{count / seconds:.0f} × {status}" for status, count in sorted(statuses.items()))
            shown = f"p99 in ms: {p99}; gateway's CPU {cpu:.2f}" + (f"; a second {answered}" if answered else "")
            print(f"round {turn + 1}, {mode}: {shown}", file=sys.stderr, flush=True)
            await asyncio.sleep(_REST_SECONDS)
    return found


def _report(options: argparse.Namespace, found: Times) -> None:
    print(f"{options.rounds} rounds of {options.seconds:g} s; {options.rate} requests/s for a tenant; usual: ", end="")
    print(f"{options.clients} clients with a pause of {options.pause:g} s; abuser: {options.connections} connections.")
    print("p50 and p99 in ms, medians of the rounds; their ratios to alone, the median and (least to most);")
    print("and the ratio of all rounds as one, whose p99 rests on more than a few requests.")
    for kind in _KINDS:
        alone = [_ms(times) for times in found["alone"][kind]]
        for mode in _MODES:
            each = [_ms(times) for times in found[mode][kind]]
            print(f"{kind:<14} {mode:<10}", end="")
            for at, name in enumerate(("p50", "p99")):
                ratios = sorted(one[at] / base[at] for one, base in zip(each, alone, strict=True))
                whole, whole_alone = (
                    _ms(list(chain.from_iterable(found[which][kind])))[at] for which in (mode, "alone")
                )
                print(f" {name} {statistics.median(one[at] for one in each):6.2f}", end="")
                print(f" × {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})", end="")
                print(f", all × {whole / whole_alone:.2f}", end="")
            print(f"  of {sum(map(len, found[mode][kind]))}")


def _ms(times: list[float]) -> tuple[float, float]:
    p50, p99 = _quantiles(times)
    return p50 * 1000, p99 * 1000


def _stand_back() -> None:
    """At the lowest priority; where sessions share a machine equally (autogroups of Linux) that of the session."""
    os.nice(40)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text("19")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fairness", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--clients", type=int, default=4, help="of the usual tenant")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between two tasks of each")
    parser.add_argument("--connections", type=int, default=64, help="of the abuser")
    parser.add_argument("--rate", type=int, default=40, help="requests that a tenant may send in a second")
    parser.add_argument("--fsync", choices=["always", "2m"], default="2m", help="the NATS server's sync_interval")
    parser.add_argument("--as", dest="role", choices=["usual", "beside"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role is None:
        _FOLDER.mkdir(exist_ok=True)
        (_FOLDER / ".gitignore").write_text("*\n")
        with tempfile.TemporaryDirectory(prefix="fairness-", dir=_FOLDER) as folder:
            asyncio.run(_measure(options, Path(folder).resolve()))
        return
    part = msgspec.json.decode(sys.stdin.buffer.read(), type=Part)
    gc.disable()
    if options.role == "beside":
        _stand_back()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(usual(part) if options.role == "usual" else beside(part))
    sys.stdout.buffer.write(msgspec.json.encode(found))


if __name__ == "__main__":
    main()
