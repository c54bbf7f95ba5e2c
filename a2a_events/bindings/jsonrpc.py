"""The JSON-RPC binding (specification 9): one endpoint, one method a request."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from a2a_events.bindings import sse
from a2a_events.bindings.errors import jsonrpc_body, retry_after, shown
from a2a_events.bindings.exchange import ClientGone, Exchange, Streams
from a2a_events.bindings.methods import STREAMING, UNARY, WITHOUT_PARAMS
from a2a_events.bindings.negotiation import check_extensions, check_version
from a2a_events.bindings.requests import Request
from a2a_events.errors import (
    InvalidParamsError,
    InvalidRequestError,
    MethodNotFoundError,
    ParseError,
    PayloadTooLargeError,
    UnavailableError,
    UnsupportedEncodingError,
)
from a2a_events.model import decode
from a2a_events.model.decode import check_depth, parse
from a2a_events.runtime.operations import Operations, Updates

_NULL: Final = b"null"
_HTTP_ERRORS: Final = (UnavailableError, PayloadTooLargeError, UnsupportedEncodingError)
"""What HTTP itself has a word for; every other error rides on a 200."""
_ID_STARTS: Final = frozenset(b'"-0123456789n')


class _Envelope(Struct, frozen=True):
    method: str = ""
    params: Raw = Raw(b"")
    id: Raw = Raw(b"")
    jsonrpc: str = ""


_envelope = msgspec.json.Decoder(_Envelope)


class JsonRpc:
    """The endpoint of all agents."""

    def __init__(self, operations: Operations, streams: Streams) -> None:
        self._operations = operations
        self._streams = streams

    async def __call__(self, exchange: Exchange, request: Request) -> None:
        """Serve one request; every failure is an answer."""
        request_id = _NULL
        try:
            envelope = _read(await exchange.body())
            request.operation = envelope.method[:64]
            request_id = _id(envelope)
            check_version(exchange)
            updates = await self._dispatch(exchange, request, envelope, request_id)
            if updates is not None:
                del envelope  # a stream may be open for days
                request.outcome = await self._streams.run(exchange, updates, sse.jsonrpc(request_id))
        except ClientGone:
            request.outcome = "client gone"
        except Exception as error:  # noqa: BLE001 -- the edge: whatever it is, the client gets the protocol's error
            seen = shown(error)
            request.failed(seen)
            if exchange.begun:
                await exchange.end(sse.jsonrpc_error(seen, request_id))
            else:
                status = seen.http_status if isinstance(seen, _HTTP_ERRORS) else 200
                known_id = b"null" if isinstance(seen, InvalidRequestError | ParseError) else request_id
                await exchange.answer(status, jsonrpc_body(seen, known_id), headers=retry_after(seen))

    async def _dispatch(
        self, exchange: Exchange, request: Request, envelope: _Envelope, request_id: bytes
    ) -> Updates | None:
        """Answer, or give the stream that is the answer."""
        method = envelope.method
        if method in UNARY:
            of, unary = UNARY[method]
            asked = _params(envelope, of)
            agent = await request.agent(asked)
            caller = request.caller(asked, agent, check_extensions(exchange, agent.card))
            result = await unary(self._operations, caller, agent, asked)
            request.shows(result)
            await exchange.answer(200, b'{"jsonrpc":"2.0","id":' + request_id + b',"result":' + result.json + b"}")
        elif method in STREAMING:
            of, streaming = STREAMING[method]
            asked = _params(envelope, of)
            agent = await request.agent(asked)
            caller = request.caller(asked, agent, check_extensions(exchange, agent.card))
            self._streams.check()
            updates = await streaming(self._operations, caller, agent, asked, exchange.cursor)
            request.streams(updates)
            return updates
        else:
            raise MethodNotFoundError(f"There is no method {method[:64]!r}")
        return None


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


def _params(envelope: _Envelope, of: type[Any]) -> Any:
    params = bytes(envelope.params).strip()
    if envelope.method in WITHOUT_PARAMS and params in {b"", b"null"}:
        params = b"{}"
    if not params.startswith(b"{"):
        raise InvalidParamsError("params must be an object", violations=(("params", "must be an object"),))
    try:
        return decode(params, of)
    except ParseError:
        raise InvalidParamsError("params are not valid JSON") from None
