"""Graphs on real workers that are killed, and over restarts of everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from a2a_events import Message, Part, Role, Task, TaskState
from a2a_events.client import Client, accumulate
from a2a_events.runtime.caller import Caller
from a2a_events.services.connect import jetstream_log
from a2a_events.services.nats_server import NatsServer
from a2a_events.testing import Deployment, eventually
from a2a_events.timeline.ids import context_of
from tests.adapters import langgraph_graphs as graphs
from tests.adapters.langgraph_shelf import Shelf

pytestmark = [pytest.mark.integration, pytest.mark.processes, pytest.mark.timeout(120)]

HERE = Path(__file__).parent
HASTY = {"ack_wait_seconds": "2"}


def data(content: Any, message_id: str = "m") -> Message:
    return Message(message_id=message_id, role=Role.USER, parts=(Part(data=content),))


def values(task: Task) -> Any:
    (found,) = [artifact.parts[0].data for artifact in task.artifacts if artifact.artifact_id == "values"]
    return found


async def test_a_worker_that_dies_in_a_node_is_replaced_from_the_last_checkpoint(nats_url: str, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    async with (
        Deployment(nats_url, agents="langgraph_graphs:job", folder=HERE, workers=2, settings=HASTY) as deployment,
        Client(deployment.gateways[0].url) as client,
        jetstream_log(deployment.settings, "test") as (log, _),
    ):
        (tmp_path / "go-one").touch()
        task = await client.send(data({"folder": str(tmp_path)}), return_immediately=True)
        assert isinstance(task, Task)
        place = await log.find(task.id)
        assert place is not None
        shelf = Shelf(log, context_of(place, subject=Caller().subject, context_id=task.context_id))

        async def checkpointed() -> bool:
            graph = graphs.job.copy({"checkpointer": await shelf.thread()})
            state = await graph.aget_state({"configurable": {"thread_id": task.context_id}})
            return bool(state.values.get("done") == ["one"])

        await eventually(checkpointed)
        await eventually(lambda: begun.read_text().split() == ["one", "two"])
        (working,) = [worker for worker in deployment.workers if '"turn begun"' in worker.output]
        working.kill()
        await eventually(lambda: begun.read_text().split() == ["one", "two", "two"], timeout_seconds=30)
        async with client.subscribe(task.id) as updates:
            (tmp_path / "go-two").touch()
            (tmp_path / "go-three").touch()
            async for update in updates:
                task = accumulate(task, update.response)
    assert task.status.state is TaskState.COMPLETED
    assert begun.read_text().split() == ["one", "two", "two", "three"], "no node that had ended ran again"
    assert values(task)["done"] == ["one", "two", "three"]


async def test_a_worker_that_dies_while_a_model_speaks_says_it_again_in_the_same_artifact(nats_url: str) -> None:
    words = [f"word{number}" for number in range(40)]
    async with (
        Deployment(nats_url, agents="langgraph_graphs:slow_talk", folder=HERE, workers=2, settings=HASTY) as deployment,
        Client(deployment.gateways[0].url) as client,
    ):
        task = None
        async with client.stream(" ".join(words)) as updates:
            async for update in updates:
                task = accumulate(task, update.response)
                parts = sum(len(artifact.parts) for artifact in task.artifacts)
                if parts == 10 and all(worker.running for worker in deployment.workers):
                    (working,) = [worker for worker in deployment.workers if '"turn begun"' in worker.output]
                    working.kill()
        assert task is not None
        assert sum(not worker.running for worker in deployment.workers) == 1
        assert task.status.state is TaskState.COMPLETED
        assert ["".join(str(part.text) for part in artifact.parts).split() for artifact in task.artifacts] == [words]
        assert await client.get(task.id) == task


async def test_an_interrupt_is_answered_after_everything_was_stopped_and_started_again(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats")
    await server.start()
    try:
        async with Deployment(server.url, agents="langgraph_graphs:approval", folder=HERE) as deployment:
            async with Client(deployment.gateways[0].url) as client:
                asked = await client.send(data({"item": "book"}))
            assert isinstance(asked, Task)
            assert asked.status.state is TaskState.INPUT_REQUIRED
            for process in (*deployment.gateways, *deployment.workers):
                process.kill()
            await server.stop()
            await server.start()
            await deployment.add_worker()
            gateway = await deployment.add_gateway()
            async with Client(gateway.url) as client:
                done = await client.send("yes", task_id=asked.id)
            assert isinstance(done, Task)
            assert done.status.state is TaskState.COMPLETED
            assert values(done)["log"] == ["offered", "answered yes", "bought book for 4"]
    finally:
        await server.stop()
        server.clean()
