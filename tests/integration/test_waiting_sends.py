"""A SendMessage that waits for its task: what it holds meanwhile, and what ends the wait."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec import Struct

pytest.importorskip("grpc_reflection", reason="the extra grpc is not installed")

from a2a_events.agents import scripted
from a2a_events.bindings.app import create_app
from a2a_events.bindings.caps.caps import Allowance, Caps
from a2a_events.bindings.exchange import Intake, Streams
from a2a_events.bindings.grpc.server import GrpcServer
from a2a_events.bindings.identity.access import Access
from a2a_events.bindings.identity.port import EVERYTHING, Identified, NotAuthenticated, Presented
from a2a_events.log.memory import MemoryLog
from a2a_events.runtime.directory import Directory
from a2a_events.runtime.operations import Operations
from a2a_events.runtime.worker import Worker
from a2a_events.testing import eventually, free_port
from a2a_events.timeline.record import Writer
from tests.integration.stack import RunningWorker
from tests.interop.grpc_wire import GrpcCaller, as_json, channel
from tests.interop.wire import BINDINGS, HTTP_JSON, script, send

BODY = 4_000_000
UNFINISHED = {"TASK_STATE_SUBMITTED", "TASK_STATE_WORKING"}


class Named:
    """Lets everybody in as a tenant of the name in a header."""

    def __init__(self) -> None:
        self.schemes: Mapping[str, Any] = {}
        self.challenges: Sequence[str] = ()
        self.trusts = True

    async def authenticate(self, presented: Presented) -> Identified:
        tenant = next(iter(presented.values("x-tenant")), "")
        if not tenant:
            raise NotAuthenticated("missing")
        return Identified(subject="somebody", tenant=tenant, scopes=EVERYTHING, method="test")

    def holds(self, who: Identified) -> bool:
        return self.trusts


class Asked:
    """One request over ASGI, from a client that can leave."""

    def __init__(self, served: Served, binding: str, params: dict[str, Any], tenant: str) -> None:
        body, path = params, "/message:send"
        if binding != HTTP_JSON:
            body, path = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params}, "/"
        self._body = json.dumps(body).encode()
        self._left = asyncio.Event()
        self.status = 0
        self.content = b""
        named = {"content-type": "application/json", "a2a-version": "1.0", "x-tenant": tenant}
        self._scope: Any = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in named.items()],
            "client": ("192.0.2.1", 1),
            "server": ("here", 80),
            "scheme": "http",
            "http_version": "1.1",
        }
        self.done = asyncio.create_task(served.app(self._scope, self._receive, self._send))

    def leave(self) -> None:
        self._left.set()

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    async def _receive(self) -> Any:
        body, self._body = self._body, b""
        if not body:
            await self._left.wait()
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": body, "more_body": False}

    async def _send(self, message: Any) -> None:
        self.status = message.get("status", self.status)
        self.content += message.get("body", b"")


class Served(Struct):
    """A gateway in both HTTP bindings and over gRPC."""

    app: Any
    grpc: str
    intake: Intake
    streams: Streams
    identity: Named
    log: MemoryLog
    worker: RunningWorker

    def ask(self, binding: str, params: dict[str, Any], tenant: str = "acme") -> Asked:
        return Asked(self, binding, params, tenant)

    async def said(self) -> bool:
        """Whether the agent of a message has been given it, and has said its one thing."""
        return await self.stored() > 2

    async def stored(self) -> int:
        return sum(end.position for end in (await self.log.ends()).values())


@asynccontextmanager
async def serving(
    intake: Intake | None = None, streams: Streams | None = None, caps: Caps | None = None
) -> AsyncIterator[Served]:
    log, port = MemoryLog(), free_port()
    worker = RunningWorker(Worker(log, [scripted], Writer("worker", "worker-1"), drain_seconds=0.0))
    await worker.ready()
    intake, streams, identity = intake or Intake(), streams or Streams(), Named()
    operations, directory = Operations(log, Writer("gateway", "g")), Directory(log, default="scripted")
    access = Access(identity, caps=caps)
    app = create_app(operations, directory, access=access, streams=streams, intake=intake)
    grpc = GrpcServer(operations, directory, access=access, streams=streams, intake=intake)
    await grpc.start("127.0.0.1", port)
    try:
        yield Served(app, f"127.0.0.1:{port}", intake, streams, identity, log, worker)
    finally:
        streams.close()
        await grpc.stop(0)
        await worker.stop()
        await log.close()


def quiet(size: int = 0) -> dict[str, Any]:
    """A message whose agent says one thing and is silent then."""
    return send(script(chunks=2, delayMs=600_000), "x" * size)


@pytest.mark.parametrize("binding", BINDINGS)
async def test_what_was_sent_is_let_go_once_it_is_stored(binding: str) -> None:
    async with serving() as served:
        await served.worker.stop()  # it would hold the message itself
        begun = await served.stored()
        tracemalloc.start()
        asked = served.ask(binding, quiet(BODY))
        try:

            async def waits() -> bool:
                return await served.stored() > begun and not served.intake.held

            await eventually(waits, what="a request that is stored and not held")
            held = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
            asked.leave()
        assert not asked.done.done()
        assert held < 1.5 * BODY, "nobody but the log of this test has it"
        asked.done.cancel()


async def test_what_was_sent_over_grpc_is_let_go_once_it_is_stored() -> None:
    async with serving() as served, channel(served.grpc) as opened:
        call = GrpcCaller(opened).start("SendMessage", quiet(BODY // 2), x_tenant="acme")
        begun = await served.stored()

        async def waits() -> bool:
            return await served.stored() > begun + 2 and not served.intake.held

        await eventually(waits, what="a request that is stored and not held")
        assert not call.done()
        call.cancel()


@pytest.mark.parametrize("binding", BINDINGS)
async def test_one_tenant_has_a_share_of_the_bodies_and_others_have_the_rest(binding: str) -> None:
    async with serving(Intake(10_000, 40_000)) as served:
        served.intake.take(9_000, (await payer(served, "acme")))
        refused = served.ask(binding, quiet(5_000))
        await asyncio.wait_for(refused.done, 20)
        assert refused.status == 429, refused.content
        assert b"TOO_MANY_REQUESTS" in refused.content
        other = served.ask(binding, send(script(chunks=1), "x" * 5_000), tenant="umbrella")
        await asyncio.wait_for(other.done, 20)
        assert other.status == 200
        assert b"TASK_STATE_COMPLETED" in other.content
        async with channel(served.grpc) as opened:
            seen = await GrpcCaller(opened).refused("SendMessage", quiet(5_000), x_tenant="acme")
            assert seen.code == "RESOURCE_EXHAUSTED"
            answered = await GrpcCaller(opened).start("SendMessage", send(script(chunks=1)), x_tenant="umbrella")
            assert as_json(answered)["task"]


async def payer(served: Served, tenant: str) -> str:
    """Under which name a tenant's bodies count."""
    who = Identified(subject="somebody", tenant=tenant, scopes=EVERYTHING, method="test")
    return Access(served.identity).caps.payer(who, "192.0.2.1")


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_client_that_is_gone_waits_no_more_and_gives_its_place_back(binding: str) -> None:
    async with serving(caps=Caps(Allowance(streams=1))) as served:
        asked = served.ask(binding, quiet())
        await eventually(lambda: served.streams.count, what="a wait that is looked after")
        refused = served.ask(binding, quiet())
        await asyncio.wait_for(refused.done, 20)
        assert refused.status == 429
        asked.leave()
        await asyncio.wait_for(asked.done, 20)
        assert not asked.content, "there is nobody to be answered"
        other = served.ask(binding, send(script(chunks=1)))
        await asyncio.wait_for(other.done, 20)
        assert other.status == 200


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_wait_ends_with_the_credential_and_shows_the_task_as_it_is(binding: str) -> None:
    async with serving() as served:
        asked = served.ask(binding, quiet())
        await eventually(lambda: served.streams.count, what="a wait that is looked after")
        await eventually(served.said, what="something to show")
        served.identity.trusts = False
        await asyncio.wait_for(asked.done, 20)
        assert task_of(asked)["status"]["state"] in UNFINISHED


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_wait_ends_when_it_has_lasted_as_long_as_a_stream_may(binding: str) -> None:
    async with serving(streams=Streams(longest_seconds=0.5)) as served:
        asked = served.ask(binding, quiet())
        await asyncio.wait_for(asked.done, 20)
        assert task_of(asked)["status"]["state"] in UNFINISHED


async def test_waits_over_grpc_end_with_the_credential_and_when_the_gateway_closes() -> None:
    async with serving() as served, channel(served.grpc) as opened:
        call = GrpcCaller(opened).start("SendMessage", quiet(), x_tenant="acme")
        await eventually(lambda: served.streams.count, what="a wait that is looked after")
        await eventually(served.said, what="something to show")
        served.identity.trusts = False
        assert as_json(await asyncio.wait_for(call, 20))["task"]["status"]["state"] in UNFINISHED
        served.identity.trusts = True
        call = GrpcCaller(opened).start("SendMessage", quiet(), x_tenant="acme")
        await eventually(lambda: served.streams.count, what="a wait that is looked after")
        served.streams.close()
        assert as_json(await asyncio.wait_for(call, 20))["task"]["status"]["state"] in UNFINISHED


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_gateway_has_so_many_streams_and_waits(binding: str) -> None:
    async with serving(streams=Streams(1)) as served:
        asked = served.ask(binding, quiet())
        await eventually(lambda: served.streams.count, what="a wait that is looked after")
        refused = served.ask(binding, quiet(), tenant="umbrella")
        await asyncio.wait_for(refused.done, 20)
        assert refused.status == 503
        asked.leave()
        await asyncio.wait_for(asked.done, 20)


def task_of(asked: Asked) -> Any:
    return asked.json.get("result", asked.json)["task"]
