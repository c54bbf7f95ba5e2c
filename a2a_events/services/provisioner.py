"""Creates or verifies the streams that everything else needs, and the mirrors of other regions' logs.

Run it before all else, and again after each upgrade. Where there are several regions, it waits for the others' own
streams: begin it in all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from functools import partial

from a2a_events.log.jetstream import Inspected, inspect, provision, provision_mirrors
from a2a_events.log.patience import patiently
from a2a_events.services import logs
from a2a_events.services.connect import connection, names, stream_settings
from a2a_events.settings import Settings, load


async def run(settings: Settings, agents: Collection[str] = ()) -> dict[str, str]:
    """Provision once; what happened to each stream and consumer.

    Args:
        settings: of this process; with push, notifiers get their consumers.
        agents: whose consumers to make, beside those of agents that were announced.

    Raises:
        LogError: no server answers, or somebody changed what is there.
    """
    async with connection(settings, "provisioner") as made:
        provisioned = partial(
            provision, made, names(settings), stream_settings(settings), agents=agents, notifier=settings.push
        )
        done = await patiently(provisioned, "JetStream")
        if settings.other_logs:
            mirrored = partial(provision_mirrors, made, names(settings), stream_settings(settings), settings.other_logs)
            done |= await patiently(mirrored, "the other regions")
        return done


async def check(settings: Settings, agents: Collection[str] = ()) -> list[Inspected]:
    """What :func:`run` would find. Changes nothing; arguments and errors likewise."""
    async with connection(settings, "provisioner") as made:
        inspected = partial(
            inspect, made, names(settings), stream_settings(settings), agents=agents, notifier=settings.push
        )
        return await patiently(inspected, "JetStream")


def main() -> None:
    """Entry point of the service."""
    settings = load()
    logs.configure(settings.log_level, settings.log_format)
    asyncio.run(run(settings))
