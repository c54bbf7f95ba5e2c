"""Another team's service, in another language and region, follows the log from a cursor of its own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from a2a_events.log.append import append
from a2a_events.log.jetstream import Names
from a2a_events.log.jetstream.takeover import take_over
from a2a_events.services import provisioner
from a2a_events.testing import eventually
from faults.regions import EU, US, domain
from tests.contract.logs import new_task, offered
from tests.regions.two import Gateway, TwoRegions, ref
from tests.unit.test_schema import validator

EXAMPLE = Path(__file__).parents[2] / "examples" / "node-consumer"
NODE_MODULES = "A2A_EVENTS_TEST_NODE_MODULES"
"""Folder with the example's packages, where npm is not to be asked."""

pytestmark = [pytest.mark.integration, pytest.mark.processes]


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example with its packages; skipped where Node or they cannot be had."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    folder = tmp_path_factory.mktemp("node") / "node-consumer"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("node_modules"))
    given = os.environ.get(NODE_MODULES)
    if given:
        (folder / "node_modules").symlink_to(given)
        return folder
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    asked = [shutil.which("npm") or "npm", "install", "--no-audit", "--no-fund", "--no-package-lock"]
    try:
        done = subprocess.run(asked, cwd=folder, capture_output=True, text=True, timeout=90, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm does not answer")
    if done.returncode:
        pytest.skip(f"the packages of the example cannot be had: {done.stderr[-300:]}")
    return folder


class Follower:
    def __init__(self, process: Process) -> None:
        self._process = process
        self.events: list[dict[str, Any]] = []

    async def until(self, count: int) -> list[dict[str, Any]]:
        assert self._process.stdout is not None
        async with asyncio.timeout(40):
            while len(self.events) < count:
                line = await self._process.stdout.readline()
                assert line, "the follower ended by itself"
                self.events.append(json.loads(line))
        return self.events

    async def ended(self) -> int:
        """By itself; its exit code."""
        async with asyncio.timeout(40):
            return await self._process.wait()

    async def stop(self) -> None:
        """SIGTERM, and whatever it still says."""
        assert self._process.stdout is not None
        self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            async for line in self._process.stdout:
                self.events.append(json.loads(line))
            assert await self._process.wait() == 0


@asynccontextmanager
async def following(example: Path, two: TwoRegions, region: str, cursor: Path) -> AsyncIterator[Follower]:
    environment = {
        **os.environ,
        "NATS_URL": two.servers[region].url,
        "NAMESPACE": two.namespace,
        "LOG": EU,
        "CURSOR": str(cursor),
    }
    process = await asyncio.create_subprocess_exec(
        shutil.which("node") or "node", "follow.mjs", cwd=example, env=environment, stdout=PIPE
    )
    try:
        yield Follower(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_node_service_follows_from_its_cursor_in_whichever_region_it_runs(
    two: TwoRegions, example: Path, tmp_path: Path
) -> None:
    cursor = tmp_path / "cursor.json"
    first = await two.eu.calls.send_task("one")
    stored = await _events(two, first.id)
    async with following(example, two, US, cursor) as there:
        await there.until(len(stored))
        second = await two.eu.calls.send_task("two")
        stored += await _events(two, second.id)
        await there.until(len(stored))
        await there.stop()
        seen = there.events
    third = await two.eu.calls.send_task("three")  # nobody follows now
    stored += await _events(two, third.id)
    async with following(example, two, EU, cursor) as back:  # the same cursor, at the origin
        await back.until(len(stored) - len(seen))
        await back.stop()
        seen += back.events
    assert sorted(_plain(seen)) == sorted(stored)
    for event in seen:
        validator("event.schema.json").validate(event["event"])
    ends = await two.eu.log.ends()
    kept = json.loads(cursor.read_text())
    assert {int(s): (c["incarnation"], c["epoch"], c["position"]) for s, c in kept.items()} == {
        shard: (end.incarnation, 1, end.position) for shard, end in ends.items() if end.position
    }


async def test_a_node_service_that_has_seen_what_was_lost_with_a_region_misses_nothing_of_the_new_home(
    two: TwoRegions, example: Path, tmp_path: Path
) -> None:
    cursor = tmp_path / "cursor.json"
    kept = await _events(two, (await two.eu.calls.send_task("kept")).id)
    await two.even()
    await two.cut()
    lost = [event for n in range(4) for event in await _events(two, (await two.eu.calls.send_task(f"lost {n}")).id)]
    async with following(example, two, EU, cursor) as there:
        await there.until(len(kept) + len(lost))
        await there.stop()
    await take_over(two.us.connection, Names(two.namespace), EU, domain(EU), lost=True)
    await eventually(lambda: two.us.log._foreign[EU].taken_over, timeout_seconds=20)
    await two.worker(US, EU)
    pinned = await two.gateway(US, tenant_homes=f"*={EU}")
    read = json.loads(cursor.read_text())
    ends = await two.us.log.ends(EU)
    seen = {s: read[str(s)]["position"] if str(s) in read else 0 for s in ends}  # chance may have left a shard empty
    fresh: list[tuple[str, int, str]] = []
    # Until every shard is beyond what the cursor has, so that positions alone would hide what came before.
    while any(end.position <= seen[s] for s, end in (await two.us.log.ends(EU)).items()):
        task_id = (await pinned.calls.send_task("of the new home")).id
        fresh += await _events(two, task_id, two.us)
    async with following(example, two, US, cursor) as back:
        await back.until(len(fresh))
        await back.stop()
    assert sorted(_plain(back.events)) == sorted(fresh)
    assert {place["epoch"] for place in json.loads(cursor.read_text()).values()} == {2}


async def test_a_node_service_notices_a_shard_that_was_added_and_a_log_that_was_made_anew(
    two: TwoRegions, example: Path, tmp_path: Path
) -> None:
    names, more = Names(two.namespace), replace(two.settings(EU), shards=3, regions="")
    async with following(example, two, EU, tmp_path / "cursor.json") as there:
        first = await _events(two, (await two.eu.calls.send_task("one")).id)
        await there.until(len(first))
        await provisioner.run(more)
        task = new_task(two.eu.log, agent="speaker", shard=2)
        await two.eu.log.refresh()
        await append(two.eu.log, task, offered(0), 0)
        await there.until(len(first) + 1)
        assert there.events[-1]["task"] == task.task_id

        await two.eu.connection.api(f"STREAM.DELETE.{names.log_stream(EU, 2)}")
        await provisioner.run(more)
        await two.eu.log.refresh()
        again = new_task(two.eu.log, agent="speaker", shard=2)
        await append(two.eu.log, again, offered(0), 0)
        await there.until(len(first) + 2)
        assert there.events[-1]["task"] == again.task_id
        await there.stop()


async def test_a_node_service_does_not_go_past_a_record_that_it_must_know(
    two: TwoRegions, example: Path, tmp_path: Path
) -> None:
    cursor = tmp_path / "cursor.json"
    task = new_task(two.eu.log, agent="speaker", shard=0)
    plain, strange = offered(0), offered(1)
    header = replace(strange.header, kinds="Q", critical=True)
    await append(two.eu.log, task, replace(strange, header=header), await append(two.eu.log, task, plain, 0))
    async with following(example, two, EU, cursor) as there:
        await there.until(1)
        assert await there.ended() != 0
    assert json.loads(cursor.read_text())["0"]["position"] == 1


def _plain(events: list[dict[str, Any]]) -> list[tuple[str, int, str]]:
    return [(e["task"], e["revision"], json.dumps(e["event"], sort_keys=True)) for e in events]


async def _events(two: TwoRegions, task_id: str, at: Gateway | None = None) -> list[tuple[str, int, str]]:
    return [
        (task_id, revision, json.dumps(json.loads(line), sort_keys=True))
        for record in await (at or two.eu).records(ref(task_id))
        for revision, line in enumerate(record.lines(), record.header.revision)
    ]
