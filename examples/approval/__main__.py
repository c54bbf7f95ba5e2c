"""Starts everything, asks for a refund, replaces every process while the agent waits, and answers its question."""

from __future__ import annotations

import asyncio
from pathlib import Path

from a2a_events import Task
from a2a_events.client import Client
from a2a_events.services import logs
from a2a_events.testing import Deployment, nats_server

HERE = Path(__file__).parent


def show(task: Task) -> None:
    """What a person would see of a task."""
    message = task.status.message
    said = [message.parts[0].text] if message else [artifact.parts[0].text for artifact in task.artifacts]
    print(f"refunds  {' '.join(map(str, said))}")
    print(f"         {task.status.state.name}")


async def main() -> None:
    """What a client does."""
    async with nats_server() as nats, Deployment(nats, agents="agent:refunds", folder=HERE) as deployment:
        async with Client(deployment.gateways[0].url) as client:
            print("you      order 7")
            task = await client.send("order 7")
            assert isinstance(task, Task)
            show(task)

        await deployment.workers[0].stop()
        deployment.gateways[0].kill()
        print("-------  nothing runs any more; a day later, on other machines:")
        await deployment.add_worker()
        gateway = await deployment.add_gateway()

        async with Client(gateway.url) as client:
            print("you      yes")
            answered = await client.send("yes", task_id=task.id)
            assert isinstance(answered, Task)
            show(answered)


logs.configure("error")
asyncio.run(main())
