"""Checking the signatures of a card. One that is good is enough; what is handed out is what it is of.

Of a signature's protected header ``alg``, ``kid``, ``typ`` and ``jku`` are known. The key decides the algorithm. What a
header says of keys otherwise (``jwk``, ``x5u``, ``x5c``) is not looked at, and one with ``crit`` or ``b64``, which
change what a signature means, is refused. So is one that is not written exactly as RFC 7515 has it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import jwt
from jwt.api_jws import PyJWS
from jwt.utils import base64url_decode, base64url_encode
from msgspec import Struct

from a2a_events import limits
from a2a_events.signing import strict_json
from a2a_events.signing.algorithms import ALGORITHMS
from a2a_events.signing.canonical import NotCanonical, forms, read
from a2a_events.signing.keys import Key
from a2a_events.signing.strict_json import Json, is_list, is_object

_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+")
_JWS: Final = PyJWS(ALGORITHMS)


class NotVerified(Exception):
    """No signature of the card is good.

    Args:
        reasons: what is wrong with each; empty if it has none.
    """

    def __init__(self, reasons: tuple[str, ...]) -> None:
        super().__init__("; ".join(dict.fromkeys(reasons)) or "it is not signed")
        self.reasons = reasons


class _Refused(Exception):
    """What is wrong with one signature."""


class Signature(Struct, frozen=True):
    """A signature of a card, with what its protected header says."""

    protected: str = ""
    signature: str = ""
    kid: str = ""
    algorithm: str = ""
    jku: str = ""
    refusal: str = ""
    """Why it cannot be good; empty if it may be."""


class Verified(Struct, frozen=True):
    """A card, as far as a signature is of it, and that signature."""

    card: Json
    """With its signatures, as they came."""
    by: Signature


class SignedCard:
    """A card as it came, and its signatures.

    Args:
        content: as it came.

    Raises:
        NotCanonical: this is no card, or one that can be understood in two ways.
    """

    def __init__(self, content: bytes) -> None:
        members = read(content)
        self._forms = forms(members)
        self.is_of_1_0 = bool(self._forms[0].card["supportedInterfaces"])
        """Whether it can be reached by what is signed; a card of 0.3 has its address in other members."""
        self._members = members
        given: Any = members.get("signatures") or []
        if not is_list(given):
            raise NotCanonical("signatures is no list")
        if len(given) > limits.CARD_SIGNATURES:
            raise NotCanonical(f"it has more than {limits.CARD_SIGNATURES} signatures")
        self.signatures = tuple(_signature(each) for each in given)

    def verified(self, keys: Mapping[str, Key], now: float) -> Verified:
        """What the card says, as far as a signature is of it: the one that says most.

        Args:
            keys: trusted ones, by name.
            now: seconds since 1970.

        Raises:
            NotVerified: no signature is good.
        """
        reasons = list[str]()
        good = dict[int, Signature]()
        for signature in self.signatures:
            try:
                good.setdefault(self._form_of(signature, keys, now), signature)
            except _Refused as error:
                reasons.append(f"signature of {signature.kid[:64]!r}: {error}" if signature.kid else str(error))
            if 0 in good:
                break
        if not good:
            raise NotVerified(tuple(reasons))
        form = min(good)
        return Verified({**self._forms[form].card, "signatures": self._members["signatures"]}, good[form])

    def _form_of(self, signature: Signature, keys: Mapping[str, Key], now: float) -> int:
        """Which of the card's forms it is of."""
        if signature.refusal:
            raise _Refused(signature.refusal)
        key = keys.get(signature.kid)
        if key is None:
            raise _Refused("no such key is trusted")
        if signature.algorithm != key.algorithm:
            raise _Refused(f"its key is for {key.algorithm}, not for {signature.algorithm}")
        if refusal := key.refusal(now):
            raise _Refused(refusal)
        for number, form in enumerate(self._forms):
            if _is_of(signature, form.payload, key):
                return number
        raise _Refused("it is not of this card: the card was changed after it was signed, or another key has signed it")


def _is_of(signature: Signature, payload: bytes, key: Key) -> bool:
    token = f"{signature.protected}.{base64url_encode(payload).decode()}.{signature.signature}"
    try:
        _JWS.decode_complete(token, key.loaded, [key.algorithm])
    except jwt.PyJWTError:
        return False
    return True


def _signature(value: Any) -> Signature:
    members = value if is_object(value) else {}
    protected, signature = members.get("protected"), members.get("signature")
    try:
        header = _header(protected)
        if not isinstance(signature, str) or not _BASE64URL.fullmatch(signature):
            raise _Refused("a signature is no base64url")
        beside: Any = members.get("header") or {}
        if not is_object(beside) or header.keys() & beside.keys():
            raise _Refused("a signature whose two headers contradict each other")
    except _Refused as error:
        return Signature(refusal=str(error))
    kid, algorithm, jku = header.get("kid"), header.get("alg"), header.get("jku", "")
    found = Signature(
        protected=str(protected),
        signature=signature,
        kid=kid if isinstance(kid, str) else "",
        algorithm=algorithm if isinstance(algorithm, str) else "",
        jku=jku if isinstance(jku, str) else "",
    )
    if found.algorithm not in ALGORITHMS:
        return _refusing(found, f"its algorithm must be one of {', '.join(ALGORITHMS)}")
    if not found.kid:
        return _refusing(found, "a signature names no key (kid)")
    if header.keys() & {"crit", "b64"}:
        return _refusing(found, "it asks for what is not understood (crit)")
    if str(header.get("typ", "JOSE")).upper() != "JOSE":
        return _refusing(found, "its type (typ) is that of something else than a card")
    return found


def _refusing(signature: Signature, refusal: str) -> Signature:
    return Signature(kid=signature.kid, refusal=refusal)


def _header(protected: Any) -> Json:
    if not isinstance(protected, str) or not _BASE64URL.fullmatch(protected):
        raise _Refused("a protected header is no base64url")
    try:
        header: Any = strict_json.read(base64url_decode(protected))
    except ValueError as error:
        raise _Refused(f"a protected header cannot be read: {error}") from None
    if not is_object(header):
        raise _Refused("a protected header is no JSON object")
    return header
