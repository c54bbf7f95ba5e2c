"""The notifier: delivers updates to webhooks. Needs no address of its own, but a way out to theirs."""

from __future__ import annotations

import asyncio

from a2a_events.log.port import Log
from a2a_events.runtime.notification import Persistence
from a2a_events.runtime.notifier import Notifier
from a2a_events.runtime.seal import Seals
from a2a_events.services import event_loop, logs, push
from a2a_events.services.connect import jetstream_log, writer
from a2a_events.services.operated import operated
from a2a_events.services.webhook_client import WebhookClient
from a2a_events.settings import Settings, SettingsError, load


async def serve(log: Log, settings: Settings, stop: asyncio.Event) -> None:
    """Notify webhooks until ``stop`` is set and attempts under way have ended.

    Raises:
        SettingsError: the keys cannot be read, or ``cryptography`` is missing.
    """
    if not push.offered(settings):
        raise SettingsError("a notifier needs --push, and a2a-events[push] to be installed")
    client = WebhookClient(allow_private=settings.push_allow_private)
    notifier = Notifier(
        log,
        client,
        Seals(log, push.keys(settings)),
        writer(settings, "notifier"),
        persistence=Persistence(settings.push_attempts, settings.push_pause_seconds),
        body_of=push.body_of,
        ack_wait_seconds=settings.ack_wait_seconds,
    )
    running = asyncio.get_running_loop().create_task(notifier.run())
    waiting = asyncio.get_running_loop().create_task(stop.wait())
    try:
        await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        notifier.stop()
        await running
    finally:
        await client.close()


async def run(settings: Settings) -> None:
    """The notifier as a process: until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    event_loop.on_stop(stop.set)
    async with operated(settings, "notifier") as health, jetstream_log(settings, "notifier", health=health) as (log, _):
        health.drains_when(stop.is_set)
        await serve(log, settings, stop)


def main() -> None:
    """Entry point of the service."""
    settings = load()
    logs.configure(settings.log_level, settings.log_format, "notifier")
    event_loop.run(run(settings))
