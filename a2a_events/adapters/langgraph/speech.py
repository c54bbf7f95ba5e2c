"""What a graph's models and nodes say, as artifacts: one a message, in pieces as they come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage

from a2a_events.adapters.langgraph.content import MESSAGES
from a2a_events.model import Artifact
from a2a_events.runtime.turn import Turn

MESSAGE_KEY: Final = "langgraphMessage"
"""In an artifact's metadata: the id of the message that it is."""


class Speech:
    """The messages of one run.

    Args:
        turn: where they are reported.
    """

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._places: dict[str, str] = {}
        """Artifacts by the message that they are."""
        self._counts: dict[str, int] = {}
        """Messages of this run by the task of the graph that said them."""
        self._stale = {artifact.artifact_id for artifact in turn.task.artifacts} if turn.attempt > 1 else set[str]()
        """Artifacts of an earlier attempt, or turn, that this run has not added to yet."""

    async def say(self, message: BaseMessage, said_by: Mapping[str, Any]) -> None:
        """Report a message, or a piece of one; of agents only."""
        text = str(message.text)
        if not isinstance(message, AIMessage) or message.id is None:
            return
        if not text:
            return  # a call of a tool, or the mark of an end
        if message.id not in self._places:
            self._places[message.id] = self._place(said_by)
        last = not isinstance(message, AIMessageChunk) or message.chunk_position == "last"
        await self._report(message.id, text, str(said_by["langgraph_node"]), last=last)

    async def complete(self, values: Any) -> None:
        """Report what an earlier attempt had said and not stored: its checkpoint may be newer than its last report.

        Args:
            values: that the graph ended with.
        """
        if self._turn.attempt == 1 or not isinstance(values, Mapping):
            return
        reported: dict[str, Artifact] = {}
        for artifact in self._turn.task.artifacts:
            reported[str((artifact.metadata or {}).get(MESSAGE_KEY))] = artifact
        for message in self._said_now(cast("Mapping[str, Any]", values)):
            known = reported.get(str(message.id))
            text = str(message.text)
            if message.id in self._places or not text or (known and _text(known) == text):
                continue
            artifact_id = known.artifact_id if known else str(message.id)
            await self._turn.artifact(text, artifact_id=artifact_id, metadata={MESSAGE_KEY: message.id})

    def _said_now(self, values: Mapping[str, Any]) -> list[AIMessage]:
        """What agents have said since the turn's message; the last of it, if that is not among the messages."""
        messages = cast("list[Any]", values.get(MESSAGES) or [])
        asked = [at for at, one in enumerate(messages) if getattr(one, "id", None) == self._turn.message.message_id]
        said = [one for one in messages[asked[-1] + 1 if asked else 0 :] if isinstance(one, AIMessage)]
        return said if asked else said[-1:]

    def _place(self, said_by: Mapping[str, Any]) -> str:
        """The artifact of a task's next message: the same when the task is run again from the same checkpoint."""
        task = str(said_by["langgraph_checkpoint_ns"])
        number = self._counts[task] = self._counts.get(task, 0) + 1
        return task if number == 1 else f"{task}#{number}"

    async def _report(self, message_id: str, text: str, name: str, *, last: bool) -> None:
        place, metadata = self._places[message_id], {MESSAGE_KEY: message_id}
        if place in self._stale:
            self._stale.discard(place)
            await self._turn.artifact(text, artifact_id=place, name=name, metadata=metadata)
        else:
            await self._turn.chunk(place, text, last=last, name=name, metadata=metadata)


def _text(artifact: Artifact) -> str:
    return "".join(part.text for part in artifact.parts if isinstance(part.text, str))
