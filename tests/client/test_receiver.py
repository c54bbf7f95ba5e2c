"""A receiver believes whom it should, hands each update on once and in order, and answers clearly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

import httpx
import pytest
from litestar import Litestar, asgi

import a2a_events.client.receiver
from a2a_events.client import REPLAY_EXTENSION, Receiver, ReceiverApp, Update
from a2a_events.model import AuthenticationInfo, TaskPushNotificationConfig
from tests.client.scripted import chunk, snapshot, status
from tests.client.serving import PATIENCE_SECONDS, listener, serving

Json = dict[str, Any]
SECRET = "secret"
TOKEN = {"X-A2A-Notification-Token": SECRET}
BEARER = AuthenticationInfo(scheme="Bearer", credentials="key")


def config(task_id: str = "t1", token: str = SECRET, authentication: AuthenticationInfo | None = None) -> Any:
    return TaskPushNotificationConfig(
        url="https://me.example", task_id=task_id, token=token, authentication=authentication
    )


def marked(update: Json, revision: int) -> Json:
    (member,) = update
    mark = {REPLAY_EXTENSION: {"revision": revision, "cursor": f"c{revision}"}}
    return {member: {**update[member], "metadata": mark}}


class Desk:
    """A receiver, and what it handed on."""

    def __init__(self) -> None:
        self.receiver = Receiver()
        self.updates: list[Update] = []
        self.failing = False

    async def handle(self, update: Update) -> None:
        if self.failing:
            raise RuntimeError("not now")
        self.updates.append(update)

    async def take(self, update: Json | bytes, headers: dict[str, str] | None = None) -> int:
        body = update if isinstance(update, bytes) else json.dumps(update).encode()
        return await self.receiver.receive(TOKEN if headers is None else headers, body, self.handle)

    @property
    def said(self) -> list[str]:
        return [
            str(update.artifact.artifact.parts[0].text)
            if update.artifact
            else update.state.name
            if update.state
            else "?"
            for update in self.updates
        ]


@pytest.fixture
def desk() -> Desk:
    return Desk()


# --- whom to believe -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "headers", "believed"),
    [
        (config(), {"X-A2A-Notification-Token": "secret"}, True),
        (config(), {"x-a2a-notification-token": "secret"}, True),
        (config(), {"X-A2A-Notification-Token": "Secret"}, False),
        (config(), {"X-A2A-Notification-Token": "sécret"}, False),
        (config(), {"Authorization": "Bearer secret"}, False),
        (config(), {}, False),
        (config(token="", authentication=BEARER), {"Authorization": "Bearer key"}, True),
        (config(token="", authentication=BEARER), {"authorization": "bearer key"}, True),
        (config(token="", authentication=BEARER), {"Authorization": "Basic key"}, False),
        (config(token="", authentication=BEARER), {"Authorization": "Bearer keys"}, False),
        (config(token="", authentication=BEARER), {"Authorization": "key"}, False),
        (config(token="", authentication=BEARER), {"Authorization": "Bearer key", **TOKEN}, False),
        (config(authentication=BEARER), {"Authorization": "Bearer key"}, True),
        (config(authentication=BEARER), {"Authorization": "Bearer key", **TOKEN}, True),
        (config(authentication=BEARER), {"Authorization": "Bearer no", **TOKEN}, False),
        (config(authentication=BEARER), {"Authorization": "Bearer key", "X-A2A-Notification-Token": "no"}, False),
        (config(authentication=BEARER), TOKEN, False),
        (config(task_id="t2"), TOKEN, False),
    ],
)
async def test_the_credentials_and_the_task_decide(
    desk: Desk, expected: TaskPushNotificationConfig, headers: dict[str, str], *, believed: bool
) -> None:
    desk.receiver.expect(expected)
    answer = await desk.take(status("WORKING"), headers)
    assert (HTTPStatus.NO_CONTENT if believed else HTTPStatus.FORBIDDEN) == answer
    assert believed == bool(desk.updates)


@pytest.mark.parametrize("authentication", [None, AuthenticationInfo(scheme="Bearer")])
def test_a_webhook_that_anybody_could_call_is_not_expected(authentication: AuthenticationInfo | None) -> None:
    with pytest.raises(ValueError, match="token"):
        Receiver().expect(config(token="", authentication=authentication))


async def test_a_webhook_of_no_task_yet_is_for_the_first_that_comes(desk: Desk) -> None:
    desk.receiver.expect(config(task_id=""))
    assert HTTPStatus.NO_CONTENT == await desk.take(snapshot("SUBMITTED"))
    assert HTTPStatus.NO_CONTENT == await desk.take(status("WORKING"))
    other = {"statusUpdate": {**status("WORKING")["statusUpdate"], "taskId": "t2"}}
    assert HTTPStatus.FORBIDDEN == await desk.take(other)
    assert ["SUBMITTED", "WORKING"] == desk.said


async def test_a_reply_without_a_task_is_believed_by_its_token(desk: Desk) -> None:
    desk.receiver.expect(config(task_id=""))
    message = {"message": {"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": "hi"}]}}
    assert HTTPStatus.NO_CONTENT == await desk.take(message)
    assert ["m"] == [update.message.message_id for update in desk.updates if update.message]


async def test_webhooks_of_one_task_are_told_apart_by_their_credentials(desk: Desk) -> None:
    desk.receiver.expect(config(token="one"))
    desk.receiver.expect(config(token="two"))
    for token in ("one", "two", "three"):
        await desk.take(marked(status("WORKING"), 1), {"X-A2A-Notification-Token": token})
    assert ["WORKING", "WORKING"] == desk.said


async def test_what_was_forgotten_is_believed_no_more(desk: Desk) -> None:
    desk.receiver.expect(config())
    desk.receiver.forget("t1")
    desk.receiver.forget("t1")
    assert HTTPStatus.FORBIDDEN == await desk.take(status("WORKING"))


async def test_webhooks_that_waited_longest_are_forgotten_first(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(a2a_events.client.receiver, "REMEMBERED_WAITING", 1)
    desk.receiver.expect(config(task_id="", token="old"))
    desk.receiver.expect(config(task_id=""))
    assert HTTPStatus.FORBIDDEN == await desk.take(snapshot("WORKING"), {"X-A2A-Notification-Token": "old"})
    assert HTTPStatus.NO_CONTENT == await desk.take(snapshot("WORKING"))


async def test_tasks_that_ended_long_ago_are_forgotten(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(a2a_events.client.receiver, "REMEMBERED_ENDED", 1)
    for task_id in ("t1", "t2"):
        desk.receiver.expect(config(task_id=task_id))
        await desk.take({"statusUpdate": {**status("COMPLETED")["statusUpdate"], "taskId": task_id}})
    assert HTTPStatus.FORBIDDEN == await desk.take(status("COMPLETED"))
    ended = {"statusUpdate": {**status("COMPLETED")["statusUpdate"], "taskId": "t2"}}
    assert HTTPStatus.NO_CONTENT == await desk.take(ended)
    assert ["COMPLETED", "COMPLETED"] == desk.said


# --- once, and in order ----------------------------------------------------------------------------------------------


async def test_numbered_updates_are_handled_once_and_never_backwards(desk: Desk) -> None:
    desk.receiver.expect(config())
    for update in (
        marked(snapshot("SUBMITTED"), 1),
        marked(chunk("a"), 3),
        marked(chunk("a"), 3),
        marked(snapshot("SUBMITTED"), 1),
        marked(chunk("a"), 4),
        marked(status("COMPLETED"), 6),
        marked(chunk("late"), 5),
    ):
        assert HTTPStatus.NO_CONTENT == await desk.take(update)
    assert ["SUBMITTED", "a", "a", "COMPLETED"] == desk.said
    assert [(1, "c1"), (3, "c3"), (4, "c4"), (6, "c6")] == [(each.revision, each.cursor) for each in desk.updates]


async def test_what_was_handled_before_a_restart_is_not_handled_again(desk: Desk) -> None:
    desk.receiver.expect(config(), after=3)
    await desk.take(marked(chunk("a"), 3))
    await desk.take(marked(chunk("b"), 4))
    assert ["b"] == desk.said


async def test_without_numbers_the_same_bytes_are_a_repetition_except_for_pieces(desk: Desk) -> None:
    desk.receiver.expect(config())
    for update in (snapshot("SUBMITTED"), snapshot("SUBMITTED"), status("WORKING"), status("WORKING")):
        assert HTTPStatus.NO_CONTENT == await desk.take(update)
    for update in (chunk("ha"), chunk("ha")):
        assert HTTPStatus.NO_CONTENT == await desk.take(update)
    assert ["SUBMITTED", "WORKING", "ha", "ha"] == desk.said


async def test_what_a_handler_did_not_finish_is_handled_when_it_comes_again(desk: Desk) -> None:
    desk.receiver.expect(config())
    desk.failing = True
    for update in (marked(status("WORKING"), 2), status("WORKING")):
        with pytest.raises(RuntimeError):
            await desk.take(update)
    desk.failing = False
    for update in (marked(status("WORKING"), 2), status("WORKING")):
        await desk.take(update)
    assert ["WORKING", "WORKING"] == desk.said


async def test_a_repetition_waits_for_its_original_and_other_tasks_do_not(desk: Desk) -> None:
    desk.receiver.expect(config())
    desk.receiver.expect(config(task_id="t2"))
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(update: Update) -> None:
        begun.set()
        await go.wait()
        await desk.handle(update)

    body = json.dumps(marked(status("WORKING"), 2)).encode()
    first = asyncio.create_task(desk.receiver.receive(TOKEN, body, slow))
    await begun.wait()
    again = asyncio.create_task(desk.receiver.receive(TOKEN, body, slow))
    other = {"statusUpdate": {**status("REJECTED")["statusUpdate"], "taskId": "t2"}}
    assert HTTPStatus.NO_CONTENT == await desk.take(other)
    go.set()
    assert {HTTPStatus.NO_CONTENT} == set(await asyncio.gather(first, again))
    assert ["REJECTED", "WORKING"] == desk.said


# --- what comes ------------------------------------------------------------------------------------------------------


async def test_a_whole_task_of_0_3_is_an_update(desk: Desk) -> None:
    desk.receiver.expect(config())
    parts = [{"kind": "text", "text": "a"}]
    old = {"kind": "task", "id": "t1", "contextId": "c1", "status": {"state": "completed"}}
    assert HTTPStatus.NO_CONTENT == await desk.take({**old, "artifacts": [{"artifactId": "a1", "parts": parts}]})
    assert desk.updates[0].task is not None
    assert "a" == desk.updates[0].task.artifacts[0].parts[0].text
    assert ["COMPLETED"] == desk.said


@pytest.mark.parametrize("update", [{"dream": {"taskId": "t1"}}, {}, {"kind": "dream"}])
async def test_an_update_from_the_future_is_answered_and_not_handled(desk: Desk, update: Json) -> None:
    desk.receiver.expect(config())
    assert HTTPStatus.NO_CONTENT == await desk.take(update)
    assert [] == desk.updates


@pytest.mark.parametrize(
    "body", [b"", b"no", b"[]", b"7", b"\xff", b'{"task":{"id":"t1"}}', b'{"task":7}', b"[" * 100_000, b'{"a":' * 9999]
)
async def test_what_cannot_be_read_is_a_bad_request(desk: Desk, body: bytes) -> None:
    desk.receiver.expect(config())
    assert HTTPStatus.BAD_REQUEST == await desk.take(body)
    assert [] == desk.updates


async def test_what_is_too_large_is_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(a2a_events.client.receiver, "BODY_BYTES", 100)
    desk.receiver.expect(config())
    assert HTTPStatus.REQUEST_ENTITY_TOO_LARGE == await desk.take(chunk("a" * 100))


# --- as an application -----------------------------------------------------------------------------------------------


@pytest.fixture(params=["alone", "litestar"])
async def url(request: pytest.FixtureRequest, desk: Desk) -> AsyncIterator[str]:
    app: Any = ReceiverApp(desk.receiver, desk.handle)
    if request.param == "litestar":
        app = Litestar([asgi("/push", copy_scope=True)(app)], logging_config=None)
    async with serving(app, listener()) as served:
        yield f"{served}/push"


async def test_the_application_answers_for_the_receiver(desk: Desk, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(a2a_events.client.receiver, "BODY_BYTES", 10_000)
    desk.receiver.expect(config())
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
        good = await http.post(url, json=status("WORKING"), headers=TOKEN)
        again = await http.post(url, json=status("WORKING"), headers=TOKEN)
        foreign = await http.post(url, json=status("WORKING"))
        broken = await http.post(url, content=b"no", headers=TOKEN)
        large = await http.post(url, content=b" " * 200_000, headers=TOKEN)
        got = await http.get(url)
        desk.failing = True
        failed = await http.post(url, json=status("FAILED"), headers=TOKEN)
    assert [204, 204, 403, 400, 413, 405, 500] == [
        answer.status_code for answer in (good, again, foreign, broken, large, got, failed)
    ]
    assert "POST" == got.headers["allow"]
    assert ["WORKING"] == desk.said


async def test_the_application_begins_and_ends_with_its_server(desk: Desk) -> None:
    events = iter(["lifespan.startup", "lifespan.shutdown"])
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        return {"type": next(events)}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await ReceiverApp(desk.receiver, desk.handle)({"type": "lifespan"}, receive, send)
    assert ["lifespan.startup.complete", "lifespan.shutdown.complete"] == sent
