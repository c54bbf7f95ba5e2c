"""Where a new run of an agent first says something else than its record.

Times and the ids of messages differ from run to run and mean nothing. Nor do ids of artifacts that were drawn at
random: those are matched one to one, in the order in which they are used.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, TypeAlias, cast

from msgspec import Struct

from a2a_events.timeline.events import MEMBERS, Kind
from a2a_events.timeline.recorded import Said

SameText: TypeAlias = Callable[[str, str], bool]
"""Says of a recorded text and a new one whether they are alike enough."""


class Tolerance(Struct, frozen=True):
    """What may differ. By default nothing but times and random ids."""

    ignore: tuple[str, ...] = ()
    """Paths into events, like ``status.message.metadata.latency`` or ``artifact.parts.*.data.cost``: ``*`` stands for
    any one name or index, and the kind may stand in front (``artifactUpdate.artifact.name``)."""
    text: Literal["exact", "whitespace", "ignore"] | SameText = "exact"
    """Of text parts: as it is, with any run of white space as one space, not compared, or compared by a function."""
    numbers: float = 0.0
    """Largest difference of two numbers, relative to the larger."""
    merge_chunks: bool = False
    """Compare the whole content of each artifact, however it was cut into chunks."""

    def __post_init__(self) -> None:
        if isinstance(self.text, str) and self.text not in _TEXTS:
            message = f"text is compared as {', '.join(_TEXTS)}, or by a function: not {self.text!r}"
            raise ValueError(message)


class Divergence(Struct, frozen=True, omit_defaults=True):
    """The first difference."""

    revision: int
    """Of the recorded event; where the record has no more, of its last one."""
    recorded: dict[str, Any] | None
    """The event as it was recorded; None if the new run said more."""
    new: dict[str, Any] | None
    """What the new run said at this place; None if it said no more."""
    path: str = ""
    """Into the two events, which are of one kind; empty where kinds differ."""


class Compared(Struct, frozen=True):
    """How far two runs agree."""

    equal: int
    """Events from the beginning."""
    divergence: Divergence | None
    alike: int = 0
    """Of the event that differs: how many values are equal before the first that is not."""

    @property
    def score(self) -> tuple[bool, int, int]:
        """Greater for two runs that agree for longer."""
        return self.divergence is None, self.equal, self.alike


def compared(recorded: Sequence[Said], new: Sequence[Said], tolerance: Tolerance, *, cut: bool) -> Compared:
    """Compare what two runs said.

    Args:
        recorded: of the record.
        new: of the new run.
        tolerance: what may differ.
        cut: whether the record says only how the run began: what the new run says beyond that is not compared.
    """
    if tolerance.merge_chunks:
        recorded, new = merged(recorded), merged(new)
    comparison = _Comparison(tolerance)
    for number, one in enumerate(recorded):
        if number == len(new):
            return Compared(number, Divergence(one.revision, {one.kind: one.event}, None))
        other = new[number]
        path = comparison.path(one, _begun(one, other) if cut and tolerance.merge_chunks else other)
        if path is not None:
            differ = Divergence(one.revision, {one.kind: one.event}, {other.kind: other.event}, path)
            return Compared(number, differ, comparison.alike)
    if len(new) > len(recorded) and not cut:
        more = new[len(recorded)]
        last = recorded[-1].revision if recorded else 0
        return Compared(len(recorded), Divergence(last, None, {more.kind: more.event}))
    return Compared(len(recorded), None)


def merged(said: Sequence[Said]) -> list[Said]:
    """The same, with all updates of each artifact as one, at the place of the first."""
    found: list[Said] = []
    places: dict[str, int] = {}
    for one in said:
        if one.kind != _ARTIFACT:
            found.append(one)
            continue
        artifact_id = one.event["artifact"]["artifactId"]
        if artifact_id not in places:
            places[artifact_id] = len(found)
            found.append(_with(one, _joined([], one.event["artifact"]["parts"]), one.event))
            continue
        place = places[artifact_id]
        before = found[place]
        known: list[Any] = before.event["artifact"]["parts"] if one.event.get("append") else []
        found[place] = _with(before, _joined(known, one.event["artifact"]["parts"]), one.event)
    return found


def _with(said: Said, parts: list[Any], newer: dict[str, Any]) -> Said:
    event = {**said.event, **{k: v for k, v in newer.items() if k != "append"}}
    event["artifact"] = {**said.event["artifact"], **newer["artifact"], "parts": parts}
    return Said(said.kind, event, said.revision, said.time)


def _joined(parts: list[Any], more: list[Any]) -> list[Any]:
    joined = list(parts)
    for part in more:
        if joined and _only_text(joined[-1]) and _only_text(part):
            joined[-1] = {"text": joined[-1]["text"] + part["text"]}
        else:
            joined.append(part)
    return joined


def _only_text(part: dict[str, Any]) -> bool:
    return part.keys() == {"text"}


def _begun(recorded: Said, new: Said) -> Said:
    """Of an artifact that the new run went on with, as much as the record has."""
    if recorded.kind != _ARTIFACT or new.kind != _ARTIFACT:
        return new
    known = recorded.event["artifact"]["parts"]
    parts = list(new.event["artifact"]["parts"][: len(known)])
    if parts and len(parts) == len(known) and _only_text(known[-1]) and _only_text(parts[-1]):
        parts[-1] = {"text": parts[-1]["text"][: len(known[-1]["text"])]}
    event = {**new.event, "artifact": {**new.event["artifact"], "parts": parts}}
    if "lastChunk" not in recorded.event:
        event.pop("lastChunk", None)
    return Said(new.kind, event)


class _Comparison:
    """Of one attempt: it knows which artifact of the new run is which of the record."""

    def __init__(self, tolerance: Tolerance) -> None:
        self._tolerance = tolerance
        self._ignored = [tuple(path.split(".")) for path in (*_MEANINGLESS, *tolerance.ignore)]
        self.alike = 0
        """Values of the newest event that are equal, up to the first that is not."""
        self._names: dict[str, str] = {}
        """Random ids of the new run, and of the record."""

    def path(self, recorded: Said, new: Said) -> str | None:
        """Where two events differ; empty if they are of different kinds, None if they do not differ."""
        self.alike = 0
        if recorded.kind != new.kind:
            return ""
        found = self._differ((recorded.kind,), recorded.event, new.event)
        return None if found is None else ".".join(found[1:])

    def _differ(self, at: tuple[str, ...], recorded: Any, new: Any) -> tuple[str, ...] | None:
        if any(_matches(path, at) for path in self._ignored):
            return None
        old_members, new_members = _members(recorded), _members(new)
        if old_members is not None and new_members is not None and type(recorded) is type(new):
            for name in {**old_members, **new_members}:
                found = self._differ((*at, name), old_members.get(name, _ABSENT), new_members.get(name, _ABSENT))
                if found is not None:
                    return found
            return None
        if not self._same(at, recorded, new):
            return at
        self.alike += 1
        return None

    def _same(self, at: tuple[str, ...], recorded: Any, new: Any) -> bool:
        if isinstance(recorded, str) and isinstance(new, str):
            if at == _ARTIFACT_ID and _RANDOM.fullmatch(recorded) and _RANDOM.fullmatch(new):
                return self._matched(recorded, new)
            for name, known in self._names.items():
                new = new.replace(name, known)
            return self._same_text(recorded, new) if _is_text(at) else recorded == new
        first, second = _number(recorded), _number(new)
        if first is not None and second is not None:
            return first == second or math.isclose(first, second, rel_tol=self._tolerance.numbers)
        return type(recorded) is type(new) and bool(recorded == new)

    def _matched(self, recorded: str, new: str) -> bool:
        if new in self._names or recorded in self._names.values():
            return self._names.get(new) == recorded
        self._names[new] = recorded
        return True

    def _same_text(self, recorded: str, new: str) -> bool:
        match self._tolerance.text:
            case "exact":
                return recorded == new
            case "whitespace":
                return recorded.split() == new.split()
            case "ignore":
                return True
            case same:
                return same(recorded, new)


def _matches(pattern: tuple[str, ...], at: tuple[str, ...]) -> bool:
    within = at if len(pattern) == len(at) else at[1:]
    return len(pattern) == len(within) and all(p in {"*", name} for p, name in zip(pattern, within, strict=True))


def _is_text(at: tuple[str, ...]) -> bool:
    return len(at) > 2 and at[-1] == "text" and at[-3] == "parts"  # noqa: PLR2004 -- parts.0.text


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _members(value: Any) -> dict[str, Any] | None:
    """Of an object, or of an array by their indices; None of what has none."""
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    if isinstance(value, list):
        return {str(number): element for number, element in enumerate(cast("Sequence[Any]", value))}
    return None


class _Absent:
    """A member that is not there."""


_TEXTS: Final = ("exact", "whitespace", "ignore")
_ABSENT: Final = _Absent()
_ARTIFACT: Final = MEMBERS[Kind.ARTIFACT]
_ARTIFACT_ID: Final = (_ARTIFACT, "artifact", "artifactId")
_RANDOM: Final = re.compile(r"[A-Za-z0-9_-]{20}|[0-9a-fA-F]{16,}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
"""Ids as ``Turn`` draws them, and as others usually do."""
_MEANINGLESS: Final = (
    "statusUpdate.status.timestamp",
    "statusUpdate.status.message.messageId",
    "message.messageId",
    "turnClaimed.lease",
    "turnClaimed.delivery",
    "turnClaimed.policy",
    "turnClaimed.agentVersion",
)
