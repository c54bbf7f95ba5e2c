"""Why a task stands where it stands: facts about it in, one plain sentence out, and what to do about it.

Pure: the facts are gathered by ``runtime.examination``. Ages are differences of times of the log's own clock; times of
writers' clocks are shown and never subtracted.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, assert_never

from msgspec import Struct

from a2a_events import limits
from a2a_events.model import timestamp_of
from a2a_events.timeline.attempts import Attempt
from a2a_events.timeline.decide import FAIL, RESUME
from a2a_events.timeline.fold import Head, Phase

HEARTBEATS_MISSED: Final = 2
"""Announcements that a worker may miss before it is taken for gone."""

WAKE_UP: Final = "wake-up"
"""How what is ``untold`` of the wake-up begins."""


class Case(Enum):
    """What is the matter with a task."""

    UNAVAILABLE = "unavailable"
    """The log does not answer."""
    UNREADABLE = "unreadable"
    NO_TASK = "no-task"
    ENDED = "ended"
    GIVEN_UP = "given-up"
    WAITS_FOR_CLIENT = "waits-for-client"
    SLEEPS = "sleeps"
    OVERSLEPT = "overslept"
    """Its time has come, and nobody woke it."""
    ELSEWHERE = "elsewhere"
    """A server that is no worker of this log runs it, and writes down what it does (ADR 0032)."""
    IMPORTED = "imported"
    """Unfinished, and no worker is asked to go on with it."""
    NO_WORKER = "no-worker"
    QUEUED = "queued"
    HANDED_OUT = "handed-out"
    """A worker was given it and has not begun."""
    FORGOTTEN = "forgotten"
    """The broker holds no delivery of it any more."""
    RUNNING = "running"
    WORKER_SILENT = "worker-silent"
    CANCELING = "canceling"


class Newest(Struct, frozen=True):
    """A record, as far as it is a sign of life."""

    position: int
    revision: int
    """Of its last event."""
    time: int
    """When it was stored, milliseconds, by the log's own clock."""
    writer: str
    """Role and instance."""


class Deliveries(Struct, frozen=True):
    """How far the deliveries of the task's agent are, in the task's shard; see ``log.port.Queue``."""

    position: int
    """Of the record that a worker is to act on, or is acting on; 0 if there is none."""
    handed_out: int
    settled: int
    waiting: int
    ahead: int
    under_way: int
    repeated: int
    wanted: bool


class Letter(Struct, frozen=True):
    """The dead letter of a task."""

    time: int
    reason: str
    attempts: int


class Facts(Struct, frozen=True, kw_only=True):
    """What is known of a task. ``None`` means: not known, unless it is said otherwise."""

    task_id: str
    agent: str
    now: int
    """Milliseconds, by the log's own clock."""
    ack_wait_seconds: float
    head: Head | None = None
    problem: str = ""
    """Why there is no head: how the log failed."""
    damaged: bool = False
    """Whether that is because a record cannot be read, and not because nobody answers."""
    newest: Newest | None = None
    sign: Newest | None = None
    """The newest record of the present claim; None without one."""
    attempts: tuple[Attempt, ...] = ()
    """Of the unfinished turn, or of the one that was given up."""
    claimed: int = 0
    """Position of the newest of its claims; 0 without one."""
    dispatched: bool = True
    """Whether the record that is to be acted on is one that workers are given."""
    served: bool = True
    """Whether the broker has a queue for the agent: False before its first worker."""
    deliveries: Deliveries | None = None
    workers: Mapping[str, int] | None = None
    """Those that announce the agent, and when each last did, milliseconds."""
    version: str = ""
    """Of the agent, as its newest worker announced it."""
    waking: int | None = None
    """When the broker is to wake the task, milliseconds; None: no wake-up stands there."""
    letter: Letter | None = None
    """None: it has none."""
    untold: tuple[str, ...] = ()
    """What could not be found out, and why."""


class Worker(Struct, frozen=True):
    """Who announces the agent, and how long ago it last did."""

    name: str
    announced_seconds_ago: float


class Diagnosis(Struct, frozen=True, kw_only=True):
    """Why a task stands where it stands. Times are as they are printed; ages are in seconds."""

    task: str
    agent: str
    case: Case
    stuck: bool
    """Whether it stays like this until an operator does something."""
    why: str
    """In plain words."""
    advice: str
    """What to do; empty: nothing."""
    time: str
    """Of this diagnosis, by the log's own clock."""
    phase: str = ""
    """In the turn protocol."""
    state: str = ""
    """That clients see."""
    revision: int = 0
    position: int = 0
    silent_seconds: float | None = None
    """Since the newest record."""
    newest_writer: str = ""
    owner: str = ""
    """The worker that holds the claim."""
    owner_silent_seconds: float | None = None
    """Since its newest record under that claim."""
    owner_announced_seconds_ago: float | None = None
    """None: not within three heartbeats, or not known."""
    epoch: int = 0
    attempt: int = 0
    policy: str = ""
    agent_version: str = ""
    attempts: tuple[Attempt, ...] = ()
    pending_messages: int = 0
    """That no agent was given, as far as the log tells: the one that runs may have taken some."""
    cancel_asked: bool = False
    nudge_unanswered: bool = False
    """Whether the sweeper has asked after the owner and got no answer yet."""
    wakes_at: str = ""
    workers: tuple[Worker, ...] | None = None
    deliveries: Deliveries | None = None
    ack_wait_seconds: float = 0.0
    letter: Letter | None = None
    untold: tuple[str, ...] = ()


class _Finding(Struct, frozen=True):
    case: Case
    why: str
    advice: str = ""
    stuck: bool = False


def diagnose(facts: Facts) -> Diagnosis:
    """What the facts amount to."""
    head = facts.head
    found = _find(facts)
    owner = facts.attempts[-1] if facts.attempts and head is not None and _owned(head) else None
    claim = facts.attempts[-1] if facts.attempts else None
    announced = (facts.workers or {}).get(owner.worker) if owner else None
    return Diagnosis(
        task=facts.task_id,
        agent=facts.agent,
        case=found.case,
        stuck=found.stuck,
        why=found.why,
        advice=found.advice,
        time=timestamp_of(facts.now),
        phase=head.phase.value if head else "",
        state=head.state.name if head and head.revision else "",
        revision=head.revision if head else facts.newest.revision if facts.newest else 0,
        position=head.position if head else facts.newest.position if facts.newest else 0,
        silent_seconds=_age(facts, facts.newest.time) if facts.newest else None,
        newest_writer=facts.newest.writer if facts.newest else "",
        owner=owner.worker if owner else "",
        owner_silent_seconds=_age(facts, facts.sign.time) if facts.sign and owner else None,
        owner_announced_seconds_ago=_age(facts, announced) if announced is not None else None,
        epoch=head.epoch if head else 0,
        attempt=claim.attempt if claim else 0,
        policy=claim.policy if claim else "",
        agent_version=head.agent_version if head else "",
        attempts=facts.attempts,
        pending_messages=_unread(facts, head) if head and not head.terminal else 0,
        cancel_asked=bool(head and head.cancel and not head.terminal),
        nudge_unanswered=bool(head and _owned(head) and head.nudged > head.sign),
        wakes_at=timestamp_of(facts.waking) if facts.waking is not None else "",
        workers=None
        if facts.workers is None
        else tuple(Worker(name, _age(facts, at)) for name, at in sorted(facts.workers.items())),
        deliveries=facts.deliveries,
        ack_wait_seconds=facts.ack_wait_seconds,
        letter=facts.letter,
        untold=facts.untold,
    )


def _find(facts: Facts) -> _Finding:
    head = facts.head
    if head is None:
        return _no_head(facts)
    phase = head.phase
    match phase:
        case Phase.NONE:
            return _Finding(Case.NO_TASK, "There is no such task in this log.")
        case Phase.TERMINAL:
            return _ended(facts, head)
        case Phase.RESTING:
            return _rests(facts, head)
        case Phase.SUSPENDED:
            return _sleeps(facts, head)
        case Phase.QUEUED:
            count = len(head.pending)
            return _waits(
                facts, "A message waits for its agent" if count == 1 else f"{count} messages wait for its agent"
            )
        case Phase.RELEASED:
            reason = facts.attempts[-1].reason if facts.attempts else ""
            return _waits(facts, f"The turn was handed over{f' ({reason})' if reason else ''} and waits to go on")
        case Phase.RUNNING | Phase.STOPPING:
            return _runs(facts, head)
        case _:
            assert_never(phase)


def _no_head(facts: Facts) -> _Finding:
    if not facts.damaged:
        return _Finding(
            Case.UNAVAILABLE,
            f"The log does not answer: {facts.problem}. While it has no leader nobody can write to the task, and no"
            " worker is given anything.",
            "Look after the NATS servers; everything goes on by itself when the log has a leader again.",
            stuck=True,
        )
    kept = ", and it has a dead letter that says so" if facts.letter else ""
    return _Finding(
        Case.UNREADABLE,
        f"The task cannot be read by this version: {facts.problem}. No worker of this version can go on with it{kept}."
        " Its deliveries come back, so one that can read it goes on.",
        f"Start workers of the version that wrote the record; look at it with `a2a-events timeline {facts.task_id}`.",
        stuck=True,
    )


def _ended(facts: Facts, head: Head) -> _Finding:
    ago = f" {span(_age(facts, facts.newest.time))} ago" if facts.newest and not head.webhooks else ""
    if not head.dead_letter:
        what = "was answered with a message" if head.replied else f"ended {head.state.name}"
        return _Finding(Case.ENDED, f"It is not stuck: it {what}{ago}, and is final.")
    last = facts.attempts[-1].reason if facts.attempts else ""
    reason = facts.letter.reason if facts.letter else last
    count = facts.letter.attempts if facts.letter else len(facts.attempts)
    tries = f"{count} attempt{'' if count == 1 else 's'}"
    gone = "" if facts.letter else " It has no letter: somebody has replayed or forgotten it, or it was imported."
    return _Finding(
        Case.GIVEN_UP,
        f"It was given up{ago} after {tries}{f': {reason}' if reason else ''}. It is {head.state.name} for good.{gone}",
        f"See `a2a-events dead-letters show {facts.task_id}`; when the cause is gone, try it again with"
        f" `a2a-events dead-letters replay {facts.task_id}`.",
        stuck=facts.letter is not None,
    )


def _rests(facts: Facts, head: Head) -> _Finding:
    if not head.interrupted:
        return _elsewhere(facts, head)
    since = f", for {span(_age(facts, facts.newest.time))} now" if facts.newest else ""
    until = ""
    if facts.waking is not None:
        until = f" At {timestamp_of(facts.waking)}, in {span((facts.waking - facts.now) / 1000)}, it ends FAILED."
    elif not _untold(facts, WAKE_UP):
        until = (
            " No wake-up stands at the broker: if its time is over a worker ends it FAILED as soon as one is there,"
            " otherwise it waits without end."
        )
    return _Finding(
        Case.WAITS_FOR_CLIENT,
        f"It waits for its client ({head.state.name}){since}; no worker is needed before that answers.{until}",
        "Send a message to the task, or cancel it.",
    )


def _elsewhere(facts: Facts, head: Head) -> _Finding:
    """It neither waits for its client nor for a worker."""
    newest = facts.newest
    wrote = f" {newest.writer} wrote last, {span(_age(facts, newest.time))} ago." if newest else ""
    return _Finding(
        Case.ELSEWHERE,
        f"It is {head.state.name} at a server that is no worker of this log and writes down what it does.{wrote} If"
        " that server is gone, nobody goes on with it.",
        "Ask for it, or cancel it, at any replica of that server.",
    )


def _sleeps(facts: Facts, head: Head) -> _Finding:
    left = (head.until - facts.now) / 1000
    if left > 0:
        missing = ""
        if facts.waking is None and not _untold(facts, WAKE_UP):
            missing = " The broker has no wake-up for it: the sweeper asks after it some time later."
        return _Finding(
            Case.SLEEPS,
            f"It sleeps until {timestamp_of(head.until)}, for {span(left)} more: its agent wanted that. No worker is"
            f" needed before.{missing}",
        )
    late = f"Its agent wanted to sleep until {timestamp_of(head.until)}, {span(-left)} ago, and was not woken yet"
    if _unattended(facts):
        return _nobody(facts, late)
    return _Finding(
        Case.OVERSLEPT,
        f"{late}. A worker of {facts.agent} is there and wakes it in a moment; if the wake-up was lost, the sweeper"
        " asks after the task some time later.",
        "If this lasts: look whether a worker sweeps (setting `sweep`), or send the task a message, which wakes it.",
    )


def _waits(facts: Facts, what: str) -> _Finding:
    """Nobody owns the turn, and somebody is to claim it."""
    if not facts.dispatched:
        return _imported(facts)
    if _unattended(facts):
        return _nobody(facts, what)
    queue = facts.deliveries
    if queue is None:
        return _Finding(Case.QUEUED, f"{what}; how far its queue is could not be read.")
    wait = f"{facts.ack_wait_seconds:g} s"
    if queue.position > queue.handed_out:
        others = f"{queue.ahead} other{'' if queue.ahead == 1 else 's'} before it" if queue.ahead else "none before it"
        busy = (
            "a worker is free, so it is handed out in a moment"
            if queue.wanted
            else f"all workers are busy ({queue.under_way} deliveries are under way in this shard)"
        )
        return _Finding(
            Case.QUEUED,
            f"{what}: it was not handed out yet, with {others} in its queue; {busy}.",
            "" if queue.wanted else "Wait, or start more workers.",
        )
    if queue.position <= queue.settled:
        return _Finding(
            Case.FORGOTTEN,
            f"{what}, but the broker holds no delivery of it any more: its consumer was made anew or restored. The"
            " sweeper asks after it when it has been silent for four ack waits.",
            "If this lasts: look whether a worker sweeps (setting `sweep`), or send the task a message.",
        )
    late = facts.newest is not None and _age(facts, facts.newest.time) > 2 * facts.ack_wait_seconds
    return _Finding(
        Case.HANDED_OUT,
        f"{what}: it was handed to a worker that has not begun it. A busy worker keeps what it will get to; of a worker"
        f" that is gone it is handed to another after {wait} of silence." + _mismatch(facts),
        "Workers seem to be full, or those that got it are gone: start more workers." if late else "",
    )


def _runs(facts: Facts, head: Head) -> _Finding:
    if not facts.dispatched:
        return _imported(facts)
    stopping = head.phase is Phase.STOPPING
    claim = facts.attempts[-1] if facts.attempts else None
    name = claim.worker if claim else "a worker"
    silent = _age(facts, facts.sign.time) if facts.sign else None
    wrote = f"it last wrote {span(silent)} ago" if silent is not None else "nothing of it was read"
    which = f" (attempt {claim.attempt})" if claim and claim.attempt > 1 else ""
    before = (
        f" The attempt before ended because {facts.attempts[-2].reason}." if which and len(facts.attempts) > 1 else ""
    )
    announced = (facts.workers or {}).get(name)
    beat = _age(facts, announced) if announced is not None else None
    overdue = silent is not None and silent > facts.ack_wait_seconds
    gone = (
        facts.workers is not None
        and overdue
        and (beat is None or beat > HEARTBEATS_MISSED * limits.AGENT_HEARTBEAT_SECONDS)
    )
    if gone:
        return _owner_gone(facts, head, claim, f"worker {name}{which}, and {wrote}", beat)
    lives = f", announced itself {span(beat)} ago" if beat is not None else ""
    unread = _unread(facts, head)
    more = f" {unread} newer message{'' if unread == 1 else 's'} may wait for the agent." if unread else ""
    asked = " The sweeper has asked after it and waits for an answer." if head.nudged > head.sign else ""
    if stopping:
        return _Finding(
            Case.CANCELING,
            f"A client canceled it. Worker {name}{which} has the turn and tells its agent to stop; {wrote}{lives}. When"
            f" the agent's grace time is over the task ends CANCELED without it.{asked}",
        )
    return _Finding(
        Case.RUNNING,
        f"Worker {name} is at it{which}: {wrote}{lives}. The agent is working, or waits for something of its own."
        f"{before}{more}{asked}",
        "If the agent hangs, its deadlines end the turn; its worker's log says more. A client may cancel the task."
        if overdue
        else "",
    )


def _owner_gone(facts: Facts, head: Head, claim: Attempt | None, held: str, beat: float | None) -> _Finding:
    seen = (
        f"it has not announced itself for {span(3 * limits.AGENT_HEARTBEAT_SECONDS)} or longer"
        if beat is None
        else f"it last announced itself {span(beat)} ago"
    )
    state = f"The turn is held by {held}; {seen}: it is dead, frozen or cut off."
    others = sorted(set(facts.workers or {}) - {claim.worker if claim else ""})
    if not others:
        return _Finding(
            Case.WORKER_SILENT,
            f"{state} No other worker announces the agent {facts.agent}, so nobody can take the turn over.",
            f"Start a worker of {facts.agent}: it {_next(head, claim)}.",
            stuck=True,
        )
    known = others[0] if len(others) == 1 else f"{others[0]} and {len(others) - 1} more"
    return _Finding(
        Case.WORKER_SILENT,
        f"{state} After {facts.ack_wait_seconds:g} s without a sign of life the broker hands the turn to another worker"
        f" ({known}), which {_next(head, claim)}." + _mismatch(facts),
        "If this lasts: all workers may be busy, start more; or none has the version of this turn.",
    )


def _next(head: Head, claim: Attempt | None) -> str:
    """What whoever takes the turn over does, after a verb's subject."""
    if head.cancel:
        return "ends the task CANCELED, as its client asked"
    if claim is None:
        return "takes the turn over"
    if claim.policy == FAIL:
        return "ends the task FAILED, because its crash policy is fail"
    how = "goes on from what was said" if claim.policy == RESUME else "runs the turn anew"
    return f"{how}, if an attempt is left after {claim.attempt}"


def _nobody(facts: Facts, what: str) -> _Finding:
    ever = "" if facts.served else " None was ever here."
    return _Finding(
        Case.NO_WORKER,
        f"{what}, and no worker announces {facts.agent}.{ever}",
        f"Start a worker that serves {facts.agent}.",
        stuck=True,
    )


def _imported(facts: Facts) -> _Finding:
    revision = facts.head.revision if facts.head else 0
    return _Finding(
        Case.IMPORTED,
        "It was imported unfinished: its records tell what happened elsewhere, and no worker was asked to go on."
        f" Where workers of {facts.agent} are, the sweeper asks one when the task has been silent for four ack waits.",
        f"To go on from its state beside it, fork it: `a2a-events fork {facts.task_id}@{revision}`.",
        stuck=True,
    )


def _mismatch(facts: Facts) -> str:
    """A hint at versions that may not understand each other; only workers know for sure (turns 4.12)."""
    head = facts.head
    claim = facts.attempts[-1] if facts.attempts else None
    if head is None or claim is None or claim.policy != RESUME or not facts.version or not claim.version:
        return ""
    if facts.version == claim.version:
        return ""
    return (
        f" The turn was begun by version {claim.version} of the agent, and workers announce {facts.version}: if that"
        f" cannot resume it, it is left to workers of {claim.version} for {limits.OTHER_VERSION_DELIVERIES} deliveries."
    )


def _unattended(facts: Facts) -> bool:
    return facts.workers is not None and not facts.workers


def _untold(facts: Facts, what: str) -> bool:
    return any(untold.startswith(what) for untold in facts.untold)


def _unread(facts: Facts, head: Head) -> int:
    """Messages behind those that the turn was begun with, or all if there is none."""
    given = max(head.parked, facts.claimed)
    return sum(pending.position > given for pending in head.pending)


def _owned(head: Head) -> bool:
    return head.phase in {Phase.RUNNING, Phase.STOPPING}


def _age(facts: Facts, time: int) -> float:
    """Seconds; never below 0: a record may be younger than the question."""
    return max(0.0, (facts.now - time) / 1000)


_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def span(seconds: float) -> str:
    """A time span for people, in its two largest units."""
    whole = int(max(0.0, seconds))
    shown: list[str] = []
    for size, unit in _UNITS:
        count, whole = divmod(whole, size)
        if count or (unit == "s" and not shown):
            shown.append(f"{count} {unit}")
    return " ".join(shown[:2])
