"""Signing cards, once for each content."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog
from jwt.api_jws import PyJWS

from a2a_events import limits
from a2a_events.model import encode
from a2a_events.signing.algorithms import ALGORITHMS
from a2a_events.signing.canonical import NotCanonical, forms, read
from a2a_events.signing.keys import Key, jwks
from a2a_events.signing.strict_json import Json

_JWS: Final = PyJWS(ALGORITHMS)

logger = structlog.get_logger(__name__)


def signatures(card: Json, keys: Sequence[Key], jku: str = "") -> list[dict[str, Any]]:
    """Signatures of a card: for each of its canonical forms one of every key.

    Args:
        card: as JSON; signatures in it do not matter.
        keys: to sign with.
        jku: where their public halves are, if that is to be said.

    Raises:
        NotCanonical: no signature of it is possible.
    """
    return [_signature(form.payload, key, jku) for form in forms(card) for key in keys]


def _signature(payload: bytes, key: Key, jku: str) -> dict[str, Any]:
    header = {"alg": key.algorithm, "kid": key.kid, "typ": "JOSE", **({"jku": jku} if jku else {})}
    compact = _JWS.encode(payload, key.loaded, headers=header)
    protected, _, signature = compact.split(".")
    return {"protected": protected, "signature": signature}


class CardSigner:
    """Signs whatever cards it is given, and keeps what it has signed.

    Args:
        keys: those to sign with as of now; asked each time, so that they can be changed while cards are served.
        jku: where their public halves are; empty: not said.
        now: seconds since 1970.
    """

    def __init__(
        self, keys: Callable[[], Sequence[Key]], *, jku: str = "", now: Callable[[], float] = time.time
    ) -> None:
        self._keys = keys
        self._jku = jku
        self._now = now
        self._signed: OrderedDict[tuple[bytes, tuple[Key, ...]], bytes] = OrderedDict()

    @property
    def keys(self) -> tuple[Key, ...]:
        """Those to sign with now: neither expired nor early."""
        now = self._now()
        return tuple(key for key in self._keys() if not key.refusal(now))

    def published(self) -> bytes:
        """The public halves, as a JWKS: also of those that have expired, for who looks why a card is refused."""
        return encode(jwks(self._keys()))

    def __call__(self, card: bytes) -> bytes:
        """A card, as JSON, with our signatures in the place of all others. One that cannot be signed goes without.

        Costs a hash of the card; only what has not been seen lately is signed.
        """
        keys = self.keys
        known = hashlib.sha256(card).digest(), keys
        if known in self._signed:
            self._signed.move_to_end(known)
            return self._signed[known]
        signed = self._signed[known] = self._made(card, keys)
        if len(self._signed) > limits.SIGNED_CARDS:
            self._signed.popitem(last=False)
        return signed

    def _made(self, card: bytes, keys: Sequence[Key]) -> bytes:
        members = {name: each for name, each in read(card).items() if name != "signatures"}
        if not keys:
            logger.error("card not signed: all keys have expired", agent=str(members.get("name")))
            return encode(members)
        try:
            return encode({**members, "signatures": signatures(members, keys, self._jku)})
        except NotCanonical as error:
            logger.error("card not signed", agent=str(members.get("name")), error=str(error))
            return encode(members)
