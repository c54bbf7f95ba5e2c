"""What the rules find: violations with their evidence, how much was judged, and what could not be."""

from __future__ import annotations

from collections import Counter
from typing import Final

from msgspec import Struct

INVARIANTS: Final[dict[str, str]] = {
    "I1": "Durable",
    "I2": "OneTerminal",
    "I3": "Gapless",
    "I4": "SameOrder",
    "I5": "Fold",
    "I6": "Live",
    "I7": "Fenced",
    "I8": "Idempotent",
    "I9": "NoPhantom",
    "I10": "Isolated",
    "I11": "ReplicasAgree",
    "I12": "Honest",
    "I13": "RealTime",
    "I14": "Push",
    "I15": "NoLeak",
    "I16": "Poison",
}


class Violation(Struct, frozen=True, omit_defaults=True):
    """One broken promise."""

    invariant: str
    task: str
    what: str
    evidence: tuple[str, ...] = ()
    timeline: str = ""
    """File with everything that is known of the task."""


class Findings:
    """Collects what the rules find. A rule that looked at nothing has judged nothing."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self.judged: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    def broken(self, invariant: str, task: str, what: str, *evidence: object) -> None:
        """A promise does not hold."""
        self.violations.append(Violation(invariant, task, what, tuple(str(e) for e in evidence)))

    def check(self, holds: bool, invariant: str, task: str, what: str, *evidence: object) -> None:  # noqa: FBT001 -- what is checked
        """Judge one case of an invariant."""
        self.judged[invariant] += 1
        if not holds:
            self.broken(invariant, task, what, *evidence)
