"""Records larger than a message are as any other; over the maximum they are refused, and nothing is left of those."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from a2a_events import limits
from a2a_events.errors import Conflict, RecordTooLarge, Uncertain
from a2a_events.log.append import append
from a2a_events.log.jetstream import JetStreamLog
from a2a_events.log.port import Log
from a2a_events.testing import eventually
from a2a_events.timeline.events import Kind
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Draft, Record
from tests.contract.logs import ACK_WAIT_SECONDS, Author, Kit, new_task, offered, read_all, taken

LARGE = 3 * 1024 * 1024
"""Several messages of an object, and of none of their sizes a multiple once framed as an event."""


async def objects(kit: Kit) -> int:
    """Messages in the log's bucket: what large records have left there."""
    if not kit.connections:
        return 0
    assert isinstance(kit.log, JetStreamLog)
    bucket = kit.log._names.bucket("main")
    info = await kit.connections[0].api(f"STREAM.INFO.OBJ_{bucket}")
    return int(info["state"]["messages"])


async def messages_of_one(kit: Kit) -> int:
    """What one object of ``LARGE`` bytes takes."""
    return 0 if not kit.connections else -(-LARGE // limits.CONTENT_CHUNK_BYTES) + 2


@pytest.mark.parametrize("size", [limits.RECORD_BYTES - 200, limits.RECORD_BYTES, LARGE, limits.CONTENT_BYTES - 200])
async def test_a_record_of_any_size_comes_back_whole_from_every_kind_of_read(kit: Kit, size: int) -> None:
    author = Author(kit.log, new_task(kit.log))
    await author.write()
    large = await author.write(size=size)
    await author.write()

    assert await read_all(kit.other, author.task) == author.records
    assert await read_all(kit.other, author.task, large.position) == author.records[1:]
    assert await kit.other.first_after(author.task, author.records[0].position) == large
    assert await kit.log.last(author.task) == author.records[2]


async def test_a_large_record_may_be_the_last(kit: Kit) -> None:
    author = Author(kit.log, new_task(kit.log))
    await author.write(size=LARGE)

    assert await kit.other.last(author.task) == author.records[0]
    assert await read_all(kit.other, author.task) == author.records


async def test_large_records_arrive_in_order_with_the_others_while_they_are_written(kit: Kit) -> None:
    author = Author(kit.log, new_task(kit.log))
    async with kit.other.watch(author.task) as watch, aclosing(watch.after(0, 0)) as runs:

        async def write() -> None:
            for size in (0, LARGE, 0, 0, LARGE, LARGE, 0):
                await author.write(size=size)

        writing = asyncio.create_task(write())
        seen = await taken(runs, 7)
        await writing

    assert seen == author.records


async def test_a_tail_from_a_position_among_large_records_shows_what_follows(kit: Kit) -> None:
    author = Author(kit.log, new_task(kit.log))
    for size in (0, LARGE, LARGE, 0):
        await author.write(size=size)
    start = author.records[1]
    async with (
        kit.other.watch(author.task) as watch,
        aclosing(watch.after(start.position, start.header.last_revision)) as runs,
    ):
        assert await taken(runs, 4) == author.records[2:]


async def test_many_readers_of_one_large_record_all_get_it(kit: Kit) -> None:
    author = Author(kit.log, new_task(kit.log))

    async def follow(log: Log) -> list[Record]:
        async with log.watch(author.task) as watch, aclosing(watch.after(0, 0)) as runs:
            return await taken(runs, 2)

    following = [asyncio.create_task(follow(log)) for log in [kit.log, kit.other] * 10]
    await author.write(size=LARGE)
    await author.write()
    # Compared at the end: a reader may have a record before its writer knows that it is stored.
    assert all(found == author.records for found in await asyncio.gather(*following))


async def test_a_large_inbound_record_is_delivered_whole_and_again(kit: Kit) -> None:
    author = Author(kit.log, new_task(kit.log))
    await author.write(kind=Kind.SUBMITTED, size=LARGE)
    dispatch = await kit.other.follow("agent")
    dispatch.grant(10)
    deliveries = aiter(dispatch)
    async with asyncio.timeout(20 + 2 * ACK_WAIT_SECONDS):
        first = await anext(deliveries)
        second = await anext(deliveries)
    await dispatch.close()

    assert (first.task, first.record, first.count) == (author.task, author.records[0], 1)
    assert (second.record, second.count) == (author.records[0], 2)


async def test_small_work_is_delivered_beside_large(kit: Kit) -> None:
    large, small = (Author(kit.log, new_task(kit.log)) for _ in range(2))
    await large.write(kind=Kind.SUBMITTED, size=LARGE)
    await small.write(kind=Kind.SUBMITTED)
    dispatch = await kit.other.follow("agent")
    dispatch.grant(10)
    deliveries = aiter(dispatch)
    async with asyncio.timeout(20):
        given = [await anext(deliveries), await anext(deliveries)]
    await dispatch.close()

    assert {handle.task for handle in given} == {large.task, small.task}


async def test_a_scan_gives_large_records_whole_but_for_the_lines_of_artifacts(kit: Kit) -> None:
    author = Author(kit.log, new_task(kit.log))
    await author.write(kind=Kind.SUBMITTED, size=LARGE)
    await author.write()
    await author.write(kind=Kind.ARTIFACT, size=LARGE)
    await author.write(kind=Kind.STATUS, size=LARGE)

    found = [stored.record async for run in kit.other.scan(0, 1, author.position) for stored in run]

    assert [record.header for record in found] == [record.header for record in author.records]
    assert [len(record.lines()) for record in found] == [1, 1, 1, 1]
    assert [found[0], found[1], found[3]] == [author.records[0], author.records[1], author.records[3]]


@pytest.mark.parametrize("over", [0, 1024 * 1024])
async def test_a_record_over_the_maximum_is_refused_and_leaves_nothing(kit: Kit, over: int) -> None:
    author = Author(kit.log, new_task(kit.log))
    await author.write()

    with pytest.raises(RecordTooLarge):
        await append(kit.log, author.task, offered(1, size=limits.CONTENT_BYTES + over), author.position)

    assert await read_all(kit.log, author.task) == author.records
    assert await objects(kit) == 0


async def test_a_large_record_that_is_refused_leaves_nothing(kit: Kit) -> None:
    author = Author(kit.log, new_task(kit.log))
    await author.write()
    stale = author.position
    await author.write()

    with pytest.raises(Conflict):
        await append(kit.log, author.task, offered(1, size=LARGE), stale)

    assert await read_all(kit.log, author.task) == author.records
    assert await objects(kit) == 0


async def test_of_large_records_at_one_position_one_is_stored_and_the_others_leave_nothing(kit: Kit) -> None:
    task = new_task(kit.log)
    offers = [offered(0, size=LARGE) for _ in range(4)]
    logs = [kit.log, kit.other] * 2
    results = await asyncio.gather(
        *(append(log, task, made, 0) for log, made in zip(logs, offers, strict=True)), return_exceptions=True
    )

    won = [made for made, result in zip(offers, results, strict=True) if isinstance(result, int)]
    assert [record.payload for record in await read_all(kit.other, task)] == [made.payload for made in won]
    assert all(isinstance(result, int | Conflict) for result in results)
    expected = await messages_of_one(kit)

    async def only_its_own() -> bool:
        return await objects(kit) == expected

    await eventually(only_its_own, what="one object")


class AnswersLost:
    """The log, but the first answers to appends never arrive."""

    def __init__(self, log: Log, lost: int, *, stored: bool) -> None:
        self.log = log
        self.lost = lost
        self.stored = stored
        self.first_after = log.first_after

    async def try_append(self, task: TaskRef, draft: Draft, expected: int, *, trace: str = "") -> int:
        if not self.lost:
            return await self.log.try_append(task, draft, expected, trace=trace)
        self.lost -= 1
        try:
            # Refused at this position, so the object is all that an attempt has stored.
            await self.log.try_append(task, draft, expected if self.stored else expected + 1)
        except Conflict:
            pass
        raise Uncertain("no answer")


@pytest.mark.parametrize("stored", [True, False])
async def test_a_large_record_whose_answers_are_lost_is_stored_once_with_one_object(kit: Kit, stored: bool) -> None:
    task, made = new_task(kit.log), offered(0, size=LARGE)

    position = await append(AnswersLost(kit.log, 3, stored=stored), task, made, 0)  # type: ignore[arg-type]

    (record,) = await read_all(kit.other, task)
    assert (record.position, record.payload) == (position, made.payload)
    assert await objects(kit) == await messages_of_one(kit)


async def test_a_large_record_offered_again_after_it_was_stored_is_found_there(kit: Kit) -> None:
    """A late first try has landed: the second must not take the object from under it."""
    task, made = new_task(kit.log), offered(0, size=LARGE)
    first = await kit.log.try_append(task, made, 0)

    try:
        again = await kit.log.try_append(task, made, 0)
    except Conflict:
        again = first  # how a small record is refused, and ``append`` finds it

    assert again == first
    assert [record.payload for record in await read_all(kit.other, task)] == [made.payload]
