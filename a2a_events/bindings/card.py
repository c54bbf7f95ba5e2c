"""The agent card as served, with what HTTP caches need (specification 8.2)."""

from __future__ import annotations

import hashlib
import time
from email.utils import formatdate, parsedate_to_datetime

from a2a_events.bindings.exchange import JSON, Exchange
from a2a_events.model import AgentCard, encode

MAX_AGE_SECONDS = 60


class Cards:
    """The cards that were served lately, with their validators."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[AgentCard, bytes, str, str]] = {}

    async def serve(self, exchange: Exchange, card: AgentCard, path: str) -> None:
        """Answer a card request, with 304 where the client has it already.

        Args:
            exchange: the request.
            card: the card.
            path: where it is served.
        """
        content, etag, modified = self._card(card, path)
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

    def _card(self, card: AgentCard, path: str) -> tuple[bytes, str, str]:
        made = self._made.get(path)
        if made is None or made[0] != card:
            content = encode(card)
            etag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
            made = self._made[path] = (card, content, etag, formatdate(time.time(), usegmt=True))
        return made[1], made[2], made[3]


def _not_after(modified: str, since: str) -> bool:
    try:
        return parsedate_to_datetime(modified) <= parsedate_to_datetime(since)
    except (TypeError, ValueError):
        return False
