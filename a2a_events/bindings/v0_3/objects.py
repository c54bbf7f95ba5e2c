"""Tasks, messages and updates of 1.0 in either spelling of 0.3: the structure that both have. Pure."""

from __future__ import annotations

from typing import Any, Final

from a2a_events.bindings.shape import Form, Table, each, members_of, same, shape
from a2a_events.model import TERMINAL_STATES

_TERMINAL: Final = frozenset(state.value for state in TERMINAL_STATES)


class Objects:
    """Writes objects in one spelling.

    Args:
        part: how a part is written.
        role: how a role is written.
        state: how a state is written.
        parts: the member of a message that holds its parts.
        kinds: whether ``kind`` says what an object is; otherwise its place does.
    """

    def __init__(self, *, part: Form, role: Form, state: Form, parts: str, kinds: bool) -> None:
        self._kinds = kinds
        self._message: Table = {
            "messageId": same,
            "contextId": same,
            "taskId": same,
            "role": role,
            "parts": (parts, each(part)),
            "metadata": same,
            "extensions": same,
            **({"referenceTaskIds": same} if kinds else {}),  # the proto has none
        }
        self._artifact: Table = {
            "artifactId": same,
            "name": same,
            "description": same,
            "parts": each(part),
            "metadata": same,
            "extensions": same,
        }
        self._status: Table = {"state": state, "message": self.message, "timestamp": same}
        self._task: Table = {
            "id": same,
            "contextId": same,
            "status": self._written_status,
            "artifacts": each(self._written_artifact),
            "history": each(self.message),
            "metadata": same,
        }
        self._status_update: Table = {
            "taskId": same,
            "contextId": same,
            "status": self._written_status,
            "metadata": same,
        }
        self._artifact_update: Table = {
            "taskId": same,
            "contextId": same,
            "artifact": self._written_artifact,
            "append": same,
            "lastChunk": same,
            "metadata": same,
        }

    def message(self, value: Any) -> Any:
        """A message."""
        return self._named("message", shape(value, self._message))

    def task(self, value: Any) -> Any:
        """A task."""
        return self._named("task", shape(value, self._task))

    def tasks(self, value: Any) -> Any:
        """A page of tasks."""
        return shape(value, {"tasks": each(self.task), "nextPageToken": same, "pageSize": same, "totalSize": same})

    def status_update(self, value: Any, *, last: bool) -> Any:
        """A change of status. ``final`` is what 1.0 has not: the end of a stream is its own sign there.

        Args:
            value: of 1.0.
            last: whether the stream ends after it; so it does at a question to the client, too.
        """
        state = members_of(members_of(value).get("status")).get("state")
        shown = shape(value, self._status_update)
        return self._named("status-update", {**shown, "final": last or state in _TERMINAL})

    def artifact_update(self, value: Any) -> Any:
        """A change of an artifact."""
        return self._named("artifact-update", shape(value, self._artifact_update))

    def _written_status(self, value: Any) -> Any:
        return shape(value, self._status)

    def _written_artifact(self, value: Any) -> Any:
        return shape(value, self._artifact)

    def _named(self, kind: str, members: Any) -> Any:
        return {"kind": kind, **members} if self._kinds else members
