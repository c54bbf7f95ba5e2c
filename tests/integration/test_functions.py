"""Functions that know nothing of turns, served as they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import msgspec
import pytest

from a2a_events import Message, Part, Task, TaskState, agent, as_agent
from a2a_events.testing import eventually
from tests.integration.conftest import StackOf
from tests.integration.stack import accumulate, states, text_of


def shout(text: str) -> str:
    """Says it louder."""
    return text.upper()


async def whisper(text: str) -> str:
    return text.lower()


async def words(text: str) -> AsyncIterator[str]:
    for word in text.split():
        yield word
        await asyncio.sleep(0)


def letters(prompt):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 -- nothing says what it takes
    yield from prompt


class Order(msgspec.Struct):
    item: str
    count: int


def order(data: dict[str, Any]) -> Order:
    return Order(item=data["item"], count=2)


def several(message: Message) -> list[Part]:
    return [Part(text=f"{len(message.parts)} parts"), Part(raw=b"\x00")]


def nothing(text) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    pass


@pytest.mark.parametrize(
    ("function", "given", "parts"),
    [
        (shout, "Ada", [Part(text="ADA")]),
        (whisper, "Ada", [Part(text="ada")]),
        (words, "one two three", [Part(text="one"), Part(text="two"), Part(text="three")]),
        (letters, "abc", [Part(text="a"), Part(text="b"), Part(text="c")]),
        (order, {"item": "book"}, [Part(data={"item": "book", "count": 2})]),
        (several, [Part(text="x"), Part(data=1)], [Part(text="2 parts"), Part(raw=b"\x00")]),
        (partial(shout), "Ada", [Part(text="ADA")]),
        (nothing, "Ada", []),
    ],
)
async def test_what_a_function_returns_or_yields_is_the_answer(
    serve: StackOf, function: object, given: Any, parts: list[Part]
) -> None:
    stack = await serve(function)
    await stack.worker()
    task = await stack.calls.send_task(given)
    assert task.status.state is TaskState.COMPLETED
    assert [part for artifact in task.artifacts for part in artifact.parts] == parts
    assert len(task.artifacts) == bool(parts)


async def test_pieces_are_shown_as_they_come_and_the_next_turn_has_an_answer_of_its_own(serve: StackOf) -> None:
    go = asyncio.Event()

    async def waits(text: str) -> AsyncIterator[str]:
        yield text
        await go.wait()
        yield "end"

    stack = await serve(agent(linger_seconds=0)(waits))
    await stack.worker()
    seen = []
    async for update in stack.calls.stream("begin"):
        seen.append(update)
        if update.artifact_update is not None:
            go.set()
    assert states(seen)[-1] is TaskState.COMPLETED
    assert list(accumulate(seen).artifacts.values()) == [(Part(text="begin"), Part(text="end"))]


async def test_what_a_function_raises_fails_the_task_and_the_wrong_kind_of_message_is_refused(serve: StackOf) -> None:
    def divide(data: dict[str, int]) -> float:
        return data["a"] / data["b"]

    stack = await serve(divide)
    await stack.worker()
    assert (await stack.calls.send_task({"a": 3, "b": 2})).artifacts[0].parts[0].data == 1.5
    failed = await stack.calls.send_task({"a": 3, "b": 0})
    assert failed.status.state is TaskState.FAILED
    assert "ZeroDivisionError" in text_of(failed.status.message)
    refused = await stack.calls.send_task("three by two")
    assert refused.status.state is TaskState.REJECTED
    assert "data" in text_of(refused.status.message)


async def test_an_answer_that_json_cannot_hold_fails_the_task(serve: StackOf) -> None:
    def wrong(text: str) -> object:
        return object()

    stack = await serve(wrong)
    await stack.worker()
    task = await stack.calls.send_task("x")
    assert task.status.state is TaskState.FAILED
    assert "TypeError" in text_of(task.status.message)


async def test_a_generator_is_closed_where_it_stands_when_its_task_is_canceled(serve: StackOf) -> None:
    closed = asyncio.Event()

    async def endless(text: str) -> AsyncIterator[str]:
        try:
            while True:
                yield text
                await asyncio.sleep(0.01)
        finally:
            closed.set()

    stack = await serve(endless)
    await stack.worker()
    task = await stack.calls.send_task("x", immediately=True)
    await eventually(lambda: _said_something(stack, task.id))
    assert (await stack.calls.cancel(task.id)).status.state is TaskState.CANCELED
    assert closed.is_set()


async def _said_something(stack: Any, task_id: str) -> bool:
    task: Task = await stack.calls.get(task_id)
    return bool(task.artifacts)


async def test_a_function_that_is_run_anew_replaces_what_it_had_said(serve: StackOf) -> None:
    attempts: list[str] = []

    async def tries(text: str) -> AsyncIterator[str]:
        attempts.append(text)
        yield f"attempt {len(attempts)}"
        if len(attempts) == 1:
            raise ConnectionError

    stack = await serve(agent(policy="rerun")(tries))
    await stack.worker()
    task = await stack.calls.send_task("x")
    assert task.status.state is TaskState.COMPLETED
    assert [artifact.parts for artifact in task.artifacts] == [(Part(text="attempt 2"),)]


def _threaded(text: str) -> Iterator[str]:
    yield text


def test_an_agent_of_a_function_is_named_and_described_by_it() -> None:
    made = as_agent(shout)
    assert (made.name, made.card.description) == ("shout", "Says it louder.")
    assert agent(name="other", policy="rerun")(_threaded).name == "other"
    with pytest.raises(TypeError, match="takes no turn"):
        agent(policy="resume")(shout)
    with pytest.raises(TypeError, match="one argument, the text"):
        as_agent(lambda text, more: text + more)
