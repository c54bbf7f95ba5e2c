"""What clients see of a timeline, as bytes: the lines of public events, and the Task that a fold amounts to.

A public event's line is made once, by whoever records it, and is shown as it is ever after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Final

import msgspec
from msgspec import Raw

from a2a_events.errors import Unreadable
from a2a_events.model import Artifact, TaskState, encode, timestamp_of
from a2a_events.timeline.bounds import HistoryBounds
from a2a_events.timeline.events import NOTHING, Kind
from a2a_events.timeline.fold import CONTINUED, ArtifactFold, Pieces, TaskFold
from a2a_events.timeline.record import Entry

_encode: Final = msgspec.json.Encoder().encode
HISTORY_OMITTED: Final = "urn:a2a-events:history-omitted"
"""Member of a Task's metadata: there are older messages than the history shows, and the client asked for them."""
_LEAST_MESSAGE_BYTES: Final = 60
"""No message is shorter: so many bytes hold so few that they need not be counted."""
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


def segment_keys(fold: TaskFold, bounds: HistoryBounds | None = None) -> list[str]:
    """The stored segments that :func:`task` needs, in no particular order; with the same bounds."""
    history, artifacts = fold.content.history, fold.content.artifacts.values()
    first = _first_segment(history, bounds.size_bytes) if bounds is not None else 0
    return [*history.segments[first:], *(key for artifact in artifacts for key in artifact.parts.segments)]


def task(
    fold: TaskFold,
    task_id: str,
    segments: Mapping[str, bytes],
    history_length: int | None = None,
    *,
    artifacts: bool = True,
    note: Raw = NOTHING,
    bounds: HistoryBounds | None = None,
) -> bytes:
    """The Task that a fold amounts to, as JSON.

    If the bounds leave out messages that the client wants, the task's metadata say so, under ``HISTORY_OMITTED``.

    Args:
        fold: of this task; it exists.
        task_id: its id.
        segments: content of every key in :func:`segment_keys`.
        history_length: None for all of it, 0 for none, n for the n newest messages (specification 3.2.4).
        artifacts: whether they are shown.
        note: JSON of a message to show as the status's, or nothing to show the one it has.
        bounds: of the history that is shown; None: all of it may be.

    Raises:
        Unreadable: a segment is missing.
    """
    content = fold.content
    status = _encode(msgspec.structs.replace(content.status, message=note) if bytes(note) else content.status)
    members = [b'{"id":', _encode(task_id), b',"contextId":', _encode(fold.head.context_id), b',"status":', status]
    if content.artifacts and artifacts:
        members += [b',"artifacts":[', b",".join(_artifact(a, segments) for a in content.artifacts.values()), b"]"]
    metadata = content.metadata
    if history_length != 0 and content.history:
        elements, omitted = _history(content.history, segments, history_length, bounds)
        members += [b',"history":[', elements, b"]"]
        if omitted:
            metadata = {**(metadata or {}), HISTORY_OMITTED: True}
    if metadata:
        members += [b',"metadata":', _encode(metadata)]
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


def _history(
    history: Pieces, segments: Mapping[str, bytes], length: int | None, bounds: HistoryBounds | None
) -> tuple[bytes, bool]:
    """The newest messages that are wanted and allowed; whether the bounds left out some that are wanted."""
    if bounds is None:
        elements = _elements(history, segments)
        return (elements if length is None else b",".join(_messages(elements)[-length:])), False
    end, before = _end(history, segments, bounds.size_bytes)
    if not before and length is None and len(end) <= min(bounds.size_bytes, bounds.messages * _LEAST_MESSAGE_BYTES):
        return end, False
    messages = _messages(end)
    wanted = messages if length is None else messages[-length:]
    sizes = accumulate(len(message) + 1 for message in reversed(wanted[-bounds.messages :]))
    shown = wanted[-max(1, sum(size <= bounds.size_bytes for size in sizes)) :]
    complete = len(shown) == length or (not before and len(shown) == len(wanted))
    return b",".join(shown), not complete


def _end(history: Pieces, segments: Mapping[str, bytes], least_bytes: int) -> tuple[bytes, bool]:
    """The newest elements, of at least so many bytes if there are so many; whether there are more before them."""
    newest: list[bytes] = []
    size = 0
    for at in range(len(history.tail) - 1, -1, -1):
        newest.append(history.tail[at])
        size += len(history.tail[at]) + 1
        if size > least_bytes:
            return b",".join(reversed(newest)), at > 0 or bool(history.segments)
    first = _first_segment(history, least_bytes)
    stored = Pieces(history.segments[first:], history.sizes[first:], [*reversed(newest)])
    return _elements(stored, segments), first > 0


def _first_segment(history: Pieces, least_bytes: int) -> int:
    """Index of the segment from which on there are more than so many bytes; 0 if there are not."""
    size = history.tail_bytes
    for at in range(len(history.segments) - 1, -1, -1):
        if size > least_bytes and (at + 1 == len(history.segments) or CONTINUED not in history.segments[at + 1]):
            return at + 1
        size += history.sizes[at]
    return 0


def _messages(elements: bytes) -> list[bytes]:
    messages: Sequence[Raw] = _array_decoder.decode(b"[" + elements + b"]")
    return [bytes(message) for message in messages]


_array_decoder = msgspec.json.Decoder(list[Raw])
