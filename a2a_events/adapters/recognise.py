"""Whether what ``--agent module:attr`` names belongs to a framework that there is an adapter for."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final, Protocol, cast

from a2a_events.runtime.agent import Agent

ADAPTERS: Final[dict[str, str]] = {
    "a2a.server.agent_execution": "a2a_events.adapters.a2a_sdk",
    "fasta2a": "a2a_events.adapters.fasta2a",
    "pydantic_ai": "a2a_events.adapters.pydantic_ai",
    "langgraph.pregel": "a2a_events.adapters.langgraph",
}
"""Module of a framework without which no object of it exists → module that adapts such objects."""


class Adapter(Protocol):
    """What each module in :data:`ADAPTERS` offers."""

    def recognises(self, value: object) -> bool:
        """Whether this is an agent of the framework, or a class that makes one when called without arguments."""
        ...

    def agent_of(self, value: object, /) -> Agent:
        """The agent that it is here.

        Raises:
            TypeError: it cannot be one; says why.
        """
        ...


def recognise(value: object) -> Agent | None:
    """The agent that a framework's object is; None if no framework that is loaded knows it.

    Imports no framework: an object of one that was never imported does not exist.

    Raises:
        TypeError: it was recognised and cannot be served; says why.
    """
    for framework, adapter_name in ADAPTERS.items():
        if framework in sys.modules:
            adapter = cast("Adapter", import_module(adapter_name))
            if adapter.recognises(value):
                return adapter.agent_of(value)
    return None
