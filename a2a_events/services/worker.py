"""The worker: runs agents. Needs no address; scale it with the work."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys

import msgspec
import structlog

from a2a_events import limits
from a2a_events.adapters.recognise import recognise
from a2a_events.log.jetstream import JetStreamLog
from a2a_events.runtime.agent import Agent, as_agent
from a2a_events.runtime.sweeper import Watcher
from a2a_events.runtime.worker import Unfit, Worker
from a2a_events.services import event_loop, logs, replacement
from a2a_events.services.connect import jetstream_log, task_bounds, writer
from a2a_events.services.loop_watchdog import LoopWatchdog
from a2a_events.services.operated import operated
from a2a_events.settings import Settings, SettingsError, load

logger = structlog.get_logger(__name__)


def load_agents(specification: str) -> list[Agent]:
    """The agents that ``module:attr[,module:attr…]`` names, ours or a framework's; the current folder is importable.

    Raises:
        SettingsError: says which part could not be found, or what it was instead of an agent.
    """
    if not specification:
        raise SettingsError("no agent to serve: give --agent module:attr, for example --agent a2a_events.agents:echo")
    if "" not in sys.path:
        sys.path.insert(0, "")
    agents: list[Agent] = []
    for one in specification.split(","):
        module_name, colon, attribute = one.strip().partition(":")
        if not colon:
            raise SettingsError(f"{one!r} is not of the form module:attr")
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise SettingsError(f"cannot import {module_name!r}: {error}") from None
        if not hasattr(module, attribute):
            raise SettingsError(f"module {module_name!r} has no attribute {attribute!r}")
        try:
            value = getattr(module, attribute)
            agents.append(recognise(value) or as_agent(value))
        except TypeError as error:
            raise SettingsError(f"{one}: {error}") from None
    return agents


async def serve(log: JetStreamLog, settings: Settings, agents: list[Agent], stop: asyncio.Event) -> None:
    """Run agents until ``stop`` is set and their turns have ended or the drain time is over.

    Raises:
        Unfit: an agent does not stop; its process should be replaced.
        SettingsError: the silence that is waited for is too short.
    """
    silence_seconds = settings.silence
    worker = Worker(
        log,
        agents,
        writer(settings, "worker"),
        turns=settings.turns,
        ack_wait_seconds=settings.ack_wait_seconds,
        drain_seconds=settings.drain_seconds,
        bounds=task_bounds(settings),
    )
    loop = asyncio.get_running_loop()
    running = loop.create_task(worker.run())
    waiting = loop.create_task(stop.wait())
    sweeping: asyncio.Task[None] | None = None
    if settings.sweep:
        watcher = Watcher(log, writer(settings, "sweeper"), silence_seconds=silence_seconds)
        sweeping = loop.create_task(watcher.run())
    try:
        await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        if sweeping is not None:
            sweeping.cancel()
            await asyncio.wait([sweeping])
    worker.stop()
    await running


async def run(settings: Settings) -> None:
    """The worker as a process: until SIGTERM or SIGINT.

    An agent that cannot be stopped, or that blocks the event loop, has the process replaced: same command, same pid.
    """
    stop = asyncio.Event()
    event_loop.on_stop(stop.set)
    loop_dead_seconds = settings.blocked_loop_bound_seconds + limits.REPLACEMENT_SECONDS
    try:
        # The port first: a pod whose process was replaced gets no second startup probe.
        async with operated(settings, "worker", loop_dead_seconds=loop_dead_seconds) as health:
            health.drains_when(stop.is_set)
            lives = replacement.short_lives()
            if lives is not None:
                settings = _another(settings)
                await event_loop.set_within(stop, replacement.pause_seconds(lives))
            agents = load_agents(settings.agent)
            # Only now: what has been imported until here took as long as it took.
            with LoopWatchdog(replacement.replace, bound_seconds=settings.blocked_loop_bound_seconds):
                async with jetstream_log(settings, "worker", health=health) as (log, _):
                    await serve(log, settings, agents, stop)
    except Unfit as unfit:
        if not stop.is_set():
            replacement.replace(str(unfit))


def _another(settings: Settings) -> Settings:
    """A replaced process is another one: a name that was given is made unique."""
    if not settings.instance:
        return settings
    return msgspec.structs.replace(settings, instance=f"{settings.instance}-{os.urandom(2).hex()}")


def main() -> None:
    """Entry point of the service."""
    settings = load()
    logs.configure(settings.log_level, settings.log_format, "worker")
    event_loop.run(run(settings))
