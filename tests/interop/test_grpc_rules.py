"""What the protocol demands over gRPC, by the official stub: the same as in the other bindings, in gRPC's own words."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest
import pytest_asyncio

pytest.importorskip("grpc_reflection", reason="the extra grpc is not installed")

from a2a.types.a2a_pb2 import GetTaskRequest, SendMessageRequest, Task
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from a2a_events import limits
from a2a_events.runtime.framing import REPLAY_EXTENSION
from a2a_events.testing import free_port
from tests.interop.grpc_wire import VERSION, GrpcCaller, as_json, channel, refusal
from tests.interop.test_protocol_rules import SCRIPTS, UNKNOWN, anonymous
from tests.interop.wire import JSONRPC, Caller, script, send

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

SERVICE = "lf.a2a.v1.A2AService"
CODES = {
    -32001: "NOT_FOUND",
    -32002: "FAILED_PRECONDITION",
    -32003: "FAILED_PRECONDITION",
    -32004: "FAILED_PRECONDITION",
    -32005: "INVALID_ARGUMENT",
    -32602: "INVALID_ARGUMENT",
}
"""Of each error in gRPC, by its code in JSON-RPC (specification 5.4)."""


@pytest.fixture(scope="module")
def grpc_port() -> int:
    """Where the gateway serves gRPC."""
    return free_port()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target(http: httpx.AsyncClient) -> str:
    """Where that is, as the card says."""
    card = (await http.get("/.well-known/agent-card.json")).json()
    (address,) = [i["url"] for i in card["supportedInterfaces"] if i["protocolBinding"] == "GRPC"]
    return str(address)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def connection(target: str) -> AsyncIterator[aio.Channel]:
    async with channel(target) as made:
        yield made


@pytest.fixture
def grpc(connection: aio.Channel) -> GrpcCaller:
    """Asks the default agent."""
    return GrpcCaller(connection)


@pytest.fixture
def jsonrpc(http: httpx.AsyncClient) -> Caller:
    """Asks the same agent over JSON-RPC."""
    return Caller(http, JSONRPC)


async def ended(caller: Caller | GrpcCaller) -> str:
    """Id of a task that has completed."""
    return str((await caller.call("SendMessage", send(script(chunks=3))))["task"]["id"])


async def running(caller: Caller | GrpcCaller) -> str:
    """Id of a task that runs until it is canceled."""
    asked = send(script(chunks=10_000, delayMs=20), configuration={"returnImmediately": True})
    return str((await caller.call("SendMessage", asked))["task"]["id"])


# --- versions (specification 3.6) ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["", "0.3", "1.1", "2.0", "1", "one"])
async def test_only_version_1_0_is_served_and_absent_means_0_3(grpc: GrpcCaller, version: str) -> None:
    refused = await refusal(
        grpc.stub.GetTask(GetTaskRequest(id=UNKNOWN), metadata=(("a2a-version", version),) if version else None)
    )
    assert ("FAILED_PRECONDITION", "VERSION_NOT_SUPPORTED") == (refused.code, refused.details[0]["reason"])
    assert "1.0" == refused.details[0]["metadata"]["supportedVersions"]


@pytest.mark.parametrize("sent", [["1.0"], ["1.0.1"], ["1.0", "1.0"]], ids=str)
async def test_patch_numbers_and_repetitions_of_the_version_do_not_count(grpc: GrpcCaller, sent: list[str]) -> None:
    task = await ended(grpc)
    metadata = tuple(("a2a-version", version) for version in sent)
    assert task == (await grpc.stub.GetTask(GetTaskRequest(id=task), metadata=metadata)).id


# --- errors (specification 5.4, 10.6) --------------------------------------------------------------------------------

REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "an unknown task": ("GetTask", {"id": UNKNOWN}),
    "an id that is none": ("CancelTask", {"id": "a.b>*"}),
    "a subscription to an unknown task": ("SubscribeToTask", {"id": UNKNOWN}),
    "no id": ("GetTask", {}),
    "a negative history length": ("GetTask", {"id": UNKNOWN, "historyLength": -1}),
    "no message": ("SendMessage", {}),
    "a message without parts": ("SendMessage", {"message": {"messageId": "m", "role": "ROLE_USER"}}),
    "an agent's message in a stream": (
        "SendStreamingMessage",
        {"message": {"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": "x"}]}},
    ),
    "a message to an unknown task": ("SendMessage", send("hello", taskId=UNKNOWN)),
    "a tenant that is too long": ("GetTask", {"id": UNKNOWN, "tenant": "t" * (limits.IDENTIFIER_CHARACTERS + 1)}),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_an_error_is_the_one_of_the_other_bindings_in_every_member(
    grpc: GrpcCaller, jsonrpc: Caller, case: str
) -> None:
    operation, params = REFUSED[case]
    assert_same(await grpc.refused(operation, params), await jsonrpc.refused(operation, params))


def assert_same(refused: Any, known: Any) -> None:
    assert (CODES[known.code], known.message) == (refused.code, refused.message)
    assert known.details == refused.details


async def test_an_ended_task_takes_no_message_no_cancel_and_no_subscriber(grpc: GrpcCaller, jsonrpc: Caller) -> None:
    task = await ended(grpc)
    asked = {"SendMessage": send("more", taskId=task), "CancelTask": {"id": task}, "SubscribeToTask": {"id": task}}
    reasons = []
    for operation, params in asked.items():
        refused = await grpc.refused(operation, params)
        assert_same(refused, await jsonrpc.refused(operation, params))
        reasons.append(refused.details[0]["reason"])
    assert ["UNSUPPORTED_OPERATION", "TASK_NOT_CANCELABLE", "UNSUPPORTED_OPERATION"] == reasons


async def test_a_media_type_that_the_agent_does_not_take_is_refused(
    connection: aio.Channel, http: httpx.AsyncClient
) -> None:
    asked = send({"text": "x", "mediaType": "text/html"})
    refused = await GrpcCaller(connection, "agents/reader").refused("SendMessage", asked)
    assert_same(refused, await Caller(http, JSONRPC, "/agents/reader").refused("SendMessage", asked))


async def test_an_error_is_never_larger_than_clients_accept(connection: aio.Channel) -> None:
    asked = send({"text": "x", "mediaType": "ü" * 100_000})
    refused = await GrpcCaller(connection, "agents/reader").refused("SendMessage", asked)
    assert ("INVALID_ARGUMENT", "CONTENT_TYPE_NOT_SUPPORTED") == (refused.code, refused.details[0]["reason"])
    assert refused.message.startswith("The agent does not take 'üü")


@pytest.mark.parametrize("operation", ["SendMessage", "SendStreamingMessage"])
async def test_bytes_that_are_no_message_are_refused(connection: aio.Channel, operation: str) -> None:
    path = f"/{SERVICE}/{operation}"
    call: Any = connection.unary_stream(path) if "Streaming" in operation else connection.unary_unary(path)
    refused = await refusal(call(b"\xff\xff\xff", metadata=tuple(VERSION.items())))
    assert ("INVALID_ARGUMENT", "PARSE_ERROR") == (refused.code, refused.details[0]["reason"])


async def test_a_number_that_json_does_not_have_is_refused(grpc: GrpcCaller) -> None:
    request = SendMessageRequest()
    request.message.message_id = "m"
    request.message.metadata["number"] = math.nan
    refused = await refusal(grpc.stub.SendMessage(request, metadata=tuple(VERSION.items())))
    assert ("INVALID_ARGUMENT", "INVALID_PARAMS") == (refused.code, refused.details[0]["reason"])


async def test_a_message_that_fits_the_request_and_not_the_log_is_refused_as_too_large(grpc: GrpcCaller) -> None:
    refused = await grpc.refused("SendMessage", send("x" * limits.CONTENT_BYTES))
    assert ("INVALID_ARGUMENT", "PAYLOAD_TOO_LARGE") == (refused.code, refused.details[0]["reason"])


async def test_large_content_comes_back_whole_to_clients_that_take_it(target: str) -> None:
    content = "x" * (5 * 1024 * 1024)
    async with channel(target, grpc__max_receive_message_length=-1) as connection:
        sent = await GrpcCaller(connection).call("SendMessage", send(content))
        assert [{"text": content}] == sent["task"]["history"][0]["parts"] == sent["task"]["artifacts"][0]["parts"]


async def test_content_as_deep_as_any_request_may_bring_is_read_over_grpc_too(
    grpc: GrpcCaller, jsonrpc: Caller
) -> None:
    around = 5  # the request, its params, the message, the parts and the part
    deep: Any = "bottom"
    for _ in range(limits.JSON_DEPTH - around):
        deep = [deep]
    task = (await jsonrpc.call("SendMessage", send({"data": deep}, "hello")))["task"]
    assert {"data": deep} == (await grpc.call("GetTask", {"id": task["id"]}))["history"][0]["parts"][0]
    assert (await jsonrpc.refused("SendMessage", send({"data": [deep]}, "hello"))).reason == "PARSE_ERROR"


async def test_a_method_that_is_none_is_unimplemented(connection: aio.Channel) -> None:
    call: Any = connection.unary_unary(f"/{SERVICE}/MakeTask")
    with pytest.raises(aio.AioRpcError) as refused:
        await call(b"")
    assert "UNIMPLEMENTED" == refused.value.code().name


# --- the same as in the other bindings -------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SCRIPTS)
async def test_what_is_shown_is_what_json_rpc_shows(grpc: GrpcCaller, jsonrpc: Caller, case: str) -> None:
    asked = send(script(**SCRIPTS[case]))
    frames = await jsonrpc.frames("SendStreamingMessage", asked)
    assert [anonymous(frame.data) for frame in frames] == [
        anonymous(update) for update in await grpc.stream("SendStreamingMessage", asked)
    ]
    known, shown = await jsonrpc.call("SendMessage", asked), await grpc.call("SendMessage", asked)
    assert anonymous(known) == anonymous(shown)


async def test_a_task_is_the_same_in_both(grpc: GrpcCaller, jsonrpc: Caller) -> None:
    parts: list[dict[str, Any]] = [
        {"text": 'quotes " and \\ and \u2028 and ünïcode', "mediaType": "text/plain", "metadata": {"k": [1, None]}},
        {"raw": "AAH/", "filename": "a.bin"},
        {"url": "https://example.com/a?b=c"},
        {"data": {"whole": 3, "half": 0.5, "huge": 1e300, "none": None, "list": [1, "2", {}]}},
        {"data": None},
    ]
    sent = await grpc.call("SendMessage", send(*parts, metadata={"a": {"b": 1}}, referenceTaskIds=["t-1"]))
    known = await jsonrpc.call("GetTask", {"id": sent["task"]["id"]})
    assert parts == known["history"][0]["parts"]
    assert known == await grpc.call("GetTask", {"id": known["id"]}) == sent["task"]


async def test_whole_numbers_reach_the_log_as_such(grpc: GrpcCaller, http: httpx.AsyncClient) -> None:
    sent = await grpc.call("SendMessage", send({"data": {"n": 3}}, "hello"))
    shown = await http.get(f"/tasks/{sent['task']['id']}", headers={"A2A-Version": "1.0"})
    assert '"data":{"n":3}' in shown.text


async def test_history_length_0_and_absent_are_told_apart(grpc: GrpcCaller) -> None:
    task = await ended(grpc)
    assert "history" in await grpc.call("GetTask", {"id": task})
    assert "history" not in await grpc.call("GetTask", {"id": task, "historyLength": 0})


# --- agents and tenants ----------------------------------------------------------------------------------------------


async def test_the_tenant_names_the_agent_as_the_path_does_over_http(
    connection: aio.Channel, http: httpx.AsyncClient, grpc: GrpcCaller
) -> None:
    card = (await http.get("/agents/echo/.well-known/agent-card.json")).json()
    interface = card["supportedInterfaces"][-1]
    assert ("GRPC", "agents/echo") == (interface["protocolBinding"], interface["tenant"])
    echo = GrpcCaller(connection, interface["tenant"])
    task = (await echo.call("SendMessage", send("hello")))["task"]
    assert "hello" == task["artifacts"][0]["parts"][0]["text"]
    assert task == await Caller(http, JSONRPC, "/agents/echo").call("GetTask", {"id": task["id"]})
    assert "NOT_FOUND" == (await grpc.refused("GetTask", {"id": task["id"]})).code


async def test_a_tenant_of_an_agent_is_the_one_of_the_other_bindings(
    connection: aio.Channel, http: httpx.AsyncClient
) -> None:
    for tenant, path in (("acme", ""), ("agents/echo/acme", "/agents/echo")):
        task = (await GrpcCaller(connection, tenant).call("SendMessage", send("hello")))["task"]
        known = Caller(http, JSONRPC, path)
        assert task == await known.call("GetTask", {"id": task["id"], "tenant": "acme"})
        assert "TASK_NOT_FOUND" == (await known.refused("GetTask", {"id": task["id"]})).reason


async def test_an_agent_that_nobody_serves_is_not_found(connection: aio.Channel) -> None:
    refused = await GrpcCaller(connection, "agents/nobody").refused("SendMessage", send("hello"))
    assert ("NOT_FOUND", "No agent is served here") == (refused.code, refused.message)


# --- operations that the scenarios above do not use ------------------------------------------------------------------


async def test_tasks_are_listed_page_by_page(grpc: GrpcCaller, jsonrpc: Caller) -> None:
    context = (await grpc.call("SendMessage", send(script(chunks=1))))["task"]["contextId"]
    for _ in range(2):
        await grpc.call("SendMessage", send(script(chunks=1), contextId=context))
    asked: dict[str, Any] = {"contextId": context, "pageSize": 2, "includeArtifacts": True, "historyLength": 0}
    pages = [await grpc.call("ListTasks", asked)]
    pages.append(await grpc.call("ListTasks", {**asked, "pageToken": pages[0]["nextPageToken"]}))
    assert [(2, 3), (1, 3)] == [(len(page["tasks"]), page["totalSize"]) for page in pages]
    whole = await jsonrpc.call("ListTasks", {**asked, "pageSize": 3})
    assert whole["tasks"] == pages[0]["tasks"] + pages[1]["tasks"]
    assert "nextPageToken" not in pages[1]
    completed = {"contextId": context, "status": "TASK_STATE_COMPLETED", "statusTimestampAfter": "2020-01-01T00:00:00Z"}
    assert 3 == (await grpc.call("ListTasks", completed))["totalSize"]
    assert_same(
        await grpc.refused("ListTasks", {"pageSize": 101}), await jsonrpc.refused("ListTasks", {"pageSize": 101})
    )


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        ("CreateTaskPushNotificationConfig", {"taskId": UNKNOWN, "url": "https://example.com/hook"}),
        ("GetTaskPushNotificationConfig", {"taskId": UNKNOWN, "id": "c-1"}),
        ("ListTaskPushNotificationConfigs", {"taskId": UNKNOWN}),
        ("DeleteTaskPushNotificationConfig", {"taskId": UNKNOWN, "id": "c-1"}),
        ("GetExtendedAgentCard", {}),
    ],
)
async def test_what_is_refused_to_others_is_refused_here(
    grpc: GrpcCaller, jsonrpc: Caller, operation: str, params: dict[str, Any]
) -> None:
    assert_same(await grpc.refused(operation, params), await jsonrpc.refused(operation, params))


# --- streams ---------------------------------------------------------------------------------------------------------


async def test_a_cursor_of_another_binding_replays_what_came_after_it(grpc: GrpcCaller, jsonrpc: Caller) -> None:
    frames = await jsonrpc.frames("SendStreamingMessage", send(script(chunks=4)))
    task = frames[0].data["task"]["id"]
    for number, frame in enumerate(frames):
        replayed = await grpc.stream("SubscribeToTask", {"id": task}, last_event_id=frame.id)
        assert [later.data for later in frames[number + 1 :]] == replayed


async def test_a_cursor_that_is_none_is_refused_and_a_send_with_one_starts_no_task(
    grpc: GrpcCaller, jsonrpc: Caller
) -> None:
    (*_, last) = await jsonrpc.frames("SendStreamingMessage", send(script(chunks=1)))
    task = await ended(grpc)
    for operation, params, cursor in (
        ("SubscribeToTask", {"id": task}, "no cursor"),
        ("SubscribeToTask", {"id": task}, last.id),
        ("SendStreamingMessage", send("again"), last.id),
    ):
        refused = await grpc.refused(operation, params, last_event_id=cursor)
        assert ("INVALID_ARGUMENT", "INVALID_PARAMS") == (refused.code, refused.details[0]["reason"])


async def test_a_client_that_leaves_ends_its_own_stream_and_nothing_else(target: str, grpc: GrpcCaller) -> None:
    task = await running(grpc)
    staying = grpc.start("SubscribeToTask", {"id": task})
    await staying.read()
    async with channel(target) as other:
        leaving = GrpcCaller(other).start("SubscribeToTask", {"id": task})
        await leaving.read()
        leaving.cancel()
        gone = GrpcCaller(other).start("SubscribeToTask", {"id": task})
        await gone.read()
    for _ in range(3):
        assert "artifactUpdate" in as_json(await staying.read())
    canceled = await grpc.call("CancelTask", {"id": task})
    assert "TASK_STATE_CANCELED" == canceled["status"]["state"]
    seen = [canceled]
    while (update := await staying.read()) is not aio.EOF:
        seen.append(as_json(update))
    assert "TASK_STATE_CANCELED" == seen[-1]["statusUpdate"]["status"]["state"]


async def test_a_client_that_stops_waiting_for_an_answer_leaves_the_task_running(grpc: GrpcCaller) -> None:
    stream = grpc.start("SendStreamingMessage", send(script(chunks=2, inputAt=1)))
    updates = [as_json(update) async for update in stream]
    task = updates[0]["task"]["id"]
    waiting = grpc.start("SendMessage", send(script(chunks=10_000, delayMs=20), taskId=task))
    async for update in grpc.start("SubscribeToTask", {"id": task}):
        if "artifactUpdate" in as_json(update):
            waiting.cancel()
            break
    with pytest.raises(asyncio.CancelledError):
        await waiting
    canceled = await grpc.call("CancelTask", {"id": task})
    assert "TASK_STATE_CANCELED" == canceled["status"]["state"]


async def test_with_the_replay_extension_every_update_carries_the_cursor_to_resume_from(grpc: GrpcCaller) -> None:
    updates = await grpc.stream("SendStreamingMessage", send(script(chunks=4)), a2a_extensions=REPLAY_EXTENSION)
    task = updates[0]["task"]["id"]
    for number, update in enumerate(updates):
        (shown,) = update.values()
        cursor = shown["metadata"][REPLAY_EXTENSION]["cursor"]
        rest = await grpc.stream("SubscribeToTask", {"id": task}, last_event_id=cursor, a2a_extensions=REPLAY_EXTENSION)
        assert updates[number + 1 :] == rest


# --- reflection and health -------------------------------------------------------------------------------------------


async def test_reflection_shows_the_services_and_their_messages(connection: aio.Channel) -> None:
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(cast("Any", connection))
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
    ]
    listed, found = [answer async for answer in reflection.ServerReflectionInfo(iter(asked))]
    names = [service.name for service in listed.list_services_response.service]
    assert {SERVICE, "grpc.health.v1.Health"} <= set(names)
    files = [FileDescriptorProto.FromString(f) for f in found.file_descriptor_response.file_descriptor_proto]
    (described,) = [file for file in files if file.package == "lf.a2a.v1"]
    assert {"Task", "Message", "AgentCard"} <= {message.name for message in described.message_type}
    assert Task.DESCRIPTOR.full_name == "lf.a2a.v1.Task"


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_health_is_serving(connection: aio.Channel, service: str) -> None:
    health: Any = health_pb2_grpc.HealthStub(connection)
    answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
    assert health_pb2.HealthCheckResponse.SERVING == answer.status
    watch = health.Watch(health_pb2.HealthCheckRequest(service=service))
    assert answer == await watch.read()
    watch.cancel()


async def test_health_of_another_service_is_unknown(connection: aio.Channel) -> None:
    health: Any = health_pb2_grpc.HealthStub(connection)
    asked = health_pb2.HealthCheckRequest(service="lf.a2a.v1.Other")
    with pytest.raises(aio.AioRpcError) as refused:
        await health.Check(asked)
    assert "NOT_FOUND" == refused.value.code().name
    watch = health.Watch(asked)
    assert health_pb2.HealthCheckResponse.SERVICE_UNKNOWN == (await watch.read()).status
    watch.cancel()
