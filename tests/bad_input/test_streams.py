"""Group G: streams that are wanted where there are none, and clients that take more than their share."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from a2a_events import limits
from a2a_events.services import unread
from a2a_events.testing import eventually
from tests.bad_input.rows import NOT_FOUND, PARAMS, UNSUPPORTED, with_header
from tests.bad_input.site import ANSWER_SECONDS, HEADER_SECONDS, HISTORY_MESSAGES, STREAMS, Site
from tests.interop.agents import AGENTS
from tests.interop.conftest import serving
from tests.interop.grpc_wire import GrpcCaller, channel
from tests.interop.wire import BINDINGS, HTTP_JSON, JSONRPC, Caller, script, send

pytestmark = [pytest.mark.integration, pytest.mark.processes, pytest.mark.asyncio(loop_scope="session")]

PATHS = {JSONRPC: "/", HTTP_JSON: "/message:stream"}
UNKNOWN = "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA"
CLIENTS = 100
"""Slow ones at once; the list's thousand are in ``test_slow_clients``."""


@asynccontextmanager
async def working(caller: Caller) -> AsyncIterator[str]:
    """A task that goes on for as long as this is entered."""
    asked = send(script(chunks=100_000, delayMs=200), configuration={"returnImmediately": True})
    task_id = (await caller.call("SendMessage", asked))["task"]["id"]
    try:
        yield task_id
    finally:
        await caller.call("CancelTask", {"id": task_id})


@pytest.mark.parametrize("case", ["row-101-nothing", "row-101-a-line", "row-101-all-but-the-end"])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_headers_that_do_not_come_are_not_waited_for(site: Site, binding: str, case: str) -> None:
    head = site.head(f"POST {PATHS[binding]}", "Content-Length: 0")
    sent = {"row-101-nothing": b"P", "row-101-a-line": head[:20]}.get(case, head[:-2])

    async def slow() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.gateway.port)
        try:
            async with asyncio.timeout(3 * HEADER_SECONDS):
                writer.write(sent)
                while await reader.read(65536):
                    pass
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    site.appends = True
    attack = [asyncio.create_task(slow()) for _ in range(CLIENTS)]
    try:
        while not all(each.done() for each in attack):
            await site.caller(binding).call("SendMessage", send("still there?"))
            await asyncio.wait(attack, timeout=0.2)
    finally:
        await asyncio.gather(*attack, return_exceptions=True)
    for each in attack:
        each.result()


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def _raw(request: httpx.Request) -> bytes:
    """A request as bytes."""
    fields = b"".join(b"%s: %s\r\n" % field for field in request.headers.raw)
    line = b"%s %s HTTP/1.1\r\n" % (request.method.encode(), request.url.raw_path)
    return line + fields + b"\r\n" + request.content


async def _unread(port: int, request: bytes) -> socket.socket:
    """A connection that has asked for something and does not read it."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(made, ("127.0.0.1", port))
    await loop.sock_sendall(made, request)
    return made


@pytest.mark.parametrize("case", ["row-103-bounded"])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_what_waits_for_readers_that_never_read_is_bounded(site: Site, binding: str, case: str) -> None:
    """Eight of them, and 30 MB for each. A reader that is behind holds one batch of the log, ``READ_BATCH_BYTES``.

    They are there before the agent says anything, so that none begins with a task that is large already.
    """
    site.appends = True
    caller = site.caller(binding)
    before = _resident_bytes(site.gateway.pid)
    waiting = send(script(chunks=600, bytes=50_000, artifacts=4, delayMs=10, inputAt=0))
    task = (await caller.call("SendMessage", waiting))["task"]
    subscription = caller.request("SubscribeToTask", {"id": task["id"]})
    sockets = [await _unread(site.gateway.port, _raw(subscription)) for _ in range(8)]
    go = send("go", taskId=task["id"], configuration={"returnImmediately": True})
    await caller.call("SendMessage", go)
    try:

        async def ended() -> bool:
            (shown,) = (await caller.call("ListTasks", {"contextId": task["contextId"]}))["tasks"]
            return bool(shown["status"]["state"] == "TASK_STATE_COMPLETED")  # GetTask would cost the 30 MB, too

        await eventually(ended, timeout_seconds=40, what="the end of the turn: no agent waits for a reader")
        assert _resident_bytes(site.gateway.pid) - before < 8 * (limits.READ_BATCH_BYTES + 6_000_000)
    finally:
        for each in sockets:
            each.close()


@pytest.mark.parametrize("case", ["row-103-cut-in-a-stream", "row-103-cut-in-an-answer"])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_reader_that_never_reads_is_cut(
    nats_url: str, monkeypatch: pytest.MonkeyPatch, binding: str, case: str
) -> None:
    """In this process, because the time is two minutes by itself."""
    monkeypatch.setattr(limits, "STREAM_STALL_SECONDS", 1.0)
    monkeypatch.setattr(unread, "_GRACE_SECONDS", 1.0)
    operation, asked = "SendStreamingMessage", send(script(chunks=160, bytes=50_000))
    async with (
        serving(AGENTS[:1], nats=nats_url, default_agent="scripted") as settings,
        httpx.AsyncClient(base_url=settings.base_url, timeout=ANSWER_SECONDS) as http,
    ):
        caller = Caller(http, binding)
        if "answer" in case:
            operation, asked = "GetTask", {"id": (await caller.call("SendMessage", asked))["task"]["id"]}
        request = caller.request(operation, asked)
        stalled = await _unread(settings.port, _raw(request))
        try:
            client_port = stalled.getsockname()[1]
            await eventually(lambda: _is_open(settings.port, client_port), what="the connection")
            await eventually(
                lambda: not _is_open(settings.port, client_port), timeout_seconds=ANSWER_SECONDS, what="its end"
            )
        finally:
            stalled.close()
        result = await caller.call("SendMessage", send("still there?"))
        assert "TASK_STATE_COMPLETED" == result["task"]["status"]["state"]


def _is_open(server_port: int, client_port: int) -> bool:
    """Whether the server's end of a connection is, as the kernel has it."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *_ = line.split()
        if (int(local.split(":")[1], 16), int(remote.split(":")[1], 16)) == (server_port, client_port):
            return state == "01"
    return False


@pytest.mark.parametrize("case", ["row-104-one-more"])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_one_stream_more_than_a_tenant_may_have_is_refused(site: Site, binding: str, case: str) -> None:
    site.appends = True
    async with site.client("carol", "crowd") as http:
        caller = Caller(http, binding)
        async with working(caller) as task_id, AsyncExitStack() as exits:
            kept = []  # a stream whose iterator is let go is closed
            for _ in range(STREAMS):
                stream = await exits.enter_async_context(caller.stream("SubscribeToTask", {"id": task_id}))
                kept.append(aiter(stream))
                await anext(kept[-1])
            async with (
                http.stream("GET", f"/tasks/{task_id}:subscribe", headers={"A2A-Version": "1.0"})
                if binding == HTTP_JSON
                else http.stream(
                    "POST",
                    "/",
                    content=caller.request("SubscribeToTask", {"id": task_id}).content,
                    headers={"A2A-Version": "1.0", "Content-Type": "application/json"},
                ) as refused
            ):
                assert 429 == refused.status_code
                assert int(refused.headers["retry-after"]) > 0


CURSORS: dict[str, str] = {
    "row-106-minus-one": "-1",
    "row-106-twenty-digits": "99999999999999999999",
    "row-106-letters": "abc",
    "row-106-star": "*",
    "row-106-tail": ">",
    "row-106-made-up": "1.main.0.a.b.c.d",
    "row-106-5-kb": "9" * 5000,
    "row-106-empty-fields": "1.main.0....",
    "row-106-other-digits": "1.main.0.i.c.١.١",
    "row-106-of-another-task": "another task's",
    "row-106-future": "future",
    "row-106-future-revision": "future revision",
    "row-106-past": "past",
    "row-106-negative": "negative",
    "row-106-position-of-twenty-digits": "twenty digits",
}


def _changed(case: str, own: str, other: str) -> bytes:
    """The cursor of a case, from one that was issued for the task and one of another."""
    head, position, revision = own.rsplit(".", 2)
    return {
        "another task's": other,
        "future": f"{head}.{int(position) + 10**6}.{revision}",
        "future revision": f"{head}.{position}.{10**6}",
        "past": f"{head}.0.0",
        "negative": f"{head}.-{position}.{revision}",
        "twenty digits": f"{head}.99999999999999999999.{revision}",
    }.get(CURSORS[case], CURSORS[case]).encode()


@pytest.mark.parametrize("case", CURSORS)
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_cursor_that_is_none_shows_nothing_foreign_and_does_not_hang(
    site: Site, binding: str, case: str
) -> None:
    """Refused, or begun anew with the task as it is."""
    site.appends = True
    caller = site.caller(binding)
    other = (await caller.frames("SendStreamingMessage", send(script(chunks=2))))[1].id
    async with working(caller) as task_id:
        async with caller.stream("SubscribeToTask", {"id": task_id}) as stream:
            own = ""
            async for frame in stream:
                own = frame.id
                if frame.kind != "task":
                    break
        asked = caller.request("SubscribeToTask", {"id": task_id})
        asked = with_header(asked, b"Last-Event-ID", _changed(case, own, other))
        response = await site.http.send(asked, stream=True)
        try:
            if "event-stream" not in response.headers["content-type"]:
                await response.aread()
                PARAMS.check(binding, response)
                return
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    document = json.loads(line[6:])
                    shown = document["result"] if binding == JSONRPC else document
                    (content,) = shown.values()
                    assert task_id == content.get("taskId", content.get("id"))
                    break
        finally:
            await response.aclose()
        assert case in {"row-106-past", "row-106-future", "row-106-future-revision"}, "all others are refused"


@pytest.mark.parametrize("case", ["row-106-two-lines"])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_cursor_of_two_lines_is_no_header(site: Site, binding: str, case: str) -> None:
    (answer,) = await site.converse(
        site.head(f"POST {PATHS[binding]}", "Last-Event-ID: 1\r\n2", "Content-Length: 0"), half_close=True
    )
    assert 400 == answer.status


@pytest.mark.parametrize(
    "case", ["row-107-ended", "row-107-unknown", "row-107-of-another-tenant", "row-107-of-another"]
)
@pytest.mark.parametrize("binding", BINDINGS)
async def test_there_is_no_stream_of_what_has_ended_or_is_not_there(site: Site, binding: str, case: str) -> None:
    if case == "row-107-ended":
        task = await site.task()
        asked = site.caller(binding).request("SubscribeToTask", {"id": task["id"]})
        assert [] == UNSUPPORTED.check(binding, await site.http.send(asked))
        return
    if case == "row-107-unknown":
        asked = site.caller(binding).request("SubscribeToTask", {"id": UNKNOWN})
        assert [] == NOT_FOUND.check(binding, await site.http.send(asked))
        return
    site.appends = True
    who = ("alice", "other") if "tenant" in case else ("bob", "acme")
    async with site.client(*who) as http, working(Caller(http, binding)) as task_id:
        response = await site.http.send(site.caller(binding).request("SubscribeToTask", {"id": task_id}))
        unknown = await site.http.send(site.caller(binding).request("SubscribeToTask", {"id": UNKNOWN}))
        assert [] == NOT_FOUND.check(binding, response)
        assert unknown.content == response.content


@pytest.mark.parametrize("case", ["row-109-more-messages-than-an-answer-holds"])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_the_history_in_an_answer_is_bounded(site: Site, binding: str, case: str) -> None:
    """The newest so many, here of 20 and not of 100,000: the bound is a setting."""
    site.appends = True
    caller = site.caller(binding)
    soon = {"returnImmediately": True}
    busy = send(script(chunks=2, delayMs=600_000), configuration=soon)  # all the others come during its turn
    task_id = (await caller.call("SendMessage", busy))["task"]["id"]
    for number in range(2 * HISTORY_MESSAGES):
        await caller.call("SendMessage", send(f"{number}", taskId=task_id, configuration=soon))
    for length in ({}, {"historyLength": 10**6}):
        shown = await caller.call("GetTask", {"id": task_id, **length})
        assert HISTORY_MESSAGES == len(shown["history"])
        assert f"{2 * HISTORY_MESSAGES - 1}" in json.dumps(shown["history"][-3:]), "the newest"
    await caller.call("CancelTask", {"id": task_id})


GROWING = {
    "row-110-one-artifact-of-12-mb": {"chunks": 12, "bytes": 1_000_000, "artifacts": 1},
    "row-110-one-event-of-3-mb": {"chunks": 1, "bytes": 3_000_000},
}


@pytest.mark.parametrize("case", GROWING)
@pytest.mark.parametrize("binding", BINDINGS)
async def test_an_artifact_without_end_is_whole_or_its_task_says_why_it_is_not(
    site: Site, binding: str, case: str
) -> None:
    """What no record holds is an object in the store, and what is over the limit of a task fails it."""
    site.appends = True
    frames = await site.caller(binding).frames("SendStreamingMessage", send(script(**GROWING[case])))
    task = await site.caller(binding).call("GetTask", {"id": frames[0].data["task"]["id"]})
    if task["status"]["state"] == "TASK_STATE_COMPLETED":
        parts = [part["text"] for artifact in task["artifacts"] for part in artifact["parts"]]
        assert GROWING[case]["chunks"] * GROWING[case]["bytes"] == sum(map(len, parts))
    else:
        assert "TASK_STATE_FAILED" == task["status"]["state"]
        assert task["status"]["message"]["parts"][0]["text"]
    assert frames[-1].state == task["status"]["state"]


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _resets(count: int) -> bytes:
    """So many calls of gRPC, each reset at once."""
    path = b"/lf.a2a.v1.A2AService/GetTask"
    block = (
        b"\x83\x86" + b"\x04" + bytes([len(path)]) + path + b"\x01\x01x"
    )  # :method POST, :scheme http, :path, :authority
    made = [PREFACE, _frame(4, 0, 0)]
    for number in range(count):
        made += [_frame(1, 4, 2 * number + 1, block), _frame(3, 0, 2 * number + 1, b"\0\0\0\x08")]
    return b"".join(made)


@pytest.mark.parametrize("case", ["row-112-grpc"])
async def test_a_rapid_reset_is_ended_and_calls_go_on(site: Site, case: str) -> None:
    """HTTP/2 is spoken on the port of gRPC only."""
    site.appends = True
    host, _, port = site.grpc.partition(":")
    attack = []
    for _ in range(4):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(_resets(5000))
            await writer.drain()
        except ConnectionError:
            pass  # it was ended already
        attack.append((reader, writer))
    async with channel(site.grpc) as made:
        called = await GrpcCaller(made).call("SendMessage", send("hi"), authorization=f"Bearer {site.token()}")
        assert "TASK_STATE_COMPLETED" == called["task"]["status"]["state"]
    for _, writer in attack:
        writer.transport.abort()


@pytest.mark.parametrize("case", ["row-112-preface", "row-112-upgrade"])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_http_2_is_not_spoken_on_the_port_of_http(site: Site, binding: str, case: str) -> None:
    if "preface" in case:
        (answer,) = await site.converse(_resets(10), half_close=True)
        assert 400 == answer.status
        return
    settings = "AAMAAABkAAQCAAAAAAIAAAAA"
    upgrade = ["Connection: Upgrade, HTTP2-Settings, close", "Upgrade: h2c", f"HTTP2-Settings: {settings}"]
    answers = await site.converse(site.head(f"POST {PATHS[binding]}", *upgrade, "Content-Length: 0"), half_close=True)
    assert answers, "it is answered"
    assert 101 not in {answer.status for answer in answers}
