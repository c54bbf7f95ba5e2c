"""Folding from checkpoints is folding from the beginning."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from a2a_events.timeline.checkpoints import Checkpoints, copied
from a2a_events.timeline.difference import internal_of
from a2a_events.timeline.fold import TaskFold
from a2a_events.timeline.record import Record
from a2a_events.timeline.render import task as render_task
from a2a_events.timeline.revisions import fold_at
from tests.unit.timeline_builders import TASK
from tests.unit.timeline_strategies import timelines


def seen(fold: TaskFold) -> tuple[bytes, object]:
    return render_task(fold, TASK, {}), internal_of(fold)


@given(timeline=timelines(), every=st.integers(1, 8), seed=st.integers())
def test_in_whatever_order_revisions_are_asked_for(timeline: list[Record], every: int, seed: int) -> None:
    newest = timeline[-1].header.last_revision
    folds = Checkpoints(timeline, every)
    asked = [*range(newest + 1), *range(newest + 1)]
    random.Random(seed).shuffle(asked)
    for revision in asked:
        assert seen(folds.at(revision)) == seen(fold_at(timeline, revision))


@given(timeline=timelines())
def test_what_is_kept_is_not_changed_by_who_got_a_copy(timeline: list[Record]) -> None:
    for cut in range(len(timeline)):
        fold = TaskFold.of(timeline[:cut])
        before = seen(fold)
        further = copied(fold)
        for record in timeline[cut:]:
            further.apply(record)
        assert seen(further) == seen(TaskFold.of(timeline))
        assert seen(fold) == before


@given(timeline=timelines(), every=st.integers(1, 4))
def test_a_timeline_may_grow(timeline: list[Record], every: int) -> None:
    growing: list[Record] = []
    folds = Checkpoints(growing, every)
    for record in timeline:
        growing.append(record)
        assert seen(folds.at(record.header.last_revision)) == seen(TaskFold.of(growing))
