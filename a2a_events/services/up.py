"""Everything on one machine: a nats-server and every service; as supervised processes, or all in this one.

What ends unasked is started again, after a pause that grows. What is asked to end does so in the order in which nothing
is lost: the nats-server last. And if this process is killed, all the others go too: the
standard input of each is a pipe that only we hold open, so its end is our end (:func:`end_with_parent`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog
from msgspec import Struct
from msgspec.structs import asdict, replace

from a2a_events import limits
from a2a_events.bindings.app import CARD_PATH
from a2a_events.runtime.agent import Agent
from a2a_events.services import event_loop, gateway, notifier, provisioner, push, timeline, worker
from a2a_events.services.connect import jetstream_log
from a2a_events.services.loop_watchdog import LoopWatchdog
from a2a_events.services.nats_server import NatsServer, NatsServerFailed
from a2a_events.services.operated import operated
from a2a_events.services.replacement import STEADY_SECONDS, pause_seconds
from a2a_events.settings import PREFIX, Settings

DEFAULT_STORE: Final = Path(".a2a-events")
"""Where the embedded server keeps its data: tasks survive a restart in the same folder."""
USUAL_NATS_PORT: Final = 4222
"""Taken by the embedded server if it is free, so that tools find it without being told."""
READY_SECONDS: Final = 60.0
"""How long the first agent card may take."""
STOP_SECONDS: Final = limits.APPEND_PATIENCE_SECONDS + 10.0
"""What a process gets to end, beyond the time in which a worker's turns may end."""
HOPELESS: Final = 2
"""Exit code of a service that was told something wrong; starting it again cannot help."""

logger = structlog.get_logger(__name__)


class ServiceFailed(Exception):
    """A service said that it cannot work with these settings; it has said why on standard error."""

    def __init__(self, name: str, code: int) -> None:
        super().__init__(f"{name} could not start, for the reason it gave above")
        self.code = code


class NotReady(Exception):
    """No gateway showed an agent card in time."""


class Plan(Struct, frozen=True, kw_only=True):
    """What to run."""

    settings: Settings
    gateways: int = 1
    """They listen on consecutive ports from ``settings.port`` and ``settings.grpc_port`` on."""
    workers: int = 1
    embedded: bool = True
    """Whether to start a nats-server; otherwise ``settings.nats`` names one."""
    command: Callable[[str], Sequence[str]] | None = None
    """The command of a service's process (``gateway``, ``worker`` …); None: everything runs in this process."""


class Ready(Struct, frozen=True):
    """What came up."""

    urls: list[str]
    grpc: list[str]
    """Addresses; empty without gRPC."""
    agents: list[str]
    timeline: str
    """Address of the timeline page."""
    nats: str
    store: Path | None
    """None for a server that is not ours."""


async def run(plan: Plan, announce: Callable[[Ready], None]) -> None:
    """Run everything until SIGINT or SIGTERM. A second one does not wait for turns and streams to end.

    Args:
        plan: what.
        announce: called once, when every gateway shows the agent's card.

    Raises:
        SettingsError: an agent cannot be loaded, for example. Nothing was started.
        CannotListen: a port is taken. Nothing was started.
        NatsServerMissing, NatsServerFailed: no nats-server.
        LogError: ``settings.nats`` does not answer, or holds something else.
        ServiceFailed, NotReady: a service does not come up.
    """
    hurry = asyncio.Event()
    serving = asyncio.get_running_loop().create_task(_serve(plan, announce, hurry))
    stopping = False

    def stop() -> None:
        nonlocal stopping
        if stopping:
            hurry.set()
            return
        stopping = True
        serving.cancel()

    event_loop.on_stop(stop)
    await asyncio.wait([serving])
    if not serving.cancelled():
        serving.result()


async def _serve(plan: Plan, announce: Callable[[Ready], None], hurry: asyncio.Event) -> None:
    agents = worker.load_agents(plan.settings.agent)
    settings = plan.settings
    if not settings.default_agent:
        # A store may know agents of earlier runs; the root is for the first of this one.
        settings = replace(settings, default_agent=agents[0].name)
    gateways = [_numbered(settings, number) for number in range(plan.gateways)]
    for one in gateways:
        gateway.check(one)
    timeline.check(settings)
    settings = replace(settings, timeline_port=_free_or_any(settings.timeline_host, settings.timeline_port))
    store: Path | None = None
    async with AsyncExitStack() as stack:
        if plan.embedded:
            store = _store(settings)
            nats = (await stack.enter_async_context(_broker(store, settings.sync))).url
            settings = replace(settings, nats=nats)
            gateways = [replace(one, nats=nats) for one in gateways]
        await provisioner.run(settings)
        try:
            async with asyncio.TaskGroup() as group:
                for name, work in _services(plan, settings, gateways, agents, hurry):
                    group.create_task(work, name=name)
                await cards_shown(gateways)
                announce(
                    Ready(
                        [one.base_url for one in gateways],
                        [one.grpc_address for one in gateways if one.grpc_port],
                        [agent.name for agent in agents],
                        timeline.url(settings),
                        settings.shown_nats,
                        store,
                    )
                )
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None


def _numbered(settings: Settings, number: int) -> Settings:
    """Settings of one of several gateways: each has ports and an index of its own."""
    return replace(
        settings,
        port=settings.port + number,
        grpc_port=settings.grpc_port and settings.grpc_port + number,
        debug_port=settings.debug_port and settings.debug_port + number,
        index=settings.index and f"{settings.index}{number or ''}",
        pre_stop_seconds=0.0,  # nobody is left to take over, and somebody waits for the end
        drain_spread_seconds=0.0,
    )


def planned(plan: Plan, settings: Settings, gateways: list[Settings]) -> list[tuple[str, str, Settings]]:
    """Name, role and settings of each service.

    Their admin ports are consecutive, if there are any, in the order: workers, gateways, timeline page, notifier.
    """
    named = [(f"worker-{number + 1}", "worker", settings) for number in range(plan.workers)]
    named += [(f"gateway-{number + 1}", "gateway", one) for number, one in enumerate(gateways)]
    named.append(("timeline-1", "timeline-page", settings))
    if push.offered(settings):
        named.append(("notifier-1", "notifier", settings))
    return [
        (name, role, replace(own, admin_port=settings.admin_port and settings.admin_port + number))
        for number, (name, role, own) in enumerate(named)
    ]


def _services(
    plan: Plan, settings: Settings, gateways: list[Settings], agents: list[Agent], hurry: asyncio.Event
) -> list[tuple[str, Coroutine[Any, Any, None]]]:
    """Name and work of each service. Cancelling the work stops the service in good order."""
    named = planned(plan, settings, gateways)
    if plan.command is not None:
        return [
            (name, _supervise(Child(name, plan.command(role), own), hurry, settings.drain_seconds + STOP_SECONDS))
            for name, role, own in named
        ]
    return [(name, _in_process(partial(_service, role, own, agents), hurry)) for name, role, own in named]


# --- in this process --------------------------------------------------------------------------------------------------


async def _service(role: str, settings: Settings, agents: list[Agent], stop: asyncio.Event) -> None:
    async with operated(settings, role) as health, jetstream_log(settings, role, health=health) as (log, connection):
        health.drains_when(stop.is_set)
        if role == "worker":
            with LoopWatchdog(None, bound_seconds=settings.blocked_loop_bound_seconds):
                await worker.serve(log, settings, agents, stop)
        elif role == "notifier":
            await notifier.serve(log, settings, stop)
        elif role == "timeline-page":
            await timeline.serve(log, settings, stop)
        else:
            await gateway.serve(log, connection, settings, stop, health=health)


async def _in_process(start: Callable[[asyncio.Event], Coroutine[Any, Any, None]], hurry: asyncio.Event) -> None:
    stop = asyncio.Event()
    work = asyncio.get_running_loop().create_task(start(stop))
    try:
        await asyncio.shield(work)
    finally:
        stop.set()
        await _first(work, hurry)
        work.cancel()
        await asyncio.wait([work])


async def _first(work: asyncio.Task[Any], hurry: asyncio.Event, timeout: float | None = None) -> None:
    """Wait until the work is done, or cannot be waited for any longer."""
    hurrying = asyncio.get_running_loop().create_task(hurry.wait())
    await asyncio.wait([work, hurrying], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    hurrying.cancel()


# --- as processes -----------------------------------------------------------------------------------------------------


class Child:
    """A service as a process of its own, that can be started more than once and does not outlive this one.

    Args:
        name: for people.
        command: must end at the end of its standard input (:func:`end_with_parent`).
        settings: given to it as environment.
        output: file descriptor for what it writes; None: where ours goes.
    """

    def __init__(self, name: str, command: Sequence[str], settings: Settings, *, output: int | None = None) -> None:
        self.name = name
        self._command = command
        self._settings = settings
        self._output = output
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Of the process, running or not."""
        assert self._process is not None, "start it first"
        return self._process.pid

    async def start(self) -> None:
        """Start it; returns when the process exists."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=self._output,
            stderr=self._output,
            env=environment(_renamed(self._settings, self.name), os.environ),
            start_new_session=True,  # Ctrl-C is for the supervisor alone
        )
        logger.info("service started", service=self.name, pid=self.pid)

    async def wait(self) -> int:
        """Wait for its end; the exit code, negative for a signal."""
        assert self._process is not None, "start it first"
        return await self._process.wait()

    def kill(self) -> None:
        """As a crash would (SIGKILL)."""
        self._signal(signal.SIGKILL)

    async def stop(self, patience_seconds: float, hurry: asyncio.Event | None = None) -> None:
        """Ask it to end (SIGTERM) and wait; after the patience, or when ``hurry`` is set, it is killed."""
        if self._process is None:
            return
        self._signal(signal.SIGTERM)
        ending = asyncio.get_running_loop().create_task(self._process.wait())
        await _first(ending, hurry or asyncio.Event(), patience_seconds)
        self.kill()
        await ending

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            try:
                self._process.send_signal(number)
            except ProcessLookupError:
                pass  # it was faster


async def _supervise(child: Child, hurry: asyncio.Event, patience_seconds: float) -> None:
    """Keep a child running until cancelled."""
    loop = asyncio.get_running_loop()
    short_lives = 0
    try:
        while True:
            begun = loop.time()
            await child.start()
            code = await child.wait()
            if code == HOPELESS:
                raise ServiceFailed(child.name, code)
            short_lives = 0 if loop.time() - begun >= STEADY_SECONDS else short_lives + 1
            pause = pause_seconds(short_lives)
            logger.warning("service ended, starting it again", service=child.name, end=_end(code), pause_seconds=pause)
            await asyncio.sleep(pause)
    finally:
        await child.stop(patience_seconds, hurry)


def _end(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


def environment(settings: Settings, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment that gives a process these settings: theirs are replaced as a whole."""
    default = asdict(Settings())
    values = {
        f"{PREFIX}{name.upper()}": str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in asdict(settings).items()
        if value != default[name]
    }
    return {**{name: value for name, value in inherited.items() if not name.startswith(PREFIX)}, **values}


def _renamed(settings: Settings, name: str) -> Settings:
    """A restarted process is another one: a name that was given is made unique."""
    if not settings.instance:
        return settings
    return replace(settings, instance=f"{settings.instance}-{name}-{os.urandom(2).hex()}")


def end_with_parent() -> None:
    """End this process, as a crash would, when its standard input ends: the process that held it open is gone."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


# --- the broker -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _broker(store: Path, sync: str) -> AsyncGenerator[NatsServer]:
    """A nats-server that is started again when it dies, with its data and on its port."""
    server = NatsServer(store, port=_broker_port(), sync=sync)
    try:
        await server.start()
        logger.info("nats-server started", url=server.url, pid=server.pid)
        keeping = asyncio.get_running_loop().create_task(_keep(server))
        try:
            yield server
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])
    finally:
        await server.stop()
        server.clean()


async def _keep(server: NatsServer) -> None:
    deaths = 0
    while True:
        await asyncio.sleep(0.25)
        if server.running:
            continue
        deaths += 1
        logger.warning("nats-server ended, starting it again", url=server.url)
        await asyncio.sleep(pause_seconds(deaths))
        try:
            await server.start()
        except NatsServerFailed as error:
            logger.error("nats-server does not come back", error=str(error))


def _broker_port() -> int:
    return USUAL_NATS_PORT if _is_free("127.0.0.1", USUAL_NATS_PORT) else -1


def _free_or_any(host: str, port: int) -> int:
    """This port, or another one if somebody has it: so that several of these live side by side."""
    if _is_free(host, port):
        return port
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _store(settings: Settings) -> Path:
    """The folder for data. The default one keeps itself out of version control."""
    if settings.store:
        return Path(settings.store).absolute()
    DEFAULT_STORE.mkdir(parents=True, exist_ok=True)
    (DEFAULT_STORE / ".gitignore").write_text("*\n")
    return DEFAULT_STORE.absolute()


# --- readiness --------------------------------------------------------------------------------------------------------


async def _shows_card(settings: Settings) -> bool:
    """Whether the gateway of these settings answers with an agent's card, right now."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 -- compared, not bound
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(host, settings.port)
            try:
                writer.write(f"GET {CARD_PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


async def cards_shown(gateways: Sequence[Settings]) -> None:
    """Wait until all gateways show an agent's card.

    Raises:
        NotReady: one of them did not in time.
    """
    deadline = asyncio.get_running_loop().time() + READY_SECONDS
    for one in gateways:
        while not await _shows_card(one):
            if asyncio.get_running_loop().time() > deadline:
                raise NotReady(f"{one.base_url} showed no agent card within {READY_SECONDS:.0f} s; see the lines above")
            await asyncio.sleep(0.05)
