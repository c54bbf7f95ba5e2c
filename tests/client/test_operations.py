"""Lists, webhooks, the extended card, extensions and preferences: what is sent in both bindings of 1.0."""

from __future__ import annotations

import json
from typing import Any

import pytest

from a2a_events.client import REPLAY_EXTENSION, BadAnswer, Client, NoAnswer
from a2a_events.client.endpoint import BindingName
from a2a_events.client.replay import Mark, mark_of
from a2a_events.errors import PushNotificationNotSupportedError
from a2a_events.model import (
    AuthenticationInfo,
    Message,
    Part,
    Role,
    StreamResponse,
    Task,
    TaskPushNotificationConfig,
    TaskState,
    TaskStatus,
)
from tests.client.scripted import Answer, Gateway, card, chunk, fault, frame, result, snapshot, status, task

Json = dict[str, Any]


def _with_extensions(value: Json, *uris: str) -> Json:
    return {**value, "capabilities": {"streaming": True, "extensions": [{"uri": uri} for uri in uris]}}


# --- lists -----------------------------------------------------------------------------------------------------------


async def test_every_filter_travels_in_both_bindings(first: Gateway) -> None:
    page = {"tasks": [task("WORKING")], "nextPageToken": "n/2", "pageSize": 1, "totalSize": 7}
    first.will(result(page), Answer(body=page))
    bindings: tuple[BindingName, ...] = ("JSONRPC", "HTTP+JSON")
    for binding in bindings:
        async with Client.at(first.url, binding, tenant="acme") as client:
            got = await client.list_tasks(
                context_id="c/1",
                state=TaskState.WORKING,
                since="2026-05-28T12:00:00Z",
                page_size=1,
                page_token="a+b",
                history_length=0,
                include_artifacts=True,
            )
        assert ("n/2", 1, 7, ["t1"]) == (got.next_page_token, got.page_size, got.total_size, [t.id for t in got.tasks])
    assert {
        "tenant": "acme",
        "contextId": "c/1",
        "status": "TASK_STATE_WORKING",
        "statusTimestampAfter": "2026-05-28T12:00:00Z",
        "pageSize": 1,
        "pageToken": "a+b",
        "historyLength": 0,
        "includeArtifacts": True,
    } == json.loads(first.seen[0].body)["params"]
    assert "GET /acme/tasks" == first.seen[1].operation
    assert {
        "contextId": ["c/1"],
        "status": ["TASK_STATE_WORKING"],
        "statusTimestampAfter": ["2026-05-28T12:00:00Z"],
        "pageSize": ["1"],
        "pageToken": ["a+b"],
        "historyLength": ["0"],
        "includeArtifacts": ["true"],
    } == first.seen[1].query


async def test_a_page_may_leave_out_what_is_empty(client: Client, first: Gateway) -> None:
    first.will(result({}))
    page = await client.list_tasks()
    assert ((), "", 0) == (page.tasks, page.next_page_token, page.total_size)
    assert {} == json.loads(first.seen[0].body)["params"]


async def test_all_tasks_come_page_by_page_as_they_are_wanted(client: Client, first: Gateway) -> None:
    first.will(result({"tasks": [task("WORKING", "t1"), task("WORKING", "t2")], "nextPageToken": "2"}))
    first.will(result({"tasks": [], "nextPageToken": "3"}), result({"tasks": [task("WORKING", "t3")]}))
    found = client.tasks(context_id="c1", page_size=2)
    assert "t1" == (await anext(found)).id
    assert 1 == len(first.seen)
    assert ["t2", "t3"] == [each.id async for each in found]
    assert [None, "2", "3"] == [json.loads(seen.body)["params"].get("pageToken") for seen in first.seen]
    assert ["c1"] * 3 == [json.loads(seen.body)["params"]["contextId"] for seen in first.seen]


async def test_pages_that_go_round_in_circles_end(client: Client, first: Gateway) -> None:
    first.will(*[result({"tasks": [task("WORKING")], "nextPageToken": token}) for token in ("1", "2", "1")])
    with pytest.raises(BadAnswer, match="circles"):
        _ = [each async for each in client.tasks()]


@pytest.mark.parametrize("body", [{"tasks": 7}, {"tasks": [{"id": "t1"}]}, {"nextPageToken": []}])
async def test_a_page_that_is_none_is_a_bad_answer(client: Client, first: Gateway, body: Json) -> None:
    first.will(result(body))
    with pytest.raises(BadAnswer):
        await client.list_tasks()


# --- webhooks --------------------------------------------------------------------------------------------------------

CONFIG = {
    "id": "p:1",
    "taskId": "t1",
    "url": "https://me.example",
    "token": "x",
    "authentication": {"scheme": "Bearer", "credentials": "s"},
}


async def test_webhooks_in_json_rpc(client: Client, first: Gateway) -> None:
    first.will(result(CONFIG), result(CONFIG), result({"configs": [CONFIG], "nextPageToken": "2"}))
    first.will(Answer(body={"jsonrpc": "2.0", "id": 1, "result": None}), result({}))
    made = await client.push_configs.create(
        "t1",
        "https://me.example",
        config_id="p:1",
        token="x",
        authentication=AuthenticationInfo(scheme="Bearer", credentials="s"),
    )
    assert made == await client.push_configs.get("t1", "p:1")
    page = await client.push_configs.list("t1", page_size=1, page_token="1")
    assert ((made,), "2") == (page.configs, page.next_page_token)
    await client.push_configs.delete("t1", "p:1")
    await client.push_configs.delete("t1", "p:1")
    assert [
        ("CreateTaskPushNotificationConfig", CONFIG),
        ("GetTaskPushNotificationConfig", {"taskId": "t1", "id": "p:1"}),
        ("ListTaskPushNotificationConfigs", {"taskId": "t1", "pageSize": 1, "pageToken": "1"}),
        *[("DeleteTaskPushNotificationConfig", {"taskId": "t1", "id": "p:1"})] * 2,
    ] == [(body["method"], body["params"]) for body in (json.loads(seen.body) for seen in first.seen)]


async def test_webhooks_in_http_json(first: Gateway) -> None:
    first.will(Answer(body=CONFIG), Answer(body=CONFIG), Answer(body={"configs": [CONFIG]}), Answer(body={}))
    async with Client.at(first.url, "HTTP+JSON", tenant="acme") as client:
        made = await client.push_configs.create("t1", "https://me.example", config_id="p:1", token="x")
        assert made == await client.push_configs.get("t1", "p:1")
        assert (made,) == (await client.push_configs.list("t1", page_size=1)).configs
        await client.push_configs.delete("t1", "p:1")
    configs = "/acme/tasks/t1/pushNotificationConfigs"
    assert [f"POST {configs}", f"GET {configs}/p:1", f"GET {configs}", f"DELETE {configs}/p:1"] == first.operations
    assert {"id": "p:1", "taskId": "t1", "url": "https://me.example", "token": "x"} == json.loads(first.seen[0].body)
    assert {"pageSize": ["1"]} == first.seen[2].query


async def test_a_webhook_without_an_id_is_not_made_twice(client: Client, first: Gateway, second: Gateway) -> None:
    first.will(Answer(then="cut"))
    with pytest.raises(NoAnswer):
        await client.push_configs.create("t1", "https://me.example")
    first.will(Answer(then="cut"))
    second.will(Answer(then="cut"), result(CONFIG))
    with pytest.raises(NoAnswer):
        await client.push_configs.create("t1", "https://me.example")
    first.answers.clear()
    second.answers.clear()
    first.will(result(CONFIG))
    second.will(result(CONFIG))
    assert "p:1" == (await client.push_configs.create("t1", "https://me.example", config_id="p:1")).id


async def test_a_refusal_of_webhooks_has_its_class(client: Client, first: Gateway) -> None:
    first.will(Answer(body=fault(-32003)))
    with pytest.raises(PushNotificationNotSupportedError):
        await client.push_configs.list("t1")


async def test_a_webhook_may_ride_along_with_a_message(client: Client, first: Gateway) -> None:
    first.will(result({"task": task("COMPLETED")}), Answer(frames=(frame(snapshot("COMPLETED")),)))
    webhook = TaskPushNotificationConfig(url="https://me.example", token="x")
    await client.send("hi", push=webhook)
    async with client.stream("hi", push=webhook):
        pass
    sent = [json.loads(seen.body)["params"]["configuration"] for seen in first.seen]
    assert [{"taskPushNotificationConfig": {"url": "https://me.example", "token": "x"}}] * 2 == sent


# --- cards and extensions --------------------------------------------------------------------------------------------


async def test_the_extended_card_stays_until_the_public_one_changes(first: Gateway) -> None:
    public = card((first.url, "HTTP+JSON", "1.0"))
    first.card, first.card_headers = public, {"etag": '"1"'}
    first.will(Answer(body={**public, "description": "for you"}))
    async with Client(first.url) as client:
        assert "" == (await client.card()).description
        assert "for you" == (await client.extended_card()).description
        assert "for you" == (await client.card()).description
        first.card, first.card_headers = {**public, "description": "new"}, {"etag": '"2"'}
        assert "new" == (await client.card()).description
    assert ["GET /extendedAgentCard"] == first.operations


async def test_an_interface_that_was_given_needs_no_card_for_the_extended_one(first: Gateway) -> None:
    first.will(result(card((first.url, "JSONRPC", "1.0"))))
    async with Client.at(first.url, "JSONRPC") as client:
        assert "scripted" == (await client.extended_card()).name
    assert 0 == first.cards
    assert "GetExtendedAgentCard" == first.operations[0]


async def test_what_the_caller_prefers_comes_before_the_order_of_the_card(first: Gateway, second: Gateway) -> None:
    first.card = card((second.url, "JSONRPC", "1.0"), (second.url, "HTTP+JSON", "1.0"))
    second.will(Answer(body=task("WORKING")), result(task("WORKING")))
    async with Client(first.url, binding=["GRPC", "HTTP+JSON", "JSONRPC"]) as client:
        await client.get("t1")
    async with Client(first.url) as client:
        await client.get("t1")
    assert ["GET /tasks/t1", "GetTask"] == second.operations


async def test_extensions_are_asked_for_and_those_that_are_active_shown(first: Gateway) -> None:
    first.card = card((first.url, "JSONRPC", "1.0"))
    active = {"a2a-extensions": "urn:a, urn:b"}
    answer = result(task("WORKING"))
    answer.headers = active
    first.will(answer, Answer(frames=(frame(snapshot("COMPLETED")),), headers=active), result(task("WORKING")))
    async with Client(first.url, extensions=["urn:a", "urn:b", "urn:c"]) as client:
        assert frozenset() == client.active_extensions
        await client.get("t1")
        assert {"urn:a", "urn:b"} == client.active_extensions
        async with client.stream("go") as updates:
            assert {"urn:a", "urn:b"} == updates.active_extensions
        await client.get("t1")
        assert frozenset() == client.active_extensions
    assert {"urn:a,urn:b,urn:c"} == {seen.headers["a2a-extensions"] for seen in first.seen}


async def test_replay_is_asked_for_over_http_only_if_the_caller_does(first: Gateway) -> None:
    first.card = _with_extensions(card((first.url, "JSONRPC", "1.0")), REPLAY_EXTENSION, "urn:other")
    first.will(result(task("WORKING")), result(task("WORKING")))
    async with Client(first.url) as client:
        await client.get("t1")
    async with Client(first.url, extensions=[REPLAY_EXTENSION]) as client:
        await client.get("t1")
    assert [None, REPLAY_EXTENSION] == [seen.headers.get("a2a-extensions") for seen in first.seen]


# --- replay ----------------------------------------------------------------------------------------------------------


def _marked(update: Json, revision: float, cursor: str) -> Json:
    (member,) = update
    return {member: {**update[member], "metadata": {REPLAY_EXTENSION: {"revision": revision, "cursor": cursor}}}}


async def test_without_ids_the_cursor_of_the_metadata_resumes(client: Client, first: Gateway, second: Gateway) -> None:
    opening = (frame(_marked(snapshot("SUBMITTED"), 1, "c1")), frame(_marked(chunk("a"), 2.0, "c2")))
    first.will(Answer(frames=opening, then="cut"))
    second.will(Answer(frames=(frame(_marked(chunk("b"), 3, "c3")), frame(_marked(status("COMPLETED"), 5, "c5")))))
    async with client.stream("go") as updates:
        seen = [(update.revision, update.cursor, update.resynchronised) async for update in updates]
    assert [(1, "c1", False), (2, "c2", False), (3, "c3", False), (5, "c5", False)] == seen
    assert "c2" == second.seen[0].headers["last-event-id"]


async def test_the_id_of_a_frame_comes_before_the_cursor_of_the_metadata(client: Client, first: Gateway) -> None:
    first.will(Answer(frames=(frame(_marked(snapshot("COMPLETED"), 4, "c4"), "id4"),)))
    async with client.stream("go") as updates:
        (update,) = [each async for each in updates]
    assert (4, "id4") == (update.revision, update.cursor)


@pytest.mark.parametrize(
    ("given", "mark"),
    [
        ({"revision": 3, "cursor": "c"}, Mark(3, "c")),
        ({"revision": 3.0}, Mark(3, None)),
        ({"gap": True}, Mark()),
        ({"revision": True, "cursor": 7}, Mark()),
        ({"revision": -1, "cursor": ""}, Mark()),
        ({"revision": 1.5}, Mark()),
        ([], Mark()),
        ("c", Mark()),
        (None, Mark()),
    ],
)
def test_a_mark_is_taken_for_what_it_is(given: object, mark: Mark) -> None:
    message = Message(message_id="m", role=Role.AGENT, parts=(Part(text=""),), metadata={REPLAY_EXTENSION: given})
    assert mark == mark_of(StreamResponse(message=message))
    assert Mark() == mark_of(StreamResponse(task=Task(id="t", status=TaskStatus(state=TaskState.WORKING))))
