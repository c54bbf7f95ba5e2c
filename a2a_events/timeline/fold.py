"""What the events of a task amount to.

:class:`Head` is what every writer needs to decide (turns 1): who owns the turn, what is pending, where the task stands.
:class:`TaskFold` is the head and the content that clients see. Content stays the JSON that was written: folding copies
bytes and interprets none, so ten thousand chunks cost ten thousand appends to a list.

Rules: records are applied in order and whole, and a task is judged at the end of a record, never between two events of
one. Applying a record twice changes nothing. A hole between revisions is an error, never skipped. After a terminal
event the task is final: later events move revision and position only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Final, assert_never

import msgspec
from msgspec import Raw, Struct

from a2a_events import limits
from a2a_events.errors import Unreadable
from a2a_events.model import INTERRUPTED_STATES, TERMINAL_STATES, TaskState, timestamp_of
from a2a_events.timeline.events import (
    NOTHING,
    PUBLIC_CODES,
    Actor,
    ArtifactChanged,
    ArtifactLine,
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
    StatusLine,
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
)
from a2a_events.timeline.idempotency import Mark
from a2a_events.timeline.record import Draft, Entry, Record, Writer, draft, visible

_ARTIFACT: Final = Kind.ARTIFACT.value
_STATUS: Final = Kind.STATUS.value

CONTINUED: Final = "+"
"""In a segment's key: it goes on where the one before it ends, without a comma between them."""

FOLD_VERSION: Final = 6
"""Grows whenever folding the same events gives another result; snapshots of another version are thrown away."""


class TurnState(Enum):
    """Who works on the task."""

    NONE = "none"
    OPEN = "open"
    RELEASED = "released"
    SUSPENDED = "suspended"


class Phase(Enum):
    """The states of the turn protocol (turns 1). A task may rest only in RESTING, SUSPENDED and TERMINAL."""

    NONE = "none"
    QUEUED = "queued"
    RUNNING = "running"
    STOPPING = "stopping"
    RELEASED = "released"
    SUSPENDED = "suspended"
    RESTING = "resting"
    TERMINAL = "terminal"


class Pending(Struct, frozen=True):
    """A message that no ended turn has been given."""

    position: int
    revision: int
    message_id: str


class Done(Struct, frozen=True):
    """A step of the unfinished turn that has a result, or a timer that runs."""

    name: str
    position: int
    """Of the record that holds the event."""
    revision: int


class Webhook(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """A push notification config as it stands (specification 4.3.1); its secrets are sealed."""

    id: str
    url: str
    revision: int
    """Of the event that set it: updates after it are delivered."""
    position: int
    """Of the record that holds that event."""
    scheme: str = ""
    sealed: str = ""
    dead: int = 0
    """Revision of the update that it did not take; 0 while it is served."""


class Head(Struct, kw_only=True, omit_defaults=True, rename="camel"):
    """The part of the fold that decisions rest on. Mutable: it is advanced in place by :meth:`apply`."""

    incarnation: str = ""
    position: int = 0
    """Position of the last record: the expected position of the next append."""
    revision: int = 0
    generation: int = 0
    size_bytes: int = 0
    """Of all events."""
    time: int = 0
    """The newest writer's time seen, milliseconds; a writer's next time is never below it."""
    context_id: str = ""
    owner: Actor | None = None
    dialect: str = "1.0"
    replies: str = "task"
    created_under: Mark | None = None
    """The idempotency key of the first message, if it had one."""
    keys: tuple[Mark, ...] = ()
    """Of further messages, the newest ``limits.YOUNG_KEYS``, oldest first."""
    state: TaskState = TaskState.SUBMITTED
    terminal: bool = False
    public: bool = False
    """Whether the agent has said anything public."""
    replied: bool = False
    epoch: int = 0
    claim: str = ""
    """Record id of the record that holds the newest claim."""
    turn: TurnState = TurnState.NONE
    lease: int = 0
    lease_delivery: int = 0
    attempt: int = 0
    agent_version: str = ""
    turn_position: int = 0
    """Of the record with the first claim of the unfinished turn: where the turn began."""
    turn_revision: int = 0
    """Of that claim: names the turn."""
    state_before: TaskState = TaskState.SUBMITTED
    """Where the task stood when the newest turn began."""
    steps: tuple[Done, ...] = ()
    """Of the unfinished turn, in order."""
    parked: int = 0
    """Messages up to this position were given to a turn that was then suspended: their deliveries are settled."""
    until: int = 0
    """When the suspended turn is to go on, milliseconds."""
    paused: int = 0
    """Revision of the newest event that ended or suspended a turn: wake-ups asked for earlier are void."""
    handled: int = 0
    cancel: int = 0
    """Position of the first cancel request, 0 without one."""
    sign: int = 0
    """Position of the newest record written under the present epoch."""
    nudged: int = 0
    """Position of the newest nudge of the present epoch; ``sign`` is past it once it was answered."""
    pending: tuple[Pending, ...] = ()
    webhooks: tuple[Webhook, ...] = ()
    """By id, so that pages of them are stable."""
    unknown: int = 0
    """Events of kinds that this version does not know."""
    dead_letter: int = 0
    """Revision of the event that says that the task was given up, 0 without one."""
    removed: bool = False
    """Whether nobody is to see the task any more, and its beginning may be gone."""
    after_end: int = 0
    """Status and artifact events found after the terminal one, which the protocol forbids; they change nothing."""

    @property
    def phase(self) -> Phase:
        """Where the task stands in the turn protocol."""
        if self.terminal:
            return Phase.TERMINAL
        if self.turn is TurnState.OPEN:
            return Phase.STOPPING if self.cancel else Phase.RUNNING
        if self.turn is TurnState.RELEASED:
            return Phase.RELEASED
        if self.turn is TurnState.SUSPENDED:
            return Phase.SUSPENDED
        if self.pending:
            return Phase.QUEUED
        return Phase.RESTING if self.revision else Phase.NONE

    @property
    def interrupted(self) -> bool:
        """Whether the task waits for its client."""
        return self.state in INTERRUPTED_STATES

    @property
    def exists(self) -> bool:
        """Whether clients may see a task: a timeline of a bare Message is none, nor is one that may become that."""
        return self.revision > 0 and not (self.replied or self.removed) and (self.replies == "task" or self.public)

    @property
    def notifies(self) -> bool:
        """Whether a webhook waits for updates."""
        return any(not webhook.dead for webhook in self.webhooks)

    def body_under(self, key: str) -> str:
        """Hash of what was asked for under an idempotency key (its hash); empty if it is not known here."""
        marks = (*self.keys, self.created_under) if self.created_under else self.keys
        return next((mark.body for mark in marks if mark.key == key), "")

    def webhook(self, config_id: str) -> Webhook | None:
        """The webhook of this id, if there is one."""
        return next((webhook for webhook in self.webhooks if webhook.id == config_id), None)

    def apply(self, record: Record) -> bool:
        """Advance by one record, decoding nothing that the head does not need; False if it was applied before.

        Raises:
            Unreadable: the record is damaged, does not follow this revision, or must not be folded by this version.
        """
        if not self._follows(record):
            return False
        # Decoded first, so that a record that cannot be folded leaves no trace.
        events = [
            _decode(record, code, line) if code != _ARTIFACT else None
            for code, line in zip(record.header.kinds, _lines(record), strict=True)
        ]
        for revision, event in enumerate(events, record.header.revision):
            if isinstance(event, PushConfigSet | PushConfigDeleted | DeadLetter):
                self._webhooks(event, revision, record.position)
            elif isinstance(event, Tombstone):
                self._removed(event)
            elif event is not None:
                self._note(event, revision, record)
            elif self.terminal:
                self.after_end += 1
            else:
                self.public = True
        self._end(record)
        return True

    def _note(self, event: Event, revision: int, record: Record) -> None:
        """Take in one event of the record that is being applied; nothing but counts changes after the end."""
        if isinstance(event, Unknown):
            self.unknown += 1
            return
        if self.terminal:
            self.after_end += isinstance(event, StatusChanged | Replied)
            return
        match event:
            case Submitted():
                self.context_id, self.owner, self.dialect = event.context_id, event.owner, event.dialect
                self.replies = event.replies
                self.created_under = _mark(event)
                self._message(record, revision, event)
            case MessageReceived():
                if mark := _mark(event):
                    self.keys = (*self.keys, mark)[-limits.YOUNG_KEYS :]
                self._message(record, revision, event)
            case CancelRequested():
                self.cancel = self.cancel or record.position
            case TurnClaimed():
                self._claimed(event, revision, record)
            case TurnReleased():
                self.turn, self.lease = TurnState.RELEASED, 0
            case TurnSuspended():
                self.turn, self.lease, self.paused = TurnState.SUSPENDED, 0, revision
                self.parked, self.until = max(self.parked, event.given), event.until
            case Step() | Timer():
                self.steps = (*self.steps, Done(event.name, record.position, revision))
            case TurnNudged():
                self.nudged = record.position if event.epoch == self.epoch else self.nudged
            case TurnEnded():
                self._turn_over(event.handled)
                self.paused = revision
            case TaskDeadLettered():
                self.dead_letter = revision
            case Forked():
                self._begin_with(event, record.position)
            case StatusChanged():
                self.state, self.public = event.status.state, True
                if event.status.state in TERMINAL_STATES:
                    self._terminal()
            case Replied():
                self.public = self.replied = True
                self.state = TaskState.COMPLETED
                self._terminal()
            case (
                MessageUnread()
                | TurnConfirmed()
                | ArtifactChanged()
                | PushConfigSet()
                | PushConfigDeleted()
                | DeadLetter()
                | Tombstone()
            ):
                pass  # artifacts are counted above, undecoded; webhooks and the end of all are taken in by themselves
            case _:
                assert_never(event)

    def _webhooks(self, event: PushConfigSet | PushConfigDeleted | DeadLetter, revision: int, position: int) -> None:
        """Webhooks come and go after the end as well: they are no part of what is final."""
        known = {webhook.id: webhook for webhook in self.webhooks}
        match event:
            case PushConfigSet():
                known[event.id] = Webhook(event.id, event.url, revision, position, event.scheme, event.sealed)
            case PushConfigDeleted():
                known.pop(event.id, None)
            case DeadLetter():
                webhook = known.get(event.config)
                if webhook is not None and webhook.revision == event.config_revision:
                    known[event.config] = msgspec.structs.replace(webhook, dead=event.revision)
            case _:
                assert_never(event)
        self.webhooks = tuple(known[config_id] for config_id in sorted(known))

    def _removed(self, event: Tombstone) -> None:
        self._terminal()
        self.removed, self.webhooks, self.pending = True, (), ()
        if event.idempotency_key:
            self.created_under = Mark(event.idempotency_key, event.body_hash)

    def _follows(self, record: Record) -> bool:
        header = record.header
        if header.last_revision <= self.revision:
            return False
        if header.revision != self.revision + 1 and not header.tombstone:
            message = f"revision {header.revision} of record {header.record_id} does not follow {self.revision}"
            raise Unreadable(message)
        return True

    def _message(self, record: Record, revision: int, event: Submitted | MessageReceived) -> None:
        message_id = _message_id_decoder.decode(event.message).message_id
        self.pending = (*self.pending, Pending(record.position, revision, message_id))

    def _claimed(self, event: TurnClaimed, revision: int, record: Record) -> None:
        self.epoch, self.claim, self.turn = event.epoch, record.header.record_id, TurnState.OPEN
        self.lease, self.lease_delivery = event.lease, event.delivery
        self.attempt, self.agent_version = event.attempt, event.agent_version
        if not self.turn_revision:
            self.turn_position, self.turn_revision = record.position, revision
            self.state_before = self.state

    def _begin_with(self, event: Forked, position: int) -> None:
        self.state, self.public = _state_decoder.decode(event.state).status.state, event.public
        self.pending = tuple(p for p in self.pending if p.revision in event.pending)
        self.handled = 0 if self.pending else position

    def _turn_over(self, handled: int) -> None:
        self.turn, self.lease, self.attempt = TurnState.NONE, 0, 0
        self.turn_position, self.turn_revision, self.steps = 0, 0, ()
        self.handled = max(self.handled, handled)
        self.pending = tuple(p for p in self.pending if p.position > self.handled)

    def _terminal(self) -> None:
        self.terminal, self.turn, self.lease = True, TurnState.NONE, 0
        self.steps = ()

    def _end(self, record: Record) -> None:
        header = record.header
        self.incarnation = header.incarnation or self.incarnation
        self.position, self.revision = record.position, header.last_revision
        self.generation = max(self.generation, header.generation - 1 + visible(header.kinds))
        self.size_bytes += len(record.payload)
        self.time = max(self.time, header.times[-1])
        if header.epoch and header.epoch == self.epoch:
            self.sign = record.position


class Pieces(Struct):
    """A growing JSON array: stored segments hold its beginning; its end is bytes (elements, no brackets)."""

    segments: list[str] = []
    """Keys of segments, in order; each is immutable and derived from the log (``snapshot``)."""
    sizes: list[int] = []
    """Bytes of each."""
    tail: list[bytes] = []
    tail_bytes: int = 0
    first: int = 0
    """Revision that contributed the first piece of the tail, 0 while it is empty."""
    last: int = 0

    def add(self, elements: bytes, revision: int) -> None:
        """Append elements, written by the event of this revision."""
        if not elements:
            return
        if not self.tail:
            self.first = revision
        self.tail.append(elements)
        self.tail_bytes += len(elements)
        self.last = revision

    def seal(self, key: str, size_bytes: int) -> None:
        """What follows the segments so far is stored under this key."""
        self.segments.append(key)
        self.sizes.append(size_bytes)

    @property
    def size_bytes(self) -> int:
        """Of all elements, with a comma after each addition: the same whatever is sealed."""
        sealed = sum(self.sizes) + sum(CONTINUED not in key for key in self.segments)
        return sealed + self.tail_bytes + len(self.tail)

    def __bool__(self) -> bool:
        return bool(self.segments or self.tail)


class ArtifactFold(Struct):
    """An artifact as accumulated: its parts as pieces, its other members as the JSON they were."""

    artifact_id: str
    created: int
    """Revision that created or replaced it: names its segments."""
    parts: Pieces
    name: str = ""
    description: str = ""
    metadata: dict[str, object] | None = None
    extensions: tuple[str, ...] = ()


class Content(Struct):
    """What clients see of a task.

    History holds the client's messages, and each status message when the next status or message comes; in order.
    """

    status: StatusLine
    history: Pieces
    artifacts: dict[str, ArtifactFold]
    status_in_history: bool = False
    reply: bytes = b""
    ended: bool = False
    metadata: dict[str, object] | None = None
    """Of all status updates, the newest of each member."""

    def apply(self, record: Record) -> None:
        """Take in one record; the head has made sure that it follows."""
        lines = zip(record.header.kinds, _lines(record), strict=True)
        events = [_decode(record, code, line) for code, line in lines]
        for revision, event in enumerate(events, record.header.revision):
            if not self.ended or isinstance(event, Tombstone):
                self._note(event, revision, record)

    def _note(self, event: Event, revision: int, record: Record) -> None:
        match event:
            case Submitted():
                self.status = StatusLine(
                    TaskState.SUBMITTED, timestamp=timestamp_of(record.header.times[revision - record.header.revision])
                )
                self.history.add(bytes(event.message), revision)
            case MessageReceived():
                self._status_to_history(revision)
                self.history.add(bytes(event.message), revision)
            case StatusChanged():
                self._status_to_history(revision)
                self.status, self.status_in_history = event.status, False
                self.ended = event.status.state in TERMINAL_STATES
                if added := _object(event.metadata):
                    self.metadata = {**(self.metadata or {}), **added}
            case ArtifactChanged():
                self._artifact(event, revision)
            case Replied():
                self.reply = bytes(event.message)
                self.ended = True
            case Forked():
                self._begin_with(event, revision)
            case Tombstone():
                self.history, self.artifacts, self.reply, self.ended = Pieces(), {}, b"", True
                self.metadata = None
                self.status = StatusLine(self.status.state)
            case (
                MessageUnread()
                | CancelRequested()
                | TurnClaimed()
                | TurnReleased()
                | TurnNudged()
                | TurnSuspended()
                | Step()
                | Timer()
                | TurnConfirmed()
                | TurnEnded()
                | PushConfigSet()
                | PushConfigDeleted()
                | DeadLetter()
                | TaskDeadLettered()
                | Unknown()
            ):
                pass
            case _:
                assert_never(event)

    def _status_to_history(self, revision: int) -> None:
        if bytes(self.status.message) and not self.status_in_history:
            self.history.add(bytes(self.status.message), revision)
            self.status_in_history = True

    def _begin_with(self, event: Forked, revision: int) -> None:
        state = _state_decoder.decode(event.state)
        self.status, self.status_in_history = state.status, event.status_in_history
        self.metadata = _object(state.metadata)
        self.history = Pieces()
        for message in state.history:
            self.history.add(bytes(message), revision)
        self.artifacts = {}
        for number, line in enumerate(state.artifacts, 1):
            # Their segments are named by this number, which no event of the task can have.
            artifact = _created(line, -number)
            artifact.parts.add(bytes(line.parts)[1:-1].strip(), revision)
            self.artifacts[line.artifact_id] = artifact

    def _artifact(self, event: ArtifactChanged, revision: int) -> None:
        line = event.artifact
        known = self.artifacts.get(line.artifact_id)
        elements = bytes(line.parts)[1:-1].strip()
        if known is None or not event.append:
            created = _created(line, revision)
            created.parts.add(elements, revision)
            self.artifacts[line.artifact_id] = created
            return
        known.parts.add(elements, revision)
        known.name = line.name or known.name
        known.description = line.description or known.description
        known.extensions = line.extensions or known.extensions
        added = _object(line.metadata)
        if added:
            known.metadata = {**(known.metadata or {}), **added}


def _created(line: ArtifactLine, created: int) -> ArtifactFold:
    """An artifact without its parts."""
    return ArtifactFold(
        line.artifact_id, created, Pieces(), line.name, line.description, _object(line.metadata), line.extensions
    )


class TaskFold:
    """A task: its head, advanced at once, and the content that clients see, folded when somebody asks for it.

    A worker asks for it only when a snapshot is due and a stream not at all, so what they fold costs them no content.
    """

    __slots__ = ("_content", "_waiting", "head", "unsealed_bytes")

    def __init__(self, head: Head, content: Content) -> None:
        self.head = head
        self.unsealed_bytes = 0
        """Of the records applied since a snapshot was taken: what the fold holds in memory at most."""
        self._content = content
        self._waiting: list[Record] = []

    @classmethod
    def empty(cls) -> TaskFold:
        """The fold of no events."""
        return cls(Head(), Content(StatusLine(TaskState.SUBMITTED), Pieces(), {}))

    @classmethod
    def of(cls, records: Iterable[Record]) -> TaskFold:
        """The fold of a timeline from its beginning."""
        fold = cls.empty()
        for record in records:
            fold.apply(record)
        return fold

    def apply(self, record: Record) -> bool:
        """Advance by one record; False if it was applied before. See :meth:`Head.apply`."""
        if not self.head.apply(record):
            return False
        self._waiting.append(record)
        self.unsealed_bytes += len(record.payload)
        return True

    @property
    def content(self) -> Content:
        """What clients see.

        Raises:
            Unreadable: a record is damaged.
        """
        waiting, self._waiting = self._waiting, []
        for applied, record in enumerate(waiting):
            try:
                self._content.apply(record)
            except Unreadable:
                self._waiting = waiting[applied:]
                raise
        return self._content


def draft_after(
    head: Head,
    entries: Sequence[Entry],
    *,
    record_id: str,
    writer: Writer,
    incarnation: str,
    epoch: int = 0,
    attempt: int = 0,
) -> Draft:
    """The record that these events become behind this head: for every writer, so that none forgets what rides along.

    Args:
        head: of the task, at the position that the record is to follow.
        entries: as for ``record.draft``, like the rest.
        record_id: its own.
        writer: who appends.
        incarnation: of the log.
        epoch: of the writer's claim.
        attempt: of the writer's turn.
    """
    return draft(
        entries,
        record_id=record_id,
        revision=head.revision,
        generation=head.generation,
        writer=writer,
        not_before=head.time,
        incarnation=incarnation,
        epoch=epoch,
        attempt=attempt,
        webhooks=head.notifies,
    )


def public_states(record: Record) -> list[TaskState]:
    """The states that a record's status updates show, in order; decodes nothing else."""
    if _STATUS not in record.header.kinds:
        return []
    return [
        event.status.state
        for code, line in zip(record.header.kinds, _lines(record), strict=True)
        if code == _STATUS and isinstance(event := _decode(record, code, line), StatusChanged)
    ]


def is_public(record: Record) -> bool:
    """Whether clients see anything of this record."""
    return not PUBLIC_CODES.isdisjoint(record.header.kinds)


def _lines(record: Record) -> list[bytes]:
    lines = record.lines()
    if len(lines) != len(record.header.kinds):
        message = f"record {record.header.record_id} holds {len(lines)} lines for kinds {record.header.kinds!r}"
        raise Unreadable(message)
    return lines


def _decode(record: Record, code: str, line: bytes) -> Event:
    """One event, checked as far as folding will look into it."""
    try:
        event = decode_line(code, line)
        if isinstance(event, Submitted | MessageReceived):
            _message_id_decoder.decode(event.message)
        elif isinstance(event, ArtifactChanged):
            _object(event.artifact.metadata)
        elif isinstance(event, StatusChanged):
            _object(event.metadata)
        elif isinstance(event, Forked):
            state = _state_decoder.decode(event.state)
            for metadata in (state.metadata, *(artifact.metadata for artifact in state.artifacts)):
                _object(metadata)
    except ValueError as error:
        message = f"record {record.header.record_id} at {record.position} is damaged: {error}"
        raise Unreadable(message) from None
    if isinstance(event, Unknown) and record.header.critical:
        message = f"record {record.header.record_id} needs a newer version of this software"
        raise Unreadable(message)
    return event


def _mark(event: Submitted | MessageReceived) -> Mark | None:
    return Mark(event.idempotency_key, event.body_hash) if event.idempotency_key else None


class _State(Struct, rename="camel"):
    """The parts of a Task that the fold needs."""

    status: StatusLine
    history: list[Raw] = []
    artifacts: list[ArtifactLine] = []
    metadata: Raw = NOTHING


class _MessageId(Struct, rename="camel"):
    message_id: str = ""


def _object(raw: Raw) -> dict[str, object] | None:
    content = bytes(raw)
    return _object_decoder.decode(content) if content else None


_message_id_decoder = msgspec.json.Decoder(_MessageId)
_state_decoder = msgspec.json.Decoder(_State)
_object_decoder = msgspec.json.Decoder(dict[str, object] | None)
