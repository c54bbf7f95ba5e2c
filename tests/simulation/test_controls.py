"""Whether the judge would notice: each test takes one safety away, and some run must be found guilty.

A control that is not caught means that the runs are too tame, or the judge too lenient: then green runs prove little.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from typing import Any, Final

import pytest

from a2a_events import limits
from a2a_events.errors import Unavailable, Uncertain
from a2a_events.log import append as appending
from a2a_events.log.memory import MemoryLog
from a2a_events.log.tail import Tail
from a2a_events.runtime import load as loading
from a2a_events.runtime import operations, turn_writer, worker
from a2a_events.timeline import decide
from a2a_events.timeline.decide import Ending, LetGo, Ownership
from a2a_events.timeline.fold import Phase
from a2a_events.timeline.snapshot import restore
from tests.simulation import scenario
from tests.simulation.faulty import FaultyLog

WITHIN_SEEDS: Final = 300

Patch = pytest.MonkeyPatch
pytestmark = pytest.mark.timeout(300)  # only a bound against hanging on a busy machine


def no_expected_position(patch: Patch) -> None:
    """A record lands wherever the timeline ends."""
    attempt = MemoryLog.try_append

    async def anywhere(self: MemoryLog, task: Any, draft: Any, _expected: int, **trace: Any) -> int:
        last = await self.last(task)
        return await attempt(self, task, draft, last.position if last else 0, **trace)

    patch.setattr(MemoryLog, "try_append", anywhere)


def always_owner(patch: Patch) -> None:
    """A fenced worker goes on writing."""
    patch.setattr(decide, "ownership", lambda head, *_: Ownership.STOP if head.cancel else Ownership.OWNER)


def acknowledged_when_claimed(patch: Patch) -> None:
    run = worker._Running.run

    async def at_once(self: Any) -> None:
        await self._handle.acknowledge()
        await run(self)

    patch.setattr(worker._Running, "run", at_once)


def acknowledged_when_fenced(patch: Patch) -> None:
    run = worker._Running.run

    async def and_acknowledge(self: Any) -> None:
        try:
            await run(self)
        except turn_writer.Fenced:
            await self._handle.acknowledge()
            raise

    patch.setattr(worker._Running, "run", and_acknowledge)


def ending_carried_over(patch: Patch) -> None:
    """An ending that was refused is sent again as it was."""
    decided: dict[tuple[str, int], Ending] = {}
    anew = decide.ending

    def once(head: Any, task_id: str, *rest: Any) -> Ending:
        return decided.setdefault((task_id, head.epoch), anew(head, task_id, *rest))

    patch.setattr(decide, "ending", once)


def everything_is_handled(patch: Patch) -> None:
    """An ending covers all messages that stand before it, also those that its agent was never given."""
    ending = decide.ending

    def all_given(head: Any, task_id: str, leaving: Any, _given: int, *rest: Any) -> Ending:
        return ending(head, task_id, leaving, head.position, *rest)

    patch.setattr(decide, "ending", all_given)


def taken_without_evidence(patch: Patch) -> None:
    """Any delivery is good enough to take a turn from its owner."""
    verdict = decide.on_delivery

    def hasty(head: Any, delivery: Any, terms: Any, task_id: str, now: int, **how: Any) -> Any:
        decided = verdict(head, delivery, terms, task_id, now, **how)
        if isinstance(decided, LetGo) and head.phase is Phase.RUNNING:
            return decide._take_over(head, delivery, terms, task_id, now)
        return decided

    patch.setattr(decide, "on_delivery", hasty)


def canceled_tasks_may_complete(patch: Patch) -> None:
    """An ending that does not look at the cancel."""
    ending = decide.ending

    def blind(head: Any, *rest: Any) -> Ending:
        cancel, head.cancel = head.cancel, 0
        try:
            return ending(head, *rest)
        finally:
            head.cancel = cancel

    patch.setattr(decide, "ending", blind)


def resumed_from_now(patch: Patch) -> None:
    """A subscriber that comes back gets what is to come, not what it has missed."""
    replay = operations.Operations._replay

    def from_now(self: Any, task: Any, watch: Any, fold: Any, at: Any, framing: Any) -> Any:
        now = type(at)(at.incarnation, fold.head.position, fold.head.revision)
        return replay(self, task, watch, fold, now, framing)

    patch.setattr(operations.Operations, "_replay", from_now)


def lost_answers_reported_as_not_written(patch: Patch) -> None:
    attempt = FaultyLog.try_append

    async def sure(self: Any, *given: Any, **trace: Any) -> int:
        try:
            return await attempt(self, *given, **trace)
        except Uncertain as error:
            raise Unavailable(str(error)) from None

    patch.setattr(FaultyLog, "try_append", sure)


def lost_answers_taken_for_stored(patch: Patch) -> None:
    async def hopeful(_log: Any, _task: Any, _draft: Any, expected: int, _deadline: float) -> int:
        return expected + 1

    patch.setattr(appending, "_resolve", hopeful)


def stale_reads(patch: Patch) -> None:
    """A snapshot is taken for the task."""
    load = loading.load

    async def lazy(log: Any, task: Any) -> Any:
        stored = await log.snapshot(task)
        fold = restore(stored) if stored else None
        return fold if fold is not None and fold.head.exists else await load(log, task)

    async def lazy_for(log: Any, task: Any, _subject: str) -> Any:
        return await lazy(log, task)

    patch.setattr(operations, "load", lazy)
    patch.setattr(operations, "load_for", lazy_for)


def live_copies_trusted(patch: Patch) -> None:
    """A tail that shows what comes, whether or not something is missing before it."""

    def trusting(self: Any) -> Any:
        shown = [r for r in self._buffer if r.header.last_revision > self.revision]
        self._buffer = []
        for record in shown:
            self.revision, self.position = record.header.last_revision, record.position
        return shown

    patch.setattr(Tail, "_take", trusting)


def silence_never_questioned(patch: Patch) -> None:
    """The last record of a task has no successor that would reveal its loss."""
    patch.setattr(Tail, "tick", lambda *_: None)
    patch.setattr(limits, "VERIFY_AFTER_SECONDS", (1000.0,))


def said_twice(patch: Patch) -> None:
    """What was said is kept in the queue although it was stored."""
    store = turn_writer.TurnWriter._store_queued

    async def and_again(self: Any) -> None:
        queued = list(self._queue)
        await store(self)
        if len(queued) > 4:
            self._push(queued[-1])

    patch.setattr(turn_writer.TurnWriter, "_store_queued", and_again)


def never_redelivered(patch: Patch) -> None:
    """The broker forgets what was delivered once."""
    from a2a_events.log import memory  # noqa: PLC0415 -- only here

    patch.setattr(memory._Queue, "_expire", lambda self, position: self._out.pop(position, None))


def steps_forgotten(patch: Patch) -> None:
    """A later attempt does its steps again."""

    async def nothing(_self: Any, _name: str) -> None:
        return None

    patch.setattr(turn_writer.TurnWriter, "result", nothing)


def void_wake_ups_dropped(patch: Patch) -> None:
    """A wake-up that was asked for late has replaced the one that the task waits for."""

    async def nothing(*_: Any) -> None:
        return None

    patch.setattr(worker.Worker, "_arm_again", nothing)


SAFETIES: Final[dict[Callable[[Patch], None], tuple[str, int]]] = {
    no_expected_position: ("revision .* follows", 4),
    always_owner: ("of epoch .* follows epoch", 4),
    acknowledged_when_claimed: ("is running long after", 19),
    acknowledged_when_fenced: ("is running long after", 25),
    ending_carried_over: ("neither handled nor named|after an accepted cancel", 96),
    everything_is_handled: ("never gave it to an agent", 13),
    taken_without_evidence: ("without evidence", 4),
    canceled_tasks_may_complete: ("COMPLETED after an accepted cancel", 200),
    resumed_from_now: ("stood at revision", 9),
    lost_answers_reported_as_not_written: ("stands in the log twice", 217),
    lost_answers_taken_for_stored: ("accepted, and stands in the log 0 times", 2),
    stale_reads: ("not the fold of its log|known before it was asked|older task", 1),
    live_copies_trusted: ("stood at revision", 38),
    silence_never_questioned: ("heard nothing", 149),
    said_twice: ("chunks of run", 1),
    never_redelivered: ("is (running|queued) long after", 6),
    steps_forgotten: ("recorded twice in one turn", 53),
    void_wake_ups_dropped: ("is suspended long after", 102_110),
}
"""What is switched off, what the judge must say then, and a seed whose run made it say that when last looked for."""


@pytest.mark.parametrize("broken", SAFETIES, ids=lambda broken: broken.__name__)
def test_a_safety_that_is_switched_off_is_missed(broken: Callable[[Patch], None], monkeypatch: Patch) -> None:
    broken(monkeypatch)
    said, last_seen = SAFETIES[broken]
    try:
        for seed in (last_seen, *range(1, WITHIN_SEEDS + 1)):
            if any(re.search(said, violation) for violation in scenario.run(seed).violations):
                return
    finally:
        gc.collect()
    pytest.fail(f"{WITHIN_SEEDS} runs without {broken.__name__}, and the judge never said: {said}")
