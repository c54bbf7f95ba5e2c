"""Row 118: no secret is anywhere but where it has its place, in whatever a whole deployment says, keeps and shows.

Every secret is a text that is nowhere else. A deployment with everything switched on, logging at debug, takes each of
them in, well and badly used. Then everything is searched. A text that is no secret is planted on every surface, and has
to be found on each.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec import Struct

from a2a_events.bindings.identity.api_keys import new_key, written
from a2a_events.bindings.identity.port import Scope
from a2a_events.services.nats_server import NatsServer
from a2a_events.settings import PREFIX
from a2a_events.signing import keys
from a2a_events.testing import Deployment, eventually, free_port
from a2a_events.testing.deployment import ServiceProcess
from tests.bad_input.issuer import AUDIENCE, Issuer, issuing
from tests.hostile.haystack import Haystack
from tests.hostile.site import AGENTS, ROOT
from tests.integration.http import rpc
from tests.integration.receiver import Received, receiver
from tests.interop.grpc_wire import GrpcCaller, channel
from tests.interop.wire import BINDINGS, Caller, send

pytestmark = [pytest.mark.integration, pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(180)]


def canary(name: str) -> str:
    return f"canary{name}{secrets.token_hex(12)}"


SURFACES = {"logs", "metrics", "traces", "answers", "pages", "commands", "arguments", "broker", "files", "backup"}
"""Where everything is searched, and the planted text has to be found."""
QUIET = {"logs", "metrics", "traces", "arguments"}
"""Where no content may be."""


class Collector:
    """A collector of spans on this machine: keeps what it is sent."""

    def __init__(self) -> None:
        self.port = free_port()
        self.bodies: list[bytes] = []

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                (length,) = [
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length:")
                ]
                self.bodies.append(head + await reader.readexactly(length))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


class World(Struct):
    """A deployment, what is secret in it, and what was collected."""

    deployment: Deployment
    page: ServiceProcess
    server: NatsServer
    issuer: Issuer
    collector: Collector
    haystack: Haystack
    folder: Path
    api_key: str
    bearer: str
    secrets: dict[str, str]
    content: dict[str, str]
    planted: str
    grpc_port: int

    @property
    def processes(self) -> list[ServiceProcess]:
        return [*self.deployment.gateways, *self.deployment.workers, *self.deployment.notifiers, self.page]


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """Everything that there is to be switched on."""
    made = {name: canary(name) for name in ("natspassword", "timelinetoken", "badkey", "badtoken", "basic", "cookie")}
    hidden = {name: canary(name) for name in ("webhooktoken", "webhookcredentials", "proxycertificate", "idempotency")}
    content = {name: canary(name) for name in ("text", "data", "filename", "metadata", "urlquery")}
    planted = canary("planted")
    key, line = new_key("ci", tenant="acme", scopes=list(Scope))
    temporary = folder / "tmp"
    temporary.mkdir()
    (folder / "keys.jsonl").write_bytes(written([line]))
    sealing = base64.b64encode(os.urandom(32)).decode()
    (folder / "seal").write_text(sealing)
    card_key = keys.new_key("EdDSA").jwk
    (folder / "card.jwk").write_text(json.dumps(card_key))
    server = NatsServer(
        folder / "nats", sync="2m", more=f"authorization {{ user: deployer, password: {made['natspassword']} }}"
    )
    collector, grpc_port = Collector(), free_port()
    async with AsyncExitStack() as exits:
        patch = exits.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("TMPDIR", str(temporary))
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.port}")
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        await server.start()
        exits.callback(server.clean)
        exits.push_async_callback(server.stop)
        await exits.enter_async_context(await asyncio.start_server(collector._connected, "127.0.0.1", collector.port))
        issuer = await exits.enter_async_context(issuing(free_port()))
        settings = {
            "log_level": "debug",
            "auth": "jwt,api_keys,proxy",
            "auth_api_keys": str(folder / "keys.jsonl"),
            "auth_jwt_issuer": issuer.url,
            "auth_jwt_audience": AUDIENCE,
            "auth_jwt_tenant": "tenant",
            "trusted_proxies": "127.0.0.0/8",
            "push_keys": str(folder / "seal"),
            "card_keys": str(folder / "card.jwk"),
            "push_allow_private": "true",
            "push_attempts": "2",
            "push_pause_seconds": "0.1",
            "debug_api": "true",
            "grpc_port": str(grpc_port),
            "traces": "otlp",
            "index": str(temporary / "index.db"),
            "timeline_token": made["timelinetoken"],
            "timeline_port": str(free_port()),
            "commit": planted,
            "ack_wait_seconds": "2",
        }
        url = server.url.replace("://", f"://deployer:{made['natspassword']}@")
        deployment = await exits.enter_async_context(
            Deployment(url, agents=AGENTS, notifiers=1, admin=True, settings=settings, folder=ROOT)
        )
        page = ServiceProcess(
            "timeline", "timeline-1", deployment._environment("timeline-1"), ROOT, deployment._log_file("timeline-1")
        )
        exits.callback(page.kill)
        await page.ready()
        bearer = issuer.token("alice")
        known = {**made, **hidden, "apikey": key, "apikeysecret": key.rpartition(".")[2], "sealingkey": sealing}
        known |= {"cardkey": str(card_key["d"]), "bearer": bearer, "bearersignature": bearer.rpartition(".")[2]}
        yield World(
            deployment,
            page,
            server,
            issuer,
            collector,
            Haystack(),
            folder,
            key,
            bearer,
            known,
            content,
            planted,
            grpc_port,
        )


def environment(world: World) -> dict[str, str]:
    """What commands are started with."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    named = {"NATS": world.deployment.nats, "NAMESPACE": world.deployment.namespace, "LOG_LEVEL": "debug"}
    return {**clean, **{PREFIX + name: value for name, value in named.items()}, "A2A_API_KEY": world.api_key}


async def command(world: World, *arguments: str, **more: str) -> int:
    """Run one, keep what it says and how it was called; its exit code."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "a2a_events.cli",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**environment(world), **more},
        cwd=ROOT,
    )
    look = asyncio.create_task(_arguments(world, process.pid))
    out, _ = await process.communicate()
    look.cancel()
    world.haystack.add("commands", " ".join(arguments[:2]), out)
    return process.returncode or 0


async def _arguments(world: World, pid: int) -> None:
    await asyncio.sleep(0.2)  # once it is itself
    _look_at_arguments(world, f"command {pid}", pid)


def _look_at_arguments(world: World, name: str, pid: int) -> None:
    for what in ("cmdline", "comm", "status"):
        try:
            world.haystack.add("arguments", f"{name} {what}", Path(f"/proc/{pid}/{what}").read_bytes())
        except OSError:
            return  # has ended


def keep(world: World, name: str, response: httpx.Response) -> httpx.Response:
    head = "\n".join(f"{key}: {value}" for key, value in response.headers.items())
    world.haystack.add("answers", name, head + "\n\n" + response.text)
    return response


async def use(world: World) -> list[str]:
    """Every secret, in everything that takes one, well and badly; ids of the tasks."""
    task_ids: list[str] = []
    key, bearer = {"X-API-Key": world.api_key}, {"Authorization": f"Bearer {world.bearer}"}
    proxied = {"X-Forwarded-Client-Cert": f'Hash={world.secrets["proxycertificate"]};URI="spiffe://x/mesh"'}
    content = world.content
    named = {"x_api_key": world.api_key}
    parts: list[dict[str, Any]] = [
        {"text": f"{content['text']} {world.planted}"},
        {"data": {"attack": "behave", "key": content["data"]}},
        {"raw": base64.b64encode(b"x").decode(), "filename": content["filename"]},
    ]
    async with (
        httpx.AsyncClient(base_url=world.deployment.gateways[0].url, timeout=20) as http,
        receiver() as to,
        receiver(_refusing) as refusing,
    ):
        configs = [
            {
                "url": f"{where.url}?key={content['urlquery']}",
                "token": world.secrets["webhooktoken"],
                "authentication": {"scheme": "Bearer", "credentials": world.secrets["webhookcredentials"]},
            }
            for where in (to, refusing)
        ]
        asked = send(*parts, metadata={"key": content["metadata"]})
        asked["configuration"] = {"taskPushNotificationConfig": configs[0]}
        also = {"Cookie": f"session={world.secrets['cookie']}", "X-Request-Id": world.planted}
        for binding in BINDINGS:
            caller = Caller(http, binding)
            for shown in (key, bearer, proxied):
                idempotent = {"Idempotency-Key": world.secrets["idempotency"] + binding}
                request = caller.request("SendStreamingMessage", asked, headers={**shown, **also, **idempotent})
                text = keep(world, "stream", await http.send(request)).text
                task_id = text.partition("t1-main-")[2][:24]
                task_ids.append(f"t1-main-{task_id}")
                for operation, params in (
                    ("GetTask", {"id": task_ids[-1]}),
                    ("ListTasks", {"includeArtifacts": True}),
                    ("ListTaskPushNotificationConfigs", {"taskId": task_ids[-1]}),
                ):
                    keep(world, operation, await http.send(caller.request(operation, params, headers=shown)))
            # Shown once, to who sets it: this answer is not kept.
            await caller.call("CreateTaskPushNotificationConfig", {"taskId": task_ids[-3], **configs[1]}, headers=key)
            also_asked = {**asked, "configuration": {"taskPushNotificationConfig": configs[1]}}
            keep(world, "send", await http.send(caller.request("SendMessage", also_asked, headers=key)))
            raising = send({"data": {"attack": "raise_it"}})
            keep(world, "raise", await http.send(caller.request("SendMessage", raising, headers=key)))
            bad: list[dict[str, str]] = [
                {"X-API-Key": world.api_key[:-4] + world.secrets["badkey"]},
                {"X-API-Key": world.secrets["badkey"]},
                {"Authorization": f"Bearer {world.secrets['badtoken']}"},
                {"Authorization": f"Bearer {world.bearer}{world.secrets['badtoken']}"},
                {"Authorization": f"Basic {base64.b64encode(world.secrets['basic'].encode()).decode()}"},
                {"Authorization": world.secrets["basic"]},
                {**key, **bearer},
                {**key, "A2A-Version": world.planted},
                {"X-Forwarded-Client-Cert": f"Hash={world.secrets['proxycertificate']}"},
            ]
            for shown in bad:
                request = caller.request("SendMessage", asked, headers={**shown, **also})
                response = keep(world, "refused", await http.send(request))
                assert response.status_code != 200 or "error" in response.json()
            broken = {**configs[0], "url": "gopher://x", "token": f"{world.secrets['webhooktoken']}\r\n"}
            refusals: list[tuple[str, dict[str, Any]]] = [
                ("CreateTaskPushNotificationConfig", {"taskId": task_ids[-3], **broken}),
                ("SendMessage", {**asked, "configuration": {"taskPushNotificationConfig": broken}}),
            ]
            for operation, refused in refusals:
                keep(world, "refused", await http.send(caller.request(operation, refused, headers=key)))
        old = rpc("message/send", {"message": {"role": "user", "parts": [{"kind": "text", "text": content["text"]}]}})
        keep(world, "0.3", await http.post("/", json=old, headers=key))
        keep(world, "0.3", await http.post("/fasta2a", json=rpc("tasks/get", {"id": task_ids[0]}), headers=key))
        keep(world, "no JSON", await http.post("/", content=content["text"].encode(), headers=key))
        for path in ("", "/rows", "/at/2", "/bundle", "/why", "/difference?from=1&to=3"):
            keep(world, f"debug {path}", await http.get(f"/debug/timelines/tasks/{task_ids[0]}{path}", headers=key))
        for path in ("/.well-known/agent-card.json", "/livez", "/readyz", f"/agents/{world.planted}/tasks/x"):
            keep(world, path, await http.get(path))
        async with channel(f"127.0.0.1:{world.grpc_port}") as opened:
            grpc = GrpcCaller(opened)
            for operation in ("GetTask", "CancelTask"):
                status = await grpc.refused(operation, {"id": task_ids[0]}, authorization=world.secrets["badtoken"])
                world.haystack.add("answers", "gRPC", repr(status))
            world.haystack.add("answers", "gRPC", repr(await grpc.call("GetTask", {"id": task_ids[0]}, **named)))
        await eventually(lambda: len(refusing.received) >= 2 and len(to.accepted) >= 6, what="pushes, good and bad")
    return task_ids


async def _refusing(_: Received) -> int:
    return 500


async def look_around(world: World, task_ids: list[str]) -> None:
    """What operators see: pages, ports, commands, what a process is called."""
    settings = world.deployment._settings
    base = f"http://127.0.0.1:{settings['timeline_port']}"
    shown = {"Authorization": f"Bearer {world.secrets['timelinetoken']}"}
    async with httpx.AsyncClient(timeout=20) as http:
        for path in ("/", "/api/about", "/api/tasks", *(f"/api/tasks/{task_ids[0]}{end}" for end in ("", "/rows"))):
            for headers in (shown, {}, {"Authorization": f"Bearer {world.secrets['badtoken']}"}):
                response = await http.get(base + path, headers=headers)
                assert response.status_code in ({200, 404} if headers is shown else {401}), path
                head = "\n".join(f"{key}: {value}" for key, value in response.headers.items())
                world.haystack.add("pages", path, head + response.text)
        for process in world.processes:
            for path in ("/metrics", "/livez", "/readyz", "/startupz"):
                world.haystack.add("metrics", process.name + path, (await http.get(process.admin_url + path)).text)
    for process in world.processes:
        _look_at_arguments(world, process.name, process.pid)
    exported, backed_up = world.folder / "exported.jsonl", world.folder / "backup"
    own = (world.folder / "own.key", world.folder / "bad.token")
    own[0].write_text(world.api_key)
    own[1].write_text(world.secrets["badtoken"])
    gateway = world.deployment.gateways[0].url
    nowhere = world.deployment.nats.rpartition(":")[0] + f":{free_port()}"
    runs: list[tuple[tuple[str, ...], dict[str, str], set[int]]] = [
        (("doctor",), {}, {0, 1}),
        (("timeline", task_ids[0], "-o", "markdown"), {}, {0}),
        (("stuck", task_ids[0]), {}, {0, 1}),
        (("dead-letters", "show", "t1-main-0-" + "A" * 22), {}, {1}),
        (("timeline", "t1-main-0-" + "A" * 22), {}, {1}),
        (("tasks",), {f"{PREFIX}NATS": nowhere}, {3}),
        (("export", task_ids[0], "-o", str(exported)), {}, {0}),
        (("backup", str(backed_up)), {}, {0}),
        (("retain", "--days", "30"), {}, {0}),
        (("api-key", "list", "--file", str(world.folder / "keys.jsonl")), {}, {0}),
        (("send", world.planted, "--url", gateway, "--header", f"X-Request-Id: {world.planted}"), {}, {0}),
        (("send", "x", "--url", gateway, "--token", f"@{own[1]}"), {"A2A_API_KEY": ""}, {1}),
        (("gateway", "--port", settings["timeline_port"]), {}, {2}),
    ]
    for number in range(0, len(runs), 3):
        codes = await asyncio.gather(*(command(world, *run, **more) for run, more, _ in runs[number : number + 3]))
        for (run, _, expected), code in zip(runs[number : number + 3], codes, strict=True):
            assert code in expected, (run, code, world.haystack.last("commands"))
    world.haystack.add("files", "bundle", exported.read_bytes())
    await restored(world, backed_up)


async def restored(world: World, folder: Path) -> None:
    """What a backup holds: its files are compressed, so it is searched where it is restored."""
    other = NatsServer(world.folder / "restored", sync="2m")
    await other.start()
    try:
        assert await command(world, "restore", str(folder), **{f"{PREFIX}NATS": other.url}) == 0, world.haystack.last(
            "commands"
        )
    finally:
        await other.stop()
        other.clean()
    world.haystack.add_folder("backup", other.store)


async def test_no_secret_is_anywhere_but_where_it_has_its_place(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        task_ids = await use(made)
        await look_around(made, task_ids)
        for process in made.processes:
            assert await process.stop() == 0  # and has written its spans
        for process in made.processes:
            made.haystack.add("logs", process.name, process.output)
        for number, body in enumerate(made.collector.bodies):
            made.haystack.add("traces", str(number), body)
        await made.server.stop()
        runtime = Path(made.server._runtime.name)
        made.haystack.add_folder("broker", made.server.store)
        made.haystack.add_folder("broker", runtime, [runtime / "nats-server.conf"])
        own = [tmp_path / name for name in ("seal", "card.jwk", "own.key", "bad.token")]
        made.haystack.add_folder("files", tmp_path, [*own, runtime / "nats-server.conf"])
        await made.server.start()  # whoever leaves cleans up there

        planted = made.haystack.found({"planted": made.planted.encode()})
        assert {surface for surface, _, _ in planted} == SURFACES, "every surface was searched"
        hidden = {name: secret.encode() for name, secret in made.secrets.items()}
        hidden["sealing key, raw"] = base64.b64decode(made.secrets["sealingkey"])
        assert made.haystack.found(hidden) == []
        content = {name: text.encode() for name, text in made.content.items()}
        said = made.haystack.found(content)
        assert {name for _, _, name in said} == set(content), "what was said is somewhere"
        assert [found for found in said if found[0] in QUIET] == []
