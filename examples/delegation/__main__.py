"""Starts the agents of two teams, kills the worker that waits for the other team, and looks at what became of it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from a2a_events import tracing
from a2a_events.client import Client, accumulate
from a2a_events.services import logs
from a2a_events.services.connect import jetstream_log
from a2a_events.testing import Deployment, nats_server

HERE = Path(__file__).parent
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
"""The client's own: everything that it causes belongs to it."""


async def trace_of(deployment: Deployment, task_id: str) -> str:
    """The trace that everything in a task's log belongs to."""
    async with jetstream_log(deployment.settings, "example") as (log, _):
        task = await log.find(task_id)
        assert task is not None
        traces = {tracing.ids(record.trace)[0] async for records in log.read(task) for record in records}
    return " ".join(sorted(traces))


async def main() -> None:
    """What a client does."""
    settings = {"ack_wait_seconds": "2"}  # so soon is a worker given up that is not heard of
    async with nats_server() as nats, Deployment(nats, agents="agent:translate", folder=HERE) as theirs:
        os.environ["TRANSLATOR"] = theirs.gateways[0].url
        async with (
            Deployment(nats, agents="agent:editor", folder=HERE, settings=settings) as ours,
            Client(ours.gateways[0].url, headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}) as client,
            Client(theirs.gateways[0].url) as their_client,
        ):
            print("you     good morning world")
            task = None
            async with client.stream("good morning world") as updates:
                async for update in updates:
                    task = accumulate(task, update.response)
                    said = task.status.message
                    if said and said.parts[0].text == "1 words are translated" and ours.workers[0].running:
                        ours.workers[0].kill()
                        print("------  kill -9: the editor's worker is gone; another one starts")
                        await ours.add_worker()
            assert task is not None
            print(f"editor  {task.artifacts[0].parts[0].text}")
            print(f"        {task.status.state.name}")
            tasks = (await their_client.list_tasks()).tasks
            print(f"------  the translator has {len(tasks)} task")
            print(f"------  trace of ours: {await trace_of(ours, task.id)}")
            print(f"------  and of theirs: {await trace_of(theirs, tasks[0].id)}")


logs.configure("error")
asyncio.run(main())
