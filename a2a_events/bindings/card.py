"""The agent card as served, with what HTTP caches need (specification 8.2)."""

from __future__ import annotations

import hashlib
import time
from email.utils import formatdate, parsedate_to_datetime
from enum import Enum
from typing import Final, Protocol, assert_never

import msgspec
from msgspec import Struct

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


_SIGNED: Final = frozenset({CardForm.V1_0, CardForm.HYBRID})
_FRESH: Final = (b"cache-control", f"public, max-age={MAX_AGE_SECONDS}".encode())


class Signer(Protocol):
    """Signs cards."""

    def __call__(self, card: bytes) -> bytes:
        """A card, as JSON, with signatures. Cheap for one that was signed before."""
        ...

    def published(self) -> bytes:
        """The public halves of the keys, as a JWKS."""
        ...


class _Made(Struct, frozen=True):
    card: AgentCard
    written: bytes
    content: bytes
    """With signatures."""
    etag: str
    modified: str


class Cards:
    """The cards that were served lately, with their validators.

    Cards of 1.0 are signed. Signatures are of their members alone, so the older forms go without.

    Args:
        signer: signs them; None: nobody does.
    """

    def __init__(self, signer: Signer | None = None) -> None:
        self._signer = signer
        self._made: dict[tuple[str, str], _Made] = {}

    async def serve(self, exchange: Exchange, card: AgentCard, path: str, form: CardForm = CardForm.V1_0) -> None:
        """Answer a card request, with 304 where the client has it already.

        Args:
            exchange: the request.
            card: the card.
            path: where it is served.
            form: for clients of which version.
        """
        made = self._card(card, path, form)
        etag, modified = made.etag, made.modified
        fields = [(b"etag", etag.encode()), (b"last-modified", modified.encode()), _FRESH]
        known = exchange.header(b"if-none-match")
        since = exchange.header(b"if-modified-since")
        if known.strip() == "*" or etag in known or (not known and since and _not_after(modified, since)):
            await exchange.answer(304, b"", JSON, fields)
        else:
            await exchange.answer(200, made.content, JSON, fields)

    async def serve_keys(self, exchange: Exchange) -> None:
        """Answer a request for the keys that cards are checked with."""
        assert self._signer is not None, "without keys there is no such path"
        await exchange.answer(200, self._signer.published(), JSON, [_FRESH])

    def _card(self, card: AgentCard, path: str, form: CardForm) -> _Made:
        made = self._made.get((path, form.value))
        written = made.written if made is not None and made.card == card else _in_form(encode(card), form)
        content = self._signer(written) if self._signer is not None and form in _SIGNED else written
        if made is None or made.content != content:
            etag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
            made = _Made(card, written, content, etag, formatdate(time.time(), usegmt=True))
            self._made[path, form.value] = made
        return made


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
