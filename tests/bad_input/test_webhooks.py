"""Group F: webhooks that would make us call what their client cannot reach.

Checked when a config is set, by the operation or with a message, and again when it is called, in case it was set while
more was allowed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpcore
import httpx
import pytest

from a2a_events import limits
from a2a_events.runtime.webhook import NotTaken
from a2a_events.services import notifier
from a2a_events.services.connect import jetstream_log
from a2a_events.services.webhook_client import WebhookClient
from a2a_events.testing import eventually
from tests.bad_input.rows import NO_PUSH, PARAMS
from tests.bad_input.site import ANSWER_SECONDS, Site
from tests.integration.receiver import receiver
from tests.interop.agents import AGENTS
from tests.interop.conftest import serving
from tests.interop.wire import BINDINGS, HTTP_JSON, Caller, script, send

pytestmark = [pytest.mark.integration, pytest.mark.processes, pytest.mark.asyncio(loop_scope="session")]

URLS: dict[str, str] = {
    "row-83-file": "file:///etc/passwd",
    "row-83-gopher": "gopher://example.com/",
    "row-83-ftp": "ftp://example.com/",
    "row-83-javascript": "javascript:alert(1)",
    "row-83-data": "data:text/plain,hi",
    "row-83-unix": "unix:///var/run/docker.sock",
    "row-83-empty": "",
    "row-83-relative": "/hook",
    "row-83-without-a-scheme": "//example.com/hook",
    "row-83-without-a-host": "https:///hook",
    "row-83-lines": "https://example.com/\r\nX-Injected: 1",
    "row-85-address": "http://169.254.169.254/latest/meta-data/",
    "row-85-address-in-ipv6": "http://[fd00:ec2::254]/",
    "row-85-name": "http://metadata.google.internal/computeMetadata/v1/",
    "row-85-name-with-a-dot": "http://metadata.google.internal./",
    "row-85-another-cloud": "http://100.100.100.200/",
    "row-86-this-host": "http://127.0.0.1/",
    "row-86-this-network": "http://0.0.0.0/",
    "row-86-10": "http://10.1.2.3/",
    "row-86-172.16": "http://172.16.0.1/",
    "row-86-192.168": "http://192.168.0.1/",
    "row-86-100.64": "http://100.64.0.1/",
    "row-86-198.18": "http://198.18.0.1/",
    "row-86-multicast": "http://224.0.0.1/",
    "row-86-reserved": "http://240.0.0.1/",
    "row-86-broadcast": "http://255.255.255.255/",
    "row-86-decimal": "http://2130706433/",
    "row-86-hexadecimal": "http://0x7f000001/",
    "row-86-octal": "http://0177.0.0.1/",
    "row-86-short": "http://127.1/",
    "row-86-other-digits": "http://１２７.0.0.1/",
    "row-86-ipv6-loopback": "http://[::1]/",
    "row-86-ipv6-link-local": "http://[fe80::1]/",
    "row-86-ipv6-unique-local": "http://[fc00::1]/",
    "row-86-ipv6-unspecified": "http://[::]/",
    "row-88-mapped": "http://[::ffff:127.0.0.1]/",
    "row-88-nat64": "http://[64:ff9b::7f00:1]/",
    "row-88-6to4": "http://[2002:7f00:1::]/",
    "row-88-compatible": "http://[::127.0.0.1]/",
    "row-88-teredo": "http://[2001:0:7f00:1::]/",
    "row-89-credentials": "http://user:pw@example.com/",
    "row-89-a-good-name-before-it": "http://good@127.0.0.1/",
    "row-89-a-good-name-behind-it": "http://127.0.0.1#@good.example.com/",
    "row-89-a-backslash": "http://good.example.com\\@127.0.0.1/",
    "row-89-an-encoded-at": "http://good.example.com%40127.0.0.1/",
    "row-94-ssh": "https://example.com:22/",
    "row-94-smtp": "http://example.com:25/",
    "row-94-redis": "http://example.com:6379/",
    "row-94-nats": "http://example.com:4222/",
    "row-94-nats-monitoring": "http://example.com:8222/",
    "row-94-zero": "http://example.com:0/",
    "row-94-over-16-bits": "http://example.com:65616/",
    "row-95-a-service": "http://kubernetes.default.svc/",
    "row-95-a-service-in-full": "https://kubernetes.default.svc.cluster.local/",
    "row-95-without-dots": "nats://nats:4222",
    "row-95-without-dots-over-http": "http://nats:8443/",
    "row-95-localhost": "http://localhost/",
    "row-95-below-localhost": "http://hooks.localhost/",
    "row-95-on-the-local-network": "http://printer.local/",
    "row-98-100-kb": "https://example.com/" + "x" * 100_000,
}


TLS = ssl.create_default_context()
"""One for all: making one reads certificates, which takes longer than the tests."""


class Names:
    """A name server: each question gets the next answer, the last one for ever."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


async def ended(site: Site) -> str:
    """One task, for all webhooks that are refused."""
    if "ended" not in site.kept:
        site.kept["ended"] = (await site.task())["id"]
    return site.kept["ended"]


@pytest.mark.parametrize("case", URLS)
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_webhook_that_is_not_called_cannot_be_set(site: Site, binding: str, case: str) -> None:
    caller, config = site.caller(binding), {"id": "c", "url": URLS[case]}
    task_id = await ended(site)
    response = await site.http.send(caller.request("CreateTaskPushNotificationConfig", {"taskId": task_id, **config}))
    assert ["url"] == PARAMS.check(binding, response)
    inline = send("hi", configuration={"taskPushNotificationConfig": config})
    for operation in ("SendMessage", "SendStreamingMessage"):
        response = await site.http.send(caller.request(operation, inline))
        assert ["configuration.taskPushNotificationConfig.url"] == PARAMS.check(binding, response)


@pytest.mark.parametrize("case", URLS)
async def test_and_would_not_be_called_if_it_had_been(case: str) -> None:
    names = Names(["127.0.0.1"])
    client = WebhookClient(resolve=names, tls=TLS)
    with pytest.raises(NotTaken) as refused:
        await client.post(URLS[case], {}, b"{}")
    await client.close()
    assert ("blocked", []) == (refused.value.result, names.asked)


class Internet:
    """Connects to nobody but a receiver of the test's, whatever the address, and remembers the addresses."""

    def __init__(self, port: int) -> None:
        self.dialled: list[str] = []
        self._port = port
        self._network: Any = httpcore.AnyIOBackend()

    async def connect_tcp(self, host: str, port: int, *given: Any) -> httpcore.AsyncNetworkStream:
        self.dialled.append(host)
        made: httpcore.AsyncNetworkStream = await self._network.connect_tcp("127.0.0.1", self._port, *given)
        return made


PUBLIC = "93.184.216.34"
RESOLVED: dict[str, list[list[str]]] = {
    "row-91-loopback-the-second-time": [[PUBLIC], ["127.0.0.1"]],
    "row-91-metadata-the-second-time": [[PUBLIC], ["169.254.169.254"]],
    "row-92-public-and-private": [[PUBLIC, "10.0.0.1"]],
    "row-92-private-and-public": [["127.0.0.1", PUBLIC]],
    "row-92-public-and-mapped": [[PUBLIC, "::ffff:127.0.0.1"]],
    "row-92-public-and-metadata": [[PUBLIC, "169.254.169.254"]],
}


@pytest.mark.parametrize("case", RESOLVED)
async def test_only_what_was_checked_is_connected_to(case: str) -> None:
    names = Names(*RESOLVED[case])
    async with receiver() as one:
        client = WebhookClient(resolve=names, tls=TLS)
        internet = Internet(one.port)
        client._network._network = internet
        url = "http://hooks.example.com/"
        if "row-91" in case:
            await client.post(url, {}, b"{}")
            assert ([PUBLIC], 1) == (internet.dialled, len(names.asked))
            for origin in client._origins.values():
                await origin.pool.aclose()  # the next one connects anew, and asks anew
        with pytest.raises(NotTaken) as refused:
            await client.post(url, {}, b"{}")
        await client.close()
        assert "blocked" == refused.value.result
        assert ["hooks.example.com"] * len(RESOLVED[case]) == names.asked
        assert [PUBLIC] * (len(RESOLVED[case]) - 1) == internet.dialled, "no other was connected to"


class Nuisance:
    """A receiver that is a burden, in one of several ways."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.port = 0
        self.connected = 0
        self.ended = 0
        self.sent_bytes = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected += 1
        try:
            if self._kind == "drips":
                for byte in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(0.1)
            elif self._kind == "floods":
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                while self.sent_bytes < 1024**3:
                    writer.write(b"x" * 65536)
                    await writer.drain()
                    self.sent_bytes += 65536
            else:
                while await reader.read(65536):
                    pass  # and never an answer
        except ConnectionError:
            pass
        finally:
            self.ended += 1
            writer.close()


@asynccontextmanager
async def nuisance(kind: str) -> AsyncIterator[Nuisance]:
    made = Nuisance(kind)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made


@pytest.mark.parametrize("case", ["row-97-drips", "row-97-floods", "row-97-hangs"])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_receiver_that_is_a_burden_is_cut_and_delays_nobody(
    nats_url: str, monkeypatch: pytest.MonkeyPatch, binding: str, case: str
) -> None:
    """In one process with its notifier, which may call this machine. The time is 15 s by itself."""
    monkeypatch.setattr(limits, "WEBHOOK_TIMEOUT_SECONDS", 1.0)
    stop = asyncio.Event()
    async with (
        nuisance(case.rpartition("-")[2]) as burden,
        receiver() as honest,
        serving(
            AGENTS[:1], nats=nats_url, default_agent="scripted", push_allow_private=True, push_attempts=1
        ) as settings,
        jetstream_log(settings, "notifier") as (log, _),
        httpx.AsyncClient(base_url=settings.base_url, timeout=ANSWER_SECONDS) as http,
    ):
        running = asyncio.create_task(notifier.serve(log, settings, stop))
        caller = Caller(http, binding)

        async def told(port: int) -> str:
            hook = {"taskPushNotificationConfig": {"url": f"http://127.0.0.1:{port}/"}}
            return str((await caller.call("SendMessage", send(script(chunks=1), configuration=hook)))["task"]["id"])

        await told(burden.port)
        await eventually(lambda: burden.connected > 0, what="the burden's first request")
        task_id = await told(honest.port)
        await eventually(lambda: len(honest.of(task_id)) >= 3, what="what the honest one is owed")
        await eventually(lambda: burden.ended > 0, what="the end of the burden's connection")
        stop.set()
        await running
    assert burden.sent_bytes < 32 * 1024**2, "no more than what fits into buffers of sockets"


@pytest.mark.parametrize("case", ["row-98-one-too-many"])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_task_has_so_many_webhooks_and_no_more(site: Site, binding: str, case: str) -> None:
    """20 by default, where the list has 10: each is one small event, and a task with 20 is still one read."""
    caller, task = site.caller(binding), await site.task()
    made = {"taskId": task["id"], "url": "https://example.com/"}
    for number in range(limits.WEBHOOKS):
        await caller.call("CreateTaskPushNotificationConfig", {**made, "id": f"c{number}"})
    before = await site.stored()
    for config_id in ({"id": "one-more"}, {}):
        response = await site.http.send(caller.request("CreateTaskPushNotificationConfig", {**made, **config_id}))
        PARAMS.check(binding, response)
    assert before == await site.stored()
    await caller.call("CreateTaskPushNotificationConfig", {**made, "id": "c0", "url": "https://example.org/"})


SECRETS: dict[str, tuple[dict[str, Any], str]] = {
    "row-89-lines-in-the-token": ({"token": "a\r\nX: y"}, "token"),
    "row-89-lines-in-credentials": (
        {"authentication": {"scheme": "Bearer", "credentials": "a\nX: y"}},
        "authentication.credentials",
    ),
    "row-89-lines-in-the-scheme": ({"authentication": {"scheme": "A\r\nX: y"}}, "authentication.scheme"),
    "row-89-null-in-the-token": ({"token": "a\x00b"}, "token"),
    "row-98-token-of-100-kb": ({"token": "t" * 100_000}, "token"),
    "row-98-id-of-5000-characters": ({"id": "i" * 5000}, "id"),
}


@pytest.mark.parametrize("case", SECRETS)
@pytest.mark.parametrize("binding", BINDINGS)
async def test_what_no_header_can_carry_is_refused(site: Site, binding: str, case: str) -> None:
    members, field = SECRETS[case]
    config = {"url": "https://example.com/", **members}
    caller = site.caller(binding)
    asked = {"taskId": await ended(site), **config}
    response = await site.http.send(caller.request("CreateTaskPushNotificationConfig", asked))
    assert [field] == PARAMS.check(binding, response)
    inline = send("hi", configuration={"taskPushNotificationConfig": config})
    response = await site.http.send(caller.request("SendMessage", inline))
    assert [f"configuration.taskPushNotificationConfig.{field}"] == PARAMS.check(binding, response)


UNKNOWN = "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA"
NOT_OFFERED: dict[str, tuple[str, dict[str, Any]]] = {
    "row-100-create": ("CreateTaskPushNotificationConfig", {"taskId": UNKNOWN, "url": "https://example.com/"}),
    "row-100-get": ("GetTaskPushNotificationConfig", {"taskId": UNKNOWN, "id": "c"}),
    "row-100-list": ("ListTaskPushNotificationConfigs", {"taskId": UNKNOWN}),
    "row-100-delete": ("DeleteTaskPushNotificationConfig", {"taskId": UNKNOWN, "id": "c"}),
    "row-100-with-a-message": (
        "SendMessage",
        send("hi", configuration={"taskPushNotificationConfig": {"url": "https://example.com/"}}),
    ),
}


@pytest.mark.parametrize("case", NOT_OFFERED)
@pytest.mark.parametrize("binding", BINDINGS)
async def test_what_is_not_offered_is_refused(site: Site, binding: str, case: str) -> None:
    operation, params = NOT_OFFERED[case]
    assert [] == NO_PUSH.check(binding, await site.http.send(site.caller(binding, "quiet").request(operation, params)))


async def test_a_webhook_of_the_internet_can_be_set(site: Site) -> None:
    site.appends = True
    for number, url in enumerate(("https://example.com/", "http://example.com:8443/a?b=c", "https://8.8.8.8/")):
        config = {"taskId": await ended(site), "id": str(number), "url": url}
        await site.caller(HTTP_JSON).call("CreateTaskPushNotificationConfig", config)
