"""One gateway and one worker over a real nats-server, for every test of a module."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import pytest_asyncio

from a2a_events import Turn, agent
from a2a_events.agents import echo, scripted
from a2a_events.runtime.agent import Agent
from a2a_events.services import gateway, provisioner, worker
from a2a_events.services.connect import jetstream_log
from a2a_events.settings import Settings
from a2a_events.testing import eventually, free_port, remove_streams, unique_namespace
from tests.interop.wire import BINDINGS, Caller


@agent(name="reader", input_modes=("text/plain",))
async def reader(turn: Turn) -> None:
    """Takes plain text only, and says what it was asked to."""
    await turn.artifact(turn.text)


@pytest.fixture(scope="module")
def grpc_port() -> int:
    """Where the gateway serves gRPC: nowhere, except in the modules that say so."""
    return 0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(nats_url: str, grpc_port: int) -> AsyncIterator[str]:
    """Where the gateway listens. ``scripted`` is at the root; ``echo`` and ``reader`` are below ``/agents/``."""
    async with serving(
        [scripted, echo, reader], nats=nats_url, default_agent="scripted", grpc_port=grpc_port
    ) as settings:
        yield settings.base_url


@asynccontextmanager
async def serving(agents: list[Agent], **given: Any) -> AsyncIterator[Settings]:
    """A gateway and a worker with these agents, in the event loop of the test."""
    settings = Settings(namespace=unique_namespace(), shards=2, port=free_port(), **given)
    await provisioner.run(settings)
    stop = asyncio.Event()
    async with (
        jetstream_log(settings, "worker") as (log, _),
        jetstream_log(settings, "gateway") as (seen, connection),
        asyncio.TaskGroup() as services,
    ):
        services.create_task(worker.serve(log, settings, agents, stop))
        services.create_task(gateway.serve(seen, connection, settings, stop))
        await eventually(lambda: _are_served(settings.base_url, *(served.name for served in agents)))
        yield settings
        stop.set()
    await remove_streams(settings.nats, settings.namespace)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """One for all tests of a module: making one reads certificates, which takes longer than most tests."""
    async with httpx.AsyncClient(base_url=url, timeout=10) as client:
        yield client


@pytest.fixture(params=BINDINGS)
def caller(http: httpx.AsyncClient, request: pytest.FixtureRequest) -> Caller:
    """Asks the default agent in one binding, and then in the other."""
    return Caller(http, request.param)


async def _are_served(base_url: str, *names: str) -> bool:
    async with httpx.AsyncClient(base_url=base_url) as client:
        try:
            answers = [await client.get(f"/agents/{name}/.well-known/agent-card.json") for name in names]
        except httpx.TransportError:
            return False
    return all(answer.status_code == httpx.codes.OK for answer in answers)
