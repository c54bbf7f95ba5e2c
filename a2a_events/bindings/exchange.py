"""One HTTP exchange over ASGI: read a bounded body, write one answer or a stream (design, hot path 1 and 3).

Streams have a send loop of their own: what is ready together is written together, headers go with the first update, the
end goes with the last. A client that is gone ends its stream, and only that; one that does not read is cut after
``limits.STREAM_STALL_SECONDS`` and can resume.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any, Final, Protocol

from litestar.types import HTTPScope, Receive, Send

from a2a_events import audit, limits, tracing
from a2a_events.bindings import sse
from a2a_events.bindings.identity.port import Presented
from a2a_events.errors import (
    A2AError,
    PayloadTooLargeError,
    TooManyRequestsError,
    UnavailableError,
    UnsupportedEncodingError,
    UnsupportedMediaTypeError,
)
from a2a_events.metrics.catalog import RATE_LIMITED, SSE_DISCONNECTS, SSE_STREAMS
from a2a_events.model.decode import check_names
from a2a_events.runtime.operations import Run, Updates

JSON: Final = b"application/json"
A2A_JSON: Final = b"application/a2a+json"
EVENT_STREAM: Final = b"text/event-stream; charset=utf-8"
_KEEP_ALIVE: Final = b": keep-alive\n\n"
_NOT_KEPT: Final = (b"cache-control", b"no-store")
_STREAM_HEADERS: Final = (
    (b"content-type", EVENT_STREAM),
    _NOT_KEPT,
    (b"x-accel-buffering", b"no"),
)
STALENESS: Final = b"a2a-staleness-seconds"
"""Header of answers that were read from another region's mirror: how old they are at most."""
STOPPED: Final = "gateway stopped"
"""Why a stream ended whose gateway was asked to stop."""
STALLED: Final = "stalled"
CLIENT_GONE: Final = "client gone"
CREDENTIAL_ENDED: Final = "credential ended"
"""Why a stream ended whose caller is one no more: the credential has expired or was revoked."""
TOO_OLD: Final = "too old"
"""Why a stream ended that was open for as long as one may be."""
_REASONS: Final = {
    STOPPED: "drain",
    STALLED: "slow",
    CLIENT_GONE: "client",
    CREDENTIAL_ENDED: "credential",
    TOO_OLD: "age",
}
"""Why streams are ended from here, as metrics show it."""
FAREWELLS: Final = {
    STOPPED: "draining",
    CREDENTIAL_ENDED: "credential ended: come back with another",
    TOO_OLD: "open for as long as a stream may be: resume",
}
"""What clients are told, as a comment, of streams that go on elsewhere or with another credential."""
_DRAIN_LOOK_SECONDS: Final = 0.02
"""How often a gateway that stops looks for streams whose turn it is to end."""
_STEWARD_SECONDS: Final = 1.0
"""How often open streams are looked after; a stream shorter than this costs nothing."""


class ClientGone(Exception):
    """The client closed the connection before its request was whole."""


class Intake:
    """The request bodies that a gateway holds: each bounded, and all of them together.

    Args:
        largest: bytes of one body.
        together: bytes of all bodies that are being read or acted on.
        names: members of one object in a body.
        share: of ``together``, that one caller may take; one body in any case.
    """

    def __init__(
        self,
        largest: int = limits.REQUEST_BYTES,
        together: int = limits.REQUESTS_BYTES,
        names: int = limits.JSON_NAMES,
        share: float = limits.REQUESTS_SHARE,
    ) -> None:
        self.largest = largest
        self.names = names
        self._together = max(together, largest)
        self._share = max(int(self._together * share), largest)
        self._held = 0
        self._shares: dict[str, int] = {}

    @property
    def held(self) -> int:
        """Bytes that are held."""
        return self._held

    def take(self, received: int, payer: str = "") -> None:
        """So many more bytes are held.

        Args:
            received: bytes.
            payer: whose share they take; empty: nobody's.

        Raises:
            TooManyRequestsError: too many, with those of other requests of the payer; they are not held.
            UnavailableError: too many, with those of all other requests; they are not held.
        """
        if payer and self._shares.get(payer, 0) + received > self._share:
            RATE_LIMITED.inc("bodies_share")
            audit.limited("bodies_share", payer=payer)
            raise TooManyRequestsError(
                "You are sending too much to this server at once; nothing was done, please retry in 1 s",
                retry_after_seconds=1,
                metadata=TooManyRequestsError.UNTOUCHED,
            )
        if self._held + received > self._together:
            RATE_LIMITED.inc("bodies")
            raise UnavailableError("Too much is being sent to this server at once; please retry", retry_after_seconds=1)
        self._held += received
        if payer and received:
            self._shares[payer] = self._shares.get(payer, 0) + received

    def give_back(self, held: int, payer: str = "") -> None:
        """A body is let go."""
        self._held -= held
        if payer and held:
            left = self._shares[payer] - held
            if left:
                self._shares[payer] = left
            else:
                del self._shares[payer]


class Exchange:
    """One request and its answer.

    Args:
        scope: of ASGI.
        receive: of ASGI.
        send: of ASGI.
        intake: what bodies are counted against.
    """

    __slots__ = (
        "_headers",
        "_held",
        "_intake",
        "_receive",
        "_send",
        "begun",
        "payer",
        "scope",
        "sending_since",
        "still",
    )

    def __init__(self, scope: HTTPScope, receive: Receive, send: Send, intake: Intake) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self._intake = intake
        self._held = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self.begun = False
        """Whether an answer has begun: an error is then one more frame."""
        self.sending_since = 0.0
        """When what is being sent now was begun (``time.monotonic``); 0 while nothing is."""
        self.payer = ""
        """Whose share its body takes; to be set before that is read."""
        self.still: Callable[[], bool] = _always
        """Says whether the client may still be shown anything."""

    @property
    def presented(self) -> Presented:
        """What may say who asks."""
        client = self.scope["client"]
        return Presented(self.values, client[0] if client else "")

    def values(self, name: str) -> list[str]:
        """Every value of a request header, in order; see :class:`Presented`."""
        wanted = name.encode()
        return [value.decode(errors="surrogateescape") for key, value in self.scope["headers"] if key == wanted]

    @property
    def method(self) -> str:
        """The request's verb."""
        return str(self.scope["method"])

    @property
    def query(self) -> str:
        """The request's query, encoded."""
        return self.scope["query_string"].decode("latin-1")

    @property
    def cursor(self) -> str | None:
        """Where the client wants to resume, if it does."""
        return self.header(b"last-event-id") or None

    @property
    def idempotency_key(self) -> str | None:
        """What the client wants its message to be known by; None if it says nothing."""
        given = any(name == b"idempotency-key" for name, _ in self.scope["headers"])
        return self.header(b"idempotency-key") if given else None

    @property
    def trace(self) -> str:
        """The trace context that the client has sent; empty without one, or if it is none."""
        parent = self.header(b"traceparent")
        return tracing.parse(parent, self.header(b"tracestate")) if parent else ""

    def header(self, name: bytes) -> str:
        """A request header's value, latin-1; empty without one, joined by commas if there are several."""
        found = [value for key, value in self.scope["headers"] if key == name]
        return found[0].decode("latin-1") if len(found) == 1 else b",".join(found).decode("latin-1")

    def add_header(self, name: bytes, value: bytes) -> None:
        """Have the answer, whatever it will be, carry this header."""
        self._headers.append((name, value))

    def says_staleness(self, seconds: float | None) -> None:
        """Have the answer say how old it is at most, if it was read from a mirror."""
        if seconds is not None:
            self.add_header(STALENESS, staleness(seconds))

    async def body(self) -> bytes:
        """The request's body, counted as it arrives.

        Raises:
            PayloadTooLargeError: larger than one body may be.
            TooManyRequestsError: other requests of the payer hold too much.
            UnavailableError: other requests hold too much.
            UnsupportedEncodingError: compressed, which this server does not read.
            UnsupportedMediaTypeError: not empty, and said to be something else than JSON.
            ClientGone: the client left.
        """
        if self.header(b"content-encoding") not in {"", "identity"}:
            raise UnsupportedEncodingError
        largest = self._intake.largest
        length = self.header(b"content-length")
        if length.isdigit() and int(length) > largest:
            raise PayloadTooLargeError(f"The request body is over {largest} bytes")
        pieces: list[bytes] = []
        while True:
            message: Any = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece: bytes = message.get("body", b"")
            if self._held + len(piece) > largest:
                raise PayloadTooLargeError(f"The request body is over {largest} bytes")
            self._intake.take(len(piece), self.payer)
            self._held += len(piece)
            pieces.append(piece)
            if not message.get("more_body", False):
                break
        whole = b"".join(pieces)
        if whole and not _is_json(self.header(b"content-type")):
            raise UnsupportedMediaTypeError
        return whole

    def check_names(self, content: bytes) -> None:
        """Refuse JSON with too many members; see :func:`a2a_events.model.decode.check_names`."""
        check_names(content, self._intake.names)

    def release(self) -> None:
        """The body, and all that was made of it, is let go. Releasing twice is harmless."""
        self._intake.give_back(self._held, self.payer)
        self._held = 0

    def waits(self, streams: Streams) -> Callable[[Awaitable[None]], Awaitable[None]]:
        """What runs a wait for the answer."""
        return partial(streams.wait, self, gone=self.gone)

    async def answer(
        self,
        status: int,
        content: bytes,
        media_type: bytes = JSON,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> bool:
        """One whole response, which its client gets ``limits.ANSWER_SECONDS`` to read, and more for a larger one.

        No cache keeps it, unless ``headers`` say otherwise: it may be for one caller alone.

        Returns:
            Whether it was written in time. If not, its end is not written, and the server closes the connection.
        """
        kept = any(name == b"cache-control" for name, _ in headers)
        fields = [
            (b"content-type", media_type),
            (b"content-length", str(len(content)).encode()),
            *(() if kept else (_NOT_KEPT,)),
            *headers,
            *self._headers,
        ]
        self.begun = True
        try:
            async with asyncio.timeout(limits.ANSWER_SECONDS + len(content) / limits.ANSWER_BYTES_PER_SECOND):
                await self._send({"type": "http.response.start", "status": status, "headers": fields})
                await self.end(content)
        except TimeoutError:
            return False
        return True

    async def begin_stream(self) -> None:
        """The head of a stream's response; on the wire together with what follows."""
        self.begun = True
        await self._send({"type": "http.response.start", "status": 200, "headers": [*_STREAM_HEADERS, *self._headers]})

    async def part(self, content: bytes) -> None:
        """A part of a stream."""
        await self._write(content, more=True)

    async def end(self, content: bytes) -> None:
        """The last part of a response."""
        await self._write(content, more=False)

    async def _write(self, content: bytes, *, more: bool) -> None:
        """In pieces, so that others are served in between, and a slow reader costs a buffer of one piece."""
        for at in range(0, max(len(content), 1), limits.WRITE_BYTES):
            piece = content[at : at + limits.WRITE_BYTES] if len(content) > limits.WRITE_BYTES else content
            self.sending_since = time.monotonic()
            more_body = more or at + limits.WRITE_BYTES < len(content)
            await self._send({"type": "http.response.body", "body": piece, "more_body": more_body})
        self.sending_since = 0.0

    def holds(self) -> bool:
        """Whether the client may still be shown anything."""
        return self.still()

    async def gone(self) -> None:
        """Wait until the client is; after its body nothing else comes from it."""
        while True:
            message: Any = await self._receive()
            if message["type"] == "http.disconnect":
                return


def _always() -> bool:
    return True


class Sender(Protocol):
    """What writes a stream."""

    def holds(self) -> bool:
        """Whether its client may still be shown anything."""
        ...

    def release(self) -> None:
        """Let go of what was sent. Releasing twice is harmless."""
        ...

    sending_since: float
    """When what is being sent now was begun (``time.monotonic``); 0 while nothing is."""


def staleness(seconds: float) -> bytes:
    """How old an answer is at most, as clients see it: whole seconds, rounded up."""
    return b"unknown" if math.isinf(seconds) else b"%d" % math.ceil(seconds)


def _is_json(content_type: str) -> bool:
    """Whether a body of this type may be read as JSON; one that says nothing may."""
    if content_type == "application/json":
        return True
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type in {"", "application/json"} or media_type.endswith("+json")


class Streams:
    """The open streams of a gateway: how many there are, and which have lost their reader.

    One steward looks after all of them, so that a short stream costs no task and no timer for it.

    Args:
        largest: how many may be open at once.
        longest_seconds: that one may be open; its client resumes. 0: any time.
    """

    def __init__(self, largest: int = limits.STREAMS_PER_GATEWAY, longest_seconds: float = 0.0) -> None:
        self._largest = largest
        self._longest_seconds = longest_seconds
        self._open: set[OpenStream] = set()
        self._steward: asyncio.Task[None] | None = None
        self._context = copy_context()
        """Of no request: what works for all of them must not log as the one that began it."""
        self._closing = False

    @property
    def closing(self) -> bool:
        """Whether no more are opened here, for good."""
        return self._closing

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._open)

    @property
    def full(self) -> bool:
        """Whether as many are open as may be."""
        return len(self._open) >= self._largest

    def check(self) -> None:
        """Whether one more may be opened; to be asked before anything is written.

        Raises:
            UnavailableError: too many are open, or the gateway is stopping.
        """
        if self._closing:
            raise UnavailableError(
                "This gateway is stopping and did nothing; another one serves the task",
                retry_after_seconds=1,
                metadata=UnavailableError.UNTOUCHED,
            )
        self.check_room()

    def check_room(self) -> None:
        """Whether there is room for one more stream, or for one that waits; to be asked before anything is written.

        Raises:
            UnavailableError: too many are open.
        """
        if self.full:
            RATE_LIMITED.inc("streams")
            raise UnavailableError("Too many streams are open here; please retry", retry_after_seconds=5)

    def close(self) -> None:
        """End every open stream where it stands, and open no more: clients resume elsewhere from their cursors."""
        self._closing = True
        if self._steward is not None:
            self._steward.cancel()
        for stream in list(self._open):
            stream.lose(STOPPED)

    async def drain(self, spread_seconds: float, patience_seconds: float) -> None:
        """Open no more, and end those that are open, at moments spread over a time; returns when none is left.

        Each ends between two updates. One that has nothing shown yet is not ended before its first update: its client
        would not know what became of its message.

        Args:
            spread_seconds: over which they end; 0: at once.
            patience_seconds: after that, for those that have shown nothing.
        """
        self._closing = True
        loop = asyncio.get_running_loop()
        begun = loop.time()
        due = {stream: begun + random.random() * spread_seconds for stream in self._open}  # noqa: S311 -- no secret
        last = begun + spread_seconds + patience_seconds
        while self._open and loop.time() < last:
            now = loop.time()
            for stream in list(self._open):
                if stream.begun and due.get(stream, begun) <= now:
                    stream.lose(STOPPED)
            await asyncio.sleep(_DRAIN_LOOK_SECONDS)
        self.close()

    def begin(
        self,
        sender: Sender,
        gone: Callable[[], Coroutine[Any, Any, None]] | None = None,
        operation: str = "Timeline",
        *,
        waits: bool = False,
    ) -> OpenStream:
        """Look after a stream of this asyncio task, which is cancelled when it is lost; :meth:`end` must follow.

        Args:
            sender: writes it.
            gone: waits until the client is, where nobody else tells.
            operation: that it answers, for metrics.
            waits: whether it is none, but a wait for one answer.
        """
        task = asyncio.current_task()
        assert task is not None
        stream = OpenStream(task, sender, gone, operation, self._longest_seconds, waits=waits)
        self._open.add(stream)
        if not waits:
            SSE_STREAMS.add(1, operation)
        if self._steward is None:
            self._steward = asyncio.get_running_loop().create_task(self._look_after(), context=self._context)
        return stream

    def end(self, stream: OpenStream) -> None:
        """The stream is over."""
        if stream in self._open:
            self._open.discard(stream)
            if not stream.waits:
                SSE_STREAMS.add(-1, stream.operation)
                SSE_DISCONNECTS.inc(_REASONS.get(stream.lost, "error") if stream.lost else stream.over)
        stream.close()

    async def wait(
        self, sender: Sender, wait: Awaitable[None], gone: Callable[[], Coroutine[Any, Any, None]] | None = None
    ) -> None:
        """See a wait for an answer to its end. What was sent is stored by then, and not held any more.

        It ends sooner when its client may be shown nothing more, when it has lasted for as long as a stream may, or
        when the gateway stops: the answer is then what there is.

        Args:
            sender: is to write the answer.
            wait: for it.
            gone: as of :meth:`begin`.

        Raises:
            ClientGone: there is nobody to be answered.
        """
        sender.release()
        stream = self.begin(sender, gone, waits=True)
        try:
            await wait
        except asyncio.CancelledError:
            if not stream.lost:
                raise
            stream.uncancel()
            if stream.lost == CLIENT_GONE:
                raise ClientGone from None
        finally:
            self.end(stream)

    async def run(self, exchange: Exchange, updates: Updates, frame: Callable[[Run], bytes], operation: str) -> str:
        """Send a stream until it ends or its client is gone; why it ended.

        Args:
            exchange: the request; its body must have been read.
            updates: closed when this returns.
            frame: the bytes of a run.
            operation: that it answers.

        Raises:
            Exception: before the response has begun, whatever getting the first update raised.
        """
        stream = self.begin(exchange, exchange.gone, operation)
        try:
            runs = aiter(updates)
            run = await anext(runs)
            stream.begun = True
            tracing.event("first update")
            await exchange.begin_stream()
            while not run.last:
                await exchange.part(frame(run) if run.updates else _KEEP_ALIVE)
                updates.sent(run)
                del run  # what was sent is not kept while nothing comes
                run = await anext(runs)
            await exchange.end(frame(run))
            updates.sent(run)
            stream.over = "terminal"
        except asyncio.CancelledError:
            if not stream.lost:
                raise
            stream.uncancel()
            if stream.lost in FAREWELLS:
                if not exchange.begun:
                    raise _without_update(stream.lost) from None
                # One that is cut short by a reader who does not read stays so: what follows would be taken for its end.
                if not exchange.sending_since:
                    await exchange.end(sse.farewell(random.random(), FAREWELLS[stream.lost]))  # noqa: S311 -- no secret
        finally:
            self.end(stream)
            await updates.aclose()
        return stream.lost or "ended"

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(_STEWARD_SECONDS)
            now = time.monotonic()
            for stream in list(self._open):
                stream.look(now)


def _without_update(why: str) -> A2AError:
    """What a client gets whose stream was ended before anything was shown."""
    text = "before the first update; the message may have been taken: look for it"
    # Not 401 for the former: who is told so does it again with another credential, and it may have been done.
    return UnavailableError(f"{'The credential ended' if why == CREDENTIAL_ENDED else 'This gateway stopped'} {text}")


class OpenStream:
    """One open stream, as the steward sees it."""

    __slots__ = (
        "_gone",
        "_sender",
        "_since",
        "_task",
        "_until",
        "_watching",
        "begun",
        "lost",
        "operation",
        "over",
        "waits",
    )

    def __init__(
        self,
        task: asyncio.Task[Any],
        sender: Sender,
        gone: Callable[[], Coroutine[Any, Any, None]] | None,
        operation: str,
        longest_seconds: float = 0.0,
        *,
        waits: bool = False,
    ) -> None:
        self._task = task
        self.waits = waits
        """Whether it is a wait for one answer."""
        self._sender = sender
        self._gone = gone
        self.operation = operation
        self.over = "error"
        """Why it ended where it was not ended from here; an error, until somebody knows better."""
        self._since = time.monotonic()
        sooner = random.random() * limits.STREAM_SECONDS_SPREAD  # noqa: S311 -- no secret
        self._until = self._since + longest_seconds * (1 - sooner) if longest_seconds else math.inf
        self._watching: asyncio.Task[None] | None = None
        self.begun = False
        """Whether an update was shown."""
        self.lost = ""
        """Why it was ended from here; empty while it was not."""

    def look(self, now: float) -> None:
        """Cut a stream whose reader does not read or may not any more, and notice one whose client is gone."""
        sending_since = self._sender.sending_since
        if not self._sender.holds():
            self.lose(CREDENTIAL_ENDED)
        elif sending_since and now - sending_since > limits.STREAM_STALL_SECONDS:
            self.lose(STALLED)
        elif now > self._until and (self.begun or self.waits):
            # Not before: its client would not know what became of its message.
            self.lose(TOO_OLD)
        elif self._gone is not None and self._watching is None and now - self._since > _STEWARD_SECONDS:
            self._watching = asyncio.get_running_loop().create_task(self._watch(self._gone))

    def close(self) -> None:
        """Watch no more."""
        if self._watching is not None:
            self._watching.cancel()

    async def _watch(self, gone: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await gone()
        self.lose(CLIENT_GONE)

    def lose(self, why: str) -> None:
        """End it, for a reason; the first one counts."""
        if not self.lost:
            self.lost = why
            self._task.cancel()

    def uncancel(self) -> None:
        """Take back the cancellation of a stream that is ``lost``, once it has been caught."""
        self._task.uncancel()
