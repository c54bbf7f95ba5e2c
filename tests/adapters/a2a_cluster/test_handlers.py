"""Two handlers of a2a-sdk over one place for tasks: what works at any replica, and what is in a2a-sdk's own hands.

Where ours and a2a-sdk's own stores differ, a test says so for both; docs/adapters/a2a-sdk-cluster.md has the table.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.types import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    Message,
    Role,
    SubscribeToTaskRequest,
    Task,
    TaskArtifactUpdateEvent,
    TaskPushNotificationConfig,
    TaskState,
    TaskStatusUpdateEvent,
)
from a2a.utils.errors import A2AError, TaskNotCancelableError, TaskNotFoundError, UnsupportedOperationError

from a2a_events.testing import eventually
from tests.adapters.a2a_cluster.replicas import (
    ALICE,
    BOB,
    Agent,
    Completing,
    Curious,
    Held,
    Replica,
    Ticking,
    asking,
)

Pair = tuple[Replica, Replica]
Handlers = Callable[..., tuple[DefaultRequestHandler, DefaultRequestHandler]]
WAIT_SECONDS = 20


@pytest.fixture
async def serve() -> AsyncIterator[Handlers]:
    """Two servers' handlers on a pair of replicas."""
    async with AsyncExitStack() as exits:

        def serving(
            pair: Pair, first: AgentExecutor, second: AgentExecutor | None = None, **given: Any
        ) -> tuple[DefaultRequestHandler, DefaultRequestHandler]:
            made = pair[0].handler(first, **given), pair[1].handler(second or first, **given)
            for handler in made:
                exits.push_async_callback(handler.aclose)
            return made

        yield serving


async def first_of(stream: Any) -> tuple[Task, asyncio.Task[list[Any]]]:
    """The task that a stream begins with, and the rest of it, read beside the test."""
    async with asyncio.timeout(WAIT_SECONDS):
        task = await anext(stream)
    assert isinstance(task, Task)

    async def rest() -> list[Any]:
        return [event async for event in stream]

    return task, asyncio.create_task(rest())


async def seen(stream: Any) -> list[Any]:
    async with asyncio.timeout(WAIT_SECONDS):
        return [event async for event in stream]


async def working(agent: Held | Ticking, replica: Replica, task: Task) -> None:
    """The agent works, and that is stored."""
    await asyncio.wait_for(agent.working.wait(), WAIT_SECONDS)

    async def shown() -> bool:
        found = await replica.store.get(task.id, ALICE)
        return found is not None and found.task.status.state == TaskState.TASK_STATE_WORKING

    await eventually(shown)


def states(events: list[Any]) -> list[str]:
    return [
        TaskState.Name(event.status.state).removeprefix("TASK_STATE_")
        for event in events
        if isinstance(event, Task | TaskStatusUpdateEvent)
    ]


def texts(events: list[Any]) -> list[str]:
    return [event.artifact.parts[0].text for event in events if isinstance(event, TaskArtifactUpdateEvent)]


# --- on any stores ---------------------------------------------------------------------------------------------------


async def test_a_task_is_read_at_the_other_replica(pair: Pair, serve: Handlers) -> None:
    one, other = serve(pair, Completing())
    task = await one.on_message_send(asking("go"), ALICE)
    assert isinstance(task, Task)

    assert await other.on_get_task(GetTaskRequest(id=task.id), ALICE) == task
    with pytest.raises(TaskNotFoundError):
        await other.on_get_task(GetTaskRequest(id=task.id), BOB)


async def test_a_stream_is_followed_at_the_other_replica_to_its_end(pair: Pair, serve: Handlers) -> None:
    agent = Held()
    one, other = serve(pair, agent)
    task, rest = await first_of(one.on_message_send_stream(asking("go"), ALICE))
    await working(agent, pair[1], task)
    elsewhere = other.on_subscribe_to_task(SubscribeToTaskRequest(id=task.id), ALICE)
    snapshot, following = await first_of(elsewhere)
    agent.go_on.set()

    got = await asyncio.wait_for(following, WAIT_SECONDS)

    assert snapshot.id == task.id
    assert texts(got) == ["0", "1", "2"]
    assert states(got)[-1] == "COMPLETED"
    assert texts(await rest) == ["0", "1", "2"]


async def test_a_task_that_has_ended_cannot_be_subscribed_to_anywhere(pair: Pair, serve: Handlers) -> None:
    one, other = serve(pair, Completing())
    task = await one.on_message_send(asking("go"), ALICE)
    assert isinstance(task, Task)

    for handler in (one, other):
        with pytest.raises(UnsupportedOperationError, match="terminal state"):
            await seen(handler.on_subscribe_to_task(SubscribeToTaskRequest(id=task.id), ALICE))


async def test_turns_may_alternate_between_replicas(pair: Pair, serve: Handlers) -> None:
    one, other = serve(pair, Curious())
    task = await one.on_message_send(asking("1", "m-1"), ALICE)
    assert isinstance(task, Task)
    assert states([task]) == ["INPUT_REQUIRED"]
    ids = {"task_id": task.id, "context_id": task.context_id}

    second = await other.on_message_send(asking("2", "m-2", **ids), ALICE)
    third = await one.on_message_send(asking("3", "m-3", **ids), ALICE)

    assert states([second, third]) == ["INPUT_REQUIRED", "COMPLETED"]
    assert isinstance(third, Task)
    assert [m.message_id for m in third.history if m.role == Role.ROLE_USER] == ["m-1", "m-2", "m-3"]


async def test_messages_that_race_at_two_replicas_are_not_lost(ours: Pair, serve: Handlers) -> None:
    one, other = serve(ours, Curious())
    task = await one.on_message_send(asking("1", "m-1"), ALICE)
    assert isinstance(task, Task)
    ids = {"task_id": task.id, "context_id": task.context_id}

    results = await asyncio.gather(
        one.on_message_send(asking("2", "m-2", **ids), ALICE),
        other.on_message_send(asking("3", "m-3", **ids), ALICE),
        return_exceptions=True,
    )

    assert all(not isinstance(r, BaseException) or isinstance(r, A2AError) for r in results)
    found = await ours[0].store.get(task.id, ALICE)
    assert found is not None
    assert {m.message_id for m in found.task.history if m.role == Role.ROLE_USER} == {"m-1", "m-2", "m-3"}


async def test_a_cancel_at_the_other_replica_stops_the_agent_at_its_next_report(ours: Pair, serve: Handlers) -> None:
    agent = Ticking()
    one, other = serve(ours, agent)
    task, rest = await first_of(one.on_message_send_stream(asking("go"), ALICE))
    await working(agent, ours[1], task)

    canceled = await other.on_cancel_task(CancelTaskRequest(id=task.id), ALICE)

    assert canceled is not None
    assert states([canceled]) == ["CANCELED"]
    await asyncio.wait_for(agent.stopped.wait(), WAIT_SECONDS)
    assert states(await asyncio.wait_for(rest, WAIT_SECONDS))[-1] == "CANCELED"
    with pytest.raises(TaskNotCancelableError):
        await other.on_cancel_task(CancelTaskRequest(id=task.id), ALICE)


async def test_what_is_not_there_or_has_ended_cannot_be_canceled(pair: Pair, serve: Handlers) -> None:
    one, other = serve(pair, Completing())
    task = await one.on_message_send(asking("go"), ALICE)
    assert isinstance(task, Task)

    with pytest.raises(TaskNotCancelableError):
        await other.on_cancel_task(CancelTaskRequest(id=task.id), ALICE)
    for asked, context in (("nope", ALICE), (task.id, BOB)):
        with pytest.raises(TaskNotFoundError):
            await other.on_cancel_task(CancelTaskRequest(id=asked), context)


async def test_an_agent_that_raises_leaves_a_failed_task_behind(pair: Pair, serve: Handlers) -> None:
    class Broken(Agent):
        async def act(self, context: Any, updater: Any) -> None:
            await updater.start_work()
            raise ValueError("broken")

    one, other = serve(pair, Broken())
    task, rest = await first_of(one.on_message_send_stream(asking("go"), ALICE))
    with suppress(ValueError, A2AError):
        await asyncio.wait_for(rest, WAIT_SECONDS)

    found = await other.on_get_task(GetTaskRequest(id=task.id), ALICE)
    assert states([found]) == ["FAILED"]


# --- where stores differ ---------------------------------------------------------------------------------------------


async def test_a_stream_elsewhere_goes_on_when_a_client_answers(
    pair: Pair, serve: Handlers, request: pytest.FixtureRequest
) -> None:
    """On a2a-sdk's own stores it ends with the answer, which they show as a Task that still waits for input."""
    one, other = serve(pair, Curious())
    task = await one.on_message_send(asking("1", "m-1"), ALICE)
    assert isinstance(task, Task)
    ids = {"task_id": task.id, "context_id": task.context_id}
    await one.on_message_send(asking("2", "m-2", **ids), ALICE)
    _, following = await first_of(other.on_subscribe_to_task(SubscribeToTaskRequest(id=task.id), ALICE))

    await one.on_message_send(asking("3", "m-3", **ids), ALICE)

    got = states(await asyncio.wait_for(following, WAIT_SECONDS))
    database = "database" in request.node.callspec.id
    assert got == (["INPUT_REQUIRED"] if database else ["WORKING", "COMPLETED"])


async def test_an_answer_that_names_no_context_gets_the_task_s(ours: Pair, serve: Handlers) -> None:
    agent = Curious()
    one, other = serve(ours, agent)
    with_context = ours[1].handler(agent, request_context_builder=ours[1].builder)
    task = await one.on_message_send(asking("1", "m-1"), ALICE)
    assert isinstance(task, Task)

    answered = await with_context.on_message_send(asking("2", "m-2", task_id=task.id), ALICE)

    assert isinstance(answered, Task)
    assert answered.context_id == task.context_id
    await with_context.aclose()
    # a2a-sdk's own builder invents a context, and its handler fails the task for it, whatever the stores
    with suppress(A2AError):
        await other.on_message_send(asking("3", "m-3", task_id=task.id), ALICE)
    found = await one.on_get_task(GetTaskRequest(id=task.id), ALICE)
    assert states([found]) == ["FAILED"]


async def test_webhooks_that_come_and_go_are_no_conflict_for_the_agent(ours: Pair, serve: Handlers) -> None:
    agent = Held()
    one, _ = serve(ours, agent)
    task, rest = await first_of(one.on_message_send_stream(asking("go"), ALICE))
    await working(agent, ours[1], task)
    push = ours[1].push
    assert push is not None
    for number in range(3):
        await push.set_info(task.id, TaskPushNotificationConfig(id=f"c-{number}", url="http://127.0.0.1:1"), ALICE)
    agent.go_on.set()

    assert states(await asyncio.wait_for(rest, WAIT_SECONDS))[-1] == "COMPLETED"


async def test_an_answer_without_a_task_is_recorded(ours: Pair, serve: Handlers) -> None:
    class Short(Agent):
        async def execute(self, context: Any, event_queue: Any) -> None:
            await event_queue.enqueue_event(
                Message(message_id="a-1", role=Role.ROLE_AGENT, context_id=context.context_id)
            )

    one, other = serve(ours, Short())
    answer = await one.on_message_send(asking("go"), ALICE)

    assert isinstance(answer, Message)
    assert not (await other.task_store.list(ListTasksRequest(), ALICE)).tasks


# --- what no store can mend ------------------------------------------------------------------------------------------


async def test_a_message_to_a_task_that_another_replica_runs_runs_a_second_agent(pair: Pair, serve: Handlers) -> None:
    first, second = Held(), Held()
    one, other = serve(pair, first, second)
    task, rest = await first_of(one.on_message_send_stream(asking("1", "m-1"), ALICE))
    await working(first, pair[1], task)
    more = asking("2", "m-2", task_id=task.id, context_id=task.context_id)
    answering = asyncio.create_task(other.on_message_send(more, ALICE))

    await asyncio.wait_for(second.working.wait(), WAIT_SECONDS)

    assert not first.go_on.is_set()
    first.go_on.set()
    second.go_on.set()
    await asyncio.gather(rest, answering, return_exceptions=True)


async def test_an_agent_that_reports_nothing_does_not_hear_of_a_cancel_elsewhere(pair: Pair, serve: Handlers) -> None:
    class Deaf(Held):
        canceled = False

        async def cancel(self, context: Any, event_queue: Any) -> None:
            self.canceled = True

    agent = Deaf()
    one, other = serve(pair, agent)
    task, rest = await first_of(one.on_message_send_stream(asking("go"), ALICE))
    await working(agent, pair[1], task)
    await other.on_cancel_task(CancelTaskRequest(id=task.id), ALICE)

    assert not agent.canceled
    assert not rest.done()
    agent.go_on.set()  # its next report finds out
    assert states(await asyncio.wait_for(rest, WAIT_SECONDS))[-1] == "CANCELED"
    assert not agent.canceled


async def test_a_task_whose_server_is_gone_waits_until_somebody_cancels_it(pair: Pair, serve: Handlers) -> None:
    agent = Held()
    one, other = serve(pair, agent)
    task, rest = await first_of(one.on_message_send_stream(asking("go"), ALICE))
    await working(agent, pair[1], task)
    rest.cancel()
    await one.aclose()

    found = await other.on_get_task(GetTaskRequest(id=task.id), ALICE)
    assert states([found]) == ["WORKING"]
    _, following = await first_of(other.on_subscribe_to_task(SubscribeToTaskRequest(id=task.id), ALICE))
    await other.on_cancel_task(CancelTaskRequest(id=task.id), ALICE)
    assert states(await asyncio.wait_for(following, WAIT_SECONDS)) == ["CANCELED"]
