"""What the client sends, how it finds the agent, and which error an answer is."""

from __future__ import annotations

import json

import httpx
import pytest

import a2a_events.client
from a2a_events.client import BadAnswer, Client, ConnectionFailed, NoAnswer
from a2a_events.client.answers import Answer as HttpAnswer
from a2a_events.client.answers import error_of
from a2a_events.errors import (
    A2A_ERRORS,
    A2AError,
    ContentTypeNotSupportedError,
    InternalError,
    InvalidParamsError,
    InvalidRequestError,
    MethodNotFoundError,
    PayloadTooLargeError,
    PermissionDeniedError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnauthenticatedError,
    UnavailableError,
)
from a2a_events.model import AgentInterface, Message, Part, Role, Task, TaskState
from tests.client.conftest import QUICK
from tests.client.scripted import Answer, Gateway, card, fault, result, task
from tests.client.serving import dead

# --- what is sent ----------------------------------------------------------------------------------------------------


async def test_a_text_becomes_a_message_with_all_that_was_asked_for(client: Client, first: Gateway) -> None:
    first.will(result({"task": task("COMPLETED")}))
    reply = await client.send(
        "hi",
        context_id="c1",
        task_id="t1",
        history_length=0,
        return_immediately=True,
        accepted_output_modes=["text/plain"],
        metadata={"k": 1},
    )
    assert isinstance(reply, Task)
    body = json.loads(first.seen[0].body)
    message_id = body["params"]["message"].pop("messageId")
    assert message_id
    assert {
        "message": {"role": "ROLE_USER", "parts": [{"text": "hi"}], "contextId": "c1", "taskId": "t1"},
        "configuration": {"historyLength": 0, "returnImmediately": True, "acceptedOutputModes": ["text/plain"]},
        "metadata": {"k": 1},
    } == body["params"]
    assert ("2.0", "SendMessage") == (body["jsonrpc"], body["method"])


async def test_a_message_is_sent_as_it_is(client: Client, first: Gateway) -> None:
    message = Message(message_id="m1", role=Role.USER, parts=(Part(data=None),), context_id="c9")
    first.will(result({"message": {"messageId": "m2", "role": "ROLE_AGENT", "parts": [{"text": ""}]}}))
    reply = await client.send(message)
    assert isinstance(reply, Message)
    expected = {"messageId": "m1", "role": "ROLE_USER", "parts": [{"data": None}], "contextId": "c9"}
    assert expected == json.loads(first.seen[0].body)["params"]["message"]


async def test_version_key_and_own_headers_go_along(first: Gateway) -> None:
    first.will(result({"task": task("COMPLETED")}), result(task("COMPLETED")))
    async with Client.at(first.url, "JSONRPC", headers={"Authorization": "Bearer x"}) as client:
        await client.send("hi")
        await client.get("t1")
    sent, got = (seen.headers for seen in first.seen)
    assert ("1.0", "Bearer x", "application/json") == (
        sent["a2a-version"],
        sent["authorization"],
        sent["content-type"],
    )
    assert sent["idempotency-key"]
    assert "idempotency-key" not in got


async def test_an_empty_key_is_not_sent(client: Client, first: Gateway) -> None:
    first.will(result({"task": task("COMPLETED")}))
    await client.send("hi", idempotency_key="")
    assert "idempotency-key" not in first.seen[0].headers


async def test_the_tenant_is_a_member_of_params_or_the_first_segment(first: Gateway) -> None:
    first.will(result(task("WORKING")), Answer(body=task("WORKING")), Answer(body=task("WORKING")))
    async with Client.at(first.url, "JSONRPC", tenant="a/b") as client:
        await client.get("t1")
    assert {"id": "t1", "tenant": "a/b"} == json.loads(first.seen[0].body)["params"]
    async with Client.at(f"{first.url}/?x=1", "HTTP+JSON", tenant="acme") as client:
        await client.get("t:1 ä", history_length=2)
        await client.cancel("t1", metadata={"k": 1})
    assert ["GET /acme/tasks/t:1 ä", "POST /acme/tasks/t1:cancel"] == first.operations[1:]
    assert {"metadata": {"k": 1}} == json.loads(first.seen[2].body)


# --- finding the agent -----------------------------------------------------------------------------------------------


async def test_the_first_interface_that_both_speak_is_used_with_its_tenant(first: Gateway, second: Gateway) -> None:
    first.card = card(
        (second.url, "https://bindings.example/smoke/v1", "1.0"),
        (second.url, "JSONRPC", "0.3"),
        (second.url, "HTTP+JSON", "1.0"),
        (second.url, "JSONRPC", "1.0"),
        tenant="acme",
    )
    second.will(Answer(body=task("WORKING")), result(task("WORKING")))
    async with Client(first.url) as client:
        await client.get("t1")
    async with Client(f"{first.url}/", binding="JSONRPC") as client:
        await client.get("t1")
    assert ["GET /acme/tasks/t1", "GetTask"] == second.operations


async def test_a_relative_interface_is_under_its_base(first: Gateway) -> None:
    first.card = card(("./", "JSONRPC", "1.0"))
    first.will(result(task("WORKING")))
    async with Client(first.url) as client:
        assert "t1" == (await client.get("t1")).id


async def test_a_card_may_be_named_by_its_own_url(first: Gateway) -> None:
    first.will(Answer(body=card(("../rpc", "HTTP+JSON", "1.0"))), Answer(body=task("WORKING")))
    async with Client(f"{first.url}/cards/echo.json") as client:
        await client.get("t1")
    assert ["GET /cards/echo.json", "GET /rpc/tasks/t1"] == first.operations


async def test_the_card_is_asked_for_once_by_requests_and_revalidated_by_card(first: Gateway) -> None:
    first.card, first.card_headers = card((first.url, "JSONRPC", "1.0")), {"etag": '"1"'}
    first.will(result(task("WORKING")), result(task("WORKING")))
    async with Client(first.url) as client:
        await client.get("t1")
        await client.get("t1")
        assert 1 == first.cards
        one = await client.card()
        two = await client.card()
        assert one is two
        assert 3 == first.cards


async def test_a_fresh_card_costs_no_request(first: Gateway) -> None:
    first.card = card((first.url, "JSONRPC", "1.0"))
    first.card_headers = {"cache-control": "public, max-age=60"}
    async with Client(first.url) as client:
        assert "scripted" == (await client.card()).name
        await client.card()
    assert 1 == first.cards


async def test_each_base_has_its_own_card_and_a_dead_one_is_skipped(first: Gateway, second: Gateway) -> None:
    second.card = card((second.url, "JSONRPC", "1.0"))
    second.will(result({"task": task("COMPLETED")}), result(task("COMPLETED")))
    with dead() as url:
        async with Client([url, second.url], retry=QUICK) as client:
            await client.send("hi")
            await client.get("t1")
            assert "scripted" == (await client.card()).name
    assert ["SendMessage", "GetTask"] == second.operations


async def test_a_base_without_a_usable_card_is_a_bad_answer(first: Gateway) -> None:
    async with Client(first.url) as client:
        with pytest.raises(BadAnswer, match="No card"):
            await client.card()
        first.card = card((first.url, "JSONRPC", "2.0"))
        with pytest.raises(BadAnswer, match=r"JSONRPC 2\.0"):
            await client.get("t1")


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://localhost", "http://"])
def test_what_is_no_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        Client(url)


@pytest.mark.parametrize(
    ("binding", "version"), [("GRPC", "0.3"), ("JSONRPC", "2.0"), ("https://bindings.example/smoke/v1", "1.0")]
)
def test_an_interface_that_cannot_be_spoken_to_is_refused_at_once(binding: str, version: str) -> None:
    with pytest.raises(ValueError, match="not spoken"):
        Client(AgentInterface(url="http://a.example", protocol_binding=binding, protocol_version=version))


async def test_connections_that_were_given_stay_open(first: Gateway) -> None:
    first.will(result(task("WORKING")))
    async with httpx.AsyncClient() as http:
        async with Client.at(first.url, "JSONRPC", http=http) as client:
            await client.get("t1")
        assert not http.is_closed


# --- repeating -------------------------------------------------------------------------------------------------------


async def test_a_read_is_repeated_at_the_next_gateway(client: Client, first: Gateway, second: Gateway) -> None:
    first.will(Answer(then="cut"))
    second.will(result(task("WORKING")))
    assert TaskState.WORKING is (await client.get("t1")).status.state


async def test_a_read_that_nobody_answers_ends_after_its_attempts(
    client: Client, first: Gateway, second: Gateway
) -> None:
    first.will(Answer(status=503, body={}))
    second.will(Answer(status=504, body={}))
    with pytest.raises(UnavailableError):
        await client.get("t1")


async def test_a_message_that_got_no_answer_is_not_sent_again(client: Client, first: Gateway, second: Gateway) -> None:
    first.will(Answer(then="cut"))
    with pytest.raises(NoAnswer) as caught:
        await client.send("hi", idempotency_key="k1")
    assert ("k1", False) == (caught.value.idempotency_key, caught.value.retry_safe)
    assert [] == second.seen


async def test_a_message_that_a_gateway_says_it_did_not_touch_is_sent_to_the_next(
    client: Client, first: Gateway, second: Gateway
) -> None:
    draining = fault(-32603, "UNAVAILABLE")
    draining["error"]["data"][0]["metadata"] = {"effect": "none"}
    first.will(Answer(status=503, body=draining))
    second.will(result({"task": task("COMPLETED")}))
    sent = await client.send("hi")
    assert isinstance(sent, Task)
    first.will(Answer(status=503, body=fault(-32603, "UNAVAILABLE")))  # may have been taken
    second.will(Answer(status=503, body=fault(-32603, "UNAVAILABLE")))
    with pytest.raises(UnavailableError):
        await client.send("hi")
    assert 3 == len(first.seen) + len(second.seen)


async def test_no_answer_in_time_is_no_answer(first: Gateway) -> None:
    first.will(*[Answer(then="silence")] * 2)
    async with Client.at(first.url, "JSONRPC", retry=QUICK, patience_seconds=0.05) as client:
        with pytest.raises(NoAnswer) as caught:
            await client.get("t1")
    assert caught.value.retry_safe


async def test_a_cancel_that_finds_its_own_first_try_done_has_succeeded(
    client: Client, first: Gateway, second: Gateway
) -> None:
    first.will(Answer(then="cut"))
    second.will(Answer(body=fault(-32002)), result(task("CANCELED")))
    assert TaskState.CANCELED is (await client.cancel("t1")).status.state


async def test_a_cancel_of_a_task_that_had_ended_is_refused(client: Client, first: Gateway) -> None:
    first.will(Answer(body=fault(-32002)))
    with pytest.raises(TaskNotCancelableError):
        await client.cancel("t1")


async def test_nobody_there_says_that_nothing_was_sent() -> None:
    with dead() as one, dead() as two:
        async with Client([one, two], retry=QUICK) as client:
            with pytest.raises(ConnectionFailed) as caught:
                await client.send("hi")
    assert caught.value.retry_safe


# --- errors ----------------------------------------------------------------------------------------------------------


def _error(status: int, error: object, headers: dict[str, str] | None = None) -> A2AError:
    return error_of(HttpAnswer("http://a", status, headers or {}, json.dumps({"error": error}).encode()))


def _info(reason: str) -> list[dict[str, object]]:
    detail: dict[str, object] = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "metadata": {"taskId": "t1", "n": 1},
    }
    return [{"@type": "type.googleapis.com/x"}, detail]


@pytest.mark.parametrize("kind", A2A_ERRORS)
def test_the_reason_decides_before_any_code(kind: type[A2AError]) -> None:
    assert kind is type(_error(418, {"code": -32099, "message": "no", "data": _info(kind.reason)}))
    rest = _error(418, {"code": 418, "status": "ODD", "message": "no", "details": _info(kind.reason)})
    assert (kind, "no", {"taskId": "t1", "n": "1"}) == (type(rest), rest.message, rest.metadata)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (-32001, TaskNotFoundError),
        (-32005, ContentTypeNotSupportedError),
        (-32601, MethodNotFoundError),
        (-32602, InvalidParamsError),
        (-32603, InternalError),
        (-32099, A2AError),
    ],
)
@pytest.mark.parametrize("data", [None, [], {"old": "form"}, "text"])
def test_without_a_reason_the_code_decides(code: int, kind: type[A2AError], data: object) -> None:
    assert kind is type(_error(200, {"code": code, "message": "no", "data": data}))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequestError),
        (401, UnauthenticatedError),
        (403, PermissionDeniedError),
        (404, MethodNotFoundError),
        (413, PayloadTooLargeError),
        (429, UnavailableError),
        (500, InternalError),
        (502, UnavailableError),
        (503, UnavailableError),
        (418, A2AError),
        (799, A2AError),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error":"no"}', b'{"error":{"code":"x"}}', b"[" * 100_000])
def test_an_answer_of_no_protocol_is_told_by_its_status(status: int, kind: type[A2AError], body: bytes) -> None:
    error = error_of(HttpAnswer("http://a", status, {"retry-after": "3", "www-authenticate": "Bearer"}, body))
    assert kind is type(error)
    assert str(status) in error.message
    assert "Bearer" == error.metadata["www-authenticate"]
    assert not isinstance(error, UnavailableError) or 3 == error.retry_after_seconds


def test_not_found_without_a_reason_is_a_task_and_not_a_path() -> None:
    assert TaskNotFoundError is type(_error(404, {"code": 404, "status": "NOT_FOUND", "message": "no"}))


def test_an_unknown_reason_is_kept() -> None:
    assert (
        "SOMETHING_OF_TOMORROW"
        == _error(409, {"code": 409, "details": _info("SOMETHING_OF_TOMORROW")}).metadata["reason"]
    )


def test_the_fields_that_were_wrong_are_named() -> None:
    details = [
        {
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{"field": "message.parts", "description": "empty"}],
        }
    ]
    assert (("message.parts", "empty"),) == _error(400, {"code": 400, "details": details}).violations


async def test_a_redirect_names_its_target(client: Client, first: Gateway) -> None:
    first.will(Answer(status=308, body={}, headers={"location": "/elsewhere"}))
    with pytest.raises(BadAnswer, match="/elsewhere"):
        await client.get("t1")


@pytest.mark.parametrize("body", [{}, {"result": None}, {"result": {"id": 7}}, {"result": []}])
async def test_an_answer_that_is_no_task_is_a_bad_answer(
    client: Client, first: Gateway, body: dict[str, object]
) -> None:
    first.will(Answer(body=body))
    with pytest.raises(BadAnswer):
        await client.get("t1")


async def test_members_of_the_future_are_passed_over_at_every_depth(client: Client, first: Gateway) -> None:
    part = {"text": "a", "mood": "good"}
    message = {"messageId": "m", "role": "ROLE_AGENT", "parts": [part], "draft": {"x": []}}
    status = {"state": "TASK_STATE_WORKING", "message": message, "since": 1}
    first.will(result({"task": {"id": "t1", "status": status, "generation": "7", "owner": None}, "more": 1}))
    reply = await client.send("hi")
    assert isinstance(reply, Task)
    assert reply.status.message == Message(message_id="m", role=Role.AGENT, parts=(Part(text="a"),))


async def test_a_reply_without_content_is_a_bad_answer(client: Client, first: Gateway) -> None:
    first.will(result({}))
    with pytest.raises(BadAnswer):
        await client.send("hi")


def test_the_public_names_are_these() -> None:
    public = {name for name in vars(a2a_events.client) if name[0] not in "_@" and name != "annotations"}
    modules = {"accumulate", "answers", "client", "endpoint", "errors", "http_json", "jsonrpc", "replicas", "retry"}
    modules |= {
        "card_keys",
        "credentials",
        "sse",
        "stream",
        "http_link",
        "grpc_link",
        "link",
        "operations",
        "push_configs",
        "receiver",
        "repetition",
        "replay",
        "v0_3",
    }
    assert set(a2a_events.client.__all__) == (public - modules) | {"accumulate"}
