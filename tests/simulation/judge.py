"""Whether a run kept every promise: what clients and agents saw, against the log.

The log is read through its own port, and the rules of the turn protocol are checked on the events themselves, not with
the product's fold. The fold is judged too: against what clients were shown, and against what they add up.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import replace

from a2a_events.client.accumulate import accumulate
from a2a_events.log.memory import MemoryLog
from a2a_events.model import TERMINAL_STATES, StreamResponse, Task, TaskState, decode
from a2a_events.timeline.events import (
    ArtifactChanged,
    CancelRequested,
    MessageReceived,
    MessageUnread,
    Replied,
    StatusChanged,
    Step,
    Submitted,
    TurnClaimed,
    TurnEnded,
    TurnReleased,
    TurnSuspended,
)
from a2a_events.timeline.fold import TaskFold
from a2a_events.timeline.record import Record
from a2a_events.timeline.render import task as render_task
from tests.simulation.history import Answer, History, Stream


class _Identified(msgspec.Struct, rename="camel"):
    message_id: str = ""
    ask: str = ""


_identified = msgspec.json.Decoder(_Identified)


@dataclass
class Timeline:
    """One task, read event by event."""

    task_id: str
    records: list[Record]
    violations: list[str] = field(default_factory=list)
    messages: dict[str, int] = field(default_factory=dict)
    """Position of each message."""
    unread: set[str] = field(default_factory=set)
    asks: set[str] = field(default_factory=set)
    """Cancel requests, by what the client called them."""
    state: TaskState = TaskState.SUBMITTED
    ended: int = 0
    """Revision of the terminal event."""
    replied: bool = False
    revision: int = 0
    epoch: int = 0
    open: bool = False
    lease: tuple[int, int] = (0, 0)
    attempt: int = 0
    handled: int = 0
    handled_by: dict[str, str] = field(default_factory=dict)
    """Of each message the worker whose turn had it."""
    chunks: dict[int, list[int]] = field(default_factory=dict)
    """Of each run of an agent the chunks that were stored, in order."""
    epochs: dict[int, set[int]] = field(default_factory=dict)
    """Of each run of an agent the epochs under which its chunks were stored."""
    endings: dict[int, str] = field(default_factory=dict)
    """Of each epoch that ended its turn the worker that wrote so."""
    steps: set[str] = field(default_factory=set)
    """Names of the steps of the present turn."""
    results: set[int] = field(default_factory=set)
    """Of all steps."""
    canceling: bool = False
    damaged: bool = False
    """Whether it cannot be folded."""
    public: list[tuple[int, bytes]] = field(default_factory=list)

    def wrong(self, what: str) -> None:
        self.violations.append(f"task {self.task_id[-6:]}: {what}")

    def read(self) -> None:
        """Check every event."""
        position = 0
        for record in self.records:
            header = record.header
            if record.position <= position:
                self.wrong("positions do not grow")
            position = record.position
            if header.revision != self.revision + 1:
                self.wrong(f"revision {header.revision} follows {self.revision}")
                self.damaged = True
            if header.epoch and header.epoch < self.epoch:
                self.wrong(f"revision {header.revision} of epoch {header.epoch} follows epoch {self.epoch}")
            self.public += record.updates(0)
            for revision, event in enumerate(record.events(), header.revision):
                if self.ended:
                    self.wrong(f"revision {revision}, {type(event).__name__}, stands after the end")
                self._event(event, record, revision)
            self.revision = header.last_revision

    def _event(self, event: Any, record: Record, revision: int) -> None:
        match event:
            case Submitted() | MessageReceived():
                message_id = _identified.decode(event.message).message_id
                if message_id in self.messages:
                    self.wrong(f"message {message_id} stands in the log twice")
                self.messages[message_id] = record.position
            case MessageUnread():
                self.unread |= set(event.message_ids)
            case CancelRequested():
                if not self.open:
                    self.wrong("a cancel was asked of nobody")
                self.canceling = True
                self.asks.add(_identified.decode(event.metadata).ask)
            case TurnClaimed():
                self._claimed(event, record)
            case TurnReleased() | TurnSuspended():
                self.open = False
            case Step():
                if event.name in self.steps:
                    self.wrong(f"step {event.name} was recorded twice in one turn")
                self.steps.add(event.name)
                self.results.add(decode(bytes(event.result), int))
            case TurnEnded():
                self._turn_ended(event, record)
            case StatusChanged():
                self.state = event.status.state
                if self.state in TERMINAL_STATES:
                    self.ended = revision
                    if self.canceling and self.state is not TaskState.CANCELED:
                        self.wrong(f"{self.state.name} after an accepted cancel")
            case Replied():
                self.state, self.ended, self.replied = TaskState.COMPLETED, revision, True
                if self.canceling:
                    self.wrong("a reply after an accepted cancel")
            case ArtifactChanged():
                # An agent that is run anew begins with the artifact as it was before the turn: what is new comes last.
                said = decode(bytes(event.artifact.parts), list[dict[str, Any]])[-1]
                number, dot, chunk = str(said.get("text", "")).partition(".")
                if dot:
                    self.chunks.setdefault(int(number), []).append(int(chunk))
                    self.epochs.setdefault(int(number), set()).add(record.header.epoch)
            case _:
                pass

    def _claimed(self, event: TurnClaimed, record: Record) -> None:
        if event.epoch != self.epoch + 1:
            self.wrong(f"claim {event.epoch} follows claim {self.epoch}")
        if self.open and record.header.epoch != self.epoch:  # the owner itself may claim once more
            lease, count = self.lease
            if (event.lease, event.attempt) != (lease, self.attempt + 1) or event.delivery <= count:
                self.wrong(f"claim {event.epoch} took an open turn without evidence")
        self.epoch, self.open = event.epoch, True
        self.lease, self.attempt = (event.lease, event.delivery), event.attempt

    def _turn_ended(self, event: TurnEnded, record: Record) -> None:
        if not self.open or event.epoch != self.epoch:
            self.wrong(f"epoch {event.epoch} ended a turn that is not its own")
        self.open = False
        self.steps.clear()
        worker = record.header.writer.instance
        self.endings[event.epoch] = worker
        for message_id, position in self.messages.items():
            if self.handled < position <= event.handled:
                self.handled_by[message_id] = worker
        self.handled = max(self.handled, event.handled)


async def judge(log: MemoryLog, cluster: Any, clients: Any, history: History) -> list[str]:
    """Every promise that was broken, in words."""
    ends = await log.ends()
    timelines: dict[str, Timeline] = {}
    async for run in log.scan(0, 1, ends[0].position):
        for stored in run:
            timelines.setdefault(stored.task.task_id, Timeline(stored.task.task_id, [])).records.append(stored.record)
    violations: list[str] = []
    for task_id, timeline in timelines.items():
        timeline.read()
        violations += timeline.violations
        if timeline.damaged:
            continue
        violations += _messages(timeline, history)
        violations += _agents(timeline, history)
        asked = await clients.get("judge", cluster.agent_of(task_id), task_id)
        violations += _shown(timeline, asked)
    violations += _operations(timelines, history)
    violations += _steps(timelines, history)
    for chain in history.streams:
        violations += _streams(timelines, chain)
    _count(timelines, history)
    return violations


def _messages(timeline: Timeline, history: History) -> Iterable[str]:
    """No message is dropped in silence, and none is called handled that no agent was given."""
    short = timeline.task_id[-6:]
    if not timeline.ended:
        yield f"task {short} has not ended: {timeline.state.name}"
        return
    for message_id in timeline.messages:
        worker = timeline.handled_by.get(message_id)
        if worker is not None and (worker, message_id) not in history.given:
            yield f"task {short}: message {message_id} is handled, and {worker} never gave it to an agent"
        if worker is None and message_id not in timeline.unread:
            yield f"task {short}: message {message_id} was neither handled nor named as unread"


def _agents(timeline: Timeline, history: History) -> Iterable[str]:
    """What agents say is stored in order, nothing twice, nothing left out, and all of it before the end of the turn."""
    short = timeline.task_id[-6:]
    for number, chunks in timeline.chunks.items():
        run = history.runs[number - 1]
        if run.task_id != timeline.task_id:
            yield f"task {short} holds what run {number} said about another task"
        if chunks != list(range(1, len(chunks) + 1)):
            yield f"task {short}: chunks of run {number} are stored as {chunks}"
        ended = all(timeline.endings.get(epoch) == run.worker for epoch in timeline.epochs[number])
        if run.returned and ended and len(chunks) != run.said:
            yield f"task {short}: run {number} said {run.said} chunks, and {len(chunks)} are stored"


def _steps(timelines: dict[str, Timeline], history: History) -> Iterable[str]:
    """A step whose result its agent was given is recorded."""
    for task_id, result in history.steps:
        if task_id not in timelines or result not in timelines[task_id].results:
            yield f"task {task_id[-6:]}: an agent went on after a step of run {result}, which is not recorded"


def _shown(timeline: Timeline, asked: Any) -> Iterable[str]:
    """GetTask is the fold of the log."""
    short = timeline.task_id[-6:]
    if timeline.replied:
        if asked.error != "TaskNotFoundError":
            yield f"task {short} was a Message, and GetTask answers {asked.answer.value} {asked.error}"
        return
    if asked.answer is not Answer.DONE:
        yield f"task {short} cannot be read: {asked.error}"
        return
    expected = _rendered(timeline, timeline.revision)
    if decode(asked.json, Task) != expected:
        yield f"GetTask of {short} is not the fold of its log:\n  {asked.json!r}\n  {expected}"


def _rendered(timeline: Timeline, revision: int) -> Task:
    """The Task up to a revision that ends a record."""
    fold = TaskFold.of(r for r in timeline.records if r.header.last_revision <= revision)
    return decode(render_task(fold, timeline.task_id, {}), Task)


def _operations(timelines: dict[str, Timeline], history: History) -> Iterable[str]:
    """What was answered is true."""
    stored = Counter(message_id for timeline in timelines.values() for message_id in timeline.messages)
    asks = {ask for timeline in timelines.values() for ask in timeline.asks}
    seen: dict[tuple[str, str], int] = {}
    for asked in history.asked:
        what = f"{asked.name} {asked.message_id} of {asked.client} ({asked.task_id[-6:]})"
        if asked.name == "send":
            if asked.answer is Answer.DONE and stored[asked.message_id] != 1:
                yield f"{what} was accepted, and stands in the log {stored[asked.message_id]} times"
            if asked.answer is Answer.REFUSED and stored[asked.message_id]:
                yield f"{what} was refused with {asked.error}, and stands in the log"
            if stored[asked.message_id] > 1:
                yield f"{what} stands in the log {stored[asked.message_id]} times"
        if asked.name == "cancel":
            timeline = timelines.get(asked.task_id, Timeline(asked.task_id, []))
            if asked.answer is Answer.DONE and timeline.state is not TaskState.CANCELED:
                yield f"{what} was accepted, and the task ended {timeline.state.name}"
            if asked.answer is Answer.REFUSED and asked.message_id in asks:
                yield f"{what} was refused with {asked.error}, and stands in the log"
            if asked.error == "TaskNotCancelableError" and not timeline.ended:
                yield f"{what} was refused, and the task has not ended"
        if asked.answer is Answer.DONE:
            if asked.name == "get" and asked.revision < asked.floor:
                yield f"{what} shows revision {asked.revision}, and {asked.floor} was known before it was asked"
            key = (asked.client, asked.task_id)
            if asked.name == "get" and asked.revision < seen.get(key, 0):
                yield f"{what} shows an older task than the one before"
            seen[key] = max(seen.get(key, 0), asked.revision)


def _recorded(task: Task) -> Task:
    """A Task without what a gateway shows and nobody recorded: that its agent has no worker."""
    said = task.status.message
    if said is None or said.message_id != f"{task.id}-no-worker":
        return task
    return replace(task, status=replace(task.status, message=None))


def _streams(timelines: dict[str, Timeline], chain: list[Stream]) -> Iterable[str]:
    """A subscriber sees one contiguous run of the log, over all its connections, through the end."""
    streams = [stream for stream in chain if stream.updates or stream.ended]
    if not streams:
        return
    timeline = timelines.get(chain[0].task_id)
    name = f"subscriber {chain[0].client} of {chain[0].task_id[-6:]}"
    if timeline is None:
        yield f"{name} watched a task that is not in the log"
    if timeline is None or timeline.damaged:
        return
    task: Task | None = None
    revision: int | None = None
    for stream in streams:
        if stream.cursor_revision is not None and stream.cursor_revision != (revision or 0):
            yield f"{name} resumed after {stream.cursor_revision}, and had seen {revision}"
        for number, line in stream.updates:
            update = decode(line, StreamResponse)
            if update.task is not None:
                if stream.updates[0][0] != number or stream.cursor_revision is not None:
                    yield f"{name} was shown a Task within its stream, at revision {number}"
                if _recorded(update.task) != _rendered(timeline, number):
                    yield f"{name} was shown a Task that is not the fold up to revision {number}"
                task, revision = update.task, number
                continue
            due = next((public for public in timeline.public if public[0] > (revision or 0)), None)
            if due != (number, line):
                yield f"{name} stood at revision {revision} and was shown {number}; due was {due and due[0]}"
                return
            revision = number
            if update.message is None:
                task = accumulate(task, update)
        rest = [public for public in timeline.public if public[0] > (revision or 0)]
        if stream.ended and stream.operation == "subscribe" and rest:
            yield f"{name} was told that this is all, after revision {revision}; there are {len(rest)} more"
    bare = any(line.startswith(b'{"message":') for stream in streams for _, line in stream.updates)
    if not streams[-1].ended or (streams[-1].operation != "subscribe" and not bare):
        yield f"{name} was never told that the task has ended"
    elif task is not None:
        final = _rendered(timeline, timeline.revision)
        if (task.status, task.artifacts) != (final.status, final.artifacts):
            yield f"{name} adds up another task than GetTask shows:\n  {task}\n  {final}"


def _count(timelines: dict[str, Timeline], history: History) -> None:
    counts = history.counts
    counts["tasks"] += len(timelines)
    counts["events"] += sum(timeline.revision for timeline in timelines.values())
    for timeline in timelines.values():
        counts[f"ended {timeline.state.name}"] += 1
        counts["bare replies"] += timeline.replied
        counts["messages unread"] += len(timeline.unread)
        counts["taken over"] += any(
            isinstance(e, TurnClaimed) and e.attempt > 1 and r.header.epoch == e.epoch
            for r in timeline.records
            for e in r.events()
        )
        counts["tried again"] += any(
            isinstance(e, TurnClaimed) and e.attempt > 1 and r.header.epoch < e.epoch
            for r in timeline.records
            for e in r.events()
        )
        kinds = "".join(record.header.kinds for record in timeline.records)
        for code, what in {"h": "suspended", "r": "released", "L": "dead-lettered"}.items():
            counts[what] += kinds.count(code)
        counts["next turn in the ending"] += any("ec" in r.header.kinds.replace("S", "") for r in timeline.records)
    counts["cancel came too late"] += sum(asked.error == "TaskNotCancelableError" for asked in history.asked)
    counts["cancel beat an ending"] += sum(
        run.returned and run.wanted in {"complete", "return"} and timelines[run.task_id].canceling
        for run in history.runs
        if run.task_id in timelines
    )
    counts["operations"] += len(history.asked)
    counts["answers unknown"] += sum(asked.answer is Answer.UNKNOWN for asked in history.asked)


def digest(timelines: dict[str, list[Record]]) -> str:
    """Of every byte that was stored."""
    summed = hashlib.sha256()
    for records in timelines.values():
        for record in records:
            summed.update(repr((record.position, record.header)).encode())
            summed.update(record.payload)
    return summed.hexdigest()
