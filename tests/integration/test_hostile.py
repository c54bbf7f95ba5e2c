"""Bad input that is large, odd or broken off: nothing left behind, and the next request is served.

``tests/bad_input`` has the list of bad inputs, row by row.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from a2a_events import limits
from a2a_events.agents import scripted
from a2a_events.log.jetstream import Connection
from a2a_events.testing import eventually, unique_namespace
from tests.integration.http import client, gateway_in_process, message, rpc
from tests.integration.stack import stack_of

NASTY_IDS = [
    "*",
    ">",
    "a.b.c",
    "a b",
    "",
    "t1-main-0-*",
    "t1-main-0->",
    "t1-main-0-" + "A" * 22 + ".in",
    "t1-main-99999-" + "A" * 22,
    "t1-nosuchlog-0-" + "A" * 22,
    "t1-main-0-" + "A" * 22,
    "$JS.API.STREAM.DELETE.A2A",
    "_INBOX.>",
    "x" * 5_000,
    "..\\..\\etc",
    "../../etc/passwd",
    "\r\nPUB a2a.log 0\r\n\r\n",
    "\x00",
    "ünï¢ødé \U0001f600",
    "%2e%2e%2f",
    "'; DROP TABLE tasks; --",
]


def short(value: str) -> str:
    return ascii(value)[:24]


class Site:
    """One gateway over HTTP, and how many messages its streams hold."""

    def __init__(self, url: str, namespace: str, connection: Connection) -> None:
        self.url = url
        self.http = client(url)
        self._connection = connection
        self._streams = namespace.upper()

    async def stored(self) -> int:
        """Messages that the log and its bucket have ever held, by STREAM.INFO."""
        total = 0
        for stream in (
            f"{self._streams}_LOG_main_0",
            f"{self._streams}_LOG_main_1",
            f"OBJ_{self._streams}_CONTENT_main",
        ):
            info = await self._connection.api(f"STREAM.INFO.{stream}")
            total += info["state"]["last_seq"]
        return total

    async def serves(self) -> None:
        answer = await self.http.post("/message:send", json=message("still there?"))
        assert answer.json()["task"]["status"]["state"] == "TASK_STATE_COMPLETED", answer.text


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(nats_url: str) -> AsyncIterator[Site]:
    namespace = unique_namespace()
    async with AsyncExitStack() as exits:
        stack = await exits.enter_async_context(stack_of("jetstream", scripted, nats_url, namespace))
        await stack.worker()
        url = await exits.enter_async_context(gateway_in_process(nats_url, namespace))
        made = Site(url, namespace, stack._logs[3]._connection)  # type: ignore[attr-defined]
        exits.push_async_callback(made.http.aclose)
        yield made


pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


async def refused(site: Site, response: httpx.Response, *statuses: int) -> dict[str, Any]:
    """An answer that is an error of the protocol in one of its two shapes."""
    content: dict[str, Any] = response.json()
    assert "error" in content, response.text
    error = content["error"]
    if "jsonrpc" in content:
        assert content["jsonrpc"] == "2.0"
        assert "result" not in content
        assert -32768 <= error["code"] <= -32000
        assert error["code"] != -32603, "an internal error is not the caller's fault"
    else:
        assert response.status_code == error["code"] >= 400
        assert response.status_code != 500, response.text
    assert error["message"]
    assert error["data" if "jsonrpc" in content else "details"][0]["reason"]
    assert "Traceback" not in response.text
    if statuses:
        assert response.status_code in statuses
    return content


class Unchanged:
    """Asserts that a block stored nothing and that the gateway still serves."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def __aenter__(self) -> None:
        self._before = await self._site.stored()

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            assert await self._site.stored() == self._before
            await self._site.serves()


@pytest.mark.parametrize("member", ["contextId", "messageId", "tenant"])
@pytest.mark.parametrize("bad", [i for i in NASTY_IDS if 0 < len(i) < 512], ids=short)
async def test_strings_that_clients_choose_come_back_as_they_were(site: Site, member: str, bad: str) -> None:
    params = message("x")
    if member == "tenant":
        params["tenant"] = bad
    else:
        params["message"][member] = bad
    task = (await site.http.post("/", json=rpc("SendMessage", params))).json()["result"]["task"]

    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    if member == "contextId":
        assert task["contextId"] == bad
    if member == "messageId":
        assert task["history"][0]["messageId"] == bad
    if member == "tenant":
        foreign = await site.http.post("/", json=rpc("GetTask", {"id": task["id"]}))
        assert foreign.json()["error"]["code"] == -32001
        own = await site.http.post("/", json=rpc("GetTask", {"id": task["id"], "tenant": bad}))
        assert own.json()["result"]["id"] == task["id"]


@pytest.mark.parametrize("size", [limits.CONTENT_BYTES, limits.REQUEST_BYTES])
async def test_a_payload_over_the_limit_is_refused_and_the_connection_goes_on(site: Site, size: int) -> None:
    """Below the request limit and over that of content, too."""
    params = message("x" * size)
    async with Unchanged(site):
        await refused(site, await site.http.post("/", json=rpc("SendMessage", params)), 413, 200)
        await refused(site, await site.http.post("/message:send", json=params), 413)
        await refused(site, await site.http.post("/message:stream", json=params), 413)


async def test_a_body_over_the_limit_without_a_length_is_cut_off(site: Site) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(2 * limits.REQUEST_BYTES // 100_000):
            yield b"x" * 100_000

    async with Unchanged(site):
        try:
            response = await site.http.post("/message:send", content=endless())
            assert response.status_code == 413
        except httpx.TransportError:
            pass  # the answer came before the body had gone; the connection was closed under it


@pytest.mark.parametrize(
    "text", ["a\nb\r\n\r\ndata: x", "\u2028\u2029", '"\\', "data: {}", "\x00\x01\x1f", "é\U0001f600"]
)
async def test_text_that_could_break_frames_and_lines_comes_back_as_it_was(site: Site, text: str) -> None:
    async with site.http.stream("POST", "/message:stream", json=message(text)) as response:
        content = (await response.aread()).decode()
    found = [json.loads(line[6:]) for line in content.split("\n") if line.startswith("data: ")]
    said = [u["artifactUpdate"]["artifact"]["parts"][0]["text"] for u in found if "artifactUpdate" in u]

    assert said == [text]


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", "/message:send"),
        ("DELETE", "/tasks/x"),
        ("PUT", "/tasks/x:cancel"),
        ("GET", "/nowhere"),
        ("POST", "/tasks/x:explode"),
        ("GET", "/"),
        ("GET", "/agents/nobody/tasks/x"),
        ("POST", "/agents/*/message:send"),
        ("POST", "/agents/%2e%2e/message:send"),
        ("DELETE", "/tasks"),
        ("GET", "/extendedAgentCard"),
    ],
)
async def test_paths_and_verbs_that_are_not_there_get_the_protocols_error(site: Site, verb: str, path: str) -> None:
    async with Unchanged(site):
        body = message("x") if verb == "POST" else None
        await refused(site, await site.http.request(verb, path, json=body), 400, 404, 405)


async def test_clients_that_vanish_in_every_phase_leave_the_gateway_serving(site: Site) -> None:
    port = int(site.url.rsplit(":", 1)[1])
    body = json.dumps(message({"script": {"chunks": 50, "delayMs": 5}})).encode()
    head = b"POST /message:stream HTTP/1.1\r\nHost: x\r\nA2A-Version: 1.0\r\nContent-Length: %d\r\n\r\n" % len(body)
    for cut in [0, 1, 10, len(head) - 1, len(head), len(head) + 5, len(head) + len(body) - 1]:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write((head + body)[:cut])
        await writer.drain()
        writer.transport.abort()
    for wanted in (1, 200, 3000):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head + body)
        async with asyncio.timeout(20):
            await reader.readexactly(wanted)
        writer.transport.abort()

    await site.serves()


async def test_garbage_instead_of_http_leaves_the_gateway_serving(site: Site) -> None:
    port = int(site.url.rsplit(":", 1)[1])
    for garbage in (b"\x16\x03\x01" + os.urandom(200), b"GET\r\n\r\n", b"A" * 200_000, b"\r\n" * 1000):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(garbage)
        writer.close()

    async def serves() -> bool:
        await site.serves()
        return True

    await eventually(serves)


BIG = "x" * 700_000
HUGE: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({**message("hi"), "metadata": {"a": BIG, "b": BIG, "c": BIG}}, {}),
    ({**message("hi"), "metadata": {f"key{n}": "v" * 40 for n in range(20_000)}}, {}),
    (message("hi", metadata={"a": BIG * 3}), {}),
    (message("hi", extensions=[f"https://example.com/{n}/{'e' * 200}" for n in range(5_000)]), {}),
    (message("hi", referenceTaskIds=["t" * 500] * 5_000), {}),
    (message("hi", contextId="c" * 512, messageId="m" * 512), {}),
    ({**message("hi"), "tenant": "t" * 512}, {}),
    ({**message("hi"), "configuration": {"acceptedOutputModes": ["m" * 1_000] * 3_000}}, {}),
    (message("hi"), {"traceparent": "00-" + "a" * 20_000}),
    (message("hi"), {"tracestate": "a=" + "b" * 20_000, "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}),
    (message("hi"), {"idempotency-key": "k" * 20_000}),
    (message("hi"), {"a2a-extensions": ",".join(f"https://example.com/{n}" for n in range(1_000))}),
    (message("hi"), {"last-event-id": "c" * 20_000}),
]


@pytest.mark.parametrize(("params", "headers"), HUGE, ids=range(len(HUGE)))
@pytest.mark.parametrize("path", ["/", "/message:send", "/message:stream"])
async def test_nothing_that_is_huge_closes_the_connection_to_the_broker(
    site: Site, path: str, params: dict[str, Any], headers: dict[str, str]
) -> None:
    body = rpc("SendMessage", params) if path == "/" else params
    with capture_logs() as logged:
        answer = await site.http.post(path, json=body, headers=headers)
        await site.serves()

    # Taken, or refused as the protocol says; never our fault, and never that of the other requests.
    assert answer.status_code < 500, answer.text[:300]
    assert not [line for line in logged if str(line["event"]).startswith("nats ")]


async def test_as_many_webhooks_as_a_client_likes_do_not_close_the_connection(site: Site) -> None:
    sent = await site.http.post("/message:send", json=message("hi"))
    task_id = sent.json()["task"]["id"]
    with capture_logs() as logged:
        answers = [
            await site.http.post(
                f"/tasks/{task_id}/pushNotificationConfigs",
                json={"id": f"{n}".rjust(500, "w"), "url": "https://example.com/" + "u" * 2_000, "token": "t" * 4_000},
            )
            for n in range(limits.WEBHOOKS + 5)
        ]
        await site.serves()
        assert (await site.http.get(f"/tasks/{task_id}")).status_code == 200

    assert all(answer.status_code < 500 for answer in answers), {answer.text[:200] for answer in answers}
    assert not [line for line in logged if str(line["event"]).startswith("nats ")]
