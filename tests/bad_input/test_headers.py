"""Group H: headers that mean something elsewhere, and what must not be seen from outside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from a2a_events.testing import eventually
from tests.bad_input.site import ANSWER_SECONDS, Site
from tests.interop.wire import BINDINGS, HTTP_JSON, JSONRPC, send

pytestmark = [pytest.mark.integration, pytest.mark.processes, pytest.mark.asyncio(loop_scope="session")]

ID = "0af7651916cd43dd8448eb211c80319c"
PARENTS: dict[str, tuple[str, str]] = {
    "row-113-letters": ("hello", ""),
    "row-113-zero-trace": (f"00-{'0' * 32}-b7ad6b7169203331-01", ""),
    "row-113-zero-span": (f"00-{ID}-{'0' * 16}-01", ""),
    "row-113-capitals": (f"00-{ID.upper()}-B7AD6B7169203331-01", ""),
    "row-113-version-ff": (f"ff-{ID}-b7ad6b7169203331-01", ""),
    "row-113-short": (f"00-{ID[:-1]}-b7ad6b7169203331-01", ""),
    "row-113-more-of-it": (f"00-{ID}-b7ad6b7169203331-01-more", ""),
    "row-113-10-kb": (f"00-{ID}-" + "b" * 10_000, ""),
    "row-113-not-hexadecimal": (f"00-{'g' * 32}-b7ad6b7169203331-01", ""),
    "row-113-state-of-10-kb": (f"00-{ID}-short-01", "a=" + "b" * 10_000),
}


@pytest.mark.parametrize("case", PARENTS)
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_trace_that_is_none_begins_a_new_one(site: Site, binding: str, case: str) -> None:
    site.appends = True
    parent, state = PARENTS[case]
    request_id = f"{case}.{'rpc' if binding == JSONRPC else 'rest'}"
    headers = {"traceparent": parent, "x-request-id": request_id, **({"tracestate": state} if state else {})}
    await site.caller(binding).call("SendMessage", send("hi"), headers=headers)

    def logged() -> list[dict[str, str]]:
        return [json.loads(line) for line in site.gateway.output.splitlines() if f'"{request_id}"' in line]

    await eventually(lambda: bool(logged()), what="the line of the request")
    for line in logged():
        assert line["trace_id"] not in {ID, "0" * 32}
        assert 32 == len(line["trace_id"])


NATS_HEADERS = {
    "Nats-Msg-Id": "canary",
    "Nats-Rollup": "all",
    "Nats-Expected-Stream": "canary",
    "Nats-Expected-Last-Sequence": "1",
    "Nats-Expected-Last-Subject-Sequence": "424242",
    "Nats-Expected-Last-Subject-Sequence-Subject": ">",
    "Nats-TTL": "1s",
    "Nats-Marker-Reason": "MaxAge",
    "Nats-Schedule": "@at 2026-11-21T00:00:00Z",
    "Nats-Schedule-Target": "canary",
    "Nats-Request-Info": "canary",
    "A2A-Record": "canary",
    "Status": "503 canary",
}


@pytest.mark.parametrize("case", ["row-115-all-of-them"])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_headers_of_clients_are_not_those_of_messages(site: Site, binding: str, case: str) -> None:
    site.appends = True
    earlier = await site.caller(binding).call("SendMessage", send("earlier"))
    before = await site.stored()
    for operation in ("SendMessage", "SendStreamingMessage"):
        asked = site.caller(binding).request(operation, send("hi"), headers=NATS_HEADERS)
        assert 200 == (await site.http.send(asked)).status_code
    stored = await site.stored_since(before)
    assert stored
    for headers in stored:
        assert "canary" not in headers
        assert not {"Nats-Rollup", "Nats-TTL", "Nats-Msg-Id"} & {
            line.partition(":")[0] for line in headers.split("\r\n")
        }
        assert "424242" not in headers
    assert earlier["task"] == await site.caller(binding).call("GetTask", {"id": earlier["task"]["id"]})


@pytest.mark.parametrize("case", ["row-116-all-of-them"])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_metadata_named_like_headers_stays_metadata(site: Site, binding: str, case: str) -> None:
    site.appends = True
    before = await site.stored()
    asked = {**send({"text": "hi", "metadata": NATS_HEADERS}, metadata=NATS_HEADERS), "metadata": NATS_HEADERS}
    task = (await site.caller(binding).call("SendMessage", asked))["task"]
    (said,) = (await site.caller(binding).call("GetTask", {"id": task["id"]}))["history"]
    assert (NATS_HEADERS, NATS_HEADERS) == (said["metadata"], said["parts"][0]["metadata"])
    assert not [headers for headers in await site.stored_since(before) if "canary" in headers]


@pytest.mark.parametrize("case", ["row-118-canary"])
async def test_no_credential_is_found_anywhere(site: Site, case: str) -> None:
    """Good ones, bad ones, and those in places where credentials do not belong."""
    site.appends = True
    canary = "canaryCredential4711"
    token = site.token()
    async with httpx.AsyncClient(base_url=site.gateway.url, timeout=ANSWER_SECONDS) as http:
        for presented in (f"Bearer {canary}", f"Basic {canary}", f"Bearer {token}{canary}", canary):
            for binding in BINDINGS:
                asked = site.caller(binding).request("SendMessage", send("hi"))
                asked.headers["Authorization"] = presented
                answer = await http.send(asked)
                assert 401 == answer.status_code
                assert canary not in answer.text + str(answer.headers)
        for path in (f"/tasks?access_token={canary}", f"/tasks/{canary}?token={canary}", f"/{canary}"):
            answer = await site.http.get(path, headers={"A2A-Version": "1.0", "X-API-Key": canary, "Cookie": canary})
            assert canary not in answer.text + str(answer.headers)
    config = {
        "url": "https://example.com/",
        "token": canary,
        "authentication": {"scheme": "Bearer", "credentials": canary},
    }
    for binding in BINDINGS:
        for url in ("ftp://example.com/", "https://example.com/"):
            config = {"url": url, "token": canary, "authentication": {"scheme": "Bearer", "credentials": canary}}
            inline = send("hi", configuration={"taskPushNotificationConfig": config})
            await site.http.send(site.caller(binding).request("SendMessage", inline))
    marker = "row-118-the-last-one"
    await site.caller(HTTP_JSON).call("ListTasks", {}, headers={"x-request-id": marker})
    await eventually(lambda: any(marker.encode() in spans for spans in _files(site.spans)), what="the last span")
    logs = [process.output.encode() for process in (site.gateway, *site.deployment.workers)]
    secrets = [canary, *site.tokens.values(), *(each.rpartition(".")[2] for each in site.tokens.values())]
    assert any(marker.encode() in log for log in logs)
    for kept in (*logs, *_files(site.spans), *_files(Path(site.server._runtime.name)), *_files(site.server.store)):
        assert not [secret for secret in secrets if secret.encode() in kept]


def _files(folder: Path) -> Iterator[bytes]:
    return (path.read_bytes() for path in folder.rglob("*") if path.is_file())


CARDS = [
    "/.well-known/agent-card.json",
    "/.well-known/agent.json",
    "/agents/echo/.well-known/agent-card.json",
    "/extendedAgentCard",
]


@pytest.mark.parametrize(
    "case", ["row-119-host", "row-119-forwarded", "row-119-absolute", "row-119-two-hosts", "row-119-none"]
)
async def test_addresses_in_cards_are_not_taken_from_requests(site: Site, case: str) -> None:
    for path in CARDS:
        evil = ["Host: evil.example"]
        line = f"GET {path}"
        if "forwarded" in case:
            evil = [
                "Host: x",
                "X-Forwarded-Host: evil.example",
                "Forwarded: host=evil.example",
                "X-Forwarded-Proto: evil",
            ]
        if "absolute" in case:
            line = f"GET http://evil.example{path}"
        if "two" in case:
            evil += ["Host: evil.example"]
        if "none" in case:
            evil = ["X: y"]
        head = "\r\n".join([f"{line} HTTP/1.1", *evil, "A2A-Version: 1.0", "Connection: close", "", ""]).encode()
        (answer,) = await site.converse(head)
        assert answer.status in {200, 400, 401, 404}
        assert b"evil" not in answer.body
        if answer.status == 200:
            urls = [each["url"] for each in answer.json().get("supportedInterfaces", [])]
            assert all(url.startswith(site.gateway.url) or url == site.grpc for url in urls)


@pytest.mark.parametrize("case", ["row-121-preflight", "row-121-simple", "row-121-null"])
async def test_no_other_site_is_allowed_anything(site: Site, case: str) -> None:
    headers = {"Origin": "null" if "null" in case else "https://evil.example", "A2A-Version": "1.0"}
    if "simple" not in case:
        headers |= {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    for path in (
        "/",
        "/message:send",
        "/tasks",
        "/tasks/x",
        "/.well-known/agent-card.json",
        "/readyz",
        "/debug/timelines",
    ):
        verb = "GET" if "simple" in case else "OPTIONS"
        response = await site.http.request(verb, path, headers=headers)
        assert not [name for name in response.headers if name.startswith("access-control-")]
        assert "evil" not in response.text


OPERATORS = [
    "metrics",
    "debug",
    "debug/timelines",
    "debug/pprof/",
    "debug/vars",
    "docs",
    "redoc",
    "schema",
    "schema/openapi.json",
]
OPERATORS += [
    "openapi.json",
    "swagger",
    "admin",
    "healthz",
    "startupz",
    "varz",
    "connz",
    "jsz",
    "actuator/env",
    ".env",
    ".git/config",
]


@pytest.mark.parametrize("case", [f"row-122-{name.replace('/', '-')}" for name in OPERATORS])
async def test_what_operators_see_is_not_on_the_public_port(site: Site, case: str) -> None:
    (name,) = [name for name in OPERATORS if case == f"row-122-{name.replace('/', '-')}"]
    for way in (f"/{name}", f"/agents/scripted/{name}", f"//{name}", f"/{name}/"):
        path = site.gateway.url + way
        response = await site.http.get(path, headers={"A2A-Version": "1.0"})
        assert 404 == response.status_code, way
        assert (await site.nobody.get(path)).status_code in {401, 404}
