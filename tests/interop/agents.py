"""The agents that the interoperability tests talk to: the project's two demo agents, and some with other cards."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from a2a_events import Turn, agent
from a2a_events.agents import echo, scripted
from a2a_events.model import AgentCapabilities, AgentExtension, AgentSkill
from a2a_events.runtime.agent import Agent

REQUIRED: Final = "https://example.com/extensions/required/v1"
"""An extension that clients of the agent ``strict`` must activate."""
KNOWN: Final = "https://example.com/extensions/known/v2"
"""One that they may activate."""


@agent(name="reader", input_modes=("text/plain",))
async def reader(turn: Turn) -> None:
    """Takes plain text only, and says what it was asked to."""
    await turn.artifact(turn.text)


def without_push(of: Agent) -> Agent:
    """The agent, with a card that says no to push notifications."""
    capabilities = replace(of.card.capabilities, push_notifications=False)
    return replace(of, card=replace(of.card, capabilities=capabilities))


def _offering(name: str, capabilities: AgentCapabilities) -> Agent:
    """The reader under another name, with a card that promises something else."""
    return replace(reader, name=name, card=replace(reader.card, name=name, capabilities=capabilities))


quiet = _offering("quiet", AgentCapabilities(streaming=False, push_notifications=False))
strict = _offering(
    "strict",
    AgentCapabilities(
        streaming=True,
        extensions=(AgentExtension(uri=REQUIRED, required=True), AgentExtension(uri=KNOWN)),
        extended_agent_card=True,  # and no gateway here has one
    ),
)
club = _offering("club", AgentCapabilities(streaming=True))
EXTENDED: Final = replace(
    club.card,
    description="Offers more to those who ask for its extended card.",
    skills=(*club.card.skills, AgentSkill(id="secret", name="Secret", description="Not for all.", tags=("more",))),
)
"""The extended card of the agent ``club``."""
AGENTS: Final = (scripted, echo, without_push(reader), quiet, strict, club)
