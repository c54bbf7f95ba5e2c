"""What writers were told, against what the log has: I1, I9, I12, I13, and the part of I3 and I7 that writers see."""

from __future__ import annotations

from collections import defaultdict

from faults.checker.findings import Findings
from faults.checker.run import NEVER, Call, LogRecord, Run, outcome
from faults.checker.timelines import Timeline
from faults.history import Acknowledge, Append, Stored


class Appends:
    """Every try of every append, by task and record id.

    Args:
        run: the run.
        timelines: of its log.
        findings: takes what is found.
    """

    def __init__(self, run: Run, timelines: dict[str, Timeline], findings: Findings) -> None:
        self._run = run
        self._timelines = timelines
        self._findings = findings
        self._tries: dict[tuple[str, str], list[tuple[Call, Append]]] = defaultdict(list)
        for call, append in run.of(Append):
            self._tries[append.task, append.record_id].append((call, append))
        self._begun: dict[tuple[str, int], int] = {}
        self._acked: dict[tuple[str, int], int] = {}

    def begun_ns(self, task: str, position: int) -> int:
        """When the record at a position was first offered; 0 if nobody recorded it."""
        return self._begun.get((task, position), 0)

    def stored_ns(self, task: str, position: int) -> int:
        """When its writer knew that it was stored; of one that was never told, when it was first offered."""
        return self._acked.get((task, position)) or self._begun.get((task, position), 0)

    def acknowledged_ns(self, task: str, position: int) -> int:
        """When its writer knew that it was stored; ``NEVER`` if it was never told."""
        return self._acked.get((task, position), NEVER)

    def judge(self) -> None:
        """All rules of the module."""
        if not self._tries:
            return
        self._judge_tries()
        for timeline in self._timelines.values():
            self._judge_records(timeline)
            self._judge_real_time(timeline)
        self._judge_fenced()
        self._judge_acknowledged()

    def _judge_tries(self) -> None:
        check, counts = self._findings.check, self._findings.counts
        ends: dict[str, int] = {}
        for timeline in self._timelines.values():
            for record in timeline.records:
                ends[record.stream] = max(ends.get(record.stream, 0), record.position)
        lost: list[tuple[int, str]] = []
        for (task, record_id), tries in self._tries.items():
            known = self._timelines.get(task)
            standing = known.by_id.get(record_id) if known is not None else None
            for call, append in tries:
                counts["appends"] += 1
                if call.phase == "fail":
                    counts["conflicts" if call.error.startswith("Conflict") else "appends refused"] += 1
                    if call.error.startswith("Unavailable: wrong last sequence"):
                        counts["appends in flight"] += 1
                elif call.phase == "info":
                    counts["appends indeterminate"] += 1
                stored = outcome(call, Stored)
                if stored is None:
                    continue
                counts["appends acknowledged"] += 1
                same = standing is not None and standing.position == stored.position and _same(append, standing)
                check(
                    same,
                    "I1",
                    task,
                    f"the record {record_id} was acknowledged at {stored.position}, and the log has "
                    + ("none" if standing is None else "another one there"),
                    call,
                    standing,
                )
                if standing is None:
                    lost.append((stored.position, self._stream(task)))
            refused = all(call.phase == "fail" for call, _ in tries)
            if refused:
                check(
                    standing is None,
                    "I12",
                    task,
                    f"every try to store {record_id} was refused for certain, and the log has it",
                    *(call for call, _ in tries),
                    standing,
                )
        for position, stream in lost:
            where = (
                "postfix"
                if position > ends.get(stream, 0)
                else "prefix"
                if self._first(stream) > position
                else "middle"
            )
            counts[f"lost {where}"] += 1

    def _stream(self, task: str) -> str:
        timeline = self._timelines.get(task)
        if timeline is not None:
            return timeline.records[0].stream
        shard = task.split("-")[2] if task.count("-") >= 3 else ""
        return next((stream for stream in self._run.log_streams if stream.endswith(f"_{shard}")), "MEMORY")

    def _first(self, stream: str) -> int:
        firsts = [t.records[0].position for t in self._timelines.values() if t.records[0].stream == stream]
        return min(firsts, default=0)

    def _judge_records(self, timeline: Timeline) -> None:
        check, task = self._findings.check, timeline.task
        before = 0
        for record in timeline.records:
            tries = self._tries.get((task, record.header.record_id), [])
            same = [(call, append) for call, append in tries if _same(append, record)]
            check(bool(same), "I9", task, f"nobody offered the record at {record.position} as it stands", record)
            if same:
                check(
                    any(append.expected == before for _, append in same),
                    "I3",
                    task,
                    f"the record at {record.position} was offered to stand after "
                    f"{', '.join(str(append.expected) for _, append in same)}, and stands after {before}",
                    record,
                )
                self._begun[task, record.position] = min(call.invoked_ns for call, _ in same)
                told = [c.ended_ns for c, _ in same if (s := outcome(c, Stored)) and s.position == record.position]
                if told:
                    self._acked[task, record.position] = min(told)
            before = record.position

    def _judge_real_time(self, timeline: Timeline) -> None:
        """No record stands before one that had been acknowledged when it was first offered."""
        task = timeline.task
        earliest, what = NEVER, timeline.records[-1]
        for record in reversed(timeline.records):
            begun = self._begun.get((task, record.position), 0)
            if begun:
                self._findings.check(
                    begun < earliest,
                    "I13",
                    task,
                    f"the record at {record.position} was first offered after the later one at {what.position} "
                    "had been acknowledged",
                    record,
                    what,
                )
            told = self._acked.get((task, record.position), NEVER)
            if told < earliest:
                earliest, what = told, record

    def _judge_fenced(self) -> None:
        """Who knows that it is fenced offers nothing more under that epoch."""
        self._findings.counts["fenced"] = len(self._run.fenced)
        known = {(life, f.task, f.epoch): at for life, at, f in self._run.fenced}
        if not known:
            return
        for call, append in self._run.of(Append):
            at = known.get((call.life, append.task, append.epoch))
            if at is not None:
                self._findings.check(
                    call.invoked_ns < at,
                    "I7",
                    append.task,
                    f"{call.process} wrote under epoch {append.epoch} after it had been fenced",
                    call,
                )

    def _judge_acknowledged(self) -> None:
        """A delivery is acknowledged only when the log shows that its message is settled."""
        self._findings.counts["redelivered"] = sum(d.count > 1 for _, _, d in self._run.deliveries)
        messages = {(t.task, m.position) for t in self._timelines.values() for m in t.messages}
        for call, acknowledge in self._run.of(Acknowledge):
            task, position = acknowledge.task, acknowledge.position
            if (task, position) not in messages:
                continue
            by = self._timelines[task].settled_at(position)
            begun = self._begun.get((task, by), 0)
            self._findings.check(
                bool(by) and begun <= call.invoked_ns,
                "I6",
                task,
                f"{call.process} acknowledged the message at {position} before the log had settled it",
                call,
                f"settled by the record at {by}" if by else "never settled",
            )


def _same(append: Append, record: LogRecord) -> bool:
    header = record.header
    return (append.record_id, append.payload, append.revision, append.kinds, append.epoch) == (
        header.record_id,
        record.digest,
        header.revision,
        header.kinds,
        header.epoch,
    )
