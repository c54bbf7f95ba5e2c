"""Our client against our gateway, in each version: what the official server cannot show."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from a2a_events.client import REPLAY_EXTENSION, Client, accumulate
from a2a_events.errors import (
    InvalidParamsError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from a2a_events.model import Message, Part, Role, Task, TaskState
from tests.interop.wire import BINDINGS

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]


def saying(**script: Any) -> Message:
    return Message(message_id="m", role=Role.USER, parts=(Part(data={"script": script}),))


@pytest_asyncio.fixture(loop_scope="module", params=BINDINGS)
async def client(url: str, request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    async with Client(url, binding=request.param) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module", params=BINDINGS)
async def older(url: str, request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    async with Client(f"{url}/.well-known/agent.json", binding=request.param) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module", params=BINDINGS)
async def replaying(url: str, request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    async with Client(url, binding=request.param, extensions=[REPLAY_EXTENSION, "urn:unknown"]) as made:
        yield made


async def test_with_the_replay_extension_updates_are_numbered_and_resume_from_any(replaying: Client) -> None:
    async with replaying.stream(saying(chunks=5, delayMs=1)) as updates:
        assert {REPLAY_EXTENSION} == updates.active_extensions
        seen = [update async for update in updates]
        assert updates.task_id is not None
    numbers = [update.revision for update in seen]
    assert None not in numbers
    assert sorted({number or 0 for number in numbers}) == numbers
    told: Task | None = None
    for update in seen:
        told = accumulate(told, update.response)
    assert told is not None
    assert TaskState.COMPLETED is told.status.state
    for place, update in enumerate(seen[:-1]):
        async with replaying.subscribe(updates.task_id, update.cursor) as again:
            assert seen[place + 1 :] == [each async for each in again]


async def test_without_it_updates_have_cursors_and_no_numbers(client: Client) -> None:
    async with client.stream(saying(chunks=1)) as updates:
        seen = [(update.revision, bool(update.cursor)) async for update in updates]
        assert frozenset() == updates.active_extensions
    assert {(None, True)} == set(seen)


async def test_the_list_has_what_was_just_sent_and_comes_in_pages(client: Client) -> None:
    sent = [await client.send(saying(chunks=1), context_id=f"list-{number % 2}") for number in range(5)]
    ids = [task.id for task in sent if isinstance(task, Task)]
    contexts = {task.context_id for task in sent if isinstance(task, Task)}
    assert 2 == len(contexts)
    found = [task async for task in client.tasks(context_id="list-0", page_size=2, include_artifacts=True)]
    mine = [task for task in found if task.id in ids]
    assert set(ids[::2]) == {task.id for task in mine}
    assert all(task.artifacts for task in mine)
    page = await client.list_tasks(context_id="list-1", page_size=1, state=TaskState.COMPLETED)
    assert page.next_page_token
    assert not page.tasks[0].artifacts
    assert [] == [task async for task in client.tasks(context_id="nobody's")]
    with pytest.raises(InvalidParamsError):
        await client.list_tasks(page_token="not one of ours")


async def test_an_agent_without_an_extended_card_says_so(client: Client) -> None:
    with pytest.raises(UnsupportedOperationError):
        await client.extended_card()


async def test_by_a_card_of_0_3_the_same_agent_is_reached_and_every_update_resumed_from(
    older: Client, client: Client
) -> None:
    assert {"0.3"} == {each.protocol_version for each in (await older.card()).supported_interfaces}
    async with older.stream(saying(chunks=3, delayMs=1)) as updates:
        seen = [update async for update in updates]
        assert updates.task_id is not None
    assert TaskState.COMPLETED is seen[-1].state
    for place, update in enumerate(seen[:-1]):
        async with older.subscribe(updates.task_id, update.cursor) as again:
            assert seen[place + 1 :] == [each async for each in again]
    known = await client.get(updates.task_id)
    assert known == await older.get(updates.task_id)


async def test_errors_are_the_same_in_0_3(older: Client) -> None:
    task = await older.send(saying(chunks=1))
    assert isinstance(task, Task)
    with pytest.raises(TaskNotFoundError):
        await older.get("nobody")
    with pytest.raises(TaskNotCancelableError):
        await older.cancel(task.id)
    with pytest.raises(UnsupportedOperationError):
        async with older.subscribe(task.id) as updates:
            await anext(updates)
    with pytest.raises(UnsupportedOperationError):
        async with older.stream("more", task_id=task.id) as updates:
            await anext(updates)


async def test_a_question_is_answered_in_0_3(older: Client) -> None:
    async with older.stream(saying(chunks=2, inputAt=1)) as updates:
        states = [update.state async for update in updates if update.state]
        assert updates.task_id is not None
    assert TaskState.INPUT_REQUIRED is states[-1]
    task = await older.send("go on", task_id=updates.task_id)
    assert isinstance(task, Task)
    assert TaskState.COMPLETED is task.status.state
