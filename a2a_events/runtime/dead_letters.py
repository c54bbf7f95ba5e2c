"""Tasks that were given up: the letters by which operators find them, and trying them again as new tasks.

The log says which tasks were given up (``TaskDeadLettered``). A letter is that fact in a place that need not be
searched for. Whoever holds a delivery of the task puts it before acknowledging, so none is missing for good.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import msgspec
import structlog
from msgspec import Raw, Struct

from a2a_events import audit, limits
from a2a_events.errors import Conflict, LogError, RecordTooLarge, Unreadable
from a2a_events.log.append import append
from a2a_events.log.port import Letter, Log
from a2a_events.metrics.catalog import DEAD_LETTERS
from a2a_events.model import Message, encode
from a2a_events.runtime.commit import drafted
from a2a_events.runtime.load import advance, load
from a2a_events.runtime.seal import SealBroken, Seals, available
from a2a_events.timeline.attempts import Attempt, Attempts
from a2a_events.timeline.events import (
    Event,
    Kind,
    MessageReceived,
    PushConfigSet,
    StatusLine,
    Submitted,
    TaskDeadLettered,
)
from a2a_events.timeline.fold import Head, Webhook
from a2a_events.timeline.ids import RANDOM_BYTES, TaskRef, task_id
from a2a_events.timeline.record import Record, Writer, entry

logger = structlog.get_logger(__name__)


async def put(log: Log, task: TaskRef, head: Head) -> None:
    """Put the letter of a task that was given up. Putting it again changes nothing. Three round trips.

    Args:
        log: where to.
        task: that was given up.
        head: of it.

    Raises:
        Unavailable: it is not known to be kept; do not acknowledge, and repeat.
        Unreadable: the log does not say why the task was given up.
    """
    await log.put_dead_letter(await letter_of(log, task, head))


async def letter_of(log: Log, task: TaskRef, head: Head) -> Letter:
    """The letter of a task that was given up, from its timeline; errors as :func:`put`."""
    record = await _record_of(log, task, head.dead_letter)
    at = head.dead_letter - record.header.revision
    event = record.events()[at]
    if not isinstance(event, TaskDeadLettered):
        raise Unreadable(f"revision {head.dead_letter} of task {task.task_id} does not say why it was given up")
    return Letter(
        task=task,
        time=record.header.times[at],
        reason=event.reason,
        attempts=event.attempts,
        revision=head.dead_letter,
        epoch=event.epoch,
        context_id=head.context_id,
        tenant=head.owner.tenant if head.owner else "",
        agent_version=head.agent_version,
    )


async def put_unreadable(log: Log, task: TaskRef, deliveries: int, reason: str, now: int) -> None:
    """Put a letter for a task that nobody could read so far. The log stays as it is, and its delivery comes back."""
    DEAD_LETTERS.inc("unreadable")
    try:
        await log.put_dead_letter(Letter(task=task, time=now, reason=f"unreadable: {reason}", attempts=deliveries))
    except LogError as error:
        logger.warning("dead letter not put; with the next delivery again", task_id=task.task_id, error=str(error))


class Account(Struct, frozen=True):
    """What an operator wants to know of a task that was given up."""

    letter: Letter
    status: StatusLine
    attempts: list[Attempt]
    replay: str
    """Id of the task that tries it again; empty: nobody has asked for one."""


async def account(log: Log, task: TaskRef) -> Account:
    """Why a task was given up, from its timeline; whether its letter is still there makes no difference.

    Raises:
        NotGivenUp: it was not.
        Unavailable: no answer; repeating is safe.
        Unreadable: a record is damaged.
    """
    fold = await load(log, task)
    if not fold.head.dead_letter:
        raise NotGivenUp(task, fold.head)
    letter = await letter_of(log, task, fold.head)
    again = await log.last(replay_of(task))
    attempts = Attempts()
    async for records in log.read(task):
        for record in records:
            attempts.take(record)
    return Account(letter, fold.content.status, attempts.claims, replay_of(task).task_id if again else "")


class NotGivenUp(Exception):
    """The task has no dead letter to be replayed; it goes on, or ended by its agent's word."""

    def __init__(self, task: TaskRef, head: Head) -> None:
        state = head.state.name.lower().replace("_", " ")
        super().__init__(f"task {task.task_id} was not given up: it is {state}" if head.revision else "no such task")


class NotReplayable(Exception):
    """This task cannot be replayed as a whole; the message says why, and nothing was written."""


class Replayed(Struct, frozen=True):
    """A task that tries a dead one again."""

    task: TaskRef
    created: bool
    """False: it was there, because somebody had replayed the dead one before."""


def replay_of(task: TaskRef) -> TaskRef:
    """The one task that replays this one: its id follows from the dead task's, so that nobody can make a second."""
    derived = hashlib.sha256(b"a2a-events replay " + task.task_id.encode()).digest()[:RANDOM_BYTES]
    return msgspec.structs.replace(task, task_id=task_id(task.log, task.shard, derived))


async def replay(log: Log, writer: Writer, seals: Seals, task: TaskRef, now: int) -> Replayed:
    """Try a dead task again: a new task with all its messages, in order, as its agent's first turn.

    Owner, tenant, context, configuration and webhooks are the dead task's. The messages are stored in one record, on
    the condition that the new task has none; the letter is removed after that. So it may be repeated at any time, and
    by several at once: it makes one task, and loses no letter.

    Args:
        log: where to.
        writer: this process.
        seals: opens and seals the secrets of webhooks, which are bound to their task.
        task: that was given up.
        now: milliseconds.

    Raises:
        NotGivenUp: it was not; a letter that said that it cannot be read is removed.
        NotReplayable: its messages do not fit into one record, or a webhook's secrets cannot be opened here.
        Unavailable: nothing was written, or the letter is still there; repeating is safe.
        Uncertain: the new task may be stored; repeating is safe.
        Unreadable: a record is damaged; nothing was written.
    """
    fold = await load(log, task)
    await advance(log, task, fold)  # what a terminal snapshot says of webhooks may be old
    if not fold.head.dead_letter:
        if fold.head.revision:
            await log.forget_dead_letter(Letter(task=task, time=now, reason="", attempts=0))
        raise NotGivenUp(task, fold.head)
    letter = await letter_of(log, task, fold.head)
    new = replay_of(task)
    created = await log.last(new) is None and await _create(log, writer, seals, task, new, fold.head, now)
    await log.forget_dead_letter(letter)
    audit.deleted("dead letter", task_id=task.task_id, agent=task.agent, replay=new.task_id, by=writer.instance)
    logger.info("task replayed", task_id=task.task_id, replay=new.task_id, created=created)
    return Replayed(new, created)


async def _create(  # noqa: PLR0917 -- two tasks and what they are copied with
    log: Log, writer: Writer, seals: Seals, task: TaskRef, new: TaskRef, dead: Head, now: int
) -> bool:
    events: list[Event] = [event async for event in _messages(log, task, new)]
    if len(events) + len(dead.webhooks) > limits.RECORD_EVENTS:
        raise NotReplayable(
            f"task {task.task_id} has {len(events)} messages, more than fit into one record: its client must send them"
        )
    events += [await _bound(seals, webhook, task, new) for webhook in dead.webhooks if not webhook.dead]
    made = drafted(log, writer, new, Head(), [entry(event, now) for event in events])
    try:
        await append(log, new, made, 0)
    except Conflict:
        return False  # another operator was faster
    except RecordTooLarge as error:
        raise NotReplayable(
            f"the messages of task {task.task_id} do not fit into one record ({error}): its client must send them"
        ) from None
    return True


async def _messages(log: Log, task: TaskRef, new: TaskRef) -> AsyncIterator[Submitted | MessageReceived]:
    """What clients said to a task, as said to another. A retry of the client's send still finds the dead task."""
    async for records in log.read(task):
        for record in records:
            if _MESSAGES.isdisjoint(record.header.kinds):
                continue
            for event in record.events():
                if not isinstance(event, Submitted | MessageReceived):
                    continue
                said = msgspec.structs.replace(_message_decoder.decode(event.message), task_id=new.task_id)
                addressed = msgspec.structs.replace(event, message=Raw(encode(said)), idempotency_key="", body_hash="")
                if isinstance(addressed, Submitted):
                    origin = Raw(encode({"replayOf": task.task_id}))
                    addressed = msgspec.structs.replace(addressed, origin=origin)
                yield addressed


async def _bound(seals: Seals, webhook: Webhook, task: TaskRef, new: TaskRef) -> PushConfigSet:
    """A webhook of one task for another."""
    sealed = ""
    if webhook.sealed:
        if not available():
            raise NotReplayable(f"task {task.task_id} has webhooks with secrets: install a2a-events[push]")
        try:
            secrets = await seals.open(webhook.sealed, task.task_id, webhook.id)
        except SealBroken as error:
            raise NotReplayable(
                f"the secrets of a webhook of task {task.task_id} are {error}: give the gateways' keys with --push-keys"
            ) from None
        sealed = await seals.seal(secrets, new.task_id, webhook.id)
    return PushConfigSet(id=webhook.id, url=webhook.url, scheme=webhook.scheme, sealed=sealed)


async def _record_of(log: Log, task: TaskRef, revision: int) -> Record:
    """The record that holds a revision: mostly the task's last, for nothing but webhooks changes after the end."""
    last = await log.last(task)
    if last is not None and _holds(last, revision):
        return last
    async for records in log.read(task):
        for record in records:
            if _holds(record, revision):
                return record
    raise Unreadable(f"revision {revision} of task {task.task_id} is gone")


def _holds(record: Record, revision: int) -> bool:
    return record.header.revision <= revision <= record.header.last_revision


_MESSAGES = frozenset({Kind.SUBMITTED.value, Kind.MESSAGE_RECEIVED.value})
_message_decoder = msgspec.json.Decoder(Message)
