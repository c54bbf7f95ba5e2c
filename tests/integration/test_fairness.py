"""Fairness between tenants, bounded admission, and tasks whose agent has no worker: on both logs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from a2a_events import limits
from a2a_events.errors import UnavailableError
from a2a_events.model import (
    TERMINAL_STATES,
    Message,
    Part,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    TaskState,
)
from a2a_events.runtime.agent import Deadlines, agent
from a2a_events.runtime.caller import Caller
from a2a_events.runtime.directory import ServedAgent
from a2a_events.runtime.turn import Turn
from a2a_events.runtime.waiting_room import WaitingRoom
from a2a_events.testing import Calls, eventually
from a2a_events.timeline.fold import public_states
from tests.integration.stack import Stack, stack_of, text_of

TURNS = 4
HANDFUL = 12 * TURNS
"""Of a hundred and more: on a busy machine, some end while the lone one is on its way."""

ServeWith = Callable[..., Awaitable[Stack]]


@pytest.fixture(params=["memory", pytest.param("jetstream", marks=pytest.mark.integration)])
async def serve_with(request: pytest.FixtureRequest, nats_url: str, namespace: str) -> AsyncIterator[ServeWith]:
    """Serve an agent over each kind of log, with an ack wait or a queue limit."""
    async with AsyncExitStack() as exits:

        async def served(handler: object, **settings: float) -> Stack:
            return await exits.enter_async_context(
                stack_of(request.param, handler, nats_url, namespace, **settings)  # type: ignore[arg-type]
            )

        yield served


@agent(name="busy")
async def busy(turn: Turn) -> None:
    """Works for as long as it is told, or fails."""
    if turn.text == "poison":
        raise RuntimeError("poison")
    await asyncio.sleep(float(turn.text))


async def submit(calls: Calls, count: int, text: str = "0.05") -> list[str]:
    tasks = await asyncio.gather(*(calls.send_task(text, immediately=True) for _ in range(count)))
    return [task.id for task in tasks]


async def ended_between(stack: Stack, task_id: str, tenant: str) -> int:
    """How many tasks of others ended after this one was submitted and before it ended, in its shard of the log."""
    task = stack.ref(task_id, tenant)
    own = [record async for run in stack.log.read(task) for record in run]
    count = 0
    async for run in stack.log.scan(task.shard, own[0].position, own[-1].position):
        ended = [s for s in run if any(state in TERMINAL_STATES for state in public_states(s.record))]
        count += sum(s.task != task for s in ended)
    return count


async def all_end(calls: Calls, tasks: list[str], timeout_seconds: float) -> None:
    left = set(tasks)

    async def none_left() -> bool:
        for task_id in list(left):
            if (await calls.get(task_id)).status.state not in TERMINAL_STATES:
                return False
            left.discard(task_id)
        return True

    await eventually(none_left, timeout_seconds=timeout_seconds, what="the end of every task")


async def test_one_task_does_not_wait_for_another_tenants_thousand(serve_with: ServeWith) -> None:
    stack = await serve_with(busy, ack_wait_seconds=3.0)
    await stack.worker(turns=TURNS)
    flood, lone = stack.calls_of("flood"), stack.calls_of("lone")
    await submit(flood, 1000)

    task = await lone.send_task("0.05")

    assert task.status.state is TaskState.COMPLETED
    assert await ended_between(stack, task.id, "lone") <= HANDFUL


async def test_a_flood_larger_than_the_room_hides_nobody_and_ends_whole(serve_with: ServeWith) -> None:
    stack = await serve_with(busy, ack_wait_seconds=1.5)
    worker = (await stack.worker(turns=TURNS)).worker
    worker._room = WaitingRoom(TURNS, 1.5, deliveries=20)
    flood, lone = stack.calls_of("flood"), stack.calls_of("lone")
    tasks = await submit(flood, 120, "0.3")

    task = await lone.send_task("0.05")

    assert await ended_between(stack, task.id, "lone") <= HANDFUL
    await all_end(flood, tasks, 60)


async def test_a_task_that_never_returns_and_one_that_raises_delay_no_other(serve_with: ServeWith) -> None:
    impatient = agent(name="busy", deadlines=Deadlines(turn_seconds=8.0))(busy.handler)
    stack = await serve_with(impatient)
    await stack.worker(turns=2)
    calls = stack.calls
    (hangs,) = await submit(calls, 1, "3600")
    poisoned = await submit(calls, 20, "poison")
    good = await submit(calls, 20, "0.01")

    await all_end(calls, good, 30)

    assert (await calls.get(hangs)).status.state not in TERMINAL_STATES or await ended_before(stack, good, hangs)
    await all_end(calls, [hangs, *poisoned], 30)
    assert (await calls.get(hangs)).status.state is TaskState.FAILED


async def ended_before(stack: Stack, first: list[str], last: str) -> bool:
    """Whether these ended before that one, where they share a shard."""
    bound = (await stack.records(last))[-1].position
    mine = [t for t in first if stack.ref(t).shard == stack.ref(last).shard]
    return max([(await stack.records(t))[-1].position for t in mine], default=0) < bound


async def test_over_the_limit_a_new_task_is_refused_and_after_the_queue_drained_accepted(
    serve_with: ServeWith,
) -> None:
    stack = await serve_with(busy, queue_limit=5)
    worker = await stack.worker(turns=1)
    gate = await submit(stack.calls, 1, "0.01")
    await all_end(stack.calls, gate, 10)
    await worker.stop()
    tasks = await submit(stack.calls, 5, "0.01")
    before = {shard: end.position for shard, end in (await stack.log.ends()).items()}

    with pytest.raises(UnavailableError, match="limit is 5; nothing was written") as refused:
        await stack.calls.send_task("0.01", immediately=True)

    assert refused.value.retry_after_seconds == limits.QUEUE_RETRY_SECONDS
    assert {shard: end.position for shard, end in (await stack.log.ends()).items()} == before

    async def other_refuses() -> bool:
        try:
            await stack.other.send_task("0.01", immediately=True)
        except UnavailableError:
            return True
        return False

    await eventually(other_refuses, what="the refusal of the gateway that admitted nothing")
    await stack.worker()
    await all_end(stack.calls, tasks, 20)

    async def accepted() -> bool:
        try:
            return (await stack.calls.send_task("0.01")).status.state is TaskState.COMPLETED
        except UnavailableError:
            return False

    await eventually(accepted, what="a task that is accepted again")


async def test_a_message_to_a_task_that_is_there_is_never_refused_for_a_full_queue(serve_with: ServeWith) -> None:
    @agent(name="asks")
    async def asks(turn: Turn) -> None:
        if turn.text == "ask":
            turn.require_input("what?")

    stack = await serve_with(asks, queue_limit=1)
    worker = await stack.worker()
    task = await stack.calls.send_task("ask")
    await worker.stop()
    calls = stack.other
    await submit(calls, 1, "waits")
    with pytest.raises(UnavailableError):
        await calls.send_task("waits", immediately=True)

    answered = await calls.send_task("an answer", task_id=task.id, immediately=True)

    assert answered.id == task.id


async def test_a_repetition_under_its_key_is_answered_and_a_new_key_refused_over_the_limit(
    serve_with: ServeWith,
) -> None:
    stack = await serve_with(busy, queue_limit=1)
    worker = await stack.worker()
    await worker.stop()
    operations, served = stack.calls._operations, ServedAgent(busy.name, busy.card, busy.replies)
    message = Message(message_id="m", role=Role.USER, parts=(Part(text="0"),))
    request = SendMessageRequest(message=message, configuration=SendMessageConfiguration(return_immediately=True))
    first = await operations.send(Caller(idempotency_key="one"), served, request)

    again = await operations.send(Caller(idempotency_key="one"), served, request)
    with pytest.raises(UnavailableError, match="nothing was written"):
        await operations.send(Caller(idempotency_key="two"), served, request)

    assert again.task_id == first.task_id


async def test_without_a_limit_nobody_asks_for_the_depth(
    serve_with: ServeWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = await serve_with(busy, queue_limit=0)
    asked: list[str] = []
    monkeypatch.setattr(type(stack.log), "queue_depth", lambda _, name: asked.append(name))

    await submit(stack.calls, 3)

    assert not asked


async def test_a_task_whose_agent_has_no_worker_says_so_until_one_comes(
    serve_with: ServeWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "AGENT_HEARTBEAT_SECONDS", 0.4)
    monkeypatch.setattr("a2a_events.runtime.demand.FRESH_SECONDS", 0.2)
    stack = await serve_with(busy)
    worker = await stack.worker()
    assert (await stack.calls.send_task("0")).status.state is TaskState.COMPLETED
    await worker.stop()
    sent = await stack.calls.send_task("0", immediately=True)

    async def said() -> str:
        message = (await stack.calls.get(sent.id)).status.message
        return "" if message is None else text_of(message)

    text = await eventually(said, timeout_seconds=20, what="word of the missing worker")
    assert text.startswith("No worker of agent 'busy' has been there since 2")
    assert text.endswith("The task is kept, and runs when a worker comes.")
    again = await stack.calls.send_task("0", immediately=True)
    assert again.status.state is TaskState.SUBMITTED
    assert again.status.message is not None
    assert await stack.kinds(sent.id) == await stack.kinds(again.id) == "s"

    await stack.worker()
    await all_end(stack.calls, [sent.id, again.id], 20)
    assert (await stack.calls.get(sent.id)).status.message is None

    async def not_said() -> bool:
        return (await stack.calls.send_task("0", immediately=True)).status.message is None

    await eventually(not_said, what="a task that says nothing")
