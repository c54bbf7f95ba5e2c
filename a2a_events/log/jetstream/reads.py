"""Reading stored messages of a stream: from its leader, or many at once from whichever replica answers.

A direct get may be answered by a replica that is behind; of a stream with one replica it is the leader's answer.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from a2a_events import limits
from a2a_events.errors import Unavailable, Uncertain
from a2a_events.log.jetstream.connection import Answer, Connection
from a2a_events.log.jetstream.names import MESSAGE_NOT_FOUND
from a2a_events.log.jetstream.wire import header_value, status

NOT_FOUND: Final = 404


class Message(Struct, frozen=True):
    """A message as a stream keeps it."""

    subject: str
    position: int
    headers: bytes
    payload: bytes
    stored_at: str = ""
    """As the leader writes it; a direct get has it among the headers."""

    @property
    def time(self) -> datetime:
        """When the server stored it."""
        return datetime.fromisoformat(self.stored_at or header_value(self.headers, b"Nats-Time-Stamp"))


class _Fault(Struct, frozen=True):
    err_code: int = 0
    description: str = ""


class _Got(Struct, frozen=True):
    subject: str
    seq: int
    hdrs: str = ""
    data: str = ""
    time: str = ""


class _MsgGet(Struct, frozen=True):
    message: _Got | None = None
    error: _Fault | None = None


_get_decoder = msgspec.json.Decoder(_MsgGet)
_encode = msgspec.json.Encoder().encode


async def from_leader(connection: Connection, stream: str, request: dict[str, Any]) -> Message | None:
    """One message from the stream's leader; one round trip, a third more bytes than the message has.

    Raises:
        Unavailable: no answer; repeating is safe.
    """
    try:
        answer = await connection.request(f"$JS.API.STREAM.MSG.GET.{stream}", _encode(request))
    except Uncertain as error:
        raise Unavailable(str(error)) from None
    got = _get_decoder.decode(answer.payload)
    if got.error is not None or got.message is None:
        if got.error is not None and got.error.err_code == MESSAGE_NOT_FOUND:
            return None
        why = got.error.description if got.error else "no message"
        raise Unavailable(f"cannot read stream {stream} ({why}): if it is missing, run `a2a-events provision`")
    found = got.message
    return Message(found.subject, found.seq, base64.b64decode(found.hdrs), base64.b64decode(found.data), found.time)


async def direct(connection: Connection, stream: str, request: dict[str, Any]) -> Message | None:
    """One message from whichever replica answers; one round trip.

    Raises:
        Unavailable: no answer; repeating is safe.
    """
    try:
        answer = await connection.request(f"$JS.API.DIRECT.GET.{stream}", _encode(request))
    except Uncertain as error:
        raise Unavailable(str(error)) from None
    code = status(answer.headers)
    if code == NOT_FOUND:
        return None
    if code:
        raise Unavailable(f"direct get answered {code}")
    return _message(answer)


async def batch(
    connection: Connection,
    stream: str,
    subject: str,
    start: int,
    *,
    until: int | None = None,
    largest: int | None = None,
) -> AsyncIterator[Message]:
    """What one batched direct get gives of a subject, in order; may end early, and be nothing.

    Take it without a pause: others may be waiting for what it has of the connection's ``ReadBudget``. Whoever needs to
    know that this was all asks the leader: a replica that is behind, or gone, ends early too.

    Args:
        connection: to the server.
        stream: that keeps the subject.
        subject: may hold wildcards.
        start: position to begin at.
        until: last position to take.
        largest: how many to ask for; default: ``limits.READ_BATCH_RECORDS``.

    Raises:
        Unavailable: not connected.
    """
    share = await connection.reads.take()
    request = {
        "seq": start,
        "next_by_subj": subject,
        "batch": largest or limits.READ_BATCH_RECORDS,
        "max_bytes": share.most_bytes,
    }
    try:
        async with aclosing(_given(connection, stream, request)) as given:
            async for found in given:
                share.answered()
                if until is None or found.position <= until:
                    yield found
                if until is not None and found.position >= until:
                    break
    finally:
        share.give_back()


async def count(connection: Connection, stream: str, subject: str, start: int) -> int:
    """How many messages of a subject stand at a position or behind it, as one replica has them; one round trip.

    Raises:
        Unavailable: no answer; repeating is safe.
    """
    request = {"seq": start, "next_by_subj": subject, "batch": 1}
    async with aclosing(_given(connection, stream, request)) as given:
        async for found in given:
            return 1 + int(header_value(found.headers, b"Nats-Num-Pending"))
    return 0


async def newest(connection: Connection, stream: str, subject: str) -> AsyncIterator[Message]:
    """The newest message of each subject, as one replica has them; ends early like :func:`batch`.

    Raises:
        Unavailable: not connected.
    """
    async for found in _given(connection, stream, {"multi_last": [subject]}):
        yield found


async def _given(connection: Connection, stream: str, request: dict[str, Any]) -> AsyncGenerator[Message]:
    """What comes of a batched direct get before any status, a silence, or the end of the connection."""
    answers = await connection.request_many(
        f"$JS.API.DIRECT.GET.{stream}", _encode(request), timeout=limits.REQUEST_TIMEOUT_SECONDS
    )
    try:
        while (answer := await answers.next()) is not None and not status(answer.headers):
            yield _message(answer)
    finally:
        answers.close()


async def batches(
    connection: Connection, stream: str, subject: str, start: int, end: int
) -> AsyncIterator[list[Message]]:
    """Every message of a subject from one position to another, both included, in order, in runs of one or more.

    One request per ``limits.SCAN_BATCH_RECORDS``.

    Raises:
        Unavailable: no answer; reading on after the last message received is safe.
    """
    at, answered = start, time.monotonic()
    while at <= end:
        found = batch(connection, stream, subject, at, until=end, largest=limits.SCAN_BATCH_RECORDS)
        run = [message async for message in found]
        if run:
            at, answered = run[-1].position + 1, time.monotonic()
            yield run
        elif await _nothing_from(connection, stream, subject, at, end):
            return
        elif time.monotonic() - answered > limits.REQUEST_TIMEOUT_SECONDS:
            raise Unavailable(f"stream {stream} does not answer from {at}")
        else:
            await asyncio.sleep(limits.VERIFY_AFTER_SECONDS[0])  # a replica that is behind catches up


async def _nothing_from(connection: Connection, stream: str, subject: str, start: int, end: int) -> bool:
    """Whether the leader has no message between two positions, both included: those there were are deleted."""
    found = await from_leader(connection, stream, {"seq": start, "next_by_subj": subject})
    return found is None or found.position > end


def _message(answer: Answer) -> Message:
    headers = answer.headers
    position = int(header_value(headers, b"Nats-Sequence"))
    return Message(header_value(headers, b"Nats-Subject"), position, headers, answer.payload)
