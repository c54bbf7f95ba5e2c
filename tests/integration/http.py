"""A client of tests: raw HTTP, so that a test sees every frame as it came."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import msgspec

from a2a_events.model import StreamResponse, Task
from a2a_events.services import gateway
from a2a_events.services.connect import jetstream_log
from a2a_events.settings import Settings
from a2a_events.testing import eventually, free_port

VERSION = {"A2A-Version": "1.0"}
TIMEOUT = httpx.Timeout(30.0)


def client(base_url: str, **how: Any) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=200)
    return httpx.AsyncClient(base_url=base_url, headers=VERSION, timeout=TIMEOUT, limits=limits, **how)


def message(content: Any, **members: Any) -> dict[str, Any]:
    """Parameters of a send."""
    part = {"text": content} if isinstance(content, str) else {"data": content}
    return {"message": {"messageId": os.urandom(6).hex(), "role": "ROLE_USER", "parts": [part], **members}}


def rpc(method: str, params: Any, request_id: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}


class Frame(msgspec.Struct, frozen=True):
    """One event of a stream."""

    cursor: str
    update: StreamResponse
    raw: bytes

    @property
    def revision(self) -> int:
        return int(self.cursor.rsplit(".", 1)[1])

    @property
    def chunk(self) -> int | None:
        """The number that ``scripted`` put into a chunk."""
        changed = self.update.artifact_update
        return int(str(changed.artifact.parts[0].text).split()[0]) if changed is not None else None

    @property
    def state(self) -> str:
        if self.update.status_update is not None:
            return self.update.status_update.status.state.value
        return self.update.task.status.state.value if self.update.task is not None else ""


async def frames(response: httpx.Response) -> AsyncIterator[Frame]:
    """The frames of a stream, as they come."""
    assert response.status_code == 200, (response.status_code, await response.aread())
    rest = bytearray()
    async for piece in response.aiter_raw():
        new = max(0, len(rest) - 1)
        rest += piece
        if rest.find(b"\n\n", new) < 0:
            continue
        *whole, rest = rest.split(b"\n\n")
        for text in map(bytes, whole):
            if text.startswith((b":", b"retry:")):
                continue
            fields = dict(line.split(b": ", 1) for line in text.split(b"\n"))
            content = msgspec.json.decode(fields[b"data"])
            assert "error" not in content, content
            data = msgspec.json.encode(content["result"]) if "jsonrpc" in content else fields[b"data"]
            yield Frame(fields[b"id"].decode(), msgspec.json.decode(data, type=StreamResponse), fields[b"data"])
    assert not rest, f"cut in the middle of a frame: {rest!r}"


@asynccontextmanager
async def streaming(
    http: httpx.AsyncClient, params: dict[str, Any], path: str = "/message:stream"
) -> AsyncIterator[AsyncIterator[Frame]]:
    async with http.stream("POST", path, json=params) as response:
        yield frames(response)


@asynccontextmanager
async def subscribed(http: httpx.AsyncClient, task_id: str, cursor: str = "") -> AsyncIterator[AsyncIterator[Frame]]:
    headers = {"Last-Event-ID": cursor} if cursor else {}
    async with http.stream("GET", f"/tasks/{task_id}:subscribe", headers=headers) as response:
        yield frames(response)


async def get_task(http: httpx.AsyncClient, task_id: str) -> Task:
    response = await http.get(f"/tasks/{task_id}")
    assert response.status_code == 200, response.text
    return msgspec.json.decode(response.content, type=Task)


async def serves(url: str, serving: asyncio.Task[None]) -> None:
    """Wait until a gateway in this event loop shows the card of an agent; raises what ends it sooner."""
    async with client(url) as http:

        async def up() -> bool:
            if serving.done():
                serving.result()
            try:
                return (await http.get("/.well-known/agent-card.json")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(up, what="a gateway that serves an agent")


@asynccontextmanager
async def gateway_in_process(nats_url: str, namespace: str) -> AsyncIterator[str]:
    """A gateway in the event loop of the test, on a real socket and a connection of its own; its URL."""
    settings = Settings(nats=nats_url, namespace=namespace, port=free_port(), shards=2, drain_spread_seconds=0)
    async with AsyncExitStack() as stack:
        log, connection = await stack.enter_async_context(jetstream_log(settings, "gateway"))
        stop = asyncio.Event()
        serving = asyncio.create_task(gateway.serve(log, connection, settings, stop))
        try:
            await serves(settings.base_url, serving)
            yield settings.base_url
        finally:
            stop.set()
            await serving
