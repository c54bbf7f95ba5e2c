"""What is left when everything has healed and come to rest: I5, I11, I15, I16, and the progress of I6."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec

from a2a_events.errors import Unreadable
from a2a_events.timeline.fold import TaskFold
from a2a_events.timeline.record import Record
from a2a_events.timeline.render import task as render_task
from faults.checker.appends import Appends
from faults.checker.clients import Clients
from faults.checker.findings import Findings
from faults.checker.run import SECOND, Run, outcome
from faults.checker.timelines import Timeline
from faults.history import ListTasks, Page, Send, view_of


class Rest:
    """The final state.

    Args:
        run: the run.
        timelines: of its log.
        appends: tells when things were stored.
        clients: tell whose a task is.
        findings: takes what is found.
    """

    def __init__(
        self, run: Run, timelines: dict[str, Timeline], appends: Appends, clients: Clients, findings: Findings
    ) -> None:
        self._run = run
        self._timelines = timelines
        self._appends = appends
        self._clients = clients
        self._findings = findings

    def judge(self) -> None:
        """All rules of the module."""
        self._judge_folds()
        self._judge_lists()
        self._judge_progress()
        self._judge_replicas()
        self._judge_resources()
        self._judge_poison()

    def _judge_folds(self) -> None:
        """The product's fold of the whole log is what the rules here add up to."""
        for timeline in self._timelines.values():
            if timeline.replied:
                continue
            try:
                fold = TaskFold.of(
                    Record(r.position, r.header, r.payload, inbound=r.lane == "in") for r in timeline.records
                )
                shown: dict[str, Any] = msgspec.json.decode(render_task(fold, timeline.task, {}))
                view = view_of(shown)
            except (Unreadable, ValueError, KeyError) as error:
                self._findings.broken("I5", timeline.task, f"the log cannot be folded: {error}")
                continue
            last = timeline.records[-1].header.last_revision
            self._findings.check(
                view == timeline.view_at(last),
                "I5",
                timeline.task,
                "the product's fold of the log is not what its events amount to",
                shown["status"],
            )

    def _judge_lists(self) -> None:
        walks: dict[tuple[str, str], dict[str, list[Page]]] = defaultdict(lambda: defaultdict(list))
        for call, listing in self._run.of(ListTasks):
            page = outcome(call, Page)
            if listing.final and page is not None:
                walks[listing.tenant, listing.gateway][listing.walk].append(page)
        for (tenant, gateway), pages_of in walks.items():
            listed: set[str] = set()
            for pages in pages_of.values():
                listed |= self._judge_walk(tenant, gateway, pages)
            if not all(pages[-1].last for pages in pages_of.values()):
                continue  # broken off
            for task, owner in self._clients.tenants.items():
                if owner == tenant and not self._timelines[task].replied:
                    self._findings.check(task in listed, "I5", task, f"{gateway} does not list the task")

    def _judge_walk(self, tenant: str, gateway: str, pages: list[Page]) -> set[str]:
        """The tasks of one listing, each once and as the log has it."""
        rows = [row for page in pages for row in page.rows]
        listed = {row.task for row in rows}
        self._findings.check(
            len(listed) == len(rows), "I5", "", f"{gateway} lists a task of {tenant!r} twice", len(rows), len(listed)
        )
        for row in rows:
            timeline = self._timelines.get(row.task)
            self._findings.check(
                timeline is not None and timeline.state == row.state,
                "I5",
                row.task,
                f"{gateway} lists the task as {row.state}, and the log has it "
                + (timeline.state if timeline is not None else "not at all"),
            )
        return listed

    def _judge_progress(self) -> None:
        """After everything has healed, no task is still for long until it rests."""
        run, terms = self._run, self._run.terms
        if not run.heal_ns:
            return
        for timeline in self._timelines.values():
            times = [self._appends.stored_ns(timeline.task, r.position) for r in timeline.records]
            for place, record in enumerate(timeline.records):
                revision = record.header.last_revision
                done = timeline.end is not None and revision >= timeline.end.revision
                if done or not times[place] or revision in timeline.pauses:
                    continue
                following = times[place + 1] if place + 1 < len(times) else run.last_ns
                still = following - max(run.heal_ns, times[place])
                self._findings.check(
                    still <= terms.progress_seconds * SECOND,
                    "I6",
                    timeline.task,
                    f"nothing happened for {still / SECOND:.1f} s after revision {revision}, everything being healed",
                    record,
                )

    def _judge_replicas(self) -> None:
        for stream, servers in self._run.replicas.items():
            if len(servers) < 2:
                continue
            (first, reference), *others = servers.items()
            for server, messages in others:
                differing = next((pair for pair in zip(reference, messages, strict=False) if pair[0] != pair[1]), None)
                self._findings.check(
                    reference == messages,
                    "I11",
                    "",
                    f"{first} and {server} disagree about {stream}: {len(reference)} and {len(messages)} messages",
                    differing or "one has more at the end",
                )
        for stream, count in self._run.log_streams.items():
            servers = self._run.replicas.get(stream, {})
            for server, messages in servers.items():
                self._findings.check(
                    len(messages) == count, "I11", "", f"{server} has {len(messages)} messages of {stream}, not {count}"
                )

    def _judge_resources(self) -> None:
        before, after = self._run.resources.get("before"), self._run.resources.get("after")
        if before is None or after is None:
            return
        for name, count in after.items():
            base = before.get(name, 0)
            # Consumers are counted. Of the rest a process may want a little more than when it had just begun.
            bound = base if name.endswith("consumers") else base * (1 + self._run.terms.growth)
            self._findings.check(
                count <= bound, "I15", "", f"{name}: {base} before, {count} after everything had come to rest"
            )

    def _judge_poison(self) -> None:
        check, terms = self._findings.check, self._run.terms
        poisoned: set[str] = set()
        for _, send in self._run.of(Send):
            if send.poison:
                poisoned |= {task for task in (send.task, *self._clients.tasks_of(send.message_id)) if task}
        for task in poisoned:
            timeline = self._timelines.get(task)
            if timeline is None or (timeline.end is not None and timeline.end.state == "TASK_STATE_CANCELED"):
                continue
            state = timeline.end.state if timeline.end is not None else "no end"
            check(
                state == "TASK_STATE_FAILED" and timeline.end_text,
                "I16",
                task,
                f"a poisoned task has {state}" + ("" if timeline.end_text else ", and does not say why"),
            )
            tried = max((c.attempt for c in timeline.claims), default=0)
            check(
                timeline.attempts <= terms.poison_attempts and tried <= terms.poison_attempts + 1,
                "I16",
                task,
                f"a poisoned task was tried {max(timeline.attempts, tried)} times",
            )
            if terms.dead_letters:
                check(
                    timeline.dead_letters == 1,
                    "I16",
                    task,
                    f"a poisoned task was named as a dead letter {timeline.dead_letters} times",
                )
        if poisoned:
            self._judge_delay(poisoned)

    def _judge_delay(self, poisoned: set[str]) -> None:
        """How long others waited for their first claim while a poisoned task lived, and at other times."""
        spans: list[tuple[int, int]] = []
        for task in poisoned & self._timelines.keys():
            records = self._timelines[task].records
            begun = self._appends.stored_ns(task, records[0].position)
            spans.append((begun, self._appends.stored_ns(task, records[-1].position)))
        beside: list[int] = []
        apart: list[int] = []
        for task, timeline in self._timelines.items():
            if task in poisoned or not timeline.claims:
                continue
            begun = self._appends.stored_ns(task, timeline.records[0].position)
            claimed = self._appends.stored_ns(task, timeline.claims[0].position)
            if not begun or not claimed or self._run.fault_between(begun, claimed):
                continue
            during = any(start <= begun <= end for start, end in spans)
            (beside if during else apart).append(claimed - begun)
        if len(beside) < 10:
            return
        delay = (_p99(beside) - (_p99(apart) if apart else 0)) / SECOND
        self._findings.check(
            delay <= self._run.terms.poison_delay_seconds,
            "I16",
            "",
            f"beside poisoned tasks others waited {delay:.2f} s longer (p99 of {len(beside)})",
        )


def _p99(values: list[int]) -> int:
    return sorted(values)[min(len(values) - 1, len(values) * 99 // 100)]
