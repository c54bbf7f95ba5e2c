"""Creates or verifies the streams that everything else needs, and the mirrors of other regions' logs.

Run it before all else, and again after each upgrade. Where there are several regions, it waits for the others' own
streams: begin it in all of them.
"""

from __future__ import annotations

import asyncio
from functools import partial

from a2a_events.log.jetstream import provision, provision_mirrors
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
        done = await patiently(provisioned, "JetStream")
        if settings.other_logs:
            mirrored = partial(provision_mirrors, made, names(settings), stream_settings(settings), settings.other_logs)
            done |= await patiently(mirrored, "the other regions")
        return done


def main() -> None:
    """Entry point of the service."""
    settings = load()
    logs.configure(settings.log_level, settings.log_format)
    asyncio.run(run(settings))
