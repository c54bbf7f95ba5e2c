"""One trace, and one story in the logs, across real gateways, workers and notifiers."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from a2a_events.testing import Deployment, eventually
from tests.integration.http import client, frames, message
from tests.integration.receiver import receiver

pytestmark = [pytest.mark.integration, pytest.mark.processes, pytest.mark.timeout(120)]

AGENTS = """
import structlog
from opentelemetry import trace

from a2a_events import Turn, agent

logger = structlog.get_logger("agents")
tracer = trace.get_tracer("agents")


@agent(name="curious")
async def curious(turn: Turn) -> None:
    with tracer.start_as_current_span("look it up"):
        logger.info("the agent says")
        await turn.artifact(turn.trace_headers)
"""
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
GIVEN = {"traceparent": PARENT, "tracestate": "vendor=1", "x-request-id": "ticket-4711"}


@asynccontextmanager
async def deployed(nats_url: str, folder: Path, **settings: str) -> AsyncIterator[Deployment]:
    (folder / "agents.py").write_text(AGENTS)
    settings = {"push_allow_private": "true", **settings}
    async with Deployment(nats_url, agents="agents:curious", notifiers=1, folder=folder, settings=settings) as made:
        yield made


class Story:
    """What a task has left behind: headers that its webhook got, and headers that its agent saw."""

    def __init__(self, task_id: str, pushed: list[dict[str, str]], seen: dict[str, str], request_id: str) -> None:
        self.task_id = task_id
        self.pushed = pushed
        self.seen = seen
        self.request_id = request_id


async def told(deployment: Deployment) -> Story:
    """One task with a webhook, streamed under a trace of its client's."""
    async with receiver() as to, client(deployment.gateways[0].url) as http:
        configuration = {"taskPushNotificationConfig": {"url": to.url}}
        asked = {**message("hello"), "configuration": configuration}
        async with http.stream("POST", "/message:stream", json=asked, headers=GIVEN) as response:
            updates = [frame.update async for frame in frames(response)]
        (task_id,) = {u.status_update.task_id for u in updates if u.status_update is not None}
        (seen,) = [u.artifact_update.artifact.parts[0].data for u in updates if u.artifact_update is not None]
        await eventually(
            lambda: any("TASK_STATE_COMPLETED" in one.body.decode() for one in to.accepted), what="the last push"
        )
        return Story(task_id, [one.headers for one in to.accepted], seen, response.headers["x-request-id"])


def spans(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for file in folder.glob("*.jsonl") for line in file.read_text().splitlines()]
    return [span for span in found if span["context"]["trace_id"] == f"0x{TRACE_ID}"]


async def test_one_trace_shows_a_task_across_processes(nats_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "spans"
    folder.mkdir()
    async with deployed(nats_url, tmp_path, traces=f"file:{folder}") as deployment:
        story = await told(deployment)
        for process in [*deployment.gateways, *deployment.workers, *deployment.notifiers]:
            assert await process.stop() == 0  # and has written its spans
    found = spans(folder)
    by_id = {span["context"]["span_id"]: span for span in found}

    def one(name: str) -> dict[str, Any]:
        (span,) = [span for span in found if span["name"] == name]
        return span

    def above(span: dict[str, Any]) -> str:
        return str(by_id[span["parent_id"]]["name"])

    send = "send log.{log}.{shard}.{agent}.{tenant}.{task}.{lane}"
    server, turn, own = one("SendStreamingMessage"), one("process curious"), one("look it up")
    assert (server["kind"], server["parent_id"]) == ("SpanKind.SERVER", "0xb7ad6b7169203331")
    assert server["attributes"]["a2a.task.id"] == turn["attributes"]["a2a.task.id"] == story.task_id
    assert server["attributes"]["a2a.code"] == "OK"
    assert [event["name"] for event in server["events"]] == ["first update"]
    assert turn["kind"] == "SpanKind.CONSUMER"
    assert (above(turn), above(by_id[turn["parent_id"]])) == (send, "SendStreamingMessage")
    assert [link["context"]["span_id"] for link in turn["links"]] == [turn["parent_id"]]
    assert above(own) == "process curious"
    written = [span for span in found if span["name"] == send]
    assert {span["attributes"]["messaging.system"] for span in written} == {"nats"}
    assert {above(span) for span in written} == {"SendStreamingMessage", "process curious"}
    pushes = [span for span in found if span["name"] == "push"]
    assert len(pushes) == len(story.pushed) >= 3
    assert {above(span) for span in pushes} == {send}
    services = {span["resource"]["attributes"]["service.name"] for span in found}
    assert services == {"a2a-events-gateway", "a2a-events-worker", "a2a-events-notifier"}
    # The agent was given the context of its own span, the webhook that of the request to it.
    assert story.seen == {"traceparent": f"00-{TRACE_ID}-{own['context']['span_id'][2:]}-01", "tracestate": "vendor=1"}
    ids = {span["context"]["span_id"][2:] for span in pushes}
    assert {headers["traceparent"].split("-")[2] for headers in story.pushed} == ids
    assert {headers["tracestate"] for headers in story.pushed} == {"vendor=1"}


async def test_without_spans_a_trace_is_passed_on_and_the_logs_tell_the_story(nats_url: str, tmp_path: Path) -> None:
    async with deployed(nats_url, tmp_path) as deployment:
        story = await told(deployment)
        notifier = deployment.notifiers[0]
        await eventually(lambda: "webhooks notified" in notifier.output, what="the notifier's line")
        outputs = [process.output for process in (*deployment.gateways, *deployment.workers, notifier)]
        async with client(deployment.gateways[0].url) as http:
            other = (await http.get(f"/tasks/{story.task_id}")).headers["x-request-id"]
            forged = await http.get(f"/tasks/{story.task_id}", headers={"x-request-id": "a b"})
    given = {name: GIVEN[name] for name in ("traceparent", "tracestate")}
    assert story.seen == given
    assert all(given.items() <= headers.items() for headers in story.pushed)
    lines = [json.loads(line) for output in outputs for line in output.splitlines() if story.task_id in line]
    assert [(line["service"], line["event"]) for line in lines] == [
        ("gateway", "request"),
        ("worker", "turn begun"),
        ("worker", "the agent says"),
        ("worker", "turn"),
        ("notifier", "webhooks notified"),
    ]
    request, begun, _, turn, notified = lines
    assert {line["task_id"] for line in lines} == {story.task_id}
    assert {line["trace_id"] for line in lines[:4]} == {TRACE_ID}
    assert {line["pod"] for line in lines} == {socket.gethostname()}
    assert request["request_id"] == story.request_id == "ticket-4711"
    assert (request["binding"], request["op"], request["code"]) == ("HTTP+JSON", "SendStreamingMessage", "OK")
    assert turn["dur_ms"] > 0 < request["dur_ms"]
    assert request["context_id"] == begun["context_id"] == turn["context_id"]
    assert (begun["epoch"], turn["state"], notified["posted"]) == (1, "TASK_STATE_COMPLETED", len(story.pushed))
    assert not any("hello" in output for output in outputs)
    assert other != story.request_id
    assert forged.headers["x-request-id"] not in {"a b", other, ""}


@pytest.mark.parametrize("collector", ["down", "blocking"])
async def test_a_collector_that_takes_nothing_holds_up_nobody(
    nats_url: str, tmp_path: Path, collector: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if collector == "blocking":
            listener.listen()  # connections are made, and nothing is ever read
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
        async with deployed(nats_url, tmp_path, traces="otlp") as deployment:
            async with client(deployment.gateways[0].url) as http:
                for _ in range(50):
                    answer = await http.post("/message:send", json=message("hello"), timeout=10)
                    assert answer.json()["task"]["status"]["state"] == "TASK_STATE_COMPLETED"
            for process in [*deployment.gateways, *deployment.workers]:
                process.ask_to_stop()
                assert await process.stopped(15) == 0
