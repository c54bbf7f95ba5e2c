"""Webhooks of a2a-sdk's tasks: kept with their tasks, sealed, and called by a2a-sdk's sender or by our notifier."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.tasks import BasePushNotificationSender, PushNotificationConfigStore
from a2a.types import (
    AuthenticationInfo,
    SendMessageConfiguration,
    SendMessageRequest,
    Task,
    TaskPushNotificationConfig,
    TaskState,
)
from a2a.utils.errors import InvalidParamsError, TaskNotFoundError

from a2a_events import limits
from a2a_events.services import notifier
from a2a_events.services.connect import jetstream_log
from a2a_events.testing import eventually
from tests.adapters.a2a_cluster.replicas import (
    ALICE,
    BOB,
    JETSTREAM,
    Completing,
    Replica,
    Saver,
    new_task,
    replicas,
    said,
    settings_for,
    status,
)
from tests.integration.receiver import receiver

Pair = tuple[Replica, Replica]


def config(config_id: str = "c-1", url: str = "https://example.com/hook", **given: Any) -> TaskPushNotificationConfig:
    return TaskPushNotificationConfig(id=config_id, url=url, **given)


SECRET = config(
    token="token-1",
    authentication=AuthenticationInfo(scheme="Bearer", credentials="credentials-1"),
    tenant="tenant-1",
    task_id="task-1",
)


def stores(pair: Pair) -> tuple[PushNotificationConfigStore, PushNotificationConfigStore]:
    assert pair[0].push is not None
    assert pair[1].push is not None
    return pair[0].push, pair[1].push


async def begun(replica: Replica) -> Saver:
    saver = Saver(replica.store, new_task())
    await saver.save(saver.task)
    return saver


async def test_a_webhook_that_is_set_at_one_replica_is_known_at_the_other(ours: Pair) -> None:
    one, other = stores(ours)
    await begun(ours[0])

    assert await one.set_info("task-1", SECRET, ALICE) == SECRET
    assert await other.get_info("task-1", ALICE) == [SECRET]
    assert await other.get_info_for_dispatch("task-1") == [SECRET]


async def test_a_webhook_without_an_id_has_its_task_s(ours: Pair) -> None:
    one, other = stores(ours)
    await begun(ours[0])
    await one.set_info("task-1", config(""), ALICE)

    assert [c.id for c in await other.get_info("task-1", ALICE)] == ["task-1"]


async def test_a_webhook_of_the_same_id_takes_the_place_of_the_first(ours: Pair) -> None:
    one, other = stores(ours)
    await begun(ours[0])
    await one.set_info("task-1", config(url="https://example.com/old"), ALICE)
    await other.set_info("task-1", config(url="https://example.com/new"), ALICE)
    await other.set_info("task-1", config("c-2"), ALICE)

    assert [(c.id, c.url) for c in await one.get_info("task-1", ALICE)] == [
        ("c-1", "https://example.com/new"),
        ("c-2", "https://example.com/hook"),
    ]


@pytest.mark.parametrize("saved", [False, True], ids=["before its task", "with its task"])
async def test_webhooks_are_deleted_one_by_one_or_all(ours: Pair, saved: bool) -> None:
    one, _ = stores(ours)
    if saved:
        await begun(ours[0])
    for number in range(3):
        await one.set_info("task-1", config(f"c-{number}"), ALICE)
    await one.delete_info("task-1", ALICE, "c-1")
    await one.delete_info("task-1", ALICE, "no such")
    assert [c.id for c in await one.get_info("task-1", ALICE)] == ["c-0", "c-2"]

    await one.delete_info("task-1", ALICE)
    await one.delete_info("task-1", ALICE)
    assert await one.get_info("task-1", ALICE) == []
    assert await one.get_info_for_dispatch("task-1") == []


@pytest.mark.parametrize("saved", [False, True], ids=["before its task", "with its task"])
async def test_a_webhook_is_shown_to_its_owner_and_to_who_calls_it(ours: Pair, saved: bool) -> None:
    one, _ = stores(ours)
    if saved:
        await begun(ours[0])
    await one.set_info("task-1", config(), ALICE)

    assert await one.get_info("task-1", BOB) == []
    await one.delete_info("task-1", BOB)
    assert [c.id for c in await one.get_info_for_dispatch("task-1")] == ["c-1"]


async def test_nobody_sets_a_webhook_on_a_task_of_somebody_else_or_that_was_deleted(ours: Pair) -> None:
    one, other = stores(ours)
    await begun(ours[0])
    with pytest.raises(TaskNotFoundError):
        await other.set_info("task-1", config(), BOB)
    await ours[0].store.delete("task-1", ALICE)
    with pytest.raises(TaskNotFoundError):
        await one.set_info("task-1", config(), ALICE)
    assert await one.get_info_for_dispatch("task-1") == []


async def test_a_task_has_so_many_webhooks_and_no_more(ours: Pair) -> None:
    one, _ = stores(ours)
    await begun(ours[0])
    for number in range(limits.WEBHOOKS):
        await one.set_info("task-1", config(f"c-{number}"), ALICE)
    with pytest.raises(InvalidParamsError):
        await one.set_info("task-1", config("one more"), ALICE)
    await one.set_info("task-1", config("c-0"), ALICE)


async def test_a_webhook_that_comes_with_the_first_message_is_stored_with_the_task(ours: Pair) -> None:
    one, other = stores(ours)
    await one.set_info("task-1", SECRET, ALICE)
    await one.set_info("task-1", config("bob's"), BOB)
    assert await one.get_info("task-1", ALICE) == [SECRET]
    assert await other.get_info("task-1", ALICE) == []
    await begun(ours[0])

    assert await other.get_info_for_dispatch("task-1") == [SECRET]


async def test_the_log_holds_no_secret(ours: Pair) -> None:
    await begun(ours[0])
    await stores(ours)[0].set_info("task-1", SECRET, ALICE)
    assert ours[0].cluster is not None
    log = await ours[0].cluster._journal.log()
    payloads = [s.record.payload for shard in (await log.ends()) async for b in log.scan(shard, 1, 99) for s in b]

    assert any(b"pushConfigSet" in payload for payload in payloads)
    assert not any(b"token-1" in payload or b"credentials-1" in payload for payload in payloads)


def asking_to(url: str) -> SendMessageRequest:
    return SendMessageRequest(
        message=said("go"),
        configuration=SendMessageConfiguration(
            task_push_notification_config=TaskPushNotificationConfig(
                url=url, token="t-1", authentication=AuthenticationInfo(scheme="Bearer", credentials="c-1")
            )
        ),
    )


async def test_a2a_sdk_s_own_sender_calls_webhooks(ours: Pair) -> None:
    async with receiver() as one, httpx.AsyncClient() as http:
        sender = BasePushNotificationSender(http, stores(ours)[0])
        handler = ours[0].handler(Completing(), push_sender=sender)
        await handler.on_message_send(asking_to(one.url), ALICE)
        await handler.aclose()

        assert len(one.accepted) == 4
        assert {r.headers["authorization"] for r in one.accepted} == {"Bearer c-1"}


@pytest.mark.integration
async def test_our_notifier_calls_webhooks_of_a2a_sdk_s_tasks(tmp_path: Path, nats_url: str, namespace: str) -> None:
    settings = settings_for(nats_url, namespace, push_allow_private=True)
    stop = asyncio.Event()
    async with (
        replicas(JETSTREAM, tmp_path, nats_url, namespace) as pair,
        receiver() as one,
        jetstream_log(settings, "notifier") as (log, _),
        asyncio.TaskGroup() as services,
    ):
        services.create_task(notifier.serve(log, settings, stop))
        handler: DefaultRequestHandler = pair[0].handler(Completing())
        task = await handler.on_message_send(asking_to(one.url), ALICE)
        assert isinstance(task, Task)
        await eventually(lambda: len(one.accepted) == 4)
        stop.set()
        await handler.aclose()

    updates = [r.update for r in one.accepted]
    assert [u.status_update.status.state.name for u in updates if u.status_update] == [
        "SUBMITTED",
        "WORKING",
        "COMPLETED",
    ]
    assert updates[2].artifact_update is not None
    assert updates[2].artifact_update.task_id == task.id
    assert {r.headers["authorization"] for r in one.accepted} == {"Bearer c-1"}


async def test_a_task_with_webhooks_goes_on_being_saved(ours: Pair) -> None:
    saver = await begun(ours[0])
    await stores(ours)[1].set_info("task-1", SECRET, ALICE)
    await saver.save(status(saver.task, TaskState.TASK_STATE_WORKING))
    await stores(ours)[1].delete_info("task-1", ALICE)
    await saver.save(status(saver.task, TaskState.TASK_STATE_COMPLETED))

    found = await ours[1].store.get("task-1", ALICE)
    assert found is not None
    assert found.task == saver.task
