"""Agents of pydantic-ai and fasta2a in real processes, asked by fasta2a's own client through the real gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fasta2a.client import A2AClient

from a2a_events.services.nats_server import NatsServer
from a2a_events.testing import Deployment

pytestmark = [pytest.mark.integration, pytest.mark.processes, pytest.mark.timeout(120)]

AGENTS = "tests.adapters.framework_agents"
WAITING: Any = {"accepted_output_modes": ["text/plain"], "blocking": True}


@asynccontextmanager
async def client_of(deployment: Deployment) -> AsyncIterator[A2AClient]:
    async with httpx.AsyncClient(timeout=60) as http:
        yield A2AClient(f"{deployment.gateways[-1].url}/fasta2a", http)


def saying(text: str, context_id: str) -> Any:
    return {"role": "user", "message_id": f"m-{text}", "parts": [{"text": text}], "context_id": context_id}


def answer_of(task: Any) -> tuple[int, str]:
    """Which process has answered, and what."""
    assert task["status"]["state"] == "completed", task
    (artifact,) = task["artifacts"]
    (part,) = artifact["parts"]
    pid, _, words = part["text"].partition(" has answered ")
    return int(pid), words


@pytest.mark.parametrize("name", ["rerun_agent", "rerun_worker"])
async def test_an_answer_whose_worker_is_killed_is_written_by_another(nats_url: str, name: str) -> None:
    settings = {"ack_wait_seconds": "2"}
    async with (
        Deployment(nats_url, agents=f"{AGENTS}:{name}", workers=2, settings=settings) as deployment,
        client_of(deployment) as client,
    ):
        before: Any = await client.send_message(saying("hello", "talk"), configuration=WAITING)
        answer_of(before["result"]["task"])
        results: list[Any] = []
        killed = 0
        async for event in client.stream_message(saying("slow", "talk")):
            answer: Any = event
            results.append(answer["result"])
            chunk = results[-1].get("artifact_update")
            if chunk is not None and not killed:
                killed = int(chunk["artifact"]["parts"][0]["text"].split()[0])
                next(worker for worker in deployment.workers if worker.pid == killed).kill()
        task_id = results[0]["task"]["id"]
        got: Any = await client.get_task(task_id)
        after: Any = await client.send_message(saying("and now", "talk"), configuration=WAITING)
    pid, words = answer_of(got["result"])

    assert results[-1]["status_update"]["status"]["state"] == "completed"
    assert pid != killed
    assert words == "1: hello slow " + " ".join(str(number) for number in range(40))
    # The answer that was begun and lost is not part of the conversation.
    assert answer_of(after["result"]["task"])[1] == "2: hello slow and now"


@pytest.mark.parametrize("name", ["agent", "worker"])
async def test_a_context_outlives_every_process_the_broker_included(broker: NatsServer, name: str) -> None:
    async with Deployment(broker.url, agents=f"{AGENTS}:{name}") as deployment:
        async with client_of(deployment) as client:
            one: Any = await client.send_message(saying("one", "talk"), configuration=WAITING)
        first, words = answer_of(one["result"]["task"])
        assert words == "0: one"
        for process in (*deployment.workers, *deployment.gateways):
            process.kill()
        broker.kill()
        await broker.start()
        await deployment.add_worker()
        await deployment.add_gateway()
        async with client_of(deployment) as client:
            two: Any = await client.send_message(saying("two", "talk"), configuration=WAITING)
    second, words = answer_of(two["result"]["task"])

    assert words == "1: one two"
    assert second != first


async def test_a_plain_agent_is_served_under_its_own_name(nats_url: str) -> None:
    async with Deployment(nats_url, agents=f"{AGENTS}:agent") as deployment, httpx.AsyncClient() as http:
        card = (await http.get(f"{deployment.gateways[0].url}/.well-known/agent-card.json")).json()

    assert card["name"] == "writer"
