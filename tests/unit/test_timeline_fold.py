"""What events amount to."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import asdict
from msgspec.structs import replace as replaced

from a2a_events.errors import Unreadable
from a2a_events.model import Message, Part, Role, Task, TaskState, decode, encode, timestamp_of
from a2a_events.timeline import render
from a2a_events.timeline.events import CancelRequested, Kind, TurnClaimed, TurnEnded, TurnNudged, TurnReleased
from a2a_events.timeline.fold import Content, Head, Phase, TaskFold, TurnState, is_public, public_states
from a2a_events.timeline.record import Entry, Record, entry
from a2a_events.timeline.render import status_entry
from tests.unit.client_view import ClientView
from tests.unit.timeline_builders import (
    ALICE,
    CONTEXT,
    NOW,
    TASK,
    Timeline,
    artifact,
    critical,
    kept,
    received,
    reply,
    status,
    submitted,
)
from tests.unit.timeline_strategies import timelines

PROPERTY = settings(max_examples=40, deadline=None)
CREATED = [entry(submitted(), NOW)]
CLAIMED = [entry(TurnClaimed(epoch=1, lease=3, delivery=2, agent_version="7"), NOW), status(TaskState.WORKING)]
ENDED = [entry(TurnEnded(epoch=1, handled=3), NOW), status(TaskState.COMPLETED)]


def shown(records: list[Record]) -> Task:
    return decode(render.task(TaskFold.of(records), TASK, {}), Task)


def head_of(records: list[Record]) -> Head:
    head = Head()
    for record in records:
        head.apply(record)
    return head


def state_of(reader: Head | TaskFold) -> tuple[Head, Content | None]:
    """All that a reader knows, as a value of its own."""
    return copy.deepcopy((reader, None) if isinstance(reader, Head) else (reader.head, reader.content))


def texts_of(task: Task) -> list[list[str]]:
    return [[part.text for part in artifact.parts if isinstance(part.text, str)] for artifact in task.artifacts]


# --- properties of every timeline ------------------------------------------------------------------------------------


@PROPERTY
@given(timelines(), st.data())
def test_folding_a_prefix_and_then_the_rest_is_folding_all(records: list[Record], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(records)))
    fold = TaskFold.of(records[:cut])
    for record in records[cut:]:
        assert fold.apply(record)
    assert state_of(TaskFold.of(records)) == state_of(fold)


@PROPERTY
@given(timelines())
def test_the_head_alone_advances_as_the_head_of_the_fold_does(records: list[Record]) -> None:
    for length in range(len(records) + 1):
        assert TaskFold.of(records[:length]).head == head_of(records[:length])


@PROPERTY
@given(timelines(), st.data())
def test_applying_a_record_twice_changes_nothing(records: list[Record], data: st.DataObject) -> None:
    fold = TaskFold.of(records)
    before = state_of(fold)
    again = data.draw(st.sampled_from(records))
    assert not fold.apply(again)
    assert not fold.head.apply(again)
    assert before == state_of(fold)


@PROPERTY
@given(timelines())
def test_a_client_that_saw_every_update_has_the_task_s_status_and_artifacts(records: list[Record]) -> None:
    client = ClientView(records)
    task = shown(records)
    assert task.status == (client.status or task.status)
    assert list(client.artifacts.values()) == list(task.artifacts)


@PROPERTY
@given(timelines())
def test_the_generation_counts_what_a_client_could_see_change(records: list[Record]) -> None:
    assert sum(record.header.kinds.count(code) for record in records for code in "sSA") == head_of(records).generation


@PROPERTY
@given(timelines(), st.integers(0, 5))
def test_a_shorter_history_is_the_newest_end_of_the_whole(records: list[Record], length: int) -> None:
    fold = TaskFold.of(records)
    whole = decode(render.task(fold, TASK, {}), Task)
    short = decode(render.task(fold, TASK, {}, length), Task)
    assert whole.history[len(whole.history) - min(length, len(whole.history)) :] == short.history
    assert (whole.id, whole.context_id, whole.status, whole.artifacts) == (
        short.id,
        short.context_id,
        short.status,
        short.artifacts,
    )


@PROPERTY
@given(timelines())
def test_states_read_from_a_record_alone_are_those_that_clients_saw(records: list[Record]) -> None:
    states = [state for record in records for state in public_states(record)]
    assert (states or [TaskState.SUBMITTED])[-1] is shown(records).status.state
    assert [bool(record.updates(0)) for record in records] == [is_public(record) for record in records]


# --- holes, damage, later versions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [Head, TaskFold.empty])
def test_a_hole_between_revisions_is_unreadable(target: Any) -> None:
    timeline = Timeline(CREATED, CLAIMED, ENDED)
    reader = target()
    reader.apply(timeline.records[0])
    with pytest.raises(Unreadable, match="revision 4 of record r3 does not follow 1"):
        reader.apply(timeline.records[2])


@pytest.mark.parametrize("target", [Head, TaskFold.empty])
def test_a_record_that_overlaps_what_was_applied_is_unreadable(target: Any) -> None:
    timeline = Timeline(CREATED, CLAIMED)
    reader = target()
    reader.apply(timeline.records[0])
    overlapping = replaced(timeline.records[1], header=replaced(timeline.records[1].header, revision=1, kinds="ScS"))
    with pytest.raises(Unreadable):
        reader.apply(overlapping)


def test_a_reader_that_starts_in_the_middle_finds_a_hole() -> None:
    with pytest.raises(Unreadable):
        TaskFold.of(Timeline(CREATED, CLAIMED).records[1:])


@pytest.mark.parametrize("payload", [b"", b"{}", b"\n", CLAIMED[0].line, CLAIMED[0].line + b"\n{}", b"\xff\n\xff"])
@pytest.mark.parametrize("target", [Head, TaskFold.empty])
def test_a_damaged_record_is_unreadable_and_leaves_the_reader_as_it_was(target: Any, payload: bytes) -> None:
    timeline = Timeline(CREATED, CLAIMED)
    reader = target()
    reader.apply(timeline.records[0])
    before = state_of(reader)
    with pytest.raises(Unreadable):
        reader.apply(replaced(timeline.records[1], payload=payload))
    assert before == state_of(reader)


@pytest.mark.parametrize("target", [Head, TaskFold.empty])
def test_a_message_that_is_no_object_is_unreadable(target: Any) -> None:
    record = Timeline(CREATED).records[0]
    broken = replaced(record, payload=b'{"submitted":{"contextId":"c","message":5,"owner":{},"actor":{}}}')
    with pytest.raises(Unreadable):
        target().apply(broken)


@pytest.mark.parametrize("damage", [(b'{"k":1}', b"5"), (b'"parts":[', b'"parts":')])
def test_a_damaged_artifact_is_unreadable_however_often_its_task_is_asked_for(damage: tuple[bytes, bytes]) -> None:
    timeline = Timeline(CREATED, [artifact("a", "x", metadata={"k": 1})], [artifact("b", "y")])
    first, second, third = timeline.records
    fold = TaskFold.of([first, replaced(second, payload=second.payload.replace(*damage)), third])
    for _ in range(2):
        with pytest.raises(Unreadable):
            render.task(fold, TASK, {})


def test_kinds_that_this_version_does_not_know_are_counted_and_change_nothing_else() -> None:
    with_unknown = Timeline(CREATED, CLAIMED, [kept(), artifact("a", "x"), kept(Kind.DELIVERY_ATTEMPT)])
    without = Timeline(CREATED, CLAIMED, [artifact("a", "x")])
    assert 2 == with_unknown.head.unknown
    assert shown(without.records) == shown(with_unknown.records)
    assert Phase.RUNNING is with_unknown.head.phase


def test_a_code_that_no_version_has_promised_yet_is_kept_too() -> None:
    timeline = Timeline(CREATED, CLAIMED, [kept()])
    later = replaced(timeline.records[2], header=replaced(timeline.records[2].header, kinds="Q"))
    assert 1 == head_of([*timeline.records[:2], later]).unknown
    assert [b'{"later":{"x":1}}'] == later.lines()


@pytest.mark.parametrize("target", [Head, TaskFold.empty])
def test_a_critical_record_of_an_unknown_kind_is_unreadable_and_leaves_the_reader_as_it_was(target: Any) -> None:
    timeline = Timeline(CREATED, CLAIMED, [entry(received("m2"), NOW), artifact("a", "x"), kept()])
    reader = target()
    for record in timeline.records[:2]:
        reader.apply(record)
    before = state_of(reader)
    with pytest.raises(Unreadable, match="newer version"):
        reader.apply(critical(timeline.records[2]))
    assert before == state_of(reader)


def test_a_critical_record_of_known_kinds_is_folded() -> None:
    timeline = Timeline(CREATED)
    assert Head().apply(critical(timeline.records[0]))


# --- the end ---------------------------------------------------------------------------------------------------------

AFTERWARDS = [
    pytest.param([status(TaskState.WORKING)], id="status"),
    pytest.param([status(TaskState.FAILED, "again")], id="another end"),
    pytest.param([artifact("a", "late"), artifact("b", "late")], id="artifacts"),
    pytest.param([reply("late")], id="reply"),
    pytest.param([entry(received("late"), NOW)], id="message"),
    pytest.param([entry(CancelRequested(actor=ALICE), NOW)], id="cancel"),
    pytest.param([entry(TurnClaimed(epoch=2, lease=9), NOW), status(TaskState.WORKING)], id="claim"),
    pytest.param([entry(TurnReleased(epoch=1), NOW)], id="release"),
    pytest.param([entry(TurnNudged(epoch=1), NOW)], id="nudge"),
    pytest.param([kept()], id="unknown"),
]


@pytest.mark.parametrize("entries", AFTERWARDS)
def test_after_the_end_a_task_is_final(entries: list[Entry]) -> None:
    timeline = Timeline(CREATED, CLAIMED, ENDED)
    final = asdict(timeline.head)
    before = shown(timeline.records)
    timeline.add(*entries)
    assert before == shown(timeline.records)
    moving = {"position", "revision", "generation", "size_bytes", "time", "sign", "unknown", "after_end"}
    assert {} == {
        name: (final[name], value)
        for name, value in asdict(timeline.head).items()
        if name not in moving and value != final[name]
    }


@pytest.mark.parametrize("entries", AFTERWARDS)
def test_after_the_end_the_head_alone_still_advances_as_the_fold_does(entries: list[Entry]) -> None:
    timeline = Timeline(CREATED, CLAIMED, ENDED, entries)
    assert TaskFold.of(timeline.records).head == timeline.head


def test_a_reply_ends_the_timeline_without_a_task() -> None:
    timeline = Timeline(
        [entry(submitted(replies="either"), NOW)],
        [entry(TurnClaimed(epoch=1, lease=3), NOW)],
        [entry(TurnEnded(epoch=1, handled=3), NOW), reply("m9")],
    )
    fold = TaskFold.of(timeline.records)
    assert (True, False) == (fold.head.replied, fold.head.exists)
    assert Phase.TERMINAL is fold.head.phase
    assert "m9" == decode(fold.content.reply, Message).message_id


# --- what the head says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("records", "phase"),
    [
        ([], Phase.NONE),
        ([CREATED], Phase.QUEUED),
        ([CREATED, CLAIMED], Phase.RUNNING),
        ([CREATED, CLAIMED, [artifact("a", "x")]], Phase.RUNNING),
        ([CREATED, CLAIMED, [entry(received("m2"), NOW)]], Phase.RUNNING),
        ([CREATED, CLAIMED, [entry(TurnNudged(epoch=1), NOW)]], Phase.RUNNING),
        ([CREATED, CLAIMED, [entry(CancelRequested(actor=ALICE), NOW)]], Phase.STOPPING),
        ([CREATED, CLAIMED, [entry(TurnReleased(epoch=1), NOW)]], Phase.RELEASED),
        ([CREATED, CLAIMED, [entry(TurnEnded(epoch=1, handled=3), NOW), status(TaskState.INPUT_REQUIRED)]],
         Phase.RESTING),
        ([CREATED, CLAIMED, [entry(received("m2"), NOW)],
          [entry(TurnEnded(epoch=1, handled=3), NOW), status(TaskState.INPUT_REQUIRED)]], Phase.QUEUED),
        ([CREATED, CLAIMED, [entry(TurnEnded(epoch=1, handled=3), NOW), status(TaskState.INPUT_REQUIRED),
                             entry(TurnClaimed(epoch=2, lease=3), NOW), status(TaskState.WORKING)]], Phase.RUNNING),
        ([CREATED, CLAIMED, ENDED], Phase.TERMINAL),
        ([CREATED, [status(TaskState.CANCELED)]], Phase.TERMINAL),
    ],
)  # fmt: skip
def test_a_task_is_judged_at_the_end_of_its_last_record(records: list[list[Entry]], phase: Phase) -> None:
    assert phase is Timeline(*records).head.phase


def test_a_claim_says_who_owns_the_turn_and_which_delivery_keeps_it_alive() -> None:
    head = Timeline(CREATED, CLAIMED).head
    assert (1, "r2", TurnState.OPEN, 3, 2, 1, "7") == (
        head.epoch,
        head.claim,
        head.turn,
        head.lease,
        head.lease_delivery,
        head.attempt,
        head.agent_version,
    )


def test_what_an_ended_turn_was_given_is_not_pending_any_more() -> None:
    timeline = Timeline(CREATED, CLAIMED, [entry(received("m2"), NOW)], [entry(received("m3"), NOW)])
    assert [(3, "m1"), (9, "m2"), (12, "m3")] == [(p.position, p.message_id) for p in timeline.head.pending]
    timeline.add(entry(TurnEnded(epoch=1, handled=9), NOW), status(TaskState.INPUT_REQUIRED))
    assert ["m3"] == [p.message_id for p in timeline.head.pending]
    assert 9 == timeline.head.handled


def test_a_released_turn_keeps_its_messages_pending() -> None:
    head = Timeline(CREATED, CLAIMED, [entry(TurnReleased(epoch=1), NOW)]).head
    assert ["m1"] == [p.message_id for p in head.pending]
    assert 0 == head.lease


def test_the_first_of_two_cancels_counts() -> None:
    cancel = [entry(CancelRequested(actor=ALICE), NOW)]
    assert 9 == Timeline(CREATED, CLAIMED, cancel, cancel).head.cancel


def test_only_records_of_the_present_epoch_are_signs_of_its_owner() -> None:
    timeline = Timeline(CREATED)
    timeline.add(*CLAIMED, epoch=1)
    assert 6 == timeline.head.sign
    timeline.add(entry(TurnNudged(epoch=1), NOW))
    assert 6 == timeline.head.sign
    timeline.add(artifact("a", "x"), epoch=1)
    assert 12 == timeline.head.sign


def test_an_agent_that_may_reply_directly_shows_no_task_before_it_says_something() -> None:
    timeline = Timeline([entry(submitted(replies="either"), NOW)], [entry(TurnClaimed(epoch=1, lease=3), NOW)])
    assert not timeline.head.exists
    timeline.add(artifact("a", "x"))
    assert timeline.head.exists


def test_a_new_task_exists_and_nothing_does_not() -> None:
    assert not Head().exists
    assert Timeline(CREATED).head.exists


# --- what clients see ------------------------------------------------------------------------------------------------


def test_a_new_task_is_submitted_with_its_message_as_history() -> None:
    task = shown(Timeline(CREATED).records)
    assert (TASK, CONTEXT, TaskState.SUBMITTED, timestamp_of(NOW)) == (
        task.id,
        task.context_id,
        task.status.state,
        task.status.timestamp,
    )
    message = Message(message_id="m1", role=Role.USER, parts=(Part(text="hello"),), context_id=CONTEXT, task_id=TASK)
    assert (message,) == task.history
    assert () == task.artifacts


def test_chunks_are_joined_and_a_resent_artifact_is_replaced_in_its_place() -> None:
    timeline = Timeline(
        CREATED,
        CLAIMED,
        [artifact("a", "1"), artifact("b", "x"), artifact("a", "2", "3", append=True)],
        [artifact("a", append=True), artifact("a", "4", append=True, last=True)],
    )
    assert [["1", "2", "3", "4"], ["x"]] == texts_of(shown(timeline.records))
    timeline.add(artifact("a", "new"), artifact("a", "er", append=True))
    assert [["new", "er"], ["x"]] == texts_of(shown(timeline.records))


def test_a_chunk_adds_metadata_and_a_replacement_forgets_it() -> None:
    timeline = Timeline(
        CREATED,
        CLAIMED,
        [artifact("a", "1", name="n", description="d", metadata={"k": 1, "l": None}, extensions=("x",))],
        [artifact("a", "2", append=True, metadata={"k": 2, "m": [1.5]})],
    )
    [made] = shown(timeline.records).artifacts
    assert ("n", "d", {"k": 2, "l": None, "m": [1.5]}, ("x",)) == (
        made.name,
        made.description,
        made.metadata,
        made.extensions,
    )
    timeline.add(artifact("a", "3"))
    [made] = shown(timeline.records).artifacts
    assert ("", "", None, ()) == (made.name, made.description, made.metadata, made.extensions)


def test_a_first_chunk_that_appends_to_nothing_makes_the_artifact() -> None:
    assert [["1"]] == texts_of(shown(Timeline(CREATED, CLAIMED, [artifact("a", "1", append=True)]).records))


def test_a_status_message_enters_the_history_when_the_next_one_or_a_message_comes() -> None:
    timeline = Timeline(CREATED, CLAIMED, [status(TaskState.WORKING, "first")])
    assert ["m1"] == [m.message_id for m in shown(timeline.records).history]
    timeline.add(status(TaskState.INPUT_REQUIRED, "second"))
    assert ["m1", "status-first"] == [m.message_id for m in shown(timeline.records).history]
    timeline.add(entry(received("m2"), NOW))
    expected = ["m1", "status-first", "status-second", "m2"]
    assert expected == [m.message_id for m in shown(timeline.records).history]
    timeline.add(status(TaskState.WORKING))
    assert expected == [m.message_id for m in shown(timeline.records).history]


def test_the_metadata_of_statuses_adds_up_to_the_task_s() -> None:
    timeline = Timeline(CREATED, CLAIMED, [noted({"session": "s", "tokens": 3})])
    assert {"session": "s", "tokens": 3} == shown(timeline.records).metadata
    timeline.add(status(TaskState.WORKING), noted({"tokens": 7}))
    assert {"session": "s", "tokens": 7} == shown(timeline.records).metadata


def noted(metadata: dict[str, Any]) -> Entry:
    return status_entry(TASK, CONTEXT, TaskState.WORKING, NOW, metadata=Raw(encode(metadata)))


@pytest.mark.parametrize("metadata", [b"3", b"[]", b"{"])
def test_a_status_whose_metadata_is_no_object_is_unreadable(metadata: bytes) -> None:
    with pytest.raises(Unreadable):
        Timeline(CREATED, CLAIMED, [status_entry(TASK, CONTEXT, TaskState.WORKING, NOW, metadata=Raw(metadata))])


def test_a_turn_knows_where_the_task_stood_before_it_whatever_its_attempts() -> None:
    timeline = Timeline(CREATED, [*CLAIMED, status(TaskState.WORKING)])
    assert TaskState.SUBMITTED is TaskFold.of(timeline.records).head.state_before
    timeline.add(entry(TurnEnded(epoch=1, handled=1), NOW), status(TaskState.INPUT_REQUIRED))
    timeline.add(entry(received("m2"), NOW))
    for attempt in (1, 2):
        claim = TurnClaimed(epoch=1 + attempt, lease=5, attempt=attempt)
        timeline.add(entry(claim, NOW), status(TaskState.WORKING))
        head = TaskFold.of(timeline.records).head
        assert (TaskState.WORKING, TaskState.INPUT_REQUIRED) == (head.state, head.state_before)


def test_history_length_zero_leaves_the_history_out() -> None:
    assert b"history" not in render.task(TaskFold.of(Timeline(CREATED).records), TASK, {}, 0)


def test_a_missing_segment_is_unreadable() -> None:
    fold = TaskFold.of(Timeline(CREATED).records)
    fold.content.history.segments.append("h-1-1")
    assert ["h-1-1"] == render.segment_keys(fold)
    with pytest.raises(Unreadable, match="h-1-1"):
        render.task(fold, TASK, {})
