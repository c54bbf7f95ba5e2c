"""What contract tests need of a log: one of each kind, and records whose content does not matter."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from msgspec import Raw, Struct

from a2a_events.log.jetstream import Connection, JetStreamLog, Names, StreamSettings, provision
from a2a_events.log.memory import MemoryLog
from a2a_events.log.port import Log
from a2a_events.timeline.events import Kind
from a2a_events.timeline.ids import RANDOM_BYTES, ContextRef, TaskRef, context_of, task_id, token
from a2a_events.timeline.record import Draft, Entry, Record, Writer, draft

ACK_WAIT_SECONDS = 0.6
WRITER = Writer("gateway", "contract-test", "test/1")
SHARDS = 2


class Kit(Struct, frozen=True):
    """A log under test. ``other`` is the same log as another process has it; the memory log is one process."""

    kind: str
    log: Log
    other: Log
    connections: tuple[Connection, ...] = ()


@asynccontextmanager
async def memory_kit(ack_wait_seconds: float = ACK_WAIT_SECONDS) -> AsyncIterator[Kit]:
    log = MemoryLog(ack_wait_seconds=ack_wait_seconds)
    try:
        yield Kit("memory", log, log)
    finally:
        await log.close()


@asynccontextmanager
async def jetstream_kit(
    url: str, namespace: str, *, raw: bool, ack_wait_seconds: float = ACK_WAIT_SECONDS
) -> AsyncIterator[Kit]:
    names, settings = Names(namespace), StreamSettings("main", SHARDS, 1, ack_wait_seconds)
    async with AsyncExitStack() as stack:
        connections: list[Connection] = []
        for name in ("one", "other"):
            connection = Connection([url], name=f"contract-{name}", raw=raw)
            await connection.open()
            stack.push_async_callback(connection.close)
            connections.append(connection)
        await provision(connections[0], names, settings)
        log, other = [await JetStreamLog.open(connection, names, settings) for connection in connections]
        yield Kit("jetstream", log, other, tuple(connections))


def new_task(log: Log, *, agent: str = "agent", tenant: str = "", shard: int = 0) -> TaskRef:
    return TaskRef(log.name, shard, agent, token(tenant), task_id(log.name, shard, os.urandom(RANDOM_BYTES)))


def a_context(log: Log) -> ContextRef:
    return context_of(new_task(log), subject="somebody", context_id=os.urandom(9).hex())


_numbers = itertools.count(1)


def entries(count: int = 1, *, kind: Kind = Kind.ARTIFACT, size: int = 0) -> list[Entry]:
    made = []
    for _ in range(count):
        number = next(_numbers)
        made.append(Entry(kind.value, b'{"n":%d,"x":"%b"}' % (number, b"x" * size), 1_795_233_000_000 + number))
    return made


def offered(revision: int, count: int = 1, *, kind: Kind = Kind.ARTIFACT, size: int = 0, record_id: str = "") -> Draft:
    """A record of ``count`` events that follows ``revision``."""
    return draft(
        entries(count, kind=kind, size=size),
        record_id=record_id or os.urandom(9).hex(),
        revision=revision,
        generation=revision,
        writer=WRITER,
        incarnation="test",
    )


class Author:
    """Writes one task's records one after the other and remembers them."""

    def __init__(self, log: Log, task: TaskRef) -> None:
        self.log = log
        self.task = task
        self.records: list[Record] = []

    @property
    def position(self) -> int:
        return self.records[-1].position if self.records else 0

    @property
    def revision(self) -> int:
        return self.records[-1].header.last_revision if self.records else 0

    async def write(self, count: int = 1, **how: Any) -> Record:
        made = offered(self.revision, count, **how)
        position = await self.log.try_append(self.task, made, self.position)
        record = Record(position, made.header, made.payload, made.inbound)
        self.records.append(record)
        return record

    async def write_many(self, times: int, **how: Any) -> None:
        for _ in range(times):
            await self.write(**how)


async def read_all(log: Log, task: TaskRef, start: int = 1) -> list[Record]:
    return [record async for run in log.read(task, start) for record in run]


async def taken(runs: Any, revision: int, *, timeout_seconds: float = 20.0) -> list[Record]:
    """What a tail gives up to a revision."""
    records: list[Record] = []
    async with asyncio.timeout(timeout_seconds):
        async for run in runs:
            records += run
            if records and records[-1].header.last_revision >= revision:
                return records
    raise AssertionError("a tail ended by itself")


def raw(content: bytes) -> Raw:
    return Raw(content)
