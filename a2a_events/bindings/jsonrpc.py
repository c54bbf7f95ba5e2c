"""The JSON-RPC binding (specification 9): one endpoint, one method a request, and the dialects that it is spoken in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from a2a_events.bindings import sse
from a2a_events.bindings.aside import aside
from a2a_events.bindings.dialect import V1_0, Dialect
from a2a_events.bindings.errors import headers_of, jsonrpc_body, shown
from a2a_events.bindings.exchange import STALLED, ClientGone, Exchange, Streams
from a2a_events.bindings.fasta2a import FASTA2A
from a2a_events.bindings.methods import STREAMING, UNARY, WITHOUT_PARAMS
from a2a_events.bindings.negotiation import asked_version, check_extensions, not_served
from a2a_events.bindings.requests import Request
from a2a_events.bindings.v0_3.dialects import JSONRPC as V0_3
from a2a_events.errors import (
    InvalidParamsError,
    InvalidRequestError,
    MethodNotFoundError,
    ParseError,
    PayloadTooLargeError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedEncodingError,
)
from a2a_events.model.decode import check_depth, parse
from a2a_events.runtime.operations import Operations, Updates

_NULL: Final = b"null"
_HTTP_ERRORS: Final = (
    UnauthenticatedError,
    PermissionDeniedError,
    UnavailableError,
    PayloadTooLargeError,
    UnsupportedEncodingError,
)
"""What HTTP itself has a word for; every other error rides on a 200."""
_ID_STARTS: Final = frozenset(b'"-0123456789n')
_DIALECTS: Final = {dialect.version: dialect for dialect in (V1_0, V0_3)}


class _Envelope(Struct, frozen=True):
    method: str = ""
    params: Raw = Raw(b"")
    id: Raw = Raw(b"")
    jsonrpc: str = ""


class _Known(Struct):
    """What is known of a request when it is refused."""

    request_id: bytes = _NULL
    dialect: Dialect = V1_0
    operation: str = ""


_envelope = msgspec.json.Decoder(_Envelope)


class JsonRpc:
    """The endpoint of all agents."""

    def __init__(self, operations: Operations, streams: Streams) -> None:
        self._operations = operations
        self._streams = streams

    def spoken(self, exchange: Exchange, method: str) -> tuple[Dialect, str]:
        """The dialect and the operation of a method: the version that is asked for decides.

        Raises:
            VersionNotSupportedError: the version is not served, or this is a method of 1.0 and no version was given.
            MethodNotFoundError: the version has no such method.
        """
        version = asked_version(exchange)
        dialect = _DIALECTS.get(version)
        if dialect is None:
            served = [name for name, known in _DIALECTS.items() if method in known.methods]
            raise not_served(*(served or _DIALECTS))
        operation = dialect.methods.get(method)
        if operation is None:
            if dialect is V0_3 and method in V1_0.methods:
                raise not_served(V1_0.version)
            raise _no_method(method)
        return dialect, operation

    async def __call__(self, exchange: Exchange, request: Request) -> None:
        """Serve one request; every failure is an answer."""
        known = _Known()
        try:
            await request.enter(exchange.presented)
            exchange.still, exchange.payer = request.holds, request.payer
            updates = await self._serve(exchange, request, known)
            if updates is not None:
                exchange.release()
                frame = known.dialect.framed(sse.jsonrpc(known.request_id))
                request.outcome = await self._streams.run(exchange, updates, frame, known.operation)
        except ClientGone:
            request.outcome = "client gone"
        except Exception as error:  # noqa: BLE001 -- the edge: whatever it is, the client gets the protocol's error
            dialect, operation, request_id = known.dialect, known.operation, known.request_id
            seen = dialect.error(shown(error))
            request.failed(seen, error)
            in_stream = dialect.refuses_in_streams and operation in STREAMING and not isinstance(seen, _HTTP_ERRORS)
            if in_stream and not exchange.begun:
                await exchange.begin_stream()
            if exchange.begun:
                await exchange.end(sse.jsonrpc_error(seen, request_id))
            else:
                status = seen.http_status if isinstance(seen, _HTTP_ERRORS) else 200
                known_id = b"null" if isinstance(seen, InvalidRequestError | ParseError) else request_id
                await exchange.answer(status, jsonrpc_body(seen, known_id), headers=headers_of(seen))

    async def _serve(self, exchange: Exchange, request: Request, known: _Known) -> Updates | None:
        """Answer, or give the stream that is the answer."""
        content = await exchange.body()
        size = len(content)
        request.weighs(size, content)
        envelope = await aside(size, _read, content)
        del content
        request.operation = envelope.method[:64]
        known.request_id = _id(envelope)
        dialect, operation = known.dialect, known.operation = self.spoken(exchange, envelope.method)
        request.dialect = dialect.name
        request.permit(operation)
        asked = await aside(size, _asked, envelope, dialect, operation, exchange.check_names)
        del envelope
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
            content = dialect.shown(operation, result.json)
            answer = b'{"jsonrpc":"2.0","id":' + known.request_id + b',"result":' + content + b"}"
            if not await exchange.answer(200, answer):
                request.outcome = STALLED
            return None
        self._streams.check()
        request.open()
        updates = await STREAMING[operation][1](self._operations, caller, agent, asked, exchange.cursor)
        request.streams(updates)
        exchange.says_staleness(updates.staleness_seconds)
        return updates


class Fasta2a(JsonRpc):
    """The endpoint of fasta2a's clients: no version is asked for, the method's name decides."""

    def spoken(self, exchange: Exchange, method: str) -> tuple[Dialect, str]:  # noqa: ARG002 -- as it is above
        """The dialect and the operation of a method.

        Raises:
            MethodNotFoundError: there is none.
        """
        for dialect in (FASTA2A, V1_0):
            if method in dialect.methods:
                return dialect, dialect.methods[method]
        raise _no_method(method)


def _no_method(method: str) -> MethodNotFoundError:
    return MethodNotFoundError(f"There is no method {method[:64]!r}")


def _read(content: bytes) -> _Envelope:
    check_depth(content)
    try:
        envelope = _envelope.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        parse(content)  # tells text that is not JSON from JSON that is not a request
        raise InvalidRequestError from None
    if envelope.jsonrpc != "2.0" or not envelope.method:
        raise InvalidRequestError("A JSON-RPC 2.0 request has jsonrpc, id and method")
    return envelope


def _id(envelope: _Envelope) -> bytes:
    request_id = bytes(envelope.id)
    if not request_id:
        raise InvalidRequestError("Notifications are not supported: the request needs an id")
    if request_id[0] not in _ID_STARTS:
        raise InvalidRequestError("The id must be a string, a number or null")
    parse(request_id)  # a string in it may still not be one
    return request_id


def _asked(envelope: _Envelope, dialect: Dialect, operation: str, check: Callable[[bytes], None]) -> Any:
    params = bytes(envelope.params).strip()
    check(params)
    if operation in WITHOUT_PARAMS and params in {b"", b"null"}:
        params = b"{}"
    if not params.startswith(b"{"):
        raise InvalidParamsError("params must be an object", violations=(("params", "must be an object"),))
    try:
        return dialect.read(operation, params)
    except ParseError:
        raise InvalidParamsError("params are not valid JSON") from None
