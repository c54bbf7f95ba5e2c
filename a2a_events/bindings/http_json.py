"""The HTTP+JSON binding (specification 11): verbs and paths over the same operations."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import msgspec

from a2a_events.bindings import sse
from a2a_events.bindings.errors import http_body, retry_after, shown
from a2a_events.bindings.exchange import A2A_JSON, JSON, ClientGone, Exchange, Streams
from a2a_events.bindings.methods import STREAMING, UNARY
from a2a_events.bindings.negotiation import check_version
from a2a_events.bindings.requests import Request
from a2a_events.errors import InvalidParamsError, MethodNotFoundError, UnsupportedOperationError
from a2a_events.model import decode, encode
from a2a_events.runtime.operations import Operations

_MESSAGE: Final = {"message:send": "SendMessage", "message:stream": "SendStreamingMessage"}
_TASK: Final = re.compile(r"tasks/(?P<id>.+?)(?::(?P<verb>cancel|subscribe))?", re.DOTALL)
_NOT_OFFERED: Final = re.compile(r"tasks|tasks/[^/]+/pushNotificationConfigs(/[^/]+)?|extendedAgentCard", re.DOTALL)
"""Paths of A2A 1.0 whose operations answer UnsupportedOperation here."""
_VERBS: Final = {
    "SendMessage": ("POST",),
    "SendStreamingMessage": ("POST",),
    "GetTask": ("GET",),
    "CancelTask": ("POST",),
    "SubscribeToTask": ("GET", "POST"),
}


class MethodNotAllowed(MethodNotFoundError):
    """The path exists, with another verb."""

    http_status = 405

    def __init__(self, allowed: str) -> None:
        super().__init__(f"Use {allowed} on this path")
        self.allowed = allowed


class HttpJson:
    """Every path of all agents."""

    def __init__(self, operations: Operations, streams: Streams) -> None:
        self._operations = operations
        self._streams = streams

    async def __call__(self, exchange: Exchange, request: Request, path: str) -> None:
        """Serve one request; every failure is an answer.

        Args:
            exchange: the request.
            request: what is logged of it.
            path: raw, below the agent's path, without the slashes at its ends.
        """
        try:
            await self._dispatch(exchange, request, path)
        except ClientGone:
            request.outcome = "client gone"
        except Exception as error:  # noqa: BLE001 -- the edge: whatever it is, the client gets the protocol's error
            seen = shown(error)
            request.failed(seen)
            if exchange.begun:
                await exchange.end(sse.plain_error(seen))
                return
            headers = retry_after(seen)
            if isinstance(seen, MethodNotAllowed):
                headers.append((b"allow", seen.allowed.encode()))
            await exchange.answer(seen.http_status, http_body(seen), headers=headers)

    async def _dispatch(self, exchange: Exchange, request: Request, path: str) -> None:
        operation, task_id, tenant = _route_with_tenant(path)
        request.operation = operation
        if exchange.method not in _VERBS[operation]:
            raise MethodNotAllowed(", ".join(_VERBS[operation]))
        check_version(exchange)
        if operation in UNARY:
            of, unary = UNARY[operation]
            asked = _with_tenant(await _asked(exchange, operation, of, task_id), tenant)
            caller, agent = request.caller(asked), await request.agent()
            result = await unary(self._operations, caller, agent, asked)
            request.shows(result)
            # Mirrored, because the specification's media type is a SHOULD and some clients insist on plain JSON.
            mirrored = JSON if exchange.header(b"content-type").startswith("application/json") else A2A_JSON
            await exchange.answer(200, result.json, mirrored)
        else:
            of, streaming = STREAMING[operation]
            asked = _with_tenant(await _asked(exchange, operation, of, task_id), tenant)
            caller, agent = request.caller(asked), await request.agent()
            self._streams.check()
            updates = await streaming(self._operations, caller, agent, asked, exchange.cursor)
            request.streams(updates)
            request.outcome = await self._streams.run(exchange, updates, sse.plain)


def _route_with_tenant(path: str) -> tuple[str, str, str]:
    """Operation, task id and tenant of a raw path; paths without a tenant are looked at first (specification 11)."""
    try:
        return (*_route(unquote(path)), "")
    except MethodNotFoundError:
        tenant, slash, rest = path.partition("/")
        if not slash:
            raise
        return (*_route(unquote(rest)), unquote(tenant))


def _with_tenant(asked: Any, tenant: str) -> Any:
    return msgspec.structs.replace(asked, tenant=tenant) if tenant else asked


def _route(path: str) -> tuple[str, str]:
    """Operation and task id that a path names."""
    if path in _MESSAGE:
        return _MESSAGE[path], ""
    if _NOT_OFFERED.fullmatch(path):
        raise UnsupportedOperationError
    match = _TASK.fullmatch(path)
    if match is None:
        raise MethodNotFoundError("There is nothing at this path")
    return {None: "GetTask", "cancel": "CancelTask", "subscribe": "SubscribeToTask"}[match["verb"]], match["id"]


async def _asked(exchange: Exchange, operation: str, of: type[Any], task_id: str) -> Any:
    """The request object: its members are in the body or the query, and what is in the path wins (specification 11)."""
    if operation in _MESSAGE.values():
        return decode(await exchange.body(), of)
    if operation == "GetTask":
        return decode(encode({**_query(exchange, of), "id": task_id}), of)
    content = (await exchange.body()).strip()  # an empty body is an empty object
    if content and not content.startswith(b"{"):
        raise InvalidParamsError("The body must be an object")
    members: dict[str, Any] = decode(content, dict[str, Any]) if content else {}
    return decode(encode({**members, "id": task_id}), of)


def _query(exchange: Exchange, of: type[Any]) -> dict[str, str]:
    known = {field.encode_name for field in msgspec.structs.fields(of)}
    pairs = parse_qsl(exchange.query)
    return {name: value for name, value in pairs if _camel(name) in known}


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.title() for word in rest)
