"""Removes what interrupted writers left in the object store; run it now and then, from cron for example."""

from __future__ import annotations

from a2a_events.limits import SWEEP_SECONDS
from a2a_events.services.connect import jetstream_log
from a2a_events.settings import Settings


async def run(settings: Settings) -> int:
    """Sweep once; how many objects were removed.

    Raises:
        LogError: no server answers, or nothing was provisioned.
    """
    async with jetstream_log(settings, "sweep") as (log, _):
        return await log.sweep(SWEEP_SECONDS)
