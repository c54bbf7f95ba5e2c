"""``retain``: what it says, and what it refuses."""

from __future__ import annotations

import pytest

from tests.cli.commands import run_here


def test_ages_are_over_nothing_and_tombstones_stay_longer(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("retain") == 2
    assert run_here("retain", "--days", "0") == 2
    assert run_here("retain", "--days", "30", "--tombstone-days", "30") == 2
    assert "must be over --days" in capsys.readouterr().err


@pytest.mark.integration
def test_it_says_how_many_were_removed(
    nats_url: str, namespace_of_a_test: str, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--nats", nats_url, "--namespace", namespace_of_a_test]
    assert run_here("provision", *where) == 0
    capsys.readouterr()
    assert run_here("retain", "--days", "30", *where) == 0
    assert capsys.readouterr().out == "removed 0, tombstones 0\n"
