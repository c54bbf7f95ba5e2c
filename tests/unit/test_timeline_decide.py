"""The turn protocol's table, cell by cell: what may be appended in which phase (turns 2–6)."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from a2a_events.errors import InvalidParamsError, TaskNotCancelableError, TaskNotFoundError, UnsupportedOperationError
from a2a_events.model import Role, StreamResponse, TaskState, decode
from a2a_events.timeline import decide
from a2a_events.timeline.decide import Answer, Claim, Delivery, LetGo, Outcome, Ownership, Settled, Terms
from a2a_events.timeline.events import (
    NOTHING,
    CancelRequested,
    Event,
    Kind,
    MessageUnread,
    PushConfigSet,
    StatusChanged,
    TaskDeadLettered,
    TurnClaimed,
    TurnConfirmed,
    TurnEnded,
    TurnNudged,
    TurnReleased,
    TurnSuspended,
    decode_line,
)
from a2a_events.timeline.fold import Head, Phase
from a2a_events.timeline.record import Entry, entry
from tests.unit.timeline_builders import ALICE, NOW, TASK, Timeline, artifact, received, said, status, submitted

LATER = NOW + 60_000
OUTCOMES = [state for state in TaskState if state not in {TaskState.SUBMITTED, TaskState.WORKING}]
RERUN = Terms(attempts=2, policy="rerun", agent_version="7")
FAIL = Terms(attempts=2)
CREATED = [entry(submitted("m1"), NOW)]
WORKING = [entry(TurnClaimed(epoch=1, lease=3), NOW), status(TaskState.WORKING)]
CANCEL = [entry(CancelRequested(actor=ALICE), NOW)]
MORE = [entry(received("m2"), NOW)]
ASKED = [entry(TurnEnded(epoch=1, handled=3), NOW), status(TaskState.INPUT_REQUIRED)]
RELEASED = [entry(TurnReleased(epoch=1), NOW)]
SUSPENDED = [entry(TurnSuspended(epoch=1, given=3, until=LATER), NOW)]
DONE = [entry(TurnEnded(epoch=1, handled=3), NOW), status(TaskState.COMPLETED)]
COURSES: dict[Phase, list[list[Entry]]] = {
    Phase.NONE: [],
    Phase.QUEUED: [CREATED],
    Phase.RUNNING: [CREATED, WORKING],
    Phase.STOPPING: [CREATED, WORKING, CANCEL],
    Phase.RELEASED: [CREATED, WORKING, RELEASED],
    Phase.SUSPENDED: [CREATED, WORKING, SUSPENDED],
    Phase.RESTING: [CREATED, WORKING, ASKED],
    Phase.TERMINAL: [CREATED, WORKING, DONE],
}
UNFINISHED = [Phase.QUEUED, Phase.RUNNING, Phase.STOPPING, Phase.RELEASED]


def head_in(phase: Phase) -> Head:
    head = Timeline(*COURSES[phase]).head
    assert phase is head.phase
    return head


def head_after(*records: list[Entry]) -> Head:
    """The head behind records, each written under the epoch that its claim or the one before it names."""
    timeline, epoch = Timeline(), 0
    for entries in records:
        epoch = max([epoch, *(e.epoch for e in events_of(entries) if isinstance(e, TurnClaimed))])
        timeline.add(*entries, epoch=0 if entries[0].code in "smxrn" else epoch)
    return timeline.head


def events_of(entries: list[Entry]) -> list[Event]:
    return [decode_line(e.code, e.line) for e in entries]


def shape(entries: list[Entry]) -> list[str]:
    """Names of the events; for a status, its state."""
    return [
        event.status.state.name if isinstance(event, StatusChanged) else type(event).__name__
        for event in events_of(entries)
    ]


def unread_in(entries: list[Entry]) -> list[str]:
    return [name for event in events_of(entries) if isinstance(event, MessageUnread) for name in event.message_ids]


def claimed_in(entries: list[Entry]) -> TurnClaimed:
    [claim] = [event for event in events_of(entries) if isinstance(event, TurnClaimed)]
    return claim


def message(head: Head, context_id: str = "") -> list[Entry]:
    return decide.message(head, received("m9"), context_id, LATER)


def cancel(head: Head) -> list[Entry]:
    return decide.cancel(head, TASK, ALICE, NOTHING, LATER)


def delivered(head: Head, delivery: Delivery, terms: Terms = RERUN, *, graced: bool = False) -> decide.Verdict:
    return decide.on_delivery(head, delivery, terms, TASK, LATER, graced=graced)


def claim_of(verdict: decide.Verdict) -> Claim:
    assert isinstance(verdict, Claim)
    return verdict


def ended(head: Head, state: TaskState, given: int = 3, terms: Terms = RERUN, **outcome: Any) -> decide.Ending:
    return decide.ending(head, TASK, Outcome(state, **outcome), given, terms, LATER)


# --- clients ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [*UNFINISHED, Phase.RESTING])
def test_a_message_is_accepted_until_the_task_has_ended(phase: Phase) -> None:
    assert ["MessageReceived"] == shape(message(head_in(phase)))


def test_a_message_to_no_task_is_not_found() -> None:
    with pytest.raises(TaskNotFoundError):
        message(head_in(Phase.NONE))


def test_a_message_to_an_ended_task_is_an_unsupported_operation() -> None:
    with pytest.raises(UnsupportedOperationError):
        message(head_in(Phase.TERMINAL))


def test_a_message_that_names_its_task_s_context_is_accepted() -> None:
    head = head_in(Phase.RESTING)
    assert ["MessageReceived"] == shape(message(head, head.context_id))


@pytest.mark.parametrize("phase", [Phase.RESTING, Phase.TERMINAL])
def test_a_message_of_another_context_is_refused_by_name(phase: Phase) -> None:
    with pytest.raises(InvalidParamsError) as refusal:
        message(head_in(phase), "another")
    assert ["message.contextId"] == [field for field, _ in refusal.value.violations]


def test_a_message_to_what_may_still_become_a_bare_reply_is_not_found() -> None:
    with pytest.raises(TaskNotFoundError):
        message(Timeline([entry(submitted(replies="either"), NOW)]).head)


@pytest.mark.parametrize(
    ("phase", "appended"),
    [
        (Phase.QUEUED, ["MessageUnread", "CANCELED"]),
        (Phase.RUNNING, ["CancelRequested"]),
        (Phase.STOPPING, []),
        (Phase.RESTING, ["CANCELED"]),
    ],
)
def test_a_cancel_ends_a_task_that_nobody_owns_and_asks_an_owner(phase: Phase, appended: list[str]) -> None:
    assert appended == shape(cancel(head_in(phase)))


def test_a_cancel_of_a_released_turn_ends_the_task() -> None:
    assert "CANCELED" == shape(cancel(head_in(Phase.RELEASED)))[-1]


def test_a_cancel_of_no_task_is_not_found() -> None:
    with pytest.raises(TaskNotFoundError):
        cancel(head_in(Phase.NONE))


@pytest.mark.parametrize("state", [TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELED, TaskState.REJECTED])
def test_a_cancel_of_an_ended_task_is_not_cancelable(state: TaskState) -> None:
    with pytest.raises(TaskNotCancelableError):
        cancel(Timeline(CREATED, [status(state)]).head)


def test_a_cancel_of_what_was_only_a_reply_is_not_found() -> None:
    reply = Entry(Kind.REPLY.value, b'{"message":{}}', NOW)
    with pytest.raises(TaskNotFoundError):
        cancel(Timeline([entry(submitted(replies="either"), NOW)], [reply]).head)


def test_a_canceled_queue_names_the_messages_that_no_agent_was_given() -> None:
    head = head_after(CREATED, WORKING, ASKED, MORE)
    assert ["m2"] == unread_in(cancel(head))


def test_a_cancel_of_a_released_turn_names_the_message_that_came_after_the_release() -> None:
    head = head_after(CREATED, WORKING, RELEASED, MORE)
    assert "m2" in unread_in(cancel(head))


def test_no_decision_changes_the_head_it_rests_on() -> None:
    for phase in Phase:
        head = head_in(phase)
        before = copy.deepcopy(head)
        for act in (message, cancel):
            with suppress(TaskNotFoundError, UnsupportedOperationError, TaskNotCancelableError):
                act(head)
        delivered(head, Delivery(3, 9, "s"))
        ended(head, TaskState.COMPLETED)
        assert before == head


def test_no_decision_writes_a_time_before_the_task_s_newest() -> None:
    early = NOW - 10**6
    head = head_in(Phase.RUNNING)
    entries = [
        *decide.message(head, received("m9"), "", early),
        *decide.cancel(head, TASK, ALICE, NOTHING, early),
        *decide.ending(head, TASK, Outcome(TaskState.COMPLETED), 3, RERUN, early).entries,
        *claim_of(decide.on_delivery(head, Delivery(3, 2, "s"), FAIL, TASK, early)).entries,
    ]
    assert {NOW} == {e.time for e in entries}
    timestamps = {e.status.timestamp for e in events_of(entries) if isinstance(e, StatusChanged)}
    assert {"2026-11-21T03:50:00.000Z"} == timestamps


# --- deliveries ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["fail", "rerun", "resume"])
@pytest.mark.parametrize(
    ("phase", "delivery"), [(Phase.QUEUED, Delivery(3, 1, "s")), (Phase.RELEASED, Delivery(9, 1, "r", 1))]
)
def test_a_delivery_claims_what_nobody_owns(phase: Phase, delivery: Delivery, policy: str) -> None:
    head = head_in(phase)
    claim = claim_of(delivered(head, delivery, Terms(attempts=2, policy=policy, agent_version="7")))
    assert ["TurnClaimed", "WORKING"] == shape(claim.entries)
    assert (True, head.epoch + 1, 1) == (claim.runs, claim.epoch, claim.attempt)
    assert claimed_in(claim.entries) == TurnClaimed(
        epoch=head.epoch + 1,
        lease=delivery.position,
        delivery=1,
        attempt=1,
        policy=policy,
        agent_version="7",
        reason="the turn goes on" if phase is Phase.RELEASED else "",
    )


def test_a_claim_for_an_agent_that_may_reply_directly_shows_nothing() -> None:
    head = Timeline([entry(submitted(replies="either"), NOW)]).head
    claim = claim_of(delivered(head, Delivery(3, 1, "s"), Terms(attempts=2, replies="either")))
    assert ["TurnClaimed"] == shape(claim.entries)


@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.STOPPING])
@pytest.mark.parametrize("policy", ["fail", "rerun"])
@pytest.mark.parametrize(
    "delivery",
    [
        pytest.param(Delivery(3, 1, "s"), id="the lease, delivered no more often than the claim says"),
        pytest.param(Delivery(12, 1, "m"), id="a message during the turn"),
        pytest.param(Delivery(12, 9, "m"), id="a message during the turn, many times"),
        pytest.param(Delivery(12, 9, "x"), id="a cancel, many times"),
    ],
)
def test_an_open_turn_is_not_taken_over_without_evidence(phase: Phase, policy: str, delivery: Delivery) -> None:
    assert LetGo() == delivered(head_in(phase), delivery, Terms(attempts=2, policy=policy))


def test_the_lease_delivered_again_is_evidence_and_reruns_the_turn() -> None:
    claim = claim_of(delivered(head_in(Phase.RUNNING), Delivery(3, 2, "s")))
    assert ["TurnClaimed", "WORKING"] == shape(claim.entries)
    assert (True, 2, 2) == (claim.runs, claim.epoch, claim.attempt)
    claimed = claimed_in(claim.entries)
    assert (3, 2, "the worker that ran this turn disappeared") == (claimed.lease, claimed.delivery, claimed.reason)


@pytest.mark.parametrize(
    ("terms", "attempts_so_far"),
    [(FAIL, 1), (Terms(attempts=9, policy="fail"), 1), (Terms(attempts=2, policy="rerun"), 2),
     (Terms(attempts=1, policy="resume"), 1)],
)  # fmt: skip
def test_a_turn_that_may_not_run_again_ends_failed(terms: Terms, attempts_so_far: int) -> None:
    claimed = [entry(TurnClaimed(epoch=1, lease=3, attempt=attempts_so_far), NOW), status(TaskState.WORKING)]
    claim = claim_of(delivered(Timeline(CREATED, claimed).head, Delivery(3, 2, "s"), terms))
    assert ["TurnClaimed", "TaskDeadLettered", "TurnEnded", "MessageUnread", "FAILED"] == shape(claim.entries)
    assert (False, attempts_so_far + 1) == (claim.runs, claim.attempt)
    shown = decode(claim.entries[-1].line, StreamResponse).status_update
    assert shown is not None
    assert shown.status.message is not None
    assert Role.AGENT is shown.status.message.role


@pytest.mark.parametrize("terms", [FAIL, RERUN, Terms(attempts=1, policy="resume")])
def test_whoever_takes_over_a_turn_to_be_canceled_only_cancels(terms: Terms) -> None:
    claim = claim_of(delivered(head_in(Phase.STOPPING), Delivery(3, 2, "s"), terms))
    assert ("TurnClaimed", "CANCELED") == (shape(claim.entries)[0], shape(claim.entries)[-1])
    assert not claim.runs


def test_the_attempts_of_one_turn_do_not_count_against_the_next() -> None:
    second_attempt = [entry(TurnClaimed(epoch=2, lease=3, delivery=2, attempt=2), NOW), status(TaskState.WORKING)]
    asked = [entry(TurnEnded(epoch=2, handled=3), NOW), status(TaskState.INPUT_REQUIRED)]
    head = head_after(CREATED, WORKING, second_attempt, asked, MORE)
    assert 1 == claim_of(delivered(head, Delivery(head.position, 1, "m"))).attempt


def test_a_planned_hand_over_is_no_attempt() -> None:
    second_attempt = [entry(TurnClaimed(epoch=2, lease=3, delivery=2, attempt=2), NOW), status(TaskState.WORKING)]
    released = [entry(TurnReleased(epoch=2), NOW)]
    head = head_after(CREATED, WORKING, second_attempt, released)
    assert 2 == claim_of(delivered(head, Delivery(head.position, 1, "r", 2))).attempt


def test_a_nudge_waits_for_the_owner_and_then_takes_over() -> None:
    head = head_after(CREATED, WORKING, [entry(TurnNudged(epoch=1), NOW)])
    nudge = Delivery(9, 1, "n", 1)
    assert Answer() == delivered(head, nudge)
    claim = claim_of(delivered(head, nudge, graced=True))
    assert ["TurnClaimed", "WORKING"] == shape(claim.entries)
    assert 9 == claimed_in(claim.entries).lease


def test_a_nudge_that_the_owner_answered_is_settled() -> None:
    head = head_after(CREATED, WORKING, [entry(TurnNudged(epoch=1), NOW)], [artifact("a", "x")])
    assert Settled() == delivered(head, Delivery(9, 1, "n", 1), graced=True)


def test_a_nudge_of_an_older_epoch_is_settled() -> None:
    again = [entry(TurnClaimed(epoch=2, lease=3), NOW), status(TaskState.WORKING)]
    head = head_after(CREATED, WORKING, [entry(TurnNudged(epoch=1), NOW)], again)
    assert Settled() == delivered(head, Delivery(9, 1, "n", 1), graced=True)


def test_a_nudge_of_a_queue_claims_it() -> None:
    head = head_after(CREATED, [entry(TurnNudged(epoch=0), NOW)])
    assert ["TurnClaimed", "WORKING"] == shape(claim_of(delivered(head, Delivery(6, 1, "n", 0))).entries)


NUDGE = [entry(TurnNudged(epoch=1), NOW)]
SILENT = [
    pytest.param([], None, id="no task"),
    pytest.param([CREATED], 0, id="queued"),
    pytest.param([CREATED, WORKING], 1, id="running"),
    pytest.param([CREATED, WORKING, CANCEL], 1, id="stopping"),
    pytest.param([CREATED, WORKING, RELEASED], 1, id="released"),
    pytest.param([CREATED, WORKING, NUDGE], 1, id="nudged before its time was up"),
    pytest.param([CREATED, WORKING, ASKED], None, id="resting"),
    pytest.param([CREATED, WORKING, DONE], None, id="ended"),
]


@pytest.mark.parametrize(("records", "epoch"), SILENT)
def test_silence_is_asked_about_where_somebody_should_act(records: list[list[Entry]], epoch: int | None) -> None:
    head = head_after(*records)
    asked = decide.nudge(head, 10.1, 10.0, NOW)
    assert asked == ([] if epoch is None else [entry(TurnNudged(epoch=epoch), NOW)])
    assert [] == decide.nudge(head, 10.0, 10.0, NOW)


def test_a_task_that_sleeps_is_asked_about_once_it_should_be_awake() -> None:
    asleep = [entry(TurnSuspended(epoch=1, given=3, until=NOW + 60_000), NOW)]
    head = head_after(CREATED, WORKING, asleep)
    assert [] == decide.nudge(head, 10.1, 10.0, NOW + 60_000)
    assert [] == decide.nudge(head, 70.0, 10.0, NOW + 70_000)
    assert ["TurnNudged"] == shape(decide.nudge(head, 70.1, 10.0, NOW + 70_001))


def test_an_owner_confirms_once_what_it_was_asked() -> None:
    head = head_after(CREATED, WORKING)
    assert [] == decide.confirm(head, NOW)
    asked = head_after(CREATED, WORKING, NUDGE)
    confirmed = decide.confirm(asked, NOW)
    assert [entry(TurnConfirmed(epoch=1), NOW)] == confirmed
    answered = head_after(CREATED, WORKING, NUDGE, confirmed)
    assert [] == decide.confirm(answered, NOW)
    assert Settled() == delivered(answered, Delivery(9, 1, "n", 1), graced=True)
    assert Ownership.OWNER is decide.ownership(answered, 1, "r2")
    again = head_after(CREATED, WORKING, NUDGE, confirmed, NUDGE)
    assert confirmed == decide.confirm(again, NOW)


def test_a_nudge_of_the_queue_is_answered_by_the_claim() -> None:
    assert [] == decide.confirm(head_after(CREATED, [entry(TurnNudged(epoch=0), NOW)], WORKING), NOW)


SETTLED = [
    pytest.param([CREATED], Delivery(3, 1, "s"), False, id="a message that waits"),
    pytest.param([CREATED, WORKING], Delivery(3, 1, "s"), False, id="the lease of an open turn"),
    pytest.param([CREATED, WORKING, MORE], Delivery(9, 1, "m"), False, id="a message during a turn"),
    pytest.param([CREATED, WORKING, ASKED], Delivery(3, 1, "s"), True, id="a message that a turn was given"),
    pytest.param(
        [CREATED, WORKING, MORE, ASKED], Delivery(9, 1, "m"), False, id="a message that the turn was not given"
    ),
    pytest.param([CREATED, WORKING, CANCEL], Delivery(9, 1, "x"), False, id="a cancel"),
    pytest.param([CREATED, WORKING, CANCEL, [status(TaskState.CANCELED)]], Delivery(9, 1, "x"), True, id="canceled"),
    pytest.param([CREATED, WORKING, RELEASED], Delivery(9, 1, "r", 1), False, id="a release"),
    pytest.param([CREATED, WORKING, RELEASED], Delivery(3, 1, "s"), False, id="a released message"),
    pytest.param(
        [CREATED, WORKING, RELEASED, [entry(TurnClaimed(epoch=2, lease=3), NOW)]],
        Delivery(9, 1, "r", 1),
        True,
        id="a release that was claimed by another delivery",
    ),
    pytest.param(
        [CREATED, WORKING, RELEASED, [entry(TurnClaimed(epoch=2, lease=9), NOW)]],
        Delivery(9, 1, "r", 1),
        False,
        id="a release that is the lease",
    ),
    pytest.param(
        [CREATED, WORKING, MORE, [*ASKED, entry(TurnClaimed(epoch=2, lease=3), NOW)]],
        Delivery(3, 1, "s"),
        False,
        id="a handled message that is the carried lease",
    ),
    *[
        pytest.param([CREATED, WORKING, DONE], Delivery(99, 1, kind, 1), True, id=f"anything after the end: {kind}")
        for kind in "smxnr"
    ],
]


@pytest.mark.parametrize(("records", "delivery", "settled"), SETTLED)
def test_a_record_is_acknowledged_only_when_the_log_shows_it_settled(
    records: list[list[Entry]], delivery: Delivery, settled: bool
) -> None:
    head = head_after(*records)
    assert settled == decide.settled(head, delivery)
    assert settled == (delivered(head, delivery) == Settled())


# --- the owner -------------------------------------------------------------------------------------------------------


def test_only_who_stored_the_newest_claim_owns_an_open_turn() -> None:
    head = head_in(Phase.RUNNING)
    assert Ownership.OWNER is decide.ownership(head, 1, "r2")
    assert Ownership.FENCED is decide.ownership(head, 1, "mine, but not stored")
    assert Ownership.FENCED is decide.ownership(head, 2, "r2")
    assert Ownership.FENCED is decide.ownership(head, 0, "")


@pytest.mark.parametrize("phase", [Phase.RELEASED, Phase.RESTING, Phase.TERMINAL])
def test_a_turn_that_is_not_open_has_no_owner(phase: Phase) -> None:
    assert Ownership.FENCED is decide.ownership(head_in(phase), 1, "r2")


def test_an_owner_is_told_to_stop_by_a_cancel_and_by_nothing_else() -> None:
    assert Ownership.STOP is decide.ownership(head_in(Phase.STOPPING), 1, "r2")
    assert Ownership.OWNER is decide.ownership(head_after(CREATED, WORKING, MORE), 1, "r2")
    assert Ownership.OWNER is decide.ownership(head_after(CREATED, WORKING, [entry(TurnNudged(epoch=1), NOW)]), 1, "r2")


@pytest.mark.parametrize("state", OUTCOMES)
def test_an_ending_is_the_end_of_the_turn_and_the_state_the_agent_wants(state: TaskState) -> None:
    ending = ended(head_in(Phase.RUNNING), state, message=said("m5", "bye", Role.AGENT), reason="because")
    assert ["TurnEnded", state.name] == shape(ending.entries)
    assert TurnEnded(epoch=1, handled=3, reason="because") == events_of(ending.entries)[0]
    assert b'"messageId":"m5"' in ending.entries[-1].line
    assert 0 == ending.next_epoch


def test_completed_with_a_message_that_the_agent_was_not_given_goes_on_with_the_next_turn() -> None:
    ending = ended(head_after(CREATED, WORKING, MORE), TaskState.COMPLETED)
    assert ["TurnEnded", "TurnClaimed", "WORKING"] == shape(ending.entries)
    assert TurnEnded(epoch=1, handled=3) == events_of(ending.entries)[0]
    assert TurnClaimed(epoch=2, lease=3, policy="rerun", agent_version="7") == claimed_in(ending.entries)
    assert 2 == ending.next_epoch


def test_what_an_agent_said_as_it_completed_is_shown_when_the_task_goes_on() -> None:
    words = said("done-with-the-first", role=Role.AGENT)
    ending = ended(head_after(CREATED, WORKING, MORE), TaskState.COMPLETED, message=words)
    assert bytes(words) in ending.entries[-1].line


@pytest.mark.parametrize("state", [TaskState.INPUT_REQUIRED, TaskState.AUTH_REQUIRED])
def test_a_question_with_a_message_that_the_agent_was_not_given_is_shown_and_goes_on(state: TaskState) -> None:
    ending = ended(head_after(CREATED, WORKING, MORE), state)
    assert ["TurnEnded", state.name, "TurnClaimed", "WORKING"] == shape(ending.entries)
    assert 2 == ending.next_epoch


@pytest.mark.parametrize("state", [TaskState.FAILED, TaskState.REJECTED])
def test_failed_and_rejected_end_the_task_and_name_what_was_not_handled(state: TaskState) -> None:
    ending = ended(head_after(CREATED, WORKING, MORE), state)
    assert ["TurnEnded", "MessageUnread", state.name] == shape(ending.entries)
    assert ["m2"] == unread_in(ending.entries)


def test_a_message_that_the_agent_took_during_the_turn_is_handled() -> None:
    ending = ended(head_after(CREATED, WORKING, MORE), TaskState.COMPLETED, given=9)
    assert ["TurnEnded", "COMPLETED"] == shape(ending.entries)
    assert TurnEnded(epoch=1, handled=9) == events_of(ending.entries)[0]


@pytest.mark.parametrize("state", OUTCOMES)
def test_after_a_cancel_every_ending_is_canceled(state: TaskState) -> None:
    ending = ended(head_after(CREATED, WORKING, CANCEL, MORE), state, reply=said("m5"))
    assert ["TurnEnded", "MessageUnread", "CANCELED"] == shape(ending.entries)
    assert (["m2"], 0) == (unread_in(ending.entries), ending.next_epoch)


def test_a_cancel_keeps_the_reason_of_a_failure() -> None:
    text = said("m5", "it broke", Role.AGENT)
    ending = ended(head_in(Phase.STOPPING), TaskState.FAILED, message=text, reason="it broke")
    assert TurnEnded(epoch=1, handled=3, reason="it broke") == events_of(ending.entries)[0]
    assert b"it broke" in ending.entries[-1].line


def test_a_bare_reply_ends_the_timeline_if_nothing_was_public() -> None:
    head = head_after([entry(submitted(replies="either"), NOW)], [entry(TurnClaimed(epoch=1, lease=3), NOW)])
    ending = ended(head, TaskState.COMPLETED, reply=said("m5"))
    assert ["TurnEnded", "Replied"] == shape(ending.entries)


def test_an_offered_message_lists_what_the_agent_was_not_given() -> None:
    head = head_after(CREATED, WORKING, MORE, [entry(received("m3"), NOW)])
    assert (4, 5) == decide.unread_messages(head, 3)
    assert (5,) == decide.unread_messages(head, 9)
    assert () == decide.unread_messages(head, 12)


def rested(head: Head, given: int = 3) -> decide.Ending:
    return decide.ending(head, TASK, decide.Rest(), given, RERUN, LATER)


def test_a_task_that_its_agent_leaves_as_it_stands_rests_and_expires_like_one_that_waits() -> None:
    ending = rested(head_in(Phase.RUNNING))
    assert ["TurnEnded"] == shape(ending.entries)
    head = head_after(CREATED, WORKING, ending.entries)
    assert (Phase.RESTING, TaskState.WORKING) == (head.phase, head.state)
    assert ["FAILED"] == shape(decide.wake(head, TASK, head.revision, "no input came", LATER))


def test_a_task_that_is_left_with_a_message_that_the_agent_was_not_given_goes_on() -> None:
    ending = rested(head_after(CREATED, WORKING, MORE))
    assert ["TurnEnded", "TurnClaimed", "WORKING"] == shape(ending.entries)
    assert 2 == ending.next_epoch


def test_a_task_that_is_to_be_canceled_is_not_left_as_it_stands() -> None:
    assert ["TurnEnded", "CANCELED"] == shape(rested(head_in(Phase.STOPPING)).entries)


def test_a_task_is_shown_before_it_is_left() -> None:
    head = head_after([entry(submitted(replies="either"), NOW)], [entry(TurnClaimed(epoch=1, lease=3), NOW)])
    assert ["TurnEnded", "WORKING"] == shape(rested(head).entries)


@pytest.mark.parametrize("before", [CREATED, [*CREATED, *WORKING, *CANCEL]], ids=["ended", "canceled"])
def test_what_an_agent_notes_at_the_end_stands_in_the_update(before: list[Entry]) -> None:
    head = head_after(before) if before is not CREATED else head_in(Phase.RUNNING)
    ending = ended(head, TaskState.COMPLETED, metadata=Raw(b'{"tokens":7}'))
    assert ending.entries[-1].line.endswith(b'},"metadata":{"tokens":7}}}')


# --- waiting too long ------------------------------------------------------------------------------------------------


def test_a_task_that_waited_too_long_fails() -> None:
    head = head_in(Phase.RESTING)
    assert ["FAILED"] == shape(decide.wake(head, TASK, head.revision, "no input came", LATER))


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase not in {Phase.RESTING, Phase.SUSPENDED}])
def test_a_task_that_does_not_wait_does_not_expire(phase: Phase) -> None:
    head = head_in(phase)
    assert [] == decide.wake(head, TASK, head.revision, "no input came", LATER)


def test_a_task_that_waits_for_something_newer_does_not_expire() -> None:
    head = head_in(Phase.RESTING)
    assert [] == decide.wake(head, TASK, head.revision - 2, "no input came", LATER)


def test_a_task_that_a_webhook_was_set_for_while_it_waited_expires_all_the_same() -> None:
    head = head_after(CREATED, WORKING, ASKED, [entry(PushConfigSet(id="w", url="https://example.com"), NOW)])
    assert ["FAILED"] == shape(decide.wake(head, TASK, head.revision - 1, "no input came", LATER))


# --- suspended turns -------------------------------------------------------------------------------------------------


def suspended(head: Head, given: int = 3) -> decide.Ending:
    return decide.ending(head, TASK, decide.Suspend(until=LATER), given, RERUN, LATER)


def test_a_suspended_turn_is_owned_by_nobody_and_its_messages_are_settled() -> None:
    ending = suspended(head_in(Phase.RUNNING))
    assert (["TurnSuspended"], True) == (shape(ending.entries), ending.suspended)
    head = head_in(Phase.SUSPENDED)
    assert decide.ownership(head, 1, "r2") is Ownership.FENCED
    assert delivered(head, Delivery(3, 2, "s")) == Settled()


def test_a_turn_with_a_message_that_the_agent_was_not_given_runs_again_instead_of_being_suspended() -> None:
    ending = suspended(head_after(CREATED, WORKING, MORE))
    assert (["TurnClaimed"], 2, False) == (shape(ending.entries), ending.next_epoch, ending.suspended)
    assert (1, 3) == (claimed_in(ending.entries).attempt, claimed_in(ending.entries).lease)


def test_a_turn_that_is_to_be_canceled_is_not_suspended_nor_handed_over() -> None:
    head = head_in(Phase.STOPPING)
    assert ["TurnEnded", "CANCELED"] == shape(suspended(head).entries)
    handed = decide.ending(head, TASK, decide.Release("the worker stops"), 3, RERUN, LATER)
    assert ["TurnEnded", "CANCELED"] == shape(handed.entries)


def test_a_wake_up_of_a_suspended_turn_dispatches_it_once() -> None:
    head = head_in(Phase.SUSPENDED)
    assert ["TurnReleased"] == shape(decide.wake(head, TASK, head.revision, "no input came", LATER))
    woken = head_after(CREATED, WORKING, SUSPENDED, RELEASED)
    assert [] == decide.wake(woken, TASK, head.revision, "no input came", LATER)
    claim = claim_of(delivered(woken, Delivery(12, 1, "r", 1)))
    assert (2, 1, 12) == (claim.epoch, claim.attempt, claimed_in(claim.entries).lease)


def test_a_wake_up_that_was_asked_for_before_the_turn_was_suspended_is_void() -> None:
    assert [] == decide.wake(head_in(Phase.SUSPENDED), TASK, 1, "no input came", LATER)


def test_a_message_wakes_a_suspended_turn() -> None:
    head = head_after(CREATED, WORKING, SUSPENDED, MORE)
    claim = claim_of(delivered(head, Delivery(12, 1, "m")))
    assert (True, 1) == (claim.runs, claim.attempt)


def test_what_was_settled_by_a_suspension_stays_settled_when_the_turn_goes_on() -> None:
    again = [entry(TurnClaimed(epoch=2, lease=12), NOW)]
    head = head_after(CREATED, WORKING, SUSPENDED, RELEASED, again)
    assert decide.settled(head, Delivery(3, 3, "s"))
    assert not decide.settled(head, Delivery(12, 1, "r", 1))


# --- attempts --------------------------------------------------------------------------------------------------------


def raised(head: Head, terms: Terms) -> decide.Ending:
    outcome = Outcome(TaskState.FAILED, reason="the agent raised", fault=decide.Fault.RAISED)
    return decide.ending(head, TASK, outcome, 3, terms, LATER)


def test_an_agent_that_raised_runs_again_while_attempts_are_left() -> None:
    ending = raised(head_in(Phase.RUNNING), RERUN)
    claim = claimed_in(ending.entries)
    assert (["TurnClaimed"], 2, 2) == (shape(ending.entries), ending.next_epoch, ending.attempt)
    assert (2, "the agent raised", 3, 1) == (claim.attempt, claim.reason, claim.lease, claim.delivery)


@pytest.mark.parametrize("terms", [FAIL, Terms(attempts=1, policy="rerun")])
def test_the_last_attempt_that_raised_ends_the_task_and_says_that_it_was_given_up(terms: Terms) -> None:
    ending = raised(head_in(Phase.RUNNING), terms)
    assert ["TaskDeadLettered", "TurnEnded", "FAILED"] == shape(ending.entries)
    assert TaskDeadLettered(epoch=1, attempts=1, reason="the agent raised") == events_of(ending.entries)[0]


def test_what_the_agent_itself_calls_a_failure_is_neither_tried_again_nor_given_up() -> None:
    assert ["TurnEnded", "FAILED"] == shape(ended(head_in(Phase.RUNNING), TaskState.FAILED).entries)


def test_a_deadline_is_not_tried_again() -> None:
    outcome = Outcome(TaskState.FAILED, reason="too long", fault=decide.Fault.GIVEN_UP)
    ending = decide.ending(head_in(Phase.RUNNING), TASK, outcome, 3, RERUN, LATER)
    assert ["TaskDeadLettered", "TurnEnded", "FAILED"] == shape(ending.entries)


@pytest.mark.parametrize(
    ("mine", "theirs", "goes_on"),
    [
        ("1.4.0", "1.2.9", True),
        ("2.0.0", "1.9.0", False),
        ("0.2.0", "0.2.5", True),
        ("0.3.0", "0.2.5", False),
        ("3.0", "1.0", True),
        ("2.0.0-rc1", "2.1", True),
        ("anything", "other", False),
        ("anything", "", True),
    ],
)
def test_a_turn_is_resumed_by_versions_that_understand_each_other(mine: str, theirs: str, goes_on: bool) -> None:
    terms = Terms(attempts=3, policy="resume", agent_version=mine, resumes=("1.0",))
    claimed = [entry(TurnClaimed(epoch=1, lease=3, agent_version=theirs), NOW), status(TaskState.WORKING)]
    for records, delivery in (
        ([CREATED, claimed, RELEASED], Delivery(9, 1, "r", 1)),
        ([CREATED, claimed], Delivery(3, 2, "s")),
        ([CREATED, claimed, SUSPENDED, MORE], Delivery(12, 1, "m")),
    ):
        head = head_after(*records)
        verdict = delivered(head, delivery, terms)
        assert goes_on == isinstance(verdict, Claim)
        assert goes_on or verdict == LetGo()
        later = claim_of(delivered(head, replace(delivery, count=delivery.count + 10), terms))
        assert goes_on == later.runs
        assert goes_on or ["TurnClaimed", "TaskDeadLettered"] == shape(later.entries)[:2]


def test_a_turn_that_is_run_anew_needs_no_understanding_of_another_version() -> None:
    claimed = [entry(TurnClaimed(epoch=1, lease=3, agent_version="1.0"), NOW)]
    head = head_after(CREATED, claimed, RELEASED)
    assert claim_of(delivered(head, Delivery(9, 1, "r", 1), Terms(3, policy="rerun", agent_version="2.0"))).runs


def test_the_text_of_a_failure_is_escaped() -> None:
    text = decide.agent_text(TASK, 'c"\n', "x", 'say "no"\n')
    assert isinstance(text, Raw)
    assert b"\n" not in bytes(text)
