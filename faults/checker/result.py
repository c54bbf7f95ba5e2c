"""What a run amounts to: ``result.json``, and for each violation the story of its task."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from faults.checker.findings import INVARIANTS, Violation
from faults.checker.recovery import FaultCount, Figure
from faults.checker.run import SECOND, Run, history_folder
from faults.history import Event, histories

STORIES: Final = 40
"""Violations whose task is told in full; a run that breaks more has one cause."""
STORY_LINES: Final = 400


class Result(Struct, frozen=True):
    """The verdict. ``valid`` means that nothing that was judged is broken: see ``not_judged`` too."""

    seed: str
    commit: str
    valid: bool
    counts: dict[str, int]
    judged: dict[str, int]
    """How many cases of each invariant were looked at."""
    not_judged: dict[str, str]
    """Invariants that this run says nothing about, and why."""
    faults: dict[str, FaultCount]
    recovery: dict[str, Figure]
    facts: dict[str, str]
    violations: list[Violation]

    def summary(self) -> str:
        """A few lines for whoever watches."""
        by_invariant = Counter(v.invariant for v in self.violations)
        lines = [f"{'VALID' if self.valid else 'INVALID'}  seed {self.seed or '-'}  commit {self.commit or '-'}"]
        for name, title in INVARIANTS.items():
            if name in self.not_judged:
                lines.append(f"  {name:4}{title:15} not judged: {self.not_judged[name]}")
            else:
                broken = by_invariant[name]
                lines.append(
                    f"  {name:4}{title:15} {'ok' if not broken else f'{broken} BROKEN'} ({self.judged[name]:,} judged)"
                )
        lines += [f"  {name}: {count:,}" for name, count in sorted(self.counts.items())]
        lines += [f"  fault {kind}: {c.bitten} of {c.begun} bit" for kind, c in self.faults.items()]
        lines += [
            f"  loss of a {name}: p50 {f.p50:.2f} s, p99 {f.p99:.2f} s, longest {f.longest:.2f} s ({f.count})"
            for name, f in self.recovery.items()
        ]
        lines += [f"  {v.invariant} {v.task or '-'}: {v.what}" for v in self.violations[:20]]
        if len(self.violations) > 20:
            lines.append(f"  … and {len(self.violations) - 20} more violations")
        return "\n".join(lines)


def write(result: Result, folder: Path, run: Run) -> Result:
    """Write ``result.json`` and the stories; the result with their names."""
    told = tell(result.violations, folder, run)
    result = msgspec.structs.replace(result, violations=told)
    (folder / "result.json").write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
    return result


def tell(violations: list[Violation], folder: Path, run: Run) -> list[Violation]:
    """A file for each of the first violations: all that the histories and the log say of its task."""
    chosen = [v for v in violations if v.task][:STORIES]
    tasks = {violation.task for violation in chosen}
    if not tasks:
        return violations
    stories = folder / "violations"
    stories.mkdir(exist_ok=True)
    lines = _lines(tasks, folder)
    named: dict[int, str] = {}
    for number, violation in enumerate(chosen, 1):
        path = stories / f"{number:02d}-{violation.invariant}.txt"
        story = [f"{violation.invariant} {violation.task}", violation.what, *violation.evidence, "", "The log:"]
        story += [
            f"  {record}\n      " + record.payload.decode(errors="replace").replace("\n", "\n      ")[:2000]
            for record in run.tasks.get(violation.task, [])
        ]
        story += ["", "The histories:", *lines[violation.task][:STORY_LINES]]
        path.write_text("\n".join(story) + "\n")
        named[id(violation)] = str(path.relative_to(folder))
    return [msgspec.structs.replace(v, timeline=named.get(id(v), "")) for v in violations]


def _lines(tasks: set[str], folder: Path) -> dict[str, list[str]]:
    """What the histories say of these tasks, in order of time; the ends of calls that name no task come along."""
    wanted = re.compile("|".join(re.escape(task) for task in tasks).encode())
    found: dict[str, list[tuple[int, str]]] = {task: [] for task in tasks}
    for history in histories(history_folder(folder)):
        calls: dict[int, set[str]] = {}
        for line in history.lines():
            event = None
            named = {match.decode() for match in wanted.findall(line)}
            if calls and not named and b'"ph":"note"' not in line:
                event = _decode(line)
                named = calls.get(event.number, set())
            if not named:
                continue
            event = event or _decode(line)
            if event.phase == "invoke":
                calls[event.number] = named
            for task in named:
                found[task].append((event.at_ns, line.decode().rstrip()))
    ordered: dict[str, list[str]] = {}
    for task, told in found.items():
        told.sort()
        start = told[0][0] if told else 0
        ordered[task] = [f"{(at - start) / SECOND:+10.4f} s  {line}" for at, line in told]
    return ordered


_decode: Final = msgspec.json.Decoder(Event).decode
