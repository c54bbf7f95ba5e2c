"""When to try again: exponential back-off with full jitter, and what servers ask for."""

from __future__ import annotations

import asyncio
import random
import time
from email.utils import parsedate_to_datetime
from typing import Final

from msgspec import Struct

from a2a_events.client.errors import ClientError
from a2a_events.errors import UnavailableError

_LARGEST_EXPONENT: Final = 32
"""Past every sensible ceiling; keeps the power a small number."""


class Retry(Struct, frozen=True, kw_only=True):
    """How often and how soon to try again. The defaults outlast a fail-over of the broker and a rolling restart.

    Args:
        attempts: failures in a row that a stream survives before it raises. An update that is new, or a connection
            that lived for a while, begins the count again. Also those that a message survives that may be sent again,
            once a gateway has been there.
        requests: how often one request is tried at most; each base is tried once in any case.
        base_seconds: upper end of the first wait; each further one doubles it.
        ceiling_seconds: upper end of all waits.
        longest_seconds: a server that asks for more patience than this is not waited for.
    """

    attempts: int = 8
    requests: int = 3
    base_seconds: float = 0.25
    ceiling_seconds: float = 15.0
    longest_seconds: float = 60.0

    def delay_seconds(self, failures: int, chance: float, floor_seconds: float = 0.0) -> float:
        """Full jitter: anything from the floor up to the back-off, so that a thousand clients do not come at once.

        Args:
            failures: in a row, so far.
            chance: a number in [0, 1).
            floor_seconds: what the server asked for.
        """
        if failures == 0:
            return floor_seconds
        backoff = self.base_seconds * 2.0 ** min(failures - 1, _LARGEST_EXPONENT)
        return floor_seconds + chance * min(self.ceiling_seconds, backoff)


class Attempts:
    """Counts failures in a row and waits between them.

    Args:
        retry: the policy.
        most: failures to survive.
    """

    def __init__(self, retry: Retry, most: int) -> None:
        self._retry = retry
        self._most = most
        self._last: Exception | None = None
        self.failures = 0

    def succeeded(self) -> None:
        """There was progress: the next failure is the first again."""
        self.failures, self._last = 0, None

    def failed(self, error: Exception) -> None:
        """Count a failure.

        Raises:
            Exception: the error itself, if it was one too many.
        """
        self.failures += 1
        self._last = error
        if self.failures > self._most:
            raise error

    async def wait(self, floor_seconds: float) -> None:
        """Sleep before the next attempt; returns at once before the first.

        Raises:
            Exception: the last failure, if the server wants to be left alone for longer than the policy waits.
        """
        if floor_seconds > self._retry.longest_seconds and self._last is not None:
            raise self._last
        seconds = self._retry.delay_seconds(self.failures, random.random(), floor_seconds)  # noqa: S311 -- jitter
        if seconds > 0:
            await asyncio.sleep(seconds)


def wanted_seconds(error: Exception) -> float:
    """How long the server that failed so wants to be left alone."""
    return error.retry_after_seconds if isinstance(error, ClientError | UnavailableError) else 0.0


def parse_retry_after(value: str | None, now: float | None = None) -> float:
    """Seconds that a ``Retry-After`` header asks for (RFC 9110, 10.2.3); 0 if absent, past or unreadable.

    Args:
        value: seconds, or a date.
        now: seconds since 1970; the clock's if not given.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    return max(0.0, moment - (time.time() if now is None else now))
