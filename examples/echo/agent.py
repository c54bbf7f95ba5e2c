"""The smallest agent."""

from __future__ import annotations

from a2a_events import Turn, agent


@agent(name="echo")
async def echo(turn: Turn) -> None:
    """Says what it was told."""
    await turn.artifact(turn.text)
