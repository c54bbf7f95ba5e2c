"""Functions in threads: results, context, and that nobody lets go of one before it has returned."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

import pytest

from a2a_events.runtime.in_thread import ask, in_thread

who: ContextVar[str] = ContextVar("who", default="nobody")


class Blocking:
    """A function that blocks until its test lets it go."""

    def __init__(self) -> None:
        self.begun, self.proceed = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.proceed.wait(20)
        return "done"

    async def has_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, 20)


async def test_arguments_go_in_and_the_result_comes_out_of_another_thread() -> None:
    def work(one: int, *, two: int) -> tuple[int, int]:
        return one + two, threading.get_ident()

    result, ident = await in_thread("t", work, 1, two=2)
    assert result == 3
    assert ident != threading.get_ident()


async def test_context_variables_are_kept_and_not_changed() -> None:
    def work() -> str:
        seen = who.get()
        who.set("thread")
        return seen

    who.set("agent")
    assert await in_thread("t", work) == "agent"
    assert who.get() == "agent"


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyError("k")])
async def test_what_the_function_raises_is_raised(error: BaseException) -> None:
    def work() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        await in_thread("t", work)
    assert raised.value is error


async def test_even_stop_iteration_ends_the_wait() -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        await in_thread("t", lambda: next(iter([])))


async def test_a_cancel_waits_for_the_function_and_its_result_is_dropped() -> None:
    blocking = Blocking()
    task = asyncio.create_task(in_thread("t", blocking))
    await blocking.has_begun()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    blocking.proceed.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_timeout_is_a_timeout_once_the_function_has_returned() -> None:
    blocking = Blocking()

    async def limited() -> None:
        async with asyncio.timeout(0):
            await in_thread("t", blocking)

    task = asyncio.create_task(limited())
    await blocking.has_begun()
    assert not task.done()
    blocking.proceed.set()
    with pytest.raises(TimeoutError):
        await task


async def test_a_canceled_function_hears_of_it_when_it_next_asks() -> None:
    loop, blocking = asyncio.get_running_loop(), Blocking()
    asked = 0

    async def report() -> None:
        nonlocal asked
        asked += 1

    heard: list[BaseException] = []

    def work() -> None:
        ask(loop, report)
        blocking()
        for _ in range(2):
            try:
                ask(loop, report)
            except asyncio.CancelledError as error:
                heard.append(error)

    task = asyncio.create_task(in_thread("t", work))
    await blocking.has_begun()
    task.cancel()
    await asyncio.sleep(0)
    blocking.proceed.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(heard) == 2
    assert asked == 1


async def test_a_canceled_function_that_waits_for_an_answer_hears_of_it_at_once() -> None:
    loop, waiting, left = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    async def never() -> None:
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    task = asyncio.create_task(in_thread("t", ask, loop, never))
    async with asyncio.timeout(20):
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await left.wait()


async def test_one_canceled_function_does_not_disturb_another() -> None:
    loop, one, two = asyncio.get_running_loop(), Blocking(), Blocking()

    async def answer() -> int:
        return 42

    def asks(blocking: Blocking) -> int:
        blocking()
        return ask(loop, answer)

    canceled, kept = (asyncio.create_task(in_thread("t", asks, each)) for each in (one, two))
    await one.has_begun()
    await two.has_begun()
    canceled.cancel()
    await asyncio.sleep(0)
    one.proceed.set()
    two.proceed.set()
    with pytest.raises(asyncio.CancelledError):
        await canceled
    assert await kept == 42


async def test_asking_in_the_loops_own_thread_is_an_error_and_no_deadlock() -> None:
    async def nothing() -> None:
        pass

    with pytest.raises(RuntimeError, match="call it in a thread"):
        ask(asyncio.get_running_loop(), nothing)


def test_a_thread_that_outlives_its_loop_is_told_so_and_ends() -> None:
    blocking = Blocking()
    told: list[str] = []
    ended = threading.Event()

    async def nothing() -> None:
        pass

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def work() -> None:
            blocking()
            try:
                ask(loop, nothing)
            except RuntimeError as error:
                told.append(str(error))
            ended.set()

        asyncio.get_running_loop().create_task(in_thread("t", work)).add_done_callback(lambda _: None)
        await blocking.has_begun()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    pending = asyncio.all_tasks(loop)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    blocking.proceed.set()
    assert ended.wait(20)
    assert told == ["the worker has ended"]
    assert len(pending) == 1
