"""Rows 65 to 82 of the list of bad inputs: who comes in, and who does not, in both bindings and over gRPC.

After every row: nothing was appended, the issuer was left in peace, and the next honest request is served.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import jwt
import msgspec
import pytest
import pytest_asyncio
from msgspec import Struct

from a2a_events import limits
from a2a_events.bindings.identity.api_keys import new_key, written
from a2a_events.bindings.identity.port import Scope
from a2a_events.model import encode
from a2a_events.runtime.agent import Agent
from a2a_events.services.connect import jetstream_log
from a2a_events.settings import Settings
from a2a_events.testing import free_port
from tests.bad_input.issuer import AUDIENCE, EVERYTHING, Issuer, issuing, unsigned
from tests.interop.agents import AGENTS, EXTENDED
from tests.interop.conftest import serving
from tests.interop.grpc_wire import GrpcCaller, channel
from tests.interop.wire import BINDINGS, HTTP_JSON, Caller, failure, send

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

Headers: TypeAlias = list[tuple[str, str]]


class Guarded(Struct):
    """A gateway that takes tokens and API keys, and who may use it."""

    settings: Settings
    issuer: Issuer
    api_key: str
    """Of ci, of acme."""

    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.settings.base_url, timeout=10)

    def bearer(self, subject: str = "alice", **claims: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.issuer.token(subject, **claims)}"}

    async def appended(self) -> list[int]:
        """Where the log ends."""
        async with jetstream_log(self.settings, "test") as (log, _):
            return [end.position for end in (await log.ends()).values()]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(nats_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    async with guarding(nats_url, tmp_path_factory.mktemp("guarded")) as made:
        yield made


@asynccontextmanager
async def guarding(
    nats_url: str, folder: Path, agents: Sequence[Agent] = AGENTS, **given: Any
) -> AsyncIterator[Guarded]:
    key, line = new_key("ci", tenant="acme", scopes=list(Scope))
    (folder / "keys.jsonl").write_bytes(written([line]))
    (folder / "card.json").write_bytes(encode(msgspec.structs.replace(EXTENDED, name="scripted")))
    async with (
        issuing(free_port()) as issuer,
        serving(
            agents,
            nats=nats_url,
            default_agent="scripted",
            grpc_port=free_port(),
            debug_api=True,
            extended_card=str(folder / "card.json"),
            push_allow_private=True,
            **{
                "auth": "jwt,api_keys",
                "auth_api_keys": str(folder / "keys.jsonl"),
                "auth_jwt_issuer": issuer.url,
                "auth_jwt_audience": AUDIENCE,
                "auth_jwt_tenant": "tenant",
                "auth_jwt_leeway_seconds": 0.0,
                "drain_seconds": 0.1,  # tasks that a test leaves need not end
                **given,
            },
        ) as settings,
    ):
        yield Guarded(settings, issuer, key)


def of(token: str) -> Headers:
    return [("authorization", f"Bearer {token}")]


def claims(guarded: Guarded, **members: Any) -> dict[str, Any]:
    return {
        "iss": guarded.issuer.url,
        "aud": AUDIENCE,
        "sub": "alice",
        "tenant": "acme",
        "scope": EVERYTHING,
        "exp": int(time.time()) + 300,
        **members,
    }


def hs256(guarded: Guarded) -> Headers:
    """Signed with what everybody can have: the public key as the secret of an HMAC."""
    header = {"alg": "HS256", "typ": "at+jwt", "kid": "rsa"}
    signed = unsigned(header, claims(guarded)).rpartition(".")[0]
    mac = hmac.digest(guarded.issuer.public_pem(), signed.encode(), hashlib.sha256)
    return of(unsigned(header, claims(guarded), mac))


def none(guarded: Guarded) -> Headers:
    return of(unsigned({"alg": "none", "typ": "at+jwt", "kid": "rsa"}, claims(guarded)))


def token(header: dict[str, Any] | None = None, **members: Any) -> Callable[[Guarded], Headers]:
    return lambda guarded: of(guarded.issuer.token(header=header, **members))


def own_key(guarded: Guarded) -> Headers:
    """Signed by a key that comes with the token."""
    stranger = Issuer(1)
    head = {"kid": "rsa", "jwk": stranger.jwks()["keys"][0], "jku": "http://127.0.0.1:1/keys", "typ": "at+jwt"}
    return of(jwt.encode(claims(guarded), stranger.keys["rsa"], algorithm="RS256", headers=head))


def changed(guarded: Guarded) -> Headers:
    """Somebody else's name under a signature that was good."""
    head, _, signature = guarded.issuer.token().split(".")
    body = unsigned({}, claims(guarded, sub="root")).split(".")[1]
    return of(f"{head}.{body}.{signature}")


def two_signatures(guarded: Guarded) -> Headers:
    head, body, signature = guarded.issuer.token().split(".")
    return of(f'{{"payload":"{body}","signatures":[{{"protected":"{head}","signature":"{signature}"}}]}}')


def both(guarded: Guarded) -> Headers:
    return [*of(guarded.issuer.token()), ("x-api-key", guarded.api_key)]


ROWS: list[tuple[str, Callable[[Guarded], Headers]]] = [
    ("65-nothing", lambda _: []),
    ("65-empty", lambda _: [("authorization", "")]),
    ("65-basic", lambda _: [("authorization", "Basic YWxpY2U6c2VjcmV0")]),
    ("65-unknown-key", lambda _: [("x-api-key", "a2ak_aaaaaaaaaaaa." + "A" * 43)]),
    ("65-key-with-another-secret", lambda g: [("x-api-key", g.api_key[:-5] + "AAAAA")]),
    ("65-half-a-key", lambda g: [("x-api-key", g.api_key.split(".")[0])]),
    ("66-none", none),
    ("67-hs256-with-the-public-key", hs256),
    ("67-algorithm-of-another-kind", token({"alg": "RS512"})),
    ("68-another-audience", token(aud="https://elsewhere.test")),
    ("68-audiences-without-us", token(aud=["https://elsewhere.test", "https://else.test"])),
    ("68-no-audience", token(aud=None)),
    ("68-another-issuer", token(iss="https://elsewhere.test")),
    ("68-no-issuer", token(iss=None)),
    ("69-expired", token(exp=int(time.time()) - 1)),
    ("69-without-an-end", token(exp=None)),
    ("69-not-yet", token(nbf=int(time.time()) + 3600)),
    ("69-no-subject", token(sub=None)),
    ("69-no-tenant", token(tenant=None)),
    ("69-tenant-is-a-list", token(tenant=["acme", "evil"])),
    ("70-unknown-kid", token({"kid": "nobody"})),
    ("71-path", token({"kid": "../../etc/passwd"})),
    ("71-sql", token({"kid": "' or 1=1 --"})),
    ("71-no-kid", token({"kid": ""})),
    ("71-kid-of-10-kb", lambda g: of(unsigned({"alg": "RS256", "typ": "JWT", "kid": "k" * 10_000}, claims(g), b"x"))),
    ("72-own-key", own_key),
    ("72-changed", changed),
    ("73-crit", token({"crit": ["x"], "x": 1})),
    ("73-b64", token({"crit": ["b64"], "b64": True})),
    ("73-two-signatures", two_signatures),
    ("73-junk", lambda _: of("a.b.c")),
    ("73-junk-of-many-dots", lambda _: of("." * 200)),
    ("73-one-megabyte", lambda _: of("a" * 1_000_000)),
    ("74-id-token-by-type", token({"typ": "id+jwt"})),
    ("74-id-token-by-nonce", token(nonce="n-0S6_WzA2Mj")),
    ("74-without-a-type", lambda g: of(unsigned({"alg": "RS256", "kid": "rsa"}, claims(g), b"x"))),
    ("77-two-headers", lambda g: [*of(g.issuer.token("alice")), *of(g.issuer.token("bob"))]),
    ("77-token-and-key", both),
    ("79-certificate", lambda _: [("x-forwarded-client-cert", "URI=spiffe://acme/alice")]),
    ("79-names", lambda _: [("x-user", "alice"), ("x-tenant", "acme"), ("x-forwarded-user", "alice")]),
    ("79-forwarded-for", lambda _: [("x-forwarded-for", "127.0.0.1"), ("forwarded", "for=127.0.0.1")]),
]


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize(("row", "presented"), ROWS, ids=[name for name, _ in ROWS])
async def test_whoever_is_nobody_is_not_let_in(
    guarded: Guarded, binding: str, row: str, presented: Callable[[Guarded], Headers]
) -> None:
    before = await guarded.appended()
    async with guarded.http() as http:
        caller = Caller(http, binding)
        for operation, params in (
            ("SendMessage", send("in?")),
            ("GetTask", {"id": NO_TASK}),
        ):
            request = caller.request(operation, params)
            request.headers = httpx.Headers([*request.headers.multi_items(), *presented(guarded)])
            response = await http.send(request)
            if row == "73-one-megabyte":
                assert response.status_code == 431  # before it is known what it asks for
                continue
            refused = failure(binding, response)
            assert (401, "UNAUTHENTICATED") == (refused.http_status, refused.reason), row
            assert response.headers.get_list("www-authenticate") != []
            assert "Traceback" not in response.text
        assert await guarded.appended() == before, "who is nobody writes nothing"
        task = await caller.call("SendMessage", send("yes"), headers=guarded.bearer())
        assert task["task"]["id"], "and everybody else is served"


@pytest.mark.parametrize("kid", ["rsa", "ec", "ed"])
async def test_a_good_token_of_every_kind_is_let_in(guarded: Guarded, kid: str) -> None:
    alg = {"rsa": "RS256", "ec": "ES256", "ed": "EdDSA"}[kid]
    async with guarded.http() as http:
        headers = {"Authorization": f"bearer {guarded.issuer.token(header={'kid': kid, 'alg': alg, 'typ': 'JWT'})}"}
        assert await Caller(http, HTTP_JSON).call("ListTasks", {}, headers=headers)
        headers = {"Authorization": f"Bearer {guarded.issuer.token(aud=['https://other.test', AUDIENCE])}"}
        assert await Caller(http, HTTP_JSON).call("ListTasks", {}, headers=headers)


@pytest.mark.parametrize("binding", BINDINGS)
async def test_70_a_thousand_unknown_key_ids_make_the_issuer_be_asked_once(
    nats_url: str, tmp_path: Path, binding: str
) -> None:
    async with guarding(nats_url, tmp_path) as guarded, guarded.http() as http:
        caller = Caller(http, binding)
        await caller.call("ListTasks", {}, headers=guarded.bearer())
        assert guarded.issuer.fetches == 1

        async def one(number: int) -> int:
            headers = {"Authorization": f"Bearer {guarded.issuer.token(header={'kid': f'k{number}'})}"}
            return (await http.send(caller.request("ListTasks", {}, headers=headers))).status_code

        for first in range(0, 1000, 50):
            assert {401} == set(await asyncio.gather(*(one(first + number) for number in range(50))))
        assert guarded.issuer.fetches <= 2, "once for the honest caller, once for all the others"
        await caller.call("ListTasks", {}, headers=guarded.bearer())


@pytest.mark.parametrize("binding", BINDINGS)
async def test_an_issuer_that_is_away_locks_nobody_out_whose_key_was_seen(
    nats_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, binding: str
) -> None:
    monkeypatch.setattr(limits, "JWKS_FRESH_SECONDS", 0.0)
    monkeypatch.setattr(limits, "JWKS_FLOOR_SECONDS", 0.0)
    async with guarding(nats_url, tmp_path) as guarded, guarded.http() as http:
        caller = Caller(http, binding)
        await caller.call("ListTasks", {}, headers=guarded.bearer())
        guarded.issuer.away = True
        await caller.call("ListTasks", {}, headers=guarded.bearer())
        refused = await caller.refused("ListTasks", {}, headers=guarded.bearer(header={"kid": "never-seen"}))
        assert (401, "UNAUTHENTICATED") == (refused.http_status, refused.reason)
        assert guarded.issuer.turned_away >= 1, "it was asked, in vain"
        await caller.call("ListTasks", {}, headers=guarded.bearer())


@pytest.mark.parametrize("binding", BINDINGS)
async def test_an_issuer_that_never_answered_is_nobody_s_fault(nats_url: str, tmp_path: Path, binding: str) -> None:
    async with guarding(nats_url, tmp_path) as guarded, guarded.http() as http:
        caller = Caller(http, binding)
        guarded.issuer.away = True
        answer = await http.send(caller.request("ListTasks", {}, headers=guarded.bearer()))
        refused = failure(binding, answer)
        assert (503, "UNAVAILABLE") == (refused.http_status, refused.reason), "it is not the caller's fault"
        assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("binding", BINDINGS)
async def test_82_the_extended_card_is_for_who_is_known(guarded: Guarded, binding: str) -> None:
    async with guarded.http() as http:
        caller = Caller(http, binding)
        refused = await caller.refused("GetExtendedAgentCard", {})
        assert (401, "UNAUTHENTICATED") == (refused.http_status, refused.reason)
        card = await caller.call("GetExtendedAgentCard", {}, headers=guarded.bearer())
        assert card["description"] == EXTENDED.description


async def test_82_the_card_says_what_is_enforced(guarded: Guarded) -> None:
    async with guarded.http() as http:
        card = (await http.get("/.well-known/agent-card.json")).json()
        assert card["securitySchemes"] == {
            "oidc": {
                "openIdConnectSecurityScheme": {
                    "openIdConnectUrl": f"{guarded.issuer.url}/.well-known/openid-configuration"
                }
            },
            "apiKey": {"apiKeySecurityScheme": {"location": "header", "name": "X-API-Key"}},
        }
        assert [list(each["schemes"]) for each in card["securityRequirements"]] == [["oidc"], ["apiKey"]]


NO_TASK = "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA"
SCOPED = {
    "SendMessage": ("write", send("x")),
    "SendStreamingMessage": ("write", send("x")),
    "GetTask": ("read", {"id": NO_TASK}),
    "ListTasks": ("read", {}),
    "CancelTask": ("write", {"id": NO_TASK}),
    "SubscribeToTask": ("read", {"id": NO_TASK}),
    "CreateTaskPushNotificationConfig": (
        "write",
        {"taskId": NO_TASK, "url": "http://127.0.0.1:9/"},
    ),
    "GetTaskPushNotificationConfig": ("read", {"taskId": NO_TASK, "id": "c"}),
    "ListTaskPushNotificationConfigs": ("read", {"taskId": NO_TASK}),
    "DeleteTaskPushNotificationConfig": ("write", {"taskId": NO_TASK, "id": "c"}),
    "GetExtendedAgentCard": ("read", {}),
}


@pytest.mark.parametrize("operation", SCOPED)
@pytest.mark.parametrize("binding", [*BINDINGS, "GRPC"])
async def test_every_operation_needs_its_scope(guarded: Guarded, binding: str, operation: str) -> None:
    needed, params = SCOPED[operation]
    others = " ".join(name for name in EVERYTHING.split() if name != f"a2a:{needed}")
    without, nothing = guarded.bearer(scope=others), guarded.bearer(scope=None)
    enough = guarded.bearer(scope=f"other {f'a2a:{needed}'}")
    if binding == "GRPC":
        async with channel(guarded.settings.grpc_address) as opened:
            caller = GrpcCaller(opened)
            refused = await caller.refused(operation, params)
            assert refused.code == "UNAUTHENTICATED"
            for headers in (without, nothing):
                refused = await caller.refused(operation, params, authorization=headers["Authorization"])
                assert refused.code == "PERMISSION_DENIED"
        return
    before = await guarded.appended()
    async with guarded.http() as http:
        wire = Caller(http, binding)
        for headers in (without, nothing):
            denied = await wire.refused(operation, params, headers=headers)
            assert (403, "PERMISSION_DENIED") == (denied.http_status, denied.reason)
        assert await guarded.appended() == before
        allowed = await http.send(wire.request(operation, params, headers=enough))
        assert allowed.status_code in {200, 404}


@pytest.mark.parametrize("operation", SCOPED)
@pytest.mark.parametrize("binding", BINDINGS)
async def test_no_cache_may_keep_what_an_operation_answers(guarded: Guarded, binding: str, operation: str) -> None:
    """A shared cache keeps answers to requests with X-API-Key, which it does not know to be a credential."""
    _, params = SCOPED[operation]
    async with guarded.http() as http:
        caller = Caller(http, binding)
        by_key = {"X-API-Key": guarded.api_key}
        for headers in (by_key, {**by_key, "A2A-Version": "9.9"}, guarded.bearer(), guarded.bearer(scope=None), {}):
            answer = await http.send(caller.request(operation, params, headers=headers))
            assert answer.headers.get_list("cache-control") == ["no-store"], (answer.status_code, headers)


async def test_no_cache_may_keep_the_operations_of_other_dialects_or_timelines(guarded: Guarded) -> None:
    paths = ("/v1/card", "/extendedAgentCard", "/tasks", "/no", f"/debug/timelines/tasks/{NO_TASK}", "/fasta2a")
    async with guarded.http() as http:
        for path in paths:
            for headers in ({"X-API-Key": guarded.api_key}, {}):
                answer = await http.get(path, headers=headers)
                assert answer.headers.get_list("cache-control") == ["no-store"], (path, answer.status_code)


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("tenant", ["evil", "ACME", "*", "../acme", "acme.", "no-such-tenant"])
async def test_a_tenant_that_the_credential_is_not_of_is_refused_and_they_all_look_alike(
    guarded: Guarded, binding: str, tenant: str
) -> None:
    async with guarded.http() as http:
        caller = Caller(http, binding)
        await caller.call("SendMessage", send("of evil"), headers=guarded.bearer("eve", tenant="evil"))
        refused = await caller.refused("ListTasks", {"tenant": tenant}, headers=guarded.bearer())
        assert (403, "PERMISSION_DENIED") == (refused.http_status, refused.reason)
        assert refused.message == "The request names a tenant that the credential is not of"
        assert "totalSize" in await caller.call("ListTasks", {"tenant": "acme"}, headers=guarded.bearer())
