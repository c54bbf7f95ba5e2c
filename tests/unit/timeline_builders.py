"""Timelines of one task for tests of the pure core: everything that a test does not care about is filled in."""

from __future__ import annotations

from typing import Any

from msgspec import Raw
from msgspec.structs import replace

from a2a_events.errors import Conflict
from a2a_events.model import Artifact, Message, Part, Role, TaskState, encode
from a2a_events.timeline.events import NOTHING, Actor, Kind, MessageReceived, Submitted
from a2a_events.timeline.fold import Head, draft_after
from a2a_events.timeline.ids import TaskRef, task_id, token
from a2a_events.timeline.record import Draft, Entry, Record, Writer
from a2a_events.timeline.render import artifact_entry, status_entry

TASK = task_id("main", 0, bytes(16))
CONTEXT = "context-1"
NOW = 1_795_233_000_000
ALICE = Actor(tenant="acme", subject="alice")
GATEWAY = Writer("gateway", "gateway-1", "0.1.0")
REF = TaskRef("main", 0, "writer", token("acme"), TASK)


def said(message_id: str, text: str = "hello", role: Role = Role.USER) -> Raw:
    """A message as it stands in the log, with its ids."""
    part = (Part(text=text),)
    return Raw(encode(Message(message_id=message_id, role=role, parts=part, context_id=CONTEXT, task_id=TASK)))


def submitted(message_id: str = "m1", **members: Any) -> Submitted:
    return Submitted(context_id=CONTEXT, message=said(message_id), owner=ALICE, actor=ALICE, **members)


def received(message_id: str, **members: Any) -> MessageReceived:
    return MessageReceived(message=said(message_id), actor=ALICE, **members)


def status(state: TaskState, text: str = "", time: int = NOW) -> Entry:
    """The public line of a status; with a text, its message is the agent's."""
    message = said(f"status-{text}", text, Role.AGENT) if text else NOTHING
    return status_entry(TASK, CONTEXT, state, time, message)


def artifact(artifact_id: str, *texts: str, append: bool = False, last: bool = False, **members: Any) -> Entry:
    """The public line of an artifact of text parts."""
    made = Artifact(artifact_id=artifact_id, parts=tuple(Part(text=text) for text in texts), **members)
    return artifact_entry(TASK, CONTEXT, made, NOW, append=append, last_chunk=last)


def reply(message_id: str) -> Entry:
    """The public line of a bare Message."""
    return Entry(Kind.REPLY.value, b'{"message":' + bytes(said(message_id, "done", Role.AGENT)) + b"}", NOW)


def kept(kind: Kind = Kind.DELIVERY_ATTEMPT, content: bytes = b'{"x":1}') -> Entry:
    """An event of a kind that this version reserves and does not write."""
    return Entry(kind.value, b'{"later":' + content + b"}", NOW)


def critical(record: Record) -> Record:
    """The same record, which a reader that does not know its kinds must not fold past."""
    return replace(record, header=replace(record.header, critical=True))


class StoredLog:
    """The records of one task as a log keeps them: appended on a condition, at positions that other tasks share."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    @property
    def last(self) -> int:
        """Position of the last record, 0 without one."""
        return self.records[-1].position if self.records else 0

    def append(self, offered: Draft, expected: int) -> Record:
        """Store a record if the task's last position is the expected one.

        Raises:
            Conflict: it is not; nothing was stored.
        """
        if expected != self.last:
            raise Conflict
        # Never one apart: what stands between two positions belongs to other tasks.
        record = Record(self.last + 3, offered.header, offered.payload, offered.inbound)
        self.records.append(record)
        return record

    def after(self, position: int) -> list[Record]:
        """The records behind a position."""
        return [record for record in self.records if record.position > position]


def next_draft(head: Head, entries: list[Entry], *, record_id: str, writer: Writer = GATEWAY, epoch: int = 0) -> Draft:
    """The record that these events become behind this head."""
    return draft_after(head, entries, record_id=record_id, writer=writer, incarnation="inc1", epoch=epoch)


class Timeline:
    """A timeline that grows by one record a call, with its head alongside."""

    def __init__(self, *records: list[Entry]) -> None:
        self.log = StoredLog()
        self.head = Head()
        for entries in records:
            self.add(*entries)

    @property
    def records(self) -> list[Record]:
        return self.log.records

    def add(self, *entries: Entry, epoch: int = 0) -> Record:
        """Store these events as one record and take it into the head."""
        record_id = f"r{len(self.records) + 1}"
        offered = next_draft(self.head, list(entries), record_id=record_id, epoch=epoch)
        record = self.log.append(offered, self.head.position)
        self.head.apply(record)
        return record
