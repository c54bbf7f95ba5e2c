"""What stood only in a region that was lost: who has seen it does not mistake other records for what follows it."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest

from a2a_events.log.append import append
from a2a_events.log.jetstream import JetStreamLog, Names
from a2a_events.log.jetstream.streams import StreamSettings
from a2a_events.log.jetstream.takeover import take_over
from a2a_events.runtime.framing import REPLAY_EXTENSION, Update
from a2a_events.runtime.index import TaskIndex
from a2a_events.runtime.load import load
from a2a_events.testing import eventually
from a2a_events.timeline.snapshot import take as take_snapshot
from faults.regions import EU, US, domain
from tests.contract.logs import new_task, offered
from tests.regions.two import SPEAKER, TwoRegions, ref, shown, take

pytestmark = pytest.mark.integration


async def _lost(two: TwoRegions) -> None:
    """Us takes eu over, which is cut off."""
    await take_over(two.us.connection, Names(two.namespace), EU, domain(EU), lost=True)
    await eventually(lambda: two.us.log._foreign[EU].taken_over, timeout_seconds=20)


def _is_gap(update: Update) -> bool:
    task = msgspec.json.decode(update.line).get("task", {})
    return bool(task.get("metadata", {}).get(REPLAY_EXTENSION, {}).get("gap"))


async def test_a_cursor_of_what_was_lost_with_its_region_is_answered_with_a_gap(two: TwoRegions) -> None:
    gate = two.gate("long")
    async with aclosing(shown(await two.eu.stream("long"))) as stream:
        (begun,) = await take(stream, 1)
        task_id = msgspec.json.decode(begun.line)["task"]["id"]
        gate.put_nowait("kept")
        while b"kept" not in (kept := (await take(stream, 1))[0]).line:
            pass
        await two.even()
        await two.cut()
        lost: list[Update] = []
        for number in range(4):
            gate.put_nowait(f"lost {number}")
            while b"lost" not in (update := (await take(stream, 1))[0]).line:
                pass
            lost.append(update)
        await _lost(two)

    # Ahead of all that the new home has.
    async with aclosing(shown(await two.us.subscribe(task_id, lost[-1].cursor))) as resumed:
        (first,) = await take(resumed, 1)
    assert _is_gap(first)
    assert b"lost" not in first.line

    # Another task of the shard has moved the end on, and this one has gone on too: its places hold other records.
    other = new_task(two.eu.log, agent=SPEAKER.name, shard=ref(task_id).shard)
    await append(two.us.log, other, offered(0), 0)
    for number in range(6):
        await two.us.send(f"further {number}", task_id=task_id)
    head = (await load(two.us.log, ref(task_id))).head
    for update in lost:
        position, revision = (int(n) for n in update.cursor.split(".")[-2:])
        assert position <= head.position
        assert revision <= head.revision
        async with aclosing(shown(await two.us.subscribe(task_id, update.cursor))) as resumed:
            (first,) = await take(resumed, 1)
        assert _is_gap(first), update.cursor
        assert b"lost" not in first.line

    # What was kept goes on without one.
    await two.worker(US, EU)
    two.gate("long").put_nowait("")
    rest = [update async for update in shown(await two.us.subscribe(task_id, kept.cursor))]
    assert not any(_is_gap(update) for update in rest)


async def test_an_index_forgets_what_was_lost_with_its_region(two: TwoRegions, tmp_path: Path) -> None:
    """Its file outlives the fail-over: that of a gateway of eu, whose region was emptied and given another log."""
    index = TaskIndex(two.eu.log, str(tmp_path / "index"))
    kept = [(await two.eu.calls.send_task(f"kept {n}")).id for n in range(4)]
    await two.even()
    await two.cut()
    lost = [(await two.eu.calls.send_task(f"lost {n}")).id for n in range(8)]
    await index.caught_up()
    assert _tasks(index) == {*kept, *lost}
    before = dict(index.ends)
    await index.close()
    await _lost(two)
    await two.worker(US, EU)
    names, settings = Names(two.namespace), StreamSettings(EU)
    taken = await JetStreamLog.open(two.us.connection, names, settings)
    # Beyond where the old region ended, so that positions alone tell nothing.
    fresh: list[str] = []
    while any(end.position <= before[f"{EU}.{shard}"].position for shard, end in (await taken.ends()).items()):
        fresh.append(await _sent(two))
    index = TaskIndex(taken, str(tmp_path / "index"))
    await index.caught_up()
    assert _tasks(index) == {*kept, *fresh}
    await index.close()
    again = TaskIndex(taken, str(tmp_path / "index"))
    assert {end.epoch for shard, end in again.ends.items() if shard.startswith(EU)} == {2}
    await again.close()


async def _sent(two: TwoRegions) -> str:
    pinned = two.gateways.get("pinned") or await two.gateway(US, tenant_homes=f"*={EU}")
    two.gateways["pinned"] = pinned
    return (await pinned.calls.send_task("of the new home")).id


def _tasks(index: TaskIndex) -> set[str]:
    return {task_id for (task_id,) in index.select("select task_id from tasks where shard like 'eu.%'", [])}


async def test_an_index_of_a_log_that_was_taken_over_with_nothing_lost_is_kept(
    two: TwoRegions, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = TaskIndex(two.us.log)
    await two.eu.calls.send_task("kept")
    await two.even()
    await index.caught_up()
    forgotten: list[str] = []
    monkeypatch.setattr(index, "_forget", lambda shard, _: forgotten.append(shard))
    await take_over(two.us.connection, Names(two.namespace), EU, domain(EU), lost=False)
    await eventually(lambda: two.us.log._foreign[EU].taken_over, timeout_seconds=20)
    await index.caught_up()
    assert not forgotten
    assert {end.epoch for shard, end in index.ends.items() if shard.startswith(EU)} == {2}
    await index.close()


async def test_no_snapshot_outlives_the_records_that_were_lost_with_a_region(two: TwoRegions) -> None:
    task = ref((await two.eu.calls.send_task("ask")).id)
    await two.eu.log.save(task, take_snapshot(await load(two.eu.log, task)))
    await two.even()
    await eventually(lambda: two.us.log.snapshot(task), timeout_seconds=20, what="the mirror of the snapshot")
    await two.cut()
    await _lost(two)
    assert await two.us.log.snapshot(task) is None
    assert (await load(two.us.log, task)).head.exists


async def test_a_wake_up_of_a_region_that_was_lost_comes_in_the_new_one(two: TwoRegions) -> None:
    task = new_task(two.eu.log, agent="sleeper")
    await two.eu.log.wake_at(task, 7, int(time.time() * 1000) + 6_000)
    await eventually(lambda: two.us.log._foreign[EU].mirror.waking(task), timeout_seconds=20)
    await two.cut()
    names = Names(two.namespace)
    await take_over(two.us.connection, names, EU, domain(EU), lost=True)
    taken = await JetStreamLog.open(two.us.connection, names, StreamSettings(EU))
    waking = await taken.waking(task)
    assert waking is not None
    assert waking[0] == 7
    due = await _next(taken)
    assert due == (task, 7)


async def _next(log: JetStreamLog) -> object:
    async with asyncio.timeout(40):
        wakeup = await anext(aiter(await log.wakeups("sleeper")))
    return wakeup.task, wakeup.revision
