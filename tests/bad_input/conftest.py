from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.bad_input.rows import AWAITED
from tests.bad_input.site import Site, standing


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for pattern, reason in AWAITED.items():
            if "bad_input" in item.nodeid and re.search(pattern, item.nodeid):
                item.add_marker(pytest.mark.xfail(strict=True, reason=reason))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def standing_site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """Started once, for all rows."""
    async with standing(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest_asyncio.fixture(loop_scope="session")
async def site(standing_site: Site, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """The site, for one row: after it all that must always hold is checked."""
    before = await standing_site.before()
    yield standing_site
    if request.node.get_closest_marker("xfail"):
        standing_site.appends = True  # what is not refused yet may be stored
    await standing_site.check_unharmed(before)
