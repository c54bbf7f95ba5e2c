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

    Of a leader: the longest time without an acknowledged append. Of a worker: until another claims its turn. Of a
    gateway: until a stream that it had is open again elsewhere. Each is told apart from where other faults came in
    between.
    """
    lost = [(call.invoked_ns, fault) for call, fault in run.faults_by_begin if fault.loses]
    spans = {
        "leader": _gaps(run, [(at, f) for at, f in lost if f.loses == "leader"]),
        "worker": _claims(timelines, appends, [(at, f) for at, f in lost if f.loses == "worker"]),
        "gateway": _streams(run, [(at, f) for at, f in lost if f.loses == "gateway"]),
    }
    figures: dict[str, list[int]] = defaultdict(list)
    for name, found in spans.items():
        for span in found:
            figures[f"{name}, among other faults" if _others(run, span) else name].append(span.length_ns)
    return {name: _figure(values) for name, values in figures.items()}


class _Span(Struct, frozen=True):
    """What was felt of one loss."""

    at_ns: int
    """When it was lost: also which fault it was."""
    since_ns: int
    until_ns: int

    @property
    def length_ns(self) -> int:
        return max(0, self.until_ns - self.since_ns)


def _others(run: Run, span: _Span) -> bool:
    """Whether another fault was active meanwhile."""
    return any(
        c.invoked_ns != span.at_ns and c.invoked_ns <= span.until_ns and c.ended_ns >= span.since_ns
        for c, _ in run.faults_by_begin
    )


def _gaps(run: Run, lost: list[tuple[int, Fault]]) -> list[_Span]:
    found: list[_Span] = []
    if not lost:
        return found
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
            found.append(_Span(at, since, until))
    return found


def _claims(timelines: dict[str, Timeline], appends: Appends, lost: list[tuple[int, Fault]]) -> list[_Span]:
    """Of each turn that a lost worker owned: from the loss until another claimed it, or it was given up."""
    found: list[_Span] = []
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
                found.append(_Span(during[-1], during[-1], taken))
    return found


def _streams(run: Run, lost: list[tuple[int, Fault]]) -> list[_Span]:
    if not lost:
        return []
    resumed = {(call.life, subscribe.resumes): call for call, subscribe in run.of(Subscribe) if subscribe.resumes}
    found: list[_Span] = []
    for kind in (Subscribe, Send):
        for call in run.calls[kind]:
            stream = run.streams.get((call.life, call.number))
            gateway = getattr(call.operation, "gateway", "")
            if stream is None or stream.end is None or stream.end.how not in {"broken", "drained"}:
                continue
            losses = [at for at, f in lost if f.target == gateway and call.invoked_ns <= at <= stream.ended_ns]
            following = resumed.get((call.life, call.number))
            if losses and following is not None and following.ended_ns != NEVER:
                found.append(_Span(losses[-1], losses[-1], following.ended_ns))
    return found


def _figure(values: list[int]) -> Figure:
    ordered = sorted(values)
    at = [ordered[min(len(ordered) - 1, len(ordered) * share // 100)] / SECOND for share in (50, 99, 100)]
    return Figure(len(ordered), *(round(value, 3) for value in at))
