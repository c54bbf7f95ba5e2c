"""The broker that every test shares: one nats-server for the run, or the one that A2A_EVENTS_TEST_NATS_URL names."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from collections.abc import AsyncIterator, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import settings

from a2a_events.services.nats_server import NatsServer
from a2a_events.testing import NATS_URL_VARIABLE, remove_streams, unique_namespace
from a2a_events.testing.deployment import ServiceProcess, execute
from tests import forking

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_collection_finish() -> None:
    """All modules and tests live to the end: no search for garbage need look at their half a million objects again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def nats_url() -> Iterator[str]:
    """A server for all tests that leave it running; each takes a namespace of its own."""
    elsewhere = os.environ.get(NATS_URL_VARIABLE)
    if elsewhere:
        yield elsewhere
        return
    server = NatsServer(sync="2m")  # durability is not what these tests are about, and the disk is shared
    asyncio.run(server.start())
    yield server.url
    asyncio.run(server.stop())
    server.clean()


@pytest.fixture(scope="session", autouse=True)
def _fork_services() -> Iterator[None]:
    ServiceProcess.launch = staticmethod(forking.launch)
    yield
    ServiceProcess.launch = staticmethod(execute)


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


@pytest.fixture
async def namespace(nats_url: str) -> AsyncIterator[str]:
    """A namespace; the streams that a test makes in it are gone after it."""
    name = unique_namespace()
    yield name
    with contextlib.suppress(Exception):  # the server itself may be gone
        await remove_streams(nats_url, name)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What services log is not part of a test's output; a test that reads logs captures them."""
    structlog.configure(processors=[_drop], cache_logger_on_first_use=False)
    yield
    structlog.reset_defaults()


def _drop(_logger: object, _method: str, _event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    raise structlog.DropEvent
