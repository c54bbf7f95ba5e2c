"""What a large request costs whoever sends it, and that others are served beside it."""

from __future__ import annotations

import asyncio
import importlib
import threading
from typing import Any

import pytest

pytest.importorskip("grpc_reflection", reason="the extra grpc is not installed")

from grpc import StatusCode, aio

from a2a_events import limits
from a2a_events.bindings.caps.buckets import Rate
from a2a_events.bindings.caps.caps import Allowance, Caps
from tests.integration.test_waiting_sends import serving
from tests.interop.grpc_wire import GrpcCaller, channel
from tests.interop.wire import BINDINGS, send

SLOW = Rate(0.001, 10.0)
LONG = "x" * (20 * limits.REQUEST_WEIGHT_BYTES)
MANY: Any = {"data": [{"": 0}] * (10 * limits.REQUEST_WEIGHT_MARKS)}
AT_ONCE = {"returnImmediately": True}


@pytest.mark.parametrize("content", [LONG, MANY], ids=["bytes", "members"])
@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("kind", ["tenants", "addresses"])
async def test_a_large_request_counts_as_many(kind: str, binding: str, content: Any) -> None:
    caps = Caps(Allowance(rate=SLOW)) if kind == "tenants" else Caps(addresses=Allowance(rate=SLOW))
    async with serving(caps=caps) as served:

        async def status(sent: Any) -> int:
            asked = served.ask(binding, send(sent, configuration=AT_ONCE))
            await asyncio.wait_for(asked.done, 20)
            return asked.status

        assert [await status("small") for _ in range(3)] == [200] * 3
        assert await status(content) == 200, "it is served"
        assert await status("next") == 429


async def test_a_large_request_over_grpc_counts_as_many() -> None:
    async with serving(caps=Caps(Allowance(rate=SLOW))) as served, channel(served.grpc) as opened:
        caller = GrpcCaller(opened)
        await caller.start("SendMessage", send(LONG, configuration=AT_ONCE), x_tenant="acme")
        with pytest.raises(aio.AioRpcError, match="Too many requests of this tenant"):
            await caller.start("SendMessage", send("next", configuration=AT_ONCE), x_tenant="acme")
        await caller.start("SendMessage", send("next", configuration=AT_ONCE), x_tenant="umbrella")


@pytest.mark.parametrize("operation", ["SendMessage", "SendStreamingMessage"])
async def test_who_calls_over_grpc_is_asked_before_the_request_is_read(operation: str) -> None:
    async with serving() as served, channel(served.grpc) as opened:
        opens = opened.stream_unary if operation == "SendMessage" else opened.stream_stream
        call: Any = opens(f"/lf.a2a.v1.A2AService/{operation}")()  # and nothing is sent
        assert await asyncio.wait_for(call.code(), 20) is StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_large_request_is_read_beside_the_event_loop(binding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    decode = importlib.import_module("a2a_events.model.decode")
    check = decode.check_depth

    def seen(body: bytes) -> None:
        if len(body) > limits.TRANSLATED_BYTES:
            read.append(threading.get_ident())
        check(body)

    monkeypatch.setattr(decode, "check_depth", seen)
    async with serving() as served:
        asked = served.ask(binding, send(LONG, configuration=AT_ONCE))
        await asyncio.wait_for(asked.done, 20)
        assert asked.status == 200
    assert read
    assert threading.get_ident() not in read
