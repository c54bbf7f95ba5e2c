"""Gateways that are asked to stop: no client loses anything, and none of them all at once."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from a2a_events.client import Client, Update
from a2a_events.model import Message, Part, Role, Task, TaskState
from a2a_events.testing import Deployment, GatewayProcess, eventually
from tests.integration.http import Frame, client, message, rpc, streaming, subscribed

pytestmark = [pytest.mark.integration, pytest.mark.processes, pytest.mark.timeout(120)]

SPREAD_SECONDS = 2.0
CHUNKS = 90
"""Of a stream of the load: it takes longer than streams are spread over."""
LONG = {"script": {"chunks": 200, "delayMs": 25}}


@pytest.fixture
async def deployment(nats_url: str) -> AsyncIterator[Deployment]:
    settings = {"ack_wait_seconds": "5", "drain_spread_seconds": str(SPREAD_SECONDS)}
    async with Deployment(nats_url, gateways=2, workers=2, settings=settings) as made:
        yield made


async def read_to_the_end(http: httpx.AsyncClient, path: str, begun: asyncio.Event) -> tuple[bytes, float]:
    """All bytes of a stream, and when it ended."""
    body = message(LONG) if path != "/" else rpc("SendStreamingMessage", message(LONG))
    raw = bytearray()
    async with http.stream("POST", path, json=body) as response:
        assert response.status_code == 200
        async for piece in response.aiter_raw():
            raw += piece
            if b"artifactUpdate" in raw:
                begun.set()
    return bytes(raw), time.monotonic()


async def test_streams_end_spread_over_a_time_between_two_updates_and_say_when_to_come_back(
    deployment: Deployment,
) -> None:
    one = deployment.gateways[0]
    async with client(one.url) as http:
        begun = [asyncio.Event() for _ in range(24)]
        reading = [
            asyncio.create_task(read_to_the_end(http, ("/", "/message:stream")[number % 2], event))
            for number, event in enumerate(begun)
        ]
        await asyncio.gather(*(event.wait() for event in begun))
        one.ask_to_stop()
        ended = await asyncio.gather(*reading)

    assert await one.stopped() == 0
    hints = []
    for raw, _ in ended:
        *updates, farewell, rest = raw.split(b"\n\n")
        assert rest == b""
        retry, comment = farewell.split(b"\n")
        assert comment == b": draining"
        hints.append(int(retry.removeprefix(b"retry: ")))
        assert all(update.startswith((b"id: ", b":")) for update in updates)  # no update is cut, and none is made up
        assert b"TASK_STATE_COMPLETED" not in raw
    assert all(1000 <= hint <= 5000 for hint in hints)
    assert len(set(hints)) > 12
    moments = sorted(moment for _, moment in ended)
    assert moments[-1] - moments[0] > SPREAD_SECONDS / 2


async def test_a_gateway_that_drains_says_so_refuses_new_streams_and_serves_everything_else(
    deployment: Deployment,
) -> None:
    one, two = deployment.gateways
    async with client(one.url) as http:
        begun = [asyncio.Event() for _ in range(12)]
        held = [asyncio.create_task(read_to_the_end(http, "/message:stream", event)) for event in begun]
        await asyncio.gather(*(event.wait() for event in begun))
        one.ask_to_stop()

        async def unready() -> bool:
            return (await http.get("/readyz")).status_code == 503

        await eventually(unready)
        assert (await http.get("/readyz")).json() == {"status": "draining", "failing": ["draining"]}
        assert (await http.get("/livez")).status_code == 200
        for path, body in (("/message:stream", message(LONG)), ("/", rpc("SendStreamingMessage", message(LONG)))):
            refused = await http.post(path, json=body)
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "1"
            assert refused.headers["connection"] == "close"
            assert '"effect":"none"' in refused.text
        sent = await http.post("/message:send", json=message({"script": {"chunks": 3}}))
        assert sent.json()["task"]["status"]["state"] == "TASK_STATE_COMPLETED"
        assert sent.headers["connection"] == "close"
        await asyncio.gather(*held)
    assert await one.stopped() == 0
    assert two.running


async def test_a_request_under_way_gets_its_answer(deployment: Deployment) -> None:
    one = deployment.gateways[0]
    async with client(one.url) as http:
        sending = asyncio.create_task(
            http.post("/message:send", json=message({"script": {"chunks": 60, "delayMs": 50}}))
        )

        async def working() -> bool:
            return bool((await http.get("/tasks", params={"status": "TASK_STATE_WORKING"})).json()["tasks"])

        await eventually(working)
        one.ask_to_stop()
        answer = await sending

    assert answer.json()["task"]["status"]["state"] == "TASK_STATE_COMPLETED"
    assert await one.stopped() == 0


async def test_a_gateway_serves_on_for_load_balancers_that_have_not_noticed(nats_url: str) -> None:
    async with Deployment(nats_url, settings={"pre_stop_seconds": "2", "drain_spread_seconds": "0"}) as deployment:
        (one,) = deployment.gateways
        async with client(one.url) as http:
            one.ask_to_stop()

            async def unready() -> bool:
                return (await http.get("/readyz")).status_code == 503

            await eventually(unready)
            async with streaming(http, message({"script": {"chunks": 5}})) as stream:
                assert [frame async for frame in stream][-1].state == "TASK_STATE_COMPLETED"
        assert await one.stopped() == 0


async def test_a_client_that_sees_only_raw_frames_resumes_elsewhere_from_its_cursor(deployment: Deployment) -> None:
    one, two = deployment.gateways
    seen: list[Frame] = []
    async with client(one.url) as http, streaming(http, message(LONG)) as stream:
        async for frame in stream:
            seen.append(frame)
            if frame.chunk == 5:
                one.ask_to_stop()
    task_id = next(f.update.status_update.task_id for f in seen if f.update.status_update is not None)
    async with client(two.url) as http, subscribed(http, task_id, seen[-1].cursor) as stream:
        seen += [frame async for frame in stream]

    assert [frame.chunk for frame in seen if frame.chunk is not None] == list(range(200))
    assert seen[-1].state == "TASK_STATE_COMPLETED"


# --- a rolling restart ------------------------------------------------------------------------------------------------


class Load:
    """Clients that send, stream and ask until told to stop; every failure of an operation is an error of the test."""

    def __init__(self, clients: list[Client]) -> None:
        self._clients = clients
        self._over = asyncio.Event()
        self.streams = self.sends = self.gets = 0

    def stop(self) -> None:
        self._over.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for client in self._clients:
                group.create_task(self._send(client))
                for _ in range(3):
                    group.create_task(self._stream(client))

    async def _stream(self, client: Client) -> None:
        while not self._over.is_set():
            async with client.stream(_script(chunks=CHUNKS, delayMs=30)) as updates:
                seen = [update async for update in updates]
            assert [_chunk(update) for update in seen if update.artifact] == list(range(CHUNKS))
            assert seen[-1].state is TaskState.COMPLETED
            assert not any(update.resynchronised for update in seen)
            task = await client.get(seen[0].task_id)
            assert task.status.state is TaskState.COMPLETED
            assert len(task.artifacts[0].parts) == CHUNKS
            self.streams += 1
            self.gets += 1

    async def _send(self, client: Client) -> None:
        while not self._over.is_set():
            answer = await client.send(_script(chunks=5, delayMs=10))
            assert isinstance(answer, Task)
            assert answer.status.state is TaskState.COMPLETED
            self.sends += 1


def _script(**script: int) -> Message:
    return Message(message_id="m", role=Role.USER, parts=(Part(data={"script": script}),))


def _chunk(update: Update) -> int:
    assert update.artifact is not None
    return int(str(update.artifact.artifact.parts[0].text).split()[0])


async def test_a_rolling_restart_of_everything_fails_no_task_and_no_operation(deployment: Deployment) -> None:
    gateways, workers = list(deployment.gateways), list(deployment.workers)
    urls = [gateway.url for gateway in gateways]
    async with Client(urls, binding="JSONRPC") as one, Client(urls, binding="HTTP+JSON") as two:
        load = Load([one, two])
        running = asyncio.create_task(load.run())
        done = 0
        for process in [*gateways, *workers]:
            await _more(load, running, done)
            done = load.streams
            assert await process.stop() == 0
            if isinstance(process, GatewayProcess):
                await deployment.add_gateway(process.port)
            else:
                await deployment.add_worker()
        await _more(load, running, done)
        load.stop()
        await running

    outcomes = [json.loads(line) for worker in deployment.workers for line in worker.output.splitlines()]
    turns = [line for line in outcomes if line.get("event") == "turn"]
    assert len(turns) == load.streams + load.sends
    assert {line["state"] for line in turns} == {"TASK_STATE_COMPLETED"}
    assert sum(gateway.output.count('"code":"STOPPED"') for gateway in deployment.gateways) > 0


async def _more(load: Load, running: asyncio.Task[None], done: int) -> None:
    def more() -> bool:
        if running.done():
            running.result()
        return load.streams >= done + 4

    await eventually(more, timeout_seconds=60, what="streams that ended")
