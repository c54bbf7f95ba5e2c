"""What changed between two revisions of a task: what clients see of it, and what the turn protocol knows.

Status, history and artifacts are compared by what they are made of and not as text: a history only grows, an artifact
grows or is replaced. Both folds must be made from the log's beginning (``revisions.fold_at``): a snapshot holds content
in pieces that cannot be told apart.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from a2a_events.timeline.events import StatusLine
from a2a_events.timeline.fold import ArtifactFold, TaskFold


class ArtifactDifference(Struct, frozen=True, rename="camel", omit_defaults=True):
    """What happened to one artifact."""

    artifact_id: str
    change: str
    """``added``, ``extended`` or ``replaced``."""
    parts: list[Raw]
    """New ones, in order."""
    members: dict[str, Any] = {}
    """Name, description, metadata and extensions, where they changed."""


class Change(Struct, frozen=True, omit_defaults=True):
    """A value before and after; null where there was none."""

    before: Any = None
    after: Any = None


class Difference(Struct, frozen=True, rename="camel", omit_defaults=True):
    """From one revision to another."""

    from_revision: int
    to_revision: int
    status: Change | None = None
    """TaskStatus before and after."""
    history: list[Raw] = []
    """Messages that were added, in order."""
    forked: bool = False
    """In between, the state that the task was forked from took the place of all before: history is whole."""
    artifacts: list[ArtifactDifference] = []
    reply: Raw | msgspec.UnsetType = msgspec.UNSET
    """The bare Message that the agent answered with, instead of a task."""
    internal: dict[str, Change] = {}
    """What the turn protocol knows of the task, by the name it has in the fold."""


def difference(before: TaskFold, after: TaskFold) -> Difference:
    """What happened from one fold of a task to a later one.

    Raises:
        Unreadable: a record that was folded is damaged.
        ValueError: the folds are in the wrong order.
    """
    if before.head.revision > after.head.revision:
        message = f"revision {before.head.revision} does not come before {after.head.revision}"
        raise ValueError(message)
    old, new = before.content, after.content
    forked = new.history.tail[: len(old.history.tail)] != old.history.tail
    known = 0 if forked else len(old.history.tail)
    added = b",".join(new.history.tail[known:])
    artifacts = [
        changed
        for artifact in new.artifacts.values()
        if (changed := _artifact(old.artifacts.get(artifact.artifact_id), artifact))
    ]
    return Difference(
        from_revision=before.head.revision,
        to_revision=after.head.revision,
        status=_status(old.status, new.status) if before.head.revision else Change(None, new.status),
        history=_array_decoder.decode(b"[" + added + b"]"),
        forked=forked,
        artifacts=artifacts,
        reply=Raw(new.reply) if new.reply and not old.reply else msgspec.UNSET,
        internal=_internal(before, after),
    )


def _status(old: StatusLine, new: StatusLine) -> Change | None:
    return None if old == new else Change(old, new)


def _artifact(old: ArtifactFold | None, new: ArtifactFold) -> ArtifactDifference | None:
    replaced = old is None or old.created != new.created
    known = 0 if old is None or replaced else len(old.parts.tail)
    members = {
        name: getattr(new, name)
        for name in ("name", "description", "metadata", "extensions")
        if getattr(new, name) != (None if old is None else getattr(old, name)) and getattr(new, name)
    }
    parts = _array_decoder.decode(b"[" + b",".join(new.parts.tail[known:]) + b"]")
    if not replaced and not parts and not members:
        return None
    change = "added" if old is None else "replaced" if replaced else "extended"
    return ArtifactDifference(new.artifact_id, change, parts, members)


def _internal(before: TaskFold, after: TaskFold) -> dict[str, Change]:
    old, new = internal_of(before), internal_of(after)
    return {name: Change(old.get(name), new.get(name)) for name in {**old, **new} if old.get(name) != new.get(name)}


def internal_of(fold: TaskFold) -> dict[str, Any]:
    """What the turn protocol knows of the task (turns 1), by the name it has in the fold. Secrets are left out."""
    members: dict[str, Any] = msgspec.to_builtins(fold.head)
    for webhook in members.get("webhooks", ()):
        webhook.pop("sealed", None)  # secrets are shown in no form
    return {**members, "phase": fold.head.phase.value}


_array_decoder = msgspec.json.Decoder(list[Raw])
