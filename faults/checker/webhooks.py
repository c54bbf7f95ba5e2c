"""What webhooks were sent, against the log: I14.

A webhook is owed every public update after the event that set it, in the order of the log, each at least once. It is
owed nothing any more once it was set anew or deleted; and nothing from the update on at which it was given up.
"""

from __future__ import annotations

from collections import defaultdict

from faults.checker.findings import Findings
from faults.checker.run import Call, DeleteWebhook, Run, Send, SetWebhook, outcome
from faults.checker.timelines import Served, Timeline
from faults.history import Answer, Webhook


class Webhooks:
    """Every webhook.

    Args:
        run: the run.
        timelines: of its log.
        findings: takes what is found.
    """

    def __init__(self, run: Run, timelines: dict[str, Timeline], findings: Findings) -> None:
        self._run = run
        self._timelines = timelines
        self._findings = findings

    def judge(self) -> None:
        """All rules of the module."""
        self._judge_configs()
        asked = {wish.webhook for _, wish in self._run.of(SetWebhook)} | {
            send.webhook for _, send in self._run.of(Send)
        }
        for timeline in self._timelines.values():
            by_config: dict[str, list[Served]] = defaultdict(list)
            for served in timeline.webhooks:
                by_config[served.config].append(served)
            for config, spans in by_config.items():
                if config in asked:  # of others nobody has recorded the receiver
                    self._judge(timeline, config, spans, self._calls(timeline.task, config))
        for (task, config), calls in self._run.webhooks.items():
            known = self._timelines.get(task)
            self._findings.check(
                known is not None and any(served.config == config for served in known.webhooks),
                "I14",
                task,
                f"webhook {config} was called, and the task has no such webhook",
                *(called for _, called in calls[:3]),
            )

    def _calls(self, task: str, config: str) -> list[Webhook]:
        """In the order of time."""
        return [called for _, called in sorted(self._run.webhooks.get((task, config), []), key=lambda pair: pair[0])]

    # --- what clients were told ---------------------------------------------------------------------------------------

    def _judge_configs(self) -> None:
        """A webhook that was accepted is in the log, one that was refused is not, one that was deleted is deleted."""
        check = self._findings.check
        for call, send in self._run.of(Send):
            answer = outcome(call, Answer)
            if send.webhook and answer is not None:
                check(
                    self._has(answer.task, send.webhook),
                    "I1",
                    answer.task,
                    f"a message was accepted, and the task does not have its webhook {send.webhook}",
                    call,
                )
        tries: dict[tuple[str, str], list[Call]] = defaultdict(list)
        for call, wish in self._run.of(SetWebhook):
            tries[wish.task, wish.webhook].append(call)
        for (task, config), calls in tries.items():
            if any(call.phase == "ok" for call in calls):
                text = f"webhook {config} was accepted, and the task does not have it"
                check(self._has(task, config), "I1", task, text, *calls)
            elif all(call.phase == "fail" for call in calls):
                text = f"webhook {config} was refused for certain, and the task has it"
                check(not self._has(task, config), "I12", task, text, *calls)
        for call, end in self._run.of(DeleteWebhook):
            if call.phase == "ok":
                timeline = self._timelines.get(end.task)
                deleted = timeline is not None and end.webhook in timeline.deleted
                text = f"the end of webhook {end.webhook} was accepted, and the log does not have it"
                check(deleted, "I1", end.task, text, call)

    def _has(self, task: str, config: str) -> bool:
        timeline = self._timelines.get(task)
        return timeline is not None and any(served.config == config for served in timeline.webhooks)

    # --- what receivers got -------------------------------------------------------------------------------------------

    def _judge(self, timeline: Timeline, config: str, spans: list[Served], calls: list[Webhook]) -> None:
        check, task, counts = self._findings.check, timeline.task, self._findings.counts
        public = {update.revision: update for update in timeline.public}
        first: dict[int, Webhook] = {}
        for called in calls:
            update = public.get(called.revision)
            check(
                update is not None and update.digest == called.digest,
                "I14",
                task,
                f"webhook {config} got what is not in the log as {called.event_id or 'an update without a name'}",
                called,
                update,
            )
            check(
                called.revision > spans[0].after,
                "I14",
                task,
                f"webhook {config} got revision {called.revision}, and was set at {spans[0].after}",
                called,
            )
            known = first.setdefault(called.revision, called)
            check(
                (known.body, known.digest) == (called.body, called.digest),
                "I14",
                task,
                f"webhook {config} got different bytes under the id {called.event_id}",
                known,
                called,
            )
        now = spans[-1]
        firsts = [revision for revision in first if revision > now.after]
        check(
            firsts == sorted(firsts),
            "I14",
            task,
            f"webhook {config} first got the updates in another order than that of the log",
            firsts,
        )
        accepted = {called.revision for called in calls if called.accepted}
        counts["webhooks"] += 1
        counts["webhook calls"] += len(calls)
        counts["webhook calls repeated"] += len(calls) - len(first)
        counts["webhooks given up"] += bool(now.attempts)
        if now.attempts:
            check(
                now.attempts >= self._run.terms.webhook_attempts and now.until + 1 in public,
                "I14",
                task,
                f"webhook {config} was given up at revision {now.until + 1} after {now.attempts} attempts",
            )
        if not now.replaced:
            self._judge_owed(timeline, config, now, accepted)

    def _judge_owed(self, timeline: Timeline, config: str, span: Served, accepted: set[int]) -> None:
        check, task = self._findings.check, timeline.task
        missing = [p for p in timeline.public if span.after < p.revision <= span.until and p.revision not in accepted]
        check(
            not missing,
            "I14",
            task,
            f"webhook {config} never took revision {missing[0].revision if missing else 0}",
            *missing[:3],
        )
        end = timeline.end
        if end is not None and span.after < end.revision <= span.until:
            self._findings.counts["webhooks that were told the end"] += 1
            check(end.revision in accepted, "I14", task, f"webhook {config} never took the end", end)
