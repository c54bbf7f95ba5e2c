"""google-adk's executor, with a local model, in an environment of its own; spoken to with a2a-sdk's client."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from a2a.client import Client, ClientConfig, ClientFactory
from a2a.types import a2a_pb2 as pb
from google.protobuf.json_format import MessageToDict, ParseDict

from a2a_events.testing import Deployment, eventually
from tests.adapters.environment import INSTALL_SECONDS, python_with

pytestmark = [
    pytest.mark.integration,
    pytest.mark.processes,
    pytest.mark.timeout(INSTALL_SECONDS + 120),
    pytest.mark.asyncio(loop_scope="module"),
]

ROOT = Path(__file__).parents[2]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deployment(nats_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    """Two workers with google-adk; they share its sessions, as its documentation wants of several processes."""
    python = python_with(ROOT / "requirements" / "adk.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("ADK_SESSIONS", str(tmp_path_factory.mktemp("adk") / "sessions.db"))
        patch.setenv("ADK_DISABLE_LOAD_DOTENV", "1")
        async with Deployment(
            nats_url,
            agents="tests.adapters.adk_agents:executor",
            gateways=1,
            workers=2,
            settings={"ack_wait_seconds": "8"},  # its first call imports for seconds, and blocks the loop meanwhile
            folder=ROOT,
            worker_python=str(python),
        ) as made:
            yield made


@asynccontextmanager
async def client_of(deployment: Deployment, **config: Any) -> AsyncIterator[Client]:
    async with AsyncExitStack() as exits:
        made = await ClientFactory(ClientConfig(**config)).create_from_url(deployment.gateways[0].url)
        exits.push_async_callback(made.close)
        yield made


def asking(*parts: pb.Part, **members: Any) -> pb.SendMessageRequest:
    message = pb.Message(message_id=os.urandom(6).hex(), role=pb.ROLE_USER, parts=parts, **members)
    return pb.SendMessageRequest(message=message)


async def answered(client: Client, request: pb.SendMessageRequest) -> pb.Task:
    """The task as it is when the client was answered."""
    updates = [update async for update in client.send_message(request)]
    first = updates[0]
    return await client.get_task(pb.GetTaskRequest(id=first.task.id or first.status_update.task_id))


async def in_state(client: Client, task_id: str, *states: pb.TaskState) -> pb.Task:
    async def reached() -> pb.Task | None:
        task = await client.get_task(pb.GetTaskRequest(id=task_id))
        return task if task.status.state in states else None

    found: pb.Task = await eventually(reached, timeout_seconds=60, what=f"{task_id} to be {states}")
    return found


def said(task: pb.Task) -> str:
    return "".join(part.text for artifact in task.artifacts for part in artifact.parts)


async def at_work(deployment: Deployment, task_id: str) -> Any:
    """The worker that runs a task."""

    async def found() -> Any:
        return next((w for w in deployment.workers if w.running and task_id in w.output), None)

    return await eventually(found, what=f"a worker at {task_id}")


async def test_a_conversation_goes_on_on_another_worker(deployment: Deployment) -> None:
    async with client_of(deployment) as client:
        first = await answered(client, asking(pb.Part(text="hello")))
        assert (first.status.state, said(first)) == (pb.TASK_STATE_COMPLETED, "1 said, last hello")
        metadata = MessageToDict(first.metadata)
        assert metadata["adk_app_name"] == "local"
        assert metadata["adk_session_id"] == first.context_id

        (await at_work(deployment, first.id)).kill()
        await deployment.add_worker()
        second = await answered(client, asking(pb.Part(text="again"), context_id=first.context_id))
        assert said(second) == "3 said, last again"


async def test_what_a_tool_asks_is_answered_on_another_worker(deployment: Deployment) -> None:
    async with client_of(deployment) as client:
        asked = await answered(client, asking(pb.Part(text="approve")))
        assert asked.status.state == pb.TASK_STATE_INPUT_REQUIRED
        (call,) = [
            MessageToDict(part.data)
            for part in asked.status.message.parts
            if "adk_type" in MessageToDict(part.metadata)
            and MessageToDict(part.metadata)["adk_type"] == "function_call"
        ]
        assert (call["name"], call["args"]) == ("ask_for_approval", {"amount": 12.0})

        (await at_work(deployment, asked.id)).kill()
        await deployment.add_worker()
        answer = {
            "data": {"id": call["id"], "name": call["name"], "response": {"approved": "yes"}},
            "metadata": {"adk_type": "function_response"},
        }
        done = await answered(client, asking(ParseDict(answer, pb.Part()), task_id=asked.id))
        assert done.status.state == pb.TASK_STATE_COMPLETED, json.dumps(MessageToDict(done))
        assert "answered: yes" in said(done)


async def test_a_cancel_stops_it(deployment: Deployment) -> None:
    async with client_of(deployment, streaming=False, polling=True) as client:
        task = await answered(client, asking(pb.Part(text="slow")))
        await at_work(deployment, task.id)
        canceled = await client.cancel_task(pb.CancelTaskRequest(id=task.id))
        assert canceled.status.state == pb.TASK_STATE_CANCELED


async def test_a_worker_that_dies_fails_its_task_and_says_so(deployment: Deployment) -> None:
    async with client_of(deployment, streaming=False, polling=True) as client:
        task = await answered(client, asking(pb.Part(text="slow")))
        victim = await at_work(deployment, task.id)
        victim.kill()
        await deployment.add_worker()
        failed = await in_state(client, task.id, pb.TASK_STATE_FAILED, pb.TASK_STATE_COMPLETED)
        assert failed.status.state == pb.TASK_STATE_FAILED
        assert "the worker that ran this turn disappeared" in failed.status.message.parts[0].text
