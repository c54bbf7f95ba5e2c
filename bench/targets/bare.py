"""The floor: an ASGI application that sends the same bytes and knows no tasks.

It reads the request and sends frames encoded once, each with a `send` of its own, as a server must that gets them one
after the other. What it costs is what HTTP under uvicorn costs.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

from bench.jobs import Script
from bench.targets.scripted import ARTIFACT, chunk_text, script_of
from bench.targets.serve import serve

Message = dict[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]

TASK = "00000000-0000-4000-8000-000000000000"
CONTEXT = "00000000-0000-4000-8000-000000000001"
_TIME = "2026-01-01T00:00:00.000Z"
_EVENT_STREAM = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")],
}


def _encode(result: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}, separators=(",", ":")).encode()


def _frame(result: Any) -> bytes:
    return b"data: " + _encode(result) + b"\n\n"


def _task(state: str, **members: Any) -> dict[str, Any]:
    return {"id": TASK, "contextId": CONTEXT, "status": {"state": state, "timestamp": _TIME}, **members}


def _status(state: str) -> bytes:
    update = {"taskId": TASK, "contextId": CONTEXT, "status": {"state": state, "timestamp": _TIME}}
    return _frame({"statusUpdate": update})


def _chunk(number: int, script: Script) -> bytes:
    update: dict[str, Any] = {
        "taskId": TASK,
        "contextId": CONTEXT,
        "artifact": {"artifactId": ARTIFACT, "parts": [{"text": chunk_text(number, script)}]},
    }
    if number:
        update["append"] = True
    if number == script.chunks - 1:
        update["lastChunk"] = True
    return _frame({"artifactUpdate": update})


_SUBMITTED = _frame({"task": _task("TASK_STATE_SUBMITTED")})
_WORKING = _status("TASK_STATE_WORKING")
_COMPLETED = _status("TASK_STATE_COMPLETED")


@lru_cache(maxsize=64)
def _frames(script: Script) -> list[bytes]:
    return [_WORKING, *(_chunk(number, script) for number in range(script.chunks))]


@lru_cache(maxsize=64)
def _done(script: Script) -> bytes:
    parts = [{"text": chunk_text(number, script)} for number in range(script.chunks)]
    artifact = {"artifactId": ARTIFACT, "parts": parts}
    return _encode({"task": _task("TASK_STATE_COMPLETED", artifacts=[artifact])})


@lru_cache(maxsize=64)
def _of_size(size: int) -> bytes:
    empty = _encode("")
    return _encode("x" * (size - len(empty)))


class _Voice:
    """What the one running stream says, for whoever has subscribed: a future per frame."""

    def __init__(self) -> None:
        self._next: asyncio.Future[bytes] | None = None

    def say(self, frame: bytes) -> None:
        if self._next is not None:
            self._next.set_result(frame)
            self._next = None

    async def listen(self) -> bytes:
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self._next)


_voice = _Voice()


async def _json(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _part(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def _stream(send: Send, script: Script) -> None:
    await send(_EVENT_STREAM)
    await _part(send, _SUBMITTED)
    if not script.delay_ms:
        for frame in _frames(script):
            await _part(send, frame)
        await _part(send, _COMPLETED, more=False)
        return
    await _part(send, _WORKING)
    for number in range(script.chunks):
        if number:
            await asyncio.sleep(script.delay_ms / 1000)
        frame = _chunk(number, script)
        _voice.say(frame)
        await _part(send, frame)
    await _part(send, _COMPLETED, more=False)


async def _subscribe(send: Send) -> None:
    await send(_EVENT_STREAM)
    await _part(send, _SUBMITTED)
    while True:
        await _part(send, await _voice.listen())


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    request = json.loads(body)
    params = request["params"]
    match request["method"]:
        case "SendStreamingMessage":
            await _stream(send, script_of(params["message"]["parts"][0]["data"]))
        case "SendMessage":
            script = script_of(params["message"]["parts"][0]["data"])
            at_once = params.get("configuration", {}).get("returnImmediately")
            await _json(send, _encode({"task": _task("TASK_STATE_SUBMITTED")}) if at_once else _done(script))
        case "GetTask":
            await _json(send, _of_size(int(params["id"])))
        case "SubscribeToTask":
            await _subscribe(send)


if __name__ == "__main__":
    serve(lambda _port: app)
