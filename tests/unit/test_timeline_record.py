"""How events are packed into records: headers, times, lines."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from a2a_events.model import TaskState
from a2a_events.timeline.events import INBOUND_CODES, PUBLIC_CODES, Kind, TurnClaimed, TurnNudged, TurnReleased
from a2a_events.timeline.record import Entry, Header, Record, Writer, draft, entry, pack, unpack, visible
from tests.unit.timeline_builders import GATEWAY, NOW, Timeline, artifact, kept, received, status, submitted

PROPERTY = settings(max_examples=100, deadline=None)
CODES = "".join(kind.value for kind in Kind)
words = st.text("abcXYZ019_-.", max_size=10)
counts = st.integers(0, 2**63 - 1)


@st.composite
def headers(draw: st.DrawFn) -> Header:
    kinds = draw(st.text(CODES + "Q?", min_size=1, max_size=8))
    steps = draw(st.lists(st.integers(0, 10**6), min_size=len(kinds), max_size=len(kinds)))
    first = draw(st.integers(0, 2**42))
    return Header(
        record_id=draw(words),
        revision=draw(counts),
        kinds=kinds,
        generation=draw(counts),
        writer=Writer(draw(words), draw(words), draw(words)),
        times=tuple(first + sum(steps[1 : index + 1]) for index in range(len(kinds))),
        incarnation=draw(words),
        epoch=draw(counts),
        attempt=draw(counts),
        critical=draw(st.booleans()),
        webhooks=draw(st.booleans()),
        encoding=draw(words),
        key_id=draw(words),
    )


@PROPERTY
@given(headers())
def test_a_header_reads_back_as_it_was_packed(header: Header) -> None:
    packed = pack(header)
    assert packed.isascii()
    assert "\n" not in packed
    assert header == unpack(packed)


@PROPERTY
@given(headers(), st.text("abc|,1", max_size=12))
def test_fields_that_a_later_version_adds_are_ignored(header: Header, more: str) -> None:
    assert header == unpack(f"{pack(header)}|{more}")


def test_a_packed_header_is_as_it_was_promised() -> None:
    header = Header(
        "r7", 3, "eSc", 2, Writer("worker", "w-1", "0.1.0"), (1000, 1000, 1005), "inc1", 2, 1, critical=True
    )
    assert "1|c|inc1|r7|3|eSc|2|2|1|worker|w-1|0.1.0|||1000,0,5" == pack(header)
    notifies = replace(header, critical=False, webhooks=True)
    assert "1|w|inc1|r7|3|eSc|2|2|1|worker|w-1|0.1.0|||1000,0,5" == pack(notifies)
    assert "1|cw|" == pack(replace(notifies, critical=True))[:5]


def test_times_that_are_all_one_are_packed_once() -> None:
    assert pack(Header("r1", 1, "AAA", 1, GATEWAY, (7, 7, 7))).endswith("|7")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "2||i|r|1|s|1|0|0|g|g|0|||5",
        "|" * 14,
        "1||i|r|1|s|1|0|0|g|g|0||",
        "1||i|r|x|s|1|0|0|g|g|0|||5",
        "1||i|r|1|s||0|0|g|g|0|||5",
        "1||i|r|1|s|1|0|0|g|g|0|||",
        "1||i|r|1|s|1|0|0|g|g|0|||5,x",
        "1||i|r|" + "9" * 5000 + "|s|1|0|0|g|g|0|||5",
    ],
)
def test_a_header_that_cannot_be_read_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- numbers and versions say it differently
        unpack(text)


@pytest.mark.parametrize("times", ["5,1,1", "5,1"])
def test_a_header_whose_times_are_not_one_for_each_event_is_a_value_error(times: str) -> None:
    kinds = "AAA" if times == "5,1" else "AA"
    with pytest.raises(ValueError):  # noqa: PT011 -- as above
        unpack(f"1||i|r|1|{kinds}|1|0|0|g|g|0|||{times}")


@PROPERTY
@given(st.lists(st.integers(0, 10**13), min_size=1, max_size=6), st.integers(0, 10**13))
def test_times_never_fall_within_a_task(clock: list[int], newest: int) -> None:
    entries = [entry(TurnNudged(epoch=1), time) for time in clock]
    header = draft(entries, record_id="r", revision=0, generation=0, writer=GATEWAY, not_before=newest).header
    assert len(clock) == len(header.times)
    assert [max(newest, *clock[: index + 1]) for index in range(len(clock))] == list(header.times)


def test_revision_and_generation_are_those_of_the_first_event() -> None:
    entries = [entry(TurnClaimed(epoch=1, lease=3), NOW), status(TaskState.WORKING), artifact("a", "x")]
    header = draft(entries, record_id="r", revision=4, generation=2, writer=GATEWAY, epoch=1, attempt=2).header
    assert (5, 7, 3, "cSA", 1, 2) == (
        header.revision,
        header.last_revision,
        header.generation,
        header.kinds,
        header.epoch,
        header.attempt,
    )


def test_an_empty_record_is_a_programmer_s_error() -> None:
    with pytest.raises(AssertionError):
        draft([], record_id="r", revision=0, generation=0, writer=GATEWAY)


def test_a_line_with_a_raw_newline_is_a_programmer_s_error() -> None:
    broken = Entry(Kind.STATUS.value, b'{"statusUpdate":\n{}}', NOW)
    with pytest.raises(AssertionError):
        draft([broken], record_id="r", revision=0, generation=0, writer=GATEWAY)


@pytest.mark.parametrize(
    ("entries", "inbound"),
    [
        ([entry(submitted(), NOW)], True),
        ([entry(received("m2"), NOW)], True),
        ([entry(TurnReleased(epoch=1), NOW)], True),
        ([entry(TurnNudged(epoch=1), NOW)], True),
        ([entry(TurnClaimed(epoch=1, lease=3), NOW), status(TaskState.WORKING)], False),
        ([artifact("a", "x"), artifact("a", "y", append=True)], False),
        ([kept()], False),
    ],
)
def test_a_record_that_asks_a_worker_for_something_rides_the_in_lane(entries: list[Entry], inbound: bool) -> None:
    assert inbound == draft(entries, record_id="r", revision=0, generation=0, writer=GATEWAY).inbound


def test_the_inbound_and_the_public_kinds_are_as_they_were_promised() -> None:
    assert set("smxrn") == INBOUND_CODES
    assert set("SAM") == PUBLIC_CODES


def test_what_changes_the_visible_task_moves_the_generation() -> None:
    assert (0, 3, 1) == (visible("cemxunrpM"), visible("sSA"), visible("cS"))


@PROPERTY
@given(st.lists(st.text(), min_size=1, max_size=4))
def test_lines_come_back_one_for_each_event_whatever_the_text_holds(texts: list[str]) -> None:
    timeline = Timeline([entry(submitted(), NOW)])
    record = timeline.add(*[artifact("a", text + "\n\r\u2028", append=True, metadata={"k": text}) for text in texts])
    assert len(texts) == len(record.lines()) == len(record.events())


def test_updates_are_the_public_lines_behind_a_revision() -> None:
    entries = [entry(TurnClaimed(epoch=1, lease=3), NOW), status(TaskState.WORKING), kept(), artifact("a", "x")]
    timeline = Timeline([entry(submitted(), NOW)], entries)
    record = timeline.records[-1]
    assert [(3, entries[1].line), (5, entries[3].line)] == record.updates(0)
    assert [(5, entries[3].line)] == record.updates(3)
    assert [] == record.updates(5)


def test_a_record_with_more_or_fewer_lines_than_kinds_is_damaged() -> None:
    header = Header("r1", 1, "AA", 1, GATEWAY, (NOW, NOW))
    with pytest.raises(ValueError, match="holds 1 lines"):
        Record(3, header, artifact("a", "x").line, inbound=False).events()
