"""Gathers what ``timeline.diagnosis`` judges: why a task stands where it stands, from the log alone.

Needs no worker, and disturbs none.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from a2a_events import limits
from a2a_events.errors import LogError, Unavailable, Uncertain, Unreadable
from a2a_events.log import port
from a2a_events.log.port import End, Log, Stored
from a2a_events.runtime.load import load
from a2a_events.timeline.attempts import Attempts
from a2a_events.timeline.diagnosis import WAKE_UP, Deliveries, Diagnosis, Facts, Letter, Newest, diagnose
from a2a_events.timeline.fold import Head, Phase
from a2a_events.timeline.ids import TaskRef

_QUEUE = "queue"

Told = TypeVar("Told")


async def examine(
    log: Log, task: TaskRef, *, ack_wait_seconds: float | None = None, now: int | None = None
) -> Diagnosis:
    """Why a task stands where it stands. A log that fails is a diagnosis and no error; so is a task that is not there.

    Costs what loading the task costs, then some ten requests, most of them at once: the newest record and the ends of
    the shards; workers and versions of the agent, its queue, the wake-up, the dead letter. Of a turn that is not over
    its records are read from its first claim on.

    Args:
        log: where the task lives.
        task: of this log.
        ack_wait_seconds: silence after which a turn is offered to another worker; default: what the broker says.
        now: milliseconds, by the log's own clock; default: what that shows.
    """
    untold: list[str] = []
    try:
        head = (await load(log, task)).head
        turn = await _turn(log, task, head)
    except Unreadable as error:
        return await _without_head(log, task, str(error), now, ack_wait_seconds, damaged=True)
    except (Unavailable, Uncertain) as error:
        return await _without_head(log, task, str(error), now, ack_wait_seconds, damaged=False)
    awaited = _awaited(head, turn)
    (newest, sign, asked), (ends, workers, agents, queue, waking, letter) = await asyncio.gather(
        asyncio.gather(
            _told("newest record", _at(log, task, head.position), untold),
            _told("newest record of the claim", _at(log, task, head.sign), untold),
            _told("delivered record", _at(log, task, awaited), untold),
        ),
        asyncio.gather(
            _told("clock", log.ends(), untold),
            _told("workers", log.workers(task.agent), untold),
            _told("version of the agent", log.agents(), untold),
            _told(_QUEUE, log.queue(task.agent, task.shard, awaited), untold),
            _told(WAKE_UP, log.waking(task), untold),
            _told("dead letter", log.dead_letter(task), untold),
        ),
    )
    known = (agents or {}).get(task.agent)
    return diagnose(
        Facts(
            task_id=task.task_id,
            agent=task.agent,
            now=now if now is not None else _clock(ends),
            ack_wait_seconds=ack_wait_seconds or (queue.ack_wait_seconds if queue else 0) or limits.ACK_WAIT_SECONDS,
            head=head,
            newest=_newest(newest),
            sign=_newest(sign),
            attempts=tuple(turn.claims),
            claimed=turn.claimed,
            dispatched=not (awaited and asked is not None and not asked.record.inbound),
            served=queue is not None or any(what.startswith(_QUEUE) for what in untold),
            deliveries=_deliveries(queue, awaited),
            workers=workers,
            version=known.version if known else "",
            waking=waking[1] if waking else None,
            letter=_letter(letter),
            untold=tuple(untold),
        )
    )


async def _without_head(
    log: Log, task: TaskRef, problem: str, now: int | None, ack_wait_seconds: float | None, *, damaged: bool
) -> Diagnosis:
    """The task cannot be read: what else is known of it."""
    untold: list[str] = []
    newest, ends, letter = await asyncio.gather(
        _told("newest record", log.stored(task), untold),
        _told("clock", log.ends(), untold),
        _told("dead letter", log.dead_letter(task), untold),
    )
    return diagnose(
        Facts(
            task_id=task.task_id,
            agent=task.agent,
            now=now if now is not None else _clock(ends),
            ack_wait_seconds=ack_wait_seconds or limits.ACK_WAIT_SECONDS,
            problem=problem,
            damaged=damaged,
            newest=_newest(newest),
            letter=_letter(letter),
            untold=tuple(untold),
        )
    )


async def _told(what: str, asked: Awaitable[Told], untold: list[str]) -> Told | None:
    """The answer, or None and a line that says that there is none."""
    try:
        return await asked
    except LogError as error:
        untold.append(f"{what}: {error}")
        return None


async def _turn(log: Log, task: TaskRef, head: Head) -> Attempts:
    """The claims of the turn that is not over, or of the one that was given up. Errors as for ``load``."""
    found = Attempts()
    if not (head.turn_position or head.dead_letter):
        return found
    try:
        async for records in log.read(task, head.turn_position or 1):
            for record in records:
                if record.position <= head.position:
                    found.take(record)
    except ValueError as error:
        raise Unreadable(str(error)) from None
    return found


def _awaited(head: Head, turn: Attempts) -> int:
    """Position of the record that a worker is to act on, or acts on; 0 if nobody is to act."""
    match head.phase:
        case Phase.QUEUED:
            return min(pending.position for pending in head.pending)
        case Phase.RELEASED:
            return turn.released
        case Phase.RUNNING | Phase.STOPPING:
            return head.lease
        case _:
            return 0


async def _at(log: Log, task: TaskRef, position: int) -> Stored | None:
    return await log.stored(task, position) if position else None


def _clock(ends: dict[int, End] | None) -> int:
    """What the log's clock shows; this process's own if the log does not say."""
    return max((end.time for end in (ends or {}).values()), default=int(time.time() * 1000))


def _newest(stored: Stored | None) -> Newest | None:
    if stored is None:
        return None
    header = stored.record.header
    writer = f"{header.writer.role}/{header.writer.instance}"
    return Newest(stored.record.position, header.last_revision, stored.time, writer)


def _deliveries(queue: port.Queue | None, position: int) -> Deliveries | None:
    if queue is None:
        return None
    return Deliveries(
        position=position,
        handed_out=queue.handed_out,
        settled=queue.settled,
        waiting=queue.waiting,
        ahead=queue.ahead,
        under_way=queue.under_way,
        repeated=queue.repeated,
        wanted=queue.wanted,
    )


def _letter(letter: port.Letter | None) -> Letter | None:
    return Letter(letter.time, letter.reason, letter.attempts) if letter else None
