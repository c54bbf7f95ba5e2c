"""Agents that attack those who run, carry and read them: what the worker of ``tests/hostile`` serves."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from a2a_events import Turn, agent
from a2a_events.model import Artifact, Part, TaskState
from a2a_events.timeline.events import NOTHING

TEXTS = {
    "a frame": "x\n\nevent: error\ndata: {}\n\nid: 9\ndata: y",
    "CR LF": "x\r\n\r\nevent: done\r\ndata: {}\r\n\r\n",
    "CR": "x\rdata: y\r\rz",
    "separators": "x\u2028data: y\u2029z\x85data: w\x0b\x0c\x1c\x1d\x1e",
    "NUL": "x\x00y",
    "escapes": "\x1b[2J\x1b]0;owned\x07\x1b[8m \x9b31m \x9d0;owned\x9c",
    "direction": "\u202eevil\u2066 \u200f",
    "a line of a log": '"}\n{"event":"audit","action":"forged"}\n',
    "markup": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "a record": '{"kind":"x"}\n\x00{"e":"n"}',
    "the end of Unicode": "\uffff\ufeff\U0010ffff\ufdd0",
}
LONE = "lone \ud800 surrogate"
SECRET = "sk-" + "4711" * 8
"""What no client may see of an exception."""

log = structlog.get_logger("attackers")

MEGABYTE = 1024 * 1024


async def say_texts(turn: Turn, told: dict[str, Any]) -> None:
    """Every text in every place that an agent may fill."""
    for text in TEXTS.values():
        await turn.working(text)
        part = Part(text=text, filename=text, media_type=text, metadata={text: text, "Nats-Msg-Id": text})
        await turn.chunk(text, part, name=text, metadata={text: {text: [text]}})
        await turn.artifact({text: text}, artifact_id=f"whole {text}", name=text, description=text)
    turn.complete(" ".join(TEXTS.values()))


async def say_lone(turn: Turn, told: dict[str, Any]) -> None:
    """What is no text at all, where ``told`` says."""
    match told["where"]:
        case "text":
            await turn.artifact(LONE)
        case "artifact id":
            await turn.chunk(LONE, "x")
        case "metadata":
            await turn.artifact("x", metadata={LONE: LONE})
        case "ending":
            turn.complete(LONE)
        case "log":
            log.warning(LONE, a=LONE)
            logging.getLogger(LONE).warning("%s", LONE)
        case "exception":
            raise RuntimeError(LONE)
        case "exception's name":
            raise type(LONE.replace(" ", "_"), (Exception,), {})("x")
        case where:
            raise AssertionError(where)


async def raise_it(turn: Turn, told: dict[str, Any]) -> None:
    """An exception that holds a secret, lines of a log, and megabytes."""
    try:
        raise ValueError(f"the key is {SECRET}\n" + "\n".join(TEXTS.values()))
    except ValueError as error:
        raise RuntimeError("x" * 3 * MEGABYTE + SECRET) from error


async def say_much(turn: Turn, told: dict[str, Any]) -> None:
    """One report of so many bytes."""
    await turn.artifact("x" * told["bytes"])


async def drip(turn: Turn, told: dict[str, Any]) -> None:
    """A flood of chunks of one byte."""
    for number in range(told["chunks"]):
        await turn.chunk("flood", "0123456789"[number % 10])


async def flood_log(turn: Turn, told: dict[str, Any]) -> None:
    """So many lines of a log, in each way that there is to write some."""
    library = logging.getLogger("library\nof somebody")
    forged = "".join(TEXTS.values())
    hostile = {TEXTS["escapes"]: "y" * 100_000}
    for number in range(told["lines"]):
        log.info(forged, number=number, **hostile)
        library.warning("%s %d", forged, number)
        if not number % 10:
            await asyncio.sleep(0)
    try:
        raise ValueError(TEXTS["a line of a log"])
    except ValueError:
        library.exception("failed\n%s", SECRET)


async def block(turn: Turn, told: dict[str, Any]) -> None:
    """Nobody else of this worker goes on meanwhile."""
    time.sleep(told["seconds"])  # noqa: ASYNC251 -- that is the attack


_left_behind: set[asyncio.Task[None]] = set()


async def say_after(turn: Turn, told: dict[str, Any]) -> None:
    """Goes on when it has ended: by its turn, and past it by what is behind that."""
    reports = turn._reports

    async def later() -> None:
        while not turn._closed:  # noqa: ASYNC110 -- nothing tells an agent
            await asyncio.sleep(0.01)
        tries: list[Callable[[], Awaitable[object]]] = [
            lambda: turn.chunk("late", "too late"),
            lambda: turn.working("too late"),
            lambda: reports.say_artifact(
                Artifact(artifact_id="late", parts=(Part(text="too late"),)), append=False, last_chunk=True
            ),
            lambda: reports.say_status(TaskState.COMPLETED, NOTHING),
            reports.flush,
        ]
        for _ in range(20):
            for one in tries:
                try:
                    await one()
                except Exception as error:  # noqa: BLE001 -- an attacker does not stop at one
                    log.info("tried in vain", error=type(error).__name__)
            await asyncio.sleep(0.02)
        log.info("tried everything", task_id=turn.task_id)

    task = asyncio.create_task(later())
    _left_behind.add(task)
    await turn.artifact("in time")
    turn.fail("ended")


async def link(turn: Turn, told: dict[str, Any]) -> None:
    """Parts and metadata with addresses that nobody is to call."""
    for number, url in enumerate(told["urls"]):
        part = Part(url=url, filename=url, media_type="image/png", metadata={"url": url, "$ref": url})
        await turn.artifact(part, artifact_id=url, name=f"![x]({url})", description=f'<img src="{url}">')
        await turn.artifact({"$ref": url, "url": url, "@id": url}, artifact_id=f"data-{number}")
        await turn.working(Part(url=url))
    turn.complete(Part(url=told["urls"][0]))


async def behave(turn: Turn, told: dict[str, Any]) -> None:
    """Like anybody."""
    for number in range(told.get("chunks", 3)):
        await turn.chunk("calm", f"{number} ")


ATTACKS: dict[str, Callable[[Turn, dict[str, Any]], Awaitable[None]]] = {
    attack.__name__: attack
    for attack in (
        say_texts,
        say_lone,
        raise_it,
        say_much,
        drip,
        flood_log,
        block,
        say_after,
        link,
        behave,
    )
}


@agent(name="attacker")
async def attacker(turn: Turn) -> None:
    """Does what its message says: ``{"attack": name, …}``."""
    told = turn.data if isinstance(turn.data, dict) else {}
    await ATTACKS[told.get("attack", "behave")](turn, told)


@agent(name="keeper")
async def keeper(turn: Turn) -> None:
    """Puts all that it was given into everything that it can say, and then waits, or ends if it is told to."""
    message = turn.message
    for number, part in enumerate(message.parts):
        said = str(part.text if isinstance(part.text, str) else part.filename or part.data)
        metadata = {**(part.metadata or {}), **(message.metadata or {}), **turn.metadata}
        await turn.chunk(f"{said}-id", part, name=f"{said}-name", metadata=metadata)
        await turn.step(f"step-{number}", str, said)
    await turn.working(f"{message.message_id} {message.context_id}")
    if "end" not in (turn.metadata or {}):
        turn.require_input(turn.text)
