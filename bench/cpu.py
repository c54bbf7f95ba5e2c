"""CPU time and memory of processes that are not ours to instrument."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

_CPUCLOCK_SCHED = 2


def family(pids: Iterable[int]) -> list[int]:
    """The processes and all their descendants, so that a server that forks is charged for what it started."""
    found: list[int] = []
    queue = list(pids)
    while queue:
        pid = queue.pop()
        if pid in found:
            continue
        found.append(pid)
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            queue.extend(int(child) for child in children.read_text().split())
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of all threads, living and ended.

    This is the sum /proc/PID/stat shows in ticks of 10 ms, read through the process's CPU clock (the clock id
    clock_getcpuclockid(3) gives) to the nanosecond: a tenth of a growing task is no more than a few ticks.
    """
    return sum(time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED) for pid in pids)


def resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)
