"""Reading: what the leader has, in order, bounded by what it had when reading began."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from a2a_events import limits
from a2a_events.log.port import Log
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Draft
from tests.contract.logs import Author, Kit, new_task, read_all


async def test_a_task_without_records_is_empty_in_every_way(log: Log) -> None:
    task = new_task(log)

    assert await log.last(task) is None
    assert await log.first_after(task, 0) is None
    assert await read_all(log, task) == []


async def test_a_task_in_a_shard_that_is_not_there_is_empty(log: Log) -> None:
    here = new_task(log)
    nowhere = TaskRef(here.log, 77, here.agent, here.tenant, here.task_id)

    assert await log.last(nowhere) is None
    assert await log.first_after(nowhere, 0) is None
    assert await read_all(log, nowhere) == []


async def test_a_write_is_read_at_once_by_every_process(kit: Kit) -> None:
    author = Author(kit.log, new_task(kit.log))
    for _ in range(20):
        written = await author.write()
        assert await kit.log.last(author.task) == written
        assert await kit.other.last(author.task) == written
        assert await kit.other.first_after(author.task, written.position - 1) == written


async def test_first_after_gives_the_next_record_and_nothing_after_the_last(log: Log) -> None:
    author = Author(log, new_task(log))
    other = Author(log, new_task(log))
    for _ in range(3):
        await author.write()
        await other.write()

    first, second, third = author.records
    assert await log.first_after(author.task, 0) == first
    assert await log.first_after(author.task, first.position) == second
    assert await log.first_after(author.task, second.position) == third
    assert await log.first_after(author.task, third.position) is None
    assert await log.first_after(author.task, third.position + 1000) is None


async def test_reading_starts_at_a_position_inclusive(log: Log) -> None:
    author = Author(log, new_task(log))
    await author.write_many(10)

    for index in (0, 4, 9):
        assert await read_all(log, author.task, author.records[index].position) == author.records[index:]
    assert await read_all(log, author.task, author.position + 1) == []


async def test_more_records_than_one_batch_are_all_read_in_order(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "READ_BATCH_RECORDS", 16)
    author = Author(log, new_task(log))
    await author.write_many(100)

    runs = [run async for run in log.read(author.task)]

    assert [record for run in runs for record in run] == author.records
    assert len(runs) > 1
    assert max(len(run) for run in runs) <= 16 + 1


async def test_a_task_of_several_default_batches_is_read_whole(log: Log) -> None:
    author = Author(log, new_task(log))
    await author.write_many(limits.READ_BATCH_RECORDS * 2 + 3)

    assert await read_all(log, author.task) == author.records


async def test_large_records_are_read_whole_across_batches_bounded_by_bytes(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "READ_BATCH_BYTES", 512 * 1024)
    author = Author(log, new_task(log))
    for size in (300_000, 10, 500_000, 700_000, 10, 700_000):
        await author.write(size=size)

    assert await read_all(log, author.task) == author.records


async def test_many_readers_that_are_far_behind_do_not_cost_the_connection(kit: Kit) -> None:
    """Each asks for megabytes at once, as the subscribers of a task do whose agent says much."""
    author = Author(kit.log, new_task(kit.log))
    for _ in range(20):
        await author.write(size=600_000)

    read = await asyncio.gather(*(read_all(kit.other, author.task) for _ in range(24)))

    assert all(records == author.records for records in read)
    assert [connection.reconnects for connection in kit.connections] == [0] * len(kit.connections)


async def test_reading_ends_at_what_was_there_when_it_began(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "READ_BATCH_RECORDS", 4)
    author = Author(log, new_task(log))
    await author.write_many(12)
    there = list(author.records)

    read = []
    async for run in log.read(author.task):
        read += run
        await author.write()

    assert read == there


async def test_payloads_survive_byte_for_byte(log: Log) -> None:
    author = Author(log, new_task(log))
    nasty = '{"x":"\\u0000 \u2028 \U0001f600 NATS/1.0 503\\r\\n\\r\\nMSG x 1 5\\r\\n"}'.encode()
    made = (await author.write()).header

    header = replace(made, record_id="nasty", revision=2)
    await log.try_append(author.task, Draft(header, nasty), author.position)

    assert (await read_all(log, author.task))[1].payload == nasty


async def test_a_record_is_read_with_the_time_at_which_the_log_stored_it(kit: Kit) -> None:
    log = kit.log
    author = Author(log, new_task(log, shard=1))
    assert await log.stored(author.task) is None
    before = (await log.ends())[0].time
    await author.write_many(3)
    await Author(log, new_task(log, shard=1)).write()
    after = (await log.ends())[0].time

    newest = await kit.other.stored(author.task)
    second = await kit.other.stored(author.task, author.records[1].position)

    assert newest is not None
    assert second is not None
    assert (newest.task, newest.record) == (author.task, author.records[2])
    assert second.record == author.records[1]
    assert before <= second.time <= newest.time <= after
    assert await kit.other.stored(author.task, author.position + 1) is None
