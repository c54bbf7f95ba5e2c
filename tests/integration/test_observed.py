"""What operators see of real gateways, workers and notifiers: metrics that move when something happens."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator

import httpx
import pytest

from a2a_events.testing import Deployment, eventually
from a2a_events.testing.deployment import ServiceProcess
from tests.integration.http import client, message, rpc, streaming, subscribed
from tests.integration.receiver import answering, receiver

pytestmark = [pytest.mark.integration, pytest.mark.processes, pytest.mark.timeout(120)]

SETTINGS = {"ack_wait_seconds": "2", "push_allow_private": "true", "push_pause_seconds": "0.1", "push_attempts": "2"}


@pytest.fixture
async def deployment(nats_url: str) -> AsyncIterator[Deployment]:
    async with Deployment(nats_url, notifiers=1, settings=SETTINGS, admin=True) as made:
        yield made


class Scrape:
    """The metrics of one process, as a scrape showed them."""

    def __init__(self, text: str) -> None:
        samples = re.findall(r"^([a-z_0-9]+)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE)
        self._samples = [(name, dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(v)) for name, labels, v in samples]

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of the samples with these labels."""
        return sum(v for n, seen, v in self._samples if n == name and labels.items() <= seen.items())


async def scrape(process: ServiceProcess) -> Scrape:
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"{process.admin_url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return Scrape(answer.text)


async def send(http: httpx.AsyncClient, content: object, **configuration: object) -> str:
    given = {"returnImmediately": True, **configuration}
    answer = await http.post("/message:send", json={**message(content), "configuration": given})
    assert answer.status_code == 200, answer.text
    task_id: str = answer.json()["task"]["id"]
    return task_id


async def ended(http: httpx.AsyncClient, task_id: str) -> bool:
    state: str = (await http.get(f"/tasks/{task_id}")).json()["status"]["state"]
    return state in {"TASK_STATE_COMPLETED", "TASK_STATE_FAILED"}


async def test_requests_and_streams_are_counted(deployment: Deployment) -> None:
    gateway, worker = deployment.gateways[0], deployment.workers[0]
    script = {"script": {"chunks": 10, "delayMs": 300}}  # long enough for a scrape, on a busy machine too
    async with client(gateway.url) as http:
        async with streaming(http, message(script)) as stream:
            first = await anext(stream)
            seen = await scrape(gateway)
            assert seen("a2a_sse_streams", operation="SendStreamingMessage") == 1
            assert seen("a2a_requests_in_flight") == 1
            count = 1 + len([frame async for frame in stream])
        task_id = first.update.task.id if first.update.task else ""
        async with subscribed(http, task_id, first.cursor) as stream:
            count += len([frame async for frame in stream])
        for _ in range(3):
            await http.get(f"/tasks/{task_id}")
        await http.get("/tasks/nothing")
        await http.post("/", json=rpc("NoSuchMethod" + os.urandom(3).hex(), {}))
        await http.post("/", json=rpc("GetTask", {"id": task_id}))
    seen = await scrape(gateway)
    assert seen("a2a_sse_streams") == seen("a2a_requests_in_flight") == 0
    assert seen("a2a_sse_events_sent_total") == count
    assert seen("a2a_sse_disconnects_total", reason="terminal") == seen("a2a_sse_disconnects_total") == 2
    assert seen("a2a_sse_resume_total", result="hit") == seen("a2a_sse_resume_total") == 1
    assert 0 < seen("a2a_sse_event_lag_seconds_count") <= count
    assert seen("a2a_requests_total", binding="HTTP+JSON", operation="GetTask", code="OK") == 3
    assert seen("a2a_requests_total", binding="HTTP+JSON", operation="GetTask", code="TASK_NOT_FOUND") == 1
    assert seen("a2a_requests_total", binding="JSONRPC", operation="GetTask", code="OK") == 1
    assert seen("a2a_requests_total", binding="JSONRPC", operation="other", code="METHOD_NOT_FOUND") == 1
    assert seen("a2a_request_duration_seconds_count", operation="GetTask") == 5
    assert seen("a2a_tasks_created_total") == seen("a2a_events_appended_total", type="submitted") == 1
    assert seen("a2a_fold_duration_seconds_count") >= 5
    assert seen("a2a_nats_connected") == seen("a2a_build_info") == 1
    worked = await scrape(worker)
    assert worked("a2a_tasks_terminal_total", state="completed") == worked("a2a_tasks_terminal_total") == 1
    assert worked("a2a_task_duration_seconds_count", state="completed") == 1
    assert worked("a2a_task_queue_wait_seconds_count") == 1
    assert worked("a2a_events_appended_total", type="artifact") == 10
    assert worked("a2a_append_duration_seconds_count") >= 2
    assert worked("a2a_nats_rtt_seconds") > 0


async def test_a_worker_that_stands_still_is_fenced_and_its_turn_delivered_again(deployment: Deployment) -> None:
    one = deployment.workers[0]
    async with client(deployment.gateways[0].url) as http:
        task_id = await send(http, {"script": {"chunks": 100, "delayMs": 100}})

        async def claimed() -> bool:
            return (await scrape(one))("a2a_tasks_active") == 1

        await eventually(claimed, what="a turn that runs")
        assert (await scrape(one))("a2a_worker_leases") == 1
        os.kill(one.pid, signal.SIGSTOP)
        try:
            other = await deployment.add_worker()
            await eventually(lambda: ended(http, task_id), what="the end of a turn that was lost", timeout_seconds=30)
        finally:
            os.kill(one.pid, signal.SIGCONT)

        async def fenced() -> bool:
            return (await scrape(one))("a2a_worker_fenced_total") == 1

        await eventually(fenced, what="a worker that knows that it was fenced", timeout_seconds=30)
    seen = await scrape(other)
    assert seen("a2a_redeliveries_total") >= 1
    assert seen("a2a_dead_letters_total", reason="given_up") == 1
    assert seen("a2a_tasks_terminal_total", state="failed") == 1
    assert seen("a2a_worker_fenced_total") == 0


async def test_messages_to_one_task_at_once_are_conflicts(deployment: Deployment) -> None:
    gateway = deployment.gateways[0]
    async with client(gateway.url) as http:
        task_id = await send(http, {"script": {"chunks": 40, "delayMs": 50}})

        async def collided() -> bool:
            body = {**message("more", taskId=task_id), "configuration": {"returnImmediately": True}}
            more = [http.post("/message:send", json=body) for _ in range(10)]
            assert {answer.status_code for answer in await asyncio.gather(*more)} == {200}
            seen = await scrape(gateway)
            return sum(seen("a2a_append_conflicts_total", code=code) for code in ("10071", "10164")) >= 1

        await eventually(collided, what="two appends to one task at once")


async def test_webhooks_are_counted_by_what_came_of_them(deployment: Deployment) -> None:
    async with (
        receiver(answering(500)) as one,
        receiver(answering(500, 500)) as two,
        client(deployment.gateways[0].url) as http,
    ):
        for to in (one, two):
            await send(http, {"script": {"chunks": 1}}, taskPushNotificationConfig={"url": to.url})

        async def given_up() -> bool:
            return (await scrape(deployment.notifiers[0]))("a2a_dead_letters_total", reason="webhook") == 1

        await eventually(given_up, what="a webhook that was given up")
        await eventually(lambda: len(one.accepted) >= 3, what="updates that were taken")

        async def taken() -> bool:
            seen = await scrape(deployment.notifiers[0])
            return seen("a2a_push_attempts_total", result="taken") == len(one.accepted)

        await eventually(taken, what="updates that were counted")
    seen = await scrape(deployment.notifiers[0])
    assert seen("a2a_push_attempts_total", result="refused") == 3
    assert seen("a2a_push_lag_seconds_count") == len(one.accepted)
