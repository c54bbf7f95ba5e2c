"""Servers in this process, on real sockets: uvicorn for any ASGI application, and a wire that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn

PATIENCE_SECONDS = 10.0


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self.down = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the signals are pytest's

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def main_loop(self) -> None:
        await self.down.wait()  # the original looks ten times a second

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # The original sleeps for a tenth of a second in any case.
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=PATIENCE_SECONDS)
        for bound in sockets or []:
            bound.close()


def listener() -> socket.socket:
    """A socket on a free port of the loopback; until somebody listens, connections are refused."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound


def url_of(bound: socket.socket) -> str:
    host, port = bound.getsockname()
    return f"http://{host}:{port}"


@contextlib.contextmanager
def dead() -> Iterator[str]:
    """A URL where connections are refused."""
    with listener() as bound:
        yield url_of(bound)


@contextlib.asynccontextmanager
async def serving(app: Any, bound: socket.socket) -> AsyncIterator[str]:
    """Serve an ASGI application on this socket; gives its URL."""
    config = uvicorn.Config(app, lifespan="off", log_config=None, ws="none")
    server = _Server(config)
    running = asyncio.create_task(server.serve([bound]))
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await server.up.wait()
        yield url_of(bound)
    finally:
        server.should_exit = True
        server.down.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await running


class Wire:
    """A TCP connection in between, that can be cut."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Break all connections, without a good-bye."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._writers |= {writer, far_writer}
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def wire_to(url: str) -> AsyncIterator[tuple[str, Wire]]:
    """Another URL for the same server, and the wire behind it."""
    host, port = url.removeprefix("http://").split(":")
    wire = Wire(host, int(port))
    server = await asyncio.start_server(wire.carry, "127.0.0.1", 0)
    async with server:
        yield url_of(server.sockets[0]), wire
        wire.cut()
