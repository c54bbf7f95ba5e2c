"""An unmodified compiled graph of LangGraph (1.2 or newer) as an agent of ours.

::

    agent = agent_of(graph, name="researcher")

or ``a2a-events up --agent my.module:graph``. What is kept and what is not stands in docs/adapters/langgraph.md.
"""

# LangGraph is typed in part only.
# pyright: reportMissingTypeStubs=false
from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, Unpack

from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import StateGraph
from langgraph.pregel import Pregel
from langgraph.types import Durability

from a2a_events.adapters.declaration import Given, declare
from a2a_events.adapters.langgraph.run import Run, Settings
from a2a_events.model import AgentCard
from a2a_events.runtime.agent import Agent
from a2a_events.runtime.turn import Turn
from a2a_events.timeline.decide import RESUME

__all__ = ["agent_of", "recognises"]

_NAMELESS = "LangGraph"
"""What LangGraph calls a graph that was given no name."""


def agent_of(
    graph: Pregel[Any, Any, Any, Any],
    *,
    name: str | None = None,
    card: AgentCard | None = None,
    read: Callable[[Turn], Any] | None = None,
    config: RunnableConfig | None = None,
    context: Any = None,
    durability: Durability | None = None,
    **given: Unpack[Given],
) -> Agent:
    """The agent that a compiled graph is here.

    Its crash policy is ``resume`` unless another one is given: another worker goes on from the last checkpoint. What a
    graph raises is final all the same: nodes have retry policies of their own.

    Args:
        graph: what ``StateGraph.compile`` returns, or a function decorated as ``entrypoint``.
        name: in paths and subjects; default: the graph's, ``langgraph`` if it has none.
        card: announced as it is, but that gateways put their own addresses in; default: made of name and ``given``.
        read: the graph's input for a message that begins a run; default: what the graph's input schema asks for.
        config: what runs are configured with, beside ``thread_id``.
        context: what runs get as LangGraph's runtime context.
        durability: LangGraph's: when checkpoints are written.
        given: as :func:`a2a_events.agent` takes it.

    Raises:
        TypeError: it is no compiled graph, or what is given does not go together.
    """
    _check(graph)
    named = name or (_name(graph.name) if graph.name != _NAMELESS else "langgraph")
    given.setdefault("policy", RESUME)
    given.setdefault("description", f"The graph {named}: {', '.join(each for each in graph.nodes if each[0] != '_')}")
    settings = Settings(read=read, config=config or {}, context=context, durability=durability)
    return declare(partial(_run, graph, settings), given, name=named, card=card)


def recognises(value: object) -> bool:
    """Whether this is a graph, compiled or not. See :mod:`a2a_events.adapters.recognise`."""
    return isinstance(value, Pregel | StateGraph)


def _check(value: object) -> None:
    if isinstance(value, StateGraph):
        raise TypeError(f"compile the graph first: {value!r} is a builder")
    if not isinstance(value, Pregel):
        raise TypeError(f"expected a compiled graph of LangGraph, not {value!r}")


async def _run(graph: Pregel[Any, Any, Any, Any], settings: Settings, turn: Turn) -> None:
    await Run(graph, settings, turn).run()


def _name(text: str) -> str:
    """A graph's name as agents may be named."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:64] or "langgraph"
