from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.regions.two import TwoRegions


@pytest.fixture
async def two() -> AsyncIterator[TwoRegions]:
    async with TwoRegions() as regions:
        yield regions
