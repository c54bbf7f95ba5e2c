"""Which agents there are, as this gateway shows them: what workers announced, with the gateway's addresses and offers.

Several agents share one public address: the default one is at its root, each has a path of its own, and one that
announced a tenant is also reached at the root by that tenant (specification 4.4.6, 8.3.2).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextvars import copy_context
from typing import Any, Final

import msgspec
import structlog
from msgspec import Struct

from a2a_events.errors import LogError, UnavailableError
from a2a_events.log.port import AgentEntry, Log
from a2a_events.model import AgentCard, AgentExtension, AgentInterface
from a2a_events.model.card import SecurityRequirement
from a2a_events.runtime.framing import REPLAY_EXTENSION
from a2a_events.timeline.idempotency import IDEMPOTENT_SEND

FRESH_SECONDS: Final = 5.0
"""How old what is known may be before it is read again, in the background."""
MISSING_SECONDS: Final = 0.25
"""How often the registry is asked about an agent that is not known."""
OFFERED: Final = (
    AgentExtension(
        uri=REPLAY_EXTENSION,
        description="Streams resume after any update: each carries its revision and a cursor, in its metadata",
    ),
    AgentExtension(
        uri=IDEMPOTENT_SEND,
        description="A message sent again with the same Idempotency-Key is taken once",
    ),
)
"""What every agent behind this gateway can do."""
_OFFERED_URIS: Final = {extension.uri for extension in OFFERED}

logger = structlog.get_logger(__name__)


class Security(Struct, frozen=True):
    """How callers of a gateway say who they are, as agent cards have it."""

    schemes: dict[str, Any]
    """Security schemes, by name."""
    requirements: tuple[SecurityRequirement, ...]
    """Any one of them is enough."""


class ServedAgent(Struct, frozen=True):
    """An agent as a gateway serves it at one place."""

    name: str
    card: AgentCard
    """What clients see: with interfaces, and the capabilities that this gateway adds."""
    replies: str
    tenant: str = ""
    """Routes to this agent at the root; consumed by that, so it is nobody's tenant any more."""
    extended: Mapping[str, AgentCard] = {}
    """What GetExtendedAgentCard shows, by tenant; that of the empty one to all who have none of their own."""


class Directory:
    """A cached view of the agent registry, with one default agent.

    Args:
        log: whose registry.
        default: name of the agent at the root; empty: the first by name.
        cards: cards that override what workers announce, by agent.
        extended: extended cards, by agent and tenant; of the empty tenant: for all who have none of their own.
        push: whether push notifications are offered, by agents whose cards do not say that they are not.
        interfaces: this gateway's addresses, in order of preference; those with a path get the agent's.
        security: what this gateway enforces, in the place of what cards say of it; None: cards say what they say.
    """

    def __init__(
        self,
        log: Log,
        *,
        default: str = "",
        cards: Mapping[str, AgentCard] | None = None,
        extended: Mapping[str, Mapping[str, AgentCard]] | None = None,
        push: bool = False,
        interfaces: Sequence[AgentInterface] = (),
        security: Security | None = None,
    ) -> None:
        self._log = log
        self._push = push
        self._default = default
        self._cards = dict(cards or {})
        self._extended = dict(extended or {})
        self._interfaces = tuple(interfaces)
        # Of several regions each says its own, for keys that are to keep their messages near.
        near = {"home": log.name} if len(log.logs) > 1 else None
        self._offered = tuple(
            msgspec.structs.replace(e, params=near) if e.uri == IDEMPOTENT_SEND else e for e in OFFERED
        )
        self._security = security
        self._at_root: dict[str, ServedAgent] = {}
        """Every agent, as it would be the default one."""
        self._at_path: dict[str, ServedAgent] = {}
        self._by_tenant: dict[str, ServedAgent] = {}
        self._read = -1e9
        self._reading: asyncio.Task[bool] | None = None
        self._context = copy_context()
        """Of no request: what works for all of them must not log as the one that began it."""

    async def find(self, name: str = "", tenant: str = "") -> ServedAgent | None:
        """The agent at a place, or None if no worker ever announced one for it. No round trip if it is known.

        Args:
            name: the agent of that path; empty for the root: the agent of the tenant, or the default one.
            tenant: of the request.

        Raises:
            UnavailableError: it is not known, and the registry cannot be read.
        """
        found = self._find(name, tenant)
        age = time.monotonic() - self._read
        if age > (FRESH_SECONDS if found is not None else MISSING_SECONDS) and self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._refresh(), context=self._context)
        if found is None and self._reading is not None:
            if not await asyncio.shield(self._reading):
                raise UnavailableError(
                    "Which agents are served here cannot be read now; nothing was done, please retry",
                    metadata=UnavailableError.UNTOUCHED,
                )
            return self._find(name, tenant)
        return found

    async def all(self) -> list[ServedAgent]:
        """Every agent at its path, by name."""
        await self.find()
        return [self._at_path[name] for name in sorted(self._at_path)]

    def _find(self, name: str, tenant: str) -> ServedAgent | None:
        if name:
            return self._at_path.get(name)
        if tenant in self._by_tenant:
            return self._by_tenant[tenant]
        if self._default:
            return self._at_root.get(self._default)
        return self._at_root[min(self._at_root)] if self._at_root else None

    async def _refresh(self) -> bool:
        """Read the registry; whether it could be read. What was known stays if not."""
        try:
            entries = await self._log.agents()
            self._at_root = {name: self._served(entry, "") for name, entry in entries.items()}
            self._at_path = {name: self._served(entry, f"/agents/{name}") for name, entry in entries.items()}
            self._by_tenant = {
                entry.tenant: self._served(entry, f"/agents/{name}", entry.tenant)
                for name, entry in entries.items()
                if entry.tenant
            }
            self._read = time.monotonic()
            return True
        except (LogError, msgspec.DecodeError) as error:
            logger.warning("agent registry not read", error=str(error))
            return False
        finally:
            self._reading = None

    def _served(self, entry: AgentEntry, path: str, tenant: str = "") -> ServedAgent:
        card = self._cards.get(entry.name) or msgspec.json.decode(entry.card, type=AgentCard)
        extended = self._extended.get(entry.name, {})
        return ServedAgent(
            entry.name,
            self._shown(card, path, entry.tenant, extended=bool(extended)),
            entry.replies,
            tenant,
            {who: self._shown(each, path, entry.tenant, extended=True) for who, each in extended.items()},
        )

    def _shown(self, card: AgentCard, path: str, tenant: str, *, extended: bool) -> AgentCard:
        """A card with this gateway's addresses, what it asks of callers, and what it offers beyond the agent."""
        capabilities = card.capabilities
        if self._security is not None:
            card = msgspec.structs.replace(
                card,
                security_schemes=self._security.schemes,
                security_requirements=self._security.requirements,
                # Of schemes that are not enforced here, and may not even be named.
                skills=tuple(msgspec.structs.replace(skill, security_requirements=()) for skill in card.skills),
            )
        return msgspec.structs.replace(
            card,
            supported_interfaces=_interfaces(self._interfaces, path, tenant),
            signatures=(),  # they are of what the agent's author wrote, which this is not any more
            capabilities=msgspec.structs.replace(
                capabilities,
                push_notifications=self._push and capabilities.push_notifications is not False,
                extended_agent_card=extended or capabilities.extended_agent_card,
                extensions=(*(e for e in capabilities.extensions if e.uri not in _OFFERED_URIS), *self._offered),
            ),
        )


def _interfaces(addresses: Sequence[AgentInterface], path: str, tenant: str) -> tuple[AgentInterface, ...]:
    """The addresses of an agent: at its path, and at the root under its tenant.

    Where the binding has no paths, as gRPC's ``host:port``, the path is the tenant (ADR 0015).
    """
    replace = msgspec.structs.replace
    own = [replace(a, url=a.url + path) if "://" in a.url else replace(a, tenant=path[1:]) for a in addresses]
    shared = [replace(a, tenant=tenant) for a in addresses] if tenant and path else []
    return (*own, *shared)
