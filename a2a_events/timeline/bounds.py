"""How much one task may hold, and how much of it an answer shows."""

from __future__ import annotations

from msgspec import Struct

from a2a_events import limits


class TaskBounds(Struct, frozen=True):
    """How much one task may hold: whoever would write more refuses to, or ends the task.

    What counts is what was written, so what replaces something counts beside it.
    """

    size_bytes: int = limits.TASK_BYTES
    """Of all its events."""
    events: int = limits.TASK_EVENTS
    artifact_bytes: int = limits.ARTIFACT_BYTES
    """Of the parts of one artifact."""
    artifacts: int = limits.ARTIFACTS
    webhooks: int = limits.WEBHOOKS


class HistoryBounds(Struct, frozen=True):
    """How much of a task's history an answer shows at most: its newest messages, and one of them in any case."""

    messages: int = limits.HISTORY_MESSAGES
    size_bytes: int = limits.HISTORY_BYTES

    def shared(self, tasks: int) -> HistoryBounds:
        """The bounds of one task in an answer that shows several."""
        return HistoryBounds(self.messages, self.size_bytes // max(1, tasks))
