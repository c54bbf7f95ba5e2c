"""Bearer tokens that are JWTs of one issuer (RFC 8725, RFC 9068). PyJWT verifies; what may be verified is said here.

The token decides nothing about how it is verified: algorithms, issuer, audience and keys are configured, and what its
header says of keys elsewhere (``jku``, ``x5u``, ``jwk``) is not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import jwt
import msgspec
from msgspec import Struct

from a2a_events import limits
from a2a_events.bindings.identity.jwks import Jwks
from a2a_events.bindings.identity.port import Identified, NotAuthenticated, Presented, Scope, is_name

ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
"""What can be allowed: signatures that nobody can make who only verifies them."""
_TYPES: Final = frozenset({"at+jwt", "application/at+jwt", "jwt"})
_OF_ID_TOKENS: Final = ("nonce", "at_hash", "c_hash")
"""Claims that only ID tokens have (OpenID Connect Core 2): those are for the client, not for us."""
_REQUIRED: Final = ("exp", "iss", "aud", "sub")


class Issuer(Struct, frozen=True, kw_only=True):
    """Whose tokens are accepted, and how they are read."""

    issuer: str
    """Exactly as ``iss`` has it."""
    audience: str
    """That ``aud`` must contain: this gateway."""
    algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")
    tenant_claim: str = ""
    """The claim that names the tenant; empty: all callers are of the one tenant without a name."""
    scopes: Mapping[str, Scope] = {}
    """What the scopes of tokens stand for here."""
    leeway_seconds: float = 30.0
    """By how much the clocks of issuer and gateway may differ."""
    discovery_url: str = ""
    """Of OpenID Connect, for agent cards; empty: none."""


class Jwt:
    """Callers with tokens.

    Args:
        issuer: whose.
        keys: of the issuer.
    """

    method = "jwt"

    def __init__(self, issuer: Issuer, keys: Jwks) -> None:
        assert issuer.algorithms and ALGORITHMS.issuperset(issuer.algorithms), "algorithms are checked with settings"  # noqa: PT018 -- one thought
        self._issuer = issuer
        self._keys = keys
        self.schemes: Mapping[str, Any] = (
            {"oidc": {"openIdConnectSecurityScheme": {"openIdConnectUrl": issuer.discovery_url}}}
            if issuer.discovery_url
            else {"bearer": {"httpAuthSecurityScheme": {"scheme": "Bearer", "bearerFormat": "JWT"}}}
        )
        self.challenges: Sequence[str] = ('Bearer realm="a2a"',)

    def presents(self, presented: Presented) -> bool:
        """See :class:`~a2a_events.bindings.identity.port.Method`."""
        return bool(presented.values("authorization"))

    async def authenticate(self, presented: Presented) -> Identified:
        """See :class:`~a2a_events.bindings.identity.port.Identity`. One round trip to the issuer for a new key."""
        token = _bearer(presented)
        header = _header(token)
        if header.get("alg") not in self._issuer.algorithms or not _is_access(header.get("typ")) or "crit" in header:
            raise NotAuthenticated("invalid")
        kid = header.get("kid")
        if not isinstance(kid, str) or not 0 < len(kid) <= limits.IDENTIFIER_CHARACTERS:
            raise NotAuthenticated("invalid")
        key = await self._keys.find(kid)
        if key is None or key.algorithm_name not in {header["alg"], _general(header["alg"])}:
            raise NotAuthenticated("invalid")
        claims = self._claims(token, key, header["alg"])
        return Identified(
            subject=_name(claims.get("sub")),
            tenant=_name(claims.get(self._issuer.tenant_claim)) if self._issuer.tenant_claim else "",
            scopes=self._scopes(claims),
            expires_at=_instant(claims["exp"]) + self._issuer.leeway_seconds,
            method=self.method,
            credential=_name(claims["jti"]) if claims.get("jti") else "",
            key=kid,
        )

    def holds(self, who: Identified) -> bool:
        """Whether the issuer still has the key that vouches for it."""
        return self._keys.has(who.key)

    def _claims(self, token: str, key: jwt.PyJWK, algorithm: str) -> dict[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=[algorithm],
                audience=self._issuer.audience,
                issuer=self._issuer.issuer,
                leeway=self._issuer.leeway_seconds,
                options={"require": list(_REQUIRED)},
            )
        except jwt.ExpiredSignatureError:
            raise NotAuthenticated("expired", "The credential has expired") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            raise NotAuthenticated("invalid") from None
        if any(name in claims for name in _OF_ID_TOKENS):
            raise NotAuthenticated("invalid")
        return claims

    def _scopes(self, claims: Mapping[str, Any]) -> frozenset[Scope]:
        """What the token allows here: its ``scope`` (RFC 9068), or ``scp`` where issuers call it so."""
        given: Any = claims.get("scope", claims.get("scp", ""))
        try:
            named = given.split() if isinstance(given, str) else msgspec.convert(given, list[str])
        except msgspec.ValidationError:
            named = []
        return frozenset(self._issuer.scopes[name] for name in named if name in self._issuer.scopes)


def _bearer(presented: Presented) -> str:
    given = presented.one("authorization")
    if not given:
        raise NotAuthenticated("missing", "A bearer token is needed, in the header Authorization")
    scheme, _, token = given.partition(" ")
    if scheme.lower() != "bearer" or not token or len(token) > limits.TOKEN_CHARACTERS or not token.isascii():
        raise NotAuthenticated("invalid")
    return token.strip()


def _header(token: str) -> dict[str, Any]:
    """The header, which nobody has vouched for yet."""
    try:
        header: dict[str, Any] = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise NotAuthenticated("invalid") from None
    return header


def _is_access(typ: Any) -> bool:
    return isinstance(typ, str) and typ.lower() in _TYPES


def _general(algorithm: str) -> str:
    """What a key without ``alg`` is taken for by PyJWT: RSA keys for RS256, whatever they sign with."""
    return "RS256" if algorithm.startswith(("RS", "PS")) else algorithm


def _name(value: Any) -> str:
    if not isinstance(value, str) or not is_name(value):
        raise NotAuthenticated("invalid")
    return value


def _instant(value: Any) -> float:
    """A time in a claim, seconds since 1970. JSON has numbers that are none of a clock."""
    try:
        found = float(value)
    except (OverflowError, TypeError, ValueError):
        raise NotAuthenticated("invalid") from None
    if not math.isfinite(found):
        raise NotAuthenticated("invalid")
    return found
