"""Lines that uvicorn logs about requests: anybody can cause them, so they are few."""

from __future__ import annotations

import logging
import time
from typing import Final

from a2a_events import limits

_LOGGER: Final = logging.getLogger("uvicorn.error")


class _FewLines(logging.Filter):
    """Lets through so many warnings and errors in a second; the first of the next second says how many it did not."""

    def __init__(self) -> None:
        super().__init__()
        self._second = 0
        self._lines = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is logged."""
        if record.levelno < logging.WARNING:
            return True
        second = int(time.monotonic())
        if second != self._second:
            left_out = self._lines - limits.SERVER_LINES_PER_SECOND
            self._second, self._lines = second, 0
            if left_out > 0:
                record.msg, record.args = f"{record.getMessage()} ({left_out} lines before it were left out)", ()
        self._lines += 1
        return self._lines <= limits.SERVER_LINES_PER_SECOND


_FEW_LINES: Final = _FewLines()


def bound_lines() -> None:
    """Bound what uvicorn logs in this process, once."""
    _LOGGER.addFilter(_FEW_LINES)
