"""Scripted gateways, and a client that does not make a test wait."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from a2a_events.client import Client, Retry
from tests.client.scripted import Gateway, gateway

QUICK = Retry(attempts=3, requests=2, base_seconds=0.001, ceiling_seconds=0.002)


@pytest.fixture
async def first() -> AsyncIterator[Gateway]:
    async with gateway() as scripted:
        yield scripted


@pytest.fixture
async def second() -> AsyncIterator[Gateway]:
    async with gateway() as scripted:
        yield scripted


@pytest.fixture
async def client(first: Gateway, second: Gateway) -> AsyncIterator[Client]:
    """Knows both gateways, in this order."""
    async with Client.at([first.url, second.url], "JSONRPC", retry=QUICK) as made:
        yield made
