"""Headless Chromium in front of the real service; both are skipped, with the reason, where there is no Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from a2a_events.testing import Deployment, free_port
from a2a_events.testing.deployment import ServiceProcess
from tests.browser.page import OpenPage

playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")

CHROMIUM_VARIABLE = "A2A_EVENTS_TEST_CHROMIUM"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
OpenAt = Callable[..., Awaitable[OpenPage]]


def _chromium() -> str:
    found = os.environ.get(CHROMIUM_VARIABLE) or shutil.which("chromium") or shutil.which("google-chrome")
    if not found:
        pytest.skip(f"no chromium: install it, or name it in {CHROMIUM_VARIABLE}")
    return found


class TimelineProcess(ServiceProcess):
    """The timeline service of a deployment, as a process."""

    def __init__(self, deployment: Deployment, **more: str) -> None:
        self.port = free_port()
        environment = deployment._environment("timeline-1", timeline_port=str(self.port), **more)
        super().__init__("timeline", "timeline-1", environment, deployment._folder, deployment._log_file("timeline-1"))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Site:
    """A deployment with a gateway and a worker, and its timeline page."""

    def __init__(self, deployment: Deployment, timeline: TimelineProcess) -> None:
        self.deployment = deployment
        self.gateway = deployment.gateways[0].url
        self.url = timeline.url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(nats_url: str) -> AsyncIterator[Site]:
    _chromium()
    names = ("echo", "dictation", "briefing", "forecast", "ledger", "unlucky")
    agents = ",".join(["a2a_events.agents:scripted", *(f"tests.browser.agents:{name}" for name in names)])
    async with Deployment(nats_url, agents=agents, settings={"default_agent": "scripted"}) as deployment:
        timeline = TimelineProcess(deployment)
        try:
            await timeline.ready()
            yield Site(deployment, timeline)
        finally:
            await timeline.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Any]:
    path = _chromium()
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def open_at(chromium: Any) -> AsyncIterator[OpenAt]:
    """Open an address in a window of its own. At the end nothing may have gone wrong in any of them."""
    async with AsyncExitStack() as windows:
        opened: list[OpenPage] = []

        async def open_one(url: str, *, width: int = 1360, height: int = 860, scheme: str = "light") -> OpenPage:
            context = await chromium.new_context(
                viewport={"width": width, "height": height}, color_scheme=scheme, accept_downloads=True
            )
            windows.push_async_callback(context.close)
            page = OpenPage(await context.new_page(), url)
            opened.append(page)
            await page.goto(url)
            return page

        yield open_one
        for page in opened:
            assert page.trouble == []
