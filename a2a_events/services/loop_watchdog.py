"""Notices that code of an agent blocks the event loop, says in the log which line does, and at last acts.

A thread asks the loop now and then to answer, and looks whether it did. That is all the loop has to do with it. Code
that blocks without ever letting go of the interpreter (a C extension that holds the GIL) also stops this thread: then
only the broker notices, after ``ack_wait``.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import structlog

from a2a_events import limits
from a2a_events.metrics.catalog import LOOP_BLOCKS
from a2a_events.runtime import stacks

_LOOKS: Final = 8
"""Looks within the shortest time that matters."""

logger = structlog.get_logger(__name__)


class LoopWatchdog:
    """Watches the loop that it is entered in, until it is left.

    Time in which the whole process stood still (a pause, a suspended machine) does not count as blocked.

    Args:
        act: called in the watchdog's thread, once, with a reason, when the loop has been blocked for ``bound_seconds``.
            None: nothing is done but logging.
        bound_seconds: how long the loop may be blocked.
        warning_seconds: when to log the stack.
    """

    def __init__(
        self,
        act: Callable[[str], None] | None,
        *,
        bound_seconds: float,
        warning_seconds: float = limits.BLOCKED_LOOP_WARNING_SECONDS,
    ) -> None:
        self._act = act
        self._bound_seconds = bound_seconds
        self._warning_seconds = min(warning_seconds, bound_seconds / 2)
        self._look_seconds = self._warning_seconds / _LOOKS
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="loop-watchdog", daemon=True)

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()

    def _watch(self) -> None:
        while not self._left.is_set():
            answered = threading.Event()
            try:
                self._loop.call_soon_threadsafe(answered.set)
            except RuntimeError:
                return  # the loop has ended
            self._wait_for(answered)
            self._left.wait(self._warning_seconds / 2)

    def _wait_for(self, answered: threading.Event) -> None:
        blocked = 0.0
        warned = acted = False
        while not self._left.is_set():
            begun = time.monotonic()
            if answered.wait(self._look_seconds):
                break
            # A look that took much longer was not the loop's doing: this thread did not run either.
            blocked += min(time.monotonic() - begun, 2 * self._look_seconds)
            if not warned and blocked >= self._warning_seconds:
                warned = True
                LOOP_BLOCKS.inc()
                logger.error(
                    "event loop is blocked",
                    by=self._running(),
                    seconds=round(blocked, 1),
                    stack=stacks.of_thread(self._watched),
                )
            if self._act is not None and not acted and blocked >= self._bound_seconds:
                acted = True
                self._act(f"{self._running()} blocked the event loop for {blocked:.1f} seconds")
        if warned:
            logger.warning("event loop goes on", blocked_seconds=round(blocked, 1))

    def _running(self) -> str:
        """Name of the task that the loop is in the middle of; those of agents say which agent and which A2A task."""
        task = asyncio.current_task(self._loop)
        return task.get_name() if task is not None else "a callback"
