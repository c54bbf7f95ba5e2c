"""A log as files, and files as a log: the server's own snapshots of streams, with their consumers and positions.

Positions stay what they are, so cursors and references hold. What a stream refers to is saved after it: the log before
the contents of large records, before wake-ups and dead letters. How far webhooks were notified is saved before the log:
a restored one tells them something twice rather than not at all. Snapshots of tasks are left out; they are made anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import msgspec
from msgspec import Raw, Struct

from a2a_events import limits
from a2a_events.errors import LogError, Unavailable, Uncertain
from a2a_events.log.jetstream.connection import Connection
from a2a_events.log.jetstream.names import Names
from a2a_events.log.jetstream.object_store import stream_of
from a2a_events.log.jetstream.streams import RESTORED, ask, shards_of
from a2a_events.log.jetstream.wire import status

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
_CHUNK_BYTES: Final = 128 * 1024
_OWNER_ONLY: Final = 0o700
"""A backup holds what clients and agents said, and the key of webhook secrets."""
_NOT_FOUND: Final = 404


class BackupError(LogError):
    """The backup cannot be made or restored; says why and what to do."""


class Saved(Struct, frozen=True):
    """One stream of a backup."""

    stream: str
    file: str
    bytes: int
    sha256: str
    messages: int
    """When the snapshot began. What was replaced, purged or expired before the server came to it is not in the file."""
    config: Raw
    state: Raw


class Manifest(Struct, frozen=True):
    """What a backup holds. Written last: a folder without it is none."""

    format: int
    namespace: str
    log: str
    software: str
    streams: tuple[Saved, ...]

    @property
    def shards(self) -> int:
        """How many the log has."""
        names = {saved.stream for saved in self.streams}
        return next(n for n in range(len(names) + 1) if Names(self.namespace).log_stream(self.log, n) not in names)

    @property
    def replicas(self) -> int:
        """Of the stream that has the most."""
        return max((msgspec.json.decode(saved.config).get("num_replicas", 1) for saved in self.streams), default=1)


async def save(connection: Connection, names: Names, log: str, folder: Path) -> Manifest:
    """Write a backup of a log into a folder that is empty or not there, for its owner only. Costs what reading it does.

    Nobody has to stop. A stream has no message of later than its beginning, and may lack what was replaced or removed
    while it was saved: then what took its place is not in it either.

    Raises:
        BackupError: the folder is not empty or somebody else's, or the server refuses.
        Unavailable: no answer in time; the folder is no backup.
    """
    await asyncio.to_thread(_make_empty, folder)
    shards = await shards_of(connection, names, log)
    if not shards:
        raise BackupError(f"log {log!r} has no streams in namespace {names.namespace!r}")
    logs = [names.log_stream(log, shard) for shard in shards]
    beside = [names.timer_stream(log), names.dead_stream(log), names.notes_stream(log), names.registry_stream(log)]
    order = [names.push_stream(log), *logs, stream_of(names.bucket(log)), *beside]
    saved = [await _save(connection, stream, folder) for stream in order]
    manifest = Manifest(FORMAT, names.namespace, log, f"a2a-events/{version('a2a-events')}", tuple(saved))
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
    return manifest


def _make_empty(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise BackupError(f"{folder} is not empty: a backup is never written over another")
    try:
        folder.chmod(_OWNER_ONLY)
    except OSError as error:
        raise BackupError(f"others can read {folder}, and it is not ours: name one that is not there") from error


async def restore(connection: Connection, manifest: Manifest, folder: Path, *, replicas: int = 0) -> None:
    """Make the streams of a backup where the log has none. Provision afterwards, before anything is started.

    Args:
        connection: to the servers that get it.
        manifest: of the folder, as :func:`read` has found it whole.
        folder: that :func:`save` wrote.
        replicas: of each stream; 0: as they had.

    Raises:
        BackupError: a stream is there already; nothing was made. Or the server refuses a stream; those before it were
            made.
        Unavailable: no answer in time; delete what was made before you repeat it.
    """
    # Snapshots of what came after the backup would be believed: they carry the log's incarnation, which comes back.
    snapshots = Names(manifest.namespace).snapshot_stream(manifest.log)
    for stream in [*(saved.stream for saved in manifest.streams), snapshots]:
        there = await ask(connection, f"STREAM.INFO.{stream}")
        if there.get("error", {}).get("code") != _NOT_FOUND:
            raise BackupError(
                f"stream {stream} is there already: a backup is restored where none of the log's streams is"
            )
    mark = os.urandom(6).hex()
    for saved in manifest.streams:
        await _restore(connection, saved, folder, replicas, mark)


def read(folder: Path) -> Manifest:
    """The manifest of a backup whose files are what was written. Reads all of them.

    Raises:
        BackupError: it is no backup, of a newer version, or was changed.
    """
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise BackupError(f"{folder} holds no finished backup: there is no {MANIFEST} in it") from None
    except msgspec.MsgspecError as error:
        raise BackupError(f"{folder / MANIFEST} is damaged: {error}") from None
    if manifest.format != FORMAT:
        raise BackupError(f"the backup is of format {manifest.format}, which this version cannot read")
    for saved in manifest.streams:
        try:
            with (folder / saved.file).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            raise BackupError(f"{saved.file} is missing from the backup") from None
        if found != saved.sha256:
            raise BackupError(f"{saved.file} is not what was saved: take another backup")
    return manifest


async def _save(connection: Connection, stream: str, folder: Path) -> Saved:
    path = folder / f"{stream}.snapshot"
    digest, size = hashlib.sha256(), 0
    async with _Snapshot(connection, stream) as snapshot:
        with path.open("wb") as file:
            async for chunk in snapshot.chunks():
                await asyncio.to_thread(_write, file, chunk)
                digest.update(chunk)
                size += len(chunk)
            await asyncio.to_thread(os.fsync, file.fileno())
        begun = snapshot.begun
    encode = msgspec.json.encode
    return Saved(
        stream=stream,
        file=path.name,
        bytes=size,
        sha256=digest.hexdigest(),
        messages=begun["state"]["messages"],
        config=Raw(encode(begun["config"])),
        state=Raw(encode(begun["state"])),
    )


def _write(file: BinaryIO, chunk: bytes) -> None:
    file.write(chunk)
    file.flush()


class _Snapshot:
    """A stream's snapshot on its way; each chunk is acknowledged, so that no more than a few are under way."""

    def __init__(self, connection: Connection, stream: str) -> None:
        self._connection = connection
        self._stream = stream
        self._queue: asyncio.Queue[tuple[str, bytes, bytes]] = asyncio.Queue()
        self.begun: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        inbox = self._connection.new_inbox()
        self._subscription = await self._connection.subscribe(
            inbox, lambda _subject, reply, headers, payload: self._queue.put_nowait((reply, headers, payload))
        )
        asked = {"deliver_subject": inbox, "chunk_size": _CHUNK_BYTES}
        try:
            self.begun = await self._connection.api(f"STREAM.SNAPSHOT.{self._stream}", asked)
        except Uncertain as error:
            raise Unavailable(str(error)) from None
        if "error" in self.begun:
            raise BackupError(f"stream {self._stream} cannot be saved: {self.begun['error'].get('description')}")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.unsubscribe(self._subscription)

    async def chunks(self) -> AsyncIterator[bytes]:
        while True:
            try:
                async with asyncio.timeout(limits.REQUEST_TIMEOUT_SECONDS * 4):
                    reply, headers, payload = await self._queue.get()
            except TimeoutError:
                raise Unavailable(f"the snapshot of stream {self._stream} has stopped coming") from None
            if not payload:
                code = status(headers)
                if code not in {0, 204}:
                    raise BackupError(f"the snapshot of stream {self._stream} was broken off by the server ({code})")
                return
            yield payload
            if reply:
                await self._connection.publish(reply, b"")


async def _restore(connection: Connection, saved: Saved, folder: Path, replicas: int, mark: str) -> None:
    config = msgspec.json.decode(saved.config)
    config |= {"num_replicas": replicas} if replicas else {}
    # Mirrors of before have records that this log has not, and would never get what it has instead.
    config["metadata"] = (config.get("metadata") or {}) | {RESTORED: mark}
    asked = {"config": config, "state": msgspec.json.decode(saved.state)}
    patience = limits.REQUEST_TIMEOUT_SECONDS * 4
    try:
        begun = await connection.api(f"STREAM.RESTORE.{saved.stream}", asked, timeout=patience)
        if "error" in begun:
            raise BackupError(f"stream {saved.stream} cannot be restored: {begun['error'].get('description')}")
        with (folder / saved.file).open("rb") as file:
            while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
                await connection.request(begun["deliver_subject"], chunk, timeout=patience)
        ended = msgspec.json.decode((await connection.request(begun["deliver_subject"], timeout=patience)).payload)
    except Uncertain as error:
        raise Unavailable(str(error)) from None
    if "error" in ended:
        raise BackupError(f"stream {saved.stream} cannot be restored: {ended['error'].get('description')}")
