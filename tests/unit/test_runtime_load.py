"""Reading a task whose snapshot has lost a part, and answers that cannot be made after something was written."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from a2a_events import limits
from a2a_events.bindings.errors import shown
from a2a_events.errors import A2AError, Unavailable
from a2a_events.log.memory import MemoryLog
from a2a_events.model import (
    AgentCapabilities,
    AgentCard,
    CancelTaskRequest,
    Message,
    Part,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
)
from a2a_events.runtime.caller import Caller
from a2a_events.runtime.directory import ServedAgent
from a2a_events.runtime.load import content, load
from a2a_events.runtime.operations import Operations
from a2a_events.timeline.fold import TaskFold
from a2a_events.timeline.ids import TaskRef, reference
from a2a_events.timeline.record import Entry, Record, Writer, entry
from a2a_events.timeline.render import segment_keys
from a2a_events.timeline.render import task as rendered
from a2a_events.timeline.snapshot import take
from tests.unit.timeline_builders import NOW, REF, TASK, artifact, next_draft, submitted

CARD = AgentCard(
    name="writer",
    description="writes",
    version="1",
    supported_interfaces=(),
    capabilities=AgentCapabilities(streaming=True),
    default_input_modes=("*/*",),
    default_output_modes=("*/*",),
    skills=(),
)
WRITER = ServedAgent("writer", CARD, "task")


class Forgetful(MemoryLog):
    """A log whose segments are gone, or out of reach."""

    failure: Unavailable | None = None

    async def segments(self, task: TaskRef, keys: list[str]) -> dict[str, bytes]:
        if self.failure is not None:
            raise self.failure
        return {}


async def _append(log: MemoryLog, fold: TaskFold, entries: list[Entry]) -> None:
    made = next_draft(fold.head, entries, record_id=f"record-{fold.head.revision}")
    position = await log.try_append(REF, made, fold.head.position)
    fold.apply(Record(position, made.header, made.payload, made.inbound))


async def test_a_fold_whose_segment_is_missing_is_made_anew_as_far_as_it_went(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SEGMENT_BYTES", 1)
    log, fold = Forgetful(), TaskFold.empty()
    await _append(log, fold, [entry(submitted(), NOW)])
    await _append(log, fold, [artifact("a", "one")])
    as_it_was = rendered(fold, TASK, {})
    take(fold)
    assert segment_keys(fold)
    later = TaskFold.empty()
    for record in [r async for run in log.read(REF) for r in run]:
        later.apply(record)
    await _append(log, later, [artifact("a", "two", append=True)])

    whole, segments = await content(log, REF, fold, segment_keys(fold))

    assert rendered(whole, TASK, segments) == as_it_was
    assert whole.head.revision == fold.head.revision


def _request(message_id: str, task_id: str = "") -> SendMessageRequest:
    message = Message(message_id=message_id, role=Role.USER, parts=(Part(text="hello"),), task_id=task_id)
    return SendMessageRequest(message=message, configuration=SendMessageConfiguration(return_immediately=True))


async def _stored_with_a_snapshot(log: Forgetful, operations: Operations) -> tuple[TaskRef, str]:
    task_id = (await operations.send(Caller(), WRITER, _request("m1"))).task_id
    task = reference(task_id, agent="writer", tenant="")
    assert task is not None
    await log.save(task, take(await load(log, task)))
    log.failure = Unavailable("out of reach")
    return task, task_id


async def _ask(operations: Operations, operation: str, task_id: str) -> None:
    match operation:
        case "send":
            await operations.send(Caller(), WRITER, _request("m2", task_id))
        case "stream":
            updates = await operations.send_stream(Caller(), WRITER, _request("m2", task_id))
            async with aclosing(updates):
                await anext(aiter(updates))
        case _:
            await operations.cancel(Caller(), WRITER, CancelTaskRequest(id=task_id))


@pytest.mark.parametrize("operation", ["send", "stream", "cancel"])
async def test_an_answer_that_cannot_be_made_does_not_deny_what_was_written(
    operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SEGMENT_BYTES", 1)
    log = Forgetful()
    operations = Operations(log, Writer("gateway", "gateway-1"))
    task, task_id = await _stored_with_a_snapshot(log, operations)
    before = await log.last(task)

    with pytest.raises((A2AError, Unavailable)) as raised:
        await _ask(operations, operation, task_id)

    assert await log.last(task) != before, "something was written"
    error = shown(raised.value)
    assert error.http_status == 503
    assert "nothing was written" not in error.message
    assert task_id in error.message, "it says what to look at"
