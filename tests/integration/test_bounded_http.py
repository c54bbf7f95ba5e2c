"""What a client may send before its body and how long it may take, on real sockets, with the bounds of a test."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from a2a_events import limits
from a2a_events.metrics.catalog import CONNECTIONS_REFUSED
from a2a_events.services import bounded_http, unread
from a2a_events.services.bounded_http import HttpBounds, bounded
from a2a_events.services.listener import Server, listen
from a2a_events.testing import eventually

SOON = HttpBounds(header_seconds=0.4, body_seconds=0.8, idle_seconds=3, url_bytes=1024, header_bytes=4096)
PATIENCE_SECONDS = 20
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
STREAM = b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


class Application:
    """Reads the whole body of a request, unless its path says otherwise, and answers with the headers' names.

    ``/late`` waits to be told, ``/early`` answers before it has read, ``/stream`` answers until its reader is gone,
    ``/bytes/N`` answers so many, and ``/fails/N`` promises more than it gives.
    """

    def __init__(self) -> None:
        self.disconnected = 0
        self.go_on = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/stream":
            await self._stream(receive, send)
            return
        if scope["path"].startswith(("/bytes/", "/fails/")):
            await self._bytes(scope["path"], send)
            return
        early = scope["path"] == "/early"
        if scope["path"] == "/late":
            await self.go_on.wait()
        more = not early
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnected += 1
                return
            more = message["more_body"]
        body = b",".join(name for name, _ in scope["headers"])
        fields = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 413 if early else 200, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    async def _bytes(self, path: str, send: Any) -> None:
        _, kind, number = path.split("/")
        fields = [(b"content-length", str(int(number) + (kind == "fails")).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": b"a" * int(number), "more_body": kind == "fails"})

    async def _stream(self, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        gone = asyncio.create_task(receive())
        while not gone.done():
            await send({"type": "http.response.body", "body": b"more\n", "more_body": True})
            await asyncio.wait([gone], timeout=0.02)
        assert gone.result()["type"] == "http.disconnect"
        self.disconnected += 1


class Site:
    def __init__(self, port: int, application: Application, server: Server) -> None:
        self.port = port
        self._server = server
        self.application = application
        self.connections: list[Connection] = []

    async def connect(self) -> Connection:
        connection = Connection(*await asyncio.open_connection("127.0.0.1", self.port))
        self.connections.append(connection)
        return connection

    @property
    def open(self) -> int:
        """Connections that the server still has."""
        return len(self._server.server_state.connections)

    async def serves(self) -> None:
        connection = await self.connect()
        connection.say(GET)
        assert await connection.status() == 200


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._begun = time.monotonic()

    def say(self, content: bytes) -> None:
        self._writer.write(content)

    async def status(self) -> int:
        """Of the next answer, whose body is read too."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            self.body = await self._reader.readexactly(length)
        return int(head.split()[1])

    async def begun(self) -> None:
        """An answer has begun to come."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._reader.readuntil(b"more\n")

    async def rest(self) -> bytes:
        """All that comes until the end."""
        content = b""
        async with asyncio.timeout(PATIENCE_SECONDS):
            with suppress(ConnectionError):
                while more := await self._reader.read(65536):
                    content += more
        return content

    async def cut_after(self) -> float:
        """Seconds that it lived; nothing more may come."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            with suppress(ConnectionError):
                assert b"" == await self._reader.read()
        return time.monotonic() - self._begun

    async def drip(self, content: bytes, pause_seconds: float = 0.05) -> None:
        """One byte after the other, for as long as anybody reads."""
        for byte in content:
            if self._writer.is_closing():
                return
            self._writer.write(bytes([byte]))
            await asyncio.sleep(pause_seconds)

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


@asynccontextmanager
async def site_with(bounds: HttpBounds, *, send_buffer_bytes: int = 0) -> AsyncIterator[Site]:
    listener = listen("127.0.0.1", 0)
    if send_buffer_bytes:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
    port = listener.getsockname()[1]
    application = Application()
    server = Server(bounded(application, bounds, stop_seconds=1))
    serving = asyncio.create_task(server.serve([listener]))
    site = Site(port, application, server)
    try:
        yield site
    finally:
        for connection in site.connections:
            await connection.close()
        server.should_exit = True
        await serving


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with site_with(SOON) as one:
        yield one


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * 2000), 414, id="a long URL"),
        pytest.param(b"GET /%b" % (b"a" * 500_000), 414, id="a URL without an end"),
        pytest.param(b"GET / HTTP/1.1\r\nX: %b\r\n\r\n" % (b"a" * 5000), 431, id="a large header"),
        pytest.param(b"GET / HTTP/1.1\r\nX: %b" % (b"a" * 3_000_000), 431, id="a header without an end"),
        pytest.param(b"GET / HTTP/1.1\r\n%b\r\n" % (b"X: a\r\n" * 101), 431, id="many headers"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 200_000, 431, id="headers without an end"),
        pytest.param(CHUNKED + b"1;%b" % (b"a" * 400_000), 431, id="an extension of a chunk"),
        pytest.param(CHUNKED + b"0\r\nX: %b" % (b"a" * 400_000), 431, id="a trailer"),
        pytest.param(b"\x16\x03\x01 hello\r\n\r\n", 400, id="no HTTP"),
        pytest.param(CHUNKED + b"zz\r\n", 400, id="no chunk"),
    ],
)
async def test_what_is_over_a_bound_is_answered_and_the_connection_ends(
    site: Site, request_bytes: bytes, status: int
) -> None:
    connection = await site.connect()
    connection.say(request_bytes)
    assert status == await connection.status()
    assert b'"error"' in connection.body
    await connection.cut_after()
    await site.serves()


async def test_headers_that_come_byte_by_byte_are_cut_when_their_time_is_over(site: Site) -> None:
    connection = await site.connect()
    dripping = asyncio.create_task(connection.drip(b"GET / HTTP/1.1\r\nX: " + b"a" * 200))
    assert 408 == await connection.status()
    assert await connection.cut_after() >= SOON.header_seconds
    await dripping


async def test_a_body_that_comes_byte_by_byte_is_cut_and_its_reader_is_told(site: Site) -> None:
    connection = await site.connect()
    connection.say(POST % 200)
    dripping = asyncio.create_task(connection.drip(b"a" * 200))
    assert 408 == await connection.status()
    assert await connection.cut_after() >= SOON.body_seconds
    assert site.application.disconnected == 1
    await dripping


async def test_a_large_body_has_time_for_its_size() -> None:
    async with site_with(HttpBounds(body_seconds=0.5, body_bytes_per_second=5000)) as site:
        for request, piece in ((POST % 200_000, b"a" * 2000), (CHUNKED, b"7d0\r\n%b\r\n" % (b"a" * 2000))):
            connection = await site.connect()
            connection.say(request)
            for _ in range(100):
                connection.say(piece)
                await asyncio.sleep(0.02)  # at most 100,000 bytes a second
            connection.say(b"0\r\n\r\n" * (request == CHUNKED))
            assert 200 == await connection.status()
        connection = await site.connect()
        connection.say((POST % 200_000) + b"a" * 10_000)
        assert 408 == await connection.status()
        assert 1 <= await connection.cut_after()


async def test_an_idle_connection_outlives_what_proxies_keep_theirs_for() -> None:
    """ALB and nginx keep them for 60 s: whoever is the first to close races requests."""
    assert HttpBounds().idle_seconds > 60


async def test_requests_that_come_in_pieces_have_their_time_each() -> None:
    async with site_with(HttpBounds(header_seconds=3, body_seconds=3)) as site:
        connection = await site.connect()
        for _ in range(3):
            await connection.drip((POST % 4) + b"abcd", 0.025)
            assert 200 == await connection.status()
        connection.say(GET)
        assert 200 == await connection.status()


@pytest.mark.parametrize("said", [b"", GET, b"\r\n"])
async def test_an_idle_connection_ends(said: bytes) -> None:
    async with site_with(HttpBounds(idle_seconds=1)) as site:
        connection = await site.connect()
        connection.say(said)
        if said == GET:
            assert 200 == await connection.status()
        await connection.cut_after()


async def test_empty_lines_between_requests_do_not_keep_a_connection() -> None:
    async with site_with(HttpBounds(idle_seconds=1)) as site:
        connection = await site.connect()
        connection.say(GET)
        assert 200 == await connection.status()
        dripping = asyncio.create_task(connection.drip(b"\r\n" * 1000, 0.2))
        await connection.cut_after()
        dripping.cancel()


async def test_an_answer_that_takes_longer_than_all_bounds_is_given(site: Site) -> None:
    connection = await site.connect()
    connection.say(b"GET /late HTTP/1.1\r\n\r\n")
    await asyncio.sleep(SOON.header_seconds + SOON.body_seconds + 0.2)
    site.application.go_on.set()
    assert 200 == await connection.status()


async def test_a_body_that_the_server_does_not_read_yet_is_not_late() -> None:
    bounds = HttpBounds(body_seconds=2)
    async with site_with(bounds) as site:
        connection = await site.connect()
        length = 1_000_000  # more than is read before anybody wants it
        connection.say(b"POST /late HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % length + b"a" * length)
        await asyncio.sleep(bounds.body_seconds * 1.5)
        site.application.go_on.set()
        assert 200 == await connection.status()


async def test_the_rest_of_a_body_that_was_refused_does_not_keep_a_connection() -> None:
    async with site_with(HttpBounds(body_seconds=60)) as site:
        connection = await site.connect()
        connection.say(CHUNKED.replace(b"/ ", b"/early ") + b"1\r\na\r\n")
        assert 413 == await connection.status()
        dripping = asyncio.create_task(connection.drip(b"1\r\na\r\n" * 1000, 0.02))
        await connection.cut_after()
        dripping.cancel()


async def test_a_connection_whose_refused_body_has_come_serves_on(site: Site) -> None:
    connection = await site.connect()
    connection.say((POST % 4).replace(b"/ ", b"/early ") + b"ab")
    assert 413 == await connection.status()
    connection.say(b"cd")
    connection.say(GET)
    assert 200 == await connection.status()


async def test_trailers_are_no_headers(site: Site) -> None:
    connection = await site.connect()
    connection.say(CHUNKED + b"1\r\na\r\n0\r\nAuthorization: Bearer x\r\n\r\n")
    assert 200 == await connection.status()
    assert connection.body == b"host,transfer-encoding"


async def test_requests_that_come_together_are_answered_in_order(site: Site) -> None:
    connection = await site.connect()
    connection.say(GET * 100)
    for _ in range(100):
        assert 200 == await connection.status()


BAD = [
    pytest.param(CHUNKED + b"zz\r\n", id="a body that is none"),
    pytest.param(b"no HTTP\r\n\r\n", id="no HTTP"),
    pytest.param(b"GET / HTTP/1.1\r\nX: %b\r\n\r\n" % (b"a" * 5000), id="large headers"),
    pytest.param(GET + CHUNKED + b"zz\r\n", id="a body that is none after a request that waits"),
]


@pytest.mark.parametrize("bad", BAD)
async def test_a_refusal_is_not_written_for_a_request_that_waits_for_its_answer(
    site: Site, bad: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    connection = await site.connect()
    connection.say((POST % 4).replace(b"/ ", b"/late ") + b"abcd" + bad)
    assert await connection.rest() == b""
    site.application.go_on.set()
    await site.serves()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("together", [True, False])
async def test_a_refusal_is_not_written_into_an_answer(
    site: Site, bad: bytes, together: bool, caplog: pytest.LogCaptureFixture
) -> None:
    connection = await site.connect()
    connection.say(STREAM + bad * together)
    if not together:
        await connection.begun()
        connection.say(bad)
    assert b"HTTP/1.1" not in await connection.rest()
    await eventually(lambda: site.application.disconnected == 1, what="the stream is told")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_an_answer_ends_when_its_client_is_gone_whatever_else_it_had_asked_for(site: Site) -> None:
    connection = await site.connect()
    connection.say(STREAM)
    await connection.begun()
    connection.say(GET)
    await connection.close()
    await eventually(lambda: site.application.disconnected == 1, what="the stream is told")


async def test_a_body_has_its_time_although_an_earlier_request_is_answered_meanwhile(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_http, "_LINGER_SECONDS", 0.1)
    connection = await site.connect()
    connection.say(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n" + POST % 4 + b"ab")
    site.application.go_on.set()
    assert 200 == await connection.status()
    await asyncio.sleep(0.4)  # longer than for the rest of a body that nobody reads
    connection.say(b"cd")
    assert 200 == await connection.status()


async def test_a_flood_of_what_is_no_http_is_counted_and_is_no_flood_of_lines(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SERVER_LINES_PER_SECOND", 1)

    async def flood(times: int) -> None:
        for _ in range(times):
            connection = await site.connect()
            connection.say(b"no HTTP\r\n\r\n")
            assert 400 == await connection.status()

    async def told() -> bool:
        await flood(2)
        return any("lines before it were left out" in record.getMessage() for record in caplog.records)

    malformed = CONNECTIONS_REFUSED.value("malformed")
    begun = int(time.monotonic())
    await flood(100)
    assert CONNECTIONS_REFUSED.value("malformed") - malformed == 100
    assert len(caplog.records) <= int(time.monotonic()) - begun + 1
    await eventually(told, what="a line that says how many there are not")
    await site.serves()


@pytest.mark.parametrize(
    ("request_bytes", "read_bytes"),
    [
        pytest.param(b"GET /bytes/50000 HTTP/1.1\r\nHost: a\r\n\r\n", 0, id="an idle one"),
        pytest.param(b"GET /bytes/50000 HTTP/1.1\r\nConnection: close\r\n\r\n", 0, id="one that was to end"),
        pytest.param(b"GET /fails/50000 HTTP/1.1\r\nHost: a\r\n\r\n", 0, id="one whose answer failed"),
        pytest.param(b"GET /bytes/200000 HTTP/1.1\r\nConnection: close\r\n\r\n", 180_000, id="one that had read"),
    ],
)
async def test_a_connection_ends_although_its_client_does_not_read_the_little_that_is_left(
    request_bytes: bytes, read_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So little that nothing says that it waits to be written."""
    monkeypatch.setattr(limits, "STREAM_STALL_SECONDS", 0.5)
    monkeypatch.setattr(unread, "_GRACE_SECONDS", 0.0)
    loop = asyncio.get_running_loop()
    async with site_with(HttpBounds(idle_seconds=1), send_buffer_bytes=4096) as site:
        with socket.socket() as client:
            client.setblocking(False)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await loop.sock_connect(client, ("127.0.0.1", site.port))
            await loop.sock_sendall(client, request_bytes)
            async with asyncio.timeout(PATIENCE_SECONDS):
                left = read_bytes
                while left > 0:
                    left -= len(await loop.sock_recv(client, left))
            await eventually(lambda: site.open, what="a connection")
            await eventually(lambda: not site.open, what="its end")
