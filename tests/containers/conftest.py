"""The contract and a slice of the integration tests against a NATS container (``make test-containers``).

``A2A_EVENTS_TEST_NATS_IMAGE`` names the image; a server that ``A2A_EVENTS_TEST_NATS_URL`` names is used instead of a
container. Where Docker is not at hand every test is skipped and says why.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import pytest
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from a2a_events.log.jetstream import Connection
from a2a_events.log.port import Log
from a2a_events.testing import NATS_URL_VARIABLE
from tests.contract.logs import Kit, jetstream_kit
from tests.integration.stack import Stack, stack_of

IMAGE = os.environ.get("A2A_EVENTS_TEST_NATS_IMAGE", "nats:2.15")
NATS_PORT = 4222
START_SECONDS = 60


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "containers" in item.path.parts:
            item.add_marker(pytest.mark.containers)


@pytest.fixture(scope="session")
def nats_url() -> Iterator[str]:
    """Overrides the packaged server."""
    if elsewhere := os.environ.get(NATS_URL_VARIABLE):
        yield elsewhere
        return
    if why := _no_docker():
        pytest.skip(f"Docker is not at hand: {why}")
    container = DockerContainer(IMAGE)
    container.with_command("-js").with_exposed_ports(NATS_PORT)
    container.waiting_for(LogMessageWaitStrategy("Server is ready").with_startup_timeout(START_SECONDS))
    with container:
        host, port = container.get_container_host_ip(), container.get_exposed_port(NATS_PORT)
        url = f"nats://{host}:{port}"
        asyncio.run(_answers(url))
        yield url


def _no_docker() -> str:
    """Why there is no Docker, or nothing. Asked by hand: docker-py leaks its socket when it cannot connect."""
    where = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    parsed = urlsplit(where)
    try:
        if parsed.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(parsed.path)
        elif parsed.hostname and parsed.port:
            socket.create_connection((parsed.hostname, parsed.port), 5).close()
    except OSError as error:
        return f"nothing answers at {where} ({error.strerror or error})"
    return ""


async def _answers(url: str) -> None:
    connection = Connection([url], name="test-container")
    await connection.open(patience_seconds=START_SECONDS)
    await connection.close()


@pytest.fixture(params=["raw", "stock"])
async def kit(request: pytest.FixtureRequest, nats_url: str, namespace: str) -> AsyncIterator[Kit]:
    async with jetstream_kit(nats_url, namespace, raw=request.param == "raw") as made:
        yield made


@pytest.fixture
def log(kit: Kit) -> Log:
    return kit.log


@pytest.fixture
async def serve(nats_url: str, namespace: str) -> AsyncIterator[Callable[[object], Awaitable[Stack]]]:
    async with AsyncExitStack() as exits:

        async def served(agent: object) -> Stack:
            return await exits.enter_async_context(stack_of("jetstream", agent, nats_url, namespace))

        yield served
