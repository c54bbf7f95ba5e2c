"""All rules over one run."""

from __future__ import annotations

from typing import Final

from faults.checker.appends import Appends
from faults.checker.clients import Clients
from faults.checker.findings import INVARIANTS, Findings
from faults.checker.recovery import faults, recovery
from faults.checker.rest import Rest
from faults.checker.result import Result
from faults.checker.run import Run
from faults.checker.streams import Streams
from faults.checker.timelines import Timeline
from faults.checker.webhooks import Webhooks

WHY_NOT: Final[dict[str, str]] = {
    "I1": "nothing was acknowledged to anybody who recorded it",
    "I2": "the log is empty",
    "I3": "the log is empty",
    "I4": "no stream was recorded",
    "I5": "no answer was recorded, and the log is empty",
    "I6": "no task and no stream was recorded",
    "I7": "no worker claimed anything",
    "I8": "no message was sent",
    "I9": "no append and no send was recorded",
    "I10": "fewer than two tenants sent anything",
    "I11": "fewer than two replicas were read",
    "I12": "nothing was refused for certain",
    "I13": "no append was recorded",
    "I14": "no webhook was set",
    "I15": "what was in use was not counted before and after",
    "I16": "no poisoned task was sent",
}


def judge(run: Run) -> Result:
    """Judge a run by all invariants that its data reach."""
    findings = Findings()
    timelines: dict[str, Timeline] = {}
    for task, records in run.tasks.items():
        timelines[task] = timeline = Timeline(task)
        timeline.walk(records, findings)
    appends = Appends(run, timelines, findings)
    appends.judge()
    clients = Clients(run, timelines, appends, findings)
    clients.judge()
    Streams(run, timelines, appends, findings).judge()
    Webhooks(run, timelines, findings).judge()
    Rest(run, timelines, appends, clients, findings).judge()

    counts = findings.counts
    counts["tasks"] = len(timelines)
    counts["records"] = sum(len(t.records) for t in timelines.values())
    counts["events"] = sum(t.records[-1].header.last_revision for t in timelines.values())
    counts["claims"] = sum(len(t.claims) for t in timelines.values())
    counts["claims that took over"] = sum(
        any(a.instance != b.instance for a, b in zip(t.claims, t.claims[1:], strict=False)) for t in timelines.values()
    )
    counts["unknown events"] = sum(t.unknown for t in timelines.values())
    counts["faults"] = len(run.faults_by_begin)
    broken = {violation.invariant for violation in findings.violations}
    return Result(
        seed=run.facts.get("seed", ""),
        commit=run.facts.get("commit", ""),
        valid=not findings.violations,
        counts=dict(counts),
        judged={name: findings.judged[name] for name in INVARIANTS},
        not_judged={name: WHY_NOT[name] for name in INVARIANTS if not findings.judged[name] and name not in broken},
        faults=faults(run),
        recovery=recovery(run, timelines, appends),
        facts=run.facts,
        violations=findings.violations,
    )
