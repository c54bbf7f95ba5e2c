"""The timeline page, end to end: Chromium, the service as a process, and a deployment over a real nats-server."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from a2a_events.testing import eventually
from a2a_events.timeline import bundle
from tests.browser.conftest import OpenAt, Site
from tests.browser.page import run, send

pytestmark = [
    pytest.mark.browser,
    pytest.mark.integration,
    pytest.mark.processes,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(120),
]

CHOSEN = ".row[aria-selected=true]"

NODES = 1500
"""Elements of the page, at most, however long a timeline is."""


async def revisions(site: Site, task_id: str) -> int:
    async with httpx.AsyncClient(base_url=site.url) as http:
        return int((await http.get(f"/api/tasks/{task_id}")).json()["revisions"])


async def test_the_list_is_searched_filtered_and_live(site: Site, open_at: OpenAt) -> None:
    done = await run(site.gateway, chunks=2)
    failed = await run(site.gateway, chunks=2, fail=True)
    page = await open_at(site.url)
    for task_id in (done, failed):
        await page.window.wait_for_selector(f'a[data-task="{task_id}"]')
    await page.click("#failed-only")
    await page.window.wait_for_selector(f'a[data-task="{done}"]', state="detached")
    assert await page.count(f'a[data-task="{failed}"]') == 1
    # What comes while the list is shown comes by itself, if it matches.
    later, other = await run(site.gateway, chunks=1, fail=True), await run(site.gateway, chunks=1)
    await page.window.wait_for_selector(f'a[data-task="{later}"]')
    assert await page.count(f'a[data-task="{other}"]') == 0
    await page.click("#failed-only")
    await page.window.wait_for_selector(f'a[data-task="{other}"]')
    new = await run(site.gateway, chunks=1)
    await page.window.wait_for_selector(f'a[data-task="{new}"]')
    async with httpx.AsyncClient(base_url=site.url) as http:
        total = (await http.get("/api/tasks")).json()["total"]
    await page.sees("#task-count", f"{total} tasks")
    await page.press("t")
    await page.window.keyboard.type(done[-10:])
    await page.window.wait_for_selector(f'a[data-task="{other}"]', state="detached")
    assert await page.count("#task-list a") == 1
    await page.click(f'a[data-task="{done}"]')
    await page.at(await revisions(site, done))
    assert await page.text("#task-id") == done


async def test_keys_scrub_through_every_revision(site: Site, open_at: OpenAt) -> None:
    task_id = await run(site.gateway, chunks=20)
    newest = await revisions(site, task_id)
    page = await open_at(f"{site.url}/tasks/{task_id}")
    await page.at(newest)
    assert await page.text("#state") == "completed"
    await page.press("Home")
    await page.at(1)
    await page.sees(CHOSEN, "submitted")
    await page.press("ArrowRight", "ArrowRight")
    await page.at(3)
    assert "working" in await page.text("#detail .changes")
    await page.press("ArrowRight")
    await page.at(4)
    assert "000000" in await page.text("#detail .changes")
    await page.press("Shift+ArrowRight")
    await page.at(14)
    assert "000010" in await page.text("#detail .changes")
    assert "11 parts" in await page.text("#detail")
    await page.sees(CHOSEN, "artifactUpdate")  # the run that holds it
    await page.press("ArrowLeft")
    await page.at(13)
    assert "000010" not in await page.text("#detail")
    # Rows of the list, and not revisions: the run is one step.
    await page.press("j")
    await page.at(newest - 1)
    await page.sees(CHOSEN, "turnEnded")
    await page.press("k", "k")
    await page.at(3)
    await page.press("End")
    await page.at(newest)
    await page.press("ArrowRight")
    await page.at(newest)
    await page.evaluate(
        "value => { const range = document.querySelector('#range'); range.value = value;"
        " range.dispatchEvent(new Event('input')); }",
        "7",
    )
    await page.at(7)


async def test_a_permalink_shows_exactly_that(site: Site, open_at: OpenAt) -> None:
    task_id = await run(site.gateway, chunks=30)
    page = await open_at(f"{site.url}/tasks/{task_id}@9")
    await page.at(9)
    assert "000005" in await page.text("#detail .changes")
    assert "6 parts" in await page.text("#detail")
    link = await page.evaluate("location.href")
    assert link == f"{site.url}/tasks/{task_id}@9"
    again = await open_at(link)
    await again.at(9)
    assert await again.text("#detail") == await page.text("#detail")
    assert await again.evaluate("document.querySelector('#follow').getAttribute('aria-pressed')") == "false"


async def test_of_a_task_that_is_not_there_it_says_so(site: Site, open_at: OpenAt) -> None:
    page = await open_at(f"{site.url}/tasks/t1-main-0-AAAAAAAAAAAAAAAAAAAAAA@3")
    await page.sees("#nothing", "no such task")
    page.trouble.clear()  # Chromium reports the 404 to its console


FOLLOWS = "document.querySelector('#follow').getAttribute('aria-pressed')"


async def test_a_running_task_is_followed_live(site: Site, open_at: OpenAt) -> None:
    async def say(words: str, task_id: str = "") -> str:
        return await send(site.gateway, words, agent="dictation", immediately=True, task_id=task_id)

    task_id = await say("one two")
    page = await open_at(f"{site.url}/tasks/{task_id}")
    await page.sees("#state", "working")
    assert await page.evaluate(FOLLOWS) == "true"
    await page.sees("#detail", "two")
    await say("three four", task_id)
    await page.sees("#detail .changes", "four")
    newest = await revisions(site, task_id)
    await page.at(newest)
    # Looking back lets go; what comes is counted.
    await page.press("Home")
    await page.at(1)
    assert await page.evaluate(FOLLOWS) == "false"
    await say("five six seven", task_id)

    async def all_counted() -> bool:
        new = await revisions(site, task_id) - newest
        return new >= 4 and await page.text("#new") == f"{new} new"  # the message, and three words

    await eventually(all_counted, what="the number of new events")
    assert await page.evaluate("location.pathname") == f"/tasks/{task_id}@1"
    assert await page.evaluate("document.querySelector('#detail').dataset.revision") == "1"
    await page.press("f")
    await page.window.wait_for_selector("#new", state="hidden")
    await page.at(await revisions(site, task_id))
    await say("stop", task_id)
    await page.sees("#state", "completed")
    await page.at(await revisions(site, task_id))
    assert await page.evaluate(FOLLOWS) == "false"


async def test_windows_that_nobody_sees_hold_no_connection(site: Site, open_at: OpenAt) -> None:
    """A browser has six to one host, and every window would hold two."""
    task_id = await send(site.gateway, "one", agent="dictation", immediately=True)
    page = await open_at(f"{site.url}/tasks/{task_id}")
    await page.sees("#detail", "one")

    def streams() -> list[str]:
        return [request.url for request in page.requests if urlsplit(request.url).path.endswith("/events")]

    begun = streams()
    assert len(begun) == 2
    ended: list[str] = []
    page.window.on("requestfailed", lambda request: ended.append(request.url))
    shown = (
        "hidden => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });"
        " document.dispatchEvent(new Event('visibilitychange')); }"
    )
    await page.evaluate(shown, True)
    await eventually(lambda: set(begun) <= set(ended), what="the end of both streams")
    await send(site.gateway, "two", agent="dictation", immediately=True, task_id=task_id)
    other = await run(site.gateway, chunks=1)
    assert streams() == begun
    await page.evaluate(shown, False)
    await page.sees("#detail", "two")
    await page.at(await revisions(site, task_id))
    await page.window.wait_for_selector(f'a[data-task="{other}"]')
    await send(site.gateway, "stop", agent="dictation", immediately=True, task_id=task_id)


async def test_it_says_why_a_task_stands_still(site: Site, open_at: OpenAt) -> None:
    task_id = await run(site.gateway, chunks=4, inputAt=2)
    page = await open_at(f"{site.url}/tasks/{task_id}")
    await page.sees("#why", "waits for its client")


async def test_events_are_filtered_and_shown_compact_or_raw(site: Site, open_at: OpenAt) -> None:
    task_id = await run(site.gateway, chunks=25, fail=True)
    newest = await revisions(site, task_id)
    page = await open_at(f"{site.url}/tasks/{task_id}")
    await page.sees("#event-count", "6 rows")
    await page.sees("#rows", "25 chunks")
    await page.click("[data-view=all]")
    await page.sees("#event-count", f"{newest} rows")
    await page.click("[data-view=raw]")
    await page.sees("#rows", '"status"')
    await page.press("/")
    await page.window.keyboard.type("000013 ")
    await page.sees("#event-count", "1 row")
    await page.press("Control+a", "Delete", "Escape")
    await page.sees("#event-count", f"{newest} rows")
    await page.click("#kinds > summary")
    await page.click("#kind-list input[value=statusUpdate]")
    await page.sees("#event-count", "2 rows")
    await page.click("[data-view=all]")
    await page.sees("#rows", "FAILED")
    assert await page.count("#rows .row.bad") == 1


async def test_ten_thousand_events_cost_a_few_elements(site: Site, open_at: OpenAt) -> None:
    task_id = await run(site.gateway, chunks=10_000, bytes=30)
    newest = await revisions(site, task_id)
    assert newest > 10_000
    page = await open_at(f"{site.url}/tasks/{task_id}")
    await page.at(newest)
    await page.click("[data-view=all]")
    await page.sees("#event-count", f"{newest:,} rows")
    await page.press("Home")
    await page.at(1)
    for revision in (5000, 9999, 137):
        await page.evaluate(
            "value => { const range = document.querySelector('#range'); range.value = value;"
            " range.dispatchEvent(new Event('input')); }",
            str(revision),
        )
        await page.at(revision)
        await page.sees(CHOSEN, f"{revision:,}")
        assert await page.nodes() < NODES
    await page.press("End")
    await page.at(newest)
    # The chosen row stays in sight when the window gets lower.
    chosen = "document.querySelector('.row[aria-selected=true]')?.getBoundingClientRect().bottom"
    lowest = "document.querySelector('#rows').getBoundingClientRect().bottom + 2"  # rounded to pixels
    await page.window.wait_for_function(f"() => {chosen} <= {lowest}")
    await page.window.set_viewport_size({"width": 1360, "height": 600})
    await page.window.wait_for_function(f"() => innerHeight === 600 && {chosen} <= {lowest}")
    # The wheel: rows in sight are fetched as they come.
    await page.evaluate("document.querySelector('#rows').scrollTop = 26 * 7000")
    await page.sees("#rows", "7,003")
    assert await page.count("#rows .row") < 80
    assert await page.nodes() < NODES
    for key in ("ArrowLeft",) * 30:
        await page.press(key)
    await page.at(newest - 30)


HOSTILE = [
    "<script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 2'>",
    '"><svg onload="window.pwned = 3">',
    "javascript:window.pwned=4",
    "\u202eevil\u202c \u2066isolated\u2069 \u200bseen \U000e0069\U000e0067 \u3164 مرحبا بالعالم",
    "</textarea></style></title><iframe srcdoc='<script>parent.pwned = 5</script>'>",
    "{{constructor.constructor('window.pwned = 6')()}} ${alert(1)}",
    "w" * 200_000,
    "https://evil.example/beacon.png ![](https://evil.example/image.png)",
]
MARKUP = "#task :is(script, img, iframe, object, embed, style, link, form), #detail svg, #rows svg, a[href^=javascript]"


async def test_nothing_that_anybody_wrote_is_executed(site: Site, open_at: OpenAt) -> None:
    task_id = await send(site.gateway, {"say": HOSTILE}, agent="echo")
    newest = await revisions(site, task_id)
    page = await open_at(f"{site.url}/tasks/{task_id}")
    await page.at(newest)
    await page.click("[data-view=raw]")
    await page.sees("#rows", "javascript:window.pwned=4")
    await page.press("Home")
    for revision in range(1, newest + 1):
        await page.at(revision)
        found = await page.evaluate(
            "markup => ['event', 'internal', 'task'].map(tab => {"
            " document.querySelector(`[data-tab=${tab}]`).click(); return document.querySelectorAll(markup).length; })",
            MARKUP,
        )
        assert found == [0, 0, 0]
        await page.press("ArrowRight")
    assert await page.evaluate("window.pwned") is None
    assert page.trouble == []
    shown = await page.text("#detail")
    for text in HOSTILE[:4]:
        assert text in shown  # as it was written
    # What cannot be seen, or turns what stands around it, is shown as what it is.
    assert r"\u202eevil\u202c \u2066isolated\u2069 \u200bseen \u{e0069}\u{e0067} \u3164 مرحبا" in shown
    assert not set("\u202e\u202c\u2066\u2069\u200b\U000e0069\u3164") & set(shown)
    assert "more characters" in shown
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    detail = "document.querySelector('#detail')"
    assert await page.evaluate(f"{detail}.scrollWidth <= {detail}.clientWidth")


async def test_the_browser_itself_refuses_markup_and_others(site: Site, open_at: OpenAt) -> None:
    """Should the page ever hand text to what reads markup, or ask somebody else for something."""
    page = await open_at(site.url)
    refused = await page.evaluate(
        "text => { try { document.body.innerHTML = text; return ''; } catch (error) { return error.name; } }",
        HOSTILE[1],
    )
    assert refused == "TypeError"
    outside = await page.evaluate("fetch('https://evil.example/').then(() => '', error => error.name)")
    assert outside == "TypeError"
    inline = await page.evaluate(
        "() => { const made = document.createElement('div'); made.setAttribute('style', 'width: 7px');"
        " document.body.append(made); return made.offsetWidth; }"
    )
    assert inline != 7
    assert len(page.trouble) >= 3  # each was reported
    assert not any(said.startswith("a request to") for said in page.trouble)
    page.trouble.clear()


async def test_a_task_is_exported_and_forked_from_the_page(site: Site, open_at: OpenAt, tmp_path: Path) -> None:
    task_id = await run(site.gateway, chunks=8, fail=True)
    newest = await revisions(site, task_id)
    page = await open_at(f"{site.url}/tasks/{task_id}")
    await page.at(newest)
    for button, redacted in (("#export", False), ("#export-redacted", True)):
        async with page.window.expect_download() as waiting:
            await page.click(button)
        download = await waiting.value
        await download.save_as(tmp_path / download.suggested_filename)
        exported = bundle.read((tmp_path / download.suggested_filename).read_bytes())
        assert (exported.task.task_id, exported.revisions, exported.redacted) == (task_id, newest, redacted)
    assert await page.evaluate("document.querySelector('#fork').disabled")  # it has ended there
    await page.press("Home")
    await page.at(1)
    await page.click("#fork")
    await page.sees("#fork-text", "revision 1")
    await page.click("#fork-go")
    await page.sees("#facts", f"{task_id}@1")
    fork = await page.text("#task-id")
    assert fork != task_id
    await page.sees("#state", "failed")  # it did the same again
    assert await revisions(site, task_id) == newest


async def test_dark_and_light_are_the_system_s_or_chosen(site: Site, open_at: OpenAt) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = await open_at(site.url), await open_at(site.url, scheme="dark")
    in_light, in_dark = await light.evaluate(ground), await dark.evaluate(ground)
    assert in_light != in_dark
    await light.click("#theme")
    assert await light.evaluate(ground) == in_dark
    await light.window.reload()
    assert await light.evaluate(ground) == in_dark
    await light.click("#theme")
    assert await light.evaluate(ground) == in_light


async def test_it_works_on_a_telephone(site: Site, open_at: OpenAt) -> None:
    task_id = await run(site.gateway, chunks=3)
    page = await open_at(site.url, width=400, height=800)
    await page.click(f'a[data-task="{task_id}"]')
    await page.at(await revisions(site, task_id))
    assert await page.evaluate("document.documentElement.scrollWidth") <= 400
    assert await page.window.is_hidden("#tasks")
    await page.click("#before")
    await page.at(await revisions(site, task_id) - 1)
    await page.click("#show-tasks")
    await page.window.wait_for_selector("#tasks", state="visible")
    assert await page.evaluate("document.documentElement.scrollWidth") <= 400


async def test_everything_has_a_name_for_who_does_not_see(site: Site, open_at: OpenAt) -> None:
    task_id = await run(site.gateway, chunks=3)
    page = await open_at(f"{site.url}/tasks/{task_id}")
    await page.at(await revisions(site, task_id))
    nameless = await page.evaluate(
        "[...document.querySelectorAll('button, input, select, a')].filter(e => e.checkVisibility()"
        " && !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length)).map(e => e.outerHTML)"
    )
    assert nameless == []
    assert await page.evaluate("document.querySelector('#lanes').getAttribute('aria-label')")
    await page.press("?")
    await page.window.wait_for_selector("#help[open]")
    await page.press("Escape")
    await page.window.wait_for_selector("#help:not([open])", state="attached")
    await page.window.focus("#rows")
    active = "document.querySelector('#rows').getAttribute('aria-activedescendant')"
    assert await page.evaluate(f"document.getElementById({active}).getAttribute('aria-selected')") == "true"
