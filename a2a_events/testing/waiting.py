"""Waiting for conditions instead of times, and ports that are free."""

from __future__ import annotations

import asyncio
import inspect
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

_LOOK_SECONDS: Final = 0.02
_PORTS: Final = range(16_000, 32_000)
_TRIES: Final = 1_000


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


def free_port(count: int = 1) -> int:
    """A port of the loopback interface that nobody listens on at this moment.

    Of those that no system gives to outgoing connections: else one may have taken it before somebody listens.

    Args:
        count: so many in a row are free, of which the first is returned.

    Raises:
        OSError: none was found.
    """
    for _ in range(_TRIES):
        port = secrets.choice(_PORTS)
        with suppress(OSError):
            for candidate in range(port, port + count):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", candidate))
            return port
    raise OSError("no port is free")
