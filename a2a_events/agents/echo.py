"""The smallest agent."""

from __future__ import annotations

from a2a_events.runtime.agent import agent
from a2a_events.runtime.turn import Turn


@agent(name="echo")
async def echo(turn: Turn) -> None:
    """Says what it was told."""
    await turn.artifact(turn.text or "(no text)", name="echo")
