"""Time on the wire: UTC, ``Z``, milliseconds; read with any fraction."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2a_events.model import milliseconds_of, timestamp_of

LAST_MILLISECOND_OF_9999 = 253_402_300_799_999


@settings(max_examples=100, deadline=None)
@given(st.integers(0, LAST_MILLISECOND_OF_9999))
def test_a_time_reads_back_as_it_was_written(milliseconds: int) -> None:
    written = timestamp_of(milliseconds)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", written)
    assert milliseconds == milliseconds_of(written)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, LAST_MILLISECOND_OF_9999), st.integers(0, LAST_MILLISECOND_OF_9999))
def test_written_times_sort_as_the_times_do(one: int, other: int) -> None:
    assert (one < other) == (timestamp_of(one) < timestamp_of(other))


@pytest.mark.parametrize(
    ("milliseconds", "written"),
    [(0, "1970-01-01T00:00:00.000Z"), (1, "1970-01-01T00:00:00.001Z"), (1_795_233_000_123, "2026-11-21T03:50:00.123Z")],
)
def test_times_are_written_in_utc_with_three_digits(milliseconds: int, written: str) -> None:
    assert written == timestamp_of(milliseconds)


@pytest.mark.parametrize(
    ("fraction", "milliseconds"),
    [("", 0), (".5", 500), (".05", 50), (".123", 123), (".1239", 123), (".123456", 123), (".999999999", 999)],
)
def test_fractions_of_any_length_are_cut_to_milliseconds(fraction: str, milliseconds: int) -> None:
    assert milliseconds == milliseconds_of(f"1970-01-01T00:00:00{fraction}Z")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-21",
        "2026-11-21T03:50:00",
        "2026-11-21T03:50:00z",
        "2026-11-21 03:50:00Z",
        "2026-11-21T03:50:00+00:00",
        "2026-11-21T03:50:00.Z",
        "2026-11-21T03:50:00.1234567890Z",
        "2026-13-21T03:50:00Z",
        "2026-02-30T03:50:00Z",
        "2026-11-21T24:50:00Z",
        "2026-11-21T03:50:60Z",
        "0000-01-01T00:00:00Z",
        "2026-11-21T03:50:00Z\n",
        " 2026-11-21T03:50:00Z",
        "２０２６-11-21T03:50:00Z",
        "2026-11-21T03:50:00.٣Z",
        "9" * 10_000,
    ],
)
def test_a_text_that_is_no_time_in_utc_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- the pattern and the calendar say it differently
        milliseconds_of(text)
