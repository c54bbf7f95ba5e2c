"""Starts everything, lets the graph ask, replaces its worker, and answers."""

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
        Deployment(nats, agents="agent:graph", folder=HERE) as deployment,
        Client(deployment.gateways[0].url) as client,
    ):
        print("you     a train to Prague")
        task = await client.send("a train to Prague")
        assert isinstance(task, Task)
        assert task.status.message is not None
        print(f"travel  {task.artifacts[0].parts[0].text} {task.status.message.parts[0].text}")
        print(f"        {task.status.state.name}")

        await deployment.workers[0].stop()
        print("------  the worker is gone; another one starts")
        await deployment.add_worker()

        print("you     yes")
        task = await client.send("yes", task_id=task.id)
        assert isinstance(task, Task)
        print(f"travel  {task.artifacts[-1].parts[0].text}")
        print(f"        {task.status.state.name}")


logs.configure("error")
asyncio.run(main())
