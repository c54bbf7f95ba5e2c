"""fasta2a's own server on our storage, broker and event bus, its workers elsewhere; asked by its own client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from fasta2a import FastA2A
from fasta2a.client import A2AClient
from fasta2a.pydantic_ai import AgentWorker
from fasta2a.schema import MessageSendConfiguration
from pydantic_ai import Agent

from a2a_events.adapters.fasta2a import LogBroker, LogStorage, Served, agent_of
from a2a_events.timeline.record import Writer
from tests.adapters.test_fasta2a_worker import Scripted
from tests.adapters.test_pydantic_ai import Prompter, said
from tests.integration.stack import Stack, stack_of

pytestmark = pytest.mark.integration

ServeOf = Callable[[Any], Awaitable[tuple[Stack, list[A2AClient]]]]


@pytest.fixture
async def serve(nats_url: str, namespace: str) -> AsyncIterator[ServeOf]:
    """Two servers of fasta2a and one worker of ours."""
    async with AsyncExitStack() as exits:

        async def served(worker: Any) -> tuple[Stack, list[A2AClient]]:
            agent = agent_of(worker, name="agent")
            stack = await exits.enter_async_context(stack_of("jetstream", agent, nats_url, namespace))
            clients = []
            for number in range(2):
                behind = Served(stack._logs[number], Writer("gateway", f"fasta2a-{number}"), agent="agent")
                app = FastA2A(storage=LogStorage(behind), broker=LogBroker(behind))
                await exits.enter_async_context(app.task_manager)
                http = httpx.AsyncClient(transport=Streaming(app))
                await exits.enter_async_context(http)
                clients.append(A2AClient("http://fasta2a", http))
            return stack, clients

        yield served


def saying(text: str, **members: Any) -> Any:
    return {"role": "user", "message_id": "m", "parts": [{"text": text}], **members}


async def ended(client: A2AClient, task_id: str) -> Any:
    async with asyncio.timeout(20):
        while True:
            answer: Any = await client.get_task(task_id)
            task = answer["result"]
            if task["status"]["state"] in {"completed", "failed", "canceled"}:
                return task
            await asyncio.sleep(0.02)


async def test_what_one_server_took_another_shows_and_the_context_goes_on(serve: ServeOf) -> None:
    model = Prompter()
    stack, (one, two) = await serve(lambda broker, storage: AgentWorker(broker, storage, Agent(model.model)))
    await stack.worker()
    sent: Any = await one.send_message(saying("one", context_id="talk"))
    first = await ended(two, sent["result"]["task"]["id"])
    sent = await two.send_message(saying("two", context_id="talk"))
    second = await ended(one, sent["result"]["task"]["id"])

    assert [task["artifacts"][0]["parts"] for task in (first, second)] == [
        [{"text": "you said one"}],
        [{"text": "you said two"}],
    ]
    assert [message["role"] for message in first["history"]] == ["user", "agent"]
    assert said(model.histories[-1]) == ["one", "you said one", "two"]


async def test_a_stream_shows_chunks_as_they_come_and_ends_with_the_task(serve: ServeOf) -> None:
    model = Prompter(gated=True)
    stack, (client, _) = await serve(lambda broker, storage: AgentWorker(broker, storage, Agent(model.model)))
    await stack.worker()
    results: list[Any] = []
    async for event in client.stream_message(saying("hello")):
        answer: Any = event
        results.append(answer["result"])
        model.gate.release()

    chunks = [result["artifact_update"] for result in results if "artifact_update" in result]
    assert results[0]["task"]["status"]["state"] == "submitted"
    assert [c["artifact"]["parts"][0]["text"] for c in chunks] == ["you", " said", " hello", "you said hello"]
    assert results[-1]["status_update"]["status"]["state"] == "completed"


async def test_who_subscribes_again_misses_nothing_that_fell_in_between(serve: ServeOf) -> None:
    """fasta2a loads the task first and subscribes then: what lands between the two must be shown."""
    proceed = asyncio.Event()

    async def work(worker: Scripted, params: Any) -> None:
        await worker.storage.update_task(params["id"], "working", new_artifacts=worker.build_artifacts("begun"))
        await proceed.wait()
        await worker.storage.update_task(params["id"], "completed")

    stack, (client, other) = await serve(Scripted(work))
    await stack.worker()
    sent: Any = await client.send_message(saying("go"))
    task_id = sent["result"]["task"]["id"]
    storage, bus = LogStorage(served_by(other)), LogBroker(served_by(other)).event_bus
    task: Any = await storage.load_task(task_id)
    while not task.get("artifacts"):
        await asyncio.sleep(0.02)
        task = await storage.load_task(task_id)
    assert task["status"]["state"] == "working"
    proceed.set()
    await ended(client, task_id)  # the end falls between loading and subscribing
    async with asyncio.timeout(20), bus.subscribe(task_id) as stream:
        updates: list[Any] = [update async for update in stream]

    assert [list(update) for update in updates] == [["status_update"]]
    assert updates[0]["status_update"]["status"]["state"] == "completed"


async def test_a_cancel_ends_what_runs_elsewhere(serve: ServeOf) -> None:
    begun = asyncio.Event()

    async def work(worker: Scripted, params: Any) -> None:
        begun.set()
        await asyncio.get_running_loop().create_future()

    worker = Scripted(work)
    stack, (client, _) = await serve(worker)
    await stack.worker()
    sent: Any = await client.send_message(saying("go"))
    task_id = sent["result"]["task"]["id"]
    await asyncio.wait_for(begun.wait(), 20)
    body = {"jsonrpc": "2.0", "id": 1, "method": "tasks/cancel", "params": {"id": task_id}}
    answer = (await client.http_client.post("/", json=body)).json()
    missing = (await client.http_client.post("/", json={**body, "params": {"id": "nobody's"}})).json()

    assert answer["result"]["status"]["state"] == "canceled"
    assert worker.canceled == [task_id]
    assert missing["error"]["code"] == -32001


async def test_what_comes_beside_a_message_reaches_the_worker(serve: ServeOf) -> None:
    async def work(worker: Scripted, params: Any) -> None:
        await worker.storage.update_task(params["id"], "completed")

    worker = Scripted(work)
    stack, (client, _) = await serve(worker)
    await stack.worker()
    configuration: Any = MessageSendConfiguration(accepted_output_modes=["text/plain"], history_length=3)
    sent: Any = await client.send_message(saying("go"), metadata={"user": "Ada"}, configuration=configuration)
    await ended(client, sent["result"]["task"]["id"])
    (params,) = worker.runs

    assert (params["metadata"], params["accepted_output_modes"], params["history_length"]) == (
        {"user": "Ada"},
        ["text/plain"],
        3,
    )


def served_by(client: A2AClient) -> Any:
    transport: Any = client.http_client._transport
    return transport.app.task_manager.storage._served


class Streaming(httpx.AsyncBaseTransport):
    """An application of the test's own event loop; unlike httpx's transport it does not wait for the end of a body."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        content = await request.aread()
        said: asyncio.Queue[Any] = asyncio.Queue()
        sent = False

        async def receive() -> Any:
            nonlocal sent
            if sent:
                await asyncio.get_running_loop().create_future()
            sent = True
            return {"type": "http.request", "body": content, "more_body": False}

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": "http",
            "path": request.url.path,
            "raw_path": request.url.raw_path,
            "query_string": request.url.query,
            "headers": [(k.lower(), v) for k, v in request.headers.raw],
            "client": ("127.0.0.1", 1),
            "server": ("fasta2a", 80),
        }
        running = asyncio.create_task(self.app(scope, receive, said.put))

        async def body() -> AsyncIterator[bytes]:
            more = True
            while more:
                event = await said.get()
                more = event.get("more_body", False)
                yield event.get("body", b"")
            await running

        start = await said.get()
        return httpx.Response(start["status"], headers=start["headers"], content=body())
