"""The agent card (specification section 4.4): who an agent is and how to reach it."""

from __future__ import annotations

from typing import Any

from msgspec import field

from a2a_events.model.wire import Wire


class AgentInterface(Wire, frozen=True):
    """One address of the agent. ``protocol_version`` has no patch number."""

    url: str
    protocol_binding: str
    protocol_version: str
    tenant: str = ""


class AgentProvider(Wire, frozen=True):
    """Who runs the agent."""

    url: str
    organization: str


class AgentExtension(Wire, frozen=True):
    """An extension that the agent knows, or requires."""

    uri: str
    description: str = ""
    required: bool = False
    params: dict[str, Any] | None = None


class AgentCapabilities(Wire, frozen=True):
    """What the agent offers; absent means no."""

    streaming: bool | None = None
    push_notifications: bool | None = None
    extensions: tuple[AgentExtension, ...] = ()
    extended_agent_card: bool | None = None


class StringList(Wire, frozen=True):
    """Scopes of one scheme."""

    list: tuple[str, ...] = ()


class SecurityRequirement(Wire, frozen=True):
    """Schemes that must all be met."""

    schemes: dict[str, StringList] = field(default_factory=dict[str, StringList])


class AgentSkill(Wire, frozen=True):
    """Something the agent can do."""

    id: str
    name: str
    description: str
    tags: tuple[str, ...]
    examples: tuple[str, ...] = ()
    input_modes: tuple[str, ...] = ()
    output_modes: tuple[str, ...] = ()
    security_requirements: tuple[SecurityRequirement, ...] = ()


class AgentCardSignature(Wire, frozen=True):
    """A detached JWS over the canonical card."""

    protected: str
    signature: str
    header: dict[str, Any] | None = None


class AgentCard(Wire, frozen=True):
    """An agent's card. ``supported_interfaces`` is in order of preference; gateways fill it with their own addresses.

    ``security_schemes`` is kept as plain JSON: this library shows it and does not interpret it.
    """

    name: str
    description: str
    version: str
    supported_interfaces: tuple[AgentInterface, ...]
    capabilities: AgentCapabilities
    default_input_modes: tuple[str, ...]
    default_output_modes: tuple[str, ...]
    skills: tuple[AgentSkill, ...]
    provider: AgentProvider | None = None
    documentation_url: str | None = None
    security_schemes: dict[str, Any] | None = None
    security_requirements: tuple[SecurityRequirement, ...] = ()
    signatures: tuple[AgentCardSignature, ...] = ()
    icon_url: str | None = None
