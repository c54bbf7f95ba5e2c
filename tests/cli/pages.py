"""What a page of the documentation shows, against what its commands printed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

OMITTED: Final = "…"
"""Stands for what a page leaves out; alone on a line for any number of lines."""
NAMES: Final = (
    (r"t1-main-\d+-[\w-]{22}", "TASK"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID"),
    (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
    (r"\b[\w.-]+-[0-9a-f]{8}\b", "INSTANCE"),
)
"""What differs from run to run on every page, and what stands for it."""


def matches(shown: list[str], printed: list[str], names: Sequence[tuple[str, str]]) -> bool:
    """Whether this was printed, but for what the page leaves out, and for ``names``, which differ on this page too."""

    def normal(line: str) -> str:
        for pattern, name in (*NAMES, *names, (r"[ \t]+", " ")):
            line = re.sub(pattern, name, line)
        return line.strip() + "\n"

    lines = [re.escape(normal(line)[:-1]).replace(OMITTED, ".*") + "\n" for line in shown]
    pattern = "".join("(.*\n)*" if line == ".*\n" else line for line in lines)
    return re.fullmatch(pattern, "".join(map(normal, printed))) is not None
