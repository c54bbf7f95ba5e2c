from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from tests.integration.stack import Stack, stack_of

StackOf = Callable[[object], Awaitable[Stack]]


@pytest.fixture(params=["memory", pytest.param("jetstream", marks=pytest.mark.integration)])
async def serve(request: pytest.FixtureRequest, nats_url: str, namespace: str) -> AsyncIterator[StackOf]:
    """Serve an agent over each kind of log."""
    async with AsyncExitStack() as exits:

        async def served(agent: object) -> Stack:
            return await exits.enter_async_context(stack_of(request.param, agent, nats_url, namespace))

        yield served
