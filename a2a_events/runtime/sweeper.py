"""The sweeper: asks after tasks that somebody should be acting on, if their log is silent for too long (turns 5).

A broker that forgets no delivery never needs it. It is there for a consumer that was deleted, made anew elsewhere in
the log, or restored to another state: then a message may wait that is never delivered, and a dead owner's turn has no
delivery that would be evidence. A nudge is delivered like any other ``in`` record, so that one of the workers acts.

It follows the log as a projection of very little: of each task that may be unsettled, where and when its newest record
stands. Most tasks are dropped when their end is read; a task is folded only when it has been silent for too long, and
then its fold decides. Nothing rests on it being the only one: silence is judged by the log's own clock, nudges are
conditional, and one that was just written breaks the silence. One process a deployment does it because reading the log
costs; which one is agreed on in the log (:class:`Watcher`).
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Final

import msgspec
import structlog
from msgspec import Struct

from a2a_events import limits
from a2a_events.errors import Conflict, LogError, Uncertain, Unreadable
from a2a_events.log.port import End, Log, Stored
from a2a_events.model import TERMINAL_STATES
from a2a_events.runtime.commit import drafted, store
from a2a_events.runtime.load import load
from a2a_events.timeline import decide
from a2a_events.timeline.events import Kind, StatusChanged, decode_line
from a2a_events.timeline.fold import Phase, TaskFold
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Entry, Record, Writer

WORK: Final = "sweeper"
"""Name under which the log keeps how far the sweeper is."""
PASSES: Final = 4
"""Looks at the log within the silence that is waited for: how much later than that a nudge may come."""
DOUBLINGS: Final = 6
"""How often the silence that is waited for doubles while a task is nudged in vain: up to some two hours."""
MISSED_PASSES: Final = 3
"""After which the process on duty counts as gone."""
_SETTLED: Final = frozenset({Phase.NONE, Phase.RESTING, Phase.TERMINAL})

logger = structlog.get_logger(__name__)


class Progress(Struct, frozen=True, rename="camel"):
    """What the log keeps of the sweeper: whose duty it is, and how far each shard needs not be read again."""

    instance: str = ""
    shards: dict[int, End] = {}


class _Newest(Struct):
    """The newest record of a task that may be unsettled."""

    position: int
    time: int
    inbound: bool
    nudges: int = 0
    """How many nudges in a row it is the last of."""


class Sweeper:
    """Looks for silent tasks; see the module.

    Args:
        log: whose tasks.
        writer: this process.
        silence_seconds: what nobody is asked after; must be longer than the broker takes to deliver again.
    """

    def __init__(self, log: Log, writer: Writer, *, silence_seconds: float) -> None:
        self._log = log
        self._writer = writer
        self._silence_seconds = silence_seconds
        self._read: dict[int, End] = {}
        """How far each shard has been read."""
        self._suspects: dict[TaskRef, _Newest] = {}

    @property
    def suspects(self) -> int:
        """Tasks that may be unsettled."""
        return len(self._suspects)

    def begin(self, at: dict[int, End]) -> None:
        """Forget what is known and read on from here."""
        self._suspects.clear()
        self._read = dict(at)

    def resume_at(self) -> dict[int, End]:
        """Where another sweeper may begin: the newest record of each task that may be unsettled stands behind it."""
        first = {shard: end.position for shard, end in self._read.items()}
        for task, newest in self._suspects.items():
            first[task.shard] = min(first[task.shard], newest.position - 1)
        return {shard: End(end.incarnation, first[shard]) for shard, end in self._read.items()}

    async def sweep(self) -> int:
        """Read what is new and ask after who is silent; how many nudges were written.

        Costs one round trip and one read a record, and three round trips a silent task.

        Raises:
            Unavailable: no answer; repeating is safe.
        """
        ends = await self._log.ends()
        for shard, end in ends.items():
            await self._follow(shard, end)
        handed_out: dict[str, dict[int, int]] = {}
        nudged = 0
        for task, newest in list(self._suspects.items()):
            end = ends[task.shard]
            # Twice as long after each nudge: what waits with a busy worker does not grow by waiting.
            if end.time - newest.time <= self._silence_seconds * 1000 * 2 ** min(newest.nudges, DOUBLINGS):
                continue
            if task.agent not in handed_out:
                handed_out[task.agent] = await self._log.handed_out(task.agent)
            if newest.inbound and newest.position > handed_out[task.agent].get(task.shard, 0):
                continue  # it waits its turn: a long queue must not grow longer by being long
            try:
                nudged += await self._ask(task, newest, end.time)
            except Unreadable as error:
                logger.error("unreadable task is not looked after", task_id=task.task_id, error=str(error))
                del self._suspects[task]
        return nudged

    async def _follow(self, shard: int, end: End) -> None:
        known = self._read.get(shard)
        if known is None or known.incarnation != end.incarnation:
            self._suspects = {task: newest for task, newest in self._suspects.items() if task.shard != shard}
            known = End(end.incarnation, 0)
        async for batch in self._log.scan(shard, known.position + 1, end.position):
            for stored in batch:
                if settles(stored.record):
                    self._suspects.pop(stored.task, None)
                else:
                    self._suspects[stored.task] = self._newest(stored)
            self._read[shard] = End(end.incarnation, batch[-1].record.position)
        self._read[shard] = End(end.incarnation, max(known.position, end.position))

    def _newest(self, stored: Stored) -> _Newest:
        before = self._suspects.get(stored.task)
        nudge = stored.record.header.kinds == Kind.TURN_NUDGED.value
        nudges = 1 + (before.nudges if before else 0) if nudge else 0
        return _Newest(stored.record.position, stored.time, stored.record.inbound, nudges)

    async def _ask(self, task: TaskRef, newest: _Newest, log_time: int) -> bool:
        """Nudge a task if its fold says so; whether it was."""
        fold = await load(self._log, task)
        if fold.head.phase in _SETTLED:
            del self._suspects[task]
            return False
        if fold.head.position != newest.position:
            return False  # it was not silent after all: the next pass reads what came
        silent_seconds = (log_time - newest.time) / 1000
        entries = decide.nudge(fold.head, silent_seconds, self._silence_seconds, int(time.time() * 1000))
        # Whatever follows: not again before its time, and not while the task sleeps.
        newest.time = max(log_time, fold.head.until if fold.head.phase is Phase.SUSPENDED else 0)
        if not entries:
            return False
        try:
            await self._append(task, fold, entries)
        except Conflict:
            return False
        logger.warning(
            "silent task nudged",
            task_id=task.task_id,
            agent=task.agent,
            phase=fold.head.phase.value,
            epoch=fold.head.epoch,
            silent_seconds=round(silent_seconds, 1),
        )
        return True

    async def _append(self, task: TaskRef, fold: TaskFold, entries: list[Entry]) -> None:
        made = drafted(self._log, self._writer, task, fold.head, entries)
        await store(self._log, task, fold, made, patience_seconds=limits.REQUEST_TIMEOUT_SECONDS)


class Watcher:
    """Sweeps if it is this process's duty, and takes the duty over when nobody does it.

    Who does it says so in the log at each pass. Nobody compares clocks: whoever sees no news of the other for some
    passes, by its own clock, takes over, on the condition that there was none. Two at once do no harm.

    Args:
        log: whose tasks.
        writer: this process.
        silence_seconds: as for :class:`Sweeper`.
    """

    def __init__(self, log: Log, writer: Writer, *, silence_seconds: float) -> None:
        self._log = log
        self._instance = writer.instance
        self._sweeper = Sweeper(log, writer, silence_seconds=silence_seconds)
        self._pause_seconds = silence_seconds / PASSES
        self._mine = 0
        """Version of what this process put last; 0 while it is not on duty."""
        self._others: tuple[int, float] = (-1, 0.0)
        """Version that another process put, and when this one saw it first."""

    @property
    def on_duty(self) -> bool:
        """Whether this process sweeps."""
        return bool(self._mine)

    async def run(self) -> None:
        """Look and look again until cancelled."""
        while True:
            try:
                await self.step()
            except LogError as error:
                logger.info("sweep not finished", error=str(error) or type(error).__name__)
            await asyncio.sleep(self._pause_seconds * random.uniform(0.9, 1.1))  # noqa: S311 -- so as not to march in step

    async def step(self) -> int:
        """One pass, if it is this process's duty; how many nudges were written. One round trip if it is not.

        Raises:
            Unavailable, Uncertain: no answer; repeating is safe.
        """
        if not self._mine and not await self._take_over():
            return 0
        nudged = await self._sweeper.sweep()
        if not await self._put(self._sweeper.resume_at()):
            self._sweeper.begin({})
        return nudged

    async def _take_over(self) -> bool:
        content, version = await self._log.progress(WORK)
        now = time.monotonic()
        if version != self._others[0]:
            self._others = (version, now)
        if version and now - self._others[1] < self._pause_seconds * MISSED_PASSES:
            return False
        found = msgspec.json.decode(content, type=Progress) if content else Progress()
        self._mine = version
        if not await self._put(found.shards):
            return False
        self._sweeper.begin(found.shards)
        logger.info("sweeping for silent tasks", instance=self._instance, before=found.instance or None)
        return True

    async def _put(self, shards: dict[int, End]) -> bool:
        """Say that this process is on duty; False if another one is."""
        version, self._mine = self._mine, 0
        content = msgspec.json.encode(Progress(self._instance, shards))
        try:
            self._mine = await self._log.put_progress(WORK, content, version)
        except (Conflict, Uncertain):
            return False  # if it was stored nevertheless, it is taken over like anybody's
        return True


async def read_progress(log: Log) -> Progress:
    """What the log keeps of the sweeper. Errors as for ``progress``."""
    content, _ = await log.progress(WORK)
    return msgspec.json.decode(content, type=Progress) if content else Progress()


def settles(record: Record) -> bool:
    """Whether the task rests or has ended after this record, as far as that can be told from it alone."""
    kinds = record.header.kinds
    if Kind.REPLY.value in kinds or record.header.tombstone:
        return True
    ended = kinds.rfind(Kind.TURN_ENDED.value)
    if ended >= 0:
        return Kind.TURN_CLAIMED.value not in kinds[ended:]
    if record.header.epoch or Kind.STATUS.value not in kinds:
        return False
    # Written by nobody's turn: an end that a gateway or a timer decided.
    lines = zip(kinds, record.lines(), strict=False)
    try:
        events = [decode_line(code, line) for code, line in lines if code == Kind.STATUS.value]
    except ValueError:
        return False  # the fold will say what is wrong with it
    return any(isinstance(event, StatusChanged) and event.status.state in TERMINAL_STATES for event in events)
