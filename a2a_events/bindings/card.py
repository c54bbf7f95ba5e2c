"""The agent card as served: what the worker announced, with this gateway's addresses (specification 8)."""

from __future__ import annotations

import hashlib
import time
from email.utils import formatdate, parsedate_to_datetime

import msgspec

from a2a_events.bindings.exchange import JSON, Exchange
from a2a_events.model import AgentInterface, encode
from a2a_events.runtime.directory import ServedAgent

MAX_AGE_SECONDS = 60


class Cards:
    """Cards of all agents behind one public address.

    Args:
        base_url: the address that clients use, from configuration: never taken from a request.
    """

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url.rstrip("/")
        self._made: dict[str, tuple[ServedAgent, bytes, str, str]] = {}

    async def serve(self, exchange: Exchange, agent: ServedAgent, path: str) -> None:
        """Answer a card request, with 304 where the client has it already.

        Args:
            exchange: the request.
            agent: whose card.
            path: of the agent below the base URL, empty for the default one.
        """
        content, etag, modified = self._card(agent, path)
        fields = [
            (b"etag", etag.encode()),
            (b"last-modified", modified.encode()),
            (b"cache-control", f"public, max-age={MAX_AGE_SECONDS}".encode()),
        ]
        known = exchange.header(b"if-none-match")
        since = exchange.header(b"if-modified-since")
        if known.strip() == "*" or etag in known or (not known and since and _not_after(modified, since)):
            await exchange.answer(304, b"", JSON, fields)
        else:
            await exchange.answer(200, content, JSON, fields)

    def _card(self, agent: ServedAgent, path: str) -> tuple[bytes, str, str]:
        made = self._made.get(path)
        if made is None or made[0] != agent:
            url = self._base_url + path
            interfaces = tuple(
                AgentInterface(url=url, protocol_binding=binding, protocol_version="1.0")
                for binding in ("JSONRPC", "HTTP+JSON")
            )
            content = encode(msgspec.structs.replace(agent.card, supported_interfaces=interfaces))
            etag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
            made = self._made[path] = (agent, content, etag, formatdate(time.time(), usegmt=True))
        return made[1], made[2], made[3]


def _not_after(modified: str, since: str) -> bool:
    try:
        return parsedate_to_datetime(modified) <= parsedate_to_datetime(since)
    except (TypeError, ValueError):
        return False
