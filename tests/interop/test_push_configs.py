"""The four push-notification-config operations on the wire, in both bindings, and with the official client."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import httpx
import pytest
from a2a.client import ClientConfig, ClientFactory
from a2a.types import (
    AuthenticationInfo,
    DeleteTaskPushNotificationConfigRequest,
    GetTaskPushNotificationConfigRequest,
    ListTaskPushNotificationConfigsRequest,
    Message,
    Part,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    StreamResponse,
    TaskPushNotificationConfig,
)
from google.protobuf.json_format import Parse

from a2a_events.testing import eventually
from tests.integration.receiver import Receiver, receiver
from tests.interop.wire import BINDINGS, Caller, message, script, send

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

URL = "https://example.com/hook"
UNKNOWN = "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA"


async def ended(caller: Caller) -> str:
    """The id of a task that has ended: configs outlive tasks."""
    sent = await caller.call("SendMessage", send("hi"))
    return str(sent["task"]["id"])


async def test_a_config_is_made_shown_listed_and_deleted(caller: Caller) -> None:
    task_id = await ended(caller)
    asked = {
        "taskId": task_id,
        "url": URL,
        "token": "secret-token",
        "authentication": {"scheme": "Bearer", "credentials": "secret-credentials"},
    }
    made = await caller.call("CreateTaskPushNotificationConfig", asked)
    assert asked == {name: value for name, value in made.items() if name != "id"}
    place = {"taskId": task_id, "id": made["id"]}
    shown = {**place, "url": URL, "authentication": {"scheme": "Bearer"}}
    assert shown == await caller.call("GetTaskPushNotificationConfig", place)
    assert {"configs": [shown]} == await caller.call("ListTaskPushNotificationConfigs", {"taskId": task_id})
    for _ in range(2):
        assert {} == await caller.call("DeleteTaskPushNotificationConfig", place)
    assert {"configs": []} == await caller.call("ListTaskPushNotificationConfigs", {"taskId": task_id})
    assert "TASK_NOT_FOUND" == (await caller.refused("GetTaskPushNotificationConfig", place)).reason


async def test_a_client_s_id_is_kept_and_names_a_config_of_its_task_only(caller: Caller) -> None:
    ids = [await ended(caller) for _ in range(2)]
    for number, task_id in enumerate(ids):
        url = f"{URL}/{number}"
        made = await caller.call("CreateTaskPushNotificationConfig", {"taskId": task_id, "url": url, "id": "a/b c"})
        assert "a/b c" == made["id"]
    for number, task_id in enumerate(ids):
        shown = await caller.call("GetTaskPushNotificationConfig", {"taskId": task_id, "id": "a/b c"})
        assert f"{URL}/{number}" == shown["url"]


async def test_the_tenant_is_part_of_the_config_and_of_who_may_see_it(caller: Caller) -> None:
    sent = await caller.call("SendMessage", {**send("hi"), "tenant": "acme"})
    place = {"taskId": sent["task"]["id"], "tenant": "acme"}
    made = await caller.call("CreateTaskPushNotificationConfig", {**place, "url": URL})
    assert "acme" == made["tenant"]
    page = await caller.call("ListTaskPushNotificationConfigs", place)
    assert [made] == page["configs"]
    for tenant in ({}, {"tenant": "other"}):
        foreign = {"taskId": place["taskId"], **tenant}
        assert "TASK_NOT_FOUND" == (await caller.refused("ListTaskPushNotificationConfigs", foreign)).reason


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        ("CreateTaskPushNotificationConfig", {"taskId": UNKNOWN, "url": URL}),
        ("GetTaskPushNotificationConfig", {"taskId": UNKNOWN, "id": "c"}),
        ("ListTaskPushNotificationConfigs", {"taskId": UNKNOWN}),
        ("DeleteTaskPushNotificationConfig", {"taskId": UNKNOWN, "id": "c"}),
        ("CreateTaskPushNotificationConfig", {"taskId": "no id of ours", "url": URL}),
    ],
)
async def test_a_task_that_is_not_there_is_said_so(caller: Caller, operation: str, params: dict[str, Any]) -> None:
    assert "TASK_NOT_FOUND" == (await caller.refused(operation, params)).reason


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"url": "http://169.254.169.254/latest"}, "url"),
        ({"url": "http://localhost:8080/"}, "url"),
        ({"url": URL, "token": "a\nb"}, "token"),
        ({"url": URL, "authentication": {"scheme": ""}}, "authentication.scheme"),
    ],
)
async def test_a_config_that_cannot_work_is_refused_by_name(caller: Caller, config: dict[str, Any], field: str) -> None:
    task_id = await ended(caller)
    refused = await caller.refused("CreateTaskPushNotificationConfig", {"taskId": task_id, **config})
    assert ("INVALID_PARAMS", [field]) == (refused.reason, refused.fields)
    inline = await caller.refused("SendMessage", send("hi", configuration={"taskPushNotificationConfig": config}))
    assert [f"configuration.taskPushNotificationConfig.{field}"] == inline.fields
    assert {"configs": []} == await caller.call("ListTaskPushNotificationConfigs", {"taskId": task_id})


async def test_a_config_that_came_with_a_message_is_one_like_any_other(caller: Caller) -> None:
    config = {"url": URL, "id": "mine", "token": "secret"}
    sent = await caller.call("SendMessage", send("hi", configuration={"taskPushNotificationConfig": config}))
    page = await caller.call("ListTaskPushNotificationConfigs", {"taskId": sent["task"]["id"]})
    assert [{"id": "mine", "taskId": sent["task"]["id"], "url": URL}] == page["configs"]


async def test_pages_lead_from_one_to_the_next(caller: Caller) -> None:
    task_id = await ended(caller)
    for number in range(3):
        config = {"taskId": task_id, "url": URL, "id": f"c{number}"}
        await caller.call("CreateTaskPushNotificationConfig", config)
    first = await caller.call("ListTaskPushNotificationConfigs", {"taskId": task_id, "pageSize": 2})
    more = {"taskId": task_id, "pageSize": 2, "pageToken": first["nextPageToken"]}
    second = await caller.call("ListTaskPushNotificationConfigs", more)
    assert ["c0", "c1", "c2"] == [config["id"] for config in first["configs"] + second["configs"]]
    assert "nextPageToken" not in second
    refused = await caller.refused("ListTaskPushNotificationConfigs", {"taskId": task_id, "pageToken": "?"})
    assert ["pageToken"] == refused.fields


async def test_the_card_says_what_is_offered(http: httpx.AsyncClient) -> None:
    cards = [(await http.get(f"{path}/.well-known/agent-card.json")).json() for path in ("", "/agents/reader")]
    assert [True, False] == [card["capabilities"]["pushNotifications"] for card in cards]


# --- a whole deployment, and the official library's client -----------------------------------------------------------


@pytest.mark.parametrize("binding", BINDINGS)
async def test_the_official_client_sets_a_webhook_that_gets_every_update(pushing: str, binding: str) -> None:
    async with receiver() as one, httpx.AsyncClient(timeout=10) as http:
        chosen = ClientConfig(httpx_client=http, supported_protocol_bindings=[binding], streaming=True)
        client = await ClientFactory(chosen).create_from_url(pushing)
        config = TaskPushNotificationConfig(
            url=one.url, token="tt", authentication=AuthenticationInfo(scheme="Bearer", credentials="cc")
        )
        asked = SendMessageRequest(
            message=Message(message_id="m", role=Role.ROLE_USER, parts=[Part(text="hello")]),
            configuration=SendMessageConfiguration(task_push_notification_config=config),
        )
        streamed = [response async for response in client.send_message(asked)]
        await eventually(lambda: len(one.accepted) >= len(streamed) - 1)
        pushed = [Parse(received.body, StreamResponse()) for received in one.accepted]
        assert streamed[1:] == pushed  # a stream begins with the Task, which is no update
        assert {("Bearer cc", "tt")} == {
            (r.headers["authorization"], r.headers["x-a2a-notification-token"]) for r in one.accepted
        }

        task_id = streamed[0].task.id
        made = await client.create_task_push_notification_config(TaskPushNotificationConfig(task_id=task_id, url=URL))
        assert made.id
        got = await client.get_task_push_notification_config(
            GetTaskPushNotificationConfigRequest(task_id=task_id, id=made.id)
        )
        assert made == got
        listed = await client.list_task_push_notification_configs(
            ListTaskPushNotificationConfigsRequest(task_id=task_id)
        )
        assert {made.url, one.url} == {listed_config.url for listed_config in listed.configs}
        await client.delete_task_push_notification_config(
            DeleteTaskPushNotificationConfigRequest(task_id=task_id, id=made.id)
        )


def _has(one: Receiver, task_id: str, count: int) -> bool:
    return len(one.of(task_id)) >= count


async def test_both_bindings_and_the_stream_push_the_same_bytes(pushing: str) -> None:
    async with receiver() as one, httpx.AsyncClient(base_url=pushing, timeout=10) as http:
        for binding in BINDINGS:
            caller = Caller(http, binding)
            configuration = {"taskPushNotificationConfig": {"url": one.url}}
            asked = {"message": message(script(chunks=3)), "configuration": configuration}
            frames = await caller.frames("SendStreamingMessage", asked)
            updates = [frame for frame in frames if frame.kind != "task"]
            task_id = next(iter(updates[0].data.values()))["taskId"]
            await eventually(partial(_has, one, task_id, len(updates)))
            assert [update.data for update in updates] == [json.loads(r.body) for r in one.of(task_id)]


async def test_a_client_of_0_3_is_pushed_the_whole_task(pushing: str) -> None:
    async with receiver() as one, httpx.AsyncClient(base_url=pushing, timeout=10) as http:
        asked = {
            "message": {
                "kind": "message",
                "messageId": "m",
                "role": "user",
                "parts": [{"kind": "data", "data": {"script": {"chunks": 2}}}],
            },
            "configuration": {"blocking": True, "pushNotificationConfig": {"url": one.url, "token": "tt"}},
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": asked}
        sent = (await http.post("/", json=body)).json()["result"]
        await eventually(lambda: one.accepted and json.loads(one.accepted[-1].body) == sent)

    assert {("application/json", "tt")} == {
        (r.headers["content-type"], r.headers["x-a2a-notification-token"]) for r in one.accepted
    }
    assert {"task"} == {json.loads(r.body)["kind"] for r in one.accepted}


async def test_a_client_of_0_3_is_pushed_a_bare_message(pushing: str) -> None:
    async with receiver() as one, httpx.AsyncClient(base_url=pushing, timeout=10) as http:
        part = {"kind": "data", "data": {"script": {"message": True}}}
        asked = {
            "message": {"kind": "message", "messageId": "m", "role": "user", "parts": [part]},
            "configuration": {"pushNotificationConfig": {"url": one.url}},
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": asked}
        sent = (await http.post("/", json=body)).json()["result"]
        await eventually(lambda: one.accepted)
        assert json.loads(one.accepted[-1].body) == sent
