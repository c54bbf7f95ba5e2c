"""The HTTP+JSON binding (specification 11): verbs and paths over the same operations."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from a2a_events.bindings import sse
from a2a_events.bindings.errors import http_body, retry_after, shown
from a2a_events.bindings.exchange import A2A_JSON, JSON, ClientGone, Exchange, Streams
from a2a_events.bindings.methods import STREAMING, UNARY
from a2a_events.bindings.negotiation import check_extensions, check_version
from a2a_events.bindings.requests import Request
from a2a_events.errors import InvalidParamsError, MethodNotFoundError
from a2a_events.model import decode, decode_query, encode
from a2a_events.model.decode import camel
from a2a_events.runtime.operations import Operations, Updates


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
            updates = await self._dispatch(exchange, request, path)
            if updates is not None:
                request.outcome = await self._streams.run(exchange, updates, sse.plain)
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

    async def _dispatch(self, exchange: Exchange, request: Request, path: str) -> Updates | None:
        """Answer, or give the stream that is the answer."""
        operation, bound = _route(exchange.method, path)
        request.operation = operation
        check_version(exchange)
        of = (UNARY[operation] if operation in UNARY else STREAMING[operation])[0]
        asked = await _asked(exchange, of, bound)
        agent = await request.agent(asked)
        caller = request.caller(asked, agent, check_extensions(exchange, agent.card))
        if operation in UNARY:
            result = await UNARY[operation][1](self._operations, caller, agent, asked)
            request.shows(result)
            # Mirrored, because the specification's media type is a SHOULD and some clients insist on plain JSON.
            mirrored = JSON if exchange.header(b"content-type").startswith("application/json") else A2A_JSON
            await exchange.answer(200, result.json, mirrored)
            return None
        self._streams.check()
        updates = await STREAMING[operation][1](self._operations, caller, agent, asked, exchange.cursor)
        request.streams(updates)
        return updates


def _route(method: str, path: str) -> tuple[str, dict[str, str]]:
    """The operation of a verb and a raw path, and the members that the path binds.

    Paths without a tenant are looked at first (specification 11).

    Raises:
        MethodNotFoundError: there is nothing at this path.
        MethodNotAllowed: there is, with another verb.
    """
    segments = [unquote(segment) for segment in path.split("/")]
    verbs, bound = _place(segments)
    if verbs is None and len(segments) > 1:
        verbs, bound = _place(segments[1:])
        bound = {**bound, "tenant": segments[0]}
    if verbs is None:
        raise MethodNotFoundError("There is nothing at this path")
    if method not in verbs:
        raise MethodNotAllowed(", ".join(verbs))
    return verbs[method], bound


def _place(segments: list[str]) -> tuple[dict[str, str] | None, dict[str, str]]:
    """What may be done at a path, by verb, and the members that it binds; None if there is nothing."""
    match segments:
        case ["message:send"]:
            return {"POST": "SendMessage"}, {}
        case ["message:stream"]:
            return {"POST": "SendStreamingMessage"}, {}
        case ["extendedAgentCard"]:
            return {"GET": "GetExtendedAgentCard"}, {}
        case ["tasks"]:
            return {"GET": "ListTasks"}, {}
        case ["tasks", task]:
            task_id, _, verb = task.rpartition(":")  # ids may hold colons
            if task_id and verb in _TASK_VERBS:
                return _TASK_VERBS[verb], {"id": task_id}
            return {"GET": "GetTask"}, {"id": task}
        case ["tasks", task, "pushNotificationConfigs"]:
            return _CONFIGS, {"task_id": task}
        case ["tasks", task, "pushNotificationConfigs", config]:
            return _CONFIG, {"task_id": task, "id": config}
        case _:
            return None, {}


_TASK_VERBS: Final = {
    "cancel": {"POST": "CancelTask"},
    "subscribe": {"GET": "SubscribeToTask", "POST": "SubscribeToTask"},
}
_CONFIGS: Final = {"POST": "CreateTaskPushNotificationConfig", "GET": "ListTaskPushNotificationConfigs"}
_CONFIG: Final = {"GET": "GetTaskPushNotificationConfig", "DELETE": "DeleteTaskPushNotificationConfig"}


async def _asked(exchange: Exchange, of: type[Any], bound: dict[str, str]) -> Any:
    """The request object: its members are in the body or the query, and what the path binds wins (specification 11)."""
    if exchange.method != "POST":
        return decode_query({**dict(parse_qsl(exchange.query)), **bound}, of)
    content = (await exchange.body()).strip()
    if not bound:
        return decode(content, of)
    if content and not content.startswith(b"{"):
        raise InvalidParamsError("The body must be an object")
    members: dict[str, Any] = decode(content, dict[str, Any]) if content else {}  # an empty body is an empty object
    free = {name: value for name, value in members.items() if camel(name) not in {camel(known) for known in bound}}
    return decode(encode({**free, **{camel(name): value for name, value in bound.items()}}), of)
