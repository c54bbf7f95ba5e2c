"""What the facts about a task amount to: one test a case, and the words that an operator reads."""

from __future__ import annotations

from typing import Any

import pytest

from a2a_events import limits
from a2a_events.model import TaskState
from a2a_events.timeline.attempts import SLEPT, Attempts
from a2a_events.timeline.decide import FAIL, RERUN, RESUME
from a2a_events.timeline.diagnosis import (
    HEARTBEATS_MISSED,
    WAKE_UP,
    Case,
    Deliveries,
    Diagnosis,
    Facts,
    Letter,
    Newest,
    diagnose,
    span,
)
from a2a_events.timeline.events import (
    CancelRequested,
    TaskDeadLettered,
    TurnClaimed,
    TurnEnded,
    TurnNudged,
    TurnReleased,
    TurnSuspended,
)
from a2a_events.timeline.record import Record, entry
from tests.unit.timeline_builders import ALICE, NOW, TASK, Timeline, received, reply, status, submitted

WORKER = "gateway-1"
"""The builders write every record in one name, so claims too."""
OTHER = "worker-2"
HEARTBEAT_MS = int(limits.AGENT_HEARTBEAT_SECONDS * 1000)


def claimed(epoch: int = 1, **members: Any) -> TurnClaimed:
    return TurnClaimed(epoch=epoch, **{"lease": 3, "policy": RERUN, "agent_version": "1.0.0", **members})


def queued() -> Timeline:
    return Timeline([entry(submitted(), NOW)])


def running(**members: Any) -> Timeline:
    made = queued()
    made.add(entry(claimed(**members), NOW), status(TaskState.WORKING), epoch=1)
    return made


def resting(state: TaskState) -> Timeline:
    made = running()
    made.add(entry(TurnEnded(epoch=1, handled=3), NOW), status(state), epoch=1)
    return made


def asleep(until: int) -> Timeline:
    made = running(policy=RESUME)
    made.add(entry(TurnSuspended(epoch=1, given=3, until=until), NOW), epoch=1)
    return made


def released() -> Timeline:
    made = running()
    made.add(entry(TurnReleased(epoch=1, reason="its worker was stopped"), NOW), epoch=1)
    return made


def newest(record: Record, time: int) -> Newest:
    writer = record.header.writer
    return Newest(record.position, record.header.last_revision, time, f"{writer.role}/{writer.instance}")


def facts(timeline: Timeline, *, age_seconds: float = 5, **known: Any) -> Facts:
    """What is known of a task whose newest record is so old."""
    head = timeline.head
    turn = Attempts()
    for record in timeline.records:
        turn.take(record)
    sign = next((r for r in timeline.records if r.position == head.sign), None)
    now = NOW + int(age_seconds * 1000)
    return Facts(
        **{
            "task_id": TASK,
            "agent": "writer",
            "now": now,
            "ack_wait_seconds": 30.0,
            "head": head,
            "newest": newest(timeline.records[-1], NOW),
            "sign": newest(sign, NOW) if sign else None,
            "attempts": tuple(turn.claims),
            "claimed": turn.claimed,
            "workers": {WORKER: now - 1000, OTHER: now - 1000},
            **known,
        }
    )


def queue(position: int = 3, **known: Any) -> Deliveries:
    usual = {"handed_out": 0, "settled": 0, "waiting": 0, "ahead": 0, "under_way": 0, "repeated": 0, "wanted": False}
    return Deliveries(position=position, **{**usual, **known})


def of(timeline: Timeline, **known: Any) -> Diagnosis:
    return diagnose(facts(timeline, **known))


def bare(**known: Any) -> Diagnosis:
    usual = {"task_id": TASK, "agent": "writer", "now": NOW, "ack_wait_seconds": 30.0}
    return diagnose(Facts(**{**usual, **known}))


# --- no task to judge ------------------------------------------------------------------------------------------------


def test_a_log_that_does_not_answer_is_said_to_with_its_reason() -> None:
    found = bare(problem="no responders")

    assert (found.case, found.stuck) == (Case.UNAVAILABLE, True)
    assert "no responders" in found.why
    assert "NATS" in found.advice


def test_an_unreadable_record_is_named_and_so_is_its_letter() -> None:
    found = bare(problem="record r2 needs a newer version", damaged=True)
    told = bare(
        problem="record r2",
        damaged=True,
        letter=Letter(NOW, "unreadable: record r2", 5),
        newest=Newest(6, 4, NOW, "worker/w"),
    )

    assert (found.case, found.stuck) == (Case.UNREADABLE, True)
    assert "r2 needs a newer version" in found.why
    assert "dead letter" not in found.why
    assert "dead letter" in told.why
    assert (told.revision, told.position, told.newest_writer) == (4, 6, "worker/w")


def test_a_task_that_is_not_there_is_no_task() -> None:
    found = of(queued(), head=Timeline().head)

    assert (found.case, found.stuck, found.state) == (Case.NO_TASK, False, "")


# --- tasks that have ended -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [TaskState.COMPLETED, TaskState.CANCELED, TaskState.FAILED, TaskState.REJECTED])
def test_a_task_that_has_ended_is_not_stuck(state: TaskState) -> None:
    found = of(resting(state), age_seconds=3700)

    assert (found.case, found.stuck, found.advice) == (Case.ENDED, False, "")
    assert f"ended {state.name} 1 h 1 min ago" in found.why


def test_a_task_that_was_answered_with_a_message_says_so() -> None:
    made = running()
    made.add(entry(TurnEnded(epoch=1, handled=3), NOW), reply("m2"), epoch=1)

    assert "answered with a message" in of(made).why


def given_up() -> Timeline:
    made = running(attempt=2)
    dead = TaskDeadLettered(epoch=1, attempts=2, reason="the agent raised KeyError")
    made.add(entry(dead, NOW), entry(TurnEnded(epoch=1, handled=3), NOW), status(TaskState.FAILED), epoch=1)
    return made


def test_a_task_that_was_given_up_has_its_attempts_its_reason_and_the_way_to_replay_it() -> None:
    found = of(given_up(), letter=Letter(NOW, "the agent raised KeyError", 2))

    assert (found.case, found.stuck) == (Case.GIVEN_UP, True)
    assert "after 2 attempts: the agent raised KeyError" in found.why
    assert f"dead-letters replay {TASK}" in found.advice
    assert [attempt.reason for attempt in found.attempts] == ["the agent raised KeyError"]


def test_a_task_whose_letter_is_gone_asks_for_nothing() -> None:
    found = of(given_up())

    assert (found.case, found.stuck) == (Case.GIVEN_UP, False)
    assert "KeyError" in found.why
    assert "has no letter" in found.why


# --- tasks that wait for somebody else -------------------------------------------------------------------------------


def test_a_task_that_waits_for_its_client_says_since_when_and_until_when() -> None:
    found = of(resting(TaskState.INPUT_REQUIRED), age_seconds=90, waking=NOW + 3_690_000)

    assert (found.case, found.stuck) == (Case.WAITS_FOR_CLIENT, False)
    assert "(INPUT_REQUIRED), for 1 min 30 s now" in found.why
    assert "in 1 h, it ends FAILED" in found.why
    assert found.wakes_at
    assert found.owner == ""


def test_a_task_that_nobody_will_end_says_so_unless_that_could_not_be_read() -> None:
    forever = of(resting(TaskState.AUTH_REQUIRED))
    unread = of(resting(TaskState.AUTH_REQUIRED), untold=(f"{WAKE_UP}: no answer",))

    assert "without end" in forever.why
    assert "without end" not in unread.why
    assert unread.untold == (f"{WAKE_UP}: no answer",)


def test_a_sleeping_task_says_until_when_and_that_no_worker_is_missing() -> None:
    until = NOW + 65_000
    found = of(asleep(until), waking=until, workers={})

    assert (found.case, found.stuck) == (Case.SLEEPS, False)
    assert "for 1 min more" in found.why
    assert "no wake-up" not in found.why
    assert "no wake-up" in of(asleep(until)).why
    assert [attempt.reason for attempt in found.attempts] == [SLEPT]
    assert found.owner == ""


def test_a_task_that_overslept_waits_for_a_worker_or_for_the_sweeper() -> None:
    nobody = of(asleep(NOW), workers={}, age_seconds=7)
    somebody = of(asleep(NOW), age_seconds=7)

    assert (nobody.case, nobody.stuck) == (Case.NO_WORKER, True)
    assert (somebody.case, somebody.stuck) == (Case.OVERSLEPT, False)
    assert "7 s ago" in somebody.why


# --- tasks that nobody has -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [queued(), released()], ids=["queued", "released"])
def test_without_a_worker_nothing_goes_on(made: Timeline) -> None:
    found = of(made, workers={}, served=False)

    assert (found.case, found.stuck) == (Case.NO_WORKER, True)
    assert "no worker announces writer" in found.why
    assert "None was ever here" in found.why
    assert "None was ever here" not in of(made, workers={}).why
    assert "serves writer" in found.advice


def test_workers_that_could_not_be_asked_for_are_not_said_to_be_missing() -> None:
    found = of(queued(), workers=None, untold=("workers: no answer",))

    assert (found.case, found.stuck, found.workers) == (Case.QUEUED, False, None)


def test_a_queued_message_says_how_many_are_before_it_and_whether_a_worker_is_free() -> None:
    busy = of(queued(), deliveries=queue(waiting=9, ahead=7, under_way=4))
    free = of(queued(), deliveries=queue(waiting=1, wanted=True))

    assert (busy.case, busy.stuck, busy.pending_messages) == (Case.QUEUED, False, 1)
    assert "7 others before it" in busy.why
    assert "all workers are busy (4 deliveries" in busy.why
    assert busy.advice
    assert "none before it" in free.why
    assert "worker is free" in free.why
    assert not free.advice


def test_several_messages_are_counted() -> None:
    made = queued()
    made.add(entry(received("m2"), NOW))

    assert "2 messages wait" in of(made, deliveries=queue()).why


def test_a_message_that_was_handed_out_and_not_begun_is_left_to_its_worker_for_a_while() -> None:
    young = of(queued(), deliveries=queue(handed_out=3, under_way=1))
    old = of(queued(), age_seconds=61, deliveries=queue(handed_out=3, under_way=1))

    assert (young.case, young.stuck, young.advice) == (Case.HANDED_OUT, False, "")
    assert "after 30 s of silence" in young.why
    assert "start more workers" in old.advice


def test_a_message_whose_delivery_is_gone_was_forgotten() -> None:
    found = of(queued(), deliveries=queue(handed_out=9, settled=9))

    assert found.case is Case.FORGOTTEN
    assert "no delivery of it" in found.why


def test_a_released_turn_says_why_it_was_let_go() -> None:
    found = of(released(), deliveries=queue(9, handed_out=3, wanted=True))

    assert found.case is Case.QUEUED
    assert "handed over (its worker was stopped)" in found.why
    assert found.owner == ""


@pytest.mark.parametrize("made", [queued(), running(), released()], ids=["queued", "running", "released"])
def test_an_imported_task_that_is_not_over_is_nobodys(made: Timeline) -> None:
    found = of(made, dispatched=False)

    assert (found.case, found.stuck) == (Case.IMPORTED, True)
    assert f"`a2a-events fork {TASK}@{made.head.revision}`" in found.advice
    assert "sweeper" in found.why


# --- tasks that a worker has -----------------------------------------------------------------------------------------


def test_a_worker_that_lives_is_at_it() -> None:
    found = of(running())

    assert (found.case, found.stuck, found.advice) == (Case.RUNNING, False, "")
    assert found.why.startswith(f"Worker {WORKER} is at it: it last wrote 5 s ago, announced itself 1 s ago.")
    assert (found.owner, found.epoch, found.attempt, found.policy) == (WORKER, 1, 1, RERUN)
    assert (found.owner_silent_seconds, found.owner_announced_seconds_ago, found.silent_seconds) == (5.0, 1.0, 5.0)


def test_an_agent_that_says_nothing_for_long_is_no_dead_worker() -> None:
    found = of(running(), age_seconds=500)

    assert (found.case, found.stuck) == (Case.RUNNING, False)
    assert "deadlines" in found.advice


def test_the_owner_s_own_record_counts_and_not_a_client_s() -> None:
    made = running()
    made.add(entry(received("m2"), NOW))
    known = facts(made, age_seconds=500, workers={OTHER: NOW + 500_000})
    later = diagnose(
        Facts(
            **{
                **{f: getattr(known, f) for f in known.__struct_fields__},
                "newest": newest(made.records[-1], NOW + 499_000),
            }
        )
    )

    assert later.silent_seconds == 1.0
    assert later.owner_silent_seconds == 500.0
    assert later.case is Case.WORKER_SILENT


def test_messages_that_came_during_the_turn_are_counted() -> None:
    made = running()
    made.add(entry(received("m2"), NOW))

    found = of(made)

    assert "1 newer message may wait" in found.why
    assert found.pending_messages == 1


def test_messages_that_a_turn_was_begun_with_do_not_count_as_waiting() -> None:
    assert of(queued()).pending_messages == 1
    assert of(running()).pending_messages == 0
    assert of(asleep(NOW + 60_000)).pending_messages == 0
    assert of(released()).pending_messages == 0
    two = queued()
    two.add(entry(received("m2"), NOW))
    two.add(entry(claimed(), NOW), status(TaskState.WORKING), epoch=1)
    assert of(two).pending_messages == 0
    assert "newer message" not in of(two).why


def test_a_second_attempt_says_what_ended_the_first() -> None:
    made = running()
    made.add(entry(claimed(2, attempt=2, reason="the agent raised ValueError"), NOW), epoch=2)

    found = of(made)

    assert "(attempt 2)" in found.why
    assert "ended because the agent raised ValueError" in found.why
    assert [(a.attempt, a.reason) for a in found.attempts] == [(1, "the agent raised ValueError"), (2, "")]


def test_an_unanswered_nudge_is_told() -> None:
    made = running()
    made.add(entry(TurnNudged(epoch=1), NOW))

    found = of(made)

    assert found.nudge_unanswered
    assert "sweeper has asked" in found.why
    assert not of(running()).nudge_unanswered


@pytest.mark.parametrize(
    ("policy", "then"),
    [(FAIL, "ends the task FAILED"), (RERUN, "runs the turn anew"), (RESUME, "goes on from what was said")],
)
def test_a_worker_that_is_gone_is_told_with_what_comes_next(policy: str, then: str) -> None:
    later = NOW + 40_000
    found = of(running(policy=policy), age_seconds=40, workers={OTHER: later - 1000})
    alone = of(running(policy=policy), age_seconds=40, workers={})

    assert (found.case, found.stuck) == (Case.WORKER_SILENT, False)
    assert f"held by worker {WORKER}, and it last wrote 40 s ago" in found.why
    assert "has not announced itself for 30 s" in found.why
    assert f"({OTHER}), which {then}" in found.why
    assert (alone.case, alone.stuck) == (Case.WORKER_SILENT, True)
    assert then in alone.advice
    assert found.owner_announced_seconds_ago is None


def test_a_worker_that_misses_its_announcements_is_taken_for_gone() -> None:
    now = NOW + 40_000
    late = of(running(), age_seconds=40, workers={WORKER: now - HEARTBEATS_MISSED * HEARTBEAT_MS - 1, OTHER: now})
    punctual = of(running(), age_seconds=40, workers={WORKER: now - HEARTBEATS_MISSED * HEARTBEAT_MS, OTHER: now})

    assert late.case is Case.WORKER_SILENT
    assert "last announced itself 20 s ago" in late.why
    assert punctual.case is Case.RUNNING


def test_a_worker_that_wrote_within_the_ack_wait_is_alive_whatever_is_announced() -> None:
    assert of(running(), age_seconds=30, workers={OTHER: NOW}).case is Case.RUNNING
    assert of(running(), age_seconds=31, workers={OTHER: NOW}).case is Case.WORKER_SILENT


def test_a_task_that_is_being_canceled_says_who_is_to_stop() -> None:
    made = running()
    made.add(entry(CancelRequested(actor=ALICE), NOW))
    found = of(made)
    gone = of(made, age_seconds=40, workers={OTHER: NOW + 39_000})

    assert (found.case, found.stuck, found.cancel_asked) == (Case.CANCELING, False, True)
    assert f"Worker {WORKER} has the turn" in found.why
    assert gone.case is Case.WORKER_SILENT
    assert "ends the task CANCELED" in gone.why


def test_a_turn_of_another_version_is_a_hint_only_where_versions_matter() -> None:
    gone = {"age_seconds": 40, "workers": {OTHER: NOW + 39_000}}

    assert "version 1.0.0 of the agent" in of(running(policy=RESUME), version="2.0.0", **gone).why
    assert "version" not in of(running(policy=RESUME), version="1.0.0", **gone).why
    assert "version" not in of(running(policy=RERUN), version="2.0.0", **gone).why


# --- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-1, "0 s"), (0.9, "0 s"), (59.9, "59 s"), (60, "1 min"), (61, "1 min 1 s"), (3600, "1 h"), (3661, "1 h 1 min"),
     (86_400 * 3 + 7200, "3 d 2 h")],
)  # fmt: skip
def test_spans_are_told_in_their_two_largest_units(seconds: float, shown: str) -> None:
    assert span(seconds) == shown


def test_the_claims_of_a_turn_are_those_since_the_turn_before_ended() -> None:
    made = resting(TaskState.INPUT_REQUIRED)
    made.add(entry(received("m2"), NOW))
    made.add(entry(claimed(2, lease=12), NOW), epoch=2)
    made.add(entry(TurnReleased(epoch=2, reason="its worker was stopped"), NOW), epoch=2)
    turn = Attempts()
    for record in made.records:
        turn.take(record)

    assert [(claim.epoch, claim.reason) for claim in turn.claims] == [(2, "its worker was stopped")]
    assert turn.released == made.records[-1].position
