from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from a2a_events.log.port import Log
from tests.contract.logs import Kit, jetstream_kit, memory_kit

JETSTREAM = [
    pytest.param("raw", marks=pytest.mark.integration),
    pytest.param("stock", marks=pytest.mark.integration),
]


@pytest.fixture(params=["memory", *JETSTREAM])
async def kit(request: pytest.FixtureRequest, nats_url: str, namespace: str) -> AsyncIterator[Kit]:
    if request.param == "memory":
        async with memory_kit() as made:
            yield made
        return
    async with jetstream_kit(nats_url, namespace, raw=request.param == "raw") as made:
        yield made


@pytest.fixture(params=["memory", *JETSTREAM])
async def patient(request: pytest.FixtureRequest, nats_url: str, namespace: str) -> AsyncIterator[Kit]:
    """A kit whose deliveries do not come back by themselves within a test."""
    if request.param == "memory":
        async with memory_kit(600.0) as made:
            yield made
        return
    async with jetstream_kit(nats_url, namespace, raw=request.param == "raw", ack_wait_seconds=600.0) as made:
        yield made


@pytest.fixture
def log(kit: Kit) -> Log:
    return kit.log
