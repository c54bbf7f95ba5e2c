"""Timelines out of a log, into another, and on from any revision."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from msgspec.structs import replace

from a2a_events.log.memory import MemoryLog
from a2a_events.log.port import Log
from a2a_events.model import TaskState
from a2a_events.runtime.agent import agent
from a2a_events.runtime.load import load
from a2a_events.runtime.transfer import (
    NotForkable,
    NotImportable,
    export,
    fork,
    import_bundle,
    memory_log,
    records_of,
)
from a2a_events.runtime.turn import Turn
from a2a_events.testing import eventually
from a2a_events.timeline import render
from a2a_events.timeline.bundle import Bundle, read, write
from a2a_events.timeline.decide import FAIL, RERUN, RESUME
from a2a_events.timeline.events import NOTHING
from a2a_events.timeline.fold import Phase, TaskFold
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Writer
from a2a_events.timeline.revisions import fold_at
from a2a_events.timeline.snapshot import restore, take
from tests.integration.conftest import StackOf
from tests.integration.stack import Stack, text_of

OPERATOR = Writer("operator", "operator-test")
COMPLETED = TaskState.COMPLETED


class Steps:
    """An agent that takes two steps, says what they gave, and may ask for more in between."""

    def __init__(self) -> None:
        self.fetched: list[str] = []
        self.broken = True

    def __call__(self, policy: str = RERUN) -> object:
        @agent(name="steps", policy=policy, attempts=1)
        async def run(turn: Turn) -> None:
            """Takes steps."""
            if turn.text == "ask":
                turn.require_input("which?")
                return
            first = await turn.step("first", self._fetch, "first")
            if not (policy == RESUME and turn.task.artifacts):
                await turn.artifact(f"one: {first}", artifact_id="one")
            await turn.flush()
            second = await turn.step("second", self._fetch, "second")
            await turn.chunk("two", f"two: {second}", last=True)
            await turn.flush()
            if self.broken and "fail" in turn.text:
                raise RuntimeError
            turn.complete(f"{len(turn.task.history)} messages")

        return run

    async def _fetch(self, name: str) -> str:
        self.fetched.append(name)
        return name.upper()


async def shown(log: Log, task: TaskRef) -> Any:
    return json.loads(render.task(TaskFold.of(await records_of(log, task)), task.task_id, {}))


async def revision_of(stack: Stack, task_id: str, kind: str, nth: int = 0) -> int:
    kinds = await stack.kinds(task_id)
    return [number for number, code in enumerate(kinds, 1) if code == kind][nth]


async def ended(stack: Stack, task: TaskRef) -> TaskFold:
    async def fold() -> TaskFold | None:
        found = await load(stack.log, task)
        return found if found.head.terminal else None

    found: TaskFold = await eventually(fold, what="the end of the fork")
    return found


# --- export and import -----------------------------------------------------------------------------------------------


async def test_what_is_exported_and_imported_is_the_same_task_byte_for_byte(serve: StackOf) -> None:
    stack = await serve(Steps()())
    await stack.worker()
    asked = await stack.calls.send_task("ask")
    task = await stack.calls.send_task("go", task_id=asked.id)
    content = write(await export(stack.log, stack.ref(task.id)))

    bundle = read(content)
    there = memory_log(bundle)
    fold = TaskFold.of(await records_of(stack.log, stack.ref(task.id)))
    again = TaskFold.of(await records_of(there, bundle.task))
    assert again.head == fold.head
    assert again.content == fold.content
    assert write(await export(there, bundle.task)) == write(replace(bundle, card=NOTHING))
    assert bundle.card


async def test_an_imported_task_has_the_same_content_wherever_it_stands(serve: StackOf) -> None:
    stack = await serve(Steps()())
    worker = await stack.worker()
    asked = await stack.calls.send_task("ask")
    task = await stack.calls.send_task("go", task_id=asked.id)
    bundle = await export(stack.log, stack.ref(task.id))
    await worker.vanish()

    new = await import_bundle(stack.log, bundle, new_id=True)
    assert new.task_id != task.id
    assert await shown(stack.log, stack.ref(task.id)) == json.loads(
        json.dumps(await shown(stack.log, new)).replace(new.task_id, task.id)
    )
    before, after = [await load(stack.log, ref) for ref in (stack.ref(task.id), new)]
    assert after.head.phase is before.head.phase
    assert after.head.revision == before.head.revision
    assert (await stack.calls.get(new.task_id)).status.state is COMPLETED


async def test_imported_tasks_are_dispatched_to_nobody(serve: StackOf) -> None:
    steps = Steps()
    stack = await serve(steps())
    worker = await stack.worker()
    task = await stack.calls.send_task("go")
    bundle = await export(stack.log, stack.ref(task.id))
    depth = await stack.log.queue_depth("steps")

    new = await import_bundle(stack.log, bundle, new_id=True)
    assert await stack.log.queue_depth("steps") == depth
    assert not any(record.inbound for record in await records_of(stack.log, new))
    await worker.vanish()
    assert steps.fetched == ["first", "second"]


async def test_an_import_that_was_interrupted_goes_on(serve: StackOf) -> None:
    stack = await serve(Steps()())
    await stack.worker()
    task = await stack.calls.send_task("go")
    bundle = await export(stack.log, stack.ref(task.id))
    target = MemoryLog(bundle.task.log, shards=bundle.task.shard + 1)
    whole = TaskFold.of(bundle.records).head
    half = replace(bundle, records=bundle.records[: len(bundle.records) // 2])

    await import_bundle(target, half)
    assert await import_bundle(target, bundle) == bundle.task
    assert await import_bundle(target, bundle) == bundle.task
    assert TaskFold.of(await records_of(target, bundle.task)).head.revision == whole.revision


async def test_an_unfinished_task_is_not_imported_where_somebody_would_go_on_with_it(serve: StackOf) -> None:
    stack = await serve(Steps()())
    await stack.worker()
    asked = await stack.calls.send_task("ask")
    bundle = await export(stack.log, stack.ref(asked.id))
    kinds = await stack.kinds(asked.id)

    with pytest.raises(NotImportable, match="workers of steps are alive"):
        await import_bundle(stack.log, bundle, new_id=True)
    assert await stack.kinds(asked.id) == kinds


async def test_another_task_of_this_id_is_left_as_it_is(serve: StackOf) -> None:
    stack = await serve(Steps()())
    await stack.worker()
    one, two = [await stack.calls.send_task("go") for _ in range(2)]
    bundle = await export(stack.log, stack.ref(one.id))
    other = await export(stack.log, stack.ref(two.id))
    mixed = Bundle(other.task, bundle.records)

    with pytest.raises(NotImportable, match="another task"):
        await import_bundle(stack.log, mixed)
    assert await export(stack.log, stack.ref(two.id)) == other


async def test_a_log_of_another_name_wants_a_new_id(serve: StackOf) -> None:
    stack = await serve(Steps()())
    await stack.worker()
    task = await stack.calls.send_task("go")
    bundle = await export(stack.log, stack.ref(task.id))
    elsewhere = MemoryLog("other")

    with pytest.raises(NotImportable, match="import it under a new id"):
        await import_bundle(elsewhere, bundle)
    new = await import_bundle(elsewhere, bundle, new_id=True)
    assert new.task_id.startswith("t1-other-0-")
    assert (await elsewhere.find(new.task_id)) == new


# --- forks -----------------------------------------------------------------------------------------------------------


async def test_a_fork_of_a_failed_turn_takes_its_steps_over_and_leaves_its_origin_alone(serve: StackOf) -> None:
    steps = Steps()
    stack = await serve(steps())
    await stack.worker()
    failed = await stack.calls.send_task("please fail")
    assert failed.status.state is TaskState.FAILED
    before = await export(stack.log, stack.ref(failed.id))
    steps.broken = False

    second = await revision_of(stack, failed.id, "p", 1)
    new = await fork(stack.log, stack.ref(failed.id), second, OPERATOR)
    await ended(stack, new)
    task = await stack.calls.get(new.task_id)

    assert steps.fetched == ["first", "second"]
    assert task.status.state is COMPLETED
    assert task.context_id == failed.context_id
    assert [(a.artifact_id, [p.text for p in a.parts]) for a in task.artifacts] == [
        ("one", ["one: FIRST"]),
        ("two", ["two: SECOND"]),
    ]
    assert [m.message_id for m in task.history[:1]] == [m.message_id for m in failed.history[:1]]
    assert {m.task_id for m in task.history} == {new.task_id}
    assert await export(stack.log, stack.ref(failed.id)) == before
    first = (await stack.records(new.task_id))[0].lines()[0]
    assert json.loads(first)["submitted"]["origin"] == {"taskId": failed.id, "revision": second}


async def test_a_fork_before_a_step_takes_that_step_again(serve: StackOf) -> None:
    steps = Steps()
    stack = await serve(steps())
    await stack.worker()
    task = await stack.calls.send_task("go")
    before_second = await revision_of(stack, task.id, "p", 1) - 1
    await ended(stack, await fork(stack.log, stack.ref(task.id), before_second, OPERATOR))
    assert steps.fetched == ["first", "second", "second"]


async def test_an_agent_that_resumes_goes_on_from_the_artifacts_of_the_revision(serve: StackOf) -> None:
    stack = await serve(Steps()(RESUME))
    await stack.worker()
    task = await stack.calls.send_task("go")
    first = await revision_of(stack, task.id, "A")
    new = await fork(stack.log, stack.ref(task.id), first, OPERATOR)
    fold = await ended(stack, new)
    kinds = await stack.kinds(new.task_id)
    assert list(fold.content.artifacts) == ["one", "two"]
    assert kinds.count("A") == 1


@pytest.mark.parametrize("policy", [FAIL, RERUN])
async def test_an_agent_that_begins_anew_sees_the_task_as_it_was_before_the_turn(serve: StackOf, policy: str) -> None:
    stack = await serve(Steps()(policy))
    await stack.worker()
    task = await stack.calls.send_task("go")
    first = await revision_of(stack, task.id, "A")
    new = await fork(stack.log, stack.ref(task.id), first, OPERATOR)
    begun = fold_at(await stack.records(new.task_id), 3)
    assert begun.head.phase is Phase.QUEUED
    assert not begun.content.artifacts
    await ended(stack, new)


async def test_a_fork_of_a_task_that_waits_for_its_client_waits_too(serve: StackOf) -> None:
    stack = await serve(Steps()())
    await stack.worker()
    asked = await stack.calls.send_task("ask")
    answered = await stack.calls.send_task("go", task_id=asked.id)
    waits = await revision_of(stack, asked.id, "S", 1)

    new = await fork(stack.log, stack.ref(asked.id), waits, OPERATOR)
    task = await stack.calls.get(new.task_id)
    assert task.status.state is TaskState.INPUT_REQUIRED
    assert text_of(task.status.message) == "which?"
    await eventually(lambda: _drained(stack), what="the delivery of the fork to be settled")

    done = await stack.calls.send_task("go", task_id=new.task_id)
    assert text_of(done.status.message) == text_of(answered.status.message) == "3 messages"
    assert [text_of(m) for m in done.history] == [text_of(m) for m in answered.history]


async def _drained(stack: Stack) -> bool:
    return await stack.log.queue_depth("steps") == 0


async def test_a_message_that_came_during_the_turn_is_handled_by_the_fork_too(serve: StackOf) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    @agent(name="steps", policy=RERUN)
    async def waits(turn: Turn) -> None:
        """Waits to be let go on."""
        started.set()
        await go_on.wait()
        await turn.artifact(" ".join(text_of(message) for message in turn.messages))

    stack = await serve(waits)
    await stack.worker()
    task = await stack.calls.send_task("one", immediately=True)
    await asyncio.wait_for(started.wait(), 20)
    await stack.calls.send_task("two", task_id=task.id, immediately=True)
    newest = len(await stack.kinds(task.id))
    new = await fork(stack.log, stack.ref(task.id), newest, OPERATOR)
    go_on.set()
    fold = await ended(stack, new)
    parts = [b"".join(a.parts.tail) for a in fold.content.artifacts.values()]
    shown_ = json.loads(render.task(fold, new.task_id, {})) if not fold.content.history.segments else {}
    assert parts == [b'{"text":"one two"}']
    assert [m["parts"][0]["text"] for m in shown_["history"]] == ["one", "two"]


async def test_what_is_over_or_was_never_there_is_not_forked(serve: StackOf) -> None:
    stack = await serve(Steps()())
    await stack.worker()
    task = await stack.calls.send_task("go")
    newest = len(await stack.kinds(task.id))
    with pytest.raises(NotForkable, match="had ended"):
        await fork(stack.log, stack.ref(task.id), newest, OPERATOR)
    for revision in (0, -1, newest + 1):
        with pytest.raises(NotForkable, match=f"revisions 1 to {newest}"):
            await fork(stack.log, stack.ref(task.id), revision, OPERATOR)


async def test_a_fork_has_snapshots_like_any_task(serve: StackOf) -> None:
    stack = await serve(Steps()(RESUME))
    await stack.worker()
    task = await stack.calls.send_task("go")
    last = await revision_of(stack, task.id, "A", 1)
    new = await fork(stack.log, stack.ref(task.id), last, OPERATOR)
    fold = fold_at(await stack.records(new.task_id), 4)
    snapshot = take(fold)
    again = restore(snapshot.head)
    assert again is not None
    assert render.task(again, new.task_id, {}) == render.task(fold, new.task_id, {})
    assert len({artifact.created for artifact in again.content.artifacts.values()}) == 2
