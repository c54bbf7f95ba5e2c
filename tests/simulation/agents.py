"""Agents that do what the message says, word by word: ``chunk wait:0.5 receive:2 status complete``."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Final

import msgspec

from a2a_events.runtime.agent import Agent
from a2a_events.runtime.turn import Turn
from tests.simulation.history import History, Run

STEPS: Final = (
    *("chunk", "chunk", "burst", "artifact", "status", "flush", "look"),
    *("wait", "wait", "receive", "receive", "receive", "step", "sleep", "mind"),
)
TIMED: Final = {"wait": 2.5, "receive": 4.0, "sleep": 2.0, "mind": 4.0}
LONG_SLEEP_SECONDS: Final = 15.0
"""What only agents may sleep whose turns are run again."""
ENDINGS: Final = (
    ("complete",) * 6 + ("return",) * 3 + ("ask",) * 4 + ("auth", "fail", "raise", "reject", "hang", "reply", "reply")
)
DEAF_SECONDS: Final = 3.0


class AgentFault(Exception):
    """What an agent raises on purpose."""


def plan(rng: random.Random, *, sleeps_long: bool) -> str:
    """What a message asks of its agent."""
    steps = rng.choices(STEPS, k=rng.randrange(7))
    longest = {**TIMED, "sleep": LONG_SLEEP_SECONDS} if sleeps_long else TIMED
    words = [f"{step}:{rng.uniform(0.01, longest[step]):.3f}" if step in longest else step for step in steps]
    if rng.random() < 0.12:
        words.insert(0, "deaf")
    return " ".join([*words, rng.choice(ENDINGS)])


class Actors:
    """The agents' code; what they do is recorded, as they see it themselves."""

    def __init__(self, history: History) -> None:
        self._history = history

    def agents(self, worker: str, declared: Sequence[Agent]) -> list[Agent]:
        """The agents as one worker serves them."""

        async def act(turn: Turn) -> None:
            await self._act(worker, turn)

        return [msgspec.structs.replace(agent, handler=act) for agent in declared]

    async def _act(self, worker: str, turn: Turn) -> None:
        history = self._history
        run = Run(len(history.runs) + 1, turn.task_id, worker, turn.attempt)
        history.runs.append(run)
        given = [message.message_id for message in turn.messages]
        history.given.update((worker, message_id) for message_id in given)
        words = turn.text.split()
        history.note(worker, f"agent run {run.number} of {turn.task_id[-6:]} begins, given {given}: {words}")
        deaf = "deaf" in words
        try:
            await self._say(worker, turn, run, words)
            run.returned = True
        except asyncio.CancelledError:
            run.wanted = "canceled"
            if deaf:
                history.counts["cancel ignored"] += 1
                await asyncio.sleep(DEAF_SECONDS)
                return
            raise
        finally:
            history.note(worker, f"agent run {run.number} ends: {run.wanted}")

    async def _say(self, worker: str, turn: Turn, run: Run, words: list[str]) -> None:
        for word in words:
            step, _, amount = word.partition(":")
            match step:
                case "chunk":
                    await self._chunk(turn, run)
                case "burst":
                    for _ in range(6):
                        await self._chunk(turn, run)
                case "artifact":
                    await turn.artifact(f"whole {run.number}")
                case "status":
                    await turn.working(f"run {run.number}")
                case "wait":
                    await asyncio.sleep(float(amount))
                case "flush":
                    await turn.flush()
                case "look" | "mind":
                    if await _asked_to_stop(turn, float(amount or 0)):
                        run.wanted = "complete"
                        turn.complete("stopped early")
                        return
                case "receive":
                    try:
                        async with asyncio.timeout(float(amount)):
                            message = await turn.receive()
                    except TimeoutError:
                        continue
                    self._history.given.add((worker, message.message_id))
                    self._history.counts["received in a turn"] += 1
                case "step":
                    token = await turn.step("step", lambda: run.number)
                    self._history.steps.append((turn.task_id, token))
                    self._history.counts["step not done again"] += token != run.number
                case "sleep":
                    await turn.sleep(float(amount))
                case "hang":
                    run.wanted = "hang"
                    await asyncio.sleep(1000)
                case "deaf":
                    pass
                case _:
                    run.wanted = step
                    _end(turn, step)

    async def _chunk(self, turn: Turn, run: Run) -> None:
        run.said += 1
        await turn.chunk("words", f"{run.number}.{run.said}")


async def _asked_to_stop(turn: Turn, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await turn.wait_canceled()
    except TimeoutError:
        return turn.canceled
    return True


def _end(turn: Turn, how: str) -> None:
    match how:
        case "complete":
            turn.complete("done")
        case "fail":
            turn.fail("cannot")
        case "reject":
            turn.reject("will not")
        case "ask":
            turn.require_input("which?")
        case "auth":
            turn.require_auth("sign in")
        case "reply":
            turn.reply("that is all")
        case "raise":
            raise AgentFault
        case "return":
            pass
        case _:
            raise AssertionError(f"no such ending: {how}")
