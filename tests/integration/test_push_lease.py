"""Who notifies a task: one at a time, until the broker shows that they are gone; and what may be acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from a2a_events.agents import scripted
from a2a_events.runtime.notification import Notification
from a2a_events.runtime.seal import Seals
from a2a_events.services.webhook_client import WebhookClient
from a2a_events.testing import eventually
from a2a_events.timeline.fold import is_public
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Record, Writer
from tests.integration.receiver import hanging, receiver, taken
from tests.integration.test_push import PATIENT, Site, hook, script, site_of

SIGN_SECONDS = 0.05


class Held:
    """A delivery in the hand of a test, which knows what was said about it."""

    def __init__(self, task: TaskRef, record: Record, count: int = 1) -> None:
        self.task = task
        self.record = record
        self.count = count
        self.said: list[str] = []

    async def acknowledge(self) -> None:
        self.said.append("acknowledged")

    async def in_progress(self) -> bool:
        if "in progress" not in self.said:
            self.said.append("in progress")
        return True

    async def give_back(self) -> None:
        self.said.append("given back")


@pytest.fixture
async def site(nats_url: str, namespace: str) -> AsyncIterator[Site]:
    async with site_of("memory", scripted, nats_url, namespace) as made:
        yield made


@pytest.fixture
async def client() -> AsyncIterator[WebhookClient]:
    made = WebhookClient(allow_private=True)
    yield made
    await made.close()


class Deliveries:
    """The records of one task that wake notifiers."""

    def __init__(self, site: Site, client: WebhookClient, records: list[Record], task_id: str) -> None:
        self._site = site
        self._client = client
        self._records = [record for record in records if record.header.webhooks and is_public(record)]
        self._task = site.stack.ref(task_id)

    def held(self, number: int, count: int = 1) -> Held:
        return Held(self._task, self._records[number], count)

    def notification(self, handle: Held) -> Notification:
        log = self._site.stack.log
        writer = Writer("notifier", "test")
        return Notification(
            log, handle, self._client, Seals(log), writer, persistence=PATIENT, sign_seconds=SIGN_SECONDS
        )

    async def state(self) -> dict[str, Any]:
        content, _ = await self._site.stack.log.notified(self._task)
        return dict(msgspec.json.decode(content)) if content else {}


async def deliveries(site: Site, client: WebhookClient, url: str) -> Deliveries:
    task_id = await site.send(script(chunks=3, delayMs=30), hook(url))
    return Deliveries(site, client, await site.stack.records(task_id), task_id)


async def test_what_was_delivered_is_acknowledged_in_the_end(site: Site, client: WebhookClient) -> None:
    async with receiver() as one:
        of = await deliveries(site, client, one.url)
        first = of.held(0)
        assert await of.notification(first).run()
        assert ["acknowledged"] == [word for word in first.said if word != "in progress"]
        assert "holder" not in await of.state()
        again = of.held(-1, 2)
        count = len(one.received)
        assert await of.notification(again).run()
        assert count == len(one.received)
        assert "acknowledged" in again.said


async def test_a_record_of_a_task_that_another_holds_is_left_to_come_back(site: Site, client: WebhookClient) -> None:
    async with receiver(hanging) as stuck:
        of = await deliveries(site, client, stuck.url)
        first = of.held(0)
        holder = of.notification(first)
        holding = asyncio.create_task(holder.run())
        await eventually(lambda: stuck.open)
        held = await of.state()
        newer = of.held(1)
        assert not await of.notification(newer).run()
        assert newer.said == []

        async def answered() -> bool:
            state = await of.state()
            return (state["holder"], state["lease"]) == (held["holder"], first.record.position)

        await eventually(answered, what="the holder's answer")
        assert not await of.notification(of.held(1, 2)).run()  # it lives: that is no evidence
        assert (await of.state())["holder"] == held["holder"]
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)
        assert "acknowledged" not in first.said


async def test_a_record_that_comes_back_unanswered_is_evidence(site: Site, client: WebhookClient) -> None:
    async with receiver(hanging) as one:
        of = await deliveries(site, client, one.url)
        holding = asyncio.create_task(of.notification(of.held(0)).run())
        await eventually(lambda: one.open)
        holding.cancel()  # as a crash
        await asyncio.gather(holding, return_exceptions=True)
        one.answer = taken
        gone = (await of.state())["holder"]
        assert not await of.notification(of.held(1, 1)).run()
        assert not await of.notification(of.held(1, 1)).run()
        assert gone == (await of.state())["holder"]
        successor = of.held(1, 2)
        assert await of.notification(successor).run()
        assert "acknowledged" in successor.said
        assert "holder" not in await of.state()


async def test_the_holder_s_own_record_that_comes_back_is_evidence_at_once(site: Site, client: WebhookClient) -> None:
    async with receiver(hanging) as one:
        of = await deliveries(site, client, one.url)
        holding = asyncio.create_task(of.notification(of.held(0)).run())
        await eventually(lambda: one.open)
        one.answer = taken
        assert not await of.notification(of.held(0, 1)).run()
        successor = of.held(0, 2)
        assert await of.notification(successor).run()
        assert "acknowledged" in successor.said
        assert await asyncio.wait_for(holding, 10)  # fenced: it has stopped, and sent nothing more
        revisions = [received.revision for received in one.received]
        assert revisions[1:] == sorted(set(revisions))


async def test_of_two_records_the_older_need_not_come_back(site: Site, client: WebhookClient) -> None:
    async with receiver(hanging) as stuck:
        of = await deliveries(site, client, stuck.url)
        first, second, third = of.held(0), of.held(1), of.held(2)
        holder = of.notification(second)
        holding = asyncio.create_task(holder.run())
        await eventually(lambda: stuck.open)
        await holder.cover(first)
        assert first.said == ["acknowledged"]
        assert "acknowledged" not in second.said
        await holder.cover(third)
        assert "acknowledged" in second.said
        assert "acknowledged" not in third.said
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)


async def test_who_is_stopped_is_the_holder_no_more_and_gives_back(site: Site, client: WebhookClient) -> None:
    async def slow(_: object) -> int:
        await asyncio.sleep(0.2)
        return 200

    async with receiver(slow) as one:
        of = await deliveries(site, client, one.url)
        handle = of.held(0)
        notification = of.notification(handle)
        running = asyncio.create_task(notification.run())
        await eventually(lambda: one.open)
        notification.stop()
        assert await running
        assert notification.late is handle
        assert "acknowledged" not in handle.said
        state = await of.state()
        assert "holder" not in state
        [progress] = state["webhooks"].values()
        assert progress["revision"] == one.accepted[-1].revision
