"""JSON-RPC and HTTP+JSON as 0.3 has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, assert_never

import msgspec
from msgspec import UNSET, Struct

from a2a_events.client import http_json, jsonrpc
from a2a_events.client.answers import Answer, refused
from a2a_events.client.errors import BadAnswer
from a2a_events.client.http_json import ACCEPT, POST, configs_path, task_path
from a2a_events.client.link import Call
from a2a_events.client.operations import Request
from a2a_events.client.sse import Event
from a2a_events.client.v0_3 import read, write
from a2a_events.errors import A2A_ERRORS, A2AError, UnavailableError, UnsupportedOperationError
from a2a_events.model import (
    AgentInterface,
    CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest,
    GetExtendedAgentCardRequest,
    GetTaskPushNotificationConfigRequest,
    GetTaskRequest,
    ListTaskPushNotificationConfigsRequest,
    ListTasksRequest,
    SendMessageRequest,
    SubscribeToTaskRequest,
    TaskPushNotificationConfig,
    encode,
)

_READERS: Final[dict[type[Request], Callable[[Any], Any]]] = {
    SendMessageRequest: read.update,
    GetTaskRequest: read.task,
    CancelTaskRequest: read.task,
    TaskPushNotificationConfig: read.push_config,
    GetTaskPushNotificationConfigRequest: read.push_config,
    ListTaskPushNotificationConfigsRequest: read.push_configs,
    GetExtendedAgentCardRequest: read.card,
}
_BY_NAME: Final = {error.__name__: error for error in A2A_ERRORS}
_NO_LIST: Final = "A2A 0.3 has no list of tasks, and this agent speaks nothing newer"


class JsonRpc:
    """Methods with a slash, posted to one URL."""

    version = "0.3"
    extensions_header = "X-A2A-Extensions"

    def __init__(self) -> None:
        self._envelope = jsonrpc.JsonRpc()

    def call(self, at: AgentInterface, request: Request, *, streaming: bool) -> Call:
        """See :class:`~a2a_events.client.link.Binding`."""
        method, params = _method(request, streaming=streaming)
        if at.tenant and params is not UNSET:
            params = {**params, "tenant": at.tenant}
        return self._envelope.post(at, method, params)

    def result(self, request: Request, answer: Answer) -> bytes:
        """See :class:`~a2a_events.client.link.Binding`."""
        return _translated(request, self._envelope.result(request, answer))

    def update(self, event: Event) -> bytes:
        """See :class:`~a2a_events.client.link.Frames`."""
        return encode(read.update(_parsed(self._envelope.update(event))))


class HttpJson:
    """The paths of 1.0 under ``/v1``, with the ProtoJSON of 0.3."""

    version = "0.3"
    extensions_header = "X-A2A-Extensions"

    def __init__(self) -> None:
        self._frames = http_json.HttpJson()

    def call(self, at: AgentInterface, request: Request, *, streaming: bool) -> Call:
        """See :class:`~a2a_events.client.link.Binding`."""
        base = f"{at.url.rstrip('/').removesuffix('/v1')}/v1"
        match request:
            case SendMessageRequest():
                path = "/message:stream" if streaming else "/message:send"
                return Call(url=base + path, body=encode(write.send_request(request)), headers=POST)
            case GetTaskRequest():
                query = "" if request.history_length is None else f"?historyLength={request.history_length}"
                return Call(url=f"{base}{task_path(request.id)}{query}", method="GET", headers=ACCEPT)
            case ListTasksRequest():
                raise UnsupportedOperationError(_NO_LIST)
            case CancelTaskRequest():
                body = encode({"metadata": request.metadata} if request.metadata else {})
                return Call(url=f"{base}{task_path(request.id)}:cancel", body=body, headers=POST)
            case SubscribeToTaskRequest():
                url = f"{base}{task_path(request.id)}:subscribe"
                return Call(url=url, body=b"{}", headers=POST, otherwise=Call(url=url, method="GET", headers=ACCEPT))
            case TaskPushNotificationConfig():
                body = encode(write.create_request(request))
                return Call(url=base + configs_path(request.task_id), body=body, headers=POST)
            case GetTaskPushNotificationConfigRequest():
                return Call(url=base + configs_path(request.task_id, request.id), method="GET", headers=ACCEPT)
            case ListTaskPushNotificationConfigsRequest():
                return Call(url=base + configs_path(request.task_id), method="GET", headers=ACCEPT)
            case DeleteTaskPushNotificationConfigRequest():
                return Call(url=base + configs_path(request.task_id, request.id), method="DELETE", headers=ACCEPT)
            case GetExtendedAgentCardRequest():
                return Call(url=f"{base}/card", method="GET", headers=ACCEPT)
            case _:
                assert_never(request)

    def result(self, request: Request, answer: Answer) -> bytes:
        """See :class:`~a2a_events.client.link.Binding`."""
        if not answer.ok:
            raise _plain_error(answer) or refused(answer)
        if isinstance(request, DeleteTaskPushNotificationConfigRequest):
            return b"{}"
        return _translated(request, answer.body)

    def update(self, event: Event) -> bytes:
        """See :class:`~a2a_events.client.link.Frames`."""
        return encode(read.update(_parsed(self._frames.update(event))))


def _method(request: Request, *, streaming: bool) -> tuple[str, Any]:
    match request:
        case SendMessageRequest():
            return "message/stream" if streaming else "message/send", write.send_params(request)
        case GetTaskRequest():
            length = {} if request.history_length is None else {"historyLength": request.history_length}
            return "tasks/get", {"id": request.id, **length}
        case ListTasksRequest():
            raise UnsupportedOperationError(_NO_LIST)
        case CancelTaskRequest():
            metadata = {"metadata": request.metadata} if request.metadata else {}
            return "tasks/cancel", {"id": request.id, **metadata}
        case SubscribeToTaskRequest():
            return "tasks/resubscribe", {"id": request.id}
        case TaskPushNotificationConfig():
            return "tasks/pushNotificationConfig/set", write.create_params(request)
        case GetTaskPushNotificationConfigRequest():
            params = {"id": request.task_id, "pushNotificationConfigId": request.id}
            return "tasks/pushNotificationConfig/get", params
        case ListTaskPushNotificationConfigsRequest():
            return "tasks/pushNotificationConfig/list", {"id": request.task_id}
        case DeleteTaskPushNotificationConfigRequest():
            params = {"id": request.task_id, "pushNotificationConfigId": request.id}
            return "tasks/pushNotificationConfig/delete", params
        case GetExtendedAgentCardRequest():
            return "agent/getAuthenticatedExtendedCard", UNSET
        case _:
            assert_never(request)


def _translated(request: Request, raw: bytes) -> bytes:
    reader = _READERS.get(type(request))
    return raw if reader is None else encode(reader(_parsed(raw)))


def _parsed(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError) as error:
        raise BadAnswer("The server's answer is not JSON") from error


class _PlainError(Struct):
    type: str = ""
    message: str = ""


def _plain_error(answer: Answer) -> A2AError | None:
    """The error of a 0.3 REST server that names its class and nothing else."""
    try:
        told = msgspec.json.decode(answer.body, type=_PlainError)
    except (ValueError, RecursionError):
        return None
    kind = _BY_NAME.get(told.type)
    if kind is None or issubclass(kind, UnavailableError):
        return None  # the status says the same, and Retry-After beside it says when to come back
    return kind(told.message or None)
