"""Executors in real processes, spoken to with a2a-sdk's own client; a worker dies in the middle of a task."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from a2a.client import A2ACardResolver, Client, ClientConfig, ClientFactory
from a2a.types import a2a_pb2 as pb

from a2a_events.testing import Deployment, eventually
from tests.adapters.executors import Counter

pytestmark = [pytest.mark.integration, pytest.mark.processes, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
EXECUTORS = "tests.adapters.executors"
AGENTS = ",".join(
    [
        f"{EXECUTORS}:HelloWorldAgentExecutor",
        f"{EXECUTORS}:Reporter",
        f"{EXECUTORS}:LongJob",
        f"{EXECUTORS}:Quiz",
        f"{EXECUTORS}:Counter",
        "tests.adapters.deployed:rerun",
        "tests.adapters.deployed:carded",
    ]
)


@pytest.fixture
async def deployment(nats_url: str) -> AsyncIterator[Deployment]:
    """Two gateways and two workers; a worker that says nothing for two seconds is taken for dead."""
    settings = {"ack_wait_seconds": "2"}
    async with Deployment(nats_url, agents=AGENTS, gateways=2, workers=2, settings=settings, folder=ROOT) as made:
        yield made


@asynccontextmanager
async def client_of(deployment: Deployment, agent: str, *, gateway: int = 0, **config: Any) -> AsyncIterator[Client]:
    async with AsyncExitStack() as exits:
        url = f"{deployment.gateways[gateway].url}/agents/{agent}"
        made = await ClientFactory(ClientConfig(**config)).create_from_url(url)
        exits.push_async_callback(made.close)
        yield made


def asking(text: str, **members: Any) -> pb.SendMessageRequest:
    message = pb.Message(message_id=os.urandom(6).hex(), role=pb.ROLE_USER, parts=[pb.Part(text=text)], **members)
    return pb.SendMessageRequest(message=message)


async def answer(client: Client, request: pb.SendMessageRequest) -> pb.StreamResponse:
    """The last thing that a client is told."""
    return [update async for update in client.send_message(request)][-1]


def text(artifact: pb.Artifact) -> str:
    return "".join(part.text for part in artifact.parts)


async def ended(client: Client, task_id: str) -> pb.Task:
    over = (pb.TASK_STATE_COMPLETED, pb.TASK_STATE_FAILED, pb.TASK_STATE_CANCELED)

    async def found() -> pb.Task | None:
        task = await client.get_task(pb.GetTaskRequest(id=task_id))
        return task if task.status.state in over else None

    task: pb.Task = await eventually(found, timeout_seconds=60, what=f"the end of {task_id}")
    return task


async def test_the_sdk_s_samples_do_what_they_do_everywhere(deployment: Deployment) -> None:
    async with client_of(deployment, "hello-world") as client:
        greeting = await answer(client, asking("hi"))
        assert greeting.message.parts[0].text == "Hello World"

    async with client_of(deployment, "reporter") as client:
        updates = [update async for update in client.send_message(asking("one two three"))]
        chunks = [text(u.artifact_update.artifact) for u in updates if u.HasField("artifact_update")]
        assert chunks == ["one ", "two ", "three "]
        assert updates[-1].status_update.status.state == pb.TASK_STATE_COMPLETED
        assert updates[-1].status_update.status.message.parts[0].text == "3 words"

    async with client_of(deployment, "long-job", streaming=False, polling=True) as client:
        begun = (await answer(client, asking("work"))).task
        canceled = await client.cancel_task(pb.CancelTaskRequest(id=begun.id))
        assert canceled.status.state == pb.TASK_STATE_CANCELED
        assert canceled.status.message.parts[0].text == "stopped on request"
        assert [a.artifact_id for a in canceled.artifacts] == ["log", "cleanup"]


async def test_a_conversation_goes_on_over_workers_and_gateways(deployment: Deployment) -> None:
    async with client_of(deployment, "quiz") as client:
        asked = await answer(client, asking("begin"))
        task_id = asked.status_update.task_id or asked.task.id
    deployment.workers[0].kill()
    async with client_of(deployment, "quiz", gateway=1) as client:
        again = await answer(client, asking("Ada", task_id=task_id))  # the SDK's client need not know the context
        assert again.status_update.status.message.parts[0].text == "Your age?"
    await deployment.add_worker()
    deployment.workers[1].kill()
    async with client_of(deployment, "quiz") as client:
        await answer(client, asking("36", task_id=task_id))
        done = await client.get_task(pb.GetTaskRequest(id=task_id))
        assert (done.status.state, text(done.artifacts[0])) == (pb.TASK_STATE_COMPLETED, "Ada, 36")


@pytest.mark.parametrize("agent", ["counter", "rerun"])
async def test_a_worker_dies_in_the_middle_of_a_task(deployment: Deployment, agent: str) -> None:
    async with client_of(deployment, agent, streaming=False, polling=True) as client:
        begun = (await answer(client, asking("count"))).task

        async def half_way() -> bool:
            task = await client.get_task(pb.GetTaskRequest(id=begun.id))
            return bool(task.artifacts) and len(task.artifacts[0].parts) > 3

        await eventually(half_way, what="a task half way")
        victim = next(worker for worker in deployment.workers if begun.id in worker.output)
        victim.kill()
        task = await ended(client, begun.id)
    if agent == "counter":
        assert task.status.state == pb.TASK_STATE_FAILED
        assert "the worker that ran this turn disappeared" in task.status.message.parts[0].text
        assert text(task.artifacts[0]).startswith("0 1 2 ")  # what was said is kept
    else:
        assert task.status.state == pb.TASK_STATE_COMPLETED
        assert text(task.artifacts[0]) == "".join(f"{step} " for step in range(Counter.STEPS))  # once


async def test_a_card_of_the_sdk_is_announced(deployment: Deployment) -> None:
    gateway = deployment.gateways[0]
    async with httpx.AsyncClient() as http:
        card = await A2ACardResolver(http, f"{gateway.url}/agents/carded").get_agent_card()
    assert (card.name, card.version, card.skills[0].id) == ("A counter", "3.1.4", "count")
    assert card.supported_interfaces[0].url.startswith(gateway.url)
