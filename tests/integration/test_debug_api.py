"""Timelines beside the A2A bindings: off unless enabled, and each task's only to who may see the task."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from a2a_events.agents import scripted
from a2a_events.bindings.app import create_app
from a2a_events.bindings.exchange import Streams
from a2a_events.bindings.timelines.debugging import Debugging
from a2a_events.client import Client
from a2a_events.model import Task
from a2a_events.runtime.caller import Caller
from a2a_events.runtime.directory import Directory
from a2a_events.services.gateway import _debugging_listeners
from a2a_events.settings import Settings, SettingsError
from a2a_events.testing import Calls, Deployment, free_port
from tests.integration.conftest import StackOf
from tests.integration.stack import Stack
from tests.integration.timelines import frames, got, refused

DEBUG = "/debug/timelines/tasks"


@asynccontextmanager
async def gateway(stack: Stack, *, debug_api: bool = True) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway's application over the log of a stack, called without a socket."""
    operations, streams = stack._operations[0], Streams()
    app = create_app(
        operations,
        Directory(stack.log),
        streams=streams,
        debugging=Debugging(operations, stack.log, streams) if debug_api else None,
    )
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(
        transport=transport, base_url="http://gateway", headers={"A2A-Version": "1.0"}
    ) as http:
        yield http


async def sent(calls: Calls, **script: Any) -> str:
    return (await calls.send_task({"script": script})).id


async def test_it_is_off_unless_it_is_enabled(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    task_id = await sent(stack.calls, chunks=1)
    async with gateway(stack, debug_api=False) as http:
        off = await http.get(f"{DEBUG}/{task_id}")
        assert off.status_code == 404
        assert off.json()["error"]["details"][0]["reason"] == "METHOD_NOT_FOUND"
    async with gateway(stack) as http:
        assert (await http.get(f"{DEBUG}/{task_id}")).status_code == 200


@pytest.mark.processes
async def test_with_a_port_of_its_own_it_is_there_and_nowhere_else(nats_url: str) -> None:
    port = free_port()
    async with (
        Deployment(nats_url, settings={"debug_api": "true", "debug_port": str(port)}) as deployment,
        httpx.AsyncClient(headers={"A2A-Version": "1.0"}) as http,
        Client(deployment.gateways[0].url) as client,
    ):
        task = await client.send("hi")
        assert isinstance(task, Task)
        public, apart = deployment.gateways[0].url, f"http://127.0.0.1:{port}"
        assert (await http.get(f"{apart}{DEBUG}/{task.id}")).status_code == 200
        for url in (f"{public}{DEBUG}/{task.id}", f"{apart}/tasks/{task.id}", f"{apart}/.well-known/agent-card.json"):
            assert (await http.get(url)).status_code == 404, url
            disguised = await http.get(url, headers={"host": f"127.0.0.1:{port}"})
            assert disguised.status_code == 404, url
        assert (await http.get(f"{public}/tasks/{task.id}")).status_code == 200


def test_it_is_not_public_by_accident() -> None:
    with pytest.raises(SettingsError, match="DEBUG_PORT"):
        _debugging_listeners(Settings(host="0.0.0.0", debug_api=True))  # noqa: S104 -- what must not be
    assert _debugging_listeners(Settings(debug_api=True)) == []
    assert _debugging_listeners(Settings(host="0.0.0.0")) == []  # noqa: S104 -- as above


async def test_who_gets_a_task_gets_its_timeline(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    task_id = await sent(stack.calls, chunks=3)
    async with gateway(stack) as http:
        for place in (DEBUG, f"/agents/scripted{DEBUG}"):
            summary = await got(http, f"{place}/{task_id}")
            newest = summary["revisions"]
            task = await got(http, f"/tasks/{task_id}")
            assert (await got(http, f"{place}/{task_id}/at/{newest}"))["task"] == task
            assert (await got(http, f"{place}/{task_id}/rows"))["total"] == newest
            async with http.stream("GET", f"{place}/{task_id}/events", params={"after": newest - 1}) as response:
                assert [frame["event"] async for frame in frames(response) if "event" in frame] == ["end"]


@pytest.mark.parametrize("path", ["", "/rows", "/at/1", "/difference", "/events", "/bundle", "/why"])
async def test_a_task_of_somebody_else_answers_as_one_that_does_not_exist(serve: StackOf, path: str) -> None:
    stack = await serve(scripted)
    await stack.worker()
    of_a = await sent(stack.calls_of("a"), chunks=1)
    subject = Caller(subject="somebody")
    of_somebody = await sent(Calls(stack._operations[0], stack.agent, caller=subject), chunks=1)
    nobody = "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA"
    async with gateway(stack) as http:
        assert (await http.get(f"/tasks/{of_a}?tenant=a")).status_code == 200
        wanted = await http.get(f"{DEBUG}/{nobody}{path}")
        assert wanted.status_code == 404
        for foreign in (f"{of_a}{path}", f"{of_a}{path}?tenant=b", f"{of_somebody}{path}"):
            answer = await http.get(f"{DEBUG}/{foreign}")
            assert (answer.status_code, answer.content) == (404, wanted.content), foreign
            answer.headers["x-request-id"] = wanted.headers["x-request-id"]  # each has its own
            assert answer.headers == wanted.headers


async def test_a_tenant_reads_its_own(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    task_id = await sent(stack.calls_of("a"), chunks=1)
    async with gateway(stack) as http:
        assert (await got(http, f"{DEBUG}/{task_id}", tenant="a"))["state"] == "COMPLETED"
        assert (await got(http, f"{DEBUG}/{task_id}/rows", tenant="a", kind="submitted"))["total"] == 1


async def test_there_is_no_list_and_no_fork(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    task_id = await sent(stack.calls, chunks=1)
    async with gateway(stack) as http:
        assert "nothing at this path" in await refused(http, DEBUG, 404)
        forked = await http.post(f"{DEBUG}/{task_id}/fork", json={"revision": 1})
        assert (forked.status_code, forked.headers["allow"]) == (405, "GET")
        assert [record.position for record in await stack.records(task_id)]


async def test_it_hides_no_tenant_of_a2a(serve: StackOf) -> None:
    stack = await serve(scripted)
    await stack.worker()
    task_id = await sent(stack.calls_of("debug"), chunks=1)
    async with gateway(stack) as http:
        assert (await http.get(f"/debug/tasks/{task_id}")).status_code == 200
