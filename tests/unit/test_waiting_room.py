"""The waiting room: whose delivery is next, what is kept alive, what is let go; as pure data, with made-up times."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from a2a_events.log.port import Handle
from a2a_events.runtime.waiting_room import DELIVERY_BYTES, DIG_DELIVERIES, Waiting, WaitingRoom
from a2a_events.timeline.events import Kind
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Record
from tests.contract.logs import offered

ACK_WAIT_SECONDS = 30.0
SIGN_SECONDS = ACK_WAIT_SECONDS / 3
_HEADER = offered(0, kind=Kind.SUBMITTED).header


class Delivery(Struct):
    """See ``port.Handle``; what it says to the broker is the worker's business."""

    task: TaskRef
    record: Record
    count: int = 1

    async def acknowledge(self) -> None:
        raise AssertionError

    async def in_progress(self) -> bool:
        raise AssertionError

    async def give_back(self) -> None:
        raise AssertionError


def delivery(tenant: str, number: int, *, count: int = 1, size: int = 0) -> Handle:
    task = TaskRef("main", 0, "agent", tenant, f"{tenant}-{number}")
    return Delivery(task, Record(number, _HEADER, b"x" * size, inbound=True), count)


def room(turns: int = 4, **bounds: int) -> WaitingRoom[str]:
    return WaitingRoom(turns, ACK_WAIT_SECONDS, **bounds)


def fill(one: WaitingRoom[str], tenant: str, count: int, now: float = 0.0, *, first: int = 1) -> list[Waiting[str]]:
    return [gone for n in range(first, first + count) for gone in one.enter("agent", delivery(tenant, n), now)]


def ids(waiting: list[Waiting[str]]) -> list[str]:
    return [one.handle.task.task_id for one in waiting]


def picks(one: WaitingRoom[str], count: int, now: float = 0.0) -> list[str]:
    """The next ones, none of which ends."""
    return ids([next_one for _ in range(count) if (next_one := one.next(now)) is not None])


def test_a_tenant_with_fewer_running_turns_is_next() -> None:
    one = room()
    fill(one, "flood", 100)
    assert picks(one, 3) == ["flood-1", "flood-2", "flood-3"]
    fill(one, "lone", 2)

    assert picks(one, 3) == ["lone-1", "lone-2", "flood-4"]


def test_with_one_turn_tenants_alternate_and_none_is_served_twice_in_a_row() -> None:
    one = room(turns=1)
    for tenant in ("a", "b", "c"):
        fill(one, tenant, 3)

    served = []
    for _ in range(9):
        served += picks(one, 1)
        one.ended(served[-1][0], 0.0)

    assert served == ["a-1", "b-1", "c-1", "a-2", "b-2", "c-2", "a-3", "b-3", "c-3"]


def test_a_delivery_that_comes_again_takes_its_old_place() -> None:
    one = room()
    fill(one, "a", 3, now=40.0, first=5)
    one.enter("agent", delivery("a", 1, count=2), 41.0)

    assert picks(one, 2, 41.0) == ["a-1", "a-5"]


def test_a_newer_delivery_of_a_record_that_waits_replaces_the_older() -> None:
    one = room()
    one.enter("agent", delivery("a", 1), 0.0)
    one.enter("agent", delivery("a", 1, count=2), 31.0)

    found = one.next(31.0)
    assert found is not None
    assert found.handle.count == 2
    assert one.next(31.0) is None


def test_when_full_the_tenant_that_holds_most_loses_its_newest() -> None:
    one = room(deliveries=10)
    assert not fill(one, "flood", 8)
    assert ids(fill(one, "other", 4)) == ["flood-8", "flood-7"]
    assert ids(fill(one, "flood", 1, first=9)) == ["flood-9"]
    assert len(one) == 10


def test_when_full_of_bytes_whoever_holds_most_bytes_loses() -> None:
    one = room(bytes=100_000)
    fill(one, "many", 20)
    gone = one.enter("agent", delivery("large", 1, size=40_000), 0.0)
    gone += one.enter("agent", delivery("large", 2, size=40_000), 0.0)

    assert ids(gone) == ["large-2"]
    assert len(one) == 21


def test_one_delivery_over_every_bound_is_still_taken() -> None:
    one = room(bytes=1000)
    assert not one.enter("agent", delivery("large", 1, size=40_000), 0.0)
    assert picks(one, 1) == ["large-1"]


def test_signs_are_due_after_a_third_of_the_ack_wait_and_then_not_before_another() -> None:
    one = room()
    fill(one, "a", 2)
    assert one.due(SIGN_SECONDS * 0.9) == []
    assert ids(one.due(SIGN_SECONDS)) == ["a-1", "a-2"]
    assert one.due(SIGN_SECONDS * 1.5) == []
    assert ids(one.due(SIGN_SECONDS * 2)) == ["a-1", "a-2"]


def test_a_delivery_whose_sign_is_overdue_is_never_run() -> None:
    one = room()
    fill(one, "a", 2)
    assert one.next(2 * SIGN_SECONDS + 1) is None
    assert len(one) == 0


def test_what_is_not_reached_within_an_ack_wait_is_let_go_the_newest_of_the_largest_first() -> None:
    one = room(turns=4)
    fill(one, "flood", 100)
    fill(one, "small", 3)
    picks(one, 4)
    for _ in range(2):  # two turns in a third of the ack wait: six in one
        one.ended("flood", SIGN_SECONDS - 1)

    assert ids(one.due(SIGN_SECONDS)) == ["flood-3", "flood-4", "flood-5", "flood-6", "flood-7", "small-3"]
    assert len(one) == 6


def test_a_fast_worker_keeps_all_that_it_will_get_to() -> None:
    one = room(turns=4)
    fill(one, "flood", 1000)
    for n in range(400):
        picks(one, 1, n / 50)
        one.ended("flood", n / 50)

    assert len(one.due(SIGN_SECONDS)) == len(one) == 600


def test_where_turns_are_long_nothing_waits_longer_than_the_ack_wait() -> None:
    one = room(turns=4)
    fill(one, "a", 3)
    now = 0.0
    while now <= ACK_WAIT_SECONDS:
        assert len(one) == 3
        now += SIGN_SECONDS / 4
        one.due(now)
    for step in range(5):
        one.due(now + step * SIGN_SECONDS / 4)

    assert len(one) == 0


def test_a_room_that_is_full_goes_on_taking_unless_it_will_soon_be_empty() -> None:
    slow, fast = room(deliveries=10), room(deliveries=10)
    for one in (slow, fast):
        assert one.appetite(0.0) == 10
        fill(one, "a", 20)
    for _ in range(5):
        picks(fast, 1)
        fast.ended("a", 1.0)
    fill(fast, "a", 5, 1.0, first=21)

    assert slow.appetite(1.0) == DIG_DELIVERIES
    assert fast.appetite(1.0) == 0


STEPS = st.one_of(
    st.tuples(st.just("enter"), st.sampled_from("abc"), st.integers(1, 40), st.integers(1, 3)),
    st.tuples(st.just("next")),
    st.tuples(st.just("end"), st.integers(0, 20)),
    st.tuples(st.just("due")),
    st.tuples(st.just("wait"), st.floats(0.1, 12.0)),
)


@settings(max_examples=150)
@given(st.lists(STEPS, max_size=80))
def test_whatever_happens_bounds_hold_and_the_next_is_of_a_tenant_with_fewest_running(
    steps: list[tuple[Any, ...]],
) -> None:
    one = room(turns=3, deliveries=12, bytes=12 * DELIVERY_BYTES)
    waiting: dict[str, float] = {}
    """By task, when the broker began to count."""
    running: list[str] = []
    now = 0.0
    for step in steps:
        match step:
            case ("enter", tenant, number, count):
                gone = one.enter("agent", delivery(tenant, number, count=count), now)
                waiting[f"{tenant}-{number}"] = now
                for name in ids(gone):
                    del waiting[name]
            case ("next",):
                found = one.next(now)
                fresh = {name for name, signed in waiting.items() if now - signed <= 2 * SIGN_SECONDS}
                if found is None:
                    assert not fresh
                    waiting.clear()
                else:
                    name = found.handle.task.task_id
                    assert name in fresh
                    fewest = min(running.count(tenant[0]) for tenant in fresh)
                    assert running.count(name[0]) == fewest
                    running.append(name[0])
                    del waiting[name]
            case ("end", index) if running:
                one.ended(running.pop(index % len(running)), now)
            case ("due",):
                signed = ids(one.due(now))
                for name in signed:
                    assert now - waiting[name] >= SIGN_SECONDS
                for name, last in list(waiting.items()):
                    if name in signed:
                        waiting[name] = now
                    elif now - last >= SIGN_SECONDS:
                        del waiting[name]
            case ("wait", seconds):
                now += seconds
        stale = {name for name, signed in waiting.items() if now - signed > 2 * SIGN_SECONDS}
        assert len(waiting) - len(stale) <= len(one) <= min(12, len(waiting))


@pytest.mark.parametrize("flood", [100, 10_000])
def test_however_large_the_flood_the_other_is_served_with_the_next_turn(flood: int) -> None:
    one = room(turns=4, deliveries=1000)
    fill(one, "flood", flood)
    picks(one, 4)
    fill(one, "lone", 1)
    one.ended("flood", 1.0)

    assert picks(one, 1, 1.0) == ["lone-1"]
