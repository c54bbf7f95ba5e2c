"""What the client does over gRPC, and what it makes of what goes wrong there."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="the extra grpc is not installed")

from a2a.types import a2a_pb2, a2a_pb2_grpc  # noqa: E402 -- only where grpcio is
from google.protobuf import any_pb2, json_format  # noqa: E402
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # noqa: E402

from a2a_events.client import (  # noqa: E402
    REPLAY_EXTENSION,
    BadAnswer,
    Client,
    ConnectionFailed,
    NoAnswer,
    StreamInterrupted,
)
from a2a_events.client.grpc_link import _target  # noqa: E402
from a2a_events.errors import (  # noqa: E402
    A2A_ERRORS,
    A2AError,
    InternalError,
    InvalidParamsError,
    InvalidRequestError,
    MethodNotFoundError,
    PermissionDeniedError,
    TaskNotFoundError,
    UnauthenticatedError,
    UnavailableError,
)
from a2a_events.model import TaskState  # noqa: E402
from tests.client.conftest import QUICK  # noqa: E402
from tests.client.scripted import Gateway, card, chunk, snapshot, status, task  # noqa: E402
from tests.client.serving import PATIENCE_SECONDS, dead, listener  # noqa: E402

Json = dict[str, Any]
Play = Callable[[Any, Any], Awaitable[Any]]


class Servicer(a2a_pb2_grpc.A2AServiceServicer):
    """Does what the test gave it to do, call by call."""

    def __init__(self) -> None:
        self.url = ""
        self.stop: Callable[[], Awaitable[None]]
        self.plays: list[Play] = []
        self.seen: list[tuple[str, Json, dict[str, str]]] = []

    def will(self, *plays: Play) -> None:
        self.plays.extend(plays)

    def _next(self, name: str, request: Any, context: Any) -> Play:
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        self.seen.append((name, json_format.MessageToDict(request), metadata))
        return self.plays.pop(0)

    async def GetTask(self, request: Any, context: Any) -> Any:  # noqa: N802 -- the protocol's name
        return await self._next("GetTask", request, context)(request, context)

    async def SendMessage(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._next("SendMessage", request, context)(request, context)

    async def SendStreamingMessage(self, request: Any, context: Any) -> None:  # noqa: N802
        await self._next("SendStreamingMessage", request, context)(request, context)

    async def SubscribeToTask(self, request: Any, context: Any) -> None:  # noqa: N802
        await self._next("SubscribeToTask", request, context)(request, context)


def gives(state: str) -> Play:
    async def play(_request: Any, _context: Any) -> Any:
        return json_format.ParseDict(task(state), a2a_pb2.Task())

    return play


def streams(*updates: Json, then: Play | None = None) -> Play:
    async def play(request: Any, context: Any) -> None:
        for update in updates:
            await context.write(json_format.ParseDict(update, a2a_pb2.StreamResponse()))
        if then:
            await then(request, context)

    return play


def fails(code: Any, reason: str = "", violation: str = "") -> Play:
    async def play(_request: Any, context: Any) -> None:
        details: list[Any] = []
        if reason:
            details.append(error_details_pb2.ErrorInfo(reason=reason, metadata={"taskId": "t1"}))
        if violation:
            fields = [error_details_pb2.BadRequest.FieldViolation(field=violation, description="odd")]
            details.append(error_details_pb2.BadRequest(field_violations=fields))
        if details:
            packed = [any_pb2.Any() for _ in details]
            for box, detail in zip(packed, details, strict=True):
                box.Pack(detail)
            box = any_pb2.Any(type_url="type.googleapis.com/from.the.Future", value=b"\x01")
            status = status_pb2.Status(code=code.value[0], message="no", details=[box, *packed])
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        await context.abort(code, "no")

    return play


async def hangs(_request: Any, _context: Any) -> None:
    await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def serving_grpc(port: int = 0) -> AsyncIterator[Servicer]:
    servicer, server = Servicer(), grpc.aio.server()
    a2a_pb2_grpc.add_A2AServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]  # generated
    servicer.url = f"127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    servicer.stop = lambda: server.stop(None)
    await server.start()
    try:
        yield servicer
    finally:
        await server.stop(None)


@pytest.fixture
async def one() -> AsyncIterator[Servicer]:
    async with serving_grpc() as servicer:
        yield servicer


@pytest.fixture
async def two() -> AsyncIterator[Servicer]:
    async with serving_grpc() as servicer:
        yield servicer


@pytest.fixture
async def client(one: Servicer, two: Servicer) -> AsyncIterator[Client]:
    async with Client.at([one.url, two.url], "GRPC", tenant="acme", retry=QUICK) as made:
        yield made


@pytest.fixture(autouse=True)
async def bounded() -> AsyncIterator[None]:
    async with asyncio.timeout(2 * PATIENCE_SECONDS):
        yield


async def test_service_parameters_are_metadata_and_the_tenant_a_member(one: Servicer) -> None:
    one.will(gives("WORKING"))
    headers = {"Authorization": "Bearer s"}
    async with Client.at(one.url, "GRPC", tenant="acme", headers=headers, extensions=["urn:a", "urn:b"]) as client:
        assert TaskState.WORKING is (await client.get("t1", history_length=0)).status.state
    ((name, request, metadata),) = one.seen
    assert ("GetTask", {"id": "t1", "tenant": "acme", "historyLength": 0}) == (name, request)
    assert ("1.0", "urn:a,urn:b", "Bearer s") == (
        metadata["a2a-version"],
        metadata["a2a-extensions"],
        metadata["authorization"],
    )


async def test_what_was_activated_is_shown(one: Servicer) -> None:
    async def activates(_request: Any, context: Any) -> Any:
        await context.send_initial_metadata((("a2a-extensions", "urn:a, urn:b"),))
        return json_format.ParseDict(task("WORKING"), a2a_pb2.Task())

    one.will(activates)
    async with Client.at(one.url, "GRPC") as client:
        await client.get("t1")
        assert {"urn:a", "urn:b"} == client.active_extensions


async def test_an_interface_of_a_card_is_used_as_it_is(one: Servicer, first: Gateway) -> None:
    first.card = card((one.url, "GRPC", "1.0"), (first.url, "JSONRPC", "1.0"), tenant="acme")
    one.will(gives("COMPLETED"))
    async with Client(first.url) as client:
        await client.get("t1")
    assert [("GetTask", {"id": "t1", "tenant": "acme"})] == [(name, request) for name, request, _ in one.seen]


async def test_replay_is_asked_for_where_the_card_declares_it(one: Servicer, first: Gateway) -> None:
    offered = card((one.url, "GRPC", "1.0"))
    first.card = {**offered, "capabilities": {"extensions": [{"uri": "urn:other"}, {"uri": REPLAY_EXTENSION}]}}
    one.will(gives("WORKING"), gives("WORKING"))
    async with Client(first.url, extensions=["urn:mine"]) as client:
        await client.get("t1")
    async with Client(first.url, extensions=[REPLAY_EXTENSION]) as client:
        await client.get("t1")
    assert [f"urn:mine,{REPLAY_EXTENSION}", REPLAY_EXTENSION] == [each["a2a-extensions"] for _, _, each in one.seen]


def _marked(update: Json, revision: int) -> Json:
    (member,) = update
    mark = {REPLAY_EXTENSION: {"revision": revision, "cursor": f"c{revision}"}}
    return {member: {**update[member], "metadata": mark}}


async def test_a_broken_stream_goes_on_from_the_cursor_of_the_metadata(
    client: Client, one: Servicer, two: Servicer
) -> None:
    lost = fails(grpc.StatusCode.UNAVAILABLE)
    one.will(streams(_marked(snapshot("SUBMITTED"), 1), _marked(chunk("a"), 2), then=lost))
    two.will(streams(_marked(chunk("b"), 3), _marked(status("COMPLETED"), 4)))
    async with client.stream("go") as updates:
        seen = [(update.revision, update.cursor, update.resynchronised) async for update in updates]
    assert [(1, "c1", False), (2, "c2", False), (3, "c3", False), (4, "c4", False)] == seen
    ((name, request, metadata),) = two.seen
    assert ("SubscribeToTask", {"id": "t1", "tenant": "acme"}, "c2") == (name, request, metadata["last-event-id"])


async def test_without_cursors_a_break_is_bridged_by_a_task(client: Client, one: Servicer, two: Servicer) -> None:
    one.will(streams(snapshot("SUBMITTED"), then=fails(grpc.StatusCode.UNAVAILABLE)))
    two.will(streams(snapshot("COMPLETED")))
    async with client.stream("go") as updates:
        assert [False, True] == [update.resynchronised async for update in updates]
    assert "last-event-id" not in two.seen[0][2]


async def test_a_task_that_ended_during_a_break_is_fetched(client: Client, one: Servicer, two: Servicer) -> None:
    one.will(streams(snapshot("WORKING"), then=fails(grpc.StatusCode.UNAVAILABLE)))
    two.will(fails(grpc.StatusCode.FAILED_PRECONDITION, "UNSUPPORTED_OPERATION"), gives("COMPLETED"))
    async with client.stream("go") as updates:
        states = [update.state async for update in updates]
    assert [TaskState.WORKING, TaskState.COMPLETED] == states


async def test_a_quiet_stream_that_was_accepted_is_open(one: Servicer) -> None:
    go = asyncio.Event()

    async def quiet(request: Any, context: Any) -> None:
        await context.send_initial_metadata(())
        await go.wait()
        await streams(status("COMPLETED"))(request, context)

    one.will(quiet)
    async with Client.at(one.url, "GRPC") as client, client.subscribe("t1", "c1") as updates:
        go.set()
        assert [TaskState.COMPLETED] == [update.state async for update in updates]


async def test_leaving_early_ends_the_call(one: Servicer) -> None:
    left = asyncio.Event()

    async def waits(request: Any, context: Any) -> None:
        try:
            await hangs(request, context)
        finally:
            left.set()

    one.will(streams(snapshot("WORKING"), then=waits))
    async with Client.at(one.url, "GRPC") as client:
        async with client.stream("go") as updates:
            await anext(updates)
        await left.wait()


async def test_canceling_a_pending_read_loses_nothing(client: Client, one: Servicer) -> None:
    one.will(streams(_marked(snapshot("WORKING"), 1), then=hangs), streams(_marked(status("COMPLETED"), 2)))
    async with client.stream("go") as updates:
        await anext(updates)
        pending = asyncio.ensure_future(anext(updates))
        await asyncio.sleep(0)
        pending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pending
        assert [TaskState.COMPLETED] == [update.state async for update in updates]
    assert "c1" == one.seen[1][2]["last-event-id"]


async def test_a_gateway_that_stops_is_replaced_by_another(two: Servicer) -> None:
    async with serving_grpc() as stopping, Client.at([stopping.url, two.url], "GRPC", retry=QUICK) as client:
        stopping.will(streams(_marked(snapshot("WORKING"), 1), then=hangs))
        two.will(streams(_marked(status("COMPLETED"), 2)))
        async with client.stream("go") as updates:
            await anext(updates)
            await stopping.stop()
            assert [TaskState.COMPLETED] == [update.state async for update in updates]
    assert "c1" == two.seen[0][2]["last-event-id"]


async def test_a_cursor_that_metadata_cannot_hold_is_left_out(one: Servicer) -> None:
    one.will(streams(snapshot("COMPLETED")))
    async with Client.at(one.url, "GRPC") as client, client.subscribe("t1", "ä") as updates:
        assert [True] == [update.resynchronised async for update in updates]
    assert "last-event-id" not in one.seen[0][2]


async def test_what_does_not_fit_into_the_protocol_is_refused_before_it_is_sent(one: Servicer) -> None:
    async with Client.at(one.url, "GRPC") as client:
        with pytest.raises(InvalidParamsError, match="statusTimestampAfter"):
            await client.list_tasks(since="yesterday")
    assert [] == one.seen


# --- what goes wrong -------------------------------------------------------------------------------------------------


async def test_a_dead_gateway_is_passed_over(one: Servicer) -> None:
    one.will(gives("WORKING"))
    with dead() as gone:
        async with Client.at([gone.removeprefix("http://"), one.url], "GRPC", retry=QUICK) as client:
            assert "t1" == (await client.get("t1")).id


async def test_nobody_there_says_that_nothing_was_sent() -> None:
    with dead() as gone:
        async with Client.at(gone.removeprefix("http://"), "GRPC", retry=QUICK) as client:
            with pytest.raises(ConnectionFailed) as caught:
                await client.send("hi")
            with pytest.raises(ConnectionFailed):
                await client.stream("hi").__aenter__()
    assert caught.value.retry_safe


async def test_a_gateway_that_comes_back_is_used_again() -> None:
    with listener() as bound:
        port = bound.getsockname()[1]
    async with Client.at(f"127.0.0.1:{port}", "GRPC", retry=QUICK) as client:
        with pytest.raises(ConnectionFailed):
            await client.get("t1")
        async with serving_grpc(port) as servicer:
            servicer.will(gives("WORKING"))
            while not servicer.seen:  # gRPC lets some time pass before it tries again
                with contextlib.suppress(ConnectionFailed):
                    await client.get("t1")


async def test_a_message_that_got_no_answer_is_not_sent_again(client: Client, one: Servicer, two: Servicer) -> None:
    one.will(fails(grpc.StatusCode.UNAVAILABLE))
    with pytest.raises(NoAnswer) as caught:
        await client.send("hi", idempotency_key="k1")
    assert ("k1", False) == (caught.value.idempotency_key, caught.value.retry_safe)
    assert "k1" == one.seen[0][2]["idempotency-key"]
    assert [] == two.seen


async def test_no_answer_in_time_is_no_answer(one: Servicer) -> None:
    one.will(*[hangs] * 4)
    async with Client.at(one.url, "GRPC", retry=QUICK, patience_seconds=0.05) as client:
        with pytest.raises(NoAnswer):
            await client.get("t1")
        with pytest.raises(NoAnswer):
            await client.subscribe("t1").__aenter__()


async def test_a_stream_that_cannot_go_on_carries_its_cursor(client: Client, one: Servicer, two: Servicer) -> None:
    lost = fails(grpc.StatusCode.UNAVAILABLE)
    one.will(streams(_marked(snapshot("WORKING"), 1), then=lost), *[lost] * 9)
    two.will(*[lost] * 9)
    async with client.stream("go") as updates:
        await anext(updates)
        with pytest.raises(StreamInterrupted) as caught:
            await anext(updates)
    assert ("t1", "c1") == (caught.value.task_id, caught.value.cursor)


@pytest.mark.parametrize("kind", A2A_ERRORS)
async def test_the_reason_decides_before_the_status(one: Servicer, kind: type[A2AError]) -> None:
    one.will(*[fails(grpc.StatusCode.ABORTED, kind.reason)] * 2)
    async with Client.at(one.url, "GRPC", retry=QUICK) as client:
        with pytest.raises(kind) as caught:
            await client.get("t1")
    assert (kind, "no", "t1") == (type(caught.value), caught.value.message, caught.value.metadata["taskId"])


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.NOT_FOUND, TaskNotFoundError),
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequestError),
        (grpc.StatusCode.UNIMPLEMENTED, MethodNotFoundError),
        (grpc.StatusCode.UNAUTHENTICATED, UnauthenticatedError),
        (grpc.StatusCode.PERMISSION_DENIED, PermissionDeniedError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, UnavailableError),
        (grpc.StatusCode.INTERNAL, InternalError),
        (grpc.StatusCode.UNKNOWN, InternalError),
    ],
)
async def test_without_a_reason_the_status_decides(one: Servicer, code: Any, kind: type[A2AError]) -> None:
    one.will(*[fails(code)] * 4)
    async with Client.at(one.url, "GRPC", retry=QUICK) as client:
        with pytest.raises(kind) as caught:
            await client.get("t1")
        assert kind is type(caught.value)
        if kind is not UnavailableError:
            with pytest.raises(kind):
                await client.stream("go").__aenter__()


async def test_the_fields_that_were_wrong_are_named(one: Servicer) -> None:
    one.will(fails(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PARAMS", "message.parts"))
    async with Client.at(one.url, "GRPC", retry=QUICK) as client:
        with pytest.raises(InvalidParamsError) as caught:
            await client.get("t1")
    assert (("message.parts", "odd"),) == caught.value.violations


# --- addresses and the extra -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "target", "plain"),
    [
        ("agent.example:443", "agent.example:443", False),
        ("agent.example", "agent.example", False),
        ("localhost:50051", "localhost:50051", True),
        ("127.0.0.1:1", "127.0.0.1:1", True),
        ("[::1]:1", "[::1]:1", True),
        ("http://agent.example:80/", "agent.example:80", True),
        ("grpc://agent.example:80", "agent.example:80", True),
        ("https://localhost:443", "localhost:443", False),
        ("grpcs://127.0.0.1:443", "127.0.0.1:443", False),
    ],
)
def test_tls_is_left_out_only_where_nobody_can_listen_or_the_address_says_so(
    url: str, target: str, *, plain: bool
) -> None:
    assert (target, plain) == _target(url)


async def test_a_channel_may_be_made_by_the_caller(one: Servicer) -> None:
    made: list[str] = []

    def make(target: str) -> Any:
        made.append(target)
        return grpc.aio.insecure_channel(target)

    one.will(gives("WORKING"), gives("WORKING"))
    async with Client.at(one.url, "GRPC", make_channel=make) as client:
        await client.get("t1")
        await client.get("t1")
    assert [one.url] == made


async def test_without_the_extra_the_error_names_it(
    one: Servicer, first: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "a2a_events.client.grpc_link", None)
    async with Client.at(one.url, "GRPC") as client:
        with pytest.raises(BadAnswer, match=r"a2a-events\[grpc\]"):
            await client.get("t1")


def test_nothing_of_grpc_is_imported_before_it_is_needed() -> None:
    check = "import sys, a2a_events.client; sys.exit(any(n in sys.modules for n in ('grpc', 'a2a', 'google.protobuf')))"
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)
