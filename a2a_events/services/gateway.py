"""The gateway: HTTP in front of the log. Holds nothing that another gateway would miss; run as many as you like."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog

from a2a_events.bindings.app import create_app
from a2a_events.bindings.exchange import Intake, Streams
from a2a_events.bindings.timelines.debugging import Debugging
from a2a_events.bindings.timelines.guard import is_loopback
from a2a_events.log.jetstream import Connection, JetStreamLog, RegionalLog
from a2a_events.model import AgentCard, AgentInterface
from a2a_events.runtime.directory import Directory
from a2a_events.runtime.index import TaskIndex
from a2a_events.runtime.operations import Operations
from a2a_events.runtime.push_configs import Targets
from a2a_events.services import event_loop, identity, logs, push, usage
from a2a_events.services.bounded_http import HttpBounds, bounded
from a2a_events.services.card_signing import card_signer
from a2a_events.services.connect import jetstream_log, names, task_bounds, writer
from a2a_events.services.health import Health
from a2a_events.services.listener import BACKLOG, Server, listen
from a2a_events.services.operated import operated
from a2a_events.settings import PREFIX, Settings, SettingsError, load
from a2a_events.timeline.bounds import HistoryBounds

if TYPE_CHECKING:
    from a2a_events.bindings.grpc.server import GrpcServer

logger = structlog.get_logger(__name__)


def check(settings: Settings) -> None:
    """Whether a gateway with these settings could listen now.

    Raises:
        SettingsError: the gRPC binding is not installed, cards cannot be signed, or everybody would be let in and
            nobody said so.
        CannotListen: a port is taken.
    """
    identity.access(settings)
    card_signer(settings)
    listen(settings.host, settings.port).close()
    if settings.grpc_port:
        _grpc_server()
        listen(settings.host, settings.grpc_port, "--grpc-port").close()


async def serve(
    log: JetStreamLog,
    connection: Connection,
    settings: Settings,
    stop: asyncio.Event,
    hurry: asyncio.Event | None = None,
    *,
    health: Health | None = None,
) -> None:
    """Serve until ``stop`` is set, and then end in good order: no client loses an update.

    From that moment on the gateway is unready. It serves on for ``pre_stop_seconds``. Then it takes no more streams and
    ends those that are open, spread over ``drain_spread_seconds``; other requests are served meanwhile. Then it takes
    nothing more, and what is under way gets ``drain_seconds`` to end.

    Args:
        log: what it is in front of.
        connection: of the log.
        settings: of this process.
        stop: asks it to end.
        hurry: do not wait for load balancers, and end all streams at once.
        health: what probes are told; None: only whether there is a connection.

    Raises:
        SettingsError: the card file or the keys cannot be read, the gRPC binding is not installed, or everybody would
            be let in and nobody said so.
        CannotListen: a port is taken.
    """
    access = identity.access(settings)
    signer = card_signer(settings)
    listeners = [listen(settings.host, settings.port), *_debugging_listeners(settings)]
    operations = Operations(
        log,
        writer(settings, "gateway"),
        index=_index(log, settings),
        generations=settings.a2a_1_1,
        queue_limit=settings.queue_limit,
        targets=Targets(push.keys(settings), settings.push_allow_private),
        bounds=task_bounds(settings),
        history=HistoryBounds(settings.history_messages, settings.history_bytes),
        signed=signer,
    )
    directory = Directory(
        log,
        default=settings.default_agent,
        cards=_cards(settings.card),
        extended=_extended(settings.extended_card),
        push=push.offered(settings),
        interfaces=_addresses(settings),
        security=access.security,
    )
    streams = Streams(longest_seconds=settings.stream_seconds)
    intake = Intake(settings.request_bytes, names=settings.json_names)

    def unready() -> list[str]:
        if health is not None:
            return health.unready()
        return ["draining"] if stop.is_set() else [] if connection.connected else ["not connected to NATS"]

    if health is not None:
        health.drains_when(stop.is_set)
    app = create_app(
        operations,
        directory,
        access=access,
        streams=streams,
        intake=intake,
        unready=unready,
        dead=health.dead if health is not None else list,
        hybrid_card=settings.hybrid_card,
        signer=signer,
        debugging=Debugging(operations, log, streams) if settings.debug_api else None,
        debugging_port=settings.debug_port,
    )
    bounds = HttpBounds.of(settings)
    server = Server(bounded(app, bounds, stop_seconds=settings.drain_seconds, backlog=BACKLOG))
    grpc = None
    if settings.grpc_port:
        listen(settings.host, settings.grpc_port, "--grpc-port").close()  # grpcio does not say why it cannot
        grpc = _grpc_server()(
            operations,
            directory,
            access=access,
            streams=streams,
            intake=intake,
            header_bytes=settings.header_bytes,
            header_seconds=settings.header_seconds,
            ready=lambda: not unready(),
        )
        await grpc.start(settings.host, settings.grpc_port)
    serving = asyncio.get_running_loop().create_task(server.serve(listeners))
    logger.info("gateway ready", url=settings.base_url, grpc=settings.grpc_address or None)
    waiting = asyncio.get_running_loop().create_task(stop.wait())
    ending = asyncio.get_running_loop().create_task(_end_streams_once_overtaken(log, streams, settings))
    async with usage.shared(access.caps, connection, names(settings).usage(settings.log)):
        await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        ending.cancel()
        if stop.is_set():
            await _drain(streams, settings, hurry or asyncio.Event())
    streams.close()
    server.should_exit = True
    await asyncio.gather(serving, *([grpc.stop(settings.drain_seconds)] if grpc is not None else []))
    await operations.close()
    logger.info("gateway stopped")


def _debugging_listeners(settings: Settings) -> list[socket.socket]:
    """What is for operators listens apart from what is public; on loopback nothing is public."""
    if not settings.debug_api:
        return []
    if settings.debug_port:
        return [listen(settings.admin_host, settings.debug_port, f"{PREFIX}DEBUG_PORT", f"{PREFIX}ADMIN_HOST")]
    if not is_loopback(settings.host):
        raise SettingsError(
            f"{PREFIX}DEBUG_API at {settings.host} would show timelines beside the bindings: give it a port of its own"
            f" with {PREFIX}DEBUG_PORT, at {PREFIX}ADMIN_HOST"
        )
    return []


async def _drain(streams: Streams, settings: Settings, hurry: asyncio.Event) -> None:
    logger.info("gateway draining", streams=streams.count)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(settings.pre_stop_seconds):
            await hurry.wait()
    draining = asyncio.get_running_loop().create_task(
        streams.drain(settings.drain_spread_seconds, settings.drain_seconds)
    )
    hurrying = asyncio.get_running_loop().create_task(hurry.wait())
    await asyncio.wait([draining, hurrying], return_when=asyncio.FIRST_COMPLETED)
    hurrying.cancel()
    if not draining.done():
        draining.cancel()
        await streams.drain(0.0, settings.drain_seconds)


async def _end_streams_once_overtaken(log: JetStreamLog, streams: Streams, settings: Settings) -> None:
    """What is read here goes on no further once another region has the log: clients resume where it does."""
    if isinstance(log, RegionalLog):
        await log.until_overtaken()
        await streams.drain(settings.drain_spread_seconds, settings.drain_seconds)


async def run(settings: Settings) -> None:
    """The gateway as a process: until SIGTERM or SIGINT. Ctrl-C, and a second signal, do not wait for others."""
    stop, hurry = asyncio.Event(), asyncio.Event()

    def asked(number: signal.Signals) -> None:
        if number is signal.SIGINT or stop.is_set():
            hurry.set()
        stop.set()

    event_loop.on_signals(asked)
    async with (
        operated(settings, "gateway") as health,
        jetstream_log(settings, "gateway", health=health) as (log, connection),
    ):
        await serve(log, connection, settings, stop, hurry, health=health)


def _grpc_server() -> type[GrpcServer]:
    try:
        from a2a_events.bindings.grpc.server import GrpcServer  # noqa: PLC0415 -- an optional extra
    except ImportError as error:
        raise SettingsError(
            f"gRPC is not installed: install a2a-events[grpc], or give no --grpc-port ({error})"
        ) from None
    return GrpcServer


def _index(log: JetStreamLog, settings: Settings) -> TaskIndex:
    try:
        return TaskIndex(log, settings.index)
    except OSError as error:
        raise SettingsError(f"{error}; set A2A_EVENTS_INDEX to a file that can be written") from None


def _addresses(settings: Settings) -> list[AgentInterface]:
    """This gateway's addresses, from configuration: never taken from a request."""
    addresses = {"JSONRPC": settings.base_url, "HTTP+JSON": settings.base_url, "GRPC": settings.grpc_address}
    return [
        AgentInterface(url=url, protocol_binding=binding, protocol_version="1.0")
        for binding, url in addresses.items()
        if url
    ]


def _cards(path: str) -> dict[str, AgentCard]:
    """The card in a file, by its agent's name."""
    if not path:
        return {}
    try:
        card = msgspec.json.decode(Path(path).read_bytes(), type=AgentCard)
    except (OSError, msgspec.DecodeError) as error:
        raise SettingsError(f"cannot read the agent card {path}: {error}") from None
    return {card.name: card}


def _extended(paths: str) -> dict[str, dict[str, AgentCard]]:
    """The cards in files, by agent and tenant: PATH for everybody, TENANT=PATH for the callers of one."""
    found: dict[str, dict[str, AgentCard]] = {}
    for each in filter(None, (each.strip() for each in paths.split(","))):
        tenant, _, path = each.rpartition("=")
        for name, card in _cards(path).items():
            if tenant in found.setdefault(name, {}):
                raise SettingsError(f"{PREFIX}EXTENDED_CARD names two cards of {name} for {tenant or 'everybody'}")
            found[name][tenant] = card
    return found


def main() -> None:
    """Entry point of the service."""
    settings = load()
    logs.configure(settings.log_level, settings.log_format, "gateway")
    event_loop.run(run(settings))
