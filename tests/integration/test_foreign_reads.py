"""What is read for an answer about a task of somebody else: the same as for none, so time tells nothing."""

from __future__ import annotations

from typing import Any

import pytest

from a2a_events.agents import scripted
from a2a_events.errors import TaskNotFoundError
from a2a_events.model import (
    CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest,
    GetTaskPushNotificationConfigRequest,
    GetTaskRequest,
    ListTaskPushNotificationConfigsRequest,
    SubscribeToTaskRequest,
    TaskPushNotificationConfig,
)
from a2a_events.runtime.caller import Caller
from a2a_events.runtime.directory import Directory, ServedAgent
from a2a_events.runtime.operations import Operations
from a2a_events.runtime.push_configs import Targets
from a2a_events.timeline.record import Writer
from tests.integration.conftest import StackOf
from tests.integration.stack import Stack

MADE_UP = "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA"
READS = ("snapshot", "segments", "first_after", "last", "stored", "read", "save", "try_append", "reach", "find")


def counted(log: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is read and written of the log from now on."""
    seen: list[str] = []

    def watched(name: str) -> None:
        real = getattr(log, name)

        def call(*given: Any, **more: Any) -> Any:
            seen.append(name)
            return real(*given, **more)

        monkeypatch.setattr(log, name, call)

    for name in READS:
        watched(name)
    return seen


ASKED: dict[str, Any] = {
    "GetTask": lambda ops, who, agent, task: ops.get(who, agent, GetTaskRequest(id=task)),
    "CancelTask": lambda ops, who, agent, task: ops.cancel(who, agent, CancelTaskRequest(id=task)),
    "SubscribeToTask": lambda ops, who, agent, task: ops.subscribe(who, agent, SubscribeToTaskRequest(id=task)),
    "Create": lambda ops, who, agent, task: ops.push_configs.create(
        who, agent, TaskPushNotificationConfig(task_id=task, url="http://127.0.0.1:9/")
    ),
    "Get": lambda ops, who, agent, task: ops.push_configs.get(
        who, agent, GetTaskPushNotificationConfigRequest(task_id=task, id="hook")
    ),
    "List": lambda ops, who, agent, task: ops.push_configs.page(
        who, agent, ListTaskPushNotificationConfigsRequest(task_id=task)
    ),
    "Delete": lambda ops, who, agent, task: ops.push_configs.delete(
        who, agent, DeleteTaskPushNotificationConfigRequest(task_id=task, id="hook")
    ),
}


@pytest.mark.parametrize("operation", ASKED)
async def test_the_same_is_read_for_a_task_of_somebody_else_as_for_none(
    serve: StackOf, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """Time tells nothing where the same is done: a look for a snapshot and one for the first record, each once."""
    stack = await serve(scripted)
    await stack.worker()
    small = (await stack.calls.send_task({"script": {"chunks": 1}})).id
    large = (await stack.calls.send_task({"script": {"chunks": 700}})).id
    await stack.calls.get(large)
    assert await stack.log.snapshot(stack.ref(large)) is not None, "the large one has a snapshot"
    agent = await _served(stack)
    operations = Operations(stack.log, Writer("gateway", "test"), targets=Targets(allow_private=True))
    seen = counted(stack.log, monkeypatch)

    async def reads(task_id: str, who: Caller) -> list[str]:
        seen.clear()
        with pytest.raises(TaskNotFoundError):
            await ASKED[operation](operations, who, agent, task_id)
        return list(seen)

    for who in (Caller(subject="bob"), Caller(subject="eve", tenant="evil")):
        missing = await reads(MADE_UP, who)
        assert missing == ["snapshot", "first_after"]
        assert await reads(small, who) == missing
        assert await reads(large, who) == missing


async def _served(stack: Stack) -> ServedAgent:
    found = await Directory(stack.log, push=True).find()
    assert found is not None
    return found
