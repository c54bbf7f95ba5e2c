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

``nats_server`` starts the packaged nats-server, or uses the one that ``A2A_EVENTS_TEST_NATS_URL`` names, so that the
same tests run against another version, a container or a cluster.
"""

from __future__ import annotations

from a2a_events.testing.deployment import Deployment, GatewayProcess, ServiceProcess
from a2a_events.testing.local import Calls, in_memory, run_agent
from a2a_events.testing.nats import NATS_URL_VARIABLE, nats_server, remove_streams, unique_namespace
from a2a_events.testing.waiting import eventually, free_port

__all__ = [
    "NATS_URL_VARIABLE",
    "Calls",
    "Deployment",
    "GatewayProcess",
    "ServiceProcess",
    "eventually",
    "free_port",
    "in_memory",
    "nats_server",
    "remove_streams",
    "run_agent",
    "unique_namespace",
]
