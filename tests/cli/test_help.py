from __future__ import annotations

import subprocess
import sys

import pytest

import a2a_events
from tests.cli.commands import run_here

COMMANDS = [
    "up",
    "send",
    "watch",
    "timeline",
    "show",
    "diff",
    "export",
    "import",
    "fork",
    "tasks",
    "stuck",
    "cancel",
    "replay",
    "dead-letters",
    "demo",
    "gateway",
    "worker",
    "notifier",
    "provision",
    "sweep",
    "retain",
    "doctor",
    "tenant",
    "backup",
    "restore",
    "nats-permissions",
    "card",
    "nats-accounts",
    "region-promote",
    "region-fence",
    "timeline-page",
]


def test_help_teaches_commands_exit_codes_and_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("--help") == 0
    out = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n  {command} " in out
    for code in (0, 1, 2, 3, 130):
        assert f"\n    {code} " in out
    assert 'a2a-events send "hello"' in out
    assert "A2A_EVENTS_" in out


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "demo"])
def test_help_of_a_command_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here(command, "--help") == 0
    assert f"    a2a-events {command}" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["list", "show", "replay"])
def test_help_of_a_command_about_dead_letters_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("dead-letters", command, "--help") == 0
    assert f"    a2a-events dead-letters {command}" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["timeline", "show", "diff", "export", "import", "fork", "tasks", "stuck"])
def test_what_reads_the_log_for_people_logs_errors_only(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here(command, "--help") == 0
    level = capsys.readouterr().out.partition("--log-level")[2].partition("--help")[0]
    assert "(error)" in level


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("--version") == 0
    assert capsys.readouterr().out == f"a2a-events {a2a_events.__version__}\n"


def test_help_imports_no_server_no_client_and_no_broker() -> None:
    script = (
        "import sys\nfrom a2a_events.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'litestar', 'uvicorn', 'httpx', 'nats', 'rich'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL, timeout=30)
