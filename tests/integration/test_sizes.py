"""How much one task may hold: what is too much is refused to clients, and ends the turn of an agent, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.types import a2a_pb2 as pb

from a2a_events import Agent, Turn, agent, limits
from a2a_events.adapters.a2a_sdk import agent_of
from a2a_events.errors import InvalidParamsError
from a2a_events.model import Part, TaskState
from a2a_events.runtime.thread_turn import ThreadTurn
from a2a_events.runtime.turn import OutputTooLarge
from a2a_events.testing import eventually
from a2a_events.timeline.bounds import HistoryBounds, TaskBounds
from a2a_events.timeline.render import HISTORY_OMITTED
from tests.adapters.executors import begin
from tests.integration.stack import ACK_WAIT_SECONDS, Stack, stack_of, text_of

BOUNDS = TaskBounds(size_bytes=200_000, events=400, artifact_bytes=20_000, artifacts=5, webhooks=3)
HISTORY = HistoryBounds(messages=10, size_bytes=5000)
Served = Callable[[object], Awaitable[Stack]]
TOO_LARGE = "it holds too much: the task would be over 200000 bytes"
TOO_MANY = "it holds too much: the task would have over 400 events"
ARTIFACT = "it holds too much: an artifact would be over 20000 bytes"


@pytest.fixture(params=["memory", pytest.param("jetstream", marks=pytest.mark.integration)])
async def serve(request: pytest.FixtureRequest, nats_url: str, namespace: str) -> AsyncIterator[Served]:
    async with AsyncExitStack() as exits:

        async def served(of: object) -> Stack:
            return await exits.enter_async_context(
                stack_of(request.param, of, nats_url, namespace, bounds=BOUNDS, history=HISTORY)
            )

        yield served


@agent(name="says", policy="resume")
async def says(turn: Turn) -> None:
    """Reports as it is told, until it is stopped."""
    told = turn.data or {}
    kind, size, times = told.get("kind", "nothing"), told.get("size", 1), told.get("times", 1)
    for number in range(times):
        content = "a" * size
        match kind:
            case "chunk":
                await turn.chunk("one", content)
            case "artifact":
                await turn.artifact(content, artifact_id=f"n{number}")
            case "replace":
                await turn.artifact(content, artifact_id="one")
            case "status":
                await turn.working(content)
            case "step":
                await turn.step(f"s{number}", str, content)
            case "complete":
                turn.complete(content)
            case _:
                pass
        if kind == "stubborn":
            with suppress(Exception):
                await turn.chunk("one", "a" * 500)
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)


def told(**data: Any) -> Part:
    return Part(data=data)


async def failed_with(stack: Stack, task_id: str, reason: str) -> None:
    """The task ended FAILED, once, and says why; operators find it, and the worker goes on."""
    for calls in (stack.calls, stack.other):
        task = await calls.get(task_id)
        assert (TaskState.FAILED, f"The task failed: {reason}.") == (task.status.state, text_of(task.status.message))
    kinds = await stack.kinds(task_id)
    assert kinds.count("L") == 1
    assert kinds.endswith("LeS")
    assert kinds.count("c") == 1, "it is not tried again"

    async def found() -> bool:
        return any([letter.task.task_id == task_id async for letter in stack.log.dead_letters()])

    await eventually(found, what="a dead letter")
    assert (await stack.calls.send_task(told(kind="chunk"))).status.state is TaskState.COMPLETED


@pytest.mark.parametrize(
    ("kind", "size", "times", "reason"),
    [
        pytest.param("chunk", 5000, 100, ARTIFACT, id="chunks of one artifact"),
        pytest.param("chunk", 1, 100_000, TOO_MANY, id="a flood of tiny chunks"),
        pytest.param("artifact", 20_001, 1, ARTIFACT, id="one large artifact"),
        pytest.param("artifact", 1, 6, "it holds too much: there would be over 5 artifacts", id="many artifacts"),
        pytest.param("replace", 15_000, 100, TOO_LARGE, id="one artifact again and again"),
        pytest.param("status", 30_000, 100, TOO_LARGE, id="statuses"),
        pytest.param("step", 30_000, 100, TOO_LARGE, id="steps"),
        pytest.param("complete", 300_000, 1, TOO_LARGE, id="the last word"),
        pytest.param("stubborn", 1, 10_000, ARTIFACT, id="an agent that does not listen"),
    ],
)
async def test_an_agent_that_says_too_much_has_its_task_fail(
    serve: Served, kind: str, size: int, times: int, reason: str
) -> None:
    stack = await serve(says)
    await stack.worker()
    task = await stack.calls.send_task(told(kind=kind, size=size, times=times))
    await failed_with(stack, task.id, reason)
    assert sum(len(record.payload) for record in await stack.records(task.id)) < BOUNDS.size_bytes + 5000


@agent(name="at-once", policy="resume")
async def at_once(turn: Turn) -> None:
    """Reports as it is told, everything at the same time."""
    told = turn.data or {}
    kind, content, times = told["kind"], "a" * told.get("size", 1), told.get("times", 1)
    says: dict[str, Callable[[int], Awaitable[Any]]] = {
        "chunk": lambda _: turn.chunk("one", content),
        "artifact": lambda number: turn.artifact(content, artifact_id=f"n{number}"),
        "status": lambda _: turn.working(content),
        "step": lambda number: turn.step(f"s{number}", str, content),
    }
    await asyncio.gather(*(says[kind](number) for number in range(times)), return_exceptions=True)


@pytest.mark.parametrize(
    ("kind", "size", "times", "reason"),
    [
        pytest.param("chunk", 5000, 100, ARTIFACT, id="chunks of one artifact"),
        pytest.param("chunk", 1, 1000, TOO_MANY, id="tiny chunks"),
        pytest.param("artifact", 5000, 30, "it holds too much: there would be over 5 artifacts", id="artifacts"),
        pytest.param("status", 30_000, 100, TOO_LARGE, id="statuses"),
        pytest.param("step", 30_000, 100, TOO_LARGE, id="steps"),
    ],
)
async def test_an_agent_that_says_too_much_at_once_has_its_task_fail(
    serve: Served, monkeypatch: pytest.MonkeyPatch, kind: str, size: int, times: int, reason: str
) -> None:
    """Also what waits for room is counted."""
    monkeypatch.setattr(limits, "WRITER_QUEUED_BYTES", 8000)
    stack = await serve(at_once)
    await stack.worker()
    task = await stack.calls.send_task(told(kind=kind, size=size, times=times))
    await failed_with(stack, task.id, reason)
    records = await stack.records(task.id)
    assert sum(len(record.payload) for record in records) < BOUNDS.size_bytes + 5000
    stored = await stack.calls.get(task.id)
    assert len(stored.artifacts) <= BOUNDS.artifacts
    assert all(
        sum(len(part.text or "") for part in artifact.parts) <= BOUNDS.artifact_bytes for artifact in stored.artifacts
    )


async def test_pieces_that_are_said_at_once_are_all_there_in_their_order(
    serve: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WRITER_QUEUED_BYTES", 1000)
    pieces = [f"{number:03}" * 100 for number in range(30)]

    @agent(name="pieces")
    async def in_pieces(turn: Turn) -> None:
        await turn.chunk("other", "a" * 1000)
        await asyncio.gather(*(turn.chunk("one", piece) for piece in pieces))

    stack = await serve(in_pieces)
    await stack.worker()
    task = await stack.calls.send_task("go")
    assert task.status.state is TaskState.COMPLETED
    stored = next(artifact for artifact in task.artifacts if artifact.artifact_id == "one")
    assert pieces == [part.text for part in stored.parts]


async def test_steps_that_are_taken_at_once_are_no_more_than_a_turn_may_have(
    serve: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STEPS", 5)

    @agent(name="steps")
    async def steps(turn: Turn) -> None:
        done = await asyncio.gather(*(turn.step(f"s{n}", str, n) for n in range(10)), return_exceptions=True)
        assert done[:5] == ["0", "1", "2", "3", "4"]
        assert all(isinstance(late, ValueError) for late in done[5:]), done
        turn.complete("done")

    stack = await serve(steps)
    await stack.worker()
    task = await stack.calls.send_task("go")
    assert task.status.state is TaskState.COMPLETED, text_of(task.status.message)


async def test_a_report_that_is_too_large_changes_nothing_of_what_an_earlier_run_had_said(serve: Served) -> None:
    @agent(name="anew", policy="rerun")
    async def anew(turn: Turn) -> None:
        if turn.attempt == 1:
            await turn.chunk("one", "first run")
            await turn.flush()
            raise OSError("once")
        with pytest.raises(OutputTooLarge):
            await turn.chunk("one", "a" * stack.log.content_bytes)
        await turn.chunk("one", "second run")

    stack = await serve(anew)
    await stack.worker()
    task = await stack.calls.send_task("go")
    assert task.status.state is TaskState.COMPLETED
    assert ["second run"] == [part.text for part in task.artifacts[0].parts]


async def test_what_fits_exactly_is_taken(serve: Served) -> None:
    stack = await serve(says)
    await stack.worker()
    part = len('{"text":""}')
    task = await stack.calls.send_task(told(kind="chunk", size=1000 - part - 1, times=20))
    assert task.status.state is TaskState.COMPLETED
    assert len(task.artifacts[0].parts) == 20
    over = await stack.calls.send_task(told(kind="chunk", size=1000 - part, times=20))
    await failed_with(stack, over.id, ARTIFACT)
    assert len((await stack.calls.get(over.id)).artifacts[0].parts) == 19


async def test_the_bound_of_an_artifact_counts_what_other_turns_have_said(serve: Served) -> None:
    @agent(name="adds")
    async def adds(turn: Turn) -> None:
        await turn.chunk("one", "a" * 8000)
        turn.require_input("more?")

    stack = await serve(adds)
    await stack.worker()
    task = await stack.calls.send_task("go")
    await stack.worker()
    assert (await stack.calls.send_task("go", task_id=task.id)).status.state is TaskState.INPUT_REQUIRED
    ended = await stack.calls.send_task("go", task_id=task.id)
    assert (TaskState.FAILED, f"The task failed: {ARTIFACT}.") == (ended.status.state, text_of(ended.status.message))
    assert len(ended.artifacts[0].parts) == 2


async def test_the_bound_holds_for_whoever_goes_on_after_a_crash(serve: Served) -> None:
    said = asyncio.Event()

    @agent(name="crashes", policy="resume")
    async def crashes(turn: Turn) -> None:
        await turn.chunk("one", "a" * 15_000)
        await turn.flush()
        said.set()
        if turn.attempt == 1:
            await asyncio.sleep(3600)

    stack = await serve(crashes)
    first = await stack.worker()
    sending = asyncio.create_task(stack.calls.send_task("go"))
    async with asyncio.timeout(20):
        await said.wait()
    await stack.worker()
    await first.vanish()
    async with asyncio.timeout(20 * ACK_WAIT_SECONDS):
        task = await sending
    assert (TaskState.FAILED, f"The task failed: {ARTIFACT}.") == (task.status.state, text_of(task.status.message))
    assert len(task.artifacts[0].parts) == 1


async def test_an_agent_that_runs_anew_has_the_room_of_what_it_replaces(serve: Served) -> None:
    @agent(name="anew", policy="rerun")
    async def anew(turn: Turn) -> None:
        await turn.chunk("one", "a" * 15_000)
        await turn.flush()
        if turn.attempt == 1:
            raise OSError("once")

    stack = await serve(anew)
    await stack.worker()
    task = await stack.calls.send_task("go")
    assert task.status.state is TaskState.COMPLETED
    assert len(task.artifacts[0].parts) == 1


@agent(name="carries-on")
async def carries_on(turn: Turn) -> None:
    with pytest.raises(OutputTooLarge):
        await turn.artifact("a" * 30_000)
    with pytest.raises(OutputTooLarge):
        await turn.artifact("a")
    turn.complete("all is well")


@agent(name="blocks")
def blocks(turn: ThreadTurn) -> None:
    with pytest.raises(OutputTooLarge):
        turn.artifact("a" * 30_000)
    turn.complete("all is well")


class Swallows(AgentExecutor):
    """Written for a2a-sdk, and takes no exception to heart."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        updater = await begin(context, event_queue)
        for number in range(10):
            with suppress(Exception):
                await updater.add_artifact([pb.Part(text="a" * 5000)], artifact_id="one", append=number > 0)
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("of", [carries_on, blocks, agent_of(Swallows(), name="swallows")], ids=lambda of: of.name)
async def test_an_agent_that_carries_on_all_the_same_has_its_task_fail(serve: Served, of: Agent) -> None:
    stack = await serve(of)
    await stack.worker()
    task = await stack.calls.send_task("go")
    assert (TaskState.FAILED, f"The task failed: {ARTIFACT}.") == (task.status.state, text_of(task.status.message))
    assert "LeS" in await stack.kinds(task.id)


async def test_a_message_that_the_task_cannot_hold_is_refused_and_nothing_is_stored(serve: Served) -> None:
    @agent(name="asks")
    async def asks(turn: Turn) -> None:
        turn.require_input("more?")

    stack = await serve(asks)
    await stack.worker()
    task = await stack.calls.send_task("a" * 90_000)
    assert (await stack.calls.send_task("a" * 90_000, task_id=task.id)).status.state is TaskState.INPUT_REQUIRED
    before = await stack.kinds(task.id)
    for calls in (stack.calls, stack.other):
        with pytest.raises(InvalidParamsError, match="would hold more than 200000 bytes") as refused:
            await calls.send_task("a" * 90_000, task_id=task.id)
        [(field, text)] = refused.value.violations
        assert field == "message.taskId"
        assert text.endswith("Start a new one in the same context")
        with pytest.raises(InvalidParamsError) as refused:
            await calls.send_task("a" * 200_000)
        [(field, text)] = refused.value.violations
        assert field == "message"
        assert text.endswith("Send less")
    assert before == await stack.kinds(task.id)
    assert (await stack.calls.send_task("short", task_id=task.id)).status.state is TaskState.INPUT_REQUIRED


async def test_answers_show_the_end_of_a_long_history_and_say_so(serve: Served) -> None:
    @agent(name="asks")
    async def asks(turn: Turn) -> None:
        assert len(turn.task.history) >= len(turn.text), "the agent sees all of it"
        turn.require_input("more?")

    stack = await serve(asks)
    await stack.worker()
    task = await stack.calls.send_task("a")
    assert HISTORY_OMITTED not in (task.metadata or {})
    for number in range(2, 8):
        task = await stack.calls.send_task("a" * number, task_id=task.id)
    assert [text_of(m) for m in task.history][-3:] == ["a" * 6, "more?", "a" * 7]
    assert len(task.history) == HISTORY.messages
    assert (task.metadata or {})[HISTORY_OMITTED] is True
    large = await stack.calls.send_task("b" * 10_000, task_id=task.id)
    assert [text_of(m) for m in large.history] == ["b" * 10_000]
    seen = await eventually(lambda: stack.other.get(task.id), what="the task")
    assert seen.history == large.history
