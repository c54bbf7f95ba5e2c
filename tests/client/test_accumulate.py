"""Updates add up to the task that GetTask shows."""

from __future__ import annotations

import pytest

from a2a_events.client import accumulate
from a2a_events.model import (
    Artifact,
    Message,
    Part,
    Role,
    StreamResponse,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatus,
    TaskStatusUpdateEvent,
)


def _said(text: str) -> Message:
    return Message(message_id=text, role=Role.AGENT, parts=(Part(text=text),))


def _task(state: TaskState = TaskState.WORKING, said: Message | None = None, **members: object) -> Task:
    return Task(id="t1", context_id="c1", status=TaskStatus(state=state, message=said), **members)  # type: ignore[arg-type]


def _status(state: TaskState, said: Message | None = None, task_id: str = "t1") -> StreamResponse:
    status = TaskStatus(state=state, message=said)
    return StreamResponse(status_update=TaskStatusUpdateEvent(task_id=task_id, context_id="c1", status=status))


def _piece(*texts: str, append: bool = False, artifact_id: str = "a1", **members: object) -> StreamResponse:
    artifact = Artifact(artifact_id=artifact_id, parts=tuple(Part(text=t) for t in texts), **members)  # type: ignore[arg-type]
    return StreamResponse(
        artifact_update=TaskArtifactUpdateEvent(task_id="t1", context_id="c1", artifact=artifact, append=append)
    )


def _texts(task: Task) -> dict[str, list[object]]:
    return {artifact.artifact_id: [part.text for part in artifact.parts] for artifact in task.artifacts}


def test_a_task_replaces_what_was_known() -> None:
    fresh = _task(TaskState.COMPLETED)
    assert fresh is accumulate(_task(said=_said("old")), StreamResponse(task=fresh))


def test_a_status_replaces_the_status_and_its_message_becomes_history() -> None:
    task = accumulate(_task(said=_said("one")), _status(TaskState.COMPLETED, _said("two")))
    assert TaskStatus(state=TaskState.COMPLETED, message=_said("two")) == task.status
    assert (_said("one"),) == task.history


def test_a_message_that_history_has_already_is_not_added_twice() -> None:
    task = accumulate(_task(said=_said("one"), history=(_said("one"),)), _status(TaskState.COMPLETED))
    assert (_said("one"),) == task.history


def test_appended_parts_come_after_the_parts_there_are() -> None:
    task = accumulate(accumulate(_task(), _piece("a")), _piece("b", "c", append=True))
    assert {"a1": ["a", "b", "c"]} == _texts(task)


def test_without_append_an_artifact_is_replaced_in_its_place() -> None:
    task = accumulate(accumulate(_task(), _piece("a")), _piece("x", artifact_id="a2"))
    task = accumulate(task, _piece("b", name="new"))
    assert {"a1": ["b"], "a2": ["x"]} == _texts(task)
    assert ["a1", "a2"] == [artifact.artifact_id for artifact in task.artifacts]


def test_append_to_an_artifact_nobody_knows_creates_it() -> None:
    assert {"a1": ["a"]} == _texts(accumulate(_task(), _piece("a", append=True)))


def test_append_merges_metadata_and_keeps_what_it_does_not_name() -> None:
    task = accumulate(_task(), _piece("a", name="n", description="d", metadata={"k": 1, "l": {"deep": 1}}))
    task = accumulate(task, _piece("b", append=True, description="e", metadata={"l": {"other": 2}}))
    (artifact,) = task.artifacts
    assert ("n", "e", {"k": 1, "l": {"other": 2}}) == (artifact.name, artifact.description, artifact.metadata)


def test_a_task_that_has_ended_does_not_change() -> None:
    ended = _task(TaskState.COMPLETED)
    assert ended is accumulate(ended, _piece("late"))
    assert ended is accumulate(ended, _status(TaskState.WORKING))


def test_a_stream_may_begin_with_a_status_or_an_artifact() -> None:
    assert TaskState.INPUT_REQUIRED is accumulate(None, _status(TaskState.INPUT_REQUIRED)).status.state
    task = accumulate(None, _piece("a"))
    assert ("t1", "c1", TaskState.WORKING) == (task.id, task.context_id, task.status.state)


def test_nothing_given_is_changed() -> None:
    task = accumulate(_task(), _piece("a", metadata={"k": 1}))
    before = task.artifacts[0].metadata
    accumulate(task, _piece("b", append=True, metadata={"k": 2}))
    assert {"k": 1} == before


def test_a_message_is_no_update_of_a_task() -> None:
    with pytest.raises(ValueError, match="Message"):
        accumulate(None, StreamResponse(message=_said("hi")))


def test_an_update_of_another_task_is_refused() -> None:
    with pytest.raises(ValueError, match="t2"):
        accumulate(_task(), _status(TaskState.COMPLETED, task_id="t2"))
