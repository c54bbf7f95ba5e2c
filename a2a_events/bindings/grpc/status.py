"""How errors look in gRPC (specification 10.6): a status code, and ``google.rpc.Status`` with the typed details."""

from __future__ import annotations

from typing import Final, Never, TypeAlias

from google.protobuf import json_format
from google.rpc import (  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs] -- no types
    error_details_pb2,
    status_pb2,
)
from grpc import StatusCode, aio

from a2a_events import limits
from a2a_events.bindings.errors import details, headers_of
from a2a_events.errors import A2AError, UnavailableError

Context: TypeAlias = aio.ServicerContext[bytes, bytes]

DETAILS: Final = "grpc-status-details-bin"


def status_of(error: A2AError) -> status_pb2.Status:
    """The status of an error, with the details that every binding carries; no larger than clients take it."""
    status = status_pb2.Status(
        code=StatusCode[error.grpc_status].value[0],
        message=error.message.encode()[: limits.STATUS_MESSAGE_BYTES].decode(errors="ignore"),
    )
    for detail in details(error):
        json_format.ParseDict(detail, status.details.add())
        if status.ByteSize() > limits.STATUS_BYTES:
            del status.details[-1]
    if isinstance(error, UnavailableError):
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay={"seconds": error.retry_after_seconds}))
    return status


async def refuse(context: Context, error: A2AError) -> Never:
    """End a call with an error.

    Raises:
        Exception: always, as grpcio wants it.
    """
    status = status_of(error)
    metadata = [(DETAILS, status.SerializeToString()), *((n.decode(), v.decode()) for n, v in headers_of(error))]
    await context.abort(StatusCode[error.grpc_status], status.message, tuple(metadata))
