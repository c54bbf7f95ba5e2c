"""Blocking work of an agent: a function in a thread of its own, waited for to its end.

A thread cannot be stopped from outside. So a cancel does not let go of it: whoever waits goes on waiting, the function
hears of the cancel at its next report (``thread_turn``), and the worker sees that the agent has not stopped.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError as FutureCanceled
from concurrent.futures import Future
from contextvars import ContextVar, copy_context
from typing import Any, ClassVar, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class _Call:
    """One function in its thread."""

    running: ClassVar[set[_Call]] = set()
    """Those that somebody waits for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._lock = threading.Lock()
        self._asking: set[Future[Any]] = set()
        self._interrupted = False

    def ask(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine in the loop and wait for it, unless the function is to stop."""
        with self._lock:
            if self._interrupted:
                work.close()
                raise asyncio.CancelledError
            asking = asyncio.run_coroutine_threadsafe(work, loop)
            self._asking.add(asking)
        try:
            return asking.result()
        except FutureCanceled:
            raise asyncio.CancelledError from None
        finally:
            self._asking.discard(asking)

    @property
    def waits(self) -> bool:
        """Whether the function waits for the loop, as far as the loop's own thread can tell."""
        with self._lock:
            asking = list(self._asking)
        return any(not one.done() for one in asking)

    def interrupt(self) -> None:
        """What the function asks for from now on, and what it waits for right now, raises ``CancelledError``."""
        with self._lock:
            self._interrupted = True
            asking = list(self._asking)
        for one in asking:
            one.cancel()


_call: ContextVar[_Call | None] = ContextVar("a2a_events_call_in_thread", default=None)


def thread_name(task_id: str) -> str:
    """The name of the threads that work for a task, as stacks and debuggers show them."""
    return f"turn of {task_id}"


def busy(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether a function that the loop waits for is at work in its thread, and does not itself wait for the loop."""
    return any(call.loop is loop and not call.waits for call in list(_Call.running))


async def in_thread(task_id: str, work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a function in a new thread, with this task's context variables, and wait until it has returned.

    Args:
        task_id: of the A2A task that the thread works for.
        work: what to run.
        args: its arguments.
        kwargs: its keyword arguments.

    Returns:
        What it returned.

    Raises:
        CancelledError: this was canceled, and the function has returned since.
        BaseException: what the function raised.
    """
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    outcome: Future[R] = Future()
    call = _Call(loop)
    context = copy_context()
    context.run(_call.set, call)

    def body() -> None:
        try:
            outcome.set_result(context.run(work, *args, **kwargs))
        except BaseException as error:  # noqa: BLE001 -- raised again where it is waited for
            outcome.set_exception(error)
        try:
            loop.call_soon_threadsafe(_finish, over)
        except RuntimeError:
            pass  # the loop has ended, and with it whoever waited

    # A daemon: what does not return must not keep the process from ending.
    threading.Thread(target=body, name=thread_name(task_id), daemon=True).start()
    canceled: asyncio.CancelledError | None = None
    _Call.running.add(call)
    try:
        while not over.done():
            try:
                await asyncio.wait([over])
            except asyncio.CancelledError as error:
                canceled = error
                call.interrupt()
    finally:
        _Call.running.discard(call)
    if canceled is not None:
        raise canceled
    return outcome.result()


def ask(loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, R]]) -> R:
    """From a thread: run a coroutine in the loop and wait for it.

    Args:
        loop: that runs in another thread.
        work: makes the coroutine.

    Raises:
        CancelledError: this thread was begun by :func:`in_thread`, and that was canceled.
        RuntimeError: this is the loop's own thread, which would wait for itself; or the loop has ended.
        BaseException: what the coroutine raised.
    """
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    if running is loop:
        raise RuntimeError("this blocks, and would wait for itself here: call it in a thread, as turn.in_thread does")
    if loop.is_closed():
        raise RuntimeError("the worker has ended")
    return (_call.get() or _Call(loop)).ask(loop, work())


def _finish(over: asyncio.Future[None]) -> None:
    over.set_result(None)
