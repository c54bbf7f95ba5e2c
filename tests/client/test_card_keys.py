"""Whose cards a client believes, where it gets the keys from, and what it says of cards that it does not believe."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from a2a_events import limits
from a2a_events.client import CardKeys, CardNotTrusted, Client, ConnectionFailed, api_key, card_keys
from a2a_events.errors import InternalError, UnauthenticatedError
from a2a_events.signing.keys import Key, jwks, new_key, signing_keys
from a2a_events.signing.sign import signatures
from tests.client.conftest import QUICK
from tests.client.scripted import Answer, Gateway, Json, card, result, task
from tests.client.serving import dead

KEY = new_key("EdDSA", kid="ours")
STRANGER = new_key("ES256", kid="strange")


def signed(at: Gateway, *keys: Key, jku: str = "") -> Json:
    plain = card((at.url, "JSONRPC", "1.0"))
    return {**plain, "signatures": signatures(plain, keys or (KEY,), jku)}


def knowing(at: Gateway, keys: CardKeys, **options: Any) -> Client:
    return Client(at.url, card_keys=keys, retry=QUICK, **options)


async def test_an_agent_whose_card_is_signed_by_whom_we_trust_is_talked_to(first: Gateway) -> None:
    first.card = signed(first)
    first.will(result({"task": task("COMPLETED")}))
    async with knowing(first, CardKeys(jwks([KEY]))) as client:
        await client.send("hi")
        assert "scripted" == (await client.card()).name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "no such key is trusted"),
        ({"name": "mallory"}, "no such key is trusted"),
        ({"signatures": []}, "its operator has to sign it"),
        ({"signatures": [{"protected": "e30", "signature": "eA"}]}, "its algorithm must be one of"),
        ({"skills": 1}, "cannot be checked"),
    ],
)
async def test_one_whose_card_is_not_is_sent_nothing(first: Gateway, change: Json, said: str) -> None:
    first.card = {**signed(first, STRANGER), **change}
    async with knowing(first, CardKeys(jwks([KEY])), credentials=api_key("secret")) as client:
        with pytest.raises(CardNotTrusted, match=said) as refused:
            await client.send("hi")
    assert first.url in refused.value.message
    assert not refused.value.retry_safe
    assert [] == first.operations


async def test_another_gateway_is_not_asked_instead(first: Gateway, second: Gateway) -> None:
    """A gateway that shows a false card is no outage."""
    first.card, second.card = signed(first, STRANGER), signed(second)
    async with Client([first.url, second.url], card_keys=CardKeys(jwks([KEY])), retry=QUICK) as client:
        with pytest.raises(CardNotTrusted):
            await client.send("hi")
    assert 0 == second.cards


async def test_a_card_need_not_be_signed_where_that_is_said(first: Gateway) -> None:
    keys = CardKeys(jwks([KEY]), policy="if_signed")
    first.card = card((first.url, "JSONRPC", "1.0"))
    async with knowing(first, keys) as client:
        assert "scripted" == (await client.card()).name
    first.card = signed(first, STRANGER)
    async with knowing(first, keys) as client:
        with pytest.raises(CardNotTrusted):
            await client.card()
    first.card = signed(first, STRANGER, KEY)
    async with knowing(first, keys) as client:
        assert "scripted" == (await client.card()).name


async def test_a_card_of_0_3_is_accepted_unsigned_at_most(first: Gateway) -> None:
    old = {"name": "old", "url": first.url, "protocolVersion": "0.3.0", "preferredTransport": "JSONRPC"}
    first.card = old
    async with knowing(first, CardKeys(jwks([KEY]), policy="if_signed")) as client:
        assert "old" == (await client.card()).name
    first.card = {**old, "signatures": signatures(old, [KEY])}
    for policy in ("if_signed", "required"):
        async with knowing(first, CardKeys(jwks([KEY]), policy=policy)) as client:
            with pytest.raises(CardNotTrusted, match=r"0\.3"):
                await client.card()


async def test_the_members_of_0_3_in_a_signed_card_lead_nowhere(first: Gateway, second: Gateway) -> None:
    """Nobody signs them, so they must not say where requests go."""
    first.card = {
        **signed(first),
        "url": second.url,
        "additionalInterfaces": [{"url": second.url, "transport": "JSONRPC"}],
    }
    first.will(result({"task": task("COMPLETED")}))
    async with knowing(first, CardKeys(jwks([KEY]))) as client:
        await client.send("hi")
    assert ["SendMessage"] == first.operations


async def test_what_nobody_signed_is_not_shown(first: Gateway) -> None:
    """The official libraries sign nothing that is empty, so it can be put into a card afterwards."""
    _, abridged = signed(first)["signatures"]
    nothing_needed: Json = {"securityRequirements": [{"schemes": {"none": {"list": []}}}]}
    first.card = {**signed(first), **nothing_needed, "signatures": [abridged]}
    async with knowing(first, CardKeys(jwks([KEY]))) as client:
        assert () == (await client.card()).security_requirements
    async with Client(first.url) as believing:
        assert 1 == len((await believing.card()).security_requirements)


async def test_a_key_that_has_expired_ends_the_trust_in_a_card_that_has_not_changed(
    first: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ending,) = signing_keys(json.dumps({**KEY.jwk, "exp": time.time() + 1000}).encode())
    first.card, first.card_headers = signed(first, ending), {"etag": '"1"'}
    async with knowing(first, CardKeys(jwks([ending]))) as client:
        assert await client.card() == await client.card()
        later = time.time() + 1001
        monkeypatch.setattr(time, "time", lambda: later)
        with pytest.raises(CardNotTrusted, match="expired"):
            await client.card()
    assert 3 == first.cards


@pytest.mark.parametrize("ending", ["withdrawn", "expired"])
async def test_no_cache_control_keeps_a_key_that_counts_no_more(
    first: Gateway, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """It is not signed: who stands between can write what he likes into it."""
    (key,) = signing_keys(json.dumps({**KEY.jwk, "exp": time.time() + 1000}).encode())
    trusted = [key]
    first.card, first.card_headers = signed(first, key), {"cache-control": "max-age=999999999", "etag": '"1"'}
    first.will(result(task("WORKING")))
    async with knowing(first, CardKeys(lambda: jwks(trusted))) as client:
        await client.card()
        if ending == "withdrawn":
            trusted[:] = [STRANGER]
        else:
            later = time.time() + 1001
            monkeypatch.setattr(time, "time", lambda: later)
        await client.card()
        await client.get("t1")  # what was checked counts for a while
        assert 1 == first.cards
        monkeypatch.setattr(limits, "JWKS_FLOOR_SECONDS", -1.0)
        monkeypatch.setattr(limits, "JWKS_FRESH_SECONDS", -1.0)
        with pytest.raises(CardNotTrusted):
            await client.get("t1")
        with pytest.raises(CardNotTrusted):
            await client.card()
    assert 1 == len(first.operations)


async def test_a_client_that_works_on_checks_the_card_again_and_asks_for_it_where_it_is_good_no_more(
    first: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted = [KEY]
    first.card = signed(first, KEY)
    first.will(*[result(task("WORKING"))] * 3)
    monkeypatch.setattr(limits, "JWKS_FLOOR_SECONDS", -1.0)
    monkeypatch.setattr(limits, "JWKS_FRESH_SECONDS", -1.0)
    async with knowing(first, CardKeys(lambda: jwks(trusted))) as client:
        await client.get("t1")
        await client.get("t1")
        assert 1 == first.cards
        trusted[:] = [STRANGER]
        first.card = signed(first, STRANGER)
        await client.get("t1")
        assert 2 == first.cards
    assert 3 == len(first.operations)


async def test_nothing_is_sent_after_a_card_that_is_good_no_more(first: Gateway) -> None:
    """Neither where the card of before pointed to."""
    first.card = signed(first)
    first.will(result(task("WORKING")))
    async with knowing(first, CardKeys(jwks([KEY]))) as client:
        await client.get("t1")
        first.card = signed(first, STRANGER)
        with pytest.raises(CardNotTrusted):
            await client.card()
        with pytest.raises(CardNotTrusted):
            await client.get("t1")
    assert 1 == len(first.operations)


async def test_a_card_that_has_not_changed_may_say_less_when_the_key_of_its_whole_form_has_gone(
    first: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "JWKS_FLOOR_SECONDS", -1.0)
    monkeypatch.setattr(limits, "JWKS_FRESH_SECONDS", -1.0)
    trusted = [KEY, STRANGER]
    plain: Json = {
        **card((first.url, "JSONRPC", "1.0")),
        "securityRequirements": [{"schemes": {"none": {"list": []}}}],
    }
    whole, abridged = signatures(plain, [KEY])[0], signatures(plain, [STRANGER])[1]
    first.card, first.card_headers = {**plain, "signatures": [whole, abridged]}, {"etag": '"1"'}
    async with knowing(first, CardKeys(lambda: jwks(trusted))) as client:
        assert 1 == len((await client.card()).security_requirements)
        trusted[:] = [STRANGER]
        assert () == (await client.card()).security_requirements
        assert () == (await client.card()).security_requirements


# --- who is told who we are ------------------------------------------------------------------------------------------


async def test_a_card_is_asked_for_without_credentials_until_it_is_known_to_be_good(first: Gateway) -> None:
    first.card = signed(first)
    first.will(result(task("WORKING")), result(task("WORKING")))
    named = {"Authorization": "Bearer b", "Cookie": "c=d", "X-Tenant": "acme"}
    async with knowing(first, CardKeys(jwks([KEY])), credentials=api_key("secret"), headers=named) as client:
        await client.get("t1")
    http = httpx.AsyncClient(auth=("user", "password"), cookies={"c": "d"})
    at = first.url.replace("://", "://user:password@")
    async with http, Client(at, http=http, card_keys=CardKeys(jwks([KEY])), headers={"X-API-Key": "e"}) as client:
        await client.get("t1")
    for seen in first.card_requests:
        assert not {"x-api-key", "authorization", "cookie"} & seen.keys()
    assert "acme" == first.card_requests[0]["x-tenant"]
    one, two = (each.headers for each in first.seen)
    assert ("secret", "Bearer b", "c=d") == (one["x-api-key"], one["authorization"], one["cookie"])
    assert {"x-api-key", "authorization", "cookie"} <= two.keys()


async def test_credentials_get_a_card_that_is_for_known_callers_only(first: Gateway) -> None:
    first.card, first.card_needs = signed(first), "x-api-key"
    async with knowing(first, CardKeys(jwks([KEY])), credentials=api_key("secret")) as client:
        assert "scripted" == (await client.card()).name
    assert [None, "secret"] == [seen.get("x-api-key") for seen in first.card_requests]


async def test_they_do_not_where_anybody_may_have_asked_for_them(first: Gateway) -> None:
    """Without TLS, who stands between can answer 401."""
    first.card, first.card_needs = signed(first), "x-api-key"
    over = httpx.AsyncClient(transport=httpx.ASGITransport(first))
    given: Json = {"http": over, "credentials": api_key("secret"), "retry": QUICK}
    async with over:
        async with Client("http://agent.example", card_keys=CardKeys(jwks([KEY])), **given) as client:
            with pytest.raises(UnauthenticatedError, match="HTTPS"):
                await client.card()
            assert ["x-api-key" in seen for seen in first.card_requests] == [False]
        async with Client("https://agent.example", card_keys=CardKeys(jwks([KEY])), **given) as client:
            assert "scripted" == (await client.card()).name


# --- where keys come from --------------------------------------------------------------------------------------------


async def test_keys_in_a_file_are_read_again(first: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trusted.json"
    path.write_text(json.dumps(jwks([STRANGER])))
    first.card = signed(first)
    keys = CardKeys(path)
    async with knowing(first, keys) as client:
        with pytest.raises(CardNotTrusted):
            await client.card()
        path.write_text(json.dumps(jwks([STRANGER, KEY])))
        with pytest.raises(CardNotTrusted):
            await client.card()  # not so soon
        monkeypatch.setattr(limits, "JWKS_FLOOR_SECONDS", 0.0)
        assert "scripted" == (await client.card()).name


async def test_keys_from_a_function_are_asked_for_now_and_then(first: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[None] = []

    async def get() -> Json:
        asked.append(None)
        if len(asked) == 2:
            raise OSError("away")
        return jwks([KEY])

    first.card = signed(first)
    async with knowing(first, CardKeys(get)) as client:
        await client.card()
        await client.card()
        assert 1 == len(asked)
        monkeypatch.setattr(limits, "JWKS_FRESH_SECONDS", -1.0)
        await client.card()
        assert 1 == len(asked)  # not so soon
        monkeypatch.setattr(limits, "JWKS_FLOOR_SECONDS", -1.0)
        await client.card()  # of those of before, because they cannot be had
        await client.card()
    assert 3 == len(asked)


async def test_keys_that_cannot_be_had_are_no_fault_of_the_card(first: Gateway) -> None:
    def get() -> bytes:
        raise OSError("the registry is away")

    first.card = signed(first)
    async with knowing(first, CardKeys(get)) as client:
        with pytest.raises(ConnectionFailed, match="registry is away") as failed:
            await client.send("hi")
    assert failed.value.retry_safe
    assert [] == first.operations


async def test_a_key_set_that_a_signature_names_counts_at_a_trusted_origin_only(
    first: Gateway, second: Gateway
) -> None:
    first.card = signed(first, jku=f"{second.url}/keys.json")
    second.will(Answer(body=jwks([KEY])))
    elsewhere = ["https://keys.example.com", first.url, f"{second.url[:-1]}0"]
    async with knowing(first, CardKeys(jwks([STRANGER]), jku_origins=elsewhere)) as client:
        with pytest.raises(CardNotTrusted, match="no such key is trusted"):
            await client.card()
    assert [] == second.operations
    http = httpx.AsyncClient(headers={"X-Secret": "of ours"}, auth=("user", "password"))
    given = {"http": http, "credentials": api_key("secret"), "headers": {"X-Tenant": "acme"}}
    async with http, knowing(first, CardKeys(jku_origins=[second.url]), **given) as client:
        assert "scripted" == (await client.card()).name
        assert "scripted" == (await client.card()).name
    (seen,) = second.seen
    assert ("GET", "/keys.json") == (seen.method, seen.path)
    assert not {"x-secret", "authorization", "x-api-key", "x-tenant"} & seen.headers.keys()


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=302, headers={"location": "/there"}, body={}),
        Answer(status=404, body={}),
        Answer(body={"keys": 5}),
        Answer(body=jwks([KEY, KEY])),
    ],
)
async def test_a_key_set_that_is_none_is_no_key(first: Gateway, second: Gateway, answer: Answer) -> None:
    first.card = signed(first, jku=f"{second.url}/keys.json")
    second.will(answer)
    async with knowing(first, CardKeys(jku_origins=[second.url])) as client:
        with pytest.raises((ConnectionFailed, CardNotTrusted)):
            await client.card()
    assert 1 == len(second.seen)


async def test_one_key_set_that_is_away_does_not_matter_where_another_key_is_known(first: Gateway) -> None:
    with dead() as away:
        plain = card((first.url, "JSONRPC", "1.0"))
        first.card = {
            **plain,
            "signatures": [*signatures(plain, [STRANGER], f"{away}/keys.json"), *signatures(plain, [KEY])],
        }
        async with knowing(first, CardKeys(jwks([KEY]), jku_origins=[away])) as client:
            assert "scripted" == (await client.card()).name
        async with knowing(first, CardKeys(jku_origins=[away])) as client:
            with pytest.raises(ConnectionFailed, match="cannot be had"):
                await client.card()


async def test_keys_outlive_the_client_that_asked_for_them_first(
    first: Gateway, second: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    first.card = signed(first, jku=f"{second.url}/keys.json")
    second.will(Answer(body=jwks([KEY])), Answer(body=jwks([STRANGER])))
    keys = CardKeys(jku_origins=[second.url])
    async with knowing(first, keys) as client:
        await client.card()
    monkeypatch.setattr(limits, "JWKS_FRESH_SECONDS", -1.0)
    monkeypatch.setattr(limits, "JWKS_FLOOR_SECONDS", -1.0)
    async with knowing(first, keys) as client:
        with pytest.raises(CardNotTrusted):
            await client.card()


class KeyServer:
    """Gives the same keys under every address."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        return json.dumps(jwks([KEY])).encode()


def naming(*addresses: str, key: Key = KEY) -> bytes:
    """A card with a signature for each of these."""
    plain = card(("https://agent.example", "JSONRPC", "1.0"))
    return json.dumps({**plain, "signatures": [signatures(plain, [key], each)[0] for each in addresses]}).encode()


FORGED = new_key("EdDSA", kid=KEY.kid)
ORIGIN = "https://keys.example.com"


async def test_made_up_addresses_cost_an_origin_little_and_cost_nobody_his_keys() -> None:
    server, keys = KeyServer(), CardKeys(jku_origins=[ORIGIN])
    good = naming(f"{ORIGIN}/keys.json")
    await keys.verified(good, "here", server)
    for number in range(12):
        made_up = (f"{ORIGIN}/?n={number}.{each}" for each in range(limits.CARD_SIGNATURES))
        with pytest.raises((CardNotTrusted, ConnectionFailed)):
            await keys.verified(naming(*made_up, key=FORGED), "here", server)
    assert [f"{ORIGIN}/keys.json", f"{ORIGIN}/?n=0.0", f"{ORIGIN}/?n=0.1"] == server.asked
    await keys.verified(good, "here", server)
    assert 3 == len(server.asked)


async def test_a_card_is_not_looked_for_at_every_origin() -> None:
    server, origins = KeyServer(), [f"https://{number}.example.com" for number in range(5)]
    with pytest.raises(CardNotTrusted):
        await CardKeys(jku_origins=origins).verified(naming(*origins, key=FORGED), "here", server)
    assert origins[:3] == server.asked


async def test_a_set_that_has_vouched_for_a_card_is_asked_again_in_spite_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, keys, now = KeyServer(), CardKeys(jku_origins=[ORIGIN]), time.monotonic()
    monkeypatch.setattr(card_keys, "time", SimpleNamespace(monotonic=lambda: now, time=time.time))
    good = naming(f"{ORIGIN}/keys.json")
    await keys.verified(good, "here", server)
    now += limits.JWKS_FRESH_SECONDS + 1
    for number in range(3):
        with pytest.raises((CardNotTrusted, ConnectionFailed)):
            await keys.verified(naming(f"{ORIGIN}/?n={number}", key=FORGED), "here", server)
    with pytest.raises(ConnectionFailed, match=r"other key sets of https://keys\.example\.com"):
        await keys.verified(naming(f"{ORIGIN}/late.json"), "here", server)
    await keys.verified(good, "here", server)
    assert f"{ORIGIN}/keys.json" == server.asked[-1]
    now += limits.JWKS_FLOOR_SECONDS + 1
    await keys.verified(naming(f"{ORIGIN}/late.json"), "here", server)


async def test_a_card_has_its_key_sets_asked_at_the_same_time() -> None:
    together = asyncio.Barrier(3)

    async def fetch(url: str) -> bytes:
        assert url
        async with asyncio.timeout(10):
            await together.wait()
        return json.dumps(jwks([KEY])).encode()

    keys = CardKeys(jku_origins=[ORIGIN])
    await keys.verified(naming(*(f"{ORIGIN}/{each}" for each in range(3))), "here", fetch)


async def test_one_key_set_may_be_trusted_and_not_its_whole_origin() -> None:
    """Others may put documents there as well."""
    server, ours = KeyServer(), f"{ORIGIN}/ours/keys.json?v=1"
    keys = CardKeys(jku_urls=[ours])
    for other in (f"{ORIGIN}/theirs/keys.json", f"{ORIGIN}/ours/keys.json", f"{ours}&x", f"{ORIGIN}/ours/../keys.json"):
        with pytest.raises(CardNotTrusted, match="no such key is trusted"):
            await keys.verified(naming(other), "here", server)
    assert [] == server.asked
    made_up = (f"{ORIGIN}/?n={each}" for each in range(limits.CARD_SIGNATURES - 1))
    keys = CardKeys(jku_urls=[ours], jku_origins=[ORIGIN])
    await keys.verified(naming(*made_up, ours), "here", server)
    assert ours in server.asked


@pytest.mark.parametrize("url", ["http://keys.example.com/k", "https://u@h/k", "https://h/k#f", "keys.json", ORIGIN])
def test_the_address_of_a_key_set_is_https_with_a_path(url: str) -> None:
    with pytest.raises(ValueError, match="the address of a key set is"):
        CardKeys(jku_urls=[url])


async def test_keys_that_take_too_long_are_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[None] = []

    async def get() -> Json:
        asked.append(None)
        await asyncio.Event().wait()
        raise AssertionError

    keys = CardKeys(get)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await keys.verified(naming(""), "here")
    with pytest.raises(ConnectionFailed, match=r"\(the last to ask for them did not wait for the answer\)"):
        await keys.verified(naming(""), "here")
    assert 1 == len(asked)
    monkeypatch.setattr(limits, "JWKS_TIMEOUT_SECONDS", 0.01)
    with pytest.raises(ConnectionFailed, match=r"\(no answer within 0\.01 seconds\)"):
        await CardKeys(get).verified(naming(""), "here")


@pytest.mark.parametrize(
    "origin",
    ["http://keys.example.com", "https://keys.example.com/path", "keys.example.com", "https://u@h", "https://h?q", ""],
)
def test_an_origin_is_https_and_nothing_more(origin: str) -> None:
    with pytest.raises(ValueError, match="an origin is"):
        CardKeys(jku_origins=[origin])


def test_keys_that_are_of_no_use_are_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(KEY.jwk))
    for keys, said in ((path, "private key"), ({"kty": "oct", "k": "eA"}, "oct"), (None, "no keys are trusted")):
        with pytest.raises(ValueError, match=said):
            CardKeys(keys)
    with pytest.raises(ValueError, match="as a Path"):
        CardKeys("keys.json")  # type: ignore[arg-type]
    with pytest.raises(OSError, match="No such file"):
        CardKeys(tmp_path / "none.json")
    with pytest.raises(ValueError, match="policy"):
        CardKeys(jwks([KEY]), policy="sometimes")  # type: ignore[arg-type]


async def test_an_extended_card_is_checked_as_well(first: Gateway) -> None:
    first.card = signed(first)
    extended = {**signed(first), "description": "changed"}
    first.will(
        result(signed(first)), result(extended), Answer(body={"jsonrpc": "2.0", "id": 1, "error": {"code": -32603}})
    )
    async with knowing(first, CardKeys(jwks([KEY]))) as client:
        assert "scripted" == (await client.extended_card()).name
        with pytest.raises(CardNotTrusted, match="GetExtendedAgentCard"):
            await client.extended_card()
        with pytest.raises(InternalError):
            await client.extended_card()
