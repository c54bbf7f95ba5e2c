"""The client against the official SDK's server, over both bindings: a server without cursors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from a2a_events.client import Client, Updates, accumulate
from a2a_events.client.endpoint import BindingName
from a2a_events.errors import (
    InvalidParamsError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from a2a_events.model import Message, Part, Role, Task, TaskState
from tests.client.conftest import QUICK
from tests.client.official import CHUNKS, Agent, official
from tests.client.serving import PATIENCE_SECONDS, dead, wire_to

pytestmark = pytest.mark.interop


@pytest.fixture
def agent() -> Agent:
    return Agent()


@pytest.fixture
async def url(agent: Agent) -> AsyncIterator[str]:
    async with official(agent) as served:
        yield served


@pytest.fixture(params=["JSONRPC", "HTTP+JSON"])
async def client(request: pytest.FixtureRequest, url: str) -> AsyncIterator[Client]:
    async with Client(url, binding=request.param, retry=QUICK) as made:
        yield made


@pytest.fixture(autouse=True)
async def bounded() -> AsyncIterator[None]:
    async with asyncio.timeout(3 * PATIENCE_SECONDS):
        yield


def _artifact(task: Task) -> list[object]:
    return [part.text for artifact in task.artifacts for part in artifact.parts]


async def _follow(updates: Updates) -> tuple[Task | None, list[TaskState | None]]:
    task, states = None, []
    async for update in updates:
        assert update.cursor is None
        task = accumulate(task, update.response)
        states.append(update.state)
    return task, states


async def test_a_blocking_message_gives_the_task_when_it_has_ended(client: Client) -> None:
    task = await client.send("chunks")
    assert isinstance(task, Task)
    assert TaskState.COMPLETED is task.status.state
    assert [str(number) for number in range(CHUNKS)] == _artifact(task)


async def test_an_agent_may_reply_without_a_task(client: Client) -> None:
    reply = await client.send("reply")
    assert isinstance(reply, Message)
    async with client.stream("reply") as updates:
        assert ["reply"] == [update.message.message_id async for update in updates if update.message]


async def test_updates_add_up_to_the_task(client: Client) -> None:
    async with client.stream("chunks") as updates:
        task, states = await _follow(updates)
        assert updates.task_id is not None
        stored = await client.get(updates.task_id)
    assert task is not None
    assert (TaskState.SUBMITTED, TaskState.COMPLETED) == (states[0], states[-1])
    assert stored.artifacts == task.artifacts
    assert stored.status.state is task.status.state


async def test_a_task_is_followed_while_it_waits_and_canceled(client: Client) -> None:
    task = await client.send("wait", return_immediately=True)
    assert isinstance(task, Task)
    async with client.subscribe(task.id) as updates:
        assert (await anext(updates)).task is not None
        canceled = await client.cancel(task.id)
        assert TaskState.CANCELED is canceled.status.state
        states = [update.state async for update in updates]
    assert TaskState.CANCELED is states[-1]


async def test_a_question_ends_the_stream_and_an_answer_goes_on(client: Client) -> None:
    async with client.stream("ask") as updates:
        task, states = await _follow(updates)
    assert task is not None
    assert TaskState.INPUT_REQUIRED is states[-1]
    async with client.stream("chunks", task_id=task.id, context_id=task.context_id) as updates:
        _, states = await _follow(updates)
        assert task.id == updates.task_id
    assert TaskState.COMPLETED is states[-1]


async def test_history_is_as_long_as_asked_for(client: Client) -> None:
    task = await client.send("chunks")
    assert isinstance(task, Task)
    assert () == (await client.get(task.id, history_length=0)).history
    assert 1 == len((await client.get(task.id, history_length=1)).history)


@pytest.mark.parametrize(("path", "binding"), [("/rpc", "JSONRPC"), ("", "HTTP+JSON")])
async def test_a_broken_connection_is_bridged_by_a_task(
    url: str, agent: Agent, path: str, binding: BindingName
) -> None:
    task, bridged = None, 0
    async with (
        wire_to(url) as (detour, wire),
        Client.at(f"{detour}{path}", binding, retry=QUICK) as through,
        through.stream("wait") as updates,
    ):
        async for update in updates:
            task = accumulate(task, update.response)
            if update.resynchronised:
                assert update.task is not None
                bridged += 1
                agent.go.set()
            elif len(_artifact(task)) == CHUNKS // 2 and not agent.go.is_set():
                wire.cut()
    assert 1 == bridged
    assert task is not None
    assert TaskState.COMPLETED is task.status.state
    assert [str(number) for number in range(CHUNKS)] == _artifact(task)


async def test_a_task_that_ended_during_the_break_is_the_last_update(url: str, agent: Agent) -> None:
    async with (
        wire_to(url) as (detour, wire),
        Client(url) as direct,
        Client.at(detour, "HTTP+JSON", retry=QUICK) as through,
        through.stream("wait") as updates,
    ):
        first = await anext(updates)
        assert first.task is not None
        async with direct.subscribe(first.task.id) as watched:
            wire.cut()
            agent.go.set()
            await _follow(watched)
        rest = [update async for update in updates]
    assert rest[-1].task is not None
    assert (True, TaskState.COMPLETED) == (rest[-1].resynchronised, rest[-1].state)


async def test_a_dead_gateway_is_passed_over(url: str) -> None:
    with dead() as gone:
        async with Client([gone, url], retry=QUICK) as client:
            assert isinstance(await client.send("chunks"), Task)


async def test_errors_have_the_classes_of_the_protocol(client: Client) -> None:
    with pytest.raises(TaskNotFoundError):
        await client.get("nobody")
    with pytest.raises(TaskNotFoundError):
        await client.cancel("nobody")
    with pytest.raises(TaskNotFoundError):
        await client.subscribe("nobody").__aenter__()
    with pytest.raises(TaskNotFoundError):
        await client.stream("chunks", task_id="nobody").__aenter__()
    with pytest.raises(InvalidParamsError):
        await client.send(Message(message_id="", role=Role.USER, parts=(Part(text=""),)))
    task = await client.send("chunks")
    assert isinstance(task, Task)
    with pytest.raises(TaskNotCancelableError):
        await client.cancel(task.id)
    with pytest.raises(UnsupportedOperationError):
        await client.subscribe(task.id).__aenter__()


async def test_the_card_is_revalidated(client: Client) -> None:
    card = await client.card()
    assert card is await client.card()
    assert "official" == card.name


async def test_many_streams_at_once_are_kept_apart(client: Client) -> None:
    async def run() -> list[object]:
        async with client.stream("chunks") as updates:
            task, _ = await _follow(updates)
        assert task is not None
        return _artifact(task)

    assert [[str(number) for number in range(CHUNKS)]] * 20 == await asyncio.gather(*(run() for _ in range(20)))
