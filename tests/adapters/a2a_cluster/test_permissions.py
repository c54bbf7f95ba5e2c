"""A server of a2a-sdk does its whole job as the NATS user of a gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from a2a.server.cluster import TaskVersion
from a2a.types import AuthenticationInfo, ListTasksRequest, TaskPushNotificationConfig, TaskState

from a2a_events.log.jetstream import Names
from a2a_events.services import provisioner
from a2a_events.services.a2a_cluster import jetstream_cluster
from a2a_events.settings import Settings
from tests.adapters.a2a_cluster.replicas import ALICE, Saver, chunk, new_task, status
from tests.integration.guarded import PASSWORD, guarded

pytestmark = pytest.mark.integration

ROLES = ("gateway", "provisioner")


async def test_it_may_do_what_it_does(tmp_path: Path) -> None:
    async with guarded(tmp_path, Names("a2a"), ROLES, shards=2) as address:

        def settings(role: str) -> Settings:
            return Settings(nats=f"nats://{role}:{PASSWORD}@{address}", shards=2)

        await provisioner.run(settings("provisioner"))
        async with jetstream_cluster("agent", settings("gateway")) as cluster:
            saver = Saver(cluster.task_store, new_task())
            await saver.save(saver.task)
            events = cluster.event_stream.subscribe("task-1", after=TaskVersion.MISSING)
            async with asyncio.timeout(20):
                await anext(events)
                await saver.save(chunk(saver.task, "x" * 900_000, append=False))
                await anext(events)
            await events.aclose()
            secret = TaskPushNotificationConfig(
                url="https://example.com",
                token="t",
                authentication=AuthenticationInfo(scheme="Bearer", credentials="c"),
            )
            await cluster.push_config_store.set_info("task-1", secret, ALICE)
            assert (await cluster.push_config_store.get_info("task-1", ALICE))[0].token == "t"
            assert (await cluster.task_store.list(ListTasksRequest(), ALICE)).total_size == 1
            await saver.save(status(saver.task, TaskState.TASK_STATE_COMPLETED))
            await cluster.task_store.delete("task-1", ALICE)
            assert await cluster.task_store.get("task-1", ALICE) is None
