"""One run of an agent against what was recorded of one attempt: what a worker is to an agent, without a log."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from a2a_events import limits
from a2a_events.log.port import Notes
from a2a_events.model import Artifact, TaskState
from a2a_events.runtime.agent import Agent
from a2a_events.runtime.artifacts import Reported
from a2a_events.runtime.rehearsal_loop import RehearsalLoop
from a2a_events.runtime.turn import Recollection, Suspended, left_by, message_of, turn_of
from a2a_events.timeline import decide
from a2a_events.timeline.decide import Leaving, Outcome
from a2a_events.timeline.events import MEMBERS, NOTHING, PUBLIC_CODES, Kind, Step, Timer
from a2a_events.timeline.record import Entry, entry
from a2a_events.timeline.recorded import Input, RecordedAttempt, Said, said_of, sign_of_life, state_after
from a2a_events.timeline.render import artifact_entry, status_entry
from a2a_events.timeline.render import task as render_task


class Run:
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
            await asyncio.sleep(0)  # the agent begins
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

    def _hear(self) -> None:
        """Everything that the agent is to hear of by now."""
        for number, came in list(self._waiting.items()):
            if self._heard.get(number, math.inf) > len(self.said):
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

    async def say_status(self, state: TaskState, message: Raw, metadata: Raw = NOTHING) -> None:
        """See ``turn.Reports``."""
        made = status_entry(self._task_id, self._attempt.fold.head.context_id, state, self.now(), message, metadata)
        await self._say(made)

    async def say_artifact(
        self, artifact: Artifact, metadata: Raw = NOTHING, *, append: bool, last_chunk: bool
    ) -> None:
        """See ``turn.Reports``."""
        head = self._attempt.fold.head
        update, adds = self._artifacts.update(artifact, append=append)
        made = artifact_entry(
            self._task_id, head.context_id, update, self.now(), metadata, append=adds, last_chunk=last_chunk
        )
        self._artifacts.said(artifact.artifact_id, self._artifacts.grown(update, adds=adds))
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
        if isinstance(timer, Timer):
            return timer.due
        timer = self._attempt.own_steps.get(name)
        if not isinstance(timer, Timer):
            return None
        await self.say_timer(name, timer.due)
        return timer.due

    async def recall(self) -> Recollection:
        """See ``turn.Reports``. Nothing: what the agent recalled stands in the step that it took it in."""
        await asyncio.sleep(0)
        return Recollection()

    async def remember(self, steps: Sequence[str], since: int) -> bool:  # noqa: ARG002 -- nobody recalls a rehearsal
        """See ``turn.Reports``."""
        await asyncio.sleep(0)
        return True

    async def notes(self, name: str) -> Notes:  # noqa: ARG002 -- the same for all
        """See ``turn.Reports``. What an agent notes is not recorded: a rehearsal begins with nothing."""
        await asyncio.sleep(0)
        return Notes()

    async def note(self, name: str, content: bytes, position: int, *, anew: bool) -> int:  # noqa: ARG002 -- as above
        """See ``turn.Reports``."""
        await asyncio.sleep(0)
        return position + 1

    def now(self) -> int:
        """See ``turn.Reports``. The time at which as much was recorded as has been said."""
        said = min(len(self.said), len(self._attempt.said))
        return self._attempt.said[said - 1].time if said else self._attempt.time

    async def flush(self) -> None:
        """See ``turn.Reports``."""
        await asyncio.sleep(0)

    async def _say(self, made: Entry) -> None:
        self._public = self._public or made.code in PUBLIC_CODES
        said = said_of(made.line)
        if sign_of_life(said, self._state):
            return
        self._state = state_after(said, self._state)
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


def _nothing() -> None:
    pass


_NEVER: Final = "(nothing)"
_WAITS: Final = Said(_NEVER, "the agent waits for something that the record does not hold")
_TOOK_TOO_LONG: Final = Said(_NEVER, "the agent does not end: the rehearsal was given up")
