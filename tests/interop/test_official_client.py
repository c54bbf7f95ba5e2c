"""The client of the official ``a2a-sdk`` against our gateway, in every binding."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any, TypeAlias

import httpx
import pytest
import pytest_asyncio
from a2a.client import Client, ClientCallContext, ClientConfig, ClientFactory
from a2a.client.base_client import BaseClient
from a2a.client.service_parameters import ServiceParametersFactory, with_a2a_extensions
from a2a.types import (
    AgentCard,
    CancelTaskRequest,
    GetExtendedAgentCardRequest,
    GetTaskRequest,
    ListTasksRequest,
    Message,
    Part,
    Role,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    Task,
    TaskState,
)
from a2a.utils.errors import (
    ExtensionSupportRequiredError,
    InvalidParamsError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Value

from a2a_events.testing import free_port
from tests.interop.agents import REQUIRED
from tests.interop.wire import BINDINGS, HTTP_JSON, JSONRPC

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

UNKNOWN = "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA"
"""An id that we could have made, and have not."""

GRPC = "GRPC"
ALL = (*BINDINGS, GRPC)
CHANNEL = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1))
"""A connection of its own, which channels to one target share otherwise, and no bound of 4 MiB on what it receives."""

Connect: TypeAlias = Callable[..., Awaitable[Client]]


@pytest.fixture(scope="module")
def grpc_port() -> int:
    """Where the gateway serves gRPC, if it can."""
    return free_port() if find_spec("grpc") else 0


@pytest_asyncio.fixture(loop_scope="module", params=ALL)
async def connect(url: str, http: httpx.AsyncClient, request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Makes clients that speak one binding."""
    async with AsyncExitStack() as exits:

        async def make(*, path: str = "", streaming: bool = True, polling: bool = False) -> Client:
            made = client_of(url + path, http, request.param, streaming=streaming, polling=polling)
            return await exits.enter_async_context(made)

        yield make


@asynccontextmanager
async def client_of(url: str, http: httpx.AsyncClient, binding: str, **config: Any) -> AsyncIterator[Client]:
    """A client as its documentation makes one: from the card at a URL."""
    async with AsyncExitStack() as exits:
        if binding == GRPC:
            aio = pytest.importorskip("grpc.aio", reason="the extra grpc is not installed")
            config["grpc_channel_factory"] = partial(aio.insecure_channel, options=CHANNEL)
        chosen = ClientConfig(httpx_client=http, supported_protocol_bindings=[binding], **config)
        client = await ClientFactory(chosen).create_from_url(url)
        if binding == GRPC:
            exits.push_async_callback(client.close)  # over HTTP it would close what all tests share
        yield client


def card_of(client: Client) -> AgentCard:
    """The card that a client was made from."""
    assert isinstance(client, BaseClient)
    return client._card


def saying(content: str | dict[str, Any], **members: Any) -> SendMessageRequest:
    """A message with a text, or with a script for the scripted agent."""
    part = Part(text=content) if isinstance(content, str) else Part(data=ParseDict({"script": content}, Value()))
    return SendMessageRequest(message=Message(message_id="m", role=Role.ROLE_USER, parts=[part], **members))


async def the_task(client: Client, request: SendMessageRequest) -> Task:
    """The task that a client without streaming gets."""
    (only,) = [response async for response in client.send_message(request)]
    assert only.HasField("task"), only
    return only.task


def kind(response: StreamResponse) -> str:
    """The member that is set."""
    return str(response.WhichOneof("payload"))


def state(response: StreamResponse) -> str:
    """The state that a response shows, if it shows one."""
    shown = response.task if kind(response) == "task" else response.status_update
    return str(TaskState.Name(shown.status.state))


def chunks(responses: list[StreamResponse]) -> list[str]:
    """The number that each artifact chunk begins with."""
    updates = [r.artifact_update for r in responses if kind(r) == "artifact_update"]
    return [part.text[:6] for update in updates for part in update.artifact.parts]


async def test_the_card_names_every_binding_and_each_can_be_chosen(connect: Connect, url: str, grpc_port: int) -> None:
    card = card_of(await connect())
    assert "scripted" == card.name
    assert card.capabilities.streaming
    interfaces = [(i.protocol_binding, i.protocol_version, i.url, i.tenant) for i in card.supported_interfaces]
    grpc = [(GRPC, "1.0", f"127.0.0.1:{grpc_port}", "")] if grpc_port else []
    assert [(JSONRPC, "1.0", url, ""), (HTTP_JSON, "1.0", url, ""), *grpc] == interfaces


async def test_a_stream_is_the_task_then_every_chunk_in_order_then_the_end(connect: Connect) -> None:
    client = await connect()
    seen = [response async for response in client.send_message(saying({"chunks": 30, "artifacts": 3}))]
    assert "task" == kind(seen[0])
    assert {"status_update", "artifact_update"} == {kind(r) for r in seen[1:]}
    assert [f"{number:06d}" for number in range(30)] == chunks(seen)
    assert "TASK_STATE_COMPLETED" == state(seen[-1])
    assert ["TASK_STATE_COMPLETED"] == [state(r) for r in seen if state(r) == "TASK_STATE_COMPLETED"]


async def test_characters_that_some_take_for_line_ends_come_through_a_stream(connect: Connect) -> None:
    client = await connect(path="/agents/echo")
    text = "one\u2028two\u2029three\u0085four\x0bfive\x0csix\x1cseven\r\neight\n"
    seen = [response async for response in client.send_message(saying(text))]
    (update,) = [response.artifact_update for response in seen if kind(response) == "artifact_update"]
    assert [text] == [part.text for part in update.artifact.parts]


async def test_a_blocking_send_gives_the_task_with_all_it_has_made(connect: Connect) -> None:
    client = await connect(streaming=False)
    task = await the_task(client, saying({"chunks": 5, "artifacts": 2}))
    assert TaskState.TASK_STATE_COMPLETED == task.status.state
    assert [["000000", "000001", "000002"], ["000003", "000004"]] == [
        [part.text[:6] for part in artifact.parts] for artifact in task.artifacts
    ]


async def test_returning_immediately_does_not_wait_for_the_end(connect: Connect) -> None:
    client = await connect(streaming=False, polling=True)
    task = await the_task(client, saying({"chunks": 1000, "delayMs": 20}))
    assert TaskState.Name(task.status.state) in {"TASK_STATE_SUBMITTED", "TASK_STATE_WORKING"}
    canceled = await client.cancel_task(CancelTaskRequest(id=task.id))
    assert TaskState.TASK_STATE_CANCELED == canceled.status.state


async def test_get_shows_as_much_history_as_was_asked_for(connect: Connect) -> None:
    client = await connect(streaming=False)
    first = await the_task(client, saying({"chunks": 2, "inputAt": 1}))
    await the_task(client, saying("go on", task_id=first.id))
    whole = await client.get_task(GetTaskRequest(id=first.id))
    newest = await client.get_task(GetTaskRequest(id=first.id, history_length=1))
    none = await client.get_task(GetTaskRequest(id=first.id, history_length=0))
    assert [Role.ROLE_USER, Role.ROLE_AGENT, Role.ROLE_USER] == [m.role for m in whole.history]
    assert ["go on"] == [m.parts[0].text for m in newest.history]
    assert [] == list(none.history)
    assert {TaskState.TASK_STATE_COMPLETED} == {t.status.state for t in (whole, newest, none)}


async def test_canceling_a_running_task_ends_its_stream(connect: Connect) -> None:
    client, other = await connect(), await connect()
    seen: list[StreamResponse] = []
    async for response in client.send_message(saying({"chunks": 1000, "delayMs": 20})):
        seen.append(response)
        if len(chunks(seen)) == 1 and kind(response) == "artifact_update":
            canceled = await other.cancel_task(CancelTaskRequest(id=seen[0].task.id))
            assert TaskState.TASK_STATE_CANCELED == canceled.status.state
    assert "TASK_STATE_CANCELED" == state(seen[-1])


async def test_canceling_an_ended_task_is_refused(connect: Connect) -> None:
    client = await connect(streaming=False)
    task = await the_task(client, saying({"chunks": 1}))
    with pytest.raises(TaskNotCancelableError):
        await client.cancel_task(CancelTaskRequest(id=task.id))


async def test_a_second_client_that_subscribes_misses_nothing_after_the_task_it_is_shown(connect: Connect) -> None:
    client, other = await connect(), await connect()
    updates = client.send_message(saying({"chunks": 40, "delayMs": 10}))
    seen = [await anext(updates)]
    while len(chunks(seen)) < 5:
        seen.append(await anext(updates))
    subscribed = [response async for response in other.subscribe(SubscribeToTaskRequest(id=seen[0].task.id))]
    seen += [response async for response in updates]
    assert "task" == kind(subscribed[0])
    shown = [part.text[:6] for artifact in subscribed[0].task.artifacts for part in artifact.parts]
    assert [f"{number:06d}" for number in range(40)] == shown + chunks(subscribed)
    assert [f"{number:06d}" for number in range(40)] == chunks(seen)
    assert "TASK_STATE_COMPLETED" == state(subscribed[-1]) == state(seen[-1])


async def test_subscribing_to_an_ended_task_is_an_unsupported_operation(connect: Connect) -> None:
    client, polling = await connect(), await connect(streaming=False)
    task = await the_task(polling, saying({"chunks": 1}))
    with pytest.raises(UnsupportedOperationError):
        _ = [response async for response in client.subscribe(SubscribeToTaskRequest(id=task.id))]


@pytest.mark.parametrize("task_id", [UNKNOWN, "not-one-of-ours", "a.b>*"])
async def test_an_unknown_task_is_not_found_by_any_operation(connect: Connect, task_id: str) -> None:
    client = await connect()
    with pytest.raises(TaskNotFoundError):
        await client.get_task(GetTaskRequest(id=task_id))
    with pytest.raises(TaskNotFoundError):
        await client.cancel_task(CancelTaskRequest(id=task_id))
    with pytest.raises(TaskNotFoundError):
        _ = [response async for response in client.subscribe(SubscribeToTaskRequest(id=task_id))]
    with pytest.raises(TaskNotFoundError):
        _ = [response async for response in client.send_message(saying("hello?", task_id=task_id))]


async def test_tasks_are_listed_page_by_page_as_the_filters_say(connect: Connect) -> None:
    client = await connect(streaming=False)
    first = await the_task(client, saying({"chunks": 1}))
    context = first.context_id
    made = [first, *[await the_task(client, saying({"chunks": 1}, context_id=context)) for _ in range(4)]]
    waiting = await the_task(client, saying({"chunks": 1, "inputAt": 0}, context_id=context))
    seen: list[Task] = []
    token = ""
    while True:
        asked = ListTasksRequest(context_id=context, page_size=4, page_token=token, include_artifacts=True)
        page = await client.list_tasks(asked)
        assert (6, 4) == (page.total_size, page.page_size)
        seen += page.tasks
        token = page.next_page_token
        if not token:
            break
    assert [task.id for task in [waiting, *reversed(made)]] == [task.id for task in seen]
    assert [task.artifacts for task in reversed(made)] == [task.artifacts for task in seen[1:]]
    asking = ListTasksRequest(context_id=context, status=TaskState.TASK_STATE_INPUT_REQUIRED)
    assert [waiting.id] == [task.id for task in (await client.list_tasks(asking)).tasks]
    newest = ListTasksRequest(context_id=context, status_timestamp_after=waiting.status.timestamp)
    assert waiting.id in [task.id for task in (await client.list_tasks(newest)).tasks]
    with pytest.raises(InvalidParamsError):
        await client.list_tasks(ListTasksRequest(page_size=101))


async def test_the_extended_card_replaces_the_one_that_was_found(connect: Connect) -> None:
    client = await connect(path="/agents/club")
    assert card_of(client).capabilities.extended_agent_card
    assert ["reader"] == [skill.id for skill in card_of(client).skills]
    card = await client.get_extended_agent_card(GetExtendedAgentCardRequest())
    assert ["reader", "secret"] == [skill.id for skill in card.skills]


async def test_an_extension_that_the_card_requires_can_be_activated(connect: Connect) -> None:
    client = await connect(path="/agents/strict", streaming=False)
    with pytest.raises(ExtensionSupportRequiredError):
        await the_task(client, saying("x"))
    parameters = ServiceParametersFactory.create([with_a2a_extensions([REQUIRED])])
    context = ClientCallContext(service_parameters=parameters)
    (only,) = [response async for response in client.send_message(saying("x"), context=context)]
    assert TaskState.TASK_STATE_COMPLETED == only.task.status.state


@pytest.mark.parametrize(("asks", "waits"), [("inputAt", "INPUT_REQUIRED"), ("authAt", "AUTH_REQUIRED")])
async def test_a_task_that_asks_goes_on_with_the_answer(connect: Connect, asks: str, waits: str) -> None:
    client = await connect()
    before = [response async for response in client.send_message(saying({"chunks": 4, asks: 2}))]
    assert f"TASK_STATE_{waits}" == state(before[-1])
    task = before[0].task
    after = [response async for response in client.send_message(saying("yes", task_id=task.id))]
    assert ("task", task.id, task.context_id) == (kind(after[0]), after[0].task.id, after[0].task.context_id)
    assert ["000000", "000001"] == chunks(before)
    assert ["000002", "000003"] == chunks(after)
    assert "TASK_STATE_COMPLETED" == state(after[-1])


@pytest.mark.parametrize(("how", "end"), [("fail", "FAILED"), ("reject", "REJECTED")])
async def test_a_task_that_ends_badly_says_why(connect: Connect, how: str, end: str) -> None:
    client = await connect()
    seen = [response async for response in client.send_message(saying({"chunks": 1, how: True}))]
    last = seen[-1].status_update.status
    assert f"TASK_STATE_{end}" == TaskState.Name(last.state)
    assert f"{how}ed as told" == last.message.parts[0].text
    assert Role.ROLE_AGENT == last.message.role


@pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "blocking"])
async def test_an_agent_may_answer_with_a_message_and_no_task(connect: Connect, streaming: bool) -> None:
    client = await connect(streaming=streaming)
    (only,) = [response async for response in client.send_message(saying({"message": True}))]
    assert "message" == kind(only)
    assert (Role.ROLE_AGENT, "", "done") == (only.message.role, only.message.task_id, only.message.parts[0].text)


async def test_a_task_in_a_given_context_keeps_it(connect: Connect) -> None:
    client = await connect(streaming=False)
    first = await the_task(client, saying({"chunks": 1}))
    second = await the_task(client, saying({"chunks": 1}, context_id=first.context_id))
    assert first.context_id == second.context_id
    assert first.id != second.id


async def test_two_agents_behind_one_gateway_have_cards_and_tasks_of_their_own(connect: Connect) -> None:
    echo, scripted = await connect(path="/agents/echo", streaming=False), await connect(path="/agents/scripted")
    assert ("echo", "scripted") == (card_of(echo).name, card_of(scripted).name)
    task = await the_task(echo, saying("hello"))
    assert "hello" == task.artifacts[0].parts[0].text
    assert task == await echo.get_task(GetTaskRequest(id=task.id))
    with pytest.raises(TaskNotFoundError):
        await scripted.get_task(GetTaskRequest(id=task.id))


SCENARIOS: dict[str, dict[str, Any]] = {
    "completed": {"chunks": 3, "artifacts": 2},
    "failed": {"chunks": 1, "fail": True},
    "rejected": {"chunks": 0, "reject": True},
    "input required": {"chunks": 2, "inputAt": 1},
    "auth required": {"chunks": 2, "authAt": 0},
    "a bare message": {"message": True},
}


@pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "blocking"])
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("binding", [HTTP_JSON, GRPC])
async def test_all_bindings_show_the_same(
    url: str, http: httpx.AsyncClient, scenario: str, streaming: bool, binding: str
) -> None:
    shown = []
    for each in (JSONRPC, binding):
        async with client_of(url, http, each, streaming=streaming) as client:
            shown.append([MessageToDict(r) async for r in client.send_message(saying(SCENARIOS[scenario]))])
    assert shapes(shown[0]) == shapes(shown[1])


def shapes(value: Any, member: str = "") -> Any:
    """The same with ids and times, which differ from run to run, replaced by what they are."""
    if isinstance(value, dict):
        return {name: shapes(content, name) for name, content in value.items()}
    if isinstance(value, list):
        return [shapes(item) for item in value]
    return member if member in {"id", "taskId", "contextId", "messageId", "timestamp"} else value


async def test_content_larger_than_a_record_comes_back_whole(connect: Connect) -> None:
    said = "0123456789 \u00e9\n" * 200_000
    client = await connect(path="/agents/echo")
    artifacts = [
        response.artifact_update.artifact
        async for response in client.send_message(saying(said))
        if response.HasField("artifact_update")
    ]
    assert [part.text for artifact in artifacts for part in artifact.parts] == [said]

    polling = await connect(path="/agents/echo", streaming=False)
    task = await the_task(polling, saying(said))
    assert [part.text for artifact in task.artifacts for part in artifact.parts] == [said]
    assert task == await client.get_task(GetTaskRequest(id=task.id))
