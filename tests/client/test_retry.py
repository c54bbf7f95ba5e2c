"""Waits double, are spread over their whole length, and respect what servers ask for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2a_events.client import ConnectionFailed, Retry
from a2a_events.client.retry import Attempts, parse_retry_after, wanted_seconds
from a2a_events.errors import UnavailableError

_RETRY = Retry(base_seconds=0.5, ceiling_seconds=4.0)


@pytest.mark.parametrize(
    ("failures", "longest"), [(0, 0.0), (1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (5, 4.0), (999, 4)]
)
def test_the_longest_wait_doubles_up_to_the_ceiling(failures: int, longest: float) -> None:
    assert longest == _RETRY.delay_seconds(failures, 1.0)
    assert 0.0 == _RETRY.delay_seconds(failures, 0.0)


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True), st.floats(0, 60))
def test_a_wait_is_between_what_the_server_wants_and_the_ceiling_above_it(
    failures: int, chance: float, floor: float
) -> None:
    assert floor <= _RETRY.delay_seconds(failures, chance, floor) <= floor + _RETRY.ceiling_seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("7", 7),
        (" 7 ", 7),
        ("-7", 0),
        ("soon", 0),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 20),
        ("Thu, 01 Jan 1970 00:01:00 GMT", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float) -> None:
    assert seconds == parse_retry_after(value, now=100.0)


def test_one_failure_too_many_is_raised() -> None:
    attempts = Attempts(_RETRY, 2)
    attempts.failed(ConnectionFailed("1"))
    attempts.failed(ConnectionFailed("2"))
    with pytest.raises(ConnectionFailed, match="3"):
        attempts.failed(ConnectionFailed("3"))


def test_progress_begins_the_count_again() -> None:
    attempts = Attempts(_RETRY, 1)
    for _ in range(5):
        attempts.failed(ConnectionFailed("again"))
        attempts.succeeded()
    assert 0 == attempts.failures


async def test_a_server_that_wants_too_much_patience_is_not_waited_for() -> None:
    attempts = Attempts(_RETRY, 5)
    attempts.failed(UnavailableError(retry_after_seconds=3600))
    with pytest.raises(UnavailableError):
        await attempts.wait(3600)


def test_what_a_server_wants_is_read_from_its_error() -> None:
    assert 5 == wanted_seconds(UnavailableError(retry_after_seconds=5))
    assert 0 == wanted_seconds(ValueError())
