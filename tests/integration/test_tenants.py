"""All tasks of one tenant: exported whole, deleted, and nobody else's touched."""

from __future__ import annotations

import pytest

from a2a_events import Task, Turn, agent, audit
from a2a_events.errors import TaskNotFoundError
from a2a_events.log.jetstream import JetStreamLog
from a2a_events.log.memory import MemoryLog
from a2a_events.runtime.caller import Caller
from a2a_events.runtime.tenants import delete, tasks_of
from a2a_events.runtime.transfer import export
from a2a_events.timeline import bundle as files
from a2a_events.timeline.ids import context_of
from a2a_events.timeline.record import Writer
from tests.integration.conftest import StackOf
from tests.integration.stack import Stack

WRITER = Writer("operator", "test")


@agent(name="tenanted")
async def tenanted(turn: Turn) -> None:
    if turn.text == "ask":
        turn.require_input("what else?")
    else:
        await (await turn.notebook("book")).add(b"noted")
        await turn.artifact(turn.text)


async def log_of(stack: Stack) -> JetStreamLog | MemoryLog:
    assert isinstance(stack.log, JetStreamLog | MemoryLog)
    return stack.log


async def test_an_export_holds_every_task_of_the_tenant_and_no_other(serve: StackOf) -> None:
    stack = await serve(tenanted)
    await stack.worker()
    mine = [await stack.calls_of("acme").send_task(text) for text in ("one", "two", "ask")]
    await stack.calls_of("other").send_task("three")
    await stack.calls.send_task("nobody's")
    found = [files.read(files.write(await export(stack.log, task))) for task in await tasks_of(stack.log, "acme")]
    assert {bundle.task.task_id for bundle in found} == {task.id for task in mine}
    for bundle in found:
        assert list(bundle.records) == [record async for run in stack.log.read(bundle.task) for record in run]


async def test_deleting_removes_what_has_ended_and_names_the_rest(
    serve: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted: list[tuple[str, str]] = []
    monkeypatch.setattr(audit, "deleted", lambda what, **of: deleted.append((what, of.get("task_id") or of["tenant"])))
    stack = await serve(tenanted)
    await stack.worker()
    acme, other = stack.calls_of("acme"), stack.calls_of("other")
    ended, waits = await acme.send_task("one"), await acme.send_task("ask")
    theirs = await other.send_task("two")
    log = await log_of(stack)

    async def noted(task: Task, tenant: str) -> tuple[bytes, ...]:
        context = context_of(stack.ref(task.id, tenant), subject=Caller().subject, context_id=task.context_id)
        return (await log.notes(context, "book")).contents

    done, left = await delete(log, WRITER, "acme", grace_seconds=0.0)
    assert (done.tasks, [task.task_id for task in left]) == (1, [waits.id])
    assert await noted(ended, "acme") == (b"noted",), "the task that waits may be of its context"
    with pytest.raises(TaskNotFoundError):
        await acme.get(ended.id)
    await acme.cancel(waits.id)
    done, left = await delete(log, WRITER, "acme", grace_seconds=0.0)
    assert (done.tasks, left) == (1, [])
    assert await tasks_of(log, "acme") == []
    assert await noted(ended, "acme") == ()
    assert deleted == [("task", ended.id), ("task", waits.id), ("contexts", "acme")]
    assert await noted(theirs, "other") == (b"noted",)
    assert (await other.get(theirs.id)).id == theirs.id
    assert len(await tasks_of(log, "other")) == 1
