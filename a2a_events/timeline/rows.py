"""Events as people read them: one row each, filters on rows, and rows of chunks folded into one.

What agents and clients wrote is only counted here; secrets of webhooks are shown in no form.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Final, assert_never

import msgspec
from msgspec import Raw, Struct

from a2a_events.model import milliseconds_of, timestamp_of
from a2a_events.timeline.events import (
    MEMBERS,
    PUBLIC_CODES,
    Actor,
    ArtifactChanged,
    CancelRequested,
    DeadLetter,
    Event,
    Forked,
    Kind,
    MessageReceived,
    MessageUnread,
    PushConfigDeleted,
    PushConfigSet,
    Replied,
    StatusChanged,
    Step,
    Submitted,
    TaskDeadLettered,
    Timer,
    Tombstone,
    TurnClaimed,
    TurnConfirmed,
    TurnEnded,
    TurnNudged,
    TurnReleased,
    TurnSuspended,
    Unknown,
    decode_line,
    line_of,
)
from a2a_events.timeline.record import Record

_KINDS: Final = {kind.value: MEMBERS[kind] for kind in Kind}
_PUBLIC: Final = frozenset(_KINDS[code] for code in PUBLIC_CODES)

PUBLIC: Final = "public"
"""In a filter: every kind that clients see."""
INTERNAL: Final = "internal"
"""In a filter: every other kind."""


class Row(Struct, frozen=True, omit_defaults=True):
    """One event, as it is printed. ``event`` is its JSON, left out for kinds that this version does not know."""

    revision: int
    position: int
    time: str
    kind: str
    writer: str
    epoch: int
    summary: str
    bytes: int
    """Of the event's line in the log."""
    attempt: int = 0
    """At the turn that it was written in; 0 outside of turns."""
    state: str = ""
    """That a status update shows, without its prefix."""
    artifact: str = ""
    """Id of the artifact that an artifact update adds to."""
    event: Raw | msgspec.UnsetType = msgspec.UNSET


# omit_defaults leaves UNSET out and keeps every member that has no default.


class Run(Struct, frozen=True):
    """Consecutive updates of one artifact under one claim, as one row."""

    revision: int
    """Of the first."""
    last_revision: int
    position: int
    """Of the record of the first."""
    time: str
    """Of the first."""
    seconds: float
    """From the first to the last, by the writer's clock."""
    kind: str
    writer: str
    epoch: int
    attempt: int
    artifact: str
    count: int
    bytes: int
    summary: str


class Filter(Struct, frozen=True):
    """Which rows. All that are given must match; the empty filter matches every row."""

    kinds: frozenset[str] = frozenset()
    """Names of kinds, as rows show them, and ``public`` and ``internal`` for all kinds of that sort."""
    states: frozenset[str] = frozenset()
    """Names of states; then only status updates match."""
    writer: str = ""
    """A role, an instance, or both as rows show them."""
    attempt: int | None = None
    text: str = ""
    """Anywhere in the event's JSON or in the summary, in any case."""
    first: int = 1
    last: int | None = None

    def matches(self, row: Row) -> bool:
        """Whether this row is wanted."""
        return (
            self.first <= row.revision
            and (self.last is None or row.revision <= self.last)
            and (not self.kinds or row.kind in self.kinds or _sort(row) in self.kinds)
            and (not self.states or row.state in self.states)
            and (not self.writer or self.writer in {row.writer, *row.writer.split("/", 1)})
            and (self.attempt is None or row.attempt == self.attempt)
            and (not self.text or self._says(row))
        )

    def _says(self, row: Row) -> bool:
        wanted = self.text.casefold()
        if wanted in row.summary.casefold():
            return True
        if isinstance(row.event, msgspec.UnsetType):
            return False
        shown = bytes(row.event).decode(errors="replace").casefold()
        written = msgspec.json.encode(wanted)[1:-1].decode()  # quotes and line breaks stand there as escapes
        return wanted in shown or written in shown


def _sort(row: Row) -> str:
    return PUBLIC if row.kind in _PUBLIC else INTERNAL


class Compaction:
    """Folds each run of two or more updates of one artifact, under one claim, into one row, while rows come."""

    def __init__(self) -> None:
        self._first: Row | None = None
        self._last: Row | None = None
        self._count = 0
        self._bytes = 0

    def add(self, row: Row) -> list[Row | Run]:
        """The next row; what is whole now, in order. An update of an artifact waits, because more may follow."""
        before = self._last
        whole = [] if before is not None and _goes_on(before, row) else self.end()
        if not row.artifact:
            return [*whole, row]
        if self._first is None:
            self._first = row
        self._last = row
        self._count += 1
        self._bytes += row.bytes
        return whole

    @property
    def waiting(self) -> Row | Run | None:
        """The run that may go on, as it is now."""
        first, last = self._first, self._last
        if first is None or last is None or first is last:
            return first
        seconds = (milliseconds_of(last.time) - milliseconds_of(first.time)) / 1000
        return Run(
            revision=first.revision,
            last_revision=last.revision,
            position=first.position,
            time=first.time,
            seconds=seconds,
            kind=first.kind,
            writer=first.writer,
            epoch=first.epoch,
            attempt=first.attempt,
            artifact=first.artifact,
            count=self._count,
            bytes=self._bytes,
            summary=f"{first.artifact}: {self._count} chunks, {self._bytes} B, {seconds:.3f} s",
        )

    def end(self) -> list[Row | Run]:
        """No more will come, or none that goes on with the run: what waited."""
        waiting = self.waiting
        self._first = self._last = None
        self._count = self._bytes = 0
        return [] if waiting is None else [waiting]


def compact(rows: Iterable[Row]) -> Iterator[Row | Run]:
    """Rows, with each run of two or more updates of one artifact, under one claim, folded into one."""
    compaction = Compaction()
    for row in rows:
        yield from compaction.add(row)
    yield from compaction.end()


def ends(rows: Iterable[Row | Run], most: int) -> list[Row | Run | int]:
    """The first and the last rows, and between them how many were left out, if there are more than ``most``."""
    every = list(rows)
    if len(every) <= most:
        return [*every]
    half = most // 2
    return [*every[:half], len(every) - 2 * half, *every[-half:]]


def _goes_on(before: Row, row: Row) -> bool:
    return (row.artifact, row.epoch, row.revision) == (before.artifact, before.epoch, before.revision + 1)


def rows_of(record: Record) -> list[Row]:
    """One row for each event of a record; one that is damaged says so, and has no ``event``."""
    lines = [*record.lines(), *repeat(b"", len(record.header.kinds))]  # damaged, it may lack some
    return [_row(record, at, lines[at]) for at in range(len(record.header.kinds))]


def _row(record: Record, at: int, line: bytes) -> Row:
    header, code = record.header, record.header.kinds[at]
    row = Row(
        revision=header.revision + at,
        position=record.position,
        time=timestamp_of(header.times[at]),
        kind=_KINDS.get(code, f"unknown ({code})"),
        writer=f"{header.writer.role}/{header.writer.instance}",
        epoch=header.epoch,
        summary="",
        bytes=len(line),
        attempt=header.attempt,
    )
    try:
        event = decode_line(code, line)
        return msgspec.structs.replace(
            row,
            summary=summary(event),
            state=event.status.state.name if isinstance(event, StatusChanged) else "",
            artifact=event.artifact.artifact_id if isinstance(event, ArtifactChanged) else "",
            event=_shown(event, line),
        )
    except ValueError as error:
        return msgspec.structs.replace(row, summary=f"damaged: {error}")


def _shown(event: Event, line: bytes) -> Raw | msgspec.UnsetType:
    match event:
        case Unknown():
            return msgspec.UNSET
        case PushConfigSet():
            return Raw(line_of(msgspec.structs.replace(event, sealed=""))[1])  # secrets are shown in no form
        case _:
            return Raw(line)


def summary(event: Event) -> str:
    """What an event says, in a few words; content is only counted."""
    match event:
        case Submitted():
            origin = _origin(event.origin)
            return f"message {_message_id(event.message)}, context {event.context_id}{_by(event.actor)}{origin}"
        case MessageReceived():
            return f"message {_message_id(event.message)}{_by(event.actor)}"
        case MessageUnread():
            return f"not handled: {', '.join(event.message_ids)}"
        case CancelRequested():
            return f"asked{_by(event.actor)}"
        case TurnClaimed():
            why = f": {event.reason}" if event.reason else ""
            return f"attempt {event.attempt}, policy {event.policy}{why}"
        case TurnReleased():
            return f"of epoch {event.epoch}{f': {event.reason}' if event.reason else ''}"
        case TurnNudged() | TurnConfirmed():
            return f"of epoch {event.epoch}"
        case TurnSuspended():
            return f"until {timestamp_of(event.until)}"
        case Step():
            return f"{event.name}: {len(bytes(event.result))} B"
        case Timer():
            return f"{event.name}: due {timestamp_of(event.due)}"
        case TurnEnded():
            return event.reason
        case StatusChanged():
            return event.status.state.name
        case ArtifactChanged():
            more = " more" if event.append else ""
            last = ", the last" if event.last_chunk else ""
            return f"{event.artifact.artifact_id}: {len(bytes(event.artifact.parts))} B{more}{last}"
        case Replied():
            return f"message {_message_id(event.message)}"
        case PushConfigSet():
            return f"{event.id}: {event.url}{_by(event.actor)}"
        case PushConfigDeleted():
            return f"{event.id}{_by(event.actor)}"
        case DeadLetter():
            return f"{event.config} did not take revision {event.revision} in {event.attempts} attempts: {event.reason}"
        case TaskDeadLettered():
            return f"given up after {event.attempts} {'attempt' if event.attempts == 1 else 'attempts'}: {event.reason}"
        case Forked():
            count = len(event.pending)
            messages = f"{count} message{'' if count == 1 else 's'}"
            return f"begins with {len(bytes(event.state))} B of state, {messages} to handle"
        case Tombstone():
            return f"removed: {event.reason}"
        case Unknown():
            return f"{len(event.line)} B"
        case _:
            assert_never(event)


def _by(actor: Actor) -> str:
    return "" if actor == Actor() else f", by {actor.subject}{f' of {actor.tenant}' if actor.tenant else ''}"


class Origin(Struct, frozen=True, rename="camel", omit_defaults=True):
    """Where a task comes from: the state that it was forked from, or the dead letter that it repeats."""

    task_id: str = ""
    revision: int = 0
    replay_of: str = ""


def _origin(raw: Raw) -> str:
    if not bytes(raw):
        return ""
    origin = msgspec.json.decode(raw, type=Origin)
    if origin.task_id:
        return f", forked from {origin.task_id}@{origin.revision}"
    return f", a replay of {origin.replay_of}" if origin.replay_of else ""


class _Named(Struct, rename="camel"):
    message_id: str = ""


def _message_id(message: Raw) -> str:
    return msgspec.json.decode(message, type=_Named).message_id
