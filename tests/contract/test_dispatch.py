"""Handing out work: at least once, to one follower at a time, again after silence, never more than was granted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from a2a_events.log.port import Dispatch, Handle, Log
from a2a_events.testing import eventually
from a2a_events.timeline.events import Kind
from tests.contract.logs import ACK_WAIT_SECONDS, Author, Kit, new_task

SILENCE_SECONDS = ACK_WAIT_SECONDS * 0.5
"""Long enough to see that nothing comes at once; not that nothing ever comes."""


class Follower:
    """Takes deliveries as they come."""

    def __init__(self, dispatch: Dispatch) -> None:
        self.dispatch = dispatch
        self.handles: list[Handle] = []
        self._taking = asyncio.create_task(self._take())

    async def _take(self) -> None:
        async for handle in self.dispatch:
            self.handles.append(handle)

    async def given(self, count: int) -> list[Handle]:
        await eventually(lambda: len(self.handles) >= count, what=f"delivery {count}")
        return self.handles

    async def close(self) -> None:
        self._taking.cancel()
        await self.dispatch.close()


@asynccontextmanager
async def follower(log: Log, agent: str, free: int = 100, ahead: int = 0) -> AsyncIterator[Follower]:
    made = Follower(await log.follow(agent))
    made.dispatch.grant(free, ahead)
    try:
        yield made
    finally:
        await made.close()


async def submit(log: Log, agent: str = "agent", shard: int = 0) -> Author:
    author = Author(log, new_task(log, agent=agent, shard=shard))
    await author.write(kind=Kind.SUBMITTED)
    return author


async def test_an_inbound_record_is_delivered_as_it_was_stored(log: Log) -> None:
    author = await submit(log)
    async with follower(log, "agent") as one:
        (handle,) = await one.given(1)

    assert (handle.task, handle.record, handle.count) == (author.task, author.records[0], 1)


async def test_records_of_every_shard_and_before_and_after_the_follower_are_delivered(log: Log) -> None:
    before = [await submit(log, shard=shard) for shard in (0, 1) for _ in range(3)]
    async with follower(log, "agent") as one:
        await one.given(6)
        after = [await submit(log, shard=shard) for shard in (0, 1) for _ in range(3)]
        handles = await one.given(12)

    assert {h.record.header.record_id for h in handles} == {a.records[0].header.record_id for a in before + after}


async def test_outbound_records_and_other_agents_work_are_not_delivered(log: Log) -> None:
    author = await submit(log, agent="mine")
    await author.write(kind=Kind.STATUS)
    await submit(log, agent="theirs")
    async with follower(log, "mine") as one:
        await one.given(1)
        last = await submit(log, agent="mine")
        handles = await one.given(2)

    assert [h.task for h in handles] == [author.task, last.task]


async def test_an_unacknowledged_record_comes_back_with_a_higher_count(log: Log) -> None:
    await submit(log)
    async with follower(log, "agent") as one:
        handles = await one.given(3)

    assert [h.count for h in handles[:3]] == [1, 2, 3]
    assert len({h.record.header.record_id for h in handles}) == 1


async def test_an_acknowledged_record_never_comes_back(log: Log) -> None:
    await submit(log)
    async with follower(log, "agent") as one:
        (handle,) = await one.given(1)
        await handle.acknowledge()
        await handle.acknowledge()  # repeated without harm
        await asyncio.sleep(ACK_WAIT_SECONDS * 2)  # absence can only be waited for

        assert len(one.handles) == 1


async def test_signs_of_life_keep_a_record_from_coming_back(log: Log) -> None:
    await submit(log)
    async with follower(log, "agent") as one:
        (handle,) = await one.given(1)
        for _ in range(8):
            await asyncio.sleep(ACK_WAIT_SECONDS / 4)
            await handle.in_progress()
        assert len(one.handles) == 1

        handles = await one.given(2)  # silence now: it comes back
        assert handles[1].count == 2


async def test_the_work_of_a_follower_that_is_gone_goes_to_another(kit: Kit) -> None:
    author = await submit(kit.log)
    async with follower(kit.log, "agent") as dies:
        await dies.given(1)
    async with follower(kit.other, "agent") as lives:
        (handle, *_) = await lives.given(1)

    assert (handle.task, handle.count) == (author.task, 2)


async def test_two_followers_share_the_work_and_none_is_given_twice(kit: Kit) -> None:
    async with follower(kit.log, "agent", 8) as one, follower(kit.other, "agent", 8) as two:
        authors = [await submit(kit.log, shard=number % 2) for number in range(16)]
        await eventually(lambda: len(one.handles) + len(two.handles) >= 16)
        for handle in one.handles + two.handles:
            await handle.acknowledge()

        assert len(one.handles) == len(two.handles) == 8
        assert {h.task for h in one.handles + two.handles} == {a.task for a in authors}


@pytest.mark.parametrize("free", [1, 2, 3, 5])
async def test_no_more_is_delivered_than_was_granted(log: Log, free: int) -> None:
    for number in range(12):
        await submit(log, shard=number % 2)
    async with follower(log, "agent", free) as one:
        await one.given(free)
        await asyncio.sleep(SILENCE_SECONDS)
        assert len(one.handles) == free


async def test_all_the_work_is_delivered_as_capacity_is_granted_again(log: Log) -> None:
    authors = [await submit(log, shard=number % 2) for number in range(12)]
    seen: set[str] = set()
    dispatch = await log.follow("agent")
    dispatch.grant(1)
    async with asyncio.timeout(30):
        async for handle in dispatch:
            await handle.acknowledge()
            seen.add(handle.task.task_id)
            if len(seen) == 12:
                break
            dispatch.grant(1)
    await dispatch.close()

    assert seen == {author.task.task_id for author in authors}


async def test_nothing_is_delivered_before_capacity_was_granted(log: Log) -> None:
    await submit(log)
    dispatch = await log.follow("agent")
    one = Follower(dispatch)
    await asyncio.sleep(SILENCE_SECONDS / 2)
    assert not one.handles

    dispatch.grant(1)
    await one.given(1)
    await one.close()


async def test_a_closed_follower_takes_nothing_more(kit: Kit) -> None:
    async with follower(kit.log, "agent") as gone, follower(kit.other, "agent") as stays:
        await gone.dispatch.close()
        await submit(kit.log)
        (handle, *_) = await stays.given(1)
        await handle.acknowledge()

        assert not gone.handles


async def test_of_many_records_none_is_left_out_and_none_is_given_twice_as_the_same_delivery(log: Log) -> None:
    async with follower(log, "agent", 1000) as one:
        authors: set[str] = set()
        first: set[str] = set()
        given = 0
        while len(first) < 300:
            if len(authors) < 300:
                authors.add((await submit(log, shard=len(authors) % 2)).task.task_id)
            else:
                await one.given(given + 1)
            # As they come: on a busy machine what waits for longer than the ack wait comes again, and says so.
            for handle in one.handles[given:]:
                await handle.acknowledge()
                first.add(handle.task.task_id)
                given += 1
        deliveries = [(handle.task.task_id, handle.count) for handle in one.handles]

    assert first == authors
    assert len(set(deliveries)) == len(deliveries)
    assert {task for task, count in deliveries if count == 1} == authors


async def test_a_follower_that_is_full_takes_ahead_what_was_granted_and_no_more(log: Log) -> None:
    for number in range(12):
        await submit(log, shard=number % 2)
    async with follower(log, "agent", free=0, ahead=5) as one:
        await one.given(5)
        await asyncio.sleep(SILENCE_SECONDS)
        assert len(one.handles) == 5


async def test_nothing_is_taken_ahead_while_another_follower_is_free(kit: Kit) -> None:
    async with follower(kit.log, "agent") as free, follower(kit.other, "agent", free=0, ahead=100) as full:
        for number in range(20):
            await submit(kit.log, shard=number % 2)
            (*_, handle) = await free.given(number + 1)
            await handle.acknowledge()

        assert not full.handles


async def test_what_no_free_follower_takes_is_taken_ahead_by_another(kit: Kit) -> None:
    async with follower(kit.log, "agent", free=2) as small, follower(kit.other, "agent", free=0, ahead=100) as full:
        authors = [await submit(kit.log, shard=number % 2) for number in range(10)]
        await eventually(lambda: len(small.handles) + len(full.handles) >= 10)

        assert len(small.handles) == 2
        assert {h.task for h in small.handles + full.handles} == {a.task for a in authors}


async def test_what_is_taken_ahead_is_alive_with_signs_and_comes_back_without(log: Log) -> None:
    await submit(log)
    async with follower(log, "agent", free=0, ahead=3) as one:
        (handle,) = await one.given(1)
        for _ in range(8):
            await asyncio.sleep(ACK_WAIT_SECONDS / 4)
            assert await handle.in_progress()
        assert len(one.handles) == 1

        handles = await one.given(2)
        assert handles[1].count == 2


async def test_the_queue_is_as_deep_as_what_is_not_acknowledged(kit: Kit) -> None:
    assert await kit.log.queue_depth("agent") == 0
    async with follower(kit.log, "agent", 3) as one:
        for number in range(6):
            await submit(kit.log, shard=number % 2)
        await submit(kit.log, agent="other")
        handles = await one.given(3)
        assert await kit.other.queue_depth("agent") == 6

        for handle in handles[:2]:
            await handle.acknowledge()
        await eventually(lambda: _depth_is(kit.other, 4))


async def _depth_is(log: Log, depth: int) -> bool:
    return await log.queue_depth("agent") == depth


async def test_the_queue_of_an_agent_that_nobody_ever_served_is_empty(log: Log) -> None:
    assert await log.queue_depth("nobody") == 0


async def test_what_was_handed_out_is_known_by_position_and_what_waits_stands_behind_it(patient: Kit) -> None:
    log = patient.log
    assert max((await log.handed_out("agent")).values(), default=0) == 0
    first = await submit(log)
    async with follower(log, "agent", free=1) as one:
        await one.given(1)
        second = await submit(log)
        waits = await log.handed_out("agent")
        one.dispatch.grant(1)
        await one.given(2)
        delivered = await log.handed_out("agent")

    assert first.position <= waits[0] < second.position <= delivered[0]


async def test_a_queue_tells_what_waits_before_a_record_and_what_is_under_way(patient: Kit) -> None:
    log, other = patient.log, patient.other
    assert await log.queue("agent", 0) is None
    authors = [await submit(log) for _ in range(5)]
    await submit(log, agent="another")
    positions = [author.position for author in authors]
    async with follower(log, "agent", free=2 * log.shards) as one:
        first, second = await one.given(2)
        for number, position in enumerate(positions):
            queue = await other.queue("agent", 0, position)
            assert queue is not None
            assert queue.ahead == max(0, number - 2)
            assert positions[1] <= queue.handed_out < positions[2]
            assert queue.settled < positions[0]
            assert (queue.waiting, queue.under_way, queue.repeated) == (3, 2, 0)
            assert queue.ack_wait_seconds == 600.0

        await second.acknowledge()
        await eventually(lambda: _under_way(other, 1))
        held = await other.queue("agent", 0)
        assert held is not None
        assert held.settled < positions[0]  # the first is still out
        await first.acknowledge()
        await eventually(lambda: _under_way(other, 0))
        done = await other.queue("agent", 0)
    assert done is not None
    assert positions[1] <= done.settled == done.handed_out
    assert done.ahead == 0


async def test_a_queue_tells_whether_a_follower_is_free(patient: Kit) -> None:
    await submit(patient.log)
    async with follower(patient.log, "agent", free=1) as one:
        await one.given(1)
        assert not await _wanted(patient.other)
        one.dispatch.grant(1)
        await eventually(lambda: _wanted(patient.other))


async def test_what_came_back_counts_as_repeated(kit: Kit) -> None:
    await submit(kit.log)
    async with follower(kit.log, "agent") as one:
        await one.given(2)
        queue = await kit.other.queue("agent", 0)

    assert queue is not None
    assert (queue.under_way, queue.repeated, queue.waiting) == (1, 1, 0)


async def _under_way(log: Log, count: int) -> bool:
    queue = await log.queue("agent", 0)
    return queue is not None and queue.under_way == count


async def _wanted(log: Log) -> bool:
    queue = await log.queue("agent", 0)
    return queue is not None and queue.wanted
