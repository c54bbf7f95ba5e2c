"""A webhook's end of the line: a real HTTP server on the loopback interface that keeps what it is sent."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
from msgspec import Struct

from a2a_events.model import StreamResponse


class Received(Struct, frozen=True):
    """One request."""

    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def revision(self) -> int:
        return int(self.headers["x-a2a-notification-id"].rsplit(".", 1)[1])

    @property
    def task_id(self) -> str:
        return self.headers["x-a2a-notification-id"].rsplit(".", 1)[0]

    @property
    def update(self) -> StreamResponse:
        return msgspec.json.decode(self.body, type=StreamResponse)


Answer = Callable[[Received], Awaitable[int]]
"""The status to answer with; 0 cuts the connection."""


async def taken(_: Received) -> int:
    return 200


def answering(*statuses: int) -> Answer:
    """These, one after the other, and then 200."""
    left = list(statuses)

    async def answer(_: Received) -> int:
        return left.pop(0) if left else 200

    return answer


async def refusing(_: Received) -> int:
    return 500


async def hanging(_: Received) -> int:
    await asyncio.get_running_loop().create_future()
    return 200


class Receiver:
    """Answers every request as it is told to, and remembers them all.

    Args:
        answer: what to answer.
        location: sent with every answer, for redirects.
    """

    def __init__(self, answer: Answer = taken, location: str = "") -> None:
        self.answer = answer
        self.location = location
        self.received: list[Received] = []
        self.accepted: list[Received] = []
        """Those that were answered with 2xx."""
        self.connections = 0
        self.connected = 0
        self.open = 0
        """Requests that wait for their answer."""
        self.port = 0
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def revisions(self) -> list[int]:
        return [one.revision for one in self.accepted]

    def of(self, task_id: str) -> list[Received]:
        """What was accepted of one task."""
        return [one for one in self.accepted if one.task_id == task_id]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.connected += 1
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            while await self._serve(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the other side has gone, or the test is over
        finally:
            self.connected -= 1
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request, *lines = head.rstrip("\r\n").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        method, path, _ = request.split(" ")
        assert method == "POST"
        one = Received(path, headers, await reader.readexactly(int(headers["content-length"])))
        self.received.append(one)
        self.open += 1
        try:
            status = await self.answer(one)
        finally:
            self.open -= 1
        if not status:
            return False
        if 200 <= status < 300:
            self.accepted.append(one)
        location = f"Location: {self.location}\r\n" if self.location else ""
        writer.write(f"HTTP/1.1 {status} Whatever\r\n{location}Content-Length: 2\r\n\r\nok".encode())
        await writer.drain()
        return True

    async def close(self) -> None:
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)


@asynccontextmanager
async def receiver(
    answer: Answer = taken, *, location: str = "", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    made = Receiver(answer, location)
    server = await asyncio.start_server(made._connected, "127.0.0.1", 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.close()
