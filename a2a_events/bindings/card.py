"""The agent card as served, with what HTTP caches need (specification 8.2)."""

from __future__ import annotations

import hashlib
import time
from email.utils import formatdate, parsedate_to_datetime
from enum import Enum
from typing import assert_never

import msgspec

from a2a_events.bindings import fasta2a
from a2a_events.bindings.exchange import JSON, Exchange
from a2a_events.bindings.v0_3 import card as v0_3_card
from a2a_events.model import AgentCard, encode

MAX_AGE_SECONDS = 60


class CardForm(Enum):
    """For clients of which version a card is written."""

    V1_0 = "1.0"
    V0_3 = "0.3"
    HYBRID = "hybrid"
    """With the members of both."""
    FASTA2A = "fasta2a"


class Cards:
    """The cards that were served lately, with their validators."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], tuple[AgentCard, bytes, str, str]] = {}

    async def serve(self, exchange: Exchange, card: AgentCard, path: str, form: CardForm = CardForm.V1_0) -> None:
        """Answer a card request, with 304 where the client has it already.

        Args:
            exchange: the request.
            card: the card.
            path: where it is served.
            form: for clients of which version.
        """
        content, etag, modified = self._card(card, path, form)
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

    def _card(self, card: AgentCard, path: str, form: CardForm) -> tuple[bytes, str, str]:
        made = self._made.get((path, form.value))
        if made is None or made[0] != card:
            content = _in_form(encode(card), form)
            etag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
            made = self._made[path, form.value] = (card, content, etag, formatdate(time.time(), usegmt=True))
        return made[1], made[2], made[3]


def _in_form(content: bytes, form: CardForm) -> bytes:
    match form:
        case CardForm.V1_0:
            return content
        case CardForm.V0_3:
            return encode(v0_3_card.card(msgspec.json.decode(content)))
        case CardForm.HYBRID:
            return encode(v0_3_card.hybrid_card(msgspec.json.decode(content)))
        case CardForm.FASTA2A:
            return encode(fasta2a.card(msgspec.json.decode(content)))
        case _:
            assert_never(form)


def _not_after(modified: str, since: str) -> bool:
    try:
        return parsedate_to_datetime(modified) <= parsedate_to_datetime(since)
    except (TypeError, ValueError):
        return False
