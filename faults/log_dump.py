"""The final log as the broker has it: once in full, and once as digests from each replica as its leader.

Records are read one by one from the stream's leader (``STREAM.MSG.GET``), so nothing between stream and checker chooses
or mends anything. ``log/<stream>.records.jsonl`` holds them, ``log/<stream>.<server>.replica.jsonl`` a digest a record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from a2a_events.errors import Unavailable, Uncertain
from a2a_events.log.jetstream import Connection, Names
from a2a_events.log.jetstream import names as n
from a2a_events.log.jetstream.claim_check import ClaimCheck
from a2a_events.log.jetstream.reads import Message, from_leader
from a2a_events.log.jetstream.wire import header_value
from a2a_events.log.memory import MemoryLog
from a2a_events.timeline.record import Record, pack, unpack
from faults.history import digest

FOLDER: Final = "log"
RECORDS: Final = ".records.jsonl"
REPLICA: Final = ".replica.jsonl"
AT_ONCE: Final = 128
STEP_DOWN_SECONDS: Final = 60.0
TRIES: Final = 20


class StoredRecord(Struct, frozen=True):
    """One message of a log stream, as it is."""

    position: int
    task: str
    tenant: str
    """The token in the subject."""
    lane: str
    expected: int
    """What its append was conditional on, as the message says; -1 where it says nothing."""
    header: str
    payload: bytes
    """As the writer offered it, also where the stream has a reference to it."""
    trace: str = ""


class Replica(Struct, frozen=True, array_like=True):
    """One message of a stream as one replica has it: its place and a digest of all its bytes."""

    position: int
    digest: str


async def dump(connection: Connection, names: Names, log: str, shards: int, folder: Path) -> None:
    """Read the whole log from each replica of each shard, and write it down.

    Moves the leadership of each stream to each of its servers in turn: only for a cluster at rest.

    Args:
        connection: to the cluster.
        names: of the deployment.
        log: its name.
        shards: how many it has.
        folder: of the run.

    Raises:
        Unavailable: no answer, or a server did not become leader: the run cannot be judged.
    """
    for shard in range(shards):
        stream = names.log_stream(log, shard)
        info = await _info(connection, stream)
        cluster = info.get("cluster") or {}
        leader = cluster.get("leader", "")
        servers = [leader, *sorted(r["name"] for r in cluster.get("replicas") or [])]
        last = info["state"]["last_seq"]
        for place, server in enumerate(servers):
            if place:
                await _lead(connection, stream, server)
            messages = await _messages(connection, stream, last)
            write_replica(folder, stream, server or "single", ((m.position, _bytes(m)) for m in messages))
            if not place:
                write_records(folder, stream, [await _record(connection, names, m) for m in messages])


async def dump_memory(log: MemoryLog, folder: Path) -> None:
    """The same of a log in memory, which has one replica and no messages around its records."""
    end = (await log.ends())[0].position
    found = [stored async for run in log.scan(0, 1, end) for stored in run]
    write_records(
        folder,
        "MEMORY",
        [
            StoredRecord(
                record.position,
                task.task_id,
                task.tenant,
                n.IN if record.inbound else n.OUT,
                -1,
                pack(record.header),
                record.payload,
                record.trace,
            )
            for task, record in ((stored.task, stored.record) for stored in found)
        ],
    )


def write_records(folder: Path, stream: str, records: list[StoredRecord]) -> None:
    """The records of one stream, in order."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    with (folder / FOLDER / f"{stream}{RECORDS}").open("wb") as file:
        file.writelines(_encode(record) + b"\n" for record in records)


def write_replica(folder: Path, stream: str, server: str, messages: Iterable[tuple[int, bytes]]) -> None:
    """Place and digest of each message of a replica, in order."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    with (folder / FOLDER / f"{stream}.{server}{REPLICA}").open("wb") as file:
        file.writelines(_encode(Replica(position, digest(content))) + b"\n" for position, content in messages)


def records(folder: Path) -> Iterator[tuple[str, list[StoredRecord]]]:
    """The dumped streams by name."""
    for path in sorted((folder / FOLDER).glob(f"*{RECORDS}")):
        with path.open("rb") as file:
            yield path.name.removesuffix(RECORDS), [_decode_record(line) for line in file]


def replicas(folder: Path) -> Iterator[tuple[str, str, list[Replica]]]:
    """Stream, server, and what it has."""
    for path in sorted((folder / FOLDER).glob(f"*{REPLICA}")):
        stream, _, server = path.name.removesuffix(REPLICA).partition(".")
        with path.open("rb") as file:
            yield stream, server, [_decode_replica(line) for line in file]


async def _info(connection: Connection, stream: str) -> dict[str, Any]:
    info: dict[str, Any] = await connection.api(f"STREAM.INFO.{stream}")
    if "error" in info:
        raise Unavailable(f"cannot read stream {stream}: {info['error'].get('description')}")
    return info


async def _lead(connection: Connection, stream: str, server: str) -> None:
    """Make a server the stream's leader.

    Raises:
        Unavailable: it does not become one.
    """
    try:
        async with asyncio.timeout(STEP_DOWN_SECONDS):
            while True:
                with suppress(Unavailable, Uncertain):
                    info = await _info(connection, stream)
                    if info["cluster"].get("leader") == server:
                        return
                    wanted = {"placement": {"preferred": server}}
                    await connection.api(f"STREAM.LEADER.STEPDOWN.{stream}", wanted)
                await asyncio.sleep(0.2)  # an election takes a moment, and nothing tells of its end
    except TimeoutError:
        raise Unavailable(f"{server} did not become leader of {stream} in {STEP_DOWN_SECONDS:g} seconds") from None


async def _messages(connection: Connection, stream: str, last: int) -> list[Message]:
    """Every message of a stream, in order, from its leader; places that were deleted are left out."""
    found: list[Message | None] = [None] * last
    places = iter(range(1, last + 1))

    async def read() -> None:
        for place in places:
            found[place - 1] = await _message(connection, stream, place)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(read())
    return [message for message in found if message is not None]


async def _message(connection: Connection, stream: str, place: int) -> Message | None:
    for _ in range(TRIES - 1):
        try:
            return await from_leader(connection, stream, {"seq": place})
        except Unavailable:
            await asyncio.sleep(0.5)
    return await from_leader(connection, stream, {"seq": place})


async def _record(connection: Connection, names: Names, message: Message) -> StoredRecord:
    task = names.task_of(message.subject)
    packed = header_value(message.headers, n.RECORD.encode())
    header = unpack(packed)
    inbound = message.subject.endswith(f".{n.IN}")
    record = Record(message.position, header, message.payload, inbound)
    if header.encoding:
        record = await ClaimCheck(connection, names).whole(task, record)
    return StoredRecord(
        message.position,
        task.task_id,
        task.tenant,
        message.subject.rsplit(".", 1)[1],
        int(header_value(message.headers, n.EXPECTED.encode()) or -1),
        packed,
        record.payload,
        header_value(message.headers, n.TRACE.encode()),
    )


def _bytes(message: Message) -> bytes:
    parts = (message.subject.encode(), message.headers, message.payload, message.stored_at.encode())
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


_encode: Final = msgspec.json.Encoder().encode
_decode_record: Final = msgspec.json.Decoder(StoredRecord).decode
_decode_replica: Final = msgspec.json.Decoder(Replica).decode
