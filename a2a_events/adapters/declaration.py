"""How an adapted agent is declared: by what its author gives, else by what the framework's object says of itself."""

from __future__ import annotations

import re
from typing import TypedDict

import msgspec

from a2a_events.model import AgentCard, AgentExtension, AgentSkill
from a2a_events.runtime.agent import Agent, Deadlines, Handler, agent


class Given(TypedDict, total=False):
    """What every ``agent_of`` takes beside ``name`` and ``card``, as :func:`a2a_events.runtime.agent.agent` does."""

    description: str | None
    version: str
    skills: tuple[AgentSkill, ...]
    policy: str
    attempts: int
    resumes: tuple[str, ...]
    deadlines: Deadlines | None
    cancel_grace_seconds: float
    linger_seconds: float
    input_modes: tuple[str, ...]
    tenant: str
    extensions: tuple[AgentExtension, ...]


def declare(
    handler: Handler, given: Given, *, name: str, card: AgentCard | None = None, replies: str = "task"
) -> Agent:
    """The agent whose turns a handler runs.

    Args:
        handler: runs one turn.
        given: terms, and what the card says where none is given.
        name: in paths and subjects.
        card: announced as it is; gateways put their own addresses in.
        replies: ``task`` or ``either``.

    Raises:
        TypeError: the name is none, or the terms do not go together.
    """
    made = agent(name=name, replies=replies, **given)(handler)
    return made if card is None else msgspec.structs.replace(made, card=card)


def name_of(value: object, *endings: str) -> str:
    """A name for what was given none: its class's in lower case with dashes, without the endings that all have.

    ``HelloWorldAgentExecutor`` is ``hello-world`` with the endings ``executor`` and ``agent``, taken off in this order.
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_", "-", type(value).__name__).strip("-").lower()
    for ending in endings:
        words = words.removesuffix(f"-{ending}")
    return words[:64]
