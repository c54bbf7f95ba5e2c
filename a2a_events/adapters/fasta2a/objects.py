# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""fasta2a's objects and ours: the same members under other names, states and roles in other letters. Pure."""

from __future__ import annotations

from typing import Any, Final, TypeVar, cast

import msgspec
from fasta2a import schema
from fasta2a.jsonrpc_v1 import to_v1
from pydantic import TypeAdapter

from a2a_events.model import Artifact, Message, Role, StreamResponse, Task, TaskState, encode

T = TypeVar("T")

_ROLES: Final[dict[Role, str]] = {Role.USER: "user", Role.AGENT: "agent"}
_STATES: Final[dict[TaskState, schema.TaskState]] = {
    TaskState.SUBMITTED: "submitted",
    TaskState.WORKING: "working",
    TaskState.COMPLETED: "completed",
    TaskState.FAILED: "failed",
    TaskState.CANCELED: "canceled",
    TaskState.INPUT_REQUIRED: "input-required",
    TaskState.REJECTED: "rejected",
    TaskState.AUTH_REQUIRED: "auth-required",
}
_READ: Final[dict[str, str]] = {
    **{role.value: name for role, name in _ROLES.items()},
    **{state.value: name for state, name in _STATES.items()},
}
_messages: Final = TypeAdapter(schema.Message)
_artifacts: Final = TypeAdapter(schema.Artifact)
_tasks: Final = TypeAdapter(schema.Task)
_updates: Final = TypeAdapter(schema.StreamResponse)


def message_for(message: Message) -> schema.Message:
    """A message as a worker of fasta2a gets it."""
    return _messages.validate_python(_named(_plain(message)))


def message_from(message: schema.Message) -> Message:
    """A message that a worker of fasta2a, or its server, has made."""
    return _ours(_messages, message, Message)


def artifact_from(artifact: schema.Artifact) -> Artifact:
    """An artifact that a worker of fasta2a has made."""
    return _ours(_artifacts, artifact, Artifact)


def task_for(task: Task) -> schema.Task:
    """A task as fasta2a's server shows it."""
    return _tasks.validate_python(_named(_plain(task)))


def update_for(update: StreamResponse) -> schema.StreamResponse:
    """An update as fasta2a's server shows it."""
    return _updates.validate_python(_named(_plain(update)))


def state_for(state: TaskState) -> schema.TaskState:
    """A state by fasta2a's name."""
    return _STATES[state]


def _ours(adapter: TypeAdapter[Any], value: Any, of: type[T]) -> T:
    made = to_v1(adapter.dump_python(value, mode="json", by_alias=True))
    return msgspec.convert(made, of, strict=False)


def _plain(value: object) -> Any:
    return msgspec.json.decode(encode(value))


def _named(value: Any) -> Any:
    """With states and roles as fasta2a has them; what applications wrote is left alone."""
    if isinstance(value, list):
        return [_named(each) for each in cast("list[object]", value)]
    if not isinstance(value, dict):
        return value
    made: dict[str, Any] = {}
    for key, member in cast("dict[str, Any]", value).items():
        if key in {"data", "metadata"}:
            made[key] = member
        elif key in {"state", "role"}:
            made[key] = _READ.get(member, member)
        else:
            made[key] = _named(member)
    return made
