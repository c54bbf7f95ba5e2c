"""A timeline service in the event loop of the test, on a real socket, over the log of a stack."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec

from a2a_events.log.port import Log
from a2a_events.services import timeline
from a2a_events.settings import Settings
from a2a_events.testing import eventually, free_port

TIMEOUT = httpx.Timeout(30.0)


@asynccontextmanager
async def timeline_service(log: Log, **more: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service that shows this log; its base URL is the service's."""
    settings = Settings(timeline_port=free_port(), **more)
    stop = asyncio.Event()
    serving = asyncio.create_task(timeline.serve(log, settings, stop))
    try:
        async with httpx.AsyncClient(base_url=timeline.url(settings), timeout=TIMEOUT) as http:

            async def up() -> bool:
                if serving.done():
                    serving.result()
                try:
                    return (await http.get("/livez")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(up, what="a timeline service")
            yield http
    finally:
        stop.set()
        await serving


async def got(http: httpx.AsyncClient, path: str, **params: Any) -> Any:
    """What a path shows."""
    response = await http.get(path, params=params)
    assert response.status_code == 200, response.text
    return response.json()


async def refused(http: httpx.AsyncClient, path: str, status: int, **params: Any) -> str:
    """The sentence with which a path refuses."""
    response = await http.get(path, params=params)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    return str(problem["detail"])


async def frames(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """Events of a stream: ``event``, ``id`` and ``data``."""
    assert response.status_code == 200, await response.aread()
    frame: dict[str, Any] = {}
    async for line in response.aiter_lines():
        if not line:
            if "data" in frame:
                yield frame
            frame = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            frame[name] = msgspec.json.decode(value) if name == "data" else value
