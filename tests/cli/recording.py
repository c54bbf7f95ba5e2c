"""Records ``tests/bundles/report.bundle.jsonl`` from a real run: ``python -m tests.cli.recording``.

A task that asks a question, loses its worker in mid-stream, goes on at another one, raises twice and is given up; with
steps, runs of chunks, and a webhook that nobody answers.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from a2a_events.client import Client
from a2a_events.model import Task, TaskState
from a2a_events.runtime.agent import agent
from a2a_events.runtime.transfer import export
from a2a_events.runtime.turn import Turn
from a2a_events.services.connect import jetstream_log
from a2a_events.services.nats_server import NatsServer
from a2a_events.testing import Deployment, eventually
from a2a_events.timeline.bundle import Bundle, write
from a2a_events.timeline.events import Kind

RECORDED = Path(__file__).parent.parent / "bundles" / "report.bundle.jsonl"
UNTIL_CRASH, UNTIL_RAISE, UNTIL_END = 6, 20, 23


@agent(name="report", version="1.4.0", policy="resume", attempts=3, linger_seconds=0.0)
async def report(turn: Turn) -> None:
    """Writes a report about a year, and fails at it."""
    await turn.working("Looking for sources.")
    if turn.attempt == 1 and not turn.task.artifacts and len(turn.task.history) == 1:
        turn.require_input("Which year is the report about?")
        return
    sources = await turn.step("sources", lambda: ["harvest.csv", "rain.csv", "prices.csv"])
    written = sum(len(artifact.parts) for artifact in turn.task.artifacts)
    until = {1: UNTIL_CRASH, 2: UNTIL_RAISE}.get(turn.attempt, UNTIL_END)
    for line in range(written, until):
        await turn.chunk("report", f"Line {line} of {sources[line % len(sources)]}.\n")
        await asyncio.sleep(0.02)
    await turn.flush()
    if turn.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    raise ValueError(f"{sources[turn.attempt - 1]} has no column 'year'")


async def record() -> Bundle:
    """Run it once."""
    server = NatsServer(sync="2m")
    await server.start()
    settings = {"ack_wait_seconds": "2", "push_attempts": "1", "push_allow_private": "true"}
    try:
        async with Deployment(
            server.url, agents="tests.cli.recording:report", workers=2, notifiers=1, settings=settings
        ) as deployment:
            async with Client(deployment.gateways[0].url) as client:
                asked = await client.send("Write a report.")
                assert isinstance(asked, Task)
                await client.push_configs.create(asked.id, "http://127.0.0.1:9/hook", config_id="desk", token="secret")
                ended = await client.send("About 2025, please.", task_id=asked.id)
                assert isinstance(ended, Task)
                assert ended.status.state is TaskState.FAILED
            async with jetstream_log(deployment.settings, "recording") as (log, _):
                task = await log.find(asked.id)
                assert task is not None

                async def whole() -> Bundle | None:
                    bundle = await export(log, task)
                    told = any(Kind.DEAD_LETTER.value in record.header.kinds for record in bundle.records)
                    return bundle if told else None

                recorded: Bundle = await eventually(whole, timeout_seconds=60, what="the letter about the webhook")
                return recorded
    finally:
        await server.stop()
        server.clean()


if __name__ == "__main__":
    RECORDED.write_bytes(write(asyncio.run(record())))
