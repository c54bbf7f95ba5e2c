"""``python -m tests.simulation SEED``: one run, readable; ``python -m tests.simulation FIRST-LAST``: many, in short."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections import Counter

from tests.simulation import scenario


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", help="a seed, or FIRST-LAST")
    parser.add_argument("--task", default="", help="show only trace lines that name this (the end of a task's id, say)")
    given = parser.parse_args()
    first, dash, last = given.seed.partition("-")
    if dash:
        return _many(range(int(first), int(last) + 1))
    verdict = scenario.run(given.seed)
    for line in verdict.history.lines():
        if given.task in line:
            _print(line)
    for task_id, records in verdict.history.timelines().items():
        if given.task in task_id:
            _print(f"\ntask {task_id}", *scenario.shown(records))
    _print(f"\n{len(verdict.violations)} violations", *verdict.violations)
    return bool(verdict.violations)


def _print(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _many(seeds: range) -> int:
    began = time.process_time()
    failed, counts = [], Counter[str]()
    for seed in seeds:
        verdict = scenario.run(seed)
        counts += verdict.history.counts
        if verdict.violations:
            failed.append(seed)
            _print(f"seed {seed}: " + "; ".join(verdict.violations[:3]))
        if seed % 20 == 0:
            gc.collect()
    seconds = time.process_time() - began
    for name, count in sorted(counts.items()):
        _print(f"{count:>9} {name}")
    _print(f"{len(seeds)} seeds, {seconds:.1f} s of CPU, {len(failed)} with violations: {failed[:20]}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
