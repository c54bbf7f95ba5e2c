"""What an executor says, held to the SDK's rules, as reports of our turn.

The rules are those of ``a2a.server.agent_execution.active_task`` of a2a-sdk 1.3: a Task comes before status updates; a
Message or a Task, not both; one Message; nothing after the end; ``append`` needs an artifact that is there; ids are
those of the request.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, TypeAlias, TypeVar

import structlog
from a2a.server.events import EventQueue
from a2a.server.tasks.task_manager import append_artifact_to_task
from a2a.types import a2a_pb2 as pb
from a2a.utils.errors import InvalidAgentResponseError
from google.protobuf.message import Message as ProtobufMessage

from a2a_events.adapters.a2a_sdk import protojson
from a2a_events.model import INTERRUPTED_STATES, TERMINAL_STATES, Artifact, Message, TaskState
from a2a_events.runtime.turn import Turn

Event: TypeAlias = pb.Message | pb.Task | pb.TaskStatusUpdateEvent | pb.TaskArtifactUpdateEvent
M = TypeVar("M", bound=ProtobufMessage)
T = TypeVar("T")

OUT_OF_BAND_SECONDS: Final = 0.2
"""How long AUTH_REQUIRED waits for the executor's return, which would end the turn with it, before clients are told."""

logger = structlog.get_logger(__name__)


class TurnQueue(EventQueue):
    """The event queue of one turn: an event is queued for the log when :meth:`enqueue_event` returns.

    Args:
        turn: reported to.
        task: as it was before the turn, None for a new one. It follows what is said, as the SDK's stored task does.

    Attributes:
        task: the task as it is now; None before the executor has shown one.
        broken: the rule that the executor broke, empty if none.
    """

    def __init__(self, turn: Turn, task: pb.Task | None) -> None:
        self.task = task
        self.broken = ""
        self._turn = turn
        self._asked: pb.Message | None = None
        """Goes into the task's history with the first update, as with the SDK."""
        self._message: pb.Message | None = None
        self._held: pb.TaskStatusUpdateEvent | None = None
        """A status that ends the turn if nothing more is said."""
        self._shown = False
        """Whether clients have seen what is held: AUTH_REQUIRED, of an executor that goes on."""
        self._showing: asyncio.Task[None] | None = None
        self._closed = False
        self._lock = asyncio.Lock()

    # --- the executor's side ------------------------------------------------------------------------------------------

    async def enqueue_event(self, event: Event) -> None:
        """Report an event. It is durable, and clients see it, in the order of reports.

        Raises:
            InvalidAgentResponseError: it breaks a rule; the task will end FAILED.
            OutputTooLarge: it does not fit into a record.
        """
        async with self._lock:
            if self._closed or self.broken:
                logger.warning("event dropped: its execution is over", task_id=self._turn.task_id, kind=_kind(event))
                return
            try:
                await self._take(event)
            except InvalidAgentResponseError as error:
                self.broken = error.message
                raise

    @property
    def ended(self) -> bool:
        """Whether the executor has said how the task ends."""
        return self._message is not None or (self._held is not None and _state(self._held.status) in TERMINAL_STATES)

    # --- the adapter's side -------------------------------------------------------------------------------------------

    async def begin(self, message: pb.Message) -> None:
        """The executor is to be run for a message; what it asked before, or ended with, was no end then."""
        async with self._lock:
            await self._go_on()
            self._asked = message
            if self.task is not None and self.task.status.state == pb.TASK_STATE_COMPLETED:
                self.task.status.state = pb.TASK_STATE_WORKING

    def goes_on(self) -> bool:
        """Whether the executor is to be run for the turn's next message: it did not give the task up."""
        if self.broken or self._message is not None:
            return False
        return self._held is None or _state(self._held.status) in INTERRUPTED_STATES | {TaskState.COMPLETED}

    def close(self) -> None:
        """What comes from now on is dropped: the executor has returned, or is not listened to any more."""
        self._closed = True
        if self._showing is not None:
            self._showing.cancel()

    def end_turn(self) -> None:
        """End the turn as the executor wanted."""
        turn = self._turn
        if self.broken:
            turn.fail(f"The task failed: its executor broke a rule of A2A. {self.broken}")
        elif self._message is not None:
            turn.reply(_read(self._message, Message))
        elif self._held is not None and not self._shown:
            status = self._held.status
            turn.end(_state(status), _said(status), metadata=_metadata(self._held))
        elif self.task is None:
            turn.fail("The task failed: its executor returned without a Task or a Message.")
        else:
            turn.rest()

    # --- rules --------------------------------------------------------------------------------------------------------

    async def _take(self, event: Event) -> None:
        if isinstance(event, pb.Message):
            self._reply(event)
            return
        if self._message is not None:
            raise InvalidAgentResponseError(
                f"Received {_kind(event)} in message mode. "
                "Use Task with TaskStatusUpdateEvent and TaskArtifactUpdateEvent instead."
            )
        self._check_ids(event)
        if self.ended:
            raise InvalidAgentResponseError(f"Received {_kind(event)} after the end of the task.")
        match event:
            case pb.Task():
                await self._begin_with(event)
            case pb.TaskStatusUpdateEvent():
                if self.task is None:
                    raise InvalidAgentResponseError(f"Agent should enqueue Task before {_kind(event)} event")
                await self._status(self.task, event)
            case _:
                await self._artifact(event)

    def _reply(self, message: pb.Message) -> None:
        if self.task is not None:
            raise InvalidAgentResponseError(
                "Received Message object in task mode. Use TaskStatusUpdateEvent or TaskArtifactUpdateEvent instead."
            )
        if self._message is not None:
            raise InvalidAgentResponseError("Multiple Message objects received.")
        _read(message, Message)  # what cannot be read is refused where it is said
        self._message = _copy(message)

    def _check_ids(self, event: pb.Task | pb.TaskStatusUpdateEvent | pb.TaskArtifactUpdateEvent) -> None:
        task_id = event.id if isinstance(event, pb.Task) else event.task_id
        if task_id != self._turn.task_id:
            raise InvalidAgentResponseError(f"{_kind(event)} is of task {task_id!r}, not {self._turn.task_id!r}.")
        if event.context_id != self._turn.context_id:
            raise InvalidAgentResponseError(
                f"{_kind(event)} is of context {event.context_id!r}, not {self._turn.context_id!r}."
            )

    async def _begin_with(self, event: pb.Task) -> None:
        if self.task is not None:
            logger.error("task exists already: its replacement is ignored", task_id=self._turn.task_id)
            return
        self.task, self._asked = _copy(event), None
        await self._turn.working()
        for artifact in event.artifacts:
            await self._turn.update_artifact(_read(artifact, Artifact), append=False, last_chunk=True)
        metadata = _metadata(event)
        if _state(event.status) is not TaskState.SUBMITTED or event.status.HasField("message") or metadata:
            status = pb.TaskStatusUpdateEvent(status=event.status, metadata=event.metadata)
            await self._report(status)

    async def _status(self, task: pb.Task, event: pb.TaskStatusUpdateEvent) -> None:
        await self._report(_copy(event))
        self._history(task)
        if task.status.HasField("message"):
            task.history.append(task.status.message)
        task.metadata.MergeFrom(event.metadata)
        task.status.CopyFrom(event.status)

    async def _report(self, event: pb.TaskStatusUpdateEvent) -> None:
        state, said, metadata = _state(event.status), _said(event.status), _metadata(event)
        await self._go_on()
        if state in TERMINAL_STATES or state in INTERRUPTED_STATES:
            self._held = event
            if state is TaskState.AUTH_REQUIRED:
                self._showing = asyncio.get_running_loop().create_task(self._show(event))
        else:
            # A task that a worker has is not SUBMITTED any more.
            await self._turn.status(TaskState.WORKING, said, metadata=metadata)

    async def _artifact(self, event: pb.TaskArtifactUpdateEvent) -> None:
        artifact = _read(event.artifact, Artifact)
        if self.task is None:
            self.task = pb.Task(id=event.task_id, context_id=event.context_id)
            self.task.status.state = pb.TASK_STATE_WORKING
        self._history(self.task)
        append_artifact_to_task(self.task, event)
        await self._go_on()
        await self._turn.update_artifact(
            artifact, append=event.append, last_chunk=event.last_chunk, metadata=_metadata(event)
        )

    def _history(self, task: pb.Task) -> None:
        asked, self._asked = self._asked, None
        if asked is None or any(known.message_id == asked.message_id for known in task.history):
            return
        if task.status.HasField("message"):
            task.history.append(task.status.message)
            task.status.ClearField("message")
        task.history.append(asked)

    # --- what ends the turn if nothing follows ------------------------------------------------------------------------

    async def _go_on(self) -> None:
        """Something follows a status that would have ended the turn: it was a report like others."""
        held, shown = self._held, self._shown
        self._held, self._shown = None, False
        if self._showing is not None:
            self._showing.cancel()
            self._showing = None
        if held is None or shown:
            return
        state = TaskState.AUTH_REQUIRED if _state(held.status) is TaskState.AUTH_REQUIRED else TaskState.WORKING
        await self._turn.status(state, _said(held.status), metadata=_metadata(held))

    async def _show(self, event: pb.TaskStatusUpdateEvent) -> None:
        """AUTH_REQUIRED and no return: the executor waits for what happens out of band, and clients have to know."""
        await asyncio.sleep(OUT_OF_BAND_SECONDS)
        async with self._lock:
            if self._held is event and not self._closed:
                self._shown = True
                self._showing = None
                await self._turn.status(TaskState.AUTH_REQUIRED, _said(event.status), metadata=_metadata(event))


def _kind(event: Event) -> str:
    return type(event).__name__


def _copy(message: M) -> M:
    """What an executor does with its own afterwards is its own."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _state(status: pb.TaskStatus) -> TaskState:
    try:
        return TaskState(pb.TaskState.Name(status.state))
    except ValueError:
        raise InvalidAgentResponseError(f"Received a status without a state that A2A knows: {status.state}") from None


def _said(status: pb.TaskStatus) -> Message | None:
    return _read(status.message, Message) if status.HasField("message") else None


def _metadata(event: pb.Task | pb.TaskStatusUpdateEvent | pb.TaskArtifactUpdateEvent) -> dict[str, Any] | None:
    if not event.HasField("metadata"):
        return None
    try:
        return protojson.members(event.metadata)
    except ValueError as error:
        raise InvalidAgentResponseError(f"Received {_kind(event)} with metadata that is not JSON: {error}") from None


def _read(message: ProtobufMessage, of: type[T]) -> T:
    try:
        return protojson.read(message, of)
    except ValueError as error:
        raise InvalidAgentResponseError(f"Received {type(message).__name__} that A2A does not allow: {error}") from None
