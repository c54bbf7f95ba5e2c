"""A task's whole timeline as one file, to be looked at, replayed or imported elsewhere.

One JSON object a line: the task, then each record as the log had it, then the SHA-256 of all lines before. The lines of
events are those of the log, byte for byte; secrets of webhooks are left out always, and what :func:`redacted` removes
is gone for good. The format is versioned like the log's: a reader refuses what is newer.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

import msgspec
from msgspec import Raw, Struct

from a2a_events.errors import Unreadable
from a2a_events.timeline.events import (
    NOTHING,
    Kind,
    PushConfigSet,
    TurnClaimed,
    TurnEnded,
    TurnSuspended,
    decode_line,
    line_of,
)
from a2a_events.timeline.ids import TaskRef, is_name, is_token, parse_task_id
from a2a_events.timeline.record import Header, Record, pack, unpack

VERSION: Final = 1
REDACTED: Final = "[redacted]"


class DamagedBundle(ValueError):
    """The file is no bundle, was cut or changed, or is newer than this software; says which. Repeating cannot help."""


class Bundle(Struct, frozen=True):
    """A recorded timeline."""

    task: TaskRef
    records: tuple[Record, ...]
    card: Raw = NOTHING
    """The agent's card as it was announced when the timeline was recorded; empty if it was not known."""
    redacted: bool = False

    @property
    def revisions(self) -> int:
        """How many events it holds."""
        return self.records[-1].header.last_revision if self.records else 0


class _Head(Struct, rename="camel", omit_defaults=True):
    bundle: int
    task_id: str
    agent: str
    tenant: str
    """The token, never the raw name."""
    records: int
    events: int
    card: Raw = NOTHING
    redacted: bool = False


class _Line(Struct, omit_defaults=True):
    position: int
    header: str
    events: list[Raw]
    inbound: bool = False
    trace: str = ""


class _Foot(Struct):
    sha256: str


def write(bundle: Bundle) -> bytes:
    """A bundle as a file."""
    task = bundle.task
    head = _Head(
        bundle=VERSION,
        task_id=task.task_id,
        agent=task.agent,
        tenant=task.tenant,
        records=len(bundle.records),
        events=bundle.revisions,
        card=bundle.card,
        redacted=bundle.redacted,
    )
    lines = [_encoder.encode(head)]
    for record in bundle.records:
        events = [Raw(line) for line in record.lines()]
        lines.append(_encoder.encode(_Line(record.position, pack(record.header), events, record.inbound, record.trace)))
    body = b"\n".join(lines) + b"\n"
    return body + _encoder.encode(_Foot(hashlib.sha256(body).hexdigest())) + b"\n"


def read(content: bytes) -> Bundle:
    """A bundle out of a file.

    Raises:
        DamagedBundle: says what is wrong with it.
    """
    body, _, foot = content.rstrip(b"\n").rpartition(b"\n")
    body += b"\n"
    try:
        head = _head_decoder.decode(body.split(b"\n", 1)[0])
    except (ValueError, RecursionError):
        raise DamagedBundle("this is no bundle of a task: its first line says nothing of one") from None
    if not 1 <= head.bundle <= VERSION:
        raise DamagedBundle(f"this bundle has format {head.bundle}; this version reads up to {VERSION}: upgrade it")
    try:
        checksum = _foot_decoder.decode(foot).sha256
    except ValueError:
        raise DamagedBundle("the bundle was cut: its last line holds no checksum") from None
    if checksum != hashlib.sha256(body).hexdigest():
        raise DamagedBundle("the bundle was changed: its checksum is another's")
    try:
        body.decode()  # what stands in events is taken over unread
        records = tuple(_record(_line_decoder.decode(line)) for line in body.split(b"\n")[1:-1])
    except (ValueError, RecursionError) as error:
        raise DamagedBundle(f"a record of the bundle is damaged: {error}") from None
    if len(records) != head.records or (records and records[-1].header.last_revision != head.events):
        raise DamagedBundle(f"the bundle holds {len(records)} records, and says that it holds {head.records}")
    _check_order(records)
    return Bundle(_task(head), records, head.card, head.redacted)


def without_secrets(record: Record) -> Record:
    """The record without the sealed secrets of webhooks, which nothing outside the deployment can open anyway."""
    if Kind.PUSH_CONFIG_SET.value not in record.header.kinds:
        return record

    def unsealed(code: str, line: bytes) -> bytes:
        event = decode_line(code, line)
        if not isinstance(event, PushConfigSet):
            return line
        return line_of(msgspec.structs.replace(event, sealed=""))[1]

    return _each(record, unsealed)


def redacted(bundle: Bundle, *, content: bool = False, patterns: Sequence[re.Pattern[str]] = ()) -> Bundle:
    """The bundle without what must not leave the house. States, times, ids and sizes of commits stay.

    Args:
        bundle: as it was recorded.
        content: remove what clients and agents wrote, and who they were. Of their texts only ids and names of steps
            stay, by which events belong together.
        patterns: replace every match in any text but ids, in names of processes and in the agent's card. A match is
            looked for in one text at a time: not across chunks, and not in files.
    """

    def clean(code: str, line: bytes) -> bytes:
        fact = msgspec.json.decode(line)
        if content:
            fact = _without_content(fact, _KEPT.get(code, _IDS | _OURS))
        return _encoder.encode(_without_matches(fact, patterns))

    def whole(record: Record) -> Record:
        header, writer = record.header, record.header.writer
        writer = msgspec.structs.replace(writer, instance=_without_matches(writer.instance, patterns))
        return _each(msgspec.structs.replace(record, header=msgspec.structs.replace(header, writer=writer)), clean)

    card = bundle.card
    if patterns and bytes(card):
        card = Raw(_encoder.encode(_without_matches(msgspec.json.decode(card), patterns)))
    return msgspec.structs.replace(bundle, records=tuple(map(whole, bundle.records)), card=card, redacted=True)


def without_content(bundle: Bundle) -> bool:
    """Whether what clients wrote was removed, so that no agent can be asked it again."""
    if not bundle.redacted or not bundle.records:
        return False
    submitted = msgspec.json.decode(bundle.records[0].lines()[0])["submitted"]
    return all(part == _part(part) for part in submitted["message"].get("parts", []))


def renamed(bundle: Bundle, task: TaskRef) -> Bundle:
    """The bundle as that of another task: its id stands wherever the old one stood, in texts too."""
    old, new = (_encoder.encode(name)[1:-1] for name in (bundle.task.task_id, task.task_id))
    records = tuple(
        msgspec.structs.replace(record, payload=record.payload.replace(old, new)) for record in bundle.records
    )
    return msgspec.structs.replace(bundle, task=task, records=records)


def moved(record: Record, positions: Mapping[int, int]) -> Record:
    """The record for a log that has the records before it at other positions.

    Args:
        record: of the bundle.
        positions: of every record before it: where it was, and where it is.
    """
    if _POSITIONED.isdisjoint(record.header.kinds):
        return record
    known = sorted(positions)

    def there(position: int) -> int:
        # What names no record of the task (``handled`` may) stands for the newest one up to there.
        at = bisect_right(known, position)
        return positions[known[at - 1]] if at else 0

    def line_there(code: str, line: bytes) -> bytes:
        event = decode_line(code, line)
        match event:
            case TurnClaimed():
                event = msgspec.structs.replace(event, lease=there(event.lease))
            case TurnEnded():
                event = msgspec.structs.replace(event, handled=there(event.handled))
            case TurnSuspended():
                event = msgspec.structs.replace(event, given=there(event.given))
            case _:
                return line
        return line_of(event)[1]

    return _each(record, line_there)


_POSITIONED: Final = frozenset({Kind.TURN_CLAIMED.value, Kind.TURN_ENDED.value, Kind.TURN_SUSPENDED.value})
_IDS: Final = frozenset(
    {"id", "taskId", "contextId", "messageId", "artifactId", "referenceTaskIds", "messageIds", "config", "replayOf"}
)
_OURS: Final = frozenset(
    {
        *("state", "role", "timestamp", "replies", "protocolVersion", "dialect", "idempotencyKey", "bodyHash"),
        *("policy", "agentVersion", "reason"),
    }
)
"""Members that this software wrote, or read as one of a few words."""
_UNMATCHED: Final = _IDS | (_OURS - {"reason"})
"""Members that patterns leave alone."""
_THEIRS: Final = frozenset({"metadata", "data", "result"})
"""Members that hold any JSON: names in it mean nothing to us."""
_KEPT: Final[dict[str, frozenset[str]]] = {
    Kind.STEP.value: _IDS | _OURS | {"name"},  # a later attempt finds its steps and timers by their names
    Kind.TIMER.value: _IDS | _OURS | {"name"},
    Kind.DEAD_LETTER.value: (_IDS | _OURS) - {"reason"},  # may quote what the webhook answered
}
_PARTS: Final[dict[str, Any]] = {"text": REDACTED, "raw": "", "url": "https://redacted.invalid/", "data": None}


def _each(record: Record, change: Callable[[str, bytes], bytes]) -> Record:
    try:
        lines = [change(code, line) for code, line in zip(record.header.kinds, record.lines(), strict=True)]
    except ValueError as error:
        message = f"record {record.header.record_id} at {record.position} is damaged: {error}"
        raise Unreadable(message) from None
    return msgspec.structs.replace(record, payload=b"\n".join(lines))


def _without_content(value: Any, kept: frozenset[str], name: str = "") -> Any:
    """A value without any text but that of the members kept: what nobody thought of is gone, too."""
    if name in _THEIRS:
        return None
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        return {n: _without_content(inner, kept, n) for n, inner in members.items() if n != "metadata"}
    if isinstance(value, list):
        elements = cast("list[object]", value)
        return [_part(one) if name == "parts" else _without_content(one, kept, name) for one in elements]
    if isinstance(value, str) and value and name not in kept:
        return _PARTS["url"] if name == "url" else REDACTED
    return value


def _part(part: Any) -> Any:
    kinds = [name for name in _PARTS if isinstance(part, dict) and name in part]
    return {name: _PARTS[name] for name in kinds or ["text"]}


def _without_matches(value: Any, patterns: Sequence[re.Pattern[str]], *, theirs: bool = False) -> Any:
    if isinstance(value, list):
        elements = cast("list[object]", value)
        return [_without_matches(one, patterns, theirs=theirs) for one in elements]
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        if theirs:
            return {
                _without_matches(n, patterns): _without_matches(v, patterns, theirs=True) for n, v in members.items()
            }
        return {
            n: v if n in _UNMATCHED else _without_matches(v, patterns, theirs=n in _THEIRS) for n, v in members.items()
        }
    if isinstance(value, str):
        for pattern in patterns:
            value = pattern.sub(REDACTED, value)
    return value


def _record(line: _Line) -> Record:
    header: Header = unpack(line.header)
    if not (line.header.isascii() and line.header.isprintable() and line.trace.isascii() and line.trace.isprintable()):
        message = f"a header of other than plain characters: {line.header!r}"
        raise ValueError(message)
    if header.encoding:
        message = f"its content is stored elsewhere, as {header.encoding!r}"
        raise ValueError(message)
    if not line.events or len(line.events) != len(header.kinds):
        message = f"{len(line.events)} events for kinds {header.kinds!r}"
        raise ValueError(message)
    payload = b"\n".join(bytes(event) for event in line.events)
    return Record(line.position, header, payload, line.inbound, line.trace)


def _check_order(records: Sequence[Record]) -> None:
    """A checksum proves that a file is whole, and nothing of who wrote it."""
    position = revision = 0
    for record in records:
        if record.header.revision != revision + 1 or record.position <= position:
            raise DamagedBundle(f"the bundle's records are not in order, or not all there, after revision {revision}")
        position, revision = record.position, record.header.last_revision


def _task(head: _Head) -> TaskRef:
    """Whose timeline it is; what does not come from a log must not become part of a subject either."""
    home = parse_task_id(head.task_id)
    if home is None:
        raise DamagedBundle(f"{head.task_id!r} is not the id of a task")
    if not is_name(head.agent):
        raise DamagedBundle(f"{head.agent!r} is not the name of an agent")
    if not is_token(head.tenant):
        raise DamagedBundle(f"{head.tenant!r} is not the token of a tenant")
    return TaskRef(*home, head.agent, head.tenant, head.task_id)


_encoder: Final = msgspec.json.Encoder()
_head_decoder: Final = msgspec.json.Decoder(_Head)
_line_decoder: Final = msgspec.json.Decoder(_Line)
_foot_decoder: Final = msgspec.json.Decoder(_Foot)
