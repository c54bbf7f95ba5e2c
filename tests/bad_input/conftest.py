from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.bad_input.site import Site, standing


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def standing_site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """Started once, for all rows."""
    async with standing(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest_asyncio.fixture(loop_scope="session")
async def site(standing_site: Site) -> AsyncIterator[Site]:
    """The site, for one row: after it all that must always hold is checked."""
    before = await standing_site.before()
    yield standing_site
    await standing_site.check_unharmed(before)
