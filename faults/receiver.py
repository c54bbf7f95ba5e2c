"""Receivers of webhooks: real HTTP servers that record whatever they are sent, and answer as they are told.

They live in the load's process: what a webhook is sent is as much a client's observation as what a stream shows.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import Counter
from contextlib import suppress
from typing import Final

from msgspec import Struct

from a2a_events.runtime.webhook import NOTIFICATION_ID, TOKEN
from faults import history as h

TAKEN: Final = 200
REFUSED: Final = 500
REDIRECTED: Final = 302
RESET: Final = 0
"""In place of a status: the connection is reset, and nothing was answered."""
SILENT: Final = -1
"""In place of a status: no answer comes until the receiver is told something else, which resets the connection."""
ELSEWHERE: Final = "elsewhere"
"""Where a redirect leads: nobody should come there."""


class _Expected(Struct, frozen=True):
    """A webhook that a client has asked for, or may ask for."""

    tenant: str
    token: str
    gone: bool


class Receiver:
    """One HTTP server on loopback.

    Args:
        name: of it in counts.
        recorder: takes a :class:`~faults.history.Webhook` for every call.
        canaries: of all tenants.
        counts: calls by how they were answered.
    """

    def __init__(self, name: str, recorder: h.Recorder, canaries: h.Canaries, counts: Counter[str]) -> None:
        self.name = name
        self.port = 0
        self._recorder = recorder
        self._canaries = canaries
        self._counts = counts
        self._answer = TAKEN
        self._turned = asyncio.Event()
        self._expected: dict[str, _Expected] = {}
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def open(self, port: int = 0) -> None:
        """Listen; :attr:`port` says where."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening, and end every connection."""
        if self._server is not None:
            self._server.close()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def expect(self, config: str, tenant: str, *, gone: bool = False) -> str:
        """A client is about to set this webhook; the token that its calls have to carry.

        Args:
            config: its id, which is the path too.
            tenant: whose it is.
            gone: whether it refuses everything for ever.
        """
        token = os.urandom(12).hex()
        self._expected[config] = _Expected(tenant, token, gone)
        return token

    def turn(self, status: int) -> None:
        """Answer everything so from now on: a status, :data:`RESET` or :data:`SILENT`."""
        self._answer = status
        self._turned.set()
        self._turned = asyncio.Event()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            # The other side has gone, or the run is over: asyncio would log the latter.
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while await self._serve(reader, writer):
                    pass
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether the connection goes on."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request, *lines = head.rstrip("\r\n").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        config, turned = request.split(" ")[1].removeprefix("/"), self._turned
        status = self._status(config, headers.get(TOKEN.lower(), ""))
        self._record(config, headers.get(NOTIFICATION_ID.lower(), ""), body, status)
        if status == SILENT:
            await turned.wait()
        if status in {RESET, SILENT}:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        location = f"Location: http://127.0.0.1:{self.port}/{ELSEWHERE}\r\n" if status == REDIRECTED else ""
        writer.write(f"HTTP/1.1 {status} Whatever\r\n{location}Content-Length: 2\r\n\r\nok".encode())
        await writer.drain()
        return True

    def _status(self, config: str, token: str) -> int:
        expected = self._expected.get(config)
        if expected is None:
            return 404
        if expected.token != token:
            return h.FOREIGN
        return REFUSED if expected.gone and self._answer == TAKEN else self._answer

    def _record(self, config: str, event_id: str, body: bytes, status: int) -> None:
        """Before it is answered: what is recorded as taken may be repeated, and what was taken is recorded."""
        expected = self._expected.get(config)
        self._counts[f"{self.name} answered {status}"] += 1
        self._recorder.note(
            h.webhook(
                config,
                body,
                event_id=event_id,
                status=status,
                tenant=expected.tenant if expected is not None else "",
                found=self._canaries.found_in(body),
            )
        )
