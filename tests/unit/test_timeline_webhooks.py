"""Webhooks in the timeline: they come and go in every state of a task, and change nothing that clients see."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from a2a_events import limits
from a2a_events.errors import InvalidParamsError, TaskNotFoundError
from a2a_events.model import TaskState
from a2a_events.timeline import decide, render, snapshot
from a2a_events.timeline.bounds import TaskBounds
from a2a_events.timeline.events import DeadLetter, Kind, PushConfigDeleted, PushConfigSet, TurnEnded
from a2a_events.timeline.fold import Head, Phase, TaskFold, Webhook
from a2a_events.timeline.record import Entry, Record, entry
from tests.unit.timeline_builders import CONTEXT, NOW, TASK, Timeline, received, reply, status, submitted
from tests.unit.timeline_strategies import timelines

CREATED = [entry(submitted(), NOW)]
DONE = [status(TaskState.COMPLETED)]


def hook(config_id: str, url: str = "https://example.com/a", *, scheme: str = "", sealed: str = "") -> PushConfigSet:
    return PushConfigSet(id=config_id, url=url, scheme=scheme, sealed=sealed)


def setting(config_id: str, url: str = "https://example.com/a", *, scheme: str = "", sealed: str = "") -> Entry:
    return entry(hook(config_id, url, scheme=scheme, sealed=sealed), NOW)


def deleting(config_id: str) -> Entry:
    return entry(PushConfigDeleted(id=config_id), NOW)


def dead(config_id: str, config_revision: int, revision: int) -> Entry:
    event = DeadLetter(config=config_id, config_revision=config_revision, revision=revision, attempts=3)
    return entry(event, NOW)


def ids(head: Head) -> list[str]:
    return [webhook.id for webhook in head.webhooks]


def test_webhooks_are_known_with_the_place_from_which_they_are_served() -> None:
    head = Timeline([*CREATED, setting("b", scheme="Bearer", sealed="s")], [setting("a")]).head
    assert (
        Webhook("a", "https://example.com/a", 3, 6),
        Webhook("b", "https://example.com/a", 2, 3, "Bearer", "s"),
    ) == head.webhooks


def test_one_of_the_same_id_is_replaced_and_served_from_there() -> None:
    head = Timeline(CREATED, [setting("a", "https://example.com/old")], [setting("a", "https://example.com/new")]).head
    assert (Webhook("a", "https://example.com/new", 3, 9),) == head.webhooks


def test_a_deleted_one_is_gone_and_can_be_set_again() -> None:
    timeline = Timeline(CREATED, [setting("a")], [setting("b")], [deleting("a")], [deleting("never")])
    assert ["b"] == ids(timeline.head)
    timeline.add(setting("a"))
    assert ["a", "b"] == ids(timeline.head)


def test_a_dead_one_is_known_and_not_served_until_it_is_set_again() -> None:
    timeline = Timeline(CREATED, [setting("a")], [status(TaskState.WORKING)], [dead("a", 2, 3)])
    assert [("a", 3)] == [(webhook.id, webhook.dead) for webhook in timeline.head.webhooks]
    assert not timeline.head.notifies
    timeline.add(setting("a"))
    assert timeline.head.notifies


def test_a_dead_letter_that_is_late_for_a_webhook_set_anew_changes_nothing() -> None:
    timeline = Timeline(CREATED, [setting("a")], [setting("a")], [dead("a", 2, 2)], [dead("gone", 1, 1)])
    assert timeline.head.notifies


def test_webhooks_come_and_go_after_the_end_and_the_task_stays_as_it_was() -> None:
    timeline = Timeline(CREATED, [setting("a")], DONE)
    before = render.task(TaskFold.of(timeline.records), TASK, {})
    timeline.add(setting("b"))
    timeline.add(deleting("a"))
    timeline.add(dead("b", 4, 3))
    assert [("b", 3)] == [(webhook.id, webhook.dead) for webhook in timeline.head.webhooks]
    assert (Phase.TERMINAL, 0, 6) == (timeline.head.phase, timeline.head.after_end, timeline.head.revision)
    assert before == render.task(TaskFold.of(timeline.records), TASK, {})


def test_a_record_says_whether_the_task_had_webhooks_before_it() -> None:
    timeline = Timeline(CREATED, [setting("a")], [status(TaskState.WORKING)], [dead("a", 2, 3)], DONE, [setting("b")])
    timeline.add(deleting("b"))
    assert [False, False, True, True, False, False, True] == [r.header.webhooks for r in timeline.records]


def test_a_snapshot_keeps_webhooks() -> None:
    fold = TaskFold.of(Timeline(CREATED, [setting("a", sealed="s")], DONE, [setting("b")], [dead("b", 4, 3)]).records)
    again = snapshot.restore(snapshot.take(fold).head)
    assert again is not None
    assert fold.head == again.head


@settings(max_examples=40, deadline=None)
@given(timelines())
def test_webhooks_change_nothing_that_clients_see(records: list[Record]) -> None:
    plain, hooked = Timeline(), Timeline()
    for number, record in enumerate(records):
        entries = [Entry(code, line, NOW) for code, line in zip(record.header.kinds, record.lines(), strict=True)]
        plain.add(*entries)
        hooked.add(*entries, setting(str(number)), *([deleting(str(number - 1))] if number % 2 else []))
    shown = [render.task(TaskFold.of(timeline.records), TASK, {}) for timeline in (plain, hooked)]
    assert shown[0] == shown[1]
    assert plain.head.generation == hooked.head.generation


# --- decisions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("records", [[CREATED], [CREATED, [status(TaskState.INPUT_REQUIRED)]], [CREATED, DONE]])
def test_a_webhook_may_be_set_and_deleted_in_every_state(records: list[list[Entry]]) -> None:
    timeline = Timeline(*records)
    [made] = decide.set_webhook(timeline.head, hook("a"), NOW)
    assert Kind.PUSH_CONFIG_SET.value == made.code
    timeline.add(made)
    [made] = decide.delete_webhook(timeline.head, PushConfigDeleted(id="a"), NOW)
    assert Kind.PUSH_CONFIG_DELETED.value == made.code


def test_deleting_what_is_not_there_is_nothing_to_do() -> None:
    assert [] == decide.delete_webhook(Timeline(CREATED).head, PushConfigDeleted(id="a"), NOW)


@pytest.mark.parametrize("records", [[], [CREATED, [reply("m2")]], [[entry(submitted(replies="either"), NOW)]]])
def test_where_clients_see_no_task_there_are_no_webhooks(records: list[list[Entry]]) -> None:
    head = Timeline(*records).head
    with pytest.raises(TaskNotFoundError):
        decide.set_webhook(head, hook("a"), NOW)
    with pytest.raises(TaskNotFoundError):
        decide.delete_webhook(head, PushConfigDeleted(id="a"), NOW)


def test_there_may_be_so_many_and_one_of_them_may_still_be_replaced() -> None:
    full = Timeline([*CREATED, *[setting(str(number)) for number in range(limits.WEBHOOKS)]])
    with pytest.raises(InvalidParamsError):
        decide.set_webhook(full.head, hook("one more"), NOW)
    with pytest.raises(InvalidParamsError):
        decide.message(full.head, received("m2"), CONTEXT, NOW, webhook=hook("one more"))
    assert decide.set_webhook(full.head, hook("0"), NOW)
    assert decide.set_webhook(full.head, hook("one more"), NOW, bounds=TaskBounds(webhooks=limits.WEBHOOKS + 1))


def test_a_webhook_that_the_task_cannot_hold_is_refused_and_one_may_be_deleted_all_the_same() -> None:
    timeline = Timeline([*CREATED, setting("0")])
    bounds = TaskBounds(size_bytes=timeline.head.size_bytes + 10)
    with pytest.raises(InvalidParamsError, match="would hold more than") as refused:
        decide.set_webhook(timeline.head, hook("0"), NOW, bounds=bounds)
    [(field, text)] = refused.value.violations
    assert field == "taskId"
    assert "Start a new one" not in text
    assert decide.delete_webhook(timeline.head, PushConfigDeleted(id="0"), NOW)


def test_a_message_brings_its_webhook_in_the_same_record_behind_it() -> None:
    made = decide.submit(submitted(), NOW, hook("a"))
    assert ["s", "w"] == [e.code for e in made]
    timeline = Timeline(made)
    assert (1, 1) == (timeline.head.pending[0].revision, len(timeline.head.pending))
    assert ["m", "w"] == [
        e.code for e in decide.message(timeline.head, received("m2"), CONTEXT, NOW, webhook=hook("b"))
    ]


def test_a_webhook_is_given_up_once_and_only_as_it_was_set() -> None:
    timeline = Timeline(CREATED, [setting("a")], [entry(TurnEnded(epoch=1, handled=3), NOW), *DONE])
    [webhook] = timeline.head.webhooks
    [made] = decide.dead_letter(timeline.head, webhook, 4, 12, "it answered 500", NOW)
    assert Kind.DEAD_LETTER.value == made.code
    again = Timeline(CREATED, [setting("a")], [setting("a")], DONE)
    assert [] == decide.dead_letter(again.head, webhook, 4, 12, "", NOW)
    gone = Timeline(CREATED, [setting("a")], [deleting("a")], DONE)
    assert [] == decide.dead_letter(gone.head, webhook, 4, 12, "", NOW)
    timeline.add(made)
    assert [] == decide.dead_letter(timeline.head, webhook, 4, 12, "", NOW)
