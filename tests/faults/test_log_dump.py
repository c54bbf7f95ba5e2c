"""The final log is read as the broker has it, large records as they were offered."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from a2a_events import limits
from a2a_events.log.append import append
from a2a_events.log.jetstream import Connection, JetStreamLog, Names, StreamSettings, provision
from a2a_events.testing import nats_server, unique_namespace
from a2a_events.timeline.ids import TaskRef, task_id, token
from a2a_events.timeline.record import Draft, Header, Writer
from faults.history import Append, History, Recorder, Stored, digest, histories
from faults.log_dump import dump, records, replicas
from faults.recording import recorded

pytestmark = pytest.mark.integration


def _draft(revision: int, payload: bytes) -> Draft:
    header = Header(f"r{revision}{os.urandom(4).hex()}", revision, "A", revision, Writer("worker", "w1"), (1,), epoch=1)
    return Draft(header, payload)


async def test_the_dump_holds_every_record_as_its_writer_offered_it(tmp_path: Path) -> None:
    names, settings = Names(unique_namespace()), StreamSettings("main", shards=2)
    async with nats_server() as url:
        connection = Connection([url], name="test")
        await connection.open()
        try:
            await provision(connection, names, settings)
            with Recorder(tmp_path, "writer") as recorder:
                log = recorded(await JetStreamLog.open(connection, names, settings), recorder)
                offered: dict[tuple[str, int], Draft] = {}
                for shard in (0, 1):
                    task = TaskRef("main", shard, "agent", token("acme"), task_id("main", shard, os.urandom(16)))
                    position = 0
                    for revision, size in ((1, 10), (2, limits.RECORD_BYTES + 1), (3, 20)):
                        made = _draft(revision, b"x" * size)
                        position = await append(log, task, made, position)
                        offered[task.task_id, position] = made
            await dump(connection, names, "main", 2, tmp_path)
            await log.close()
        finally:
            await connection.close()

    dumped = dict(records(tmp_path))
    assert list(dumped) == [names.log_stream("main", 0), names.log_stream("main", 1)]
    stored = [record for stream in dumped.values() for record in stream]
    assert {(r.task, r.position): (digest(r.payload), r.header.split("|")[3]) for r in stored} == {
        place: (digest(made.payload), made.header.record_id) for place, made in offered.items()
    }
    for stream in dumped.values():
        assert [record.expected for record in stream] == [0, *(record.position for record in stream[:-1])]
        assert {record.tenant for record in stream} == {token("acme")}
    assert {stream: len(messages) for stream, _, messages in replicas(tmp_path)} == dict.fromkeys(dumped, 3)
    (history,) = histories(tmp_path)
    _tells_every_append(history, offered)


def _tells_every_append(history: History, offered: dict[tuple[str, int], Draft]) -> None:
    events = list(history.events())
    appends = {event.number: event.fact for event in events if isinstance(event.fact, Append)}
    told = {event.number: event.fact.position for event in events if isinstance(event.fact, Stored)}
    assert {(appends[n].task, position): appends[n].record_id for n, position in told.items()} == {
        place: made.header.record_id for place, made in offered.items()
    }
    assert {append.payload for append in appends.values()} == {digest(made.payload) for made in offered.values()}
