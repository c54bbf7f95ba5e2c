"""The loop of rehearsals jumps over time, waits for threads, and knows when nothing can happen."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from a2a_events.runtime.in_thread import ask, in_thread
from a2a_events.runtime.rehearsal_loop import RehearsalLoop


@pytest.fixture
def loop() -> Iterator[RehearsalLoop]:
    made = RehearsalLoop()
    yield made
    made.close()


def test_time_is_jumped_over(loop: RehearsalLoop) -> None:
    began = loop.time()
    loop.run_until_complete(asyncio.sleep(30 * 24 * 3600))
    assert loop.time() - began >= 30 * 24 * 3600


def test_timers_are_due_in_order(loop: RehearsalLoop) -> None:
    order: list[int] = []

    async def main() -> None:
        async def after(seconds: int) -> None:
            await asyncio.sleep(seconds)
            order.append(seconds)

        await asyncio.gather(after(300), after(100), after(200))

    loop.run_until_complete(main())
    assert [100, 200, 300] == order


def test_it_says_when_nothing_can_happen_any_more(loop: RehearsalLoop) -> None:
    async def main() -> str:
        nothing = asyncio.Event()
        loop.on_idle = nothing.set
        await nothing.wait()
        return "woken"

    assert loop.run_until_complete(main()) == "woken"


def test_it_jumps_no_further_than_it_may(loop: RehearsalLoop) -> None:
    async def main() -> float:
        began = loop.time()
        loop.horizon = began + 100
        enough = asyncio.Event()
        loop.on_idle = enough.set

        async def poll() -> None:
            while not enough.is_set():  # noqa: ASYNC110 -- what agents do
                await asyncio.sleep(30)

        polling = asyncio.ensure_future(poll())
        await enough.wait()
        waited = loop.time() - began
        polling.cancel()
        return waited

    assert 90 <= loop.run_until_complete(main()) < 100


def at_work(released: threading.Event) -> str:
    released.wait(20)
    return "done"


async def beside(work: asyncio.Future[str]) -> str:
    """The result of work in a thread, if no time was jumped over meanwhile."""
    return await asyncio.wait_for(work, 3600)


def test_time_is_not_jumped_over_while_a_thread_of_an_agent_works(loop: RehearsalLoop) -> None:
    released = threading.Event()
    threading.Timer(0.05, released.set).start()

    async def main() -> str:
        return await beside(asyncio.ensure_future(in_thread("t", at_work, released)))

    assert loop.run_until_complete(main()) == "done"


def test_nor_while_another_thread_works(loop: RehearsalLoop) -> None:
    released = threading.Event()
    threading.Timer(0.05, released.set).start()

    async def main() -> str:
        return await beside(asyncio.ensure_future(asyncio.to_thread(at_work, released)))

    assert loop.run_until_complete(main()) == "done"


def test_nor_while_a_connection_is_open(loop: RehearsalLoop) -> None:
    near, far = socket.socketpair()
    threading.Timer(0.05, far.sendall, (b"done\n",)).start()

    async def main() -> str:
        reader, writer = await asyncio.open_connection(sock=near)
        line = await asyncio.wait_for(reader.readline(), 3600)
        writer.close()
        await writer.wait_closed()
        return line.decode().strip()

    assert loop.run_until_complete(main()) == "done"
    far.close()


def test_a_thread_that_waits_for_the_loop_is_not_at_work(loop: RehearsalLoop) -> None:
    began = time.monotonic()

    async def main() -> None:
        running = asyncio.get_running_loop()
        await in_thread("t", lambda: ask(running, lambda: asyncio.sleep(3600)))

    loop.run_until_complete(main())
    assert time.monotonic() - began < 20
