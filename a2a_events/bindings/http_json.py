"""The HTTP+JSON binding (specification 11): verbs and paths over the same operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from a2a_events.bindings import sse
from a2a_events.bindings.aside import aside
from a2a_events.bindings.dialect import V1_0, Dialect
from a2a_events.bindings.errors import headers_of, http_body, shown
from a2a_events.bindings.exchange import A2A_JSON, JSON, STALLED, ClientGone, Exchange, Streams
from a2a_events.bindings.methods import STREAMING, UNARY
from a2a_events.bindings.negotiation import asked_version, check_extensions, not_served
from a2a_events.bindings.requests import Request
from a2a_events.bindings.v0_3 import errors as v0_3_errors
from a2a_events.bindings.v0_3.dialects import HTTP_JSON as V0_3
from a2a_events.errors import InvalidParamsError, MethodNotFoundError
from a2a_events.model.decode import parse
from a2a_events.runtime.operations import Operations, Updates

_V0_3_PREFIX: Final = "v1/"
"""Before every path of 0.3. In 1.0 the same segment is a tenant's name."""


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
        of_0_3 = path.startswith(_V0_3_PREFIX) and asked_version(exchange) == V0_3.version
        dialect = V0_3 if of_0_3 else V1_0
        request.dialect = dialect.name
        try:
            await request.enter(exchange.presented)
            exchange.still, exchange.payer = request.holds, request.payer
            updates = await self._serve(exchange, request, dialect, path)
            if updates is not None:
                exchange.release()
                frame = dialect.framed(sse.plain)
                request.outcome = await self._streams.run(exchange, updates, frame, request.operation)
        except ClientGone:
            request.outcome = "client gone"
        except Exception as error:  # noqa: BLE001 -- the edge: whatever it is, the client gets the protocol's error
            seen = dialect.error(shown(error))
            request.failed(seen, error)
            status, body = seen.http_status, http_body(seen)
            if of_0_3:
                status, body = v0_3_errors.http_status(seen), v0_3_errors.http_body(seen)
            if exchange.begun:
                await exchange.end(sse.plain_error(body))
                return
            headers = headers_of(seen)
            if isinstance(seen, MethodNotAllowed):
                headers.append((b"allow", seen.allowed.encode()))
            await exchange.answer(status, body, headers=headers)

    async def _serve(self, exchange: Exchange, request: Request, dialect: Dialect, path: str) -> Updates | None:
        """Answer, or give the stream that is the answer."""
        if dialect is V0_3:
            operation, bound = _allowed(exchange.method, *_v0_3_place(path))
        else:
            operation, bound = _route(exchange.method, path)
        request.operation = operation
        request.permit(operation)
        if dialect is V1_0 and asked_version(exchange) != V1_0.version:
            raise not_served(V1_0.version)
        asked = await _asked(exchange, request, dialect, operation, bound)
        agent = await request.agent(asked)
        extensions = check_extensions(exchange, agent.card, dialect.extension_headers)
        caller = request.caller(
            asked, agent, extensions, dialect, exchange.idempotency_key, waits=exchange.waits(self._streams)
        )
        if operation in UNARY:
            request.waits(asked, self._streams)
            answering = dialect.call(operation)(self._operations, caller, agent, asked)
            del asked  # an answer may take its time
            result = await answering
            exchange.release()
            request.shows(result)
            exchange.says_staleness(result.staleness_seconds)
            # Mirrored, because the specification's media type is a SHOULD and some clients insist on plain JSON.
            plain = dialect is V0_3 or exchange.header(b"content-type").startswith("application/json")
            if not await exchange.answer(200, dialect.shown(operation, result.json), JSON if plain else A2A_JSON):
                request.outcome = STALLED
            return None
        self._streams.check()
        request.open()
        updates = await STREAMING[operation][1](self._operations, caller, agent, asked, exchange.cursor)
        request.streams(updates)
        exchange.says_staleness(updates.staleness_seconds)
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
    return _allowed(method, verbs, bound)


def _v0_3_place(path: str) -> tuple[dict[str, str] | None, dict[str, str]]:
    """As :func:`_place`, of a path of 0.3: there are no tenants, and the card is called so."""
    segments = [unquote(segment) for segment in path.removeprefix(_V0_3_PREFIX).split("/")]
    return _place(["extendedAgentCard"] if segments == ["card"] else segments)


def _allowed(method: str, verbs: dict[str, str] | None, bound: dict[str, str]) -> tuple[str, dict[str, str]]:
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


async def _asked(exchange: Exchange, request: Request, dialect: Dialect, operation: str, bound: dict[str, str]) -> Any:
    """The request object: its members are in the body or the query, and what the path binds wins (specification 11)."""
    if exchange.method != "POST":
        return dialect.made(operation, dict(parse_qsl(exchange.query)), bound, strict=False)
    content = await exchange.body()
    request.weighs(len(content), content)
    return await aside(len(content), _read, content.strip(), dialect, operation, bound, exchange.check_names)


def _read(
    content: bytes, dialect: Dialect, operation: str, bound: dict[str, str], check: Callable[[bytes], None]
) -> Any:
    check(content)
    if not bound:
        return dialect.read(operation, content)
    if content and not content.startswith(b"{"):
        raise InvalidParamsError("The body must be an object")
    return dialect.made(operation, parse(content) if content else {}, bound)  # an empty body is an empty object
