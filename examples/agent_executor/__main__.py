"""Starts a nats-server, a gateway and a worker; the worker that asked is killed, and another one goes on."""

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
        Deployment(nats, agents="agent:TripExecutor", folder=HERE) as deployment,
        Client(deployment.gateways[0].url) as client,
    ):
        print("you   Lisbon")
        task = await client.send("Lisbon")
        assert isinstance(task, Task)
        assert task.status.message is not None
        print(f"trip  {task.status.message.parts[0].text}")
        print(f"      {task.status.state.name}")

        deployment.workers[0].kill()
        await deployment.add_worker()
        print("      (its worker was killed, another one is there)")

        print("you   3")
        async with client.stream("3", task_id=task.id) as updates:
            async for update in updates:
                if update.response.artifact_update is not None:
                    print(f"trip  {update.response.artifact_update.artifact.parts[0].text}", end="")
        done = await client.get(task.id)
        print(f"      {done.status.state.name}")


logs.configure("error")
asyncio.run(main())
