"""Waiting for a log that cannot answer yet, as while the servers of a cluster elect their leaders."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from a2a_events import limits
from a2a_events.errors import NotProvisioned, Unavailable, Uncertain

T = TypeVar("T")

logger = structlog.get_logger(__name__)


async def patiently(
    ask: Callable[[], Awaitable[T]], what: str, *, patience_seconds: float = limits.START_PATIENCE_SECONDS
) -> T:
    """Ask until there is an answer. Definite errors are raised at once.

    Args:
        ask: a call of the log that may be repeated whatever became of it.
        what: is waited for, for the line that is logged.
        patience_seconds: after which no further attempt is made.

    Raises:
        LogError: a definite one, or the last one when the patience is over.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_seconds
    while True:
        try:
            return await ask()
        except NotProvisioned:
            raise
        except (Unavailable, Uncertain) as error:
            if loop.time() + limits.LOG_PAUSE_SECONDS >= deadline:
                raise
            logger.warning("waiting for the log", what=what, error=str(error))
            await asyncio.sleep(limits.LOG_PAUSE_SECONDS)
