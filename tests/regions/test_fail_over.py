"""A region takes over another one's log: with its help, and without; and the old one cannot write when it is back."""

from __future__ import annotations

import asyncio
import time

import pytest

from a2a_events.errors import LogError, NotProvisioned, Unreachable
from a2a_events.log.append import append
from a2a_events.log.jetstream import JetStreamLog, Names, provision
from a2a_events.log.jetstream.drift import MADE_AS
from a2a_events.log.jetstream.streams import ProvisionError, StreamSettings
from a2a_events.log.jetstream.takeover import fence, take_over
from a2a_events.model import TaskState
from a2a_events.testing import eventually
from faults.regions import EU, US, domain
from tests.contract.logs import new_task, offered
from tests.regions.two import TwoRegions, ref

pytestmark = pytest.mark.integration


async def _writes_at(two: TwoRegions, task_id: str, text: str) -> None:
    """Send from the region that took over, as soon as its gateway knows."""

    async def sent() -> bool:
        try:
            await two.us.send(text, task_id=task_id)
        except Unreachable:
            return False
        return True

    await eventually(sent, timeout_seconds=20)


async def test_a_planned_fail_over_loses_nothing_and_fences_the_old_region(two: TwoRegions) -> None:
    asks = await two.eu.calls.send_task("ask")
    records = await two.eu.records(ref(asks.id))
    names = Names(two.namespace)
    done = await take_over(two.us.connection, names, EU, domain(EU), lost=False)
    assert done.planned
    assert done.epoch == 2
    assert await two.us.records(ref(asks.id)) == records

    with pytest.raises(LogError):  # the old region takes nothing in
        await append(two.eu.log, ref(asks.id), offered(99), records[-1].position, patience_seconds=0.5)
    await two.worker(US, EU)
    await _writes_at(two, asks.id, "more")

    async def completed() -> bool:
        return (await two.us.calls.get(asks.id)).status.state is TaskState.COMPLETED

    await eventually(completed, timeout_seconds=30)
    after = await two.us.records(ref(asks.id))
    assert after[: len(records)] == records
    assert [r.position for r in after] == sorted({r.position for r in after})
    assert two.us.log.staleness(EU) is None
    again = await take_over(two.us.connection, names, EU, domain(EU), lost=False)
    assert again.epoch == 2  # repeating changes nothing
    settings = StreamSettings(EU, 2)
    assert set((await provision(two.us.connection, names, settings)).values()) == {"verified"}
    info = await two.us.connection.api(f"STREAM.INFO.{names.log_stream(EU, 0)}")
    assert MADE_AS in info["config"]["metadata"]  # so that a version after this one may change it


async def test_a_region_that_is_lost_is_taken_over_and_cannot_write_when_it_is_back(two: TwoRegions) -> None:
    asks = await two.eu.calls.send_task("ask")
    await two.even()
    kept = await two.us.records(ref(asks.id))
    names = Names(two.namespace)
    await two.cut()
    alone = await two.eu.calls.send_task("stored where nobody saw it")
    with pytest.raises(ProvisionError, match="--lost"):
        await take_over(two.us.connection, names, EU, domain(EU), lost=False)
    done = await take_over(two.us.connection, names, EU, domain(EU), lost=True)
    assert not done.planned
    assert done.silent_seconds

    await two.worker(US, EU)
    await _writes_at(two, asks.id, "written by the new home")
    newer = await eventually(lambda: _more(two, asks.id, len(kept)), timeout_seconds=20)
    assert newer[: len(kept)] == kept

    # The old region comes back, with all its processes, and does not know yet.
    await two.heal()

    async def refused() -> bool:
        try:
            await two.eu.send("written by the old home")
        except LogError as error:
            return "taken over" in str(error)
        return False

    await eventually(refused, timeout_seconds=30)
    with pytest.raises(NotProvisioned, match="epoch 2"):  # nor does any start that looks at the other regions
        await two.gateway(EU)
    fenced = await fence(two.us.connection, names, EU, domain(EU), patience_seconds=20)
    assert sum(fenced.beyond.values()) >= 1  # at least the task that nobody saw
    with pytest.raises(NotProvisioned, match="taken over"):
        await two.gateway(EU)
    with pytest.raises(ProvisionError, match="taken over"):
        await provision(two.eu.connection, names, StreamSettings(EU, 2))
    for shard in range(2):
        with pytest.raises(LogError):  # nor can who knows nothing of regions
            await two.eu.connection.request(f"{two.namespace}.log.{EU}.{shard}.speaker.-.x.in", b"{}", timeout=2.0)

    history = [m.parts[0].text for m in (await two.us.calls.get(asks.id)).history]
    assert "written by the new home" in history
    listed = await two.us.calls.page()
    texts = [(await two.us.calls.get(task.id)).history[0].parts[0].text for task in listed.tasks]
    assert "written by the old home" not in texts
    assert alone.id not in {task.id for task in (await two.us.calls.page()).tasks}


async def _more(two: TwoRegions, task_id: str, than: int) -> list[object]:
    records = await two.us.records(ref(task_id))
    return list(records) if len(records) > than + 1 else []


async def test_an_append_is_stored_in_one_region_even_before_the_old_one_is_fenced(two: TwoRegions) -> None:
    asks = await two.eu.calls.send_task("ask")
    await two.even()
    await two.cut()
    names = Names(two.namespace)
    await take_over(two.us.connection, names, EU, domain(EU), lost=True)
    await two.heal()
    stream = names.log_stream(EU, ref(asks.id).shard)
    await _writes_at(two, asks.id, "once")  # the gateway may not know yet, and ask the old region first
    texts = [m.parts[0].text for m in (await two.us.calls.get(asks.id)).history]
    assert texts.count("once") == 1
    before = (await two.eu.connection.api(f"STREAM.INFO.{stream}"))["state"]["last_seq"]
    await _writes_at(two, asks.id, "again")
    assert (await two.eu.connection.api(f"STREAM.INFO.{stream}"))["state"]["last_seq"] == before
    texts = [m.parts[0].text for m in (await two.us.calls.get(asks.id)).history]
    assert texts.count("again") == 1


async def test_a_wake_up_that_was_set_in_the_old_region_comes_in_the_new_one(two: TwoRegions) -> None:
    task = new_task(two.eu.log, agent="sleeper")
    await two.eu.log.wake_at(task, 7, int(time.time() * 1000) + 6_000)
    await eventually(lambda: two.eu.log.waking(task))
    names = Names(two.namespace)
    await take_over(two.us.connection, names, EU, domain(EU), lost=False)
    taken = await JetStreamLog.open(two.us.connection, names, StreamSettings(EU))
    async with asyncio.timeout(40):
        due = await anext(aiter(await taken.wakeups("sleeper")))
    assert (due.task, due.revision) == (task, 7)
