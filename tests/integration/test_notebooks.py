"""What agents keep for a context: it outlives tasks and workers, and an owner that was given up writes nothing more."""

from __future__ import annotations

import asyncio

import pytest

from a2a_events import TaskState, Turn, agent
from a2a_events.runtime.notebook import Notebook
from a2a_events.runtime.turn import OutputTooLarge, TurnOver
from a2a_events.runtime.turn_writer import Fenced
from a2a_events.testing import Calls, eventually, run_agent
from tests.integration.conftest import StackOf
from tests.integration.stack import text_of

COMPLETED = TaskState.COMPLETED


async def remembers(turn: Turn) -> None:
    book = await turn.notebook("heard")
    await book.add(turn.text.encode())
    await turn.artifact(" ".join(note.decode() for note in book.notes))


async def test_a_notebook_is_the_context_s_whichever_worker_opens_it(serve: StackOf) -> None:
    stack = await serve(remembers)
    worker = await stack.worker()
    first = await stack.calls.send_task("one")
    await worker.stop()
    await stack.worker()
    second = await stack.calls.send_task("two", context_id=first.context_id)
    assert second.id != first.id
    assert second.artifacts[0].parts[0].text == "one two"
    elsewhere = await stack.calls.send_task("three")
    assert elsewhere.artifacts[0].parts[0].text == "three"


async def test_who_chooses_another_one_s_context_id_reads_none_of_his_notes(serve: StackOf) -> None:
    stack = await serve(remembers)
    await stack.worker()
    ada, bob = stack.calls_of("acme", "ada"), stack.calls_of("acme", "bob")
    assert await heard(ada, "secret") == "secret"
    assert await heard(bob, "hello") == "hello"
    assert await heard(stack.calls_of("acme"), "hello") == "hello"
    assert await heard(stack.calls_of("other", "ada"), "hello") == "hello"
    assert await heard(ada, "more") == "secret more"


async def heard(calls: Calls, text: str) -> str:
    task = await calls.send_task(text, context_id="shared")
    return str(task.artifacts[0].parts[0].text)


async def test_what_is_replaced_is_gone_and_what_others_wrote_is_seen_first(serve: StackOf) -> None:
    both = asyncio.Barrier(2)

    async def tidies(turn: Turn) -> None:
        book = await turn.notebook("heard")
        await both.wait()
        while not await book.replace(b" ".join([*book.notes, turn.text.encode()])):
            pass
        await turn.artifact(str(len(book.notes)))

    stack = await serve(tidies)
    await stack.worker()
    tasks = await asyncio.gather(*(stack.calls.send_task(text, context_id="shared") for text in ("one", "two")))
    assert [task.artifacts[0].parts[0].text for task in tasks] == ["1", "1"]
    (note,) = (await stack.log.notes(stack.context(tasks[0].id, "shared"), "heard")).contents
    assert sorted(note.split()) == [b"one", b"two"]


async def test_two_tasks_of_a_context_lose_none_of_each_other_s_notes(serve: StackOf) -> None:
    both = asyncio.Barrier(2)

    async def adds(turn: Turn) -> None:
        book = await turn.notebook("heard")
        await both.wait()
        for number in range(5):
            await book.add(f"{turn.text}{number}".encode())

    stack = await serve(adds)
    await stack.worker()
    tasks = await asyncio.gather(*(stack.calls.send_task(text, context_id="shared") for text in "ab"))
    assert [task.status.state for task in tasks] == [COMPLETED, COMPLETED]
    notes = (await stack.log.notes(stack.context(tasks[0].id, "shared"), "heard")).contents
    for text in "ab":
        assert [note for note in notes if note.startswith(text.encode())] == [f"{text}{n}".encode() for n in range(5)]
    assert len(notes) == 10


async def test_an_owner_that_was_given_up_writes_no_more_notes(serve: StackOf) -> None:
    go_on = asyncio.Event()
    late: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    @agent(name="slow", policy="rerun")
    async def slow(turn: Turn) -> None:
        book = await turn.notebook("heard")
        if turn.attempt == 1:
            await book.add(b"in time")
            await go_on.wait()
            try:
                await book.add(b"too late")
            except BaseException as error:
                late.set_result(error)
                raise
            late.set_result(None)
        else:
            go_on.set()
            await asyncio.shield(late)

    stack = await serve(slow)
    frozen = await stack.worker()
    task = await stack.calls.send_task("go", immediately=True)
    running = await eventually(lambda: [one for one in frozen.worker._running.values() if one is not None])

    async def nothing() -> None:
        running[0]._attending = True  # neither signs of life nor looks at the log from here on

    running[0].attend = nothing
    await stack.worker()
    assert isinstance(await late, Fenced)
    assert (await stack.log.notes(stack.context(task.id, task.context_id), "heard")).contents == (b"in time", b"")


async def test_a_turn_that_has_ended_writes_no_notes_and_bad_ones_are_refused(serve: StackOf) -> None:
    kept: list[Notebook] = []

    async def leaves(turn: Turn) -> None:
        with pytest.raises(ValueError, match="notebook's name"):
            await turn.notebook("a name")
        book = await turn.notebook("heard")
        with pytest.raises(OutputTooLarge):
            await book.add(bytes(17 * 1024 * 1024))
        kept.append(book)

    stack = await serve(leaves)
    await stack.worker()
    task = await stack.calls.send_task("go")
    assert task.status.state is COMPLETED, text_of(task.status.message)
    with pytest.raises(TurnOver):
        await kept[0].add(b"late")


async def test_an_agent_with_a_notebook_is_tested_without_a_server() -> None:
    updates = await run_agent(remembers, "one")
    assert updates[-1].status_update is not None
    assert updates[-1].status_update.status.state is COMPLETED
