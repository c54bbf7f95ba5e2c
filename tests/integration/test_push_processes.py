"""Real notifiers, killed in mid-delivery: everything comes, in order, and only the seam is repeated."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import pytest

from a2a_events.testing import Deployment, eventually
from tests.integration.http import client, message
from tests.integration.receiver import Received, Receiver, receiver
from tests.integration.test_push import assert_in_order

pytestmark = [pytest.mark.integration, pytest.mark.processes, pytest.mark.timeout(120)]

SETTINGS = {"ack_wait_seconds": "2", "push_allow_private": "true", "push_pause_seconds": "0.1", "push_attempts": "100"}


@pytest.fixture
async def deployment(nats_url: str) -> AsyncIterator[Deployment]:
    async with Deployment(nats_url, notifiers=1, settings=SETTINGS) as made:
        yield made


async def send(http: httpx.AsyncClient, to: Receiver, **script: Any) -> str:
    config = {"url": to.url, "token": "t-1", "authentication": {"scheme": "Bearer", "credentials": "c-1"}}
    configuration = {"returnImmediately": True, "taskPushNotificationConfig": config}
    answer = await http.post("/message:send", json={**message({"script": script}), "configuration": configuration})
    assert answer.status_code == 200, answer.text
    task_id: str = answer.json()["task"]["id"]
    return task_id


def _more_than(one: Receiver, count: int) -> bool:
    return len(one.accepted) > count


def ended(received: list[Received]) -> bool:
    last = received[-1].update.status_update if received else None
    return last is not None and last.status.state.value == "TASK_STATE_COMPLETED"


def chunks(received: list[Received]) -> list[int]:
    """The numbers that ``scripted`` put into its chunks, each the first time that it came."""
    updates = {one.revision: one.update.artifact_update for one in received}
    return [int(str(u.artifact.parts[0].text).split()[0]) for u in updates.values() if u is not None]


async def test_notifiers_killed_in_mid_delivery_lose_and_reorder_nothing(deployment: Deployment) -> None:
    async with receiver() as one, client(deployment.gateways[0].url) as http:
        task_ids = [await send(http, one, chunks=60, delayMs=30) for _ in range(3)]
        for kills in range(2):
            await eventually(partial(_more_than, one, len(one.accepted) + 15), timeout_seconds=30)
            deployment.notifiers[kills].kill()
            await deployment.add_notifier()
        await eventually(lambda: all(ended(one.of(task_id)) for task_id in task_ids), timeout_seconds=60)
        for task_id in task_ids:
            received = one.of(task_id)
            assert chunks(received) == list(range(60))
            assert_in_order([r.revision for r in received], sorted({r.revision for r in received}), seams=2)
            assert {r.headers["authorization"] for r in received} == {"Bearer c-1"}


@pytest.mark.slow
async def test_the_other_notifier_takes_over_from_one_that_is_killed(deployment: Deployment) -> None:
    await deployment.add_notifier()
    async with receiver() as one, client(deployment.gateways[0].url) as http:
        task_ids = [await send(http, one, chunks=40, delayMs=30) for _ in range(6)]
        await eventually(lambda: len(one.accepted) > 30, timeout_seconds=30)
        deployment.notifiers[0].kill()
        await eventually(lambda: all(ended(one.of(task_id)) for task_id in task_ids), timeout_seconds=60)
        for task_id in task_ids:
            received = one.of(task_id)
            assert chunks(received) == list(range(40))
            assert_in_order([r.revision for r in received], sorted({r.revision for r in received}), seams=1)
        assert await deployment.notifiers[1].stop() == 0
