"""The data objects of A2A 1.0 (specification section 4)."""

from __future__ import annotations

from enum import Enum
from typing import Any

from msgspec import UNSET, Struct, UnsetType


class Wire(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """An object of the protocol. Members without a default are REQUIRED and always written."""


class TaskState(Enum):
    """Where a task stands (specification 4.1.3)."""

    SUBMITTED = "TASK_STATE_SUBMITTED"
    WORKING = "TASK_STATE_WORKING"
    COMPLETED = "TASK_STATE_COMPLETED"
    FAILED = "TASK_STATE_FAILED"
    CANCELED = "TASK_STATE_CANCELED"
    INPUT_REQUIRED = "TASK_STATE_INPUT_REQUIRED"
    REJECTED = "TASK_STATE_REJECTED"
    AUTH_REQUIRED = "TASK_STATE_AUTH_REQUIRED"


TERMINAL_STATES = frozenset({TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELED, TaskState.REJECTED})
"""A task in one of these never changes again."""
INTERRUPTED_STATES = frozenset({TaskState.INPUT_REQUIRED, TaskState.AUTH_REQUIRED})
"""A task in one of these waits for its client."""


class Role(Enum):
    """Who wrote a message."""

    USER = "ROLE_USER"
    AGENT = "ROLE_AGENT"


class Part(Wire, frozen=True):
    """One piece of content: exactly one of ``text``, ``raw``, ``url``, ``data`` is set; presence decides, not truth.

    ``data`` may be any JSON value, ``null`` included.
    """

    text: str | UnsetType = UNSET
    raw: bytes | UnsetType = UNSET
    url: str | UnsetType = UNSET
    data: Any = UNSET
    metadata: dict[str, Any] | None = None
    filename: str = ""
    media_type: str = ""

    def __post_init__(self) -> None:
        if (
            (self.text is not UNSET) + (self.raw is not UNSET) + (self.url is not UNSET) + (self.data is not UNSET)
        ) != 1:
            message = "a part holds exactly one of text, raw, url and data"
            raise ValueError(message)


class Message(Wire, frozen=True):
    """One utterance. ``message_id`` is the sender's and never a key of ours."""

    message_id: str
    role: Role
    parts: tuple[Part, ...]
    context_id: str = ""
    task_id: str = ""
    metadata: dict[str, Any] | None = None
    extensions: tuple[str, ...] = ()
    reference_task_ids: tuple[str, ...] = ()


class Artifact(Wire, frozen=True):
    """An output of a task; ``artifact_id`` is unique within it."""

    artifact_id: str
    parts: tuple[Part, ...]
    name: str = ""
    description: str = ""
    metadata: dict[str, Any] | None = None
    extensions: tuple[str, ...] = ()


class TaskStatus(Wire, frozen=True):
    """State, the message that explains it, and when (RFC 3339, UTC, milliseconds)."""

    state: TaskState
    message: Message | None = None
    timestamp: str = ""


class Task(Wire, frozen=True):
    """A task as a client sees it: the fold of its events."""

    id: str
    status: TaskStatus
    context_id: str = ""
    artifacts: tuple[Artifact, ...] = ()
    history: tuple[Message, ...] = ()
    metadata: dict[str, Any] | None = None


class TaskStatusUpdateEvent(Wire, frozen=True):
    """The task's status is now this."""

    task_id: str
    context_id: str
    status: TaskStatus
    metadata: dict[str, Any] | None = None


class TaskArtifactUpdateEvent(Wire, frozen=True):
    """An artifact is new, replaced, or (``append``) longer by these parts."""

    task_id: str
    context_id: str
    artifact: Artifact
    append: bool = False
    last_chunk: bool = False
    metadata: dict[str, Any] | None = None


class StreamResponse(Wire, frozen=True):
    """One update: exactly one member is set."""

    task: Task | None = None
    message: Message | None = None
    status_update: TaskStatusUpdateEvent | None = None
    artifact_update: TaskArtifactUpdateEvent | None = None

    def __post_init__(self) -> None:
        given = sum(m is not None for m in (self.task, self.message, self.status_update, self.artifact_update))
        if given != 1:
            message = "an update holds exactly one of task, message, statusUpdate and artifactUpdate"
            raise ValueError(message)
