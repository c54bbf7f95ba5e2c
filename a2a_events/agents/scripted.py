"""An agent that does what it is told, member by member: the load of benchmarks and the cast of fault runs.

A data part ``{"script": {…}}`` with any of these members, all optional:

- ``chunks``: artifact chunks to send (10); ``bytes``: size of each chunk's text (64); ``delayMs``: pause between (0);
  ``artifacts``: artifacts to spread them over (1);
- ``inputAt``, ``authAt``: ask for input or authorisation before this chunk; the next message goes on from there;
- ``fail``, ``reject``: end so after the chunks; ``message``: answer with a bare Message and no task;
- ``crashAt``: kill the worker process before this chunk;
- ``stamp``: put the sender's clock (nanoseconds) into each chunk.

Chunk ``i`` reads ``000007 xxxx…``: its number, then padding. A message without a script is answered with its own text.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from itertools import chain
from typing import Any, cast

import msgspec
from msgspec import Struct

from a2a_events.model import Message
from a2a_events.runtime.agent import agent
from a2a_events.runtime.turn import Turn


class Script(Struct, frozen=True, rename="camel"):
    """What to do. See the module."""

    chunks: int = 10
    bytes: int = 64
    delay_ms: float = 0
    artifacts: int = 1
    input_at: int | None = None
    auth_at: int | None = None
    fail: bool = False
    reject: bool = False
    crash_at: int | None = None
    message: bool = False
    stamp: bool = False


@agent(name="scripted", replies="either")
async def scripted(turn: Turn) -> None:
    """Does what a data part of the message says."""
    script = _script(turn)
    if script is None:
        await turn.artifact(turn.text or "(no text)", name="echo")
        return
    if script.message:
        turn.reply("done")
        return
    await turn.working()
    begun = _sent(turn)
    for number in range(begun, script.chunks):
        if number == script.crash_at:
            await turn.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        if number == script.input_at and not _asked(turn, begun, number):
            turn.require_input("go on?")
            return
        if number == script.auth_at and not _asked(turn, begun, number):
            turn.require_auth("please authorise")
            return
        share = max(1, -(-script.chunks // max(1, script.artifacts)))
        which, within = divmod(number, share)
        last = within == share - 1 or number == script.chunks - 1
        await turn.chunk(f"artifact-{which}", _text(script, number), last=last)
        if script.delay_ms and number < script.chunks - 1:
            await asyncio.sleep(script.delay_ms / 1000)
    if script.fail:
        turn.fail("failed as told")
    elif script.reject:
        turn.reject("rejected as told")


def _text(script: Script, number: int) -> str:
    text = f"{number:06d} {time.time_ns()} " if script.stamp else f"{number:06d} "
    return text + "x" * max(0, script.bytes - len(text))


def _script(turn: Turn) -> Script | None:
    """The script of this message, or of the task's first message that had one."""
    for message in chain(reversed(turn.messages), _earlier(turn)):
        for part in message.parts:
            data: Any = part.data
            script: Any = cast("dict[str, Any]", data).get("script") if isinstance(data, dict) else None
            if isinstance(script, dict):
                return msgspec.convert(script, Script, strict=False)  # protobuf peers send 3 as 3.0
    return None


def _earlier(turn: Turn) -> Iterator[Message]:
    yield from turn.task.history


def _sent(turn: Turn) -> int:
    """Chunks that earlier turns of the task have sent."""
    return sum(len(artifact.parts) for artifact in turn.task.artifacts)


def _asked(turn: Turn, begun: int, number: int) -> bool:
    """Whether this is the turn that answers the question asked before this chunk."""
    return number == begun and any(m.role.value == "ROLE_AGENT" for m in turn.task.history)
