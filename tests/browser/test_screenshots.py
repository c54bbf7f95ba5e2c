"""Pictures of the page for the documentation; taken only when a folder for them is named (`make screenshots`)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.browser.conftest import OpenAt, Site
from tests.browser.page import OpenPage, run, send

FOLDER = "A2A_EVENTS_TEST_SCREENSHOTS"
LARGEST_BYTES = 200_000
SIZE = {"width": 1280, "height": 760}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.integration,
    pytest.mark.processes,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(180),
    pytest.mark.skipif(FOLDER not in os.environ, reason=f"{FOLDER} names no folder for pictures"),
]


async def test_pictures(site: Site, open_at: OpenAt) -> None:
    many = await send(site.gateway, "All of last year, please", agent="ledger")
    await run(site.gateway, chunks=12, delayMs=20)
    answered = await send(site.gateway, "Which of these invoices are still open?", agent="briefing")
    await run(site.gateway, chunks=6, inputAt=3, delayMs=20)
    failed = await send(site.gateway, "Summarise the report of last week", agent="unlucky")
    running = await send(site.gateway, "Wind and temperature for the next weeks", agent="forecast", immediately=True)

    dark = await open_at(f"{site.url}/tasks/{failed}", scheme="dark", **SIZE)
    await dark.sees("#state", "failed")
    await picture(dark, "timeline-failed-dark.png")

    light = await open_at(f"{site.url}/tasks/{answered}@9", **SIZE)
    await light.at(9)
    await picture(light, "timeline-light.png")

    crowd = await open_at(f"{site.url}/tasks/{many}@4711", scheme="dark", width=1280, height=700)
    await crowd.at(4711)
    await crowd.click("[data-view=all]")
    await crowd.sees(".row[aria-selected=true]", "4,711")
    await picture(crowd, "timeline-10000-events-dark.png")

    live = await open_at(f"{site.url}/tasks/{running}", scheme="dark", **SIZE)
    await live.window.wait_for_function("() => Number(document.querySelector('#range').max) > 60")
    await picture(live, "timeline-live-dark.png")

    narrow = await open_at(f"{site.url}/tasks/{failed}", width=400, height=860)
    await narrow.sees("#state", "failed")
    await picture(narrow, "timeline-narrow-light.png")


async def picture(page: OpenPage, name: str) -> None:
    await page.window.wait_for_load_state("load")
    await page.window.wait_for_function("() => document.querySelector('#detail').dataset.revision")
    await page.window.wait_for_function("() => !document.querySelector('.row-wait')")
    await page.window.mouse.move(5, 5)
    await page.evaluate("document.querySelector('#about').textContent = 'a2a at 127.0.0.1:4222'")  # not a random name
    path = Path(os.environ[FOLDER]) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    await page.window.screenshot(path=path)
    assert path.stat().st_size < LARGEST_BYTES
