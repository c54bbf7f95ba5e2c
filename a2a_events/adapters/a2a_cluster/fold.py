"""What the records of a task amount to for an a2a-sdk server: its Task, exactly as the server saved it.

The rules of a2a-sdk differ from those of ``timeline.fold`` in what they do with a task's metadata and with the message
of a status, so this fold applies theirs. A writer checks that an update amounts to the task that is to be saved before
it stores the update; otherwise it stores the whole task (:class:`~a2a_events.timeline.events.Forked`).
"""

from __future__ import annotations

from a2a.types.a2a_pb2 import Message, Task, TaskArtifactUpdateEvent, TaskState, TaskStatusUpdateEvent

from a2a_events.adapters.a2a_cluster.lines import Update, read_message, read_task, read_update
from a2a_events.timeline.events import (
    Event,
    Forked,
    Kind,
    MessageReceived,
    PushConfigDeleted,
    PushConfigSet,
    Replied,
    Submitted,
    Tombstone,
)
from a2a_events.timeline.fold import Head
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Record

AGENT = "agent"
"""Role of the actor of a message that an agent sent instead of an update of its task."""
TERMINAL = frozenset(
    {
        TaskState.TASK_STATE_COMPLETED,
        TaskState.TASK_STATE_CANCELED,
        TaskState.TASK_STATE_FAILED,
        TaskState.TASK_STATE_REJECTED,
    }
)
_UPDATES = frozenset({Kind.STATUS.value, Kind.ARTIFACT.value})


class SdkFold:
    """A task of an a2a-sdk server. Advanced by :meth:`apply`; what it holds is not to be changed.

    Args:
        ref: where the task lives.
    """

    def __init__(self, ref: TaskRef) -> None:
        self.ref = ref
        self.head = Head()
        """As everybody else folds it: what the next record needs."""
        self.task: Task | None = None
        self.version = 0
        """Position of the newest record that changed the task. Others, as of webhooks, may stand behind it."""
        self.owner = ""
        self.configs: dict[str, PushConfigSet] = {}
        """Webhooks by id; their secrets are sealed."""

    @property
    def terminal(self) -> bool:
        """Whether the task has ended."""
        return self.task is not None and self.task.status.state in TERMINAL

    def copy(self) -> Task:
        """The task, as one's own; it is there."""
        assert self.task is not None, "only a task that is there can be copied"
        task = Task()
        task.CopyFrom(self.task)
        return task

    def apply(self, record: Record) -> bool:
        """Advance by one record; False if it was applied before.

        Raises:
            Unreadable: it is damaged, or does not follow.
        """
        if not self.head.apply(record):
            return False
        events = record.events()
        for event in events:
            match event:
                case Submitted():
                    self.owner = event.owner.subject
                case PushConfigSet():
                    self.configs[event.id] = event
                case PushConfigDeleted():
                    self.configs.pop(event.id, None)
                case Tombstone():
                    self.task, self.configs = None, {}
                case _:
                    pass
        self._change(record, events)
        return True

    def _change(self, record: Record, events: list[Event]) -> None:
        if reply_in(events) is not None:
            return
        whole = whole_in(events)
        if whole is not None:
            # Whatever else is in the record tells other readers what has changed.
            self.task, self.version = read_task(whole.state), record.position
        elif self.task is not None and (updates := updates_in(record)):
            for update in updates:
                update_task(self.task, update)
            self.version = record.position


def amounts_to(before: Task, update: Update, wanted: Task) -> bool:
    """Whether an update makes the one task of the other."""
    after = Task()
    after.CopyFrom(before)
    update_task(after, update)
    return after == wanted


def update_task(task: Task, update: Update) -> None:
    """Change a task as a2a-sdk's TaskManager does."""
    if isinstance(update, TaskStatusUpdateEvent):
        if task.status.HasField("message"):
            task.history.append(task.status.message)
        if update.metadata:
            task.metadata.MergeFrom(update.metadata)
        task.status.CopyFrom(update.status)
        return
    given = update.artifact
    known = next((artifact for artifact in task.artifacts if artifact.artifact_id == given.artifact_id), None)
    if known is None:
        task.artifacts.append(given)
    elif not update.append:
        known.CopyFrom(given)
    else:
        known.parts.extend(given.parts)
        known.metadata.update(dict(given.metadata.items()))


def published(record: Record) -> list[Message | Task | TaskStatusUpdateEvent | TaskArtifactUpdateEvent]:
    """The events of a2a-sdk that a record stands for, as subscribers get them."""
    events = record.events()
    reply = reply_in(events)
    if reply is not None:
        return [reply]
    whole = whole_in(events)
    if whole is not None and whole.public:
        return [read_task(whole.state)]
    return [*updates_in(record)]


def reply_in(events: list[Event]) -> Message | None:
    """The message that an agent answered with."""
    for event in events:
        if isinstance(event, Replied) or (isinstance(event, MessageReceived) and event.actor.role == AGENT):
            return read_message(event.message)
    return None


def whole_in(events: list[Event]) -> Forked | None:
    """The task, if the record holds all of it."""
    return next((event for event in events if isinstance(event, Forked)), None)


def updates_in(record: Record) -> list[Update]:
    """The updates that a record holds."""
    return [
        read_update(line) for code, line in zip(record.header.kinds, record.lines(), strict=True) if code in _UPDATES
    ]
