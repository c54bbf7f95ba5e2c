"""Signatures of cards: the bytes that they are of, what is accepted, and what is not."""

from __future__ import annotations

import base64
import hmac
import json
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import rfc8785
from a2a.types import AgentCard
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from a2a_events import limits
from a2a_events.signing import strict_json
from a2a_events.signing.algorithms import ALGORITHMS
from a2a_events.signing.canonical import SCHEMA, NotCanonical, forms, read
from a2a_events.signing.keys import (
    BadKey,
    Key,
    jwks,
    new_key,
    published_keys,
    signing_keys,
    thumbprint,
    trusted_keys,
)
from a2a_events.signing.sign import CardSigner, signatures
from a2a_events.signing.verify import NotVerified, SignedCard
from tests.unit.card_strategies import Json, cards, changed, places

NOW = 1_800_000_000.0
KEYS = {algorithm: new_key(algorithm, kid=f"of {algorithm}") for algorithm in ALGORITHMS}
ED, EC, RSA = (KEYS[name] for name in ("EdDSA", "ES256", "RS256"))

CARD: Json = {
    "name": "Geographer",
    "description": "Knows where things are.",
    "version": "1.2",
    "supportedInterfaces": [{"url": "https://a.example", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}],
    "capabilities": {"streaming": True, "pushNotifications": False},
    "defaultInputModes": ["text/plain"],
    "defaultOutputModes": ["text/plain"],
    "skills": [{"id": "where", "name": "Where", "description": "Says where.", "tags": ["maps"]}],
}


def signed(card: Json, *keys: Key) -> Json:
    return {**card, "signatures": signatures(card, keys or (ED,))}


def trusting(*keys: Key) -> dict[str, Key]:
    return trusted_keys(jwks(keys or (ED,)))


def checked(card: Json | bytes, *keys: Key, now: float = NOW) -> Json:
    content = card if isinstance(card, bytes) else json.dumps(card).encode()
    return SignedCard(content).verified(trusting(*keys), now).card


def refusal(card: Json | bytes, *keys: Key, now: float = NOW) -> str:
    """What the error says of a card that is not accepted."""
    with pytest.raises(NotVerified) as refused:
        checked(card, *keys, now=now)
    return str(refused.value)


def encoded(value: bytes | Json) -> str:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def forged(protected_header: Json | bytes, sign: Callable[[bytes], bytes], **more: Any) -> Json:
    """A card with a signature whose header says anything, made in any way."""
    protected = encoded(protected_header)
    signature = sign(f"{protected}.{encoded(forms(CARD)[0].payload)}".encode())
    return {**CARD, "signatures": [{"protected": protected, "signature": encoded(signature), **more}]}


def by(key: Key) -> Callable[[bytes], bytes]:
    algorithm = key.loaded.Algorithm
    return lambda content: algorithm.sign(content, key.loaded.key)


def header_of(key: Key, **more: Any) -> Json:
    return {"alg": key.algorithm, "kid": key.kid, "typ": "JOSE", **more}


# --- which bytes -----------------------------------------------------------------------------------------------------


def described(message: Any) -> dict[str, tuple[str, bool, bool]]:
    """Members of a message of a2a.proto: of one or many, required, with presence."""
    found = {}
    for field in message.fields:
        rules = [value for option, value in field.GetOptions().ListFields() if option.name == "field_behavior"]
        entry = field.message_type is not None and field.message_type.GetOptions().map_entry
        many = "map" if entry else "list" if field.is_repeated else ""
        found[field.json_name] = (many, any(2 in rule for rule in rules), bool(field.has_presence))
    return found


def messages(message: Any, seen: dict[str, Any] | None = None) -> dict[str, Any]:
    seen = {} if seen is None else seen
    for field in message.fields:
        inner = field.message_type
        if inner is None or inner.full_name.startswith("google.") or inner.name == "AgentCardSignature":
            continue
        if inner.GetOptions().map_entry:
            messages(inner, seen)
        elif inner.name not in seen:
            seen[inner.name] = inner
            messages(inner, seen)
    return seen


def test_the_schema_is_that_of_the_official_proto() -> None:
    official = {"AgentCard": AgentCard.DESCRIPTOR, **messages(AgentCard.DESCRIPTOR)}
    assert official.keys() == SCHEMA.keys()
    for name, message in official.items():
        fields = {
            each: rules for each, rules in described(message).items() if (name, each) != ("AgentCard", "signatures")
        }
        assert fields == {each: (m.many, m.required, m.presence) for each, m in SCHEMA[name].items()}, name


def test_members_are_kept_by_the_rules_of_8_4_1() -> None:
    card = {
        "name": "Example Agent",
        "description": "",
        "supportedInterfaces": [],
        "version": "",
        "capabilities": {"streaming": False, "pushNotifications": False, "extensions": []},
        "defaultInputModes": [],
        "defaultOutputModes": [],
        "skills": [],
        "securityRequirements": [],
        "documentationUrl": "",
        "signatures": [{"protected": "x", "signature": "y"}],
        "somethingElse": 1,
    }
    specified, abridged = forms(card)
    assert specified.payload == (
        b'{"capabilities":{"pushNotifications":false,"streaming":false},"defaultInputModes":[],"defaultOutputModes":[],'
        b'"description":"","documentationUrl":"","name":"Example Agent","skills":[],"supportedInterfaces":[],'
        b'"version":""}'
    )
    assert abridged.payload == b'{"capabilities":{"pushNotifications":false,"streaming":false},"name":"Example Agent"}'


def test_a_card_without_anything_empty_has_one_form() -> None:
    assert 1 == len(forms(CARD))
    assert 1 == len(signatures(CARD, [ED]))
    assert 2 == len(signatures({**CARD, "description": ""}, [ED]))


def test_both_spellings_of_a_member_are_the_same_and_not_both_at_once() -> None:
    card = {**CARD, "default_input_modes": CARD["defaultInputModes"]}
    del card["defaultInputModes"]
    assert forms(CARD) == forms(card)
    with pytest.raises(NotCanonical, match="defaultInputModes twice"):
        forms({**CARD, "default_input_modes": []})


# RFC 8785, 3.2.2 and 3.2.3.
def test_values_and_members_as_in_the_rfc() -> None:
    written = rb"""{
        "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
        "literals": [null, true, false]
    }"""
    assert rfc8785.dumps(strict_json.read(written)) == (
        b'{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        rb'"string":"' + "€".encode() + rb"$\u000f\nA'B\"\\\\\"/" + b'"}'
    )
    names = {"€": 1, "\r": 2, "\ufb33": 3, "1": 4, "😀": 5, "\x80": 6, "ö": 7}
    ordered = json.loads(rfc8785.dumps(names))
    assert [2, 4, 6, 7, 1, 5, 3] == list(ordered.values())


# RFC 8785, appendix B.
@pytest.mark.parametrize(
    ("bits", "text"),
    [
        ("0000000000000000", "0"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("8000000000000001", "-5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("c340000000000000", "-9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("44b52d02c7e14af6", "1e+23"),
        ("44b52d02c7e14af7", "1.0000000000000001e+23"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"),
        ("444b1ae4d6e2ef4f", "999999999999999900000"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("41b3de4355555553", "333333333.3333332"),
        ("41b3de4355555557", "333333333.33333343"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
        ("43143ff3c1cb0959", "1424953923781206.2"),
    ],
)
def test_numbers_as_in_the_rfc(bits: str, text: str) -> None:
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert rfc8785.dumps(number).decode() == text
    assert rfc8785.dumps(strict_json.read(repr(number))).decode() == text


def test_an_integer_that_is_no_double_is_signed_as_the_double_that_every_reader_makes_of_it() -> None:
    card = {**CARD, "capabilities": {"extensions": [{"uri": "u", "params": {"n": 2**60 + 1}}]}}
    content = json.dumps(signed(read(json.dumps(card).encode()))).encode()
    (extension,) = checked(content)["capabilities"]["extensions"]
    assert extension["params"]["n"] == float(2**60)


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"{",
        b'{"name":"a","name":"b"}',
        b'{"name":NaN}',
        b'{"name":1}',
        b'{"skills":{}}',
        b'{"skills":[null]}',
        b'{"capabilities":[]}',
        b'{"name":"\\ud800"}',
        b'{"capabilities":{"extensions":[{"params":{"\\ud800":1}}]}}',
        b'{"capabilities":{"extensions":[{"params":{"n":1e400}}]}}',
        b'{"capabilities":{"extensions":[{"params":{"n":' + b"9" * 400 + b"}}]}}",
        b'{"capabilities":{"extensions":[{"params":{"a":' + b"[" * 100 + b"]" * 100 + b"}}]}}",
        b'{"capabilities":{"extensions":[{"params":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}]}}",
        b"\xff",
        b'{"signatures":{"a":1}}',
        b'{"signatures":[' + b",".join([b"{}"] * (limits.CARD_SIGNATURES + 1)) + b"]}",
    ],
)
def test_what_has_no_canonical_form_is_refused_as_such(content: bytes) -> None:
    with pytest.raises(NotCanonical):
        SignedCard(content)


# --- what is good ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_signed_card_is_accepted(algorithm: str) -> None:
    key = KEYS[algorithm]
    card = signed(CARD, key)
    assert checked(card, key) == card
    (signature,) = card["signatures"]
    header = json.loads(base64.urlsafe_b64decode(signature["protected"] + "=="))
    assert header == {"alg": algorithm, "kid": key.kid, "typ": "JOSE"}
    assert signature.keys() == {"protected", "signature"}


@given(cards())
def test_any_card_signs_and_verifies(card: Json) -> None:
    content = json.dumps(card).encode()
    made = read(content)
    verified = checked({**made, "signatures": signatures(made, [ED])})
    assert {name: each for name, each in verified.items() if name != "signatures"} == forms(made)[0].card


@given(cards(), st.data())
def test_what_is_handed_out_is_what_was_signed(card: Json, data: st.DataObject) -> None:
    """Whatever is changed in whatever card: it is refused, or the change was of nothing that anybody is shown."""
    made = read(json.dumps(card).encode())
    where = data.draw(st.sampled_from(sorted(places(made), key=repr)))
    how = data.draw(st.sampled_from(["changed", "emptied", "gone", "doubled"]))
    other = changed(made, where, how)
    try:
        verified = checked({**other, "signatures": signatures(made, [ED])})
    except (NotVerified, NotCanonical):
        return
    shown = {name: each for name, each in verified.items() if name != "signatures"}
    assert shown in [form.card for form in forms(made)]


@given(cards(), st.data())
def test_a_change_of_what_says_something_is_refused(card: Json, data: st.DataObject) -> None:
    made = forms(read(json.dumps(card).encode()))[0].card
    telling = [path for path in places(made) if isinstance(value_at(made, path), bool | str) and value_at(made, path)]
    if not telling:
        return
    other = changed(made, data.draw(st.sampled_from(telling)), "changed")
    assert "not of this card" in refusal({**other, "signatures": signatures(made, [ED])})


def value_at(value: Any, path: tuple[str | int, ...]) -> Any:
    for name in path:
        value = value[name]
    return value


def test_what_is_not_signed_is_not_handed_out() -> None:
    card = signed(CARD)
    card["url"] = "https://evil.example"
    card["skills"] = [{**CARD["skills"][0], "endpoint": "https://evil.example"}]
    assert "evil" not in json.dumps(checked(card))


def test_of_both_forms_the_one_that_says_more_is_handed_out_whatever_their_order() -> None:
    card = {**CARD, "securityRequirements": [{"schemes": {"apiKey": {"list": []}}}]}
    both = signatures(card, [ED])
    assert 2 == len(both)
    requirements: list[Json] = [{"schemes": {"apiKey": {}}}]
    assert checked({**card, "signatures": both[::-1]})["securityRequirements"] == requirements
    # The official libraries sign no empty list of scopes, and so nothing is known of it.
    assert "securityRequirements" not in checked({**card, "signatures": both[1:]})


def test_one_good_signature_is_enough() -> None:
    stranger = new_key("ES256", kid="stranger")
    card = signed(CARD, stranger, RSA)
    bad = {"protected": "!", "signature": "x"}
    card["signatures"] = [bad, None, *card["signatures"]]
    assert checked(card, RSA)["name"] == CARD["name"]
    said = refusal(card, EC)
    assert "no such key is trusted" in said
    assert "'stranger'" in said


# --- what is not -----------------------------------------------------------------------------------------------------


def test_a_card_without_signatures_is_not_verified() -> None:
    assert "it is not signed" == refusal(CARD)
    assert "it is not signed" == refusal({**CARD, "signatures": []})


def test_a_tampered_card_is_refused() -> None:
    card = signed(CARD)
    card["supportedInterfaces"] = [{**CARD["supportedInterfaces"][0], "url": "https://evil.example"}]
    assert "changed after it was signed" in refusal(card)


def test_a_signature_under_the_name_of_another_key_is_refused() -> None:
    other = new_key("EdDSA", kid=ED.kid)
    assert "another key has signed it" in refusal(signed(CARD, other))


def test_without_a_signature_there_is_none() -> None:
    for alg in ("none", "None", "", None):
        card = forged({"alg": alg, "kid": ED.kid}, lambda _: b"x")
        assert "its algorithm must be one of" in refusal(card)
        card["signatures"][0]["signature"] = ""
        assert "no base64url" in refusal(card)


def test_a_public_key_is_no_shared_secret() -> None:
    """The confusion of algorithms: HMAC under what everybody knows."""
    pem = RSA.loaded.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for secret in (pem, json.dumps(RSA.public).encode(), b""):
        card = forged({"alg": "HS256", "kid": RSA.kid}, partial(hmac.digest, secret, digest="sha256"))
        assert "its algorithm must be one of" in refusal(card, RSA)


def test_the_key_decides_the_algorithm() -> None:
    assert "its key is for EdDSA, not for RS256" in refusal(forged(header_of(ED, alg="RS256"), by(ED)))
    weaker = forged(header_of(RSA, alg="PS256"), by(RSA))
    assert "its algorithm must be one of" in refusal(weaker, RSA)
    assert "its key is for RS256, not for ES256" in refusal(forged(header_of(EC, kid=RSA.kid), by(EC)), RSA)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"crit": ["exp"], "exp": 1}, "not understood"),
        ({"crit": []}, "not understood"),
        ({"b64": True}, "not understood"),
        ({"b64": False, "crit": ["b64"]}, "not understood"),
        ({"typ": "JWT"}, "something else than a card"),
        ({"typ": "at+jwt"}, "something else than a card"),
        ({"kid": ""}, "names no key"),
        ({"kid": 7}, "names no key"),
        ({"kid": None}, "names no key"),
    ],
)
def test_a_header_that_says_what_is_not_understood_is_refused(more: Json, said: str) -> None:
    assert said in refusal(forged(header_of(ED, **more), by(ED)))


def test_a_key_in_the_header_is_nobodys() -> None:
    mallory = new_key("EdDSA", kid="mallory")
    card = forged(header_of(mallory, jwk=mallory.public, jku="https://evil.example/jwks.json"), by(mallory))
    assert "no such key is trusted" in refusal(card)


def test_a_header_that_can_be_read_in_two_ways_is_refused() -> None:
    twice = b'{"alg":"EdDSA","kid":"mallory","kid":"%s"}' % ED.kid.encode()
    assert "is there twice" in refusal(forged(twice, by(ED)))
    assert "contradict" in refusal(forged(header_of(ED), by(ED), header={"kid": "other"}))
    assert checked(forged(header_of(ED), by(ED), header={"note": "x"}))["name"]


def test_a_card_that_can_be_read_in_two_ways_is_refused() -> None:
    content = json.dumps(signed(CARD)).encode()
    with pytest.raises(NotCanonical, match="'name' is there twice"):
        checked(content.replace(b'"name": "Geographer"', b'"name": "Mallory", "name": "Geographer"', 1))


@pytest.mark.parametrize("change", [lambda s: s + "=", lambda s: s + "\n", lambda s: s + ".x", lambda s: f" {s}"])
@pytest.mark.parametrize("member", ["protected", "signature"])
def test_a_signature_is_written_in_one_way(member: str, change: Callable[[str], str]) -> None:
    card = signed(CARD)
    card["signatures"][0][member] = change(card["signatures"][0][member])
    assert "no base64url" in refusal(card)


def test_the_last_bits_of_base64_are_zero() -> None:
    """Another text of the same bytes is another signature."""
    card = signed(CARD)
    signature = card["signatures"][0]["signature"]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = signature[:-1] + alphabet[alphabet.index(signature[-1]) ^ 1]
    assert base64.urlsafe_b64decode(other + "==") == base64.urlsafe_b64decode(signature + "==")
    card["signatures"][0]["signature"] = other
    assert "not of this card" in refusal(card)


@pytest.mark.parametrize(
    "signature",
    [None, 1, "x", [], {}, {"protected": 1, "signature": "x"}, {"protected": "e30", "signature": "eA", "header": 1},
     {"protected": encoded(b"[]"), "signature": "eA"}, {"protected": encoded(b"\xff"), "signature": "eA"},
     {"protected": encoded(b"[" * 100_000), "signature": "eA"}],
)  # fmt: skip
def test_what_is_no_signature_is_a_bad_one(signature: Any) -> None:
    assert refusal({**CARD, "signatures": [signature]})
    assert checked({**CARD, "signatures": [signature, *signed(CARD)["signatures"]]})


# --- keys ------------------------------------------------------------------------------------------------------------


def test_a_key_counts_from_its_beginning_to_its_end() -> None:
    key = signing_keys(json.dumps({**ED.jwk, "nbf": NOW - 10, "exp": NOW + 10}).encode())[0]
    card = signed(CARD, key)
    assert checked(card, key)
    assert "its key has expired" in refusal(card, key, now=NOW + 10)
    assert "its key is not valid yet" in refusal(card, key, now=NOW - 11)
    revoked = trusted_keys({**key.public, "revoked": {"revoked_at": 1}})
    with pytest.raises(NotVerified, match="its key is revoked"):
        SignedCard(json.dumps(card).encode()).verified(revoked, NOW)


def test_what_is_published_of_a_key_says_when_it_counts() -> None:
    bounds = {"nbf": NOW - 10, "exp": NOW + 10, "revoked": {"revoked_at": NOW, "reason": "compromised"}}
    keys = signing_keys(json.dumps({**ED.jwk, **bounds}).encode())
    (shown,) = json.loads(CardSigner(lambda: keys).published())["keys"]
    assert bounds == {name: each for name, each in shown.items() if name not in ED.public}
    assert "its key is revoked" in refusal(signed(CARD, ED), keys[0], now=NOW)


def test_a_key_has_the_name_that_follows_from_it_if_it_is_given_none() -> None:
    # RFC 7638, 3.1, and RFC 8037, A.3.
    assert "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs" == thumbprint(
        {
            "kty": "RSA",
            "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjB"
            "ZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8"
            "KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_"
            "xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
            "e": "AQAB",
            "alg": "RS256",
        }
    )
    okp = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    assert "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k" == thumbprint(okp)
    made = new_key("ES256")
    assert made.kid == thumbprint(made.public)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_keys_come_as_pem_and_as_jwk(algorithm: str) -> None:
    key = KEYS[algorithm]
    pem = key.loaded.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (loaded,) = signing_keys(pem, "named")
    assert ("named", algorithm) == (loaded.kid, loaded.algorithm)
    assert checked(signed(CARD, loaded), loaded)
    public = key.loaded.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (name,) = trusted_keys(public)
    assert name == signing_keys(pem)[0].kid
    (again,) = signing_keys(json.dumps(key.jwk).encode())
    assert again.kid == key.kid


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_public_half_holds_nothing_secret(algorithm: str) -> None:
    public = json.dumps(KEYS[algorithm].public)
    for name in ("d", "p", "q", "dp", "dq", "qi"):
        if name in KEYS[algorithm].jwk:
            assert f'"{name}"' not in public
            assert KEYS[algorithm].jwk[name] not in public
    assert "d" in KEYS[algorithm].jwk


def rsa_key(bits: int) -> Json:
    return RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, bits).public_key(), as_dict=True)


def p384() -> Json:
    return ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"kty": "oct", "k": "c2VjcmV0", "kid": "a"}, "of kind 'oct'"),
        ({**ED.public, "use": "enc"}, "not to sign"),
        ({**ED.public, "key_ops": ["encrypt"]}, "not for verify"),
        ({**ED.public, "key_ops": 5}, "not for verify"),
        ({**ED.public, "alg": "ES256"}, "must be for EdDSA"),
        ({**EC.public, "alg": "HS256"}, "must be for ES256"),
        (ED.jwk, "private key"),
        (rsa_key(1024), "1024 bits"),
        (p384(), "P-384"),
        ({**EC.public, "x": EC.public["y"]}, "cannot be read"),
        ({**ED.public, "x": 5}, "cannot be read"),
        ({**RSA.public, "n": None}, "cannot be read"),
        ({**ED.public, "kty": []}, "of kind []"),
        ({**ED.public, "kid": 5}, "a kid that is no text"),
        ({**ED.public, "exp": "tomorrow"}, "no number of seconds"),
        ({"keys": [ED.public, ED.public]}, "two keys are called"),
        ({"keys": [1]}, "neither a JWK nor a JWKS"),
        ({"keys": []}, "no key in it"),
        ([], "neither a JWK nor a JWKS"),
        (b'{"kty":"OKP","kty":"EC"}', "is there twice"),
        (b"nothing", "neither PEM nor JSON"),
        (b"-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----", "not the PEM"),
        (b" " * (limits.JWKS_BYTES + 1), "bytes"),
    ],
)
def test_a_key_that_is_of_no_use_is_refused(content: Any, said: str) -> None:
    given = content if isinstance(content, bytes) else json.dumps(content).encode()
    with pytest.raises(BadKey) as refused:
        trusted_keys(given)
    assert said in str(refused.value)


def test_a_public_key_cannot_sign() -> None:
    with pytest.raises(BadKey, match="cannot sign"):
        signing_keys(json.dumps(ED.public).encode())


def test_a_published_set_may_hold_more_than_keys_for_cards() -> None:
    found = published_keys(
        {"keys": [{"kty": "oct", "k": "eA"}, {**EC.public, "use": "enc", "kid": "e"}, p384(), ED.public]}
    )
    assert [ED.kid] == list(found)


_MEMBERS = st.sampled_from(["kty", "crv", "x", "y", "n", "e", "kid", "alg", "use", "key_ops", "d"])
_VALUES = st.one_of(
    st.none(),
    st.integers(),
    st.sampled_from(["EC", "RSA", "OKP", "P-256", "Ed25519", "AQAB"]),
    st.text(max_size=8),
    st.lists(st.text(max_size=3), max_size=2),
)


@given(st.dictionaries(_MEMBERS, _VALUES))
def test_no_key_breaks_the_reader(members: Json) -> None:
    published_keys({"keys": [members]})


# --- the gateway's signer --------------------------------------------------------------------------------------------


def test_a_card_is_signed_once_until_it_or_the_keys_change() -> None:
    keys = [EC]  # whose signatures are never the same twice
    signer = CardSigner(lambda: keys, jku="https://a.example/jwks.json")
    content = json.dumps(CARD).encode()
    first = signer(content)
    assert first == signer(content)
    assert checked(first, EC)
    assert b'"jku":"https' in base64.urlsafe_b64decode(json.loads(first)["signatures"][0]["protected"] + "==")
    other = json.dumps({**CARD, "version": "2"}).encode()
    assert "2" == checked(signer(other), EC)["version"]
    keys.append(ED)
    both = json.loads(signer(content))
    assert 2 == len(both["signatures"])
    assert checked(both, ED)
    assert checked(both, EC)


def test_signatures_of_somebody_else_are_replaced() -> None:
    signer = CardSigner(lambda: [ED])
    again = json.loads(signer(json.dumps(signed(CARD, RSA)).encode()))
    assert 1 == len(again["signatures"])
    assert checked(again, ED)


def test_an_expired_key_signs_no_more() -> None:
    now = NOW
    (ending,) = signing_keys(json.dumps({**ED.jwk, "exp": NOW + 10}).encode())
    signer = CardSigner(lambda: [ending, EC], now=lambda: now)
    content = json.dumps(CARD).encode()
    assert 2 == len(json.loads(signer(content))["signatures"])
    now = NOW + 10
    (left,) = json.loads(signer(content))["signatures"]
    assert EC.kid == json.loads(base64.urlsafe_b64decode(left["protected"] + "=="))["kid"]
    only = CardSigner(lambda: [ending], now=lambda: now)
    assert "signatures" not in json.loads(only(content))
    assert ending.kid == json.loads(only.published())["keys"][0]["kid"]


def test_a_card_that_cannot_be_signed_is_shown_all_the_same() -> None:
    card = {**CARD, "securitySchemes": {"x": {"apiKeySecurityScheme": "no object"}}}
    assert card == json.loads(CardSigner(lambda: [ED])(json.dumps(card).encode()))
