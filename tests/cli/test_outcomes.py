"""Exit codes mean something, and errors are one sentence without a traceback."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from a2a_events.cli import source
from a2a_events.cli.outcome import Exit, Failure, exit_code_of, exit_of, explain
from a2a_events.client import BadAnswer, ConnectionFailed, NoAnswer, StreamInterrupted
from a2a_events.errors import (
    Conflict,
    InternalError,
    InvalidParamsError,
    TaskNotFoundError,
    Unavailable,
    UnavailableError,
)
from a2a_events.model import TaskState
from a2a_events.services.connect import connection
from a2a_events.settings import Settings, SettingsError
from a2a_events.testing import free_port
from tests.cli.commands import run_here

TASK = "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA"


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert not out
    return err


@pytest.mark.parametrize(
    "arguments",
    [
        ["up"],
        ["gateway"],
        ["worker"],
        ["provision"],
        ["sweep"],
        ["send", "hello"],
        ["watch", TASK],
        ["timeline", TASK],
        ["show", TASK],
        ["diff", TASK, "1", "2"],
        ["export", TASK],
        ["fork", f"{TASK}@1"],
    ],
)
def test_unknown_setting_is_refused(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("A2A_EVENTS_PROT", "8000")
    assert run_here(*arguments) == 2
    assert "unknown setting A2A_EVENTS_PROT; known are A2A_EVENTS_" in sentence(capsys)


def test_malformed_setting_says_what_was_expected(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("A2A_EVENTS_LOG_LEVEL", "loud")
    assert run_here("provision") == 2
    assert "A2A_EVENTS_LOG_LEVEL='loud': expected one of 'debug', 'info', 'warning', 'error'" in sentence(capsys)


def test_a_setting_out_of_range_says_what_the_range_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("A2A_EVENTS_CONTENT_BYTES", "10")
    assert run_here("gateway") == 2
    assert "A2A_EVENTS_CONTENT_BYTES='10'" in (said := sentence(capsys))
    assert ">= 65536" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["send"], "nothing to send"),
        (["send", "--data", "{"], "this is not JSON"),
        (["send", "hi", "--url", "localhost:8000"], "is not an http or https URL"),
        (["send", "hi", "--header", "Authorization"], "is not of the form 'NAME: VALUE'"),
        (["watch", TASK, "--cursor", "a\nb"], "no server gave this cursor"),
        (["timeline", TASK, "-o", "xml"], "'xml'"),
        (["up", "--port", "0"], "--port"),
        (["nonsense"], "nonsense"),
    ],
)
def test_wrong_usage(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here(*arguments) == 2
    assert words in sentence(capsys)


def test_no_gateway(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("send", "hello", "--url", f"http://127.0.0.1:{free_port()}") == 3
    assert "start one with `a2a-events up`, or say where it is with --url" in sentence(capsys)


def test_send_goes_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    monkeypatch.setenv("A2A_EVENTS_PORT", str(port))
    assert run_here("send", "hello") == 3
    assert f"http://127.0.0.1:{port}/" in sentence(capsys)


def test_no_nats_server(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(source, "PATIENCE_SECONDS", 0.2)
    assert run_here("timeline", TASK, "--nats", f"nats://127.0.0.1:{free_port()}") == 3
    err = capsys.readouterr().err
    assert "no NATS server answers at nats://127.0.0.1:" in err
    assert "--nats" in err


async def test_services_do_not_wait_for_nats_for_ever() -> None:
    settings = Settings(nats=f"nats://127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable, match="no NATS server answers"):
        async with connection(settings, "test", patience_seconds=0.2):
            pass


def test_what_is_no_task_id(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("timeline", "a>*.b") == 1
    assert "is not the id of a task" in sentence(capsys)


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        ("nowhere_to_be_found:agent", "cannot import 'nowhere_to_be_found'"),
        ("a2a_events.agents:nobody", "has no attribute 'nobody'"),
        ("a2a_events.agents", "is not of the form module:attr"),
    ],
)
def test_up_starts_nothing_for_an_agent_that_is_not_there(
    agent: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_here("up", "--agent", agent) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("gateways", [1, 2])
def test_up_starts_nothing_when_a_port_is_taken(
    gateways: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    first = free_port()
    port = first + gateways - 1
    with socket.create_server(("127.0.0.1", port)):
        assert run_here("up", "--port", str(first), "--gateways", str(gateways)) == 2
    assert f"port {port} on 127.0.0.1 is taken" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (TaskNotFoundError(), 1, "the server refused this: Task not found"),
        (InvalidParamsError("bad", violations=(("message.parts", "is empty"),)), 1, "message.parts: is empty"),
        (InternalError(), 1, "the server failed"),
        (UnavailableError(), 3, "the server is not available"),
        (Unavailable("no NATS server answers at x"), 3, "start one with `a2a-events up`"),
        (Conflict("another record"), 1, "another record"),
        (ConnectionFailed("x cannot be reached"), 3, "no gateway is there"),
        (NoAnswer("sent"), 3, "sent"),
        (StreamInterrupted("broke", task_id="T", cursor="C"), 3, "watch T --cursor C"),
        (BadAnswer("no card"), 1, "does not speak A2A 1.0"),
        (SettingsError("unknown setting"), 2, "unknown setting"),
        (Failure("so it is"), 1, "so it is"),
    ],
)
def test_errors_of_the_world_are_explained(error: Exception, code: int, words: str) -> None:
    explained = explain(error)
    assert explained is not None
    assert explained[0] == code
    assert words in explained[1]
    assert "\n" not in explained[1]


def test_mistakes_of_ours_keep_their_traceback() -> None:
    def wrong() -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        exit_code_of(wrong)


def test_interruption() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert exit_code_of(interrupted) == 130


@pytest.mark.parametrize("state", [None, *TaskState])
def test_exit_code_of_a_state(state: TaskState | None) -> None:
    bad = {TaskState.FAILED, TaskState.REJECTED, TaskState.CANCELED}
    assert exit_of(state) is (Exit.FAILED if state in bad else Exit.OK)
