"""What a client shows to say who it is: an API key, or a bearer token that may be renewed while the client lives."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

Give: TypeAlias = Callable[[], str | Awaitable[str]]
"""Gives a token that holds now: from a file, from the OAuth client of your choice."""

API_KEY_HEADER: Final = "X-API-Key"


class Credentials:
    """One header of every request. Made by :func:`bearer` and :func:`api_key`.

    Args:
        header: its name.
        prefix: what stands before the token.
        give: gives the token; asked once, and again when a server has refused what it gave.
        renewable: whether asking again may give another.
    """

    def __init__(self, header: str, prefix: str, give: Give, *, renewable: bool) -> None:
        self._header = header
        self._prefix = prefix
        self._give = give
        self._renewable = renewable
        self._lock = asyncio.Lock()
        self._token = ""

    def __repr__(self) -> str:
        """Without the token: this may be printed."""
        return f"Credentials({self._header!r})"

    async def headers(self) -> dict[str, str]:
        """What goes with a request."""
        async with self._lock:
            if not self._token:
                self._token = await self._given()
            return {self._header: self._prefix + self._token}

    async def renewed(self, refused: dict[str, str]) -> bool:
        """After a server has refused these headers: whether there are others now. One question for all who ask."""
        if not self._renewable:
            return False
        async with self._lock:
            if refused == {self._header: self._prefix + self._token}:
                self._token = await self._given()
            return refused != {self._header: self._prefix + self._token}

    async def _given(self) -> str:
        given = self._give()
        return (await given if inspect.isawaitable(given) else given).strip()


def bearer(token: str | Give) -> Credentials:
    """A bearer token (``Authorization``).

    Args:
        token: it, or what gives one that holds now. That is asked once, and again when a server refuses the token, as
            it does when it has expired; the request is then repeated once, and streams go on.
    """
    if isinstance(token, str):
        return Credentials("Authorization", "Bearer ", lambda: token, renewable=False)
    return Credentials("Authorization", "Bearer ", token, renewable=True)


def api_key(key: str | Give, header: str = API_KEY_HEADER) -> Credentials:
    """An API key.

    Args:
        key: it, or what gives it, as for :func:`bearer`.
        header: that it goes in; an agent's card names it.
    """
    if isinstance(key, str):
        return Credentials(header, "", lambda: key, renewable=False)
    return Credentials(header, "", key, renewable=True)
