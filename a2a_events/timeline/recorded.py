"""A recorded timeline taken apart into what each run of an agent was given and what came of it.

A run begins with a claim. What its worker then wrote stands in the records of the claim's epoch; what others wrote
meanwhile is what the agent could have heard.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from a2a_events.model import TaskState
from a2a_events.timeline import reasons
from a2a_events.timeline.events import (
    MEMBERS,
    CancelRequested,
    Event,
    Kind,
    MessageReceived,
    Step,
    Submitted,
    TaskDeadLettered,
    Timer,
    TurnClaimed,
    TurnEnded,
    TurnReleased,
    TurnSuspended,
)
from a2a_events.timeline.fold import Head, TaskFold
from a2a_events.timeline.record import Record


class Said(Struct, frozen=True):
    """One event that a run brought about."""

    kind: str
    """The member that names it."""
    event: Any
    """What that member holds."""
    revision: int = 0
    """Where it is recorded; 0 of an event that is not."""
    time: int = 0
    """When it was recorded, milliseconds."""


class Input(Struct, frozen=True):
    """What somebody wrote while the agent ran."""

    after: int
    """How many events of the run were stored before it: the agent cannot have heard of it earlier."""
    position: int
    message: MessageReceived | None
    """None is a cancel."""


class RecordedAttempt(Struct, frozen=True):
    """One run of an agent, as it was recorded."""

    number: int
    """Of the attempt at its turn."""
    epoch: int
    revision: int
    """Of its claim."""
    last: int
    """Revision of the last event that was recorded for it."""
    fold: TaskFold
    """Of the task at the claim."""
    before: TaskFold
    """Of the task before the turn, or where the turn began."""
    head: Head
    """Of the task where the run was ended."""
    asked: tuple[Submitted | MessageReceived, ...]
    """The messages that it began with."""
    given: int
    """Position up to which these go."""
    said: tuple[Said, ...]
    """Signs of life left out."""
    inputs: tuple[Input, ...]
    steps: dict[str, Step | Timer]
    """Of the turn, by name: those of earlier attempts."""
    own_steps: dict[str, Step | Timer]
    """Those that this attempt recorded."""
    time: int
    """Of the claim, milliseconds."""
    cut: str = ""
    """Why the record says no more of it than this; empty if the agent's own doing ended it."""


class NeverRan(Struct, frozen=True):
    """A claim that ended its task at once, and no agent was run."""

    number: int
    epoch: int
    revision: int
    last: int
    reason: str


def said_of(line: bytes, revision: int = 0, time: int = 0) -> Said:
    """One line of a record, or of what would become one."""
    ((kind, event),) = msgspec.json.decode(line).items()
    return Said(kind, event, revision, time)


def sign_of_life(said: Said, state: TaskState) -> bool:
    """Whether it only says that somebody works, or repeats the state that is shown.

    A writer records these or not, as it happens to be busy.
    """
    if said.kind != _STATUS or said.event["status"].get("message"):
        return False
    shown = TaskState(said.event["status"]["state"])
    return shown is state or (shown is TaskState.WORKING and state is TaskState.SUBMITTED)


def state_after(said: Said, state: TaskState) -> TaskState:
    """The state that is shown after this."""
    return TaskState(said.event["status"]["state"]) if said.kind == _STATUS else state


def attempts_of(records: Sequence[Record]) -> Iterator[RecordedAttempt | NeverRan]:
    """Every claim of a timeline, oldest first.

    Args:
        records: of one task, from its beginning.

    Raises:
        Unreadable: a record is damaged.
        ValueError: as well.
    """
    timeline = _Timeline(records)
    for number, (index, revision, claim) in enumerate(timeline.claims):
        following = timeline.claims[number + 1] if number + 1 < len(timeline.claims) else None
        yield _attempt(timeline, index, revision, claim, following)


class _Timeline:
    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records
        self.events = [record.events() for record in records]
        self.claims = [(index, revision, event) for index, revision, event in self if isinstance(event, TurnClaimed)]
        self.by_revision: dict[int, Event] = {revision: event for _, revision, event in self}

    def __iter__(self) -> Iterator[tuple[int, int, Event]]:
        for index, (record, events) in enumerate(zip(self.records, self.events, strict=True)):
            for revision, event in enumerate(events, record.header.revision):
                yield index, revision, event


def _attempt(
    timeline: _Timeline, index: int, revision: int, claim: TurnClaimed, following: tuple[int, int, TurnClaimed] | None
) -> RecordedAttempt | NeverRan:
    records = timeline.records
    record = records[index]
    after_claim = timeline.events[index][revision - record.header.revision + 1 :]
    if any(isinstance(event, TurnEnded) for event in after_claim):
        reason = claim.reason or next(event.reason for event in after_claim if isinstance(event, TurnEnded))
        return NeverRan(claim.attempt, claim.epoch, revision, record.header.last_revision, reason)
    own = [later for later in range(index + 1, len(records)) if records[later].header.epoch == claim.epoch]
    events = [(later, event) for later in own for event in timeline.events[later]]
    closing = next((later for later, event in events if isinstance(event, _CLOSING)), None)
    end = closing if closing is not None else following[0] if following else len(records)
    fold = TaskFold.of(records[: index + 1])
    said = _said(records, own, fold.head.state)
    cut, said = _cut([event for _, event in events], said, closed=closing is not None, following=following)
    head = TaskFold.of(records[:end]).head
    inputs = _inputs(timeline, index, end, own, said)
    asked = [timeline.by_revision[p.revision] for p in fold.head.pending]
    given = max((p.position for p in fold.head.pending), default=fold.head.handled)
    # Between two attempts the worker pauses, and gives the agent what came meanwhile as if it had been there before.
    if claim.attempt > 1 and record.header.epoch != claim.epoch:
        first = [one for one in inputs if not one.after and one.message is not None]
        asked += [one.message for one in first if one.message is not None]
        given = max([given, *(one.position for one in first)])
        inputs = [one for one in inputs if one not in first]
    steps = {done.name: timeline.by_revision[done.revision] for done in fold.head.steps}
    turn_position = fold.head.turn_position
    return RecordedAttempt(
        number=claim.attempt,
        epoch=claim.epoch,
        revision=revision,
        last=max([revision, *(records[later].header.last_revision for later in own)]),
        fold=fold,
        before=TaskFold.of(one for one in records[: index + 1] if one.position <= turn_position),
        head=head,
        asked=tuple(event for event in asked if isinstance(event, Submitted | MessageReceived)),
        given=given,
        said=tuple(said),
        inputs=tuple(inputs),
        steps={name: event for name, event in steps.items() if isinstance(event, Step | Timer)},
        own_steps={event.name: event for _, event in events if isinstance(event, Step | Timer)},
        time=record.header.times[revision - record.header.revision],
        cut=cut,
    )


def _said(records: Sequence[Record], own: Sequence[int], state: TaskState) -> list[Said]:
    found: list[Said] = []
    for index in own:
        header = records[index].header
        lines = zip(header.kinds, records[index].lines(), header.times, strict=True)
        for revision, (code, line, time) in enumerate(lines, header.revision):
            if code == Kind.TURN_CONFIRMED.value:
                continue
            said = said_of(line, revision, time)
            if not sign_of_life(said, state):
                found.append(said)
                state = state_after(said, state)
    return found


def _cut(
    events: Sequence[Event], said: list[Said], *, closed: bool, following: tuple[int, int, TurnClaimed] | None
) -> tuple[str, list[Said]]:
    """Why the record of a run ends before the agent did, and what it had said by then."""
    for event in events:
        if isinstance(event, TurnReleased):
            return event.reason, [one for one in said if one.kind != MEMBERS[Kind.TURN_RELEASED]]
        if isinstance(event, TaskDeadLettered) and reasons.of_the_worker(event.reason):
            kinds = [one.kind for one in said]
            return event.reason, said[: kinds.index(MEMBERS[Kind.TASK_DEAD_LETTERED])]
    if closed:
        return "", said
    return (following[2].reason if following else "the record ends while the agent runs"), said


def _inputs(timeline: _Timeline, index: int, end: int, own: Sequence[int], said: Sequence[Said]) -> list[Input]:
    found: list[Input] = []
    mine = set(own)
    for later in range(index + 1, end):
        if later in mine:
            continue
        record = timeline.records[later]
        after = sum(one.revision < record.header.revision for one in said)
        for event in timeline.events[later]:
            if isinstance(event, MessageReceived):
                found.append(Input(after, record.position, event))
            elif isinstance(event, CancelRequested):
                found.append(Input(after, record.position, None))
    return found


_STATUS: Final = MEMBERS[Kind.STATUS]
_CLOSING: Final = (TurnEnded, TurnReleased, TurnSuspended, TurnClaimed)
