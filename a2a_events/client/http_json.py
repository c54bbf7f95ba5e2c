"""The HTTP+JSON binding, from the client's side (specification section 11)."""

from __future__ import annotations

import re
from typing import Any, Final, assert_never
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Raw, Struct

from a2a_events.client.answers import Answer, error_in, refused
from a2a_events.client.link import Call
from a2a_events.client.operations import Request
from a2a_events.client.sse import Event
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

ACCEPT: Final = {"Accept": "application/a2a+json, application/json;q=0.9"}
# 1.0.1 recommends application/a2a+json, 1.0.0 knew application/json only; every server has to accept the latter.
POST: Final = {**ACCEPT, "Content-Type": "application/json"}
_ERROR_FIRST: Final = re.compile(rb'\s*\{\s*"error"')


class _Frame(Struct):
    error: Raw = Raw()


class HttpJson:
    """A path for each operation under one URL; the tenant is the path's first segment."""

    version = "1.0"
    extensions_header = "A2A-Extensions"

    def call(self, at: AgentInterface, request: Request, *, streaming: bool) -> Call:
        """A method, a path, and a body or a query. See :class:`~a2a_events.client.link.Binding`."""
        match request:
            case SendMessageRequest():
                return _post(at, "/message:stream" if streaming else "/message:send", encode(request))
            case GetTaskRequest():
                return _get(at, task_path(request.id), _query(historyLength=request.history_length))
            case ListTasksRequest():
                return _get(at, "/tasks", _filters(request))
            case CancelTaskRequest():
                body = encode({"metadata": request.metadata} if request.metadata else {})
                return _post(at, f"{task_path(request.id)}:cancel", body)
            case SubscribeToTaskRequest():
                # POST as the specification's text says, GET as its a2a.proto does if POST is refused.
                path = f"{task_path(request.id)}:subscribe"
                return msgspec.structs.replace(_post(at, path, b"{}"), otherwise=_get(at, path))
            case TaskPushNotificationConfig():
                return _post(at, configs_path(request.task_id), encode(request))
            case GetTaskPushNotificationConfigRequest():
                return _get(at, configs_path(request.task_id, request.id))
            case ListTaskPushNotificationConfigsRequest():
                query = _query(pageSize=request.page_size, pageToken=request.page_token or None)
                return _get(at, configs_path(request.task_id), query)
            case DeleteTaskPushNotificationConfigRequest():
                return Call(url=_url(at, configs_path(request.task_id, request.id)), method="DELETE", headers=ACCEPT)
            case GetExtendedAgentCardRequest():
                return _get(at, "/extendedAgentCard")
            case _:
                assert_never(request)

    def result(self, request: Request, answer: Answer) -> bytes:
        """The body. See :class:`~a2a_events.client.link.Binding`."""
        if not answer.ok:
            raise refused(answer)
        if isinstance(request, DeleteTaskPushNotificationConfigRequest):
            return b"{}"
        return answer.body

    def update(self, event: Event) -> bytes:
        """The frame's data. See :class:`~a2a_events.client.link.Frames`."""
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


def task_path(task_id: str) -> str:
    """Of one task."""
    return f"/tasks/{quote(task_id, safe='')}"


def configs_path(task_id: str, config_id: str | None = None) -> str:
    """Of a task's push notification configs, or of one."""
    path = f"{task_path(task_id)}/pushNotificationConfigs"
    return path if config_id is None else f"{path}/{quote(config_id, safe='')}"


def _filters(request: ListTasksRequest) -> str:
    members: dict[str, Any] = msgspec.to_builtins(request)  # what is default is left out
    members.pop("tenant", None)
    return _query(**members)


def _query(**members: str | int | None) -> str:
    given = {name: value for name, value in members.items() if value is not None}
    texts = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in given.items()}
    return urlencode(texts, quote_via=quote)


def _get(at: AgentInterface, path: str, query: str = "") -> Call:
    return Call(url=_url(at, path, query), method="GET", headers=ACCEPT)


def _post(at: AgentInterface, path: str, body: bytes) -> Call:
    return Call(url=_url(at, path), body=body, headers=POST)


def _url(at: AgentInterface, path: str, query: str = "") -> str:
    base, _, fixed = at.url.partition("?")
    tenant = f"/{quote(at.tenant, safe='')}" if at.tenant else ""
    queries = "&".join(filter(None, (fixed, query)))
    return f"{base.rstrip('/')}{tenant}{path}" + (f"?{queries}" if queries else "")
