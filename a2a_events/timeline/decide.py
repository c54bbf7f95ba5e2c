"""What may happen next: every decision of the turn protocol, as functions of the fold (``docs/turns.md``).

Each function takes the head of a task and what somebody wants, and gives the events to append, in one record, on the
condition that the head's position is still the last. Refused, the caller reads, folds and asks again: a decision is
never carried to another position (turns 3.3).
"""

from __future__ import annotations

import re
from enum import Enum
from itertools import accumulate
from typing import Final, TypeAlias, assert_never

from msgspec import Raw, Struct

from a2a_events import limits
from a2a_events.errors import (
    InvalidParamsError,
    TaskGenerationMismatchError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnavailableError,
    UnsupportedOperationError,
)
from a2a_events.model import Message, Part, Role, TaskState, encode
from a2a_events.timeline.bounds import TaskBounds
from a2a_events.timeline.events import (
    NOTHING,
    Actor,
    CancelRequested,
    DeadLetter,
    Kind,
    MessageReceived,
    MessageUnread,
    PushConfigDeleted,
    PushConfigSet,
    Submitted,
    TaskDeadLettered,
    TurnClaimed,
    TurnConfirmed,
    TurnEnded,
    TurnNudged,
    TurnReleased,
    TurnSuspended,
)
from a2a_events.timeline.fold import Head, Phase, TurnState, Webhook
from a2a_events.timeline.record import Entry, entry
from a2a_events.timeline.render import status_entry

FAIL: Final = "fail"
"""Crash policy: a turn that its worker did not end ends the task FAILED: right for effects that must not repeat."""
RERUN: Final = "rerun"
"""Crash policy: the agent runs the turn again from its beginning; what it reports replaces what it had reported."""
RESUME: Final = "resume"
"""Crash policy: the agent runs again, is shown all that the turn has reported, and goes on from there."""
POLICIES: Final = (FAIL, RERUN, RESUME)
_BOUNDS: Final = TaskBounds()


# --- clients ---------------------------------------------------------------------------------------------------------


def submit(
    event: Submitted, now: int, webhook: PushConfigSet | None = None, *, bounds: TaskBounds = _BOUNDS
) -> list[Entry]:
    """A new task, with a webhook if one was given. Append it on the condition that the task has no record.

    Raises:
        InvalidParamsError: no task may hold so much.
    """
    made = [entry(event, now), *([entry(webhook, now)] if webhook else [])]
    return _fitting(Head(), made, bounds, "message", "Send less")


def message(
    head: Head,
    event: MessageReceived,
    context_id: str,
    now: int,
    *,
    generation: int | None = None,
    webhook: PushConfigSet | None = None,
    bounds: TaskBounds = _BOUNDS,
) -> list[Entry]:
    """A further message to the task, with a webhook if one was given. No events: it was taken before, under its key.

    Args:
        head: of the task.
        event: the message, with the task's ids.
        context_id: what the client said the context is; empty if it did not say.
        now: milliseconds.
        generation: what the client believes the task's generation to be, if it says (A2A 1.1).
        webhook: that the message brings.
        bounds: of the task.

    Raises:
        TaskNotFoundError: clients may not see a task here.
        TaskGenerationMismatchError: the task has changed since.
        InvalidParamsError: the context is not the task's (specification 3.4.3), or it has too many webhooks, or the
            idempotency key came with another request before, or the task would hold too much.
        UnsupportedOperationError: the task has ended (specification 3.1.1).
        UnavailableError: ``limits.PENDING_MESSAGES`` wait already.
    """
    if not head.exists:
        raise TaskNotFoundError
    if taken_before(head, event):
        return []
    if context_id and context_id != head.context_id:
        text = "The message's contextId is not the context of its task"
        raise InvalidParamsError(text, violations=(("message.contextId", text),))
    if generation is not None and generation != head.generation:
        raise TaskGenerationMismatchError(metadata={"generation": str(head.generation)})
    if head.terminal:
        text = "The task has ended; start a new one in the same context"
        raise UnsupportedOperationError(text)
    if len(head.pending) >= limits.PENDING_MESSAGES:
        raise UnavailableError(
            f"The task has {len(head.pending)} messages that its agent has not read; nothing was written, retry later",
            retry_after_seconds=10,
        )
    now = max(now, head.time)
    made = [entry(event, now), *([_webhook_entry(head, webhook, now, bounds)] if webhook else [])]
    return _fitting(head, made, bounds, "message.taskId", "Start a new one in the same context")


def taken_before(head: Head, event: Submitted | MessageReceived) -> bool:
    """Whether the task holds this message already, under its idempotency key; then nothing is to be written.

    Raises:
        InvalidParamsError: the key came with another request.
    """
    known = head.body_under(event.idempotency_key) if event.idempotency_key else ""
    if known and known != event.body_hash:
        text = "This key was used for another request; nothing was written. Use a new key for each new message"
        raise InvalidParamsError(text, violations=(("Idempotency-Key", text),))
    return bool(known)


def cancel(head: Head, task_id: str, actor: Actor, metadata: Raw, now: int) -> list[Entry]:
    """A client wants the task to stop (turns 6). No events: somebody has asked before, which is success too.

    Raises:
        TaskNotFoundError: clients may not see a task here.
        TaskNotCancelableError: the task has ended.
    """
    now = max(now, head.time)
    phase = head.phase
    match phase:
        case Phase.NONE:
            raise TaskNotFoundError
        case Phase.TERMINAL:
            raise TaskNotFoundError if head.replied else TaskNotCancelableError
        case Phase.RUNNING:
            return [entry(CancelRequested(actor=actor, metadata=metadata), now)]
        case Phase.STOPPING:
            return []
        case Phase.QUEUED | Phase.RELEASED | Phase.SUSPENDED | Phase.RESTING:
            ended = status_entry(task_id, head.context_id, TaskState.CANCELED, now)
            return [*_unread_entries(_unread(head, head.handled), now), ended]
        case _:
            assert_never(phase)


def set_webhook(head: Head, event: PushConfigSet, now: int, *, bounds: TaskBounds = _BOUNDS) -> list[Entry]:
    """A webhook for the task, in whatever state it is; one of the same id is replaced (specification 3.1.7).

    Raises:
        TaskNotFoundError: clients may not see a task here.
        InvalidParamsError: it has as many as it may have, or holds as much as it may hold.
    """
    if not head.exists:
        raise TaskNotFoundError
    made = [_webhook_entry(head, event, max(now, head.time), bounds)]
    return _fitting(head, made, bounds, "taskId", "It takes no more push notification configs; read or subscribe to it")


def delete_webhook(head: Head, event: PushConfigDeleted, now: int) -> list[Entry]:
    """A webhook wants no more. No events: there is none of this id, which is success too (specification 3.1.10).

    Raises:
        TaskNotFoundError: clients may not see a task here.
    """
    if not head.exists:
        raise TaskNotFoundError
    return [entry(event, max(now, head.time))] if head.webhook(event.id) else []


def dead_letter(head: Head, webhook: Webhook, revision: int, attempts: int, reason: str, now: int) -> list[Entry]:  # noqa: PLR0917 -- what the record says
    """A webhook did not take the update of this revision. No events: it was deleted or set anew meanwhile."""
    known = head.webhook(webhook.id)
    if known is None or known.revision != webhook.revision or known.dead:
        return []
    event = DeadLetter(
        config=webhook.id, config_revision=webhook.revision, revision=revision, attempts=attempts, reason=reason
    )
    return [entry(event, max(now, head.time))]


def _fitting(head: Head, entries: list[Entry], bounds: TaskBounds, field: str, advice: str) -> list[Entry]:
    """What a client wants to have written, if the task may hold it.

    Args:
        head: of the task.
        entries: to be written.
        bounds: of the task.
        field: of the request, that is to blame if it may not.
        advice: to the client then.

    Raises:
        InvalidParamsError: it may not.
    """
    size = head.size_bytes + sum(len(made.line) for made in entries)
    if size > bounds.size_bytes or head.revision + len(entries) > bounds.events:
        text = (
            f"The task would hold more than {bounds.size_bytes} bytes or {bounds.events} events; nothing was written. "
            f"{advice}"
        )
        raise InvalidParamsError(text, violations=((field, text),))
    return entries


def _webhook_entry(head: Head, event: PushConfigSet, now: int, bounds: TaskBounds) -> Entry:
    if head.webhook(event.id) is None and len(head.webhooks) >= bounds.webhooks:
        text = f"The task has {bounds.webhooks} push notification configs, which is the most; delete one first"
        raise InvalidParamsError(text, violations=(("id", text),))
    return entry(event, now)


# --- workers: deliveries ---------------------------------------------------------------------------------------------


class Settled(Struct, frozen=True):
    """The log shows that nothing more is to be done for the delivered record: acknowledge it (turns 4.4)."""


class LetGo(Struct, frozen=True):
    """Somebody else owns the turn, and this delivery is no evidence against them: neither ack nor nak (turns 4.2)."""


class Answer(Struct, frozen=True):
    """A nudge: give the owner a grace time, read the leader, then ask again with ``graced`` (turns 5.2)."""


class Claim(Struct, frozen=True):
    """Append the claim; ``runs`` says whether the agent is to run after it."""

    entries: list[Entry]
    epoch: int
    attempt: int
    runs: bool


Verdict: TypeAlias = Settled | LetGo | Answer | Claim


class Delivery(Struct, frozen=True):
    """What a worker holds: the position of an ``in`` record, how often it was delivered, and its kinds."""

    position: int
    count: int
    kinds: str
    epoch: int = 0
    """Of a nudge or a release: the epoch it names."""


class Terms(Struct, frozen=True):
    """How an agent wants its turns handled."""

    attempts: int
    replies: str = "task"
    policy: str = FAIL
    agent_version: str = ""
    resumes: tuple[str, ...] = ()
    """Further versions of the agent whose unfinished turns this one can resume."""

    def can_continue(self, version: str) -> bool:
        """Whether a turn that another version of the agent began may go on here (turns 4.12).

        To run it anew needs no understanding of it; to resume it, versions that understand each other: those that
        agree in what semantic versioning says breaks (the first number, of 0.x the second too), or are declared.
        """
        if self.policy != RESUME or not version or version in {self.agent_version, *self.resumes}:
            return True
        return _breaking(version) == _breaking(self.agent_version)


def on_delivery(
    head: Head, delivery: Delivery, terms: Terms, task_id: str, now: int, *, graced: bool = False
) -> Verdict:
    """What to do with a delivery (turns 4.2–4.4, 4.10). The head must contain the delivered record (turns 4.1)."""
    if settled(head, delivery):
        return Settled()
    now = max(now, head.time)
    phase = head.phase
    match phase:
        case Phase.QUEUED:
            return _claim(head, delivery, terms, task_id, now, attempt=1)
        case Phase.RELEASED | Phase.SUSPENDED:
            return _go_on(head, delivery, terms, task_id, now)
        case Phase.RUNNING | Phase.STOPPING:
            if delivery.position == head.lease and delivery.count > head.lease_delivery:
                return _take_over(head, delivery, terms, task_id, now)
            if Kind.TURN_NUDGED.value in delivery.kinds and delivery.epoch == head.epoch:
                return _take_over(head, delivery, terms, task_id, now) if graced else Answer()
            return LetGo()
        case Phase.RESTING:
            # A cancel that lost its race with the end of the turn: the gateway decides it again (turns 3.2).
            return LetGo()
        case Phase.NONE | Phase.TERMINAL:
            return Settled()
        case _:
            assert_never(phase)


def settled(head: Head, delivery: Delivery) -> bool:
    """Whether the log shows that the record may be acknowledged; once true, true for ever (turns 4.4)."""
    if head.terminal:
        return True
    if head.turn is TurnState.OPEN and delivery.position == head.lease:
        return False
    if Kind.TURN_NUDGED.value in delivery.kinds:
        return head.epoch > delivery.epoch or head.sign > delivery.position
    if Kind.TURN_RELEASED.value in delivery.kinds:
        return head.epoch > delivery.epoch
    if Kind.CANCEL_REQUESTED.value in delivery.kinds:
        return False
    return delivery.position <= max(head.handled, head.parked)


def _breaking(version: str) -> tuple[str, ...]:
    numbers = re.split("[-+]", version, maxsplit=1)[0].split(".")
    return tuple(numbers[:2]) if numbers[0] == "0" else (numbers[0],)


def _claimed(  # noqa: PLR0917 -- what the event says
    epoch: int, lease: int, count: int, attempt: int, terms: Terms, reason: str = ""
) -> TurnClaimed:
    return TurnClaimed(
        epoch=epoch,
        lease=lease,
        delivery=count,
        attempt=attempt,
        policy=terms.policy,
        agent_version=terms.agent_version,
        reason=reason,
    )


def _claim(  # noqa: PLR0917 -- the sides of one decision
    head: Head, delivery: Delivery, terms: Terms, task_id: str, now: int, reason: str = "", *, attempt: int
) -> Claim:
    epoch = head.epoch + 1
    claimed = _claimed(epoch, delivery.position, delivery.count, attempt, terms, reason)
    first = entry(claimed, now)
    if head.cancel:
        ended = _end(head, task_id, epoch, TaskState.CANCELED, NOTHING, head.handled, "canceled before it ran", now)
        return Claim([first, *ended], epoch, attempt, runs=False)
    if terms.replies == "either" and not head.public:
        return Claim([first], epoch, attempt, runs=True)
    return Claim([first, working_entry(head, task_id, now)], epoch, attempt, runs=True)


def _take_over(head: Head, delivery: Delivery, terms: Terms, task_id: str, now: int) -> Verdict:
    """The owner is dead: one more attempt, if its agent wants one (design 8)."""
    attempt = head.attempt + 1
    gone = "the worker that ran this turn disappeared"
    if head.cancel:
        return _claim(head, delivery, terms, task_id, now, gone, attempt=attempt)
    if terms.policy == FAIL:
        return _given_up(head, delivery, terms, task_id, now, head.attempt, gone)
    if attempt > terms.attempts:
        return _given_up(head, delivery, terms, task_id, now, head.attempt, f"{gone}, in attempt {head.attempt}")
    if not terms.can_continue(head.agent_version):
        return _other_version(head, delivery, terms, task_id, now)
    return _claim(head, delivery, terms, task_id, now, gone, attempt=attempt)


def _go_on(head: Head, delivery: Delivery, terms: Terms, task_id: str, now: int) -> Verdict:
    """Nobody owns the unfinished turn, and it was left in order: no attempt is lost."""
    if not head.cancel and not terms.can_continue(head.agent_version):
        return _other_version(head, delivery, terms, task_id, now)
    return _claim(head, delivery, terms, task_id, now, "the turn goes on", attempt=head.attempt or 1)


def _other_version(head: Head, delivery: Delivery, terms: Terms, task_id: str, now: int) -> Verdict:
    """Left to workers of the turn's own version for a while; if none takes it, it has failed (turns 4.12)."""
    first = head.lease_delivery if delivery.position == head.lease else 0
    if delivery.count - first <= limits.OTHER_VERSION_DELIVERIES:
        return LetGo()
    reason = f"version {terms.agent_version} of the agent cannot resume a turn of version {head.agent_version}"
    return _given_up(head, delivery, terms, task_id, now, head.attempt, reason)


def _given_up(  # noqa: PLR0917 -- the sides of one decision
    head: Head, delivery: Delivery, terms: Terms, task_id: str, now: int, attempts: int, reason: str
) -> Claim:
    epoch = head.epoch + 1
    claimed = _claimed(epoch, delivery.position, delivery.count, head.attempt + 1, terms, reason)
    text = agent_text(task_id, head.context_id, f"failed-{epoch}", f"The task failed: {reason}.")
    dead = entry(TaskDeadLettered(epoch=epoch, attempts=max(1, attempts), reason=reason), now)
    ended = _end(head, task_id, epoch, TaskState.FAILED, text, head.handled, reason, now)
    return Claim([entry(claimed, now), dead, *ended], epoch, head.attempt + 1, runs=False)


# --- workers: the owner of a turn ------------------------------------------------------------------------------------


class Ownership(Enum):
    """What the fold says to a worker that claimed a turn (turns 3.2)."""

    OWNER = "owner"
    STOP = "stop"
    """Still the owner, and a cancel was asked."""
    FENCED = "fenced"
    """Drop everything unsent, cancel the agent, write nothing, acknowledge nothing."""


def ownership(head: Head, epoch: int, claim: str) -> Ownership:
    """Whether the worker that stored this claim still owns the turn."""
    if head.terminal or head.epoch != epoch or head.claim != claim or head.turn is not TurnState.OPEN:
        return Ownership.FENCED
    return Ownership.STOP if head.cancel else Ownership.OWNER


class Fault(Enum):
    """Why a turn ended without its agent's word."""

    NONE = "none"
    RAISED = "raised"
    """The agent raised: the turn may be tried again."""
    GIVEN_UP = "given up"
    """A deadline passed, or its worker had to go: it is not."""


class Outcome(Struct, frozen=True):
    """How the agent ended its turn: a terminal state, or one that waits; ``reply`` for a bare Message."""

    state: TaskState
    message: Raw = NOTHING
    reply: Raw = NOTHING
    reason: str = ""
    fault: Fault = Fault.NONE
    metadata: Raw = NOTHING
    """Of the update that shows the state."""


class Rest(Struct, frozen=True):
    """The agent is done with the message and leaves the task as it stands, for its client's next one."""

    reason: str = ""


class Release(Struct, frozen=True):
    """The worker hands the unfinished turn over (turns 4.8)."""

    reason: str


class Suspend(Struct, frozen=True):
    """The agent waits for a timer that no process should wait for (turns 4.11)."""

    until: int
    """Milliseconds."""


Leaving: TypeAlias = Outcome | Rest | Release | Suspend
"""How a worker lets go of a turn that it owns."""


class Ending(Struct, frozen=True):
    """What ends a worker's turn; ``next_epoch`` is set when the same worker runs on, by a claim in the same record."""

    entries: list[Entry]
    next_epoch: int = 0
    attempt: int = 0
    """Of the turn that follows; over 1 it is the same turn once more."""
    suspended: bool = False


def ending(  # noqa: PLR0917 -- the sides of one decision
    head: Head, task_id: str, leaving: Leaving, given: int, terms: Terms, now: int
) -> Ending:
    """The events by which the caller lets go of the turn that it owns (turns 2).

    Args:
        head: at the position where this will be appended.
        task_id: the task.
        leaving: what the agent wants, or its worker.
        given: messages up to this position were given to the agent (turns 4.5).
        terms: of the agent.
        now: milliseconds.
    """
    now = max(now, head.time)
    epoch = head.epoch
    if head.cancel:
        own = leaving if isinstance(leaving, Outcome) and leaving.fault is Fault.NONE else Outcome(TaskState.CANCELED)
        reason = "" if isinstance(leaving, Suspend) else leaving.reason
        ended = Outcome(TaskState.CANCELED, own.message, reason=reason or "canceled", metadata=own.metadata)
        return Ending(_end_by(head, task_id, ended, given, now))
    match leaving:
        case Release(reason):
            return Ending([entry(TurnReleased(epoch=epoch, reason=reason), now)])
        case Suspend(until):
            if _unread(head, given):
                return _again(head, terms, head.attempt, "a message came while the turn was to be suspended", now)
            suspended = TurnSuspended(epoch=epoch, given=given, until=until)
            return Ending([entry(suspended, now)], suspended=True)
        case Rest(reason):
            if _unread(head, given):
                return _next_turn(head, task_id, given, terms, reason, now)
            shown = [] if head.public else [working_entry(head, task_id, now)]
            return Ending([entry(TurnEnded(epoch=epoch, handled=given, reason=reason), now), *shown])
        case Outcome():
            return _ending(head, task_id, leaving, given, terms, now)
        case _:
            assert_never(leaving)


def _again(head: Head, terms: Terms, attempt: int, reason: str, now: int) -> Ending:
    """The owner claims the same turn once more."""
    claimed = _claimed(head.epoch + 1, head.lease, head.lease_delivery, attempt, terms, reason)
    return Ending([entry(claimed, now)], head.epoch + 1, attempt)


def _ending(  # noqa: PLR0917 -- the sides of one decision
    head: Head, task_id: str, outcome: Outcome, given: int, terms: Terms, now: int
) -> Ending:
    epoch = head.epoch
    if outcome.fault is not Fault.NONE:
        if outcome.fault is Fault.RAISED and terms.policy != FAIL and head.attempt < terms.attempts:
            return _again(head, terms, head.attempt + 1, outcome.reason, now)
        dead = entry(TaskDeadLettered(epoch=epoch, attempts=max(1, head.attempt), reason=outcome.reason), now)
        return Ending([dead, *_end_by(head, task_id, outcome, given, now)])
    if bytes(outcome.reply) and not head.public:
        line = b'{"message":' + bytes(outcome.reply) + b"}"
        handled = entry(TurnEnded(epoch=epoch, handled=given), now)
        return Ending([handled, *_unread_entries(_unread(head, given), now), Entry(Kind.REPLY.value, line, now)])
    carries_on = outcome.state in {TaskState.COMPLETED, TaskState.INPUT_REQUIRED, TaskState.AUTH_REQUIRED}
    if carries_on and _unread(head, given):
        if outcome.state is TaskState.COMPLETED:
            said = (outcome.message, outcome.metadata)
            return _next_turn(head, task_id, given, terms, outcome.reason, now, said=said)
        asked = status_entry(task_id, head.context_id, outcome.state, now, outcome.message, outcome.metadata)
        return _next_turn(head, task_id, given, terms, outcome.reason, now, asked)
    return Ending(_end_by(head, task_id, outcome, given, now))


def _next_turn(  # noqa: PLR0917 -- the sides of one decision
    head: Head,
    task_id: str,
    given: int,
    terms: Terms,
    reason: str,
    now: int,
    *shown: Entry,
    said: tuple[Raw, Raw] = (NOTHING, NOTHING),
) -> Ending:
    """The turn is over, and the same worker claims the one for the messages that it was not given."""
    claimed = _claimed(head.epoch + 1, head.lease, head.lease_delivery, 1, terms)
    return Ending(
        [
            entry(TurnEnded(epoch=head.epoch, handled=given, reason=reason), now),
            *shown,
            entry(claimed, now),
            working_entry(head, task_id, now, *said),
        ],
        next_epoch=head.epoch + 1,
        attempt=1,
    )


def failure(head: Head, task_id: str, reason: str, fault: Fault) -> Outcome:
    """A turn that no agent's word ends: the task is to end FAILED, and to say why."""
    text = agent_text(task_id, head.context_id, f"failed-{head.epoch}", f"The task failed: {reason}.")
    return Outcome(TaskState.FAILED, text, reason=reason, fault=fault)


def anew(head: Head, policy: str) -> bool:
    """Whether a run of the agent begins an unfinished turn anew: it sees the task as it was before the turn."""
    return policy == RERUN and head.turn_position not in {0, head.position}


def wake(head: Head, task_id: str, revision: int, reason: str, now: int) -> list[Entry]:
    """A wake-up came that was asked for at a revision: what it is to bring about, if the task still waits for it.

    A turn that was suspended goes on; a task that waited for its client ends FAILED, for this reason.
    """
    if revision < head.paused:
        return []
    if head.phase is Phase.SUSPENDED:
        return [entry(TurnReleased(epoch=head.epoch, reason="its timer is due"), max(now, head.time))]
    if head.phase is not Phase.RESTING:
        return []
    now = max(now, head.time)
    text = agent_text(task_id, head.context_id, f"expired-{revision}", f"The task failed: {reason}.")
    return [status_entry(task_id, head.context_id, TaskState.FAILED, now, text)]


def confirm(head: Head, now: int) -> list[Entry]:
    """What the owner of the turn answers a nudge with; nothing if none waits for an answer (turns 5.2)."""
    return [entry(TurnConfirmed(epoch=head.epoch), max(now, head.time))] if head.nudged > head.sign else []


# --- the sweeper -----------------------------------------------------------------------------------------------------


def nudge(head: Head, silent_seconds: float, patience_seconds: float, now: int) -> list[Entry]:
    """A question to the owner of a task that somebody should act on, if its log is silent for too long (turns 5.1).

    The newest record counts, whatever it is: a nudge that nobody answered is not repeated before its time.

    Args:
        head: of the task.
        silent_seconds: age of its newest record, by the broker's clock.
        patience_seconds: silence that is nobody's fault: longer than the broker takes to deliver again.
        now: milliseconds.
    """
    phase = head.phase
    match phase:
        case Phase.NONE | Phase.RESTING | Phase.TERMINAL:
            return []
        case Phase.QUEUED | Phase.RUNNING | Phase.STOPPING | Phase.RELEASED:
            overdue = silent_seconds > patience_seconds
        case Phase.SUSPENDED:
            overdue = min(silent_seconds, (now - head.until) / 1000) > patience_seconds
        case _:
            assert_never(phase)
    return [entry(TurnNudged(epoch=head.epoch), max(now, head.time))] if overdue else []


def unread_messages(head: Head, given: int) -> tuple[int, ...]:
    """Revisions of the messages after ``given`` that no agent has been given."""
    return tuple(p.revision for p in head.pending if p.position > given)


def working_entry(head: Head, task_id: str, now: int, message: Raw = NOTHING, metadata: Raw = NOTHING) -> Entry:
    """The status that shows that an agent has begun; ``message`` is what it said at the end of the turn before."""
    return status_entry(task_id, head.context_id, TaskState.WORKING, max(now, head.time), message, metadata)


def _end_by(head: Head, task_id: str, outcome: Outcome, given: int, now: int) -> list[Entry]:
    """The owner's turn ends with this outcome."""
    text, metadata = outcome.message, outcome.metadata
    return _end(head, task_id, head.epoch, outcome.state, text, given, outcome.reason, now, metadata)


def _end(  # noqa: PLR0917 -- as above
    head: Head,
    task_id: str,
    epoch: int,
    state: TaskState,
    text: Raw,
    given: int,
    reason: str,
    now: int,
    metadata: Raw = NOTHING,
) -> list[Entry]:
    unread = _unread(head, given) if state is not TaskState.INPUT_REQUIRED else []
    return [
        entry(TurnEnded(epoch=epoch, handled=given, reason=reason), now),
        *_unread_entries(unread, now),
        status_entry(task_id, head.context_id, state, now, text, metadata),
    ]


def _unread(head: Head, given: int) -> list[str]:
    return [p.message_id for p in head.pending if p.position > given]


def _unread_entries(unread: list[str], now: int) -> list[Entry]:
    if not unread:
        return []
    sizes = accumulate(len(encode(message_id)) for message_id in unread)
    named = sum(size <= limits.UNREAD_BYTES for size in sizes)
    return [entry(MessageUnread(message_ids=tuple(unread[:named]), more=len(unread) - named), now)]


def agent_text(task_id: str, context_id: str, message_id: str, text: str) -> Raw:
    """A status message of one sentence, in the agent's name."""
    said = Message(
        message_id=f"{task_id}-{message_id}",
        role=Role.AGENT,
        parts=(Part(text=text),),
        context_id=context_id,
        task_id=task_id,
    )
    return Raw(encode(said))
