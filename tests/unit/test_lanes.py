"""The picture of a timeline: every event stands in one lane, silences are cut out, and it stays small."""

from __future__ import annotations

from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace

from a2a_events.timeline.events import TurnClaimed, line_of
from a2a_events.timeline.lanes import PLACES, SILENCE_WIDTH, axis_of, picture
from a2a_events.timeline.rows import Row

START = 1_795_233_000_000


def row(revision: int, kind: str, *, attempt: int = 0, epoch: int = 0, state: str = "", position: int = 0) -> Row:
    line = line_of(TurnClaimed(epoch=epoch, lease=1, attempt=attempt or 1))[1] if kind == "turnClaimed" else b"{}"
    return Row(
        revision, position or revision, "", kind, "worker/worker-1", epoch, "", 10, attempt, state, "", Raw(line)
    )


def turn(revision: int, epoch: int, attempt: int, *chunks: str) -> list[Row]:
    """A claim and what follows under it."""
    kinds = ["turnClaimed", *chunks]
    return [row(revision + n, kind, attempt=attempt, epoch=epoch) for n, kind in enumerate(kinds)]


def test_every_side_has_a_lane_and_every_attempt_one() -> None:
    rows = [
        row(1, "submitted"),
        *turn(2, 1, 1, "statusUpdate", "artifactUpdate", "step"),
        *turn(6, 2, 2, "artifactUpdate", "turnEnded"),
        row(9, "statusUpdate", state="COMPLETED", position=8),
        row(10, "deadLetter"),
        row(11, "cancelRequested"),
        row(12, "someNewKind"),
    ]
    drawn = picture(rows, [START + 100 * n for n in range(len(rows))])
    assert [lane.id for lane in drawn.lanes] == ["client", "attempt 1", "attempt 2", "output", "deliveries"]
    counted = {lane.id: sum(mark.count for mark in lane.marks) for lane in drawn.lanes}
    assert counted == {"client": 2, "attempt 1": 2, "attempt 2": 2, "output": 4, "deliveries": 2}
    assert [mark.revision for mark in drawn.lanes[-1].marks if mark.failed] == [10]


def test_a_bar_is_from_the_claim_to_its_end() -> None:
    rows = [
        row(1, "submitted"),
        *turn(2, 1, 1, "artifactUpdate"),
        *turn(4, 2, 2, "turnSuspended"),
        *turn(6, 3, 2, "turnEnded"),
        row(8, "messageReceived"),
        *turn(9, 4, 1, "artifactUpdate"),
    ]
    drawn = picture(rows, [START + 100 * n for n in range(len(rows))])
    bars = {bar.epoch: bar for lane in drawn.lanes for bar in lane.bars}
    assert {epoch: (bar.revision, bar.last_revision, bar.outcome, bar.failed) for epoch, bar in bars.items()} == {
        1: (2, 4, "taken over", True),
        2: (4, 5, "suspended", False),
        3: (6, 7, "ended", False),
        4: (9, 10, "open", False),
    }
    assert bars[4].end == 1.0


def test_a_claim_stands_in_its_own_attempt_whoever_wrote_it() -> None:
    rows = [*turn(1, 1, 1, "artifactUpdate"), *turn(3, 2, 2, "artifactUpdate")]
    rows[2] = replace(rows[2], attempt=1, epoch=1)  # an owner that tries again claims under the claim that it has
    drawn = picture(rows, [START + 100 * n for n in range(len(rows))])
    bars = {lane.id: [bar.epoch for bar in lane.bars] for lane in drawn.lanes if lane.bars}
    assert bars == {"attempt 1": [1], "attempt 2": [2]}


def test_a_turn_that_ends_failed_is_failed_and_the_one_before_is_not() -> None:
    rows = [
        *turn(1, 1, 1, "turnEnded"),
        row(3, "statusUpdate", attempt=1, state="INPUT_REQUIRED", position=2),
        *turn(4, 2, 1, "turnEnded"),
        row(6, "statusUpdate", attempt=1, state="FAILED", position=5),
    ]
    drawn = picture(rows, [START + 100 * n for n in range(len(rows))])
    [lane] = [lane for lane in drawn.lanes if lane.bars]
    assert [bar.failed for bar in lane.bars] == [False, True]


def test_a_long_silence_is_cut_out_and_stands_in_the_axis() -> None:
    hour = 3_600_000
    times = [START, START + 500, START + hour, START + hour + 1000]
    before, silence, after = axis_of(times)
    assert (silence.silent, silence.first_time, silence.last_time) == (True, START + 500, START + hour)
    assert silence.end - silence.begin == SILENCE_WIDTH
    assert before.end - before.begin > 0.25
    assert after.end - after.begin > 0.25


def test_short_pauses_stay_in_the_axis() -> None:
    [only] = axis_of([START, START + 100, START + 1900])
    assert (only.begin, only.end, only.silent) == (0.0, 1.0, False)


KINDS = ("submitted", "turnClaimed", "artifactUpdate", "turnEnded", "step")


@given(st.lists(st.tuples(st.integers(0, 10_000_000), st.sampled_from(KINDS)), min_size=1, max_size=30))
def test_whatever_the_times_are_all_is_drawn_within_the_axis(events: list[tuple[int, str]]) -> None:
    times = list(accumulate((pause for pause, _ in events), initial=START))[1:]
    rows = [row(n, kind, attempt=1, epoch=1) for n, (_, kind) in enumerate(events, 1)]
    drawn = picture(rows, times)
    assert abs(drawn.axis[-1].end - 1.0) < 1e-9
    assert all(a.end == b.begin for a, b in pairwise(drawn.axis))
    marks = [mark for lane in drawn.lanes for mark in lane.marks]
    assert sum(mark.count for mark in marks) == len(rows)
    assert all(0.0 <= mark.at <= 1.0 for mark in marks)
    assert all(0.0 <= bar.begin <= bar.end <= 1.0 for lane in drawn.lanes for bar in lane.bars)
    assert sum(stretch.silent for stretch in drawn.axis) <= 4


def test_a_hundred_thousand_events_are_a_small_picture() -> None:
    rows = [row(n + 1, "artifactUpdate", attempt=1, epoch=1) for n in range(100_000)]
    drawn = picture(rows, [START + n for n in range(100_000)])
    assert sum(len(lane.marks) for lane in drawn.lanes) <= PLACES + 1
