"""Row 101: clients that send a byte now and then lose their connection, and nobody else notices."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest

from a2a_events import limits
from a2a_events.testing.deployment import Deployment
from tests.integration.http import client, message

pytestmark = [pytest.mark.integration, pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(120)]

SLOW_CLIENTS = 1000
PAUSE_SECONDS = 5.0
"""Between two bytes: row 101."""
SLACK_SECONDS = 4.0
"""For two loops on a busy machine."""


async def slow_client(port: int) -> float:
    """Send a request byte by byte; seconds from its first byte to the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    begun = time.monotonic()
    waiting = asyncio.create_task(reader.read())
    with suppress(ConnectionError):
        for byte in b"POST / HTTP/1.1\r\n" * 100:
            writer.write(bytes([byte]))
            if (await asyncio.wait([waiting], timeout=PAUSE_SECONDS))[0]:
                break
        await waiting
    lived = time.monotonic() - begun
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return lived


async def test_101_a_thousand_slow_clients_are_cut_and_others_are_served(nats_url: str) -> None:
    async with Deployment(nats_url) as deployment, client(deployment.gateways[0].url) as http:
        port = int(deployment.gateways[0].url.rpartition(":")[2])
        attack = [asyncio.create_task(slow_client(port)) for _ in range(SLOW_CLIENTS)]
        slowest, served = 0.0, 0
        while not all(each.done() for each in attack):
            begun = time.monotonic()
            answer = await http.post("/message:send", json=message("still there?"))
            assert answer.json()["task"]["status"]["state"] == "TASK_STATE_COMPLETED", answer.text
            slowest, served = max(slowest, time.monotonic() - begun), served + 1
            await asyncio.sleep(0.02)
        lived = [each.result() for each in attack]
        bound = limits.REQUEST_HEADER_SECONDS
        assert max(lived) < bound + SLACK_SECONDS, "each is cut in time"
        assert min(lived) > bound / 2, "and none for another reason"
        assert served > 20
        assert slowest < PAUSE_SECONDS, "while others are served"
