"""The owner's pen: everything that one turn says, in order, into conditional records (turns 3).

At most one append is under way; what is said meanwhile waits and goes into the next record together (group commit).
Status changes go at once, artifact chunks may linger a little for company, the ending takes along whatever still waits.
A refused record is read against, judged and packed anew: revisions are given when a record is sent, never when events
are queued, and an ending is decided again at the position it will stand at.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import copy_context
from functools import partial
from typing import Final

import msgspec
import structlog
from msgspec import Raw, Struct

from a2a_events import limits
from a2a_events.errors import Conflict, LogError, RecordTooLarge, Unavailable, Uncertain, Unreadable
from a2a_events.log.patience import patiently
from a2a_events.log.port import Log, Notes
from a2a_events.model import Artifact, TaskState
from a2a_events.runtime.artifacts import Reported
from a2a_events.runtime.commit import store
from a2a_events.runtime.load import advance, worth_a_snapshot
from a2a_events.runtime.turn import Recollection, TaskFull, check_size
from a2a_events.timeline import decide, reasons
from a2a_events.timeline.bounds import TaskBounds
from a2a_events.timeline.decide import Ending, Fault, Leaving, Outcome, Ownership, Terms
from a2a_events.timeline.events import NOTHING, PUBLIC_CODES, Event, Kind, Step, Timer
from a2a_events.timeline.fold import TaskFold, draft_after
from a2a_events.timeline.ids import ContextRef, TaskRef, context_of, parse_task_id
from a2a_events.timeline.record import Draft, Entry, Writer, entry
from a2a_events.timeline.render import artifact_entry, status_entry
from a2a_events.timeline.snapshot import take

_STORED_PATIENCE_SECONDS: Final = 600.0
"""An owner has nothing better to do than to try: losing the log ends its turn by fencing, not by giving up."""

logger = structlog.get_logger(__name__)


class Fenced(Exception):
    """The turn is no longer this worker's: write nothing, acknowledge nothing."""


class _Remembered(Struct, frozen=True, rename="camel"):
    """Which steps a context's next turn is to recall, and where they stand."""

    task_id: str
    turn: int
    """Revision of the turn's first claim."""
    steps: dict[str, tuple[int, int]]
    """Position and revision, by name."""


_encode: Final = msgspec.json.Encoder().encode
_decode_remembered: Final = msgspec.json.Decoder(_Remembered).decode
_DURABLE: Final = frozenset({Kind.STEP.value, Kind.TIMER.value})


def _nobody() -> None:
    pass


def _unheard(reason: str) -> None:
    pass


def _again(error: Fenced | LogError) -> Fenced | LogError:
    return type(error)(*error.args)


class TurnWriter:
    """Writes for one claim after another of one task, while this process owns it.

    Args:
        log: where to.
        task: whose.
        fold: the task up to the last record known to be stored.
        writer: this process.
        linger_seconds: longest wait of a chunk for company.
        bounds: of the task.

    Attributes:
        on_foreign: called after somebody else's records were folded in, and when nothing more can be written.
        on_full: called with the reason when the task must end because it would hold too much.
    """

    def __init__(
        self,
        log: Log,
        task: TaskRef,
        fold: TaskFold,
        writer: Writer,
        *,
        linger_seconds: float,
        bounds: TaskBounds | None = None,
    ) -> None:
        self.fold = fold
        self.report_bytes = log.content_bytes - limits.ENDING_BYTES
        self.claim = ""
        self.epoch = 0
        self.last_said = time.monotonic()
        self._log = log
        self._task = task
        self._writer = writer
        self._linger_seconds = linger_seconds
        self._bounds = bounds or TaskBounds()
        self._full = ""
        """Why nothing more may be said."""
        self.on_full: Callable[[str], None] = _unheard
        self.on_foreign: Callable[[], None] = _nobody
        self._queue: deque[Entry] = deque()
        self._queued_bytes = 0
        self._urgent = False
        self._flushed = 0.0
        self._lock = asyncio.Lock()
        self._pump: asyncio.Task[None] | None = None
        self._context = copy_context()
        """Of the turn, so that its records do not belong to whatever span of the agent came first."""
        self._kick: asyncio.Handle | None = None
        self._hurry = asyncio.Event()
        self._room = asyncio.Event()
        self._saying = asyncio.Lock()
        """An agent may report from many tasks at once: each report is judged by what was queued before it."""
        self._failure: Fenced | LogError | None = None
        """Never raised itself: a traceback would hold what refers back to us, and with it the task's content."""
        self._artifacts = Reported(fold)
        self._snapshot_revision = 0
        # A task with an earlier turn behind it is worth a snapshot in any case.
        self._first_position = fold.head.position if fold.head.revision == 1 else 0

    # --- claims -------------------------------------------------------------------------------------------------------

    async def store_claim(self, claim: decide.Claim) -> None:
        """Append a claim; when this returns, the turn is this worker's (or ended by the same record).

        Raises:
            Conflict: read, fold, decide again.
            Unavailable: nothing was written.
            Uncertain: it may be stored: leave it, evidence will settle it.
        """
        made = self._draft(claim.entries, claim.epoch, claim.attempt)
        await self._store(made, patience_seconds=limits.APPEND_PATIENCE_SECONDS)
        self.claim, self.epoch = made.header.record_id, claim.epoch

    @property
    def ownership(self) -> Ownership:
        """What the fold says about this worker's claim."""
        return decide.ownership(self.fold.head, self.epoch, self.claim)

    # --- reports (turn.Reports) ---------------------------------------------------------------------------------------

    async def say_status(self, state: TaskState, message: Raw, metadata: Raw = NOTHING) -> None:
        """See ``turn.Reports``. WORKING once more, with nothing to say, is a sign of life and no event."""
        if state is self.fold.head.state and not bytes(message) and not bytes(metadata) and not self._queue:
            self._raise()
            self.last_said = time.monotonic()
            return
        async with self._saying:
            await self._until_room()
            context_id = self.fold.head.context_id
            self._take(status_entry(self._task.task_id, context_id, state, self.now(), message, metadata))
        await self._send(urgent=True)

    async def say_artifact(
        self, artifact: Artifact, metadata: Raw = NOTHING, *, append: bool, last_chunk: bool
    ) -> None:
        """See ``turn.Reports``. ``append`` to an artifact not seen yet makes it."""
        async with self._saying:
            await self._until_room()
            update, adds = self._artifacts.update(artifact, append=append)
            made = artifact_entry(
                self._task.task_id,
                self.fold.head.context_id,
                update,
                self.now(),
                metadata,
                append=adds,
                last_chunk=last_chunk,
            )
            check_size(len(made.line), self.report_bytes)  # first: its agent may say the same in pieces
            size = self._artifacts.grown(update, adds=adds)
            if size > self._bounds.artifact_bytes:
                self._overflow(f"an artifact would be over {self._bounds.artifact_bytes} bytes")
            if self._artifacts.with_one(artifact.artifact_id) > self._bounds.artifacts:
                self._overflow(f"there would be over {self._bounds.artifacts} artifacts")
            self._take(made)
            self._artifacts.said(artifact.artifact_id, size)
        await self._send(urgent=False)

    async def say_step(self, name: str, result: Raw) -> None:
        """See ``turn.Reports``."""
        await self._say_durable(Step(epoch=self.epoch, name=name, result=result))
        await self.flush()

    async def say_timer(self, name: str, due: int) -> None:
        """See ``turn.Reports``."""
        await self._say_durable(Timer(epoch=self.epoch, name=name, due=due))

    async def result(self, name: str) -> Raw | None:
        """See ``turn.Reports``."""
        step = await self._recorded(name)
        return step.result if isinstance(step, Step) else None

    async def due(self, name: str) -> int | None:
        """See ``turn.Reports``."""
        timer = await self._recorded(name)
        return timer.due if isinstance(timer, Timer) else None

    async def notes(self, name: str) -> Notes:
        """See ``turn.Reports``."""
        self._raise()
        ask = partial(self._log.notes, self._context_ref, name)
        return await patiently(ask, "an agent's notes", patience_seconds=_STORED_PATIENCE_SECONDS)

    async def note(self, name: str, content: bytes, position: int, *, anew: bool) -> int:
        """See ``turn.Reports``."""
        self._raise()
        self._check_owner()
        check_size(len(content), self.report_bytes)
        try:
            return await self._log.note(self._context_ref, name, content, position, anew=anew)
        except Conflict:
            await self.look()  # it may be the next owner of this turn who has written
            raise

    async def _recorded(self, name: str) -> Step | Timer | None:
        self._raise()
        done = next((d for d in self.fold.head.steps if d.name == name), None)
        if done is None:
            return None
        event = await self._event(self._task, done.position, done.revision)
        if event is None:
            raise Unreadable(f"step {name!r} at {done.position} is gone")
        if not isinstance(event, Step | Timer):
            raise Unreadable(f"no step at revision {done.revision}")
        return event

    async def recall(self) -> Recollection:
        """See ``turn.Reports``."""
        self._raise()
        stored, version = await self._log.remembered(self._context_ref)
        found = _decode_remembered(stored) if stored else None
        home = parse_task_id(found.task_id) if found is not None else None
        if found is None or home is None:
            return Recollection(version)
        task = TaskRef(*home, self._task.agent, self._task.tenant, found.task_id)
        places = found.steps.values()
        last, steps = await asyncio.gather(
            self._log.last(task), asyncio.gather(*(self._event(task, *place) for place in places))
        )
        results = [step.result for step in steps if isinstance(step, Step)]
        if last is None or last.header.tombstone or len(results) < len(steps):
            return Recollection(version)  # its task was removed
        return Recollection(version, dict(zip(found.steps, results, strict=True)))

    async def remember(self, steps: Sequence[str], since: int) -> bool:
        """See ``turn.Reports``."""
        self._raise()
        places = {done.name: (done.position, done.revision) for done in self.fold.head.steps}
        missing = [name for name in steps if name not in places]
        if missing:
            raise ValueError(f"no step of this turn is called {missing[0]!r}")
        named = {name: places[name] for name in steps}
        content = _encode(_Remembered(self._task.task_id, self.fold.head.turn_revision, named))
        while True:
            try:
                await self._log.put_remembered(self._context_ref, content, since)
            except (Conflict, Uncertain):
                stored, version = await self._log.remembered(self._context_ref)
                if stored == content:
                    return True
                known = _decode_remembered(stored) if stored else None
                ours = known is not None and (known.task_id, known.turn) == (
                    self._task.task_id,
                    self.fold.head.turn_revision,
                )
                if version != since and not ours:
                    return False
                since = version
            else:
                return True

    @property
    def _context_ref(self) -> ContextRef:
        head = self.fold.head
        subject = head.owner.subject if head.owner is not None else ""
        return context_of(self._task, subject=subject, context_id=head.context_id)

    async def _event(self, task: TaskRef, position: int, revision: int) -> Event | None:
        """An event of any task, by its place; None if it is not there any more."""
        record = await self._log.first_after(task, position - 1)
        if record is None or record.position != position:
            return None
        return record.events()[revision - record.header.revision]

    async def _say_durable(self, event: Step | Timer) -> None:
        async with self._saying:
            await self._until_room()
            if len(self.fold.head.steps) + sum(said.code in _DURABLE for said in self._queue) >= limits.STEPS:
                raise ValueError(f"a turn has at most {limits.STEPS} durable steps and timers; do more in one step")
            self._take(entry(event, self.now()))
        await self._send(urgent=True)

    async def flush(self) -> None:
        """See ``turn.Reports``."""
        self._urgent = True
        self._hurry.set()
        while self._queue and self._failure is None:
            await asyncio.wait([self._start_pump()])
        async with self._lock:
            self._raise()

    async def _until_room(self) -> None:
        """Wait until one more report may be queued. What is judged after it and queued at once is judged right."""
        self._raise()
        if self._full:
            raise TaskFull(self._full)
        while len(self._queue) >= limits.WRITER_QUEUED_EVENTS or self._queued_bytes >= limits.WRITER_QUEUED_BYTES:
            self._room.clear()
            self._hurry.set()
            self._start_pump()
            await self._room.wait()
            self._raise()

    def _take(self, said: Entry) -> None:
        """Queue it, if the task may hold it."""
        check_size(len(said.line), self.report_bytes)
        if excess := self._excess(len(said.line)):
            self._overflow(excess)
        head = self.fold.head
        silent = (
            not head.public
            and head.state is TaskState.SUBMITTED
            and PUBLIC_CODES.isdisjoint(e.code for e in self._queue)
        )
        if silent and said.code == Kind.ARTIFACT.value:
            # An agent that may reply with a bare Message has shown that it will not: the task is WORKING first.
            self._push(decide.working_entry(head, self._task.task_id, said.time))
        self._push(said)
        self.last_said = time.monotonic()

    async def _send(self, *, urgent: bool) -> None:
        """See that what waits is sent, now or soon."""
        if urgent:
            self._urgent = True
            self._hurry.set()
        if self._queued_bytes >= limits.WRITER_EAGER_BYTES and not self._lock.locked():
            # So much that readers should not wait for the rest: send it while the agent goes on.
            self.hold()
            self._urgent = True
            self._start_pump()
            await asyncio.sleep(0)
        elif self._pump is None and self._kick is None:
            # Not at once: what the agent says before it next waits goes together.
            self._kick = asyncio.get_running_loop().call_soon(self._start_pump)

    def _push(self, said: Entry) -> None:
        self._queue.append(said)
        self._queued_bytes += len(said.line)

    def _excess(self, size_bytes: int) -> str:
        """What the task would hold too much of with so much more; empty if it may hold that."""
        head, bounds = self.fold.head, self._bounds
        if head.size_bytes + self._queued_bytes + size_bytes > bounds.size_bytes:
            return f"the task would be over {bounds.size_bytes} bytes"
        if head.revision + len(self._queue) >= bounds.events:
            return f"the task would have over {bounds.events} events"
        return ""

    def _overflow(self, excess: str) -> None:
        """The task ends here, whatever the agent makes of it.

        Raises:
            TaskFull: always.
        """
        self._full = reasons.too_much(excess)
        self.on_full(self._full)
        raise TaskFull(self._full)

    def fitting(self, leaving: Leaving) -> Leaving:
        """How the turn ends: as its agent wants, if the task may hold what it said last."""
        if not isinstance(leaving, Outcome) or leaving.fault is not Fault.NONE:
            return leaving
        last = max(len(bytes(leaving.message)), len(bytes(leaving.reply))) + len(bytes(leaving.metadata))
        excess = self._excess(last) if last else ""
        if not excess:
            return leaving
        return decide.failure(self.fold.head, self._task.task_id, reasons.too_much(excess), Fault.GIVEN_UP)

    @property
    def failed(self) -> bool:
        """Whether nothing more can be written."""
        return self._failure is not None

    def _raise(self) -> None:
        if self._failure is not None:
            raise _again(self._failure)

    def _start_pump(self) -> asyncio.Task[None]:
        self._kick = None
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(self._run_pump(), context=self._context)
        return self._pump

    async def _run_pump(self) -> None:
        try:
            while self._queue and self._failure is None:
                await self._linger()
                async with self._lock:
                    await self._store_queued()
        except (Fenced, LogError) as error:
            self._failure = _again(error)
            self.on_foreign()
        finally:
            self._pump = None
            self._room.set()

    async def _linger(self) -> None:
        """Chunks wait for company, unless something urgent is among them or the last record is long ago.

        They wait for the process's next beat, so that the turns of one worker send together: what a record costs most
        is waking three processes for it.
        """
        linger = self._linger_seconds
        now = time.monotonic()
        if now - self._flushed >= linger or self._urgent or self._queued_bytes >= limits.RECORD_BYTES // 4:
            return
        self._hurry.clear()
        timer = asyncio.get_running_loop().call_later(linger - now % linger, self._hurry.set)
        try:
            await self._hurry.wait()
        finally:
            timer.cancel()

    def hold(self) -> None:
        """The ending follows at once: what was said in the same breath waits for it and shares its record."""
        if self._kick is not None:
            self._kick.cancel()
            self._kick = None

    # --- endings ------------------------------------------------------------------------------------------------------

    async def end(self, leaving: Leaving, given: Callable[[], int], terms: Terms) -> Ending:
        """Store everything said and what lets go of the turn, decided at the position it stands at (turns 3.3).

        Returns:
            The ending as stored; with ``next_epoch`` this worker owns the next turn, or this one again, already.

        Raises:
            Fenced: somebody else has the turn, or the task has ended.
        """
        self.hold()
        self._urgent = True
        self._hurry.set()
        async with self._lock:
            while True:
                self._raise()
                self._check_owner()
                if self._queue and isinstance(leaving, Outcome):
                    # What waits shows a task; a bare Message instead of one is no choice any more.
                    leaving = msgspec.structs.replace(leaving, reply=Raw(b""))
                ending = decide.ending(self.fold.head, self._task.task_id, leaving, given(), terms, self.now())
                if self._queue and not self._fits(ending.entries):
                    await self._store_queued()
                    continue
                entries = [*self._queue, *ending.entries]
                made = self._draft(entries, self.epoch, self.fold.head.attempt)
                try:
                    await self._store(made, patience_seconds=_STORED_PATIENCE_SECONDS)
                except Conflict:
                    await self._read_foreign()
                    continue
                self._queue.clear()
                self._queued_bytes = 0
                if ending.next_epoch:
                    self.claim, self.epoch = made.header.record_id, ending.next_epoch
                break
        if worth_a_snapshot(self.fold, self._first_position):
            await self._log.save(self._task, take(self.fold))
        return ending

    async def begin(self, policy: str) -> TaskFold:
        """A run of the agent begins; the task as the agent is to see it.

        An agent that is run anew sees the task as it was before the turn, and what it reports replaces what an earlier
        run had reported. One read of the task's log then, none otherwise.
        """
        before = await self._before_turn() if decide.anew(self.fold.head, policy) else None
        self._artifacts.begin(self.fold, before)
        return before or self.fold

    async def _before_turn(self) -> TaskFold:
        before = TaskFold.empty()
        async for records in self._log.read(self._task, 1):
            for record in records:
                if record.position > self.fold.head.turn_position:
                    return before
                before.apply(record)
        return before

    def _fits(self, entries: list[Entry]) -> bool:
        size = self._queued_bytes + sum(len(e.line) for e in entries)
        return len(self._queue) + len(entries) <= limits.RECORD_EVENTS and size <= limits.RECORD_BYTES - 4096

    # --- what others wrote --------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Ask the leader what others wrote, fold it in, and say so (turns 4.7). One round trip when nothing is new.

        A nudge that is found is answered: with what waits to be written, or by itself if nothing does (turns 5.2).

        Raises:
            Fenced: this claim is over.
            Unavailable: no answer.
        """
        async with self._lock:
            await self._read_foreign()
            await self._answer_nudge()

    async def _read_foreign(self) -> None:
        if await advance(self._log, self._task, self.fold):
            self.on_foreign()
        self._check_owner()

    async def _answer_nudge(self) -> None:
        while answer := decide.confirm(self.fold.head, self.now()):
            self._check_owner()
            if self._queue:
                await self._store_queued()
                continue
            made = self._draft(answer, self.epoch, self.fold.head.attempt)
            try:
                await self._store(made, patience_seconds=_STORED_PATIENCE_SECONDS)
            except Conflict:
                await self._read_foreign()

    def _check_owner(self) -> None:
        if self.ownership is Ownership.FENCED:
            self._failure = Fenced(f"epoch {self.epoch} is over")
            raise _again(self._failure)

    # --- storing ------------------------------------------------------------------------------------------------------

    async def _store_queued(self) -> None:
        """One record of what waits, at whatever position it ends up."""
        while self._queue:
            self._check_owner()
            batch: list[Entry] = []
            size = 0
            for queued in self._queue:
                size += len(queued.line) + 1
                if batch and (size > limits.RECORD_BYTES - 4096 or len(batch) == limits.RECORD_EVENTS):
                    break
                batch.append(queued)
            self._urgent = False
            try:
                await self._store(
                    self._draft(batch, self.epoch, self.fold.head.attempt), patience_seconds=_STORED_PATIENCE_SECONDS
                )
            except Conflict:
                await self._read_foreign()
                continue
            for _ in batch:
                self._queued_bytes -= len(self._queue.popleft().line)
            self._flushed = time.monotonic()
            self._room.set()
            events = self.fold.head.revision - self._snapshot_revision
            if events >= limits.SNAPSHOT_EVENTS or self.fold.unsealed_bytes >= limits.SNAPSHOT_BYTES:
                self._snapshot_revision = self.fold.head.revision
                await self._log.save(self._task, take(self.fold))
            return

    def _draft(self, entries: list[Entry], epoch: int, attempt: int) -> Draft:
        return draft_after(
            self.fold.head,
            entries,
            record_id=os.urandom(9).hex(),
            writer=self._writer,
            incarnation=self._log.incarnation(self._task),
            epoch=epoch,
            attempt=attempt,
        )

    async def _store(self, made: Draft, *, patience_seconds: float) -> None:
        try:
            await store(self._log, self._task, self.fold, made, patience_seconds=patience_seconds)
        except RecordTooLarge as error:
            raise AssertionError("sizes are checked when events are queued") from error
        except (Unavailable, Uncertain):
            logger.warning("log did not take a record", task_id=self._task.task_id, epoch=self.epoch)
            raise

    def now(self) -> int:
        """See ``turn.Reports``."""
        return max(int(time.time() * 1000), self.fold.head.time)
