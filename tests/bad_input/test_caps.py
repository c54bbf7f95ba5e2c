"""Row 104 and what belongs to it: one caller asks for too much, in both bindings and over gRPC, and others are served.

After every refusal: nothing was appended, and the answer says when to come back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from grpc import aio
from structlog.testing import capture_logs

from a2a_events import limits
from a2a_events.bindings.caps.caps import Caps
from a2a_events.bindings.identity.port import EVERYTHING, Identified
from a2a_events.client import Client, bearer
from a2a_events.errors import TooManyRequestsError
from a2a_events.log.jetstream import Connection
from a2a_events.metrics.catalog import RATE_LIMITED, USAGE_UNREADABLE
from a2a_events.model import Message, Part, Role, Task, TaskState
from a2a_events.services import gateway, usage
from a2a_events.services.connect import jetstream_log, names
from a2a_events.services.nats_server import NatsServer
from a2a_events.settings import Settings
from a2a_events.testing import eventually, free_port
from tests.bad_input.test_identity import Guarded, guarding
from tests.interop.grpc_wire import GrpcCaller, Refusal, as_json, channel, refusal
from tests.interop.wire import BINDINGS, HTTP_JSON, JSONRPC, Caller, failure, script, send

pytestmark = pytest.mark.integration

PATIENCE_SECONDS = 30
GRPC = "GRPC"
EVERY = (*BINDINGS, GRPC)
QUIET = send(script(chunks=2, delayMs=600_000))
"""What holds a stream open for as long as its client wants, and writes nothing after its first chunk."""
LONG = send(script(chunks=100_000, delayMs=50))


class Asker:
    """Asks a gateway in any binding."""

    def __init__(self, http: httpx.AsyncClient, opened: aio.Channel) -> None:
        self._http = http
        self._grpc = GrpcCaller(opened)

    async def refused(self, binding: str, operation: str, params: dict[str, Any], headers: dict[str, str]) -> int:
        """After how many seconds to come back, if it is refused for being too much; 0 if it is served."""
        if binding == GRPC:
            call = self._grpc.start(operation, params, **_metadata(headers))
            try:
                await (call.read() if hasattr(call, "read") else call)
            except aio.AioRpcError:
                return check_refused_call(await refusal(call))
            call.cancel()
            return 0
        response = await self._http.send(
            Caller(self._http, binding).request(operation, params, headers=headers), stream=True
        )
        try:
            if response.status_code == httpx.codes.OK:
                return 0
            await response.aread()
            return check_refused(binding, response)
        finally:
            await response.aclose()

    @asynccontextmanager
    async def stream(
        self, binding: str, operation: str, params: dict[str, Any], headers: dict[str, str]
    ) -> AsyncIterator[str]:
        """A stream that is open and has shown a chunk; the id of its task."""
        if binding == GRPC:
            call = self._grpc.start(operation, params, **_metadata(headers))
            task = as_json(await call.read())["task"]
            while operation != "SubscribeToTask" and "artifactUpdate" not in as_json(await call.read()):
                pass
            yield task["id"]
            call.cancel()
            return
        async with Caller(self._http, binding).stream(operation, params, headers=headers) as stream:
            task_id = ""
            async for frame in stream:
                task_id = task_id or frame.data["task"]["id"]
                if operation == "SubscribeToTask" or frame.kind == "artifactUpdate":
                    break
            yield task_id

    async def cancel(self, task_id: str, headers: dict[str, str]) -> None:
        """So that the worker need not wait for it."""
        await Caller(self._http, HTTP_JSON).call("CancelTask", {"id": task_id}, headers=headers)


def _metadata(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


@asynccontextmanager
async def asking(guarded: Guarded, url: str = "") -> AsyncIterator[Asker]:
    """Asks the gateway, or over HTTP another one."""
    async with (
        httpx.AsyncClient(base_url=url or guarded.settings.base_url, timeout=10) as http,
        channel(guarded.settings.grpc_address) as opened,
    ):
        yield Asker(http, opened)


def check_refused(binding: str, response: httpx.Response) -> int:
    """That this is the answer to who asks for too much; after how many seconds to come back."""
    refused = failure(binding, response)
    assert (429, "TOO_MANY_REQUESTS") == (refused.http_status, refused.reason), response.text
    assert refused.details[0]["metadata"] == {"effect": "none"}
    assert refused.code == (-32603 if binding == JSONRPC else 429)
    seconds = int(response.headers["retry-after"])
    assert seconds >= 1
    return seconds


def check_refused_call(refused: Refusal) -> int:
    """The same over gRPC."""
    assert refused.code == "RESOURCE_EXHAUSTED", refused
    assert [detail["reason"] for detail in refused.details if "reason" in detail] == ["TOO_MANY_REQUESTS"]
    (delay,) = [detail["retryDelay"] for detail in refused.details if "retryDelay" in detail]
    return int(delay.removesuffix("s"))


@asynccontextmanager
async def beside(settings: Settings) -> AsyncIterator[str]:
    """Where another gateway over the same log listens."""
    other = msgspec.structs.replace(settings, port=free_port(), grpc_port=0)
    stop = asyncio.Event()
    async with jetstream_log(other, "gateway") as (log, connection), asyncio.TaskGroup() as services:
        services.create_task(gateway.serve(log, connection, other, stop))
        await eventually(lambda: _is_up(other.base_url))
        yield other.base_url
        stop.set()


async def _is_up(url: str) -> bool:
    try:
        async with httpx.AsyncClient() as http:
            return (await http.get(f"{url}/livez")).is_success
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("binding", EVERY)
async def test_104_one_stream_more_than_a_tenant_may_have_is_refused_and_one_that_ends_makes_room(
    nats_url: str, tmp_path: Path, binding: str
) -> None:
    async with guarding(nats_url, tmp_path, streams_per_tenant=2) as guarded, asking(guarded) as asker:
        alice = guarded.bearer()
        async with asker.stream(binding, "SendStreamingMessage", QUIET, alice) as task_id:
            async with asker.stream(HTTP_JSON, "SubscribeToTask", {"id": task_id}, alice):
                before, counted = await guarded.appended(), RATE_LIMITED.value("tenant_streams")
                for each in EVERY:
                    assert await asker.refused(each, "SendStreamingMessage", LONG, guarded.bearer("bob"))
                    assert await asker.refused(each, "SubscribeToTask", {"id": task_id}, alice)
                    assert await asker.refused(each, "SendMessage", LONG, alice), "who waits holds as much as a stream"
                assert RATE_LIMITED.value("tenant_streams") == counted + 9
                assert await guarded.appended() == before, "what is refused is not begun"
                assert not await asker.refused(binding, "GetTask", {"id": task_id}, alice), "this is no stream"
                at_once = send("x", configuration={"returnImmediately": True})
                assert not await asker.refused(binding, "SendMessage", at_once, alice), "neither is this"
                umbrella = guarded.bearer(tenant="umbrella")
                async with asker.stream(binding, "SendStreamingMessage", QUIET, umbrella) as theirs:
                    assert theirs, "others have streams of their own"
                await asker.cancel(theirs, umbrella)
            # Its client has left.

            async def is_free() -> bool:
                return not await asker.refused(binding, "SubscribeToTask", {"id": task_id}, alice)

            await eventually(is_free, timeout_seconds=PATIENCE_SECONDS)
        await asker.cancel(task_id, alice)


async def test_who_asks_too_often_is_refused_in_every_binding_and_others_are_served(
    nats_url: str, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"rate_per_tenant": 0.001, "rate_per_tenant_burst": 4}
    async with guarding(nats_url, tmp_path, **given) as guarded, asking(guarded) as asker:
        alice, bob = guarded.bearer(), guarded.bearer("bob")
        for binding in (*EVERY, JSONRPC):
            assert not await asker.refused(binding, "ListTasks", {}, alice)
        before = await guarded.appended()
        for binding in EVERY:
            for operation in ("SendMessage", "SendStreamingMessage", "ListTasks"):
                params = {} if operation == "ListTasks" else send("x")
                wait = await asker.refused(binding, operation, params, bob)
                assert 900 <= wait <= 1000, "all bindings and all callers of a tenant have one budget"
        assert await guarded.appended() == before, "nothing was done"
        for binding in EVERY:
            assert not await asker.refused(binding, "ListTasks", {}, guarded.bearer(tenant="umbrella"))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", '{"jsonrpc":"2.0","id":1,"method":"message/send","params":{}}'),
        ("/v1/message:send", "{}"),
        ("/fasta2a", '{"jsonrpc":"2.0","id":1,"method":"message/send","params":{}}'),
        ("/debug/timelines/tasks/t1-main-0-AAAAAAAAAAAAAAAAAAAAAA", None),
    ],
)
async def test_every_dialect_is_behind_the_same_gate(
    nats_url: str, tmp_path: Path, path: str, body: str | None
) -> None:
    given: dict[str, Any] = {"rate_per_tenant": 0.001, "rate_per_tenant_burst": 1}
    async with guarding(nats_url, tmp_path, **given) as guarded, guarded.http() as http:
        headers = {**guarded.bearer(), "content-type": "application/json", "a2a-version": "0.3"}
        answers = [await http.request("POST" if body else "GET", path, content=body, headers=headers) for _ in range(2)]
        assert answers[0].status_code != 429
        assert (429, "1000") == (answers[1].status_code, answers[1].headers["retry-after"])
        assert "Too many requests of this tenant" in answers[1].text


async def test_two_gateways_share_the_streams_of_a_tenant(nats_url: str, tmp_path: Path) -> None:
    async with (
        guarding(nats_url, tmp_path, streams_per_tenant=1) as guarded,
        beside(guarded.settings) as other,
        asking(guarded) as here,
        asking(guarded, other) as there,
        announced(guarded.settings) as announcements,
    ):
        alice = guarded.bearer()
        async with here.stream(JSONRPC, "SendStreamingMessage", QUIET, alice) as task_id:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not any(streams for _, streams in (await announcements.get()).get("tenants", {}).values()):
                    pass
                for _ in range(4):  # two more of each gateway: by now the other one has heard
                    await announcements.get()
            assert await there.refused(JSONRPC, "SubscribeToTask", {"id": task_id}, alice)
            umbrella = guarded.bearer(tenant="umbrella")
            assert not await there.refused(JSONRPC, "SendStreamingMessage", send("x"), umbrella)

        async def is_free() -> bool:
            return not await there.refused(JSONRPC, "SubscribeToTask", {"id": task_id}, alice)

        await eventually(is_free, timeout_seconds=PATIENCE_SECONDS)
        await here.cancel(task_id, alice)


async def test_two_gateways_share_the_rate_of_a_tenant(nats_url: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"rate_per_tenant": 0.001, "rate_per_tenant_burst": 20}
    async with (
        guarding(nats_url, tmp_path, **given) as guarded,
        beside(guarded.settings) as other,
        asking(guarded) as here,
        asking(guarded, other) as there,
        announced(guarded.settings) as announcements,
    ):
        for _ in range(15):
            assert not await here.refused(JSONRPC, "ListTasks", {}, guarded.bearer())
        async with asyncio.timeout(PATIENCE_SECONDS):
            spent = 0
            while spent < 15:
                said = await announcements.get()
                spent += sum(requests for requests, _ in said.get("tenants", {}).values())
                assert "acme" not in str(said), "tenants are named by their tokens"
            for _ in range(4):  # two more of each gateway: by now the other one has heard
                await announcements.get()
        answers = [await there.refused(JSONRPC, "ListTasks", {}, guarded.bearer("bob")) for _ in range(10)]
        assert [bool(wait) for wait in answers] == [False] * 5 + [True] * 5
        assert not await there.refused(JSONRPC, "ListTasks", {}, guarded.bearer(tenant="umbrella"))


@asynccontextmanager
async def announced(settings: Settings) -> AsyncIterator[asyncio.Queue[dict[str, Any]]]:
    """What gateways tell each other."""
    heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def hear(_subject: str, _reply: str, _headers: bytes, payload: bytes) -> None:
        heard.put_nowait(msgspec.json.decode(payload))

    connection = Connection(settings.servers, name="test")
    await connection.open()
    try:
        await connection.subscribe(names(settings).usage(settings.log), hear)
        yield heard
    finally:
        await connection.close()


async def test_what_is_no_announcement_is_counted_and_gateways_go_on(nats_url: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"rate_per_tenant": 0.001, "rate_per_tenant_burst": 3}
    async with guarding(nats_url, tmp_path, **given) as guarded, asking(guarded) as asker:
        before = USAGE_UNREADABLE.value()
        connection = Connection(guarded.settings.servers, name="test")
        await connection.open()
        junk = [b"", b"\xff", b"[" * 100_000, b'{"gateway":7}', b"x" * 500_000]
        for each in junk:
            await connection.publish(names(guarded.settings).usage("main"), each)
        await eventually(lambda: USAGE_UNREADABLE.value() == before + len(junk))
        await connection.close()
        answers = [await asker.refused(JSONRPC, "ListTasks", {}, guarded.bearer()) for _ in range(4)]
        assert [bool(wait) for wait in answers] == [False, False, False, True]


async def test_what_cannot_be_told_is_logged_and_what_comes_next_is_told(nats_url: str, namespace: str) -> None:
    connection = Connection([nats_url], name="test")
    caps = usage.caps(Settings())
    caps.arrive("\udc80")  # what no message can hold
    await connection.open()
    try:
        with capture_logs() as lines:
            async with usage.shared(caps, connection, f"{namespace}.usage"):
                await eventually(lambda: caps.heard_itself_at, what="the next announcement")
    finally:
        await connection.close()
    assert any("was not told" in line["event"] for line in lines), lines


async def test_without_nats_each_gateway_keeps_to_the_rate_by_itself_and_they_share_again_when_it_is_back(
    tmp_path: Path,
) -> None:
    server = NatsServer(tmp_path / "nats")
    await server.start()
    connections = [Connection([server.url], name="test") for _ in range(2)]
    here, there = gateways = [usage.caps(Settings(rate_per_tenant=0.001, rate_per_tenant_burst=5)) for _ in connections]
    acme = Identified(subject="alice", tenant="acme", scopes=EVERYTHING, method="test")

    def granted(caps: Caps) -> int:
        for count in range(100):
            try:
                caps.enter(acme)
            except TooManyRequestsError:
                return count
        raise AssertionError("there is no end")

    try:
        async with AsyncExitStack() as opened:
            for connection, caps in zip(connections, gateways, strict=True):
                await connection.open()
                opened.push_async_callback(connection.close)
                await opened.enter_async_context(usage.shared(caps, connection, "test.usage"))
            await eventually(lambda: all(caps.heard_itself_at for caps in gateways))
            await server.stop()
            await eventually(lambda: not any(connection.connected for connection in connections))
            assert granted(here) == 5
            heard = here.heard_itself_at
            await server.start()
            await eventually(lambda: here.heard_itself_at > heard, timeout_seconds=PATIENCE_SECONDS)
            umbrella = msgspec.structs.replace(acme, tenant="umbrella")
            here.enter(umbrella)
            acme = umbrella
            heard = there.heard_itself_at
            await eventually(lambda: there.heard_itself_at > heard + 3 * limits.USAGE_SECONDS)
            assert granted(there) == 4
    finally:
        await server.stop()
        server.clean()


async def test_an_address_that_floods_is_refused_before_anybody_is_identified(nats_url: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "rate_per_address": 0.001,
        "rate_per_address_burst": 30,
        "trusted_proxies": "127.0.0.0/8",
    }
    async with guarding(nats_url, tmp_path, **given) as guarded, guarded.http() as http:

        async def ask(address: str, headers: dict[str, str]) -> httpx.Response:
            request = Caller(http, JSONRPC).request(
                "ListTasks", {}, headers={**headers, **({"X-Forwarded-For": address} if address else {})}
            )
            return await http.send(request)

        guessed = {"Authorization": "Bearer a.b.c"}
        answers = [await ask("2001:db8::1", guessed) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [401, 401, 401, 429, 429], "a tenth of what it may ask"
        answer = await ask("2001:db8::2", guarded.bearer())
        assert check_refused(JSONRPC, answer), "it is one network, and who asks is not looked at"
        answers = [await ask("2001:db8::1", {}) for _ in range(25)]
        assert [answer.status_code for answer in answers] == [401] * 24 + [429], "without a credential one is one"
        assert (await ask("2001:db8:0:1::1", guarded.bearer())).status_code == 200
        assert (await ask("", guarded.bearer())).status_code == 200, "the proxy itself is nobody's address"
        card = await http.get("/.well-known/agent-card.json", headers={"X-Forwarded-For": "2001:db8::1"})
        assert card.status_code == 429


@pytest.mark.parametrize("binding", EVERY)
async def test_an_address_has_so_many_streams(nats_url: str, tmp_path: Path, binding: str) -> None:
    given: dict[str, Any] = {"streams_per_address": 1, "trusted_proxies": "127.0.0.0/8"}
    async with guarding(nats_url, tmp_path, **given) as guarded, asking(guarded) as asker:
        mine = {**guarded.bearer(), "X-Forwarded-For": "198.51.100.7"}
        theirs = {**guarded.bearer(tenant="umbrella"), "X-Forwarded-For": "198.51.100.7"}
        async with asker.stream(binding, "SendStreamingMessage", QUIET, mine) as task_id:
            assert await asker.refused(binding, "SendStreamingMessage", LONG, theirs)
            elsewhere = {**theirs, "X-Forwarded-For": "198.51.100.8"}
            assert not await asker.refused(binding, "SendStreamingMessage", send("x"), elsewhere)
        await asker.cancel(task_id, mine)


@pytest.mark.parametrize("binding", EVERY)
async def test_our_client_knows_when_to_come_back(nats_url: str, tmp_path: Path, binding: Any) -> None:
    given: dict[str, Any] = {"rate_per_tenant": 0.001, "rate_per_tenant_burst": 1}
    async with guarding(nats_url, tmp_path, **given) as guarded:
        shown = bearer(guarded.issuer.token())
        async with Client(guarded.settings.base_url, binding=binding, credentials=shown) as client:
            await client.list_tasks()
            with pytest.raises(TooManyRequestsError) as refused:
                await client.list_tasks()
        assert 900 <= refused.value.retry_after_seconds <= 1000
        assert refused.value.untouched


@pytest.mark.parametrize("binding", EVERY)
async def test_our_client_comes_back_when_it_is_told(nats_url: str, tmp_path: Path, binding: Any) -> None:
    given: dict[str, Any] = {"rate_per_tenant": 1, "rate_per_tenant_burst": 2}
    async with guarding(nats_url, tmp_path, **given) as guarded:
        shown = bearer(guarded.issuer.token())
        asked = Message(message_id="m", role=Role.USER, parts=(Part(text="x"),))
        before = RATE_LIMITED.value("tenant_rate")
        async with Client(guarded.settings.base_url, binding=binding, credentials=shown) as client:
            async with asyncio.timeout(PATIENCE_SECONDS):
                for _ in range(6):
                    task = await client.send(asked)
                    assert isinstance(task, Task)
                    assert task.status.state is TaskState.COMPLETED
            tasks = await client.list_tasks()
        assert len(tasks.tasks) == 6, "nothing was done by what was refused"
        refused = RATE_LIMITED.value("tenant_rate") - before
        assert 2 <= refused <= 8, "it asked about as often as it was told to, and not as often as it could"


@pytest.mark.parametrize("binding", EVERY)
async def test_a_stream_that_is_too_old_ends_with_a_hint_and_goes_on(
    nats_url: str, tmp_path: Path, binding: Any
) -> None:
    async with guarding(nats_url, tmp_path, stream_seconds=1.0) as guarded, asking(guarded) as asker:
        alice = guarded.bearer()
        if binding == GRPC:
            async with channel(guarded.settings.grpc_address) as opened:
                call = GrpcCaller(opened).start("SendStreamingMessage", LONG, **_metadata(alice))
                refused = await refusal(call)
            assert refused.code == "UNAVAILABLE"
            assert "too old" in refused.message
            assert any("retryDelay" in detail for detail in refused.details)
        else:
            async with guarded.http() as http:
                request = Caller(http, binding).request("SendStreamingMessage", LONG, headers=alice)
                async with asyncio.timeout(PATIENCE_SECONDS):
                    text = (await http.send(request)).text
            last = text.rstrip("\n").split("\n\n")[-1].split("\n")
            assert last[0].startswith("retry: ")
            assert last[1].startswith(": open for as long as a stream may be")
        async with guarded.http() as http:
            task = (await Caller(http, HTTP_JSON).call("ListTasks", {}, headers=alice))["tasks"][0]
        await asker.cancel(task["id"], alice)
        seen: list[str] = []
        work = Message(message_id="m", role=Role.USER, parts=(Part(data={"script": {"chunks": 60, "delayMs": 50}}),))
        shown = bearer(guarded.issuer.token())
        client = Client(guarded.settings.base_url, binding=binding, credentials=shown)
        async with asyncio.timeout(PATIENCE_SECONDS), client, client.stream(work) as updates:
            async for update in updates:
                if update.artifact is not None:
                    seen += [str(part.text).split()[0] for part in update.artifact.artifact.parts]
        assert seen == [f"{number:06d}" for number in range(60)], "nothing is lost, nothing comes twice"
