"""Token buckets by key. Pure: the time comes as an argument. Memory is bounded, whatever keys come."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from msgspec import Struct

from a2a_events import limits

FULL_AGAIN: Final = 1e-9
"""What floating point may take from a token without that anybody notices."""


class Rate(Struct, frozen=True):
    """How many requests in time."""

    per_second: float
    """Over 0."""
    burst: float
    """At once, after a pause; at least 1."""


class _Bucket:
    __slots__ = ("at", "level")

    def __init__(self, level: float, at: float) -> None:
        self.level = level
        self.at = at


class Buckets:
    """One bucket for each key; one that was never used is full.

    Within any time t a key is granted at most ``burst + per_second * t``, as long as it is remembered. The key whose
    last use is longest ago is forgotten first, and is full again then.

    Args:
        rate: of each.
        most: keys that are remembered.
    """

    def __init__(self, rate: Rate, most: int = limits.CALLERS_REMEMBERED) -> None:
        assert rate.per_second > 0
        assert rate.burst >= 1
        self._rate = rate
        self._most = most
        self._lowest = -max(rate.burst, rate.per_second * limits.DEBT_SECONDS)
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str, now: float) -> float:
        """Take one token, if there is one.

        Args:
            key: whose.
            now: seconds, of a clock that never goes back.

        Returns:
            0 if it was taken; otherwise in how many seconds there is one, and nothing was taken.
        """
        bucket = self._of(key, now)
        if bucket.level < 1 - FULL_AGAIN:
            return (1 - bucket.level) / self._rate.per_second
        bucket.level -= 1
        return 0.0

    def charge(self, key: str, tokens: float, now: float) -> None:
        """Take tokens that were used already, whether they are there or not.

        Debts end: no charge, however large, keeps a key out for longer than ``limits.DEBT_SECONDS``, or than a burst
        takes to fill.
        """
        bucket = self._of(key, now)
        bucket.level = max(self._lowest, bucket.level - tokens)

    def _of(self, key: str, now: float) -> _Bucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self._most:
                self._buckets.popitem(last=False)
            bucket = self._buckets[key] = _Bucket(self._rate.burst, now)
            return bucket
        self._buckets.move_to_end(key)
        if now > bucket.at:
            bucket.level = min(self._rate.burst, bucket.level + (now - bucket.at) * self._rate.per_second)
            bucket.at = now
        return bucket
