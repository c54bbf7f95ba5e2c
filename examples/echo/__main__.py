"""Starts a nats-server, a gateway and a worker, and sends the agent one message."""

from __future__ import annotations

import asyncio
from pathlib import Path

from a2a_events import Task
from a2a_events.client import Client
from a2a_events.services import logs
from a2a_events.testing import Deployment, nats_server

HERE = Path(__file__).parent


async def main() -> None:
    """What a client does."""
    async with (
        nats_server() as nats,
        Deployment(nats, agents="agent:echo", folder=HERE) as deployment,
        Client(deployment.gateways[0].url) as client,
    ):
        print("you   hello")
        task = await client.send("hello")
        assert isinstance(task, Task)
        print(f"echo  {task.artifacts[0].parts[0].text}")
        print(f"      {task.status.state.name}")


logs.configure("error")
asyncio.run(main())
