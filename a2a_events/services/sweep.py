"""One pass of what is done now and then: removes what interrupted writers left, and asks after silent tasks."""

from __future__ import annotations

from a2a_events.limits import SWEEP_SECONDS
from a2a_events.runtime.sweeper import Sweeper, read_progress
from a2a_events.services.connect import jetstream_log, writer
from a2a_events.settings import Settings


async def run(settings: Settings) -> tuple[int, int]:
    """Sweep once; how many objects were removed, and how many tasks were asked after.

    Raises:
        LogError: no server answers, or nothing was provisioned.
        SettingsError: the silence that is waited for is too short.
    """
    silence_seconds = settings.silence
    async with jetstream_log(settings, "sweep") as (log, _):
        sweeper = Sweeper(log, writer(settings, "sweeper"), silence_seconds=silence_seconds)
        sweeper.begin((await read_progress(log)).shards)
        return await log.sweep(SWEEP_SECONDS), await sweeper.sweep()
