"""``tenant``: nothing is deleted by accident, and nothing written over anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands import run_here


def test_deleting_needs_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("tenant", "delete", "acme") == 2
    assert "--yes" in capsys.readouterr().err


@pytest.mark.integration
def test_what_a_tenant_has_is_counted(
    nats_url: str, namespace_of_a_test: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--nats", nats_url, "--namespace", namespace_of_a_test]
    assert run_here("provision", *where) == 0
    capsys.readouterr()
    assert run_here("tenant", "export", "acme", str(tmp_path / "acme"), *where) == 0
    assert run_here("tenant", "delete", "acme", "--yes", *where) == 0
    assert capsys.readouterr().out == "exported 0\nremoved 0, left 0\n"
    (tmp_path / "acme" / "mine").touch()
    assert run_here("tenant", "export", "acme", str(tmp_path / "acme"), *where) == 1
    assert "is not empty" in capsys.readouterr().err
