"""Running a service: uvloop where it is, and a stop on the usual signals."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from a2a_events import limits

logger = structlog.get_logger(__name__)


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a service's coroutine to its end, and no longer: what it leaves behind is not waited for."""
    work = _to_the_end(work)
    # What was imported stays: collections need not walk it again, and a busy loop's garbage is mostly not cyclic.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    try:
        import uvloop  # noqa: PLC0415 -- optional
    except ImportError:  # not on Windows
        asyncio.run(work)
    else:
        uvloop.run(work)


def on_stop(stop: Callable[[], None]) -> None:
    """Call back at each SIGTERM or SIGINT."""
    on_signals(lambda _: stop())


def on_signals(asked: Callable[[signal.Signals], None]) -> None:
    """Call back at each SIGTERM or SIGINT, with which it was."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked, number)


async def set_within(event: asyncio.Event, timeout_seconds: float) -> bool:
    """Wait until an event is set, but no longer than this; whether it is."""
    try:
        async with asyncio.timeout(timeout_seconds):
            await event.wait()
    except TimeoutError:
        pass
    return event.is_set()


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Do the work; then end the process at once, if something is left in it that does not end.

    ``asyncio.run`` would wait for a coroutine that ignores its cancellation for ever, and for a thread five minutes.
    """
    failure: Exception | None = None
    try:
        await work
    except Exception as error:  # noqa: BLE001 -- raised below
        failure = error
    left = await _left_behind()
    if left:
        logger.error("process ends with work left behind", left=left, error=str(failure) if failure else None)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1 if failure else 0)
    if failure is not None:
        raise failure


async def _left_behind() -> list[str]:
    """Names of tasks, and of threads that they began with ``asyncio.to_thread``, that do not end when they are told."""
    loop = asyncio.get_running_loop()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    ending = loop.create_task(loop.shutdown_default_executor(), name="threads of asyncio.to_thread")
    _, left = await asyncio.wait([*tasks, ending], timeout=limits.LEFT_BEHIND_SECONDS)
    return sorted(task.get_name() for task in left)
