"""A2A 0.3 as 1.0 and back: pure translations, in both spellings of 0.3."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2a_events.bindings.v0_3 import card, configs, proto, requests, schema
from a2a_events.bindings.v0_3.dialects import HTTP_JSON, JSONRPC
from a2a_events.bindings.v0_3.errors import error, http_body, http_status
from a2a_events.errors import A2A_ERRORS, A2AError, InvalidParamsError, TaskNotFoundError
from a2a_events.model import (
    TERMINAL_STATES,
    GetTaskPushNotificationConfigRequest,
    ListTaskPushNotificationConfigsRequest,
    Message,
    Part,
    SendMessageRequest,
    Task,
    TaskPushNotificationConfig,
    TaskState,
    encode,
)
from a2a_events.runtime.caller import Caller, Result
from tests.unit.wire_strategies import messages, older_json, tasks

PROPERTY = settings(max_examples=40, deadline=None)
DIALECTS = pytest.mark.parametrize("dialect", [JSONRPC, HTTP_JSON], ids=["schema", "proto"])
KINDS = {"task", "message", "status-update", "artifact-update", "text", "file", "data"}


def plain(value: object) -> Any:
    return msgspec.json.decode(encode(value))


def as_0_3_can_say(message: Message, *, of_proto: bool) -> Message:
    """A message without what 0.3 has no place for."""
    parts = tuple(
        part
        if part.text is msgspec.UNSET and part.data is msgspec.UNSET
        else msgspec.structs.replace(part, filename="", media_type="")
        for part in message.parts
    )
    kept = msgspec.structs.replace(message, parts=parts)
    return msgspec.structs.replace(kept, reference_task_ids=()) if of_proto else kept


def sent(dialect: Any, message: dict[str, Any], **members: Any) -> SendMessageRequest:
    made = dialect.made("SendMessage", {"message": message, **members})
    assert isinstance(made, SendMessageRequest)
    return made


def refused(dialect: Any, operation: str, members: Any) -> list[str]:
    with pytest.raises(InvalidParamsError) as refusal:
        dialect.made(operation, members)
    return [field for field, _ in refusal.value.violations]


# --- messages and parts ----------------------------------------------------------------------------------------------


@PROPERTY
@given(messages)
def test_a_message_comes_back_from_either_spelling_as_it_went(message: Message) -> None:
    for dialect, objects in ((JSONRPC, schema.OBJECTS), (HTTP_JSON, proto.OBJECTS)):
        written = objects.message(plain(message))
        expected = as_0_3_can_say(message, of_proto=dialect is HTTP_JSON)
        assert expected == sent(dialect, written).message


PARTS: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"text": ""}, {"kind": "text", "text": ""}, {"text": ""}),
    (
        {"text": "x", "metadata": {"a_b": None}},
        {"kind": "text", "text": "x", "metadata": {"a_b": None}},
        {"text": "x", "metadata": {"a_b": None}},
    ),
    (
        {"raw": "+/8=", "filename": "a.bin", "mediaType": "image/png"},
        {"kind": "file", "file": {"bytes": "+/8=", "mimeType": "image/png", "name": "a.bin"}},
        {"file": {"fileWithBytes": "+/8=", "mimeType": "image/png", "name": "a.bin"}},
    ),
    (
        {"url": "https://example.com/a"},
        {"kind": "file", "file": {"uri": "https://example.com/a"}},
        {"file": {"fileWithUri": "https://example.com/a"}},
    ),
    ({"data": {"data": 1}}, {"kind": "data", "data": {"data": 1}}, {"data": {"data": {"data": 1}}}),
    ({"data": {}}, {"kind": "data", "data": {}}, {"data": {"data": {}}}),
    (
        {"data": [1, None], "metadata": {"k": 1}},
        {"kind": "data", "data": {"value": [1, None]}, "metadata": {"k": 1, "data_part_compat": True}},
        {"data": {"data": {"value": [1, None]}}, "metadata": {"k": 1, "data_part_compat": True}},
    ),
    (
        {"data": None},
        {"kind": "data", "data": {"value": None}, "metadata": {"data_part_compat": True}},
        {"data": {"data": {"value": None}}, "metadata": {"data_part_compat": True}},
    ),
]


@pytest.mark.parametrize(("part", "of_schema", "of_proto"), PARTS)
def test_a_part_is_written_in_both_spellings_and_read_from_both(
    part: dict[str, Any], of_schema: dict[str, Any], of_proto: dict[str, Any]
) -> None:
    assert of_schema == schema.part(part)
    assert of_proto == proto.part(part)
    expected = msgspec.convert({**part, **({"raw": b"\xfb\xff"} if "raw" in part else {})}, Part)
    for dialect in (JSONRPC, HTTP_JSON):
        for members in ({"parts": [of_schema]}, {"content": [of_proto]}):
            message = {"messageId": "m", "role": "user", **members}
            assert (expected,) == sent(dialect, message).message.parts


def test_names_of_the_proto_in_snake_case_are_read() -> None:
    request = HTTP_JSON.made(
        "SendMessage",
        {
            "request": {
                "message_id": "m",
                "context_id": "c",
                "task_id": "t",
                "role": "ROLE_USER",
                "content": [{"file": {"file_with_uri": "u", "mime_type": "text/plain"}}],
            },
            "configuration": {"accepted_output_modes": ["text/plain"], "history_length": 3, "blocking": True},
        },
    )
    assert ("m", "c", "t") == (request.message.message_id, request.message.context_id, request.message.task_id)
    assert (Part(url="u", media_type="text/plain"),) == request.message.parts
    assert (("text/plain",), 3, False) == (
        request.configuration.accepted_output_modes,
        request.configuration.history_length,
        request.configuration.return_immediately,
    )


MALFORMED: list[tuple[Any, str]] = [
    ({}, "message"),
    ({"message": "hi"}, "message"),
    ({"message": None}, "message"),
    ({"message": {"role": "user", "parts": []}}, "message.messageId"),
    ({"message": {"messageId": "m", "role": "assistant", "parts": []}}, "message.role"),
    ({"message": {"messageId": "m", "role": ["user"], "parts": []}}, "message.role"),
    ({"message": {"messageId": "m", "role": "user", "parts": "x"}}, "message.parts"),
    ({"message": {"messageId": "m", "role": "user", "parts": ["x"]}}, "message.parts[0]"),
    ({"message": {"messageId": "m", "role": "user", "parts": [{"kind": "text"}]}}, "message.parts[0]"),
    ({"message": {"messageId": "m", "role": "user", "parts": [{"kind": "file", "file": 7}]}}, "message.parts[0]"),
    (
        {"message": {"messageId": "m", "role": "user", "parts": [{"file": {"uri": "a", "bytes": "aGk="}}]}},
        "message.parts[0]",
    ),
    ({"message": {"messageId": "m", "role": "user", "parts": [{"file": {"bytes": "!"}}]}}, "message.parts[0].raw"),
    ({"message": {"messageId": "m", "role": "user", "parts": []}, "configuration": 7}, "configuration"),
    (
        {"message": {"messageId": "m", "role": "user", "parts": []}, "configuration": {"blocking": "yes"}},
        "configuration.returnImmediately",
    ),
    (
        {"message": {"messageId": "m", "role": "user", "parts": []}, "configuration": {"historyLength": -1}},
        "configuration.historyLength",
    ),
]


@DIALECTS
@pytest.mark.parametrize(("params", "field"), MALFORMED, ids=lambda value: str(value)[:50])
def test_a_malformed_send_is_refused_by_the_name_of_its_field(dialect: Any, params: Any, field: str) -> None:
    assert [field] == refused(dialect, "SendMessage", params)


@PROPERTY
@given(
    st.sampled_from(sorted(requests.JSONRPC)), st.dictionaries(st.sampled_from(["message", "id", "config"]), older_json)
)
def test_whatever_is_sent_is_read_or_refused(operation: str, members: dict[str, Any]) -> None:
    for dialect in (JSONRPC, HTTP_JSON):
        try:
            dialect.made(operation, members)
        except A2AError as raised:
            assert raised.violations  # noqa: PT017 -- either outcome is right


# --- configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("configuration", "immediately"),
    [(None, None), ({}, False), ({"blocking": True}, False), ({"blocking": False}, True)],
)
def test_blocking_is_the_inverse_and_absent_means_to_wait(
    configuration: dict[str, Any] | None, immediately: bool | None
) -> None:
    members = {} if configuration is None else {"configuration": configuration}
    made = sent(JSONRPC, {"messageId": "m", "role": "user", "parts": []}, **members)
    assert immediately == (made.configuration.return_immediately if made.configuration else None)


def test_in_the_proto_absent_means_false_and_no_length_is_no_limit() -> None:
    message = {"messageId": "m", "role": "ROLE_USER", "content": []}
    configured = sent(HTTP_JSON, message, configuration={"historyLength": 0}).configuration
    assert configured is not None
    assert (True, None) == (configured.return_immediately, configured.history_length)
    assert sent(HTTP_JSON, message).configuration is None


def test_in_the_schema_a_history_length_of_0_means_none() -> None:
    made = sent(JSONRPC, {"messageId": "m", "role": "user", "parts": []}, configuration={"historyLength": 0})
    assert made.configuration is not None
    assert 0 == made.configuration.history_length


# --- tasks and updates -----------------------------------------------------------------------------------------------


def check(value: Any) -> None:
    """That nothing of 1.0 is in it, and no null outside of what clients and agents wrote."""
    if isinstance(value, list):
        for element in value:
            check(element)
    if isinstance(value, dict):
        assert not {"raw", "mediaType", "filename", "statusUpdate"} & set(value), value
        assert value.get("kind", "task") in KINDS
        assert not str(value.get("state", "")).startswith("TASK_STATE")
        assert not str(value.get("role", "")).startswith("ROLE_")
        for name, content in value.items():
            if name not in {"metadata", "data"}:
                assert content is not None, name
                check(content)


@PROPERTY
@given(tasks)
def test_a_task_in_the_schema_has_nothing_of_1_0_in_it(task: Task) -> None:
    shown = msgspec.json.decode(schema.webhook_body(encode(task)))
    assert ("task", task.id) == (shown["kind"], shown["id"])
    assert len(task.artifacts) == len(shown.get("artifacts", []))
    assert ["message"] * len(task.history) == [said["kind"] for said in shown.get("history", [])]
    check(shown)


def status_update(state: TaskState) -> dict[str, Any]:
    status = {"state": state.value, "timestamp": "2026-11-21T03:50:00.123Z"}
    return {"statusUpdate": {"taskId": "t", "contextId": "c", "status": status}}


STATES = {
    TaskState.SUBMITTED: ("submitted", "TASK_STATE_SUBMITTED"),
    TaskState.WORKING: ("working", "TASK_STATE_WORKING"),
    TaskState.COMPLETED: ("completed", "TASK_STATE_COMPLETED"),
    TaskState.FAILED: ("failed", "TASK_STATE_FAILED"),
    TaskState.CANCELED: ("canceled", "TASK_STATE_CANCELLED"),
    TaskState.INPUT_REQUIRED: ("input-required", "TASK_STATE_INPUT_REQUIRED"),
    TaskState.REJECTED: ("rejected", "TASK_STATE_REJECTED"),
    TaskState.AUTH_REQUIRED: ("auth-required", "TASK_STATE_AUTH_REQUIRED"),
}


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("state", TaskState)
def test_an_update_is_final_when_the_task_or_the_stream_ends_with_it(state: TaskState, last: bool) -> None:
    of_schema, of_proto = STATES[state]
    final = last or state in TERMINAL_STATES
    status = {"state": of_schema, "timestamp": "2026-11-21T03:50:00.123Z"}
    shown = {"kind": "status-update", "taskId": "t", "contextId": "c", "status": status, "final": final}
    assert shown == schema.update(status_update(state), last)
    wrapped = {"taskId": "t", "contextId": "c", "status": {**status, "state": of_proto}, "final": final}
    assert {"statusUpdate": wrapped} == proto.update(status_update(state), last)


def test_an_artifact_update_keeps_how_it_is_to_be_merged() -> None:
    update = {
        "artifactUpdate": {
            "taskId": "t",
            "contextId": "c",
            "artifact": {"artifactId": "a", "parts": [{"text": "x"}]},
            "append": True,
            "lastChunk": True,
            "generation": "7",
        }
    }
    assert schema.update(update, False) == {
        "kind": "artifact-update",
        "taskId": "t",
        "contextId": "c",
        "artifact": {"artifactId": "a", "parts": [{"kind": "text", "text": "x"}]},
        "append": True,
        "lastChunk": True,
    }


def test_a_send_is_answered_bare_in_the_schema_and_wrapped_in_the_proto() -> None:
    message = {"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": "x"}]}
    bare = {"kind": "message", "messageId": "m", "role": "agent", "parts": [{"kind": "text", "text": "x"}]}
    assert bare == schema.RESULTS["SendMessage"]({"message": message})
    wrapped = {"messageId": "m", "role": "ROLE_AGENT", "content": [{"text": "x"}]}
    assert {"message": wrapped} == proto.RESULTS["SendMessage"]({"message": message})


# --- webhooks --------------------------------------------------------------------------------------------------------

FLAT = {
    "taskId": "t",
    "id": "c",
    "url": "https://example.com/hook",
    "token": "secret",
    "authentication": {"scheme": "Bearer", "credentials": "k"},
}
NESTED = {
    "id": "c",
    "url": "https://example.com/hook",
    "token": "secret",
    "authentication": {"schemes": ["Bearer"], "credentials": "k"},
}
CONFIG = msgspec.convert(FLAT, TaskPushNotificationConfig)


@pytest.mark.parametrize(
    "params",
    [
        {"taskId": "t", "pushNotificationConfig": NESTED},
        {"task_id": "t", "push_notification_config": NESTED},
        {"taskId": "t", "config": {"name": "x", "pushNotificationConfig": NESTED}, "config_id": "other"},
        {
            "taskId": "t",
            "configId": "c",
            "config": {"pushNotificationConfig": {name: NESTED[name] for name in NESTED if name != "id"}},
        },
        {
            "taskId": "t",
            "pushNotificationConfig": {
                **NESTED,
                "authentication": {"schemes": ["Bearer", "Basic"], "credentials": "k"},
            },
        },
    ],
)
def test_a_webhook_is_read_however_it_is_nested(params: dict[str, Any]) -> None:
    for dialect in (JSONRPC, HTTP_JSON):
        assert CONFIG == dialect.made("CreateTaskPushNotificationConfig", params)


def test_a_webhook_is_shown_nested() -> None:
    assert {"taskId": "t", "pushNotificationConfig": NESTED} == schema.push_config(FLAT)
    named = {"name": "tasks/t/pushNotificationConfigs/c", "pushNotificationConfig": NESTED}
    assert named == proto.push_config(FLAT)
    page = {"configs": [FLAT, FLAT]}
    assert [schema.push_config(FLAT)] * 2 == schema.RESULTS["ListTaskPushNotificationConfigs"](page)
    assert {"configs": [named, named]} == proto.RESULTS["ListTaskPushNotificationConfigs"](page)
    assert schema.RESULTS["DeleteTaskPushNotificationConfig"]({}) is None


@pytest.mark.parametrize("name", ["pushNotificationConfig", "pushNotification"])
def test_a_webhook_in_a_send_is_read_under_either_name(name: str) -> None:
    made = sent(JSONRPC, {"messageId": "m", "role": "user", "parts": []}, configuration={name: NESTED})
    assert made.configuration is not None
    assert msgspec.structs.replace(CONFIG, task_id="") == made.configuration.task_push_notification_config


def test_the_ids_of_a_webhook_change_places() -> None:
    place = {"id": "t", "pushNotificationConfigId": "c"}
    for operation in ("GetTaskPushNotificationConfig", "DeleteTaskPushNotificationConfig"):
        made = JSONRPC.made(operation, place)
        assert ("t", "c") == (made.task_id, made.id)
    assert "" == JSONRPC.made("GetTaskPushNotificationConfig", {"id": "t"}).id
    assert ["id"] == refused(JSONRPC, "DeleteTaskPushNotificationConfig", {"id": "t"})
    assert "t" == JSONRPC.made("ListTaskPushNotificationConfigs", {"id": "t"}).task_id


@pytest.mark.parametrize(
    ("status", "state"), [("completed", TaskState.COMPLETED), ("TASK_STATE_CANCELLED", TaskState.CANCELED)]
)
def test_tasks_are_listed_by_states_of_either_spelling(status: str, state: TaskState) -> None:
    for dialect in (JSONRPC, HTTP_JSON):
        assert state.value == dialect.made("ListTasks", {"status": status}, strict=False).status


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", A2A_ERRORS)
def test_no_error_has_a_code_that_0_3_does_not_know(of: type[A2AError]) -> None:
    shown = error(of())
    assert shown.jsonrpc_code in {*range(-32007, -32000), -32700, *range(-32603, -32599)}
    body = msgspec.json.decode(http_body(shown))
    assert {"code", "type", "message", "data"} == set(body)
    assert (shown.jsonrpc_code, shown.message) == (body["code"], body["message"])
    assert (409 if shown.reason == "TASK_NOT_CANCELABLE" else shown.http_status) == http_status(shown)


def test_the_name_of_an_error_is_that_of_its_code() -> None:
    names = {of.reason: msgspec.json.decode(http_body(of()))["type"] for of in A2A_ERRORS}
    assert "TaskNotFoundError" == names["TASK_NOT_FOUND"]
    assert "InvalidParamsError" == names["PAYLOAD_TOO_LARGE"]


# --- the card --------------------------------------------------------------------------------------------------------

CARD: dict[str, Any] = {
    "name": "n",
    "description": "d",
    "version": "7",
    "supportedInterfaces": [
        {"url": "https://example.com", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"},
        {"url": "https://example.com", "protocolBinding": "HTTP+JSON", "protocolVersion": "1.0"},
        {"url": "example.com:443", "protocolBinding": "GRPC", "protocolVersion": "1.0"},
        {"url": "https://shared.example", "protocolBinding": "JSONRPC", "protocolVersion": "1.0", "tenant": "t"},
    ],
    "capabilities": {"streaming": True, "extendedAgentCard": True},
    "defaultInputModes": ["text/plain"],
    "defaultOutputModes": ["text/plain"],
    "skills": [
        {
            "id": "s",
            "name": "S",
            "description": "D",
            "tags": ["t"],
            "securityRequirements": [{"schemes": {"oidc": {"list": ["openid"]}}}],
        }
    ],
    "securitySchemes": {
        "key": {"apiKeySecurityScheme": {"location": "header", "name": "X-Key"}},
        "bearer": {"httpAuthSecurityScheme": {"scheme": "Bearer", "bearerFormat": "JWT"}},
        "oauth": {"oauth2SecurityScheme": {"flows": {"clientCredentials": {"tokenUrl": "u", "scopes": {"a": "b"}}}}},
        "oidc": {"openIdConnectSecurityScheme": {"openIdConnectUrl": "u"}},
        "tls": {"mtlsSecurityScheme": {}},
    },
    "securityRequirements": [{"schemes": {"key": {}, "oidc": {"list": ["openid"]}}}],
    "signatures": [{"protected": "p", "signature": "s"}],
}
INTERFACES = [
    {"url": "https://example.com", "transport": "JSONRPC"},
    {"url": "https://example.com", "transport": "HTTP+JSON"},
]
SCHEMES: dict[str, dict[str, Any]] = {
    "key": {"type": "apiKey", "in": "header", "name": "X-Key"},
    "bearer": {"type": "http", "scheme": "Bearer", "bearerFormat": "JWT"},
    "oauth": {"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": "u", "scopes": {"a": "b"}}}},
    "oidc": {"type": "openIdConnect", "openIdConnectUrl": "u"},
    "tls": {"type": "mutualTLS"},
}


def test_a_card_of_0_3_has_its_members_and_no_others() -> None:
    skill = {"id": "s", "name": "S", "description": "D", "tags": ["t"], "security": [{"oidc": ["openid"]}]}
    assert card.card(CARD) == {
        "protocolVersion": "0.3.0",
        "name": "n",
        "description": "d",
        "version": "7",
        "url": "https://example.com",
        "preferredTransport": "JSONRPC",
        "additionalInterfaces": INTERFACES,
        "capabilities": {"streaming": True},
        "supportsAuthenticatedExtendedCard": True,
        "defaultInputModes": ["text/plain"],
        "defaultOutputModes": ["text/plain"],
        "skills": [skill],
        "securitySchemes": SCHEMES,
        "security": [{"key": [], "oidc": ["openid"]}],
    }


def test_a_hybrid_card_has_the_members_of_both_versions() -> None:
    both = card.hybrid_card(CARD)
    assert set(card.card(CARD)) | set(CARD) - {"signatures"} == set(both)
    versions = [(i["protocolBinding"], i["protocolVersion"]) for i in both["supportedInterfaces"]]
    of_1_0 = [("JSONRPC", "1.0"), ("HTTP+JSON", "1.0"), ("GRPC", "1.0"), ("JSONRPC", "1.0")]
    assert [*of_1_0, ("JSONRPC", "0.3"), ("HTTP+JSON", "0.3")] == versions
    for name, scheme in SCHEMES.items():
        assert {**scheme, **CARD["securitySchemes"][name]} == both["securitySchemes"][name]
    assert {"security", "securityRequirements"} < set(both["skills"][0])
    assert True is both["capabilities"]["extendedAgentCard"]


def test_a_card_of_the_proto_writes_security_as_1_0_does() -> None:
    shown = card.proto_card(CARD)
    assert CARD["securitySchemes"] == shown["securitySchemes"]
    assert CARD["securityRequirements"] == shown["security"]
    assert CARD["skills"][0]["securityRequirements"] == shown["skills"][0]["security"]


# --- the operations on webhooks that are put together ----------------------------------------------------------------


class Kept:
    """Configs of one task, shown in pages of one."""

    def __init__(self, *ids: str) -> None:
        self.push_configs = self
        self._configs = [{"id": config_id, "taskId": "t", "url": "https://example.com"} for config_id in ids]

    async def get(self, _caller: Caller, _agent: object, asked: GetTaskPushNotificationConfigRequest) -> Result:
        return Result(encode(next(config for config in self._configs if config["id"] == asked.id)))

    async def page(self, _caller: Caller, _agent: object, asked: ListTaskPushNotificationConfigsRequest) -> Result:
        at = int(asked.page_token or 0)
        more = {"nextPageToken": str(at + 1)} if at + 1 < len(self._configs) else {}
        return Result(encode({"configs": self._configs[at : at + 1], **more}))


async def test_all_webhooks_are_listed_whatever_pages_they_come_in() -> None:
    for ids in ([], ["a"], ["a", "b", "c"]):
        result = await configs.page(
            cast("Any", Kept(*ids)), Caller(), cast("Any", None), ListTaskPushNotificationConfigsRequest(task_id="t")
        )
        assert ids == [config["id"] for config in msgspec.json.decode(result.json)["configs"]]


async def test_a_webhook_is_got_by_its_id_or_is_the_first() -> None:
    kept: Any = Kept("a", "b")
    for asked, expected in (("b", "b"), ("", "a")):
        request = GetTaskPushNotificationConfigRequest(task_id="t", id=asked)
        result = await configs.get(kept, Caller(), cast("Any", None), request)
        assert expected == msgspec.json.decode(result.json)["id"]
    with pytest.raises(TaskNotFoundError):
        await configs.get(
            cast("Any", Kept()), Caller(), cast("Any", None), GetTaskPushNotificationConfigRequest(task_id="t", id="")
        )
