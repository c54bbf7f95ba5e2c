"""Where an issuer's keys come from: its JWKS by HTTPS, the one that its OpenID configuration names, or a file."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeAlias, cast
from urllib.parse import urlsplit

import httpcore
import msgspec

from a2a_events import limits
from a2a_events.bindings.timelines.guard import is_loopback

Fetch: TypeAlias = Callable[[], Awaitable[bytes]]


class NotFetched(Exception):
    """No document came; the message says what came instead."""


def from_file(path: Path) -> Fetch:
    """Keys in a file; read anew as often as an issuer would be asked."""

    async def fetch() -> bytes:
        return await asyncio.to_thread(path.read_bytes)

    return fetch


def from_url(url: str) -> Fetch:
    """Keys at an address."""

    async def fetch() -> bytes:
        return await get(url)

    return fetch


def from_issuer(issuer: str, discovery: str) -> Fetch:
    """Keys where the issuer's OpenID configuration says (OpenID Connect Discovery 4).

    Args:
        issuer: its name, which the configuration must repeat.
        discovery: where the configuration is.
    """

    async def fetch() -> bytes:
        found: Any = msgspec.json.decode(await get(discovery))
        members = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
        keys = members.get("jwks_uri")
        if members.get("issuer") != issuer or not isinstance(keys, str):
            raise NotFetched(f"{discovery} is not the configuration of {issuer}")
        parts = urlsplit(keys)
        if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            raise NotFetched(f"{discovery} names keys at {keys[:200]!r}, which is not an https address")
        return await get(keys)

    return fetch


async def get(url: str) -> bytes:
    """One document of at most ``limits.JWKS_BYTES``. Follows no redirect, and uses no proxy.

    Raises:
        NotFetched: something else came.
        Exception: whatever the way there raises.
    """
    async with (
        httpcore.AsyncConnectionPool(ssl_context=_authorities()) as pool,
        pool.stream("GET", url, headers={"accept": "application/json"}) as response,
    ):
        if response.status != HTTPStatus.OK:
            raise NotFetched(f"{url} answered {response.status}")
        content = b""
        async for piece in response.aiter_stream():
            content += piece
            if len(content) > limits.JWKS_BYTES:
                raise NotFetched(f"{url} answered with more than {limits.JWKS_BYTES} bytes")
        return content


@cache
def _authorities() -> ssl.SSLContext:
    return ssl.create_default_context()
