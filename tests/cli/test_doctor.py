"""``doctor``: exit codes, and JSON where nobody reads along."""

from __future__ import annotations

import json

import pytest

from tests.cli.commands import run_here

pytestmark = pytest.mark.integration


def test_the_exit_code_says_whether_there_is_a_problem(
    nats_url: str, namespace_of_a_test: str, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--nats", nats_url, "--namespace", namespace_of_a_test, "--shards", "1"]
    assert run_here("doctor", *where) == 1
    assert "problem" in {finding["level"] for finding in json.loads(capsys.readouterr().out)}
    assert run_here("provision", *where) == 0
    capsys.readouterr()
    assert run_here("doctor", *where) == 0
    assert {finding["level"] for finding in json.loads(capsys.readouterr().out)} == {"ok", "unknown", "warning"}
    assert run_here("doctor", *where, "--output", "text") == 0
    assert "clock: This machine's clock and the log's are" in capsys.readouterr().out


def test_without_a_server_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("doctor", "--nats", "nats://127.0.0.1:1") == 3
    assert "no NATS server answers" in capsys.readouterr().err
