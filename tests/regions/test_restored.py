"""A log that is restored at home: no mirror goes on after the records that were lost."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from a2a_events.log.jetstream import Connection, JetStreamLog, Names
from a2a_events.log.jetstream.mirrors import streams_beside
from a2a_events.log.jetstream.streams import ProvisionError
from a2a_events.services import backup, provisioner
from a2a_events.services.connect import jetstream_log, names
from a2a_events.settings import Settings
from a2a_events.testing import eventually
from a2a_events.timeline.ids import TaskRef
from faults.regions import EU, US, Regions
from tests.contract.logs import new_task, offered, read_all

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


async def deleted(settings: Settings, log: str, streams: list[str]) -> None:
    connection = Connection(settings.servers, name="test")
    await connection.open()
    for stream in streams:
        answer = await connection.api(f"STREAM.DELETE.{stream}")
        assert answer.get("success"), (log, answer)
    await connection.close()


def streams_of(of: Names, log: str, shards: int) -> list[str]:
    return [*(of.log_stream(log, shard) for shard in range(shards)), *streams_beside(of, log)]


async def test_mirrors_of_before_are_refused_until_they_are_made_anew(tmp_path: Path) -> None:
    async with Regions() as regions, AsyncExitStack() as exits:
        home, abroad = regions.settings(EU), regions.settings(US)
        log, _ = await exits.enter_async_context(jetstream_log(home, "test"))
        streams = streams_of(names(home), EU, home.shards)
        kept, lost = new_task(log), new_task(log)
        await log.try_append(kept, offered(0), 0)
        await backup.save(home, tmp_path / "b")
        await log.try_append(lost, offered(0), 0)
        elsewhere, _ = await exits.enter_async_context(jetstream_log(abroad, "test"))
        await reached(elsewhere, lost)

        await deleted(home, EU, streams)
        await backup.restore(home, tmp_path / "b")
        snapshots = names(home).snapshot_stream(EU)
        with pytest.raises(ProvisionError, match=r"before a backup was restored there: delete it"):
            await provisioner.run(abroad)
        await deleted(abroad, EU, [stream for stream in streams if stream != snapshots])
        with pytest.raises(ProvisionError, match=f"{snapshots} mirrors what .* before a backup was restored"):
            await provisioner.run(abroad)
        await deleted(abroad, EU, [snapshots])
        await provisioner.run(abroad)

        log, _ = await exits.enter_async_context(jetstream_log(home, "test"))
        later = new_task(log)
        await log.try_append(later, offered(0), 0)
        elsewhere, _ = await exits.enter_async_context(jetstream_log(abroad, "test"))
        await reached(elsewhere, later)
        assert len(await read_all(elsewhere, kept)) == 1
        assert await read_all(elsewhere, lost) == []


async def reached(log: JetStreamLog, task: TaskRef) -> None:
    async def there() -> bool:
        return len(await read_all(log, task)) == 1

    await eventually(there, timeout_seconds=30, what="a record in the mirror")
