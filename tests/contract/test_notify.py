"""What notifiers need of a log: every record, without payloads; what they write down; a key of the deployment."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from a2a_events.errors import Conflict
from a2a_events.log.port import Handle, Log
from a2a_events.testing import eventually
from a2a_events.timeline.events import Kind
from a2a_events.timeline.record import Record, draft
from tests.contract.logs import ACK_WAIT_SECONDS, WRITER, Author, Kit, entries, new_task
from tests.contract.test_dispatch import Follower, follower


async def following_all(log: Log, free: int = 100) -> Follower:
    made = Follower(await log.follow_all())
    made.dispatch.grant(free)
    return made


def without_payload(records: list[Record]) -> list[Record]:
    return sorted((replace(record, payload=b"") for record in records), key=lambda record: record.header.record_id)


def delivered(handles: list[Handle]) -> list[Record]:
    return sorted((handle.record for handle in handles), key=lambda record: record.header.record_id)


async def test_every_record_of_every_task_is_delivered_without_its_payload(kit: Kit) -> None:
    authors = [Author(kit.log, new_task(kit.log, agent=agent, shard=shard)) for agent in "ab" for shard in (0, 1)]
    for author in authors:
        await author.write(kind=Kind.SUBMITTED)
    one = await following_all(kit.other)
    await one.given(4)
    for author in authors:
        await author.write(3, kind=Kind.ARTIFACT, size=1000)
    handles = await one.given(8)
    await one.close()

    assert without_payload([r for author in authors for r in author.records]) == delivered(handles)
    assert {author.task for author in authors} == {handle.task for handle in handles}
    assert [True, False] == sorted({handle.record.inbound for handle in handles}, reverse=True)


async def test_a_record_says_in_its_header_that_its_task_has_webhooks(log: Log) -> None:
    task = new_task(log)
    made = draft(entries(), record_id="r", revision=0, generation=0, writer=WRITER, webhooks=True)
    await log.try_append(task, made, 0)
    one = await following_all(log)
    (handle,) = await one.given(1)
    await one.close()

    assert handle.record.header.webhooks


async def test_workers_and_notifiers_take_nothing_from_each_other(log: Log) -> None:
    author = Author(log, new_task(log))
    await author.write(kind=Kind.SUBMITTED)
    one = await following_all(log)
    async with follower(log, "agent") as worker:
        (worked,) = await worker.given(1)
        (notified, *_) = await one.given(1)
        await worked.acknowledge()
        (again, *_) = [h for h in await one.given(2) if h.count == 2]
        await again.acknowledge()
    await one.close()

    assert (author.records[0].payload, b"") == (worked.record.payload, notified.record.payload)


async def test_two_notifiers_share_the_records_and_none_is_given_twice(kit: Kit) -> None:
    one, two = await following_all(kit.log, 8), await following_all(kit.other, 8)
    for number in range(16):
        await Author(kit.log, new_task(kit.log, shard=number % 2)).write()
    await eventually(lambda: len(one.handles) + len(two.handles) >= 16)
    handles = one.handles + two.handles
    for handle in handles:
        await handle.acknowledge()
    await one.close()
    await two.close()

    assert len(one.handles) == len(two.handles) == 8
    assert len({handle.task for handle in handles}) == 16


async def test_what_was_not_acknowledged_comes_back_and_what_was_does_not(log: Log) -> None:
    for _ in range(2):
        await Author(log, new_task(log)).write()
    one = await following_all(log)
    handles = await one.given(2)
    kept, settled = handles[:2]
    await settled.acknowledge()
    await one.given(3)
    await asyncio.sleep(ACK_WAIT_SECONDS)  # absence can only be waited for
    await one.close()

    assert [1] == [handle.count for handle in one.handles if handle.task == settled.task]
    assert [1, 2] == [handle.count for handle in one.handles if handle.task == kept.task][:2]


async def test_what_is_given_back_comes_again_at_once(patient: Kit) -> None:
    author = Author(patient.log, new_task(patient.log))
    await author.write(kind=Kind.SUBMITTED)
    one = await following_all(patient.log)
    (first,) = await one.given(1)
    await first.give_back()
    second = (await one.given(2))[1]
    await one.close()
    async with follower(patient.log, "agent") as worker:
        (handle,) = await worker.given(1)
        await handle.give_back()
        again = (await worker.given(2))[1]

    assert (second.count, again.count) == (2, 2)
    assert first.record == second.record


async def test_what_was_never_written_down_is_nothing(kit: Kit) -> None:
    assert await kit.log.notified(new_task(kit.log)) == (b"", 0)


async def test_what_is_written_down_is_replaced_only_on_its_own_version(kit: Kit) -> None:
    task, other = new_task(kit.log), new_task(kit.log)
    first = await kit.log.put_notified(task, b"one", 0)
    assert await kit.other.notified(task) == (b"one", first)
    for version in (0, first + 1):
        with pytest.raises(Conflict):
            await kit.other.put_notified(task, b"never", version)
    second = await kit.other.put_notified(task, b"two", first)
    with pytest.raises(Conflict):
        await kit.log.put_notified(task, b"never", first)

    assert second > first
    assert await kit.log.notified(task) == (b"two", second)
    assert await kit.log.notified(other) == (b"", 0)


async def test_of_many_who_write_at_once_one_does(kit: Kit) -> None:
    task = new_task(kit.log)

    async def write(log: Log, number: int) -> bool:
        try:
            await log.put_notified(task, str(number).encode(), 0)
        except Conflict:
            return False
        return True

    written = await asyncio.gather(*(write((kit.log, kit.other)[number % 2], number) for number in range(10)))
    assert 1 == sum(written)
    assert (await kit.log.notified(task))[0] == str(written.index(True)).encode()


async def test_the_deployment_has_one_key_whoever_asks_first(kit: Kit) -> None:
    keys = await asyncio.gather(*(log.sealing_key() for log in (kit.log, kit.other) * 5))
    assert len(set(keys)) == 1
    assert len(keys[0]) == 32
    assert await kit.other.sealing_key() == keys[0]
