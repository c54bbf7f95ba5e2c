"""A fold written down and read again, at any point of a timeline."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2a_events import limits
from a2a_events.model import Message, Task, TaskState, decode, encode
from a2a_events.timeline import render, snapshot
from a2a_events.timeline.bounds import HistoryBounds
from a2a_events.timeline.fold import Head, TaskFold
from a2a_events.timeline.record import Record, entry
from tests.unit.timeline_builders import NOW, TASK, Timeline, artifact, status, submitted
from tests.unit.timeline_strategies import timelines

PROPERTY = settings(max_examples=40, deadline=None)


def rendered(fold: TaskFold, segments: dict[str, bytes]) -> Task:
    assert set(render.segment_keys(fold)) <= set(segments)
    return decode(render.task(fold, TASK, segments), Task)


def stored(fold: TaskFold, segments: dict[str, bytes]) -> bytes:
    """Take a snapshot and keep its segments, each of which must be new or the same bytes as before."""
    taken = snapshot.take(fold)
    for segment in taken.segments:
        assert segment.content == segments.setdefault(segment.key, segment.content)
    return taken.head


@PROPERTY
@given(timelines(), st.sampled_from([1, 64, 1024]), st.data())
def test_a_fold_that_was_stored_anywhere_on_the_way_ends_as_one_that_was_not(
    records: list[Record], segment_bytes: int, data: st.DataObject
) -> None:
    whole = TaskFold.of(records)
    stored_after = data.draw(st.sets(st.integers(0, len(records) - 1)))
    segments: dict[str, bytes] = {}
    fold: TaskFold | None = TaskFold.empty()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "SEGMENT_BYTES", segment_bytes)
        for index, record in enumerate(records):
            assert fold is not None
            assert fold.apply(record)
            if index in stored_after:
                fold = snapshot.restore(stored(fold, segments))
    assert fold is not None
    assert whole.head == fold.head
    assert whole.content.reply == fold.content.reply
    assert rendered(whole, {}) == rendered(fold, segments)
    assert sizes(whole) == sizes(fold)


def sizes(fold: TaskFold) -> list[int]:
    content = fold.content
    return [content.history.size_bytes, *(artifact.parts.size_bytes for artifact in content.artifacts.values())]


@PROPERTY
@given(
    timelines(),
    st.sampled_from([1, 64, 1024]),
    st.none() | st.integers(1, 6),
    st.integers(1, 6),
    st.integers(0, 2000),
    st.data(),
)
def test_a_bounded_history_is_the_end_of_the_whole_one_from_the_segments_it_needs(
    records: list[Record], segment_bytes: int, length: int | None, messages: int, size_bytes: int, data: st.DataObject
) -> None:
    fold = TaskFold.empty()
    kept: dict[str, bytes] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "SEGMENT_BYTES", segment_bytes)
        patch.setattr(limits, "SEGMENT_LARGEST_BYTES", 100)
        for record in records:
            fold.apply(record)
            if data.draw(st.booleans()):
                restored = snapshot.restore(stored(fold, kept))
                assert restored is not None
                fold = restored
    bounds = HistoryBounds(messages, size_bytes)
    needed = {key: kept[key] for key in render.segment_keys(fold, bounds)}
    shown = decode(render.task(fold, TASK, needed, length, bounds=bounds), Task)
    whole = rendered(fold, kept).history
    wanted = whole if length is None else whole[-length:]
    expected: list[Message] = []
    for message in reversed(wanted[-messages:]):
        if expected and sum(len(encode(one)) + 1 for one in [message, *expected]) > size_bytes:
            break
        expected.insert(0, message)
    assert tuple(expected) == shown.history
    assert (render.HISTORY_OMITTED in (shown.metadata or {})) == (len(expected) < len(wanted))


@PROPERTY
@given(timelines(), st.sampled_from([1, 64]))
def test_taking_a_snapshot_leaves_the_fold_showing_the_same_task(records: list[Record], segment_bytes: int) -> None:
    segments: dict[str, bytes] = {}
    fold = TaskFold.empty()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "SEGMENT_BYTES", segment_bytes)
        for length, record in enumerate(records, 1):
            fold.apply(record)
            stored(fold, segments)
            assert rendered(TaskFold.of(records[:length]), {}) == rendered(fold, segments)


@PROPERTY
@given(timelines(), st.sampled_from([1, 7, 100]))
def test_segments_are_no_longer_than_a_message_may_be(records: list[Record], largest: int) -> None:
    segments: dict[str, bytes] = {}
    fold = TaskFold.empty()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "SEGMENT_BYTES", 64)
        patch.setattr(limits, "SEGMENT_LARGEST_BYTES", largest)
        for record in records:
            fold.apply(record)
            stored(fold, segments)
    assert all(len(content) <= largest for content in segments.values())
    assert rendered(TaskFold.of(records), {}) == rendered(fold, segments)


@PROPERTY
@given(timelines())
def test_two_who_store_the_same_fold_write_the_same_bytes(records: list[Record]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "SEGMENT_BYTES", 64)
        assert snapshot.take(TaskFold.of(records)) == snapshot.take(TaskFold.of(records))


@PROPERTY
@given(timelines(), st.data())
def test_two_who_stored_at_different_times_never_write_different_bytes_under_one_key(
    records: list[Record], data: st.DataObject
) -> None:
    segments: dict[str, bytes] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "SEGMENT_BYTES", 64)
        for _ in range(2):
            fold: TaskFold | None = TaskFold.empty()
            stored_after = data.draw(st.sets(st.integers(0, len(records) - 1)))
            for index, record in enumerate(records):
                assert fold is not None
                fold.apply(record)
                if index in stored_after:
                    head = stored(fold, segments)
                    fold = snapshot.restore(head) if data.draw(st.booleans()) else fold


def test_a_snapshot_does_not_grow_with_a_long_artifact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SEGMENT_BYTES", 256)
    timeline = Timeline([entry(submitted(), NOW)])
    fold = TaskFold.of(timeline.records)
    segments: dict[str, bytes] = {}
    sizes = []
    for index in range(100):
        fold.apply(timeline.add(artifact("a", f"chunk {index:03}", append=index > 0)))
        sizes.append(len(stored(fold, segments)))
    assert 100 == len(rendered(fold, segments).artifacts[0].parts)
    assert len(segments) > 5
    assert max(sizes) < 256 + 1500


def test_a_snapshot_does_not_grow_with_many_artifacts() -> None:
    timeline = Timeline([entry(submitted(), NOW)])
    fold = TaskFold.of(timeline.records)
    for index in range(20):
        fold.apply(timeline.add(artifact(f"a{index}", "x" * 60_000)))
    segments: dict[str, bytes] = {}
    assert fold.unsealed_bytes > 20 * 60_000
    assert len(stored(fold, segments)) < limits.RECORD_BYTES
    assert fold.unsealed_bytes == 0
    assert 20 == len(rendered(fold, segments).artifacts)


def test_a_snapshot_of_nothing_is_the_fold_of_nothing() -> None:
    restored = snapshot.restore(snapshot.take(TaskFold.empty()).head)
    assert restored is not None
    assert (Head(), TaskFold.empty().content) == (restored.head, restored.content)


def document() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(snapshot.take(TaskFold.of(Timeline([entry(submitted(), NOW)]).records)).head)
    return content


@pytest.mark.parametrize("change", [{"format": 1}, {"fold": 0}, {"fold": 3}, {"fold": 99}, {"head": 5}])
def test_a_snapshot_of_another_version_or_form_is_not_used(change: dict[str, Any]) -> None:
    assert snapshot.restore(json.dumps(document()).encode()) is not None
    assert snapshot.restore(json.dumps({**document(), **change}).encode()) is None


@pytest.mark.parametrize("head", [b"", b"{}", b"null", b"\xff", b"{" * 10_000])
def test_a_damaged_snapshot_is_not_used(head: bytes) -> None:
    assert snapshot.restore(head) is None


def test_a_cut_snapshot_is_not_used() -> None:
    head = snapshot.take(TaskFold.of(Timeline([entry(submitted(), NOW)]).records)).head
    assert not any(snapshot.restore(head[:length]) for length in range(len(head)))


def test_a_status_with_a_message_survives() -> None:
    fold = TaskFold.of(Timeline([entry(submitted(), NOW)], [status(TaskState.WORKING, "so far")]).records)
    again = snapshot.restore(snapshot.take(fold).head)
    assert again is not None
    assert fold.content.status == again.content.status
    assert b"so far" in bytes(again.content.status.message)
