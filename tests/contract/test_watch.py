"""Watching: every record once, in order, without holes, whatever is lost or late on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import pytest

from a2a_events import limits
from a2a_events.log.port import Log
from a2a_events.log.tail import Tail
from a2a_events.testing import eventually
from a2a_events.timeline.events import Kind
from a2a_events.timeline.record import Record
from tests.contract.logs import Author, Kit, new_task, read_all, taken


async def test_records_written_after_the_interest_arrive(kit: Kit) -> None:
    author = Author(kit.log, new_task(kit.log))
    async with kit.other.watch(author.task) as watch, aclosing(watch.after(0, 0)) as runs:
        writing = asyncio.create_task(author.write_many(50))
        seen = await taken(runs, 50)
        await writing

    assert seen == author.records


async def test_subscribe_then_read_loses_nothing_while_records_are_appended(kit: Kit) -> None:
    """Turns 8.2, many times: interest first, then a read, then everything after it."""

    async def once(turns: int) -> None:
        author = Author(kit.log, new_task(kit.log))
        for _ in range(turns % 3):
            await author.write()

        async def write() -> None:
            for step in range(3):
                for _ in range((turns + step) % 4):
                    await asyncio.sleep(0)
                await author.write()

        writing = asyncio.create_task(write())
        async with kit.other.watch(author.task) as watch:
            read = await read_all(kit.other, author.task)
            position, revision = (read[-1].position, read[-1].header.last_revision) if read else (0, 0)
            last = turns % 3 + 3
            if revision < last:
                async with aclosing(watch.after(position, revision)) as runs:
                    read += await taken(runs, last)
            await writing
        assert read == author.records

    for batch in range(10):
        await asyncio.gather(*(once(batch * 20 + turn) for turn in range(20)))


async def test_a_tail_from_the_beginning_shows_what_was_there_and_what_comes(kit: Kit) -> None:
    author = Author(kit.log, new_task(kit.log))
    await author.write_many(5)
    async with kit.other.watch(author.task) as watch, aclosing(watch.after(0, 0)) as runs:
        seen = await taken(runs, 5)
        await author.write_many(5)
        seen += await taken(runs, 10)

    assert seen == author.records


async def test_two_watchers_of_one_process_see_the_same(kit: Kit) -> None:
    author = Author(kit.log, new_task(kit.log))
    async with (
        kit.other.watch(author.task) as one,
        kit.other.watch(author.task) as two,
        kit.log.watch(author.task) as far,
    ):
        writing = asyncio.create_task(author.write_many(40))
        seen = await asyncio.gather(*(taken(watch.after(0, 0), 40) for watch in (one, two, far)))
        await writing

    assert seen[0] == seen[1] == seen[2] == author.records


async def test_a_watcher_that_leaves_takes_nothing_from_one_that_stays(kit: Kit) -> None:
    author = Author(kit.log, new_task(kit.log))
    async with kit.other.watch(author.task) as stays, aclosing(stays.after(0, 0)) as runs:
        async with kit.other.watch(author.task) as leaves, aclosing(leaves.after(0, 0)) as left:
            await author.write_many(3)
            assert await taken(left, 3) == author.records
        await author.write_many(3)
        assert await taken(runs, 6) == author.records

    async with kit.other.watch(author.task) as again, aclosing(again.after(author.position, 6)) as runs:
        await author.write()
        assert await taken(runs, 7) == author.records[6:]


async def test_a_tail_begins_inside_a_record_of_several_events(kit: Kit) -> None:
    """Turns 8.6: a cursor may stand between two events of one record; the record is shown again, whole."""
    author = Author(kit.log, new_task(kit.log))
    first = await author.write(count=4)
    await author.write(count=2)
    async with kit.other.watch(author.task) as watch, aclosing(watch.after(first.position, 2)) as runs:
        assert await taken(runs, 6) == author.records


async def test_a_slow_watcher_falls_behind_and_still_gets_everything_in_order(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TAIL_BUFFER_RECORDS", 8)
    author = Author(kit.log, new_task(kit.log))
    async with kit.other.watch(author.task) as slow, aclosing(slow.after(0, 0)) as runs:
        await author.write()
        seen = await taken(runs, 1)
        await author.write_many(100)
        seen += await taken(runs, 60)
        await author.write_many(20)
        seen += await taken(runs, 121)

    assert seen == author.records


async def test_what_waits_for_a_watcher_that_never_reads_is_bounded(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TAIL_BUFFER_RECORDS", 8)
    monkeypatch.setattr(limits, "TAIL_BUFFER_BYTES", 10_000)
    author = Author(kit.log, new_task(kit.log))
    async with kit.other.watch(author.task) as never, kit.other.watch(author.task) as reads:
        async with aclosing(reads.after(0, 0)) as runs:
            writing = asyncio.create_task(author.write_many(60, size=2000))
            assert await taken(runs, 60) == await _result(writing, author)
        tail: Tail = never._tail  # type: ignore[attr-defined]
        assert len(tail._buffer) <= 8
        assert tail._bytes <= 10_000 + 3000


async def _result(writing: asyncio.Task[None], author: Author) -> object:
    await writing
    return author.records


async def test_large_and_small_records_keep_their_order_when_buffers_overflow_in_bytes(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TAIL_BUFFER_BYTES", 100_000)
    author = Author(kit.log, new_task(kit.log))
    async with kit.other.watch(author.task) as watch, aclosing(watch.after(0, 0)) as runs:
        await author.write()
        seen = await taken(runs, 1)
        for size in (90_000, 10, 90_000, 10, 300_000, 10):
            await author.write(size=size)
        seen += await taken(runs, 7)

    assert seen == author.records


async def test_silence_is_reported_as_an_empty_run_once_the_leader_confirmed_it(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "KEEP_ALIVE_SECONDS", 0.1)
    author = Author(kit.log, new_task(kit.log))
    await author.write()
    async with kit.other.watch(author.task) as watch, aclosing(watch.after(author.position, 1)) as runs:
        async with asyncio.timeout(20):
            assert [await anext(runs), await anext(runs)] == [[], []]
        await author.write()
        assert await taken(runs, 2) == author.records[1:]


async def test_a_record_whose_live_copy_was_lost_is_found_at_the_next_keep_alive(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal record has no successor that would reveal the hole (turns 8.5)."""
    monkeypatch.setattr(limits, "KEEP_ALIVE_SECONDS", 0.1)
    author = Author(kit.log, new_task(kit.log))
    await author.write()
    async with kit.other.watch(author.task) as watch, aclosing(watch.after(author.position, 1)) as runs:
        async with asyncio.timeout(20):
            assert await anext(runs) == []
        watched = kit.other._watched[author.task]  # type: ignore[attr-defined]
        tails, watched.tails[:] = list(watched.tails), []
        await author.write()
        await _stored(kit.other, author)
        await asyncio.sleep(0.02)  # the live copy goes to nobody
        watched.tails[:] = tails
        assert await taken(runs, 2) == author.records[1:]


async def test_a_last_record_whose_live_copy_was_lost_is_found_before_the_first_keep_alive(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "KEEP_ALIVE_SECONDS", 600.0)
    monkeypatch.setattr(limits, "SILENCE_SECONDS", 0.1)
    author = Author(kit.log, new_task(kit.log))
    await author.write()
    async with kit.other.watch(author.task) as watch, aclosing(watch.after(0, 0)) as runs:
        await taken(runs, 1)
        watched = kit.other._watched[author.task]  # type: ignore[attr-defined]
        watched.stop()  # no other check is to find it
        tails, watched.tails[:] = list(watched.tails), []
        await author.write()
        await _stored(kit.other, author)
        await asyncio.sleep(0.02)  # the live copy goes to nobody
        watched.tails[:] = tails
        async with asyncio.timeout(20):
            assert await taken(runs, 1) == author.records[1:]


async def test_a_hole_in_the_live_records_is_read_from_the_log(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    author = Author(kit.log, new_task(kit.log))
    await author.write()
    async with kit.other.watch(author.task) as watch, aclosing(watch.after(author.position, 1)) as runs:
        kit.other._watched[author.task].stop()  # type: ignore[attr-defined]  # only the hole itself may reveal it
        monkeypatch.setattr(Tail, "offer", _lossy(Tail.offer))
        await author.write_many(23)
        assert await taken(runs, 24) == author.records[1:]


def _lossy(offer: Callable[[Tail, Record], None]) -> Callable[[Tail, Record], None]:
    def lossy(self: Tail, record: Record) -> None:
        if record.header.revision % 5:
            offer(self, record)

    return lossy


async def test_live_records_that_come_twice_or_late_are_shown_once(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    author = Author(kit.log, new_task(kit.log))
    async with kit.other.watch(author.task) as watch, aclosing(watch.after(0, 0)) as runs:
        await author.write_many(3)
        seen = await taken(runs, 3)
        watched = kit.other._watched[author.task]  # type: ignore[attr-defined]
        for record in [*author.records, *reversed(author.records)]:
            watched.offer(record)
        await author.write_many(3)
        seen += await taken(runs, 6)

    assert seen == author.records


async def test_no_interest_is_left_when_watchers_have_left(kit: Kit) -> None:
    for _ in range(30):
        async with kit.other.watch(new_task(kit.log)):
            pass
    async with kit.other.watch(new_task(kit.log)) as watch, aclosing(watch.after(0, 0)):
        pass

    assert not kit.other._watched  # type: ignore[attr-defined]


async def test_an_owner_is_noticed_of_inbound_records_only(kit: Kit) -> None:
    author = Author(kit.log, new_task(kit.log))
    calls: list[int] = []
    notice = await kit.other.notice(author.task, lambda: calls.append(author.revision))
    another = Author(kit.log, new_task(kit.log))
    await kit.other.last(author.task)  # a round trip: the interest has reached the broker
    await author.write(kind=Kind.SUBMITTED)
    await author.write(kind=Kind.STATUS)
    await another.write(kind=Kind.SUBMITTED)
    await author.write(kind=Kind.CANCEL_REQUESTED)
    await eventually(lambda: len(calls) >= 2)
    await notice.close()
    await author.write(kind=Kind.MESSAGE_RECEIVED)
    async with kit.other.watch(author.task) as watch, aclosing(watch.after(0, 0)) as runs:
        await taken(runs, 4)  # a round trip after the record was stored

    assert len(calls) == 2


async def _stored(log: Log, author: Author) -> None:
    last = await log.last(author.task)
    assert last == author.records[-1]
