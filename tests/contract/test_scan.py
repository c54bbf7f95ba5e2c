"""Scanning: every task's records, shard by shard, for projections of the whole log."""

from __future__ import annotations

from typing import Any

import pytest

from a2a_events import limits
from a2a_events.log.jetstream import JetStreamLog
from a2a_events.log.port import End, Log, Stored
from tests.contract.logs import Author, Kit, new_task


async def scanned(log: Log, shard: int = 0, start: int = 1, end: int | None = None) -> list[Stored]:
    last = (await log.ends())[shard].position if end is None else end
    return [stored async for batch in log.scan(shard, start, last) for stored in batch]


def untimed(ends: dict[int, End]) -> dict[int, End]:
    return {shard: End(end.incarnation, end.position) for shard, end in ends.items()}


async def test_an_empty_log_ends_at_nothing_and_scans_to_nothing(log: Log) -> None:
    assert {end.position for end in (await log.ends()).values()} == {0}
    assert set(await log.ends()) == set(range(log.shards))
    assert await scanned(log) == []


async def test_a_scan_gives_every_tasks_records_in_the_order_of_their_positions(log: Log) -> None:
    one, two = Author(log, new_task(log)), Author(log, new_task(log, agent="other", tenant="t"))
    for _ in range(3):
        await one.write(2)
        await two.write()

    found = await scanned(log)

    assert [stored.record.position for stored in found] == sorted(r.position for r in [*one.records, *two.records])
    assert [s.record for s in found if s.task == one.task] == one.records
    assert [s.record for s in found if s.task == two.task] == two.records
    assert (await log.ends())[0].position == two.position


async def test_the_age_of_a_record_is_told_by_the_logs_own_clock(log: Log) -> None:
    before = (await log.ends())[0].time
    author = Author(log, new_task(log))
    await author.write_many(3)
    after = (await log.ends())[0].time

    times = [stored.time for stored in await scanned(log)]

    assert 0 < before <= times[0]
    assert times == sorted(times)
    assert times[-1] <= after


async def test_a_scan_keeps_to_its_bounds(log: Log) -> None:
    author = Author(log, new_task(log))
    await author.write_many(5)
    positions = [record.position for record in author.records]

    found = await scanned(log, 0, positions[1], positions[3])

    assert [stored.record.position for stored in found] == positions[1:4]


async def test_a_long_scan_comes_in_batches(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SCAN_BATCH_RECORDS", 4)
    author = Author(log, new_task(log))
    await author.write_many(10)

    batches = [len(batch) async for batch in log.scan(0, 1, author.position)]

    assert sum(batches) == 10
    assert max(batches) <= 4


async def test_the_other_process_sees_the_same_end(kit: Kit) -> None:
    author = Author(kit.log, new_task(kit.log))
    await author.write()

    assert untimed(await kit.other.ends()) == untimed(await kit.log.ends())
    assert (await kit.log.ends())[0].incarnation == kit.log.incarnation(author.task)


async def test_a_scan_skips_what_was_deleted_and_what_cannot_be_read(kit: Kit) -> None:
    if not isinstance(kit.log, JetStreamLog):
        pytest.skip("nothing is deleted from a log in memory")
    log: Any = kit.log
    author = Author(kit.log, new_task(kit.log))
    await author.write_many(6)
    stream = log._names.log_stream("main", 0)
    for record in (author.records[1], author.records[5]):
        await kit.connections[0].api(f"STREAM.MSG.DELETE.{stream}", {"seq": record.position})
    foreign = log._names.task("log", author.task, "out")
    await kit.connections[0].request(foreign, b"not a record")
    end = (await kit.log.ends())[0].position

    found = await scanned(kit.log, 0, 1, end)

    assert [stored.record for stored in found] == [author.records[n] for n in (0, 2, 3, 4)]
