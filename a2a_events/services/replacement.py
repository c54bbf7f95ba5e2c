"""A process that makes way for a fresh one, because something in it cannot be stopped: the same command, the same pid.

Threads and coroutines that do not end are gone with the old program, its sockets are closed, and whoever supervises the
process sees no end.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Final, NoReturn

import structlog

STEADY_SECONDS: Final = 10.0
"""A process that lived as long as this was healthy: it is started again at once."""
LONGEST_PAUSE_SECONDS: Final = 10.0
"""Between two starts of a process that does not live."""
SHORT_LIVES: Final = "_A2A_EVENTS_SHORT_LIVES"
"""Environment variable that a process leaves for its successor: how many in a row were replaced at once."""

_begun: Final = time.monotonic()

logger = structlog.get_logger(__name__)


def pause_seconds(short_lives: int) -> float:
    """Before the next start, after so many short lives in a row: none at first, then half a second, doubling."""
    return 0.0 if short_lives <= 1 else min(LONGEST_PAUSE_SECONDS, 0.5 * 2.0 ** min(short_lives - 2, 16))


def short_lives() -> int | None:
    """How many processes in a row, up to this one, were replaced after a short life; None: this one replaces none."""
    left = os.environ.get(SHORT_LIVES)
    return int(left) if left is not None else None


def replace(reason: str) -> NoReturn:
    """Run this process's command line anew, in its place. May be called in any thread; nothing is waited for.

    Args:
        reason: for the log.
    """
    lives = 0 if time.monotonic() - _begun >= STEADY_SECONDS else (short_lives() or 0) + 1
    logger.error("process is replaced", reason=reason, pause_seconds=pause_seconds(lives))
    sys.stdout.flush()
    sys.stderr.flush()
    os.environ[SHORT_LIVES] = str(lives)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 -- no shell is wanted
