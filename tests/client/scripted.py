"""A gateway that does what the test wrote down, call by call."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qs

from a2a_events.client.endpoint import WELL_KNOWN
from tests.client.serving import listener, serving, url_of

Message = MutableMapping[str, Any]
Json = dict[str, Any]


class _CutError(Exception):
    """Makes uvicorn drop the connection in the middle of the answer."""


@dataclass
class Answer:
    """What one call gets: a JSON body, or frames and then an end."""

    body: Json | None = None
    frames: tuple[bytes, ...] = ()
    then: Literal["end", "cut", "silence"] = "end"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Seen:
    """What one call was."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    query: dict[str, list[str]] = field(default_factory=dict)

    @property
    def operation(self) -> str:
        return str(json.loads(self.body)["method"]) if self.path == "/" else f"{self.method} {self.path}"


class Gateway:
    """Answers in the order given. ``url`` is its interface as well as its base."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: deque[Answer] = deque()
        self.seen: list[Seen] = []
        self.cards = 0
        self.card: Json | None = None
        self.card_headers: dict[str, str] = {}
        self.card_requests: list[dict[str, str]] = []
        self.card_needs: str | None = None
        """A header without which the card is refused."""
        self.left = asyncio.Event()

    def will(self, *answers: Answer) -> None:
        self.answers.extend(answers)

    @property
    def operations(self) -> list[str]:
        return [seen.operation for seen in self.seen]

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        body += message.get("body", b"")
        if scope["path"] == WELL_KNOWN:
            await self._card(headers, send)
            return
        self.seen.append(Seen(scope["method"], scope["path"], headers, body, parse_qs(scope["query_string"].decode())))
        answer = self.answers.popleft()
        if answer.body is not None:
            await _whole(send, answer.status, {"content-type": "application/json"} | answer.headers, answer.body)
            return
        started = {"content-type": "text/event-stream"} | answer.headers
        await send({"type": "http.response.start", "status": answer.status, "headers": _encoded(started)})
        for frame in answer.frames:
            await send({"type": "http.response.body", "body": frame, "more_body": True})
        if answer.then == "silence":
            while (await receive())["type"] != "http.disconnect":
                pass
            self.left.set()
        elif answer.then == "cut":
            raise _CutError
        else:
            await send({"type": "http.response.body", "body": b""})

    async def _card(self, headers: dict[str, str], send: Callable[[Message], Awaitable[None]]) -> None:
        self.cards += 1
        self.card_requests.append(headers)
        etag = self.card_headers.get("etag")
        if self.card_needs and self.card_needs not in headers:
            await _whole(send, 401, {}, None)
        elif etag and headers.get("if-none-match") == etag:
            await _whole(send, 304, self.card_headers, None)
        elif self.card is None:
            await _whole(send, 404, {}, None)
        else:
            await _whole(send, 200, self.card_headers, self.card)


@contextlib.asynccontextmanager
async def gateway() -> AsyncIterator[Gateway]:
    bound = listener()
    scripted = Gateway(url_of(bound))
    async with serving(scripted, bound):
        yield scripted


def card(*interfaces: tuple[str, str, str], tenant: str = "") -> Json:
    """A card as ProtoJSON has it: what is empty is left out. Interfaces are (URL, binding, version)."""
    offered = [{"url": u, "protocolBinding": b, "protocolVersion": v, "tenant": tenant} for u, b, v in interfaces]
    return {"name": "scripted", "supportedInterfaces": offered, "capabilities": {"streaming": True}}


def frame(update: Json, cursor: str | None = None) -> bytes:
    """An update as a frame of JSON-RPC."""
    data = json.dumps({"jsonrpc": "2.0", "id": 1, "result": update})
    return (f"id: {cursor}\n" if cursor is not None else "").encode() + f"data: {data}\n\n".encode()


def result(value: Json) -> Answer:
    return Answer(body={"jsonrpc": "2.0", "id": 1, "result": value})


def fault(code: int, reason: str = "", message: str = "no") -> Json:
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "a2a-protocol.org"}
    error = {"code": code, "message": message, "data": [info] if reason else []}
    return {"jsonrpc": "2.0", "id": 1, "error": error}


def task(state: str, task_id: str = "t1") -> Json:
    return {"id": task_id, "contextId": "c1", "status": {"state": f"TASK_STATE_{state}"}}


def snapshot(state: str) -> Json:
    return {"task": task(state)}


def status(state: str) -> Json:
    return {"statusUpdate": {"taskId": "t1", "contextId": "c1", "status": {"state": f"TASK_STATE_{state}"}}}


def chunk(text: str) -> Json:
    artifact = {"artifactId": "a1", "parts": [{"text": text}]}
    return {"artifactUpdate": {"taskId": "t1", "contextId": "c1", "artifact": artifact, "append": True}}


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


async def _whole(
    send: Callable[[Message], Awaitable[None]], status_code: int, headers: dict[str, str], body: Json | None
) -> None:
    await send({"type": "http.response.start", "status": status_code, "headers": _encoded(headers)})
    await send({"type": "http.response.body", "body": b"" if body is None else json.dumps(body).encode()})
