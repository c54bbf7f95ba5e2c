"""SECURITY.md names tests, settings, rows and pages: all of them exist."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

from a2a_events.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text()
PAGES = [ROOT / "SECURITY.md", *sorted((ROOT / "docs" / "security").glob("*.md"))]

NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))
THREATS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.partition("## Threats")[2].splitlines()
    if line.startswith("| ") and not line.startswith("| threat ")
]


@functools.cache
def named_in(path: str) -> set[str]:
    """What pytest would find in a file."""
    tree = ast.parse((ROOT / path).read_text())
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {node.name for node in functions if node.name.startswith("test_")}


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_test_that_is_named_exists(path: str, name: str) -> None:
    assert (ROOT / path).exists(), path
    assert name in named_in(path)


def test_every_threat_has_a_test_and_says_what_stops_it() -> None:
    assert len(THREATS) > 40
    for row in THREATS:
        assert len(row) == 4, row
        threat, stops, shown, _ = row
        assert threat, row
        assert stops, row
        assert re.fullmatch(r"(`tests/[\w/]+\.py::\w+`(, )?)+", shown), row


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_and_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    settings = {PREFIX + name.upper() for name in Settings.__struct_fields__}
    assert set(re.findall(rf"\b{PREFIX}[A-Z0-9_]+\b", text)) <= settings
    for path in re.findall(r"`((?:tests|k8s|docs|a2a_events)/[\w./-]+)(?:::\w+)?`", text):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target


def test_rows_that_are_named_are_rows_of_the_suite() -> None:
    suite = "\n".join(file.read_text() for file in (ROOT / "tests" / "bad_input").glob("*.py"))
    rows = {int(found) for found in re.findall(r"""(?:\btest_|["']|row-)(\d{1,3})[-_]""", suite)}
    rows |= {int(found) for found in re.findall(r"^    (\d{1,3}): \"", suite, re.MULTILINE)}
    for first, last in re.findall(r"\brows? (\d+)(?: to (\d+))?", TEXT):
        ends = {int(first), int(last or first)}
        assert ends <= rows, f"{sorted(ends - rows)} of `row {first}` are not in tests/bad_input"
