"""Today's agent, run against what was recorded: offline, without a log, and without waiting (ADR 0021).

Every attempt is rehearsed by itself, from the state at its claim, so that one difference does not lead to others. The
results of steps come from the record, and a step that the record does not hold is not taken. What the agent does
outside of steps it does.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import traceback
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw, Struct

from a2a_events import limits
from a2a_events.model import Artifact, TaskState
from a2a_events.runtime.agent import Agent, as_agent
from a2a_events.runtime.artifacts import Reported
from a2a_events.runtime.rehearsal_loop import RehearsalLoop
from a2a_events.runtime.turn import Suspended, left_by, message_of, turn_of
from a2a_events.timeline import decide
from a2a_events.timeline.bundle import Bundle, without_content
from a2a_events.timeline.comparison import Compared, Divergence, Tolerance, compared
from a2a_events.timeline.decide import Leaving, Outcome
from a2a_events.timeline.events import MEMBERS, PUBLIC_CODES, Kind, Step, Timer
from a2a_events.timeline.record import Entry, entry
from a2a_events.timeline.recorded import (
    Input,
    NeverRan,
    RecordedAttempt,
    Said,
    attempts_of,
    said_of,
    sign_of_life,
    state_after,
)
from a2a_events.timeline.render import artifact_entry, status_entry
from a2a_events.timeline.render import task as render_task

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
            does not count, unless it blocks a thread.

    Raises:
        NotRehearsable: the bundle's content was removed, or no worker has claimed its task.
        Unreadable: a record is damaged.
        TypeError: this is no agent.
    """
    served = as_agent(agent)
    if without_content(bundle):
        raise NotRehearsable(
            "what the client wrote was removed from this bundle, so no agent can be asked it again: export the task"
            " with its content, or with patterns removed only"
        )
    attempts = list(attempts_of(bundle.records))
    if not attempts:
        raise NotRehearsable("no worker has claimed the task in this bundle: there is nothing to run again")
    seconds = timeout_seconds or limits.REHEARSAL_SECONDS
    rehearsals = _Rehearsals(bundle.task.task_id, served, tolerance, seconds)
    return Replay(bundle.task.task_id, served.name, _in_loop_of_its_own(rehearsals.of(attempts)))


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
        best, note, raised = await self._best(attempt)
        return Rehearsed(
            attempt.number,
            attempt.epoch,
            attempt.revision,
            attempt.last,
            equal=best.equal,
            divergence=best.divergence,
            note=note,
            raised=raised,
        )

    async def _best(self, attempt: RecordedAttempt) -> tuple[Compared, str, str]:
        """The run that agrees with the record for longest, whenever the agent heard what came during the attempt."""
        heard: dict[int, int] = {}
        best, note, raised = await self._run(attempt, heard)
        for number, came in enumerate(attempt.inputs):
            if best.divergence is None:
                break
            earliest = max([came.after, *heard.values()])
            latest = came.after if self._tolerance.merge_chunks else best.equal
            for count in range(latest, max(earliest, latest - limits.REHEARSALS + 1) - 1, -1):
                trial, trial_note, trial_raised = await self._run(attempt, {**heard, number: count})
                # Of two that are as good, the one that had heard: the recorded agent had when its report changed.
                if trial.score > best.score or (count == latest and trial.score == best.score):
                    best, note, raised = trial, trial_note, trial_raised
                    heard[number] = count
                    break
        return best, note, raised

    async def _run(self, attempt: RecordedAttempt, heard: Mapping[int, int]) -> tuple[Compared, str, str]:
        run = _Run(attempt, self._task_id, self._agent, heard, whole=self._tolerance.merge_chunks)
        new = await run.play(self._timeout_seconds)
        result = compared(attempt.said, new, self._tolerance, cut=bool(attempt.cut))
        note = f"compared as far as it was recorded: {attempt.cut}" if attempt.cut else ""
        # What a step raised is not recorded; so where one was begun and the agent raised, both say the same.
        if run.missing and result.divergence and result.equal == len(new) - 1 and _raised(attempt, result.equal):
            note = f"compared up to step {run.missing!r}, of which no result is recorded: it is not taken again"
            result = Compared(result.equal, None)
        return result, note, _traceback(run.error) if run.error else ""


def _raised(attempt: RecordedAttempt, index: int) -> bool:
    """Whether what was recorded at this place says that the agent raised."""
    said = attempt.said[index] if index < len(attempt.said) else None
    return said is not None and (
        said.kind == MEMBERS[Kind.TASK_DEAD_LETTERED]
        or (said.kind == MEMBERS[Kind.TURN_CLAIMED] and said.event.get("attempt", 1) > attempt.number)
    )


class _Run:
    """One run of the agent against one attempt (``turn.Reports``)."""

    def __init__(
        self, attempt: RecordedAttempt, task_id: str, agent: Agent, heard: Mapping[int, int], *, whole: bool
    ) -> None:
        self.report_bytes = limits.CONTENT_BYTES - limits.ENDING_BYTES
        self.said: list[Said] = []
        self.missing = ""
        """The step that was to be taken and is not recorded."""
        self.error: BaseException | None = None
        """What the agent raised."""
        self._attempt = attempt
        self._task_id = task_id
        self._agent = agent
        self._heard = heard
        self._whole = whole
        self._loop: RehearsalLoop
        self._over: asyncio.Future[Said | None]
        self._agent_task: asyncio.Task[None]
        self._waiting = dict(enumerate(attempt.inputs))
        """Inputs that the agent has not heard of, in order."""
        self._given = attempt.given
        self._offered: list[int] = []
        """Positions of the messages that were offered and not taken."""
        self._stopping = False
        self._state = attempt.fold.head.state
        self._public = attempt.fold.head.public
        self._passed = 0
        self._size = (0, 0)
        self._recorded_size = (0, 0)
        for one in attempt.said if whole else ():
            self._recorded_size = _added(self._recorded_size, one)
        anew = decide.anew(attempt.fold.head, agent.policy)
        self._artifacts = Reported(attempt.fold)
        self._artifacts.begin(attempt.fold, attempt.before if anew else None)
        shown = render_task(attempt.before if anew else attempt.fold, task_id, {})
        self._turn = turn_of(
            attempt.fold.head, attempt.asked, shown, task_id=task_id, policy=agent.policy, reports=self
        )
        self._turn.on_taken(self._taken)

    async def play(self, timeout_seconds: float) -> list[Said]:
        """Run the agent to its end, or as far as the record goes; what it said, and how it ended."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, RehearsalLoop), "rehearsals have a loop of their own"
        self._loop = loop
        self._over = loop.create_future()
        self._loop.on_idle = self._idle
        others = asyncio.all_tasks()
        self._agent_task = loop.create_task(self._call())
        self._extend()
        patience = threading.Timer(timeout_seconds, self._out_of_patience)
        patience.daemon = True
        patience.start()
        try:
            if self._attempt.fold.head.cancel:
                self._ask_to_stop()
            self._hear(messages=True)
            await asyncio.sleep(0)
            if not self.said:
                self._hear()
            last = await self._over
        finally:
            patience.cancel()
        self._turn.close()
        if last is not None:
            self.said.append(last)
        elif self._agent_task.done() or self._stopping:
            self._end()
        await self._clear(others)
        return self.said

    async def _call(self) -> None:
        try:
            await self._agent.handler(self._turn)
        finally:
            self._stop(None)

    def _stop(self, last: Said | None) -> None:
        """The run is over: the agent has left, or is not to go on."""
        if not self._over.done():
            # Not at once: where the agent leaves, its task is done only then.
            self._loop.call_soon(self._finish, last)

    def _finish(self, last: Said | None) -> None:
        if not self._over.done():
            self._over.set_result(last)

    def _out_of_patience(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._stop, _TOOK_TOO_LONG)
        except RuntimeError:
            pass  # it ended just now, and its loop with it

    async def _clear(self, others: set[asyncio.Task[Any]]) -> None:
        """Let what the agent has left behind end."""
        left = asyncio.all_tasks() - others
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=self._agent.cancel_grace_seconds)
        for task in left:
            if task.done() and not task.cancelled():
                task.exception()  # nobody else asks for it

    # --- what others wrote --------------------------------------------------------------------------------------------

    def _hear(self, *, messages: bool = False) -> None:
        """Everything that the agent is to hear of by now."""
        for number, came in list(self._waiting.items()):
            if self._heard.get(number, math.inf) > len(self.said) or (messages and came.message is None):
                return
            self._tell(number, came)

    def _tell(self, number: int, came: Input) -> None:
        del self._waiting[number]
        self._extend()
        if came.message is None:
            self._ask_to_stop()
            return
        self._offered.append(came.position)
        self._turn.offer(message_of(came.message))

    def _extend(self) -> None:
        """An agent that looks again and again whether something has come is given up as its worker would."""
        self._loop.horizon = self._loop.time() + self._agent.deadlines.idle_seconds

    def _taken(self) -> None:
        self._given = self._offered.pop(0)

    def _idle(self) -> None:
        """The agent waits: for what came next, or in vain."""
        number, came = next(iter(self._waiting.items()), (0, None))
        if came is not None and came.after <= len(self.said):
            self._tell(number, came)
        else:
            self._stop(_WAITS)
        self._loop.call_soon(_nothing)

    def _ask_to_stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        self._turn.cancel()
        grace = self._agent.cancel_grace_seconds
        if self._turn.cooperative:
            self._loop.call_later(grace * 0.8, self._agent_task.cancel)
        else:
            self._agent_task.cancel()
        self._loop.call_later(grace, self._stop, None)

    # --- reports (turn.Reports) ---------------------------------------------------------------------------------------

    async def say_status(self, state: TaskState, message: Raw) -> None:
        """See ``turn.Reports``."""
        made = status_entry(self._task_id, self._attempt.fold.head.context_id, state, self.now(), message)
        await self._say(made)

    async def say_artifact(self, artifact: Artifact, *, append: bool, last_chunk: bool) -> None:
        """See ``turn.Reports``."""
        head = self._attempt.fold.head
        if not self._public and self._state is TaskState.SUBMITTED:
            await self._say(decide.working_entry(head, self._task_id, self.now()))
        update, adds = self._artifacts.update(artifact, append=append)
        made = artifact_entry(self._task_id, head.context_id, update, self.now(), append=adds, last_chunk=last_chunk)
        self._artifacts.said(artifact.artifact_id)
        await self._say(made)

    async def say_step(self, name: str, result: Raw) -> None:
        """See ``turn.Reports``."""
        await self._say(entry(Step(epoch=self._attempt.epoch, name=name, result=result), self.now()))

    async def say_timer(self, name: str, due: int) -> None:
        """See ``turn.Reports``."""
        await self._say(entry(Timer(epoch=self._attempt.epoch, name=name, due=due), self.now()))

    async def result(self, name: str) -> Raw | None:
        """See ``turn.Reports``. Never None: a step that is not recorded is not taken."""
        await asyncio.sleep(0)
        step = self._attempt.steps.get(name)
        if isinstance(step, Step):
            return step.result
        step = self._attempt.own_steps.get(name)
        if isinstance(step, Step):
            await self.say_step(name, step.result)
            return step.result
        self.missing = name
        await self._end_here(Said(MEMBERS[Kind.STEP], {"epoch": self._attempt.epoch, "name": name}))
        return None

    async def due(self, name: str) -> int | None:
        """See ``turn.Reports``."""
        await asyncio.sleep(0)
        timer = self._attempt.steps.get(name)
        if not isinstance(timer, Timer):
            timer = self._attempt.own_steps.get(name)
            if not isinstance(timer, Timer):
                return None
            await self.say_timer(name, timer.due)
        if self._attempt.until != timer.due and not self._turned_back():
            self._passed = max(self._passed, timer.due)  # the recorded run went on after it
        return timer.due

    def _turned_back(self) -> bool:
        """Whether the recorded run ended because a message came while it was to be suspended."""
        last = self._attempt.said[-1] if self._attempt.said else None
        return (
            last is not None
            and last.kind == MEMBERS[Kind.TURN_CLAIMED]
            and last.event.get("attempt", 1) == self._attempt.number
        )

    def now(self) -> int:
        """See ``turn.Reports``. The time at which as much was recorded as has been said."""
        said = min(len(self.said), len(self._attempt.said))
        return max(self._passed, self._attempt.said[said - 1].time if said else self._attempt.time)

    async def flush(self) -> None:
        """See ``turn.Reports``."""
        await asyncio.sleep(0)

    async def _say(self, made: Entry) -> None:
        said = said_of(made.line)
        if sign_of_life(said, self._state):
            return
        self._state = state_after(said, self._state)
        self._public = self._public or made.code in PUBLIC_CODES
        self.said.append(said)
        self._size = _added(self._size, said)
        asked = self._stopping
        self._hear()
        self._extend()
        if (self._attempt.cut and self._enough()) or self._too_much():
            await self._end_here(None)
        elif self._stopping and not asked:
            await asyncio.sleep(0)  # an agent that does not look for it is canceled here

    def _enough(self) -> bool:
        """Whether the agent has said all that was recorded of it."""
        if not self._whole:
            return len(self.said) >= len(self._attempt.said)
        return all(mine >= recorded for mine, recorded in zip(self._size, self._recorded_size, strict=True))

    def _too_much(self) -> bool:
        """Whether it has said more than was recorded, so that the rest matters no more."""
        return not self._whole and len(self.said) > len(self._attempt.said)

    async def _end_here(self, last: Said | None) -> None:
        """Not to return: what the agent would do next is not recorded."""
        if last is None:
            self._finish(None)
        else:
            self._stop(last)
        await self._loop.create_future()

    # --- the end ------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """What the worker would write, where the recorded run was ended."""
        attempt, agent = self._attempt, self._agent
        leaving = self._leaving()
        if isinstance(leaving, Outcome) and self._public:
            leaving = msgspec.structs.replace(leaving, reply=Raw(b""))
        ending = decide.ending(attempt.head, self._task_id, leaving, self._given, agent.terms, self.now())
        for made in ending.entries:
            said = said_of(made.line)
            if not sign_of_life(said, self._state):
                self.said.append(said)
                self._state = state_after(said, self._state)

    def _leaving(self) -> Leaving:
        head, task = self._attempt.fold.head, self._agent_task
        if not task.done() or task.cancelled():
            if self._stopping:
                return Outcome(TaskState.CANCELED, reason="the agent was canceled")
            return left_by(self._turn, asyncio.CancelledError(), head)
        error = task.exception()
        self.error = None if isinstance(error, Suspended) else error
        return left_by(self._turn, error, head)


def _added(size: tuple[int, int], said: Said) -> tuple[int, int]:
    """How much was said, however artifacts were cut into chunks: other events, and characters of artifacts."""
    events, characters = size
    if said.kind != MEMBERS[Kind.ARTIFACT]:
        return events + 1, characters
    parts = said.event["artifact"]["parts"]
    return events, characters + sum(len(part.get("text") or msgspec.json.encode(part)) for part in parts)


def _traceback(error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not Path(f.filename).is_relative_to(_LIBRARY)]
    text = "".join([*traceback.format_list(frames), *traceback.format_exception_only(error)])
    return text.replace(f'File "{Path.cwd()}{os.sep}', 'File "')


def _nothing() -> None:
    pass


_LIBRARY: Final = Path(__file__).parents[1]
_NEVER: Final = "(nothing)"
_WAITS: Final = Said(_NEVER, "the agent waits for something that the record does not hold")
_TOOK_TOO_LONG: Final = Said(_NEVER, "the agent does not end: the rehearsal was given up")
