"""Names that become subjects, streams and configuration of nats-server: what cannot stand there is refused."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from a2a_events.services.nats_server import binary
from a2a_events.settings import SettingsError, load
from tests.cli.commands import run_here


@pytest.mark.parametrize(
    "namespace", ["", "x } y", 'a"b', "a.>", "a.*", "a..b", ".a", "a.", "$SYS", "a\n", "ä", "a" * 65, "a/b", "a#b"]
)
def test_what_is_no_namespace_is_refused(namespace: str) -> None:
    with pytest.raises(SettingsError, match="A2A_EVENTS_NAMESPACE="):
        load({"namespace": namespace}, {})
    with pytest.raises(SettingsError, match="A2A_EVENTS_NAMESPACE="):
        load({}, {"A2A_EVENTS_NAMESPACE": namespace})


@pytest.mark.parametrize("log", ["", 'a"b', "a.b", "*", "Main", "a-b", "a b", "a" * 17, "main\n"])
def test_what_is_no_name_of_a_log_is_refused(log: str) -> None:
    with pytest.raises(SettingsError, match="A2A_EVENTS_LOG="):
        load({"log": log}, {})


@pytest.mark.parametrize("namespace", ["a2a", "A2A", "team.a2a", "1-x_y.Z-2", "a" * 64])
def test_nats_server_takes_what_is_printed_for_a_namespace(
    namespace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("nats-accounts", "--tenant", "acme", "--keys", str(tmp_path / "keys"), "--shards", "1")
    assert run_here(*command, "--namespace", namespace, "--log", "eu2") == 0
    (tmp_path / "a.conf").write_text(capsys.readouterr().out)
    checked = subprocess.run([binary(), "-t", "-c", str(tmp_path / "a.conf")], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_a_command_that_is_given_no_namespace_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = tmp_path / "keys"
    assert run_here("nats-accounts", "--tenant", "acme", "--keys", str(keys), "--namespace", "x } y") == 2
    said = capsys.readouterr()
    assert "A2A_EVENTS_NAMESPACE='x } y'" in said.err
    assert said.out == ""
    assert not keys.exists()
