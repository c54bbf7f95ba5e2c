"""An append lands right after the position it expects, whole, once, or not at all."""

from __future__ import annotations

import asyncio

import pytest

from a2a_events import limits
from a2a_events.errors import Conflict, RecordTooLarge
from a2a_events.log.append import append
from a2a_events.log.port import Log
from a2a_events.timeline.events import Kind
from tests.contract.logs import Author, Kit, new_task, offered, read_all


async def test_a_stored_record_comes_back_as_it_was_offered(log: Log) -> None:
    task = new_task(log, tenant="acme.*.>")
    made = offered(0, 3)

    position = await log.try_append(task, made, 0, trace="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")

    (record,) = await read_all(log, task)
    assert (record.position, record.header, record.payload) == (position, made.header, made.payload)
    assert record.trace == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert not record.inbound


@pytest.mark.parametrize("kind", [Kind.SUBMITTED, Kind.MESSAGE_RECEIVED, Kind.CANCEL_REQUESTED, Kind.TURN_NUDGED])
async def test_a_record_that_asks_for_work_is_inbound(log: Log, kind: Kind) -> None:
    author = Author(log, new_task(log))
    await author.write(kind=kind)

    assert [record.inbound for record in await read_all(log, author.task)] == [True]


async def test_positions_grow_within_a_task(log: Log) -> None:
    author = Author(log, new_task(log))
    await author.write_many(20)

    positions = [record.position for record in author.records]
    assert positions == sorted(set(positions))


@pytest.mark.parametrize("off", [-1, 1, 1000])
async def test_an_append_at_another_position_than_the_last_is_a_conflict_and_writes_nothing(log: Log, off: int) -> None:
    author = Author(log, new_task(log))
    await author.write_many(2)

    with pytest.raises(Conflict):
        await log.try_append(author.task, offered(2), max(0, author.position + off))

    assert await read_all(log, author.task) == author.records


async def test_creating_a_task_twice_is_a_conflict(log: Log) -> None:
    task = new_task(log)
    await log.try_append(task, offered(0), 0)

    with pytest.raises(Conflict):
        await log.try_append(task, offered(0), 0)

    assert len(await read_all(log, task)) == 1


async def test_the_condition_covers_both_lanes(log: Log) -> None:
    task = new_task(log)
    first = await log.try_append(task, offered(0, kind=Kind.SUBMITTED), 0)
    second = await log.try_append(task, offered(1, kind=Kind.STATUS), first)

    with pytest.raises(Conflict):
        await log.try_append(task, offered(1, kind=Kind.MESSAGE_RECEIVED), first)
    with pytest.raises(Conflict):
        await log.try_append(task, offered(1, kind=Kind.STATUS), first)

    await log.try_append(task, offered(2, kind=Kind.MESSAGE_RECEIVED), second)


async def test_tasks_do_not_see_each_other(log: Log) -> None:
    authors = [Author(log, new_task(log, tenant=tenant)) for tenant in ("", "a", "b")]
    for _ in range(3):
        for author in authors:
            await author.write()

    for author in authors:
        assert await read_all(log, author.task) == author.records


async def test_one_id_under_another_agent_or_tenant_is_another_task(log: Log) -> None:
    mine = new_task(log, agent="mine", tenant="acme")
    theirs = type(mine)(mine.log, mine.shard, "theirs", mine.tenant, mine.task_id)
    await log.try_append(mine, offered(0), 0)

    assert await log.last(theirs) is None
    await log.try_append(theirs, offered(0), 0)


async def test_of_many_writers_at_one_position_exactly_one_wins(kit: Kit) -> None:
    task = new_task(kit.log)
    expected = 0
    for revision in range(20):
        offers = [offered(revision) for _ in range(8)]
        logs = [kit.log, kit.other] * 4
        results = await asyncio.gather(
            *(log.try_append(task, made, expected) for log, made in zip(logs, offers, strict=True)),
            return_exceptions=True,
        )
        won = [(made, result) for made, result in zip(offers, results, strict=True) if isinstance(result, int)]
        assert len(won) == 1
        assert all(isinstance(result, int | Conflict) for result in results)
        expected = won[0][1]
        last = await kit.other.last(task)
        assert last is not None
        assert last.header.record_id == won[0][0].header.record_id

    assert len(await read_all(kit.log, task)) == 20


async def test_writers_that_decide_again_after_a_conflict_all_get_through(kit: Kit) -> None:
    task = new_task(kit.log)
    await kit.log.try_append(task, offered(0), 0)

    async def write(log: Log, times: int) -> list[str]:
        written: list[str] = []
        while len(written) < times:
            last = await log.last(task)
            assert last is not None
            made = offered(last.header.last_revision)
            try:
                await append(log, task, made, last.position)
            except Conflict:
                continue
            written.append(made.header.record_id)
        return written

    per_writer = 8
    async with asyncio.timeout(50):
        written = await asyncio.gather(*(write(log, per_writer) for log in [kit.log, kit.other] * 3))

    records = await read_all(kit.log, task)
    assert [record.header.revision for record in records] == list(range(1, 6 * per_writer + 2))
    assert {record.header.record_id for record in records[1:]} == {one for many in written for one in many}


@pytest.mark.parametrize("size", [limits.CONTENT_BYTES, limits.CONTENT_BYTES + 1024 * 1024])
async def test_a_record_over_the_limit_is_refused_and_the_log_goes_on(log: Log, size: int) -> None:
    author = Author(log, new_task(log))
    await author.write()

    with pytest.raises(RecordTooLarge):
        await log.try_append(author.task, offered(1, size=size), author.position)
    with pytest.raises(RecordTooLarge):
        await append(log, author.task, offered(1, size=size), author.position)

    await author.write()
    assert await read_all(log, author.task) == author.records
