"""Runbook pages: each has its parts and stands in the index, and every command in them exists with its options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from a2a_events.cli.root import root

RUNBOOK = Path(__file__).parents[2] / "docs" / "runbook"
PAGES = sorted(page for page in RUNBOOK.glob("*.md") if page.name != "README.md")
OPERATIONS = RUNBOOK.parent / "operations.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_its_parts_and_stands_in_the_index(page: Path) -> None:
    parts = [line for line in page.read_text().splitlines() if line.startswith("## ")]
    assert parts == ["## Symptom", "## Look", "## Do", "## Stop"]
    assert f"]({page.name})" in (RUNBOOK / "README.md").read_text()


@pytest.mark.parametrize("page", [*PAGES, RUNBOOK / "README.md", OPERATIONS], ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", [*PAGES, OPERATIONS], ids=lambda page: page.stem)
def test_every_command_exists_with_its_options(page: Path) -> None:
    text = page.read_text()
    told = re.findall(r"^a2a-events .*$", text, re.MULTILINE) + re.findall(r"`(a2a-events [^`]*)`", text)
    assert told
    for line in told:
        check(shlex.split(line)[1:])


def check(words: list[str]) -> None:
    command: click.Command = root
    context = click.Context(root)
    while words and isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found is not None, f"there is no command {words[0]}"
        command, words = found, words[1:]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in known, f"{command.name} has no {word}"
        elif word in {">", "|"}:
            break
