"""The timeline page: what happened to every task, for operators and who writes agents. Only reads, but for forks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog
from msgspec.structs import replace

import a2a_events
from a2a_events.bindings.exchange import Streams
from a2a_events.bindings.timelines.guard import Guard, is_loopback
from a2a_events.bindings.timelines.operators import About, Operators, create_app
from a2a_events.bindings.timelines.page import Page
from a2a_events.log.memory import MemoryLog
from a2a_events.log.port import Log
from a2a_events.runtime.survey import Survey
from a2a_events.services import event_loop, logs
from a2a_events.services.bounded_http import HttpBounds, bounded
from a2a_events.services.connect import jetstream_log, writer
from a2a_events.services.listener import Server, listen
from a2a_events.services.operated import operated
from a2a_events.settings import PREFIX, Settings, SettingsError, load
from a2a_events.timeline.bundle import DamagedBundle, moved, read
from a2a_events.timeline.record import Record

_NAMED: Final = 3  # bundles that the page's head has room for

STOP_SECONDS: Final = 2.0
"""What requests under way get to end; streams end at once."""

logger = structlog.get_logger(__name__)


def url(settings: Settings) -> str:
    """Where the page is, as somebody on this machine opens it."""
    host = settings.timeline_host
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104 -- shown, not listened on
    return f"http://{shown}:{settings.timeline_port}"


def check(settings: Settings) -> None:
    """Whether the page may be served so.

    Raises:
        SettingsError: everybody could read and fork every task.
    """
    if not is_loopback(settings.timeline_host) and not settings.timeline_token:
        raise SettingsError(
            f"the timeline page shows every task to everybody who reaches {settings.timeline_host}: set"
            f" {PREFIX}TIMELINE_TOKEN, or listen on 127.0.0.1"
        )


async def serve(log: Log, settings: Settings, stop: asyncio.Event, *, about: About | None = None) -> None:
    """Serve the page until ``stop`` is set.

    Args:
        log: what it shows.
        settings: of this process.
        stop: asks it to end.
        about: what it says of itself; default: of the deployment.

    Raises:
        SettingsError: it would be open to everybody.
        CannotListen: the port is taken.
    """
    check(settings)
    listener = listen(settings.timeline_host, settings.timeline_port, "--timeline-port", "--timeline-host")
    streams = Streams()
    survey = Survey(log)
    about = about or About(f"{settings.namespace} at {', '.join(_names(settings.servers))}", a2a_events.__version__)
    operators = Operators(log, survey, streams, writer(settings, "timeline"), about)
    app = create_app(operators, Guard(settings.timeline_token), Page())
    server = Server(bounded(app, HttpBounds.of(settings), stop_seconds=STOP_SECONDS))
    serving = asyncio.get_running_loop().create_task(server.serve([listener]))
    logger.info("timeline ready", url=url(settings))
    waiting = asyncio.get_running_loop().create_task(stop.wait())
    try:
        await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        streams.close()
        server.should_exit = True
        await serving
        await survey.close()
    logger.info("timeline stopped")


async def run(settings: Settings, bundles: Sequence[Path] = ()) -> None:
    """The page as a process: until SIGTERM or SIGINT.

    Args:
        settings: of this process.
        bundles: files to show, instead of a log; then no server is needed.

    Raises:
        SettingsError: a file is no bundle, or two hold the same task.
    """
    check(settings)
    stop = asyncio.Event()
    event_loop.on_stop(stop.set)
    if bundles:
        log = await recorded(bundles)
        name = ", ".join(path.name for path in bundles[:_NAMED]) + (" …" if len(bundles) > _NAMED else "")
        try:
            async with operated(settings, "timeline", connected=False) as health:
                health.drains_when(stop.is_set)
                await serve(log, settings, stop, about=About(name, a2a_events.__version__, forks=False))
        finally:
            await log.close()
        return
    async with (
        operated(settings, "timeline") as health,
        jetstream_log(settings, "timeline", health=health) as (stored, _),
    ):
        health.drains_when(stop.is_set)
        await serve(stored, settings, stop)


async def recorded(paths: Sequence[Path]) -> MemoryLog:
    """A log that holds what is recorded in files. Positions are the recorded ones in the first of them.

    Raises:
        SettingsError: one is no bundle, or two hold the same task.
    """
    log: MemoryLog | None = None
    for path in paths:
        try:
            bundle = read(path.read_bytes())
        except OSError as error:
            raise SettingsError(f"cannot read the bundle {path}: {error.strerror}") from None
        except DamagedBundle as error:
            raise SettingsError(f"{path}: {error}") from None
        log = log or MemoryLog(bundle.task.log)
        if await log.find(bundle.task.task_id) is not None:
            raise SettingsError(f"{path} holds task {bundle.task.task_id}, which another file holds already")
        end = (await log.ends())[0].position
        log.restore(bundle.task, _behind(bundle.records, end))
    assert log is not None, "there is at least one"
    return log


def _behind(records: Sequence[Record], end: int) -> list[Record]:
    """Records for a log that ends there: those of two shards may have stood at the same positions."""
    positions = {record.position: record.position + end for record in records}
    return [replace(moved(record, positions), position=positions[record.position]) for record in records]


def _names(servers: Sequence[str]) -> list[str]:
    """Servers without credentials that stand in their addresses."""
    return [server.rpartition("@")[2].removeprefix("nats://") for server in servers]


def main() -> None:
    """Entry point of the service."""
    settings = load()
    logs.configure(settings.log_level, settings.log_format, "timeline")
    event_loop.run(run(settings))
