"""Every single measurement, kept for the table and for whoever wants to look closer."""

from __future__ import annotations

import msgspec


class Measurement(msgspec.Struct, frozen=True):
    cell: str
    target: str
    round: int
    values: dict[str, float] = {}
    failure: str | None = None


class Results(msgspec.Struct):
    environment: dict[str, str]
    measurements: list[Measurement] = []

    def values(self, cell: str, target: str, metric: str) -> list[float]:
        return [
            each.values[metric]
            for each in self.measurements
            if each.cell == cell and each.target == target and metric in each.values
        ]

    def failure(self, cell: str, target: str) -> str | None:
        return next(
            (
                each.failure
                for each in self.measurements
                if each.cell == cell and each.target == target and each.failure
            ),
            None,
        )
