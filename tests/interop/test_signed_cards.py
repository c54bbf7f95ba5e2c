"""Signed cards between a gateway and our client, and between us and the official libraries, in both directions."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import jwt
import msgspec
import pytest
import pytest_asyncio
from a2a.client.card_resolver import parse_agent_card
from a2a.utils.signing import InvalidSignaturesError, create_agent_card_signer, create_signature_verifier
from google.protobuf.json_format import MessageToDict

from a2a_events.client import CardKeys, CardNotTrusted, Client
from a2a_events.model import encode
from a2a_events.settings import Settings
from a2a_events.signing.algorithms import ALGORITHMS
from a2a_events.signing.keys import Key, jwks, new_key
from a2a_events.signing.sign import signatures
from a2a_events.testing import eventually, free_port
from tests.interop import javascript
from tests.interop.agents import AGENTS, EXTENDED
from tests.interop.conftest import serving
from tests.interop.wire import BINDINGS

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

Json: TypeAlias = dict[str, Any]

JKU = "https://agents.example/.well-known/jwks.json"
CARD_PATH = "/.well-known/agent-card.json"
PROGRAM = Path(__file__).with_name("node") / "sign_cards.mjs"
KEYS = {algorithm: new_key(algorithm, kid=f"of {algorithm}") for algorithm in ALGORITHMS}

PLAIN: Json = {
    "name": "Geographer",
    "description": "Knows where things are: Zürich, 東京, 😀.",
    "version": "1.2",
    "supportedInterfaces": [
        {"url": "https://a.example", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"},
        {"url": "a.example:443", "protocolBinding": "GRPC", "protocolVersion": "1.0", "tenant": "acme"},
    ],
    "capabilities": {
        "streaming": True,
        "pushNotifications": False,
        "extensions": [{"uri": "urn:x", "required": False, "params": {"a": 1, "b": [0.5, 1e21, 1e-7, True], "é": "é"}}],
    },
    "securitySchemes": {"key": {"apiKeySecurityScheme": {"location": "header", "name": "X-API-Key"}}},
    "securityRequirements": [{"schemes": {"key": {"list": ["read"]}}}],
    "defaultInputModes": ["text/plain"],
    "defaultOutputModes": ["text/plain"],
    "skills": [{"id": "where", "name": "Where", "description": "Says where.", "tags": ["maps"], "examples": ["x"]}],
}
"""Nothing in it is empty: the specification's form and that of the official libraries are the same."""
BLANKS: Json = {
    **PLAIN,
    "description": "",
    "documentationUrl": "",
    "securityRequirements": [{"schemes": {"key": {"list": []}}}],
    "capabilities": {"extensions": [{"uri": "urn:x", "params": {"a": "", "b": [None, []], "c": {}}}]},
    "skills": [{"id": "where", "name": "Where", "description": "", "tags": []}],
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def signing(nats_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    """A gateway that signs with a key of every kind, over all bindings."""
    folder = tmp_path_factory.mktemp("signing")
    (folder / "keys.json").write_text(json.dumps({"keys": [key.jwk for key in KEYS.values()]}))
    (folder / "club.json").write_bytes(encode(EXTENDED))
    async with serving(
        AGENTS,
        nats=nats_url,
        default_agent="scripted",
        grpc_port=free_port(),
        extended_card=str(folder / "club.json"),
        card_keys=str(folder / "keys.json"),
        card_jku=JKU,
    ) as settings:
        yield settings


async def fetched(settings: Settings, path: str = CARD_PATH) -> Json:
    async with httpx.AsyncClient(base_url=settings.base_url) as http:
        found: Json = (await http.get(path)).raise_for_status().json()
        return found


def trusting(*keys: Key) -> CardKeys:
    return CardKeys(jwks(keys or list(KEYS.values())))


def officially_verified(card: Json, key: Key) -> None:
    verify = create_signature_verifier(lambda kid, _: jwt.PyJWK(key.public) if kid == key.kid else "", [key.algorithm])
    verify(parse_agent_card(json.loads(json.dumps(card))))


def officially_signed(card: Json, key: Key) -> Json:
    sign = create_agent_card_signer(key.loaded, {"alg": key.algorithm, "kid": key.kid, "typ": "JOSE", "jku": None})
    return MessageToDict(sign(parse_agent_card(json.loads(json.dumps(card)))))


async def in_javascript(folder: Path, *asked: Json) -> list[Any]:
    path = folder / "cards.json"
    await asyncio.to_thread(path.write_text, json.dumps(asked))
    found: list[Any] = json.loads(await javascript.run(PROGRAM, str(path)))
    return found


def signed_here(card: Json, *keys: Key) -> Json:
    return {**card, "signatures": signatures(card, keys)}


# --- a gateway and our client ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("path", ["", "/agents/echo", "/agents/club"])
async def test_every_card_of_a_gateway_is_signed_with_every_key(signing: Settings, path: str, algorithm: str) -> None:
    async with Client(signing.base_url + path, card_keys=trusting(KEYS[algorithm])) as client:
        card = await client.card()
        assert card.supported_interfaces
        assert card.signatures
        await client.send("hello")
    for signature in card.signatures:
        header = json.loads(base64.urlsafe_b64decode(signature.protected + "=="))
        assert JKU == header["jku"]


@pytest.mark.parametrize("binding", [*BINDINGS, "GRPC"])
async def test_the_extended_card_is_signed_in_every_binding(signing: Settings, binding: Any) -> None:
    async with Client(f"{signing.base_url}/agents/club", card_keys=trusting(), binding=binding) as client:
        assert ["secret"] == [skill.id for skill in (await client.extended_card()).skills if skill.id == "secret"]
    where, tenant = (
        (signing.grpc_address, "agents/club") if binding == "GRPC" else (f"{signing.base_url}/agents/club", "")
    )
    stranger = trusting(new_key("EdDSA", kid="of EdDSA"))
    async with Client.at(where, binding, tenant=tenant, card_keys=stranger) as client:
        with pytest.raises(CardNotTrusted, match="another key has signed it"):
            await client.extended_card()


async def test_a_card_of_somebody_else_is_refused_before_anything_is_sent(signing: Settings) -> None:
    stranger = trusting(new_key("EdDSA", kid="of EdDSA"))
    async with Client(signing.base_url, card_keys=stranger) as client:
        with pytest.raises(CardNotTrusted):
            await client.send("hello")


async def test_the_public_keys_are_shown(signing: Settings) -> None:
    shown = await fetched(signing, "/.well-known/jwks.json")
    assert jwks(list(KEYS.values())) == shown
    async with httpx.AsyncClient(base_url=signing.base_url) as http:
        assert 404 == (await http.get("/agents/echo/.well-known/jwks.json")).status_code
    async with Client(signing.base_url, card_keys=CardKeys(shown)) as client:
        assert (await client.card()).name == "scripted"


async def test_a_signed_card_keeps_its_validators(signing: Settings) -> None:
    async with httpx.AsyncClient(base_url=signing.base_url) as http:
        first, second = await http.get(CARD_PATH), await http.get(CARD_PATH)
        assert first.content == second.content
        answer = await http.get(CARD_PATH, headers={"If-None-Match": first.headers["etag"]})
    assert 304 == answer.status_code


async def test_a_key_that_comes_into_the_file_signs_without_a_restart(nats_url: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    old, new = KEYS["EdDSA"], KEYS["ES256"]
    path.write_text(json.dumps(old.jwk))
    async with serving(AGENTS[:1], nats=nats_url, card_keys=str(path), hybrid_card=True) as settings:
        before = await fetched(settings)
        path.write_text(json.dumps({"keys": [old.jwk, new.jwk]}))

        async def changed() -> bool:
            return await fetched(settings) != before

        await eventually(changed)
        after = await fetched(settings)
        for key in (old, new):
            await trusting(key).verified(json.dumps(after).encode(), "here")
            officially_verified(after, key)
        with pytest.raises(CardNotTrusted):
            await trusting(new).verified(json.dumps(before).encode(), "here")
        # With the members of 0.3 beside those of 1.0, which nobody signs and nobody is handed out.
        assert "protocolVersion" in after
        assert b"preferredTransport" not in await trusting().verified(json.dumps(after).encode(), "here")


async def test_what_the_author_signed_is_not_shown_as_a_gateways(nats_url: str, tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    card = signed_here({**json.loads(encode(AGENTS[0].card)), "description": "Mine."}, KEYS["RS256"])
    path.write_text(json.dumps(card))
    async with serving(AGENTS[:1], nats=nats_url, card=str(path)) as settings:
        shown = await fetched(settings)
    assert "Mine." == shown["description"]
    assert "signatures" not in shown


# --- the official libraries ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_the_official_library_accepts_cards_of_a_gateway(signing: Settings, algorithm: str) -> None:
    for path in ("", "/agents/echo"):
        card = await fetched(signing, path + CARD_PATH)
        officially_verified(card, KEYS[algorithm])
        with pytest.raises(InvalidSignaturesError):
            officially_verified({**card, "description": "another"}, KEYS[algorithm])


@pytest.mark.parametrize("card", [PLAIN, BLANKS], ids=["plain", "blanks"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_cards_are_accepted_between_us_and_the_official_library(algorithm: str, card: Json) -> None:
    key = KEYS[algorithm]
    officially_verified(signed_here(card, key), key)
    theirs = officially_signed(card, key)
    for served in (theirs, {**card, "signatures": theirs["signatures"]}):  # as they write it, and as it was written
        verified = await trusting(key).verified(json.dumps(served).encode(), "there")
        assert card["name"] == msgspec.json.decode(verified)["name"]
    with pytest.raises(CardNotTrusted):
        await trusting(key).verified(json.dumps({**theirs, "name": "Mallory"}).encode(), "there")


async def test_cards_are_accepted_between_us_and_the_official_javascript_library(
    signing: Settings, tmp_path: Path
) -> None:
    cases = [(key, card) for key in KEYS.values() for card in (PLAIN, BLANKS, await fetched(signing))]
    ours = [{"card": signed_here(card, key), "key": key.public} for key, card in cases]
    served = [{"card": cases[2][1], "key": key.public} for key in KEYS.values()]
    bad = [{"card": {**each["card"], "name": "Mallory"}, "key": each["key"]} for each in ours]
    mine = [{"card": {**card, "signatures": []}, "key": key.jwk, "sign": key.algorithm} for key, card in cases]
    results = await in_javascript(tmp_path, *ours, *served, *bad, *mine)
    assert [True] * len(ours + served) == results[: len(ours + served)]
    for refused in results[len(ours + served) : -len(mine)]:
        assert "No valid signatures" in refused["failed"]
    for (key, card), theirs in zip(cases, results[-len(mine) :], strict=True):
        verified = await trusting(key).verified(json.dumps(theirs).encode(), "there")
        assert card["name"] == msgspec.json.decode(verified)["name"]
        with pytest.raises(CardNotTrusted):
            await trusting(key).verified(json.dumps({**theirs, "version": "9"}).encode(), "there")
