"""Graphs as LangGraph's users write them, for tests here and for workers in processes of their own."""

from __future__ import annotations

import asyncio
import operator
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict


class Echo(BaseChatModel):
    """A chat model that streams what it was told, word by word."""

    delay_seconds: float = 0.0

    @property
    def _llm_type(self) -> str:
        return "echo"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(" ".join(_words(messages))))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for word in _words(messages):
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for word in _words(messages):
            await asyncio.sleep(self.delay_seconds)
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))


def _words(messages: list[BaseMessage]) -> list[str]:
    return [f"{word} " for word in str(messages[-1].text).split()]


def chat(model: Echo) -> StateGraph[MessagesState]:
    """One model that answers; the thread keeps what was said."""

    async def answer(state: MessagesState) -> dict[str, list[BaseMessage]]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return builder


talk = chat(Echo()).compile(name="talk")
slow_talk = chat(Echo(delay_seconds=0.05)).compile(name="slow talk")


class Order(TypedDict):
    """What the approval is about."""

    item: str
    price: int
    log: Annotated[list[str], operator.add]


def offer(state: Order) -> dict[str, Any]:
    get_stream_writer()("looking for prices")
    return {"price": len(state["item"]), "log": ["offered"]}


def approve(state: Order) -> Command[Any]:
    answer = interrupt({"question": "buy?", "price": state["price"]})
    return Command(update={"log": [f"answered {answer}"]}, goto="buy" if answer == "yes" else END)


def buy(state: Order) -> dict[str, Any]:
    return {"log": [f"bought {state['item']} for {state['price']}"]}


def approvals() -> StateGraph[Order]:
    builder = StateGraph(Order)
    builder.add_node("offer", offer)
    builder.add_node("approve", approve, destinations=("buy", END))
    builder.add_node("buy", buy)
    builder.add_edge(START, "offer")
    builder.add_edge("offer", "approve")
    builder.add_edge("buy", END)
    return builder


approval = approvals().compile(name="approval")
forgetful = approvals().compile(name="forgetful", checkpointer=InMemorySaver())
paused = approvals().compile(name="paused", interrupt_before=["offer"])


class Ask(TypedDict):
    """Several questions at once."""

    topic: str
    answers: Annotated[list[str], operator.add]


def questions(*names: str) -> Any:
    """A graph whose nodes ask side by side."""
    builder = StateGraph(Ask)
    for name in names:

        def ask(state: Ask, name: str = name) -> dict[str, list[str]]:
            return {"answers": [f"{name}: {interrupt(name)}"]}

        builder.add_node(name, ask)
        builder.add_edge(START, name)
        builder.add_edge(name, END)
    return builder.compile(name="questions")


def outer(*, threaded: bool) -> Any:
    """A graph that asks inside a subgraph; one that a node runs in a thread, or one that is a node."""
    inner = questions("inner")

    def runs_inner(state: Ask) -> dict[str, Any]:
        return {"answers": inner.invoke({"topic": state["topic"]})["answers"]}

    builder = StateGraph(Ask)
    builder.add_node("sub", runs_inner if threaded else inner)
    builder.add_edge(START, "sub")
    builder.add_edge("sub", END)
    return builder.compile(name="outer")


class Job(TypedDict):
    """A job of steps that leave a trace outside."""

    folder: str
    done: Annotated[list[str], operator.add]


def _step(name: str) -> Any:
    async def step(state: Job) -> dict[str, list[str]]:
        folder = Path(state["folder"])
        with (folder / "begun").open("a") as lines:
            lines.write(f"{name}\n")
        while not (folder / f"go-{name}").exists():  # noqa: ASYNC110 -- a test in another process says so
            await asyncio.sleep(0.02)
        return {"done": [name]}

    return step


def jobs(*names: str) -> Any:
    """Steps one after the other; each ends when a file says that it may."""
    builder = StateGraph(Job)
    before = START
    for name in names:
        builder.add_node(name, _step(name))
        builder.add_edge(before, name)
        before = name
    builder.add_edge(before, END)
    return builder.compile(name="job")


job = jobs("one", "two", "three")


def blocks(state: Ask) -> dict[str, list[str]]:
    time.sleep(0.3)
    return {"answers": ["woke"]}


async def hangs(state: Ask) -> dict[str, list[str]]:
    await asyncio.Event().wait()
    return {}


def raises(state: Ask) -> dict[str, list[str]]:
    raise LookupError("a secret")


def of_node(node: Any, **compiled: Any) -> Any:
    """A graph of one node."""
    builder = StateGraph(Ask)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    builder.add_edge("node", END)
    return builder.compile(**compiled)
