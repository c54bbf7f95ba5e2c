"""An unmodified agent of pydantic-ai in a worker of ours: what clients see of it, and what its context remembers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import (
    Agent,
    BinaryContent,
    DeferredToolRequests,
    ImageUrl,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    RunContext,
    TextPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import ExternalToolset

from a2a_events import Part, Task, TaskState, Turn
from a2a_events.adapters.pydantic_ai import agent_of
from a2a_events.adapters.recognise import recognise
from a2a_events.testing import eventually
from a2a_events.timeline.decide import RERUN, RESUME
from a2a_events.timeline.events import Step
from tests.integration.stack import Accumulated, Stack, stack_of, states, text_of

ServeOf = Callable[..., Awaitable[Stack]]


@pytest.fixture(params=["memory", pytest.param("jetstream", marks=pytest.mark.integration)])
async def serve(request: pytest.FixtureRequest, nats_url: str, namespace: str) -> AsyncIterator[ServeOf]:
    """Serve an agent of pydantic-ai over each kind of log."""
    async with AsyncExitStack() as exits:

        async def served(agent: Any, **given: Any) -> Stack:
            made = agent_of(agent, **given)
            return await exits.enter_async_context(stack_of(request.param, made, nats_url, namespace))

        yield served


class Prompter:
    """A model that streams, and tells its test what it was given. Each piece waits for the test, if that wants it."""

    def __init__(self, *, gated: bool = False) -> None:
        self.histories: list[list[ModelMessage]] = []
        self.gate = asyncio.Semaphore(0 if gated else 10_000)
        self.canceled = asyncio.Event()
        self.model = FunctionModel(stream_function=self.stream)

    async def stream(self, messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[str]:
        self.histories.append(list(messages))
        try:
            for word in ("you", " said", f" {said(messages)[-1]}"):
                await self.gate.acquire()
                yield word
        except asyncio.CancelledError:
            self.canceled.set()
            raise


def said(messages: list[ModelMessage]) -> list[str]:
    """What users and model have said, in order."""
    parts = [part for message in messages for part in message.parts]
    return [
        part.content if isinstance(part.content, str) else "(files)"
        for part in parts
        if isinstance(part, UserPromptPart | TextPart)
    ]


def result_of(task: Task) -> str:
    (artifact,) = task.artifacts
    (part,) = artifact.parts
    assert isinstance(part.text, str)
    return part.text


# --- what clients see -------------------------------------------------------------------------------------------------


async def test_text_reaches_the_client_while_the_model_writes_and_ends_as_one_part(serve: ServeOf) -> None:
    model = Prompter(gated=True)
    stack = await serve(Agent(model.model))
    await stack.worker()
    task_id = ""
    pieces: list[tuple[str, bool]] = []
    state: TaskState | None = None
    async for update in stack.calls.stream("hello"):
        if update.task is not None:
            model.gate.release()
        if update.artifact_update is not None:
            chunk = update.artifact_update
            pieces += [(str(part.text), chunk.append) for part in chunk.artifact.parts]
            model.gate.release()  # only now: had the client not seen this one the next would never come
        if update.status_update is not None:
            state = update.status_update.status.state
            task_id = update.status_update.task_id

    assert state is TaskState.COMPLETED
    assert pieces == [("you", False), (" said", True), (" hello", True), ("you said hello", False)]
    assert result_of(await stack.other.get(task_id)) == "you said hello"


class City(BaseModel):
    name: str
    people: int


async def test_a_structured_answer_is_a_data_part_with_the_schema_of_its_type(serve: ServeOf) -> None:
    stack = await serve(Agent(TestModel(custom_output_args={"name": "Bern", "people": 137_000}), output_type=City))
    await stack.worker()
    task = await stack.calls.send_task("where?")
    (artifact,) = task.artifacts
    (part,) = artifact.parts

    assert artifact.name == "result"
    assert part.data == {"result": {"name": "Bern", "people": 137_000}}
    assert part.metadata == {"json_schema": City.model_json_schema(mode="serialization")}


async def test_a_model_that_cannot_stream_answers_in_one_piece_every_time(serve: ServeOf) -> None:
    asked = 0

    def answer(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        nonlocal asked
        asked += 1
        return ModelResponse(parts=[TextPart(f"{said(messages)[-1]}, {asked}")])

    stack = await serve(Agent(FunctionModel(answer)))
    await stack.worker()

    assert result_of(await stack.calls.send_task("one")) == "one, 1"
    assert result_of(await stack.calls.send_task("two")) == "two, 2"


async def test_an_error_of_a_model_that_has_begun_is_no_reason_to_ask_it_again(serve: ServeOf) -> None:
    asked = 0

    async def breaks(_messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[str]:
        nonlocal asked
        asked += 1
        yield "well, "
        raise NotImplementedError("the rest")

    stack = await serve(Agent(FunctionModel(stream_function=breaks)))
    await stack.worker()
    task = await stack.calls.send_task("go")

    assert task.status.state is TaskState.FAILED
    assert "NotImplementedError" in text_of(task.status.message)
    assert asked == 1


async def test_tools_run_and_get_the_turn_as_their_dependencies(serve: ServeOf) -> None:
    agent = Agent(TestModel(), deps_type=str)

    @agent.tool
    def whose(ctx: RunContext[str]) -> str:
        """Whose context it is."""
        return ctx.deps

    stack = await serve(agent, deps=lambda turn: turn.context_id)
    await stack.worker()
    task = await stack.calls.send_task("whose?", context_id="ours")

    assert json.loads(result_of(task)) == {"whose": "ours"}


async def test_files_and_data_reach_the_model(serve: ServeOf) -> None:
    model = Prompter()

    async def told(messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[str]:
        model.histories.append(messages)
        yield "seen"

    stack = await serve(Agent(FunctionModel(stream_function=told)))
    await stack.worker()
    await stack.calls.send_task(
        [
            Part(text="look"),
            Part(raw=b"\x89\xff", media_type="image/png"),
            Part(url="https://example.com/cat.jpg"),
            Part(data={"limit": 3}),
        ],
        context_id="files",
    )
    again = await stack.calls.send_task("again", context_id="files")
    first = model.histories[-1][0]
    assert isinstance(first, ModelRequest)
    (prompt,) = first.parts
    assert isinstance(prompt, UserPromptPart)
    look, picture, cat, data = list(prompt.content)

    assert (look, data) == ("look", '{"limit":3}')
    assert isinstance(picture, BinaryContent)
    assert (picture.data, picture.media_type) == (b"\x89\xff", "image/png")
    assert isinstance(cat, ImageUrl)
    assert result_of(again) == "seen"


async def test_a_cancel_stops_the_run(serve: ServeOf) -> None:
    model = Prompter(gated=True)
    stack = await serve(Agent(model.model))
    await stack.worker()
    task = await stack.calls.send_task("hello", immediately=True, context_id="talk")
    model.gate.release()
    async for update in stack.calls.subscribe(task.id):
        if update.artifact_update is not None or (update.task is not None and update.task.artifacts):
            break
    canceled = await stack.other.cancel(task.id)
    await asyncio.wait_for(model.canceled.wait(), 10)
    model.gate.release()
    model.gate.release()
    model.gate.release()
    await stack.calls.send_task("and now?", context_id="talk")

    assert canceled.status.state is TaskState.CANCELED
    assert said(model.histories[-1]) == ["and now?"]  # what was canceled is not remembered


# --- what the context remembers ---------------------------------------------------------------------------------------


async def test_the_next_task_of_a_context_knows_the_last_whichever_worker_has_it(serve: ServeOf) -> None:
    model = Prompter()
    stack = await serve(Agent(model.model, instructions="be brief"))
    first = await stack.worker()
    one = await stack.calls.send_task("one", context_id="talk")
    await first.stop()
    await stack.worker()
    two = await stack.other.send_task("two", context_id="talk")
    await stack.calls.send_task("alone")
    three = await stack.calls.send_task("three", context_id="talk")

    assert [result_of(task) for task in (one, two, three)] == ["you said one", "you said two", "you said three"]
    assert [said(history) for history in model.histories] == [
        ["one"],
        ["one", "you said one", "two"],
        ["alone"],
        ["one", "you said one", "two", "you said two", "three"],
    ]


async def test_a_context_id_of_another_tenant_is_another_context(serve: ServeOf) -> None:
    model = Prompter()
    stack = await serve(Agent(model.model))
    await stack.worker()
    await stack.calls_of("acme").send_task("secret", context_id="talk")
    await stack.calls_of("globex").send_task("hello", context_id="talk")

    assert said(model.histories[-1]) == ["hello"]


async def test_two_tasks_of_a_context_at_once_are_both_remembered(serve: ServeOf) -> None:
    model = Prompter(gated=True)
    stack = await serve(Agent(model.model))
    await stack.worker()
    await stack.worker()
    tasks = [asyncio.create_task(stack.calls.send_task(text, context_id="talk")) for text in ("one", "two")]
    await eventually(lambda: len(model.histories) == 2, what="both runs")
    for _ in range(9):
        model.gate.release()
    await asyncio.gather(*tasks)
    await stack.calls.send_task("three", context_id="talk")
    *before, last = said(model.histories[-1])

    assert last == "three"
    assert {tuple(before[:2]), tuple(before[2:])} == {("one", "you said one"), ("two", "you said two")}


async def test_a_task_s_timeline_holds_what_the_model_was_given_and_has_said(serve: ServeOf) -> None:
    model = Prompter()
    stack = await serve(Agent(model.model))
    await stack.worker()
    await stack.calls.send_task("one", context_id="talk")
    task = await stack.calls.send_task("two", context_id="talk")
    steps = {
        event.name: json.loads(bytes(event.result))
        for record in await stack.records(task.id)
        for event in record.events()
        if isinstance(event, Step)
    }

    assert list(steps) == ["history", "run"]
    assert [part["content"] for m in steps["history"]["messages"] for part in m["parts"]] == ["one", "you said one"]
    assert [part["content"] for m in steps["run"]["messages"] for part in m["parts"]] == ["two", "you said two"]


@pytest.mark.parametrize("policy", [RERUN, RESUME])
async def test_a_worker_that_dies_in_mid_answer_leaves_no_trace_in_the_answer_or_the_context(
    serve: ServeOf, policy: str
) -> None:
    model = Prompter(gated=True)
    stack = await serve(Agent(model.model), policy=policy)
    first = await stack.worker()
    task = await stack.calls.send_task("hello", immediately=True, context_id="talk")
    model.gate.release()
    async for update in stack.calls.subscribe(task.id):
        if update.artifact_update is not None or (update.task is not None and update.task.artifacts):
            break
    await first.vanish()
    for _ in range(10):
        model.gate.release()
    await stack.worker()
    seen = [update async for update in stack.calls.subscribe(task.id)]
    ended = await stack.calls.get(task.id)
    await stack.calls.send_task("and now?", context_id="talk")
    client = Accumulated()
    for update in seen:
        client.take(update)
        for parts in client.artifacts.values():
            assert "you said hello".startswith("".join(str(part.text) for part in parts))

    assert states(seen)[-1] is TaskState.COMPLETED
    assert result_of(ended) == "you said hello"
    assert len(model.histories) == 3
    assert said(model.histories[-1]) == ["hello", "you said hello", "and now?"]


async def test_a_run_that_was_recorded_is_not_paid_for_again(serve: ServeOf, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Prompter()
    stack = await serve(Agent(model.model), policy=RERUN)
    failures = iter([True])
    remember = Turn.remember

    async def fails_once(turn: Turn, *steps: str, since: int) -> bool:
        if await remember(turn, *steps, since=since) and next(failures, False):
            raise RuntimeError("the worker breaks just now")
        return True

    monkeypatch.setattr(Turn, "remember", fails_once)
    await stack.worker()
    task = await stack.calls.send_task("hello", context_id="talk")
    await stack.calls.send_task("and now?", context_id="talk")

    assert result_of(task) == "you said hello"
    assert [said(history) for history in model.histories] == [
        ["hello"],
        ["hello", "you said hello", "and now?"],
    ]


# --- tools that wait --------------------------------------------------------------------------------------------------


class Deleter:
    """An agent whose tool needs approval, and what it has deleted."""

    def __init__(self) -> None:
        self.deleted: list[str] = []
        self.agent = Agent(FunctionModel(stream_function=self.stream), output_type=[str, DeferredToolRequests])
        self.agent.tool_plain(requires_approval=True)(self.delete)

    def delete(self, path: str) -> str:
        """Delete a file."""
        self.deleted.append(path)
        return "gone"

    async def stream(self, messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
        newest = messages[-1]
        returned = [str(part.content) for part in newest.parts if part.part_kind == "tool-return"]
        if returned:
            prompts = [part.content for part in newest.parts if isinstance(part, UserPromptPart)]
            yield f"{returned[0]}{prompts or ''}"
        else:
            yield {0: DeltaToolCall(name="delete", json_args='{"path": "a.txt"}', tool_call_id="call-1")}


async def test_a_tool_that_needs_approval_asks_the_client_and_runs_once_it_has_it(serve: ServeOf) -> None:
    deleter = Deleter()
    stack = await serve(deleter.agent)
    worker = await stack.worker()
    task = await stack.calls.send_task("delete a.txt")
    assert task.status.state is TaskState.INPUT_REQUIRED
    assert task.status.message is not None
    words, question = task.status.message.parts
    assert words.text == "The agent waits for approval: delete"
    assert question.data == {
        "approvals": [{"tool_call_id": "call-1", "tool_name": "delete", "args": {"path": "a.txt"}}]
    }
    assert deleter.deleted == []

    await worker.stop()
    await stack.worker()
    malformed = await stack.calls.send_task({"approvals": {"call-1": "sure"}}, task_id=task.id)
    assert malformed.status.state is TaskState.INPUT_REQUIRED
    assert "The answer is a data part like" in text_of(malformed.status.message)
    assert deleter.deleted == []

    ended = await stack.calls.send_task({"approvals": {"call-1": True}}, task_id=task.id)
    assert (ended.status.state, deleter.deleted) == (TaskState.COMPLETED, ["a.txt"])
    assert result_of(ended) == "gone"


async def test_who_answers_with_a_message_instead_has_not_approved(serve: ServeOf) -> None:
    deleter = Deleter()
    stack = await serve(deleter.agent)
    await stack.worker()
    task = await stack.calls.send_task("delete a.txt")
    ended = await stack.calls.send_task("no, keep it", task_id=task.id)

    assert (ended.status.state, deleter.deleted) == (TaskState.COMPLETED, [])
    assert "was not approved" in result_of(ended)
    assert "no, keep it" in result_of(ended)


async def test_a_question_that_the_conversation_has_passed_by_is_answered_with_no(serve: ServeOf) -> None:
    deleter = Deleter()
    stack = await serve(deleter.agent)
    await stack.worker()
    asked = await stack.calls.send_task("delete a.txt", context_id="talk")
    other = await stack.calls.send_task("forget it", context_id="talk")
    late = await stack.calls.send_task({"approvals": {"call-1": True}}, task_id=asked.id)

    assert "was not approved" in result_of(other)
    assert (late.status.state, deleter.deleted) == (TaskState.INPUT_REQUIRED, [])  # it asks anew


async def test_a_tool_whose_result_the_client_brings(serve: ServeOf) -> None:
    deleter = Deleter()
    deleter.agent = Agent(
        FunctionModel(stream_function=deleter.stream),
        output_type=[str, DeferredToolRequests],
        toolsets=[ExternalToolset([ToolDefinition(name="delete", parameters_json_schema={"type": "object"})])],
    )
    stack = await serve(deleter.agent)
    await stack.worker()
    task = await stack.calls.send_task("delete a.txt")
    assert task.status.message is not None
    words, question = task.status.message.parts
    ended = await stack.calls.send_task({"calls": {"call-1": "gone by hand"}}, task_id=task.id)

    assert words.text == "The agent waits for a result: delete"
    assert question.data == {"calls": [{"tool_call_id": "call-1", "tool_name": "delete", "args": {"path": "a.txt"}}]}
    assert result_of(ended) == "gone by hand"


# --- how it is declared -----------------------------------------------------------------------------------------------


def test_an_agent_is_recognised_and_named_after_itself() -> None:
    agent = Agent(TestModel(), name="Weather, for all of Europe!", description="Tells the weather.")
    made = recognise(agent)

    assert made is not None
    assert (made.name, made.card.description) == ("Weather-for-all-of-Europe", "Tells the weather.")
    assert agent_of(Agent(TestModel())).name == "agent"
    assert agent_of(agent, name="weather", policy=RERUN, version="2.0.0").card.version == "2.0.0"
    with pytest.raises(TypeError, match="expected an agent of pydantic-ai"):
        agent_of(TestModel())
