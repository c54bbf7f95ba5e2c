"""``timeline --follow``: what is there, then what comes, until the task ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from a2a_events.cli.source import Source
from a2a_events.cli.timeline import show
from a2a_events.client import Client
from a2a_events.log.memory import MemoryLog
from a2a_events.model import Message, Part, Role, Task, TaskState
from a2a_events.services.nats_server import NatsServer
from a2a_events.testing import Deployment, eventually
from a2a_events.timeline.events import TurnClaimed
from a2a_events.timeline.fold import Head
from a2a_events.timeline.record import Entry, entry
from a2a_events.timeline.rows import Filter
from tests.cli.commands import Command
from tests.cli.terminal import Terminal, terminal
from tests.unit.timeline_builders import NOW, REF, artifact, next_draft, reply, status, submitted

Start = Callable[..., Command]


class Growing:
    """A task of a log in memory."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        self.head = Head()
        self.source = Source(self.log, REF)

    async def add(self, *entries: Entry, epoch: int = 0) -> None:
        """One more record."""
        draft = next_draft(self.head, list(entries), record_id=f"r{self.head.revision}", epoch=epoch)
        await self.log.try_append(REF, draft, self.head.position)
        record = await self.log.last(REF)
        assert record is not None
        self.head.apply(record)


@pytest.fixture
async def growing() -> AsyncIterator[Growing]:
    """A task that runs."""
    made = Growing()
    await made.add(entry(submitted("m1"), NOW))
    await made.add(entry(TurnClaimed(epoch=1, lease=1, policy="resume"), NOW), status(TaskState.WORKING), epoch=1)
    yield made
    await made.log.close()


class Output:
    """What was printed so far, out of ``capsys``."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    @property
    def rows(self) -> list[Any]:
        self._text += self._capsys.readouterr().out
        return [json.loads(line) for line in self._text.splitlines()]

    async def reaches(self, count: int) -> list[Any]:
        """Wait for so many rows."""
        await eventually(lambda: len(self.rows) >= count, what=f"{count} rows")
        return self.rows


async def test_what_is_there_comes_first_then_what_comes_and_the_end_ends_it(
    growing: Growing, capsys: pytest.CaptureFixture[str]
) -> None:
    output = Output(capsys)
    following = asyncio.create_task(show(growing.source, "ndjson", follow=True))
    await output.reaches(3)
    await growing.add(artifact("a", "one"), epoch=1)
    await output.reaches(4)
    await growing.add(status(TaskState.COMPLETED), epoch=1)
    await asyncio.wait_for(following, 20)
    assert [row["revision"] for row in output.rows] == [1, 2, 3, 4, 5]


async def test_a_task_that_waits_for_its_client_has_not_ended(
    growing: Growing, capsys: pytest.CaptureFixture[str]
) -> None:
    output = Output(capsys)
    following = asyncio.create_task(show(growing.source, "ndjson", follow=True))
    await growing.add(status(TaskState.INPUT_REQUIRED), epoch=1)
    await output.reaches(4)
    assert not following.done()
    await growing.add(reply("m2"), epoch=1)
    await asyncio.wait_for(following, 20)
    assert [row["kind"] for row in output.rows][-1] == "message"


async def test_of_a_task_that_has_ended_everything_is_printed_also_what_came_after(
    growing: Growing, capsys: pytest.CaptureFixture[str]
) -> None:
    await growing.add(status(TaskState.FAILED), epoch=1)
    await growing.add(artifact("late", "too late"), epoch=1)
    await asyncio.wait_for(show(growing.source, "ndjson", follow=True), 20)
    assert [row["revision"] for row in Output(capsys).rows] == [1, 2, 3, 4, 5]


async def test_filters_hide_rows_and_not_the_end(growing: Growing, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = Filter(kinds=frozenset({"artifactUpdate"}))
    following = asyncio.create_task(show(growing.source, "ndjson", wanted, follow=True))
    await growing.add(artifact("a", "one"), epoch=1)
    await growing.add(status(TaskState.CANCELED), epoch=1)
    await asyncio.wait_for(following, 20)
    assert [row["revision"] for row in Output(capsys).rows] == [4]


async def test_until_a_revision_ends_it_before_the_task_does(
    growing: Growing, capsys: pytest.CaptureFixture[str]
) -> None:
    following = asyncio.create_task(show(growing.source, "ndjson", Filter(last=4), follow=True))
    await growing.add(artifact("a", "one"), epoch=1)
    await asyncio.wait_for(following, 20)
    assert [row["revision"] for row in Output(capsys).rows] == [1, 2, 3, 4]


async def test_a_run_is_one_row_when_it_is_over(growing: Growing, capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(capsys)
    following = asyncio.create_task(show(growing.source, "ndjson", compact=True, follow=True))
    await output.reaches(3)
    for number in range(3):
        await growing.add(artifact("a", f"{number}", append=number > 0), epoch=1)
    await growing.add(artifact("b", "other"), epoch=1)
    rows = await output.reaches(4)
    assert (rows[3]["revision"], rows[3]["last_revision"], rows[3]["count"]) == (4, 6, 3)
    await growing.add(status(TaskState.COMPLETED), epoch=1)
    await asyncio.wait_for(following, 20)
    assert [row["revision"] for row in output.rows] == [1, 2, 3, 4, 7, 8]


async def test_an_interrupted_run_is_printed_as_far_as_it_came(
    growing: Growing, capsys: pytest.CaptureFixture[str]
) -> None:
    output = Output(capsys)
    following = asyncio.create_task(show(growing.source, "ndjson", compact=True, follow=True))
    await output.reaches(3)
    for number in range(2):
        await growing.add(artifact("a", f"{number}", append=number > 0), epoch=1)
    # Both are taken by the follower before it is interrupted: another watcher of the same task has seen them.
    async with growing.log.watch(REF) as watch, aclosing(watch.after(0, 0)) as coming:
        seen = 0
        async for records in coming:
            seen = records[-1].header.last_revision
            if seen >= 5:
                break
    for _ in range(5):
        await asyncio.sleep(0)
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    assert output.rows[-1]["count"] == 2


def _shows(shown: Terminal, text: str) -> bool:
    return text in shown.text


async def test_on_a_terminal_a_run_that_goes_on_is_seen_to_grow(
    growing: Growing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    with terminal() as shown:
        following = asyncio.create_task(show(growing.source, "table", compact=True, follow=True))
        for number in range(3):
            await growing.add(artifact("a", f"{number}", append=number > 0), epoch=1)
            so_far = f"4-{4 + number}  a: " if number else "4  a: "
            await eventually(partial(_shows, shown, so_far), what=so_far)
        await growing.add(status(TaskState.COMPLETED), epoch=1)
        await asyncio.wait_for(following, 20)
    last = shown.text.rstrip("\n").split("\n")
    assert "4-6" in last[-2]
    assert "COMPLETED" in last[-1]


def scripted(**script: Any) -> Message:
    return Message(message_id="m", role=Role.USER, parts=(Part(data={"script": script}),))


@pytest.mark.integration
@pytest.mark.processes
async def test_a_running_task_is_followed_to_its_end(nats_url: str, start: Start) -> None:
    async with Deployment(nats_url) as deployment, Client(deployment.gateways[0].url) as client:
        task = await client.send(scripted(chunks=4, inputAt=2))
        assert isinstance(task, Task)
        place = ("--nats", nats_url, "--namespace", deployment.namespace)
        command = start("timeline", task.id, "--follow", *place)
        await command.prints("INPUT_REQUIRED")
        assert command.process.poll() is None
        await client.send("go on", task_id=task.id)
        assert await command.end() == 0
        rows = [json.loads(line) for line in command.out.splitlines()]
        assert [row["revision"] for row in rows] == list(range(1, len(rows) + 1))
        assert rows[-1]["state"] == "COMPLETED"
        interrupted = await client.send(scripted(chunks=4, inputAt=2))
        assert isinstance(interrupted, Task)
        command = start("timeline", interrupted.id, "-f", *place)
        await command.prints("INPUT_REQUIRED")
        command.interrupt()
        assert await command.end() == 130
        assert "Traceback" not in command.err


@pytest.mark.integration
@pytest.mark.processes
async def test_following_outlives_the_broker(tmp_path: Path, start: Start) -> None:
    server = NatsServer(tmp_path / "nats")
    await server.start()
    try:
        async with Deployment(server.url) as deployment, Client(deployment.gateways[0].url) as client:
            task = await client.send(scripted(chunks=4, inputAt=2))
            assert isinstance(task, Task)
            command = start("timeline", task.id, "-f", "--nats", server.url, "--namespace", deployment.namespace)
            await command.prints("INPUT_REQUIRED")
            server.kill()
            await server.start()
            await client.send("go on", task_id=task.id)
            assert await command.end() == 0
            rows = [json.loads(line) for line in command.out.splitlines()]
            assert [row["revision"] for row in rows] == list(range(1, len(rows) + 1))
            assert rows[-1]["state"] == "COMPLETED"
    finally:
        await server.stop()
        server.clean()
