"""All cells side by side in one table, in ratios where it is ratios that say something."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from bench.cells import Better, Cell, Metric
from bench.field import FASTA2A, SDK, ours_name
from bench.results import Results

_ABSENT = "–"


def render(cells: Sequence[Cell], targets: Sequence[str], syncs: Sequence[str], results: Results) -> str:
    """Columns: each target's median, then ours ÷ theirs for each fsync setting, then whether the goal was reached."""
    ratios = [(sync, other) for sync in syncs for other in (SDK, FASTA2A) if other in targets]
    head = ["cell", "", *targets, *(f"{sync} ÷ {other}" for sync, other in ratios), "goal"]
    rows: list[list[str] | None] = [head, None]
    notes: list[str] = []
    for cell in cells:
        for index, metric in enumerate(cell.metrics):
            name = f"{metric.name} {metric.unit}".strip()
            row = [cell.name if not index else "", f"{metric.better.value} {name}"]
            row += [_value(cell, target, metric, results, notes) for target in targets]
            row += [_times(_ratio(cell, ours_name(sync), other, metric, results)) for sync, other in ratios]
            row.append(_goal(cell, metric, syncs, results))
            rows.append(row)
        rows.append(None)
    lines = [_line(row, rows) for row in rows]
    return "\n".join([*lines, *notes])


def _line(row: list[str] | None, rows: Iterable[list[str] | None]) -> str:
    widths = [max(map(len, column)) for column in zip(*(each for each in rows if each), strict=True)]
    if row is None:
        return "  ".join("─" * width for width in widths)
    left = 2
    cells = [
        text.ljust(width) if at < left else text.rjust(width)
        for at, (text, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def _middle(cell: Cell, target: str, metric: Metric, results: Results) -> float | None:
    values = results.values(cell.name, target, metric.name)
    return median(values) if values else None


def _value(cell: Cell, target: str, metric: Metric, results: Results, notes: list[str]) -> str:
    middle = _middle(cell, target, metric, results)
    if middle is not None:
        return _number(middle)
    if target in cell.skipped:
        return _ABSENT
    failure = results.failure(cell.name, target)
    if failure is None:
        return _ABSENT
    note = f"failed: {cell.name}, {target}: {failure}"
    if note not in notes:
        notes.append(note)
    return "failed"


def _ratio(cell: Cell, ours: str, other: str, metric: Metric, results: Results) -> float | None:
    mine, theirs = (_middle(cell, target, metric, results) for target in (ours, other))
    if mine is None or theirs is None or theirs <= 0:
        return None
    return mine / theirs


def _goal(cell: Cell, metric: Metric, syncs: Sequence[str], results: Results) -> str:
    """What is to be reached, with the fsync settings it was reached under."""
    sign = "≥" if metric.better is Better.HIGHER else "≤"
    said: list[str] = []
    for goal in metric.goals:
        marks: list[str] = []
        for sync in syncs:
            if goal.sync not in {None, sync}:
                continue
            ours = ours_name(sync)
            reached = (
                _ratio(cell, ours, goal.against, metric, results)
                if goal.against
                else _middle(cell, ours, metric, results)
            )
            mark = "?"
            if reached is not None:
                well = reached >= goal.bound if metric.better is Better.HIGHER else reached <= goal.bound
                mark = "✓" if well else "✗"
            marks.append(f"{sync} {mark}")
        if marks:
            bound = f"{goal.against} × {goal.bound:g}" if goal.against else f"{goal.bound:g}"
            said.append(f"{sign} {bound}: {' '.join(marks)}")
    return ", ".join(said)


def _times(ratio: float | None) -> str:
    return _ABSENT if ratio is None else f"{_number(ratio)}×"


def _number(value: float) -> str:
    """Three figures that mean something."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 1:
        return f"{value:.2f}"
    return f"{value:.3g}" if size >= 0.001 else f"{value:.2g}"
