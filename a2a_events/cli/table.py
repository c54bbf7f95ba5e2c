"""Rows on a terminal, in columns as wide as they need to be: they are searched and compared, so nothing is cut."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from a2a_events.cli.text import one_line


class Table:
    """Rows that come bit by bit. The columns are as wide as what has come needs, so those who wait see rows at once.

    Control characters do nothing. What is printed is on its way when :meth:`add` returns.

    Args:
        columns: names of attributes of rows, in order; printed over them with the first rows.
        right: columns that are aligned at their right.
        style: of a row.
        least: how wide columns are at least, for those whose later rows are wider than the first.
    """

    def __init__(
        self,
        columns: Sequence[str],
        *,
        right: Collection[str] = (),
        style: Callable[[Any], str] = lambda _row: "",
        least: Mapping[str, int] | None = None,
    ) -> None:
        from rich.console import Console

        self.console = Console(highlight=False, emoji=False, markup=False, soft_wrap=True)
        self._columns = columns
        self._right = right
        self._style = style
        self._widths = [max(len(name), (least or {}).get(name, 0)) for name in columns]
        self._begun = False

    def add(self, rows: Sequence[Any]) -> None:
        """Print some rows."""
        from rich.text import Text

        cells = [[one_line(str(getattr(row, name))) for name in self._columns] for row in rows]
        self._widths = [max([width, *(len(line[at]) for line in cells)]) for at, width in enumerate(self._widths)]
        if not self._begun:
            self._begun = True
            self.console.print(Text(self._aligned(self._columns), "bold"))
        # Together where they look alike: printing is most of what a long timeline costs.
        for style, alike in groupby(zip(map(self._style, rows), cells, strict=True), key=itemgetter(0)):
            self.console.print(Text("\n".join(self._aligned(line) for _, line in alike), style))
        self.console.file.flush()

    def _aligned(self, line: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if name in self._right else cell.ljust(width)
            for name, cell, width in zip(self._columns, line, self._widths, strict=True)
        ]
        return "  ".join(padded).rstrip()


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
    Table(columns, right=right, style=style).add(rows)
