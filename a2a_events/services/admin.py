"""What operators and orchestrators ask a process, on a port of its own: probes and metrics.

Served by a thread with an event loop of its own, so that it answers while an agent blocks the other one.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

import uvicorn
from litestar import Litestar, Request, Response, get
from litestar.datastructures import State

from a2a_events.bindings.app import probe
from a2a_events.services.bounded_http import HttpBounds, bounded
from a2a_events.services.exposition import exposed
from a2a_events.services.health import Health
from a2a_events.services.listener import Server

_END_SECONDS: Final = 2.0
"""How long the thread is waited for when the process ends."""
_STOP_SECONDS: Final = 1.0
"""What a scrape under way gets then."""


class _Server(Server):
    """As any, but it sleeps until it is asked or ended: uvicorn's own loop looks around ten times a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over = asyncio.Event()

    async def main_loop(self) -> None:
        """Wait for the end."""
        self._loop = asyncio.get_running_loop()
        if not self.should_exit:
            await self._over.wait()

    def end(self) -> None:
        """Take no more, from any thread."""
        self.should_exit = True
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._over.set)


class Admin:
    """The port, while it is entered.

    Args:
        health: that probes ask for.
        listener: where.
    """

    def __init__(self, health: Health, listener: socket.socket) -> None:
        self._server = _Server(bounded(create_app(health), HttpBounds(), stop_seconds=_STOP_SECONDS, loop="asyncio"))
        self._listener = listener
        self._thread = threading.Thread(target=self._serve, name="admin", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.end()
        self._thread.join(_END_SECONDS)

    def _serve(self) -> None:
        asyncio.run(self._server.serve([self._listener]))


def create_app(health: Health) -> Litestar:
    """What is served there."""

    def answer(failing: list[str]) -> Response[bytes]:
        status, body = probe(failing)
        return Response(body, status_code=status, media_type="application/json", headers={"cache-control": "no-store"})

    @get("/startupz", sync_to_thread=False)
    def startupz() -> Response[bytes]:
        return answer(health.not_started())

    @get("/livez", sync_to_thread=False)
    def livez() -> Response[bytes]:
        return answer(health.dead())

    @get("/readyz", sync_to_thread=False)
    def readyz() -> Response[bytes]:
        return answer(health.unready())

    @get("/metrics", sync_to_thread=False)
    def metrics(request: Request[None, None, State]) -> Response[bytes]:
        content, media_type = exposed(request.headers.get("accept", ""))
        return Response(content, media_type=media_type)

    return Litestar(route_handlers=[startupz, livez, readyz, metrics], openapi_config=None, logging_config=None)
