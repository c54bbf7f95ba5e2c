"""A notifier as it is deployed, with the recorder around its log."""

from __future__ import annotations

import asyncio

from a2a_events.services import event_loop, logs
from a2a_events.services.connect import jetstream_log
from a2a_events.services.notifier import serve
from a2a_events.settings import Settings, load
from faults.entry import recorded


async def run(settings: Settings) -> None:
    """Until SIGTERM."""
    stop = asyncio.Event()
    event_loop.on_stop(stop.set)
    with recorded() as around:
        async with jetstream_log(settings, "notifier") as (log, _):
            await serve(around(log), settings, stop)


if __name__ == "__main__":
    settings = load()
    logs.configure(settings.log_level, settings.log_format)
    event_loop.run(run(settings))
