"""Interfaces reached over HTTP: exchanges with their failures told apart.

A binding is pure: it turns requests into calls and bodies into results. This module is what touches the network.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from http import HTTPStatus
from typing import Final

import httpx

from a2a_events.client.answers import Answer
from a2a_events.client.credentials import API_KEY_HEADER, Credentials
from a2a_events.client.errors import BadAnswer, ClientError, ConnectionFailed, NoAnswer
from a2a_events.client.link import Binding, Call, Frames, Reply
from a2a_events.client.operations import Request
from a2a_events.client.sse import Event, Parser
from a2a_events.model import AgentInterface

CONNECT_SECONDS: Final = 5.0
"""How long a connection may take; a dead host costs this much before the next one is asked."""
WRITE_SECONDS: Final = 30.0
"""How long a server may leave a request unread."""
ANSWER_BYTES: Final = 64 * 1024 * 1024
"""Largest answer that is not a stream; the same bound as for one event."""
DRAIN_SECONDS: Final = 0.25
"""What a server gets to close a stream whose last update has come, so that its connection can be used again."""

_TIMEOUTS: Final = httpx.Timeout(None, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS, write=WRITE_SECONDS)
_CREDENTIALS: Final = ("Authorization", "Cookie", API_KEY_HEADER)
"""Headers that say who is calling, also where they are given as any other header."""
_EVENT_STREAM: Final = "text/event-stream"
_OTHER_METHOD: Final = frozenset({HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED})
"""What servers answer to a method that they do not have at a path; transcoders of gRPC say the latter."""


class HttpLink:
    """An interface reached over HTTP.

    Args:
        http: sends the calls.
        binding: what the interface speaks.
        at: the interface.
        extensions: to ask for.
    """

    def __init__(self, http: Http, binding: Binding, at: AgentInterface, extensions: Sequence[str]) -> None:
        self._http = http
        self._binding = binding
        self._at = at
        self._parameters = {"A2A-Version": binding.version}
        if extensions:
            self._parameters[binding.extensions_header] = ",".join(extensions)

    async def ask(self, request: Request, headers: Mapping[str, str], patience_seconds: float | None) -> Reply:
        """See :class:`Link`."""
        call = self._binding.call(self._at, request, streaming=False)
        answer = await self._http.fetch(call, {**self._parameters, **headers}, patience_seconds)
        raw = self._binding.result(request, answer)
        return Reply(raw, named(answer.headers.get(self._binding.extensions_header.lower(), "")))

    async def open(self, request: Request, headers: Mapping[str, str], patience_seconds: float | None) -> Frames:
        """See :class:`Link`."""
        call = self._binding.call(self._at, request, streaming=True)
        headers = {**self._parameters, **headers}
        opened = await self._http.stream(call, headers, patience_seconds)
        if isinstance(opened, Answer) and opened.status in _OTHER_METHOD and call.otherwise:
            opened = await self._http.stream(call.otherwise, headers, patience_seconds)
        if isinstance(opened, Answer):
            self._binding.result(request, opened)  # raises what the answer tells of
            raise BadAnswer(f"{opened.url} answered a streaming call with something that is not a stream")
        return HttpFrames(opened, self._binding, self._http.stall_seconds)

    async def aclose(self) -> None:
        """See :class:`Link`: connections are the client's."""


class HttpFrames:
    """Server-sent events."""

    def __init__(self, response: httpx.Response, binding: Binding, stall_seconds: float | None) -> None:
        self.extensions = named(response.headers.get(binding.extensions_header, ""))
        self._binding = binding
        self._response = response
        self._bytes: AsyncIterator[bytes] = response.aiter_bytes()
        self._stall_seconds = stall_seconds
        self._parser = Parser()
        self._opened = self._heard = time.monotonic()

    @property
    def retry_seconds(self) -> float:
        """What ``retry:`` asked for."""
        return self._parser.retry_seconds or 0.0

    @property
    def lived_seconds(self) -> float:
        """From opening to the last byte, keep-alives included."""
        return self._heard - self._opened

    async def read(self) -> list[Event] | None:
        """See :class:`Frames`."""
        with _translated(str(self._response.url), "the stream broke"):
            async with asyncio.timeout(self._stall_seconds):
                try:
                    chunk = await anext(self._bytes)
                except StopAsyncIteration:
                    return None
        self._heard = time.monotonic()
        return self._parser.feed(chunk)

    def update(self, event: Event) -> bytes:
        """See :class:`Frames`."""
        return self._binding.update(event)

    async def aclose(self, *, drain: bool = False) -> None:
        """See :class:`Frames`: a connection whose answer has ended can be used again."""
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
        credentials: shown with every call.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        headers: Mapping[str, str],
        stall_seconds: float | None,
        credentials: Credentials | None = None,
    ) -> None:
        self._client = client
        self.stall_seconds = stall_seconds
        self.credentials = credentials
        self.headers = {**headers, "A2A-Version": "1.0"}

    async def fetch(
        self, call: Call, headers: Mapping[str, str], patience_seconds: float | None, *, anonymous: bool = False
    ) -> Answer:
        """One exchange; any status is an answer.

        Args:
            call: what to send.
            headers: beside those of the call.
            patience_seconds: for the whole exchange; None: no limit.
            anonymous: without credentials, wherever the caller has put them.

        Raises:
            ConnectionFailed: not sent.
            NoAnswer: sent, no whole answer in time.
            BadAnswer: the answer is over the limit, or encoded in a way that cannot be undone.
        """
        with _translated(call.url, "no answer came"):
            async with asyncio.timeout(patience_seconds):
                sent = self._sent(call, headers, anonymous=True) if anonymous else self._open(call, headers)
                return await _whole(await sent)

    async def stream(
        self, call: Call, headers: Mapping[str, str], patience_seconds: float | None
    ) -> httpx.Response | Answer:
        """Open a stream: the response to read it from, or the answer that came instead. Errors as for ``fetch``."""
        headers = {**headers, "Accept": f"{_EVENT_STREAM}, application/json;q=0.5", "Cache-Control": "no-store"}
        with _translated(call.url, "no answer came"):
            async with asyncio.timeout(patience_seconds):
                response = await self._open(call, headers)
                media = response.headers.get("content-type", "").lower()
                if response.status_code == HTTPStatus.OK and media.startswith(_EVENT_STREAM):
                    return response
                return await _whole(response)

    async def document(self, url: str) -> bytes:
        """A public document, asked for without the caller's headers and credentials. A redirect is a failure.

        Raises:
            ConnectionFailed, NoAnswer: as for ``fetch``.
            BadAnswer: something else came.
        """
        request = httpx.Request(
            "GET", url, headers={"Accept": "application/json"}, extensions={"timeout": _TIMEOUTS.as_dict()}
        )
        with _translated(url, "no answer came"):
            response = await self._client.send(request, stream=True, auth=None, follow_redirects=False)
            answer = await _whole(response)
        if answer.status != HTTPStatus.OK:
            raise BadAnswer(f"{url} answered with {answer.status}")
        return answer.body

    async def _open(self, call: Call, headers: Mapping[str, str]) -> httpx.Response:
        """Send a call; once more where the server does not take the credentials any more and there are others."""
        if self.credentials is None:
            return await self._sent(call, headers)
        shown = await self.credentials.headers()
        response = await self._sent(call, {**headers, **shown})
        if response.status_code == HTTPStatus.UNAUTHORIZED and await self.credentials.renewed(shown):
            await response.aclose()
            return await self._sent(call, {**headers, **await self.credentials.headers()})
        return response

    async def _sent(self, call: Call, headers: Mapping[str, str], *, anonymous: bool = False) -> httpx.Response:
        request = self._client.build_request(
            call.method,
            httpx.URL(call.url, userinfo=b"") if anonymous else call.url,
            content=call.body,
            headers=_encoded({**self.headers, **call.headers, **headers}),
            timeout=_TIMEOUTS,
        )
        if anonymous:
            for name in _CREDENTIALS:
                request.headers.pop(name, None)
        try:
            return await self._client.send(request, stream=True, auth=None if anonymous else httpx.USE_CLIENT_DEFAULT)
        except AttributeError as error:
            if "getpeername" not in str(error):
                raise
            # anyio, where the event loop is uvloop's: the connection was reset before it was looked at, and not used.
            raise ConnectionFailed(f"{call.url} cannot be reached: the connection was reset") from error


def named(header: str) -> frozenset[str]:
    """The URIs in the value of an extensions header."""
    return frozenset(uri for uri in map(str.strip, header.split(",")) if uri)


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
