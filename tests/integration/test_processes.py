"""Real gateways, workers and brokers, killed in mid-stream: nothing is lost, repeated, reordered, and nothing hangs."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from a2a_events.services.nats_server import NatsServer
from a2a_events.testing import Deployment, eventually, nats_server
from tests.integration.http import Frame, client, frames, get_task, message, rpc, streaming, subscribed
from tests.integration.stack import accumulate, text_of

pytestmark = [pytest.mark.integration, pytest.mark.processes, pytest.mark.timeout(120)]

ACK_WAIT_SECONDS = 2
SCRIPT = {"script": {"chunks": 60, "delayMs": 25, "artifacts": 2}}


@pytest.fixture
async def deployment(nats_url: str) -> AsyncIterator[Deployment]:
    settings = {"ack_wait_seconds": str(ACK_WAIT_SECONDS)}
    async with Deployment(nats_url, gateways=2, workers=2, settings=settings) as made:
        yield made


def chunks(seen: list[Frame]) -> list[int]:
    return [frame.chunk for frame in seen if frame.chunk is not None]


def assert_whole(seen: list[Frame], count: int) -> None:
    assert chunks(seen) == list(range(count))
    revisions = [frame.revision for frame in seen]
    assert revisions == sorted(set(revisions))
    assert seen[-1].state == "TASK_STATE_COMPLETED"


async def test_a_client_whose_gateway_is_killed_goes_on_at_another_from_its_cursor(deployment: Deployment) -> None:
    one, two = deployment.gateways
    seen: list[Frame] = []

    async def follow_until_killed() -> None:
        async with client(one.url) as http, streaming(http, message(SCRIPT)) as stream:
            async for frame in stream:
                seen.append(frame)
                if frame.chunk == 20:
                    one.kill()

    with pytest.raises(httpx.TransportError):
        await follow_until_killed()
    task_id = _task_of(seen)
    async with client(two.url) as http:
        async with subscribed(http, task_id, seen[-1].cursor) as stream:
            seen += [frame async for frame in stream]
        assert_whole(seen, 60)
        accumulate([frame.update for frame in seen]).assert_equals(await get_task(http, task_id))
        async with subscribed(http, task_id, seen[5].cursor) as stream:
            again = [frame async for frame in stream]
        assert [frame.cursor for frame in again] == [frame.cursor for frame in seen[6:]]
        async with subscribed(http, task_id, seen[-1].cursor) as stream:
            assert [frame async for frame in stream] == []


async def test_gateways_killed_and_replaced_again_and_again_lose_nothing(deployment: Deployment) -> None:
    gateway = deployment.gateways[0]
    seen: list[Frame] = []
    script = {"script": {"chunks": 120, "delayMs": 25}}
    async with client(gateway.url) as http:
        sent = await http.post("/message:send", json={**message(script), "configuration": {"returnImmediately": True}})
    task_id = sent.json()["task"]["id"]
    cursor = ""
    for round_number in range(3):
        try:
            async with client(gateway.url) as http, subscribed(http, task_id, cursor) as stream:
                count = 0
                async for frame in stream:
                    seen.append(frame)
                    count += 1
                    if count == 15 and round_number < 2:
                        gateway.kill()
        except httpx.TransportError:
            gateway = deployment.gateways[1] if round_number == 0 else await deployment.add_gateway()
        cursor = seen[-1].cursor
    first = seen[0].update.task
    assert first is not None
    known = [int(str(p.text).split()[0]) for a in first.artifacts for p in a.parts]
    assert known + chunks(seen) == list(range(120))
    assert seen[-1].state == "TASK_STATE_COMPLETED"


def _task_of(seen: list[Frame]) -> str:
    return next(f.update.status_update.task_id for f in seen if f.update.status_update is not None)


async def test_a_turn_whose_worker_is_killed_ends_failed_soon_and_its_stream_ends(deployment: Deployment) -> None:
    one, two = deployment.gateways
    script = {"script": {"chunks": 1000, "delayMs": 25, "crashAt": 20}}
    seen: list[Frame] = []
    crashed = 0.0
    async with client(one.url) as http, streaming(http, message(script)) as stream:
        async for frame in stream:
            seen.append(frame)
            if frame.chunk is not None:
                crashed = time.monotonic()
    took = time.monotonic() - crashed

    assert chunks(seen) == list(range(20))
    assert seen[-1].state == "TASK_STATE_FAILED"
    assert took < ACK_WAIT_SECONDS + 5
    assert sum(not worker.running for worker in deployment.workers) == 1
    async with client(two.url) as http:
        task = await get_task(http, _task_of(seen))
        assert "disappeared" in text_of(task.status.message)
        accumulate([frame.update for frame in seen]).assert_equals(task)
        answer = await http.post("/message:send", json=message({"script": {"chunks": 3}}))  # the other worker goes on
        assert answer.json()["task"]["status"]["state"] == "TASK_STATE_COMPLETED"


async def test_a_worker_that_is_asked_to_stop_lets_its_turn_end(deployment: Deployment) -> None:
    for worker in deployment.workers[1:]:
        await worker.stop()
    worker = deployment.workers[0]
    seen: list[Frame] = []
    async with client(deployment.gateways[0].url) as http, streaming(http, message(SCRIPT)) as stream:
        async for frame in stream:
            seen.append(frame)
            if frame.chunk == 5:
                worker.ask_to_stop()

    assert_whole(seen, 60)
    assert await worker.stopped() == 0


async def test_a_worker_whose_drain_time_is_over_ends_its_turns_failed(nats_url: str) -> None:
    settings = {"drain_seconds": "0.5", "ack_wait_seconds": str(ACK_WAIT_SECONDS)}
    async with Deployment(nats_url, settings=settings) as deployment:
        (worker,), (gateway,) = deployment.workers, deployment.gateways
        seen: list[Frame] = []
        long = {"script": {"chunks": 1000, "delayMs": 50}}
        async with client(gateway.url) as http, streaming(http, message(long)) as stream:
            async for frame in stream:
                seen.append(frame)
                if frame.chunk == 5:
                    worker.ask_to_stop()

        last = seen[-1].update.status_update
        assert seen[-1].state == "TASK_STATE_FAILED"
        assert last is not None
        assert "stopped" in text_of(last.status.message)
        assert await worker.stopped() == 0


async def test_a_gateway_that_is_asked_to_stop_ends_and_its_clients_resume(deployment: Deployment) -> None:
    one, two = deployment.gateways
    seen: list[Frame] = []
    slow = {"script": {"chunks": 300, "delayMs": 30}}
    async with client(one.url) as http, streaming(http, message(slow)) as stream:
        async for frame in stream:
            seen.append(frame)
            if frame.chunk == 5:
                one.ask_to_stop()
    # The response was ended, not broken off, and long before the agent was done.
    assert len(seen) < 300
    assert await one.stopped() == 0
    async with client(two.url) as http, subscribed(http, _task_of(seen), seen[-1].cursor) as stream:
        seen += [frame async for frame in stream]

    assert_whole(seen, 300)


async def test_a_task_waits_for_input_while_all_workers_are_replaced(deployment: Deployment) -> None:
    asks = {"script": {"chunks": 6, "inputAt": 3}}
    async with client(deployment.gateways[0].url) as http:
        task = (await http.post("/message:send", json=message(asks))).json()["task"]
        assert task["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
    for worker in deployment.workers:
        worker.kill()
    await deployment.add_worker()
    async with client(deployment.gateways[1].url) as http:
        answer = await http.post("/message:send", json=message("yes", taskId=task["id"]))
        ended = answer.json()["task"]

    assert ended["status"]["state"] == "TASK_STATE_COMPLETED"
    assert [part["text"][:6] for part in ended["artifacts"][0]["parts"]] == [f"{n:06d}" for n in range(6)]


async def test_a_cancel_at_the_other_gateway_stops_the_work_soon(deployment: Deployment) -> None:
    one, two = deployment.gateways
    seen: list[Frame] = []
    asked, answered = 0.0, ""
    async with client(one.url) as http, client(two.url) as other:
        async with streaming(http, message({"script": {"chunks": 5000, "delayMs": 20}})) as stream:
            async for frame in stream:
                seen.append(frame)
                if frame.chunk == 10:
                    asked = time.monotonic()
                    answered = (await other.post(f"/tasks/{_task_of(seen)}:cancel")).json()["status"]["state"]
        took = time.monotonic() - asked

    assert answered == "TASK_STATE_CANCELED"
    assert seen[-1].state == "TASK_STATE_CANCELED"
    assert took < 5


async def test_a_client_that_never_reads_slows_down_nobody(deployment: Deployment) -> None:
    gateway, other = deployment.gateways
    reader_less = socket.socket()
    reader_less.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader_less.setblocking(False)
    loop = asyncio.get_running_loop()
    big = {"script": {"chunks": 6000, "bytes": 4000, "artifacts": 30}}
    try:
        await loop.sock_connect(reader_less, ("127.0.0.1", gateway.port))
        await loop.sock_sendall(reader_less, _request(rpc("SendStreamingMessage", message(big, contextId="never"))))
        before = _resident(gateway.pid)

        async def normal(http: httpx.AsyncClient) -> None:
            async with streaming(http, message({"script": {"chunks": 20, "delayMs": 10}})) as stream:
                assert_whole([frame async for frame in stream], 20)

        async with client(gateway.url) as http:
            await asyncio.gather(*(normal(http) for _ in range(100)))

            # The one that nobody reads ended as well: its worker never waited for a reader.
            await eventually(
                lambda: sum(worker.output.count('"event":"turn"') for worker in deployment.workers) == 101,
                timeout_seconds=60,
                what="the end of all 101 turns",
            )
        # 24 MB were said to it; what waits for it is bounded, and 100 other streams were served meanwhile.
        assert _resident(gateway.pid) - before < 60_000_000
    finally:
        reader_less.close()
    assert other.running


def _request(body: object) -> bytes:
    content = json.dumps(body).encode()
    return (
        b"POST / HTTP/1.1\r\nHost: x\r\nA2A-Version: 1.0\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(content), content)
    )


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


async def test_a_killed_and_restarted_broker_loses_nothing_in_mid_stream(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    await server.start()
    try:
        async with Deployment(server.url, gateways=2, workers=2) as deployment:
            # Longer than the outage, so that turns run through it.
            script = {"script": {"chunks": 100, "delayMs": 30}}
            killed = asyncio.Event()

            async def follow(gateway: int) -> None:
                seen: list[Frame] = []
                async with client(deployment.gateways[gateway].url) as http, streaming(http, message(script)) as stream:
                    async for frame in stream:
                        seen.append(frame)
                        if frame.chunk == 20:
                            killed.set()
                assert_whole(seen, 100)

            streams = [asyncio.create_task(follow(number % 2)) for number in range(6)]
            await asyncio.wait_for(killed.wait(), 30)
            server.kill()
            await asyncio.sleep(0.5)
            await server.start()
            await asyncio.wait_for(asyncio.gather(*streams), 60)
            async with client(deployment.gateways[0].url) as http:
                answer = await http.post("/message:send", json=message("after"))
                assert answer.json()["task"]["status"]["state"] == "TASK_STATE_COMPLETED"
    finally:
        await server.stop()
        server.clean()


async def test_a_gateway_without_a_broker_says_so_and_recovers(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    await server.start()
    try:
        async with Deployment(server.url) as deployment, client(deployment.gateways[0].url) as http:
            server.kill()

            async def unready() -> bool:
                return (await http.get("/readyz")).status_code == 503

            await eventually(unready)
            assert (await http.get("/livez")).status_code == 200
            refused = await http.get("/tasks/t1-main-0-AAAAAAAAAAAAAAAAAAAAAA")
            assert refused.status_code == 503
            assert "retry-after" in refused.headers
            await server.start()

            async def ready() -> bool:
                return (await http.get("/readyz")).status_code == 200

            await eventually(ready)
            answer = await http.post("/message:send", json=message("after"))
            assert answer.json()["task"]["status"]["state"] == "TASK_STATE_COMPLETED"
    finally:
        await server.stop()
        server.clean()


async def test_the_deployment_helper_leaves_no_process() -> None:
    async with nats_server() as url:
        async with Deployment(url) as deployment:
            processes = [*deployment.gateways, *deployment.workers]
            assert all(process.running for process in processes)
        assert not any(process.running for process in processes)


@pytest.mark.parametrize("path", ["/message:stream", "/"])
async def test_both_bindings_stream_the_same_updates(deployment: Deployment, path: str) -> None:
    async with client(deployment.gateways[0].url) as http:
        params = message({"script": {"chunks": 5}})
        body = rpc("SendStreamingMessage", params) if path == "/" else params
        async with http.stream("POST", path, json=body) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            assert_whole([frame async for frame in frames(response)], 5)
