"""What a card promises is what a request gets: extensions, and operations that the card does not offer."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.interop.agents import EXTENDED, KNOWN, REQUIRED
from tests.interop.wire import BINDINGS, HTTP_JSON, Caller, script, send

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

UNKNOWN = "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA"
"""An id that we could have made, and have not."""

REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("SendMessage", send("x", taskId=UNKNOWN)),
    ("SendStreamingMessage", send("x", taskId=UNKNOWN)),
    ("GetTask", {"id": UNKNOWN}),
    ("ListTasks", {}),
    ("CancelTask", {"id": UNKNOWN}),
    ("SubscribeToTask", {"id": UNKNOWN}),
    ("CreateTaskPushNotificationConfig", {"taskId": UNKNOWN, "url": "https://example.com/hook"}),
    ("GetTaskPushNotificationConfig", {"taskId": UNKNOWN, "id": "c"}),
    ("ListTaskPushNotificationConfigs", {"taskId": UNKNOWN}),
    ("DeleteTaskPushNotificationConfig", {"taskId": UNKNOWN, "id": "c"}),
    ("GetExtendedAgentCard", {}),
]
"""Every operation, about a task that is not there."""
every_operation = pytest.mark.parametrize("request_", REQUESTS, ids=lambda pair: pair[0])


@pytest.fixture
def strict(caller: Caller) -> Caller:
    """Asks the agent that requires an extension."""
    return Caller(caller.http, caller.binding, "/agents/strict")


# --- extensions (specification 3.2.6, 4.6) ---------------------------------------------------------------------------


@every_operation
async def test_every_operation_needs_the_extensions_that_the_card_requires(
    strict: Caller, request_: tuple[str, dict[str, Any]]
) -> None:
    for given in ("", KNOWN, REQUIRED + "x", REQUIRED.upper()):
        headers = {"A2A-Extensions": given} if given else {}
        refused = await strict.refused(*request_, headers=headers)
        assert ("EXTENSION_SUPPORT_REQUIRED", REQUIRED) == (
            refused.reason,
            refused.details[0]["metadata"]["extensions"],
        )
    with_it = await strict.http.send(strict.request(*request_, headers={"A2A-Extensions": REQUIRED}))
    assert "EXTENSION_SUPPORT_REQUIRED" not in with_it.text


ASKED: dict[str, tuple[list[tuple[str, str]], str]] = {
    "one": ([("A2A-Extensions", REQUIRED)], REQUIRED),
    "both, comma-joined": ([("A2A-Extensions", f"{KNOWN},{REQUIRED}")], f"{REQUIRED},{KNOWN}"),
    "with spaces and an empty one": ([("A2A-Extensions", f"{REQUIRED} ,, {KNOWN},")], f"{REQUIRED},{KNOWN}"),
    "in two headers": ([("A2A-Extensions", REQUIRED), ("A2A-Extensions", KNOWN)], f"{REQUIRED},{KNOWN}"),
    "in lower case": ([("a2a-extensions", REQUIRED)], REQUIRED),
    "with one that nobody knows": ([("A2A-Extensions", f"https://example.com/other,{REQUIRED}")], REQUIRED),
    "with another version of a known one": ([("A2A-Extensions", f"{KNOWN[:-1]}1,{REQUIRED}")], REQUIRED),
}


@pytest.mark.parametrize("case", ASKED)
@pytest.mark.parametrize("operation", ["SendMessage", "SendStreamingMessage", "GetTask"])
async def test_the_answer_names_the_extensions_that_are_active_and_no_others(
    strict: Caller, operation: str, case: str
) -> None:
    given, active = ASKED[case]
    request = strict.request(operation, {"id": UNKNOWN} if operation == "GetTask" else send("x"))
    request.headers = httpx.Headers([*request.headers.multi_items(), *given])
    answer = await strict.http.send(request)
    assert active == answer.headers["a2a-extensions"]
    assert ("TASK_NOT_FOUND" if operation == "GetTask" else "TASK_STATE_COMPLETED") in answer.text


async def test_an_answer_without_active_extensions_names_none(caller: Caller) -> None:
    asked = caller.request("SendMessage", send(script(chunks=1)), headers={"A2A-Extensions": KNOWN})
    answer = await caller.http.send(asked)
    assert "TASK_STATE_COMPLETED" in answer.text
    assert "a2a-extensions" not in answer.headers


async def test_what_a_client_says_of_extensions_in_its_message_is_kept(caller: Caller) -> None:
    sent = send(script(chunks=1), extensions=[KNOWN], metadata={KNOWN: {"level": 3}})
    (said,) = (await caller.call("SendMessage", sent))["task"]["history"]
    assert ([KNOWN], {KNOWN: {"level": 3}}) == (said["extensions"], said["metadata"])


# --- capabilities (specification 3.3.4) ------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["SendStreamingMessage", "SubscribeToTask"])
async def test_an_agent_whose_card_offers_no_streaming_streams_nothing(caller: Caller, operation: str) -> None:
    quiet = Caller(caller.http, caller.binding, "/agents/quiet")
    task = (await quiet.call("SendMessage", send("x")))["task"]
    for task_id in (task["id"], UNKNOWN):  # the card is asked before the task is looked for
        params = send("x", taskId=task_id) if operation == "SendStreamingMessage" else {"id": task_id}
        assert "UNSUPPORTED_OPERATION" == (await quiet.refused(operation, params)).reason
    assert task == await quiet.call("GetTask", {"id": task["id"]})


@pytest.mark.parametrize("operation", [pair for pair in REQUESTS if "PushNotification" in pair[0]], ids=lambda p: p[0])
async def test_an_agent_whose_card_offers_no_webhooks_takes_none(
    caller: Caller, operation: tuple[str, dict[str, Any]]
) -> None:
    quiet = Caller(caller.http, caller.binding, "/agents/quiet")
    name, params = operation
    task = (await quiet.call("SendMessage", send("x")))["task"]
    for task_id in (task["id"], UNKNOWN):
        assert "PUSH_NOTIFICATION_NOT_SUPPORTED" == (await quiet.refused(name, {**params, "taskId": task_id})).reason


async def test_a_webhook_in_a_message_to_such_an_agent_is_refused_and_nothing_begun(caller: Caller) -> None:
    quiet = Caller(caller.http, caller.binding, "/agents/quiet")
    asked = send("x", configuration={"taskPushNotificationConfig": {"url": "https://example.com/hook"}})
    tenant = {"tenant": f"refused over {caller.binding}"}
    assert "PUSH_NOTIFICATION_NOT_SUPPORTED" == (await quiet.refused("SendMessage", {**asked, **tenant})).reason
    assert 0 == (await quiet.call("ListTasks", tenant))["totalSize"]


async def test_an_agent_whose_card_offers_no_extended_card_has_none(caller: Caller) -> None:
    quiet = Caller(caller.http, caller.binding, "/agents/quiet")
    for params in ({}, {"tenant": "acme"}):
        assert "UNSUPPORTED_OPERATION" == (await quiet.refused("GetExtendedAgentCard", params)).reason


async def test_the_extended_card_is_shown_to_who_asks_for_it(caller: Caller) -> None:
    club = Caller(caller.http, caller.binding, "/agents/club")
    public = (await caller.http.get("/agents/club/.well-known/agent-card.json")).json()
    assert public["capabilities"]["extendedAgentCard"]
    card = await club.call("GetExtendedAgentCard", {})
    assert [*public["skills"], "secret"] == [*card["skills"][:-1], card["skills"][-1]["id"]]
    assert EXTENDED.description == card["description"]
    assert public["supportedInterfaces"] == card["supportedInterfaces"]
    assert public["capabilities"] == card["capabilities"]
    assert card == await club.call("GetExtendedAgentCard", {"tenant": "acme"})


async def test_json_rpc_takes_a_request_for_the_extended_card_without_params(http: httpx.AsyncClient) -> None:
    given: list[dict[str, Any]] = [{}, {"params": None}, {"params": {}}]
    for params in given:
        called = {"jsonrpc": "2.0", "id": 1, "method": "GetExtendedAgentCard", **params}
        answer = await http.post("/agents/club", json=called, headers={"A2A-Version": "1.0"})
        assert "club" == answer.json()["result"]["name"]


# --- versions, for every operation (specification 3.6) ---------------------------------------------------------------


@every_operation
async def test_every_operation_wants_a_version_that_is_served(
    caller: Caller, request_: tuple[str, dict[str, Any]]
) -> None:
    for version, query, served in [
        ("1.0", "", True),
        ("1.0.9", "", True),
        (None, "?A2A-Version=1.0", True),
        (None, "?A2A-Version=1.0.9", True),
        ("9.9", "", False),
        (None, "?A2A-Version=9.9", False),
    ]:
        answer = await caller.http.send(caller.request(*request_, version=version, query=query))
        assert served == ("VERSION_NOT_SUPPORTED" not in answer.text), (version, query)


@pytest.mark.parametrize("binding", BINDINGS)
async def test_the_order_of_refusals_is_version_then_form_then_extension_then_task(
    http: httpx.AsyncClient, binding: str
) -> None:
    strict = Caller(http, binding, "/agents/strict")
    wrong = {"message": {"messageId": "m", "role": "ROLE_USER", "parts": "none"}}
    extension = {"A2A-Extensions": REQUIRED}
    reasons = [
        (await strict.refused("SendMessage", wrong, version="9.9")).reason,
        (await strict.refused("SendMessage", wrong)).reason,
        (await strict.refused("SendMessage", send("x", taskId=UNKNOWN))).reason,
        (await strict.refused("SendMessage", send("x", taskId=UNKNOWN), headers=extension)).reason,
    ]
    assert ["VERSION_NOT_SUPPORTED", "INVALID_PARAMS", "EXTENSION_SUPPORT_REQUIRED", "TASK_NOT_FOUND"] == reasons
    assert binding != HTTP_JSON or 404 == (await strict.refused("GetTask", {"id": "x"}, headers=extension)).http_status
