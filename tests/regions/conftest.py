from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from faults.regions import Regions
from tests.regions.pair import Pair
from tests.regions.two import TwoRegions


@pytest.fixture
async def two() -> AsyncIterator[TwoRegions]:
    async with TwoRegions() as regions:
        yield regions


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def joined() -> AsyncIterator[Regions]:
    """Two servers for all tests of a module, joined by a link."""
    async with Regions() as regions:
        yield regions


@pytest_asyncio.fixture(loop_scope="module")
async def pair(joined: Regions) -> AsyncIterator[Pair]:
    """Logs and mirrors of a test's own on those."""
    async with Pair(joined) as made:
        await made.provision()
        try:
            yield made
        finally:
            joined.link.heal()
            await joined.joined()
