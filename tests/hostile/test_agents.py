"""Agents that attack whoever runs, carries and reads them: typed failures, and everybody else goes on.

Elsewhere: texts in the command line's output and in reports (``tests/cli/test_hostile.py``), in the page
(``tests/browser/test_page.py``), agents that block the event loop for good or never stop
(``tests/integration/test_recycling.py``).
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from a2a_events.testing import eventually
from tests.hostile.attackers import LONE, MEGABYTE, SECRET, TEXTS
from tests.hostile.site import Site, lines_of, resident_bytes, state, streamed, why
from tests.interop.wire import BINDINGS

pytestmark = [pytest.mark.integration, pytest.mark.processes, pytest.mark.asyncio(loop_scope="module")]


@pytest.mark.parametrize("binding", BINDINGS)
async def test_frames_are_the_events_whatever_agents_say(site: Site, binding: str) -> None:
    events = await streamed(site, binding, {"attack": "say_texts"})
    assert {"message"} == {name for name, _ in events}
    statuses = [u["statusUpdate"]["status"] for _, u in events if "statusUpdate" in u]
    if "message" not in statuses[0]:
        del statuses[0], events[1]  # a claim that was seen by itself
    kinds = [next(iter(update)) for _, update in events]
    assert kinds == ["task", *["statusUpdate", "artifactUpdate", "artifactUpdate"] * len(TEXTS), "statusUpdate"]
    chunks = [u["artifactUpdate"]["artifact"] for _, u in events if "artifactUpdate" in u]
    assert [s["message"]["parts"][0]["text"] for s in statuses[:-1]] == list(TEXTS.values())
    assert [c["artifactId"] for c in chunks[::2]] == [c["name"] for c in chunks[::2]] == list(TEXTS.values())
    for text, chunk, whole in zip(TEXTS.values(), chunks[::2], chunks[1::2], strict=True):
        part = {"text": text, "filename": text, "mediaType": text, "metadata": {text: text, "Nats-Msg-Id": text}}
        assert chunk["parts"] == [part]
        assert chunk["metadata"] == {text: {text: [text]}}
        assert (whole["name"], whole["description"], whole["parts"]) == (text, text, [{"data": {text: text}}])
    task_id = events[0][1]["task"]["id"]
    task = (await site.http.get(f"/tasks/{task_id}")).json()
    assert [a["artifactId"] for a in task["artifacts"]] == [i for t in TEXTS.values() for i in (t, f"whole {t}")]
    assert why(task) == " ".join(TEXTS.values())
    stored = await site.stored(task_id)
    assert b"Nats-Msg-Id" in b"".join(message.data for message in stored), "in the payload"
    assert not any("Nats-Msg-Id" in message.headers for message in stored)
    assert not any(text in message.head + message.subject for text in TEXTS.values() for message in stored)
    lines_of(site.gateway)
    lines_of(site.worker)


@pytest.mark.parametrize("where", ["text", "artifact id", "metadata", "ending", "exception", "exception's name"])
async def test_what_is_no_text_fails_its_task_at_once_and_no_other(site: Site, where: str) -> None:
    async with asyncio.timeout(10):
        task = await site.attack("say_lone", where=where)
    assert state(task) == "FAILED"
    assert why(task).startswith("The task failed: the agent raised ")
    assert not any(0xD800 <= ord(c) < 0xE000 for c in why(task))
    raised = [line for line in lines_of(site.worker) if line["event"] == "agent raised"]
    assert raised[-1]["task_id"] == task["id"]
    await site.whole()


async def test_a_line_of_a_log_that_is_no_text_costs_nothing(site: Site) -> None:
    assert state(await site.attack("say_lone", where="log")) == "COMPLETED"
    said = [line["event"] for line in lines_of(site.worker)]
    assert said.count(LONE.replace("\ud800", "\ufffd")) == 2
    await site.whole()


async def test_the_text_of_an_exception_stays_in_the_log_of_its_worker_on_one_line(site: Site) -> None:
    events = await streamed(site, "HTTP+JSON", {"attack": "raise_it"})
    task_id = events[0][1]["task"]["id"]
    shown = (await site.http.get(f"/tasks/{task_id}")).json()
    assert why(shown) == "The task failed: the agent raised RuntimeError; its log says more."
    timeline = (await site.http.get(f"/debug/timelines/tasks/{task_id}/rows")).text
    assert SECRET not in json.dumps(events) + json.dumps(shown) + timeline + site.gateway.output
    (line,) = [x for x in lines_of(site.worker) if x["event"] == "agent raised" and x["task_id"] == task_id]
    assert "ValueError: the key is" in line["exception"]
    assert "the direct cause" in line["exception"]


async def test_a_report_of_ten_megabytes_is_carried_and_one_that_no_object_may_hold_fails_its_task(site: Site) -> None:
    events = await streamed(site, "HTTP+JSON", {"attack": "say_much", "bytes": 10 * MEGABYTE})
    (update,) = [u["artifactUpdate"] for _, u in events if "artifactUpdate" in u]
    assert update["artifact"]["parts"][0]["text"] == "x" * 10 * MEGABYTE
    task = await site.attack("say_much", bytes=17 * MEGABYTE)
    assert state(task) == "FAILED"
    assert "over the limit" in why(task)
    await site.whole()


@pytest.mark.parametrize("chunks", [5_000, pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
async def test_a_flood_of_tiny_chunks_costs_bounded_memory_and_delays_nobody(site: Site, chunks: int) -> None:
    before = {process.name: resident_bytes(process) for process in (site.gateway, site.worker)}
    flood = asyncio.create_task(streamed(site, "HTTP+JSON", {"attack": "drip", "chunks": chunks}))
    served = 0
    while not flood.done():
        async with asyncio.timeout(20):
            await site.serves()
        served += 1
        await asyncio.sleep(0.2)
    events = flood.result()
    said = [u["artifactUpdate"]["artifact"]["parts"][0]["text"] for _, u in events if "artifactUpdate" in u]
    assert "".join(said) == ("0123456789" * chunks)[:chunks], "the reader has every chunk, in order"
    assert state({"status": events[-1][1]["statusUpdate"]["status"]}) == "COMPLETED"
    assert served
    for process in (site.gateway, site.worker):
        grown = resident_bytes(process) - before[process.name]
        assert grown < 200 * MEGABYTE, (process.name, grown)
    await site.whole()


async def test_an_agent_that_floods_its_log_forges_no_line_and_delays_nobody(site: Site) -> None:
    since = len(site.worker.output)
    flood = asyncio.create_task(site.attack("flood_log", lines=500))
    await site.serves()
    assert state(await flood) == "COMPLETED"
    lines = lines_of(site.worker, since)
    assert sum(line.get("number") is not None for line in lines) == 500
    assert not [line for line in lines if line.get("action") == "forged"]
    (failed,) = [line for line in lines if line["event"].startswith("failed\n")]
    assert "ValueError" in failed["exception"]
    assert all(line["level"] in {"debug", "info", "warning", "error"} for line in lines)


async def test_an_agent_that_blocks_its_loop_for_a_while_keeps_neither_gateway_nor_task_from_going_on(
    site: Site,
) -> None:
    blocked = asyncio.create_task(site.attack("block", seconds=3))
    answers = 0
    while not blocked.done():
        async with asyncio.timeout(2):  # the worker stands still, the gateway does not
            listed = await site.http.get("/tasks", params={"pageSize": 1})
        assert listed.status_code == 200
        answers += 1
        await asyncio.sleep(0.1)
    assert answers > 5
    assert state(await blocked) == "COMPLETED"
    lines_of(site.worker)
    await site.whole()


async def test_nothing_is_written_after_the_end(site: Site) -> None:
    task = await site.attack("say_after")
    await eventually(
        lambda: any(
            line["event"] == "tried everything" and line["task_id"] == task["id"] for line in lines_of(site.worker)
        ),
        what="the last attempt to write",
    )
    after = (await site.http.get(f"/tasks/{task['id']}")).json()
    assert after == task
    assert state(after) == "FAILED"
    assert [a["parts"][0]["text"] for a in after["artifacts"]] == ["in time"]
    rows: list[dict[str, Any]] = (await site.http.get(f"/debug/timelines/tasks/{task['id']}/rows")).json()["rows"]
    assert "too late" not in json.dumps(rows)
    tried = {line.get("error") for line in lines_of(site.worker) if line["event"] == "tried in vain"}
    assert "TurnOver" in tried
    await site.whole()
