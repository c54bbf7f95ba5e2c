"""Rows on a terminal, in columns as wide as they need to be: they are searched and compared, so nothing is cut."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any


def table(
    columns: Sequence[str],
    rows: Sequence[Any],
    *,
    right: Collection[str] = (),
    style: Callable[[Any], str] = lambda _row: "",
) -> None:
    """Print the attributes of rows that the columns name, under their names. Control characters do nothing.

    Args:
        columns: names of attributes, in order.
        rows: to print.
        right: columns that are aligned at their right.
        style: of a row.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, emoji=False, markup=False, soft_wrap=True)
    cells = [[_printable(str(getattr(row, name))) for name in columns] for row in rows]
    widths = [max([len(name), *(len(line[at]) for line in cells)]) for at, name in enumerate(columns)]

    def aligned(line: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(columns, line, widths, strict=True)
        ]
        return "  ".join(padded).rstrip()

    console.print(Text(aligned(columns), "bold"))
    for row, line in zip(rows, cells, strict=True):
        console.print(Text(aligned(line), style(row)))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "�" for c in text)
