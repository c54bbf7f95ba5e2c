"""Row 79: what a trusted proxy says of its callers is believed, and from anywhere else it is what anybody could write.

One proxy is 127.0.0.1 here; 127.0.0.2 is a stranger who has read the documentation.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from a2a_events import audit
from tests.bad_input.test_identity import Guarded, guarding
from tests.interop.grpc_wire import GrpcCaller, channel
from tests.interop.wire import BINDINGS, Caller, failure, script, send

pytestmark = pytest.mark.integration

PROXY, STRANGER = "127.0.0.1", "127.0.0.2"
CERTIFICATE = "x-forwarded-client-cert"
MADE_UP = "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA"


def certified(name: str) -> dict[str, str]:
    """What Envoy says of a client whose certificate it has verified."""
    uri = f"spiffe://acme/{name}"
    return {CERTIFICATE: f'By=spiffe://acme/gateway;Hash=9f3c;Subject="CN={name},O=acme";URI={uri}'}


@asynccontextmanager
async def behind_a_proxy(nats_url: str, folder: Path, **given: Any) -> AsyncIterator[Guarded]:
    settings: dict[str, Any] = {"auth": "proxy,api_keys", "trusted_proxies": f"{PROXY}/32", **given}
    async with guarding(nats_url, folder, **settings) as guarded:
        yield guarded


def coming_from(address: str, guarded: Guarded) -> httpx.AsyncClient:
    transport = httpx.AsyncHTTPTransport(local_address=address)
    return httpx.AsyncClient(base_url=guarded.settings.base_url, transport=transport, timeout=10)


@pytest.mark.parametrize("binding", BINDINGS)
async def test_79_a_certificate_that_a_trusted_proxy_has_verified_names_who_owns_a_task(
    nats_url: str, tmp_path: Path, binding: str
) -> None:
    async with behind_a_proxy(nats_url, tmp_path) as guarded, coming_from(PROXY, guarded) as http:
        caller = Caller(http, binding)
        task = (await caller.call("SendMessage", send(script(chunks=1)), headers=certified("alice")))["task"]
        seen = await caller.call("GetTask", {"id": task["id"]}, headers=certified("alice"))
        assert seen["status"]["state"] == "TASK_STATE_COMPLETED"
        theirs = await caller.refused("GetTask", {"id": task["id"]}, headers=certified("bob"))
        none = await caller.refused("GetTask", {"id": MADE_UP}, headers=certified("bob"))
        assert theirs.reason == "TASK_NOT_FOUND"
        assert theirs == none
        nobody = await caller.refused("GetTask", {"id": task["id"]})
        assert (401, "UNAUTHENTICATED") == (nobody.http_status, nobody.reason), (
            "a proxy that names nobody lets nobody in"
        )
        card = (await http.get("/.well-known/agent-card.json")).json()
        assert "mtlsSecurityScheme" in card["securitySchemes"]["mutualTls"]


FORGED = {
    "certificate": certified("alice"),
    "names": {"x-auth-user": "alice", "x-auth-tenant": "acme", "x-auth-scopes": "read write admin", "x-user": "alice"},
    "as-if-forwarded": {
        **certified("alice"),
        "x-forwarded-for": PROXY,
        "x-real-ip": PROXY,
        "forwarded": f"for={PROXY}",
    },
}


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("forged", FORGED)
async def test_79_the_same_from_elsewhere_is_nothing(
    nats_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forged: str, binding: str
) -> None:
    denials: list[dict[str, str]] = []
    monkeypatch.setattr(audit, "denied", lambda reason, **of: denials.append({"reason": reason, **of}))
    headers = "subject=x-auth-user,tenant=x-auth-tenant,scopes=x-auth-scopes" if forged == "names" else ""
    given = {"auth_proxy_headers": headers} if headers else {}
    async with behind_a_proxy(nats_url, tmp_path, **given) as guarded:
        async with coming_from(PROXY, guarded) as http:
            caller = Caller(http, binding)
            task = (await caller.call("SendMessage", send("hers"), headers=FORGED[forged]))["task"]
        before = await guarded.appended()
        async with coming_from(STRANGER, guarded) as http:
            caller = Caller(http, binding)
            for operation, params in (("SendMessage", send("in?")), ("GetTask", {"id": task["id"]})):
                refused = failure(binding, await http.send(caller.request(operation, params, headers=FORGED[forged])))
                assert (401, "UNAUTHENTICATED") == (refused.http_status, refused.reason)
            assert await guarded.appended() == before
            assert [(each["reason"], each["address"]) for each in denials] == [("missing", STRANGER)] * 2
            # Who has a credential is whoever it says, whatever else the request claims.
            own = {"x-api-key": guarded.api_key, **FORGED[forged]}
            assert (await caller.call("ListTasks", {}, headers=own))["totalSize"] == 0
            assert (await caller.refused("GetTask", {"id": task["id"]}, headers=own)).reason == "TASK_NOT_FOUND"


async def test_79_so_it_is_over_grpc(nats_url: str, tmp_path: Path) -> None:
    async with behind_a_proxy(nats_url, tmp_path) as guarded, channel(guarded.settings.grpc_address) as opened:
        caller = GrpcCaller(opened)
        task = (await caller.call("SendMessage", send("hers"), **certified("alice")))["task"]
        assert (await caller.call("GetTask", {"id": task["id"]}, **certified("alice")))["id"] == task["id"]
        assert (await caller.refused("GetTask", {"id": task["id"]}, **certified("bob"))).code == "NOT_FOUND"
    async with (
        behind_a_proxy(nats_url, tmp_path, trusted_proxies="10.0.0.0/8") as guarded,
        channel(guarded.settings.grpc_address) as opened,
    ):
        refused = await GrpcCaller(opened).refused("SendMessage", send("in?"), **certified("alice"))
        assert refused.code == "UNAUTHENTICATED"


@pytest.mark.parametrize("binding", BINDINGS)
async def test_79_a_proxy_that_appends_its_certificate_to_its_client_s_is_refused(
    nats_url: str, tmp_path: Path, binding: str
) -> None:
    """The client wrote the first one. Two headers, or two certificates in one, leave a doubt."""
    async with behind_a_proxy(nats_url, tmp_path) as guarded, coming_from(PROXY, guarded) as http:
        caller = Caller(http, binding)
        forged, real = certified("alice")[CERTIFICATE], certified("mallory")[CERTIFICATE]
        request = caller.request("ListTasks", {}, headers={CERTIFICATE: f"{forged},{real}"})
        assert failure(binding, await http.send(request)).http_status == 401
        request = caller.request("ListTasks", {})
        request.headers = httpx.Headers([*request.headers.multi_items(), (CERTIFICATE, forged), (CERTIFICATE, real)])
        assert failure(binding, await http.send(request)).http_status == 401
