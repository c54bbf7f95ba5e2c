"""What clients see of a timeline, as bytes: the lines of public events, and the Task that a fold amounts to.

A public event's line is made once, by whoever records it, and is shown as it is ever after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Raw

from a2a_events.errors import Unreadable
from a2a_events.model import Artifact, TaskState, encode, timestamp_of
from a2a_events.timeline.events import NOTHING, Kind
from a2a_events.timeline.fold import CONTINUED, ArtifactFold, Pieces, TaskFold
from a2a_events.timeline.record import Entry

_encode: Final = msgspec.json.Encoder().encode
_STATUS: Final = Kind.STATUS.value
_ARTIFACT: Final = Kind.ARTIFACT.value


def status_entry(  # noqa: PLR0917 -- what the line says
    task_id: str, context_id: str, state: TaskState, time: int, message: Raw = NOTHING, metadata: Raw = NOTHING
) -> Entry:
    """The public line ``{"statusUpdate":…}`` (specification 4.2.1).

    Args:
        task_id: the task.
        context_id: its context.
        state: the new state.
        time: milliseconds since 1970, shown as the status timestamp.
        message: JSON of the message that explains the state, with its ids, or nothing.
        metadata: JSON of an object that goes into the task's metadata too, or nothing.
    """
    shown = b',"message":' + bytes(message) if bytes(message) else b""
    line = b'{"statusUpdate":{"taskId":%b,"contextId":%b,"status":{"state":"%b"%b,"timestamp":"%b"}%b}}' % (
        _encode(task_id),
        _encode(context_id),
        state.value.encode(),
        shown,
        timestamp_of(time).encode(),
        _metadata(metadata),
    )
    return Entry(_STATUS, line, time)


def artifact_entry(
    task_id: str,
    context_id: str,
    artifact: Artifact,
    time: int,
    metadata: Raw = NOTHING,
    *,
    append: bool,
    last_chunk: bool,
) -> Entry:
    """The public line ``{"artifactUpdate":…}`` (specification 4.2.2); ``metadata`` is the update's."""
    line = b'{"artifactUpdate":{"taskId":%b,"contextId":%b,"artifact":%b%b%b%b}}' % (
        _encode(task_id),
        _encode(context_id),
        encode(artifact),
        b',"append":true' if append else b"",
        b',"lastChunk":true' if last_chunk else b"",
        _metadata(metadata),
    )
    return Entry(_ARTIFACT, line, time)


def _metadata(metadata: Raw) -> bytes:
    return b',"metadata":' + bytes(metadata) if bytes(metadata) else b""


def segment_keys(fold: TaskFold) -> list[str]:
    """The stored segments that :func:`task` needs, in no particular order."""
    pieces = [fold.content.history, *(artifact.parts for artifact in fold.content.artifacts.values())]
    return [key for piece in pieces for key in piece.segments]


def task(
    fold: TaskFold,
    task_id: str,
    segments: Mapping[str, bytes],
    history_length: int | None = None,
    *,
    artifacts: bool = True,
    note: Raw = NOTHING,
) -> bytes:
    """The Task that a fold amounts to, as JSON.

    Args:
        fold: of this task; it exists.
        task_id: its id.
        segments: content of every key in :func:`segment_keys`.
        history_length: None for all of it, 0 for none, n for the n newest messages (specification 3.2.4).
        artifacts: whether they are shown.
        note: JSON of a message to show as the status's, or nothing to show the one it has.

    Raises:
        Unreadable: a segment is missing.
    """
    content = fold.content
    status = _encode(msgspec.structs.replace(content.status, message=note) if bytes(note) else content.status)
    members = [b'{"id":', _encode(task_id), b',"contextId":', _encode(fold.head.context_id), b',"status":', status]
    if content.artifacts and artifacts:
        members += [b',"artifacts":[', b",".join(_artifact(a, segments) for a in content.artifacts.values()), b"]"]
    if history_length != 0 and content.history:
        elements = _elements(content.history, segments)
        if history_length is not None:
            elements = _newest(elements, history_length)
        members += [b',"history":[', elements, b"]"]
    if content.metadata:
        members += [b',"metadata":', _encode(content.metadata)]
    members.append(b"}")
    return b"".join(members)


def _artifact(artifact: ArtifactFold, segments: Mapping[str, bytes]) -> bytes:
    members = [
        b'{"artifactId":',
        _encode(artifact.artifact_id),
        b',"parts":[',
        _elements(artifact.parts, segments),
        b"]",
    ]
    if artifact.name:
        members += [b',"name":', _encode(artifact.name)]
    if artifact.description:
        members += [b',"description":', _encode(artifact.description)]
    if artifact.metadata:
        members += [b',"metadata":', _encode(artifact.metadata)]
    if artifact.extensions:
        members += [b',"extensions":', _encode(artifact.extensions)]
    members.append(b"}")
    return b"".join(members)


def _elements(pieces: Pieces, segments: Mapping[str, bytes]) -> bytes:
    joined: list[bytes] = []
    try:
        for key in pieces.segments:
            if joined and CONTINUED not in key:
                joined.append(b",")
            joined.append(segments[key])
    except KeyError as missing:
        message = f"segment {missing} is missing"
        raise Unreadable(message) from None
    if joined and pieces.tail:
        joined.append(b",")
    return b"".join([*joined, b",".join(pieces.tail)])


def _newest(elements: bytes, count: int) -> bytes:
    messages: Sequence[Raw] = _array_decoder.decode(b"[" + elements + b"]")
    return b",".join(bytes(message) for message in messages[-count:])


_array_decoder = msgspec.json.Decoder(list[Raw])
