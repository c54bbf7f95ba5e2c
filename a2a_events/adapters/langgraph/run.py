"""One turn as one run of a graph: what goes in, what is reported as it comes, and how the turn ends."""

# LangGraph is typed in part only.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import structlog
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.pregel import Pregel
from langgraph.types import Command, Durability, StateSnapshot
from msgspec import Struct

from a2a_events.adapters.langgraph import content
from a2a_events.adapters.langgraph.speech import Speech
from a2a_events.adapters.langgraph.thread import Thread
from a2a_events.errors import LogError
from a2a_events.model import Part
from a2a_events.runtime.turn import OutputTooLarge, Turn, TurnOver
from a2a_events.runtime.turn_writer import Fenced
from a2a_events.timeline import reasons
from a2a_events.timeline.ids import token

NOTEBOOK: Final = "langgraph"
TASK_KEY: Final = "a2a_task_id"
TURN_KEY: Final = "a2a_turn"
"""In the metadata of checkpoints: for which task, and in which of its turns, they were made."""
INTERRUPTS: Final = "__interrupt__"
VALUES_ARTIFACT: Final = "values"

_OURS: Final = (Fenced, LogError, TurnOver, OutputTooLarge)
"""What the worker has to see, whatever it went through."""

logger = structlog.get_logger(__name__)


class Settings(Struct, frozen=True, kw_only=True):
    """How a graph's runs are made. See ``agent_of``."""

    read: Callable[[Turn], Any] | None
    config: RunnableConfig
    context: Any
    durability: Durability | None


class Run:
    """One turn.

    Args:
        graph: as its author compiled it.
        settings: how to run it.
        turn: whose message to work on.
    """

    def __init__(self, graph: Pregel[Any, Any, Any, Any], settings: Settings, turn: Turn) -> None:
        self._graph = graph
        self._settings = settings
        self._turn = turn
        self._key = turn.idempotency_key(NOTEBOOK)
        self._speech = Speech(turn)
        given = settings.config
        self._config: RunnableConfig = {
            **given,
            "configurable": {**given.get("configurable", {}), "thread_id": thread_id(graph, turn)},
            "metadata": {**given.get("metadata", {}), TASK_KEY: turn.task_id, TURN_KEY: self._key},
        }

    async def run(self) -> None:
        """Run the graph until it ends or asks for something; what it raises ends the task FAILED."""
        turn = self._turn
        if not keeps_itself(self._graph):
            thread = await Thread.open(await turn.notebook(NOTEBOOK))
            self._graph = self._graph.copy({"checkpointer": thread})
        try:
            before = await self._graph.aget_state(self._config)
            if self._has_ended(before):
                values: Any = self._shown(before.values)
            else:
                values = await self._stream(self._input(before))
            after = await self._graph.aget_state(self._config)
        except content.NoInput as error:
            turn.reject(str(error))
            return
        except content.Unclear as error:
            turn.require_input([Part(text=str(error)), *content.questions(error.interrupts)])
            return
        except _OURS:
            raise
        except Exception as error:
            logger.exception("graph raised", task_id=turn.task_id, error=type(error).__name__)
            turn.fail(reasons.raised(type(error).__name__))
            return
        if after.interrupts:
            turn.require_input(content.questions(after.interrupts))
        elif after.next:
            turn.require_input(f"Paused before {', '.join(after.next)}: go on?")
        else:
            await self._speech.complete(values)
            if (result := content.result(values)) is not None:
                await turn.artifact(result, artifact_id=VALUES_ARTIFACT, name=VALUES_ARTIFACT)

    def _has_ended(self, before: StateSnapshot) -> bool:
        """Whether an earlier attempt of this turn had run the graph to its end, and not got around to say so."""
        return _made_for(before, TURN_KEY) == self._key and not before.next

    def _input(self, before: StateSnapshot) -> Any:
        """What the run begins or goes on with.

        Raises:
            NoInput: the message is none that the graph could take.
            Unclear: it answers one of several questions.
        """
        if _made_for(before, TASK_KEY) == self._turn.task_id:
            if before.interrupts:
                return Command(resume=content.answer(self._turn, before.interrupts))
            if before.next:
                return None  # from the last checkpoint
        if self._settings.read is not None:
            return self._settings.read(self._turn)
        return content.graph_input(self._graph, self._turn)

    async def _stream(self, given: Any) -> Any:
        """Run the graph, and report what it says as it comes; its newest values."""
        values: Any = None
        events = self._graph.astream(
            given,
            self._config,
            context=self._settings.context,
            stream_mode=["messages", "custom", "values"],
            output_keys=self._graph.output_channels,
            durability=self._settings.durability,
            subgraphs=True,
        )
        async for event in events:
            namespace, mode, said = cast("tuple[tuple[str, ...], str, Any]", event)
            if mode == "messages":
                await self._speech.say(*said)
            elif mode == "custom":
                await self._turn.working(content.report(said))
            elif not namespace:
                values = said
        return values

    def _shown(self, values: Any) -> Any:
        """What of a state is the graph's output."""
        channels = self._graph.output_channels
        if isinstance(channels, str) or not isinstance(values, Mapping):
            return values
        state = cast("Mapping[str, Any]", values)
        return {name: state[name] for name in channels if name in state}


def keeps_itself(graph: Pregel[Any, Any, Any, Any]) -> bool:
    """Whether a graph has a checkpointer that outlives this process."""
    saver = graph.checkpointer
    return isinstance(saver, BaseCheckpointSaver) and not isinstance(saver, InMemorySaver)


def thread_id(graph: Pregel[Any, Any, Any, Any], turn: Turn) -> str:
    """The thread of a turn's context.

    Clients choose context ids. Notes are their owner's alone; a checkpointer of the author's knows thread ids only, so
    there the id says whose the context is.
    """
    if not keeps_itself(graph):
        return turn.context_id
    return token(f"{turn.actor.tenant}\n{turn.actor.subject}\n{turn.context_id}")


def _made_for(state: StateSnapshot, key: str) -> object:
    metadata = cast("Mapping[str, object]", state.metadata or {})
    return metadata.get(key)
