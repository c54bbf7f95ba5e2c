"""``append.append`` when requests and answers are lost: stored exactly once, or reported as what it is (turns 3)."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from a2a_events.errors import Conflict, Unavailable, Uncertain
from a2a_events.log.append import append
from a2a_events.log.port import Log
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Draft, Record
from tests.contract.logs import new_task, offered, read_all

Fault = Callable[["Lossy", TaskRef, Draft, int], Any]


class Lossy:
    """The real log behind a network that does what a test says, one fault for each attempt; then nothing more."""

    def __init__(self, log: Log, *faults: Fault) -> None:
        self.log = log
        self.faults = list(faults)
        self.attempts = 0
        self.reads_fail = 0

    async def try_append(self, task: TaskRef, draft: Draft, expected: int, *, trace: str = "") -> int:
        self.attempts += 1
        if self.faults:
            result: int = await self.faults.pop(0)(self, task, draft, expected)
            return result
        return await self.log.try_append(task, draft, expected, trace=trace)

    async def first_after(self, task: TaskRef, position: int) -> Record | None:
        if self.reads_fail:
            self.reads_fail -= 1
            raise Unavailable("the read was lost")
        return await self.log.first_after(task, position)


async def answer_lost(lossy: Lossy, task: TaskRef, draft: Draft, expected: int) -> int:
    await lossy.log.try_append(task, draft, expected)
    raise Uncertain("stored, no answer")


async def request_lost(lossy: Lossy, task: TaskRef, draft: Draft, expected: int) -> int:
    raise Uncertain("not stored, no answer")


async def not_taken(lossy: Lossy, task: TaskRef, draft: Draft, expected: int) -> int:
    raise Unavailable("nobody there")


async def foreign_first(lossy: Lossy, task: TaskRef, draft: Draft, expected: int) -> int:
    await lossy.log.try_append(task, offered(0, record_id="foreign"), expected)
    raise Uncertain("somebody else was faster, no answer")


async def stored_and_followed(lossy: Lossy, task: TaskRef, draft: Draft, expected: int) -> int:
    position = await lossy.log.try_append(task, draft, expected)
    await lossy.log.try_append(task, offered(1, record_id="after"), position)
    raise Uncertain("stored, somebody wrote after it, no answer")


async def repeat_refused(lossy: Lossy, task: TaskRef, draft: Draft, expected: int) -> int:
    """A late copy of the first request lands just before the repeat arrives."""
    await lossy.log.try_append(task, draft, expected)
    raise Conflict("wrong last sequence")


async def stored_then_unavailable(lossy: Lossy, task: TaskRef, draft: Draft, expected: int) -> int:
    await lossy.log.try_append(task, draft, expected)
    raise Unavailable("nobody there any more")


STORED = [
    pytest.param([answer_lost], id="answer lost"),
    pytest.param([request_lost], id="request lost"),
    pytest.param([request_lost, request_lost, answer_lost], id="requests lost, then an answer"),
    pytest.param([not_taken, not_taken], id="not taken twice"),
    pytest.param([not_taken, answer_lost], id="not taken, then the answer lost"),
    pytest.param([request_lost, repeat_refused], id="a late first try refuses the repeat"),
    pytest.param([request_lost, stored_then_unavailable], id="a late first try, then nobody there"),
    pytest.param([stored_and_followed], id="stored and followed by another's, answer lost"),
]


@pytest.mark.parametrize("faults", STORED)
@pytest.mark.parametrize("reads_fail", [0, 2])
async def test_a_record_is_stored_exactly_once(log: Log, faults: list[Fault], reads_fail: int) -> None:
    lossy = Lossy(log, *faults)
    lossy.reads_fail = reads_fail
    task, made = new_task(log), offered(0)

    position = await append(lossy, task, made, 0)  # type: ignore[arg-type]

    records = await read_all(log, task)
    assert [r.position for r in records if r.header.record_id == made.header.record_id] == [position]
    assert records[0].header.record_id == made.header.record_id


@pytest.mark.parametrize("faults", [[foreign_first], [request_lost, foreign_first], [not_taken, foreign_first]])
async def test_another_record_at_the_position_is_a_conflict_and_ours_is_never_stored(
    log: Log, faults: list[Fault]
) -> None:
    task, made = new_task(log), offered(0)

    with pytest.raises(Conflict):
        await append(Lossy(log, *faults), task, made, 0)  # type: ignore[arg-type]

    assert [r.header.record_id for r in await read_all(log, task)] == ["foreign"]


async def test_a_log_that_takes_nothing_is_unavailable_and_nothing_was_written(log: Log) -> None:
    task = new_task(log)

    with pytest.raises(Unavailable):
        await append(Lossy(log, *[not_taken] * 99), task, offered(0), 0, patience_seconds=0.2)  # type: ignore[arg-type]

    assert await read_all(log, task) == []


@pytest.mark.parametrize("faults", [[request_lost] * 99, [request_lost, *[not_taken] * 99]])
async def test_a_record_whose_fate_is_unknown_is_uncertain(log: Log, faults: list[Fault]) -> None:
    with pytest.raises(Uncertain):
        await append(Lossy(log, *faults), new_task(log), offered(0), 0, patience_seconds=0.2)  # type: ignore[arg-type]


async def test_reads_that_are_never_answered_leave_it_uncertain(log: Log) -> None:
    lossy = Lossy(log, answer_lost)
    lossy.reads_fail = 10_000

    with pytest.raises(Uncertain):
        await append(lossy, new_task(log), offered(0), 0, patience_seconds=0.2)  # type: ignore[arg-type]


async def test_a_long_series_of_random_faults_stores_every_record_once_in_order(log: Log) -> None:
    rng = random.Random(7)
    task = new_task(log)
    expected, ids = 0, []
    for revision in range(60):
        made = offered(revision)
        faults = rng.choices([answer_lost, request_lost, not_taken, repeat_refused], k=rng.randrange(3))
        if repeat_refused in faults and request_lost not in faults[: faults.index(repeat_refused)]:
            faults = [request_lost, *faults]  # only a late first try can refuse a repeat
        stored = next((i for i, fault in enumerate(faults) if fault in {answer_lost, repeat_refused}), len(faults))
        expected = await append(Lossy(log, *faults[: stored + 1]), task, made, expected)  # type: ignore[arg-type]
        ids.append(made.header.record_id)

    assert [r.header.record_id for r in await read_all(log, task)] == ids
