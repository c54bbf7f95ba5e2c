"""The facts about a task: a closed union, one struct a kind.

A fact is one line of a record: a JSON object with one member that names the kind. Public facts are the A2A
StreamResponse member itself (``{"statusUpdate":…}``), so a gateway shows their bytes as they are; internal facts are
members of the same form with names of their own. What clients and agents wrote stays JSON bytes (``msgspec.Raw``): the
core never interprets content.

The one-letter code of each kind stands in the record's header, so that readers skip without decoding. Codes are
promises: they are added to and never reused. Kinds that this version reserves and does not write have a code and no
struct; they fold like unknown ones: kept, counted, skipped.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Raw, Struct

from a2a_events.model import TaskState

NOTHING: Final = Raw(b"")
"""An absent JSON value (``Raw | None`` cannot be decoded)."""


class Fact(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What all kinds have in common: frozen, camelCase, defaults left out, unknown members ignored."""


class Actor(Fact, frozen=True):
    """Who asked. ``subject`` is ``anonymous`` where nobody was asked to identify themselves."""

    tenant: str = ""
    subject: str = "anonymous"
    role: str = "client"


class Submitted(Fact, frozen=True):
    """A client's first message made this task. Recorded by a gateway, once, first (specification 3.1.1).

    ``message`` holds the ids that the task was given. ``replies`` is ``either`` when the agent may answer with a bare
    Message: then nothing is public before the agent's first public event.
    """

    context_id: str
    message: Raw
    owner: Actor
    actor: Actor
    replies: str = "task"
    configuration: Raw = NOTHING
    metadata: Raw = NOTHING
    extensions: tuple[str, ...] = ()
    protocol_version: str = "1.0"
    dialect: str = "1.0"
    idempotency_key: str = ""
    """Hash of the key; never the key."""
    body_hash: str = ""
    origin: Raw = NOTHING
    """The task this one was forked from or asked by."""


class MessageReceived(Fact, frozen=True):
    """A further message to the task. Recorded by a gateway."""

    message: Raw
    actor: Actor
    configuration: Raw = NOTHING
    metadata: Raw = NOTHING
    extensions: tuple[str, ...] = ()
    idempotency_key: str = ""
    body_hash: str = ""


class MessageUnread(Fact, frozen=True):
    """These messages were accepted, and no turn that was given them ended by itself. Stands in the ending's record."""

    message_ids: tuple[str, ...]
    more: int = 0
    """How many further ones are not named, so that an ending always fits into its record."""


class CancelRequested(Fact, frozen=True):
    """From here on CANCELED is the only possible end (turns 6). Recorded by a gateway when a worker owns the turn."""

    actor: Actor
    metadata: Raw = NOTHING


class TurnClaimed(Fact, frozen=True):
    """A worker owns the turn from here on; ends the ownership of every smaller epoch (turns 4)."""

    epoch: int
    lease: int
    """Position of the ``in`` record whose delivery the owner keeps alive; 0 means this claim's own turn had none."""
    delivery: int = 1
    """How often the broker had delivered that record; a higher count is evidence against this owner (turns 4.3)."""
    attempt: int = 1
    policy: str = "fail"
    agent_version: str = ""
    reason: str = ""
    """Why somebody runs the turn again: what ended the attempt before; empty for a turn's first."""


class TurnReleased(Fact, frozen=True):
    """Nobody owns the unfinished turn any more, and somebody is to go on; dispatches itself (turns 4.8, 4.11)."""

    epoch: int
    reason: str = ""


class TurnNudged(Fact, frozen=True):
    """Is the owner of this epoch alive? Any record of the epoch answers (turns 5.2)."""

    epoch: int


class TurnSuspended(Fact, frozen=True):
    """Nobody owns the unfinished turn until a timer is due or a message comes; no process waits (turns 4.11)."""

    epoch: int
    given: int
    """Messages up to this position were given to the agent: their deliveries are settled."""
    until: int
    """Milliseconds."""


class Step(Fact, frozen=True):
    """A step of the open turn is done: a later attempt gets this result and does not do it again."""

    epoch: int
    name: str
    result: Raw


class Timer(Fact, frozen=True):
    """A timer of the open turn runs: a later attempt waits for the same time."""

    epoch: int
    name: str
    due: int
    """Milliseconds."""


class TurnConfirmed(Fact, frozen=True):
    """The owner of this epoch lives: what it answers a nudge with when it has nothing else to say (turns 5.2)."""

    epoch: int


class TurnEnded(Fact, frozen=True):
    """The turn is over; the status beside it in the record says how."""

    epoch: int
    handled: int
    """Messages up to this position were given to the agent (turns 4.5)."""
    reason: str = ""


class StatusLine(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """The parts of a TaskStatus that the fold needs."""

    state: TaskState
    message: Raw = NOTHING
    timestamp: str = ""


class StatusChanged(Fact, frozen=True):
    """Public ``statusUpdate`` (specification 4.2.1)."""

    status: StatusLine
    metadata: Raw = NOTHING
    """Its members go into the task's metadata too."""


class ArtifactLine(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """The parts of an Artifact that the fold needs."""

    artifact_id: str
    parts: Raw
    name: str = ""
    description: str = ""
    metadata: Raw = NOTHING
    extensions: tuple[str, ...] = ()


class ArtifactChanged(Fact, frozen=True):
    """Public ``artifactUpdate`` (specification 4.2.2)."""

    artifact: ArtifactLine
    append: bool = False
    last_chunk: bool = False


class Replied(Fact, frozen=True):
    """Public ``message``: the agent's whole answer, instead of a task. Ends the timeline."""

    message: Raw


class PushConfigSet(Fact, frozen=True):
    """A webhook wants every update after this one; one of the same id is replaced (specification 3.1.7).

    Recorded by a gateway, also after the end of the task. Secrets stand here in sealed form only (``runtime.seal``).
    """

    id: str
    url: str
    scheme: str = ""
    """Of the ``Authorization`` header; its credentials are sealed."""
    sealed: str = ""
    """Token and credentials, bound to this task and id; empty if there are none."""
    actor: Actor = Actor()


class PushConfigDeleted(Fact, frozen=True):
    """A webhook wants no more (specification 3.1.10)."""

    id: str
    actor: Actor = Actor()


class DeadLetter(Fact, frozen=True):
    """A webhook did not take an update, however often it was tried: it gets no more until it is set again."""

    config: str
    """Id of the webhook's config."""
    config_revision: int
    """Of the event that set it."""
    revision: int
    """Of the first update that it did not take."""
    attempts: int
    reason: str = ""


class TaskDeadLettered(Fact, frozen=True):
    """The task was given up: no agent's word ended it. Stands in the ending's record; operators look after it."""

    epoch: int
    attempts: int
    reason: str


class Forked(Fact, frozen=True):
    """The task stands like this, whatever it was before.

    It goes on from the state of another one: ``submitted`` names that in ``origin``, and this ends the first record.
    Or a server that writes whole tasks has saved it, at any time; then nobody here is to handle anything (ADR 0032).
    The record of a fork also holds the messages that no turn had handled there, and the steps of the turn that was to
    handle them. Webhooks, idempotency keys and a cancel of the other task are not carried over.
    """

    state: Raw
    """A Task, under this task's ids: status, history with those messages, and artifacts."""
    pending: tuple[int, ...]
    """Revisions, in this timeline, of the messages that are to be handled."""
    status_in_history: bool = False
    """Whether the history holds the status message already."""
    public: bool = False
    """Whether the agent had said anything public."""


class Tombstone(Fact, frozen=True):
    """The task was removed; what came before may be gone, and its timeline may begin with this. Nothing comes after.

    It keeps no word of anybody: only what a late retry of the request that made the task must find.
    """

    reason: str
    idempotency_key: str = ""
    """As in ``submitted``."""
    body_hash: str = ""


class Unknown(Fact, frozen=True):
    """A kind that this version does not know, or reserves; ``line`` is kept byte for byte."""

    line: bytes


Event: TypeAlias = (
    Submitted
    | MessageReceived
    | MessageUnread
    | CancelRequested
    | TurnClaimed
    | TurnReleased
    | TurnNudged
    | TurnSuspended
    | Step
    | Timer
    | TurnConfirmed
    | TurnEnded
    | StatusChanged
    | ArtifactChanged
    | Replied
    | PushConfigSet
    | PushConfigDeleted
    | DeadLetter
    | TaskDeadLettered
    | Forked
    | Tombstone
    | Unknown
)


class Kind(Enum):
    """Every kind of event and its code in record headers."""

    SUBMITTED = "s"
    MESSAGE_RECEIVED = "m"
    MESSAGE_UNREAD = "u"
    CANCEL_REQUESTED = "x"
    TURN_CLAIMED = "c"
    TURN_RELEASED = "r"
    TURN_NUDGED = "n"
    TURN_SUSPENDED = "h"
    STEP = "p"
    TIMER = "t"
    TURN_CONFIRMED = "y"
    TURN_ENDED = "e"
    STATUS = "S"
    ARTIFACT = "A"
    REPLY = "M"
    PUSH_CONFIG_SET = "w"
    PUSH_CONFIG_DELETED = "d"
    DEAD_LETTER = "l"
    TASK_DEAD_LETTERED = "L"
    FORKED = "f"
    TOMBSTONE = "z"
    # Reserved: written by later versions; a reader of this one keeps and counts them.
    DELIVERY_ATTEMPT = "v"


MEMBERS: Final[dict[Kind, str]] = {
    Kind.SUBMITTED: "submitted",
    Kind.MESSAGE_RECEIVED: "messageReceived",
    Kind.MESSAGE_UNREAD: "messageUnread",
    Kind.CANCEL_REQUESTED: "cancelRequested",
    Kind.TURN_CLAIMED: "turnClaimed",
    Kind.TURN_RELEASED: "turnReleased",
    Kind.TURN_NUDGED: "turnNudged",
    Kind.TURN_CONFIRMED: "turnConfirmed",
    Kind.TURN_ENDED: "turnEnded",
    Kind.TURN_SUSPENDED: "turnSuspended",
    Kind.STATUS: "statusUpdate",
    Kind.ARTIFACT: "artifactUpdate",
    Kind.REPLY: "message",
    Kind.STEP: "step",
    Kind.TIMER: "timer",
    Kind.PUSH_CONFIG_SET: "pushConfigSet",
    Kind.PUSH_CONFIG_DELETED: "pushConfigDeleted",
    Kind.DELIVERY_ATTEMPT: "deliveryAttempt",
    Kind.DEAD_LETTER: "deadLetter",
    Kind.TASK_DEAD_LETTERED: "taskDeadLettered",
    Kind.FORKED: "forked",
    Kind.TOMBSTONE: "tombstone",
}
"""The one member of each kind's line."""

PUBLIC_CODES: Final = frozenset({Kind.STATUS.value, Kind.ARTIFACT.value, Kind.REPLY.value})
"""Kinds whose lines clients see."""
INBOUND_CODES: Final = frozenset(
    {
        Kind.SUBMITTED.value,
        Kind.MESSAGE_RECEIVED.value,
        Kind.CANCEL_REQUESTED.value,
        Kind.TURN_RELEASED.value,
        Kind.TURN_NUDGED.value,
    }
)
"""Kinds that ask a worker for something: a record that holds one rides the ``in`` lane."""

CRITICAL_CODES: Final = frozenset({Kind.TURN_SUSPENDED.value, Kind.FORKED.value})
"""Kinds that a reader must know to fold past them: else a turn that nobody owns looks owned, or a task lacks a past."""

_STRUCTS: Final[dict[str, type[Any]]] = {
    Kind.SUBMITTED.value: Submitted,
    Kind.MESSAGE_RECEIVED.value: MessageReceived,
    Kind.MESSAGE_UNREAD.value: MessageUnread,
    Kind.CANCEL_REQUESTED.value: CancelRequested,
    Kind.TURN_CLAIMED.value: TurnClaimed,
    Kind.TURN_RELEASED.value: TurnReleased,
    Kind.TURN_NUDGED.value: TurnNudged,
    Kind.TURN_SUSPENDED.value: TurnSuspended,
    Kind.STEP.value: Step,
    Kind.TIMER.value: Timer,
    Kind.TURN_CONFIRMED.value: TurnConfirmed,
    Kind.TURN_ENDED.value: TurnEnded,
    Kind.STATUS.value: StatusChanged,
    Kind.ARTIFACT.value: ArtifactChanged,
    Kind.PUSH_CONFIG_SET.value: PushConfigSet,
    Kind.PUSH_CONFIG_DELETED.value: PushConfigDeleted,
    Kind.DEAD_LETTER.value: DeadLetter,
    Kind.TASK_DEAD_LETTERED.value: TaskDeadLettered,
    Kind.FORKED.value: Forked,
    Kind.TOMBSTONE.value: Tombstone,
}
_KINDS: Final[dict[type[Any], Kind]] = {struct: Kind(code) for code, struct in _STRUCTS.items()}
_DECODERS: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    code: msgspec.json.Decoder(
        msgspec.defstruct(f"{struct.__name__}Line", [("fact", struct)], rename={"fact": MEMBERS[Kind(code)]})
    )
    for code, struct in _STRUCTS.items()
}
_REPLY_PREFIX: Final = b'{"message":'
_reply_decoder: Final = msgspec.json.Decoder(Replied)
_encoder: Final = msgspec.json.Encoder()


def line_of(event: Event) -> tuple[Kind, bytes]:
    """Kind and line of an internal event, or of one read from the log."""
    if isinstance(event, Replied):
        return Kind.REPLY, _REPLY_PREFIX + bytes(event.message) + b"}"
    assert not isinstance(event, Unknown), "unknown kinds are kept, never written"
    kind = _KINDS[type(event)]
    return kind, b'{"' + MEMBERS[kind].encode() + b'":' + _encoder.encode(event) + b"}"


def decode_line(code: str, line: bytes) -> Event:
    """One event out of its line.

    Args:
        code: the kind's code in the record's header.
        line: the JSON object; public lines must begin with their member, as every writer of ours does.

    Raises:
        ValueError: the line is not of this kind: the record is damaged.
    """
    decoder = _DECODERS.get(code)
    if decoder is not None:
        event: Event = decoder.decode(line).fact
        return event
    if code == Kind.REPLY.value:
        return _reply_decoder.decode(line)
    return Unknown(line=line)
