"""Connections of HTTP whose clients have bounded room and time to make a request.

uvicorn bounds neither. Whoever sends a byte now and then keeps a connection, and whoever sends headers without an end
fills the memory.
"""

from __future__ import annotations

import asyncio
import math
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from msgspec import Struct
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from a2a_events import limits
from a2a_events.bindings.errors import http_body
from a2a_events.errors import InvalidRequestError
from a2a_events.metrics.catalog import CONNECTIONS_REFUSED
from a2a_events.services.server_lines import bound_lines
from a2a_events.services.unread import ReadConnection
from a2a_events.settings import Settings

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

_LINGER_SECONDS: Final = 2.0
"""What a client gets to read a refusal before its connection is closed: closed at once, unread bytes would reset it,
and the refusal would be lost with them."""
_FIELD_OVERHEAD: Final = 4
"""Bytes of a header field beside its name and value."""


class HttpBounds(Struct, frozen=True):
    """How much a client may send before its body, and how long it may take."""

    url_bytes: int = limits.URL_BYTES
    header_bytes: int = limits.REQUEST_HEADER_BYTES
    header_fields: int = limits.REQUEST_HEADER_FIELDS
    header_seconds: float = limits.REQUEST_HEADER_SECONDS
    body_seconds: float = limits.REQUEST_BODY_SECONDS
    body_bytes_per_second: int = limits.REQUEST_BODY_BYTES_PER_SECOND
    idle_seconds: float = limits.IDLE_CONNECTION_SECONDS

    @classmethod
    def of(cls, settings: Settings) -> HttpBounds:
        """Those that are set."""
        return cls(
            url_bytes=settings.url_bytes,
            header_bytes=settings.header_bytes,
            header_fields=settings.header_fields,
            header_seconds=settings.header_seconds,
            body_seconds=settings.body_seconds,
            idle_seconds=settings.idle_seconds,
        )


def bounded(app: Any, bounds: HttpBounds, *, stop_seconds: float, **more: Any) -> uvicorn.Config:
    """How we serve HTTP: bounds for each connection, our own log lines, and no header that says what we are.

    Args:
        app: of ASGI.
        bounds: of its connections.
        stop_seconds: what requests under way get to end when the server is stopped; rounded up.
        more: as ``uvicorn.Config`` has it.
    """
    bound_lines()
    connection: Any = partial(_Connection, bounds)  # uvicorn calls what it says has to be a class
    return uvicorn.Config(
        app,
        http=connection,
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        lifespan="off",
        timeout_keep_alive=math.ceil(bounds.idle_seconds),
        timeout_graceful_shutdown=math.ceil(stop_seconds),
        **more,
    )


class UrlTooLong(InvalidRequestError):
    """The URL is over the limit."""

    reason = "URL_TOO_LONG"
    http_status = 414


class HeadersTooLarge(InvalidRequestError):
    """The headers are over the limit, together or in number."""

    reason = "HEADERS_TOO_LARGE"
    http_status = 431


class TooSlow(InvalidRequestError):
    """The request was not there in time."""

    reason = "REQUEST_TIMEOUT"
    http_status = 408


_REASONS: Final[dict[type[InvalidRequestError], str]] = {UrlTooLong: "url", HeadersTooLarge: "headers", TooSlow: "slow"}


class _Awaited(Enum):
    """What a connection waits for."""

    REQUEST = "request"
    HEADERS = "headers"
    BODY = "body"
    ANSWER = "answer"


class _Connection(ReadConnection):
    """One connection.

    Time is measured from the first byte of what is waited for; further bytes give none, but those of a body, which may
    be large. No timer is made for a request that arrives at once.
    """

    def __init__(self, bounds: HttpBounds, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._bounds = bounds
        self._awaited = _Awaited.REQUEST
        self._begun = 0
        """Requests."""
        self._unfinished_bytes = 0
        """Of headers that are not whole yet, or of what is in a body and none of it: trailers, extensions of chunks."""
        self._untimed_bytes = 0
        """Of a body, that have come and given no time yet."""
        self._refusal: InvalidRequestError | None = None
        self._refused = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_for: tuple[_Awaited, int] | None = None
        self._served: RequestResponseCycle | None = None
        """The request that is being answered, or was last; uvicorn's ``cycle`` is the one that came last."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """It may be silent for a while."""
        super().connection_made(transport)
        self._keep_time()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._disconnect()
        super().connection_lost(exc)
        self._stop_timer()

    def data_received(self, data: bytes) -> None:
        """Take in what came, unless it was refused already."""
        if self._refused:
            return
        awaited, begun = self._awaited, self._begun
        if awaited is _Awaited.BODY:
            self._unfinished_bytes += len(data)  # on_body sets it back
        super().data_received(data)
        if self._ended:
            return
        if self._awaited is _Awaited.HEADERS and self._begun - begun + (awaited is _Awaited.HEADERS) == 1:
            self._unfinished_bytes += len(data)  # of these headers and no others
        elif self._awaited is _Awaited.ANSWER and not self._answering:
            self._awaited = _Awaited.REQUEST  # empty lines between requests, or the rest of one that was answered
        if self._unfinished_bytes > self._bounds.header_bytes:
            self._refuse(self._headers_too_large())
        else:
            self._keep_time()

    # --- what the parser finds ----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._awaited = _Awaited.HEADERS
        self._begun += 1
        self._unfinished_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the URL."""
        super().on_url(url)
        if len(self.url) > self._bounds.url_bytes:
            self._refusal = UrlTooLong(f"The URL is over {self._bounds.url_bytes} bytes")
            raise self._refusal

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header. Trailers are none: nobody asked for them, and what reads headers must not see them."""
        if self._awaited is _Awaited.HEADERS:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """All of them."""
        size = sum(len(name) + len(value) + _FIELD_OVERHEAD for name, value in self.headers)
        if size > self._bounds.header_bytes or len(self.headers) > self._bounds.header_fields:
            self._refusal = self._headers_too_large()
            raise self._refusal
        self._awaited, self._unfinished_bytes, self._untimed_bytes = _Awaited.BODY, 0, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._unfinished_bytes = 0
        self._untimed_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._awaited, self._unfinished_bytes = _Awaited.ANSWER, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer is whole. If its request is not, the client gets no more than a moment for the rest."""
        super().on_response_complete()
        if self._awaited is _Awaited.BODY and not self._answering and not self.transport.is_closing():
            self._set_timer(_LINGER_SECONDS, (_Awaited.BODY, self._begun))

    @property
    def _ended(self) -> bool:
        """Whether nothing more is read."""
        return self._refused or self.transport.is_closing()

    @property
    def _answering(self) -> bool:
        """Whether the answer to a request is not whole yet. No other request waits behind one whose answer is."""
        return self._served is not None and not self._served.response_complete

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._served = cycle
        super()._start_asgi_task(cycle, app)

    def _disconnect(self) -> None:
        """Whoever answers stops, and requests that wait for it are not answered: uvicorn tells the last one alone."""
        self.pipeline.clear()
        if self._served is not None and not self._served.response_complete:
            self._served.disconnected = True
            self._served.message_event.set()

    # --- refusals -----------------------------------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        """The parser stopped: for what was refused here, or because this is no HTTP."""
        self._refuse(self._refusal or InvalidRequestError(msg))

    def _headers_too_large(self) -> HeadersTooLarge:
        bounds = self._bounds
        return HeadersTooLarge(f"The headers are over {bounds.header_bytes} bytes, or over {bounds.header_fields}")

    def _refuse(self, error: InvalidRequestError) -> None:
        """Answer and read no more, if there is no other answer under way; then close."""
        if self._ended:
            return
        self._refused = True
        CONNECTIONS_REFUSED.inc(_REASONS.get(type(error), "malformed"))
        if self._answering:
            of_this = self._served is self.cycle and self._awaited is _Awaited.BODY
            answerable = of_this and not self.cycle.response_started
            self._disconnect()
            if not answerable:
                self._stop_timer()
                self.close()
                return
        body = http_body(error)
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[error.http_status] + head + body)
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._set_timer(_LINGER_SECONDS, None)

    # --- time ---------------------------------------------------------------------------------------------------------

    def _keep_time(self) -> None:
        """See that the time for what is waited for now is measured."""
        waits = (self._awaited, self._begun)
        if self._awaited is _Awaited.ANSWER:
            self._stop_timer()
        elif waits != self._timer_for:
            self._set_timer(self._seconds(), waits)

    def _seconds(self) -> float:
        match self._awaited:
            case _Awaited.HEADERS:
                return self._bounds.header_seconds
            case _Awaited.BODY:
                return self._bounds.body_seconds
            case _:
                return self._bounds.idle_seconds

    def _set_timer(self, seconds: float, waits: tuple[_Awaited, int] | None) -> None:
        self._stop_timer()
        self._timer, self._timer_for = self.loop.call_later(seconds, self._overdue), waits

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._timer_for = None

    def _overdue(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self._refused or self._awaited is _Awaited.REQUEST:
            self.close()
        elif self.flow.read_paused:
            self._set_timer(self._seconds(), self._timer_for)  # it is us who do not read
        elif self._awaited is _Awaited.BODY and not self._answering:
            self.close()  # answered long ago
        elif self._awaited is _Awaited.BODY and self._untimed_bytes:
            seconds, self._untimed_bytes = self._untimed_bytes / self._bounds.body_bytes_per_second, 0
            self._set_timer(seconds, self._timer_for)
        else:
            self._refuse(TooSlow(self._too_slow()))

    def _too_slow(self) -> str:
        said = f"The request's {self._awaited.value} did not come in {self._seconds():g} seconds"
        if self._awaited is _Awaited.BODY:
            said += f", and one more for every {self._bounds.body_bytes_per_second} bytes of it"
        return said
