"""The gRPC server of a gateway: the A2A service, reflection and health on one port, without TLS (as HTTP here)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from a2a_events import limits
from a2a_events.bindings.exchange import Intake, Streams
from a2a_events.bindings.grpc.health import Health
from a2a_events.bindings.grpc.public import PublicCalls, Reflection
from a2a_events.bindings.grpc.service import SERVICE, A2AService
from a2a_events.bindings.identity.access import Access
from a2a_events.runtime.directory import Directory
from a2a_events.runtime.operations import Operations

_HEALTH: Final = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # a port that is taken is an error, and not shared
    ("grpc.keepalive_time_ms", int(limits.KEEP_ALIVE_SECONDS * 1000)),
    ("grpc.keepalive_timeout_ms", int(limits.KEEP_ALIVE_SECONDS * 1000)),
    ("grpc.http2.ping_timeout_ms", int(limits.KEEP_ALIVE_SECONDS * 1000)),  # the longer of the two counts
    ("grpc.keepalive_permit_without_calls", 1),  # idle connections of clients that are gone end, too
    ("grpc.http2.max_pings_without_data", 0),  # a quiet stream is pinged for as long as it is quiet
    ("grpc.http2.min_ping_interval_without_data_ms", int(limits.CLIENT_PING_SECONDS * 1000)),
    ("grpc.max_connection_idle_ms", int(limits.IDLE_CHANNEL_SECONDS * 1000)),  # clients connect again by themselves
)


class GrpcServer:
    """One server; it is made inside of the event loop that it serves in.

    Args:
        operations: what it offers.
        directory: the agents it serves.
        access: who may come in and do what; default: anybody anything.
        streams: where open streams are kept; whoever closes it ends those of this server, too.
        intake: what requests are counted against.
        header_bytes: most metadata of a call.
        header_seconds: what a client gets to begin to speak HTTP/2.
        ready: whether requests can be served right now.
    """

    def __init__(
        self,
        operations: Operations,
        directory: Directory,
        *,
        access: Access | None = None,
        streams: Streams,
        intake: Intake | None = None,
        header_bytes: int = limits.REQUEST_HEADER_BYTES,
        header_seconds: float = limits.REQUEST_HEADER_SECONDS,
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        requests = intake or Intake()
        options = (
            *_OPTIONS,
            ("grpc.max_receive_message_length", requests.largest),
            ("grpc.max_metadata_size", header_bytes),
            ("grpc.absolute_max_metadata_size", header_bytes),  # between the two it would refuse at random
            ("grpc.server_handshake_timeout_ms", int(header_seconds * 1000)),
        )
        self._server = aio.server(options=options, maximum_concurrent_rpcs=limits.CALLS_PER_GATEWAY)
        service = A2AService(operations, directory, access or Access(), streams, requests)
        self._server.add_generic_rpc_handlers((service.handler(),))
        calls = PublicCalls()
        self._health = Health((SERVICE.full_name,), ready, calls)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        shown = Reflection((SERVICE.full_name, _HEALTH, reflection.SERVICE_NAME), calls)
        untyped = cast("Any", reflection_pb2_grpc)
        untyped.add_ServerReflectionServicer_to_server(shown, self._server)

    async def start(self, host: str, port: int) -> None:
        """Listen and serve.

        Raises:
            OSError: the address cannot be had.
        """
        try:
            self._server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        except RuntimeError as error:
            raise OSError(str(error)) from None
        await self._server.start()

    async def stop(self, grace_seconds: float) -> None:
        """Take no more calls, wait for those under way as long as the grace allows, and end what is left."""
        self._health.close()
        await self._server.stop(grace_seconds)
