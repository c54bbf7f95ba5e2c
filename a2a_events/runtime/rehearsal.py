"""Today's agent, run against what was recorded: offline, without a log, and without waiting (ADR 0021).

Every attempt is rehearsed by itself, from the state at its claim, so that one difference does not lead to others. The
results of steps come from the record, and a step that the record does not hold is not taken. What the agent does
outside of steps it does.
"""

from __future__ import annotations

import asyncio
import math
import os
import traceback
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from a2a_events import limits
from a2a_events.runtime.agent import Agent, as_agent
from a2a_events.runtime.rehearsal_loop import RehearsalLoop
from a2a_events.runtime.rehearsal_run import Run
from a2a_events.timeline.bundle import Bundle, without_content
from a2a_events.timeline.comparison import Compared, Divergence, Tolerance, compared
from a2a_events.timeline.events import MEMBERS, Kind
from a2a_events.timeline.recorded import NeverRan, RecordedAttempt, attempts_of

T = TypeVar("T")


class NotRehearsable(ValueError):
    """No agent can be run against this bundle; says why."""


class Rehearsed(Struct, frozen=True, omit_defaults=True):
    """What came of one attempt."""

    attempt: int
    """Its number at its turn."""
    epoch: int
    first: int
    """Revision of its claim."""
    last: int
    """Revision of its last event."""
    equal: int = 0
    """How many events of the new run are those of the record, from the first on; signs of life are not counted."""
    divergence: Divergence | None = None
    """The first difference."""
    note: str = ""
    """Why it was not compared, or only with the beginning of what the agent does; empty if all was compared."""
    raised: str = ""
    """Traceback of what the agent raised now, without our own frames; empty if it did not."""
    ran: bool = True
    """Whether the agent was run."""


class Replay(Struct, frozen=True):
    """What came of a bundle."""

    task_id: str
    agent: str
    attempts: tuple[Rehearsed, ...]

    @property
    def differs(self) -> bool:
        """Whether the agent said something else than its record in any attempt."""
        return any(attempt.divergence for attempt in self.attempts)


_NOTHING_MAY_DIFFER: Final = Tolerance()


def rehearse(
    bundle: Bundle, agent: object, *, tolerance: Tolerance = _NOTHING_MAY_DIFFER, timeout_seconds: float | None = None
) -> Replay:
    """Run an agent against every recorded attempt, and compare what it says with what was recorded.

    Blocks until it is done; in a thread of its own if an event loop runs in this one. An attempt may be run several
    times: when exactly an agent heard of a cancel or of a message is not recorded, so it is looked for.

    Args:
        bundle: what was recorded.
        agent: whatever ``--agent`` could name.
        tolerance: what may differ.
        timeout_seconds: how long one run may really take; default ``limits.REHEARSAL_SECONDS``. What an agent sleeps
            does not count, unless it blocks a thread; one that blocks the event loop is waited for.

    Raises:
        NotRehearsable: the bundle's content was removed, no worker has claimed its task, none of its attempts says
            anything of its agent, or an event cannot be read.
        Unreadable: records do not follow each other, or need a newer version.
        TypeError: this is no agent.
    """
    served = as_agent(agent)
    if without_content(bundle):
        raise NotRehearsable(
            "what the client wrote was removed from this bundle, so no agent can be asked it again: export the task"
            " with its content, or with patterns removed only"
        )
    try:
        attempts = list(attempts_of(bundle.records))
    except ValueError as error:
        raise NotRehearsable(f"an event of the bundle cannot be read: {error}") from None
    if not attempts:
        raise NotRehearsable("no worker has claimed the task in this bundle: there is nothing to run again")
    seconds = timeout_seconds or limits.REHEARSAL_SECONDS
    rehearsals = _Rehearsals(bundle.task.task_id, served, tolerance, seconds)
    rehearsed = _in_loop_of_its_own(rehearsals.of(attempts))
    if not any(attempt.ran for attempt in rehearsed):
        raise NotRehearsable("; ".join(attempt.note for attempt in rehearsed))
    return Replay(bundle.task.task_id, served.name, rehearsed)


def _in_loop_of_its_own(work: Coroutine[Any, Any, T]) -> T:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(work)
    with ThreadPoolExecutor(1, "rehearsal") as threads:
        return threads.submit(copy_context().run, _run, work).result()


def _run(work: Coroutine[Any, Any, T]) -> T:
    loop = RehearsalLoop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.horizon, loop.on_idle = math.inf, loop.stop
        loop.close()


class _Rehearsals:
    def __init__(self, task_id: str, agent: Agent, tolerance: Tolerance, timeout_seconds: float) -> None:
        self._task_id = task_id
        self._agent = agent
        self._tolerance = tolerance
        self._timeout_seconds = timeout_seconds

    async def of(self, attempts: list[RecordedAttempt | NeverRan]) -> tuple[Rehearsed, ...]:
        """One after the other."""
        return tuple([await self._one(attempt) for attempt in attempts])

    async def _one(self, attempt: RecordedAttempt | NeverRan) -> Rehearsed:
        if isinstance(attempt, NeverRan):
            note = f"the agent was not run: {attempt.reason}"
            return Rehearsed(attempt.number, attempt.epoch, attempt.revision, attempt.last, note=note, ran=False)
        if attempt.cut and not attempt.said:
            note = f"nothing was recorded of what the agent did: {attempt.cut}"
            return Rehearsed(attempt.number, attempt.epoch, attempt.revision, attempt.last, note=note, ran=False)
        best = await self._best(attempt)
        return Rehearsed(
            attempt.number,
            attempt.epoch,
            attempt.revision,
            attempt.last,
            equal=best.compared.equal,
            divergence=best.compared.divergence,
            note=best.note,
            raised=best.raised,
        )

    async def _best(self, attempt: RecordedAttempt) -> _Trial:
        """The run that agrees with the record for longest, whenever the agent heard what came during the attempt."""
        event_by_event = msgspec.structs.replace(self._tolerance, merge_chunks=False)
        best = await self._search(attempt, event_by_event)
        if not self._tolerance.merge_chunks or best.compared.divergence is None:
            return best
        at_once = {number: came.after for number, came in enumerate(attempt.inputs)}
        trials = [await self._try(attempt, heard, self._tolerance) for heard in (best.heard, at_once)]
        return max(trials, key=_Trial.score)

    async def _search(self, attempt: RecordedAttempt, tolerance: Tolerance) -> _Trial:
        """One input after the other: first kept back, then given where the report changed, and at places before."""
        best = await self._try(attempt, {}, tolerance)
        for number, came in enumerate(attempt.inputs):
            latest, known = best.compared.equal, best.heard
            earliest = max([came.after, latest - limits.REHEARSALS + 1, *known.values()])
            for count in range(latest, earliest - 1, -1):
                if best.compared.divergence is None:
                    return best
                # Of those that are as good the earliest: it leaves most places to what came next.
                best = max(await self._try(attempt, {**known, number: count}, tolerance), best, key=_Trial.score)
        return best

    async def _try(self, attempt: RecordedAttempt, heard: dict[int, int], tolerance: Tolerance) -> _Trial:
        run = Run(attempt, self._task_id, self._agent, heard, whole=tolerance.merge_chunks)
        new = await run.play(self._timeout_seconds)
        result = compared(attempt.said, new, tolerance, cut=bool(attempt.cut))
        note = f"compared as far as it was recorded: {attempt.cut}" if attempt.cut else ""
        # What a step raised is not recorded; so where one was begun and the agent raised, both say the same.
        if run.missing and result.divergence and result.equal == len(new) - 1 and _raised(attempt, result.equal):
            note = f"compared up to step {run.missing!r}, of which no result is recorded: it is not taken again"
            result = Compared(result.equal, None)
        return _Trial(heard, result, note, _traceback(run.error) if run.error else "")


class _Trial(Struct, frozen=True):
    """What came of one run."""

    heard: dict[int, int]
    """How many events the agent had said when it was given an input, by the input's number; others it waited for."""
    compared: Compared
    note: str
    raised: str

    def score(self) -> tuple[bool, int, int]:
        return self.compared.score


def _raised(attempt: RecordedAttempt, index: int) -> bool:
    """Whether what was recorded at this place says that the agent raised."""
    said = attempt.said[index] if index < len(attempt.said) else None
    return said is not None and (
        said.kind == MEMBERS[Kind.TASK_DEAD_LETTERED]
        or (said.kind == MEMBERS[Kind.TURN_CLAIMED] and said.event.get("attempt", 1) > attempt.number)
    )


def _traceback(error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not Path(f.filename).is_relative_to(_LIBRARY)]
    text = "".join([*traceback.format_list(frames), *traceback.format_exception_only(error)])
    return text.replace(f'File "{Path.cwd()}{os.sep}', 'File "')


_LIBRARY: Final = Path(__file__).parents[1]
