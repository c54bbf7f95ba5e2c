"""The page that says which test holds which rule names tests that exist, and says of every rule how strong it is."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "conformance.md"
LEVELS = {"MUST", "SHOULD", "MAY", "ours"}

_NAMED = re.compile(r"`([a-z]+/[\w/]+\.\w+)(?:::(\w+))?`")


@cache
def defined_in(file: Path) -> set[str]:
    """Names of the tests that a file defines."""
    nodes = ast.walk(ast.parse(file.read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def rules() -> list[list[str]]:
    """Cells of every row of every table of rules."""
    found = []
    heading: list[str] = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("|") else []
        if not cells:
            heading = []
        elif not heading:
            heading = [cell.strip() for cell in line.strip("|").split("|")]
        elif heading == ["rule", "level", "tests"] and not line.startswith("|---"):
            found.append(cells)
    return found


def test_every_test_that_the_page_names_exists() -> None:
    named = _NAMED.findall(PAGE.read_text())
    assert len(named) > 100
    missing = [
        f"{file}::{test}" if test else file
        for file, test in named
        if not (TESTS / file).exists() or (test and test not in defined_in(TESTS / file))
    ]
    assert [] == missing


def test_every_rule_has_a_level_and_a_test() -> None:
    assert len(rules()) > 50
    for cells in rules():
        assert 3 == len(cells), cells
        rule, level, tests = cells
        assert level in LEVELS, rule
        assert all(test for _, test in _NAMED.findall(tests)), rule
        assert _NAMED.findall(tests), rule
