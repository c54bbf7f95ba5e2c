"""Virtual time: an event loop whose clock jumps to the next timer, processes that stop in mid-step, chance from a seed.

Nothing here waits, and nothing here depends on the machine.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import heapq
import os
import random
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

EPOCH_SECONDS: Final = 1_795_000_000.0
"""What the virtual wall clock shows when a run begins."""
STEPS_AT_ONE_INSTANT: Final = 20_000
"""More turns of the loop without time passing are a loop that waits for nothing."""


class Deadlock(Exception):
    """Somebody waits, and nothing is scheduled that could ever wake them."""


class Livelock(Exception):
    """The loop turns and turns, and time does not pass."""


class Process:
    """What is stopped, killed and goes on as one: all callbacks and tasks that were started in its context.

    A callback of a process that does not run is kept, not dropped. So a process that was paused goes on exactly where
    it was, and one that was killed leaves its coroutines where they stood: no ``finally``, no ``except`` runs.
    """

    def __init__(self, name: str, *, skew_seconds: float = 0.0) -> None:
        self.name = name
        self.skew_seconds = skew_seconds
        """How much its wall clock is ahead of everybody's."""
        self.running = True
        self.dead = False
        self.context = contextvars.copy_context()
        self.context.run(_process.set, self)
        self._held: list[asyncio.Handle] = []

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task of this process."""
        return asyncio.get_running_loop().create_task(work, context=self.context.copy())

    def pause(self) -> None:
        """Run nothing until :meth:`resume`."""
        self.running = False

    def resume(self) -> None:
        """Go on, unless it was killed."""
        if not self.dead:
            self._go_on()

    def kill(self) -> None:
        """Run nothing ever again."""
        self.running, self.dead = False, True

    def bury(self) -> None:
        """The run has been judged: let the tasks of a process that was killed unwind."""
        self._go_on()

    def hold(self, handle: asyncio.Handle) -> None:
        """Keep a callback until the process runs."""
        self._held.append(handle)

    def _go_on(self) -> None:
        self.running = True
        held, self._held = self._held, []
        loop: Any = asyncio.get_running_loop()
        loop._ready.extend(held)


_process: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class _Handle(asyncio.Handle):
    _context: contextvars.Context

    def _run(self) -> None:
        process = self._context.get(_process)
        if process is None or process.running:
            super()._run()
        else:
            process.hold(self)


class _TimerHandle(asyncio.TimerHandle):
    _context: contextvars.Context

    def _run(self) -> None:
        process = self._context.get(_process)
        if process is None or process.running:
            super()._run()
        else:
            process.hold(self)


class NumberedTask(asyncio.Task[Any]):
    """A task that hashes by the order of its making, so that a set of tasks is iterated alike in every run."""

    number = 0
    process: Process | None = None

    def __hash__(self) -> int:
        return self.number


class VirtualLoop(asyncio.BaseEventLoop):
    """asyncio's own loop, with a selector that never blocks and a clock that jumps."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = self
        self._clock_resolution = 1e-9
        self._virtual_seconds = 1000.0
        self._same_instant = 0
        self._tasks_made = 0
        self.failures: list[dict[str, Any]] = []
        """What asyncio reports when nobody asks for an exception."""
        self.set_exception_handler(lambda _loop, context: self.failures.append(context))

    def time(self) -> float:
        """Virtual seconds."""
        return self._virtual_seconds

    def select(self, timeout: float | None) -> list[Any]:
        """As a selector's: nothing ever comes from outside, so the wait is skipped.

        Raises:
            Deadlock: there is nothing to wait for.
            Livelock: time does not pass.
        """
        if timeout is None:
            raise Deadlock
        if timeout:
            self._virtual_seconds += timeout
            self._same_instant = 0
        else:
            self._same_instant += 1
            if self._same_instant > STEPS_AT_ONE_INSTANT:
                self._same_instant = 0
                raise Livelock
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override]
        """As asyncio's, held back while the process of the context does not run."""
        handle = _Handle(callback, args, self, context)
        ready: Any = self._ready  # type: ignore[attr-defined]
        ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """As asyncio's, held back while the process of the context does not run."""
        timer: Any = _TimerHandle(when, callback, args, self, context)
        scheduled: Any = self._scheduled  # type: ignore[attr-defined]
        heapq.heappush(scheduled, timer)
        timer._scheduled = True
        return timer  # type: ignore[no-any-return]

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None, **_: Any) -> asyncio.Task[Any]:  # type: ignore[override]
        """As asyncio's, numbered."""
        self._tasks_made += 1
        # asyncio registers a task by its hash while it is being made: the class lends it its number for so long.
        NumberedTask.number = self._tasks_made
        task = NumberedTask(coro, loop=self, name=name or f"{self._tasks_made}", context=context)
        task.number = self._tasks_made
        task.process = context.get(_process) if context is not None else _process.get()
        return task

    def unfinished(self) -> list[NumberedTask]:
        """Tasks that have not ended, oldest first; not the one that asks."""
        tasks = [task for task in asyncio.all_tasks(self) if task is not asyncio.current_task(self)]
        return sorted((t for t in tasks if isinstance(t, NumberedTask)), key=lambda t: t.number)


class _Time:
    """What the product takes for the module ``time``."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def time(self) -> float:
        process = _process.get()
        return EPOCH_SECONDS + self._loop.time() + (process.skew_seconds if process else 0.0)

    def monotonic(self) -> float:
        return self._loop.time()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the simulation has no time.{name}")


class _Os:
    """What the product takes for the module ``os``: its randomness comes from the seed."""

    def __init__(self, rng: random.Random) -> None:
        self.urandom = rng.randbytes

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the simulation has no os.{name}")


SIMULATED: Final = ("a2a_events.model", "a2a_events.timeline", "a2a_events.log", "a2a_events.runtime")
"""Packages whose modules get virtual time and seeded chance."""


@contextmanager
def virtual(seed: str) -> Iterator[VirtualLoop]:
    """A loop with a clock of its own, and the product's modules bound to it and to the seed.

    Garbage is not collected meanwhile: what a collection finalizes depends on what ran before.
    """
    loop = VirtualLoop()
    rng = random.Random(f"product-{seed}")
    stand_ins: dict[ModuleType, object] = {time: _Time(loop), os: _Os(rng), random: rng}
    bound: list[tuple[ModuleType, str, ModuleType]] = []
    for name, module in sorted(sys.modules.items()):
        if not name.startswith(SIMULATED) or ".jetstream" in name:
            continue
        for attribute, value in list(vars(module).items()):
            if isinstance(value, ModuleType) and value in stand_ins:
                bound.append((module, attribute, value))
                setattr(module, attribute, stand_ins[value])
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield loop
    finally:
        for module, attribute, value in bound:
            setattr(module, attribute, value)
        loop.close()
        if collecting:
            gc.enable()
