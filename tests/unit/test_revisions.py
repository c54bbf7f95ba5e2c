from __future__ import annotations

from pathlib import Path

from a2a_events.timeline.fold import TaskFold
from a2a_events.timeline.record import visible
from a2a_events.timeline.revisions import fold_at, part, up_to
from tests.unit.golden import every_timeline, records_of


@every_timeline
def test_a_timeline_taken_apart_says_the_same(path: Path) -> None:
    records = records_of(path)
    apart = [
        part(record, revision, revision)
        for record in records
        for revision in range(record.header.revision, record.header.last_revision + 1)
    ]

    assert [p.payload for p in apart] == [line for record in records for line in record.lines()]
    assert [p.header.revision for p in apart] == list(range(1, records[-1].header.last_revision + 1))
    whole, pieces = TaskFold.of(records), TaskFold.of(apart)
    assert pieces.content == whole.content
    assert pieces.head.generation == whole.head.generation == visible("".join(r.header.kinds for r in records))
    assert pieces.head.phase is whole.head.phase


@every_timeline
def test_the_fold_at_the_end_of_a_record_is_the_one_that_writers_saw(path: Path) -> None:
    records = records_of(path)
    for count in range(1, len(records) + 1):
        seen = TaskFold.of(records[:count])
        cut = fold_at(records, seen.head.revision)
        assert (cut.head, cut.content) == (seen.head, seen.content)


@every_timeline
def test_a_timeline_can_be_cut_at_every_revision(path: Path) -> None:
    records = records_of(path)
    newest = records[-1].header.last_revision
    for revision in range(1, newest + 1):
        cut = list(up_to(records, revision))
        assert sum(len(record.header.kinds) for record in cut) == revision
        assert fold_at(records, revision).head.revision == revision

    assert fold_at(records, newest + 7).head.revision == newest
    assert fold_at(records, 0).head.revision == 0
