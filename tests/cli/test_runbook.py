"""Runbook pages: each has its parts and stands in the index, and every command in them can be typed as it stands."""

from __future__ import annotations

import re
import shlex
from itertools import takewhile
from pathlib import Path

import click
import pytest

from a2a_events.cli.root import root

RUNBOOK = Path(__file__).parents[2] / "docs" / "runbook"
PAGES = sorted(page for page in RUNBOOK.glob("*.md") if page.name != "README.md")
OPERATIONS = RUNBOOK.parent / "operations.md"
KUBERNETES = RUNBOOK.parent / "kubernetes.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_its_parts_and_stands_in_the_index(page: Path) -> None:
    parts = [line for line in page.read_text().splitlines() if line.startswith("## ")]
    assert parts == ["## Symptom", "## Look", "## Do", "## Stop"]
    assert f"]({page.name})" in (RUNBOOK / "README.md").read_text()


@pytest.mark.parametrize("page", [*PAGES, RUNBOOK / "README.md", OPERATIONS, KUBERNETES], ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", [*PAGES, OPERATIONS, KUBERNETES], ids=lambda page: page.stem)
def test_every_command_can_be_typed_as_it_stands(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "backup-monday").mkdir()  # where `restore` wants a folder
    (tmp_path / "FOLDER").mkdir()
    (tmp_path / "trusted.jwks.json").touch()  # what `card show` has written
    text = page.read_text()
    told = re.findall(r"^a2a-events .*$", text, re.MULTILINE) + re.findall(r"`(a2a-events [^`]*)`", text)
    assert told
    for line in told:
        check(shlex.split(line, comments=True)[1:])


def check(words: list[str]) -> None:
    command: click.Command = root
    context = click.Context(root)
    while words and isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found is not None, f"there is no command {words[0]}"
        command, words = found, words[1:]
    typed = list(takewhile(lambda word: word not in {">", "|", "&"}, words))
    typed = ["7" if word == "N" else word for word in typed]
    if typed:  # by its name alone a command is only mentioned
        command.make_context(command.name, typed)  # refuses what the command line would refuse


def test_what_cannot_be_typed_is_found() -> None:
    for words in (["retain", "--dais", "3"], ["retain", "three"], ["restore", "--replicas", "x", "."], ["tenant", "x"]):
        with pytest.raises((click.UsageError, AssertionError)):
            check(words)
