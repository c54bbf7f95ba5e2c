"""The watchdog of the event loop: says who blocks it and where, acts when it takes too long, and only then."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import MutableMapping
from typing import Any

import pytest
import structlog

from a2a_events.services import loop_watchdog
from a2a_events.services.loop_watchdog import LoopWatchdog


class Lines:
    """What is logged, and a way to wait for it in a blocked loop."""

    def __init__(self) -> None:
        self.lines: list[MutableMapping[str, Any]] = []
        self._changed = threading.Condition()

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        with self._changed:
            self.lines.append(dict(event))
            self._changed.notify_all()
        raise structlog.DropEvent

    def block_until(self, event: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: any(line["event"] == event for line in self.lines), 20)


@pytest.fixture
def lines(_quiet: None) -> Lines:
    made = Lines()
    structlog.configure(processors=[made], cache_logger_on_first_use=False)
    return made


async def _in_a_task(name: str, block: Any, *args: Any) -> None:
    async def agent() -> None:
        block(*args)

    await asyncio.create_task(agent(), name=name)


async def test_code_that_blocks_is_named_with_its_stack(lines: Lines) -> None:
    with LoopWatchdog(None, bound_seconds=60, warning_seconds=0.1):
        await _in_a_task("agent greet, task t1", lines.block_until, "event loop is blocked")
        await asyncio.to_thread(lines.block_until, "event loop goes on")

    blocked, over = lines.lines[:2]  # a busy machine may add to them
    assert blocked["by"] == "agent greet, task t1"
    assert "in agent" in blocked["stack"]
    assert "block_until" in blocked["stack"]
    assert over["blocked_seconds"] >= 0.1


async def test_what_blocks_too_long_is_acted_upon_once(lines: Lines) -> None:
    acted: list[str] = []
    again = threading.Event()

    def act(reason: str) -> None:
        acted.append(reason)
        again.set()

    with LoopWatchdog(act, bound_seconds=0.2, warning_seconds=0.1):
        await _in_a_task("agent greet, task t1", again.wait, 20)
        await asyncio.to_thread(lines.block_until, "event loop goes on")

    (reason,) = acted
    assert reason.startswith("agent greet, task t1 blocked the event loop for ")


async def test_a_loop_that_turns_is_left_alone(lines: Lines) -> None:
    acted: list[str] = []
    with LoopWatchdog(acted.append, bound_seconds=2.0):
        for _ in range(20):
            await asyncio.sleep(0.005)
    assert acted == []
    assert lines.lines == []


async def test_time_in_which_the_process_stood_still_is_nobodys_fault(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after SIGCONT: the clock has jumped by an hour between two looks."""
    jumps = iter(range(10_000))

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return next(jumps) * 3600.0

    acted: list[str] = []
    monkeypatch.setattr(loop_watchdog, "time", Clock)
    watchdog = LoopWatchdog(acted.append, bound_seconds=1000, warning_seconds=400)
    watchdog._look_seconds = 0.001  # many looks, each of which seems to take an hour
    with watchdog:
        threading.Event().wait(0.2)
    assert acted == []
    assert lines.lines == []


async def test_a_watchdog_ends_with_its_loop_or_when_it_is_left() -> None:
    with LoopWatchdog(None, bound_seconds=0.1) as watchdog:
        assert watchdog._thread.is_alive()
    await asyncio.to_thread(watchdog._thread.join, 20)
    assert not watchdog._thread.is_alive()
