"""The page over a file: the service as a process without any server, and the same views."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from a2a_events.agents import scripted
from a2a_events.log.memory import MemoryLog
from a2a_events.runtime import transfer
from a2a_events.testing import eventually, free_port, in_memory
from a2a_events.timeline import bundle
from tests.browser.conftest import OpenAt

pytestmark = [
    pytest.mark.browser,
    pytest.mark.processes,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(120),
]


@asynccontextmanager
async def served(*paths: Path) -> AsyncIterator[str]:
    """``timeline-page --bundle``; its URL."""
    port = free_port()
    command = [sys.executable, "-m", "a2a_events.cli", "timeline-page", "--until-eof", "--timeline-port", str(port)]
    for path in paths:
        command += ["--bundle", str(path)]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:  # noqa: ASYNC220 -- at once
        try:
            async with httpx.AsyncClient() as http:

                async def up() -> bool:
                    assert process.poll() is None, process.stderr and process.stderr.read()
                    try:
                        return (await http.get(f"{url}/livez")).status_code == 200
                    except httpx.TransportError:
                        return False

                await eventually(up, timeout_seconds=30, what="the page over a file")
            yield url
        finally:
            process.terminate()


async def test_a_recorded_failure_is_looked_at_offline(open_at: OpenAt, tmp_path: Path) -> None:
    log = MemoryLog()
    async with in_memory(scripted, log=log) as calls:
        task = await calls.send_task({"script": {"chunks": 4, "fail": True}})
        found = await log.find(task.id)
        assert found is not None
        path = tmp_path / "failed.jsonl"
        path.write_bytes(bundle.write(await transfer.export(log, found)))
    async with served(path) as url:
        page = await open_at(url)
        await page.click(f'a[data-task="{task.id}"]')
        await page.sees("#state", "failed")
        await page.sees("#about", "failed.jsonl")
        newest = await page.evaluate("Number(document.querySelector('#range').max)")
        await page.at(newest)
        await page.press("Home", "ArrowRight")
        await page.at(2)
        assert await page.evaluate("document.querySelector('#fork').disabled")  # nobody would take it up
        refused = await page.window.request.post(
            f"{url}/api/tasks/{task.id}/fork", headers={"content-type": "application/json"}, data={"revision": 1}
        )
        assert refused.status == 409
        assert "read from a file" in (await refused.json())["detail"]
