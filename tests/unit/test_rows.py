"""Rows of a timeline: which match a filter, and which are folded into one."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw
from msgspec.structs import replace

from a2a_events import limits
from a2a_events.model import Part, TaskState, encode, timestamp_of
from a2a_events.timeline.drawing import sequence
from a2a_events.timeline.record import entry
from a2a_events.timeline.report import code, report
from a2a_events.timeline.rows import Compaction, Filter, Row, Run, compact, ends, rows_of
from tests.unit.timeline_builders import NOW, REF, Timeline, status, submitted


def row(revision: int, kind: str = "step", *, epoch: int = 1, after: int = 0, artifact: str = "", **more: Any) -> Row:
    kind = "artifactUpdate" if artifact else kind
    time = timestamp_of(NOW + after)
    made = Row(revision, revision, time, kind, "worker/w-1", epoch, f"says {artifact}", 10, artifact=artifact)
    return replace(made, **more)


STATUS = row(3, "statusUpdate", state="FAILED", attempt=2)
CHUNK = row(4, artifact="a", attempt=1)
CLAIM = row(5, "turnClaimed")
UNKNOWN = row(6, "unknown (Q)")
SAID = row(7, "message", event=Raw(encode(Part(text='"hi,\nYou" in der Straße'))))
ROWS = [STATUS, CHUNK, CLAIM, UNKNOWN, SAID]


@pytest.mark.parametrize(
    ("wanted", "matching"),
    [
        (Filter(), ROWS),
        (Filter(kinds=frozenset({"turnClaimed"})), [CLAIM]),
        (Filter(kinds=frozenset({"turnClaimed", "statusUpdate"})), [STATUS, CLAIM]),
        (Filter(kinds=frozenset({"public"})), [STATUS, CHUNK, SAID]),
        (Filter(kinds=frozenset({"internal"})), [CLAIM, UNKNOWN]),
        (Filter(kinds=frozenset({"public", "turnClaimed"})), [STATUS, CHUNK, CLAIM, SAID]),
        (Filter(states=frozenset({"FAILED"})), [STATUS]),
        (Filter(states=frozenset({"WORKING"})), []),
        (Filter(writer="worker"), ROWS),
        (Filter(writer="w-1"), ROWS),
        (Filter(writer="worker/w-1"), ROWS),
        (Filter(writer="w"), []),
        (Filter(attempt=2), [STATUS]),
        (Filter(attempt=0), [CLAIM, UNKNOWN, SAID]),
        (Filter(text="SAYS A"), [CHUNK]),
        (Filter(text='"Hi,\nyou"'), [SAID]),
        (Filter(text="straße"), [SAID]),
        (Filter(text='"text":"'), [SAID]),
        (Filter(first=4, last=5), [CHUNK, CLAIM]),
        (Filter(kinds=frozenset({"public"}), attempt=1), [CHUNK]),
    ],
)
def test_rows_match_what_is_asked_for(wanted: Filter, matching: list[Row]) -> None:
    assert [one for one in ROWS if wanted.matches(one)] == matching


@pytest.mark.parametrize(
    "line",
    [b'{"statusUpdate":{"status":{"state":"TASK_STATE_LOST"}}}', b"", b"\xff", b'{"later":1}'],
)
def test_an_event_that_cannot_be_read_is_a_row_that_says_so(line: bytes) -> None:
    timeline = Timeline([entry(submitted(), NOW)], [status(TaskState.WORKING), status(TaskState.FAILED)])
    [first, second] = timeline.records
    damaged = replace(second, payload=line + b"\n" + second.lines()[1])

    shown = [one for record in (first, damaged) for one in rows_of(record)]

    assert [one.revision for one in shown] == [1, 2, 3]
    assert (shown[1].kind, shown[1].state, shown[1].event) == ("statusUpdate", "", msgspec.UNSET)
    assert shown[1].summary.startswith("damaged: ")
    assert shown[2].state == "FAILED"


def test_a_record_that_lacks_lines_has_a_row_for_each_event_nevertheless() -> None:
    [record] = Timeline([entry(submitted(), NOW), status(TaskState.WORKING)]).records

    shown = rows_of(replace(record, payload=record.lines()[0]))

    assert [one.kind for one in shown] == ["submitted", "statusUpdate"]
    assert "damaged" in shown[1].summary


def test_a_run_of_chunks_is_one_row_with_their_count_their_bytes_and_their_time() -> None:
    rows = [row(1), row(2, artifact="a"), row(3, artifact="a", after=500), row(4, artifact="a", after=1500), row(5)]
    first, run, last = compact(rows)
    assert (first, last) == (rows[0], rows[-1])
    assert isinstance(run, Run)
    assert (run.revision, run.last_revision, run.count, run.bytes, run.seconds) == (2, 4, 3, 30, 1.5)
    assert run.summary == "a: 3 chunks, 30 B, 1.500 s"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (row(2, artifact="a"), row(3, artifact="b")),
        (row(2, artifact="a"), row(3, artifact="a", epoch=2)),
        (row(2, artifact="a"), row(4, artifact="a")),
    ],
    ids=["another artifact", "another claim", "something in between"],
)
def test_what_does_not_go_on_is_not_folded(before: Row, after: Row) -> None:
    assert list(compact([before, after])) == [before, after]


def test_what_has_not_ended_can_be_seen_to_grow() -> None:
    compaction = Compaction()
    assert compaction.end() == []
    assert compaction.add(row(1, artifact="a")) == []
    assert [compaction.waiting] == [row(1, artifact="a")]
    assert compaction.add(row(2, artifact="a")) == []
    so_far = compaction.waiting
    assert isinstance(so_far, Run)
    assert so_far.count == 2
    assert compaction.end() == [so_far]
    assert compaction.end() == []


def test_of_many_rows_both_ends_are_kept_and_the_others_counted() -> None:
    rows = [row(number) for number in range(1, 11)]
    assert ends(rows, 10) == rows
    assert ends(rows, 4) == [*rows[:2], 6, *rows[-2:]]


def test_drawings_and_reports_stay_as_small_as_issues_are_however_much_there_is() -> None:
    nasty = "<|`\\;#>" * 200
    rows = [row(number, "step", summary=nasty) for number in range(1, 3000)]
    drawn = sequence(rows)
    assert len(drawn) < 50_000
    assert f"{len(rows) - limits.DRAWN_ROWS} more rows" in drawn
    timeline = Timeline([entry(submitted(), NOW)])
    assert len(report(REF, timeline.records, rows)) < 65_536


def test_a_drawing_of_nothing_is_one() -> None:
    assert sequence([]) == "sequenceDiagram\n    actor p0 as client\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain <b> *x* @me", "`plain <b> *x* @me`"),
        ("a|b", "<code>a&#124;b</code>"),
        ("a`b", "<code>a&#96;b</code>"),
        ("a\\|b", "<code>a&#92;&#124;b</code>"),
        ("a\n\x1b\u202eb", "`a���b`"),
        ("", ""),
        ("x" * 500, f"`{'x' * limits.DRAWN_CHARACTERS}…`"),
    ],
)
def test_text_in_a_report_is_code(text: str, shown: str) -> None:
    assert code(text) == shown
