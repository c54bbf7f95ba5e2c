"""Updates folded into a Task, as the server folds them (specification 4.2.2 and 4.2.3)."""

from __future__ import annotations

from msgspec.structs import replace

from a2a_events.model import (
    TERMINAL_STATES,
    Artifact,
    StreamResponse,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatus,
    TaskStatusUpdateEvent,
)


def accumulate(task: Task | None, response: StreamResponse) -> Task:
    """The task after one more update. Pure: neither argument changes.

    - A Task replaces what was known.
    - A status replaces the status; the message of the one before moves to the history, unless it is there already.
    - An artifact is new or replaces the one with its id; with ``append`` its parts are added to the end of that one,
      its metadata merged into that one's member by member, and its other members replaced where given.
    - ``metadata`` of the update itself belongs to the update and is left out.
    - A task that has ended no longer changes, except by a Task.

    Some servers begin a stream with a status or an artifact: then the task begins with what that says.

    Args:
        task: what is known, None at the beginning of a stream.
        response: the update. A bare Message is no update of a task: look at ``message`` first.

    Raises:
        ValueError: the update is a Message, or of another task.
    """
    if response.task is not None:
        return response.task
    update = response.status_update or response.artifact_update
    if update is None:
        raise ValueError("a Message is the whole answer, not an update of a task")
    if task is None:
        # What was sent before is unknown; an artifact says at least that there is work.
        task = Task(id=update.task_id, context_id=update.context_id, status=TaskStatus(state=TaskState.WORKING))
    elif update.task_id != task.id:
        raise ValueError(f"an update of task {update.task_id}, not of {task.id}")
    if task.status.state in TERMINAL_STATES:
        return task
    if isinstance(update, TaskStatusUpdateEvent):
        return _status(task, update.status)
    return _artifact(task, update)


def _status(task: Task, status: TaskStatus) -> Task:
    said = task.status.message
    if said is None or any(message.message_id == said.message_id for message in task.history):
        return replace(task, status=status)
    return replace(task, status=status, history=(*task.history, said))


def _artifact(task: Task, update: TaskArtifactUpdateEvent) -> Task:
    given = replace(update.artifact, metadata=update.artifact.metadata or None)
    for place, known in enumerate(task.artifacts):
        if known.artifact_id == given.artifact_id:
            artifact = _longer(known, given) if update.append else given
            return replace(task, artifacts=(*task.artifacts[:place], artifact, *task.artifacts[place + 1 :]))
    return replace(task, artifacts=(*task.artifacts, given))


def _longer(known: Artifact, more: Artifact) -> Artifact:
    return Artifact(
        artifact_id=known.artifact_id,
        parts=known.parts + more.parts,
        name=more.name or known.name,
        description=more.description or known.description,
        metadata={**(known.metadata or {}), **more.metadata} if more.metadata else known.metadata,
        extensions=more.extensions or known.extensions,
    )
