"""Running a service: uvloop where it is, and a stop on the usual signals."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine
from typing import Any


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a service's coroutine to its end."""
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
    """Call back once at the first SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
