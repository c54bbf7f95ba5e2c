"""a2a-sdk's objects as lines of records, and back. Exact: what is read is what was written, field by field."""

from __future__ import annotations

from typing import Any, Final, TypeAlias, TypeVar

import msgspec
from a2a.types.a2a_pb2 import (
    Artifact,
    Message,
    Part,
    StreamResponse,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatusUpdateEvent,
)
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message as ProtobufMessage
from msgspec import Raw, Struct

from a2a_events.timeline.events import Kind
from a2a_events.timeline.record import Entry

Update: TypeAlias = TaskStatusUpdateEvent | TaskArtifactUpdateEvent


class _Text(Struct, forbid_unknown_fields=True):
    text: str


class _Artifact(Struct, forbid_unknown_fields=True, rename="camel"):
    artifact_id: str
    parts: list[_Text]
    name: str = ""


class _Chunk(Struct, forbid_unknown_fields=True, rename="camel"):
    artifact: _Artifact
    task_id: str = ""
    context_id: str = ""
    append: bool = False
    last_chunk: bool = False


class _Texts(Struct, forbid_unknown_fields=True, rename="camel"):
    """A chunk of nothing but text, as most updates are: protobuf's own reading of JSON takes twenty times as long."""

    artifact_update: _Chunk


_texts: Final = msgspec.json.Decoder(_Texts)
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode
_Proto = TypeVar("_Proto", bound=ProtobufMessage)


def has_state(task: Task) -> bool:
    """Whether the task says how it stands, without which no timeline can show it."""
    return task.status.state != TaskState.TASK_STATE_UNSPECIFIED


def message_json(message: Message) -> Raw:
    """The message as an event holds it."""
    return Raw(_encode(_members(message)))


def task_json(task: Task) -> Raw:
    """The whole task as an event holds it; it has a state."""
    members = _members(task)
    for artifact in members.get("artifacts", []):
        _complete(artifact)
    return Raw(_encode(members))


def update_entry(event: Update, time: int) -> Entry:
    """The line of an update, as clients see it; a status has a state.

    Args:
        event: as its agent sent it.
        time: milliseconds.
    """
    members = _members(event)
    if isinstance(event, TaskStatusUpdateEvent):
        return Entry(Kind.STATUS.value, _encode({"statusUpdate": members}), time)
    _complete(members.setdefault("artifact", {}))
    return Entry(Kind.ARTIFACT.value, _encode({"artifactUpdate": members}), time)


def read_message(raw: bytes | Raw) -> Message:
    """As :func:`message_json` wrote it."""
    return _parsed(_decode(raw), Message())


def read_task(raw: bytes | Raw) -> Task:
    """As :func:`task_json` wrote it."""
    return _parsed(_decode(raw), Task())


def read_update(line: bytes) -> Update:
    """As :func:`update_entry` wrote it, or as any other writer of the log did."""
    try:
        chunk = _texts.decode(line).artifact_update
    except msgspec.ValidationError:
        pass
    else:
        return TaskArtifactUpdateEvent(
            task_id=chunk.task_id,
            context_id=chunk.context_id,
            artifact=Artifact(
                artifact_id=chunk.artifact.artifact_id,
                parts=[Part(text=part.text) for part in chunk.artifact.parts],
                name=chunk.artifact.name,
            ),
            append=chunk.append,
            last_chunk=chunk.last_chunk,
        )
    response = _parsed(_decode(line), StreamResponse())
    return response.status_update if response.HasField("status_update") else response.artifact_update


def _members(proto: ProtobufMessage) -> dict[str, Any]:
    return MessageToDict(proto)


def _complete(artifact: dict[str, Any]) -> None:
    """ProtoJSON leaves out what is empty; a timeline wants an artifact's id and parts."""
    artifact.setdefault("artifactId", "")
    artifact.setdefault("parts", [])


def _parsed(members: Any, proto: _Proto) -> _Proto:
    return ParseDict(members, proto, ignore_unknown_fields=True)
