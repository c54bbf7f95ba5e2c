"""``Idempotency-Key`` through every binding of two gateways, and our client when its answers are lost on the way."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio
from msgspec import Struct

from a2a_events.client import Client, Retry
from a2a_events.log.jetstream import JetStreamLog
from a2a_events.model import Message, Task, TaskState
from a2a_events.services import gateway
from a2a_events.services.connect import jetstream_log
from a2a_events.settings import Settings
from a2a_events.testing import eventually, free_port
from tests.interop.agents import AGENTS
from tests.interop.conftest import serving
from tests.interop.grpc_wire import GrpcCaller, channel
from tests.interop.wire import HTTP_JSON, JSONRPC, Caller, script, send

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

FIELD = "Idempotency-Key"


class Proxy:
    """Passes bytes on to a gateway; what comes back after a message was sent is lost as often as a test says."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.lose = 0
        """How many more answers to messages are lost, each with its connection."""
        self.lost = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, to_gateway = await asyncio.open_connection("127.0.0.1", self._port)
        sending = [False]

        async def forth() -> None:
            while piece := await reader.read(65536):
                sending[0] = sending[0] or b"idempotency-key" in piece.lower()
                to_gateway.write(piece)
                await to_gateway.drain()

        async def back() -> None:
            while piece := await upstream.read(65536):
                if sending[0] and self.lose > 0:
                    self.lose -= 1
                    self.lost += 1
                    return
                writer.write(piece)
                await writer.drain()

        ways = [asyncio.create_task(forth()), asyncio.create_task(back())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            writer.transport.abort()
            to_gateway.close()


@asynccontextmanager
async def proxied(port: int) -> AsyncIterator[tuple[Proxy, str]]:
    proxy = Proxy(port)
    async with await asyncio.start_server(proxy.connected, "127.0.0.1", 0) as server:
        yield proxy, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


class Pair(Struct, frozen=True):
    """Two gateways of the same agents over one log."""

    one: Settings
    other: Settings
    proxy: Proxy
    """Before the other one, at the address that its card names."""
    log: JetStreamLog

    @property
    def urls(self) -> list[str]:
        """Where each listens itself."""
        return [f"http://127.0.0.1:{each.port}" for each in (self.one, self.other)]

    async def tasks(self, text: str) -> dict[str, str]:
        """Every task in the log that was asked for with this text, and the kinds of its events."""
        found: dict[str, str] = {}
        asked: set[str] = set()
        for shard, end in (await self.log.ends()).items():
            async for run in self.log.scan(shard, 1, end.position):
                for each in run:
                    task_id = each.task.task_id
                    found[task_id] = found.get(task_id, "") + each.record.header.kinds
                    if text.encode() in each.record.payload:
                        asked.add(task_id)
        return {task_id: kinds for task_id, kinds in found.items() if task_id in asked}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(nats_url: str) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as exits:
        one = await exits.enter_async_context(
            serving(AGENTS, nats=nats_url, default_agent="scripted", grpc_port=free_port())
        )
        port = free_port()
        proxy, public_url = await exits.enter_async_context(proxied(port))
        other = msgspec.structs.replace(one, port=port, grpc_port=free_port(), public_url=public_url)
        log, connection = await exits.enter_async_context(jetstream_log(other, "gateway"))
        stop = asyncio.Event()
        second = asyncio.create_task(gateway.serve(log, connection, other, stop))
        async with httpx.AsyncClient(base_url=public_url) as http:

            async def served() -> bool:
                with contextlib.suppress(httpx.TransportError):
                    return (await http.get("/.well-known/agent-card.json")).status_code == httpx.codes.OK
                return False

            await eventually(served)
        yield Pair(one, other, proxy, log)
        stop.set()
        await second


class Everywhere:
    """Sends of one client through every binding of both gateways."""

    def __init__(self, https: list[httpx.AsyncClient], grpcs: list[GrpcCaller]) -> None:
        self._over_http = [Caller(http, binding) for http in https for binding in (JSONRPC, HTTP_JSON)]
        self._over_grpc = grpcs
        self._older = https

    async def sends(self, params: dict[str, Any], key: str) -> list[dict[str, Any]]:
        """The task of one send through each of them, all at once."""
        over_http = [each.call("SendMessage", params, headers={FIELD: key}) for each in self._over_http]
        over_grpc = [each.call("SendMessage", params, idempotency_key=key) for each in self._over_grpc]
        answers = await asyncio.gather(*over_http, *over_grpc, *(_of_0_3(http, params, key) for http in self._older))
        return [answer.get("task", answer) for answer in answers]

    async def refusals(self, params: dict[str, Any], key: str) -> list[list[str]]:
        """The fields that each of them finds fault with, streaming and not."""
        named: list[list[str]] = []
        for operation in ("SendMessage", "SendStreamingMessage"):
            named += [(await each.refused(operation, params, headers={FIELD: key})).fields for each in self._over_http]
            for each in self._over_grpc:
                refused = await each.refused(operation, params, idempotency_key=key)
                assert "INVALID_ARGUMENT" == refused.code
                named += [
                    [violation["field"] for violation in detail["fieldViolations"]]
                    for detail in refused.details
                    if "fieldViolations" in detail
                ]
        return named


async def _of_0_3(http: httpx.AsyncClient, params: dict[str, Any], key: str) -> dict[str, Any]:
    """The same message, spelled in 0.3."""
    message = params["message"]
    parts = [{"kind": "text", "text": part["text"]} for part in message["parts"]]
    older = {**message, "kind": "message", "role": "user", "parts": parts}
    body = {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": older}}
    answer = (await http.post("/", json=body, headers={FIELD: key})).json()
    assert "result" in answer, answer
    result: dict[str, Any] = answer["result"]
    return result


@pytest_asyncio.fixture(loop_scope="module")
async def everywhere(pair: Pair) -> AsyncIterator[Everywhere]:
    async with AsyncExitStack() as exits:
        https = [await exits.enter_async_context(httpx.AsyncClient(base_url=url, timeout=20)) for url in pair.urls]
        channels = [
            await exits.enter_async_context(channel(f"127.0.0.1:{each.grpc_port}")) for each in (pair.one, pair.other)
        ]
        yield Everywhere(https, [GrpcCaller(each) for each in channels])


def unique() -> str:
    return os.urandom(8).hex()


async def test_fifty_identical_sends_through_all_bindings_of_two_gateways_make_one_task(
    pair: Pair, everywhere: Everywhere
) -> None:
    text, key = unique(), unique()
    answers = await asyncio.gather(*(everywhere.sends(send(text), key) for _ in range(7)))
    told = [task for answer in answers for task in answer]
    assert 56 == len(told)
    assert 1 == len({task["id"] for task in told})
    assert 1 == len({task["contextId"] for task in told})
    assert {told[0]["id"]: 1} == {task_id: kinds.count("s") for task_id, kinds in (await pair.tasks(text)).items()}


async def test_a_further_message_through_all_bindings_is_taken_once(pair: Pair, everywhere: Everywhere) -> None:
    text = unique()
    first = await everywhere.sends(send(text, configuration={"returnImmediately": True}), unique())
    task_id = first[0]["id"]
    async with httpx.AsyncClient(base_url=pair.one.base_url, timeout=20) as http:
        asked = send(script(chunks=2, inputAt=1))
        waiting = await Caller(http, HTTP_JSON).call("SendMessage", asked)
        task_id = waiting["task"]["id"]
        assert "TASK_STATE_INPUT_REQUIRED" == waiting["task"]["status"]["state"]
    told = await everywhere.sends(send(text, taskId=task_id), unique())
    assert {task_id} == {task["id"] for task in told}
    assert 1 == (await pair.tasks(text))[task_id].count("m")


@pytest.mark.parametrize("key", ["", "two words", "x" * 256])
async def test_what_is_no_key_is_refused_in_every_binding(pair: Pair, everywhere: Everywhere, key: str) -> None:
    text = unique()
    assert [[FIELD]] * 12 == await everywhere.refusals(send(text), key)
    assert {} == await pair.tasks(text)


async def test_the_same_key_with_another_message_is_refused_in_every_binding(
    pair: Pair, everywhere: Everywhere
) -> None:
    text, key = unique(), unique()
    (first, *_) = await everywhere.sends(send(text), key)
    before = await pair.tasks(text)
    assert [[FIELD]] * 12 == await everywhere.refusals(send(f"not {text}"), key)
    assert {first["id"]} == set(before)
    assert before == await pair.tasks(text)


# --- our client ------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="module", params=[JSONRPC, HTTP_JSON])
async def client(pair: Pair, request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    """Asks the gateway behind the proxy first."""
    retry = Retry(base_seconds=0.01, ceiling_seconds=0.05)
    async with Client([pair.other.base_url, pair.one.base_url], binding=request.param, retry=retry) as made:
        yield made


async def test_a_client_whose_reply_is_lost_gets_the_task_that_it_made(pair: Pair, client: Client) -> None:
    lost = pair.proxy.lost
    text = unique()
    pair.proxy.lose = 1
    async with asyncio.timeout(30):
        task = await client.send(text)
    assert isinstance(task, Task)
    assert (lost + 1, TaskState.COMPLETED) == (pair.proxy.lost, task.status.state)
    assert [task.id] == list(await pair.tasks(text))


async def test_a_client_whose_stream_is_lost_before_its_first_update_gets_all_of_it(pair: Pair, client: Client) -> None:
    lost = pair.proxy.lost
    text = unique()
    pair.proxy.lose = 1
    async with asyncio.timeout(30), client.stream(text) as updates:
        seen = [update async for update in updates]
    assert lost + 1 == pair.proxy.lost
    assert TaskState.COMPLETED is seen[-1].state
    assert [updates.task_id] == list(await pair.tasks(text))


async def test_a_further_message_whose_reply_is_lost_is_there_once(pair: Pair, client: Client) -> None:
    lost = pair.proxy.lost
    text = unique()
    asked = msgspec.convert(send(script(chunks=2, inputAt=1))["message"], Message)
    async with asyncio.timeout(30):
        task = await client.send(asked)
        assert isinstance(task, Task)
        pair.proxy.lose = 1
        await client.send(text, task_id=task.id)
    assert lost + 1 == pair.proxy.lost
    assert 1 == (await pair.tasks(text))[task.id].count("m")


async def test_a_key_of_the_caller_s_holds_in_another_process(pair: Pair) -> None:
    """The client is gone with its reply; whoever comes after it knows the key."""
    text, key = unique(), unique()
    told = []
    for base in (pair.one.base_url, pair.other.base_url):
        async with Client(base) as made:
            told.append(await made.send(text, idempotency_key=key))
    assert told[0] == told[1]
    assert 1 == len(await pair.tasks(text))
