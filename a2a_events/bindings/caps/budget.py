"""What is used of one kind of allowance, that of tenants or that of addresses: here, and at the other gateways.

Pure: the time comes as an argument. What others use is what they say, as far as it was heard; a gateway that hears
nothing goes by what it sees itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from msgspec import Struct

from a2a_events import limits
from a2a_events.bindings.caps.buckets import Buckets, Rate

Used: TypeAlias = tuple[int, int]
"""Requests that were granted since the last announcement, and streams that are open."""


class Allowance(Struct, frozen=True):
    """What each of a kind may use."""

    rate: Rate | None = None
    """None: any number of requests."""
    streams: int = 0
    """Open at once; 0: any number."""


class _Elsewhere(Struct):
    """What one other gateway has said of its open streams."""

    heard_at: float
    open: dict[str, tuple[int, float]] = {}
    """Streams, and when that was heard."""


class Budget:
    """What each of a kind may use, and uses.

    Args:
        allowance: of each.
        most: keys that are remembered, here and for each other gateway.
    """

    def __init__(self, allowance: Allowance, most: int = limits.CALLERS_REMEMBERED) -> None:
        self._streams = allowance.streams
        self._most = most
        self._buckets = Buckets(allowance.rate, most) if allowance.rate is not None else None
        self._open: dict[str, int] = {}
        self._spent: dict[str, int] = {}
        """Requests that were granted here and not announced yet."""
        self._changed: set[str] = set()
        """Whose open streams were not announced yet as they are."""
        self._others: dict[str, _Elsewhere] = {}

    def spend(self, key: str, now: float) -> float:
        """One request.

        Returns:
            0 if it is granted; otherwise after how many seconds one would be.
        """
        if self._buckets is None:
            return 0.0
        wait = self._buckets.take(key, now)
        if not wait:
            self._note(key, 1)
        return wait

    def charge(self, key: str, requests: int, now: float) -> None:
        """What was done already counts as so many requests."""
        if self._buckets is not None:
            self._buckets.charge(key, requests, now)
            self._note(key, requests)

    def open(self, key: str, now: float) -> bool:
        """Whether one more stream may be opened; where there is a limit it counts from now on until :meth:`close`."""
        if not self._streams:
            return True
        if self._open.get(key, 0) + self._open_elsewhere(key, now) >= self._streams:
            return False
        self._open[key] = self._open.get(key, 0) + 1
        self._changed.add(key)
        return True

    def close(self, key: str) -> None:
        """A stream is over."""
        if not self._streams:
            return
        left = self._open[key] - 1
        if left:
            self._open[key] = left
        else:
            del self._open[key]
        self._changed.add(key)

    def news(self, *, everything: bool) -> Iterator[tuple[str, Used]]:
        """What other gateways do not know yet; it counts as said.

        Args:
            everything: also the open streams that were said before, for who has not heard.
        """
        spent, self._spent = self._spent, {}
        changed, self._changed = self._changed, set()
        for key in {*spent, *changed, *(self._open if everything else ())}:
            yield key, (spent.get(key, 0), self._open.get(key, 0))

    def hear(self, gateway: str, used: Mapping[str, Used], now: float) -> None:
        """What another gateway has used."""
        other = self._others.get(gateway)
        if other is None:
            if len(self._others) >= limits.GATEWAYS_HEARD:
                return
            other = self._others[gateway] = _Elsewhere(now)
        other.heard_at = now
        for key, (spent, streams) in used.items():
            if spent and self._buckets is not None:
                self._buckets.charge(key, spent, now)
            if not streams:
                other.open.pop(key, None)
            elif key in other.open or len(other.open) < self._most:
                other.open[key] = (streams, now)

    def forget_silent(self, now: float) -> None:
        """Gateways that say nothing any more have no streams, and what was not said again is not so any more."""
        for gateway, other in list(self._others.items()):
            if now - other.heard_at > limits.GATEWAY_SILENT_SECONDS:
                del self._others[gateway]
            elif stale := [key for key, (_, at) in other.open.items() if now - at > limits.STREAMS_HEARD_SECONDS]:
                for key in stale:
                    del other.open[key]

    def _note(self, key: str, requests: int) -> None:
        if key in self._spent or len(self._spent) < self._most:
            self._spent[key] = self._spent.get(key, 0) + requests

    def _open_elsewhere(self, key: str, now: float) -> int:
        return sum(
            other.open[key][0]
            for other in self._others.values()
            if key in other.open and now - other.heard_at <= limits.GATEWAY_SILENT_SECONDS
        )
