"""One bucket of the NATS object store, in the format that every NATS client and ``nats object`` read.

::

    OBJ_<bucket>                       the stream
    $O.<bucket>.C.<nuid>               the chunks of one object, in order
    $O.<bucket>.M.<base64url(name)>    its entry: what is known of it, as JSON

Here an object is put once and never replaced: its entry is written on the condition that there is none. Each attempt to
put it has a ``nuid`` of its own, so that what a broken one left behind, or what arrives late of it, never mixes with
another. Whoever keeps the ``nuid`` reads the chunks without asking for the entry.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from a2a_events import limits
from a2a_events.errors import Conflict, LogError, Unavailable, Uncertain, Unreadable
from a2a_events.log.jetstream import reads
from a2a_events.log.jetstream.connection import Connection
from a2a_events.log.jetstream.names import EXPECTED, WRONG_LAST_SEQUENCE
from a2a_events.log.jetstream.wire import header_block
from a2a_events.model import timestamp_of

_AT_ONCE: Final = 4
"""Chunks under way at once: the broker always has the next one, and a process holds few of them."""
_DIGEST: Final = "SHA-256="

_encode = msgspec.json.Encoder().encode


class ObjectInfo(Struct, frozen=True, omit_defaults=True):
    """What the store keeps of an object beside its chunks."""

    name: str
    bucket: str
    nuid: str
    size: int
    chunks: int
    digest: str
    """``SHA-256=`` and base64url."""
    mtime: str = ""
    deleted: bool = False
    options: dict[str, Any] | None = None


class _Fault(Struct, frozen=True):
    err_code: int = 0
    description: str = ""


class _PubAck(Struct, frozen=True):
    seq: int = 0
    error: _Fault | None = None


_ack_decoder = msgspec.json.Decoder(_PubAck)
_info_decoder = msgspec.json.Decoder(ObjectInfo)


def stream_of(bucket: str) -> str:
    """The stream behind a bucket."""
    return f"OBJ_{bucket}"


def subjects_of(bucket: str) -> list[str]:
    """What that stream keeps: chunks, and what is known of objects."""
    return [f"$O.{bucket}.C.>", f"$O.{bucket}.M.>"]


class ObjectStore:
    """A bucket that provisioning has made."""

    def __init__(self, connection: Connection, bucket: str) -> None:
        self._connection = connection
        self.bucket = bucket

    async def put(self, name: str, content: bytes) -> ObjectInfo:
        """Store an object; durable when this returns. One round trip a few chunks, and one for its entry.

        Args:
            name: if an object has it, it must be this one; then it is returned.
            content: what to keep.

        Raises:
            Unavailable: it was not stored, or nobody knows; repeating is safe.
            Unreadable: the name is another object's.
        """
        nuid = os.urandom(11).hex()
        size = min(limits.CONTENT_CHUNK_BYTES, self._connection.max_payload - limits.HEADER_BYTES)
        chunks = range(0, len(content), size)
        digest = await asyncio.to_thread(digest_of, content)
        info = ObjectInfo(
            name=name,
            bucket=self.bucket,
            nuid=nuid,
            size=len(content),
            chunks=len(chunks),
            digest=digest,
            mtime=timestamp_of(int(time.time() * 1000)),
            options={"max_chunk_size": size},
        )
        try:
            for first in range(0, len(chunks), _AT_ONCE):
                # Sent in the order in which they are made here, and so stored in it.
                sent = [
                    self._store(self._chunks(nuid), content[at : at + size]) for at in chunks[first : first + _AT_ONCE]
                ]
                await asyncio.gather(*sent)
        except BaseException:
            with suppress(LogError):
                await self._purge(self._chunks(nuid))
            raise
        # From here on the chunks stay, whatever happens: the entry may land late, and must not lead to nothing.
        try:
            await self._store(self._entry(name), _encode(info), headers=header_block({EXPECTED: "0"}))
        except Conflict:
            known = await self.info(name)
            if known is None:
                raise Unavailable(f"the entry of object {name} has just been removed") from None
            if (known.size, known.digest) != (info.size, info.digest):
                raise Unreadable(f"object {name} of bucket {self.bucket} is not what it was") from None
            with suppress(LogError):
                await self._purge(self._chunks(nuid))
            return known
        return info

    async def info(self, name: str) -> ObjectInfo | None:
        """An object's entry, from the leader; one round trip.

        Raises:
            Unavailable: no answer; repeating is safe.
            Unreadable: the entry is damaged.
        """
        found = await reads.from_leader(self._connection, stream_of(self.bucket), {"last_by_subj": self._entry(name)})
        return None if found is None else self._info(found)

    def _info(self, found: reads.Message) -> ObjectInfo:
        try:
            return _info_decoder.decode(found.payload)
        except msgspec.DecodeError as error:
            raise Unreadable(f"the entry at {found.position} of bucket {self.bucket} is damaged: {error}") from None

    async def get(self, nuid: str, size: int, digest: str) -> bytes:
        """An object's content, whole and verified; one round trip for each batch (``reads.batch``).

        Raises:
            Unreadable: it is missing, not whole or damaged.
            Unavailable: no answer; repeating is safe.
        """
        stream, subject = stream_of(self.bucket), self._chunks(nuid)
        found: list[bytes] = []
        have, at = 0, 1
        while have < size:
            chunks = [chunk async for chunk in reads.batch(self._connection, stream, subject, at)]
            if not chunks:
                # A replica that is behind answers short; the leader never does.
                chunk = await reads.from_leader(self._connection, stream, {"seq": at, "next_by_subj": subject})
                if chunk is None:
                    break
                chunks = [chunk]
            found += [chunk.payload for chunk in chunks]
            have += sum(len(chunk.payload) for chunk in chunks)
            at = chunks[-1].position + 1
        content = b"".join(found)
        if not content and size:
            raise Unreadable("it is gone")
        if len(content) != size:
            raise Unreadable(f"it has {len(content)} bytes of {size}")
        if await asyncio.to_thread(digest_of, content) != digest:
            raise Unreadable("its content is not what was stored")
        return content

    async def delete(self, name: str, nuid: str) -> None:
        """Remove an object without a trace; two round trips. Deleting twice is harmless.

        Raises:
            Unavailable: no answer; repeating is safe.
        """
        await self._purge(self._entry(name))
        await self._purge(self._chunks(nuid))

    async def entries(self) -> AsyncIterator[tuple[ObjectInfo, datetime]]:
        """Every entry and when it was stored, from the leader; one round trip each.

        Raises:
            Unavailable: no answer.
            Unreadable: an entry is damaged, so nobody knows which chunks are its.
        """
        for subject in await self._subjects("M"):
            found = await reads.from_leader(self._connection, stream_of(self.bucket), {"last_by_subj": subject})
            if found is not None:
                yield self._info(found), found.time

    async def uploads(self) -> AsyncIterator[tuple[str, datetime]]:
        """The ``nuid`` of all chunks, with or without an entry, and when the newest was stored; one round trip each.

        Raises:
            Unavailable: no answer.
        """
        for subject in await self._subjects("C"):
            found = await reads.direct(self._connection, stream_of(self.bucket), {"last_by_subj": subject})
            if found is not None:
                yield subject.rsplit(".", 1)[1], found.time

    async def remove_chunks(self, nuid: str) -> None:
        """Remove chunks that have no entry.

        Raises:
            Unavailable: no answer; repeating is safe.
        """
        await self._purge(self._chunks(nuid))

    async def _subjects(self, kind: str) -> list[str]:
        found: list[str] = []
        while True:
            asked = {"subjects_filter": f"$O.{self.bucket}.{kind}.>", "offset": len(found)}
            info = await self._connection.api(f"STREAM.INFO.{stream_of(self.bucket)}", asked)
            if "error" in info:
                raise Unavailable(info["error"].get("description", "no stream"))
            page: dict[str, int] = info["state"].get("subjects") or {}
            found += page
            if not page or len(found) >= info.get("total", 0):
                return found

    def _chunks(self, nuid: str) -> str:
        return f"$O.{self.bucket}.C.{nuid}"

    def _entry(self, name: str) -> str:
        return f"$O.{self.bucket}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"

    async def _store(self, subject: str, payload: bytes, headers: bytes = b"") -> None:
        try:
            answer = await self._connection.request(subject, payload, headers=headers)
        except Uncertain as error:
            raise Unavailable(str(error)) from None  # no name leads to it, whether it is there or not
        ack = _ack_decoder.decode(answer.payload)
        if ack.error is not None and ack.error.err_code == WRONG_LAST_SEQUENCE:
            raise Conflict(ack.error.description)
        if ack.error is not None:
            raise Unavailable(ack.error.description)

    async def _purge(self, subject: str) -> None:
        await self._connection.api(f"STREAM.PURGE.{stream_of(self.bucket)}", {"filter": subject})


def digest_of(content: bytes) -> str:
    """As the format writes it."""
    return _DIGEST + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
