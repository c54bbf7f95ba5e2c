from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.adapters.a2a_cluster.replicas import DATABASE, JETSTREAM, MEMORY, Replica, replicas

ON_JETSTREAM = pytest.param(JETSTREAM, marks=pytest.mark.integration)


@pytest.fixture(params=[MEMORY, ON_JETSTREAM, DATABASE])
async def pair(
    request: pytest.FixtureRequest, tmp_path: Path, nats_url: str, namespace: str
) -> AsyncIterator[tuple[Replica, Replica]]:
    """Two replicas' stores; on a database they are a2a-sdk's own, which hold the same."""
    async with replicas(request.param, tmp_path, nats_url, namespace) as made:
        yield made


@pytest.fixture(params=[MEMORY, ON_JETSTREAM])
async def ours(
    request: pytest.FixtureRequest, tmp_path: Path, nats_url: str, namespace: str
) -> AsyncIterator[tuple[Replica, Replica]]:
    """Two replicas' stores of ours, for what a2a-sdk's own do not hold."""
    async with replicas(request.param, tmp_path, nats_url, namespace) as made:
        yield made
