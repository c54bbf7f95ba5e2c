"""How a writer packs events into one record, and how a reader takes it apart.

The payload is one line of JSON per event. What a reader needs to skip or order records without decoding them rides in
one packed header (parsing headers is most of a NATS client's cost), fields joined by ``|``::

    (
        version
        | flags
        | incarnation
        | id
        | revision
        | kinds
        | generation
        | epoch
        | attempt
        | role
        | instance
        | software
        | encoding
        | key
        | times
    )

``flags`` holds ``c`` when a reader that does not know a kind must not fold past the record, and ``w`` when the task had
webhooks before the record: whoever delivers to them need look at no other. ``revision`` and
``generation`` are those of the record's first event and first visible event. ``times`` is the writer's clock at each
event in milliseconds, the first absolute, the rest as differences, never falling within a task.
New fields are added at the end; readers ignore fields they do not know.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from msgspec import Struct

from a2a_events.timeline.events import CRITICAL_CODES, INBOUND_CODES, PUBLIC_CODES, Event, Kind, decode_line, line_of

HEADER_VERSION: Final = "1"
_FIELDS: Final = 15
_VISIBLE: Final = (Kind.SUBMITTED.value, Kind.STATUS.value, Kind.ARTIFACT.value)


class Writer(Struct, frozen=True):
    """Who appends. ``instance`` names the process, ``software`` its version; neither may hold ``|``."""

    role: str
    instance: str
    software: str = ""


class Header(Struct, frozen=True):
    """What rides in a record's header. See the module for the fields."""

    record_id: str
    revision: int
    kinds: str
    generation: int
    writer: Writer
    times: tuple[int, ...]
    incarnation: str = ""
    epoch: int = 0
    attempt: int = 0
    critical: bool = False
    webhooks: bool = False
    encoding: str = ""
    key_id: str = ""

    @property
    def tombstone(self) -> bool:
        """Whether the record says that its task was removed."""
        return self.kinds == Kind.TOMBSTONE.value

    @property
    def last_revision(self) -> int:
        """Revision of the record's last event."""
        return self.revision + len(self.kinds) - 1


class Draft(Struct, frozen=True):
    """A record that a writer offers: not yet in the log, and perhaps never."""

    header: Header
    payload: bytes
    past: bool = False
    """Whether it tells what happened elsewhere, and asks nobody for anything: an imported record."""

    @property
    def inbound(self) -> bool:
        """Whether the record asks a worker for something, and so rides the ``in`` lane."""
        return not self.past and not INBOUND_CODES.isdisjoint(self.header.kinds)


class Record(Struct, frozen=True):
    """A record that the log has stored: durable, at a position, never changed."""

    position: int
    header: Header
    payload: bytes
    inbound: bool
    trace: str = ""
    """Trace context of the request or turn that wrote it: W3C's ``traceparent``, and ``tracestate`` behind a space."""

    def lines(self) -> list[bytes]:
        """The events' lines, in order."""
        return self.payload.split(b"\n")

    def events(self) -> list[Event]:
        """The events, decoded.

        Raises:
            ValueError: the record is damaged.
        """
        lines = self.lines()
        if len(lines) != len(self.header.kinds):
            message = f"record {self.header.record_id} holds {len(lines)} lines for kinds {self.header.kinds!r}"
            raise ValueError(message)
        return [decode_line(code, line) for code, line in zip(self.header.kinds, lines, strict=True)]

    def updates(self, after_revision: int) -> list[tuple[int, bytes]]:
        """Revision and line of each public event after a revision, as a client is to see them."""
        first = self.header.revision
        return [
            (revision, line)
            for revision, (code, line) in enumerate(zip(self.header.kinds, self.lines(), strict=True), first)
            if code in PUBLIC_CODES and revision > after_revision
        ]


class Entry(Struct, frozen=True):
    """An event on its way into a record: its kind's code, its line, and the writer's time in milliseconds."""

    code: str
    line: bytes
    time: int


def entry(event: Event, time: int) -> Entry:
    """An entry for an internal event (public ones are made by ``render``)."""
    kind, line = line_of(event)
    return Entry(kind.value, line, time)


def draft(
    entries: Sequence[Entry],
    *,
    record_id: str,
    revision: int,
    generation: int,
    writer: Writer,
    not_before: int = 0,
    incarnation: str = "",
    epoch: int = 0,
    attempt: int = 0,
    webhooks: bool = False,
) -> Draft:
    """Pack events into the record that would follow ``revision`` and ``generation``.

    Args:
        entries: at least one event, in order.
        record_id: random, kept by the process that made it (turns 3.6).
        revision: of the task before this record.
        generation: of the task before this record.
        writer: who appends.
        not_before: the task's newest time in milliseconds; earlier times are raised to it.
        incarnation: of the log.
        epoch: of the writer's claim, 0 without one.
        attempt: of the writer's turn, 0 without one.
        webhooks: whether the task has any, before this record.
    """
    assert entries, "a record holds at least one event"
    assert not any(b"\n" in e.line for e in entries), "a newline is what separates the lines of a record"
    times = tuple(accumulate([e.time for e in entries], max, initial=not_before))[1:]
    kinds = "".join([e.code for e in entries])
    header = Header(
        record_id=record_id,
        revision=revision + 1,
        kinds=kinds,
        generation=generation + 1,
        writer=writer,
        times=times,
        incarnation=incarnation,
        epoch=epoch,
        attempt=attempt,
        critical=not CRITICAL_CODES.isdisjoint(kinds),
        webhooks=webhooks,
    )
    return Draft(header, b"\n".join([e.line for e in entries]))


def visible(kinds: str) -> int:
    """How many of these kinds change what a client sees: what a record adds to the generation."""
    return sum(map(kinds.count, _VISIBLE))


def pack(header: Header) -> str:
    """The header as one line of ASCII."""
    writer = header.writer
    first, *rest = header.times
    previous = first
    times = [str(first)]
    if any(time != first for time in rest):
        for time in rest:
            times.append(str(time - previous))
            previous = time
    flags = f"{'c' if header.critical else ''}{'w' if header.webhooks else ''}"
    return (
        f"{HEADER_VERSION}|{flags}|{header.incarnation}|{header.record_id}|{header.revision}"
        f"|{header.kinds}|{header.generation}|{header.epoch}|{header.attempt}|{writer.role}|{writer.instance}"
        f"|{writer.software}|{header.encoding}|{header.key_id}|{','.join(times)}"
    )


def unpack(text: str) -> Header:
    """Read a packed header.

    Raises:
        ValueError: not a header of a version that this reader knows.
    """
    fields = text.split("|", _FIELDS)
    if fields[0] != HEADER_VERSION or len(fields) < _FIELDS:
        message = f"record header of unknown version: {text[:16]!r}"
        raise ValueError(message)
    kinds = fields[5]
    if "," in fields[14]:
        times = tuple(accumulate(int(t) for t in fields[14].split(",")))
        if len(times) != len(kinds):
            message = f"{len(times)} times for {len(kinds)} events"
            raise ValueError(message)
    else:
        times = (int(fields[14]),) * len(kinds)
    return Header(
        record_id=fields[3],
        revision=int(fields[4]),
        kinds=kinds,
        generation=int(fields[6]),
        writer=Writer(fields[9], fields[10], fields[11]),
        times=times,
        incarnation=fields[2],
        epoch=int(fields[7]),
        attempt=int(fields[8]),
        critical="c" in fields[1],
        webhooks="w" in fields[1],
        encoding=fields[12],
        key_id=fields[13],
    )
