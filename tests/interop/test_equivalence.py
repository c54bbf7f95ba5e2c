"""One conversation held over each binding: the tasks, updates, lists and errors are the same but for ids and times."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from tests.interop.wire import BINDINGS, Caller, Failure, Frame, script, send

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

UNKNOWN = "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA"
"""An id that we could have made, and have not."""


async def asked_and_answered(caller: Caller) -> list[Any]:
    """A task that asks twice, seen by who sends and by a second connection."""
    asked = (await caller.call("SendMessage", send(script(chunks=6, artifacts=2, inputAt=2), contextId="kept")))["task"]
    task_id = asked["id"]
    async with caller.stream("SubscribeToTask", {"id": task_id}) as stream:
        second = aiter(stream)
        watched = [await anext(second)]
        answered = await caller.frames("SendStreamingMessage", send("yes", taskId=task_id))
        watched += [frame async for frame in second]
    shown = [
        await caller.call("GetTask", {"id": task_id, **length})
        for length in ({}, {"historyLength": 0}, {"historyLength": 2})
    ]
    return [asked, *content(answered), *content(watched), *shown]


async def authorised(caller: Caller) -> list[Any]:
    """A task that waits for authorisation."""
    before = await caller.frames("SendStreamingMessage", send(script(chunks=2, authAt=1)))
    task_id = before[0].data["task"]["id"]
    waiting = await caller.call("GetTask", {"id": task_id})
    after = await caller.call("SendMessage", send("done", taskId=task_id, configuration={"historyLength": 1}))
    return [*content(before), waiting, after]


async def canceled(caller: Caller) -> list[Any]:
    """A task that waits, and is canceled under the eyes of a subscriber."""
    waiting = (await caller.call("SendMessage", send(script(chunks=2, inputAt=1))))["task"]
    async with caller.stream("SubscribeToTask", {"id": waiting["id"]}) as stream:
        frames = aiter(stream)
        watched = [await anext(frames)]
        answer = await caller.call("CancelTask", {"id": waiting["id"], "metadata": {"why": "enough"}})
        watched += [frame async for frame in frames]
    return [waiting, answer, *content(watched), await caller.call("GetTask", {"id": waiting["id"]})]


async def resumed(caller: Caller) -> list[Any]:
    """A stream that is resumed from each of its cursors."""
    frames = await caller.frames("SendStreamingMessage", send(script(chunks=3, artifacts=3)))
    task_id = frames[0].data["task"]["id"]
    rest = [
        await caller.frames("SubscribeToTask", {"id": task_id}, headers={"Last-Event-ID": frame.id}) for frame in frames
    ]
    return [*content(frames), *(content(part) for part in rest)]


async def every_kind_of_content(caller: Caller) -> list[Any]:
    """What goes in and what comes out, byte for byte."""
    parts: list[dict[str, Any]] = [
        {"text": "é \u2028 \x00"},
        {"raw": "+/8=", "filename": "a.bin", "mediaType": "application/octet-stream"},
        {"url": "https://example.com/a"},
        {"data": {"deep": [1, {"x": None}], "big": 2**53, "small": 1e-9}, "metadata": {"k": [True]}},
        {"data": None},
    ]
    task = (await caller.call("SendMessage", send(*parts, metadata={"a": {"b": 1}})))["task"]
    return [task, await caller.call("GetTask", {"id": task["id"]})]


async def refused(caller: Caller) -> list[Any]:
    """Everything that can be wrong with a request, as far as both bindings can say it."""
    task = (await caller.call("SendMessage", send(script(chunks=1))))["task"]["id"]
    waiting = (await caller.call("SendMessage", send(script(chunks=2, inputAt=1))))["task"]["id"]
    failures = [
        await caller.refused("GetTask", {"id": UNKNOWN}),
        await caller.refused("GetTask", {"id": task, "historyLength": -1}),
        await caller.refused("CancelTask", {"id": task}),
        await caller.refused("SubscribeToTask", {"id": task}),
        await caller.refused("SubscribeToTask", {"id": task}, headers={"Last-Event-ID": "x"}),
        await caller.refused("SendMessage", send("x", taskId=task)),
        await caller.refused("SendMessage", send("x", taskId=waiting, contextId="another")),
        await caller.refused("SendStreamingMessage", send({"text": "a", "url": "b"})),
        await caller.refused("SendMessage", {"message": {"role": 9}}),
        await caller.refused("GetTask", {"id": task}, version="2.0"),
        await caller.refused("ListTasks", {"pageSize": 1000}),
        await caller.refused("ListTasks", {"status": "asleep"}),
    ]
    return [told(failure) for failure in failures]


SCENARIOS: dict[str, Callable[[Caller], Awaitable[list[Any]]]] = {
    scenario.__name__: scenario
    for scenario in (asked_and_answered, authorised, canceled, resumed, every_kind_of_content, refused)
}


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_a_scenario_shows_the_same_over_both_bindings(http: httpx.AsyncClient, scenario: str) -> None:
    over_one, over_other = [anonymous(await SCENARIOS[scenario](Caller(http, binding))) for binding in BINDINGS]
    assert over_one == over_other


@pytest.mark.parametrize("first", BINDINGS)
async def test_a_task_of_one_binding_goes_on_in_the_other(http: httpx.AsyncClient, first: str) -> None:
    one = Caller(http, first)
    other = Caller(http, next(binding for binding in BINDINGS if binding != first))
    asked = (await one.call("SendMessage", send(script(chunks=4, inputAt=2))))["task"]
    async with one.stream("SubscribeToTask", {"id": asked["id"]}) as stream:
        frames = aiter(stream)
        seen = [await anext(frames)]
        answered = await other.frames("SendStreamingMessage", send("yes", taskId=asked["id"]))
        seen += [frame async for frame in frames]
    assert seen[1:] == answered[1:]
    assert await one.call("GetTask", {"id": asked["id"]}) == await other.call("GetTask", {"id": asked["id"]})


def content(frames: list[Frame]) -> list[Any]:
    """What frames hold, without their cursors."""
    return [frame.data for frame in frames]


def told(failure: Failure) -> list[Any]:
    """An error without what only one binding has a place for."""
    return [failure.message, failure.details]


def anonymous(value: Any, member: str = "") -> Any:
    """The same with ids and times, which differ from run to run, replaced by their names."""
    if isinstance(value, dict):
        return {name: anonymous(held, name) for name, held in value.items()}
    if isinstance(value, list):
        return [anonymous(item) for item in value]
    return member if member in {"id", "taskId", "contextId", "messageId", "artifactId", "timestamp"} else value
