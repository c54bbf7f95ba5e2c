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


@agent(name="dictation")
async def dictation(turn: Turn) -> None:
    """Writes down each word of each message by itself, until it is told to stop."""
    await turn.working("Please begin")
    message = turn.message
    while (text := str(message.parts[0].text)) != "stop":
        for word in text.split():
            await turn.chunk("dictated", f"{word} ")
        await turn.flush()
        message = await turn.receive()


@agent(name="briefing")
async def briefing(turn: Turn) -> None:
    """Answers in pieces, as a model does."""
    await turn.working("Looking through the ledger")
    for word in ("Two ", "invoices ", "are ", "open: ", "1041 ", "since 12 March, ", "and ", "1057 ", "since 2 April."):
        await turn.chunk("answer", word)
        await asyncio.sleep(0.05)


@agent(name="forecast")
async def forecast(turn: Turn) -> None:
    """Writes for as long as somebody looks at it."""
    await turn.working("Running the model")
    for hour in range(1, 1000):
        await turn.chunk("forecast", f"Hour {hour}: wind {hour * 7 % 11 + 2} m/s, {hour * 5 % 9 + 8} °C. ")
        await asyncio.sleep(0.03 + 0.02 * (hour % 5))


@agent(name="ledger")
async def ledger(turn: Turn) -> None:
    """Ten thousand lines."""
    await turn.working()
    for line in range(1, 10_001):
        await turn.chunk("ledger", f"{line:>6}  {line * 7919 % 100_000 / 100:>9.2f} EUR\n")


@agent(name="unlucky", policy=RERUN)
async def unlucky(turn: Turn) -> None:
    """Gives up in each of its attempts, later each time."""
    await turn.working("Reading the report")
    for line in ("Revenue rose by four per cent. ", "Two of the five sites were closed for a week. ")[: turn.attempt]:
        await turn.chunk("summary", line)
        await asyncio.sleep(0.25)
    message = f"the report ends in the middle of a table (page {11 + turn.attempt})"
    raise ValueError(message)
