"""A server that resets connections as they come, under the event loop that the command line uses."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading

import httpx
import pytest

from a2a_events.client.errors import ConnectionFailed, NoAnswer
from a2a_events.client.http_link import Http
from a2a_events.client.link import Call

uvloop = pytest.importorskip("uvloop", reason="uvloop is not there for this system")

CONNECTIONS = 300
"""Enough for some to be reset before the client has looked at them: then anyio raises AttributeError."""


def reset_all(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


def test_whenever_a_connection_is_reset_the_client_says_so_in_its_own_words() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    server = threading.Thread(target=reset_all, args=(listener,), daemon=True)
    server.start()
    call = Call(url=f"http://127.0.0.1:{listener.getsockname()[1]}/", method="GET", headers={})

    async def ask() -> None:
        async with httpx.AsyncClient() as client:
            http = Http(client, {}, None)
            for _ in range(CONNECTIONS):
                with pytest.raises((ConnectionFailed, NoAnswer)):
                    await http.fetch(call, {}, 20)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(ask())
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        server.join(10)
