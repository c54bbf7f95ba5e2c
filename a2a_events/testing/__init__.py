"""Helpers for tests of agents and of deployments; everything here is public and stays.

Unit tests of an agent need no server::

    updates = await run_agent(greet, "Ada")
    assert updates[-1].status_update.status.state is TaskState.COMPLETED

    async with in_memory(greet) as calls:  # several messages to one task, cancel, get, subscribe
        task = await calls.send("Ada")

Tests of a deployment start the real parts::

    async with nats_server() as nats, Deployment(nats, agents="my_agents:greet", gateways=2, workers=2) as deployment:
        deployment.gateways[0].kill()
        print(deployment.gateways[1].url)

A task of production, exported, is a regression test (docs/debugging.md)::

    test_recorded = replays("bundles/*.bundle.jsonl", agent=greet)

``nats_server`` starts the packaged nats-server, or uses the one that ``A2A_EVENTS_TEST_NATS_URL`` names, so that the
same tests run against another version, a container or a cluster.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from a2a_events.runtime.rehearsal import NotRehearsable, Rehearsed, Replay
    from a2a_events.testing.bundles import assert_replays, fold_every_prefix, load_bundle, replay, replays
    from a2a_events.testing.deployment import Deployment, GatewayProcess, ServiceProcess
    from a2a_events.testing.local import Calls, in_memory, run_agent
    from a2a_events.testing.nats import NATS_URL_VARIABLE, nats_server, remove_streams, unique_namespace
    from a2a_events.testing.waiting import eventually, free_port
    from a2a_events.timeline.comparison import Divergence, Tolerance

__all__ = [
    "NATS_URL_VARIABLE",
    "Calls",
    "Deployment",
    "Divergence",
    "GatewayProcess",
    "NotRehearsable",
    "Rehearsed",
    "Replay",
    "ServiceProcess",
    "Tolerance",
    "assert_replays",
    "eventually",
    "fold_every_prefix",
    "free_port",
    "in_memory",
    "load_bundle",
    "nats_server",
    "remove_streams",
    "replay",
    "replays",
    "run_agent",
    "unique_namespace",
]

_HOMES: Final = {
    "a2a_events.runtime.rehearsal": ("NotRehearsable", "Rehearsed", "Replay"),
    "a2a_events.testing.bundles": ("assert_replays", "fold_every_prefix", "load_bundle", "replay", "replays"),
    "a2a_events.testing.deployment": ("Deployment", "GatewayProcess", "ServiceProcess"),
    "a2a_events.testing.local": ("Calls", "in_memory", "run_agent"),
    "a2a_events.testing.nats": ("NATS_URL_VARIABLE", "nats_server", "remove_streams", "unique_namespace"),
    "a2a_events.testing.waiting": ("eventually", "free_port"),
    "a2a_events.timeline.comparison": ("Divergence", "Tolerance"),
}
_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a helper when it is asked for: pytest imports this package for its plugin, in every project."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
