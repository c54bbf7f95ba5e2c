"""Webhooks: every update, to every one of them, in order, whatever happens on the way."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from a2a_events import Turn, agent, limits
from a2a_events.agents import scripted
from a2a_events.errors import A2AError, InvalidParamsError, PushNotificationNotSupportedError, TaskNotFoundError
from a2a_events.log.jetstream import Connection
from a2a_events.log.port import Log
from a2a_events.model import (
    AgentCapabilities,
    AuthenticationInfo,
    DeleteTaskPushNotificationConfigRequest,
    GetTaskPushNotificationConfigRequest,
    ListTaskPushNotificationConfigsRequest,
    Message,
    Part,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    TaskPushNotificationConfig,
)
from a2a_events.runtime.agent import Agent
from a2a_events.runtime.caller import Caller
from a2a_events.runtime.directory import ServedAgent
from a2a_events.runtime.notification import Persistence
from a2a_events.runtime.notifier import Notifier
from a2a_events.runtime.operations import Operations
from a2a_events.runtime.seal import Seals
from a2a_events.services.webhook_client import WebhookClient
from a2a_events.testing import eventually
from a2a_events.timeline import cursor as cursors
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Draft, Writer
from tests.integration.receiver import Receiver, answering, hanging, receiver, refusing
from tests.integration.stack import ACK_WAIT_SECONDS, Stack, stack_of

pytestmark = pytest.mark.integration

PERSISTENCE = Persistence(attempts=4, pause_seconds=0.01)
PATIENT = Persistence(attempts=1000, pause_seconds=0.05, longest_pause_seconds=0.2)
SECRET, CREDENTIALS = "token-f00dfeed", "credentials-c0ffee"


def pushing(of: Agent) -> Agent:
    """The agent, with a card that offers push notifications."""
    return replace(of, card=replace(of.card, capabilities=AgentCapabilities(streaming=True, push_notifications=True)))


@agent(name="asker", linger_seconds=0)
async def asker(turn: Turn) -> None:
    """Says a few things, and asks for more until it is told to stop."""
    for number in range(3):
        await turn.chunk(f"said-{turn.text}", str(number), last=number == 2)
        await turn.flush()
    if turn.text != "stop":
        turn.require_input("and?")


class RunningNotifier:
    """A notifier under test, on a log of its own connection."""

    def __init__(self, log: Log, persistence: Persistence, ack_wait_seconds: float) -> None:
        self.client = WebhookClient(allow_private=True)
        self.notifier = Notifier(
            log,
            self.client,
            Seals(log),
            Writer("notifier", f"notifier-{os.urandom(3).hex()}"),
            persistence=persistence,
            ack_wait_seconds=ack_wait_seconds,
        )
        self.task = asyncio.create_task(self.notifier.run())

    async def stop(self) -> None:
        self.notifier.stop()
        await asyncio.wait_for(self.task, 30)
        await self.client.close()

    async def vanish(self) -> None:
        """As a crash: nothing more is said, neither to the log nor to the broker."""
        running = [task for _, task in self.notifier._running.values()]
        self.notifier._stopping.set()
        for task in [*running, self.task]:
            task.cancel()
        await asyncio.gather(self.task, *running, return_exceptions=True)
        await self.client.close()


class Site:
    """A stack whose agent offers push notifications, and what a client of it does."""

    def __init__(self, stack: Stack, logs: list[Log], ack_wait_seconds: float) -> None:
        self.stack = stack
        self._ack_wait_seconds = ack_wait_seconds
        self._logs = logs
        self.operations: Operations = stack.calls._operations
        self.agent = ServedAgent(stack.agent.name, stack.agent.card, stack.agent.replies)
        self.notifiers: list[RunningNotifier] = []

    async def notifier(self, persistence: Persistence = PERSISTENCE) -> RunningNotifier:
        log = self._logs[len(self.notifiers) % len(self._logs)]
        made = RunningNotifier(log, persistence, self._ack_wait_seconds)
        self.notifiers.append(made)
        return made

    async def send(
        self, content: Any, hook: TaskPushNotificationConfig | None = None, *, task_id: str = "", wait: bool = True
    ) -> str:
        """The task's id, once it rests or has ended."""
        part = Part(text=content) if isinstance(content, str) else Part(data=content)
        message = Message(message_id=os.urandom(6).hex(), role=Role.USER, parts=(part,), task_id=task_id)
        configuration = SendMessageConfiguration(task_push_notification_config=hook, return_immediately=not wait)
        request = SendMessageRequest(message=message, configuration=configuration)
        return (await self.operations.send(Caller(), self.agent, request)).task_id

    async def create(self, task_id: str, hook: TaskPushNotificationConfig) -> TaskPushNotificationConfig:
        configs = self.operations.push_configs
        made = await configs.create(Caller(), self.agent, replace(hook, task_id=task_id))
        return msgspec.json.decode(made.json, type=TaskPushNotificationConfig)

    async def expected(self, task_id: str, after: int = 0) -> list[tuple[int, bytes]]:
        """Revision and line of every update that a webhook set at a revision is to get."""
        return [update for record in await self.stack.records(task_id) for update in record.updates(after)]

    async def got_all(self, to: Receiver, task_id: str, after: int = 0) -> None:
        """Wait until everything was accepted, and see that it came in order and as it stands in the log."""
        expected = await self.expected(task_id, after)
        assert expected
        await eventually(lambda: len(to.of(task_id)) >= len(expected), timeout_seconds=30, what="the last update")
        assert expected == [(one.revision, one.body) for one in to.of(task_id)]


def hook(to: Receiver | str, config_id: str = "", **members: Any) -> TaskPushNotificationConfig:
    return TaskPushNotificationConfig(url=to if isinstance(to, str) else to.url, id=config_id, **members)


def script(**members: Any) -> dict[str, Any]:
    return {"script": members}


@asynccontextmanager
async def site_of(
    kind: str, of: Agent, url: str, namespace: str, *, ack_wait_seconds: float = ACK_WAIT_SECONDS
) -> AsyncIterator[Site]:
    async with stack_of(kind, pushing(of), url, namespace, ack_wait_seconds=ack_wait_seconds) as stack:
        await stack.worker()
        site = Site(stack, stack._logs[:2], ack_wait_seconds)
        try:
            yield site
        finally:
            for one in site.notifiers:
                if not one.task.done():
                    await one.vanish()


@pytest.fixture
async def site(nats_url: str, namespace: str) -> AsyncIterator[Site]:
    async with site_of("jetstream", scripted, nats_url, namespace) as made:
        yield made


@pytest.fixture
async def local(nats_url: str, namespace: str) -> AsyncIterator[Site]:
    """A site over a memory log, for what is decided before anything is stored."""
    async with site_of("memory", scripted, nats_url, namespace) as made:
        yield made


@pytest.fixture
async def talk(nats_url: str, namespace: str) -> AsyncIterator[Site]:
    """A site whose agent asks for more."""
    async with site_of("jetstream", asker, nats_url, namespace) as made:
        yield made


# --- what is delivered ------------------------------------------------------------------------------------------------


async def test_a_webhook_that_came_with_the_message_gets_every_update_as_it_is(site: Site) -> None:
    await site.notifier()
    async with receiver() as one:
        asked = hook(one, token=SECRET, authentication=AuthenticationInfo(scheme="Bearer", credentials=CREDENTIALS))
        task_id = await site.send(script(chunks=5, delayMs=5), asked)
        await site.got_all(one, task_id)

    for received in one.received:
        assert received.path == "/hook"
        assert received.headers["content-type"] == "application/a2a+json"
        assert received.headers["authorization"] == f"Bearer {CREDENTIALS}"
        assert received.headers["x-a2a-notification-token"] == SECRET
        assert received.headers["host"] == f"127.0.0.1:{one.port}"
    last = one.received[-1].update.status_update
    assert last is not None
    assert last.status.state.value == "TASK_STATE_COMPLETED"


async def test_without_secrets_none_are_sent(site: Site) -> None:
    await site.notifier()
    async with receiver() as one:
        task_id = await site.send("hello", hook(one, authentication=AuthenticationInfo(scheme="Bearer")))
        await site.got_all(one, task_id)

    assert not {"authorization", "x-a2a-notification-token"} & set(one.received[0].headers)


async def test_a_bare_message_is_delivered_too(site: Site) -> None:
    await site.notifier()
    async with receiver() as one:
        await site.send(script(message=True), hook(one))
        await eventually(lambda: one.accepted)

    assert one.accepted[0].update.message is not None


async def test_a_webhook_gets_what_comes_after_it_was_set(talk: Site) -> None:
    await talk.notifier()
    async with receiver() as early, receiver() as late:
        task_id = await talk.send("one", hook(early))
        await talk.create(task_id, hook(late))
        set_at = (await talk.stack.records(task_id))[-1].header.last_revision
        await talk.send("two", task_id=task_id)
        await talk.send("stop", task_id=task_id)
        await talk.got_all(early, task_id)
        await talk.got_all(late, task_id, set_at)

    assert len(late.received) < len(early.received)


async def test_every_webhook_has_its_own_order_and_pace(talk: Site) -> None:
    await talk.notifier()

    async def slow(_: object) -> int:
        await asyncio.sleep(0.02)
        return 202

    async with receiver() as fast, receiver(slow) as other, receiver(answering(500, 200, 503)) as third:
        task_id = await talk.send("one", hook(fast, "a"))
        begun = (await talk.stack.records(task_id))[-1].header.last_revision
        await talk.create(task_id, hook(other, "b"))
        await talk.create(task_id, hook(third, "c"))
        await talk.send("stop", task_id=task_id)
        await talk.got_all(fast, task_id)
        await talk.got_all(other, task_id, begun)
        await talk.got_all(third, task_id, begun)


async def test_a_deleted_webhook_gets_nothing_more_and_the_others_go_on(talk: Site) -> None:
    await talk.notifier()
    async with receiver() as gone, receiver() as stays:
        task_id = await talk.send("one", hook(stays, "stays"))
        begun = (await talk.stack.records(task_id))[-1].header.last_revision
        await talk.create(task_id, hook(gone, "gone"))
        request = DeleteTaskPushNotificationConfigRequest(task_id=task_id, id="gone")
        await talk.operations.push_configs.delete(Caller(), talk.agent, request)
        await talk.send("stop", task_id=task_id)
        await talk.got_all(stays, task_id)

    assert begun
    assert gone.received == []


async def test_one_set_anew_gets_what_comes_after_that_at_its_new_address(talk: Site) -> None:
    await talk.notifier()
    async with receiver() as old, receiver() as new:
        task_id = await talk.send("one", hook(old, "a"))
        await talk.got_all(old, task_id)
        before = len(old.received)
        await talk.create(task_id, hook(new, "a"))
        moved_at = (await talk.stack.records(task_id))[-1].header.last_revision
        await talk.send("stop", task_id=task_id)
        await talk.got_all(new, task_id, moved_at)

    assert len(old.received) == before


async def test_notifiers_that_start_late_find_what_is_owed(site: Site) -> None:
    async with receiver() as one:
        task_ids = [await site.send(script(chunks=3), hook(one)) for _ in range(5)]
        assert one.received == []
        await site.notifier()
        for task_id in task_ids:
            await site.got_all(one, task_id)


# --- webhooks that do not take it -------------------------------------------------------------------------------------


async def test_an_attempt_that_failed_is_made_again_before_anything_else_is_sent(site: Site) -> None:
    await site.notifier()
    async with receiver(answering(500, 0, 429, 200, 503, 404)) as one:
        task_id = await site.send(script(chunks=4, delayMs=5), hook(one))
        await site.got_all(one, task_id)

    first, second = [revision for revision, _ in await site.expected(task_id)][:2]
    assert [first] * 4 + [second] * 3 == [received.revision for received in one.received][:7]


async def test_a_dead_webhook_is_given_up_after_so_many_attempts_beside_a_live_one(talk: Site) -> None:
    await talk.notifier()
    async with receiver(refusing) as dead, receiver() as live:
        task_id = await talk.send("one", hook(live, "live"))
        await talk.create(task_id, hook(dead, "dead"))
        await talk.send("two", task_id=task_id)
        await eventually(lambda: _letters(talk, task_id), what="the dead letter")
        await talk.send("stop", task_id=task_id)
        await talk.got_all(live, task_id)
        assert len(dead.received) == PERSISTENCE.attempts
        assert len({received.revision for received in dead.received}) == 1
        [letter] = await _letters(talk, task_id)

        assert (letter.config, letter.revision, letter.attempts) == ("dead", dead.received[0].revision, 4)
        assert letter.reason == "it answered 500"


async def test_a_webhook_that_was_given_up_lives_again_when_it_is_set_again(talk: Site) -> None:
    await talk.notifier()
    async with receiver(answering(500, 500, 500, 500)) as one:
        task_id = await talk.send("one", hook(one, "a"))
        await eventually(lambda: _letters(talk, task_id), what="the dead letter")
        await talk.send("two", task_id=task_id)
        await talk.create(task_id, hook(one, "a"))
        again = (await talk.stack.records(task_id))[-1].header.last_revision
        await talk.send("stop", task_id=task_id)
        await talk.got_all(one, task_id, again)


async def test_a_webhook_that_dies_at_the_end_of_its_task_is_given_up_too(site: Site) -> None:
    await site.notifier()
    async with receiver(refusing) as dead:
        task_id = await site.send("hello", hook(dead))
        await eventually(lambda: _letters(site, task_id), what="the dead letter")

    assert (await site.stack.kinds(task_id)).endswith("Sl")


class LateNews:
    """A log whose writer of a dead letter is told of it when everybody else has seen it."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.seen: Callable[[TaskRef], bool] = lambda _: True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def try_append(self, task: TaskRef, draft: Draft, expected: int, *, trace: str = "") -> int:
        position = await self._log.try_append(task, draft, expected, trace=trace)
        if "l" in draft.header.kinds:
            await eventually(lambda: self.seen(task), what="the dead letter")
        return position


async def test_an_operator_is_told_of_every_webhook_that_is_given_up(local: Site) -> None:
    log = LateNews(local.stack._logs[0])
    running = RunningNotifier(cast("Log", log), PERSISTENCE, ACK_WAIT_SECONDS)
    log.seen = lambda task: not running.notifier._running[task][0]._senders
    with capture_logs() as lines:
        async with receiver(refusing) as dead:
            task_id = await local.send("hello", hook(dead, "dead"))
            await eventually(lambda: _letters(local, task_id), what="the dead letter")
            await running.stop()
    [told] = [line for line in lines if line["event"] == "webhook given up"]
    assert (told["config"], told["attempts"], told["reason"]) == ("dead", 4, "it answered 500")


async def _letters(site: Site, task_id: str) -> list[Any]:
    records = await site.stack.records(task_id)
    return [e for r in records for code, e in zip(r.header.kinds, r.events(), strict=True) if code == "l"]


async def test_webhooks_that_hang_delay_neither_other_tasks_nor_others_of_their_task(
    talk: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WEBHOOK_CONNECTIONS_PER_ORIGIN", 2)
    await talk.notifier()
    async with receiver(hanging) as stuck, receiver() as live:
        for _ in range(4):
            await talk.send("one", hook(stuck))
        await eventually(lambda: stuck.open == 2)
        task_id = await talk.send("one", hook(live, "live"))
        await talk.create(task_id, hook(stuck, "stuck"))
        await talk.send("stop", task_id=task_id)
        await talk.got_all(live, task_id)
        assert (stuck.open, stuck.accepted) == (2, [])


async def test_a_redirect_is_not_followed(site: Site) -> None:
    await site.notifier()
    async with receiver() as inside, receiver(answering(302, 307, 308, 301), location=inside.url) as one:
        task_id = await site.send("hello", hook(one))
        await eventually(lambda: _letters(site, task_id), what="the dead letter")
        [letter] = await _letters(site, task_id)

        assert letter.reason == "it answered 301"
        assert inside.connections == 0


# --- notifiers that come and go ---------------------------------------------------------------------------------------


async def test_a_notifier_that_is_stopped_hands_over_without_repeating_anything(site: Site) -> None:
    first = await site.notifier(PATIENT)
    async with receiver() as one:
        task_id = await site.send(script(chunks=60, delayMs=10), hook(one), wait=False)
        await eventually(lambda: len(one.accepted) > 10)
        await first.stop()
        await site.notifier(PATIENT)
        await eventually(lambda: _ended(site, task_id), timeout_seconds=30)
        await site.got_all(one, task_id)

    assert len(one.received) == len(one.accepted)


async def test_a_notifier_that_vanishes_is_replaced_and_only_the_seam_is_repeated(site: Site) -> None:
    first = await site.notifier(PATIENT)
    async with receiver() as one:
        task_id = await site.send(script(chunks=60, delayMs=10), hook(one), wait=False)
        await eventually(lambda: len(one.accepted) > 10)
        await first.vanish()
        await site.notifier(PATIENT)
        await eventually(lambda: _ended(site, task_id), timeout_seconds=30)
        expected = [revision for revision, _ in await site.expected(task_id)]
        await eventually(lambda: one.revisions and one.revisions[-1] == expected[-1], timeout_seconds=30)

    assert_in_order(one.revisions, expected, seams=1)


async def test_attempts_are_counted_across_notifiers(talk: Site) -> None:
    persistence = Persistence(attempts=6, pause_seconds=0.05, longest_pause_seconds=0.05)
    first = await talk.notifier(persistence)
    async with receiver(refusing) as dead:
        task_id = await talk.send("one", hook(dead))
        await eventually(lambda: len(dead.received) >= 3)
        await first.stop()
        assert not await _letters(talk, task_id)
        await talk.notifier(persistence)
        await eventually(lambda: _letters(talk, task_id), timeout_seconds=30, what="the dead letter")

        assert len(dead.received) == 6


@pytest.mark.parametrize("kind", ["memory", "jetstream"])
async def test_two_notifiers_share_tasks_and_repeat_and_reorder_nothing(
    kind: str, nats_url: str, namespace: str
) -> None:
    async with site_of(kind, scripted, nats_url, namespace) as site:
        await _share(site)


async def _share(site: Site) -> None:
    await site.notifier(PATIENT)
    await site.notifier(PATIENT)
    async with receiver() as one, receiver(answering(500, 503, 500)) as other:
        sending = [site.send(script(chunks=15, delayMs=8), hook((one, other)[n % 2])) for n in range(12)]
        task_ids = await asyncio.gather(*sending)
        for number, task_id in enumerate(task_ids):
            await site.got_all((one, other)[number % 2], task_id)

    assert len(one.received) == len(one.accepted)


async def test_nothing_is_owed_and_nothing_is_held_in_the_end(site: Site) -> None:
    """Every delivery is acknowledged, so a later notifier finds nothing to do."""
    first, second = await site.notifier(), await site.notifier()
    async with receiver() as one:
        task_ids = [await site.send(script(chunks=10, delayMs=5), hook(one)) for _ in range(4)]
        for task_id in task_ids:
            await site.got_all(one, task_id)
        await eventually(lambda: not first.notifier._running and not second.notifier._running)
        for task_id in task_ids:
            content, _ = await site.stack.log.notified(site.stack.ref(task_id))
            assert b"holder" not in content
        count = len(one.received)
        await first.stop()
        await second.stop()
        await site.notifier()
        await asyncio.sleep(ACK_WAIT_SECONDS * 2)  # absence can only be waited for

        assert len(one.received) == count


async def _ended(site: Site, task_id: str) -> bool:
    kinds = await site.stack.kinds(task_id)
    return kinds.endswith("S") and "e" in kinds


def assert_in_order(revisions: list[int], expected: list[int], seams: int) -> None:
    """Everything came, in order; at each seam the last one may have come twice."""
    assert sorted(set(revisions)) == expected
    assert revisions == sorted(revisions)
    assert len(revisions) - len(set(revisions)) <= seams


# --- the four operations ----------------------------------------------------------------------------------------------


async def test_secrets_are_shown_to_nobody_again(local: Site) -> None:
    configs, task_id = local.operations.push_configs, await local.send("hello")
    asked = hook(
        "https://example.com/hook",
        "mine",
        token=SECRET,
        authentication=AuthenticationInfo(scheme="Bearer", credentials=CREDENTIALS),
    )
    assert replace(asked, task_id=task_id) == await local.create(task_id, asked)
    got = await configs.get(Caller(), local.agent, GetTaskPushNotificationConfigRequest(task_id=task_id, id="mine"))
    listed = await configs.page(Caller(), local.agent, ListTaskPushNotificationConfigsRequest(task_id=task_id))
    shown = msgspec.json.decode(got.json)

    assert shown == {
        "id": "mine",
        "taskId": task_id,
        "url": "https://example.com/hook",
        "authentication": {"scheme": "Bearer"},
    }
    assert msgspec.json.decode(listed.json) == {"configs": [shown]}


async def test_secrets_stand_nowhere_in_the_log_in_the_clear(nats_url: str, namespace: str) -> None:
    async with site_of("jetstream", asker, nats_url, namespace) as site, receiver() as one:
        await site.notifier()
        secrets = {"token": SECRET, "authentication": AuthenticationInfo(scheme="Bearer", credentials=CREDENTIALS)}
        task_id = await site.send("one", hook(one, "a", **secrets))
        await site.create(task_id, hook(one, "b", **secrets))
        await site.send("stop", hook(one, "c", **secrets), task_id=task_id)
        await eventually(lambda: {r.headers["authorization"] for r in one.accepted} == {f"Bearer {CREDENTIALS}"})
        stored = [message async for message in every_message(nats_url, namespace)]

    assert len(stored) > 10
    assert any(b"pushConfigSet" in message for message in stored)
    for secret in (SECRET.encode(), CREDENTIALS.encode()):
        assert not [message for message in stored if secret in message]


async def every_message(nats_url: str, namespace: str) -> AsyncIterator[bytes]:
    """Headers and payload of all that is stored under a namespace, decoded from its envelope."""
    connection = Connection([nats_url], name="reader")
    await connection.open()
    try:
        for stream in (await connection.api("STREAM.NAMES", {"subject": f"{namespace}.>"}))["streams"]:
            last = (await connection.api(f"STREAM.INFO.{stream}"))["state"]["last_seq"]
            for position in range(1, last + 1):
                answer = await connection.api(f"STREAM.MSG.GET.{stream}", {"seq": position})
                if "message" in answer:
                    message = answer["message"]
                    yield base64.b64decode(message.get("hdrs", "")) + base64.b64decode(message.get("data", ""))
    finally:
        await connection.close()


async def test_configs_are_listed_by_pages_in_one_order(local: Site) -> None:
    configs, task_id = local.operations.push_configs, await local.send("hello")
    names = [f"c{number}" for number in (3, 1, 4, 0, 2)]
    for name in names:
        await local.create(task_id, hook("https://example.com/hook", name))
    seen: list[str] = []
    token = ""
    for _ in range(3):
        request = ListTaskPushNotificationConfigsRequest(task_id=task_id, page_size=2, page_token=token)
        page = msgspec.json.decode((await configs.page(Caller(), local.agent, request)).json)
        seen += [config["id"] for config in page["configs"]]
        token = page.get("nextPageToken", "")

    assert (sorted(names), "") == (seen, token)
    for bad in ("x", "%%%", "YQ"):
        with pytest.raises(InvalidParamsError):
            await configs.page(
                Caller(), local.agent, ListTaskPushNotificationConfigsRequest(task_id=task_id, page_token=bad)
            )


async def test_configs_are_set_read_and_deleted_after_the_end_also_from_a_snapshot(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SNAPSHOT_FROM_EVENTS", 1)
    configs, task_id = site.operations.push_configs, await site.send(script(chunks=20))
    await eventually(lambda: site.stack.log.snapshot(site.stack.ref(task_id)), what="the terminal snapshot")
    made = await site.create(task_id, hook("https://example.com/one"))
    assert made.id
    again = await site.create(task_id, replace(made, url="https://example.com/two"))
    assert again.id == made.id
    asked = GetTaskPushNotificationConfigRequest(task_id=task_id, id=made.id)
    got = msgspec.json.decode((await configs.get(Caller(), site.agent, asked)).json)
    assert got["url"] == "https://example.com/two"
    for _ in range(2):
        deleted = await configs.delete(
            Caller(), site.agent, DeleteTaskPushNotificationConfigRequest(task_id=task_id, id=made.id)
        )
        assert deleted.json == b"{}"
    with pytest.raises(TaskNotFoundError):
        await configs.get(Caller(), site.agent, asked)
    assert (await site.stack.kinds(task_id)).endswith("Swwd")


async def test_a_client_that_saw_the_end_resumes_to_nothing_although_webhooks_came_after_it(site: Site) -> None:
    updates = [update async for update in site.stack.calls.stream(script(chunks=1))]
    status = updates[-1].status_update
    assert status is not None
    records = await site.stack.records(status.task_id)
    await site.create(status.task_id, hook("https://example.com/hook"))
    cursor = f"{_prefix(site, status.task_id)}{records[-1].position}.{records[-1].header.last_revision}"
    assert [] == [update async for update in site.stack.other.subscribe(status.task_id, cursor=cursor)]
    cursor = f"{_prefix(site, status.task_id)}{records[0].position}.{records[0].header.last_revision}"
    assert [update async for update in site.stack.other.subscribe(status.task_id, cursor=cursor)]


def _prefix(site: Site, task_id: str) -> str:
    task = site.stack.ref(task_id)
    return cursors.prefix(task, site.stack.log.incarnation(task))


async def test_who_may_not_see_the_task_may_not_see_its_webhooks(local: Site) -> None:
    configs, task_id = local.operations.push_configs, await local.send("hello")
    await local.create(task_id, hook("https://example.com/hook", "a"))
    config = hook("https://example.com/hook", "a", task_id=task_id)
    for caller in (Caller(tenant="other"), Caller(subject="other")):
        for call in (
            configs.create(caller, local.agent, config),
            configs.get(caller, local.agent, GetTaskPushNotificationConfigRequest(task_id=task_id, id="a")),
            configs.page(caller, local.agent, ListTaskPushNotificationConfigsRequest(task_id=task_id)),
            configs.delete(caller, local.agent, DeleteTaskPushNotificationConfigRequest(task_id=task_id, id="a")),
        ):
            with pytest.raises(TaskNotFoundError):
                await call
    assert (await local.stack.kinds(task_id)).endswith("Sw")


async def test_an_agent_that_offers_none_refuses_before_it_looks(local: Site) -> None:
    card = replace(local.agent.card, capabilities=AgentCapabilities(streaming=True, push_notifications=False))
    agent, configs = replace(local.agent, card=card), local.operations.push_configs
    for call in (
        configs.create(Caller(), agent, hook("https://example.com/hook", task_id="unknown")),
        configs.get(Caller(), agent, GetTaskPushNotificationConfigRequest(task_id="unknown", id="a")),
        configs.page(Caller(), agent, ListTaskPushNotificationConfigsRequest(task_id="unknown")),
        configs.delete(Caller(), agent, DeleteTaskPushNotificationConfigRequest(task_id="unknown", id="a")),
    ):
        with pytest.raises(PushNotificationNotSupportedError):
            await call


BAD: dict[str, tuple[TaskPushNotificationConfig, str]] = {
    "no url": (hook(""), "url"),
    "metadata service": (hook("http://169.254.169.254/"), "url"),
    "credentials in the url": (hook("https://a:b@example.com/"), "url"),
    "newline in the token": (hook("https://example.com/", token="a\r\nX: y"), "token"),
    "token with a space at its end": (hook("https://example.com/", token="a "), "token"),
    "long token": (hook("https://example.com/", token="x" * 5000), "token"),
    "no scheme": (hook("https://example.com/", authentication=AuthenticationInfo(scheme="")), "authentication.scheme"),
    "scheme with a space": (
        hook("https://example.com/", authentication=AuthenticationInfo(scheme="a b")),
        "authentication.scheme",
    ),
    "credentials that are no text": (
        hook("https://example.com/", authentication=AuthenticationInfo(scheme="Bearer", credentials="ü")),
        "authentication.credentials",
    ),
    "long id": (hook("https://example.com/", "x" * 513), "id"),
}


async def test_a_config_that_cannot_work_is_refused_by_name_and_leaves_nothing(local: Site) -> None:
    task_id = await local.send("hello")
    before = await local.stack.kinds(task_id)
    for name, (config, member) in BAD.items():
        with pytest.raises(InvalidParamsError) as refused:
            await local.create(task_id, config)
        assert [member] == [path for path, _ in refused.value.violations], name
        with pytest.raises(InvalidParamsError) as inline:
            await local.send("hello", config)
        assert [f"configuration.taskPushNotificationConfig.{member}"] == [p for p, _ in inline.value.violations], name
    assert before == await local.stack.kinds(task_id)


async def test_a_task_has_so_many_webhooks_and_no_more(site: Site) -> None:
    task_id = await site.send("hello")
    outcomes = await asyncio.gather(
        *(site.create(task_id, hook("https://example.com/", f"{number}")) for number in range(limits.WEBHOOKS + 3)),
        return_exceptions=True,
    )
    assert 3 == sum(isinstance(outcome, A2AError) for outcome in outcomes)
    assert limits.WEBHOOKS == (await site.stack.kinds(task_id)).count("w")
