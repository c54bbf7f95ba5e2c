"""Clients that attack: what they say becomes no header and no line of anybody's, and nobody calls what they name.

Elsewhere: ids and bodies that are none (``tests/integration/test_hostile.py``), trace contexts
(``tests/unit/test_tracing.py``), URLs of webhooks (``tests/unit/test_webhook_url.py``).
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from a2a_events.settings import PREFIX
from a2a_events.testing import eventually, free_port
from tests.hostile.attackers import TEXTS
from tests.hostile.site import ROOT, Site, lines_of, state
from tests.integration.http import message, rpc
from tests.integration.receiver import receiver
from tests.interop.wire import BINDINGS, Caller, send

pytestmark = [pytest.mark.integration, pytest.mark.processes, pytest.mark.asyncio(loop_scope="module")]

CANARY = "canary-4711"
NATS_HEADERS = {
    "Nats-Msg-Id": CANARY,
    "Nats-Rollup": "all",
    "Nats-Expected-Stream": CANARY,
    "Nats-Expected-Last-Sequence": "999999",
    "Nats-Expected-Last-Subject-Sequence": "999999",
    "Nats-TTL": "1s",
    "Nats-Schedule": "@at 2030-01-01T00:00:00Z",
    "Nats-Schedule-Target": "a2a.log",
    "Status": "503",
    "traceparent": f"00-{'0' * 32}-{'1' * 16}-01\tNats-Rollup: all",
    "tracestate": f"a={CANARY}\tNats-Rollup: all",
    "A2A-Extensions": CANARY,
}


@pytest.mark.parametrize("binding", BINDINGS)
async def test_no_header_of_a_client_becomes_one_of_a_record(site: Site, binding: str) -> None:
    caller = Caller(site.http, binding)
    plain = (await caller.call("SendMessage", send("plain")))["task"]["id"]
    members = {"metadata": dict.fromkeys(NATS_HEADERS, CANARY)}
    asked = (await caller.call("SendMessage", send("x", **members), headers=NATS_HEADERS))["task"]
    assert state(asked) == "COMPLETED"
    usual = {name for stored in await site.stored(plain) for name in stored.headers}
    records = await site.stored(asked["id"])
    assert len(records) == len(await site.stored(plain)), "none was rolled up, refused or has expired"
    assert {name for stored in records for name in stored.headers} == usual
    assert not any(CANARY in stored.head + stored.subject for stored in records)
    assert asked["history"][0]["metadata"] == members["metadata"], "it stays in the payload"
    await site.whole()


TORN = ("\r\n", "\n", "\r", "\x00", "\x0b", "\x85", "\u2028", "\x7f", " x: y\r\nX-Injected: 1", "\u010a\u010d")
"""What ends a header, for one reader or another; the last are CR and LF where somebody cuts characters to bytes."""


@pytest.mark.parametrize("binding", BINDINGS)
async def test_nothing_torn_becomes_a_header_of_a_webhook(site: Site, binding: str) -> None:
    caller = Caller(site.http, binding)
    async with receiver() as to:
        config: dict[str, Any] = {"url": to.url, "token": "t", "authentication": {"scheme": "A", "credentials": "c"}}
        task = await caller.call("SendMessage", send("x", configuration={"taskPushNotificationConfig": config}))
        await eventually(lambda: any(b"COMPLETED" in one.body for one in to.accepted), what="the plain one")
        usual = {name for one in to.received for name in one.headers}
        before = len(to.received)
        for torn in TORN:
            for bad, member in (
                ({**config, "url": f"{to.url}{torn}"}, "url"),
                ({**config, "url": f"http://127.0.0.1{torn}:{to.port}/"}, "url"),
                ({**config, "token": f"t{torn}u"}, "token"),
                ({**config, "authentication": {"scheme": f"A{torn}", "credentials": "c"}}, "authentication.scheme"),
                (
                    {**config, "authentication": {"scheme": "A", "credentials": f"c{torn}d"}},
                    "authentication.credentials",
                ),
            ):
                made = await caller.refused("CreateTaskPushNotificationConfig", {"taskId": task["task"]["id"], **bad})
                assert (made.reason, made.fields) == ("INVALID_PARAMS", [member]), torn
                inline = await caller.refused(
                    "SendMessage", send("x", configuration={"taskPushNotificationConfig": bad})
                )
                assert inline.fields == [f"configuration.taskPushNotificationConfig.{member}"]
        # An id is no header, and may be anything.
        named = {**config, "id": "".join(TORN)}
        await caller.call("SendMessage", send("x", configuration={"taskPushNotificationConfig": named}))
        await eventually(lambda: any(b"COMPLETED" in one.body for one in to.accepted[before:]), what="the odd one")
        assert {name for one in to.received for name in one.headers} <= usual
    await site.whole()


async def asked_raw(site: Site, request: bytes) -> tuple[bytes, list[bytes], bytes]:
    """Status line, header lines and body of an answer to bytes as they are."""
    parts = urlsplit(site.deployment.gateways[0].url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(request)
        async with asyncio.timeout(10):
            answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    return status, lines, body


async def test_nothing_of_a_request_becomes_a_header_of_its_answer(site: Site) -> None:
    """Answers are read as bytes: a client library would not show what is between the lines."""
    injected = ["\r\nSet-Cookie: a=1", "\nX: y", "\r\n\r\n<html>", "\x85x", "\u2028x", "\x00"]
    places = ["/tasks/{}", "/{}/tasks/x", "/agents/{}/tasks/x", "/{}", "/tasks?contextId={}", "/tasks/x:subscribe?a={}"]
    names = {b"content-type", b"content-length", b"x-request-id", b"allow", b"connection", b"cache-control"}
    requests = [
        f"GET {place.format(quote(text, safe=''))} HTTP/1.1\r\nA2A-Version: 1.0\r\n".encode()
        for text in injected
        for place in places
    ]
    headers = ("X-Request-Id", "Last-Event-ID", "A2A-Version", "A2A-Extensions", "traceparent", "Idempotency-Key")
    requests += [
        f"GET /tasks/x HTTP/1.1\r\n{name}: a{text}b\r\n".encode("latin-1")
        for name in headers
        for text in ("\x85", "\x0b", "\t", "\xff", " b: c")
    ]
    for request in requests:
        status, lines, body = await asked_raw(site, request + b"Host: x\r\nConnection: close\r\n\r\n")
        assert status.split(b" ")[1] in {b"200", b"400", b"404", b"405"}, (request, status)
        assert {line.partition(b":")[0].lower() for line in lines} <= names, request
        assert len(lines) == len({line.partition(b":")[0].lower() for line in lines}), request
        if status.startswith(b"HTTP/1.1 4") and b"json" in b"".join(lines):
            assert b"error" in json.loads(body).__repr__().encode(), request
    lines_of(site.gateway)
    await site.whole()


async def test_what_clients_choose_does_nothing_to_lines_of_logs(site: Site) -> None:
    since = len(site.gateway.output)
    for text in TEXTS.values():
        for method, params in (
            (text, {}),
            ("SendMessage", {**message(text, contextId=text[:500], messageId=text[:500]), "tenant": text[:500]}),
            ("GetTask", {"id": text, "tenant": text}),
        ):
            await site.http.post("/", json=rpc(method, params, text), headers={"x-request-id": quote(text)})
        await site.http.get(f"/agents/{quote(text, safe='')}/tasks/{quote(text, safe='')}")
        await site.http.get(f"/debug/timelines/tasks/{quote(text, safe='')}/{quote(text, safe='')}")
    lines = lines_of(site.gateway, since)
    assert len([line for line in lines if line["event"] == "request"]) == 5 * len(TEXTS)
    assert not [line for line in lines if line.get("action") == "forged"]
    lines_of(site.worker)
    await site.whole()


class Trap:
    """A port that nobody has any business with."""

    def __init__(self) -> None:
        self.port = free_port()
        self.connections = 0

    async def _connected(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()


@asynccontextmanager
async def trapping() -> AsyncIterator[Trap]:
    trap = Trap()
    async with await asyncio.start_server(trap._connected, "127.0.0.1", trap.port):
        yield trap


def shown_on_a_terminal(*arguments: str) -> str:
    """What a command prints on a terminal of the kernel's, without colours of its own; errors, too."""
    ours, theirs = os.openpty()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    command = [sys.executable, "-m", "a2a_events.cli", *arguments]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**clean, "TERM": "dumb"},
        cwd=ROOT,
    )
    os.close(theirs)
    shown = b""
    try:
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
            if not piece:
                break
            shown += piece
    finally:
        os.close(ours)
        process.kill()
        process.wait()
    return shown.decode().replace("\r\n", "\n")


def commands(site: Site, task_id: str) -> list[tuple[str, ...]]:
    """Every command that shows a task."""
    nats = ("--nats", site.deployment.nats, "--namespace", site.deployment.namespace)
    return [
        ("watch", task_id, "--url", site.deployment.gateways[0].url),
        ("timeline", task_id, *nats),
        ("show", task_id, *nats),
        ("diff", task_id, "1", "30", *nats),
        ("timeline", task_id, "-o", "markdown", *nats),
        ("stuck", task_id, *nats),
        ("tasks", *nats),
    ]


async def test_what_agents_say_does_nothing_to_terminals(site: Site) -> None:
    """As processes against a live deployment; ``tests/cli/test_hostile.py`` has each form of output."""
    task = await site.attack("say_texts")
    shown = await asyncio.gather(
        *(asyncio.to_thread(shown_on_a_terminal, *each) for each in commands(site, task["id"])[:4])
    )
    for (name, *_), text in zip(commands(site, task["id"]), shown, strict=False):
        assert "owned" in text, (name, text)
        assert {c for c in text if not c.isprintable()} <= {"\n", "\t"}, name


async def test_nobody_calls_what_parts_and_metadata_name(site: Site, tmp_path: Path) -> None:
    unread = tmp_path / "unread"
    unread.write_text(CANARY)
    async with trapping() as trap, receiver() as to:
        here = f"127.0.0.1:{trap.port}"
        urls = [
            f"http://{here}/a.png",
            f"https://{here}/a",
            f"//{here}/a",
            f"ws://{here}/",
            f"nats://{here}/",
            f"file://{unread}",
            str(unread),
            "http://169.254.169.254/latest/meta-data/",
        ]
        parts = [{"url": url, "filename": url, "metadata": {"$ref": url}} for url in urls]
        asked: dict[str, Any] = send({"data": {"attack": "link", "urls": urls}}, *parts, metadata={"url": urls})
        asked["message"]["referenceTaskIds"] = urls
        asked["message"]["extensions"] = urls
        asked["configuration"] = {"taskPushNotificationConfig": {"url": to.url}}
        seen: list[Any] = []
        task_id = ""
        for binding in BINDINGS:
            caller = Caller(site.http, binding)
            frames = await caller.frames("SendStreamingMessage", asked)
            seen += [frame.data for frame in frames]
            task_id = frames[0].data["task"]["id"]
            seen.append(await caller.call("GetTask", {"id": task_id}))
            seen.append(await caller.call("ListTasks", {"includeArtifacts": True}))
            for path in ("", "/rows", "/at/3", "/bundle", "/why", "/difference?from=1&to=4"):
                seen.append((await site.http.get(f"/debug/timelines/tasks/{task_id}{path}")).text)
        await eventually(lambda: sum(b"COMPLETED" in one.body for one in to.accepted) >= 2, what="both last pushes")
        seen += [one.body.decode() for one in to.received]
        seen += await asyncio.gather(
            *(asyncio.to_thread(shown_on_a_terminal, *each) for each in commands(site, task_id)[:2])
        )
        everything = json.dumps(seen)
        assert urls[0] in everything
        assert trap.connections == 0
        assert CANARY not in everything, "nor is a file read"
        assert not any(CANARY in process.output for process in site.processes)
        reader, writer = await asyncio.open_connection("127.0.0.1", trap.port)
        await reader.read()
        writer.close()
        assert trap.connections == 1, "the trap works"
    await site.whole()
