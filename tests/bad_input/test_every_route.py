"""Row 65, for every way in that there is: without a credential nothing is looked up, and no way is left out.

What is asked comes from the tables that the code serves from and from the official proto, so that a new method or path
is asked as well. Whoever adds a way in that needs no credential has to name it here.
"""

from __future__ import annotations

import ast
import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import pytest_asyncio
from a2a.types import a2a_pb2
from google.api.annotations_pb2 import http as http_rule  # type: ignore[import-untyped]
from grpc import aio
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import a2a_events
from a2a_events.bindings import app, fasta2a
from a2a_events.bindings.dialect import V1_0
from a2a_events.bindings.identity.access import SCOPES
from a2a_events.bindings.methods import STREAMING, UNARY
from a2a_events.bindings.timelines.debugging import PREFIX
from a2a_events.bindings.v0_3.dialects import JSONRPC as V0_3
from a2a_events.log.memory import MemoryLog
from a2a_events.runtime.directory import Directory
from a2a_events.runtime.operations import Operations
from a2a_events.services.admin import create_app as create_admin_app
from a2a_events.services.health import Health
from a2a_events.timeline.record import Writer
from tests.bad_input.test_identity import Guarded, guarding
from tests.integration.timelines import timeline_service
from tests.interop.grpc_wire import GrpcCaller, channel
from tests.interop.wire import send

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

TASK = "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA"
SERVICE = a2a_pb2.DESCRIPTOR.services_by_name["A2AService"]
VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
AGENTS = ("", "/agents/scripted", "/agents/nobody-s")

PUBLIC = {"/livez", "/readyz", app.CARD_PATH, app.V0_3_CARD_PATH, f"/{fasta2a.PATH}{app.CARD_PATH}"}
"""What needs no credential over HTTP; cards are below each agent as well."""
PUBLIC_SERVICES = {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
"""What needs none over gRPC."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(nats_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    async with guarding(nats_url, tmp_path_factory.mktemp("routes")) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(guarded: Guarded) -> AsyncIterator[httpx.AsyncClient]:
    async with guarded.http() as client:
        yield client


@pytest.fixture
def looked_for(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Every look for an agent, which comes before any for a task. The gateway is in this process."""
    looks: list[tuple[str, ...]] = []
    find = Directory.find

    async def noted(self: Directory, *of: str) -> Any:
        looks.append(of)
        return await find(self, *of)

    monkeypatch.setattr(Directory, "find", noted)
    return looks


def methods() -> Iterator[tuple[str, str, str]]:
    """Path, version and method of everything that JSON-RPC has."""
    for dialect in (V1_0, V0_3):
        yield from (("", dialect.version, method) for method in dialect.methods)
    for dialect in (fasta2a.FASTA2A, V1_0):
        yield from (("/fasta2a", "", method) for method in dialect.methods)


async def test_the_tables_hold_every_operation() -> None:
    operations = set(UNARY) | set(STREAMING)
    assert operations == {method.name for method in SERVICE.methods}
    assert operations == set(V1_0.methods.values()) == set(V0_3.methods.values())
    assert operations <= set(SCOPES)


@pytest.mark.parametrize(("below", "version", "method"), list(methods()))
async def test_65_every_method_of_json_rpc_asks_who_calls(
    http: httpx.AsyncClient, looked_for: list[Any], below: str, version: str, method: str
) -> None:
    for agent in AGENTS:
        for params in ({}, {"id": TASK, "taskId": TASK}, send("x")):
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            answer = await http.post(f"{agent}{below}/", json=body, headers={"A2A-Version": version} if version else {})
            assert answer.status_code == 401, answer.text
            assert answer.headers["www-authenticate"]
            assert answer.json()["error"]["data"][0]["reason"] == "UNAUTHENTICATED"
    assert looked_for == []


def places() -> Iterator[str]:
    """The path of everything that the proto binds to HTTP, as 1.0 has it, below a tenant, and as 0.3 has it."""
    for method in SERVICE.methods:
        rule = cast("Any", method.GetOptions()).Extensions[http_rule]
        for one in (rule, *rule.additional_bindings):
            template = str(getattr(one, str(one.WhichOneof("pattern"))))
            path = re.sub(r"\{(id|task_id)=\*\}", TASK, template)
            yield re.sub(r"\{tenant\}", "acme", path)
            yield "/v1" + path
    yield "/v1/card"
    yield from (f"/{PREFIX}tasks/{TASK}{rest}" for rest in ("", "/rows", "/at/1", "/difference", "/events", "/bundle"))
    yield from (
        f"/{PREFIX}tasks/{TASK}/why",
        f"/{PREFIX}",
        "/debug",
        "/metrics",
        "/docs",
        "/schema",
        "/static/x",
        "/no",
    )
    yield from (
        "/%2e%2e/livez",
        "/livez/../tasks",
        "/livez%2f..%2ftasks",
        "/agents",
        "/readyz/x",
    )
    yield from ("/.well-known/agent-card.json/tasks", "/.well-known/agent-card.json%2ftasks", "/.well-known/x")


@pytest.mark.parametrize("path", sorted(set(places())))
async def test_65_every_path_asks_who_calls_whatever_the_verb(
    guarded: Guarded, http: httpx.AsyncClient, looked_for: list[Any], path: str
) -> None:
    before = await guarded.appended()
    for agent in AGENTS:
        for verb in VERBS:
            for version in ("1.0", "0.3"):
                content = json.dumps(send("x")) if verb == "POST" else None
                headers = {"A2A-Version": version, "content-type": "application/json"}
                url = f"{guarded.settings.base_url}{agent}{path}"
                answer = await http.send(http.build_request(verb, url, content=content, headers=headers))
                assert answer.status_code == 401, (verb, agent, answer.text)
                assert answer.headers["www-authenticate"]
    assert looked_for == []
    assert await guarded.appended() == before


@pytest.mark.parametrize("path", ["/", "/message:send", "/message:stream", "/agents/scripted/", "/v1/message:send"])
async def test_65_nobody_s_body_is_not_waited_for(guarded: Guarded, path: str) -> None:
    host, port = guarded.settings.host, guarded.settings.port
    head = [f"POST {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json", "A2A-Version: 1.0"]
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write("\r\n".join([*head, "Content-Length: 1000", "", ""]).encode())
        async with asyncio.timeout(guarded.settings.body_seconds / 2):
            assert (await reader.readline()).split()[1] == b"401"
    finally:
        writer.transport.abort()


async def test_65_what_json_rpc_answers_to_other_verbs_names_the_right_one_and_nothing_else(
    http: httpx.AsyncClient, looked_for: list[Any]
) -> None:
    for path in ("/", "/fasta2a", "/agents/scripted", "/agents/nobody-s/"):
        for verb in VERBS:
            if verb != "POST":
                answer = await http.request(verb, path)
                assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert looked_for == []


async def test_65_what_is_for_everybody_is_this_and_no_more(http: httpx.AsyncClient) -> None:
    for path in PUBLIC:
        assert (await http.get(path)).status_code == 200, path
    log = MemoryLog("main", shards=1)
    made = app.create_app(Operations(log, Writer("gateway", "test")), Directory(log))
    assert {route.path for route in made.routes} == {"/livez", "/readyz", "/"}, "the last one is all that is above"


@pytest.mark.parametrize("operation", [method.name for method in SERVICE.methods])
async def test_65_every_call_of_grpc_asks_who_calls(guarded: Guarded, looked_for: list[Any], operation: str) -> None:
    async with channel(guarded.settings.grpc_address) as opened:
        for tenant in ("", "agents/scripted", "agents/nobody-s", "acme"):
            refused = await GrpcCaller(opened, tenant).refused(operation, {})
            assert refused.code == "UNAUTHENTICATED"
    assert looked_for == []


async def test_65_no_other_service_is_served_over_grpc(guarded: Guarded) -> None:
    async with channel(guarded.settings.grpc_address) as opened:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(cast("Any", opened))
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        (listed,) = [answer async for answer in stub.ServerReflectionInfo(asked)]
        served = {service.name for service in listed.list_services_response.service}
        assert served == {SERVICE.full_name, *PUBLIC_SERVICES}
        unknown: Any = opened.unary_unary(f"/{SERVICE.full_name}/DropEverything")
        with pytest.raises(aio.AioRpcError, match="UNIMPLEMENTED"):
            await unknown(b"")


async def test_65_the_timeline_page_asks_for_its_token_everywhere() -> None:
    async with timeline_service(MemoryLog("main", shards=1), timeline_token="the right one") as http:
        for path in (
            "/",
            f"/tasks/{TASK}",
            "/static/main.js",
            "/api",
            "/api/about",
            "/api/tasks",
            "/api/tasks/events",
            f"/api/tasks/{TASK}",
            f"/api/tasks/{TASK}/fork",
            f"/api/tasks/{TASK}/bundle",
            "/no",
        ):
            for verb in VERBS:
                for shown in ({}, {"authorization": "Bearer the wrong one"}):
                    answer = await http.request(verb, path, headers=shown)
                    assert answer.status_code == 401, (verb, path)
        assert (await http.get("/api/about", headers={"authorization": "Bearer the right one"})).status_code == 200


async def test_65_the_admin_port_has_probes_and_metrics_and_nothing_of_a_task() -> None:
    made = create_admin_app(Health())
    assert {route.path for route in made.routes} == {"/startupz", "/livez", "/readyz", "/metrics"}


async def test_a_caller_is_made_where_the_gate_has_let_them_in_and_nowhere_else() -> None:
    """``Request.caller`` needs both, who asks and what they may. No binding makes a caller of its own."""
    package = Path(a2a_events.__file__).parent
    makes = [
        str(file.relative_to(package))
        for folder in ("bindings", "services", "cli")
        for file in sorted((package / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "Caller"
    ]
    assert makes == ["bindings/requests.py"]
