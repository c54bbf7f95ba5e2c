"""Timelines as earlier versions stored them, and the tasks that they amount to for ever.

``tests/golden/v<n>`` is added to and never edited: a timeline once written is a promise, and a change that breaks one
of these breaks logs that exist. Each ``.ndjson`` holds a record a line; beside it stands the Task that clients see, or,
for a timeline that was only a reply, the Message.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from a2a_events import limits
from a2a_events.model import Message, Task, decode
from a2a_events.timeline import render, snapshot
from a2a_events.timeline.fold import Head, Phase, TaskFold, Webhook
from a2a_events.timeline.idempotency import Mark
from tests.unit.client_view import ClientView
from tests.unit.golden import GOLDEN, TIMELINES, every_timeline, records_of


def beside(path: Path, kind: str) -> Any:
    """The expected object, or None if the timeline has none of this kind."""
    expected = path.with_suffix(f".{kind}.json")
    return json.loads(expected.read_bytes()) if expected.exists() else None


def test_there_are_timelines_to_keep() -> None:
    assert {
        "canceled-in-queue",
        "cancel-race",
        "chunked-artifacts",
        "completion",
        "direct-reply",
        "forked",
        "input-required",
        "keyed-messages",
        "message-during-turn",
        "released-and-nudged",
        "takeover-failed",
        "unknown-kinds",
        "webhooks",
    } <= {path.stem for path in TIMELINES}


@every_timeline
def test_a_stored_timeline_still_amounts_to_its_task(path: Path) -> None:
    fold = TaskFold.of(records_of(path))
    task, message = beside(path, "task"), beside(path, "message")
    assert (task is not None, message is not None) == (fold.head.exists, fold.head.replied)
    if task is not None:
        assert task == json.loads(render.task(fold, task["id"], {}))
        decode(json.dumps(task).encode(), Task)
    else:
        assert message == json.loads(fold.content.reply)
        decode(fold.content.reply, Message)


@every_timeline
def test_a_stored_timeline_still_ends_where_it_ended(path: Path) -> None:
    records = records_of(path)
    head = Head()
    for record in records:
        assert record.inbound == bool(set(record.header.kinds) & set("smxrn"))
        assert head.apply(record)
    assert Phase.TERMINAL is head.phase
    assert (records[-1].position, records[-1].header.last_revision) == (head.position, head.revision)
    assert TaskFold.of(records).head == head


@every_timeline
def test_clients_are_still_shown_what_leads_to_that_task(path: Path) -> None:
    task = beside(path, "task")
    if task is None:
        return
    expected = decode(json.dumps(task).encode(), Task)
    client = ClientView(records_of(path))
    assert expected.status == client.status
    assert list(expected.artifacts) == list(client.artifacts.values())


@every_timeline
def test_a_stored_timeline_survives_snapshots_on_its_way(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SEGMENT_BYTES", 100)
    records = records_of(path)
    segments: dict[str, bytes] = {}
    fold: TaskFold | None = TaskFold.empty()
    for record in records:
        assert fold is not None
        fold.apply(record)
        taken = snapshot.take(fold)
        segments |= {segment.key: segment.content for segment in taken.segments}
        fold = snapshot.restore(taken.head)
    assert fold is not None
    assert TaskFold.of(records).head == fold.head
    task = beside(path, "task")
    if task is not None:
        assert task == json.loads(render.task(fold, task["id"], segments))


def test_a_webhook_that_was_written_before_webhooks_were_known_is_one() -> None:
    head = TaskFold.of(records_of(GOLDEN / "v1" / "unknown-kinds.ndjson")).head
    assert (Webhook("p1", "https://example.com/hook", 2, 302),) == head.webhooks


def test_webhooks_as_they_were_stored_are_still_known() -> None:
    head = TaskFold.of(records_of(GOLDEN / "v1" / "webhooks.ndjson")).head
    assert [("p2", 5), ("p3", 0)] == [(webhook.id, webhook.dead) for webhook in head.webhooks]


def test_keys_as_they_were_stored_are_still_known() -> None:
    head = TaskFold.of(records_of(GOLDEN / "v1" / "keyed-messages.ndjson")).head
    assert Mark("k5tXxEXs3A4kxonvkcm0JQ", "rUPReXLguh9hI5mkqRkpTQ") == head.created_under
    assert (Mark("JD8cKArp0zNbxFhDhMl_mQ", "7qLYzoqCRt0mJaeT08Hhpw"),) == head.keys


def test_what_a_later_version_wrote_is_counted_and_kept() -> None:
    records = records_of(GOLDEN / "v1" / "unknown-kinds.ndjson")
    fold = TaskFold.of(records)
    assert 1 == fold.head.unknown
    assert b'{"step":{"name":"fetch","result":{"n": 1}}}' == records[3].lines()[0]


def test_a_takeover_names_its_reason_in_the_log() -> None:
    records = records_of(GOLDEN / "v1" / "takeover-failed.ndjson")
    assert "ceuS" == records[-1].header.kinds
    assert b"the worker that ran this turn disappeared" in records[-1].lines()[1]


def test_a_message_during_a_turn_is_the_next_turn_in_one_record() -> None:
    records = records_of(GOLDEN / "v1" / "message-during-turn.ndjson")
    assert "ecS" in [record.header.kinds for record in records]
