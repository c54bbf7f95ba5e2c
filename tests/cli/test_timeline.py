from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from a2a_events.cli import source
from a2a_events.cli.source import Source
from a2a_events.cli.timeline import show
from a2a_events.client import Client
from a2a_events.log.memory import MemoryLog
from a2a_events.model import Task
from a2a_events.testing import Deployment, eventually
from a2a_events.timeline.bundle import Bundle, write
from a2a_events.timeline.events import Actor, CancelRequested, DeadLetter, Kind, PushConfigDeleted, PushConfigSet
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Entry, Record, draft, entry
from a2a_events.timeline.rows import rows_of
from tests.cli.commands import run_here
from tests.unit.timeline_builders import ALICE, GATEWAY, NOW, REF, submitted

COLUMNS = ["revision", "position", "time", "kind", "writer", "epoch", "summary"]


def record(*entries: Entry, position: int = 7, revision: int = 0, epoch: int = 0) -> Record:
    made = draft(entries, record_id="r", revision=revision, generation=0, writer=GATEWAY, incarnation="i", epoch=epoch)
    return Record(position, made.header, made.payload, made.inbound)


def bundle_of(*records: Record) -> Bundle:
    return Bundle(REF, records)


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A bundle of one record."""
    first, second = entry(submitted("m1"), NOW), entry(CancelRequested(actor=ALICE), NOW + 1234)
    path = tmp_path / "task.bundle.jsonl"
    path.write_bytes(write(bundle_of(record(first, second, position=12, epoch=3))))
    return str(path)


def test_every_event_of_a_record_is_a_row() -> None:
    first, second = entry(submitted("m1"), NOW), entry(CancelRequested(actor=ALICE), NOW + 1234)
    rows = rows_of(record(first, second, position=12, revision=4, epoch=3))
    assert [(row.revision, row.position, row.kind, row.epoch) for row in rows] == [
        (5, 12, "submitted", 3),
        (6, 12, "cancelRequested", 3),
    ]
    assert rows[0].writer == "gateway/gateway-1"
    assert [row.time[-5:] for row in rows] == [".000Z", ".234Z"]
    assert "message m1" in rows[0].summary
    assert rows[1].summary == "asked, by alice of acme"


def test_ndjson_has_one_event_a_line(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("timeline", file) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [list(line) for line in lines] == [[*COLUMNS, "bytes", "event"]] * 2
    assert lines[0]["event"]["submitted"]["message"]["messageId"] == "m1"


def test_json_is_one_array(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("timeline", file, "-o", "json") == 0
    assert [row["revision"] for row in json.loads(capsys.readouterr().out)] == [1, 2]


def test_table_cuts_nothing_and_can_do_nothing_to_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "long"
    asked = entry(CancelRequested(actor=Actor(subject="x" * 300 + "\x1b[2J")), NOW)
    path.write_bytes(write(bundle_of(record(entry(submitted("m1"), NOW), asked))))
    assert run_here("timeline", str(path), "-o", "table") == 0
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == COLUMNS
    assert "x" * 300 in second
    assert "\x1b" not in second
    assert header.index("kind") == first.index("submitted") == second.index("cancelRequested")


class Dripping(MemoryLog):
    """Gives one record, and the others when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.more = asyncio.Event()

    async def read(self, task: TaskRef, start: int = 1) -> AsyncIterator[list[Record]]:
        """See ``port.Log``."""
        async for records in super().read(task, start):
            for one in records:
                yield [one]
                await self.more.wait()


@pytest.mark.parametrize("output", ["table", "ndjson"])
async def test_rows_are_printed_while_the_rest_is_still_read(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    log = Dripping()
    first = record(entry(submitted("m1"), NOW), position=1)
    log.restore(REF, [first, record(entry(CancelRequested(actor=ALICE), NOW), position=2, revision=1)])
    showing = asyncio.create_task(show(Source(log, REF), output))
    shown = ""

    def printed() -> bool:
        nonlocal shown
        shown += capsys.readouterr().out
        return "message m1" in shown

    await eventually(printed, what="the first row")
    assert "cancelRequested" not in shown
    log.more.set()
    await asyncio.wait_for(showing, 20)
    assert "cancelRequested" in capsys.readouterr().out


def test_kind_from_the_future_is_counted_not_shown() -> None:
    reserved = Entry(Kind.TOMBSTONE.value, b'{"tombstone":{"token":"secret"}}', NOW)
    [row] = rows_of(record(reserved))
    assert row.kind == "tombstone"
    assert "secret" not in str(row)


def test_webhooks_are_shown_without_their_secrets_even_sealed() -> None:
    webhook = PushConfigSet(id="w1", url="https://example.com/hook", scheme="Bearer", sealed="1.name.c2VjcmV0")
    dead = DeadLetter(config="w1", config_revision=2, revision=7, attempts=12, reason="it answered 500")
    rows = rows_of(record(entry(webhook, NOW), entry(PushConfigDeleted(id="w1"), NOW), entry(dead, NOW)))
    assert [row.kind for row in rows] == ["pushConfigSet", "pushConfigDeleted", "deadLetter"]
    assert "https://example.com/hook" in rows[0].summary
    assert b"Bearer" in msgspec.json.encode(rows[0])
    assert b"c2VjcmV0" not in msgspec.json.encode(rows)
    assert "revision 7" in rows[2].summary
    assert "it answered 500" in rows[2].summary


@pytest.mark.integration
@pytest.mark.processes
async def test_timeline_needs_nobody_alive(nats_url: str) -> None:
    async with Deployment(nats_url, agents="a2a_events.agents:echo") as deployment:
        async with Client(deployment.gateways[0].url) as client:
            task = await client.send("hello")
        for process in [*deployment.gateways, *deployment.workers]:
            process.kill()
        assert isinstance(task, Task)
        async with source.opened(task.id, deployment.settings, "timeline") as opened:
            rows = [row for one in await opened.records() for row in rows_of(one)]
    assert [row.revision for row in rows] == list(range(1, len(rows) + 1))
    assert [row.position for row in rows] == sorted(row.position for row in rows)
    assert rows[0].kind == "submitted"
    assert rows[-1].summary == "COMPLETED"
    assert {row.writer.split("/")[0] for row in rows} == {"gateway", "worker"}
