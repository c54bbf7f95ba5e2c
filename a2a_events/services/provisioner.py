"""Creates or verifies the streams that everything else needs; run it before, and again after each upgrade."""

from __future__ import annotations

import asyncio
from functools import partial

from a2a_events.log.jetstream import provision
from a2a_events.log.patience import patiently
from a2a_events.services import logs
from a2a_events.services.connect import connection, names, stream_settings
from a2a_events.settings import Settings, load


async def run(settings: Settings) -> dict[str, str]:
    """Provision once; what happened to each stream.

    Raises:
        LogError: no server answers, or a stream is there and differs.
    """
    async with connection(settings, "provisioner") as made:
        provisioned = partial(provision, made, names(settings), stream_settings(settings))
        return await patiently(provisioned, "JetStream")


def main() -> None:
    """Entry point of the service."""
    settings = load()
    logs.configure(settings.log_level, settings.log_format)
    asyncio.run(run(settings))
