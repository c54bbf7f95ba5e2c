"""Waiting for conditions instead of times, and ports that are free."""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import Callable
from typing import Any, Final

_LOOK_SECONDS: Final = 0.02


async def eventually(
    condition: Callable[[], Any], *, timeout_seconds: float = 15.0, what: str = "the condition"
) -> Any:
    """Wait until a condition is true; what it returned.

    Args:
        condition: a function, plain or async, looked at every 20 ms.
        timeout_seconds: a bound far above what is expected, so that a slow machine does not fail the test.
        what: for the error.

    Raises:
        TimeoutError: it did not become true in time.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_seconds
    while True:
        found = condition()
        value = await found if inspect.isawaitable(found) else found
        if value:
            return value
        if loop.time() > deadline:
            raise TimeoutError(f"{what} was not true within {timeout_seconds:g} seconds")
        await asyncio.sleep(_LOOK_SECONDS)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
