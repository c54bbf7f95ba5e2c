"""Calls of the gRPC binding by the official stub, and what came back of them as JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from a2a.types import a2a_pb2_grpc
from a2a.types.a2a_pb2 import DESCRIPTOR
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc import aio
from msgspec import Struct

STATUS = "grpc-status-details-bin"
VERSION = {"a2a-version": "1.0"}

DETAILS: tuple[Any, ...] = (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo)
"""What a status may hold. Their module must be imported for it to be read."""
_METHODS = DESCRIPTOR.services_by_name["A2AService"].methods_by_name


class Refusal(Struct, frozen=True):
    """An error: the code and text that every gRPC client sees, and the details of those that look for them."""

    code: str
    message: str
    details: list[dict[str, Any]]


class GrpcCaller:
    """One channel to a gateway.

    Args:
        channel: to use; stays its opener's.
        tenant: of every request; empty: none.
    """

    def __init__(self, channel: aio.Channel, tenant: str = "") -> None:
        self.stub: Any = a2a_pb2_grpc.A2AServiceStub(channel)  # type: ignore[no-untyped-call]
        self._tenant = {"tenant": tenant} if tenant else {}

    def start(self, operation: str, params: dict[str, Any], **metadata: str) -> Any:
        """A call under way; the official stub has no types."""
        message = ParseDict({**self._tenant, **params}, GetMessageClass(_METHODS[operation].input_type)())
        sent = {**VERSION, **{name.replace("_", "-"): value for name, value in metadata.items()}}
        return getattr(self.stub, operation)(message, metadata=tuple(sent.items()), timeout=20)

    async def call(self, operation: str, params: dict[str, Any], **metadata: str) -> dict[str, Any]:
        """The answer of an operation that must succeed."""
        return as_json(await self.start(operation, params, **metadata))

    async def stream(self, operation: str, params: dict[str, Any], **metadata: str) -> list[dict[str, Any]]:
        """All updates of a stream."""
        return [as_json(update) async for update in self.start(operation, params, **metadata)]

    async def refused(self, operation: str, params: dict[str, Any], **metadata: str) -> Refusal:
        """The error of an operation that must fail, streaming or not."""
        return await refusal(self.start(operation, params, **metadata))


async def refusal(call: Any) -> Refusal:
    """The error that a call ends with, whatever a stream shows before."""
    with pytest.raises(aio.AioRpcError) as raised:
        await (_to_its_end(call) if hasattr(call, "read") else call)
    error = raised.value
    (content,) = [value for name, value in error.trailing_metadata() if name == STATUS]
    assert isinstance(content, bytes)
    status = status_pb2.Status.FromString(content)
    assert (error.code().value[0], error.details()) == (status.code, status.message)
    assert all(any(detail.Is(known.DESCRIPTOR) for known in DETAILS) for detail in status.details)
    return Refusal(error.code().name, status.message, [as_json(detail) for detail in status.details])


async def _to_its_end(call: Any) -> None:
    while await call.read() is not aio.EOF:
        pass


def as_json(message: Any) -> dict[str, Any]:
    """A message as ProtoJSON shows it."""
    shown: dict[str, Any] = MessageToDict(message)
    return shown


@asynccontextmanager
async def channel(target: str, **options: Any) -> AsyncIterator[aio.Channel]:
    """A connection of its own; channels to one target share one otherwise."""
    own = [
        ("grpc.use_local_subchannel_pool", 1),
        *((name.replace("__", "."), value) for name, value in options.items()),
    ]
    async with aio.insecure_channel(target, options=own) as made:
        yield made
