"""What a log does: append, read, tail, follow; and three small stores beside it. Nothing else is known of a broker.

Guarantees that every adapter keeps (``tests/contract``): a record that was acknowledged is durable and never changes;
positions grow; an append lands only right after the task's expected position; a tail gives every record after its start
once, in order, the terminal one included, however it was lost or late on the way.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from types import TracebackType
from typing import Protocol, Self

from msgspec import Struct

from a2a_events.timeline.ids import ContextRef, TaskRef
from a2a_events.timeline.record import Draft, Record
from a2a_events.timeline.snapshot import Snapshot


class Watch(Protocol):
    """Interest in one task, from the moment the ``async with`` is entered (turns 8.2: subscribe, then ask, then read).

    Costs the broker one subscription a task and process, however many watch. What is kept for a reader is bounded; one
    that falls behind reads the log at its own pace and slows down nobody.
    """

    async def __aenter__(self) -> Self:
        """Register interest; no round trip."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """As :meth:`close`."""
        ...

    async def close(self) -> None:
        """Give the interest up; no round trip. Closing twice is harmless."""
        ...

    def after(self, position: int, revision: int) -> AsyncGenerator[list[Record]]:
        """Every record with a revision after this one, in order, without holes or repeats, as runs of one or more.

        Never ends by itself: the reader knows when a task has ended. An empty run means that the log was silent for
        ``limits.SILENCE_SECONDS`` or, again, ``limits.KEEP_ALIVE_SECONDS``, and that the leader was asked.

        Args:
            position: of the record that holds ``revision``; 0 for the beginning.
            revision: the newest one already shown.
        """
        ...


class Handle(Protocol):
    """A record that a worker was given to act on (at least once, in any order)."""

    task: TaskRef
    record: Record
    count: int
    """How often the record has been delivered; 1 the first time."""

    async def acknowledge(self) -> None:
        """The log shows that it is settled (turns 4.4). May be lost, late or repeated without harm."""
        ...

    async def in_progress(self) -> bool:
        """The owner lives, or the delivery waits with who will get to it: do not deliver again for another ack wait.

        Only while owner, or while nobody is (turns 4.7).

        Returns:
            Whether it was sent. It may be lost all the same.
        """
        ...

    async def give_back(self) -> None:
        """Deliver it again now, to whoever can take it. May be lost: then it comes back after the ack wait."""
        ...


class Notice(Protocol):
    """An owner's interest in what is asked of its task."""

    async def close(self) -> None:
        """Give the interest up."""
        ...


class Dispatch(Protocol):
    """The deliveries of one agent's ``in`` records to one worker, or of all records to one notifier."""

    def __aiter__(self) -> AsyncIterator[Handle]:
        """Deliveries, as capacity allows."""
        ...

    def grant(self, free: int, ahead: int = 0) -> None:
        """How many more deliveries the worker can take now.

        Args:
            free: that it acts on at once.
            ahead: that would wait with it. They are taken when ``free`` is 0, and only of what no other follower that
                is free takes at once.
        """
        ...

    async def close(self) -> None:
        """Take no more; what was delivered stays with its holder."""
        ...


class AgentEntry(Struct, frozen=True, rename="camel", omit_defaults=True):
    """What a worker announces of the agent it serves; gateways need no code of it."""

    name: str
    card: bytes
    """The agent card's JSON, without interfaces: gateways add their own addresses."""
    replies: str = "task"
    policy: str = "fail"
    version: str = ""
    tenant: str = ""
    """Routing string that reaches the agent at the root of a gateway that serves several."""


class End(Struct, frozen=True):
    """The newest position of a shard, 0 for none, and the shard's incarnation."""

    incarnation: str
    position: int
    time: int = 0
    """The log's own clock when it said so, milliseconds: what the times of records can be compared with."""
    epoch: int = 1
    """How many regions have written the shard, one after the other."""
    taken_at: int = 0
    """Where it ended when the last of them took it over. What one before stored after that is not in the log."""


class Stored(Struct, frozen=True):
    """A record and whose it is."""

    task: TaskRef
    record: Record
    time: int = 0
    """When it was stored, by the log's own clock, milliseconds."""


class Home(Struct, frozen=True):
    """Where a new task goes."""

    log: str
    shards: int
    """New tasks are spread over this many shards."""
    keyed_shards: int
    """New tasks under an idempotency key are spread over the first so many; never changes for a log (turns 7.3)."""


class Queue(Struct, frozen=True):
    """How far the deliveries of one agent's ``in`` records of one shard are."""

    handed_out: int
    """Up to this position records were delivered, each at least once."""
    settled: int
    """Up to this position no record waits for an acknowledgement; never over ``handed_out``."""
    waiting: int
    """Records that were not handed out yet."""
    ahead: int
    """Of these, how many come before the position that was asked about."""
    under_way: int
    """Records that were handed out and are not acknowledged."""
    repeated: int
    """Of these, how many were handed out more than once."""
    wanted: bool
    """Whether a follower waits for records now."""
    ack_wait_seconds: float
    """Silence after which a record under way is handed out again."""


class Letter(Struct, frozen=True, rename="camel", omit_defaults=True):
    """A dead letter: what operators find of a task that was given up. Derived: the log is the truth."""

    task: TaskRef
    time: int
    """When it was given up, milliseconds."""
    reason: str
    attempts: int
    """At the turn that failed; of a task that cannot be read, how often it was delivered."""
    revision: int = 0
    """Of the event that says so; 0 for a task that cannot be read."""
    epoch: int = 0
    context_id: str = ""
    tenant: str = ""
    """The raw name, which the task's subject does not tell."""
    agent_version: str = ""
    """Of the agent whose turn failed."""
    forgotten: bool = False
    """A mark in the place of a letter: it is not shown, and not put again."""


class Notes(Struct, frozen=True):
    """What an agent keeps for a context under one name."""

    contents: tuple[bytes, ...] = ()
    """Oldest first."""
    position: int = 0
    """Where the newest stands: the next one is written on the condition that it still is the newest. 0 without one."""


class Log(Protocol):
    """The log of all tasks, and what lives beside it."""

    name: str
    """Which log new tasks of this process go to."""
    shards: int
    """New tasks are spread over this many shards."""
    keyed_shards: int
    """New tasks under an idempotency key are spread over the first so many; never changes for a log (turns 7.3)."""
    logs: tuple[str, ...]
    """Every log whose tasks can be read here, this process's own first; those of other regions from their mirrors."""
    content_bytes: int
    """Largest payload of one record. One over ``limits.RECORD_BYTES`` costs more, and comes back as it was offered."""

    def incarnation(self, task: TaskRef) -> str:
        """Changes when the task's shard is made anew; a cursor of another incarnation is no place in this one."""
        ...

    def home(self, tenant: str, key: str = "", agent: str = "") -> Home:
        """Where a new task goes: its tenant's home, or else the own log, if the agent is there.

        Args:
            tenant: its raw name.
            agent: who is to work on it: where that is not empty, only logs of regions that have it come into question.
            key: where it is not empty, the same key gives the same log at every process and in every region, so that
                a message under it is taken once (ADR 0025).
        """
        ...

    def staleness(self, log: str = "") -> float | None:
        """How old what is read here of a log is at most, in seconds.

        Args:
            log: its name; empty: the oldest of all.

        Returns:
            None: it is read where it is written.
        """
        ...

    async def reach(self, task: TaskRef, position: int) -> None:
        """Wait until the task is read at least as far as a position, for ``limits.MIRROR_PATIENCE_SECONDS``.

        No round trip for a log that is read where it is written.

        Raises:
            Unavailable: it is not; repeating is safe.
        """
        ...

    async def try_append(self, task: TaskRef, draft: Draft, expected: int, *, trace: str = "") -> int:
        """One attempt to store a record right after a position; one round trip. Use ``append.append`` instead.

        Returns:
            The record's position, durable.

        Raises:
            Conflict: another record stands after ``expected``; nothing was written by this attempt.
            Unavailable: nothing was written. ``Unreachable``: nor will it be for a while.
            Uncertain: no answer: it may be stored now, later or never.
            RecordTooLarge: over :attr:`content_bytes`; nothing was written.
        """
        ...

    async def first_after(self, task: TaskRef, position: int) -> Record | None:
        """The task's first record after a position, from the leader; one round trip.

        Raises:
            Unavailable: no answer; repeating is safe.
        """
        ...

    async def last(self, task: TaskRef) -> Record | None:
        """The task's newest record, from the leader; one round trip.

        Raises:
            Unavailable: no answer; repeating is safe.
        """
        ...

    async def stored(self, task: TaskRef, position: int = 0) -> Stored | None:
        """The task's record at a position, or its newest, and when it was stored; from the leader; one round trip.

        Large payloads may be left out.

        Raises:
            Unavailable: no answer; repeating is safe.
            Unreadable: the record is damaged.
        """
        ...

    def read(self, task: TaskRef, start: int = 1) -> AsyncIterator[list[Record]]:
        """The task's records from a position on, in order, up to the newest that the leader had when reading began.

        Of a task that was removed its tombstone only, whether or not the records before it are gone already.

        Costs one leader read and one request per ``limits.READ_BATCH_RECORDS``.

        Raises:
            Unavailable: no answer; reading on after the last record received is safe.
            Unreadable: a record is damaged, or what it refers to is gone; repeating cannot help.
        """
        ...

    def watch(self, task: TaskRef) -> Watch:
        """Interest in the task's records as they are stored."""
        ...

    async def notice(self, task: TaskRef, woken: Callable[[], None]) -> Notice:
        """Call back when a record of the task's ``in`` lane was stored, for an owner that does not want to hear itself.

        A hint only: it may be lost. Costs the broker one subscription.
        """
        ...

    async def follow(self, agent: str) -> Dispatch:
        """Deliveries of the agent's ``in`` records, shared with every other follower of the agent."""
        ...

    async def follow_all(self) -> Dispatch:
        """Deliveries of every record of every task, without its payload, shared with every other follower of all."""
        ...

    async def handed_out(self, agent: str) -> dict[int, int]:
        """Up to which position of each shard the agent's ``in`` records were delivered, each at least once.

        What stands behind it waits its turn. A shard of which nothing was delivered may be missing. One round trip a
        shard, all at once.

        Raises:
            Unavailable: no answer; repeating is safe.
        """
        ...

    async def progress(self, name: str) -> tuple[bytes, int]:
        """How far a work on the whole log has come, as last put, and its version; from the leader.

        Nothing and version 0 if nothing was put. One round trip.

        Args:
            name: of the work.

        Raises:
            Unavailable: no answer; repeating is safe.
        """
        ...

    async def put_progress(self, name: str, content: bytes, version: int) -> int:
        """Replace what :meth:`progress` gives, if it still has this version; one round trip.

        Returns:
            The new version; durable.

        Raises:
            Conflict: it has another version; nothing was written.
            Unavailable: nothing was written.
            Uncertain: it may be written: read it.
        """
        ...

    async def notified(self, task: TaskRef) -> tuple[bytes, int]:
        """How far the task's webhooks have been notified, as last put, and its version; from the leader.

        Nothing and version 0 if nothing was put. One round trip.

        Raises:
            Unavailable: no answer; repeating is safe.
        """
        ...

    async def put_notified(self, task: TaskRef, content: bytes, version: int) -> int:
        """Replace what :meth:`notified` gives, if it still has this version; one round trip.

        Returns:
            The new version; durable.

        Raises:
            Conflict: it has another version; nothing was written.
            Unavailable: nothing was written.
            Uncertain: it may be written: read it.
        """
        ...

    async def remembered(self, context: ContextRef) -> tuple[bytes, int]:
        """Where a context's newest turn has left what the next is to know, as last put, and its version.

        From the leader; nothing and version 0 if nothing was put. One round trip.

        Raises:
            Unavailable: no answer; repeating is safe.
        """
        ...

    async def put_remembered(self, context: ContextRef, content: bytes, version: int) -> int:
        """Replace what :meth:`remembered` gives, if it still has this version; one round trip.

        Returns:
            The new version; durable.

        Raises:
            Conflict: it has another version; nothing was written.
            Unavailable: nothing was written.
            Uncertain: it may be written: read it.
        """
        ...

    async def notes(self, context: ContextRef, name: str) -> Notes:
        """What an agent has noted in a context; from the leader.

        One round trip if the newest note replaced all others, otherwise two or more.

        Args:
            context: whose.
            name: of these notes, ``[A-Za-z0-9_-]``.

        Raises:
            Unavailable: no answer; repeating is safe.
        """
        ...

    async def note(self, context: ContextRef, name: str, content: bytes, position: int, *, anew: bool = False) -> int:
        """Add to what :meth:`notes` gives, or replace it, if its newest note still stands at this position.

        Kept until it is replaced. One round trip, and one more for each ``limits.RECORD_BYTES``, and to replace.

        Returns:
            The new position; durable.

        Raises:
            Conflict: somebody else has written; of this note nothing will be shown.
            Unavailable: of this note nothing will be shown.
            Uncertain: it may be written: read.
            RecordTooLarge: over :attr:`content_bytes`; nothing was written.
        """
        ...

    async def sealing_key(self, log: str = "") -> bytes:
        """32 random bytes that every process of this deployment gets alike, made when first asked for.

        Args:
            log: whose secrets they seal; empty: those of the own one.

        Raises:
            Unavailable: no answer; repeating is safe.
        """
        ...

    async def snapshot(self, task: TaskRef) -> bytes | None:
        """The newest snapshot head written, if any; one round trip. May be old, never ahead of the log."""
        ...

    async def segments(self, task: TaskRef, keys: list[str]) -> dict[str, bytes]:
        """Stored segments; those that are missing are left out. One round trip each, at once."""
        ...

    async def save(self, task: TaskRef, snapshot: Snapshot) -> None:
        """Write a snapshot. Not awaited to be durable: it can be lost, and is rebuilt."""
        ...

    async def announce(self, entry: AgentEntry, instance: str) -> None:
        """Say that this process serves an agent; repeat every ``limits.AGENT_HEARTBEAT_SECONDS``."""
        ...

    async def agents(self) -> dict[str, AgentEntry]:
        """Every agent that was ever announced, by name; one round trip or more."""
        ...

    async def attended(self) -> set[str]:
        """The agents that some process announced within the last three heartbeats; one round trip.

        Raises:
            Unavailable: no answer; repeating is safe.
        """
        ...

    async def workers(self, agent: str) -> dict[str, int]:
        """The processes that announced the agent within the last three heartbeats, and when each last did.

        In milliseconds, by the log's own clock. Two round trips.

        Raises:
            Unavailable: no answer; repeating is safe.
        """
        ...

    async def queue(self, agent: str, shard: int, position: int = 0) -> Queue | None:
        """How far the deliveries of an agent's ``in`` records of a shard are, and of what stands at a position.

        While others are at work, ``ahead`` may be some too many or too few. One round trip, and one more if the
        position was not handed out yet.

        Returns:
            None: no worker of the agent was here yet, or its consumer was deleted.

        Raises:
            Unavailable: no answer; repeating is safe.
        """
        ...

    async def queue_depth(self, agent: str) -> int:
        """How many ``in`` records of the agent are not acknowledged yet: those nobody has taken, and those under way.

        One round trip a shard, all at once.

        Raises:
            Unavailable: no answer; repeating is safe.
        """
        ...

    async def wake_at(self, task: TaskRef, revision: int, milliseconds: int) -> None:
        """Durably ask for a wake-up of the task at a time, replacing one asked for before."""
        ...

    async def waking(self, task: TaskRef) -> tuple[int, int] | None:
        """The wake-up that was asked for last, if it is not due yet: its revision, and its time in milliseconds.

        One round trip.

        Raises:
            Unavailable: no answer; repeating is safe.
        """
        ...

    async def wakeups(self, agent: str) -> AsyncIterator[Wakeup]:
        """Wake-ups of the agent's tasks, at least once, shared with every other follower."""
        ...

    async def put_dead_letter(self, letter: Letter) -> None:
        """Keep a letter for ``limits.DEAD_LETTER_SECONDS``, unless its task has or had one of this revision or a later.

        So that putting twice leaves one, and a letter that was forgotten does not come back. Two round trips.

        Raises:
            Unavailable: it is not known to be kept; repeating is safe.
        """
        ...

    async def dead_letter(self, task: TaskRef) -> Letter | None:
        """The task's letter, if it has one; from the leader.

        Raises:
            Unavailable: no answer; repeating is safe.
        """
        ...

    def dead_letters(self, agent: str = "") -> AsyncIterator[Letter]:
        """Every letter, or every one of an agent's tasks, once, in the order in which they came.

        One request per ``limits.SCAN_BATCH_RECORDS``.

        Raises:
            Unavailable: no answer; repeating is safe.
        """
        ...

    async def forget_dead_letter(self, letter: Letter) -> None:
        """Remove a letter, put or not, unless its task has a later one: :meth:`put_dead_letter` will not put it again.

        Removing twice is harmless. Two round trips.

        Raises:
            Unavailable: it may still be there; repeating is safe.
        """
        ...

    async def ends(self, log: str = "") -> dict[int, End]:
        """Where each shard of a log ends, from the leaders; one round trip a shard, all at once.

        Args:
            log: one of :attr:`logs`; empty: the own one.

        Raises:
            Unavailable: no answer; repeating is safe.
        """
        ...

    def scan(self, shard: int, start: int, end: int, log: str = "") -> AsyncIterator[list[Stored]]:
        """Records of all tasks of a shard, in order, from one position to another, both included.

        For projections of the whole log. A record that cannot be read is left out and logged: it must not stop them.
        The lines of artifacts may be empty where they are large: a projection does not fetch what it does not show.
        One request per ``limits.SCAN_BATCH_RECORDS``.

        Args:
            shard: of the log.
            start: position of the first record.
            end: position of the last one.
            log: one of :attr:`logs`; empty: the own one.

        Raises:
            Unavailable: no answer; scanning on after the last record received is safe.
        """
        ...

    async def find(self, task_id: str) -> TaskRef | None:
        """Where a task lives, from its id alone: for operators' tools, never for a client's request."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...


class Removing(Log, Protocol):
    """A log that also forgets: for retention, which nothing else may do."""

    async def remove_snapshots(self, task: TaskRef) -> None:
        """Remove a task's snapshot and its segments; one round trip. Removing twice is harmless.

        Raises:
            Unavailable: they may still be there; repeating is safe.
        """
        ...

    async def forget_contexts(self, tenant: str) -> None:
        """Remove what agents keep for the contexts of a tenant: notes, and where what is remembered stands.

        For a tenant whose tasks were all removed. Two round trips; in this region's log alone.

        Args:
            tenant: the token.

        Raises:
            Unavailable: some may still be there; repeating is safe.
        """
        ...

    async def remove(self, task: TaskRef, before: int) -> None:
        """Remove a task's records in front of a position, and what is kept beside the log for it.

        That is what large records refer to, snapshots, how far webhooks were notified, wake-ups and its dead letter.
        The records go last, so that whoever is interrupted finds them again. Where a record other than a tombstone
        stays, the task was made again under its id: then what is beside the log is the new one's, and stays too.
        Seven round trips, and two a large record.

        Args:
            task: whose.
            before: position of the first record that stays.

        Raises:
            Unavailable: some may still be there; repeating is safe.
            Unreadable: a reference to a large record's content is damaged.
        """
        ...


class Wakeup(Protocol):
    """A time has come."""

    task: TaskRef
    revision: int

    async def acknowledge(self) -> None:
        """It was acted on, or there was nothing to do."""
        ...
