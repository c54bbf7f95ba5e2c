"""What the protocol demands of the operations, as bytes on a wire: one table, held to in both bindings."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from email.utils import formatdate
from itertools import pairwise
from typing import Any

import httpx
import pytest

from a2a_events import limits
from tests.interop.wire import BINDINGS, HTTP_JSON, JSONRPC, Caller, Frame, failure, message, script, send

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

UNKNOWN = "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA"
"""An id that we could have made, and have not."""
REST_STATUS = {
    -32001: (404, "NOT_FOUND"),
    -32002: (400, "FAILED_PRECONDITION"),
    -32003: (400, "FAILED_PRECONDITION"),
    -32004: (400, "FAILED_PRECONDITION"),
    -32005: (400, "INVALID_ARGUMENT"),
    -32009: (400, "FAILED_PRECONDITION"),
    -32602: (400, "INVALID_ARGUMENT"),
    -32700: (400, "INVALID_ARGUMENT"),
}
"""Of each error in HTTP+JSON, by its code in JSON-RPC (specification 5.4)."""


async def ended(caller: Caller, **members: Any) -> dict[str, Any]:
    """A task that has completed."""
    result = await caller.call("SendMessage", send(script(**{"chunks": 2, **members})))
    task: dict[str, Any] = result["task"]
    return task


async def running(caller: Caller) -> str:
    """Id of a task that runs until it is canceled."""
    asked = send(script(chunks=10_000, delayMs=20), configuration={"returnImmediately": True})
    return str((await caller.call("SendMessage", asked))["task"]["id"])


def check_error(caller: Caller, response: httpx.Response, code: int, reason: str) -> list[str]:
    """That a response is this error, in every member; the fields that it names."""
    refused = failure(caller.binding, response)
    assert reason == refused.reason, refused.body
    if caller.binding == JSONRPC:
        assert (200, code) == (refused.http_status, refused.code)
    else:
        assert REST_STATUS[code] == (refused.http_status, refused.body["error"]["status"])
    assert refused.message
    assert refused.message[0].isupper()
    return refused.fields


# --- versions (specification 3.6) ------------------------------------------------------------------------------------

VERSIONS: list[tuple[str | None, str, bool]] = [
    ("1.0", "", True),
    ("1.0.7", "", True),
    (None, "?A2A-Version=1.0", True),
    (None, "?a2a-version=1.0.3", True),
    ("1.0", "?A2A-Version=9.9", True),
    (None, "", False),
    ("", "", False),
    ("0.3", "", False),
    ("1.1", "", False),
    ("9.9", "", False),
    ("1", "", False),
    ("abc", "", False),
    ("1.0.0.0", "", False),
    ("10.0", "", False),
    (None, "?A2A-Version=0.3", False),
]


@pytest.mark.parametrize("operation", ["GetTask", "CancelTask", "SubscribeToTask", "SendMessage"])
@pytest.mark.parametrize(("version", "query", "served"), VERSIONS)
async def test_only_version_1_0_is_served_and_absent_means_0_3(
    caller: Caller, operation: str, version: str | None, query: str, served: bool
) -> None:
    params = send("hi", taskId=UNKNOWN) if operation == "SendMessage" else {"id": UNKNOWN}
    response = await caller.http.send(caller.request(operation, params, version=version, query=query))
    if served:
        check_error(caller, response, -32001, "TASK_NOT_FOUND")
    else:
        check_error(caller, response, -32009, "VERSION_NOT_SUPPORTED")
        assert "1.0" == failure(caller.binding, response).details[0]["metadata"]["supportedVersions"]


# --- errors (specification 5.4) --------------------------------------------------------------------------------------

TASK_IDS = [
    UNKNOWN,
    "t1-main-99-AAAAAAAAAAAAAAAAAAAAAA",
    "t1-elsewhere-0-AAAAAAAAAAAAAAAAAAAAAA",
    "*",
    ">",
    "a.b",
    "a b",
    "a/b",
    "../x",
    "a:b",
    "a%2Fb",
    "$JS.API.STREAM.DELETE.A2A_LOG_main_0",
    "\u2028\u00a0\t",
    "𝔞",
    "x" * 5000,
]


@pytest.mark.parametrize("task_id", TASK_IDS, ids=lambda raw: ascii(raw[:24]))
async def test_an_unknown_task_is_not_found_whatever_its_id_looks_like(caller: Caller, task_id: str) -> None:
    for operation in ("GetTask", "CancelTask", "SubscribeToTask"):
        response = await caller.http.send(caller.request(operation, {"id": task_id}))
        assert [] == check_error(caller, response, -32001, "TASK_NOT_FOUND")
    for operation in ("SendMessage", "SendStreamingMessage"):
        response = await caller.http.send(caller.request(operation, send("hi", taskId=task_id)))
        assert [] == check_error(caller, response, -32001, "TASK_NOT_FOUND")


async def test_an_ended_task_takes_no_message_no_cancel_and_no_subscriber(caller: Caller) -> None:
    task = await ended(caller)
    for operation, params, code, reason in [
        ("SendMessage", send("more", taskId=task["id"]), -32004, "UNSUPPORTED_OPERATION"),
        ("SendStreamingMessage", send("more", taskId=task["id"]), -32004, "UNSUPPORTED_OPERATION"),
        ("SubscribeToTask", {"id": task["id"]}, -32004, "UNSUPPORTED_OPERATION"),
        ("CancelTask", {"id": task["id"]}, -32002, "TASK_NOT_CANCELABLE"),
    ]:
        response = await caller.http.send(caller.request(operation, params))
        assert [] == check_error(caller, response, code, reason)
    assert task == await caller.call("GetTask", {"id": task["id"]})


async def test_a_task_of_another_agent_or_tenant_is_not_found(caller: Caller) -> None:
    task = await ended(caller)
    other = Caller(caller.http, caller.binding, "/agents/echo")
    assert "TASK_NOT_FOUND" == (await other.refused("GetTask", {"id": task["id"]})).reason
    foreign = {"id": task["id"], "tenant": "somebody"}
    for operation in ("GetTask", "CancelTask", "SubscribeToTask"):
        assert "TASK_NOT_FOUND" == (await caller.refused(operation, foreign)).reason
    mine = await caller.call("SendMessage", {**send(script(chunks=1)), "tenant": "somebody"})
    shown = await caller.call("GetTask", {"id": mine["task"]["id"], "tenant": "somebody"})
    assert mine["task"] == shown


async def test_a_bare_reply_leaves_no_task(caller: Caller) -> None:
    result = await caller.call("SendMessage", send(script(message=True), contextId="kept"))
    assert ["message"] == list(result)
    assert "ROLE_AGENT" == result["message"]["role"]
    assert "kept" == result["message"]["contextId"]
    assert "taskId" not in result["message"]


NOT_OFFERED: list[tuple[str, dict[str, Any]]] = [
    ("CreateTaskPushNotificationConfig", {"taskId": UNKNOWN, "url": "https://example.com/hook"}),
    ("GetTaskPushNotificationConfig", {"taskId": UNKNOWN, "id": "c"}),
    ("ListTaskPushNotificationConfigs", {"taskId": UNKNOWN}),
    ("DeleteTaskPushNotificationConfig", {"taskId": UNKNOWN, "id": "c"}),
    ("GetExtendedAgentCard", {}),
]


@pytest.mark.parametrize(
    ("operation", "params"), NOT_OFFERED, ids=lambda value: value if isinstance(value, str) else ""
)
async def test_an_operation_that_is_not_offered_says_so(caller: Caller, operation: str, params: dict[str, Any]) -> None:
    if "PushNotification" in operation:
        caller = Caller(caller.http, caller.binding, "/agents/reader")
    response = await caller.http.send(caller.request(operation, params))
    if "PushNotification" in operation:
        assert [] == check_error(caller, response, -32003, "PUSH_NOTIFICATION_NOT_SUPPORTED")
    else:
        assert [] == check_error(caller, response, -32004, "UNSUPPORTED_OPERATION")


async def test_a_webhook_in_a_send_is_refused_because_the_card_offers_none(caller: Caller) -> None:
    caller = Caller(caller.http, caller.binding, "/agents/reader")
    asked = send("hi", configuration={"taskPushNotificationConfig": {"url": "https://example.com/hook"}})
    response = await caller.http.send(caller.request("SendMessage", asked))
    assert [] == check_error(caller, response, -32003, "PUSH_NOTIFICATION_NOT_SUPPORTED")


async def test_a_part_of_a_media_type_that_the_agent_does_not_take_is_refused(http: httpx.AsyncClient) -> None:
    for binding in BINDINGS:
        reader = Caller(http, binding, "/agents/reader")
        part = {"text": "x", "mediaType": "application/pdf"}
        response = await http.send(reader.request("SendMessage", send(part)))
        check_error(reader, response, -32005, "CONTENT_TYPE_NOT_SUPPORTED")
        for taken in ({"text": "x", "mediaType": "text/plain; charset=utf-8"}, {"text": "x"}):
            result = await reader.call("SendMessage", send(taken))
            assert "x" == result["task"]["artifacts"][0]["parts"][0]["text"]


def without(member: str) -> dict[str, Any]:
    """A send whose message lacks a member."""
    return {"message": {name: value for name, value in message("hi").items() if name != member}}


def configured(**members: Any) -> dict[str, Any]:
    """A send with a configuration."""
    return send("hi", configuration=members)


INVALID: dict[str, tuple[dict[str, Any], str]] = {
    "no message": ({}, "message"),
    "message of another type": ({"message": "hi"}, "message"),
    "no messageId": (without("messageId"), "message.messageId"),
    "empty messageId": (send("hi", messageId=""), "message.messageId"),
    "long messageId": (send("hi", messageId="m" * 10_000), "message.messageId"),
    "messageId of another type": (send("hi", messageId=7), "message.messageId"),
    "no role": (without("role"), "message.role"),
    "role of the agent": (send("hi", role="ROLE_AGENT"), "message.role"),
    "role of 0.3": (send("hi", role="user"), "message.role"),
    "unknown role number": (send("hi", role=7), "message.role"),
    "no parts": (without("parts"), "message.parts"),
    "empty parts": (send(), "message.parts"),
    "a part without content": (send({"mediaType": "text/plain"}), "message.parts[0]"),
    "a part with two contents": (send({"text": "a", "url": "b"}), "message.parts[0]"),
    "a part of 0.3": (send({"kind": "file", "file": {"uri": "x"}}), "message.parts[0]"),
    "bad base64": (send({"raw": "!!"}), "message.parts[0].raw"),
    "long contextId": (send("hi", contextId="c" * 10_000), "message.contextId"),
    "long tenant": ({**send("hi"), "tenant": "t" * 10_000}, "tenant"),
    "negative historyLength": (configured(historyLength=-1), "configuration.historyLength"),
    "historyLength over 32 bits": (configured(historyLength=2**31), "configuration.historyLength"),
    "historyLength as a word": (configured(historyLength="ten"), "configuration.historyLength"),
    "historyLength with a fraction": (configured(historyLength=1.5), "configuration.historyLength"),
    "returnImmediately as a word": (configured(returnImmediately="yes"), "configuration.returnImmediately"),
    "metadata of another type": ({**send("hi"), "metadata": [1]}, "metadata"),
}


@pytest.mark.parametrize("operation", ["SendMessage", "SendStreamingMessage"])
@pytest.mark.parametrize("case", INVALID)
async def test_an_invalid_message_is_refused_by_the_name_of_its_field(
    caller: Caller, operation: str, case: str
) -> None:
    params, field = INVALID[case]
    response = await caller.http.send(caller.request(operation, params))
    assert [field] == check_error(caller, response, -32602, "INVALID_PARAMS")


@pytest.mark.parametrize("operation", ["SendMessage", "SendStreamingMessage"])
async def test_text_that_is_no_unicode_is_refused(caller: Caller, operation: str) -> None:
    assert (await caller.refused(operation, send("\ud800"))).reason in {"INVALID_PARAMS", "PARSE_ERROR"}


@pytest.mark.parametrize("length", ["-1", str(2**31), "ten", "1.5"])
async def test_get_refuses_a_history_length_that_is_none(caller: Caller, length: str) -> None:
    task = await ended(caller)
    response = await caller.http.send(caller.request("GetTask", {"id": task["id"], "historyLength": length}))
    assert ["historyLength"] == check_error(caller, response, -32602, "INVALID_PARAMS")


# --- what is accepted, and what is shown (specification 5.5–5.7) -----------------------------------------------------


async def test_the_protos_own_member_names_are_accepted(caller: Caller) -> None:
    asked = {
        "message": {
            "message_id": "m",
            "role": 1,
            "context_id": "mine",
            "parts": [{"data": {"script": {"chunks": 1}}, "media_type": "application/json"}],
        },
        "configuration": {"history_length": "0", "return_immediately": False, "accepted_output_modes": ["text/plain"]},
    }
    task = (await caller.call("SendMessage", asked))["task"]
    assert ("mine", "TASK_STATE_COMPLETED") == (task["contextId"], task["status"]["state"])
    assert "history" not in task
    shown = await caller.call("GetTask", {"id": task["id"], "history_length": 1})
    assert {"data": {"script": {"chunks": 1}}, "mediaType": "application/json"} == shown["history"][0]["parts"][0]


async def test_unknown_members_are_ignored_and_null_means_absent(caller: Caller) -> None:
    asked = {
        "message": {
            **message({"text": "hello", "kind": "text", "nobody": {"knows": 1}, "url": None}),
            "kind": "message",
            "contextId": None,
            "taskId": None,
            "extensions": None,
        },
        "configuration": {"blocking": False, "historyLength": None},
        "metadata": None,
        "extra": [1, 2],
    }
    task = (await caller.call("SendMessage", asked))["task"]
    assert "TASK_STATE_COMPLETED" == task["status"]["state"]
    assert [{"text": "hello"}] == task["history"][0]["parts"]


async def test_content_comes_back_as_it_was_sent(caller: Caller) -> None:
    parts: list[dict[str, Any]] = [
        {"text": 'line\nbreak \u2028 "quoted" 𝔞 \x00'},
        {"text": ""},
        {"raw": "+/8="},
        {"url": "https://example.com/a?b=c", "filename": "a.txt", "mediaType": "text/plain"},
        {"data": None},
        {"data": {"__proto__": 1, "snake_case": None, "deep": [[[1.5, -0.25, 1e300]]]}},
        {"data": "text"},
        {"text": "x", "metadata": {"k": {"n": None}}},
    ]
    task = (await caller.call("SendMessage", send(*parts)))["task"]
    assert parts == task["history"][0]["parts"]


async def test_base64url_without_padding_is_read_and_standard_base64_written(caller: Caller) -> None:
    task = (await caller.call("SendMessage", send({"raw": "-_8"}, "go")))["task"]
    assert {"raw": "+/8="} == task["history"][0]["parts"][0]


SCRIPTS: dict[str, dict[str, Any]] = {
    "completed": {"chunks": 3, "artifacts": 2},
    "failed": {"chunks": 1, "fail": True},
    "rejected": {"chunks": 0, "reject": True},
    "input required": {"chunks": 2, "inputAt": 1},
    "auth required": {"chunks": 2, "authAt": 0},
    "a bare message": {"message": True},
}


@pytest.mark.parametrize("case", SCRIPTS)
async def test_nothing_of_0_3_and_no_null_is_ever_shown(caller: Caller, case: str) -> None:
    result = await caller.call("SendMessage", send(script(**SCRIPTS[case])))
    frames = await caller.frames("SendStreamingMessage", send(script(**SCRIPTS[case])))
    for document in [result, *(frame.data for frame in frames)]:
        for path, value in walk(document):
            assert value is not None, path
            assert not {"kind", "final", "type"} & {path[-1]}, path
            assert path[-1] == path[-1][:1].lower() + path[-1][1:], path
            assert "_" not in path[-1], path
            if path[-1] == "timestamp":
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", value), value


@pytest.mark.parametrize("case", SCRIPTS)
async def test_both_bindings_show_the_same_bytes_but_for_the_envelope(http: httpx.AsyncClient, case: str) -> None:
    shown = []
    for binding in BINDINGS:
        caller = Caller(http, binding)
        frames = await caller.frames("SendStreamingMessage", send(script(**SCRIPTS[case])))
        result = await caller.call("SendMessage", send(script(**SCRIPTS[case])))
        shown.append([anonymous(frame.data) for frame in frames] + [anonymous(result)])
    assert shown[0] == shown[1]


def walk(value: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Every member of a document with its path, those inside of the sender's own data left out."""
    found: list[tuple[tuple[str, ...], Any]] = []
    if isinstance(value, dict):
        for name, content in value.items():
            found.append(((*path, name), content))
            if name not in {"data", "metadata"}:
                found += walk(content, (*path, name))
    elif isinstance(value, list):
        for item in value:
            found += walk(item, path)
    return found


def anonymous(value: Any, member: str = "") -> Any:
    """The same with ids and times, which differ from run to run, replaced by their names."""
    if isinstance(value, dict):
        return {name: anonymous(content, name) for name, content in value.items()}
    if isinstance(value, list):
        return [anonymous(item) for item in value]
    return member if member in {"id", "taskId", "contextId", "messageId", "timestamp"} else value


# --- contexts, history, blocking (specification 3.2, 3.4) ------------------------------------------------------------


async def test_a_context_is_made_when_none_is_given_and_kept_when_one_is(caller: Caller) -> None:
    made = await ended(caller)
    assert made["contextId"]
    assert made["contextId"] != (await ended(caller))["contextId"]
    given = (await caller.call("SendMessage", send(script(chunks=1), contextId="my own/ünïcode >")))["task"]
    assert "my own/ünïcode >" == given["contextId"]
    assert {"my own/ünïcode >"} == {said["contextId"] for said in given["history"]}


async def test_the_context_of_a_further_message_is_the_tasks(caller: Caller) -> None:
    asked = (await caller.call("SendMessage", send(script(chunks=2, inputAt=1))))["task"]
    assert "TASK_STATE_INPUT_REQUIRED" == asked["status"]["state"]
    mismatch = send("yes", taskId=asked["id"], contextId="another")
    response = await caller.http.send(caller.request("SendMessage", mismatch))
    assert ["message.contextId"] == check_error(caller, response, -32602, "INVALID_PARAMS")
    frames = await caller.frames("SendStreamingMessage", send("yes", taskId=asked["id"]))
    assert "task" == frames[0].kind
    for frame in frames:
        (shown,) = frame.data.values()
        assert asked["contextId"] == shown["contextId"]
    task = await caller.call("GetTask", {"id": asked["id"]})
    assert {(asked["id"], asked["contextId"])} == {(said["taskId"], said["contextId"]) for said in task["history"]}
    assert ["ROLE_USER", "ROLE_AGENT", "ROLE_USER"] == [said["role"] for said in task["history"]]


async def test_history_is_the_newest_messages_oldest_first_and_absent_for_none(caller: Caller) -> None:
    asked = (await caller.call("SendMessage", send(script(chunks=2, inputAt=1))))["task"]
    answered = send("yes", taskId=asked["id"], configuration={"historyLength": 1})
    task = (await caller.call("SendMessage", answered))["task"]
    assert ["yes"] == [said["parts"][0]["text"] for said in task["history"]]
    whole = await caller.call("GetTask", {"id": task["id"]})
    for length in (1, 2, 3, 100, 2**31 - 1):
        shown = await caller.call("GetTask", {"id": task["id"], "historyLength": length})
        assert whole["history"][-length:] == shown["history"]
    assert "history" not in await caller.call("GetTask", {"id": task["id"], "historyLength": 0})


@pytest.mark.parametrize("length", [0, 1, None])
async def test_history_length_holds_for_the_task_that_a_stream_begins_with(caller: Caller, length: int | None) -> None:
    configuration = {} if length is None else {"historyLength": length}
    frames = await caller.frames("SendStreamingMessage", send(script(chunks=1), configuration=configuration))
    assert (0 if length == 0 else 1) == len(frames[0].data["task"].get("history", []))


async def test_a_send_that_returns_immediately_shows_a_task_that_goes_on(caller: Caller) -> None:
    task_id = await running(caller)
    shown = await caller.call("GetTask", {"id": task_id})
    assert shown["status"]["state"] in {"TASK_STATE_SUBMITTED", "TASK_STATE_WORKING"}
    canceled = await caller.call("CancelTask", {"id": task_id, "metadata": {"why": "enough"}})
    assert "TASK_STATE_CANCELED" == canceled["status"]["state"]


async def test_one_message_id_may_be_used_for_any_number_of_tasks(caller: Caller) -> None:
    first, second = await ended(caller), await ended(caller)
    assert first["history"][0]["messageId"] == second["history"][0]["messageId"]
    assert first["id"] != second["id"]


# --- streams (specification 3.1.2, 3.1.6; ADR 0006) ------------------------------------------------------------------


async def test_a_stream_begins_with_the_task_and_every_frame_has_a_cursor(caller: Caller) -> None:
    async with caller.stream("SendStreamingMessage", send(script(chunks=5))) as stream:
        headers = stream.response.headers
        assert "text/event-stream" == headers["content-type"].split(";")[0]
        assert "no-store" == headers["cache-control"]
        assert "no" == headers["x-accel-buffering"]
        frames = [frame async for frame in stream]
    assert "task" == frames[0].kind
    assert {"statusUpdate", "artifactUpdate"} == {frame.kind for frame in frames[1:]}
    assert "TASK_STATE_COMPLETED" == frames[-1].state
    assert len(frames) == len({frame.id for frame in frames})
    assert all(re.fullmatch(r"[!-~]+", frame.id) for frame in frames)


async def test_the_only_frame_of_a_bare_reply_is_the_message(caller: Caller) -> None:
    (frame,) = await caller.frames("SendStreamingMessage", send(script(message=True)))
    assert "message" == frame.kind


async def test_a_subscriber_is_shown_the_task_and_stays_through_an_interruption(caller: Caller) -> None:
    asked = (await caller.call("SendMessage", send(script(chunks=4, inputAt=2))))["task"]
    async with caller.stream("SubscribeToTask", {"id": asked["id"]}) as stream:
        frames = aiter(stream)
        first = await anext(frames)
        assert ("task", "TASK_STATE_INPUT_REQUIRED") == (first.kind, first.state)
        assert asked["artifacts"] == first.data["task"]["artifacts"]
        await caller.call("SendMessage", send("yes", taskId=asked["id"]))
        rest = [frame async for frame in frames]
    assert {"TASK_STATE_WORKING"} == {frame.state for frame in rest[:-1] if frame.state}
    assert "TASK_STATE_COMPLETED" == rest[-1].state


async def test_a_cursor_replays_what_came_after_it_and_nothing_else(caller: Caller) -> None:
    frames = await caller.frames("SendStreamingMessage", send(script(chunks=7, artifacts=2)))
    task_id = frames[0].data["task"]["id"]
    for seen, frame in enumerate(frames, 1):
        replayed = await caller.frames("SubscribeToTask", {"id": task_id}, headers={"Last-Event-ID": frame.id})
        assert frames[seen:] == replayed


async def test_a_cursor_of_one_binding_holds_in_the_other(http: httpx.AsyncClient) -> None:
    first, second = (Caller(http, binding) for binding in BINDINGS)
    frames = await first.frames("SendStreamingMessage", send(script(chunks=3)))
    place = {"id": frames[0].data["task"]["id"]}
    assert frames[2:] == await second.frames("SubscribeToTask", place, headers={"Last-Event-ID": frames[1].id})


async def test_a_cursor_of_a_running_task_replays_and_then_follows_it_to_its_end(caller: Caller) -> None:
    seen: list[Frame] = []
    async with caller.stream("SendStreamingMessage", send(script(chunks=20, delayMs=10))) as stream:
        async for frame in stream:
            seen.append(frame)
            if len(seen) == 6:
                break  # the client is gone; the task is not
    task_id, cursor = seen[0].data["task"]["id"], seen[3].id
    rest = await caller.frames("SubscribeToTask", {"id": task_id}, headers={"Last-Event-ID": cursor})
    assert seen[4:6] == rest[:2]
    texts = [
        f.data["artifactUpdate"]["artifact"]["parts"][0]["text"]
        for f in [*seen[:4], *rest]
        if f.kind == "artifactUpdate"
    ]
    assert [f"{number:06d}" for number in range(20)] == [text[:6] for text in texts]
    assert "TASK_STATE_COMPLETED" == rest[-1].state


async def test_a_cursor_goes_on_through_an_interruption_to_the_end(caller: Caller) -> None:
    before = await caller.frames("SendStreamingMessage", send(script(chunks=2, inputAt=1)))
    task_id = before[0].data["task"]["id"]
    after = await caller.frames("SendStreamingMessage", send("yes", taskId=task_id))
    replayed = await caller.frames("SubscribeToTask", {"id": task_id}, headers={"Last-Event-ID": before[0].id})
    assert [*before[1:], *after[1:]] == replayed


async def test_a_cursor_of_a_former_log_is_answered_with_the_task_and_a_gap(caller: Caller) -> None:
    frames = await caller.frames("SendStreamingMessage", send(script(chunks=3)))
    task_id = frames[0].data["task"]["id"]
    fields = frames[1].id.split(".")
    fields[3] = "000000000000"
    (only,) = await caller.frames("SubscribeToTask", {"id": task_id}, headers={"Last-Event-ID": ".".join(fields)})
    shown = only.data["task"]
    assert [{"gap": True}] == list(shown.pop("metadata").values())
    assert await caller.call("GetTask", {"id": task_id}) == shown


HOSTILE = [
    "0",
    "-1",
    "null",
    "garbage",
    "*",
    "a.b.c",
    "......",
    "1.main.0....",
    "9" * 100,
    "x" * 5000,
    "1.main.0.x.y.1e3.1",
    "{}",
    "\u00e9\u00ff",
    "' OR 1=1 --",
]


def resuming(caller: Caller, task_id: str, cursor: str) -> httpx.Request:
    """A subscription with any text at all as its cursor."""
    request = caller.request("SubscribeToTask", {"id": task_id})
    request.headers.encoding = "utf-8"
    request.headers["Last-Event-ID"] = cursor
    return request


@pytest.mark.parametrize("cursor", HOSTILE, ids=lambda raw: ascii(raw[:20]))
async def test_a_last_event_id_that_is_no_cursor_is_refused(caller: Caller, cursor: str) -> None:
    task_id = (await ended(caller))["id"]
    response = await caller.http.send(resuming(caller, task_id, cursor))
    assert ["Last-Event-ID"] == check_error(caller, response, -32602, "INVALID_PARAMS")


async def test_a_cursor_that_was_tampered_with_is_refused_or_marked_as_a_gap_and_never_hangs(caller: Caller) -> None:
    frames = await caller.frames("SendStreamingMessage", send(script(chunks=4)))
    task_id = frames[0].data["task"]["id"]
    version, log, shard, incarnation, check, position, revision = frames[2].id.split(".")

    place = {
        "version": version,
        "log": log,
        "shard": shard,
        "incarnation": incarnation,
        "check": check,
        "position": position,
        "revision": revision,
    }
    for changed in [
        {"version": "2"},
        {"log": "other"},
        {"shard": "7"},
        {"check": "0" * 12},
        {"position": "-1"},
        {"position": str(2**63)},
        {"revision": str(2**64)},
        {"position": "٣"},
    ]:
        response = await caller.http.send(resuming(caller, task_id, ".".join({**place, **changed}.values())))
        assert ["Last-Event-ID"] == check_error(caller, response, -32602, "INVALID_PARAMS"), changed
    # Places that the log has not, or that hold other events: also what a log has lost with its region is such a one.
    for changed in [
        {"revision": "0"},
        {"position": str(int(position) - 1)},
        {"position": "99999999"},
        {"revision": "99999999"},
        {"position": "99999999", "revision": "99999999"},
        {"position": str(int(frames[-1].id.split(".")[-2]) - 1), "revision": frames[-1].id.split(".")[-1]},
    ]:
        cursor = ".".join({**place, **changed}.values())
        (only,) = await caller.frames("SubscribeToTask", {"id": task_id}, headers={"Last-Event-ID": cursor})
        assert [{"gap": True}] == list(only.data["task"]["metadata"].values()), changed
    # From the beginning, wherever that is.
    for changed in [{"position": "0", "revision": "0"}, {"position": "0"}]:
        cursor = ".".join({**place, **changed}.values())
        shown = await caller.frames("SubscribeToTask", {"id": task_id}, headers={"Last-Event-ID": cursor})
        after = frames[1:] if "revision" in changed else frames[3:]
        assert shown == after or "gap" in json.dumps(shown[0].data), changed


async def test_a_cursor_of_another_task_is_refused(caller: Caller) -> None:
    frames = await caller.frames("SendStreamingMessage", send(script(chunks=1)))
    other = await ended(caller)
    request = caller.request("SubscribeToTask", {"id": other["id"]}, headers={"Last-Event-ID": frames[0].id})
    assert ["Last-Event-ID"] == check_error(caller, await caller.http.send(request), -32602, "INVALID_PARAMS")


async def test_an_empty_last_event_id_is_none(caller: Caller) -> None:
    task_id = (await ended(caller))["id"]
    response = await caller.http.send(caller.request("SubscribeToTask", {"id": task_id}, headers={"Last-Event-ID": ""}))
    check_error(caller, response, -32004, "UNSUPPORTED_OPERATION")


async def test_a_send_with_a_cursor_starts_no_second_task(caller: Caller) -> None:
    frames = await caller.frames("SendStreamingMessage", send(script(chunks=1)))
    request = caller.request("SendStreamingMessage", send(script(chunks=1)), headers={"Last-Event-ID": frames[0].id})
    assert ["Last-Event-ID"] == check_error(caller, await caller.http.send(request), -32602, "INVALID_PARAMS")


async def test_all_subscribers_see_the_same_frames(http: httpx.AsyncClient) -> None:
    first, second = (Caller(http, binding) for binding in BINDINGS)
    task_id = await running(first)
    async with (
        first.stream("SubscribeToTask", {"id": task_id}) as one,
        second.stream("SubscribeToTask", {"id": task_id}) as two,
    ):
        ones, twos = aiter(one), aiter(two)
        seen = [await anext(ones), await anext(twos)]
        assert ["task", "task"] == [frame.kind for frame in seen]
        await first.call("CancelTask", {"id": task_id})
        rest_of_one = [frame async for frame in ones]
        rest_of_two = [frame async for frame in twos]
    shorter = min(len(rest_of_one), len(rest_of_two))
    assert shorter
    assert rest_of_one[-shorter:] == rest_of_two[-shorter:]
    assert "TASK_STATE_CANCELED" == rest_of_one[-1].state


async def test_cursors_grow_along_a_stream(caller: Caller) -> None:
    frames = await caller.frames("SendStreamingMessage", send(script(chunks=5)))
    places = [tuple(map(int, frame.id.split(".")[-2:])) for frame in frames]
    assert all(before < after for before, after in pairwise(places))


# --- HTTP (specification 9, 11) --------------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", ["", "/agents/scripted"])
@pytest.mark.parametrize("slash", ["", "/"])
async def test_a_slash_at_the_end_of_a_path_makes_no_difference(
    http: httpx.AsyncClient, agent: str, slash: str
) -> None:
    headers = {"A2A-Version": "1.0"}
    called = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": send(script(chunks=1))}
    answer = await http.post(f"{agent}{slash}", json=called, headers=headers)
    task_id = answer.json()["result"]["task"]["id"]
    for verb, path, body in [
        ("POST", "/message:send", send(script(chunks=1))),
        ("POST", "/message:stream", send(script(chunks=1))),
        ("GET", f"/tasks/{task_id}", None),
    ]:
        answer = await http.request(verb, f"{agent}{path}{slash}", json=body, headers=headers)
        assert 200 == answer.status_code, answer.text


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("application/json", "application/json"),
        ("application/json; charset=utf-8", "application/json"),
        ("application/a2a+json", "application/a2a+json"),
        (None, "application/a2a+json"),
    ],
)
async def test_http_json_answers_in_the_media_type_it_was_asked_in(
    http: httpx.AsyncClient, given: str | None, shown: str
) -> None:
    headers = {"A2A-Version": "1.0", **({"content-type": given} if given else {})}
    sent = await http.post("/message:send", content=json.dumps(send(script(chunks=1))), headers=headers)
    assert shown == sent.headers["content-type"]
    got = await http.get(f"/tasks/{sent.json()['task']['id']}", headers=headers)
    assert shown == got.headers["content-type"]
    missing = await http.get(f"/tasks/{UNKNOWN}", headers=headers)
    assert "application/json" == missing.headers["content-type"]


async def test_json_rpc_answers_in_plain_json(http: httpx.AsyncClient) -> None:
    caller = Caller(http, JSONRPC)
    answer = await http.send(caller.request("SendMessage", send(script(chunks=1))))
    assert "application/json" == answer.headers["content-type"]


@pytest.mark.parametrize(
    ("verb", "path", "allowed"),
    [
        ("GET", "/", "POST"),
        ("PUT", "/", "POST"),
        ("GET", "/agents/echo", "POST"),
        ("GET", "/message:send", "POST"),
        ("PUT", "/message:send", "POST"),
        ("DELETE", "/message:stream", "POST"),
        ("POST", f"/tasks/{UNKNOWN}", "GET"),
        ("DELETE", f"/tasks/{UNKNOWN}", "GET"),
        ("GET", f"/tasks/{UNKNOWN}:cancel", "POST"),
        ("PUT", f"/tasks/{UNKNOWN}:subscribe", "GET, POST"),
    ],
)
async def test_another_verb_is_told_which_are_allowed(
    http: httpx.AsyncClient, verb: str, path: str, allowed: str
) -> None:
    answer = await http.request(verb, path, headers={"A2A-Version": "1.0"})
    assert (405, allowed) == (answer.status_code, answer.headers["allow"])
    assert "METHOD_NOT_FOUND" == failure(HTTP_JSON, answer).reason


async def test_a_path_that_is_none_is_not_found(http: httpx.AsyncClient) -> None:
    for path in ("/nothing", "/message:shout", "/agents/echo/nothing"):
        answer = await http.get(path, headers={"A2A-Version": "1.0"})
        assert (404, "METHOD_NOT_FOUND") == (answer.status_code, failure(HTTP_JSON, answer).reason)


async def test_an_agent_that_nobody_serves_is_not_found(http: httpx.AsyncClient) -> None:
    for binding in BINDINGS:
        nobody = Caller(http, binding, "/agents/nobody")
        assert "TASK_NOT_FOUND" == (await nobody.refused("SendMessage", send("hi"))).reason
    assert 404 == (await http.get("/agents/nobody/.well-known/agent-card.json")).status_code


@pytest.mark.parametrize("verb", ["GET", "POST"])
async def test_http_json_subscribes_by_either_verb_with_no_body_at_all(http: httpx.AsyncClient, verb: str) -> None:
    frames = await Caller(http, HTTP_JSON).frames("SendStreamingMessage", send(script(chunks=1)))
    task_id = frames[0].data["task"]["id"]
    headers = {"A2A-Version": "1.0", "Last-Event-ID": frames[0].id, "content-type": "application/json"}
    answer = await http.request(verb, f"/tasks/{task_id}:subscribe", headers=headers)
    assert len(frames) - 1 == answer.text.count("data: ")


async def test_http_json_cancels_with_no_body_at_all(http: httpx.AsyncClient) -> None:
    task_id = await running(Caller(http, HTTP_JSON))
    headers = {"A2A-Version": "1.0", "content-type": "application/json"}
    answer = await http.post(f"/tasks/{task_id}:cancel", headers=headers)
    assert "TASK_STATE_CANCELED" == answer.json()["status"]["state"]


async def test_the_id_in_the_path_wins_over_one_in_the_body(http: httpx.AsyncClient) -> None:
    task_id = await running(Caller(http, HTTP_JSON))
    answer = await http.post(f"/tasks/{task_id}:cancel", json={"id": UNKNOWN}, headers={"A2A-Version": "1.0"})
    assert task_id == answer.json()["id"]


@pytest.mark.parametrize("size", ["with a length", "in chunks"])
async def test_a_body_over_the_limit_is_refused_as_too_large(caller: Caller, size: str) -> None:
    request = caller.request("SendMessage", send("x" * limits.REQUEST_BYTES))
    if size == "in chunks":
        whole = request.content

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(whole), 65536):
                yield whole[start : start + 65536]

        headers = {name: value for name, value in request.headers.items() if name != "content-length"}
        request = caller.http.build_request("POST", request.url, content=pieces(), headers=headers)
    response = await caller.http.send(request)
    assert 413 == response.status_code
    details = response.json()["error"]["data" if caller.binding == JSONRPC else "details"]
    assert "PAYLOAD_TOO_LARGE" == details[0]["reason"]
    await ended(caller)


async def test_a_compressed_body_is_refused_as_such(caller: Caller) -> None:
    request = caller.request("SendMessage", send("x"))
    request.headers["content-encoding"] = "gzip"
    response = await caller.http.send(request)
    assert 415 == response.status_code
    details = response.json()["error"]["data" if caller.binding == JSONRPC else "details"]
    assert "UNSUPPORTED_ENCODING" == details[0]["reason"]


async def test_a_message_that_fits_the_request_and_not_the_log_is_refused_as_too_large(caller: Caller) -> None:
    response = await caller.http.send(caller.request("SendMessage", send("x" * limits.CONTENT_BYTES)))
    assert 413 == response.status_code
    error = response.json()["error"]
    assert "PAYLOAD_TOO_LARGE" == error["data" if caller.binding == JSONRPC else "details"][0]["reason"]
    assert (-32602 if caller.binding == JSONRPC else 413) == error["code"]
    await ended(caller)


# --- the agent card (specification 8) --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/agents/scripted", "/agents/echo", "/agents/reader"])
async def test_every_agent_has_a_card_with_its_own_addresses(url: str, http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(f"{path}/.well-known/agent-card.json")
    card = answer.json()
    assert path.removeprefix("/agents/") or "scripted" == card["name"]
    assert [("JSONRPC", "1.0", url + path), ("HTTP+JSON", "1.0", url + path)] == [
        (i["protocolBinding"], i["protocolVersion"], i["url"]) for i in card["supportedInterfaces"]
    ]
    capabilities = dict(card["capabilities"])
    offered = ["urn:a2a-events:replay:v1", "urn:a2a-events:idempotent-send:v1"]
    assert offered == [extension["uri"] for extension in capabilities.pop("extensions")]
    assert {"streaming": True, "pushNotifications": path != "/agents/reader"} == capabilities
    for member in ("description", "version", "defaultInputModes", "defaultOutputModes", "skills"):
        assert card[member], member
    assert all(skill["id"] and skill["name"] and skill["description"] and skill["tags"] for skill in card["skills"])
    assert all(value is not None for _, value in walk(card))


async def test_a_card_is_cached_and_revalidated(http: httpx.AsyncClient) -> None:
    path = "/.well-known/agent-card.json"
    first = await http.get(path)
    etag, modified = first.headers["etag"], first.headers["last-modified"]
    assert re.search(r"max-age=\d+", first.headers["cache-control"])
    assert "application/json" == first.headers["content-type"]
    for headers, status in [
        ({"If-None-Match": etag}, 304),
        ({"If-None-Match": f'"other", W/{etag}'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"other"'}, 200),
        ({"If-None-Match": '"other"', "If-Modified-Since": modified}, 200),
        ({"If-Modified-Since": modified}, 304),
        ({"If-Modified-Since": formatdate(0, usegmt=True)}, 200),
        ({"If-Modified-Since": "garbage"}, 200),
    ]:
        again = await http.get(path, headers=headers)
        assert status == again.status_code, headers
        assert (etag, modified) == (again.headers["etag"], again.headers["last-modified"])
        assert (b"" if status == 304 else first.content) == again.content


async def test_the_card_needs_no_version_and_answers_head(http: httpx.AsyncClient) -> None:
    path = "/.well-known/agent-card.json"
    whole = await http.get(path)
    head = await http.head(path)
    assert (200, b"", whole.headers["etag"]) == (head.status_code, head.content, head.headers["etag"])


# --- the JSON-RPC envelope (specification 9.1) -----------------------------------------------------------------------


def called(**members: Any) -> bytes:
    """A JSON-RPC request for an unknown task, with members changed; None leaves one out."""
    document = {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": UNKNOWN}, **members}
    return json.dumps({name: value for name, value in document.items() if value is not ...}).encode()


ENVELOPES: dict[str, tuple[bytes, int, Any]] = {
    "empty": (b"", -32700, None),
    "white space": (b"  \n", -32700, None),
    "truncated": (b'{"jsonrpc":', -32700, None),
    "not JSON": (b"hello", -32700, None),
    "trailing text": (called() + b"x", -32700, None),
    "UTF-16": (called().decode().encode("utf-16"), -32700, None),
    "byte order mark": (b"\xef\xbb\xbf" + called(), -32700, None),
    "not UTF-8": (called(id="\x00").replace(b"\\u0000", b"\xff"), -32700, None),
    "too deep": (b"[" * 100_000, -32700, None),
    "not a number": (called(params=...)[:-1] + b',"params":{"id":NaN}}', -32700, None),
    "a number over a double": (called(params=...)[:-1] + b',"params":{"id":1e999}}', -32602, 1),
    "a batch": (b"[" + called() + b"]", -32600, None),
    "a string": (b'"GetTask"', -32600, None),
    "null": (b"null", -32600, None),
    "no jsonrpc": (called(jsonrpc=...), -32600, None),
    "jsonrpc 1.0": (called(jsonrpc="1.0"), -32600, None),
    "jsonrpc as a number": (called(jsonrpc=2.0), -32600, None),
    "no method": (called(method=...), -32600, None),
    "empty method": (called(method=""), -32600, None),
    "method as a number": (called(method=7), -32600, None),
    "no id": (called(id=...), -32600, None),
    "id as an object": (called(id={}), -32600, None),
    "id as an array": (called(id=[1]), -32600, None),
    "id as true": (called(id=True), -32600, None),
    "unknown method": (called(method="Shout"), -32601, 1),
    "a method's name in lower case": (called(method="gettask"), -32601, 1),
    "a method of 0.3": (called(method="tasks/get"), -32601, 1),
    "an attribute": (called(method="__init__"), -32601, 1),
    "no params": (called(params=...), -32602, 1),
    "params as null": (called(params=None), -32602, 1),
    "params as an array": (called(params=[]), -32602, 1),
    "params as a string": (called(params="x"), -32602, 1),
    "params without the id": (called(params={}), -32602, 1),
    "id as a string": (called(id="ä\n\"'"), -32001, "ä\n\"'"),
    "empty id": (called(id=""), -32001, ""),
    "id as null": (called(id=None), -32001, None),
    "negative id": (called(id=-7), -32001, -7),
    "id with a fraction": (called(id=1.5), -32001, 1.5),
    "large id": (called(id=2**53), -32001, 2**53),
    "unknown members": (called(extra={"a": 1}, result=None), -32001, 1),
    "white space around": (b" \n" + called() + b"\n ", -32001, 1),
}


@pytest.mark.parametrize("case", ENVELOPES)
async def test_every_envelope_gets_an_envelope_back(http: httpx.AsyncClient, case: str) -> None:
    content, code, request_id = ENVELOPES[case]
    headers = {"A2A-Version": "1.0", "content-type": "application/json"}
    answer = await http.post("/", content=content, headers=headers)
    assert 200 == answer.status_code
    refused = failure(JSONRPC, answer)
    assert (code, request_id) == (refused.code, refused.body["id"])


REST_BODIES = {
    "empty": (b"", {"PARSE_ERROR"}),
    "truncated": (b'{"message":', {"PARSE_ERROR"}),
    "UTF-16": ("{}".encode("utf-16"), {"PARSE_ERROR"}),
    "too deep": (b"[" * 100_000, {"PARSE_ERROR"}),
    "an array": (b"[]", {"INVALID_PARAMS"}),
    "null": (b"null", {"INVALID_PARAMS"}),
    "a string": (b'"x"', {"INVALID_PARAMS"}),
    "a long number": (b'{"metadata":' + b"9" * 10_000 + b"}", {"INVALID_PARAMS", "PARSE_ERROR"}),
}


@pytest.mark.parametrize("path", ["/message:send", "/message:stream"])
@pytest.mark.parametrize("case", REST_BODIES)
async def test_a_body_that_is_no_request_is_refused(http: httpx.AsyncClient, case: str, path: str) -> None:
    content, reasons = REST_BODIES[case]
    headers = {"A2A-Version": "1.0", "content-type": "application/a2a+json"}
    answer = await http.post(path, content=content, headers=headers)
    assert 400 == answer.status_code
    assert failure(HTTP_JSON, answer).reason in reasons


async def test_http_json_takes_a_tenant_as_the_first_segment_of_the_path(http: httpx.AsyncClient) -> None:
    headers = {"A2A-Version": "1.0"}
    for agent in ("", "/agents/scripted"):
        sent = await http.post(f"{agent}/acme%2Fwest/message:send", json=send(script(chunks=1)), headers=headers)
        task_id = sent.json()["task"]["id"]
        assert 200 == (await http.get(f"{agent}/acme%2Fwest/tasks/{task_id}", headers=headers)).status_code
        assert 200 == (await http.get(f"/tasks/{task_id}?tenant=acme%2Fwest", headers=headers)).status_code
        assert 404 == (await http.get(f"{agent}/acme/tasks/{task_id}", headers=headers)).status_code
        assert 404 == (await http.get(f"{agent}/tasks/{task_id}", headers=headers)).status_code
