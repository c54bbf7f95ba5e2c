"""Calls that need no credential, and are open for as long as their client likes: watched health, and reflection."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Collection
from typing import Any, cast

from grpc import StatusCode
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from a2a_events import limits
from a2a_events.bindings.grpc.status import Context


class PublicCalls:
    """How many of them are open: few, so that nobody takes the places of those who have a credential.

    Args:
        most: at once.
    """

    def __init__(self, most: int = limits.PUBLIC_CALLS) -> None:
        self._most = most
        self._open = 0

    async def enter(self, context: Context) -> None:
        """Take a place until the call is over, however it ends.

        Raises:
            Exception: there is none, and the call has ended as RESOURCE_EXHAUSTED.
        """
        if self._open >= self._most:
            text = "Too many calls without a credential are open here; please retry later"
            await context.abort(StatusCode.RESOURCE_EXHAUSTED, text)
        self._open += 1
        cast("Any", context).add_done_callback(self._leave)  # typed as taking instances of a class that is not there

    def _leave(self, _context: object) -> None:
        self._open -= 1


class Reflection(reflection_pb2_grpc.ServerReflectionServicer):
    """``grpc.reflection.v1alpha.ServerReflection``.

    Args:
        services: full names.
        calls: what its calls are counted with.
    """

    def __init__(self, services: Collection[str], calls: PublicCalls) -> None:
        self._shown: Any = reflection.aio.ReflectionServicer(services)  # typed as what grpcio does not take
        self._calls = calls

    async def ServerReflectionInfo(  # noqa: N802 -- the protocol's name
        self, request_iterator: AsyncIterable[ServerReflectionRequest], context: Context
    ) -> AsyncGenerator[ServerReflectionResponse]:
        """What is asked of the services, one answer a question."""
        await self._calls.enter(context)
        async for answer in self._shown.ServerReflectionInfo(request_iterator, context):
            yield answer
