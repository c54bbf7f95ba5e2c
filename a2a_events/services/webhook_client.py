"""Posting to webhooks: names are resolved here, addresses checked, and what was checked is what is connected to.

httpcore and not httpx: its network backend is a public seam, it follows no redirects, heeds no proxy of the
environment and decodes nothing.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any, Final, TypeAlias

import httpcore

import a2a_events
from a2a_events import limits
from a2a_events.metrics.catalog import PUSH_BLOCKED
from a2a_events.runtime.webhook import NotTaken
from a2a_events.runtime.webhook_url import Target, TargetRefused, check_address, target

Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a name and port."""

RESOLVING: Final = 32
"""Names looked up at once, in threads of their own: a slow name server must not stop the others' look-ups."""
CONNECT_SECONDS: Final = 5.0
"""What one of a name's addresses gets to answer before the next is tried."""
KEEP_ALIVE_SECONDS: Final = 5.0
"""How long a connection waits for the task's next update. Short, because its name is resolved only once."""
IDLE_ORIGINS: Final = 64
"""Origins whose connections are kept although nobody posts to them."""
IDLE_CONNECTIONS: Final = 4
"""Of each origin."""
_ANSWER_BYTES: Final = 64 * 1024
"""What is read of an answer so that its connection can be used again; a longer one costs its connection."""


class WebhookClient:
    """See ``runtime.webhook.Webhooks``.

    Args:
        allow_private: whether private addresses are called.
        resolve: default: the system's resolver.
        tls: default: the system's certificate authorities.
    """

    def __init__(
        self, *, allow_private: bool = False, resolve: Resolve | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._allow_private = allow_private
        self._threads = ThreadPoolExecutor(RESOLVING, "resolve")
        self._tls = tls or ssl.create_default_context()
        self._network = _CheckedNetwork(resolve or self._resolve, allow_private=allow_private)
        self._room = asyncio.Semaphore(limits.WEBHOOK_CONNECTIONS)
        self._origins: dict[str, _Origin] = {}
        """Those that somebody posts to, and those used lately, the one used last at the end."""

    async def close(self) -> None:
        """Close every connection."""
        for origin in self._origins.values():
            await origin.pool.aclose()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> None:
        """See ``Webhooks``."""
        try:
            to = target(url, allow_private=self._allow_private)
        except TargetRefused as refused:
            PUSH_BLOCKED.inc("url")
            raise NotTaken(f"its URL {refused}", "blocked") from None
        async with self._room_at(to.origin) as pool:
            status = await self._attempt(pool, to, headers, body)
        if not 200 <= status < 300:  # noqa: PLR2004 -- the status codes of success; a redirect is none
            raise NotTaken(f"it answered {status}")

    @staticmethod
    async def _attempt(pool: httpcore.AsyncConnectionPool, to: Target, headers: dict[str, str], body: bytes) -> int:
        status = 0
        try:
            async with (
                asyncio.timeout(limits.WEBHOOK_TIMEOUT_SECONDS),
                pool.stream(
                    "POST",
                    _url(to),
                    headers=[*_own_headers(to, body), *headers.items()],
                    content=body,
                    extensions={"timeout": {"connect": CONNECT_SECONDS}},
                ) as response,
            ):
                status = response.status
                await _drain(response)
        except TargetRefused as refused:
            PUSH_BLOCKED.inc("address")
            raise NotTaken(f"it {refused}", "blocked") from None
        except TimeoutError:
            if not status:
                raise NotTaken(
                    f"it did not answer within {limits.WEBHOOK_TIMEOUT_SECONDS:g} seconds", "timeout"
                ) from None
        except (
            httpcore.NetworkError,
            httpcore.TimeoutException,
            httpcore.ProtocolError,
            OSError,
        ) as error:
            if not status:
                raise NotTaken(f"it could not be reached ({type(error).__name__})", "unreachable") from None
        except AttributeError as error:
            if "getpeername" not in str(error):
                raise
            # anyio, where the event loop is uvloop's: the connection was reset before it was looked at, and not used.
            raise NotTaken("it could not be reached (reset)", "unreachable") from None
        return status

    @asynccontextmanager
    async def _room_at(self, origin: str) -> AsyncGenerator[httpcore.AsyncConnectionPool]:
        """Room for one more request, at this origin and in all; waiting for it is no part of the attempt."""
        place = self._origins.get(origin)
        if place is None:
            place = self._origins[origin] = _Origin(self._tls, self._network)
        place.users += 1
        try:
            async with place.room, self._room:
                yield place.pool
        finally:
            place.users -= 1
            if not place.users:
                self._origins[origin] = self._origins.pop(origin)
                await self._trim()

    async def _trim(self) -> None:
        idle = [origin for origin, place in self._origins.items() if not place.users]
        for origin in idle[:-IDLE_ORIGINS]:
            await self._origins.pop(origin).pool.aclose()

    async def _resolve(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _look_up, host, port)
        return [str(address[4][0]) for address in found]


class _Origin:
    """Connections to one scheme, host and port, and how many use them or wait for one.

    A pool for each: httpcore looks at every connection of a pool for every request.
    """

    __slots__ = ("pool", "room", "users")

    def __init__(self, tls: ssl.SSLContext, network: httpcore.AsyncNetworkBackend) -> None:
        self.room = asyncio.Semaphore(limits.WEBHOOK_CONNECTIONS_PER_ORIGIN)
        self.users = 0
        self.pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=limits.WEBHOOK_CONNECTIONS_PER_ORIGIN,
            max_keepalive_connections=IDLE_CONNECTIONS,
            keepalive_expiry=KEEP_ALIVE_SECONDS,
            network_backend=network,
        )


class _CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to addresses that were checked, never to names: what a name means may change between two questions."""

    def __init__(self, resolve: Resolve, *, allow_private: bool) -> None:
        self._resolve = resolve
        self._allow_private = allow_private
        self._network: Any = httpcore.AnyIOBackend()  # its class is two, with and without anyio

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that answers; all must be allowed, or none is tried."""
        try:
            addresses = [ip_address(text) for text in await self._resolve(host, port)]
        except (OSError, UnicodeError, ValueError):
            raise httpcore.ConnectError("the name cannot be resolved") from None
        for address in addresses:
            check_address(address, allow_private=self._allow_private)
        failure: httpcore.ConnectError | httpcore.ConnectTimeout = httpcore.ConnectError("the name has no address")
        for address in addresses:
            try:
                made: httpcore.AsyncNetworkStream = await self._network.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
                return made
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def sleep(self, seconds: float) -> None:
        """As asyncio does."""
        await asyncio.sleep(seconds)


def _look_up(host: str, port: int) -> list[Any]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def _url(to: Target) -> httpcore.URL:
    return httpcore.URL(scheme=to.scheme, host=to.host, port=to.port, target=to.path)


def _own_headers(to: Target, body: bytes) -> list[tuple[str, str]]:
    return [
        ("Host", to.authority),
        ("User-Agent", f"a2a-events/{a2a_events.__version__}"),
        ("Content-Length", str(len(body))),
    ]


async def _drain(response: httpcore.Response) -> None:
    size = 0
    async for piece in response.aiter_stream():
        size += len(piece)
        if size > _ANSWER_BYTES:
            return
