"""The gRPC server: what it activates, logs and limits, how it stops, and what it says when it cannot start."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import msgspec
import pytest
from structlog.testing import capture_logs

pytest.importorskip("grpc_reflection", reason="the extra grpc is not installed")

from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from a2a_events import Turn, agent, limits
from a2a_events.agents import scripted
from a2a_events.bindings.exchange import STOPPED, Intake, OpenStream, Streams
from a2a_events.bindings.grpc.server import GrpcServer
from a2a_events.log.memory import MemoryLog
from a2a_events.model import AgentCapabilities, AgentExtension
from a2a_events.runtime.agent import Agent
from a2a_events.runtime.directory import Directory
from a2a_events.runtime.operations import Operations
from a2a_events.runtime.worker import Worker
from a2a_events.services import gateway
from a2a_events.services.listener import CannotListen
from a2a_events.settings import Settings, SettingsError
from a2a_events.testing import eventually, free_port
from a2a_events.timeline.record import Writer
from tests.integration.stack import RunningWorker
from tests.interop.grpc_wire import GrpcCaller, as_json, channel, refusal
from tests.interop.wire import script, send

SCHEMES = {"key": {"apiKeySecurityScheme": {"location": "header", "name": "X-Key"}}}
EXTENSIONS = (AgentExtension(uri="urn:one"), AgentExtension(uri="urn:two"), AgentExtension(uri="urn:three"))
EXTENDED = msgspec.structs.replace(scripted.card, description="for friends", security_schemes=SCHEMES)
ENDLESS = send(script(chunks=10_000, delayMs=20))


@agent(name="billing", tenant="bills")
async def billing(turn: Turn) -> None:
    """Is reached by its tenant, too."""
    await turn.artifact(f"billed {turn.text}")


class Server:
    """A gateway's gRPC side over a memory log, with one worker."""

    def __init__(self, log: MemoryLog, port: int, *, largest: int, intake: Intake | None) -> None:
        self.streams = Streams(largest)
        self.intake = intake or Intake()
        self.connected = True
        self.target = f"127.0.0.1:{port}"
        self._port = port
        self.grpc = GrpcServer(
            Operations(log, Writer("gateway", "gateway-1"), cancel_wait_seconds=3.0),
            Directory(log, default="scripted", extended={"scripted": {"": EXTENDED}}),
            streams=self.streams,
            intake=self.intake,
            header_seconds=1.0,
            ready=lambda: self.connected,
        )

    async def start(self) -> None:
        await self.grpc.start("127.0.0.1", self._port)

    async def stop(self) -> None:
        """As a gateway does, with a grace that no test waits for."""
        self.streams.close()
        await self.grpc.stop(60)


@asynccontextmanager
async def served(*, largest: int = 100, intake: Intake | None = None, **capabilities: Any) -> AsyncIterator[Server]:
    card = msgspec.structs.replace(scripted.card, capabilities=AgentCapabilities(streaming=True, **capabilities))
    agents: list[Agent] = [msgspec.structs.replace(scripted, card=card), billing]
    log = MemoryLog()
    worker = RunningWorker(Worker(log, agents, Writer("worker", "worker-1"), drain_seconds=0.0))
    await worker.ready()
    server = Server(log, free_port(), largest=largest, intake=intake)
    await server.start()
    try:
        yield server
    finally:
        server.streams.close()
        await server.grpc.stop(0)
        await worker.stop()
        await log.close()


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """What is logged."""
    with capture_logs() as captured:
        yield captured


# --- bounds ----------------------------------------------------------------------------------------------------------


async def test_metadata_over_the_bound_is_refused_and_the_connection_serves_on() -> None:
    async with served() as server, channel(server.target) as connection:
        caller = GrpcCaller(connection)
        with pytest.raises(aio.AioRpcError) as refused:
            await caller.start("SendMessage", send(script(chunks=1)), x_large="a" * 17_000)
        assert refused.value.code() is StatusCode.RESOURCE_EXHAUSTED
        answered = await caller.start("SendMessage", send(script(chunks=1)), x_large="a" * 12_000)
        assert as_json(answered)["task"]["status"]["state"] == "TASK_STATE_COMPLETED"


async def test_who_has_no_credential_takes_few_calls_at_once() -> None:
    """Watched health and reflection are open for as long as their client likes, and for everybody."""
    asked = health_pb2.HealthCheckRequest(service="")
    async with served() as server, channel(server.target) as connection, AsyncExitStack() as exits:
        health: Any = health_pb2_grpc.HealthStub(connection)
        mirror: Any = reflection_pb2_grpc.ServerReflectionStub(cast("Any", connection))
        watches = [health.Watch(asked) for _ in range(limits.PUBLIC_CALLS - 1)]
        looking = mirror.ServerReflectionInfo()
        for call in (*watches, looking):
            exits.callback(call.cancel)
        for watch in watches:
            assert await watch.read()
        question = reflection_pb2.ServerReflectionRequest(list_services="")
        await looking.write(question)
        assert await looking.read()
        for call in (health.Watch(asked), mirror.ServerReflectionInfo(iter([question]))):
            with pytest.raises(aio.AioRpcError) as refused:
                await anext(aiter(call))
            assert refused.value.code() is StatusCode.RESOURCE_EXHAUSTED
        assert (await health.Check(asked)).status == health_pb2.HealthCheckResponse.SERVING
        assert await GrpcCaller(connection).call("SendMessage", send(script(chunks=1)))

        watches[0].cancel()  # who leaves makes room

        async def watched() -> bool:
            watch = health.Watch(asked)
            exits.callback(watch.cancel)
            try:
                return bool(await watch.read())
            except aio.AioRpcError:
                return False

        await eventually(watched)


@pytest.mark.parametrize("said", [b"", b"PRI * HT"])
async def test_who_does_not_begin_to_speak_http2_is_cut(said: bytes) -> None:
    async with served() as server, asyncio.timeout(30):
        host, _, port = server.target.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(said)
        while await reader.read(1000):
            pass  # the server's own settings
        writer.close()
        await writer.wait_closed()


# --- extensions (specification 3.6, 4.6) -----------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["SendMessage", "SendStreamingMessage"])
async def test_extensions_that_are_asked_for_and_known_are_named_in_the_answer(operation: str) -> None:
    async with served(extensions=EXTENSIONS) as server, channel(server.target) as connection:
        call = GrpcCaller(connection).start(
            operation, send(script(chunks=1)), a2a_extensions="urn:three, urn:one,urn:other"
        )
        answered = dict(await call.initial_metadata())
        assert "urn:one,urn:three" == answered["a2a-extensions"]
        call.cancel()


async def test_no_extension_is_named_when_none_is_asked_for() -> None:
    async with served(extensions=EXTENSIONS) as server, channel(server.target) as connection:
        call = GrpcCaller(connection).start("SendMessage", send(script(chunks=1)))
        await call
        assert "a2a-extensions" not in dict(await call.initial_metadata())


async def test_a_required_extension_must_be_asked_for() -> None:
    required = (*EXTENSIONS, AgentExtension(uri="urn:must", required=True))
    async with served(extensions=required) as server, channel(server.target) as connection:
        caller = GrpcCaller(connection)
        refused = await caller.refused("SendMessage", send("hello"), a2a_extensions="urn:one")
        assert "FAILED_PRECONDITION" == refused.code
        (info,) = refused.details
        assert ("EXTENSION_SUPPORT_REQUIRED", {"extensions": "urn:must"}) == (info["reason"], info["metadata"])
        await caller.call("SendMessage", send("hello"), a2a_extensions="urn:must")


async def test_the_extended_card_is_shown() -> None:
    async with served() as server, channel(server.target) as connection:
        card = await GrpcCaller(connection).call("GetExtendedAgentCard", {})
        assert ("scripted", "for friends", SCHEMES) == (card["name"], card["description"], card["securitySchemes"])


async def test_an_agent_is_reached_by_the_tenant_that_it_announced_and_by_its_name() -> None:
    async with served() as server, channel(server.target) as connection:
        task = (await GrpcCaller(connection, "bills").call("SendMessage", send("tea")))["task"]
        assert [{"text": "billed tea"}] == task["artifacts"][0]["parts"]
        assert task == await GrpcCaller(connection, "agents/billing").call("GetTask", {"id": task["id"]})
        assert "NOT_FOUND" == (await GrpcCaller(connection).refused("GetTask", {"id": task["id"]})).code


# --- the log ---------------------------------------------------------------------------------------------------------


async def test_every_call_is_one_line_without_content(lines: list[Any]) -> None:
    async with served() as server, channel(server.target) as connection:
        caller = GrpcCaller(connection)
        task = (await caller.call("SendMessage", send("secret words")))["task"]
        await caller.stream("SendStreamingMessage", send(script(chunks=1)))
        await caller.refused("GetTask", {"id": "secret-id"})
        call = caller.start("SendStreamingMessage", ENDLESS)
        await call.read()
        call.cancel()
        requests = await eventually(lambda: _requests(lines, 4), what="a line for each call")
    assert {"GRPC"} == {line["binding"] for line in requests}
    assert [
        ("SendMessage", "OK"),
        ("SendStreamingMessage", "OK"),
        ("GetTask", "TASK_NOT_FOUND"),
        ("SendStreamingMessage", "CLIENT_GONE"),
    ] == [(line["op"], line["code"]) for line in requests]
    assert (task["id"], task["contextId"]) == (requests[0]["task_id"], requests[0]["context_id"])
    assert requests[1]["revision"] > 1
    assert "secret" not in str(requests)


def _requests(lines: list[Any], count: int) -> list[Any]:
    found = [line for line in lines if line["event"] == "request"]
    return found if len(found) >= count else []


# --- limits ----------------------------------------------------------------------------------------------------------


async def test_one_stream_too_many_is_refused_before_anything_is_written() -> None:
    async with served(largest=1) as server, channel(server.target) as connection:
        caller = GrpcCaller(connection)
        first = caller.start("SendStreamingMessage", ENDLESS)
        task = as_json(await first.read())["task"]["id"]
        refused = await caller.refused("SubscribeToTask", {"id": task})
        assert "UNAVAILABLE" == refused.code
        assert "5s" == refused.details[1]["retryDelay"]
        first.cancel()
        await eventually(lambda: not server.streams._open, what="the end of the first stream")
        again = caller.start("SubscribeToTask", {"id": task})
        assert task == as_json(await again.read())["task"]["id"]
        again.cancel()


async def test_a_request_over_the_limit_is_refused_before_it_is_read() -> None:
    async with served(intake=Intake(10_000)) as server, channel(server.target) as connection:
        caller = GrpcCaller(connection)
        with pytest.raises(aio.AioRpcError, match="larger than max") as refused:
            await caller.call("SendMessage", send("x" * 10_000))
        assert "RESOURCE_EXHAUSTED" == refused.value.code().name
        await caller.call("SendMessage", send("x" * 9_000))


async def test_requests_that_are_too_large_together_are_refused_and_one_that_waits_holds_nothing() -> None:
    async with served(intake=Intake(10_000, 15_000)) as server, channel(server.target) as connection:
        caller = GrpcCaller(connection)
        asked = send(script(chunks=10_000, delayMs=20), "x" * 9_000)
        server.intake.take(9_000)
        refused = await caller.refused("SendMessage", asked)
        assert ("UNAVAILABLE", "1s") == (refused.code, refused.details[1]["retryDelay"])
        server.intake.give_back(9_000)
        assert not server.intake.held
        waiting = caller.start("SendMessage", asked)
        await eventually(lambda: server.streams.count, what="a wait")
        await eventually(lambda: not server.intake.held, what="a message that is let go")
        stream = caller.start("SendStreamingMessage", asked)
        assert "task" in as_json(await stream.read())
        assert not server.intake.held
        for call in (waiting, stream):
            call.cancel()


async def test_a_reader_that_does_not_read_is_cut_and_learns_it_when_it_does() -> None:
    async with served() as server, channel(server.target, grpc__http2__lookahead_bytes=1024) as connection:
        stalled = GrpcCaller(connection).start("SendStreamingMessage", send(script(chunks=400, bytes=50_000)))
        await stalled.read()
        (stream,) = server.streams._open
        await eventually(_stuck(stream), what="a write that waits for the reader")
        stream.look(float("inf"))
        await eventually(lambda: not server.streams._open, what="the end of the stream")
        refused = await refusal(stalled)
        assert "UNAVAILABLE" == refused.code
        assert "stalled" in refused.message


def _stuck(stream: OpenStream) -> Callable[[], bool]:
    """Whether one write goes on and on."""
    known = 0.0

    def look() -> bool:
        nonlocal known
        before, known = known, stream._sender.sending_since
        return bool(known) and known == before

    return look


# --- the end ---------------------------------------------------------------------------------------------------------


async def test_stopping_ends_streams_at_once_and_tells_their_clients_to_subscribe_again(lines: list[Any]) -> None:
    async with served() as server, channel(server.target) as connection:
        caller = GrpcCaller(connection)
        call = caller.start("SendStreamingMessage", ENDLESS)
        await call.read()
        stub: Any = health_pb2_grpc.HealthStub(connection)
        health = stub.Watch(health_pb2.HealthCheckRequest())
        assert health_pb2.HealthCheckResponse.SERVING == (await health.read()).status
        await server.stop()
        refused = await refusal(call)
        assert "UNAVAILABLE" == refused.code
        assert STOPPED in refused.message
        assert health_pb2.HealthCheckResponse.NOT_SERVING == (await health.read()).status
    assert "STOPPED" in [line.get("code") for line in lines]


async def test_a_gateway_that_is_stopping_takes_no_more_streams() -> None:
    async with served() as server, channel(server.target) as connection:
        server.streams.close()
        refused = await refusal(GrpcCaller(connection).start("SendStreamingMessage", send("hello")))
        assert ("UNAVAILABLE", "1s") == (refused.code, refused.details[1]["retryDelay"])


async def test_health_is_not_serving_while_there_is_no_connection_to_the_log() -> None:
    async with served() as server, channel(server.target) as connection:
        health: Any = health_pb2_grpc.HealthStub(connection)
        watch = health.Watch(health_pb2.HealthCheckRequest())
        shown = [(await watch.read()).status]
        server.connected = False
        shown += [(await watch.read()).status, (await health.Check(health_pb2.HealthCheckRequest())).status]
        server.connected = True
        shown.append((await watch.read()).status)
        watch.cancel()
    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    assert [serving, not_serving, not_serving, serving] == shown


# --- the start -------------------------------------------------------------------------------------------------------


def test_a_missing_extra_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "a2a_events.bindings.grpc.server", None)
    gateway.check(Settings(port=free_port()))
    with pytest.raises(SettingsError, match=r"install a2a-events\[grpc\]"):
        gateway.check(Settings(port=free_port(), grpc_port=free_port()))


async def test_a_taken_port_is_said_by_its_flag() -> None:
    async with served() as server:
        taken = int(server.target.rpartition(":")[2])
        with pytest.raises(CannotListen, match=f"port {taken} .* choose another --grpc-port"):
            gateway.check(Settings(port=free_port(), grpc_port=taken))
