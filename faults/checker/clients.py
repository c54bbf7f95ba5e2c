"""What clients asked and were told, against the log: I8, I10, and the clients' part of I1, I2, I5, I6, I9, I12, I13."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict

from faults.checker.appends import Appends
from faults.checker.findings import Findings
from faults.checker.run import NEVER, SECOND, Call, Run, outcome
from faults.checker.timelines import Message, Timeline
from faults.history import (
    FOREIGN,
    Answer,
    Cancel,
    DeleteWebhook,
    Get,
    ListTasks,
    Page,
    Request,
    Send,
    SetWebhook,
    Subscribe,
)


class Clients:
    """Every request and its answer.

    Args:
        run: the run.
        timelines: of its log.
        appends: tells when things were stored.
        findings: takes what is found.
    """

    def __init__(self, run: Run, timelines: dict[str, Timeline], appends: Appends, findings: Findings) -> None:
        self._run = run
        self._timelines = timelines
        self._appends = appends
        self._findings = findings
        self._sends = run.of(Send)
        self._messages: dict[str, list[tuple[str, Message]]] = defaultdict(list)
        for timeline in timelines.values():
            for message in timeline.messages:
                self._messages[message.message_id].append((timeline.task, message))
        self.tenants: dict[str, str] = {}
        """Whose task it is: who sent its first message."""
        by_message = {send.message_id: send.tenant for _, send in self._sends}
        for timeline in timelines.values():
            if timeline.messages and timeline.messages[0].message_id in by_message:
                self.tenants[timeline.task] = by_message[timeline.messages[0].message_id]

    def tasks_of(self, message_id: str) -> list[str]:
        """The tasks that have a message."""
        return [task for task, _ in self._messages.get(message_id, [])]

    def judge(self) -> None:
        """All rules of the module."""
        self._judge_sends()
        self._judge_keys()
        self._judge_cancels()
        self._judge_answers()
        self._judge_isolation()
        self._judge_deadlines()

    # --- messages -----------------------------------------------------------------------------------------------------

    def _judge_sends(self) -> None:
        check, counts = self._findings.check, self._findings.counts
        tries: dict[str, list[tuple[Call, Send]]] = defaultdict(list)
        for call, send in self._sends:
            tries[send.message_id].append((call, send))
            counts["sends"] += 1
        for message_id, calls in tries.items():
            stored = self._messages.get(message_id, [])
            for call, send in calls:
                answer = outcome(call, Answer)
                if answer is None:
                    continue
                task = answer.task or send.task
                kept = [t for t, _ in stored]
                check(
                    (task in kept) if task else bool(kept),
                    "I1",
                    task,
                    f"message {message_id} was accepted, and the task does not have it",
                    call,
                )
            maybe = sum(call.phase != "fail" for call, _ in calls)
            check(
                maybe > 0 or not stored,
                "I12",
                calls[0][1].task or (stored[0][0] if stored else ""),
                f"message {message_id} was refused for certain, and the log has it",
                *(call for call, _ in calls),
            )
            keyed = any(send.key for _, send in calls)
            check(
                len(stored) <= (1 if keyed or len(calls) == 1 else max(1, maybe)),
                "I8",
                stored[0][0] if stored else "",
                f"message {message_id} was sent {len(calls)} times and stands {len(stored)} times in the log",
                *(f"task {task} at {message.position}" for task, message in stored),
            )
        if self._run.terms.closed_world and tries:
            for message_id, stored in self._messages.items():
                check(message_id in tries, "I9", stored[0][0], f"nobody sent message {message_id}, and the log has it")

    def _judge_keys(self) -> None:
        check = self._findings.check
        groups: dict[tuple[str, str], list[tuple[Call, Send]]] = defaultdict(list)
        for call, send in self._sends:
            if send.key:
                groups[send.tenant, send.key].append((call, send))
        for (tenant, key), calls in groups.items():
            good = [(call, send, answer) for call, send in calls if (answer := outcome(call, Answer)) is not None]
            tasks = {answer.task for _, _, answer in good}
            ids = {send.message_id for _, send in calls}
            tasks |= {task for message_id in ids for task, _ in self._messages.get(message_id, [])}
            check(
                len(tasks) <= 1,
                "I8",
                min(tasks, default=""),
                f"key {key} of tenant {tenant!r} made {len(tasks)} tasks: {', '.join(sorted(tasks))}",
                *(call for call, _, _ in good),
            )
            bodies = {send.body for _, send, _ in good}
            check(
                len(bodies) <= 1,
                "I8",
                min(tasks, default=""),
                f"key {key} of tenant {tenant!r} was accepted with {len(bodies)} different bodies",
                *(call for call, _, _ in good),
            )
        logged: dict[tuple[str, str, str], list[tuple[str, int]]] = defaultdict(list)
        for timeline in self._timelines.values():
            for message in timeline.messages:
                if message.key:
                    tenant = self.tenants.get(timeline.task, message.tenant)
                    logged[tenant, message.subject, message.key].append((timeline.task, message.position))
        for (tenant, _, key), places in logged.items():
            check(
                len(places) == 1,
                "I8",
                places[0][0],
                f"the log has {len(places)} messages of tenant {tenant!r} under the key hash {key}",
                *(f"task {task} at {position}" for task, position in places),
            )

    # --- cancels ------------------------------------------------------------------------------------------------------

    def _judge_cancels(self) -> None:
        check = self._findings.check
        for call, cancel in self._run.of(Cancel):
            timeline = self._timelines.get(cancel.task)
            if timeline is None:
                check(call.phase != "ok", "I1", cancel.task, "a task that the log does not have was canceled", call)
                continue
            if call.phase == "ok":
                self._findings.counts["cancels accepted"] += 1
                ended = timeline.end.state if timeline.end is not None else "no end"
                check(
                    ended == "TASK_STATE_CANCELED",
                    "I2",
                    cancel.task,
                    f"a cancel was accepted, and the task has {ended}",
                    call,
                )
            elif call.phase == "fail" and call.error.startswith("TaskNotCancelable"):
                check(
                    timeline.end is not None
                    and self._appends.begun_ns(cancel.task, timeline.end.position) <= call.ended_ns,
                    "I12",
                    cancel.task,
                    "a cancel was refused because the task had ended, and it had not",
                    call,
                )

    # --- what tasks looked like ---------------------------------------------------------------------------------------

    def _judge_answers(self) -> None:
        """Every Task that a client was shown is one that the task was, and one client never sees it younger."""
        seen: dict[tuple[str, str], int] = {}
        answers = [
            (call, call.operation, answer)
            for kind in (Send, Get, Cancel)
            for call in self._run.calls[kind]
            if (answer := outcome(call, Answer)) is not None and answer.view and isinstance(call.operation, Request)
        ]
        answers.sort(key=lambda each: each[0].invoked_ns)
        self._index()
        stale: list[int] = []
        for call, request, answer in answers:
            task = answer.task
            timeline = self._timelines.get(task)
            if timeline is None:
                if isinstance(request, Get):
                    self._findings.broken("I1", task, "a client was shown a task that the log does not have", call)
                continue
            kind = type(request).__name__
            known = self._views[task].get(answer.view)
            self._findings.check(known is not None, "I5", task, f"{kind} showed the task as it never was", call, answer)
            if known is None:
                continue
            if isinstance(request, Get) and request.final:
                self._findings.check(
                    answer.view == timeline.view_at(timeline.records[-1].header.last_revision)
                    and answer.state == timeline.state,
                    "I5",
                    task,
                    f"{request.gateway} shows the task as it was, not as the log has it at last",
                    call,
                    answer,
                )
            if isinstance(request, Get):
                # The oldest that it can have been, and no older than what the client has seen: none is a step back.
                floor = seen.get((request.client, task), 0)
                place = bisect_left(known, floor)
                self._findings.check(
                    place < len(known),
                    "I13",
                    task,
                    f"client {request.client} saw the task go back to revision {known[-1]} from {floor}",
                    call,
                    answer,
                )
                if place < len(known):
                    seen[request.client, task] = known[place]
                behind = self._behind(timeline, known[-1], call.invoked_ns)
                if behind:
                    stale.append(behind)
        self._findings.counts["stale reads"] = len(stale)
        self._findings.counts["stalest read milliseconds"] = max(stale, default=0) // 1_000_000
        for call, get in self._run.of(Get):
            self._judge_not_found(call, get)

    def _index(self) -> None:
        self._views: dict[str, dict[str, list[int]]] = {}
        for timeline in self._timelines.values():
            views: dict[str, list[int]] = defaultdict(list)
            for revision, view in timeline.views:
                views[view].append(revision)
            self._views[timeline.task] = dict(views)

    def _behind(self, timeline: Timeline, revision: int, at_ns: int) -> int:
        """How long before a moment something newer than this revision had been acknowledged; 0 if nothing had."""
        newer = next((p for p in timeline.public if p.revision > revision), None)
        told = self._appends.acknowledged_ns(timeline.task, newer.position) if newer is not None else NEVER
        return max(0, at_ns - told)

    def _judge_not_found(self, call: Call, get: Get) -> None:
        """No task is unknown after its message had been acknowledged."""
        if call.phase != "fail" or not call.error.startswith("TaskNotFound"):
            return
        timeline = self._timelines.get(get.task)
        if timeline is None or self.tenants.get(get.task) != get.tenant or timeline.replied:
            return
        told = self._appends.acknowledged_ns(get.task, timeline.records[0].position)
        if timeline.replies != "task":
            first = timeline.public[0].position if timeline.public else 0
            told = self._appends.acknowledged_ns(get.task, first)
        self._findings.check(
            told >= call.invoked_ns, "I13", get.task, "a task was not found after it had been stored", call
        )

    # --- tenants ------------------------------------------------------------------------------------------------------

    def _judge_isolation(self) -> None:
        check, run = self._findings.check, self._run
        asked = {send.tenant for _, send in self._sends}
        if len(asked) < 2:
            return
        for kind in (Get, Cancel, Send):
            for call in run.calls[kind]:
                answer = outcome(call, Answer)
                request = call.operation
                if answer is not None and isinstance(request, Request):
                    self._own(request.tenant, answer.task, call)
        for call, listing in run.of(ListTasks):
            page = outcome(call, Page)
            for row in page.rows if page is not None else ():
                self._own(listing.tenant, row.task, call)
        callers = {
            (call.life, call.number): request.tenant
            for kind in (Send, Subscribe)
            for call in run.calls[kind]
            if isinstance(request := call.operation, Request)
        }
        for (life, number), stream in run.streams.items():
            for task in {shown.task for shown in stream.updates if shown.task}:
                self._own(callers.get((life, number), ""), task, f"stream {number} of {life}")
        for (task, config), webhooks in run.webhooks.items():
            for _, called in webhooks:
                if called.tenant:
                    self._own(called.tenant, task, called)
                foreign = f"webhook {config} was called with a foreign token"
                check(called.status != FOREIGN, "I10", task, foreign, called)
        for life, tenant, task, seen in run.leaks_of_canaries:
            who = callers.get((life, int(tenant[1:])), "") if tenant.startswith("#") else tenant
            who = who or self.tenants.get(task, "")
            others = [other for other in seen if other != who]
            check(
                not others,
                "I10",
                task,
                f"tenant {who!r} was shown what only {', '.join(others)} may see",
                f"recorded by {life}",
            )
        texts = {tenant: text.encode() for tenant, text in run.canaries.items()}
        for timeline in self._timelines.values():
            owner = self.tenants.get(timeline.task)
            if owner is None:
                continue
            for record in timeline.records:
                for tenant, text in texts.items():
                    if tenant != owner and text in record.payload:
                        self._findings.broken(
                            "I10", timeline.task, f"the task of {owner!r} holds what is {tenant!r}'s", record
                        )

    def _own(self, tenant: str, task: str, evidence: object) -> None:
        owner = self.tenants.get(task, tenant)
        self._findings.check(
            owner == tenant, "I10", task, f"tenant {tenant!r} was shown the task of {owner!r}", evidence
        )

    # --- patience -----------------------------------------------------------------------------------------------------

    def _judge_deadlines(self) -> None:
        check, slack = self._findings.check, self._run.terms.answer_seconds
        for kind in (Send, Get, ListTasks, Cancel, Subscribe, SetWebhook, DeleteWebhook):
            for call in self._run.calls[kind]:
                request = call.operation
                if not isinstance(request, Request) or not request.deadline_seconds:
                    continue
                task = getattr(request, "task", "")
                if call.ended_ns == NEVER:
                    if call.life in self._run.closed:
                        self._findings.broken("I6", task, f"{type(request).__name__} was never answered", call)
                    continue
                took = (call.ended_ns - call.invoked_ns) / SECOND
                check(
                    took <= request.deadline_seconds + slack,
                    "I6",
                    task,
                    f"{type(request).__name__} took {took:.1f} s, over its deadline of {request.deadline_seconds:g} s",
                    call,
                )
