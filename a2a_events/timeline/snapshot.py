"""A fold written down, so that reading a task does not cost its history (design 6).

A snapshot is a head, one per task, and immutable segments beside it. Never authoritative: one that is missing, old,
damaged or of another fold version costs a read from the log, nothing else. A segment's key names the revisions that
contributed it, so that whoever seals it writes the same bytes under the same key. What is longer than a segment may be
goes on in further ones, whose keys say so (``fold.CONTINUED``).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from a2a_events import limits
from a2a_events.timeline.events import NOTHING, StatusLine
from a2a_events.timeline.fold import CONTINUED, FOLD_VERSION, ArtifactFold, Content, Head, Pieces, TaskFold

FORMAT: Final = 2


class Segment(Struct, frozen=True):
    """A sealed part of the history or of an artifact: JSON elements joined by commas, without brackets.

    Of ``limits.SEGMENT_LARGEST_BYTES`` at most, and so it may begin or end within an element.
    """

    key: str
    content: bytes


class Snapshot(Struct, frozen=True):
    """What to store: the segments first, then the head that names them."""

    head: bytes
    segments: tuple[Segment, ...]


class _Pieces(Struct, rename="camel", omit_defaults=True):
    segments: list[str] = []
    sizes: list[int] = []
    tail: Raw = Raw(b"[]")
    first: int = 0
    last: int = 0


class _Artifact(Struct, rename="camel", omit_defaults=True):
    id: str
    created: int
    parts: _Pieces
    name: str = ""
    description: str = ""
    metadata: dict[str, Any] | None = None
    extensions: tuple[str, ...] = ()


class _Document(Struct, rename="camel", omit_defaults=True):
    format: int
    fold: int
    """``FOLD_VERSION`` of the writer."""
    head: Head
    status: StatusLine
    status_in_history: bool
    history: _Pieces
    artifacts: list[_Artifact]
    reply: Raw = NOTHING
    metadata: dict[str, Any] | None = None


def take(fold: TaskFold) -> Snapshot:
    """Write a fold down; what has grown past ``limits.SEGMENT_BYTES`` is sealed, in the fold too.

    The fold must be of stored records only (turns 8.1).
    """
    sealed: list[Segment] = []
    content = fold.content
    fold.unsealed_bytes = 0
    ends = [content.history, *(artifact.parts for artifact in content.artifacts.values())]
    crowded = sum(pieces.tail_bytes for pieces in ends) > limits.HEAD_ENDS_BYTES
    largest = limits.SEGMENT_LEAST_BYTES if crowded else limits.SEGMENT_BYTES
    document = _Document(
        format=FORMAT,
        fold=FOLD_VERSION,
        head=fold.head,
        status=content.status,
        status_in_history=content.status_in_history,
        history=_written(content.history, "h", sealed, largest),
        artifacts=[
            _Artifact(
                a.artifact_id,
                a.created,
                _written(a.parts, f"a{a.created}", sealed, largest),
                a.name,
                a.description,
                a.metadata,
                a.extensions,
            )
            for a in content.artifacts.values()
        ],
        reply=Raw(content.reply) if content.reply else NOTHING,
        metadata=content.metadata,
    )
    return Snapshot(_encoder.encode(document), tuple(sealed))


def restore(head: bytes) -> TaskFold | None:
    """The fold that a snapshot's head holds, or None if this version cannot use it."""
    try:
        document = _decoder.decode(head)
    except ValueError:
        return None
    if (document.format, document.fold) != (FORMAT, FOLD_VERSION):
        return None
    content = Content(
        document.status,
        _read(document.history),
        {
            a.id: ArtifactFold(a.id, a.created, _read(a.parts), a.name, a.description, a.metadata, a.extensions)
            for a in document.artifacts
        },
        document.status_in_history,
        bytes(document.reply),
        document.head.terminal,
        document.metadata,
    )
    return TaskFold(document.head, content)


def _written(pieces: Pieces, owner: str, sealed: list[Segment], largest: int) -> _Pieces:
    if pieces.tail_bytes >= largest:
        content = b",".join(pieces.tail)
        for number, at in enumerate(range(0, len(content), limits.SEGMENT_LARGEST_BYTES)):
            key = f"{owner}-{pieces.first}-{pieces.last}{f'{CONTINUED}{number}' if number else ''}"
            piece = content[at : at + limits.SEGMENT_LARGEST_BYTES]
            sealed.append(Segment(key, piece))
            pieces.seal(key, len(piece))
        pieces.tail, pieces.tail_bytes, pieces.first = [], 0, 0
    tail = Raw(b"[" + b",".join(pieces.tail) + b"]")
    return _Pieces(pieces.segments, pieces.sizes, tail, pieces.first, pieces.last)


def _read(written: _Pieces) -> Pieces:
    tail = bytes(written.tail)[1:-1]
    return Pieces(written.segments, written.sizes, [tail] if tail else [], len(tail), written.first, written.last)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Document)
