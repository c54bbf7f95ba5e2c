"""The checkpointer that keeps a thread in the notes of a context, held to LangGraph's own suite for checkpointers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.types import Command

from a2a_events.adapters.langgraph.thread import NOTES, Thread
from a2a_events.log.memory import MemoryLog
from tests.adapters import langgraph_graphs as graphs
from tests.adapters.langgraph_shelf import Shelf
from tests.contract.logs import a_context, jetstream_kit


class Reopened(Thread):
    """Reads nothing that is not in the notes: as another worker would."""

    shelf: Shelf

    async def aget_tuple(self, config: Any) -> Any:
        return await (await self.shelf.thread()).aget_tuple(config)

    async def alist(self, config: Any, **how: Any) -> AsyncIterator[Any]:
        async for found in (await self.shelf.thread()).alist(config, **how):
            yield found


@pytest.mark.integration
async def test_it_does_what_langgraph_s_own_suite_asks_of_checkpointers(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("a2a_events.adapters.langgraph.thread.NOTES", 10_000)  # it asks for history, too
    async with jetstream_kit(nats_url, namespace, raw=True) as kit:

        @checkpointer_test(name="notes")
        async def made() -> AsyncIterator[Thread]:
            shelf = Shelf(kit.log, a_context(kit.log))
            thread = Reopened(await shelf.book())
            thread.shelf = shelf
            yield thread

        report = await validate(made)
    failed = {name: result.failures for name, result in report.results.items() if result.detected and not result.passed}
    assert not failed
    assert report.passed_all_base()


@pytest.fixture
async def shelf() -> AsyncIterator[Shelf]:
    log = MemoryLog()
    yield Shelf(log, a_context(log))
    await log.close()


async def runs(shelf: Shelf, graph: Any, given: Any, thread_id: str = "t") -> Any:
    thread = await shelf.thread()
    config = {"configurable": {"thread_id": thread_id}}
    await graph.copy({"checkpointer": thread}).ainvoke(given, config)
    return await graph.copy({"checkpointer": await shelf.thread()}).aget_state(config)


async def test_a_thread_with_many_notes_is_written_anew_and_says_the_same(shelf: Shelf) -> None:
    shown = []
    most = 0
    for number in range(NOTES // 2):
        state = await runs(shelf, graphs.talk, {"messages": [("user", f"word{number}")]})
        shown.append([message.text for message in state.values["messages"]])
        most = max(most, len((await shelf.book()).notes))
    assert shown[-1][-2:] == [f"word{NOTES // 2 - 1}", f"word{NOTES // 2 - 1} "]
    assert len(shown[-1]) == NOTES
    assert most <= NOTES + 10, "notes of one run at most beyond it"


@pytest.mark.parametrize("graph", [graphs.approval, graphs.questions("a", "b"), graphs.outer(threaded=False)])
async def test_an_interrupted_thread_that_is_written_anew_is_resumed(
    shelf: Shelf, graph: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = await runs(shelf, graph, {"topic": "x", "item": "book"})
    assert asked.interrupts
    before = (await shelf.thread()).storage
    monkeypatch.setattr("a2a_events.adapters.langgraph.thread.NOTES", 1)
    again = await graph.copy({"checkpointer": await shelf.thread()}).aget_state({"configurable": {"thread_id": "t"}})
    assert len((await shelf.book()).notes) == 1
    assert sum(map(len, before["t"].values())) > sum(map(len, (await shelf.thread()).storage["t"].values()))
    assert again.interrupts == asked.interrupts
    assert again.values == asked.values

    done = await runs(shelf, graph, Command(resume={one.id: "yes" for one in asked.interrupts}))
    assert not done.next
    assert not done.interrupts
    assert "yes" in str(done.values)


async def test_two_who_write_one_thread_lose_nothing(shelf: Shelf) -> None:
    one, two = await shelf.thread(), await shelf.thread()

    async def puts(thread: Thread, name: str) -> None:
        checkpoint = empty_checkpoint()
        await thread.aput({"configurable": {"thread_id": name, "checkpoint_ns": ""}}, checkpoint, {"step": 1}, {})

    await asyncio.gather(
        *(puts(thread, f"{which}-{number}") for which, thread in enumerate((one, two)) for number in range(5))
    )
    await puts(one, "last")
    everything = {
        found.config.get("configurable", {})["thread_id"] async for found in (await shelf.thread()).alist(None)
    }
    assert everything == {f"{which}-{number}" for which in (0, 1) for number in range(5)} | {"last"}
    assert {found.config.get("configurable", {})["thread_id"] async for found in one.alist(None)} == everything
