"""Unmodified graphs of LangGraph on a real worker, over each kind of log."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any

import msgspec
import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

from a2a_events import Part, Task, TaskState, Turn
from a2a_events.adapters.langgraph import agent_of
from a2a_events.adapters.langgraph.run import NOTEBOOK
from a2a_events.adapters.recognise import recognise
from a2a_events.log.port import Notes
from a2a_events.testing import eventually
from tests.adapters import langgraph_graphs as graphs
from tests.integration.conftest import StackOf
from tests.integration.stack import accumulate, states, text_of

COMPLETED, FAILED, CANCELED = TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELED
INPUT_REQUIRED, REJECTED = TaskState.INPUT_REQUIRED, TaskState.REJECTED


def said(task: Task) -> list[str]:
    """The texts of a task's artifacts."""
    return [
        "".join(str(part.text) for part in artifact.parts) for artifact in task.artifacts if artifact.name != "values"
    ]


def values(task: Task) -> Any:
    """What the graph ended with."""
    (found,) = [artifact.parts[0].data for artifact in task.artifacts if artifact.artifact_id == "values"]
    return found


async def test_what_a_model_says_is_streamed_as_it_comes_and_kept_in_the_thread(serve: StackOf) -> None:
    stack = await serve(agent_of(graphs.slow_talk, linger_seconds=0))
    await stack.worker()
    seen = await stack.calls.collect("one two three")
    chunks = [update.artifact_update for update in seen if update.artifact_update is not None]
    assert [str(part.text) for chunk in chunks for part in chunk.artifact.parts] == ["one ", "two ", "three "]
    assert [chunk.append for chunk in chunks] == [False, True, True]
    assert states(seen)[-1] is COMPLETED
    known = accumulate(seen)
    first = next(update.task for update in seen if update.task is not None)
    task = await stack.other.get(first.id)
    known.assert_equals(task)
    assert said(task) == ["one two three "]
    assert task.artifacts[0].name == "answer"


async def test_the_next_task_of_a_context_goes_on_in_its_thread_on_any_worker(serve: StackOf) -> None:
    heard: list[int] = []

    class State(TypedDict):
        messages: Annotated[list[Any], operator.add]

    def count(state: State) -> dict[str, list[Any]]:
        heard.append(len(state["messages"]))
        return {}

    builder = StateGraph(State)
    builder.add_node("count", count)
    builder.add_edge(START, "count")
    builder.add_edge("count", END)
    stack = await serve(agent_of(builder.compile()))
    worker = await stack.worker()
    first = await stack.calls.send_task("one")
    await worker.stop()
    await stack.worker()
    await stack.calls.send_task("two", context_id=first.context_id)
    await stack.calls.send_task("elsewhere")
    assert heard == [1, 2, 1]


@pytest.mark.parametrize("graph", [graphs.approval, graphs.forgetful])
async def test_an_interrupt_asks_and_the_answer_resumes_it_on_another_worker(serve: StackOf, graph: Any) -> None:
    stack = await serve(agent_of(graph))
    worker = await stack.worker()
    seen = await stack.calls.collect({"item": "book"})
    assert "looking for prices" in [
        text_of(u.status_update.status.message) for u in seen if u.status_update and u.status_update.status.message
    ]
    assert states(seen)[-1] is INPUT_REQUIRED
    task = await stack.calls.get(next(u.task.id for u in seen if u.task))
    assert task.status.message is not None
    (question,) = task.status.message.parts
    assert question.data == {"question": "buy?", "price": 4}
    assert question.metadata is not None
    assert question.metadata["interrupt"]

    await worker.stop()
    await stack.worker()
    done = await stack.calls.send_task("yes", task_id=task.id)
    assert done.status.state is COMPLETED
    assert values(done) == {"item": "book", "price": 4, "log": ["offered", "answered yes", "bought book for 4"]}
    if isinstance(graph.checkpointer, InMemorySaver):
        assert not graph.checkpointer.storage, "what is kept in a process is lost with it"


async def test_an_answer_may_be_data_and_no_is_an_answer(serve: StackOf) -> None:
    stack = await serve(agent_of(graphs.approval))
    await stack.worker()
    asked = await stack.calls.send_task({"item": "book"})
    done = await stack.calls.send_task([Part(data={"buy": False})], task_id=asked.id)
    assert done.status.state is COMPLETED
    assert values(done)["log"] == ["offered", "answered {'buy': False}"]


async def test_a_graph_that_is_paused_goes_on_with_the_next_message(serve: StackOf) -> None:
    stack = await serve(agent_of(graphs.paused))
    await stack.worker()
    asked = await stack.calls.send_task({"item": "book"})
    assert asked.status.state is INPUT_REQUIRED
    assert "offer" in text_of(asked.status.message)
    asked = await stack.calls.send_task("go on", task_id=asked.id)
    assert asked.status.message is not None
    assert asked.status.message.parts[0].data == {"question": "buy?", "price": 4}


async def test_of_several_questions_each_is_answered_by_its_id(serve: StackOf) -> None:
    stack = await serve(agent_of(graphs.questions("who", "when")))
    await stack.worker()
    asked = await stack.calls.send_task({"topic": "a party"})
    assert asked.status.message is not None
    ids = {str(part.text): (part.metadata or {})["interrupt"] for part in asked.status.message.parts}
    assert set(ids) == {"who", "when"}
    done = await stack.calls.send_task({ids["who"]: "Ada", ids["when"]: "today"}, task_id=asked.id)
    assert sorted(values(done)["answers"]) == ["when: today", "who: Ada"]


async def test_an_answer_that_does_not_say_which_question_it_is_for_is_asked_for_again(serve: StackOf) -> None:
    stack = await serve(agent_of(graphs.questions("who", "when")))
    await stack.worker()
    asked = await stack.calls.send_task({"topic": "a party"})
    assert asked.status.message is not None
    ids = {str(part.text): (part.metadata or {})["interrupt"] for part in asked.status.message.parts}
    again = await stack.calls.send_task("Ada", task_id=asked.id)
    assert again.status.state is INPUT_REQUIRED
    assert all(each in text_of(again.status.message) for each in ids.values())
    half = await stack.calls.send_task({ids["who"]: "Ada"}, task_id=asked.id)
    assert half.status.state is INPUT_REQUIRED
    done = await stack.calls.send_task("today", task_id=asked.id)
    assert sorted(values(done)["answers"]) == ["when: today", "who: Ada"]


@pytest.mark.parametrize("threaded", [False, True])
async def test_a_subgraph_asks_too_in_a_thread_as_well(serve: StackOf, threaded: bool) -> None:
    stack = await serve(agent_of(graphs.outer(threaded=threaded)))
    worker = await stack.worker()
    asked = await stack.calls.send_task({"topic": "a party"})
    assert asked.status.state is INPUT_REQUIRED
    await worker.stop()
    await stack.worker()
    done = await stack.calls.send_task("deep", task_id=asked.id)
    assert done.status.state is COMPLETED
    assert "inner: deep" in values(done)["answers"]


async def test_a_cancel_stops_the_run_and_the_thread_is_no_hindrance(serve: StackOf) -> None:
    stopped = asyncio.Event()

    async def hangs(state: graphs.Ask) -> dict[str, list[str]]:
        if state["topic"] == "nothing":
            return {"answers": ["well"]}
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return {}

    stack = await serve(agent_of(graphs.of_node(hangs)))
    await stack.worker()
    task = await stack.calls.send_task({"topic": "for ever"}, immediately=True)
    await eventually(lambda: _works(stack, task.id))
    assert (await stack.other.cancel(task.id)).status.state is CANCELED
    assert stopped.is_set()
    after = await stack.calls.send_task({"topic": "nothing"}, context_id=task.context_id)
    assert values(after)["answers"] == ["well"]


async def _works(stack: Any, task_id: str) -> bool:
    return (await stack.calls.get(task_id)).status.state is TaskState.WORKING


async def test_what_a_graph_raises_ends_the_task_failed_at_once_and_says_no_more_than_its_type(serve: StackOf) -> None:
    stack = await serve(agent_of(graphs.of_node(graphs.raises)))
    await stack.worker()
    task = await stack.calls.send_task({"topic": "x"})
    assert task.status.state is FAILED
    assert "LookupError" in text_of(task.status.message)
    assert "secret" not in text_of(task.status.message)
    assert (await stack.kinds(task.id)).count("c") == 1, "its nodes have retry policies; the turn is not tried again"


async def test_what_was_in_the_thread_and_not_yet_said_is_said_by_the_next_attempt(serve: StackOf) -> None:
    whole = agent_of(graphs.slow_talk)

    async def dies_too_early(turn: Turn) -> None:
        if turn.attempt == 1:

            async def lost(*_: Any, **__: Any) -> None:
                pass

            turn.chunk = lost  # type: ignore[method-assign]
            await whole.handler(turn)
            raise ConnectionError
        await whole.handler(turn)

    made = msgspec.structs.replace(whole, handler=dies_too_early)
    stack = await serve(made)
    await stack.worker()
    task = await stack.calls.send_task("one two three")
    assert task.status.state is COMPLETED
    assert said(task) == ["one two three "]
    again = await stack.calls.send_task("four", context_id=task.context_id)
    assert said(again) == ["four "]


async def test_a_text_is_refused_by_a_graph_that_takes_several_things(serve: StackOf) -> None:
    stack = await serve(agent_of(graphs.approval))
    await stack.worker()
    task = await stack.calls.send_task("book")
    assert task.status.state is REJECTED
    assert "item, price, log" in text_of(task.status.message)


async def test_a_functional_graph_takes_and_gives_one_value(serve: StackOf) -> None:
    @entrypoint()
    async def shout(text: str) -> str:
        return text.upper()

    stack = await serve(agent_of(shout, name="shout"))
    await stack.worker()
    task = await stack.calls.send_task("hello")
    assert [part.text for artifact in task.artifacts for part in artifact.parts] == ["HELLO"]


async def test_input_config_and_context_are_what_the_author_says(serve: StackOf) -> None:
    got: list[Any] = []

    def node(state: graphs.Ask, config: RunnableConfig) -> dict[str, list[str]]:
        got.append(
            (state["topic"], config.get("configurable", {})["colour"], config.get("metadata", {})["a2a_task_id"])
        )
        return {}

    def read(turn: Turn) -> dict[str, Any]:
        return {"topic": turn.text.upper()}

    made = agent_of(graphs.of_node(node), read=read, config={"configurable": {"colour": "red"}})
    stack = await serve(made)
    await stack.worker()
    task = await stack.calls.send_task("x")
    assert got == [("X", "red", task.id)]


class Elsewhere(BaseCheckpointSaver[str]):
    """A checkpointer of the author's own: a database, say."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = InMemorySaver()

    def get_next_version(self, current: str | None, channel: None) -> str:
        return self.kept.get_next_version(current, channel)

    async def aget_tuple(self, config: Any) -> Any:
        return await self.kept.aget_tuple(config)

    async def aput(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        return await self.kept.aput(config, checkpoint, metadata, new_versions)

    async def aput_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        await self.kept.aput_writes(config, writes, task_id, task_path)


async def test_a_checkpointer_of_the_author_s_own_is_used_and_nothing_is_noted(serve: StackOf) -> None:
    mine = Elsewhere()
    stack = await serve(agent_of(graphs.approvals().compile(checkpointer=mine)))
    await stack.worker()
    asked = await stack.calls.send_task({"item": "book"})
    assert len(mine.kept.storage) == 1
    assert await stack.log.notes(stack.context(asked.id, asked.context_id), NOTEBOOK) == Notes()
    done = await stack.calls.send_task("yes", task_id=asked.id)
    assert values(done)["log"][-1] == "bought book for 4"


async def test_a_checkpointer_of_the_author_s_own_keeps_the_contexts_of_owners_apart(serve: StackOf) -> None:
    mine = Elsewhere()
    stack = await serve(agent_of(graphs.approvals().compile(checkpointer=mine)))
    await stack.worker()
    for tenant, subject in (("acme", "ada"), ("acme", "bob"), ("other", "ada"), ("", "ada")):
        asked = await stack.calls_of(tenant, subject).send_task({"item": "book"}, context_id="shared")
        assert asked.status.state is TaskState.INPUT_REQUIRED
    assert len(mine.kept.storage) == 4
    await stack.calls_of("acme", "ada").send_task({"item": "pen"}, context_id="shared")
    assert len(mine.kept.storage) == 4, "another task of a context goes on in its thread"


def test_a_graph_is_recognised_and_a_builder_is_told_to_be_compiled() -> None:
    found = recognise(graphs.slow_talk)
    assert found is not None
    assert found.name == "slow-talk"
    assert found.policy == "resume"
    assert "answer" in found.card.description
    with pytest.raises(TypeError, match="compile"):
        recognise(graphs.approvals())
    with pytest.raises(TypeError, match="compiled graph"):
        agent_of("graph")  # type: ignore[arg-type]
    assert recognise("graph") is None
