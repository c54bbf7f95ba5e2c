"""Every path and method that the official ``a2a.proto`` declares is served, in all the forms that it may take."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from a2a.types import a2a_pb2
from google.api.annotations_pb2 import http as http_rule  # type: ignore[import-untyped]

from tests.interop.wire import BINDINGS, HTTP_JSON, JSONRPC, Caller, failure, message, script, send

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

UNKNOWN = "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA"
"""An id that we could have made, and have not."""

METHODS = {method.name: method for method in a2a_pb2.DESCRIPTOR.services_by_name["A2AService"].methods}
VERSION = {"A2A-Version": "1.0"}


def places() -> list[tuple[str, str, str]]:
    """Operation, verb and path template of everything the proto binds to HTTP."""
    found = []
    for name, method in METHODS.items():
        options: Any = method.GetOptions()
        rule = options.Extensions[http_rule]
        for one in [rule, *rule.additional_bindings]:
            verb = str(one.WhichOneof("pattern"))
            found.append((name, verb.upper(), str(getattr(one, verb))))
    return found


@pytest.mark.parametrize(("operation", "verb", "template"), places())
@pytest.mark.parametrize("agent", ["", "/agents/scripted"])
@pytest.mark.parametrize("slash", ["", "/"])
async def test_every_path_of_the_proto_leads_to_its_operation(
    http: httpx.AsyncClient, agent: str, operation: str, verb: str, template: str, slash: str
) -> None:
    path = re.sub(r"\{tenant\}", "acme", re.sub(r"\{(id|task_id)=\*\}", UNKNOWN, template))
    content = json.dumps({"message": message("x", taskId=UNKNOWN), "url": "https://example.com/hook"})
    answer = await http.request(verb, f"{agent}{path}{slash}", headers=VERSION, content=content * (verb == "POST"))
    if operation == "ListTasks" or answer.status_code == 200:
        assert 200 == answer.status_code, answer.text
        return
    expected = {"TASK_NOT_FOUND"}
    if "Push" in operation:
        expected = {"TASK_NOT_FOUND", "PUSH_NOTIFICATION_NOT_SUPPORTED"}
    elif operation == "GetExtendedAgentCard":
        expected = {"UNSUPPORTED_OPERATION", "EXTENDED_AGENT_CARD_NOT_CONFIGURED"}
    assert failure(HTTP_JSON, answer).reason in expected


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("operation", METHODS)
async def test_every_method_of_the_proto_is_one_of_json_rpc(
    http: httpx.AsyncClient, operation: str, slash: str
) -> None:
    params = {"id": UNKNOWN, "taskId": UNKNOWN, "message": message("x", taskId=UNKNOWN), "url": "https://example.com"}
    called = {"jsonrpc": "2.0", "id": 1, "method": operation, "params": params}
    for path in (slash, f"/agents/scripted{slash}"):
        answer = (await http.post(path, json=called, headers=VERSION)).json()
        assert -32601 != answer.get("error", {}).get("code"), answer


# --- tenants (specification 3.2.1, 11.3) -----------------------------------------------------------------------------

TENANTS = [
    "acme",
    "acme/west",
    "a b+c",
    "ünï/\u2028\U0001f600",
    "100%",
    "%2F",
    "..",
    ".",
    "*",
    ">",
    "a.b.c",
    "$JS",
    "a:b",
    "a?b#c",
    "agents",
    "livez",
    ".well-known",
    "' OR 1=1 --",
    "y" * 512,
]
RESERVED = ["tasks", "message:send", "message:stream", "extendedAgentCard"]
"""Names that are also the first segment of a path without a tenant, which is looked at first."""


@pytest.mark.parametrize("tenant", TENANTS, ids=lambda raw: ascii(raw[:20]))
async def test_a_tenant_is_the_same_in_a_path_in_a_query_and_in_parameters(
    http: httpx.AsyncClient, tenant: str
) -> None:
    segment = quote(tenant, safe="").replace(".", "%2E")
    rest, rpc = Caller(http, HTTP_JSON), Caller(http, JSONRPC)
    in_path = Caller(http, HTTP_JSON, f"/agents/scripted/{segment}")
    made = [
        (await in_path.call("SendMessage", send(script(chunks=1))))["task"],
        (await rest.call("SendMessage", {**send(script(chunks=1)), "tenant": tenant}))["task"],
        (await rpc.call("SendMessage", {**send(script(chunks=1)), "tenant": tenant}))["task"],
    ]
    for task in made:
        shown = [
            await in_path.call("GetTask", {"id": task["id"]}),
            await rest.call("GetTask", {"id": task["id"], "tenant": tenant}),
            await rpc.call("GetTask", {"id": task["id"], "tenant": tenant}),
        ]
        assert [task] * 3 == shown
        assert "TASK_NOT_FOUND" == (await rpc.refused("GetTask", {"id": task["id"]})).reason
        assert (
            "TASK_NOT_FOUND"
            == (await rest.refused("GetTask", {"id": task["id"], "tenant": f"x{tenant[1:]}x"[:512]})).reason
        )


@pytest.mark.parametrize("tenant", RESERVED)
async def test_a_tenant_named_like_a_path_is_reached_by_parameters(http: httpx.AsyncClient, tenant: str) -> None:
    for binding in BINDINGS:
        caller = Caller(http, binding)
        task = (await caller.call("SendMessage", {**send(script(chunks=1)), "tenant": tenant}))["task"]
        assert task == await caller.call("GetTask", {"id": task["id"], "tenant": tenant})
        # Where only the tenant's form of the path exists, it is meant.
        assert task == await Caller(http, HTTP_JSON, f"/{quote(tenant, safe='')}").call("GetTask", {"id": task["id"]})


async def test_a_path_without_tenant_is_looked_at_first(http: httpx.AsyncClient) -> None:
    answer = await http.get("/tasks/tasks", headers=VERSION)
    assert "TASK_NOT_FOUND" == failure(HTTP_JSON, answer).reason  # GetTask of "tasks", not ListTasks of tenant "tasks"


async def test_the_tenant_in_a_path_wins_over_others(http: httpx.AsyncClient) -> None:
    body: dict[str, Any] = {**send(script(chunks=1)), "tenant": "body"}
    sent = await http.post("/path/message:send?tenant=query", json=body, headers=VERSION)
    task_id = sent.json()["task"]["id"]
    assert 200 == (await http.get(f"/path/tasks/{task_id}?tenant=query", headers=VERSION)).status_code
    assert 404 == (await http.get(f"/tasks/{task_id}?tenant=body", headers=VERSION)).status_code


# --- media types (specification 11.1) --------------------------------------------------------------------------------

UNARY: list[tuple[str, str, dict[str, Any] | None]] = [
    ("POST", "/message:send", send(script(chunks=1))),
    ("GET", "/tasks/{id}", None),
    ("POST", "/tasks/{waiting}:cancel", {}),
]


@pytest.mark.parametrize("given", ["application/json", "application/a2a+json"])
@pytest.mark.parametrize(("verb", "path", "content"), UNARY)
async def test_every_answer_mirrors_the_media_type_of_its_request(
    http: httpx.AsyncClient, verb: str, path: str, content: dict[str, Any] | None, given: str
) -> None:
    caller = Caller(http, HTTP_JSON)
    ended = (await caller.call("SendMessage", send(script(chunks=1))))["task"]["id"]
    waiting = (await caller.call("SendMessage", send(script(chunks=1, inputAt=0))))["task"]["id"]
    at = path.format(id=ended, waiting=waiting)
    body = None if content is None else json.dumps(content)
    answer = await http.request(verb, at, content=body, headers={**VERSION, "content-type": given})
    assert (200, given) == (answer.status_code, answer.headers["content-type"])


@pytest.mark.parametrize("accept", ["application/json", "*/*", "text/html", "application/a2a+json"])
async def test_what_a_client_accepts_does_not_change_the_form_of_an_answer(caller: Caller, accept: str) -> None:
    request = caller.request("SendMessage", send(script(chunks=1)), headers={"accept": accept})
    assert 200 == (await caller.http.send(request)).status_code


@pytest.mark.parametrize(
    "given", ["text/plain", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
async def test_a_body_that_says_it_is_no_json_is_refused(caller: Caller, given: str) -> None:
    request = caller.request("SendMessage", send(script(chunks=1)), headers={"content-type": given})
    refused = failure(caller.binding, await caller.http.send(request))
    assert (-32005 if caller.binding == JSONRPC else 415) == refused.code
    assert "UNSUPPORTED_MEDIA_TYPE" == refused.reason


@pytest.mark.parametrize("given", ["", "APPLICATION/JSON;charset=UTF-8", "application/vnd.acme.v1+json"])
async def test_a_body_of_any_kind_of_json_is_read(caller: Caller, given: str) -> None:
    request = caller.request("SendMessage", send(script(chunks=1)), headers={"content-type": given})
    assert "TASK_STATE_COMPLETED" in (await caller.http.send(request)).text
