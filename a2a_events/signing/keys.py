"""Keys that sign cards, and keys that cards are checked with: JWK, JWKS or PEM (RFC 7517, 7638, 8037).

A key is for one algorithm, which follows from its kind and never from what a signature says. ``nbf``, ``exp`` and
``revoked`` bound when it counts, as OpenID Federation has them; other JWKS have none of these.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import jwt
import rfc8785
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from msgspec import Struct

from a2a_events import limits
from a2a_events.signing import strict_json
from a2a_events.signing.algorithms import OF_KEYS
from a2a_events.signing.strict_json import Json as Jwk
from a2a_events.signing.strict_json import is_list, is_object

RSA_BITS: Final = 2048
"""Shortest RSA key that is accepted (RFC 7518, 3.3)."""
_NEW_RSA_BITS: Final = 3072
_PUBLIC: Final = ("kty", "crv", "x", "y", "n", "e", "kid", "alg", "use", "nbf", "exp", "revoked")
_NAMING: Final[Mapping[str, Sequence[str]]] = {
    "OKP": ("crv", "kty", "x"),
    "EC": ("crv", "kty", "x", "y"),
    "RSA": ("e", "kty", "n"),
}
"""What the thumbprint of a key is of."""
_PEM: Final = b"-----BEGIN "


class BadKey(ValueError):
    """This is no key that cards can be signed or checked with; the message says why."""


class Key(Struct, frozen=True, kw_only=True, eq=False):
    """A key, public or private."""

    kid: str
    algorithm: str
    jwk: Jwk
    """All of it: with what is secret, if it can sign."""
    loaded: jwt.PyJWK
    begins: float | None = None
    """From when it counts, seconds since 1970; None: always."""
    ends: float | None = None
    """Until when; None: for ever."""
    revoked: bool = False

    def refusal(self, now: float) -> str:
        """Why nothing is signed or checked with it now; empty if it counts."""
        if self.revoked:
            return "its key is revoked"
        if self.begins is not None and now < self.begins:
            return "its key is not valid yet"
        if self.ends is not None and now >= self.ends:
            return "its key has expired"
        return ""

    @property
    def public(self) -> Jwk:
        """Its half for everybody."""
        return {name: self.jwk[name] for name in _PUBLIC if name in self.jwk}


def new_key(algorithm: str, *, kid: str = "", ends: int | None = None) -> Key:
    """A key to sign with.

    Args:
        algorithm: one of ``ALGORITHMS``.
        kid: its name; empty: its thumbprint.
        ends: until when it counts, seconds since 1970; None: for ever.
    """
    made = _jwk_of(_NEW[algorithm]())
    return _key(made | ({} if ends is None else {"exp": ends}), kid, private=True)


def is_pem(content: bytes) -> bool:
    """Whether a file with a key is a PEM, which holds one; not whether that is of use."""
    return content.lstrip().startswith(_PEM)


def signing_keys(content: bytes, kid: str = "") -> tuple[Key, ...]:
    """The keys in a file that sign: a JWK, a JWKS, or a private key as PEM.

    Args:
        content: of the file.
        kid: name of the key, for a file with one that has none; empty: its thumbprint.

    Raises:
        BadKey: one of them cannot sign, or two have the same name.
    """
    return tuple(_named(content, kid, private=True).values())


def trusted_keys(content: bytes | Mapping[str, Any]) -> dict[str, Key]:
    """The keys in a JWK, a JWKS or a public key as PEM, by name: what the caller trusts.

    Raises:
        BadKey: one of them is symmetric, secret, short, for something else or of another algorithm, or two have the
            same name.
    """
    return _named(content, "", private=False)


def published_keys(content: bytes | Mapping[str, Any]) -> dict[str, Key]:
    """As :func:`trusted_keys`, of a JWKS that somebody keeps for more than cards: what is of no use is left out.

    Raises:
        BadKey: this is no JWKS, or two of its keys have the same name.
    """
    found: dict[str, Key] = {}
    for each in _listed(content):
        try:
            key = _key(each, "", private=False)
        except BadKey:
            continue
        _add(found, key)
    return found


def jwks(keys: Sequence[Key]) -> Jwk:
    """The public halves, as a JWKS."""
    return {"keys": [key.public for key in keys]}


def _named(content: bytes | Mapping[str, Any], kid: str, *, private: bool) -> dict[str, Key]:
    found: dict[str, Key] = {}
    listed = _listed(content, private=private)
    if kid and len(listed) > 1:
        raise BadKey(f"{kid!r} cannot be the name of several keys")
    for each in listed:
        _add(found, _key(each, kid, private=private))
    if not found:
        raise BadKey("there is no key in it")
    return found


def _add(found: dict[str, Key], key: Key) -> None:
    if key.kid in found:
        raise BadKey(f"two keys are called {key.kid[:64]!r}")
    found[key.kid] = key


def _listed(content: bytes | Mapping[str, Any], *, private: bool = False) -> list[Jwk]:
    if isinstance(content, bytes) and is_pem(content):
        return [_jwk_of(_loaded(content, private=private))]
    if isinstance(content, bytes):
        if len(content) > limits.JWKS_BYTES:
            raise BadKey(f"more than {limits.JWKS_BYTES} bytes")
        try:
            value: Any = strict_json.read(content)
        except ValueError as error:
            raise BadKey(f"neither PEM nor JSON: {error}") from None
    else:
        value = dict(content)
    if not is_object(value):
        raise BadKey("neither a JWK nor a JWKS")
    listed: Any = value.get("keys") if "keys" in value else [value]
    if not is_list(listed) or not all(map(is_object, listed)):
        raise BadKey("neither a JWK nor a JWKS")
    if len(listed) > limits.JWKS_KEYS:
        raise BadKey(f"more than {limits.JWKS_KEYS} keys")
    return listed


def _key(members: Jwk, kid: str, *, private: bool) -> Key:
    algorithm = OF_KEYS.get((str(members.get("kty")), str(members.get("crv", ""))))
    if algorithm is None:
        raise BadKey(f"a key of kind {members.get('kty')!r} {members.get('crv', '')}: must be Ed25519, P-256 or RSA")
    if members.get("alg", algorithm) != algorithm:
        raise BadKey(f"a key for {members['alg']!r}: must be for {algorithm}")
    if members.get("use", "sig") != "sig":
        raise BadKey(f"a key whose use is {members['use']!r}, which is not to sign")
    wanted = "sign" if private else "verify"
    allowed: Any = members.get("key_ops", [wanted])
    if not is_list(allowed) or wanted not in allowed:
        raise BadKey(f"a key that is not for {wanted}")
    if private != ("d" in members):
        raise BadKey("a public key, which cannot sign" if private else "a private key: give its public half")
    try:
        loaded = jwt.PyJWK(members, algorithm)
        size: Any = getattr(loaded.key, "key_size", None)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, UnsupportedAlgorithm) as error:
        raise BadKey(f"a key that cannot be read ({type(error).__name__})") from None  # what it says may be the key
    if algorithm == "RS256" and size < RSA_BITS:
        raise BadKey(f"an RSA key of {size} bits: {RSA_BITS} are needed")
    name = kid or members.get("kid") or thumbprint(members)
    if not isinstance(name, str) or len(name) > limits.IDENTIFIER_CHARACTERS:
        raise BadKey(f"a kid that is no text of at most {limits.IDENTIFIER_CHARACTERS} characters")
    return Key(
        kid=name,
        algorithm=algorithm,
        jwk={**members, "kid": name, "alg": algorithm, "use": "sig"},
        loaded=loaded,
        begins=_seconds(members, "nbf"),
        ends=_seconds(members, "exp"),
        revoked="revoked" in members,
    )


def _seconds(members: Jwk, name: str) -> float | None:
    value = members.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise BadKey(f"a key whose {name} is no number of seconds")
    return value


def thumbprint(members: Jwk) -> str:
    """The name that follows from a key itself (RFC 7638)."""
    naming = {name: members.get(name) for name in _NAMING[members["kty"]]}
    try:
        return base64.urlsafe_b64encode(hashlib.sha256(rfc8785.dumps(naming)).digest()).rstrip(b"=").decode()
    except ValueError as error:
        raise BadKey(f"a key that cannot be read: {error}") from None


_NEW: Final[Mapping[str, Callable[[], Any]]] = {
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "RS256": lambda: rsa.generate_private_key(65537, _NEW_RSA_BITS),
}


def _loaded(pem: bytes, *, private: bool) -> Any:
    try:
        return load_pem_private_key(pem, None) if private else load_pem_public_key(pem)
    except TypeError:
        raise BadKey("a PEM under a password: store it without one, where only this service can read it") from None
    except (ValueError, UnsupportedAlgorithm):
        raise BadKey(f"not the PEM of a {'private' if private else 'public'} key") from None


def _jwk_of(key: Any) -> Jwk:
    match key:
        case ed25519.Ed25519PrivateKey() | ed25519.Ed25519PublicKey():
            return OKPAlgorithm.to_jwk(key, as_dict=True)
        case ec.EllipticCurvePrivateKey() | ec.EllipticCurvePublicKey():
            return ECAlgorithm.to_jwk(key, as_dict=True)
        case rsa.RSAPrivateKey() | rsa.RSAPublicKey():
            return {name: each for name, each in RSAAlgorithm.to_jwk(key, as_dict=True).items() if name != "key_ops"}
        case _:
            raise BadKey("a key of another kind: must be Ed25519, P-256 or RSA")
