"""Row 76, for every operation of every binding: what belongs to somebody else is not there, and shows in nothing.

``tests/bad_input/test_isolation.py`` has the plain cases, ``tests/integration/test_foreign_reads.py`` what is read for
an answer. Here the tables of operations, of methods, of paths and of members are walked: one that is new fails
until it has a case.

Alice and Bob are of one tenant, Eve is of another, and there is an Alice as well. What Alice has holds a text that is
nowhere else in each field. The others ask for it with every id, cursor, token and key that she has been given.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import secrets
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest
import pytest_asyncio
from grpc import aio
from msgspec import Struct
from msgspec.structs import replace

from a2a_events.bindings.fasta2a import FASTA2A
from a2a_events.bindings.grpc.service import SERVICE
from a2a_events.bindings.methods import STREAMING, UNARY
from a2a_events.bindings.timelines.api import TaskApi
from a2a_events.bindings.v0_3.names import METHODS
from a2a_events.model import Message, SendMessageConfiguration, TaskPushNotificationConfig
from a2a_events.testing import Deployment, free_port
from a2a_events.timeline import cursor
from a2a_events.timeline.ids import reference
from tests.bad_input.issuer import AUDIENCE, Issuer, issuing
from tests.hostile.site import ROOT
from tests.integration.receiver import Receiver, receiver
from tests.interop.grpc_wire import GrpcCaller, channel
from tests.interop.wire import HTTP_JSON, JSONRPC, Caller

pytestmark = [pytest.mark.integration, pytest.mark.processes, pytest.mark.asyncio(loop_scope="module")]

OPERATIONS = sorted({*UNARY, *STREAMING})
STRANGERS = {
    "bob": {"subject": "bob"},
    "eve": {"subject": "eve", "tenant": "evil"},
    "alice of another tenant": {"subject": "alice", "tenant": "evil"},
}
CANARY = re.compile(r"canary[a-z]+[0-9a-f]{12}")


def canary(name: str) -> str:
    return f"canary{name}{secrets.token_hex(6)}"


class Things(Struct, frozen=True):
    """What somebody may get hold of: what Alice has, or what nobody has."""

    task: str
    context: str
    config: str
    cursor: str
    page_token: str
    configs_token: str
    key: str
    message: str
    tenant: str
    artifact: str


class Case(Struct, frozen=True):
    """One way to ask for a thing of somebody else.

    Args:
        operation: of the protocol.
        name: of the case.
        params: in 1.0's form, of the things and of a task of one's own.
        headers: beside them.
        missing: what is said of a thing that is not there; see :func:`_is`.
    """

    operation: str
    name: str
    params: Callable[[Things, str], dict[str, Any]]
    headers: Callable[[Things], dict[str, str]] = lambda _: {}
    missing: str = "NOT_FOUND"


URL = "http://127.0.0.1:9/"


def said(**members: Any) -> dict[str, Any]:
    return {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "mine"}], **members}}


def _sends(operation: str) -> list[Case]:
    return [
        Case(operation, "task", lambda it, _: said(taskId=it.task)),
        Case(operation, "task and context", lambda it, _: said(taskId=it.task, contextId=it.context)),
        Case(operation, "task and key", lambda it, _: said(taskId=it.task), lambda it: {"Idempotency-Key": it.key}),
        Case(
            operation,
            "task and webhook",
            lambda it, _: {
                **said(taskId=it.task),
                "configuration": {"taskPushNotificationConfig": {"id": it.config, "url": URL}},
            },
        ),
        Case(operation, "tenant", lambda it, _: {**said(), "tenant": it.tenant}, missing="DENIED"),
        Case(
            operation,
            "own task, its context",
            lambda it, own: said(taskId=own, contextId=it.context),
            missing="REFUSED",
        ),
    ]


def _configs(operation: str, **more: Any) -> list[Case]:
    return [
        Case(operation, "task", lambda it, _: {"taskId": it.task, "id": it.config, **more}),
        Case(
            operation,
            "tenant",
            lambda it, own: {"taskId": own, "id": "x", "tenant": it.tenant, **more},
            missing="DENIED",
        ),
    ]


CASES = [
    *_sends("SendMessage"),
    *_sends("SendStreamingMessage"),
    Case("GetTask", "task", lambda it, _: {"id": it.task}),
    Case("GetTask", "history", lambda it, _: {"id": it.task, "historyLength": 5}),
    Case("GetTask", "config for a task", lambda it, _: {"id": it.config}),
    Case("GetTask", "context for a task", lambda it, _: {"id": it.context}),
    Case("GetTask", "tenant", lambda it, _: {"id": it.task, "tenant": it.tenant}, missing="DENIED"),
    Case("CancelTask", "task", lambda it, _: {"id": it.task}),
    Case("CancelTask", "metadata", lambda it, _: {"id": it.task, "metadata": {"a": it.artifact}}),
    Case("CancelTask", "tenant", lambda it, _: {"id": it.task, "tenant": it.tenant}, missing="DENIED"),
    Case("SubscribeToTask", "task", lambda it, _: {"id": it.task}),
    Case("SubscribeToTask", "cursor", lambda it, _: {"id": it.task}, lambda it: {"Last-Event-ID": it.cursor}, "GONE"),
    Case(
        "SubscribeToTask", "own, cursor", lambda _, own: {"id": own}, lambda it: {"Last-Event-ID": it.cursor}, "REFUSED"
    ),
    Case("SubscribeToTask", "tenant", lambda it, _: {"id": it.task, "tenant": it.tenant}, missing="DENIED"),
    Case("ListTasks", "context", lambda it, _: {"contextId": it.context, "includeArtifacts": True}, missing="EMPTY"),
    Case("ListTasks", "page token", lambda it, _: {"pageToken": it.page_token, "pageSize": 1}, missing="REFUSED"),
    Case(
        "ListTasks",
        "page token of a context",
        lambda it, _: {"pageToken": it.page_token, "contextId": it.context},
        missing="REFUSED",
    ),
    Case("ListTasks", "tenant", lambda it, _: {"tenant": it.tenant}, missing="DENIED"),
    *_configs("CreateTaskPushNotificationConfig", url=URL),
    *_configs("GetTaskPushNotificationConfig"),
    Case("GetTaskPushNotificationConfig", "own task, its config", lambda it, own: {"taskId": own, "id": it.config}),
    *_configs("DeleteTaskPushNotificationConfig"),
    Case(
        "DeleteTaskPushNotificationConfig",
        "own task, its config",
        lambda it, own: {"taskId": own, "id": it.config},
        missing="EMPTY",
    ),
    Case("ListTaskPushNotificationConfigs", "task", lambda it, _: {"taskId": it.task}),
    Case(
        "ListTaskPushNotificationConfigs",
        "task and page token",
        lambda it, _: {"taskId": it.task, "pageToken": it.configs_token},
        missing="GONE",
    ),
    Case(
        "ListTaskPushNotificationConfigs",
        "own task, its page token",
        lambda it, own: {"taskId": own, "pageToken": it.configs_token},
        missing="REFUSED",
    ),
    Case(
        "ListTaskPushNotificationConfigs",
        "tenant",
        lambda it, own: {"taskId": own, "tenant": it.tenant},
        missing="DENIED",
    ),
    Case("GetExtendedAgentCard", "card", lambda _, __: {}, missing="ANY"),
    Case("GetExtendedAgentCard", "tenant", lambda it, _: {"tenant": it.tenant}, missing="DENIED"),
]
"""Cases in which a thing of Alice must answer as one of nobody does."""

MAKING: list[tuple[str, Callable[[Things], dict[str, Any]], list[str]]] = [
    ("context", lambda it: said(contextId=it.context), []),
    ("message id", lambda it: said(messageId=it.message), []),
    ("references", lambda it: said(referenceTaskIds=[it.task], contextId=it.context), []),
    ("idempotency key", lambda _: said(), ["Idempotency-Key"]),
    (
        "everything",
        lambda it: {
            **said(contextId=it.context, messageId=it.message, referenceTaskIds=[it.task], extensions=[it.artifact]),
            "configuration": {"taskPushNotificationConfig": {"id": it.config, "url": URL}},
            "metadata": {"task": it.task},
        },
        ["Idempotency-Key"],
    ),
]
"""What makes a task of one's own out of what is Alice's."""

ASKED_WITH = {
    "id": "task, config",
    "task_id": "task",
    "context_id": "context",
    "message_id": "message id",
    "reference_task_ids": "references",
    "page_token": "page token",
    "tenant": "tenant",
    "task_push_notification_config": "webhook",
    "extensions": "everything",
    "metadata": "metadata",
}
"""Members of requests that can hold what is somebody else's, and the cases that have them."""
HARMLESS = {
    "accepted_output_modes",
    "authentication",
    "configuration",
    "current_generation",
    "history_length",
    "if_generation_match",
    "include_artifacts",
    "message",
    "page_size",
    "parts",
    "return_immediately",
    "role",
    "status",
    "status_timestamp_after",
    "token",
    "url",
}
"""Members that name nothing which is anybody's."""


class World(Struct):
    """What Alice has, and how to ask."""

    deployment: Deployment
    http: httpx.AsyncClient
    channel: aio.Channel
    issuer: Issuer
    hook: Receiver
    alice: Things
    nobody: Things
    tasks: list[str]
    canaries: dict[str, str]
    own: dict[str, str]
    """A task of each stranger."""
    before: list[bytes]
    """All that Alice has, before anybody asked for it."""
    tokens: dict[str, str]

    def as_(self, who: str, maker: str = "") -> dict[str, str]:
        if who + maker not in self.tokens:
            claims: dict[str, Any] = {"subject": who, **STRANGERS.get(who, {})}
            claims["subject"] += maker
            self.tokens[who + maker] = self.issuer.token(**claims, exp=int(time.time()) + 3600)
        return {"Authorization": f"Bearer {self.tokens[who + maker]}"}


async def _made(caller: Caller, headers: dict[str, str], names: dict[str, str], hook: str, **more: Any) -> str:
    """A task of Alice with a canary in each field that there is."""
    meta = {names["metakey"]: names["metavalue"]}
    parts = [
        {"text": names["text"], "metadata": meta},
        {"data": {names["datakey"]: [names["datavalue"]]}, "mediaType": f"x/{names['mediatype']}"},
        {"raw": "Y2FuYXJ5", "filename": names["filename"]},
        {"url": f"https://example.com/{names['url']}"},
    ]
    config = {
        "id": names["config"],
        "url": f"{hook}?{names['hook']}",
        "token": names["token"],
        "authentication": {"scheme": "Bearer", "credentials": names["credentials"]},
    }
    asked = {
        "message": {
            "messageId": names["message"],
            "contextId": names["context"],
            "role": "ROLE_USER",
            "parts": parts,
            "metadata": meta,
            "extensions": [f"https://example.com/{names['extension']}"],
            "referenceTaskIds": [names["reference"]],
        },
        "configuration": {"taskPushNotificationConfig": config, "acceptedOutputModes": [f"x/{names['mode']}"]},
        "metadata": {**meta, **more},
    }
    task: dict[str, Any] = (await caller.call("SendMessage", asked, headers=headers))["task"]
    await caller.call("CreateTaskPushNotificationConfig", {"taskId": task["id"], **config, "id": "zz"}, headers=headers)
    return str(task["id"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(nats_url: str) -> AsyncIterator[World]:
    fields = (
        "text metakey metavalue datakey datavalue mediatype filename url config hook token credentials message context"
        " extension reference mode idempotency"
    )
    names = {name: canary(name) for name in fields.split()}
    grpc_port = free_port()
    async with AsyncExitStack() as exits:
        issuer = await exits.enter_async_context(issuing(free_port()))
        hook = await exits.enter_async_context(receiver())
        settings = {
            "auth": "jwt",
            "auth_jwt_issuer": issuer.url,
            "auth_jwt_audience": AUDIENCE,
            "auth_jwt_tenant": "tenant",
            "push_allow_private": "true",
            "debug_api": "true",
            "grpc_port": str(grpc_port),
        }
        deployment = await exits.enter_async_context(
            Deployment(nats_url, agents="tests.hostile.attackers:keeper", settings=settings, folder=ROOT)
        )
        http = await exits.enter_async_context(httpx.AsyncClient(base_url=deployment.gateways[0].url, timeout=15))
        opened = await exits.enter_async_context(channel(f"127.0.0.1:{grpc_port}"))
        caller = Caller(http, HTTP_JSON)
        shown = {"Authorization": f"Bearer {issuer.token('alice')}"}
        keyed = {**shown, "Idempotency-Key": names["idempotency"]}
        tasks = [await _made(caller, keyed, names, hook.url), await _made(caller, shown, names, hook.url, end=True)]
        listed = await caller.call("ListTasks", {"pageSize": 1}, headers=shown)
        configs = await caller.call(
            "ListTaskPushNotificationConfigs", {"taskId": tasks[0], "pageSize": 1}, headers=shown
        )
        async with caller.stream("SubscribeToTask", {"id": tasks[0]}, headers=shown) as stream:
            first = await anext(aiter(stream))
        alice = Things(
            task=tasks[0],
            context=names["context"],
            config=names["config"],
            cursor=first.id,
            page_token=listed["nextPageToken"],
            configs_token=configs["nextPageToken"],
            key=names["idempotency"],
            message=names["message"],
            tenant="acme",
            artifact=f"{names['text']}-id",
        )
        made_up = f"{tasks[0][:-22]}{'A' * 22}"
        there, nowhere = (reference(one, agent="keeper", tenant="acme") for one in (tasks[0], made_up))
        assert there is not None
        assert nowhere is not None
        nobody = Things(
            task=made_up,
            context=canary("context"),
            config=canary("config"),
            cursor=cursor.text(nowhere, cursor.parse(first.id, there)),
            page_token=_another(alice.page_token),
            configs_token=_another(alice.configs_token),
            key=canary("idempotency"),
            message=canary("message"),
            tenant="nosuch",
            artifact=f"{canary('text')}-id",
        )
        made = World(deployment, http, opened, issuer, hook, alice, nobody, tasks, names, {}, [], {})
        for who in STRANGERS:
            made.own[who] = (await caller.call("SendMessage", said(), headers=made.as_(who)))["task"]["id"]
        made.before += await state_of_alice(made)
        yield made


def _another(token: str) -> str:
    """A token that could be one and is none."""
    return token[:4] + ("A" if token[4] != "A" else "B") + token[5:]


async def state_of_alice(world: World) -> list[bytes]:
    """All that she has, as she sees it and as it is stored."""
    caller, shown = Caller(world.http, HTTP_JSON), world.as_("alice")
    found: list[bytes] = []
    for task in world.tasks:
        for request in (
            caller.request("GetTask", {"id": task}, headers=shown),
            caller.request("ListTaskPushNotificationConfigs", {"taskId": task}, headers=shown),
            world.http.build_request("GET", f"/debug/timelines/tasks/{task}/bundle", headers=shown),
        ):
            response = await world.http.send(request)
            assert response.status_code == 200, response.text
            found.append(response.content)
    listed = caller.request("ListTasks", {"includeArtifacts": True, "historyLength": 9}, headers=shown)
    return [*found, (await world.http.send(listed)).content]


# --- the ways to ask --------------------------------------------------------------------------------------------------

Answer = tuple[Any, ...]
Ask = Callable[[World, str, dict[str, Any], dict[str, str]], Any]


async def _http(world: World, request: httpx.Request) -> Answer:
    response = await world.http.send(request)
    told = [(name, value) for name, value in response.headers.items() if name != "x-request-id"]
    return response.status_code, response.content.decode(), tuple(told)


async def ask_jsonrpc(world: World, operation: str, params: dict[str, Any], headers: dict[str, str]) -> Answer:
    return await _http(world, Caller(world.http, JSONRPC).request(operation, params, headers=headers))


async def ask_http_json(world: World, operation: str, params: dict[str, Any], headers: dict[str, str]) -> Answer:
    return await _http(world, Caller(world.http, HTTP_JSON).request(operation, params, headers=headers))


async def ask_grpc(world: World, operation: str, params: dict[str, Any], headers: dict[str, str]) -> Answer:
    metadata = {name.lower().replace("-", "_"): value for name, value in headers.items()}
    call = GrpcCaller(world.channel).start(operation, params, **metadata)
    try:
        answer = [str(update) async for update in call] if operation in STREAMING else str(await call)
    except aio.AioRpcError as error:
        trailing = [(name, value) for name, value in error.trailing_metadata() or () if name != "x-request-id"]
        return str(error.code()), error.details(), tuple(trailing)
    return "OK", repr(answer), ()


def _older(operation: str, params: dict[str, Any]) -> dict[str, Any]:
    """Parameters of 0.3's schema."""
    rest = {name: value for name, value in params.items() if name != "tenant"}
    match operation:
        case "SendMessage" | "SendStreamingMessage":
            message = {
                **rest["message"],
                "kind": "message",
                "role": "user",
                "parts": [{"kind": "text", "text": "mine"}],
            }
            config = rest.get("configuration", {}).get("taskPushNotificationConfig")
            more = {"configuration": {"pushNotificationConfig": config}} if config else {}
            return {"message": message, **more, **({"metadata": rest["metadata"]} if "metadata" in rest else {})}
        case "CreateTaskPushNotificationConfig":
            config = {"id": rest["id"], "url": rest["url"]}
            return {"taskId": rest["taskId"], "pushNotificationConfig": config}
        case "GetTaskPushNotificationConfig" | "DeleteTaskPushNotificationConfig":
            return {"id": rest["taskId"], "pushNotificationConfigId": rest["id"]}
        case "ListTaskPushNotificationConfigs":
            return {"id": rest["taskId"]}
        case _:
            return rest


async def _method(world: World, path: str, method: str, params: Any, headers: dict[str, str]) -> Answer:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return await _http(world, world.http.build_request("POST", path, json=body, headers=headers))


def by_method(path: str, method: str, form: Callable[[str, dict[str, Any]], dict[str, Any]]) -> Ask:
    async def ask(world: World, operation: str, params: dict[str, Any], headers: dict[str, str]) -> Answer:
        return await _method(world, path, method, form(operation, params), headers)

    return ask


async def ask_http_0_3(world: World, operation: str, params: dict[str, Any], headers: dict[str, str]) -> Answer:
    rest = {name: value for name, value in params.items() if name != "tenant"}
    if operation.startswith("Send"):
        rest = _older(operation, rest)
        rest["message"] = {**rest["message"], "role": "ROLE_USER", "content": [{"text": "mine"}]}
        del rest["message"]["parts"]
    if operation == "CreateTaskPushNotificationConfig":
        rest = {"taskId": rest["taskId"], "config": {"pushNotificationConfig": {"id": rest["id"], "url": rest["url"]}}}
    caller = Caller(world.http, HTTP_JSON, "/v1")
    request = caller.request(operation, rest, headers=headers, version="0.3")
    if operation == "GetExtendedAgentCard":
        request = world.http.build_request("GET", "/v1/card", headers=headers)
    return await _http(world, request)


def _of_fasta2a(operation: str, params: dict[str, Any]) -> dict[str, Any]:
    if not operation.startswith("Send"):
        return params
    message = {**params["message"], "role": "user"}
    return {**params, "message": message}


WIRES: dict[str, tuple[str, Ask]] = {
    **{f"JSON-RPC {name}": (name, ask_jsonrpc) for name in OPERATIONS},
    **{f"HTTP+JSON {name}": (name, ask_http_json) for name in OPERATIONS},
    **{f"gRPC {name}": (name, ask_grpc) for name in OPERATIONS},
    **{f"0.3 {method}": (name, by_method("/", method, _older)) for method, name in METHODS.items()},
    **{f"0.3 HTTP {name}": (name, ask_http_0_3) for name in OPERATIONS},
    **{
        f"fasta2a {method}": (name, by_method("/fasta2a", method, _of_fasta2a))
        for method, name in FASTA2A.methods.items()
    },
}
"""Every way to ask for an operation."""
DIALECTS = ("0.3", "fasta2a")


def _foreign(answer: Answer, asked: Any) -> set[str]:
    """Canaries in an answer that its asker has not written."""
    return set(CANARY.findall(repr(answer))) - set(CANARY.findall(repr(asked)))


def _is(missing: str, answer: Answer) -> bool:
    """Whether an answer is of this kind, in whatever binding: a case that fails to ask for anything shows nothing."""
    text = repr(answer)
    not_found = any(sign in text for sign in ("TASK_NOT_FOUND", "-32001", "NOT_FOUND", "Task not found"))
    refused = any(sign in text for sign in ("INVALID_PARAMS", "-32602", "INVALID_ARGUMENT"))
    match missing:
        case "NOT_FOUND":
            return not_found
        case "REFUSED":
            return refused
        case "GONE":  # bound to tenant and task: another tenant's is refused before the task is looked for
            return not_found or refused
        case "DENIED":
            return answer[0] in {403, "StatusCode.PERMISSION_DENIED"}
        case "EMPTY":
            return answer[0] in {200, "OK"} and "error" not in text
        case _:
            return missing == "ANY"


# --- tests ------------------------------------------------------------------------------------------------------------


async def test_every_operation_method_path_and_member_has_a_case() -> None:
    assert {case.operation for case in CASES} == set(OPERATIONS)
    assert {method.name for method in SERVICE.methods} <= set(OPERATIONS)
    assert {name for _, (name, _) in WIRES.items()} == set(OPERATIONS)
    members: set[str] = set()
    types: list[type[Any]] = [row[0] for row in (*UNARY.values(), *STREAMING.values())]
    types += [Message, SendMessageConfiguration, TaskPushNotificationConfig]
    for of in types:
        members |= {field.name for field in msgspec.structs.fields(of)}
    assert members == set(ASKED_WITH) | HARMLESS
    tree = ast.parse(textwrap.dedent(inspect.getsource(TaskApi.__call__)))
    paths = {
        "".join(f"/{one.value.value}" for one in case.pattern.patterns if isinstance(one, ast.MatchValue))  # type: ignore[attr-defined]
        for case in ast.walk(tree)
        if isinstance(case, ast.match_case) and isinstance(case.pattern, ast.MatchSequence)
    }
    assert paths == {"/" + path.strip("/").split("/")[0].split("?")[0] if path else "" for path in TIMELINES}


TIMELINES = [
    "",
    "/rows",
    "/rows?text=canary",
    "/at/1",
    "/difference?from=1&to=2",
    "/events",
    "/bundle",
    "/bundle?redact=content",
    "/why",
]


@pytest.mark.parametrize("wire", WIRES)
async def test_76_what_is_somebody_else_s_answers_byte_for_byte_as_what_is_nobody_s(world: World, wire: str) -> None:
    operation, ask = WIRES[wire]
    asked = 0
    for case in (one for one in CASES if one.operation == operation):
        older = wire.startswith("0.3")
        if older and (case.missing == "DENIED" or case.name == "own task, its page token"):
            continue  # 0.3 has neither tenants nor pages of webhooks
        for who in list(STRANGERS)[: 2 if wire.startswith(DIALECTS) else None]:
            if who == "bob" and case.missing == "DENIED":
                continue  # to Bob it is his tenant as well

            async def answer(it: Things, who: str = who, case: Case = case) -> Answer:
                params, more = case.params(it, world.own[who]), case.headers(it)
                found: Answer = await ask(world, case.operation, params, {**world.as_(who), **more})
                assert _foreign(found, (params, more)) == set(), (case.name, who, found)
                return found

            nowhere = await answer(world.nobody)
            assert _is(case.missing, nowhere), (case.name, who, nowhere)
            assert await answer(world.alice) == nowhere, (case.name, who)
            if case.missing != "GONE":  # her cursor is of the other task
                assert await answer(replace(world.alice, task=world.tasks[1])) == nowhere, (case.name, who)
            asked += 1
    assert asked
    assert await state_of_alice(world) == world.before


@pytest.mark.parametrize("wire", [wire for wire, (name, _) in WIRES.items() if name.startswith("Send")])
async def test_76_a_task_made_of_what_is_somebody_else_s_holds_nothing_of_it(world: World, wire: str) -> None:
    operation, ask = WIRES[wire]
    for who in STRANGERS:
        for name, params_of, headers in MAKING:
            maker = f" {wire} {name}"  # whose first use of Alice's key it is
            params, more = params_of(world.alice), dict.fromkeys(headers, world.alice.key)
            answer: Answer = await ask(world, operation, params, {**world.as_(who, maker), **more})
            assert answer[0] in {200, "OK"}, (name, answer)
            assert _foreign(answer, (params, more)) == set(), (name, who)
            for listed in ({"includeArtifacts": True, "historyLength": 50}, {"contextId": world.alice.context}):
                found = await ask_http_json(world, "ListTasks", listed, world.as_(who, maker))
                assert _foreign(found, (params, listed)) == set(), (name, who)
                ids = [task["id"] for task in json.loads(found[1])["tasks"]]
                assert not set(ids) & set(world.tasks)
                if "contextId" not in listed:
                    assert len(ids) == 1, "one of their own"
    assert await state_of_alice(world) == world.before


@pytest.mark.parametrize("path", TIMELINES)
async def test_76_so_do_timelines(world: World, path: str) -> None:
    for who in STRANGERS:
        for more in ({}, {"Last-Event-ID": "1"}, {"Last-Event-ID": world.alice.cursor}):

            async def answer(task: str, who: str = who, more: dict[str, str] = more) -> Answer:
                request = world.http.build_request(
                    "GET", f"/debug/timelines/tasks/{quote(task)}{path}", headers={**world.as_(who), **more}
                )
                return await _http(world, request)

            nowhere = await answer(world.nobody.task)
            assert nowhere[0] == 404
            assert [await answer(task) for task in world.tasks] == [nowhere, nowhere]
            assert CANARY.search(repr(nowhere)) is None
    assert await state_of_alice(world) == world.before


async def test_alice_has_all_of_it_and_her_webhooks_are_called_for_her_alone(world: World) -> None:
    """Each canary is in what she sees: the tests above have looked for what there is."""
    own = b"".join(world.before).decode()
    hidden = {"token", "credentials", "idempotency"}  # shown to nobody again
    assert {name for name, text in world.canaries.items() if text not in own} <= hidden
    assert {name for name, text in world.canaries.items() if text in own} >= set(world.canaries) - hidden
    assert all(one.task_id in world.tasks for one in world.hook.received)
