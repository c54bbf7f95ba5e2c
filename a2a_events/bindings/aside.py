"""Work on something large, beside which others are served."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from a2a_events import limits

P = ParamSpec("P")
T = TypeVar("T")


async def aside(size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What some work gives, which is done in a thread if it is on more than ``limits.TRANSLATED_BYTES``.

    Args:
        size: bytes of what it is done on.
        work: touches nothing that the event loop does; context variables are as here.
        args: its arguments.
        kwargs: its arguments by name.

    Raises:
        Exception: whatever the work raises.
    """
    if size > limits.TRANSLATED_BYTES:
        return await asyncio.to_thread(work, *args, **kwargs)
    return work(*args, **kwargs)
