"""A timeline as a picture: who did something when, in lanes on one axis of time.

However long the timeline is, the picture is not: marks that would stand in the same place are one mark with a count.
Long silences are cut out of the axis, and stand in it as such.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import msgspec
from msgspec import Struct, UnsetType

from a2a_events.timeline.events import MEMBERS, Kind
from a2a_events.timeline.rows import Row

PLACES: Final = 400
"""Places on the axis: a mark is a few pixels wide on any screen."""
SILENCE_SHARE: Final = 0.2
"""Of the whole time, from which a silence is cut out; so there are at most four."""
SILENCE_SECONDS: Final = 2.0
"""A shorter one stays in any case."""
SILENCE_WIDTH: Final = 0.07
"""Of the axis, for one that is cut out."""

CLIENT: Final = "client"
ATTEMPT: Final = "attempt"
OUTPUT: Final = "output"
DELIVERIES: Final = "deliveries"

_CLIENT: Final = frozenset(MEMBERS[k] for k in (Kind.SUBMITTED, Kind.MESSAGE_RECEIVED, Kind.CANCEL_REQUESTED))
_OUTPUT: Final = frozenset(MEMBERS[k] for k in (Kind.STATUS, Kind.ARTIFACT, Kind.REPLY, Kind.FORKED))
_DELIVERIES: Final = frozenset(
    MEMBERS[k]
    for k in (
        Kind.PUSH_CONFIG_SET,
        Kind.PUSH_CONFIG_DELETED,
        Kind.DEAD_LETTER,
        Kind.DELIVERY_ATTEMPT,
        Kind.TASK_DEAD_LETTERED,
        Kind.MESSAGE_UNREAD,
    )
)
_ENDS: Final = {
    MEMBERS[Kind.TURN_ENDED]: "ended",
    MEMBERS[Kind.TURN_RELEASED]: "released",
    MEMBERS[Kind.TURN_SUSPENDED]: "suspended",
}
_FAILURES: Final = frozenset(MEMBERS[k] for k in (Kind.DEAD_LETTER, Kind.TASK_DEAD_LETTERED, Kind.MESSAGE_UNREAD))
_FAILED_STATES: Final = frozenset({"FAILED", "REJECTED"})
_CLAIMED: Final = MEMBERS[Kind.TURN_CLAIMED]


class Stretch(Struct, frozen=True, rename="camel", omit_defaults=True):
    """A part of the axis, on which time runs evenly. ``begin`` and ``end`` are places, from 0 to 1."""

    begin: float
    end: float
    first_time: int
    """Milliseconds."""
    last_time: int
    silent: bool = False
    """Nothing happened, and the stretch is shorter than its time."""


class Mark(Struct, rename="camel", omit_defaults=True):
    """Events in one place of a lane."""

    at: float
    """From 0 to 1."""
    revision: int
    """Of the first."""
    last_revision: int
    count: int = 1
    kind: str = ""
    """Of the first; of failures that of a failure."""
    failed: bool = False


class Bar(Struct, rename="camel", omit_defaults=True):
    """A worker's attempt at a turn, from its claim to when it lost or left it."""

    begin: float
    end: float
    revision: int
    """Of the claim."""
    last_revision: int
    epoch: int
    worker: str
    outcome: str = "open"
    """``ended``, ``released``, ``suspended``, ``taken over`` or ``open``."""
    failed: bool = False
    count: int = 1
    """Of claims that are drawn as one, because they begin and end in the same places."""


class Lane(Struct, rename="camel", omit_defaults=True):
    """What one side did."""

    id: str
    attempt: int = 0
    """Of the lane of a worker's attempts: which attempt at its turn."""
    marks: list[Mark] = []
    bars: list[Bar] = []


class Picture(Struct, rename="camel", omit_defaults=True):
    """Lanes in the order in which they are drawn."""

    axis: list[Stretch]
    lanes: list[Lane]


def picture(rows: Sequence[Row], times: Sequence[int], places: int = PLACES) -> Picture:
    """The picture of a timeline.

    Args:
        rows: every event of it, in order.
        times: of each, milliseconds, never falling.
        places: into which the axis is divided.
    """
    axis = axis_of(times)
    drawing = _Drawing(axis, places)
    for row, time in zip(rows, times, strict=True):
        drawing.draw(row, time)
    if rows:
        drawing.close("open", rows[-1], times[-1])
    return Picture(axis, sorted(drawing.lanes.values(), key=_order))


class _Drawing:
    def __init__(self, axis: Sequence[Stretch], places: int) -> None:
        self.lanes = {CLIENT: Lane(CLIENT)}
        self._scale = _Scale(axis)
        self._places = places
        self._marks: dict[tuple[str, int], Mark] = {}
        self._bars: dict[tuple[str, int, int], Bar] = {}
        self._claim: tuple[Lane, Row, int, int] | None = None
        """Lane, event, epoch and time of the newest one."""
        self._failed = False
        """Whether anything failed under this claim."""
        self._closed: tuple[Bar, int] | None = None
        """The newest bar, and the position of the record that ended it: how the turn ended stands behind its end."""

    def draw(self, row: Row, time: int) -> None:
        claim = _claim_of(row)
        attempt = claim.attempt if claim else row.attempt
        name = _lane_of(row.kind, attempt)
        lane = self.lanes.setdefault(name, Lane(name, attempt if name.startswith(ATTEMPT) else 0))
        failed = row.kind in _FAILURES or row.state in _FAILED_STATES
        self._failed = self._failed or failed
        if failed and self._closed is not None and self._closed[1] == row.position:
            self._closed[0].failed = True
        if claim is not None:
            self.close("taken over", row, time, failed=True)
            self._claim, self._failed = (lane, row, claim.epoch, time), False
        self._mark(lane, row, time, failed=failed)
        if row.kind in _ENDS:
            self.close(_ENDS[row.kind], row, time, failed=self._failed)

    def _mark(self, lane: Lane, row: Row, time: int, *, failed: bool) -> None:
        at = self._scale.at(time)
        key = (lane.id, int(at * self._places))
        mark = self._marks.get(key)
        if mark is None:
            self._marks[key] = Mark(at, row.revision, row.revision, 1, row.kind, failed)
            lane.marks.append(self._marks[key])
            return
        mark.count += 1
        mark.last_revision = row.revision
        if failed and not mark.failed:
            mark.failed, mark.kind = True, row.kind

    def close(self, outcome: str, row: Row, time: int, *, failed: bool = False) -> None:
        """The claim, if there is one, ends here."""
        if self._claim is None:
            return
        lane, first, epoch, begun = self._claim
        self._claim = None
        begin, end = self._scale.at(begun), self._scale.at(time)
        key = (lane.id, int(begin * self._places), int(end * self._places))
        bar = self._bars.get(key)
        if bar is None:
            bar = Bar(begin, end, first.revision, row.revision, epoch, first.writer, outcome, failed)
            self._bars[key] = bar
            lane.bars.append(bar)
        else:
            bar.count += 1
            bar.last_revision, bar.end, bar.outcome = row.revision, end, outcome
            bar.failed = bar.failed or failed
        self._closed = bar, row.position


def axis_of(times: Sequence[int]) -> list[Stretch]:
    """The axis on which these times are seen; one stretch, unless silences are cut out."""
    if not times:
        return []
    first, last = times[0], times[-1]
    least = max(SILENCE_SECONDS * 1000, SILENCE_SHARE * (last - first))
    silences = [(a, b) for a, b in pairwise(times) if b - a > least]
    busy: list[tuple[int, int]] = []
    begun = first
    for begin, end in silences:
        busy.append((begun, begin))
        begun = end
    busy.append((begun, last))
    room = 1 - SILENCE_WIDTH * len(silences)
    # A moment gets some room too: it would be a line between two silences.
    together = sum(b - a for a, b in busy)
    shares = [0.5 / len(busy) + 0.5 * ((b - a) / together if together else 1 / len(busy)) for a, b in busy]
    stretches: list[Stretch] = []
    at = 0.0
    for number, (begin, end) in enumerate(busy):
        width = room * (shares[number] if silences else 1.0)
        stretches.append(Stretch(at, at + width, begin, end))
        at += width
        if number < len(silences):
            stretches.append(Stretch(at, at + SILENCE_WIDTH, *silences[number], silent=True))
            at += SILENCE_WIDTH
    return stretches


class _Scale:
    def __init__(self, axis: Sequence[Stretch]) -> None:
        self._busy = [stretch for stretch in axis if not stretch.silent]
        self._starts = [stretch.first_time for stretch in self._busy]

    def at(self, time: int) -> float:
        stretch = self._busy[max(0, bisect_right(self._starts, time) - 1)]
        span = stretch.last_time - stretch.first_time
        share = (time - stretch.first_time) / span if span else 0.5
        return min(1.0, stretch.begin + (stretch.end - stretch.begin) * min(1.0, max(0.0, share)))


def _lane_of(kind: str, attempt: int) -> str:
    if kind in _CLIENT:
        return CLIENT
    if kind in _OUTPUT:
        return OUTPUT
    if kind in _DELIVERIES or not attempt:
        return DELIVERIES
    return f"{ATTEMPT} {attempt}"


class _Claim(Struct):
    epoch: int
    attempt: int = 1


class _ClaimLine(Struct, rename={"claim": _CLAIMED}):
    claim: _Claim


def _claim_of(row: Row) -> _Claim | None:
    """The claim that an event is: an owner that tries again writes it under the claim before."""
    if row.kind != _CLAIMED:
        return None
    assert not isinstance(row.event, UnsetType), "a known kind is shown"
    return _claim_decoder.decode(row.event).claim


def _order(lane: Lane) -> tuple[int, int]:
    return ({CLIENT: 0, OUTPUT: 2, DELIVERIES: 3}.get(lane.id, 1), lane.attempt)


_claim_decoder = msgspec.json.Decoder(_ClaimLine)
