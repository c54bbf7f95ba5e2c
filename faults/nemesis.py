"""Which fault comes when: one after the other as named, or at random from all there are."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Sequence
from typing import Final

import structlog

from faults.scenarios import SCENARIOS
from faults.site import Site, Skipped

BETWEEN_SECONDS: Final = (3.0, 10.0)
"""From the beginning of one fault to that of the next (F90)."""
AT_ONCE: Final = 3
ATTEMPTS: Final = 3
"""How often a fault is inflicted that has to bite: chance decides whether one meets what it is meant for."""
LONGEST_SECONDS: Final = 240.0
"""A fault that takes longer than this is late."""

logger = structlog.get_logger(__name__)


async def inflict(site: Site, name: str) -> bool:
    """One fault, from breaking to healed; whether there was one.

    A cluster under load that is not well in time is late, and told as that; once the load is over it has to be well.

    Raises:
        Exception: it could not be healed.
    """
    began = time.monotonic()
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            await SCENARIOS[name].act(site)
    except Skipped as reason:
        site.skipped[name] = str(reason)
        return False
    except TimeoutError as error:
        site.late.append(f"{name}: {error}")
        logger.warning("late", name=name, error=str(error))
        return False
    logger.info("fault", name=name, seconds=round(time.monotonic() - began, 1))
    return True


async def schedule(site: Site, names: Sequence[str], stop: asyncio.Event, *, pause_seconds: float, times: int) -> None:
    """Faults by name, one after the other, so many times or until ``stop`` is set.

    Args:
        site: to break.
        names: in this order.
        stop: the load is done, or the time is over.
        pause_seconds: between two.
        times: to go through them, and a fault that did not bite again at once; 0: until stopped.
    """
    for _ in range(times) if times else itertools.count():
        for name in names:
            bitten = site.bitten.total()
            for _ in range(ATTEMPTS if times else 1):
                await _wait(stop, pause_seconds)
                if stop.is_set():
                    return
                if not await inflict(site, name) or site.bitten.total() > bitten:
                    break


async def swizzle(site: Site, names: Sequence[str], stop: asyncio.Event, *, pace: float = 1.0) -> None:
    """Faults at random, up to three at once, each kind once before any comes again (F90).

    Args:
        site: to break.
        names: to choose from.
        stop: the load is done, or the time is over.
        pace: times as long between two.
    """
    bag: list[str] = []
    under_way: set[asyncio.Task[bool]] = set()
    try:
        while not stop.is_set():
            await _wait(stop, site.chance.uniform(*BETWEEN_SECONDS) * pace)
            for task in [task for task in under_way if task.done()]:
                under_way.discard(task)
                task.result()
            if stop.is_set():
                break
            if len(under_way) >= AT_ONCE:
                continue
            if not bag:
                bag = site.chance.sample(names, len(names))
            under_way.add(asyncio.get_running_loop().create_task(inflict(site, bag.pop())))
    finally:
        done = await asyncio.gather(*under_way, return_exceptions=True)
        if sys.exc_info()[0] is None:
            for result in done:
                if isinstance(result, BaseException):
                    raise result


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass  # nobody stopped us
