"""What an agent's author may rely on: what is said comes in order, an ending ends, and a mistake is told clearly."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from a2a_events import limits
from a2a_events.agents import echo, scripted
from a2a_events.model import Message, Part, Role, TaskState
from a2a_events.runtime.agent import agent
from a2a_events.runtime.turn import Turn, TurnOver
from a2a_events.runtime.worker import STEWARD_SECONDS
from a2a_events.testing import Calls, eventually, in_memory, run_agent
from tests.integration.conftest import StackOf
from tests.integration.stack import accumulate, states, text_of

WORKING, COMPLETED, FAILED = TaskState.WORKING, TaskState.COMPLETED, TaskState.FAILED


async def test_a_plain_function_that_returns_completes(serve: StackOf) -> None:
    async def plain(turn: Turn) -> None:
        await turn.artifact("hello")

    stack = await serve(plain)
    await stack.worker()
    updates = await stack.calls.collect("hi")

    assert states(updates) == [TaskState.SUBMITTED, WORKING, COMPLETED]


async def test_a_class_with_run_is_an_agent(serve: StackOf) -> None:
    class PoliteAgent:
        """Greets."""

        async def run(self, turn: Turn) -> None:
            await turn.artifact(f"Hello, {turn.text}", artifact_id="greeting")

    stack = await serve(PoliteAgent)
    await stack.worker()
    task = await stack.calls.send_task("Ada")

    assert stack.agent.name == "polite-agent"
    assert [(a.artifact_id, a.parts[0].text) for a in task.artifacts] == [("greeting", "Hello, Ada")]


async def test_everything_said_comes_in_the_order_it_was_said(serve: StackOf) -> None:
    async def talks(turn: Turn) -> None:
        await turn.working("one")
        await turn.artifact("two", artifact_id="a")
        await turn.chunk("b", "three")
        await turn.working("four")
        await turn.chunk("b", "five", last=True)
        turn.complete("six")

    stack = await serve(talks)
    await stack.worker()
    updates = await stack.calls.collect("go")

    said = []
    for update in updates:
        if update.artifact_update is not None:
            said.append(update.artifact_update.artifact.parts[0].text)
        elif update.status_update is not None and update.status_update.status.message is not None:
            said.append(text_of(update.status_update.status.message))
    assert said == ["one", "two", "three", "four", "five", "six"]


async def test_working_once_more_with_nothing_to_say_is_no_update(serve: StackOf) -> None:
    async def busy(turn: Turn) -> None:
        await turn.working()
        await turn.flush()
        await turn.working()
        await turn.flush()
        await turn.working("half of it")
        await turn.flush()

    stack = await serve(busy)
    await stack.worker()
    updates = await stack.calls.collect("go")

    assert states(updates) == [TaskState.SUBMITTED, WORKING, WORKING, COMPLETED]


async def test_the_first_chunk_makes_an_artifact_and_later_ones_add_to_it(serve: StackOf) -> None:
    async def chunks(turn: Turn) -> None:
        await turn.chunk("a", "1", name="numbers")
        await turn.chunk("a", "2")
        await turn.artifact("whole", artifact_id="b")
        await turn.chunk("b", "more", last=True)
        await turn.artifact("anew", artifact_id="b")

    stack = await serve(chunks)
    await stack.worker()
    updates = await stack.calls.collect("go")
    shown = [u.artifact_update for u in updates if u.artifact_update is not None]

    assert [(u.artifact.artifact_id, u.append, u.last_chunk) for u in shown] == [
        ("a", False, False),
        ("a", True, False),
        ("b", False, True),
        ("b", True, True),
        ("b", False, True),
    ]
    task = next(u.task for u in updates if u.task is not None)
    accumulate(updates).assert_equals(await stack.other.get(task.id))


async def test_thousands_of_chunks_arrive_once_and_in_order(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    updates = await stack.calls.collect({"script": {"chunks": 3000, "artifacts": 3, "bytes": 20}})

    numbers = [
        int(str(u.artifact_update.artifact.parts[0].text).split()[0]) for u in updates if u.artifact_update is not None
    ]
    assert numbers == list(range(3000))
    known = accumulate(updates)
    task_id = next(u.status_update.task_id for u in updates if u.status_update is not None)
    known.assert_equals(await stack.calls.get(task_id))
    known.assert_equals(await stack.other.get(task_id))


@pytest.mark.parametrize(
    ("ending", "state"),
    [
        ("complete", TaskState.COMPLETED),
        ("fail", TaskState.FAILED),
        ("reject", TaskState.REJECTED),
        ("require_input", TaskState.INPUT_REQUIRED),
        ("require_auth", TaskState.AUTH_REQUIRED),
    ],
)
async def test_each_ending_shows_its_state_and_message_last(serve: StackOf, ending: str, state: TaskState) -> None:
    async def ends(turn: Turn) -> None:
        await turn.artifact("before")
        getattr(turn, ending)("because")

    stack = await serve(ends)
    await stack.worker()
    updates = await stack.calls.collect("go")

    last = updates[-1].status_update
    assert last is not None
    assert (last.status.state, text_of(last.status.message)) == (state, "because")


@pytest.mark.parametrize("ending", ["complete", "fail", "reject", "require_input", "require_auth", "reply"])
async def test_nothing_can_be_said_after_an_ending(serve: StackOf, ending: str) -> None:
    caught: list[str] = []

    @agent(name="late", replies="either")
    async def late(turn: Turn) -> None:
        getattr(turn, ending)("the end")
        for say in (lambda: turn.working("late"), lambda: turn.artifact("late"), lambda: turn.chunk("a", "late")):
            try:
                await say()
            except TurnOver:
                caught.append("report")
        for end in (turn.complete, turn.reject, turn.require_input):
            try:
                end("late")
            except TurnOver:
                caught.append("ending")

    stack = await serve(late)
    await stack.worker()
    updates = await stack.calls.collect("go")

    assert caught == ["report"] * 3 + ["ending"] * 3
    assert "late" not in repr(updates)


async def test_an_agent_that_lets_turn_over_escape_fails_its_task(serve: StackOf) -> None:
    async def late(turn: Turn) -> None:
        turn.complete("the end")
        await turn.artifact("late")

    stack = await serve(late)
    await stack.worker()

    assert (await stack.calls.send_task("go")).status.state is FAILED


async def test_an_agent_that_raises_fails_without_showing_the_exceptions_text(serve: StackOf) -> None:
    async def breaks(turn: Turn) -> None:
        await turn.artifact("before", artifact_id="a")
        raise KeyError("password=hunter2")

    stack = await serve(breaks)
    await stack.worker()
    task = await stack.calls.send_task("go")

    assert task.status.state is FAILED
    assert "KeyError" in text_of(task.status.message)
    assert [a.artifact_id for a in task.artifacts] == ["a"]
    assert all(b"hunter2" not in record.payload for record in await stack.records(task.id))


@pytest.mark.parametrize("escaping", [asyncio.CancelledError, TimeoutError])
async def test_whatever_escapes_an_agent_its_task_ends(serve: StackOf, escaping: type[BaseException]) -> None:
    async def breaks(turn: Turn) -> None:
        raise escaping

    stack = await serve(breaks)
    await stack.worker()
    task = await stack.calls.send_task("go")

    assert task.status.state in {FAILED, TaskState.CANCELED}


async def test_a_status_that_ends_a_turn_is_refused_as_a_progress_report(serve: StackOf) -> None:
    refused: list[TaskState] = []

    async def wrong(turn: Turn) -> None:
        for state in TaskState:
            try:
                await turn.status(state)
            except ValueError:
                refused.append(state)

    stack = await serve(wrong)
    await stack.worker()
    await stack.calls.send_task("go")

    assert {TaskState.COMPLETED, FAILED, TaskState.CANCELED, TaskState.REJECTED, TaskState.INPUT_REQUIRED} <= set(
        refused
    )
    assert WORKING not in refused


async def test_waiting_for_authorisation_out_of_band_is_shown_and_the_turn_goes_on(serve: StackOf) -> None:
    async def authorises(turn: Turn) -> None:
        await turn.status(TaskState.AUTH_REQUIRED, "sign in")
        await turn.working()

    stack = await serve(authorises)
    await stack.worker()
    updates = [u async for u in stack.calls.stream("go")]

    assert states(updates)[:3] == [TaskState.SUBMITTED, WORKING, TaskState.AUTH_REQUIRED]
    task_id = next(u.task.id for u in updates if u.task is not None)
    assert (await _ended(stack.calls, task_id)) is COMPLETED


async def _ended(calls: Calls, task_id: str) -> TaskState:
    async def ended() -> TaskState | None:
        state = (await calls.get(task_id)).status.state
        return state if state is COMPLETED else None

    found: TaskState = await eventually(ended)
    return found


async def test_a_bare_message_is_the_whole_answer(serve: StackOf) -> None:
    @agent(name="either", replies="either")
    async def answers(turn: Turn) -> None:
        turn.reply("just so")

    stack = await serve(answers)
    await stack.worker()

    message = await stack.calls.send("go")
    (update,) = await stack.calls.collect("go")
    assert isinstance(message, Message)
    assert text_of(message) == text_of(update.message) == "just so"
    assert message.role is Role.AGENT
    assert not message.task_id


async def test_a_reply_after_a_report_completes_the_task_with_it(serve: StackOf) -> None:
    @agent(name="either", replies="either")
    async def answers(turn: Turn) -> None:
        await turn.artifact("work")
        turn.reply("just so")

    stack = await serve(answers)
    await stack.worker()
    task = await stack.calls.send_task("go")

    assert task.status.state is COMPLETED
    assert text_of(task.status.message) == "just so"


async def test_a_task_agent_that_replies_completes_with_the_message(serve: StackOf) -> None:
    async def answers(turn: Turn) -> None:
        turn.reply("just so")

    stack = await serve(answers)
    await stack.worker()
    task = await stack.calls.send_task("go")

    assert task.status.state is COMPLETED
    assert text_of(task.status.message) == "just so"


async def test_an_agent_of_either_kind_that_reports_an_artifact_first_shows_a_task_first(serve: StackOf) -> None:
    @agent(name="either", replies="either")
    async def works(turn: Turn) -> None:
        await turn.chunk("a", "1")

    stack = await serve(works)
    await stack.worker()
    updates = await stack.calls.collect("go")

    assert updates[0].task is not None
    assert states(updates)[-2:] == [WORKING, COMPLETED]


async def test_it_shows_a_task_first_also_behind_what_clients_do_not_see(serve: StackOf) -> None:
    @agent(name="either", replies="either")
    async def works(turn: Turn) -> None:
        await turn.sleep(0.001)
        await turn.chunk("a", "1")

    stack = await serve(works)
    await stack.worker()
    updates = await stack.calls.collect("go")

    assert states(updates)[-2:] == [WORKING, COMPLETED]


async def test_a_report_over_the_limit_fails_the_task_with_a_clear_message(serve: StackOf) -> None:
    async def shouts(turn: Turn) -> None:
        await turn.artifact("x" * limits.CONTENT_BYTES)

    stack = await serve(shouts)
    await stack.worker()
    task = await stack.calls.send_task("go")

    assert task.status.state is FAILED
    assert "limit" in text_of(task.status.message)
    assert not task.artifacts


async def test_an_agent_may_catch_a_report_over_the_limit_and_go_on_in_pieces(serve: StackOf) -> None:
    async def adapts(turn: Turn) -> None:
        try:
            await turn.artifact("x" * limits.CONTENT_BYTES, artifact_id="a")
        except ValueError:
            for _ in range(4):
                await turn.chunk("a", "x" * 500_000)

    stack = await serve(adapts)
    await stack.worker()
    task = await stack.calls.send_task("go")

    assert task.status.state is COMPLETED
    assert sum(len(str(part.text)) for part in task.artifacts[0].parts) == 2_000_000


@pytest.mark.parametrize("ending", ["complete", "fail", "require_input", "reply"])
async def test_an_ending_over_the_limit_still_ends_the_task(serve: StackOf, ending: str) -> None:
    @agent(name="either", replies="either")
    async def shouts(turn: Turn) -> None:
        getattr(turn, ending)("x" * limits.CONTENT_BYTES)

    stack = await serve(shouts)
    await stack.worker()
    task = await stack.calls.send_task("go")

    assert task.status.state is FAILED


async def test_an_empty_report_is_a_mistake_of_the_agent(serve: StackOf) -> None:
    async def empty(turn: Turn) -> None:
        await turn.artifact([])

    stack = await serve(empty)
    await stack.worker()

    assert (await stack.calls.send_task("go")).status.state is FAILED


async def test_an_agent_sees_its_message_the_task_before_it_and_the_attempt(serve: StackOf) -> None:
    seen: list[object] = []

    async def looks(turn: Turn) -> None:
        await turn.flush()
        seen.append((turn.text, turn.data, turn.attempt, len(turn.task.history), len(turn.task.artifacts)))
        await turn.artifact(turn.text)
        turn.require_input("more?")

    stack = await serve(looks)
    await stack.worker()
    task = await stack.calls.send_task([Part(text="one"), Part(data={"n": 1})])
    await stack.other.send_task("two", task_id=task.id)

    assert seen == [("one", {"n": 1}, 1, 1, 0), ("two", None, 1, 3, 1)]


async def test_flush_returns_when_everything_said_is_stored(serve: StackOf) -> None:
    flushed = asyncio.Event()
    proceed = asyncio.Event()

    async def says(turn: Turn) -> None:
        await turn.chunk("a", "1")
        await turn.chunk("a", "2")
        await turn.flush()
        flushed.set()
        await proceed.wait()

    stack = await serve(says)
    await stack.worker()
    task = await stack.calls.send_task("go", immediately=True)
    async with asyncio.timeout(20):
        await flushed.wait()

    assert [part.text for part in (await stack.other.get(task.id)).artifacts[0].parts] == ["1", "2"]
    proceed.set()
    assert await _ended(stack.calls, task.id) is COMPLETED


async def test_many_turns_of_one_worker_run_at_once(serve: StackOf) -> None:
    together = asyncio.Barrier(20)

    async def meets(turn: Turn) -> None:
        await together.wait()

    stack = await serve(meets)
    await stack.worker()
    tasks = await asyncio.gather(*(stack.calls.send_task("go") for _ in range(20)))

    assert {task.status.state for task in tasks} == {COMPLETED}


async def test_no_more_turns_run_at_once_than_the_worker_may(serve: StackOf) -> None:
    running = most = 0

    async def counts(turn: Turn) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1

    stack = await serve(counts)
    await stack.worker(turns=3)
    tasks = await asyncio.gather(*(stack.calls.send_task("go") for _ in range(12)))

    assert {task.status.state for task in tasks} == {COMPLETED}
    assert most <= 3


async def test_run_agent_gives_what_a_streaming_client_sees() -> None:
    updates = await run_agent(echo, "hello")

    assert states(updates) == [TaskState.SUBMITTED, WORKING, COMPLETED]
    assert [u.artifact_update.artifact.parts[0].text for u in updates if u.artifact_update] == ["hello"]


async def test_in_memory_holds_a_conversation() -> None:
    async with in_memory(scripted) as calls:
        task = await calls.send_task({"script": {"chunks": 4, "inputAt": 2}})
        assert task.status.state is TaskState.INPUT_REQUIRED
        task = await calls.send_task("go on", task_id=task.id)
        assert task.status.state is COMPLETED
        assert task == await calls.get(task.id)


async def test_what_a_turn_held_is_let_go_when_it_ends(serve: StackOf) -> None:
    """Turns may hold megabytes, and services let garbage with cycles lie for long."""
    held: list[weakref.ref[object]] = []

    async def works(turn: Turn) -> None:
        held.extend([weakref.ref(turn), weakref.ref(turn._reports)])
        await turn.artifact("x")
        await asyncio.sleep(2 * STEWARD_SECONDS)  # so long that the worker takes an interest in the task
        if turn.text == "fail":
            raise ValueError("as told")

    stack = await serve(works)
    await stack.worker()
    gc.collect()
    gc.disable()
    try:
        for said in ("go", "fail"):
            await stack.calls.send_task(said)
        await eventually(lambda: not any(reference() for reference in held), what="nothing held of turns that ended")
    finally:
        gc.enable()
    assert len(held) == 4
