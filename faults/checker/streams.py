"""What streams showed, against the log: I4, the views of I5, and the streams' part of I6."""

from __future__ import annotations

from bisect import bisect_right

from faults.checker.appends import Appends
from faults.checker.findings import Findings
from faults.checker.run import NEVER, SECOND, Call, Run, Shown, Stream
from faults.checker.timelines import Public, Timeline
from faults.history import Answer, Send, Subscribe, place_of

WHOLE_CLIENT = "*"
"""In the gateway of a call: a client that changes gateways by itself, within one stream."""


class Streams:
    """Every stream.

    Args:
        run: the run.
        timelines: of its log.
        appends: tells when a task ended.
        findings: takes what is found.
    """

    def __init__(self, run: Run, timelines: dict[str, Timeline], appends: Appends, findings: Findings) -> None:
        self._run = run
        self._timelines = timelines
        self._appends = appends
        self._findings = findings
        self._revisions: dict[str, list[int]] = {}

    def judge(self) -> None:
        """All rules of the module."""
        seen: set[tuple[str, int]] = set()
        for call, subscribe in self._run.of(Subscribe):
            key = (call.life, call.number)
            seen.add(key)
            if call.phase == "ok":
                self._judge(
                    call, self._run.streams[key], subscribe.task, subscribe.cursor, WHOLE_CLIENT in subscribe.gateway
                )
                self._findings.counts["resumed"] += bool(subscribe.cursor)
        for call, send in self._run.of(Send):
            key = (call.life, call.number)
            if not send.streaming:
                continue
            seen.add(key)
            stream = self._run.streams[key]
            if call.phase == "ok" or stream.updates:
                task = call.outcome.task if isinstance(call.outcome, Answer) else ""
                task = task or send.task or (stream.updates[0].task if stream.updates else "")
                self._judge(call, stream, task, "", WHOLE_CLIENT in send.gateway)
        for life, number in self._run.streams.keys() - seen:
            self._findings.broken("I9", "", f"stream {number} of {life} was never opened")

    def _judge(self, call: Call, stream: Stream, task: str, cursor: str, whole_client: bool) -> None:  # noqa: FBT001 -- of the client
        counts = self._findings.counts
        counts["streams"] += 1
        counts["updates"] += len(stream.updates)
        timeline = self._timelines.get(task)
        if timeline is None:
            if stream.updates:
                self._findings.broken("I4", task, "a stream showed updates of a task that the log does not have", call)
            return
        last = self._judge_order(
            call, stream, timeline, place_of(cursor)[1], whole_client=whole_client, resumes=bool(cursor)
        )
        if last is not None:
            self._judge_end(call, stream, timeline, last)
        self._judge_closed(call, stream, timeline)

    # --- order --------------------------------------------------------------------------------------------------------

    def _judge_order(
        self, call: Call, stream: Stream, timeline: Timeline, revision: int, *, whole_client: bool, resumes: bool
    ) -> int | None:
        """The revision up to which the stream showed all there was after its beginning; None if it did not."""
        check, task = self._findings.check, timeline.task
        revisions = self._revisions.get(task)
        if revisions is None:
            revisions = self._revisions[task] = [p.revision for p in timeline.public]
        begun = resumes
        place = bisect_right(revisions, revision)
        for shown in stream.updates:
            if shown.task not in {task, ""}:
                self._findings.broken("I4", task, f"a stream of it showed task {shown.task}", call, shown)
                return None
            if shown.kind == "task":
                allowed = not begun or shown.gap or whole_client
                at = self._task(shown, timeline, revision)
                check(allowed, "I4", task, "a Task in the middle of a stream", call, shown)
                check(at is not None, "I5", task, "a stream began with a Task that the task never was", call, shown)
                if at is None or not allowed:
                    return None
                revision, begun = at, True
                place = bisect_right(revisions, revision)
                continue
            if not begun and shown.kind != "message":
                self._findings.broken("I4", task, f"a stream began with {shown.kind}, not with the Task", call, shown)
                return None
            begun = True
            expected = timeline.public[place] if place < len(timeline.public) else None
            right = expected is not None and _is(shown, expected)
            check(right, "I4", task, _difference(shown, expected, timeline), call, shown, expected)
            if not right:
                return None
            revision = expected.revision if expected is not None else revision
            place += 1
        return revision

    def _task(self, shown: Shown, timeline: Timeline, revision: int) -> int | None:
        """The revision that a Task shows; without a cursor the newest one that it can be."""
        if shown.revision:
            right = timeline.view_at(shown.revision) == shown.digest and shown.revision in timeline.ends
            return shown.revision if right and shown.revision >= revision else None
        found = [at for at, view in timeline.views if view == shown.digest and at >= revision]
        return found[-1] if found else None

    # --- ends ---------------------------------------------------------------------------------------------------------

    def _judge_end(self, call: Call, stream: Stream, timeline: Timeline, last: int) -> None:
        end, task = stream.end, timeline.task
        if end is None or not stream.updates:
            return
        check = self._findings.check
        over = timeline.end is not None and last >= timeline.end.revision
        waits = isinstance(call.operation, Send) and any(
            revision in timeline.rests for revision in _until_next(last, timeline)
        )
        if end.how == "closed":
            check(
                over or waits, "I4", task, f"a stream was closed at revision {last}, before the task ended", call, end
            )
        elif end.how == "drained" and not (over or waits):
            excused = self._run.excused_until(call.invoked_ns) > call.invoked_ns or self._run.fault_between(
                call.invoked_ns, stream.ended_ns
            )
            check(excused, "I4", task, f"a stream was given up at revision {last}, and no fault was active", call, end)
        if end.view:
            check(end.view == timeline.view_at(last), "I5", task, "what a client added up is not the task", call, end)

    def _judge_closed(self, call: Call, stream: Stream, timeline: Timeline) -> None:
        check, task, terms = self._findings.check, timeline.task, self._run.terms
        if stream.end is None:
            if call.life in self._run.closed:
                self._findings.broken("I6", task, "a stream never ended", call)
            return
        if stream.end.how == "left":
            return
        fault = self._run.longest_fault_seconds(call.invoked_ns, stream.ended_ns)
        allowed = 2 * terms.keep_alive_seconds + fault
        check(
            stream.end.silence_seconds <= allowed,
            "I6",
            task,
            f"a stream was silent for {stream.end.silence_seconds:g} s",
            call,
        )
        if timeline.end is None or stream.ended_ns == NEVER:
            return
        over = max(self._appends.stored_ns(task, timeline.end.position), call.ended_ns, call.invoked_ns)
        if stream.updates and call.ended_ns == NEVER:
            over = max(self._appends.stored_ns(task, timeline.end.position), stream.updates[0].at_ns)
        late = self._run.calm_ns(over, stream.ended_ns)
        check(
            late <= terms.close_seconds * SECOND,
            "I6",
            task,
            f"a stream went on for {late / SECOND:.1f} s without a fault after its task had ended",
            call,
            stream.end,
        )


def _is(shown: Shown, expected: Public) -> bool:
    place = not shown.revision or (shown.revision, shown.position) == (expected.revision, expected.position)
    return place and (shown.kind, shown.digest) == (expected.kind, expected.digest)


def _difference(shown: Shown, expected: Public | None, timeline: Timeline) -> str:
    if expected is None:
        return f"a stream showed {shown.kind} of revision {shown.revision} after all there is"
    known = next((p for p in timeline.public if p.revision == shown.revision), None)
    if shown.revision > expected.revision and known is not None:
        return f"a stream lacks revision {expected.revision}: it went on with {shown.revision}"
    if known is not None and shown.revision < expected.revision:
        return f"a stream showed revision {shown.revision} where {expected.revision} was due"
    return f"a stream showed something else than revision {expected.revision}"


def _until_next(last: int, timeline: Timeline) -> list[int]:
    """Revisions after which a stream that has shown all up to ``last`` may stand: up to the next public event."""
    following = next((p.revision for p in timeline.public if p.revision > last), None)
    end = following - 1 if following is not None else timeline.records[-1].header.last_revision
    return list(range(last, end + 1))
