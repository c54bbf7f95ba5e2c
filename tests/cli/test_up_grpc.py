"""gRPC beside HTTP, as ``up`` serves it in processes of their own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("grpc_reflection", reason="the extra grpc is not installed")

from a2a_events.bindings.exchange import STOPPED
from a2a_events.testing import free_port
from tests.cli.commands import Command
from tests.interop.grpc_wire import GrpcCaller, as_json, channel, refusal
from tests.interop.wire import script, send

pytestmark = [pytest.mark.integration, pytest.mark.processes]


async def test_up_serves_grpc_on_its_own_port_and_ends_its_streams_when_it_is_stopped(
    start: Callable[..., Command],
) -> None:
    address = f"127.0.0.1:{free_port()}"
    port = address.rpartition(":")[2]
    # The turn must not end before the gateway does: then its stream would end with the task.
    up = start("up", "--port", str(free_port()), "--grpc-port", port, "--sync", "2m", "--drain-seconds", "3")
    await up.prints(rf"\ngrpc +{address}\n[^$]*\nstop +Ctrl-C")
    async with channel(address) as connection:
        caller = GrpcCaller(connection)
        task = (await caller.call("SendMessage", send("hello")))["task"]
        assert [{"text": "hello"}] == task["artifacts"][0]["parts"]
        stream = caller.start("SendStreamingMessage", send(script(chunks=10_000, delayMs=20)))
        assert "task" in as_json(await stream.read())
        up.interrupt()
        refused = await refusal(stream)
        assert "UNAVAILABLE" == refused.code
        assert STOPPED in refused.message
    assert await up.end() == 0
    assert up.family() == {}
