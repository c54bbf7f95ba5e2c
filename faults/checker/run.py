"""Everything that a run left behind, read once and put where the rules look for it."""

from __future__ import annotations

import gc
from collections import defaultdict
from pathlib import Path
from typing import Final, TypeVar, cast

from msgspec import Struct

from a2a_events.timeline.record import Header, unpack
from faults.history import (
    Acknowledge,
    Append,
    Bitten,
    Canary,
    Cancel,
    Closed,
    DeleteWebhook,
    Delivery,
    Event,
    Fact,
    Fault,
    Fenced,
    Get,
    Heal,
    History,
    ListTasks,
    Operation,
    Outcome,
    Phase,
    Resources,
    Send,
    SetWebhook,
    Started,
    StreamEnd,
    Subscribe,
    Update,
    Webhook,
    digest,
    histories,
    place_of,
)
from faults.log_dump import Replica, StoredRecord, records, replicas

SECOND: Final = 1_000_000_000
NEVER: Final = 1 << 62


class Terms(Struct, frozen=True, kw_only=True):
    """What the run promises; seconds unless the name says otherwise."""

    keep_alive_seconds: float = 15.0
    progress_seconds: float = 30.0
    """After everything has healed, no task is still for longer until it rests."""
    close_seconds: float = 10.0
    """A stream ends so long after its task, at the latest; time during faults does not count."""
    answer_seconds: float = 5.0
    """How far over its deadline a request may be answered."""
    poison_attempts: int = 5
    poison_delay_seconds: float = 1.0
    webhook_attempts: int = 8
    """At one update, before its webhook may be given up."""
    dead_letters: bool = True
    """Whether a task that was given up is named in the log as a dead letter."""
    closed_world: bool = True
    """Whether every client was recorded."""
    growth: float = 0.1


class Call(Struct, frozen=True):
    """One operation from its invoke to its end."""

    life: str
    process: str
    number: int
    operation: Operation
    invoked_ns: int
    ended_ns: int
    """``NEVER`` if the process was killed, or waits still."""
    phase: Phase
    outcome: Outcome | None
    error: str


OperationT = TypeVar("OperationT", bound=Fact)
OutcomeT = TypeVar("OutcomeT", bound=Fact)


def outcome(call: Call, kind: type[OutcomeT]) -> OutcomeT | None:
    """What came of a call that went well."""
    return call.outcome if isinstance(call.outcome, kind) else None


class Shown(Struct, frozen=True, gc=False):
    """An update of a stream, as small as it gets: there are hundreds of thousands."""

    at_ns: int
    kind: str
    task: str
    position: int
    revision: int
    digest: str
    state: str
    gap: bool


class Stream(Struct):
    """What one stream showed."""

    updates: list[Shown]
    end: StreamEnd | None = None
    ended_ns: int = NEVER


class LogRecord(Struct, frozen=True, gc=False):
    """A record of the final log."""

    position: int
    stream: str
    tenant: str
    lane: str
    expected: int
    header: Header
    payload: bytes
    digest: str

    def __str__(self) -> str:
        h = self.header
        return (
            f"log {self.stream}@{self.position} record {h.record_id} revision {h.revision} kinds {h.kinds} "
            f"epoch {h.epoch} by {h.writer.role} {h.writer.instance} expected {self.expected}"
        )


class Run:
    """A run, indexed. Times are monotonic nanoseconds."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.facts: dict[str, str] = {}
        self.lives: dict[str, str] = {}
        """Process name of each history."""
        self.closed: set[str] = set()
        """Histories that say that their process ended in good order."""
        self.calls: dict[type[Fact], list[Call]] = defaultdict(list)
        self.streams: dict[tuple[str, int], Stream] = defaultdict(lambda: Stream([]))
        self.canaries: dict[str, str] = {}
        self.leaks_of_canaries: list[tuple[str, str, str, tuple[str, ...]]] = []
        """Process, tenant that asked, task, and whose canaries it saw."""
        self.deliveries: list[tuple[str, int, Delivery]] = []
        self.fenced: list[tuple[str, int, Fenced]] = []
        self.webhooks: dict[tuple[str, str], list[tuple[int, Webhook]]] = defaultdict(list)
        self.resources: dict[str, dict[str, int]] = {}
        self.heal_ns = 0
        self.wall_ns = 0
        """The wall clock minus the monotonic one."""
        self.last_ns = 0
        self.tasks: dict[str, list[LogRecord]] = {}
        self.log_streams: dict[str, int] = {}
        """Records of each dumped stream."""
        self.replicas: dict[str, dict[str, list[Replica]]] = defaultdict(dict)

    def of(self, kind: type[OperationT]) -> list[tuple[Call, OperationT]]:
        """Every call of one operation."""
        return [(call, cast("OperationT", call.operation)) for call in self.calls[kind]]

    # --- histories ----------------------------------------------------------------------------------------------------

    def read(self, history: History) -> None:
        """Take in one history."""
        life = history.path.name
        under_way: dict[int, Event] = {}
        at = 0
        for event in history.events():
            at = event.at_ns
            match event.phase:
                case "invoke":
                    under_way[event.number] = event
                case "note":
                    self._note(life, event)
                case _:
                    self._ended(life, under_way.pop(event.number, None), event)
        for event in under_way.values():
            self._call(life, event, NEVER, "info", None, "never ended")
        self.last_ns = max(self.last_ns, at)

    def _ended(self, life: str, begun: Event | None, event: Event) -> None:
        if begun is None:
            raise ValueError(f"{life}: call {event.number} ends and did not begin, or ends twice")
        self._call(life, begun, event.at_ns, event.phase, cast("Outcome | None", event.fact), event.error)

    def _call(  # noqa: PLR0917 -- the fields of one struct
        self, life: str, begun: Event, ended_ns: int, phase: Phase, result: Outcome | None, error: str
    ) -> None:
        operation = cast("Operation", begun.fact)
        call = Call(life, begun.process, begun.number, operation, begun.at_ns, ended_ns, phase, result, error)
        self.calls[type(operation)].append(call)
        seen: tuple[str, ...] = getattr(result, "canaries", ())
        if seen:
            task = getattr(result, "task", "")
            self.leaks_of_canaries.append((life, getattr(operation, "tenant", ""), task, seen))

    def _note(self, life: str, event: Event) -> None:
        match event.fact:
            case Update() as update:
                position, revision = place_of(update.cursor)
                shown = Shown(
                    event.at_ns, update.kind, update.task, position, revision, update.digest, update.state, update.gap
                )
                self.streams[life, update.stream].updates.append(shown)
                if update.canaries:
                    self.leaks_of_canaries.append((life, f"#{update.stream}", update.task, update.canaries))
            case StreamEnd() as end:
                stream = self.streams[life, end.stream]
                stream.end, stream.ended_ns = end, event.at_ns
            case Delivery() as delivery:
                self.deliveries.append((event.process, event.at_ns, delivery))
            case Fenced() as fenced:
                self.fenced.append((life, event.at_ns, fenced))
            case Webhook() as called:
                self.webhooks[called.task, called.config].append((event.at_ns, called))
                if called.canaries:
                    self.leaks_of_canaries.append((life, called.tenant, called.task, called.canaries))
            case Started() as started:
                self.lives[life] = event.process
                self.facts.update(started.facts)
                self.wall_ns = started.wall_ns - event.at_ns
            case Closed():
                self.closed.add(life)
            case Heal():
                self.heal_ns = max(self.heal_ns, event.at_ns)
            case Canary() as canary:
                self.canaries[canary.tenant] = canary.text
            case Resources() as resources:
                self.resources.setdefault(resources.when, {}).update(resources.counts)
            case other:
                raise ValueError(f"{life}: {type(other).__name__} is no note")

    # --- the log ------------------------------------------------------------------------------------------------------

    def take(self, stream: str, stored: list[StoredRecord]) -> None:
        """Take in the records of one stream."""
        self.log_streams[stream] = len(stored)
        for one in stored:
            record = LogRecord(
                one.position,
                stream,
                one.tenant,
                one.lane,
                one.expected,
                unpack(one.header),
                one.payload,
                digest(one.payload),
            )
            self.tasks.setdefault(one.task, []).append(record)

    # --- faults -------------------------------------------------------------------------------------------------------

    def faults(self) -> list[tuple[Call, Fault]]:
        """Every fault, by beginning."""
        return sorted(self.of(Fault), key=lambda pair: pair[0].invoked_ns)

    def excused_until(self, at_ns: int) -> int:
        """When the faults that are active at a time, or begin before the last of them ends, are over; else the time."""
        until = at_ns
        for call, _ in self.faults_by_begin:
            if call.invoked_ns > until:
                break
            if call.ended_ns != NEVER:
                until = max(until, call.ended_ns)
        return until

    def calm_ns(self, begin_ns: int, end_ns: int) -> int:
        """How much of the time between two moments no fault was active."""
        calm, at = 0, begin_ns
        for call, _ in self.faults_by_begin:
            if call.invoked_ns >= end_ns:
                break
            calm += max(0, call.invoked_ns - at)
            at = max(at, end_ns if call.ended_ns == NEVER else call.ended_ns)
        return calm + max(0, end_ns - at)

    def fault_between(self, begin_ns: int, end_ns: int) -> bool:
        """Whether a fault was active at some moment between two."""
        return any(c.invoked_ns <= end_ns and c.ended_ns >= begin_ns for c, _ in self.faults_by_begin)

    def longest_fault_seconds(self, begin_ns: int, end_ns: int) -> float:
        """Of the faults that were active between two moments, the longest."""
        if not self.faults_by_begin:
            return 0.0
        until = begin_ns
        longest = 0
        for call, _ in self.faults_by_begin:
            if call.invoked_ns > end_ns:
                break
            if call.ended_ns >= begin_ns:
                until = min(call.ended_ns, end_ns)
                longest = max(longest, until - call.invoked_ns)
        return longest / SECOND

    @property
    def faults_by_begin(self) -> list[tuple[Call, Fault]]:
        """As :meth:`faults`, sorted once."""
        if self._faults is None:
            self._faults = self.faults()
        return self._faults

    _faults: list[tuple[Call, Fault]] | None = None


def history_folder(folder: Path) -> Path:
    """Where the histories of a run are: beside the log, or in a folder of their own."""
    own = folder / "histories"
    return own if own.is_dir() else folder


def load(folder: Path, terms: Terms | None = None) -> Run:
    """Read a run.

    Args:
        folder: with the histories, and the final log under ``log``.
        terms: what it promises.

    Raises:
        ValueError: something is damaged.
    """
    run = Run(terms or Terms())
    collecting = gc.isenabled()
    gc.disable()  # nothing here is garbage, and looking for it is a third of the time
    try:
        for history in histories(history_folder(folder)):
            run.read(history)
        for stream, stored in records(folder):
            run.take(stream, stored)
        for stream, server, messages in replicas(folder):
            run.replicas[stream][server] = messages
    finally:
        if collecting:
            gc.enable()
    return run


__all__ = [
    "NEVER",
    "SECOND",
    "Acknowledge",
    "Append",
    "Bitten",
    "Call",
    "Cancel",
    "DeleteWebhook",
    "Get",
    "ListTasks",
    "LogRecord",
    "Run",
    "Send",
    "SetWebhook",
    "Shown",
    "Stream",
    "Subscribe",
    "Terms",
    "load",
    "outcome",
]
