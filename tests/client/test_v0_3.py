"""A2A 0.3 by card: what is sent to such an agent, how its answers are read, and that nothing falls back in silence."""

from __future__ import annotations

import json
from typing import Any, Literal

import msgspec
import pytest
from a2a.compat.v0_3 import a2a_v0_3_pb2, conversions, types
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from a2a_events.client import Client, Update, Updates, accumulate
from a2a_events.client.answers import read as read_1_0
from a2a_events.client.answers import read_update
from a2a_events.client.v0_3 import read, write
from a2a_events.errors import (
    A2A_ERRORS,
    ContentTypeNotSupportedError,
    MethodNotFoundError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnavailableError,
    UnsupportedOperationError,
    VersionNotSupportedError,
)
from a2a_events.model import (
    AuthenticationInfo,
    Message,
    Part,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    Task,
    TaskPushNotificationConfig,
    TaskState,
    encode,
)
from tests.client.conftest import QUICK
from tests.client.scripted import Answer, Gateway, card, fault, frame, result

Json = dict[str, Any]
Binding = Literal["JSONRPC", "HTTP+JSON"]


def old_card(url: str, transport: str | None = None, **more: Any) -> Json:
    preferred = {"preferredTransport": transport} if transport else {}
    return {"name": "old", "url": url, "version": "1", "capabilities": {"streaming": True}, **preferred, **more}


def old_task(state: str, **more: Any) -> Json:
    return {"kind": "task", "id": "t1", "contextId": "c1", "status": {"state": state}, **more}


def old_status(state: str, *, final: bool = False) -> Json:
    named = {"kind": "status-update", "taskId": "t1", "contextId": "c1"}
    return {**named, "status": {"state": state, "timestamp": "2025-07-01T10:00:00Z"}, "final": final}


def old_chunk(text: str) -> Json:
    artifact = {"artifactId": "a1", "parts": [{"kind": "text", "text": text}]}
    return {"kind": "artifact-update", "taskId": "t1", "contextId": "c1", "artifact": artifact, "append": True}


def part_1_0(part: Json) -> Part:
    value = read.message({"messageId": "m", "role": "user", "parts": [part]})
    return read_1_0(encode(value), Message).parts[0]


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"kind": "text", "text": ""}, Part(text="")),
        ({"kind": "text", "text": "a", "metadata": {"k": 1}}, Part(text="a", metadata={"k": 1})),
        ({"kind": "data", "data": {"data": 1}}, Part(data={"data": 1})),
        (
            {"kind": "data", "data": {"value": [1]}, "metadata": {"data_part_compat": True, "k": 1}},
            Part(data=[1], metadata={"k": 1}),
        ),
        (
            {"kind": "file", "file": {"bytes": "aGk=", "mimeType": "text/plain", "name": "a.txt"}},
            Part(raw=b"hi", media_type="text/plain", filename="a.txt"),
        ),
        ({"kind": "file", "file": {"uri": "https://f.example/a"}}, Part(url="https://f.example/a")),
        # The ProtoJSON of REST:
        ({"text": "a"}, Part(text="a")),
        ({"data": {"data": {"k": 1}}}, Part(data={"k": 1})),
        ({"file": {"fileWithBytes": "aGk=", "mimeType": "text/plain"}}, Part(raw=b"hi", media_type="text/plain")),
        ({"file": {"fileWithUri": "https://f.example/a"}}, Part(url="https://f.example/a")),
        ({"file": {"mimeType": "text/plain"}}, Part(raw=b"", media_type="text/plain")),
    ],
)
def test_a_part_of_either_spelling_is_one_of_1_0(old: Json, new: Part) -> None:
    assert new == part_1_0(old)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        *[(state.name.lower().replace("_", "-"), state) for state in TaskState],
        *[(state.value, state) for state in TaskState],
        ("TASK_STATE_CANCELLED", TaskState.CANCELED),
        ("unknown", TaskState.WORKING),
    ],
)
def test_every_state_has_its_counterpart(old: str, new: TaskState) -> None:
    assert new is read_1_0(encode(read.task(old_task(old))), Task).status.state


@pytest.mark.parametrize(
    ("old", "member"),
    [
        (old_task("working"), "task"),
        ({"kind": "message", "messageId": "m", "role": "agent", "parts": []}, "message"),
        (old_status("working"), "status_update"),
        (old_chunk("a"), "artifact_update"),
        # REST:
        ({"task": {"id": "t", "status": {"state": "TASK_STATE_WORKING"}}}, "task"),
        ({"message": {"messageId": "m", "role": "ROLE_AGENT", "content": [{"text": "a"}]}}, "message"),
        (
            {"statusUpdate": {"taskId": "t", "contextId": "c", "status": {"state": "TASK_STATE_WORKING"}}},
            "status_update",
        ),
        # Servers that leave the kind out:
        ({"id": "t", "status": {"state": "working"}}, "task"),
        ({"messageId": "m", "role": "agent", "parts": []}, "message"),
        ({"taskId": "t", "contextId": "c", "status": {"state": "working"}}, "status_update"),
        ({"taskId": "t", "contextId": "c", "artifact": {"artifactId": "a", "parts": []}}, "artifact_update"),
    ],
)
def test_an_update_is_told_by_its_kind_or_else_by_its_members(old: Json, member: str) -> None:
    update = read_update(encode(read.update(old)))
    assert update is not None
    assert getattr(update, member) is not None


@pytest.mark.parametrize("old", [{"kind": "dream", "id": "t"}, {}, [], None, {"dream": {}}])
def test_an_update_of_no_known_kind_is_passed_over(old: Any) -> None:
    assert read_update(encode(read.update(old))) is None


@pytest.mark.parametrize(
    "old",
    [
        {
            "taskId": "t1",
            "pushNotificationConfig": {
                "id": "p1",
                "url": "https://me.example",
                "token": "x",
                "authentication": {"schemes": ["Bearer", "Basic"], "credentials": "s"},
            },
        },
        {
            "name": "tasks/t1/pushNotificationConfigs/p1",
            "pushNotificationConfig": {
                "url": "https://me.example",
                "token": "x",
                "authentication": {"schemes": ["Bearer"], "credentials": "s"},
            },
        },
    ],
)
def test_a_nested_webhook_becomes_a_flat_one(old: Json) -> None:
    expected = TaskPushNotificationConfig(
        url="https://me.example",
        id="p1",
        task_id="t1",
        token="x",
        authentication=AuthenticationInfo(scheme="Bearer", credentials="s"),
    )
    assert expected == read_1_0(encode(read.push_config(old)), TaskPushNotificationConfig)


OBJECTS = ["kind", "id", "name", "status", "state", "message", "messageId", "parts", "content", "file", "bytes", "data"]
CARDS = ["url", "skills", "security", "securitySchemes", "additionalInterfaces", "capabilities", "metadata", "task"]
CONFIGS = ["configs", "pushNotificationConfig", "authentication", "schemes", "artifact", "artifacts", "history", "role"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.sampled_from(["", "task", "message", "tasks/1/x/2"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(OBJECTS + CARDS + CONFIGS), inner, max_size=4)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("reader", [read.update, read.task, read.push_config, read.push_configs, read.card])
@given(value=JSON)
def test_no_json_makes_a_reader_fail(reader: Any, value: Any) -> None:
    encode(reader(value))


# --- writing ---------------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
METADATA = st.none() | st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 9) | st.booleans(), min_size=1)
PARTS = st.one_of(
    st.builds(Part, text=TEXT, metadata=METADATA),
    st.builds(Part, raw=st.binary(max_size=8), filename=TEXT, media_type=TEXT, metadata=METADATA),
    st.builds(Part, url=st.just("https://f.example/a"), filename=TEXT, media_type=TEXT),
    st.builds(Part, data=st.dictionaries(TEXT, TEXT) | st.integers(0, 9) | st.lists(TEXT), metadata=METADATA),
)
MESSAGES = st.builds(
    Message,
    message_id=TEXT.filter(bool),
    role=st.sampled_from(Role),
    parts=st.lists(PARTS, min_size=1, max_size=4).map(tuple),
    context_id=st.sampled_from(["", "c1"]),
    task_id=st.sampled_from(["", "t1"]),
    metadata=METADATA,
    extensions=st.sampled_from([(), ("urn:x",)]),
    reference_task_ids=st.sampled_from([(), ("t0",)]),
)


@given(message=MESSAGES)
def test_the_sdk_understands_every_message_as_it_was_meant(message: Message) -> None:
    params = types.MessageSendParams.model_validate(write.send_params(SendMessageRequest(message=message)))
    understood = conversions.to_core_message(params.message)
    assert message == read_1_0(json_format.MessageToJson(understood).encode(), Message)


@given(message=MESSAGES)
def test_every_message_is_read_as_it_was_written(message: Message) -> None:
    request = SendMessageRequest(message=message)
    assert message == read_1_0(encode(read.message(write.send_params(request)["message"])), Message)
    # REST, through the official proto, which knows no references:
    proto = json_format.ParseDict(write.send_request(request), a2a_v0_3_pb2.SendMessageRequest())
    again = read.message(json_format.MessageToDict(proto)["message"])
    assert msgspec.structs.replace(message, reference_task_ids=()) == read_1_0(encode(again), Message)


def test_a_configuration_says_blocking_and_nests_its_webhook() -> None:
    message = Message(message_id="m", role=Role.USER, parts=(Part(text="a"),))
    webhook = TaskPushNotificationConfig(
        url="https://me.example", token="x", authentication=AuthenticationInfo(scheme="Bearer", credentials="s")
    )
    nested = {
        "url": "https://me.example",
        "token": "x",
        "authentication": {"schemes": ["Bearer"], "credentials": "s"},
    }
    request = SendMessageRequest(
        message=message,
        configuration=SendMessageConfiguration(
            return_immediately=True, history_length=0, task_push_notification_config=webhook
        ),
    )
    assert {"blocking": False, "historyLength": 0, "pushNotificationConfig": nested} == write.send_params(request)[
        "configuration"
    ]
    assert {"blocking": False, "historyLength": 0, "pushNotification": nested} == write.send_request(request)[
        "configuration"
    ]
    assert {"blocking": True} == write.send_params(SendMessageRequest(message=message))["configuration"]


# --- choosing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", [None, "JSONRPC"])
async def test_a_card_without_interfaces_is_one_of_0_3(first: Gateway, transport: str | None) -> None:
    first.card = old_card(first.url, transport)
    first.will(result(old_task("completed")))
    async with Client(first.url, extensions=["urn:x"], headers={"Authorization": "Bearer s"}) as client:
        task = await client.get("t1", history_length=3)
    assert TaskState.COMPLETED is task.status.state
    (seen,) = first.seen
    body = json.loads(seen.body)
    assert ("tasks/get", {"id": "t1", "historyLength": 3}) == (body["method"], body["params"])
    assert ("0.3", "urn:x", "Bearer s") == (
        seen.headers["a2a-version"],
        seen.headers["x-a2a-extensions"],
        seen.headers["authorization"],
    )
    assert "a2a-extensions" not in seen.headers


async def test_an_additional_interface_is_used_where_the_main_one_cannot_be(first: Gateway) -> None:
    more = [{"url": "127.0.0.1:1", "transport": "GRPC"}, {"url": first.url, "transport": "HTTP+JSON"}]
    first.card = old_card("127.0.0.1:1", "GRPC", additionalInterfaces=more)
    first.will(Answer(body={"id": "t1", "status": {"state": "TASK_STATE_CANCELLED"}}))
    async with Client(first.url) as client:
        assert TaskState.CANCELED is (await client.get("t1")).status.state
        assert ["GRPC", "HTTP+JSON"] == [each.protocol_binding for each in (await client.card()).supported_interfaces]
    assert ["GET /v1/tasks/t1"] == first.operations


async def test_1_0_comes_first_wherever_it_stands(first: Gateway, second: Gateway) -> None:
    first.card = card((second.url, "JSONRPC", "0.3"), (second.url, "HTTP+JSON", "1.0"))
    second.will(Answer(body={"id": "t1", "status": {"state": "TASK_STATE_WORKING"}}))
    async with Client(first.url, binding=["JSONRPC", "HTTP+JSON"]) as client:
        await client.get("t1")
    assert ["GET /tasks/t1"] == second.operations


async def test_a_hybrid_card_is_one_of_1_0(first: Gateway) -> None:
    first.card = {**old_card("https://wrong.example"), **card((first.url, "JSONRPC", "1.0"))}
    first.will(result({"id": "t1", "status": {"state": "TASK_STATE_WORKING"}}))
    async with Client(first.url) as client:
        await client.get("t1")
    assert ["GetTask"] == first.operations


async def test_an_interface_of_0_3_with_a_tenant_has_it_in_params(first: Gateway) -> None:
    first.card = card((first.url, "JSONRPC", "0.3.0"), tenant="acme")
    first.will(result(old_task("working")))
    async with Client(first.url) as client:
        await client.get("t1")
    assert {"id": "t1", "tenant": "acme"} == json.loads(first.seen[0].body)["params"]


async def test_a_server_that_refuses_its_own_version_is_not_tried_in_another(first: Gateway) -> None:
    first.card = card((first.url, "JSONRPC", "1.0"), (first.url, "JSONRPC", "0.3"))
    first.will(Answer(body=fault(-32009, "VERSION_NOT_SUPPORTED")))
    async with Client(first.url, retry=QUICK) as client:
        with pytest.raises(VersionNotSupportedError):
            await client.get("t1")
    assert ["GetTask"] == first.operations


# --- speaking --------------------------------------------------------------------------------------------------------


def _said(update: Update) -> str:
    if update.artifact:
        return str(update.artifact.artifact.parts[0].text)
    return update.state.name if update.state else "?"


async def _all(updates: Updates) -> list[str]:
    async with updates:
        return [f"{_said(update)}{'!' if update.resynchronised else ''}" async for update in updates]


async def test_a_stream_ends_with_the_task_and_goes_on_after_a_break(first: Gateway, second: Gateway) -> None:
    first.will(Answer(frames=(frame(old_task("submitted")), frame(old_chunk("a"))), then="cut"))
    second.will(
        Answer(
            frames=(
                frame(old_task("working", artifacts=[{"artifactId": "a1", "parts": [{"kind": "text", "text": "a"}]}])),
                frame(old_chunk("b")),
                frame(old_status("completed", final=True)),
            )
        )
    )
    async with Client.at([first.url, second.url], "JSONRPC", version="0.3", retry=QUICK) as client:
        assert ["SUBMITTED", "a", "WORKING!", "b", "COMPLETED"] == await _all(client.stream("go"))
    assert ["message/stream"] == first.operations
    assert ["tasks/resubscribe"] == second.operations
    assert {"id": "t1"} == json.loads(second.seen[0].body)["params"]


async def test_a_server_of_0_3_that_gives_cursors_is_resumed_from_them(first: Gateway, second: Gateway) -> None:
    first.will(Answer(frames=(frame(old_task("submitted"), "1"), frame(old_chunk("a"), "2")), then="cut"))
    second.will(Answer(frames=(frame(old_chunk("b"), "3"), frame(old_status("completed", final=True), "4"))))
    async with Client.at([first.url, second.url], "JSONRPC", version="0.3", retry=QUICK) as client:
        assert ["SUBMITTED", "a", "b", "COMPLETED"] == await _all(client.stream("go"))
    assert "2" == second.seen[0].headers["last-event-id"]


@pytest.mark.parametrize("code", [-32004, -32601, -32602])
async def test_a_task_that_ended_while_nobody_looked_is_fetched(first: Gateway, second: Gateway, code: int) -> None:
    first.will(Answer(frames=(frame(old_task("working")),), then="cut"))
    no = {"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": "no"}}
    refusal = Answer(frames=(f"data: {json.dumps(no)}\n\n".encode(),)) if code == -32004 else Answer(body=no)
    second.will(refusal, result(old_task("completed")))
    async with Client.at([first.url, second.url], "JSONRPC", version="0.3", retry=QUICK) as client:
        assert ["WORKING", "COMPLETED!"] == await _all(client.stream("go"))
    assert ["tasks/resubscribe", "tasks/get"] == second.operations


async def test_a_question_ends_the_stream(first: Gateway) -> None:
    first.will(Answer(frames=(frame(old_task("working")), frame(old_status("input-required", final=True)))))
    async with Client.at(first.url, "JSONRPC", version="0.3", retry=QUICK) as client:
        assert ["WORKING", "INPUT_REQUIRED"] == await _all(client.stream("go"))


async def test_every_operation_has_its_old_name(first: Gateway) -> None:
    config = {"taskId": "t1", "pushNotificationConfig": {"id": "p1", "url": "https://me.example"}}
    nothing = Answer(body={"jsonrpc": "2.0", "id": 1, "result": None})
    configs = Answer(body={"jsonrpc": "2.0", "id": 1, "result": [config]})
    first.will(result(old_task("completed")), result(old_task("canceled")), result(config), result(config))
    first.will(configs, nothing, result(old_card(first.url, supportsAuthenticatedExtendedCard=True)))
    async with Client.at(first.url, "JSONRPC", version="0.3", retry=QUICK) as client:
        assert isinstance(await client.send("hi"), Task)
        await client.cancel("t1", metadata={"k": 1})
        made = await client.push_configs.create("t1", "https://me.example", config_id="p1")
        assert made == await client.push_configs.get("t1", "p1")
        assert (made,) == (await client.push_configs.list("t1")).configs
        await client.push_configs.delete("t1", "p1")
        assert (await client.extended_card()).capabilities.extended_agent_card
        with pytest.raises(UnsupportedOperationError):
            await client.list_tasks()
    sent = [json.loads(seen.body) for seen in first.seen]
    assert [
        ("tasks/cancel", {"id": "t1", "metadata": {"k": 1}}),
        ("tasks/pushNotificationConfig/set", config),
        ("tasks/pushNotificationConfig/get", {"id": "t1", "pushNotificationConfigId": "p1"}),
        ("tasks/pushNotificationConfig/list", {"id": "t1"}),
        ("tasks/pushNotificationConfig/delete", {"id": "t1", "pushNotificationConfigId": "p1"}),
        ("agent/getAuthenticatedExtendedCard", None),
    ] == [(body["method"], body.get("params")) for body in sent[1:]]
    assert "params" not in sent[-1]
    message = sent[0]["params"]["message"]
    assert ("message/send", "message", "user", [{"kind": "text", "text": "hi"}]) == (
        sent[0]["method"],
        message["kind"],
        message["role"],
        message["parts"],
    )


async def test_every_operation_has_its_old_path(first: Gateway) -> None:
    config = {"name": "tasks/t1/pushNotificationConfigs/p1", "pushNotificationConfig": {"url": "https://me.example"}}
    task = {"id": "t1", "status": {"state": "TASK_STATE_WORKING", "message": {"messageId": "m", "role": "ROLE_AGENT"}}}
    first.will(Answer(body={"task": task}), Answer(body=task), Answer(body=config), Answer(body=config))
    first.will(Answer(body={"configs": [config]}), Answer(body={}), Answer(body=old_card(first.url)))
    subscribed = b'data: {"task":{"id":"t1","status":{"state":"TASK_STATE_COMPLETED"}}}\n\n'
    first.will(Answer(status=405, body={}), Answer(frames=(subscribed,)))
    async with Client.at(f"{first.url}/v1", "HTTP+JSON", version="0.3", retry=QUICK) as client:
        reply = await client.send("hi")
        assert isinstance(reply, Task)
        await client.cancel("t1")
        made = await client.push_configs.create("t1", "https://me.example", config_id="p1")
        assert ("p1", "t1") == (made.id, made.task_id)
        assert made == await client.push_configs.get("t1", "p1")
        assert (made,) == (await client.push_configs.list("t1")).configs
        await client.push_configs.delete("t1", "p1")
        await client.extended_card()
        assert ["COMPLETED"] == await _all(client.subscribe("t1"))
    assert [
        "POST /v1/message:send",
        "POST /v1/tasks/t1:cancel",
        "POST /v1/tasks/t1/pushNotificationConfigs",
        "GET /v1/tasks/t1/pushNotificationConfigs/p1",
        "GET /v1/tasks/t1/pushNotificationConfigs",
        "DELETE /v1/tasks/t1/pushNotificationConfigs/p1",
        "GET /v1/card",
        "POST /v1/tasks/t1:subscribe",
        "GET /v1/tasks/t1:subscribe",
    ] == first.operations
    message = json.loads(first.seen[0].body)["message"]
    assert ("ROLE_USER", [{"text": "hi"}]) == (message["role"], message["content"])


@pytest.mark.parametrize("kind", [kind for kind in A2A_ERRORS if not issubclass(kind, UnavailableError)])
async def test_an_error_that_only_names_its_class_is_that_class(first: Gateway, kind: type[Exception]) -> None:
    first.will(Answer(status=500, body={"type": kind.__name__, "message": "no"}))
    async with Client.at(first.url, "HTTP+JSON", version="0.3", retry=QUICK) as client:
        with pytest.raises(kind) as caught:
            await client.get("t1")
    assert kind is type(caught.value)


async def test_a_server_that_is_away_is_asked_again_when_it_wants(first: Gateway) -> None:
    away = {"type": "UnavailableError", "message": "later"}
    first.will(Answer(status=503, body=away, headers={"retry-after": "0"}), Answer(status=503, body=away))
    async with Client.at(first.url, "HTTP+JSON", version="0.3", retry=QUICK) as client:
        with pytest.raises(UnavailableError):
            await client.get("t1")
    assert 2 == len(first.seen)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (-32001, TaskNotFoundError),
        (-32002, TaskNotCancelableError),
        (-32005, ContentTypeNotSupportedError),
        (-32601, MethodNotFoundError),
    ],
)
async def test_errors_of_0_3_have_codes_and_data_of_any_shape(first: Gateway, code: int, kind: type[Exception]) -> None:
    first.will(Answer(body={"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": "no", "data": {"x": 1}}}))
    async with Client.at(first.url, "JSONRPC", version="0.3", retry=QUICK) as client:
        with pytest.raises(kind):
            await client.cancel("t1")


async def test_updates_of_0_3_add_up_to_a_task(first: Gateway) -> None:
    first.will(
        Answer(
            frames=(
                frame(old_task("submitted")),
                frame(old_chunk("a")),
                frame(old_chunk("b")),
                frame(old_status("completed", final=True)),
            )
        )
    )
    told: Task | None = None
    async with (
        Client.at(first.url, "JSONRPC", version="0.3", retry=QUICK) as client,
        client.stream("go") as updates,
    ):
        async for update in updates:
            told = accumulate(told, update.response)
    assert told is not None
    assert (TaskState.COMPLETED, ["a", "b"]) == (told.status.state, [part.text for part in told.artifacts[0].parts])


# --- the card --------------------------------------------------------------------------------------------------------


async def test_a_card_of_0_3_is_shown_in_the_words_of_1_0(first: Gateway) -> None:
    first.card = old_card(
        first.url,
        protocolVersion="0.3.0",
        supportsAuthenticatedExtendedCard=True,
        security=[{"key": []}, {"oidc": ["openid"]}],
        securitySchemes={
            "key": {"type": "apiKey", "in": "header", "name": "X-Key"},
            "oidc": {"type": "openIdConnect", "openIdConnectUrl": "https://id.example"},
        },
        skills=[{"id": "s", "name": "S", "description": "d", "tags": ["t"], "security": [{"key": []}]}],
    )
    async with Client(first.url) as client:
        shown = await client.card()
    assert [(first.url, "JSONRPC", "0.3")] == [
        (each.url, each.protocol_binding, each.protocol_version) for each in shown.supported_interfaces
    ]
    assert (True, True) == (shown.capabilities.streaming, shown.capabilities.extended_agent_card)
    assert [{"key": ()}, {"oidc": ("openid",)}] == [
        {name: scopes.list for name, scopes in each.schemes.items()} for each in shown.security_requirements
    ]
    assert {
        "key": {"apiKeySecurityScheme": {"location": "header", "name": "X-Key"}},
        "oidc": {"openIdConnectSecurityScheme": {"openIdConnectUrl": "https://id.example"}},
    } == shown.security_schemes
    assert ["key"] == list(shown.skills[0].security_requirements[0].schemes)
