"""What lives beside the log: snapshots, the agent registry, wake-ups, and how to find a task."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from a2a_events import limits
from a2a_events.errors import Conflict
from a2a_events.log.port import AgentEntry
from a2a_events.testing import eventually
from a2a_events.timeline.events import Kind
from a2a_events.timeline.ids import context_of, token
from a2a_events.timeline.snapshot import Segment, Snapshot
from tests.contract.logs import Author, Kit, new_task


async def test_a_task_without_a_snapshot_has_none(kit: Kit) -> None:
    assert await kit.log.snapshot(new_task(kit.log)) is None


async def test_a_snapshot_replaces_the_one_before_and_is_seen_by_every_process(kit: Kit) -> None:
    task = new_task(kit.log)
    for content in (b'{"one":1}', b'{"two":2}'):
        await kit.log.save(task, Snapshot(content, ()))

        async def there(content: bytes = content) -> bool:
            return await kit.other.snapshot(task) == content

        await eventually(there)


async def test_snapshots_of_tasks_are_apart(kit: Kit) -> None:
    one, two = new_task(kit.log), new_task(kit.log, tenant="acme")
    await kit.log.save(one, Snapshot(b"one", ()))
    await kit.log.save(two, Snapshot(b"two", ()))

    async def there() -> bool:
        return (await kit.log.snapshot(one), await kit.log.snapshot(two)) == (b"one", b"two")

    await eventually(there)


async def test_segments_stay_and_missing_ones_are_left_out(kit: Kit) -> None:
    task = new_task(kit.log)
    await kit.log.save(task, Snapshot(b"head", (Segment("a1-1-5", b"x" * 300_000), Segment("h-1-2", b"y"))))
    await kit.log.save(task, Snapshot(b"head2", (Segment("a1-6-9", b"z"),)))

    got = await kit.other.segments(task, ["a1-1-5", "h-1-2", "a1-6-9", "a1-10-11"])

    assert got == {"a1-1-5": b"x" * 300_000, "h-1-2": b"y", "a1-6-9": b"z"}


async def test_a_head_never_names_a_segment_that_is_not_there(kit: Kit) -> None:
    task = new_task(kit.log)
    for number in range(20):
        await kit.log.save(task, Snapshot(str(number).encode(), (Segment(f"a1-{number}-{number}", b"x"),)))
        head = await kit.other.snapshot(task)
        if head is not None:
            assert await kit.other.segments(task, [f"a1-{head.decode()}-{head.decode()}"])


async def test_a_snapshot_too_large_to_keep_is_skipped_and_the_log_goes_on(kit: Kit) -> None:
    task = new_task(kit.log)
    await kit.log.save(task, Snapshot(b"x" * 3_000_000, ()))

    author = Author(kit.log, task)
    await author.write()
    assert await kit.other.last(task) == author.records[0]


async def test_announced_agents_are_known_to_every_process_by_name(kit: Kit) -> None:
    assert await kit.log.agents() == {}
    one = AgentEntry(name="one", card=b'{"name":"one"}', replies="either", version="1")
    two = AgentEntry(name="two", card=b'{"name":"two"}')
    await kit.log.announce(one, "worker-1")
    await kit.log.announce(two, "worker-1")

    assert await kit.other.agents() == {"one": one, "two": two}


async def test_an_agent_announced_again_has_its_newest_card(kit: Kit) -> None:
    old = AgentEntry(name="one", card=b'{"v":1}')
    new = AgentEntry(name="one", card=b'{"v":2}', version="2")
    await kit.log.announce(old, "worker-1")
    await kit.log.announce(new, "worker-2")
    await kit.log.announce(new, "worker-2")

    assert await kit.other.agents() == {"one": new}


async def test_an_agent_is_attended_while_somebody_announces_it(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "AGENT_HEARTBEAT_SECONDS", 0.4)
    assert await kit.log.attended() == set()
    gone, stays = AgentEntry(name="gone", card=b"{}"), AgentEntry(name="stays", card=b"{}")
    await kit.log.announce(gone, "worker-1")
    await kit.log.announce(stays, "worker-1")
    assert await kit.other.attended() == {"gone", "stays"}

    async def only_one() -> bool:
        await kit.log.announce(stays, "worker-2")
        return await kit.other.attended() == {"stays"}

    await eventually(only_one, timeout_seconds=20)
    assert set(await kit.other.agents()) == {"gone", "stays"}


async def test_workers_are_known_by_name_while_they_announce_themselves(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "AGENT_HEARTBEAT_SECONDS", 0.4)
    one, two = AgentEntry(name="one", card=b"{}"), AgentEntry(name="two", card=b"{}")
    before = (await kit.log.ends())[0].time
    await kit.log.announce(one, "gone")
    await kit.log.announce(one, "stays")
    await kit.log.announce(two, "elsewhere")
    after = (await kit.log.ends())[0].time

    both = await kit.other.workers("one")
    assert both.keys() == {"gone", "stays"}
    assert all(before <= at <= after for at in both.values())
    assert await kit.other.workers("nobody") == {}

    async def only_one() -> bool:
        await kit.log.announce(one, "stays")
        return (await kit.other.workers("one")).keys() == {"stays"}

    await eventually(only_one, timeout_seconds=20)
    assert (await kit.other.workers("one"))["stays"] > both["stays"]


async def test_a_wake_up_that_is_not_due_is_known_with_its_time(kit: Kit) -> None:
    task = new_task(kit.log)
    assert await kit.log.waking(task) is None
    due = int(time.time() * 1000) + 3_600_000
    await kit.log.wake_at(task, 1, due + 60_000)
    await kit.log.wake_at(task, 7, due)

    asked = await kit.other.waking(task)
    assert asked is not None
    assert asked[0] == 7
    assert due <= asked[1] <= due + 1000

    wakeups = await kit.log.wakeups("agent")
    await kit.log.wake_at(task, 8, int(time.time() * 1000) + 1000)
    async with asyncio.timeout(20):
        await (await anext(aiter(wakeups))).acknowledge()
    assert await kit.other.waking(task) is None
    await wakeups.aclose()  # type: ignore[attr-defined]


async def test_a_wake_up_comes_once_at_its_time_with_its_task_and_revision(kit: Kit) -> None:
    task = new_task(kit.log, agent="agent", shard=1)
    wakeups = await kit.other.wakeups("agent")
    due = int(time.time() * 1000) + 1200
    await kit.log.wake_at(task, 7, due)

    async with asyncio.timeout(20):
        wakeup = await anext(aiter(wakeups))

    assert (wakeup.task, wakeup.revision) == (task, 7)
    assert time.time() * 1000 >= due  # never early: whoever is woken acts on it
    await wakeup.acknowledge()
    await wakeups.aclose()  # type: ignore[attr-defined]


async def test_a_wake_up_that_nobody_acknowledges_comes_again(kit: Kit) -> None:
    task = new_task(kit.log)
    await kit.log.wake_at(task, 7, int(time.time() * 1000) + 1000)
    abandoned = await kit.log.wakeups("agent")
    async with asyncio.timeout(20):
        await anext(aiter(abandoned))
    await abandoned.aclose()  # type: ignore[attr-defined]
    wakeups = await kit.other.wakeups("agent")

    async with asyncio.timeout(20):
        wakeup = await anext(aiter(wakeups))

    assert (wakeup.task, wakeup.revision) == (task, 7)
    await wakeup.acknowledge()
    await wakeups.aclose()  # type: ignore[attr-defined]


async def test_a_wake_up_asked_for_again_replaces_the_one_before(kit: Kit) -> None:
    task, other = new_task(kit.log), new_task(kit.log)
    wakeups = await kit.log.wakeups("agent")
    now = int(time.time() * 1000)
    await kit.log.wake_at(task, 1, now + 3_600_000)
    await kit.log.wake_at(task, 2, now + 1000)
    await kit.log.wake_at(other, 3, now + 3_600_000)

    async with asyncio.timeout(20):
        wakeup = await anext(aiter(wakeups))

    assert (wakeup.task, wakeup.revision) == (task, 2)
    await wakeups.aclose()  # type: ignore[attr-defined]


async def test_a_task_is_found_by_its_id_alone(kit: Kit) -> None:
    author = Author(kit.log, new_task(kit.log, agent="somebody", tenant="acme", shard=1))
    await author.write(kind=Kind.SUBMITTED)

    assert await kit.other.find(author.task.task_id) == author.task
    assert await kit.other.find(new_task(kit.log).task_id) is None
    assert await kit.other.find("no such id") is None
    assert await kit.other.find("t1-main-0-*") is None
    assert await kit.other.find("t1-main-99-" + "A" * 22) is None


async def test_an_incarnation_is_one_for_every_process_and_stays(kit: Kit) -> None:
    task = new_task(kit.log)
    before = kit.log.incarnation(task)
    await Author(kit.log, task).write()

    assert before
    assert kit.log.incarnation(task) == kit.other.incarnation(task) == before


async def test_what_a_context_is_to_know_is_replaced_by_who_knows_it_and_by_nobody_else(kit: Kit) -> None:
    task = new_task(kit.log)
    context = context_of(task, subject="somebody", context_id="talk")
    assert await kit.log.remembered(context) == (b"", 0)
    first = await kit.log.put_remembered(context, b"one", 0)
    assert await kit.other.remembered(context) == (b"one", first)
    for version in (0, first + 1):
        with pytest.raises(Conflict):
            await kit.other.put_remembered(context, b"never", version)
    second = await kit.other.put_remembered(context, b"two", first)

    assert await kit.log.remembered(context) == (b"two", second)
    others = [
        context_of(task, subject="somebody else", context_id="talk"),
        context_of(task, subject="somebody", context_id="another talk"),
        context_of(msgspec.structs.replace(task, tenant=token("acme")), subject="somebody", context_id="talk"),
        context_of(msgspec.structs.replace(task, agent="another"), subject="somebody", context_id="talk"),
    ]
    assert [await kit.log.remembered(other) for other in others] == [(b"", 0)] * 4


async def test_progress_is_replaced_by_who_knows_it_and_by_nobody_else(kit: Kit) -> None:
    assert await kit.log.progress("work") == (b"", 0)
    first = await kit.log.put_progress("work", b"one", 0)
    assert await kit.other.progress("work") == (b"one", first)
    for version in (0, first + 1):
        with pytest.raises(Conflict):
            await kit.other.put_progress("work", b"never", version)
    second = await kit.other.put_progress("work", b"two", first)

    assert await kit.log.progress("work") == (b"two", second)
    assert await kit.log.progress("other") == (b"", 0)
