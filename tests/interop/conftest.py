"""One gateway and one worker over a real nats-server, for every test of a module."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import pytest_asyncio

from a2a_events.model import encode
from a2a_events.runtime.agent import Agent
from a2a_events.services import gateway, notifier, provisioner, worker
from a2a_events.services.connect import jetstream_log
from a2a_events.settings import Settings
from a2a_events.testing import eventually, free_port, remove_streams, unique_namespace
from tests.interop.agents import AGENTS, EXTENDED
from tests.interop.wire import BINDINGS, Caller


@pytest.fixture(scope="module")
def grpc_port() -> int:
    """Where the gateway serves gRPC: nowhere, except in the modules that say so."""
    return 0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(nats_url: str, grpc_port: int, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Where the gateway listens. ``scripted`` is at the root, all agents are below ``/agents/``."""
    card = tmp_path_factory.mktemp("cards") / "club.json"
    card.write_bytes(encode(EXTENDED))
    async with serving(
        AGENTS, nats=nats_url, default_agent="scripted", extended_card=str(card), grpc_port=grpc_port
    ) as settings:
        yield settings.base_url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pushing(nats_url: str) -> AsyncIterator[str]:
    """Where a gateway listens that has a notifier beside it, which may call this machine."""
    async with serving(AGENTS, nats=nats_url, default_agent="scripted", push_allow_private=True) as settings:
        stop = asyncio.Event()
        async with jetstream_log(settings, "notifier") as (log, _):
            running = asyncio.create_task(notifier.serve(log, settings, stop))
            yield settings.base_url
            stop.set()
            await running


@asynccontextmanager
async def serving(agents: Sequence[Agent], **given: Any) -> AsyncIterator[Settings]:
    """A gateway and a worker with these agents, in the event loop of the test."""
    settings = Settings(namespace=unique_namespace(), shards=2, port=free_port(), **given)
    await provisioner.run(settings)
    stop = asyncio.Event()
    async with (
        jetstream_log(settings, "worker") as (log, _),
        jetstream_log(settings, "gateway") as (seen, connection),
        asyncio.TaskGroup() as services,
    ):
        services.create_task(worker.serve(log, settings, list(agents), stop))
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
