"""The HTTP+JSON binding, from the client's side (specification section 11)."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

import msgspec
from msgspec import Raw, Struct

from a2a_events.client.answers import Answer, error_in
from a2a_events.client.sse import Event
from a2a_events.client.transport import Call, refused
from a2a_events.model import (
    AgentInterface,
    CancelTaskRequest,
    GetTaskRequest,
    SendMessageRequest,
    SubscribeToTaskRequest,
    encode,
)

_ACCEPT: Final = {"Accept": "application/a2a+json, application/json;q=0.9"}
# 1.0.1 recommends application/a2a+json, 1.0.0 knew application/json only; every server has to accept the latter.
_POST: Final = {**_ACCEPT, "Content-Type": "application/json"}
_ERROR_FIRST: Final = re.compile(rb'\s*\{\s*"error"')


class _Frame(Struct):
    error: Raw = Raw()


class HttpJson:
    """A path for each operation under one URL; the tenant is the path's first segment."""

    def send(self, at: AgentInterface, request: SendMessageRequest, *, streaming: bool) -> Call:
        """SendMessage, or SendStreamingMessage."""
        path = "/message:stream" if streaming else "/message:send"
        return Call(url=_url(at, path), body=encode(request), headers=_POST)

    def get(self, at: AgentInterface, request: GetTaskRequest) -> Call:
        """GetTask."""
        query = "" if request.history_length is None else f"historyLength={request.history_length}"
        return Call(url=_url(at, _task(request.id), query), method="GET", headers=_ACCEPT)

    def cancel(self, at: AgentInterface, request: CancelTaskRequest) -> Call:
        """CancelTask."""
        body = encode({"metadata": request.metadata} if request.metadata else {})
        return Call(url=_url(at, f"{_task(request.id)}:cancel"), body=body, headers=_POST)

    def subscribe(self, at: AgentInterface, request: SubscribeToTaskRequest) -> Call:
        """SubscribeToTask: POST as the specification's text says, GET as its ``a2a.proto`` does if POST is refused."""
        url = _url(at, f"{_task(request.id)}:subscribe")
        return Call(url=url, body=b"{}", headers=_POST, otherwise=Call(url=url, method="GET", headers=_ACCEPT))

    def result(self, answer: Answer) -> bytes:
        """The body. See :class:`~a2a_events.client.transport.Binding`."""
        if not answer.ok:
            raise refused(answer)
        return answer.body

    def update(self, event: Event) -> bytes:
        """The frame's data. See :class:`~a2a_events.client.transport.Binding`."""
        if event.name == "error" or _is_error(event.data):
            raise error_in(event.data)
        return event.data


def _is_error(data: bytes) -> bool:
    if not _ERROR_FIRST.match(data):
        return False  # an update begins with its own member: nothing to look for in a large one
    try:
        return bool(bytes(msgspec.json.decode(data, type=_Frame).error))
    except (ValueError, RecursionError):
        return False


def _task(task_id: str) -> str:
    return f"/tasks/{quote(task_id, safe='')}"


def _url(at: AgentInterface, path: str, query: str = "") -> str:
    base, _, fixed = at.url.partition("?")
    tenant = f"/{quote(at.tenant, safe='')}" if at.tenant else ""
    queries = "&".join(filter(None, (fixed, query)))
    return f"{base.rstrip('/')}{tenant}{path}" + (f"?{queries}" if queries else "")
