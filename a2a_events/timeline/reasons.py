"""Why a turn ended without its agent's word, as the log says it, and whether that was the agent's own doing.

The sentences stand in endings, in status messages and in dead letters. An exception is only named: its text may hold
what clients must not see.
"""

from __future__ import annotations

from typing import Final

CANCELED_ITSELF: Final = "the agent canceled itself"
_TOOK_LONGER: Final = "the turn took longer than "
_SAID_NOTHING: Final = "the agent said nothing for "
_WORKER_GONE: Final = "the worker was "
_TOO_MUCH: Final = "it holds too much: "
_NAME_CHARACTERS: Final = 128


def raised(exception: str) -> str:
    """The agent raised an exception of this name; a name that no source could hold is not repeated."""
    named = exception if exception.isidentifier() and len(exception) <= _NAME_CHARACTERS else "an exception"
    return f"the agent raised {named}; its log says more"


def took_longer(seconds: float) -> str:
    """The deadline of the turn is over."""
    return f"{_TOOK_LONGER}{seconds:g} seconds"


def said_nothing(seconds: float) -> str:
    """The deadline for the agent's next report is over."""
    return f"{_SAID_NOTHING}{seconds:g} seconds"


def worker_gone(what: str) -> str:
    """The worker had to go, and its agent does not run twice."""
    return f"{_WORKER_GONE}{what} before the turn had ended"


def too_much(what: str) -> str:
    """The agent would have made the task larger than it may be."""
    return f"{_TOO_MUCH}{what}"


def of_the_worker(reason: str) -> bool:
    """Whether a clock, a bound or the fate of a worker ended the turn: running its agent again would not show that."""
    return reason.startswith((_TOOK_LONGER, _SAID_NOTHING, _WORKER_GONE, _TOO_MUCH))
