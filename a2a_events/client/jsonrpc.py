"""The JSON-RPC binding, from the client's side (specification section 9)."""

from __future__ import annotations

import itertools
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from a2a_events.client.answers import Answer, error_in, error_of
from a2a_events.client.errors import BadAnswer
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

_HEADERS: Final = {"Content-Type": "application/json", "Accept": "application/json"}


class _Request(Struct):
    jsonrpc: str
    id: int
    method: str
    params: Any


class _Response(Struct):
    result: Raw = Raw()
    error: Raw = Raw()


class JsonRpc:
    """A method name and params, posted to one URL; the tenant is a member of params.

    The id of an answer is not compared: each exchange has one request, and HTTP says which answer is its.
    """

    def __init__(self) -> None:
        self._ids = itertools.count(1)

    def send(self, at: AgentInterface, request: SendMessageRequest, *, streaming: bool) -> Call:
        """SendMessage, or SendStreamingMessage."""
        return self._call(at, "SendStreamingMessage" if streaming else "SendMessage", request)

    def get(self, at: AgentInterface, request: GetTaskRequest) -> Call:
        """GetTask."""
        return self._call(at, "GetTask", request)

    def cancel(self, at: AgentInterface, request: CancelTaskRequest) -> Call:
        """CancelTask."""
        return self._call(at, "CancelTask", request)

    def subscribe(self, at: AgentInterface, request: SubscribeToTaskRequest) -> Call:
        """SubscribeToTask."""
        return self._call(at, "SubscribeToTask", request)

    def result(self, answer: Answer) -> bytes:
        """The ``result`` member. See :class:`~a2a_events.client.transport.Binding`."""
        envelope = _envelope(answer.body)
        if envelope and _given(envelope.error):
            raise error_of(answer)
        if not answer.ok:
            raise refused(answer)
        if not envelope or not _given(envelope.result):
            raise BadAnswer(f"{answer.url} answered with neither a result nor an error of JSON-RPC")
        return bytes(envelope.result)

    def update(self, event: Event) -> bytes:
        """The ``result`` member of one frame. See :class:`~a2a_events.client.transport.Binding`."""
        envelope = _envelope(event.data)
        if envelope and _given(envelope.error):
            raise error_in(event.data)
        if not envelope or not _given(envelope.result):
            raise BadAnswer("An update is neither a result nor an error of JSON-RPC")
        return bytes(envelope.result)

    def _call(self, at: AgentInterface, method: str, params: Any) -> Call:
        if at.tenant:
            params = msgspec.structs.replace(params, tenant=at.tenant)
        return Call(url=at.url, body=encode(_Request("2.0", next(self._ids), method, params)), headers=_HEADERS)


def _envelope(body: bytes) -> _Response | None:
    try:
        return msgspec.json.decode(body, type=_Response)
    except (ValueError, RecursionError):
        return None


def _given(member: Raw) -> bool:
    return bytes(member) not in {b"", b"null"}
