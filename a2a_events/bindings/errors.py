"""How errors look: one table (``a2a_events.errors``), two shapes (specification 9.5, 11.6)."""

from __future__ import annotations

from typing import Any, Final

import structlog

from a2a_events import limits
from a2a_events.bindings.identity.port import NotAuthenticated
from a2a_events.errors import (
    A2AError,
    InternalError,
    LogError,
    PayloadTooLargeError,
    RecordTooLarge,
    Unavailable,
    UnavailableError,
    Uncertain,
    Unreachable,
)
from a2a_events.model import encode

_DOMAIN: Final = "a2a-protocol.org"
_GRPC_OF_HTTP_ONLY: Final = {413: "OUT_OF_RANGE"}

logger = structlog.get_logger(__name__)


def shown(error: Exception) -> A2AError:
    """What a client may see of an exception; what it may not is logged."""
    match error:
        case A2AError():
            return error
        case RecordTooLarge():
            return PayloadTooLargeError("The message is larger than this server can store")
        case Unreachable():
            return UnavailableError(
                "The task's region cannot be reached from here; nothing was done, please retry later",
                retry_after_seconds=limits.REGION_RETRY_SECONDS,
                metadata=UnavailableError.UNTOUCHED,
            )
        case Unavailable():
            return UnavailableError()
        case Uncertain():
            return UnavailableError(
                "The log did not answer in time; the request may have taken effect: look before retrying"
            )
        case LogError():
            logger.error("log failed", error=str(error))
            return InternalError()
        case _:
            logger.error("request failed", exc_info=error)
            return InternalError()


def details(error: A2AError) -> list[dict[str, Any]]:
    """The typed details that every binding carries."""
    info: dict[str, Any] = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": error.reason,
        "domain": _DOMAIN,
    }
    if error.metadata:
        info["metadata"] = error.metadata
    typed = [info]
    if error.violations:
        typed.append(
            {
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{"field": field, "description": text} for field, text in error.violations],
            }
        )
    return typed


def jsonrpc_body(error: A2AError, request_id: bytes) -> bytes:
    """A JSON-RPC error response."""
    body = encode({"code": error.jsonrpc_code, "message": error.message, "data": details(error)})
    return b'{"jsonrpc":"2.0","id":' + request_id + b',"error":' + body + b"}"


def http_body(error: A2AError) -> bytes:
    """A google.rpc.Status as JSON."""
    status = {
        "code": error.http_status,
        "status": _GRPC_OF_HTTP_ONLY.get(error.http_status, error.grpc_status),
        "message": error.message,
        "details": details(error),
    }
    return encode({"error": status})


def headers_of(error: A2AError) -> list[tuple[bytes, bytes]]:
    """The headers that an error brings."""
    match error:
        case UnavailableError():
            return [(b"retry-after", str(error.retry_after_seconds).encode())]
        case NotAuthenticated():
            return [(b"www-authenticate", challenge.encode()) for challenge in error.challenges]
        case _:
            return []
