from __future__ import annotations

import json

import msgspec
import pytest
from msgspec.structs import replace

from a2a_events.cli.timeline import read, show
from a2a_events.client import Client
from a2a_events.model import Task
from a2a_events.testing import Deployment
from a2a_events.timeline.events import CancelRequested, DeadLetter, Kind, PushConfigDeleted, PushConfigSet
from a2a_events.timeline.record import Entry, Record, draft, entry
from a2a_events.timeline.rows import Row, rows_of
from tests.unit.timeline_builders import ALICE, GATEWAY, NOW, submitted

COLUMNS = ["revision", "position", "time", "kind", "writer", "epoch", "summary", "bytes"]


def record(*entries: Entry, position: int = 7, revision: int = 0, epoch: int = 0) -> Record:
    made = draft(entries, record_id="r", revision=revision, generation=0, writer=GATEWAY, incarnation="i", epoch=epoch)
    return Record(position, made.header, made.payload, made.inbound)


@pytest.fixture
def rows() -> list[Row]:
    first = entry(submitted("m1"), NOW)
    second = entry(CancelRequested(actor=ALICE), NOW + 1234)
    return rows_of(record(first, second, position=12, revision=4, epoch=3))


def test_every_event_of_a_record_is_a_row(rows: list[Row]) -> None:
    assert [(row.revision, row.position, row.kind, row.epoch) for row in rows] == [
        (5, 12, "submitted", 3),
        (6, 12, "cancelRequested", 3),
    ]
    assert rows[0].writer == "gateway/gateway-1"
    assert [row.time[-5:] for row in rows] == [".000Z", ".234Z"]
    assert "message m1" in rows[0].summary
    assert rows[1].summary == "asked, by alice of acme"


def test_ndjson_has_one_event_a_line(rows: list[Row], capsys: pytest.CaptureFixture[str]) -> None:
    show(rows, "ndjson")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [list(line) for line in lines] == [[*COLUMNS, "event"]] * 2
    assert lines[0]["event"]["submitted"]["message"]["messageId"] == "m1"


def test_json_is_one_array(rows: list[Row], capsys: pytest.CaptureFixture[str]) -> None:
    show(rows, "json")
    assert [row["revision"] for row in json.loads(capsys.readouterr().out)] == [5, 6]


def test_table_cuts_nothing_and_can_do_nothing_to_a_terminal(
    rows: list[Row], capsys: pytest.CaptureFixture[str]
) -> None:
    long = replace(rows[0], summary="x" * 300 + "\x1b[2J")
    show([long, rows[1]], "table")
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == COLUMNS
    assert "x" * 300 in first
    assert "\x1b" not in first
    assert header.index("kind") == first.index("submitted") == second.index("cancelRequested")


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
        rows = await read(task.id, deployment.settings)
    assert [row.revision for row in rows] == list(range(1, len(rows) + 1))
    assert [row.position for row in rows] == sorted(row.position for row in rows)
    assert rows[0].kind == "submitted"
    assert rows[-1].summary == "COMPLETED"
    assert {row.writer.split("/")[0] for row in rows} == {"gateway", "worker"}
