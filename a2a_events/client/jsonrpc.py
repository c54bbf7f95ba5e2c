"""The JSON-RPC binding, from the client's side (specification section 9)."""

from __future__ import annotations

import itertools
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from a2a_events.client.answers import Answer, error_in, error_of, refused
from a2a_events.client.errors import BadAnswer
from a2a_events.client.link import Call
from a2a_events.client.operations import Request, name_of
from a2a_events.client.sse import Event
from a2a_events.model import AgentInterface, DeleteTaskPushNotificationConfigRequest, encode

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

    version = "1.0"
    extensions_header = "A2A-Extensions"

    def __init__(self) -> None:
        self._ids = itertools.count(1)

    def call(self, at: AgentInterface, request: Request, *, streaming: bool) -> Call:
        """The operation's name and its request. See :class:`~a2a_events.client.link.Binding`."""
        if at.tenant:
            request = msgspec.structs.replace(request, tenant=at.tenant)
        return self.post(at, name_of(request, streaming=streaming), request)

    def post(self, at: AgentInterface, method: str, params: Any) -> Call:
        """A call of any method."""
        return Call(url=at.url, body=encode(_Request("2.0", next(self._ids), method, params)), headers=_HEADERS)

    def result(self, request: Request, answer: Answer) -> bytes:
        """The ``result`` member. See :class:`~a2a_events.client.link.Binding`."""
        envelope = _envelope(answer.body)
        if envelope and _given(envelope.error):
            raise error_of(answer)
        if not answer.ok:
            raise refused(answer)
        if envelope and isinstance(request, DeleteTaskPushNotificationConfigRequest):
            return b"{}"  # nothing, which servers write in more than one way
        if not envelope or not _given(envelope.result):
            raise BadAnswer(f"{answer.url} answered with neither a result nor an error of JSON-RPC")
        return bytes(envelope.result)

    def update(self, event: Event) -> bytes:
        """The ``result`` member of one frame. See :class:`~a2a_events.client.link.Frames`."""
        envelope = _envelope(event.data)
        if envelope and _given(envelope.error):
            raise error_in(event.data)
        if not envelope or not _given(envelope.result):
            raise BadAnswer("An update is neither a result nor an error of JSON-RPC")
        return bytes(envelope.result)


def _envelope(body: bytes) -> _Response | None:
    try:
        return msgspec.json.decode(body, type=_Response)
    except (ValueError, RecursionError):
        return None


def _given(member: Raw) -> bool:
    return bytes(member) not in {b"", b"null"}
