"""Payloads that no message holds: kept as objects, with a reference to them in the record (ADR 0016).

A record over ``limits.RECORD_BYTES`` is stored in two steps, the object first and then, on the usual condition, a
record whose header says ``encoding`` ``object`` and whose payload is a :class:`Reference`. Readers get the record as
its writer offered it, so that nothing above the adapter knows. An object is named after its task and record and has
no client's string in it; a record that refers to any other object is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from a2a_events import limits
from a2a_events.errors import Unreadable
from a2a_events.log.jetstream.connection import Connection
from a2a_events.log.jetstream.names import Names
from a2a_events.log.jetstream.object_store import ObjectStore
from a2a_events.timeline.events import Kind
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Draft, Record

ENCODING: Final = "object"
"""Value of a record's ``encoding``: the payload is a reference to an object."""
_OFFERED: Final = 256
"""Objects remembered for records that are not known to be stored: a writer that tries again does not store twice."""


class Reference(Struct, frozen=True):
    """What stands in the record instead of the payload."""

    bucket: str
    name: str
    nuid: str
    size: int
    """Bytes of the payload."""
    digest: str
    """``SHA-256=`` and base64url, of the payload."""


_decoder = msgspec.json.Decoder(Reference)
_encode = msgspec.json.Encoder().encode


class ClaimCheck:
    """Stores and fetches the payloads of large records for one process."""

    def __init__(self, connection: Connection, names: Names) -> None:
        self._connection = connection
        self._names = names
        self._offered: dict[str, Reference] = {}
        """By record id, the oldest first."""
        self._kept: dict[str, bytes] = {}
        """Payloads fetched lately by object name, the oldest use first."""
        self._kept_bytes = 0
        self._fetching: dict[str, asyncio.Task[bytes]] = {}
        self._free = asyncio.Semaphore(limits.CONTENT_FETCHES)

    async def store(self, task: TaskRef, draft: Draft) -> Draft:
        """The record to append instead of this one; its object is durable. Stored once, however often it is offered.

        Raises:
            Unavailable: the object was not stored; nothing refers to it.
        """
        record_id = draft.header.record_id
        reference = self._offered.get(record_id)
        if reference is None:
            info = await self._store(task).put(_name(task, record_id), draft.payload)
            reference = Reference(info.bucket, info.name, info.nuid, info.size, info.digest)
            self._offered[record_id] = reference
            if len(self._offered) > _OFFERED:
                del self._offered[next(iter(self._offered))]
        return Draft(replace(draft.header, encoding=ENCODING), _encode(reference))

    def stored(self, draft: Draft) -> None:
        """The record is in the log: it needs no second try."""
        self._offered.pop(draft.header.record_id, None)

    async def discard(self, task: TaskRef, draft: Draft) -> None:
        """The record is not in the log and never will be: remove its object.

        Raises:
            Unavailable, Uncertain: it may still be there; ``sweep`` finds it.
        """
        reference = self._offered.pop(draft.header.record_id, None)
        if reference is not None:
            await self._store(task).delete(reference.name, reference.nuid)

    async def remove(self, task: TaskRef, record: Record) -> None:
        """Remove what a stored record refers to, if it refers to anything. Removing twice is harmless.

        Raises:
            Unavailable, Uncertain: it may still be there; repeating is safe.
            Unreadable: the reference is damaged.
        """
        if record.header.encoding == ENCODING:
            reference = referred(self._names, task, record)
            await self._store(task).delete(reference.name, reference.nuid)

    async def whole(self, task: TaskRef, record: Record) -> Record:
        """The record as it was offered. Costs nothing if it is that already, or was fetched lately.

        Raises:
            Unreadable: its object is missing, damaged or not its own, or it is encoded in a way not known here.
            Unavailable: no answer; repeating is safe.
        """
        encoding = record.header.encoding
        if not encoding:
            return record
        if encoding != ENCODING:
            raise Unreadable(f"record at {record.position} is encoded as {encoding!r}, which this version cannot read")
        reference = referred(self._names, task, record)
        return replace(record, header=replace(record.header, encoding=""), payload=await self._payload(task, reference))

    async def telling(self, task: TaskRef, record: Record) -> Record:
        """As :meth:`whole`, but the lines of a large record that holds nothing but artifacts are left empty."""
        if set(record.header.kinds) == {Kind.ARTIFACT.value}:
            return replace(
                record, header=replace(record.header, encoding=""), payload=b"\n" * (len(record.header.kinds) - 1)
            )
        return await self.whole(task, record)

    async def _payload(self, task: TaskRef, reference: Reference) -> bytes:
        name = reference.name
        kept = self._kept.pop(name, None)
        if kept is not None:
            self._kept[name] = kept
            return kept
        fetching = self._fetching.get(name)
        if fetching is None:
            # One for all who wait: a hundred streams of a task need its artifact at the same moment.
            fetching = asyncio.get_running_loop().create_task(self._fetch(task, reference))
            self._fetching[name] = fetching
            fetching.add_done_callback(lambda done: self._fetched(name, done))
        return await asyncio.shield(fetching)

    async def _fetch(self, task: TaskRef, reference: Reference) -> bytes:
        async with self._free:
            try:
                return await self._store(task).get(reference.nuid, reference.size, reference.digest)
            except Unreadable as error:
                raise Unreadable(f"object {reference.name} of bucket {reference.bucket}: {error}") from None

    def _fetched(self, name: str, done: asyncio.Task[bytes]) -> None:
        del self._fetching[name]
        if done.cancelled() or done.exception() is not None:
            return
        payload = done.result()
        self._kept[name] = payload
        self._kept_bytes += len(payload)
        while self._kept_bytes > limits.CONTENT_CACHE_BYTES:
            self._kept_bytes -= len(self._kept.pop(next(iter(self._kept))))

    def _store(self, task: TaskRef) -> ObjectStore:
        return ObjectStore(self._connection, self._names.bucket(task.log))

    async def sweep(self, log: str, before: datetime, holds: Callable[[TaskRef, str], Awaitable[bool]]) -> int:
        """Remove objects that no record refers to, and never will; how many.

        An object without a record, or chunks without an entry, are what is left of a writer that was killed, or that
        the broker did not answer, between the object and the record.

        Args:
            log: whose bucket.
            before: what was stored later may have a record yet to come.
            holds: whether the task has a record of this id.

        Raises:
            Unavailable: no answer; repeating is safe.
            Unreadable: an entry is damaged.
        """
        store = ObjectStore(self._connection, self._names.bucket(log))
        swept = 0
        entered: set[str] = set()
        async for info, stored_at in store.entries():
            entered.add(info.nuid)
            owner = _owner(log, info.name)
            if owner is not None and stored_at < before and not await holds(*owner):
                await store.delete(info.name, info.nuid)
                swept += 1
        async for nuid, stored_at in store.uploads():
            if stored_at < before and nuid not in entered:
                await store.remove_chunks(nuid)
                swept += 1
        return swept


def referred(names: Names, task: TaskRef, record: Record) -> Reference:
    """The reference that a record of the encoding ``object`` holds.

    Raises:
        Unreadable: it is damaged, or refers to what is not this record's.
    """
    try:
        reference = _decoder.decode(record.payload)
    except msgspec.DecodeError as error:
        raise Unreadable(f"record at {record.position} holds no reference: {error}") from None
    if (reference.bucket, reference.name) != (names.bucket(task.log), _name(task, record.header.record_id)):
        raise Unreadable(f"record at {record.position} refers to an object that is not its own")
    return reference


def _name(task: TaskRef, record_id: str) -> str:
    return f"{task.shard}/{task.agent}/{task.tenant}/{task.task_id}/{record_id}"


def _owner(log: str, name: str) -> tuple[TaskRef, str] | None:
    """The task and record id that an object is named after, if it is one of ours."""
    tokens = name.split("/")
    if len(tokens) != 5 or not tokens[0].isdecimal():  # noqa: PLR2004 -- as many as are joined above
        return None
    shard, agent, tenant, task_id, record_id = tokens
    return TaskRef(log, int(shard), agent, tenant, task_id), record_id
