"""The standard health service: SERVING while requests can be served, which is what ``/readyz`` says over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection
from typing import Final

from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc

from a2a_events.bindings.grpc.public import PublicCalls
from a2a_events.bindings.grpc.status import Context

LOOK_SECONDS: Final = 1.0
"""How often a watched status is looked at."""


class Health(health_pb2_grpc.HealthServicer):
    """``grpc.health.v1.Health``.

    Args:
        services: full names; the empty one, which is the server, is always known.
        ready: whether requests can be served right now.
        calls: what watches are counted with.
    """

    def __init__(self, services: Collection[str], ready: Callable[[], bool], calls: PublicCalls) -> None:
        self._services = {"", *services}
        self._ready = ready
        self._calls = calls
        self._closed = asyncio.Event()

    def close(self) -> None:
        """NOT_SERVING from now on, and the end of all watches."""
        self._closed.set()

    async def Check(  # noqa: N802 -- the protocol's name
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        """The status now."""
        if request.service not in self._services:
            await context.abort(StatusCode.NOT_FOUND, "There is no such service here")
        return self._response(request.service)

    async def Watch(  # noqa: N802 -- the protocol's name
        self,
        request: health_pb2.HealthCheckRequest,
        context: Context,
    ) -> AsyncGenerator[health_pb2.HealthCheckResponse]:
        """The status now, and whenever it changes."""
        await self._calls.enter(context)
        shown: health_pb2.HealthCheckResponse | None = None
        while True:
            closed = self._closed.is_set()
            response = self._response(request.service)
            if response != shown:
                yield response
            if closed:
                return
            shown = response
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._closed.wait()
            except TimeoutError:
                pass  # time to look again

    def _response(self, service: str) -> health_pb2.HealthCheckResponse:
        if service not in self._services:
            return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
        if self._closed.is_set() or not self._ready():
            return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.NOT_SERVING)
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
