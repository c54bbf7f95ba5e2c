"""Timestamps as A2A writes them: UTC, ``Z``, milliseconds (specification 5.6.1).

Inside the library time is an integer of milliseconds since 1970, so that arithmetic and clamping need no calendar.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

_PATTERN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z", re.ASCII)


def timestamp_of(milliseconds: int) -> str:
    """``2026-11-21T03:50:00.123Z`` for milliseconds since 1970."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_whole(seconds)}.{rest:03d}Z"


@lru_cache(maxsize=16)  # events of one moment share their second, and formatting it is most of a status line's cost
def _whole(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def milliseconds_of(timestamp: str) -> int:
    """Milliseconds since 1970 of a UTC timestamp with 0–9 fraction digits.

    Raises:
        ValueError: not in UTC with ``Z``, or not a date.
    """
    if not _PATTERN.fullmatch(timestamp):
        message = "expected an RFC 3339 time in UTC that ends in Z"
        raise ValueError(message)
    whole, _, fraction = timestamp[:-1].partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return seconds * 1000 + int((fraction + "000")[:3])
