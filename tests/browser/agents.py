"""Agents that the page is shown with."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from a2a_events import Turn, agent
from a2a_events.timeline.decide import RERUN


@agent(name="echo")
async def echo(turn: Turn) -> None:
    """One artifact for each text of the message's data part, under that text's name."""
    texts: Any = cast("dict[str, Any]", turn.messages[-1].parts[0].data)["say"]
    for text in texts:
        await turn.artifact(text, name=text[:200])
    turn.fail(texts[0])


@agent(name="briefing")
async def briefing(turn: Turn) -> None:
    """Answers in pieces, as a model does."""
    await turn.working("Looking through the ledger")
    for word in ("Two ", "invoices ", "are ", "open: ", "1041 ", "since 12 March, ", "and ", "1057 ", "since 2 April."):
        await turn.chunk("answer", word)
        await asyncio.sleep(0.05)


@agent(name="unlucky", policy=RERUN)
async def unlucky(turn: Turn) -> None:
    """Gives up in each of its attempts, later each time."""
    await turn.working("Reading the report")
    for line in ("Revenue rose by four per cent. ", "Two of the five sites were closed for a week. ")[: turn.attempt]:
        await turn.chunk("summary", line)
        await asyncio.sleep(0.25)
    message = f"the report ends in the middle of a table (page {11 + turn.attempt})"
    raise ValueError(message)
