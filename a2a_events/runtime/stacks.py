"""Where an agent is that does not come back: its stack, for the worker's log. Lines of code, never values."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from types import FrameType

from a2a_events.runtime.in_thread import thread_name


def of_thread(ident: int | None) -> str:
    """What a thread is doing at this moment; empty if it has ended.

    Args:
        ident: ``Thread.ident``.
    """
    frame = sys._current_frames().get(ident or 0)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] -- documented
    return "" if frame is None else _text([frame], walk=True)


def of_task(task: asyncio.Task[None], task_id: str) -> str:
    """What the task of an agent waits for, and what the threads do that work for the same A2A task.

    Args:
        task: of the agent.
        task_id: of the A2A task.
    """
    threads = [thread.ident for thread in threading.enumerate() if thread.name == thread_name(task_id)]
    return "\n".join([_text(task.get_stack(), walk=False), *map(of_thread, threads)])


def _text(frames: list[FrameType], *, walk: bool) -> str:
    lines = (
        traceback.format_stack(frames[-1]) if walk else [line for f in frames for line in traceback.format_stack(f, 1)]
    )
    return "".join(lines).rstrip()
