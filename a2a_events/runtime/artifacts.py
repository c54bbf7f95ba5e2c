"""How a run of an agent reports artifacts: whether a chunk adds to one or begins it (turns 4.8)."""

from __future__ import annotations

import msgspec

from a2a_events.model import Artifact, Part, encode
from a2a_events.timeline.fold import ArtifactFold, TaskFold


class Reported:
    """The artifacts that a task has, as one run of its agent after another is to find them.

    Args:
        fold: of the task, at the claim.
    """

    def __init__(self, fold: TaskFold) -> None:
        self._known = {known: artifact.parts.size_bytes for known, artifact in fold.content.artifacts.items()}
        self._stale: dict[str, ArtifactFold | None] = {}
        """Artifacts that an earlier run of this turn reported, as they were before the turn."""

    def begin(self, fold: TaskFold, before: TaskFold | None) -> None:
        """A run begins.

        Args:
            fold: of the task as it is.
            before: the task before the turn, if the agent runs the turn anew: what it reports now replaces what an
                earlier run had reported.
        """
        self._stale.clear()
        if before is None:
            return
        for artifact_id, artifact in fold.content.artifacts.items():
            if max(artifact.created, artifact.parts.last) > fold.head.turn_revision:
                self._stale[artifact_id] = before.content.artifacts.get(artifact_id)

    def update(self, artifact: Artifact, *, append: bool) -> tuple[Artifact, bool]:
        """What to write for an artifact, or for a piece of one; and whether it adds to what is there.

        A piece of an artifact that is not there yet makes it.
        """
        known = artifact.artifact_id in self._known
        if artifact.artifact_id in self._stale:
            before = self._stale[artifact.artifact_id]
            if append:
                known, artifact = False, _joined(before, artifact) if before else artifact
        return artifact, append and known

    def grown(self, artifact: Artifact, *, adds: bool) -> int:
        """Bytes of the artifact's parts with this update, as ``fold.Pieces`` counts them."""
        return len(encode(artifact.parts)) - 1 + (self._known[artifact.artifact_id] if adds else 0)

    def with_one(self, artifact_id: str) -> int:
        """How many artifacts there are, with this one."""
        return len(self._known) + (artifact_id not in self._known)

    def said(self, artifact_id: str, size_bytes: int) -> None:
        """The update is on its way: from now on pieces add to it."""
        self._known[artifact_id] = size_bytes
        self._stale.pop(artifact_id, None)


def _joined(before: ArtifactFold, chunk: Artifact) -> Artifact:
    """The artifact as it was, folded from the log alone, and a first chunk."""
    parts = _parts_decoder.decode(b"[" + b",".join(before.parts.tail) + b"]")
    return msgspec.structs.replace(
        chunk,
        parts=(*parts, *chunk.parts),
        name=chunk.name or before.name,
        description=chunk.description or before.description,
        metadata=chunk.metadata or before.metadata,
    )


_parts_decoder = msgspec.json.Decoder(tuple[Part, ...])
