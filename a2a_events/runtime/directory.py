"""Which agents there are: what workers announced, and the cards an operator gave by file (design: agents)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final

import msgspec
import structlog

from a2a_events.errors import LogError
from a2a_events.log.port import AgentEntry, Log
from a2a_events.model import AgentCard

FRESH_SECONDS: Final = 5.0
"""How old what is known may be before it is read again, in the background."""
MISSING_SECONDS: Final = 0.25
"""How often the registry is asked about an agent that is not known."""

logger = structlog.get_logger(__name__)


class ServedAgent(msgspec.Struct, frozen=True):
    """An agent as a gateway serves it."""

    name: str
    card: AgentCard
    replies: str


class Directory:
    """A cached view of the agent registry, with one default agent.

    Args:
        log: whose registry.
        default: name of the agent at the root; empty: the first by name.
        cards: cards that override what workers announce, by agent.
    """

    def __init__(self, log: Log, *, default: str = "", cards: Mapping[str, AgentCard] | None = None) -> None:
        self._log = log
        self._default = default
        self._cards = dict(cards or {})
        self._agents: dict[str, ServedAgent] = {}
        self._read = -1e9
        self._reading: asyncio.Task[None] | None = None

    async def find(self, name: str = "") -> ServedAgent | None:
        """The agent of this name, or the default one; None if no worker ever announced it. No round trip if known."""
        found = self._find(name)
        age = time.monotonic() - self._read
        if found is None and age > MISSING_SECONDS:
            await self._refresh()
            return self._find(name)
        if age > FRESH_SECONDS and self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._refresh())
        return found

    async def all(self) -> list[ServedAgent]:
        """Every agent, by name."""
        await self.find()
        return [self._agents[name] for name in sorted(self._agents)]

    def _find(self, name: str) -> ServedAgent | None:
        wanted = name or self._default
        if wanted:
            return self._agents.get(wanted)
        return self._agents[min(self._agents)] if self._agents else None

    async def _refresh(self) -> None:
        try:
            entries = await self._log.agents()
            self._agents = {name: self._served(entry) for name, entry in entries.items()}
            self._read = time.monotonic()
        except (LogError, msgspec.DecodeError) as error:
            logger.warning("agent registry not read", error=str(error))
        finally:
            self._reading = None

    def _served(self, entry: AgentEntry) -> ServedAgent:
        card = self._cards.get(entry.name) or msgspec.json.decode(entry.card, type=AgentCard)
        return ServedAgent(entry.name, card, entry.replies)
