"""Everything as real processes: started, used, crashed, and gone afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from a2a_events.client import Client
from a2a_events.services.replacement import LONGEST_PAUSE_SECONDS, pause_seconds
from a2a_events.services.up import environment
from a2a_events.settings import Settings, load
from a2a_events.testing import eventually, free_port
from tests.cli.commands import Command

processes = [pytest.mark.integration, pytest.mark.processes]
Start = Callable[..., Command]


class Up:
    """A running ``up`` and what it printed."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.url = self._printed("ready")
        self.nats = self._printed("nats")

    def _printed(self, name: str) -> str:
        lines = [line for line in self.command.out.splitlines() if line.startswith(f"{name} ")]
        return lines[0].split()[1]

    def pids(self, role: str) -> set[int]:
        return {pid for pid, line in self.command.family().items() if f" {role} --until-eof" in line}


async def started(start: Start, *arguments: str) -> Up:
    command = start("up", "--port", str(free_port(2)), "--sync", "2m", *arguments)
    await command.prints(r"\nstop +Ctrl-C")
    return Up(command)


async def finished(command: Command) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, JSON lines and standard error of a command."""
    code = await command.end()
    return code, [json.loads(line) for line in command.out.splitlines()], command.err


async def assert_gone(command: Command) -> None:
    await eventually(lambda: not command.family(), what="the end of every process")


@pytest.fixture
async def up(start: Start) -> AsyncIterator[Up]:
    running = await started(start, "--ack-wait-seconds", "1")
    yield running
    running.command.interrupt()
    assert await running.command.end() == 0
    assert running.command.out.endswith("Stopped.\n")
    assert running.command.family() == {}


@pytest.mark.integration
@pytest.mark.processes
async def test_what_is_printed_works_where_callers_need_keys(start: Start, tmp_path: Path) -> None:
    (tmp_path / "my keys.jsonl").touch()
    up = await started(start, "--auth", "api_keys", "--auth-api-keys", "my keys.jsonl")
    printed = dict(re.findall(r"^(a key|try|or) +(.+(?:\n  .+)*)", up.command.out, re.MULTILINE))

    async def shell(name: str) -> str:
        command = ["sh", "-c", printed[name]]
        ran = await asyncio.to_thread(
            subprocess.run, command, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        return ran.stdout if ran.returncode == 0 else ""

    await shell("a key")
    assert (tmp_path / "me.key").read_text().startswith("a2ak_")
    # The gateway looks at the file every other second.
    await eventually(lambda: shell("try"), what="an answer to somebody with a key")
    assert "TASK_STATE_COMPLETED" in await shell("or")
    up.command.interrupt()
    assert await up.command.end() == 0


@pytest.mark.usefixtures("up")
class TestUp:
    pytestmark = processes

    async def test_send_timeline_watch(self, up: Up, start: Start, tmp_path: Path) -> None:
        """One test for what shares a start: each command as its user runs it, piped."""
        card = f"{up.url}/.well-known/agent-card.json"
        assert card in up.command.out
        assert f'send --url {up.url} "hello"' in up.command.out
        assert (tmp_path / ".a2a-events").is_dir()

        sends = {
            "hello": start("send", "--url", up.url, "hello"),
            "fail": start("send", "--url", up.url, "--script", '{"chunks": 2, "fail": true}'),
            "ask": start("send", "--url", up.url, "--script", '{"chunks": 3, "inputAt": 1}'),
            "whole": start("send", "--url", up.url, "--no-stream", "whole"),
        }
        results = {name: await finished(command) for name, command in sends.items()}

        code, lines, _ = results["hello"]
        assert code == 0
        assert "task" in lines[0]
        assert all(line["cursor"] for line in lines)
        assert lines[-1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"
        task_id = lines[0]["task"]["id"]

        assert results["fail"][0] == 1
        code, lines, err = results["ask"]
        assert code == 0
        assert f'--task {lines[0]["task"]["id"]} "…"' in err
        code, lines, _ = results["whole"]
        assert (code, len(lines)) == (0, 1)
        assert lines[0]["task"]["artifacts"][0]["parts"] == [{"text": "whole"}]

        cursor = results["hello"][1][0]["cursor"]
        ended = start("watch", "--url", up.url, task_id)
        resumed = start("watch", "--url", up.url, task_id, "--cursor", cursor)
        failed = start("watch", "--url", up.url, results["fail"][1][0]["task"]["id"])
        timeline = start("timeline", task_id, "--nats", up.nats)
        code, lines, _ = await finished(ended)
        assert (code, lines[0]["task"]["status"]["state"]) == (0, "TASK_STATE_COMPLETED")
        code, lines, _ = await finished(resumed)
        assert (code, lines) == (0, results["hello"][1][1:])
        assert (await finished(failed))[0] == 1
        code, lines, _ = await finished(timeline)
        assert code == 0
        assert [line["revision"] for line in lines] == list(range(1, len(lines) + 1))

    async def test_worker_that_crashes_comes_back(self, up: Up, start: Start) -> None:
        [before] = up.pids("worker")
        crash = start("send", "--url", up.url, "--script", '{"chunks": 3, "crashAt": 1}')
        code, lines, _ = await finished(crash)
        assert code == 1
        assert lines[-1]["statusUpdate"]["status"]["state"] == "TASK_STATE_FAILED"
        [after] = up.pids("worker")
        assert after != before
        assert "killed by SIGKILL" in up.command.err
        assert (await finished(start("send", "--url", up.url, "hello")))[0] == 0


def _artifacts(line: dict[str, Any]) -> list[dict[str, Any]]:
    if "artifactUpdate" in line:
        return [line["artifactUpdate"]["artifact"]]
    artifacts: list[dict[str, Any]] = line.get("task", {}).get("artifacts", [])
    return artifacts


class TestLives:
    pytestmark = processes

    async def test_watch_outlives_the_gateway_and_the_nats_server(self, start: Start) -> None:
        up = await started(start)
        send = start("send", "--url", up.url, "--return-immediately", "--script", '{"chunks": 30, "delayMs": 100}')
        code, lines, _ = await finished(send)
        assert code == 0
        watch = start("watch", "--url", up.url, lines[0]["task"]["id"])
        await watch.prints("000003 ")
        [gateway] = up.pids("gateway")
        os.kill(gateway, signal.SIGKILL)
        await watch.prints("000010 ")
        [broker] = [pid for pid, line in up.command.family().items() if "nats-server -c" in line]
        os.kill(broker, signal.SIGKILL)
        code, lines, _ = await finished(watch)
        assert code == 0
        texts = [part["text"] for line in lines for artifact in _artifacts(line) for part in artifact["parts"]]
        assert [int(text.split()[0]) for text in texts] == list(range(30))

    async def test_nothing_outlives_a_killed_supervisor(self, start: Start) -> None:
        up = await started(start)
        assert len(up.command.family()) >= 4
        up.command.process.kill()
        await assert_gone(up.command)

    async def test_second_interrupt_does_not_wait_for_turns(self, start: Start) -> None:
        up = await started(start, "--drain-seconds", "600")
        async with Client(up.url) as client, client.stream("warm up") as updates:
            await anext(updates)
        send = start("send", "--url", up.url, "--script", '{"chunks": 600, "delayMs": 1000}')
        await send.prints("000000 ")
        up.command.interrupt()
        await up.command.prints("worker draining")
        up.command.interrupt()
        assert await up.command.end(seconds=10) == 0
        assert up.command.family() == {}

    async def test_interrupt_while_starting(self, start: Start) -> None:
        command = start("up", "--port", str(free_port()))
        await command.prints("service started")
        command.interrupt()
        assert await command.end() == 0
        assert command.family() == {}

    async def test_tasks_survive_and_the_root_is_for_the_agent_asked_for(self, start: Start) -> None:
        first = await started(start, "--in-process", "--agent", "a2a_events.agents:echo")
        assert not first.pids("worker")
        code, lines, _ = await finished(start("send", "--url", first.url, "hello"))
        assert code == 0
        task_id = lines[0]["task"]["id"]

        rival = start("up", "--port", str(free_port()))
        assert await rival.end() == 3
        assert "another nats-server has its data in" in rival.err

        first.command.process.send_signal(signal.SIGTERM)
        assert await first.command.end() == 0
        assert first.command.family() == {}

        second = await started(start, "--agent", "a2a_events.agents:scripted", "--gateways", "2")
        code, lines, _ = await finished(start("send", "--url", second.url, "hello"))
        assert code == 0
        assert (await finished(start("timeline", task_id, "--nats", second.nats)))[0] == 0
        second.command.interrupt()
        assert await second.command.end() == 0
        assert second.command.family() == {}


@pytest.mark.integration
@pytest.mark.processes
async def test_demo_loses_nothing(start: Start) -> None:
    demo = start("demo", "--chunks", "12", "--delay-ms", "60")
    assert await demo.end() == 0
    assert "Whole: 12 of 12 chunks, each chunk once, in order" in demo.out
    assert "kill -9" in demo.out
    assert "gateway A is gone" in demo.out
    assert "turnEnded" in demo.out
    assert "COMPLETED" in demo.out.splitlines()[-1]
    assert demo.family() == {}


@pytest.mark.processes
def test_output_may_be_cut_off() -> None:
    command = [sys.executable, "-m", "a2a_events.cli", "--help"]
    reading, writing = os.pipe()
    os.close(reading)  # as `| head` does when it has seen enough
    try:
        done = subprocess.run(command, check=False, stdout=writing, stderr=subprocess.PIPE, timeout=30)
    finally:
        os.close(writing)
    assert done.stderr == b""
    assert done.returncode != 0


def test_restarts_slow_down() -> None:
    pauses = [pause_seconds(lives) for lives in range(1, 40)]
    assert pauses[0] == 0
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_SECONDS


def test_children_get_exactly_the_supervisors_settings() -> None:
    chosen = Settings(port=9001, nats_raw=False, agent="a:b,c:d", ack_wait_seconds=1.5)
    given = environment(chosen, {"PATH": "/bin", "A2A_EVENTS_HOST": "elsewhere", "A2A_EVENTS_PORT": "1"})
    assert given["PATH"] == "/bin"
    assert load(environment=given) == chosen
