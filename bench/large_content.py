"""`python -m bench.large_content`: the same megabytes as records and as objects, in turns (ADR 0016).

One gateway, one worker and one nats-server that syncs each write, as processes. A cell moves the same number of bytes
in messages or artifacts of one size; the cells take turns. While each runs, somebody else asks the gateway for a few
bytes again and again: what that takes is what large content costs the others.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any, Final

import httpx
from msgspec import Struct

from a2a_events.services.nats_server import NatsServer
from a2a_events.testing import Deployment

MB: Final = 1_000_000
_TICK: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Cell(Struct, frozen=True):
    """So many pieces of so many bytes a task, out of the agent or into it."""

    name: str
    pieces: int
    size: int
    inbound: bool = False


class Measured(Struct, frozen=True):
    """One turn of a cell."""

    seconds: float
    cpu: dict[str, float]
    peak_mb: dict[str, float]
    others_ms: list[float]


CELLS: Final = [
    Cell("out, 20 x 500 KB", 20, 500_000),
    Cell("out, 2 x 5 MB", 2, 5 * MB),
    Cell("in, 20 x 500 KB", 20, 500_000, inbound=True),
    Cell("in, 2 x 5 MB", 2, 5 * MB, inbound=True),
]
CLIENTS: Final = 4


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=4)
    rounds = options.parse_args().rounds
    server = NatsServer(sync="always")
    await server.start()
    try:
        async with Deployment(server.url) as deployment:
            pids = {"gateway": deployment.gateways[0].pid, "worker": deployment.workers[0].pid, "nats": server.pid}
            results: dict[str, list[Measured]] = {cell.name: [] for cell in CELLS}
            async with httpx.AsyncClient(base_url=deployment.gateways[0].url, timeout=120) as http:
                for cell in CELLS:
                    await _turn(http, cell, pids)  # warm
                for _ in range(rounds):
                    for cell in CELLS:
                        results[cell.name].append(await _turn(http, cell, pids))
    finally:
        await server.stop()
        server.clean()
    for cell in CELLS:
        _print(cell, results[cell.name])


async def _turn(http: httpx.AsyncClient, cell: Cell, pids: dict[str, int]) -> Measured:
    before = {name: _cpu(pid) for name, pid in pids.items()}
    others: list[float] = []
    peak = dict.fromkeys(pids, 0.0)
    asking = asyncio.create_task(_ask(http, others, pids, peak))
    started = time.perf_counter()
    await asyncio.gather(*(_task(http, cell) for _ in range(CLIENTS)))
    seconds = time.perf_counter() - started
    asking.cancel()
    return Measured(
        seconds,
        {name: _cpu(pid) - before[name] for name, pid in pids.items()},
        peak,
        others,
    )


async def _task(http: httpx.AsyncClient, cell: Cell) -> None:
    headers = {"A2A-Version": "1.0"}
    if not cell.inbound:
        script = {"script": {"chunks": cell.pieces, "bytes": cell.size, "artifacts": cell.pieces}}
        received = 0
        async with http.stream("POST", "/message:stream", json=_message({"data": script}), headers=headers) as response:
            async for piece in response.aiter_raw():
                received += len(piece)
        assert received > cell.pieces * cell.size, received
        return
    body = json.dumps(_message({"text": "x" * cell.size}, {"data": {"script": {"chunks": 0}}})).encode()
    headers["content-type"] = "application/json"
    for _ in range(cell.pieces):
        answer = await http.post("/message:send", content=body, headers=headers)
        assert answer.status_code == 200, answer.text[:300]


def _message(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"message": {"messageId": os.urandom(6).hex(), "role": "ROLE_USER", "parts": list(parts)}}


async def _ask(
    http: httpx.AsyncClient, milliseconds: list[float], pids: dict[str, int], peak: dict[str, float]
) -> None:
    while True:
        for name, pid in pids.items():
            peak[name] = max(peak[name], _resident_mb(pid))
        began = time.perf_counter()
        await http.get("/livez")
        milliseconds.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.005)


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE / MB


def _print(cell: Cell, turns: list[Measured]) -> None:
    moved = CLIENTS * cell.pieces * cell.size / MB
    rate = statistics.median(moved / turn.seconds for turn in turns)
    others = sorted(ms for turn in turns for ms in turn.others_ms)
    cpu = {name: statistics.median(turn.cpu[name] / moved * 1000 for turn in turns) for name in turns[0].cpu}
    peak = {name: max(turn.peak_mb[name] for turn in turns) for name in turns[0].peak_mb}
    print(
        f"{cell.name:<18} {rate:6.1f} MB/s   CPU ms/MB "
        + " ".join(f"{name} {value:5.1f}" for name, value in cpu.items())
        + "   peak MB "
        + " ".join(f"{name} {value:4.0f}" for name, value in peak.items())
        + f"   others p50 {others[len(others) // 2]:.1f} p99 {others[int(len(others) * 0.99)]:.1f}"
        + f" max {others[-1]:.0f} ms"
    )


if __name__ == "__main__":
    asyncio.run(main())
