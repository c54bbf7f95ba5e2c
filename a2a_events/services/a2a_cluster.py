"""The stores of an a2a-sdk server on JetStream, from settings (ADR 0032)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from a2a.server.owner_resolver import OwnerResolver, resolve_user_scope

from a2a_events.adapters.a2a_cluster import Cluster
from a2a_events.log.port import Log
from a2a_events.services import provisioner
from a2a_events.services.connect import jetstream_log
from a2a_events.settings import Settings, load


def jetstream_cluster(
    agent: str,
    settings: Settings | None = None,
    *,
    owner_resolver: OwnerResolver = resolve_user_scope,
    provision: bool = False,
) -> Cluster:
    """The stores for ``DefaultRequestHandler``; they connect when first used, and outlive NATS servers.

    Args:
        agent: name of the agent in the log: the same at every replica, and of no agent that workers serve there.
        settings: default: from the environment, ``A2A_EVENTS_…``.
        owner_resolver: whose a task is.
        provision: whether to make the streams first where they are not there yet; else ``a2a-events provision`` does.

    Raises:
        SettingsError: a variable is unknown, or a value is not of its type.
    """
    chosen = load() if settings is None else settings

    @asynccontextmanager
    async def opened() -> AsyncGenerator[Log]:
        if provision:
            await provisioner.run(chosen)
        async with jetstream_log(chosen, "a2a-sdk") as (log, _):
            yield log

    return Cluster(opened, agent, owner_resolver=owner_resolver, instance=chosen.instance, index_file=chosen.index)
