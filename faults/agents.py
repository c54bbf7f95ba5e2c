"""Agents that do what a message says, for runs that break things: each chunk can be told from every other.

The first data part of a task's newest message that has one, ``{"plan": {…}}``, says what to do (:class:`Plan`). Chunk
``i`` reads ``<task> <i> <attempt> <random> <canary>`` and padding. ``alpha``, ``beta`` and ``gamma`` are three tenants,
whose canaries must never meet; they differ in what happens when a worker dies: ``fail``, ``rerun`` and ``resume``.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from itertools import chain
from typing import Any, Final, cast

import msgspec
from msgspec import Struct

from a2a_events.model import Message
from a2a_events.runtime.agent import agent
from a2a_events.runtime.turn import Turn
from a2a_events.timeline.decide import RERUN, RESUME

ATTEMPTS: Final = 5
GRACE_SECONDS: Final = 2.0
"""What a canceled agent gets here: runs are short."""


class Plan(Struct, frozen=True):
    """What one task is to do."""

    steps: int = 7
    chunk: int = 64
    sleep_ms: float = 20
    canary: str = ""
    fail: bool = False
    input_at: int | None = None
    """Ask for input before this chunk; the answer goes on from there."""
    crash_at: int | None = None
    """Kill the worker process before this chunk, at the first attempt."""
    poison: bool = False
    """Kill it at every attempt."""
    block_at: int | None = None
    """Hold up the whole worker before this chunk, at the first attempt."""
    block_seconds: float = 0
    deaf: bool = False
    """Ignore being canceled."""
    cooperative: bool = False
    """Look for a cancel, and stop by itself."""


def plan_of(turn: Turn) -> Plan:
    """The plan of the newest message that has one."""
    messages: list[Message] = [*reversed(turn.messages), *reversed(turn.task.history)]
    for part in chain.from_iterable(message.parts for message in messages):
        data: Any = part.data
        found: Any = cast("dict[str, Any]", data).get("plan") if isinstance(data, dict) else None
        if isinstance(found, dict):
            return msgspec.convert(found, Plan, strict=False)
    return Plan()


async def run(turn: Turn, *, durable: bool = False) -> None:
    """Do what the plan says."""
    plan = plan_of(turn)
    await turn.working()
    begun = sum(len(artifact.parts) for artifact in turn.task.artifacts)
    asked = any(message.role.value == "ROLE_AGENT" for message in turn.task.history)
    for number in range(begun, plan.steps):
        if number == plan.crash_at and (plan.poison or turn.attempt == 1):
            await turn.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        if number == plan.block_at and turn.attempt == 1:
            await turn.flush()
            time.sleep(plan.block_seconds)
        if number == plan.input_at and not (asked and number == begun):
            turn.require_input("go on?")
            return
        if plan.cooperative and turn.canceled:
            return
        mark = await turn.step(f"mark-{number}", _mark) if durable and number % 3 == 0 else _mark()
        said = f"{turn.task_id} {number} {turn.attempt} {mark} {plan.canary} "
        last = number == plan.steps - 1
        await turn.chunk(f"artifact-{number % 2}", said.ljust(plan.chunk, "x"), last=last)
        if not last:
            await _rest(plan.sleep_ms / 1000, deaf=plan.deaf)
    if plan.fail:
        turn.fail("failed as told")


def _mark() -> str:
    return f"{random.getrandbits(48):012x}"


async def _rest(seconds: float, *, deaf: bool) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            if not deaf:
                raise


@agent(name="alpha", tenant="alpha", cancel_grace_seconds=GRACE_SECONDS)
async def alpha(turn: Turn) -> None:
    """Does what its message says, for one tenant."""
    await run(turn)


@agent(name="beta", tenant="beta", cancel_grace_seconds=GRACE_SECONDS, policy=RERUN, attempts=ATTEMPTS)
async def beta(turn: Turn) -> None:
    """Does what its message says, for another, and again from the beginning when its worker dies."""
    await run(turn)


@agent(name="gamma", tenant="gamma", cancel_grace_seconds=GRACE_SECONDS, policy=RESUME, attempts=ATTEMPTS)
async def gamma(turn: Turn) -> None:
    """Does what its message says, for a third, in steps that are done once."""
    await run(turn, durable=True)
