"""What a graph takes and gives, in the terms of A2A: messages, questions, answers, values."""

# LangGraph is typed in part only.
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, Final, cast

import msgspec
from langchain_core.messages import BaseMessage, HumanMessage
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel
from langgraph.types import Interrupt
from msgspec import UNSET
from pydantic import BaseModel

from a2a_events.model import Message, Part
from a2a_events.runtime.turn import Turn

MESSAGES: Final = "messages"
ROOT: Final = "__root__"
_KINDS: Final = {"image", "audio", "video"}
"""Media types that LangChain has blocks of their own for; all others are files."""


class NoInput(Exception):
    """A message is none that the graph could take; says what it could."""


class Unclear(Exception):
    """A message answers one of several interrupts, and does not say which."""

    def __init__(self, interrupts: Sequence[Interrupt]) -> None:
        ids = ", ".join(interrupt.id for interrupt in interrupts)
        super().__init__(f"several questions wait: answer with a data part with the members {ids}")
        self.interrupts = interrupts


def graph_input(graph: Pregel[Any, Any, Any, Any], turn: Turn) -> Any:
    """The input that a message is: a data part as it is, else what the members of the graph's input ask for.

    Raises:
        NoInput: a text, for a graph that takes several things.
    """
    names = _input_names(graph)
    data = turn.data
    if names is None:
        return turn.text if data is None else data
    if isinstance(data, dict):
        return cast("dict[str, Any]", data)
    if MESSAGES in names:
        return {MESSAGES: [human(turn.message)]}
    if len(names) == 1:
        return {names[0]: turn.text if data is None else data}
    raise NoInput(f"send a data part with {', '.join(names)}")


def human(message: Message) -> HumanMessage:
    """A client's message as LangChain has it. It keeps its id, so that it stands in a list of messages once."""
    if all(part.text is not UNSET for part in message.parts):
        return HumanMessage(content="\n".join(str(part.text) for part in message.parts), id=message.message_id)
    blocks: Any = [_block(part) for part in message.parts]
    return HumanMessage(content_blocks=blocks, id=message.message_id)


def questions(interrupts: Sequence[Interrupt]) -> list[Part]:
    """What interrupts ask: a text or a data part each, whose metadata names the interrupt."""
    parts: list[Part] = []
    for interrupt in interrupts:
        (part,) = report(interrupt.value)
        parts.append(msgspec.structs.replace(part, metadata={"interrupt": interrupt.id}))
    return parts


def answer(turn: Turn, interrupts: Sequence[Interrupt]) -> Any:
    """What a run is resumed with: the message's data part, else its text.

    One for all, or a data part with a member for each interrupt that it answers, by the interrupt's id.

    Raises:
        Unclear: several interrupts wait, and it does not say which one is answered.
    """
    data = turn.data
    ids = {interrupt.id for interrupt in interrupts}
    if isinstance(data, dict) and ids.issuperset(cast("dict[str, Any]", data)) and data:
        return cast("dict[str, Any]", data)
    given = turn.text if data is None else data
    if len(ids) > 1:
        raise Unclear(interrupts)
    return given


def report(said: Any) -> list[Part]:
    """A value that a graph reports, as one part."""
    return [Part(text=said)] if isinstance(said, str) else [Part(data=plain(said))]


def result(values: Any) -> list[Part] | None:
    """What a graph ended with, without messages: those are artifacts of their own. None if there is nothing else."""
    if isinstance(values, Mapping):
        state = cast("Mapping[str, Any]", values)
        values = {name: value for name, value in state.items() if not _is_said(value)}
    if values is None or values == {} or _is_said(values):
        return None
    return report(values)


def plain(value: Any) -> Any:
    """A value as JSON has it. What JSON does not know is shown as text."""
    return msgspec.to_builtins(value, str_keys=True, enc_hook=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):  # messages, too
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)


def _is_said(value: Any) -> bool:
    """Whether a value is a message or a list of messages."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(one, BaseMessage) for one in value)
    return isinstance(value, BaseMessage)


def _input_names(graph: Pregel[Any, Any, Any, Any]) -> tuple[str, ...] | None:
    """Names of what a graph takes; None: its input is one value."""
    if isinstance(graph, CompiledStateGraph):
        builder = cast("Any", graph).builder
        names = tuple(builder.schemas[builder.input_schema])
        return None if names == (ROOT,) else names
    channels = graph.input_channels
    return None if isinstance(channels, str) else tuple(channels)


def _block(part: Part) -> dict[str, Any]:
    if part.text is not UNSET:
        return {"type": "text", "text": part.text}
    if part.data is not UNSET:
        return {"type": "text", "text": msgspec.json.encode(part.data).decode()}
    kind = part.media_type.partition("/")[0]
    block: dict[str, Any] = {"type": kind if kind in _KINDS else "file", "mime_type": part.media_type}
    if isinstance(part.raw, bytes):
        return {**block, "base64": base64.b64encode(part.raw).decode()}
    return {**block, "url": part.url}
