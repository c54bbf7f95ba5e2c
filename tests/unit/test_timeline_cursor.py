"""Where a reader stands, as text that comes back from strangers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from a2a_events.errors import InvalidParamsError
from a2a_events.timeline import cursor, ids
from a2a_events.timeline.cursor import Cursor
from tests.unit.timeline_builders import REF

PROPERTY = settings(max_examples=100, deadline=None)
numbers = st.integers(0, 2**63 - 1)
incarnations = st.text("abcdef0123456789", max_size=12)
TEXT = cursor.text(REF, Cursor("inc1", 42, 7))
PREFIX = cursor.prefix(REF, "inc1")


@PROPERTY
@given(incarnations, numbers, numbers)
def test_a_cursor_reads_back_as_it_was_given(incarnation: str, position: int, revision: int) -> None:
    given_out = cursor.text(REF, Cursor(incarnation, position, revision))
    assert given_out.isascii()
    assert " " not in given_out
    assert Cursor(incarnation, position, revision) == cursor.parse(given_out, REF)


@PROPERTY
@given(incarnations, numbers, numbers)
def test_a_cursor_is_the_prefix_then_position_and_revision(incarnation: str, position: int, revision: int) -> None:
    assert f"{cursor.prefix(REF, incarnation)}{position}.{revision}" == cursor.text(
        REF, Cursor(incarnation, position, revision)
    )


@pytest.mark.parametrize(
    "other",
    [
        replace(REF, task_id=ids.task_id("main", 0, b"x" * 16)),
        replace(REF, tenant=ids.token("evil")),
        replace(REF, tenant="-"),
        replace(REF, agent="other"),
        replace(REF, log="eu"),
        replace(REF, shard=1),
    ],
)
def test_a_cursor_of_another_task_tenant_or_agent_is_refused(other: ids.TaskRef) -> None:
    with pytest.raises(InvalidParamsError, match="not issued for this task"):
        cursor.parse(TEXT, other)


def test_a_cursor_of_a_recreated_log_is_read_so_that_the_reader_can_tell() -> None:
    old = cursor.parse(TEXT, REF)
    assert "inc1" == old.incarnation


@pytest.mark.parametrize(
    "raw",
    [
        "",
        ".",
        "......",
        "42",
        TEXT + ".",
        TEXT + ".1",
        "." + TEXT,
        " " + TEXT,
        TEXT + " ",
        TEXT + "\n",
        "2" + TEXT[1:],
        TEXT.upper(),
        PREFIX,
        PREFIX + "42",
        PREFIX + "42.",
        PREFIX + ".7",
        PREFIX + "-1.7",
        PREFIX + "+1.7",
        PREFIX + "1_0.7",
        PREFIX + "1e3.7",
        PREFIX + "0x1.7",
        PREFIX + "٤.7",
        PREFIX + "²...7",
        PREFIX + f"{2**63}.7",
        PREFIX + f"1.{2**63}",
        PREFIX + "9" * 10_000 + ".7",
        PREFIX + "42.\ud800",
        PREFIX + "4\x002.7",
        "1." * 100_000,
    ],
)
def test_text_that_is_no_cursor_is_refused_by_the_header_s_name(raw: str) -> None:
    with pytest.raises(InvalidParamsError) as refusal:
        cursor.parse(raw, REF)
    assert ["Last-Event-ID"] == [field for field, _ in refusal.value.violations]


@PROPERTY
@given(st.text(max_size=60) | st.text("1.maininc0-", max_size=60).map(lambda tail: PREFIX + tail))
def test_hostile_text_is_a_cursor_of_this_task_or_refused(raw: str) -> None:
    try:
        read = cursor.parse(raw, REF)
    except InvalidParamsError:
        return
    assert raw.startswith(cursor.prefix(REF, read.incarnation))
    assert 0 <= read.position < 2**63
    assert 0 <= read.revision < 2**63
