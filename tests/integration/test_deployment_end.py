"""What a deployment of tests leaves when its server went first."""

from __future__ import annotations

import asyncio

import pytest

from a2a_events.errors import Unavailable
from a2a_events.services.nats_server import NatsServer
from a2a_events.testing import Deployment, remove_streams

pytestmark = [pytest.mark.integration, pytest.mark.processes]

FAR_TOO_LONG_SECONDS = 40.0


async def test_a_deployment_ends_also_when_its_server_has() -> None:
    server = NatsServer()
    await server.start()
    try:
        deployment = await Deployment(server.url, gateways=0, workers=1).__aenter__()
        await server.stop()
        async with asyncio.timeout(FAR_TOO_LONG_SECONDS):
            await deployment.close()
        assert not deployment.workers[0].running
        async with asyncio.timeout(FAR_TOO_LONG_SECONDS):
            with pytest.raises(Unavailable):
                await remove_streams(server.url, deployment.namespace)
    finally:
        await server.stop()
        server.clean()
