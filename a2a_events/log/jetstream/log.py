"""The port on JetStream (design 3–6).

Costs on one server that syncs each write: append 0.4 ms, leader read 0.2 ms, interest in a task one subscription.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import structlog
from msgspec import Struct
from msgspec.structs import replace

from a2a_events import limits, tracing
from a2a_events.errors import (
    Conflict,
    Forbidden,
    LogError,
    NotProvisioned,
    RecordTooLarge,
    Unavailable,
    Uncertain,
    Unreadable,
)
from a2a_events.log.jetstream import names as n
from a2a_events.log.jetstream import reads
from a2a_events.log.jetstream.claim_check import ClaimCheck
from a2a_events.log.jetstream.connection import Connection, Subscription
from a2a_events.log.jetstream.dead_letters import DeadLetters
from a2a_events.log.jetstream.dispatch import Ensure, JetStreamDispatch, Whole, trace_of, wakeups
from a2a_events.log.jetstream.names import Names
from a2a_events.log.jetstream.notebooks import Notebooks
from a2a_events.log.jetstream.object_store import stream_of
from a2a_events.log.jetstream.reads import Message
from a2a_events.log.jetstream.streams import (
    EPOCH,
    FENCED,
    INCARNATION,
    KEYED_SHARDS,
    TAKEN_AT,
    StreamSettings,
    ensure_notifier_consumer,
    ensure_timer_consumer,
    ensure_worker_consumer,
    require_stream,
    shards_of,
)
from a2a_events.log.jetstream.wire import header_block, header_value, status
from a2a_events.log.port import AgentEntry, Dispatch, End, Home, Letter, Notes, Queue, Stored, Wakeup
from a2a_events.log.tail import Silence, Tail, TailWatch, Watched
from a2a_events.metrics.catalog import APPEND_CONFLICTS
from a2a_events.model import timestamp_of
from a2a_events.timeline.ids import ContextRef, TaskRef, is_name, parse_task_id
from a2a_events.timeline.record import Draft, Record, pack, unpack
from a2a_events.timeline.snapshot import Snapshot

_REFRESH_SECONDS: Final = 5.0

logger = structlog.get_logger(__name__)


class _Fault(Struct, frozen=True):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _PubAck(Struct, frozen=True):
    seq: int = 0
    error: _Fault | None = None


_ack_decoder = msgspec.json.Decoder(_PubAck)
_encode = msgspec.json.Encoder().encode


class ShardView(Struct, frozen=True):
    """What a shard's stream says of itself."""

    incarnation: str
    single: bool
    """Whether it has one replica: then a direct get is a leader get."""
    live: str
    """Root of the subjects on which it republishes what it has stored."""
    epoch: int
    """How many regions have written it, one after the other."""
    mirror: bool
    """Whether it follows a stream of another domain, and takes nothing in."""
    fenced: bool
    """Whether another region has taken the log over."""

    @staticmethod
    def of(names: Names, config: dict[str, Any]) -> ShardView:
        """From a stream's configuration."""
        metadata: dict[str, str] = config.get("metadata") or {}
        republish: dict[str, str] = config.get("republish") or {}
        return ShardView(
            incarnation=metadata.get(INCARNATION, ""),
            single=config.get("num_replicas", 1) == 1,
            live=names.live_root(republish.get("dest", "")),
            epoch=int(metadata.get(EPOCH, "1")),
            mirror=bool(config.get("mirror")),
            fenced=FENCED in metadata,
        )


class JetStreamLog:
    """See ``port.Log``. Made by :meth:`open`."""

    def __init__(
        self,
        connection: Connection,
        names: Names,
        settings: StreamSettings,
        *,
        content_bytes: int = limits.CONTENT_BYTES,
    ) -> None:
        self.content_bytes = content_bytes
        self._connection = connection
        self._names = names
        self._settings = settings
        self._content = ClaimCheck(connection, names)
        self._dead_letters = DeadLetters(connection, names, settings.log, self._put)
        self._notebooks = Notebooks(connection, names, self._put, self._purge)
        self._watched: dict[TaskRef, Watched] = {}
        self._silence = Silence(self._watched)
        self._shards: dict[tuple[str, int], ShardView] = {}
        self._refreshed = 0.0
        self._segments: dict[str, bytes] = {}
        """Segments read lately, the oldest use first."""
        self._segments_bytes = 0
        self.name = settings.log
        self.logs: tuple[str, ...] = (settings.log,)
        self.shards = settings.shards
        self.keyed_shards = 1
        connection.on_return.append(self._returned)

    @classmethod
    async def open(
        cls,
        connection: Connection,
        names: Names,
        settings: StreamSettings,
        *,
        content_bytes: int = limits.CONTENT_BYTES,
    ) -> JetStreamLog:
        """The log over streams that ``provision`` has made; the number of shards is what is there.

        Args:
            connection: to the servers.
            names: of everything shared with them.
            settings: as provisioned.
            content_bytes: largest payload of one record.

        Raises:
            NotProvisioned: streams are not there: run ``a2a-events provision``; or another region writes the log.
            Unavailable: no answer, or no leader yet; repeating is safe.
        """
        log = cls(connection, names, settings, content_bytes=content_bytes)
        await log.begin()
        return log

    async def begin(self) -> None:
        """Find the streams; errors as :meth:`open`."""
        await self.begin_to_read()
        if any(view.mirror for view in self._shards.values()):
            # Who began with a mirror would never hear that it was taken over, and write what nobody takes in.
            raise NotProvisioned(
                f"log {self.name!r} is written in another region, and only mirrored here: choose the log of this "
                "region, or take that one over first by `a2a-events region-promote`"
            )

    async def begin_to_read(self) -> None:
        """As :meth:`begin`; the streams may be mirrors."""
        await self.refresh()
        if not self._shards:
            raise NotProvisioned(
                f"log {self.name!r} has no streams in namespace {self._names.namespace!r}: run `a2a-events provision`"
            )
        if any(view.fenced for view in self._shards.values()):
            raise NotProvisioned(
                f"log {self.name!r} was taken over by another region: nothing can be written to it here"
            )
        if self.shards < self.keyed_shards:
            raise NotProvisioned(
                f"log {self.name!r} has {self.shards} of {self.keyed_shards} shards: provision it again"
            )
        await require_stream(self._connection, stream_of(self._names.bucket(self.name)))

    async def refresh(self) -> dict[int, dict[str, Any]]:
        """Read which shards there are, and what their streams say; each stream's info."""
        found = await shards_of(self._connection, self._names, self.name)
        for shard, info in found.items():
            config: dict[str, Any] = info["config"]
            self._shards[self.name, shard] = ShardView.of(self._names, config)
        self.shards = len(found) or self.shards
        if found:
            of_first: dict[str, str] = found[0]["config"].get("metadata") or {}
            self.keyed_shards = int(of_first.get(KEYED_SHARDS, "1"))
        return found

    @property
    def views(self) -> dict[int, ShardView]:
        """What is known of each shard's stream."""
        return {shard: view for (_, shard), view in self._shards.items()}

    def adopt(self, views: Mapping[int, ShardView]) -> None:
        """Know the shards from elsewhere, where these streams cannot be asked."""
        self._shards = {(self.name, shard): replace(view, single=False) for shard, view in views.items()}
        self.shards = len(self._shards)

    def view(self, shard: int) -> ShardView | None:
        """What is known of a shard's stream."""
        return self._shards.get((self.name, shard))

    def home(self, tenant: str, key: str = "", agent: str = "") -> Home:  # noqa: ARG002 -- there is one log
        """See ``port.Log``."""
        return Home(self.name, self.shards, self.keyed_shards)

    def staleness(self, log: str = "") -> float | None:  # noqa: ARG002 -- it is read where it is written
        """See ``port.Log``."""
        return None

    async def reach(self, task: TaskRef, position: int) -> None:
        """See ``port.Log``: it is read where it is written."""

    def incarnation(self, task: TaskRef) -> str:
        """See ``port.Log``."""
        shard = self._shards.get((task.log, task.shard))
        return shard.incarnation if shard is not None else ""

    # --- append -------------------------------------------------------------------------------------------------------

    async def try_append(self, task: TaskRef, draft: Draft, expected: int, *, trace: str = "") -> int:
        """See ``port.Log``."""
        if (task.log, task.shard) not in self._shards:
            raise Unavailable(f"shard {task.shard} of log {task.log!r} is not known here")
        size = len(draft.payload)
        if size > self.content_bytes:
            raise RecordTooLarge(f"a record of {size} bytes is over the limit of {self.content_bytes}")
        large = size > min(limits.RECORD_BYTES, self._connection.max_payload - limits.HEADER_BYTES)
        sent = await self._content.store(task, draft) if large else draft
        try:
            position = await self._append(task, sent, expected, trace)
        except Conflict as refusal:
            position = await self._refused(task, draft, expected, str(refusal), large=large)
        if large:
            self._content.stored(draft)
        return position

    async def _append(self, task: TaskRef, draft: Draft, expected: int, trace: str) -> int:
        """One message on one condition; errors as :meth:`try_append`."""
        names = self._names
        fields = {
            n.EXPECTED: str(expected),
            n.EXPECTED_FILTER: names.task("log", task, "*"),
            n.RECORD: pack(draft.header),
        }
        if trace:
            fields |= tracing.headers(trace)
        headers = header_block(fields)
        if len(headers) > limits.HEADER_BYTES:
            raise RecordTooLarge(f"{len(headers)} bytes of headers are over the limit of {limits.HEADER_BYTES}")
        root = n.ingest_root(self._shards[task.log, task.shard].epoch)
        subject = names.task(root, task, n.IN if draft.inbound else n.OUT)
        answer = await self._connection.request(subject, draft.payload, headers=headers)
        ack = _ack_decoder.decode(answer.payload)
        if ack.error is None:
            watched = self._watched.get(task)
            if watched is not None:
                watched.appended(ack.seq)
            return ack.seq
        if ack.error.err_code in {n.WRONG_LAST_SEQUENCE, n.IN_FLIGHT}:
            APPEND_CONFLICTS.inc(str(ack.error.err_code))
        if ack.error.err_code == n.WRONG_LAST_SEQUENCE:
            raise Conflict(ack.error.description)
        if ack.error.err_code == n.IN_FLIGHT:
            raise Uncertain(f"another append of the task is being decided ({ack.error.description})")
        raise Unavailable(ack.error.description)

    async def _refused(self, task: TaskRef, draft: Draft, expected: int, said: str, *, large: bool) -> int:
        """What a refusal by last sequence means: the record's position if it is stored all the same.

        While leadership moves two servers may take themselves for the leader, and both get the record: one refuses what
        the other stores, or what it cannot read any more (ADR 0002). One more round trip, or two.

        Raises:
            Conflict: another record stands there, or the task has lost the one at ``expected``.
            Uncertain: nothing stands there yet, or the log could not be asked.
        """
        try:
            found = await self._stored_after(task, expected)
            last = found or await self._stored_last(task)
        except Unavailable as error:
            raise Uncertain(f"refused ({said}), and why cannot be seen now: {error}") from None
        if found is None and (last.position if last else 0) >= expected:
            raise Uncertain(f"refused for a reason that is not true: {said}, expected {expected}")
        if found is not None and found.header.record_id == draft.header.record_id:
            return found.position
        if found is not None and large:
            await self._discard(task, draft)
        raise Conflict(said)

    async def _discard(self, task: TaskRef, draft: Draft) -> None:
        """Remove the object of a record that the log shows will never stand there (turns 3.4)."""
        try:
            await self._content.discard(task, draft)
        except (Unavailable, Uncertain, Forbidden) as error:  # few users of NATS may purge
            logger.info("object not removed; a sweep finds it", task_id=task.task_id, error=str(error))

    # --- read ---------------------------------------------------------------------------------------------------------

    async def first_after(self, task: TaskRef, position: int) -> Record | None:
        """See ``port.Log``."""
        return await self._whole(task, await self._stored_after(task, position))

    async def last(self, task: TaskRef) -> Record | None:
        """See ``port.Log``."""
        return await self._whole(task, await self._stored_last(task))

    async def stored(self, task: TaskRef, position: int = 0) -> Stored | None:
        """See ``port.Log``."""
        subjects = self._names.task("log", task, "*")
        request = {"seq": position, "next_by_subj": subjects} if position else {"last_by_subj": subjects}
        found = await self._message(task, request)
        if found is None or position not in {0, found.position}:
            return None
        return Stored(task, _record(found), int(found.time.timestamp() * 1000))

    async def _stored_after(self, task: TaskRef, position: int) -> Record | None:
        """As :meth:`first_after`, but as the stream has it."""
        return await self._get(task, {"seq": position + 1, "next_by_subj": self._names.task("log", task, "*")})

    async def _stored_last(self, task: TaskRef) -> Record | None:
        """As :meth:`last`, but as the stream has it."""
        return await self._get(task, {"last_by_subj": self._names.task("log", task, "*")})

    async def _whole(self, task: TaskRef, record: Record | None) -> Record | None:
        return None if record is None else await self._content.whole(task, record)

    async def read(self, task: TaskRef, start: int = 1) -> AsyncIterator[list[Record]]:
        """See ``port.Log``. A large record is a run of its own: no more than one is held at a time."""
        async for records in self._read(task, start):
            if not any(record.header.encoding for record in records):
                yield records
                continue
            run: list[Record] = []
            for record in records:
                if record.header.encoding:
                    if run:
                        yield run
                        run = []
                    yield [await self._content.whole(task, record)]
                else:
                    run.append(record)
            if run:
                yield run

    async def _read(self, task: TaskRef, start: int = 1, *, removed: bool = False) -> AsyncIterator[list[Record]]:
        """As :meth:`read`, but as the stream has the records; with ``removed`` those before a tombstone as well."""
        last = await self._stored_last(task)
        if last is None or last.position < start:
            return
        if last.header.tombstone and not removed:
            yield [last]
            return
        at = start
        while at < last.position:
            batch = await self._batch(task, at, last.position)
            if batch:
                yield batch
                at = batch[-1].position + 1
                continue
            # A replica that is behind answers short, one that is gone not at all; the leader does neither. A while is
            # read from it: to ask the replica again for each record would cost a timeout a record.
            for _ in range(limits.LEADER_RECORDS):
                record = await self._stored_after(task, at - 1)
                if record is None:
                    raise Unreadable(f"records of task {task.task_id} before position {last.position} are gone")
                yield [record]
                at = record.position + 1
                if at >= last.position:
                    break
        if at == last.position:
            yield [last]

    async def _batch(self, task: TaskRef, start: int, until: int) -> list[Record]:
        """What one batched direct get gives, in order; may end early."""
        stream, subjects = self._names.log_stream(task.log, task.shard), self._names.task("log", task, "*")
        found = reads.batch(self._connection, stream, subjects, start, until=until)
        return [_record(message) async for message in found]

    async def ends(self, log: str = "") -> dict[int, End]:  # noqa: ARG002 -- there is one log
        """See ``port.Log``."""
        # One more than are known: shards may have been added.
        streams = [self._names.log_stream(self.name, shard) for shard in range(self.shards + 1)]
        try:
            infos = await asyncio.gather(*(self._connection.api(f"STREAM.INFO.{stream}") for stream in streams))
        except Uncertain as error:
            raise Unavailable(str(error)) from None
        if "error" not in infos[-1]:
            await self.refresh()
            return await self.ends()
        ends: dict[int, End] = {}
        for shard, info in enumerate(infos[:-1]):
            if "error" in info:
                raise Unavailable(f"cannot read the stream of shard {shard}: {info['error'].get('description')}")
            metadata: dict[str, str] = info["config"].get("metadata") or {}
            ends[shard] = End(
                metadata.get(INCARNATION, ""),
                info["state"]["last_seq"],
                _milliseconds(info["ts"]),
                int(metadata.get(EPOCH, "1")),
                int(metadata.get(TAKEN_AT, "0")),
            )
        return ends

    async def ask_leader(self, shard: int) -> None:
        """A sign of life of a shard's leader; one round trip.

        Raises:
            Unavailable, Uncertain: there is none.
        """
        info = await self._connection.api(f"STREAM.INFO.{self._names.log_stream(self.name, shard)}")
        if "error" in info:
            raise Unavailable(f"cannot read the stream of shard {shard}: {info['error'].get('description')}")

    async def scan(
        self,
        shard: int,
        start: int,
        end: int,
        log: str = "",  # noqa: ARG002 -- a log reads itself
    ) -> AsyncIterator[list[Stored]]:
        """See ``port.Log``."""
        stream, subjects = self._names.log_stream(self.name, shard), self._names.shard("log", self.name, shard)
        async for batch in reads.batches(self._connection, stream, subjects, start, end):
            async for stored in self._scanned(batch):
                yield stored

    async def _scanned(self, batch: list[Message]) -> AsyncIterator[list[Stored]]:
        """What of a batch can be read; a large record is a run of its own."""
        run: list[Stored] = []
        for message in batch:
            try:
                task, record = self._names.task_of(message.subject), _record(message)
                time_stored = int(message.time.timestamp() * 1000)
                if not record.header.encoding:
                    run.append(Stored(task, record, time_stored))
                    continue
                if run:
                    yield run
                    run = []
                yield [Stored(task, await self._content.telling(task, record), time_stored)]
            except (Unreadable, ValueError, IndexError) as error:
                logger.error("record left out", position=message.position, error=str(error))
        if run:
            yield run

    async def _get(self, task: TaskRef, request: dict[str, Any]) -> Record | None:
        found = await self._message(task, request)
        return None if found is None else _record(found)

    async def _message(self, task: TaskRef, request: dict[str, Any]) -> Message | None:
        shard = self._shards.get((task.log, task.shard)) or await self._new_shard(task)
        if shard is None:
            return None
        stream = self._names.log_stream(task.log, task.shard)
        get = reads.direct if shard.single else reads.from_leader
        return await get(self._connection, stream, request)

    async def _new_shard(self, task: TaskRef) -> ShardView | None:
        """A shard that was made after this process began, if there is one; asked for now and then at most."""
        now = time.monotonic()
        if task.log != self.name or now - self._refreshed < _REFRESH_SECONDS:
            return None
        self._refreshed = now
        await self.refresh()
        return self._shards.get((task.log, task.shard))

    # --- watch --------------------------------------------------------------------------------------------------------

    def watch(self, task: TaskRef) -> TailWatch:
        """See ``port.Log``. Shares one subscription a task with every other watcher of this process."""
        return TailWatch(Tail(task, self), self._enter, self._leave)

    async def _enter(self, tail: Tail) -> None:
        watched = self._watched.get(tail.task)
        if watched is None:
            watched = self._watched[tail.task] = Watched(tail.task, self)
            watched.tails.append(tail)
            self._silence.start()
            subject = self._names.task(self._live(tail.task), tail.task, "*")
            watched.subscription = await self._connection.subscribe(subject, _live(watched))
            watched.start()
        else:
            watched.tails.append(tail)

    async def _leave(self, tail: Tail) -> None:
        watched = self._watched.get(tail.task)
        if watched is None or tail not in watched.tails:
            return
        watched.tails.remove(tail)
        if not watched.tails:
            del self._watched[tail.task]
            watched.stop()
            if watched.subscription is not None:
                await self._connection.unsubscribe(watched.subscription)

    async def notice(self, task: TaskRef, woken: Callable[[], None]) -> _Notice:
        """See ``port.Log``."""

        def sink(_subject: str, _reply: str, _headers: bytes, _payload: bytes) -> None:
            woken()

        subject = self._names.task(self._live(task), task, n.IN)
        return _Notice(self._connection, await self._connection.subscribe(subject, sink))

    def _live(self, task: TaskRef) -> str:
        shard = self._shards.get((task.log, task.shard))
        return shard.live if shard is not None else "live"

    def _returned(self) -> None:
        for watched in list(self._watched.values()):
            watched.missed()

    # --- work ---------------------------------------------------------------------------------------------------------

    async def follow(self, agent: str) -> Dispatch:
        """See ``port.Log``."""
        await self.refresh()

        async def ensure(shard: int) -> None:
            await ensure_worker_consumer(self._connection, self._names, self._settings, shard, agent)

        return await self._dispatch(self._names.worker_consumer(agent), self._content.whole, ensure)

    async def follow_all(self) -> Dispatch:
        """See ``port.Log``."""
        await self.refresh()

        async def ensure(shard: int) -> None:
            await ensure_notifier_consumer(self._connection, self._names, self._settings, shard)

        return await self._dispatch(self._names.notifier_consumer, None, ensure)

    async def _dispatch(self, consumer: str, whole: Whole | None, ensure: Ensure) -> JetStreamDispatch:
        for shard in range(self.shards):
            await ensure(shard)
        dispatch = JetStreamDispatch(self._connection, self._names, self.name, self.shards, consumer, whole, ensure)
        await dispatch.open()
        return dispatch

    async def handed_out(self, agent: str) -> dict[int, int]:
        """See ``port.Log``."""
        consumer = self._names.worker_consumer(agent)
        streams = [self._names.log_stream(self.name, shard) for shard in range(self.shards)]
        try:
            infos = await asyncio.gather(
                *(self._connection.api(f"CONSUMER.INFO.{stream}.{consumer}") for stream in streams)
            )
        except Uncertain as error:
            raise Unavailable(str(error)) from None
        # Without a consumer nothing was handed out: whoever makes it anew begins with the oldest record.
        return {shard: info["delivered"]["stream_seq"] for shard, info in enumerate(infos) if "error" not in info}

    async def progress(self, name: str) -> tuple[bytes, int]:
        """See ``port.Log``."""
        return await self._newest(self._names.push_stream(self.name), self._names.progress(self.name, name))

    async def put_progress(self, name: str, content: bytes, version: int) -> int:
        """See ``port.Log``."""
        return await self._put(self._names.progress(self.name, name), content, version)

    async def notified(self, task: TaskRef) -> tuple[bytes, int]:
        """See ``port.Log``."""
        return await self._newest(self._names.push_stream(task.log), self._names.task("push", task, "state"))

    async def put_notified(self, task: TaskRef, content: bytes, version: int) -> int:
        """See ``port.Log``."""
        return await self._put(self._names.task("push", task, "state"), content, version)

    async def remembered(self, context: ContextRef) -> tuple[bytes, int]:
        """See ``port.Log``."""
        return await self._newest(self._names.push_stream(context.log), self._names.context(context))

    async def put_remembered(self, context: ContextRef, content: bytes, version: int) -> int:
        """See ``port.Log``."""
        return await self._put(self._names.context(context), content, version)

    async def notes(self, context: ContextRef, name: str) -> Notes:
        """See ``port.Log``."""
        return await self._notebooks.read(context, name)

    async def note(self, context: ContextRef, name: str, content: bytes, position: int, *, anew: bool = False) -> int:
        """See ``port.Log``."""
        if len(content) > self.content_bytes:
            raise RecordTooLarge(f"a note of {len(content)} bytes is over the limit of {self.content_bytes}")
        return await self._notebooks.write(context, name, content, position, anew=anew)

    async def sealing_key(self, log: str = "") -> bytes:  # noqa: ARG002 -- there is one log
        """See ``port.Log``."""
        subject = self._names.sealing_key(self.name)
        for _ in range(2):
            key, _version = await self._newest(self._names.push_stream(self.name), subject)
            if key:
                return key
            try:
                await self._put(subject, os.urandom(32), 0)
            except (Conflict, Uncertain):
                pass  # somebody made one at the same time, or this one is there: read which
        raise Unavailable("the sealing key could not be stored")

    async def _newest(self, stream: str, subject: str) -> tuple[bytes, int]:
        """Payload and position of a subject's only message, from the leader; nothing and 0 without one."""
        found = await reads.from_leader(self._connection, stream, {"last_by_subj": subject})
        return (found.payload, found.position) if found is not None else (b"", 0)

    async def _put(self, subject: str, content: bytes, expected: int, headers: dict[str, str] | None = None) -> int:
        """Store a message, if the newest of its subject is still the one at this position."""
        block = header_block({n.EXPECTED: str(expected), **(headers or {})})
        answer = await self._connection.request(subject, content, headers=block)
        ack = _ack_decoder.decode(answer.payload)
        if ack.error is None:
            return ack.seq
        if ack.error.err_code in {n.WRONG_LAST_SEQUENCE, n.IN_FLIGHT}:
            raise Conflict(ack.error.description)
        raise Unavailable(ack.error.description)

    # --- beside the log -----------------------------------------------------------------------------------------------

    async def snapshot(self, task: TaskRef) -> bytes | None:
        """See ``port.Log``."""
        view = self._shards.get((task.log, task.shard))
        if view is None:
            return None
        found = await self._value(self._names.snapshot_stream(task.log), self._names.task("snap", task, "head"))
        if found is not None and (view.mirror or view.epoch > 1):
            # Removals reach no mirror, but tombstones do: what was copied may be of a task that nobody is to see.
            last = await self._stored_last(task)
            if last is not None and last.header.tombstone:
                return None
        return found

    async def segments(self, task: TaskRef, keys: list[str]) -> dict[str, bytes]:
        """See ``port.Log``."""
        return {key: value for key, value in await asyncio.gather(*(self._segment(task, k) for k in keys)) if value}

    async def _segment(self, task: TaskRef, key: str) -> tuple[str, bytes | None]:
        """A segment, from memory if it was read lately: it never changes."""
        subject = self._names.task("snap", task, key)
        kept = self._segments.pop(subject, None)
        value = kept or await self._value(self._names.snapshot_stream(task.log), subject)
        if value is not None:
            self._segments[subject] = value
            self._segments_bytes += 0 if kept else len(value)
            while self._segments_bytes > limits.SEGMENT_CACHE_BYTES:
                self._segments_bytes -= len(self._segments.pop(next(iter(self._segments))))
        return key, value

    async def save(self, task: TaskRef, snapshot: Snapshot) -> None:
        """See ``port.Log``."""
        largest = self._connection.max_payload - limits.HEADER_BYTES
        try:
            for segment in snapshot.segments:
                if len(segment.content) <= largest:
                    # Acknowledged: a head must never name a segment that is not there.
                    await self._connection.request(self._names.task("snap", task, segment.key), segment.content)
            if len(snapshot.head) > largest:
                # Its segments are kept all the same: later heads name them too.
                logger.warning("snapshot too large to keep", task_id=task.task_id, bytes=len(snapshot.head))
                return
            await self._connection.publish(self._names.task("snap", task, "head"), snapshot.head)
        except LogError as error:
            logger.info("snapshot not written", task_id=task.task_id, error=str(error))

    async def announce(self, entry: AgentEntry, instance: str) -> None:
        """See ``port.Log``."""
        assert is_name(entry.name), "an agent's name stands in subjects"
        assert is_name(instance), "an instance's name stands in subjects"
        card, alive = self._names.card(self.name, entry.name), self._names.alive(self.name, entry.name, instance)
        content = _encode(entry)
        if await self._value(self._names.registry_stream(self.name), card) != content:
            await self._connection.request(card, content)
        ttl = header_block({n.TTL: f"{int(limits.AGENT_HEARTBEAT_SECONDS * 3)}s"})
        await self._connection.request(alive, b"", headers=ttl)

    async def agents(self) -> dict[str, AgentEntry]:
        """See ``port.Log``. The leader says which there are; what no replica gave of them is read from it too."""
        stream, cards = self._names.registry_stream(self.name), self._names.card(self.name, "*")
        missing = await self._registered(cards)
        found: list[bytes] = []
        async for message in reads.newest(self._connection, stream, cards):
            missing.discard(message.subject)
            found.append(message.payload)
        for subject in missing:
            card = await reads.from_leader(self._connection, stream, {"last_by_subj": subject})
            if card is not None:
                found.append(card.payload)
        entries = [msgspec.json.decode(card, type=AgentEntry) for card in found]
        return {entry.name: entry for entry in entries}

    async def registered(self) -> set[str]:
        """The agents that were ever announced in this log's region; one round trip.

        Raises:
            Unavailable: no answer; repeating is safe.
        """
        return {card.split(".")[-2] for card in await self._registered(self._names.card(self.name, "*"))}

    async def attended(self) -> set[str]:
        """See ``port.Log``."""
        signs = await self._registered(self._names.alive(self.name, "*", "*"))
        return {sign.split(".")[-3] for sign in signs}

    async def workers(self, agent: str) -> dict[str, int]:
        """See ``port.Log``. The leader says which there are, as in :meth:`agents`."""
        stream, signs = self._names.registry_stream(self.name), self._names.alive(self.name, agent, "*")
        missing = await self._registered(signs)
        found = [m async for m in reads.newest(self._connection, stream, signs)]
        for subject in missing - {message.subject for message in found}:
            sign = await reads.from_leader(self._connection, stream, {"last_by_subj": subject})
            found += [sign] if sign is not None else []
        return {m.subject.rsplit(".", 1)[1]: int(m.time.timestamp() * 1000) for m in found}

    async def _registered(self, subjects: str) -> set[str]:
        """The subjects of the agent registry that have a message, by its leader."""
        try:
            stream = self._names.registry_stream(self.name)
            info = await self._connection.api(f"STREAM.INFO.{stream}", {"subjects_filter": subjects})
        except Uncertain as error:
            raise Unavailable(str(error)) from None
        if "error" in info:
            raise Unavailable(f"cannot read the agent registry: {info['error'].get('description')}")
        return set(info["state"].get("subjects") or {})

    async def queue(self, agent: str, shard: int, position: int = 0) -> Queue | None:
        """See ``port.Log``."""
        stream, consumer = self._names.log_stream(self.name, shard), self._names.worker_consumer(agent)
        try:
            info = await self._connection.api(f"CONSUMER.INFO.{stream}.{consumer}")
        except Uncertain as error:
            raise Unavailable(str(error)) from None
        if info.get("error", {}).get("err_code") == n.CONSUMER_NOT_FOUND:
            return None
        if "error" in info:
            raise Unavailable(f"cannot read the queue in {stream}: {info['error'].get('description')}")
        handed_out, waiting = info["delivered"]["stream_seq"], info["num_pending"]
        behind = waiting
        if waiting and position > handed_out:
            subjects = self._names.inbound_filter(self.name, shard, agent)
            behind = await reads.count(self._connection, stream, subjects, position)
        return Queue(
            handed_out=handed_out,
            settled=info["ack_floor"]["stream_seq"],
            waiting=waiting,
            ahead=max(0, waiting - behind) if position > handed_out else 0,
            under_way=info["num_ack_pending"],
            repeated=info["num_redelivered"],
            wanted=info["num_waiting"] > 0,
            ack_wait_seconds=info["config"]["ack_wait"] / 1e9,
        )

    async def queue_depth(self, agent: str) -> int:
        """See ``port.Log``."""
        consumer = self._names.worker_consumer(agent)
        streams = [self._names.log_stream(self.name, shard) for shard in range(self.shards)]
        try:
            infos = await asyncio.gather(*(self._connection.api(f"CONSUMER.INFO.{s}.{consumer}") for s in streams))
        except Uncertain as error:
            raise Unavailable(str(error)) from None
        depth = 0
        for stream, info in zip(streams, infos, strict=True):
            if "error" not in info:
                depth += info["num_pending"] + info["num_ack_pending"]
            elif info["error"].get("err_code") != n.CONSUMER_NOT_FOUND:  # then no worker has been here yet
                raise Unavailable(f"cannot read the queue in {stream}: {info['error'].get('description')}")
        return depth

    async def wake_at(self, task: TaskRef, revision: int, milliseconds: int) -> None:
        """See ``port.Log``."""
        # The broker's schedules have whole seconds, and a wake-up must never be early.
        due = -(-max(milliseconds, int(time.time() * 1000) + 1000) // 1000) * 1000
        headers = header_block(
            {
                n.SCHEDULE: f"@at {timestamp_of(due)[:19]}Z",
                n.SCHEDULE_TARGET: self._names.timer(task, "due"),
            }
        )
        answer = await self._connection.request(self._names.timer(task, "set"), str(revision).encode(), headers=headers)
        ack = _ack_decoder.decode(answer.payload)
        if ack.error is not None:
            raise Unavailable(ack.error.description)

    async def waking(self, task: TaskRef) -> tuple[int, int] | None:
        """See ``port.Log``."""
        stream, subject = self._names.timer_stream(task.log), self._names.timer(task, "set")
        found = await reads.from_leader(self._connection, stream, {"last_by_subj": subject})
        if found is None:
            return None
        due = datetime.fromisoformat(header_value(found.headers, n.SCHEDULE.encode()).removeprefix("@at "))
        return (int(found.payload), int(due.timestamp() * 1000)) if due > datetime.now(UTC) else None

    async def wakeups(self, agent: str) -> AsyncIterator[Wakeup]:
        """See ``port.Log``."""

        async def ensure() -> None:
            await ensure_timer_consumer(self._connection, self._names, self._settings, agent)

        await ensure()
        return wakeups(self._connection, self._names, self.name, agent, ensure)

    async def put_dead_letter(self, letter: Letter) -> None:
        """See ``port.Log``."""
        await self._dead_letters.put(letter)

    async def dead_letter(self, task: TaskRef) -> Letter | None:
        """See ``port.Log``."""
        return await self._dead_letters.of(task)

    def dead_letters(self, agent: str = "") -> AsyncIterator[Letter]:
        """See ``port.Log``."""
        return self._dead_letters.all(agent)

    async def forget_dead_letter(self, letter: Letter) -> None:
        """See ``port.Log``."""
        await self._dead_letters.forget(letter)

    async def remove_snapshots(self, task: TaskRef) -> None:
        """See ``port.Removing``."""
        await self._purge(self._names.snapshot_stream(task.log), self._names.task("snap", task, "*"))

    async def forget_contexts(self, tenant: str) -> None:
        """See ``port.Removing``."""
        await self._purge(self._names.notes_stream(self.name), self._names.notes_of(self.name, tenant))
        await self._purge(self._names.push_stream(self.name), self._names.contexts_of(self.name, tenant))

    async def remove(self, task: TaskRef, before: int) -> None:
        """See ``port.Removing``."""
        names = self._names
        last = await self._stored_last(task)
        again = last is not None and last.position >= before and not last.header.tombstone
        try:
            async for records in self._read(task, removed=True):
                for record in records:
                    if record.position < before:
                        await self._content.remove(task, record)
        except Uncertain as error:
            raise Unavailable(str(error)) from None
        if not again:
            await self.remove_snapshots(task)
            await self._purge(names.push_stream(task.log), names.task("push", task, "*"))
            await self._purge(names.timer_stream(task.log), names.timer(task, "*"))
            await self._purge(names.dead_stream(task.log), names.dead_letter(task))
        await self._purge(names.log_stream(task.log, task.shard), names.task("log", task, "*"), before)

    async def _purge(self, stream: str, subject: str, before: int = 0) -> None:
        """Remove the messages of a subject, or those in front of a position."""
        request = {"filter": subject} | ({"seq": before} if before else {})
        try:
            answer = await self._connection.api(f"STREAM.PURGE.{stream}", request)
        except Uncertain as error:
            raise Unavailable(str(error)) from None
        if "error" in answer and answer["error"].get("err_code") != n.STREAM_NOT_FOUND:
            raise Unavailable(f"cannot remove {subject} from {stream}: {answer['error'].get('description')}")

    async def find(self, task_id: str) -> TaskRef | None:
        """See ``port.Log``."""
        home = parse_task_id(task_id)
        if home is None or home not in self._shards:
            return None
        subject = f"{self._names.namespace}.log.{home[0]}.{home[1]}.*.*.{task_id}.*"
        get = reads.direct if self._shards[home].single else reads.from_leader
        found = await get(self._connection, self._names.log_stream(*home), {"last_by_subj": subject})
        return None if found is None else self._names.task_of(found.subject)

    async def sweep(self, older_than_seconds: float) -> int:
        """Remove what writers that were interrupted left in the bucket of large records; how many objects.

        Args:
            older_than_seconds: younger objects may have a record yet to come: longer than any writer tries.

        Raises:
            Unavailable: no answer; repeating is safe.
        """
        before = datetime.now(UTC) - timedelta(seconds=older_than_seconds)
        return await self._content.sweep(self.name, before, self._holds)

    async def _holds(self, task: TaskRef, record_id: str) -> bool:
        """Whether the task has this record, or may have: nothing is said of a shard or a task that cannot be read."""
        if (task.log, task.shard) not in self._shards:
            return True
        try:
            async for records in self._read(task):
                if any(record.header.record_id == record_id for record in records):
                    return True
        except Unreadable as error:
            logger.warning("objects of an unreadable task are left", task_id=task.task_id, error=str(error))
            return True
        return False

    async def close(self) -> None:
        """See ``port.Log``."""
        self.unwatch()
        await self._connection.close()

    def unwatch(self) -> None:
        """Look after no task any more; for good."""
        self._silence.stop()
        for watched in list(self._watched.values()):
            watched.stop()
        if self._returned in self._connection.on_return:
            self._connection.on_return.remove(self._returned)

    async def _value(self, stream: str, subject: str) -> bytes | None:
        try:
            answer = await self._connection.request(f"$JS.API.DIRECT.GET.{stream}", _encode({"last_by_subj": subject}))
        except Uncertain as error:
            raise Unavailable(str(error)) from None
        return None if status(answer.headers) else answer.payload


class _Notice:
    """See ``port.Notice``."""

    def __init__(self, connection: Connection, subscription: Subscription) -> None:
        self._connection = connection
        self._subscription = subscription

    async def close(self) -> None:
        """See ``port.Notice``."""
        await self._connection.unsubscribe(self._subscription)


def _live(watched: Watched) -> Any:
    def sink(subject: str, _reply: str, headers: bytes, payload: bytes) -> None:
        try:
            position = int(header_value(headers, b"Nats-Sequence"))
            record = _record(Message(subject, position, headers, payload))
        except (ValueError, LogError):
            watched.missed()  # whatever it was, the log has the truth
            return
        if record.header.encoding:
            watched.announced(record.position)  # its payload is elsewhere, and this must not wait
        else:
            watched.offer(record)

    return sink


def _milliseconds(written: str) -> int:
    return int(datetime.fromisoformat(written).timestamp() * 1000)


def _record(message: Message) -> Record:
    headers = message.headers
    try:
        header = unpack(header_value(headers, n.RECORD.encode()))
    except ValueError as error:
        raise Unreadable(f"record at {message.position}: {error}") from None
    inbound = message.subject.endswith("." + n.IN)
    return Record(message.position, header, message.payload, inbound, trace_of(headers))
