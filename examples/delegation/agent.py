"""An agent that has another A2A agent do a part of its work: a task in a task, in one trace."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from a2a_events import Task, Turn, agent
from a2a_events.client import Client, accumulate

WORDS = {"good": "guten", "morning": "Morgen", "world": "Welt"}


async def translate(text: str) -> AsyncIterator[str]:
    """Translates word by word, and takes its time."""
    for word in text.split():
        await asyncio.sleep(0.5)
        yield WORDS.get(word, word) + " "


@agent(name="editor", policy="rerun")
async def editor(turn: Turn) -> None:
    """Has a text translated by the agent that TRANSLATOR points to, and prints it in capitals."""
    task = None
    # The trace goes on in the other agent's task. If this worker dies the turn runs anew on another one, and sends the
    # same message with the same key: that is no second task, but the first one's stream.
    async with (
        Client(os.environ["TRANSLATOR"], headers=turn.trace_headers) as client,
        client.stream(turn.text, idempotency_key=turn.idempotency_key("translate")) as updates,
    ):
        try:
            async for update in updates:
                task = accumulate(task, update.response)
                await turn.working(f"{len(text_of(task).split())} words are translated")
        except asyncio.CancelledError:
            if turn.canceled and updates.task_id:  # whoever does not want this does not want that
                await client.cancel(updates.task_id)
            raise
    await turn.artifact(text_of(task).upper())


def text_of(task: Task | None) -> str:
    """What a task's artifacts say."""
    parts = [part for artifact in task.artifacts for part in artifact.parts] if task else []
    return "".join(str(part.text) for part in parts).strip()
