"""Errors as 0.3 has them: -32001 to -32007 and those of JSON-RPC itself."""

from __future__ import annotations

from typing import Final

from a2a_events.bindings.errors import details
from a2a_events.errors import A2AError, InvalidRequestError, TaskNotCancelableError
from a2a_events.model import encode

_CONFLICT: Final = 409
_LATER: Final = range(-32099, -32007)
"""Codes of A2A that 0.3 does not have."""


def error(raised: A2AError) -> A2AError:
    """An error that 0.3 knows, for any: later ones, as of a missing extension, are those of an invalid request."""
    if raised.jsonrpc_code in _LATER:
        return InvalidRequestError(raised.message, metadata=raised.metadata)
    return raised


def http_status(raised: A2AError) -> int:
    """The status of an error: that of 1.0, but for a task that has ended, which is a conflict in 0.3."""
    return _CONFLICT if isinstance(raised, TaskNotCancelableError) else raised.http_status


def http_body(raised: A2AError) -> bytes:
    """The error object of JSON-RPC, bare, with the error's name in ``type``: published clients look at either."""
    name = next(of.__name__ for of in type(raised).__mro__ if "jsonrpc_code" in vars(of))
    return encode(
        {"code": raised.jsonrpc_code, "type": name, "message": raised.message, "data": details(raised)},
    )
