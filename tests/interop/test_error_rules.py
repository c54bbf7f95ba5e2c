"""Every error as a client sees it: member by member, the same in both bindings, and silent about other callers."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from msgspec import Struct

from tests.interop.agents import REQUIRED
from tests.interop.wire import BINDINGS, HTTP_JSON, JSONRPC, RPC_ID, Caller, message, script, send

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

UNKNOWN = "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA"
"""An id that we could have made, and have not."""

CODES = {
    "TASK_NOT_FOUND": (-32001, 404, "NOT_FOUND"),
    "TASK_NOT_CANCELABLE": (-32002, 400, "FAILED_PRECONDITION"),
    "PUSH_NOTIFICATION_NOT_SUPPORTED": (-32003, 400, "FAILED_PRECONDITION"),
    "UNSUPPORTED_OPERATION": (-32004, 400, "FAILED_PRECONDITION"),
    "CONTENT_TYPE_NOT_SUPPORTED": (-32005, 400, "INVALID_ARGUMENT"),
    "EXTENDED_AGENT_CARD_NOT_CONFIGURED": (-32007, 400, "FAILED_PRECONDITION"),
    "EXTENSION_SUPPORT_REQUIRED": (-32008, 400, "FAILED_PRECONDITION"),
    "VERSION_NOT_SUPPORTED": (-32009, 400, "FAILED_PRECONDITION"),
    "INVALID_PARAMS": (-32602, 400, "INVALID_ARGUMENT"),
}
"""JSON-RPC code, HTTP status and status name of each error (specification 5.4, as of 1.0.1)."""


class Case(Struct, frozen=True):
    """A request that must fail, and the error that it gets."""

    operation: str
    params: dict[str, Any]
    reason: str
    message: str
    metadata: dict[str, str] | None = None
    violations: tuple[tuple[str, str], ...] = ()
    agent: str = ""
    version: str = "1.0"
    headers: dict[str, str] = {}


ENDED = "an ended task"
"""Stands in parameters for the id of one."""

CASES = {
    "an unknown task": Case("GetTask", {"id": UNKNOWN}, "TASK_NOT_FOUND", "Task not found"),
    "canceling an unknown task": Case("CancelTask", {"id": UNKNOWN}, "TASK_NOT_FOUND", "Task not found"),
    "a message to an unknown task": Case("SendMessage", send("x", taskId=UNKNOWN), "TASK_NOT_FOUND", "Task not found"),
    "canceling an ended task": Case("CancelTask", {"id": ENDED}, "TASK_NOT_CANCELABLE", "Task cannot be canceled"),
    "a message to an ended task": Case(
        "SendMessage",
        send("x", taskId=ENDED),
        "UNSUPPORTED_OPERATION",
        "The task has ended; start a new one in the same context",
    ),
    "subscribing to an ended task": Case(
        "SubscribeToTask", {"id": ENDED}, "UNSUPPORTED_OPERATION", "The task has ended: GetTask shows it"
    ),
    "a stream of an agent that has none": Case(
        "SendStreamingMessage",
        send("x"),
        "UNSUPPORTED_OPERATION",
        "This agent does not stream: use SendMessage and GetTask",
        agent="/agents/quiet",
    ),
    "a media type that the agent does not take": Case(
        "SendMessage",
        send({"text": "x", "mediaType": "application/pdf"}),
        "CONTENT_TYPE_NOT_SUPPORTED",
        "The agent does not take 'application/pdf'",
        agent="/agents/reader",
    ),
    "an extension that the agent requires": Case(
        "GetTask",
        {"id": UNKNOWN},
        "EXTENSION_SUPPORT_REQUIRED",
        f"This agent requires the extension {REQUIRED}; name it in the A2A-Extensions header",
        metadata={"extensions": REQUIRED},
        agent="/agents/strict",
    ),
    "an extended card that is promised and not there": Case(
        "GetExtendedAgentCard",
        {},
        "EXTENDED_AGENT_CARD_NOT_CONFIGURED",
        "Extended agent card is not configured",
        agent="/agents/strict",
        headers={"A2A-Extensions": REQUIRED},
    ),
    "an extended card that is not promised": Case(
        "GetExtendedAgentCard",
        {},
        "UNSUPPORTED_OPERATION",
        "This agent has no extended card",
        agent="/agents/quiet",
    ),
    "a webhook for an agent that takes none": Case(
        "CreateTaskPushNotificationConfig",
        {"taskId": UNKNOWN, "url": "https://example.com/hook"},
        "PUSH_NOTIFICATION_NOT_SUPPORTED",
        "Push notifications are not supported",
        agent="/agents/quiet",
    ),
    "a version that nobody speaks": Case(
        "GetTask",
        {"id": UNKNOWN},
        "VERSION_NOT_SUPPORTED",
        "This is served in A2A 1.0; set the A2A-Version header accordingly (absent means 0.3)",
        metadata={"supportedVersions": "1.0"},
        version="9.9",
    ),
    "two fields that are wrong": Case(
        "SendMessage",
        {"message": {"messageId": "", "role": "ROLE_AGENT", "parts": [{"text": "x"}]}},
        "INVALID_PARAMS",
        "Invalid parameters",
        violations=(("message.messageId", "must be 1 to 512 characters"), ("message.role", "must be ROLE_USER")),
    ),
    "a message without parts": Case(
        "SendStreamingMessage",
        {"message": {**message("x"), "parts": []}},
        "INVALID_PARAMS",
        "Invalid parameters",
        violations=(("message.parts", "must hold 1 to 1000 parts"),),
    ),
}


def body(binding: str, case: Case) -> dict[str, Any]:
    """What a client must be told."""
    code, http_status, status = CODES[case.reason]
    info: dict[str, Any] = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": case.reason,
        "domain": "a2a-protocol.org",
    }
    if case.metadata:
        info["metadata"] = case.metadata
    details = [info]
    if case.violations:
        fields = [{"field": field, "description": text} for field, text in case.violations]
        details.append({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": fields})
    if binding == JSONRPC:
        error = {"code": code, "message": case.message, "data": details}
        return {"jsonrpc": "2.0", "id": RPC_ID, "error": error}
    return {"error": {"code": http_status, "status": status, "message": case.message, "details": details}}


@pytest.mark.parametrize("case", CASES)
async def test_an_error_is_this_body_in_either_binding(caller: Caller, case: str) -> None:
    given = CASES[case]
    ended = ""
    if ENDED in str(given.params):
        ended = (await caller.call("SendMessage", send(script(chunks=1))))["task"]["id"]
    asking = Caller(caller.http, caller.binding, given.agent)
    params = replaced(given.params, ENDED, ended)
    asked = asking.request(given.operation, params, version=given.version, headers=given.headers)
    response = await caller.http.send(asked)
    assert body(caller.binding, given) == response.json()
    assert "application/json" == response.headers["content-type"]
    assert (200 if caller.binding == JSONRPC else CODES[given.reason][1]) == response.status_code


def replaced(value: Any, old: str, new: str) -> Any:
    """A document with one string for another."""
    if isinstance(value, dict):
        return {name: replaced(content, old, new) for name, content in value.items()}
    return new if value == old else value


async def test_an_error_before_the_envelope_is_read_has_no_request_id(http: httpx.AsyncClient) -> None:
    headers = {"A2A-Version": "1.0", "content-type": "application/json"}
    for content, code, reason, text in [
        (b"{", -32700, "PARSE_ERROR", "Invalid JSON payload"),
        (b"[]", -32600, "INVALID_REQUEST", "Request payload validation error"),
        (b'{"jsonrpc":"2.0","id":3,"method":"Shout"}', -32601, "METHOD_NOT_FOUND", "There is no method 'Shout'"),
    ]:
        answer = (await http.post("/", content=content, headers=headers)).json()
        info = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": reason,
            "domain": "a2a-protocol.org",
        }
        known_id = 3 if code == -32601 else None
        assert {"jsonrpc": "2.0", "id": known_id, "error": {"code": code, "message": text, "data": [info]}} == answer


# --- existence is not told (specification 3.3.4, 7.5) ----------------------------------------------------------------

OPERATIONS: list[tuple[str, dict[str, Any]]] = [
    ("GetTask", {"id": "?"}),
    ("CancelTask", {"id": "?"}),
    ("SubscribeToTask", {"id": "?"}),
    ("SendMessage", send("x", taskId="?")),
    ("SendStreamingMessage", send("x", taskId="?")),
    ("CreateTaskPushNotificationConfig", {"taskId": "?", "url": "https://example.com/hook"}),
    ("GetTaskPushNotificationConfig", {"taskId": "?", "id": "c"}),
    ("ListTaskPushNotificationConfigs", {"taskId": "?"}),
    ("DeleteTaskPushNotificationConfig", {"taskId": "?", "id": "c"}),
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda pair: pair[0])
async def test_a_task_of_somebody_else_looks_like_none_byte_for_byte(
    caller: Caller, operation: tuple[str, dict[str, Any]]
) -> None:
    name, params = operation
    owned = (await caller.call("SendMessage", {**send(script(chunks=1)), "tenant": "owner"}))["task"]["id"]
    elsewhere = Caller(caller.http, caller.binding, "/agents/echo")
    of_echo = (await elsewhere.call("SendMessage", send("x")))["task"]["id"]
    answers = []
    for task_id, tenant in [(UNKNOWN, ""), (owned, ""), (owned, "other"), (of_echo, ""), ("none-of-ours", "")]:
        asked = {**replaced(params, "?", task_id), **({"tenant": tenant} if tenant else {})}
        response = await caller.http.send(caller.request(name, asked))
        fields = sorted((name, value) for name, value in response.headers.multi_items() if name != "x-request-id")
        answers.append((response.status_code, fields, response.content))
    assert [answers[0]] * len(answers) == answers
    kept = await caller.call("GetTask", {"id": owned, "tenant": "owner"})
    assert ("TASK_STATE_COMPLETED", 1) == (kept["status"]["state"], len(kept["history"]))


async def test_a_context_of_somebody_else_is_like_a_new_one(caller: Caller) -> None:
    foreign = await caller.call("SendMessage", {**send(script(chunks=1)), "tenant": "owner"})
    context = foreign["task"]["contextId"]
    mine = (await caller.call("SendMessage", send(script(chunks=1), contextId=context)))["task"]
    assert context == mine["contextId"]
    assert 1 == len(mine["history"])


async def test_a_task_of_somebody_else_may_be_named_as_a_reference_and_is_not_shown(caller: Caller) -> None:
    foreign = (await caller.call("SendMessage", {**send("secret"), "tenant": "owner"}))["task"]["id"]
    told = await caller.call("SendMessage", send(script(chunks=1), referenceTaskIds=[foreign]))
    assert "secret" not in str(told)


@pytest.mark.parametrize("binding", BINDINGS)
async def test_the_binding_that_was_asked_shapes_the_error(http: httpx.AsyncClient, binding: str) -> None:
    caller = Caller(http, binding, "/agents/nobody")
    refused = await caller.refused("GetTask", {"id": UNKNOWN})
    assert ("jsonrpc" in refused.body) == (binding != HTTP_JSON)
