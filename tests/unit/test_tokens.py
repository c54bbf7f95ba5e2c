"""What an issuer signs is not therefore sound: claims that are odd, and names that nobody could withdraw."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from jwt.algorithms import OKPAlgorithm

from a2a_events.bindings.identity.jwks import Jwks
from a2a_events.bindings.identity.port import NotAuthenticated, Presented
from a2a_events.bindings.identity.tokens import Issuer, Jwt

ISSUER, AUDIENCE = "https://login.test", "https://agents.test"
KEY = ed25519.Ed25519PrivateKey.generate()
CLAIMS = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "tenant": "acme", "exp": int(time.time()) + 3600}
NO_NAMES = {
    "a lone surrogate": "\ud800",
    "decomposed": "ju\u0308rgen",
    "blank before": " alice",
    "blank after": "alice ",
    "no-break space after": "alice\u00a0",
    "a line": "alice\nbob",
    "a line separator": "alice\u2028bob",
    "a control character": "alice\x00",
    "a control character of the second kind": "alice\x85",
}


async def _keys() -> bytes:
    return json.dumps({"keys": [{**OKPAlgorithm.to_jwk(KEY.public_key(), as_dict=True), "kid": "ed"}]}).encode()


def _part(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def signed(claims: bytes) -> Presented:
    """A request with a token of exactly these claims."""
    what = _part(b'{"alg":"EdDSA","kid":"ed","typ":"at+jwt"}') + b"." + _part(claims)
    token = (what + b"." + _part(KEY.sign(what))).decode()
    return Presented(lambda name: [f"Bearer {token}"] if name == "authorization" else [])


def claiming(**members: Any) -> Presented:
    return signed(json.dumps({**CLAIMS, **members}).encode())


@pytest.fixture
def tokens() -> Jwt:
    issuer = Issuer(issuer=ISSUER, audience=AUDIENCE, algorithms=("EdDSA",), tenant_claim="tenant")
    return Jwt(issuer, Jwks(_keys))


async def test_a_sound_token_is_accepted(tokens: Jwt) -> None:
    who = await tokens.authenticate(claiming(sub="jürgen", jti="4f1c"))
    assert (who.subject, who.tenant, who.credential) == ("jürgen", "acme", "4f1c")


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("instant", ["9" * 400, "1e999", "Infinity", "NaN", "-Infinity", "[]", '"soon"', "null"])
async def test_a_time_that_is_none_is_refused(tokens: Jwt, claim: str, instant: str) -> None:
    claims = {name: value for name, value in CLAIMS.items() if name != claim}
    with pytest.raises(NotAuthenticated) as raised:
        await tokens.authenticate(signed(json.dumps(claims)[:-1].encode() + f',"{claim}":{instant}}}'.encode()))
    assert raised.value.why == "invalid"


async def test_claims_that_are_nested_without_end_are_refused(tokens: Jwt) -> None:
    with pytest.raises(NotAuthenticated):
        await tokens.authenticate(signed(b"[" * 2900 + b"]" * 2900))


@pytest.mark.parametrize("claim", ["sub", "tenant", "jti"])
@pytest.mark.parametrize("name", NO_NAMES.values(), ids=NO_NAMES)
async def test_a_name_that_can_be_written_in_two_ways_is_refused(tokens: Jwt, claim: str, name: str) -> None:
    with pytest.raises(NotAuthenticated) as raised:
        await tokens.authenticate(claiming(**{claim: name}))
    assert raised.value.why == "invalid"
