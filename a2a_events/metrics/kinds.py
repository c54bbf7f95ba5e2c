"""Counters, gauges and histograms that cannot grow without bound.

A label has a closed set of values, known when the metric is declared; any other value counts as ``other``. A label
whose values an operator configures, as names of logs, has no set, and the metric takes ``SERIES`` of them.

Counting is for the thread of the event loop; reading, from any thread, may be one step behind.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, TypeAlias

from msgspec import Struct

OTHER: Final = "other"
SERIES: Final = 64
"""Most sets of labels of a metric one of whose labels has no closed set of values."""

Labels: TypeAlias = tuple[str, ...]
Reader: TypeAlias = Callable[[], Mapping[Labels, float]]
"""What a gauge shows, by label values; asked at each scrape, in the thread that serves it."""


class Metric:
    """A name, what it means, and its labels in order."""

    __slots__ = ("_open", "_values_of", "help", "labels", "name")

    def __init__(self, name: str, help: str, **labels: Collection[str] | None) -> None:  # noqa: A002 -- the field's word
        self.name = name
        self.help = help
        self.labels = tuple(labels)
        self._values_of = tuple(None if values is None else frozenset(values) for values in labels.values())
        self._open = None in self._values_of

    def _known(self, given: Labels, taken: Collection[Labels]) -> Labels:
        """The labels under which these are counted."""
        assert len(given) == len(self.labels), f"{self.name} has the labels {self.labels}"
        known = tuple(
            value if values is None or value in values else OTHER
            for value, values in zip(given, self._values_of, strict=True)
        )
        if self._open and known not in taken and len(taken) >= SERIES:
            return tuple(OTHER for _ in known)
        return known

    def _from_the_start(self) -> Iterable[Labels]:
        """What is shown before anything was counted: an alert on growth would miss a series that begins with one."""
        if not self.labels:
            return [()]
        only = self._values_of[0]
        return [(value,) for value in sorted(only)] if len(self.labels) == 1 and only is not None else []


class Counter(Metric):
    """How often something happened; only grows."""

    __slots__ = ("_values",)

    def __init__(self, name: str, help: str, **labels: Collection[str] | None) -> None:  # noqa: A002 -- as above
        assert name.endswith("_total")
        super().__init__(name, help, **labels)
        self._values: dict[Labels, float] = dict.fromkeys(self._from_the_start(), 0)

    def inc(self, *labels: str, by: float = 1) -> None:
        """Count."""
        try:
            self._values[labels] += by
        except KeyError:
            known = self._known(labels, self._values)
            self._values[known] = self._values.get(known, 0) + by

    def values(self) -> dict[Labels, float]:
        """What was counted, by label values."""
        return dict(self._values)

    def value(self, *labels: str) -> float:
        """What was counted under these labels."""
        return self._values.get(labels, 0)


class Gauge(Metric):
    """How much of something there is: as it was set, plus what readers see at each scrape."""

    __slots__ = ("_readers", "_values")

    def __init__(self, name: str, help: str, **labels: Collection[str] | None) -> None:  # noqa: A002 -- as above
        super().__init__(name, help, **labels)
        self._values: dict[Labels, float] = dict.fromkeys(self._from_the_start(), 0)
        self._readers: list[Reader] = []

    def set(self, value: float, *labels: str) -> None:
        """It is so much now."""
        self._values[self._known(labels, self._values)] = value

    def add(self, change: float, *labels: str) -> None:
        """It is so much more now, or less."""
        try:
            self._values[labels] += change
        except KeyError:
            known = self._known(labels, self._values)
            self._values[known] = self._values.get(known, 0) + change

    def read_by(self, reader: Reader) -> Callable[[], None]:
        """Have a function asked at each scrape; what several see under the same labels is added up.

        The function must be quick and is called in another thread; while it fails its values are left out.

        Returns:
            What ends this.
        """
        self._readers.append(reader)

        def forget() -> None:
            if reader in self._readers:
                self._readers.remove(reader)

        return forget

    def values(self) -> dict[Labels, float]:
        """What there is, by label values."""
        values = dict(self._values)
        for reader in list(self._readers):
            try:
                seen = dict(reader())
            except Exception:  # noqa: BLE001, S112 -- one gauge must not take the others from the operator
                continue
            for labels, value in seen.items():
                known = self._known(labels, values)
                values[known] = values.get(known, 0) + value
        return values

    def value(self, *labels: str) -> float:
        """What there is under these labels."""
        return self.values().get(labels, 0)


class Distribution(Struct):
    """What was observed under one set of labels."""

    counts: list[int]
    """In each bucket alone, the last one without an upper end."""
    sum: float = 0.0


class Histogram(Metric):
    """How large something was, each time."""

    __slots__ = ("_values", "buckets")

    def __init__(
        self,
        name: str,
        help: str,  # noqa: A002 -- as above
        buckets: tuple[float, ...],
        **labels: Collection[str] | None,
    ) -> None:
        super().__init__(name, help, **labels)
        self.buckets = buckets
        self._values: dict[Labels, Distribution] = {labels: self._empty() for labels in self._from_the_start()}

    def observe(self, value: float, *labels: str) -> None:
        """One more."""
        found = self._values.get(labels)
        if found is None:
            known = self._known(labels, self._values)
            found = self._values.setdefault(known, self._empty())
        found.counts[bisect_left(self.buckets, value)] += 1
        found.sum += value

    def _empty(self) -> Distribution:
        return Distribution([0] * (len(self.buckets) + 1))

    def values(self) -> dict[Labels, Distribution]:
        """What was observed, by label values."""
        return dict(self._values)

    def count(self, *labels: str) -> int:
        """How often something was observed under these labels."""
        found = self._values.get(labels)
        return sum(found.counts) if found is not None else 0
