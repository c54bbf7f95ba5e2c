"""The log of another region, where what is known of it is late, in part, or not true any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from a2a_events import limits
from a2a_events.errors import Conflict, NotProvisioned, Unavailable, Uncertain, Unreachable
from a2a_events.log.append import append
from a2a_events.log.jetstream import Names, RegionalLog, open_regional
from a2a_events.log.jetstream.connection import Connection
from a2a_events.log.jetstream.foreign import ForeignLog
from a2a_events.log.jetstream.log import ShardView
from a2a_events.log.jetstream.mirrors import provision_mirrors
from a2a_events.log.jetstream.streams import StreamSettings
from a2a_events.log.jetstream.takeover import take_over
from a2a_events.log.port import AgentEntry
from a2a_events.services import provisioner
from a2a_events.services.connect import jetstream_log
from a2a_events.services.nats_server import NatsServer
from a2a_events.settings import Settings
from a2a_events.testing import eventually
from a2a_events.timeline.ids import parse_task_id
from a2a_events.timeline.record import Record
from faults.regions import EU, US, domain
from tests.contract.logs import new_task, offered
from tests.regions.two import SPEAKER, TwoRegions, ref

pytestmark = pytest.mark.integration


def _eu_in_us(two: TwoRegions) -> ForeignLog:
    return two.us.log._foreign[EU]


def _looks_no_more(two: TwoRegions) -> None:
    """What a gateway of us knows of eu stays as it is, as between two looks."""
    looking = _eu_in_us(two)._looking
    assert looking is not None
    looking.cancel()


async def _ends(connection: Connection, two: TwoRegions, shard: int) -> int:
    info = await connection.api(f"STREAM.INFO.{Names(two.namespace).log_stream(EU, shard)}")
    return int(info["state"]["last_seq"])


# --- while a log is taken over ----------------------------------------------------------------------------------------


async def test_an_append_that_the_old_region_stored_while_its_log_was_taken_over_is_not_acknowledged(
    two: TwoRegions,
) -> None:
    """The race: the gateway knows of nothing, and the old region, not fenced yet, takes the record in."""
    asks = await two.eu.calls.send_task("ask")
    task = ref(asks.id)
    await two.even()
    _looks_no_more(two)
    await two.cut()
    await take_over(two.us.connection, Names(two.namespace), EU, domain(EU), lost=True)
    await two.heal()
    log, last = _eu_in_us(two), (await two.us.records(task))[-1]
    log._answered = time.monotonic()  # as by a look right before
    assert not log.taken_over
    draft = offered(last.header.last_revision)
    before = await _ends(two.eu.connection, two, task.shard)
    with pytest.raises(Uncertain, match="taken over"):
        await two.us.log.try_append(task, draft, last.position)
    assert await _ends(two.eu.connection, two, task.shard) == before + 1  # so the race was run
    position = await append(two.us.log, task, draft, last.position)
    stored = [record for record in await two.us.records(task) if record.header.record_id == draft.header.record_id]
    assert [record.position for record in stored] == [position]
    assert log.is_here(task.shard)


async def test_a_gateway_that_knows_of_one_shard_that_it_was_taken_over_asks_for_each(two: TwoRegions) -> None:
    task = new_task(two.eu.log, agent=SPEAKER.name, shard=1)
    first = await append(two.eu.log, task, offered(0), 0)
    await two.even()
    _looks_no_more(two)
    await two.cut()
    names = Names(two.namespace)
    await take_over(two.us.connection, names, EU, domain(EU), lost=True)
    await two.heal()
    log = _eu_in_us(two)
    log._answered = time.monotonic()
    info = await two.us.connection.api(f"STREAM.INFO.{names.log_stream(EU, 0)}")
    log.mirror._shards[EU, 0] = ShardView.of(names, info["config"])
    assert log.is_here(0)
    assert not log.is_here(1)
    draft = offered(1)
    position = await append(two.us.log, task, draft, first)
    assert await _ends(two.us.connection, two, 1) == position
    assert [record.position for record in await two.us.records(task)] == [first, position]


@asynccontextmanager
async def third_region(two: TwoRegions) -> AsyncIterator[Settings]:
    """A region ap, joined to eu, with mirrors of both others."""
    remote = f'{{ url: "nats://127.0.0.1:{two._leaf}" }}'
    more = f'leafnodes {{ remotes: [{remote}], reconnect: "0.3s" }}\n'
    server = NatsServer(None, sync="2m", domain=domain("ap"), more=more)
    await server.start()
    try:
        settings = replace(
            two.settings(EU),
            nats=server.url,
            log="ap",
            regions=f"{EU}={domain(EU)},{US}={domain(US)},ap={domain('ap')}",
        )

        async def provisioned() -> bool:
            try:
                await provisioner.run(settings)
            except Unavailable:
                return False
            return True

        await eventually(provisioned, timeout_seconds=60)
        yield settings
    finally:
        await server.stop()
        server.clean()


async def test_a_third_region_writes_nothing_to_a_log_that_another_one_has_taken_over(two: TwoRegions) -> None:
    asks = await two.eu.calls.send_task("ask")
    task = ref(asks.id)
    async with third_region(two) as settings, jetstream_log(settings, "gateway") as (log, _):
        assert isinstance(log, RegionalLog)
        await eventually(lambda: all(state.lag_seconds < 5 for state in log.mirrors), timeout_seconds=30)
        last = [record async for run in log.read(task) for record in run][-1]
        last = await _appended(log, last, task)  # it may, as long as eu has it
        await two.even()
        await two.cut()
        await take_over(two.us.connection, Names(two.namespace), EU, domain(EU), lost=True)
        await two.heal()

        async def refused() -> bool:
            before = await _ends(two.eu.connection, two, task.shard)
            try:
                await log.try_append(task, offered(last.header.last_revision), last.position + 999)
            except Unreachable as error:
                return "by now" in str(error)
            except Conflict:  # while it has not heard
                assert await _ends(two.eu.connection, two, task.shard) == before
                return False
            raise AssertionError("nothing is stored on a condition that is wrong")

        await eventually(refused, timeout_seconds=30)
        state = next(state for state in log.mirrors if state.log == EU)
        await eventually(lambda: next(s for s in log.mirrors if s.log == EU).lag_seconds > state.lag_seconds + 1)


async def _appended(log: RegionalLog, last: Record, task: Any) -> Record:
    position = await append(log, task, offered(last.header.last_revision), last.position)
    found = await log.last(task)
    assert found is not None
    assert found.position == position
    return found


# --- how well a mirror follows ----------------------------------------------------------------------------------------


async def _grows_old(two: TwoRegions) -> None:
    """Far beyond what a mirror has that is looked at each second."""
    await eventually(lambda: two.us.log.mirrors[0].lag_seconds > 4, timeout_seconds=30)


async def test_a_mirror_that_was_deleted_is_not_called_even(two: TwoRegions) -> None:
    await two.even()
    names = Names(two.namespace)
    for shard in range(2):
        await two.us.connection.api(f"STREAM.DELETE.{names.log_stream(EU, shard)}")
    await _grows_old(two)


async def test_a_shard_that_is_not_mirrored_yet_is_missed(two: TwoRegions) -> None:
    await two.even()
    more = replace(two.settings(EU), shards=3, regions="")
    await provisioner.run(more)
    await _grows_old(two)
    regions = {EU: domain(EU)}
    await provision_mirrors(two.us.connection, Names(two.namespace), StreamSettings(US), regions)
    await eventually(lambda: two.us.log.mirrors[0].lag_seconds < 3, timeout_seconds=30)


async def test_one_shard_that_cannot_be_told_of_does_not_make_its_region_silent(two: TwoRegions) -> None:
    task = new_task(two.eu.log, agent=SPEAKER.name, shard=0)
    first = await append(two.eu.log, task, offered(0), 0)
    await two.even()
    await two.eu.connection.api(f"STREAM.DELETE.{Names(two.namespace).log_stream(EU, 1)}")
    await _grows_old(two)  # by then it would have been silent
    assert two.us.log.mirrors[0].reachable
    assert await append(two.us.log, task, offered(1), first) > first


async def test_one_look_that_is_lost_does_not_make_a_region_silent(two: TwoRegions) -> None:
    log, lost = _eu_in_us(two), 0
    api = log._there.api
    longest = 0.0

    async def lossy(verb: str, payload: object = None, *, timeout: float = 1.0) -> Any:
        nonlocal lost, longest
        longest = max(longest, time.monotonic() - log._answered)
        if lost < 3 and longest > 0.5:  # all three questions of one look
            lost += 1
            await asyncio.sleep(timeout)
            raise Uncertain("no answer")
        return await api(verb, payload, timeout=timeout)

    log._there.api = lossy  # type: ignore[method-assign]
    await eventually(lambda: lost == 3)
    begun = log._answered
    await eventually(lambda: log._answered > begun)
    assert longest < limits.REGION_SILENT_SECONDS - 0.3


def _loops() -> set[asyncio.Task[Any]]:
    names = ("ForeignLog._keep_looking", "RegionalLog._guard", "Silence._look")
    return {t for t in asyncio.all_tasks() if getattr(t.get_coro(), "__qualname__", "") in names}


async def test_regions_that_cannot_be_opened_or_are_closed_leave_nothing_running(two: TwoRegions) -> None:
    names, settings = Names(two.namespace), StreamSettings(US)
    before = _loops()
    with pytest.raises(NotProvisioned):
        await open_regional(two.us.connection, names, settings, regions={EU: domain(EU), "ap": domain("ap")}, homes={})
    for _ in range(20):  # far more round trips than what goes on by itself would need to begin
        await two.us.connection.api("INFO")
    assert _loops() <= before
    on_return = len(two.us.connection.on_return)
    log = await open_regional(two.us.connection, names, settings, regions={EU: domain(EU)}, homes={})
    async with log.watch(new_task(two.eu.log)):
        assert len(_loops() - before) == 3
        log.stop()
    await asyncio.sleep(0)
    assert _loops() <= before
    assert len(two.us.connection.on_return) == on_return


# --- what this process has written ------------------------------------------------------------------------------------


async def test_a_list_waits_for_what_was_written_here_or_is_refused(
    two: TwoRegions, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = new_task(two.eu.log, agent=SPEAKER.name)
    first = await append(two.eu.log, task, offered(0), 0)
    await two.even()
    # As after an append whose record the mirror has not got yet.
    _eu_in_us(two)._owe(task, first + 1)
    patience = limits.MIRROR_PATIENCE_SECONDS
    monkeypatch.setattr(limits, "MIRROR_PATIENCE_SECONDS", 0.0)
    with pytest.raises(Unavailable):
        await two.us.log.ends(EU)
    with pytest.raises(Unavailable):
        await two.us.calls.page()
    monkeypatch.setattr(limits, "MIRROR_PATIENCE_SECONDS", patience)
    asked = asyncio.create_task(two.us.log.ends(EU))
    await two.us.connection.request("$JS.API.INFO")
    assert not asked.done()
    assert await append(two.eu.log, task, offered(1), first) == first + 1
    assert (await asked)[task.shard].position == first + 1
    assert not _eu_in_us(two)._owed


async def test_lists_go_on_while_the_link_is_cut_although_something_written_is_not_here(
    two: TwoRegions, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two.even()
    task = new_task(two.eu.log, agent=SPEAKER.name)
    await two.cut()
    _eu_in_us(two)._owe(task, 1_000_000)
    async with asyncio.timeout(limits.MIRROR_PATIENCE_SECONDS):
        ends = await two.us.log.ends(EU)
    assert set(ends) == {0, 1}


async def test_what_is_asked_of_the_other_region_beside_appends_is_refused_as_they_are(
    two: TwoRegions, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = ref((await two.eu.calls.send_task("ask")).id)
    await two.even()
    await two.cut()
    monkeypatch.setattr(limits, "REGION_SILENT_SECONDS", 1e9)  # it is the answer that counts, and not the silence
    asked: list[Callable[[], Any]] = [
        lambda: two.us.log.notified(task),
        lambda: two.us.log.waking(task),
        lambda: two.us.log.sealing_key(EU),
    ]
    for ask in asked:
        with pytest.raises(Unreachable):
            await ask()


# --- where new tasks go -----------------------------------------------------------------------------------------------


async def test_a_task_goes_where_its_agent_is(two: TwoRegions) -> None:
    """A region without workers of an agent would keep its tasks for ever."""
    await two.us.log.announce(AgentEntry("only-us", b"{}"), "worker-1")
    await eventually(lambda: "only-us" in _us_in_eu(two).agents, timeout_seconds=20)
    await eventually(lambda: "only-us" in two.us.log._agents, timeout_seconds=20)
    for log in (two.eu.log, two.us.log):
        assert log.home("", agent="only-us").log == US
        assert {log.home("", f"key-{n}", "only-us").log for n in range(20)} == {US}
        assert log.home("", agent="nobody-has-it-yet").log == log.name
        assert {log.home("", f"key-{n}", "nobody-has-it-yet").log for n in range(40)} == {EU, US}
    assert two.eu.log.home("", agent=SPEAKER.name).log == EU
    task = await two.eu.send("hello")
    assert parse_task_id(task.id)[0] == EU  # type: ignore[index]
    pinned = await two.gateway(EU, tenant_homes=f"acme={EU}")
    assert pinned.log.home("acme", agent="only-us").log == EU  # what an operator has said is what counts


def _us_in_eu(two: TwoRegions) -> ForeignLog:
    return two.eu.log._foreign[US]
