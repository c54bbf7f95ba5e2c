"""How long what a fault took away was missed: figures, not verdicts. Budgets stand where figures are published."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict

from msgspec import Struct

from faults.checker.appends import Appends
from faults.checker.run import NEVER, SECOND, Run, outcome
from faults.checker.timelines import Timeline
from faults.history import Append, Bitten, Fault, Send, Stored, Subscribe

FELT_SECONDS = 5
"""A gap that begins later than this after a fault is not its doing."""


class Figure(Struct, frozen=True):
    """Seconds, over all faults of one sort."""

    count: int
    p50: float
    p99: float
    longest: float


class FaultCount(Struct, frozen=True):
    """How often a fault was tried, and how often it is known to have bitten."""

    begun: int
    bitten: int


def faults(run: Run) -> dict[str, FaultCount]:
    """Every kind of fault."""
    begun: Counter[str] = Counter()
    bitten: Counter[str] = Counter()
    for call, fault in run.faults_by_begin:
        begun[fault.kind] += 1
        bite = outcome(call, Bitten)
        bitten[fault.kind] += bite is not None and bool(bite.evidence)
    return {kind: FaultCount(count, bitten[kind]) for kind, count in sorted(begun.items())}


def recovery(run: Run, timelines: dict[str, Timeline], appends: Appends) -> dict[str, Figure]:
    """How long each loss was felt.

    Of a leader: the longest time without an acknowledged append, told apart from where other faults came in between.
    Of a worker: until another claims its turn. Of a gateway: until a stream that it had is open again elsewhere.
    """
    lost = [(call.invoked_ns, fault) for call, fault in run.faults_by_begin if fault.loses]
    alone, among = _gaps(run, [(at, f) for at, f in lost if f.loses == "leader"])
    figures = {
        "leader": alone,
        "leader, among other faults": among,
        "worker": _claims(timelines, appends, [(at, f) for at, f in lost if f.loses == "worker"]),
        "gateway": _streams(run, [(at, f) for at, f in lost if f.loses == "gateway"]),
    }
    return {name: _figure(values) for name, values in figures.items() if values}


def _gaps(run: Run, lost: list[tuple[int, Fault]]) -> tuple[list[int], list[int]]:
    alone: list[int] = []
    among: list[int] = []
    if not lost:
        return alone, among
    acked: dict[int, list[int]] = defaultdict(list)
    for call, append in run.of(Append):
        if outcome(call, Stored) is not None:
            shard = append.task.split("-")[2] if append.task.count("-") > 2 else ""
            for which in (-1, int(shard) if shard.isdecimal() else -1):
                acked[which].append(call.ended_ns)
    for times in acked.values():
        times.sort()
    for at, fault in lost:
        times = acked.get(fault.shard, [])
        first = max(0, bisect_left(times, at) - 1)
        last = bisect_left(times, at + FELT_SECONDS * SECOND)
        gaps = zip(times[first:last], times[first + 1 : last + 1], strict=False)
        length, since, until = max(((after - before, before, after) for before, after in gaps), default=(0, 0, 0))
        if length:
            others = any(
                c.invoked_ns != at and c.invoked_ns <= until and c.ended_ns >= since for c, _ in run.faults_by_begin
            )
            (among if others else alone).append(length)
    return alone, among


def _claims(timelines: dict[str, Timeline], appends: Appends, lost: list[tuple[int, Fault]]) -> list[int]:
    """Of each turn that a lost worker owned: when another claimed it, or it was given up, minus the loss."""
    found: list[int] = []
    named = {claim.instance for timeline in timelines.values() for claim in timeline.claims}
    for timeline in timelines.values():
        for claim, following in zip(timeline.claims, timeline.claims[1:], strict=False):
            if following.instance == claim.instance:
                continue
            held = appends.stored_ns(timeline.task, claim.position)
            taken = appends.stored_ns(timeline.task, following.position)
            # A target that is no worker's name stands for several.
            losses = [at for at, f in lost if f.target == claim.instance or f.target not in named]
            during = [at for at in losses if held <= at < taken]
            if held and taken and during:
                found.append(taken - during[-1])
    return found


def _streams(run: Run, lost: list[tuple[int, Fault]]) -> list[int]:
    if not lost:
        return []
    resumed = {(call.life, subscribe.resumes): call for call, subscribe in run.of(Subscribe) if subscribe.resumes}
    found: list[int] = []
    for kind in (Subscribe, Send):
        for call in run.calls[kind]:
            stream = run.streams.get((call.life, call.number))
            gateway = getattr(call.operation, "gateway", "")
            if stream is None or stream.end is None or stream.end.how not in {"broken", "drained"}:
                continue
            losses = [at for at, f in lost if f.target == gateway and call.invoked_ns <= at <= stream.ended_ns]
            following = resumed.get((call.life, call.number))
            if losses and following is not None and following.ended_ns != NEVER:
                found.append(max(0, following.ended_ns - losses[-1]))
    return found


def _figure(values: list[int]) -> Figure:
    ordered = sorted(values)
    at = [ordered[min(len(ordered) - 1, len(ordered) * share // 100)] / SECOND for share in (50, 99, 100)]
    return Figure(len(ordered), *(round(value, 3) for value in at))
