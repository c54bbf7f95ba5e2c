"""Functions that know nothing of turns, as agents: they take a message's content, and return or yield the answer.

::

    def shout(text: str) -> str:
        return text.upper()


    async def count(text: str) -> AsyncIterator[str]:
        for word in text.split():
            yield word

What a function takes is said by its parameter's annotation, or else by its name; a function that yields takes a text
unless it says something else.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import aclosing, closing
from functools import wraps
from typing import Any, Final, TypeAlias, cast, get_origin

import msgspec
from msgspec import UNSET

from a2a_events.model import Message, Part
from a2a_events.runtime.thread_turn import ThreadTurn
from a2a_events.runtime.turn import Turn

Function: TypeAlias = Callable[[Any], Any]

TEXT: Final = "text"
MESSAGE: Final = "message"
DATA: Final = "data"
_ANNOTATED: Final[dict[object, str]] = {
    str: TEXT,
    "str": TEXT,
    Message: MESSAGE,
    "Message": MESSAGE,
    dict: DATA,
    list: DATA,
}
_NAMED: Final = frozenset({TEXT, MESSAGE, DATA})
ANSWER: Final = "answer"
"""Name of the artifact that holds what a function returns or yields."""


def taken_by(function: Function) -> str | None:
    """What a function takes: ``text``, ``message`` or ``data``; None: the turn."""
    try:
        first = next(iter(inspect.signature(function).parameters.values()), None)
    except ValueError:
        return None  # of a builtin
    if first is None:
        return None
    annotation: object = first.annotation
    if annotation is inspect.Parameter.empty:
        if first.name in _NAMED:
            return first.name
        return TEXT if first.name != "turn" and _yields(function) else None
    if isinstance(annotation, str):
        annotation = {"dict": dict, "list": list}.get(annotation.partition("[")[0], annotation)
    return _ANNOTATED.get(get_origin(annotation) or annotation)


def answering(function: Function, takes: str) -> Callable[[Turn], Awaitable[None]]:
    """The handler that calls a function with what it takes, and reports what it answers.

    What is yielded is reported at once, as pieces of one artifact; what is returned, as a whole one. None is no answer.
    A plain function runs in a thread.

    Args:
        function: to be called.
        takes: one of what :func:`taken_by` gives.
    """

    @wraps(function)
    async def handler(turn: Turn) -> None:
        given = _given(turn, takes)
        if given is None:
            turn.reject(f"this agent takes a {takes} part")
        elif inspect.isasyncgenfunction(function):
            async with aclosing(cast("AsyncGenerator[Any]", function(given))) as pieces:
                async for piece in pieces:
                    await turn.chunk(_place(turn), answer(piece), name=ANSWER)
        elif inspect.isgeneratorfunction(function):
            await turn.in_thread(_report_pieces, function, given, ThreadTurn(turn), _place(turn))
        else:
            if inspect.iscoroutinefunction(function):
                returned = await function(given)
            else:
                returned = await turn.in_thread(function, given)
            if inspect.isawaitable(returned):
                _discard(returned)
                raise TypeError(f"{function!r} returned something to await: declare the agent with async def")
            if returned is not None:
                await turn.artifact(answer(returned), artifact_id=_place(turn), name=ANSWER)

    return handler


def answer(value: Any) -> list[Part]:
    """The parts that a value stands for: a text, a part or several, a message's, bytes; anything else is data.

    Raises:
        TypeError: JSON cannot hold it.
    """
    match value:
        case str():
            return [Part(text=value)]
        case bytes():
            return [Part(raw=value)]
        case Part():
            return [value]
        case Message():
            return list(value.parts)
        case list() if value and all(isinstance(one, Part) for one in cast("list[object]", value)):
            return cast("list[Part]", value)
        case _:
            return [Part(data=msgspec.to_builtins(value, str_keys=True))]


def _given(turn: Turn, takes: str) -> Any:
    """What the function is called with; None if the message has nothing of that kind."""
    if takes == MESSAGE:
        return turn.message
    if takes == DATA:
        return turn.data
    return turn.text if any(part.text is not UNSET for part in turn.message.parts) else None


def _place(turn: Turn) -> str:
    """The answer's artifact: the same in every attempt of the turn, another one in the next turn of the task."""
    return turn.idempotency_key(ANSWER)


def _report_pieces(function: Function, given: Any, turn: ThreadTurn, artifact_id: str) -> None:
    with closing(cast("Generator[Any]", function(given))) as pieces:
        for piece in pieces:
            turn.chunk(artifact_id, answer(piece), name=ANSWER)


def _yields(function: Function) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _discard(returned: object) -> None:
    if inspect.iscoroutine(returned):
        returned.close()
