"""The client of the official ``a2a-sdk`` against our gateway as it talks to servers of A2A 0.3, in both bindings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import httpx
import pytest
import pytest_asyncio
from a2a.client import A2ACardResolver, Client, ClientConfig, ClientFactory
from a2a.client.base_client import BaseClient
from a2a.client.transports.base import ClientTransport
from a2a.compat.v0_3.jsonrpc_transport import CompatJsonRpcTransport
from a2a.compat.v0_3.rest_transport import CompatRestTransport
from a2a.types import (
    CancelTaskRequest,
    GetTaskRequest,
    Part,
    Role,
    StreamResponse,
    SubscribeToTaskRequest,
    TaskState,
)
from a2a.utils.errors import TaskNotCancelableError, TaskNotFoundError, UnsupportedOperationError

from tests.interop.test_official_client import (  # its tests are run here too, with the clients of this module
    chunks,
    kind,
    saying,
    state,
    test_a_task_that_asks_goes_on_with_the_answer,  # noqa: F401
    test_a_task_that_ends_badly_says_why,  # noqa: F401
    test_an_agent_may_answer_with_a_message_and_no_task,  # noqa: F401
    test_canceling_a_running_task_ends_its_stream,  # noqa: F401
    test_returning_immediately_does_not_wait_for_the_end,  # noqa: F401
    the_task,
)
from tests.interop.wire import BINDINGS, HTTP_JSON, JSONRPC

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

UNKNOWN = "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA"
TRANSPORTS: dict[str, type[ClientTransport]] = {JSONRPC: CompatJsonRpcTransport, HTTP_JSON: CompatRestTransport}

Connect: TypeAlias = Callable[..., Awaitable[Client]]


@pytest_asyncio.fixture(loop_scope="module", params=BINDINGS)
async def connect(url: str, http: httpx.AsyncClient, request: pytest.FixtureRequest) -> Connect:
    """Makes clients that speak one binding of 0.3: the card at the old path names no other version."""

    async def make(*, path: str = "", streaming: bool = True, polling: bool = False) -> Client:
        card = await A2ACardResolver(http, url + path, agent_card_path="/.well-known/agent.json").get_agent_card()
        config = ClientConfig(
            httpx_client=http, supported_protocol_bindings=[request.param], streaming=streaming, polling=polling
        )
        client = ClientFactory(config).create(card)
        assert isinstance(client, BaseClient)
        assert isinstance(client._transport, TRANSPORTS[request.param])
        return client

    return make


async def test_a_stream_is_the_task_then_every_chunk_in_order_then_the_end(connect: Connect) -> None:
    client = await connect()
    seen = [response async for response in client.send_message(saying({"chunks": 30, "artifacts": 3}))]
    assert "task" == kind(seen[0])
    assert {"status_update", "artifact_update"} == {kind(r) for r in seen[1:]}
    assert [f"{number:06d}" for number in range(30)] == chunks(seen)
    assert "TASK_STATE_COMPLETED" == state(seen[-1])


async def test_a_blocking_send_gives_the_task_with_all_it_has_made(connect: Connect) -> None:
    client = await connect(streaming=False)
    task = await the_task(client, saying({"chunks": 5, "artifacts": 2}))
    assert TaskState.TASK_STATE_COMPLETED == task.status.state
    texts = [[part.text[:6] for part in artifact.parts] for artifact in task.artifacts]
    assert [["000000", "000001", "000002"], ["000003", "000004"]] == texts
    got = await client.get_task(GetTaskRequest(id=task.id))
    assert task == got


async def test_get_shows_as_much_history_as_was_asked_for(connect: Connect) -> None:
    client = await connect(streaming=False)
    first = await the_task(client, saying({"chunks": 2, "inputAt": 1}))
    await the_task(client, saying("go on", task_id=first.id))
    whole = await client.get_task(GetTaskRequest(id=first.id))
    newest = await client.get_task(GetTaskRequest(id=first.id, history_length=1))
    assert [Role.ROLE_USER, Role.ROLE_AGENT, Role.ROLE_USER] == [m.role for m in whole.history]
    assert ["go on"] == [m.parts[0].text for m in newest.history]


async def test_a_second_client_that_resubscribes_misses_nothing_after_the_task_it_is_shown(connect: Connect) -> None:
    client, other = await connect(), await connect()
    updates = client.send_message(saying({"chunks": 40, "delayMs": 10}))
    seen: list[StreamResponse] = [await anext(updates)]
    while len(chunks(seen)) < 5:
        seen.append(await anext(updates))
    again = [response async for response in other.subscribe(SubscribeToTaskRequest(id=seen[0].task.id))]
    seen += [response async for response in updates]
    shown = [part.text[:6] for artifact in again[0].task.artifacts for part in artifact.parts]
    assert [f"{number:06d}" for number in range(40)] == shown + chunks(again)
    assert [f"{number:06d}" for number in range(40)] == chunks(seen)
    assert "TASK_STATE_COMPLETED" == state(again[-1]) == state(seen[-1])


async def test_errors_arrive_as_the_clients_own_classes(connect: Connect) -> None:
    client = await connect()
    ended = await the_task(await connect(streaming=False), saying({"chunks": 1}))
    with pytest.raises(TaskNotCancelableError):
        await client.cancel_task(CancelTaskRequest(id=ended.id))
    with pytest.raises(UnsupportedOperationError):
        _ = [response async for response in client.subscribe(SubscribeToTaskRequest(id=ended.id))]
    with pytest.raises(UnsupportedOperationError):
        _ = [response async for response in client.send_message(saying("more", task_id=ended.id))]
    for call in (
        client.get_task(GetTaskRequest(id=UNKNOWN)),
        client.cancel_task(CancelTaskRequest(id=UNKNOWN)),
        anext(aiter(client.subscribe(SubscribeToTaskRequest(id=UNKNOWN)))),
        anext(aiter(client.send_message(saying("hello?", task_id=UNKNOWN)))),
    ):
        with pytest.raises(TaskNotFoundError):
            await call


async def test_files_and_data_come_back_as_they_were_sent(connect: Connect) -> None:
    client = await connect(streaming=False)
    request = saying({"chunks": 1})
    request.message.parts.append(Part(url="https://example.com/a", media_type="text/plain", filename="a.txt"))
    assert isinstance(client, BaseClient)
    if isinstance(client._transport, CompatJsonRpcTransport):  # the other one encodes bytes twice
        request.message.parts.append(Part(raw=b"\xfb\xff", media_type="image/png"))
    task = await the_task(client, request)
    assert list(request.message.parts) == list(task.history[0].parts)


async def test_the_agents_behind_one_gateway_are_each_at_a_path_of_its_own(connect: Connect) -> None:
    echo = await connect(path="/agents/echo", streaming=False)
    task = await the_task(echo, saying("hello"))
    assert "hello" == task.artifacts[0].parts[0].text
    with pytest.raises(TaskNotFoundError):
        await (await connect()).get_task(GetTaskRequest(id=task.id))
