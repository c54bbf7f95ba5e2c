"""``timeline-page``: what it refuses, and how it says so. What it serves is tested in ``tests/browser``."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from a2a_events.testing import free_port
from tests.cli.commands import Command, run_here
from tests.cli.recording import RECORDED

Start = Callable[..., Command]


@pytest.mark.processes
async def test_a_port_that_is_taken_is_named_with_the_flag_that_chooses_another(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = start("timeline-page", "--bundle", str(RECORDED), "--timeline-port", str(port))
        assert await command.end() == 2
    said = command.err.splitlines()[-1]
    assert f"port {port} on 127.0.0.1 is taken by another program; choose another --timeline-port" in said
    assert "Traceback" not in command.err


@pytest.mark.processes
async def test_it_serves_until_it_is_interrupted(start: Start) -> None:
    port = free_port()
    command = start("timeline-page", "--bundle", str(RECORDED), "--timeline-port", str(port))
    await command.prints("timeline ready")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        [task] = (await http.get("/api/tasks")).json()["tasks"]
        # A stream that nobody ends does not hold it up, and hears when to come back.
        async with http.stream("GET", "/api/tasks/events") as response:
            assert response.status_code == 200
            command.interrupt()
            assert "retry: " in (await response.aread()).decode()
        assert await command.end() == 0
    assert task["state"] == "FAILED"
    assert not command.family()


def test_it_is_not_open_to_everybody_by_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("timeline-page", "--bundle", str(RECORDED), "--timeline-host", "192.0.2.1") == 2
    assert "A2A_EVENTS_TIMELINE_TOKEN" in capsys.readouterr().err


def test_a_file_that_is_no_bundle_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_bytes(b"{}")
    assert run_here("timeline-page", "--bundle", str(broken)) == 2
    assert "broken.jsonl" in capsys.readouterr().err
    assert run_here("timeline-page", "--bundle", str(RECORDED), "--bundle", str(RECORDED)) == 2
    assert "another file holds already" in capsys.readouterr().err
