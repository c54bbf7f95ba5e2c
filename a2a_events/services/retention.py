"""One pass of retention: removes tasks that ended long ago."""

from __future__ import annotations

from typing import Final

from a2a_events.runtime.retention import Removed, Retention
from a2a_events.services.connect import jetstream_log, writer
from a2a_events.settings import Settings

DAY_SECONDS: Final = 24 * 3600.0


async def run(settings: Settings, days: float, tombstone_days: float | None) -> Removed:
    """Remove what ended this long ago; how much that was.

    Raises:
        LogError: no server answers, or nothing was provisioned; what was begun the next pass ends.
    """
    async with jetstream_log(settings, "retention") as (log, _):
        retention = Retention(
            log,
            writer(settings, "retention"),
            older_than_seconds=days * DAY_SECONDS,
            tombstones_older_than_seconds=None if tombstone_days is None else tombstone_days * DAY_SECONDS,
        )
        return await retention.run()
