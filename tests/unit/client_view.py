"""What a client makes of a task's updates, knowing the protocol and nothing of folds."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from a2a_events.model import Artifact, StreamResponse, Task, TaskStatus, decode
from a2a_events.timeline.events import Forked
from a2a_events.timeline.record import Record


class ClientView:
    """Status and artifacts as a client accumulates them from public lines (specification 4.2).

    The specification says what ``append`` does to parts. Of the other members, a chunk's own ones count, and what it
    leaves out stays; metadata is merged by key, and an empty one is none.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.status: TaskStatus | None = None
        self.artifacts: dict[str, Artifact] = {}
        self.revision = 0
        for record in records:
            self.receive(record)

    def receive(self, record: Record) -> None:
        """Take in what a record shows; of a fork, a client first sees the Task that it begins with."""
        for event in record.events():
            if isinstance(event, Forked):
                task = decode(bytes(event.state), Task)
                self.status = task.status
                self.artifacts = {artifact.artifact_id: artifact for artifact in task.artifacts}
        for revision, line in record.updates(self.revision):
            self.revision = revision
            update = decode(line, StreamResponse)
            if update.status_update is not None:
                self.status = update.status_update.status
            elif update.artifact_update is not None:
                self._artifact(update.artifact_update.artifact, append=update.artifact_update.append)

    def _artifact(self, sent: Artifact, *, append: bool) -> None:
        known = self.artifacts.get(sent.artifact_id)
        sent = replace(sent, metadata=sent.metadata or None)
        if append and known is not None:
            sent = replace(
                known,
                parts=known.parts + sent.parts,
                name=sent.name or known.name,
                description=sent.description or known.description,
                extensions=sent.extensions or known.extensions,
                metadata={**(known.metadata or {}), **(sent.metadata or {})} or None,
            )
        self.artifacts[sent.artifact_id] = sent
