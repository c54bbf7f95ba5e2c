"""Connecting ends in time, whatever nats-py and the servers do: with a connection, or with who does not answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from nats.aio.client import Client

from a2a_events.errors import Unavailable
from a2a_events.log.jetstream import Connection
from a2a_events.testing import eventually

pytestmark = pytest.mark.integration

BOUND_SECONDS = 30


@pytest.fixture
def mute() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"nats://127.0.0.1:{server.getsockname()[1]}"


class Swallower:
    """Loses the first cancellation of whoever waits for a server.

    So does ``wait_for`` now and then before Python 3.12, and nats-py while it flushes.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting = False
        self.lost = False
        self._real = Client._process_connect_init
        swallower = self

        async def connect(self: Client) -> None:
            await swallower.connect(self)

        monkeypatch.setattr(Client, "_process_connect_init", connect)

    async def connect(self, client: Client) -> None:
        self.waiting = True
        try:
            await self._real(client)
        except asyncio.CancelledError:
            if self.lost:
                raise
            self.lost = True
            raise TimeoutError from None


@pytest.fixture
def swallower(monkeypatch: pytest.MonkeyPatch) -> Swallower:
    return Swallower(monkeypatch)


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "stock"])
async def test_nobody_waits_longer_than_its_patience(mute: str, swallower: Swallower, raw: bool) -> None:
    connection = Connection([mute], name="test", raw=raw)
    async with asyncio.timeout(BOUND_SECONDS):
        with pytest.raises(Unavailable, match="no NATS server answers"):
            await connection.open(patience_seconds=0.2)
    assert swallower.lost
    assert not connection.connected


async def test_who_is_cancelled_while_it_connects_ends(mute: str, swallower: Swallower) -> None:
    opening = asyncio.create_task(Connection([mute], name="test").open())
    await eventually(lambda: swallower.waiting)
    opening.cancel()
    await asyncio.wait({opening}, timeout=BOUND_SECONDS)
    assert opening.cancelled()
    assert swallower.lost


async def test_a_client_that_is_being_rebuilt_does_not_outlive_its_connection(
    nats_url: str, mute: str, swallower: Swallower
) -> None:
    connection = Connection([nats_url], name="test")
    await connection.open()
    connection._urls = [mute]
    wire: Any = connection._wire
    swallower.waiting = False
    await wire.client.close()
    await eventually(lambda: swallower.waiting)
    rebuilding: Any = connection._rebuilding
    await connection.close()
    assert rebuilding.done()
    assert swallower.lost
