"""A job in steps, of which none is done again when its worker dies."""

from __future__ import annotations

import asyncio
from pathlib import Path

from a2a_events import Turn, agent

STEPS = ("fetch", "clean", "train", "check", "publish")


async def work(step: str, ledger: str) -> str:
    """Stands for what takes long and costs money; the ledger shows how often it was done."""
    await asyncio.sleep(1)
    with Path(ledger).open("a") as lines:  # noqa: ASYNC230 -- a line
        lines.write(f"{step}\n")
    return f"{step} is done"


@agent(name="job", policy="resume")
async def job(turn: Turn) -> None:
    """Does one step after the other."""
    reported = sum(len(artifact.parts) for artifact in turn.task.artifacts)
    for number, step in enumerate(STEPS):
        result = await turn.step(step, work, step, turn.data["ledger"])
        if number >= reported:  # else an earlier attempt has said so
            await turn.chunk("progress", result, last=step == STEPS[-1])
