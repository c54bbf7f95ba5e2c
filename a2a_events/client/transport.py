"""One HTTP exchange, with its failures told apart; and what a binding has to be.

A binding is pure: it turns requests into calls and bodies into results. Only this module touches the network.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Generator, Mapping
from http import HTTPStatus
from typing import Final, Protocol

import httpx
from msgspec import Struct

from a2a_events.client.answers import Answer, error_of
from a2a_events.client.errors import BadAnswer, ClientError, ConnectionFailed, NoAnswer
from a2a_events.client.sse import Event, Parser
from a2a_events.model import (
    AgentInterface,
    CancelTaskRequest,
    GetTaskRequest,
    SendMessageRequest,
    SubscribeToTaskRequest,
)

CONNECT_SECONDS: Final = 5.0
"""How long a connection may take; a dead host costs this much before the next one is asked."""
WRITE_SECONDS: Final = 30.0
"""How long a server may leave a request unread."""
ANSWER_BYTES: Final = 64 * 1024 * 1024
"""Largest answer that is not a stream; the same bound as for one event."""
DRAIN_SECONDS: Final = 0.25
"""What a server gets to close a stream whose last update has come, so that its connection can be used again."""

_TIMEOUTS: Final = httpx.Timeout(None, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS, write=WRITE_SECONDS)
_EVENT_STREAM: Final = "text/event-stream"
_OTHER_METHOD: Final = frozenset({HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED})
"""What servers answer to a method that they do not have at a path; transcoders of gRPC say the latter."""


class Call(Struct, frozen=True, kw_only=True):
    """One HTTP request, ready to send. ``otherwise`` is tried if the server does not know this method there."""

    url: str
    method: str = "POST"
    body: bytes = b""
    headers: Mapping[str, str] = {}
    otherwise: Call | None = None


class Binding(Protocol):
    """How operations look on one wire. ``at`` is the interface to call: its URL, and its tenant to be echoed."""

    def send(self, at: AgentInterface, request: SendMessageRequest, *, streaming: bool) -> Call:
        """SendMessage, or SendStreamingMessage."""
        ...

    def get(self, at: AgentInterface, request: GetTaskRequest) -> Call:
        """GetTask."""
        ...

    def cancel(self, at: AgentInterface, request: CancelTaskRequest) -> Call:
        """CancelTask."""
        ...

    def subscribe(self, at: AgentInterface, request: SubscribeToTaskRequest) -> Call:
        """SubscribeToTask."""
        ...

    def result(self, answer: Answer) -> bytes:
        """The JSON of what the operation gave.

        Raises:
            A2AError: the server's error.
            BadAnswer: not an answer of this binding.
        """
        ...

    def update(self, event: Event) -> bytes:
        """The JSON of one update.

        Raises:
            A2AError: the server's error, in mid-stream.
            BadAnswer: not an update of this binding.
        """
        ...


class Frames:
    """The open answer of a streaming call."""

    def __init__(self, response: httpx.Response, binding: Binding, stall_seconds: float | None) -> None:
        self.binding = binding
        self._response = response
        self._bytes: AsyncIterator[bytes] = response.aiter_bytes()
        self._stall_seconds = stall_seconds
        self._parser = Parser()
        self._opened = self._heard = time.monotonic()

    @property
    def retry_seconds(self) -> float:
        """How long the server wants clients to wait before they reconnect; 0 if it did not say."""
        return self._parser.retry_seconds or 0.0

    @property
    def lived_seconds(self) -> float:
        """From opening to the last byte, keep-alives included."""
        return self._heard - self._opened

    async def read(self) -> list[Event] | None:
        """The next events; may be none yet. None is a clean end.

        If this is cancelled, the connection is lost, and no event that was given out before.

        Raises:
            NoAnswer: the connection broke, or nothing came for ``stall_seconds``.
            BadAnswer: the bytes are no event stream.
        """
        with _translated(str(self._response.url), "the stream broke"):
            async with asyncio.timeout(self._stall_seconds):
                try:
                    chunk = await anext(self._bytes)
                except StopAsyncIteration:
                    return None
        self._heard = time.monotonic()
        return self._parser.feed(chunk)

    async def aclose(self, *, drain: bool = False) -> None:
        """Give the connection back; after ``drain`` it can be used again if the server ends its answer at once."""
        if drain:
            with contextlib.suppress(ClientError, TimeoutError):
                async with asyncio.timeout(DRAIN_SECONDS):
                    while await self.read() is not None:
                        pass
        await self._response.aclose()


class Http:
    """Sends calls.

    Args:
        client: the connections.
        headers: sent with every call.
        stall_seconds: silence after which a stream counts as broken.
    """

    def __init__(self, client: httpx.AsyncClient, headers: Mapping[str, str], stall_seconds: float | None) -> None:
        self._client = client
        self._headers = {**headers, "A2A-Version": "1.0"}
        self._stall_seconds = stall_seconds

    async def fetch(self, call: Call, headers: Mapping[str, str], patience_seconds: float | None) -> Answer:
        """One exchange; any status is an answer.

        Args:
            call: what to send.
            headers: beside those of the call.
            patience_seconds: for the whole exchange; None: no limit.

        Raises:
            ConnectionFailed: not sent.
            NoAnswer: sent, no whole answer in time.
            BadAnswer: the answer is over the limit, or encoded in a way that cannot be undone.
        """
        with _translated(call.url, "no answer came"):
            async with asyncio.timeout(patience_seconds):
                response = await self._open(call, headers)
                return await _whole(response)

    async def stream(
        self, call: Call, headers: Mapping[str, str], binding: Binding, patience_seconds: float | None
    ) -> Frames:
        """Open a stream: returns when the server has accepted the call.

        Raises:
            A2AError: the server refused.
            ConnectionFailed: not sent.
            NoAnswer: sent, no answer in time.
            BadAnswer: the answer is not an event stream.
        """
        headers = {**headers, "Accept": f"{_EVENT_STREAM}, application/json;q=0.5", "Cache-Control": "no-store"}
        with _translated(call.url, "no answer came"):
            async with asyncio.timeout(patience_seconds):
                response = await self._open(call, headers)
                accepted = response.status_code == HTTPStatus.OK and response.headers.get(
                    "content-type", ""
                ).lower().startswith(_EVENT_STREAM)
                if accepted:
                    return Frames(response, binding, self._stall_seconds)
                answer = await _whole(response)
        if answer.status in _OTHER_METHOD and call.otherwise:
            return await self.stream(call.otherwise, headers, binding, patience_seconds)
        binding.result(answer)  # raises what the answer tells of
        raise BadAnswer(f"{call.url} answered a streaming call with something that is not a stream")

    async def _open(self, call: Call, headers: Mapping[str, str]) -> httpx.Response:
        request = self._client.build_request(
            call.method,
            call.url,
            content=call.body,
            headers=_encoded({**self._headers, **call.headers, **headers}),
            timeout=_TIMEOUTS,
        )
        return await self._client.send(request, stream=True)


def refused(answer: Answer) -> Exception:
    """What to raise for an answer that is not a success: the server's error, unless it is a redirect."""
    if HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.BAD_REQUEST:
        target = answer.headers.get("location", "nowhere")
        return BadAnswer(f"{answer.url} redirects to {target}: give the client that address")
    return error_of(answer)


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    # A cursor may be any UTF-8 text; httpx would insist on ASCII.
    return [(name.encode(), value.encode()) for name, value in headers.items()]


async def _whole(response: httpx.Response) -> Answer:
    body = bytearray()
    try:
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > ANSWER_BYTES:
                raise BadAnswer(f"{response.url} answered with more than {ANSWER_BYTES} bytes")
    finally:
        await response.aclose()
    return Answer(str(response.url), response.status_code, dict(response.headers), bytes(body))


@contextlib.contextmanager
def _translated(url: str, what: str) -> Generator[None]:
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
        raise ConnectionFailed(f"{url} cannot be reached: {_reason(error)}") from error
    except httpx.LocalProtocolError:
        raise  # a header that HTTP does not allow: the caller's own mistake
    except (httpx.DecodingError, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise BadAnswer(f"{url}: {_reason(error)}") from error
    except (httpx.TransportError, TimeoutError) as error:
        raise NoAnswer(f"{url}: {what}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return str(error) or ("too slow" if isinstance(error, TimeoutError) else type(error).__name__)
