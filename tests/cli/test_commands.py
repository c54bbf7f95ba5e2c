"""The command line as a user meets it: real processes, real signals, what is printed and how it exits."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import httpx
import pytest

from a2a_events.cli import FAILED, UNAVAILABLE, USAGE
from a2a_events.testing import eventually, free_port
from tests.cli.commands import run_here

pytestmark = pytest.mark.processes

COMMAND = [sys.executable, "-m", "a2a_events.cli"]
COMMANDS = ["up", "gateway", "worker", "provision", "sweep", "send", "watch", "timeline", "show", "diff", "export"]
COMMANDS += ["import", "fork", "tasks", "stuck", "replay", "dead-letters", "notifier", "timeline-page", "demo"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, **environment},
    )


def descendants(pid: int) -> set[int]:
    """Processes that carry the marker which the process of this pid was started with."""
    marker = f"A2A_TEST_MARKER={pid}".encode()
    found: set[int] = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if marker in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
        except OSError:
            continue
    return found


class Deployment:
    """``a2a-events up`` as a user starts it, in a folder of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.marker = os.getpid() * 100_000 + self.port
        self.process = subprocess.Popen(
            [*COMMAND, "up", "--port", str(self.port), *arguments],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "A2A_TEST_MARKER": str(self.marker)},
        )
        assert self.process.stdout is not None
        self.output = self._until(self.process.stdout, "stop ")

    @staticmethod
    def _until(lines: IO[str], last: str) -> str:
        shown = ""
        for line in lines:
            shown += line
            if line.startswith(last):
                return shown
        raise AssertionError(f"it ended instead: {shown}")

    @property
    def nats(self) -> str:
        found = re.search(r"--nats (\S+)", self.output)
        return found[1] if found else "nats://127.0.0.1:4222"

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        assert self.process.stdout is not None
        with self.process.stdout as rest:
            rest.read()
        return self.process.wait(45)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    made = Deployment(tmp_path_factory.mktemp("up"), "--agent", "a2a_events.agents:scripted")
    yield made
    assert 0 == made.stop(signal.SIGINT)
    assert set() == descendants(made.marker)


def test_help_lists_every_command_and_the_exit_codes() -> None:
    shown = run("--help")
    assert 0 == shown.returncode
    assert [] == [name for name in COMMANDS if f"  {name} " not in shown.stdout]
    assert "Exit codes" in shown.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == run_here(command, "--help")
    assert f"Usage: a2a-events {command}" in capsys.readouterr().out


def test_an_unknown_setting_in_the_environment_is_refused_by_name() -> None:
    refused = run("provision", A2A_EVENTS_NATSS="nats://127.0.0.1:1")
    assert USAGE == refused.returncode
    assert "A2A_EVENTS_NATSS" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("agent", ["nowhere:agent", "a2a_events.agents:nobody", "a2a_events.agents", "os:sep"])
def test_an_agent_that_is_none_is_refused_before_anything_starts(agent: str) -> None:
    refused = run("up", "--agent", agent)
    assert USAGE == refused.returncode
    assert 1 == len(refused.stderr.splitlines())


def test_a_port_that_is_taken_is_named_and_nothing_is_left_running(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        marker = os.getpid() * 100_000 + port
        refused = run("up", "--port", str(port), "--store", str(tmp_path), A2A_TEST_MARKER=str(marker))
    assert USAGE == refused.returncode
    assert str(port) in refused.stderr
    assert set() == descendants(marker)


def test_a_gateway_that_cannot_be_reached_is_said_in_one_sentence() -> None:
    refused = run("send", "--url", f"http://127.0.0.1:{free_port()}", "hello")
    assert UNAVAILABLE == refused.returncode
    assert 1 == len(refused.stderr.splitlines())


def test_nothing_to_send_is_a_mistake_of_usage() -> None:
    assert USAGE == run("send").returncode


def test_up_prints_the_url_the_card_and_a_command_to_try(deployment: Deployment) -> None:
    assert deployment.url in deployment.output
    assert f"{deployment.url}/.well-known/agent-card.json" in deployment.output
    assert f"a2a-events send --url {deployment.url}" in deployment.output


async def test_up_serves_the_timeline_page(deployment: Deployment) -> None:
    printed = re.search(r"^timelines +(\S+)$", deployment.output, re.MULTILINE)
    assert printed
    task_id = json.loads(run("send", "--url", deployment.url, "hello").stdout.splitlines()[0])["task"]["id"]
    async with httpx.AsyncClient(base_url=printed[1]) as http:

        async def listed() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return task_id in (await http.get("/api/tasks")).text
            return False

        await eventually(listed, what="the task on the timeline page")


def test_a_piped_send_is_json_lines_that_end_with_the_terminal_state(deployment: Deployment) -> None:
    sent = run("send", "--url", deployment.url, "--script", '{"chunks": 3}')
    assert 0 == sent.returncode
    lines = [json.loads(line) for line in sent.stdout.splitlines()]
    assert "task" in lines[0]
    assert "TASK_STATE_COMPLETED" == lines[-1]["statusUpdate"]["status"]["state"]
    assert all("cursor" in line for line in lines)


def test_a_failed_task_is_an_exit_code(deployment: Deployment) -> None:
    assert FAILED == run("send", "--url", deployment.url, "--script", '{"fail": true}').returncode


def test_watch_goes_on_from_a_cursor_of_send(deployment: Deployment) -> None:
    sent = run("send", "--url", deployment.url, "--script", '{"chunks": 3}')
    lines = [json.loads(line) for line in sent.stdout.splitlines()]
    task_id = lines[0]["task"]["id"]
    watched = run("watch", task_id, "--url", deployment.url, "--cursor", lines[1]["cursor"])
    assert 0 == watched.returncode
    assert sent.stdout.splitlines()[2:] == watched.stdout.splitlines()


def test_watch_of_a_task_that_has_ended_shows_how(deployment: Deployment) -> None:
    sent = run("send", "--url", deployment.url, "--script", '{"chunks": 1}')
    task_id = json.loads(sent.stdout.splitlines()[0])["task"]["id"]
    watched = run("watch", task_id, "--url", deployment.url)
    assert 0 == watched.returncode
    assert "TASK_STATE_COMPLETED" == json.loads(watched.stdout)["task"]["status"]["state"]


def test_timeline_shows_every_event_straight_from_the_log(deployment: Deployment) -> None:
    sent = run("send", "--url", deployment.url, "--script", '{"chunks": 2}')
    task_id = json.loads(sent.stdout.splitlines()[0])["task"]["id"]
    rows = [json.loads(line) for line in run("timeline", task_id, "--nats", deployment.nats).stdout.splitlines()]
    assert list(range(1, len(rows) + 1)) == [row["revision"] for row in rows]
    kinds = [row["kind"] for row in rows]
    assert ["submitted", "turnClaimed"] == kinds[:2]
    assert ["turnEnded", "statusUpdate"] == kinds[-2:]
    assert 2 == kinds.count("artifactUpdate")
    table = run("timeline", task_id, "--nats", deployment.nats, "-o", "table").stdout.splitlines()
    assert len(rows) + 1 == len(table)
    assert rows == json.loads(run("timeline", task_id, "--nats", deployment.nats, "-o", "json").stdout)
