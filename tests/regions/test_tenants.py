"""A tenant's tasks in all regions: exported from any, and none is taken for deleted that lives elsewhere."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from a2a_events.log.jetstream import RegionalLog
from a2a_events.runtime.tenants import delete, tasks_of
from a2a_events.runtime.transfer import export
from a2a_events.services.connect import jetstream_log
from a2a_events.testing import eventually
from a2a_events.timeline.record import Writer
from faults.regions import EU, US, Regions
from tests.contract.logs import new_task, offered

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


async def test_tasks_of_other_regions_are_exported_and_named_as_left() -> None:
    async with Regions() as regions, AsyncExitStack() as exits:
        logs = [
            (await exits.enter_async_context(jetstream_log(regions.settings(region), "test")))[0] for region in (EU, US)
        ]
        mine = [new_task(log, tenant="acme") for log in logs]
        for log, task in zip(logs, mine, strict=True):
            await log.try_append(task, offered(0), 0)
        home = logs[0]
        assert isinstance(home, RegionalLog)

        async def known() -> bool:
            return set(await tasks_of(home, "acme")) == set(mine)

        await eventually(known, timeout_seconds=30, what="the other region's task")
        assert all([(await export(home, task)).records for task in mine])
        done, left = await delete(home, Writer("operator", "test"), "acme", grace_seconds=0.0)
        assert done.tasks == 0
        assert set(left) == set(mine)
