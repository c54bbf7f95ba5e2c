"""The keys of an issuer: a JWKS, kept, asked for again when it is old or lacks a key, and never often.

Whoever sends tokens with made-up key ids makes nobody ask the issuer more than once in ``limits.JWKS_FLOOR_SECONDS``,
and an issuer that is away locks nobody out whose key was seen.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, cast

import jwt
import msgspec
import structlog
from msgspec import Struct

from a2a_events import limits
from a2a_events.errors import UnavailableError

_SYMMETRIC: Final = "oct"
_RSA_BITS: Final = 2048

logger = structlog.get_logger(__name__)


class _Set(Struct):
    keys: list[Any]


class Jwks:
    """The signing keys of one issuer, by id.

    Args:
        fetch: gives the JWKS as it is now; may raise anything.
        now: a clock that only goes forward, seconds.
    """

    def __init__(self, fetch: Callable[[], Awaitable[bytes]], *, now: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._now = now
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._read: float | None = None
        self._asked: float | None = None
        self._asking: asyncio.Task[None] | None = None

    async def find(self, kid: str) -> jwt.PyJWK | None:
        """The key of this id; None if the issuer has none. No round trip for one that was seen lately.

        Raises:
            UnavailableError: the issuer's keys are not known, or are too old to be trusted, and cannot be had now.
        """
        if self._age() > limits.JWKS_STALE_SECONDS:
            await self._refreshed()
            if self._age() > limits.JWKS_STALE_SECONDS:
                raise UnavailableError(
                    "The keys that credentials are checked with cannot be had now; nothing was done, please retry",
                    retry_after_seconds=limits.JWKS_RETRY_SECONDS,
                    metadata=UnavailableError.UNTOUCHED,
                )
        elif self._age() > limits.JWKS_FRESH_SECONDS:
            self._refresh()  # beside: what is known is good enough meanwhile
        if kid not in self._keys:
            await self._refreshed()
        return self._keys.get(kid)

    def has(self, kid: str) -> bool:
        """Whether the issuer had this key when it was asked last. Asks it again, beside, when that was long ago."""
        if self._age() > limits.JWKS_FRESH_SECONDS:
            self._refresh()
        return kid in self._keys

    def _age(self) -> float:
        return float("inf") if self._read is None else self._now() - self._read

    async def _refreshed(self) -> None:
        asking = self._refresh()
        if asking is not None:
            await asyncio.shield(asking)

    def _refresh(self) -> asyncio.Task[None] | None:
        """The one question under way, or a new one; None if the last one was too short a time ago."""
        if self._asking is None:
            floor = limits.JWKS_FLOOR_SECONDS if self._read is not None else limits.JWKS_RETRY_SECONDS
            if self._asked is not None and self._now() - self._asked < floor:
                return None
            self._asked = self._now()
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        return self._asking

    async def _ask(self) -> None:
        try:
            async with asyncio.timeout(limits.JWKS_TIMEOUT_SECONDS):
                content = await self._fetch()
            self._keys = parse(content)
            self._read = self._now()
        except Exception as error:  # noqa: BLE001 -- an issuer can fail in any way; what is known stays
            logger.warning(
                "keys of the issuer not read; those of before stay", error=f"{type(error).__name__}: {error}"
            )
        finally:
            self._asking = None


def parse(content: bytes) -> dict[str, jwt.PyJWK]:
    """The keys in a JWKS that can verify signatures, by id; others, and those that cannot be read, are left out.

    Raises:
        ValueError: this is no JWKS, or a very large one.
    """
    if len(content) > limits.JWKS_BYTES:
        raise ValueError(f"a JWKS of more than {limits.JWKS_BYTES} bytes")
    listed = msgspec.json.decode(content, type=_Set).keys
    found: dict[str, jwt.PyJWK] = {}
    for each in listed[: limits.JWKS_KEYS]:
        key = _key(each)
        if key is not None and isinstance(key.key_id, str) and key.key_id and key.key_id not in found:
            found[key.key_id] = key
    return found


def _key(members: Any) -> jwt.PyJWK | None:
    if not isinstance(members, dict):
        return None
    known = cast("dict[str, Any]", members)
    # A symmetric key in a public document is no secret, and one for encryption was not made for this.
    if known.get("kty") == _SYMMETRIC or known.get("use", "sig") != "sig" or "d" in known:
        return None
    try:
        key = jwt.PyJWK(known)
    except Exception:  # noqa: BLE001 -- whatever is odd about one key, the others count
        return None
    bits: Any = getattr(key.key, "key_size", None) if known.get("kty") == "RSA" else None
    return None if isinstance(bits, int) and bits < _RSA_BITS else key
