from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.hostile.site import Site, serving


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(nats_url: str) -> AsyncIterator[Site]:
    """Processes for all tests of a module."""
    async with serving(nats_url) as made:
        yield made
