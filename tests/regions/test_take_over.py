"""Taking a log over and fencing the old home: what is refused, before anything is changed, and what may be repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from a2a_events.errors import NotProvisioned, Unavailable
from a2a_events.log.jetstream import Connection, JetStreamLog, StreamSettings, provision, takeover
from a2a_events.log.jetstream.streams import FENCED, ProvisionError
from a2a_events.log.jetstream.takeover import fence, take_over
from a2a_events.services import provisioner
from a2a_events.services.connect import jetstream_log
from a2a_events.settings import Settings
from a2a_events.testing import eventually
from faults.regions import EU, US, Regions, domain
from tests.cli.commands import Command
from tests.contract.logs import new_task, offered
from tests.regions.pair import SHARDS, Pair

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


async def _taken(pair: Pair, *, lost: bool = False) -> takeover.TakenOver:
    return await take_over(pair.us, pair.names, EU, domain(EU), lost=lost)


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """How long mirrors are waited for."""

    def seconds(value: float) -> None:
        monkeypatch.setattr(takeover, "_EVEN_SECONDS", value)

    return seconds


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Callable[[], None]]:
    """Let a promotion end after it has opened so many streams; what is returned lets it go on."""

    def after(count: int) -> Callable[[], None]:
        opened = takeover._open
        calls = 0

        async def failing(connection: Connection, wanted: dict[str, Any], epoch: int) -> None:
            nonlocal calls
            calls += 1
            if calls > count:
                raise Unavailable("interrupted")
            await opened(connection, wanted, epoch)

        monkeypatch.setattr(takeover, "_open", failing)
        return lambda: monkeypatch.setattr(takeover, "_open", opened)

    return after


async def _cut_off(pair: Pair) -> None:
    """Cut the link, and wait until both sides know."""
    pair.regions.link.cut()
    for connection, other in ((pair.us, EU), (pair.eu, US)):
        while True:
            try:
                await connection.request(f"$JS.{domain(other)}.API.INFO", timeout=0.5)
            except Unavailable:
                break
            except Exception:  # noqa: BLE001 -- no answer: neither cut nor whole
                await asyncio.sleep(0.1)


async def _healed(pair: Pair) -> None:
    pair.regions.link.heal()
    await pair.regions.joined()


async def _command(settings: Settings, folder: Path, *arguments: str) -> tuple[str, str]:
    """What a command prints and says, run as a process with these settings."""
    names = ("nats", "namespace", "log", "regions", "shards")
    environment = {f"A2A_EVENTS_{name.upper()}": str(getattr(settings, name)) for name in names}
    command = Command(*arguments, folder=folder, environment=environment)
    try:
        assert await command.end() == 0, command.err
        return command.out, command.err
    finally:
        command.close()


# --- who may be fenced ------------------------------------------------------------------------------------------------


async def test_the_new_home_is_never_fenced_whatever_the_settings_say_by_then(pair: Pair) -> None:
    await _taken(pair)
    with pytest.raises(ProvisionError, match="has itself taken log 'eu' over"):
        await fence(pair.us, pair.names, EU, domain(US))
    with pytest.raises(ProvisionError, match="has itself taken log 'eu' over"):
        await take_over(pair.us, pair.names, EU, domain(US), lost=False)
    assert await pair.write(US, EU)
    for stream in pair.streams(EU):
        assert FENCED not in (await pair.info(US, stream))["config"]["metadata"]


async def test_a_region_that_only_follows_cannot_be_fenced(pair: Pair) -> None:
    """Else ``region-fence`` would report success where nobody ever wrote."""
    await _taken(pair)
    await pair.delete(EU, *pair.streams(EU))
    moved = f"{EU}={domain(US)},{US}={domain(US)},eu2={domain(EU)}"
    await provisioner.run(pair.settings(EU, log="eu2", regions=moved))
    with pytest.raises(ProvisionError, match="is a mirror"):
        await fence(pair.us, pair.names, EU, domain(EU))


async def test_fencing_waits_for_a_region_that_answers_without_the_log_and_does_not_report_success(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _taken(pair)
    await pair.delete(EU, *pair.streams(EU))
    with pytest.raises(Unavailable, match="has no log 'eu'"):
        await fence(pair.us, pair.names, EU, domain(EU), patience_seconds=0.3)
    assert (await _until_there(pair, monkeypatch)).beyond == {0: 1, 1: 0}


async def _until_there(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> takeover.Fenced:
    """What ``region-fence --wait`` says of a region whose log comes while it waits."""
    looks, complete = 0, asyncio.Event()
    look = takeover._standing

    async def standing(*arguments: Any) -> Any:
        nonlocal looks
        looks += 1
        if looks > 2:  # after both regions were looked at once: it might meet half a log
            await complete.wait()
        return await look(*arguments)

    monkeypatch.setattr(takeover, "_standing", standing)
    waiting = asyncio.create_task(fence(pair.us, pair.names, EU, domain(EU), patience_seconds=60))
    await eventually(lambda: looks > 2, what="a region that was asked and has nothing")
    await provision(pair.eu, pair.names, StreamSettings(EU, SHARDS))
    await pair.write(EU, EU)
    complete.set()
    return await waiting


async def test_what_was_stored_in_a_shard_without_a_mirror_is_counted(pair: Pair) -> None:
    await _cut_off(pair)
    await provision(pair.eu, pair.names, StreamSettings(EU, SHARDS + 1))
    await pair.write(EU, EU, SHARDS)
    await pair.write(EU, EU, SHARDS)
    assert not (await _taken(pair, lost=True)).planned
    await _healed(pair)
    assert (await fence(pair.us, pair.names, EU, domain(EU))).beyond == {0: 0, 1: 0, 2: 2}
    await provision(pair.us, pair.names, StreamSettings(EU, SHARDS + 1))  # now the new home has such a shard too
    assert (await fence(pair.us, pair.names, EU, domain(EU))).beyond == {0: 0, 1: 0, 2: 2}


# --- what is refused before anything is fenced ------------------------------------------------------------------------


async def test_a_shard_without_a_mirror_keeps_a_log_at_home(pair: Pair) -> None:
    await provision(pair.eu, pair.names, StreamSettings(EU, SHARDS + 1))
    with pytest.raises(ProvisionError, match="has no mirror here"):
        await _taken(pair)
    assert await pair.write(EU, EU, SHARDS)
    await provisioner.run(pair.settings(US))
    assert (await _taken(pair)).planned


async def test_a_mirror_that_does_not_follow_keeps_a_log_at_home(pair: Pair, patience: Callable[[float], None]) -> None:
    stream = pair.names.log_stream(EU, 0)
    config = (await pair.info(US, stream))["config"]
    assert "error" not in await pair.us.api(f"STREAM.UPDATE.{stream}", config | {"max_msg_size": 1})
    end = await pair.write(EU, EU)
    patience(1.0)
    with pytest.raises(Unavailable, match="lacks records"):
        await _taken(pair)
    assert await pair.write(EU, EU) > end


@pytest.mark.parametrize("anew", [False, True])
async def test_a_region_that_has_lost_the_log_counts_as_lost(pair: Pair, anew: bool) -> None:
    position = await pair.write(EU, EU)
    await pair.mirrored(US, EU, 0, position)
    await pair.delete(EU, *pair.streams(EU))
    if anew:
        await provision(pair.eu, pair.names, StreamSettings(EU, SHARDS))
    with pytest.raises(ProvisionError, match=r"made anew.*--lost" if anew else r"has no log 'eu' any more.*--lost"):
        await _taken(pair)
    if anew:
        assert await pair.write(EU, EU)  # not fenced
    done = await _taken(pair, lost=True)
    assert not done.planned
    assert done.positions[0] == position
    assert await pair.write(US, EU) == position + 1
    if anew:  # what it has stored since is counted, and nothing of it is in the log
        assert (await fence(pair.us, pair.names, EU, domain(EU))).beyond == {0: 1, 1: 0}


async def test_a_mirror_of_a_log_whose_newest_record_was_removed_has_everything(
    pair: Pair, patience: Callable[[float], None]
) -> None:
    kept, removed = await pair.write(EU, EU), await pair.write(EU, EU)
    stream = pair.names.log_stream(EU, 0)
    assert (await pair.eu.api(f"STREAM.MSG.DELETE.{stream}", {"seq": removed}))["success"]
    await pair.delete(US, stream)
    await provisioner.run(pair.settings(US))
    await pair.mirrored(US, EU, 0, kept)
    patience(5.0)
    assert (await _taken(pair)).planned
    assert (await _taken(pair)).planned  # and again


# --- what was interrupted ---------------------------------------------------------------------------------------------


async def test_a_promotion_of_a_lost_region_that_was_interrupted_ends_when_the_region_is_back(
    pair: Pair, patience: Callable[[float], None], interrupted: Callable[[int], Callable[[], None]]
) -> None:
    await _cut_off(pair)
    go_on = interrupted(1)
    with pytest.raises(Unavailable, match="interrupted"):
        await _taken(pair, lost=True)
    go_on()
    for _ in range(3):
        await pair.write(EU, EU, 0)  # in no log: shard 0 is opened
    end = await pair.write(EU, EU, 1)
    await _healed(pair)
    await pair.mirrored(US, EU, 1, end)
    patience(10.0)
    done = await _taken(pair, lost=True)
    assert done.epoch == 2
    assert not done.planned
    assert done.positions == {0: 0, 1: end}
    assert (await fence(pair.us, pair.names, EU, domain(EU))).beyond == {0: 3, 1: 0}


async def test_a_planned_promotion_that_was_interrupted_stays_one_that_loses_nothing(
    pair: Pair, interrupted: Callable[[int], Callable[[], None]]
) -> None:
    await pair.write(EU, EU)
    go_on = interrupted(1)
    with pytest.raises(Unavailable, match="interrupted"):
        await _taken(pair)
    go_on()
    assert (await _taken(pair)).planned


async def test_a_promotion_that_is_repeated_does_not_say_infinite_seconds(pair: Pair, tmp_path: Path) -> None:
    await pair.mirrored(US, EU, 0, await pair.write(EU, EU))  # so that it was heard of
    await _cut_off(pair)
    assert (await _taken(pair, lost=True)).silent_seconds
    assert (await _taken(pair, lost=True)).silent_seconds is None
    said, _ = await _command(pair.settings(US), tmp_path, "region-promote", EU, "--lost")
    assert "lost: what its old region stored and is not here" in said
    await _healed(pair)


# --- who may write ----------------------------------------------------------------------------------------------------


async def test_a_process_whose_own_log_is_a_mirror_does_not_start(pair: Pair) -> None:
    """It would take the log for one that nobody has taken over, and write where nobody takes anything in."""
    with pytest.raises(NotProvisioned, match="region-promote"):
        await JetStreamLog.open(pair.us, pair.names, StreamSettings(EU))
    with pytest.raises(NotProvisioned, match="region-promote"):
        async with jetstream_log(pair.settings(US, log=EU), "worker"):
            pass
    await _taken(pair)
    async with jetstream_log(pair.settings(US, log=EU), "worker") as (log, _):
        assert await log.try_append(new_task(log), offered(0), 0)


# --- provisioning after a fail-over -----------------------------------------------------------------------------------


async def test_a_log_that_was_taken_over_is_provisioned_like_the_own_one(pair: Pair) -> None:
    await _taken(pair)
    done = await provisioner.run(pair.settings(US, log=EU), agents=["greet"])
    assert done[pair.names.log_stream(US, 0)] == "verified"
    assert done[f"{pair.names.log_stream(EU, 0)}/worker-greet"] == "created"
    snapshots = pair.names.snapshot_stream(EU)
    await pair.delete(US, snapshots)
    done = await provisioner.run(pair.settings(US))  # an upgrade of the region sees to both
    assert done[snapshots] == "created"
    assert done[pair.names.log_stream(EU, 0)] == "verified"


async def test_a_region_is_taken_back_into_use_and_takes_its_log_back(pair: Pair) -> None:
    position = await pair.write(EU, EU)
    await _taken(pair)
    moved = f"{EU}={domain(US)},{US}={domain(US)},eu2={domain(EU)}"
    back = pair.settings(EU, log="eu2", regions=moved)
    with pytest.raises(ProvisionError, match="delete them, and provision again"):
        await provisioner.run(back)
    await pair.delete(EU, *pair.streams(EU))
    done = await provisioner.run(back)
    assert done[pair.names.log_stream(EU, 0)] == "created"
    newer = await pair.write(US, EU)
    again = await take_over(pair.eu, pair.names, EU, domain(US), lost=False)
    assert (again.epoch, again.planned, again.positions[0]) == (3, True, newer)
    assert position < newer < await pair.write(EU, EU)
    with pytest.raises(ProvisionError, match="was taken over from here"):
        await take_over(pair.us, pair.names, EU, domain(EU), lost=True)


# --- three regions ----------------------------------------------------------------------------------------------------

AP = "ap"


class Three(Regions):
    """``ap`` is a second leaf of ``eu``."""

    async def _join(self) -> None:
        await super()._join()
        await self._start(AP, self._leaf_of(self._leaf))
        await self.joined()


async def test_of_three_regions_only_one_takes_a_log_over(tmp_path: Path) -> None:
    async with Three() as three, Pair(three) as pair:
        await pair.provision()
        _, noted = await _command(pair.settings(US), tmp_path, "provision")
        assert "with more than two regions" in noted
        ap = pair.connections[AP]
        others = {domain(region) for region in (EU, US, AP)}
        assert (await take_over(ap, pair.names, EU, domain(EU), lost=False, others=others)).planned
        for lost in (False, True):
            with pytest.raises(ProvisionError, match="has taken log 'eu' over already"):
                await take_over(pair.us, pair.names, EU, domain(EU), lost=lost, others=others)
        assert (await take_over(ap, pair.names, EU, domain(EU), lost=False, others=others)).epoch == 2  # itself may

        await three.servers[AP].stop()
        with pytest.raises(ProvisionError, match="'hub-ap' does not answer"):
            await take_over(pair.eu, pair.names, US, domain(US), lost=False, others=others)
        assert await pair.write(US, US)
        us = await take_over(pair.eu, pair.names, US, domain(US), lost=False, others=others - {domain(AP)})
        assert us.planned
