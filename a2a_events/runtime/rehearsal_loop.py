"""The event loop of rehearsals: it does not wait for time, and it knows when nothing can happen any more.

Where a loop would wait for its next timer, this one lets its clock jump there. Where nothing at all is left that could
wake anybody, it says so: then an agent waits for what its record holds next, or for ever. Threads at work and open
connections are waited for as usual.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from asyncio import Future
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from a2a_events.runtime.in_thread import busy


class RehearsalLoop(asyncio.SelectorEventLoop):
    """See the module.

    Attributes:
        horizon: as far as the clock may jump, in seconds of this loop.
        on_idle: called, in the loop, when nothing can happen up to there; it makes something happen.
    """

    def __init__(self) -> None:
        self._jumped_seconds = 0.0
        self._executing = 0
        self._files = _Selector()
        super().__init__(self._files)
        self._files.loop = self
        self._own_files = len(self._files.get_map())
        self.horizon = math.inf
        self.on_idle: Callable[[], None] = self.stop

    def time(self) -> float:
        """Seconds, those over which it jumped included."""
        return super().time() + self._jumped_seconds

    def run_in_executor(self, executor: Executor | None, func: Callable[..., Any], *args: Any) -> Future[Any]:  # type: ignore[override]  # typeshed has variadic generics
        """As asyncio's; counted, because a thread at work is waited for."""
        work = super().run_in_executor(executor, func, *args)
        self._executing += 1
        work.add_done_callback(self._executed)
        return work

    def _executed(self, _: Future[Any]) -> None:
        self._executing -= 1

    def quiet(self) -> bool:
        """Whether nothing outside of the loop is under way that could wake it."""
        return not self._executing and len(self._files.get_map()) <= self._own_files and not busy(self)

    def idle(self, timeout: float | None) -> None:
        """Nothing is ready, the next timer is so far away, and nothing else will come."""
        if timeout is None or self.time() + timeout > self.horizon:
            self.on_idle()
        else:
            self._jumped_seconds += timeout


class _Selector(selectors.DefaultSelector):
    loop: RehearsalLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        waits = timeout is None or timeout > 0
        # Asked before looking: a thread that begins to wait for the loop afterwards has woken it.
        quiet = waits and self.loop.quiet()
        ready = super().select(0)
        if ready or not waits:
            return ready
        if not quiet:
            return super().select(timeout)
        self.loop.idle(timeout)
        return []
