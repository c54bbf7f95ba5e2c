from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from a2a_events.services.nats_server import NatsServer
from tests.integration.stack import Stack, stack_of

StackOf = Callable[[object], Awaitable[Stack]]


@pytest.fixture(params=["memory", pytest.param("jetstream", marks=pytest.mark.integration)])
async def serve(request: pytest.FixtureRequest, nats_url: str, namespace: str) -> AsyncIterator[StackOf]:
    """Serve an agent over each kind of log."""
    async with AsyncExitStack() as exits:

        async def served(agent: object) -> Stack:
            return await exits.enter_async_context(stack_of(request.param, agent, nats_url, namespace))

        yield served


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A server of the test's own, to be stopped and started."""
    server = NatsServer(tmp_path / "nats")
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
        server.clean()
