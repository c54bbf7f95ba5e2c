"""The operators' view of all tasks of a log, whoever's they are: list, filter, and follow what changes.

Another question to the index behind ListTasks (``index``), so it is a projection that can be thrown away, needs no
worker and disturbs none. It knows what records tell by themselves: of a task that cannot be read it shows what came
before. An exchange that ended with a bare message is no task and is not shown.

Whoever shows a list that stays true does this, and misses nothing in between::

    await survey.caught_up()
    mark = survey.mark
    seen = survey.page(wanted, 50)
    async for changed in survey.follow(wanted, mark):
        ...
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final

from msgspec import Struct

from a2a_events import limits
from a2a_events.log.port import Log
from a2a_events.model import TaskState
from a2a_events.runtime.index import Place, TaskIndex, log_and_shard
from a2a_events.timeline.ids import TaskRef

FAILED: Final = frozenset({TaskState.FAILED, TaskState.REJECTED})
"""States that ``Wanted.failed_only`` means: what somebody wanted and did not get. CANCELED is what they wanted."""
_LOOK_SECONDS: Final = 0.2
"""How often a follower looks whether the index has moved; that costs the broker nothing."""
_CHUNK: Final = 256
"""Changed tasks fetched at once."""
_TABLES: Final = "tasks join scopes on scopes.scope = tasks.owner"
_COLUMNS: Final = (
    "task_id, shard, agent, tenant, context_id, subject, state, created, active, revision, position, given_up, change"
)


class Seen(Struct, frozen=True):
    """A task, as operators see it."""

    task: TaskRef
    context_id: str
    subject: str
    """Its owner."""
    state: TaskState
    created: int
    """Milliseconds: when it was submitted, by its gateway's clock."""
    updated: int
    """Milliseconds: when its newest record was stored, by the log's own clock."""
    revision: int
    """Of its newest event."""
    position: int
    """Of its newest record."""
    given_up: bool
    """Whether its end says that it was given up (a dead letter)."""
    mark: int
    """Of its newest change; see :attr:`Survey.mark`."""

    @property
    def failed(self) -> bool:
        """Whether ``failed_only`` means it."""
        return self.state in FAILED

    @property
    def place(self) -> Place:
        """Where it stands in the list: what the next page comes after."""
        return Place(self.updated, self.task.task_id)


class Wanted(Struct, frozen=True):
    """Which tasks. All that are given must match; the empty one matches every task."""

    agent: str = ""
    states: frozenset[TaskState] = frozenset()
    failed_only: bool = False
    text: str = ""
    """Part of the task's id, its context's id or its owner's name, in any case of ASCII letters."""
    since: int = 0
    """Milliseconds: only what has changed then or later, by the log's own clock."""


class Survey:
    """The view of one process. Memory grows by some 400 bytes a task, or not at all with a file.

    Args:
        log: whose tasks; a log in memory, ``MemoryLog.restore`` before the first question included.
        path: file that keeps what was read, so that the next process reads only what is new; empty: in memory. One
            process a file.
        index: of the same log, that somebody else keeps and closes, instead of one of its own.

    Raises:
        OSError: the file cannot be made, or another process has it.
    """

    def __init__(self, log: Log, path: str = "", *, index: TaskIndex | None = None) -> None:
        self._log = log
        self._index = index or TaskIndex(log, path)
        self._owned = index is None

    @property
    def mark(self) -> int:
        """How far this view is: what changes later has a higher one. Good for the life of this object."""
        return self._index.changes

    async def caught_up(self, patience_seconds: float = limits.INDEX_PATIENCE_SECONDS) -> None:
        """Read the log up to where it ends now; one round trip a shard when nothing is new.

        The first time it reads every record: half a minute of processor time for 100,000 tasks of three.

        Raises:
            UnavailableError: there is more to read than the patience allows; reading goes on, so retry later.
            Unavailable: no answer; repeating is safe.
        """
        await self._index.caught_up(patience_seconds)

    def count(self, wanted: Wanted) -> int:
        """How many tasks match, as far as was read."""
        where, values = _where(wanted)
        ((found,),) = self._index.select(f"select count(*) from {_TABLES} where {where}", values)  # noqa: S608 -- names only
        return int(found)

    def page(self, wanted: Wanted, size: int, after: Place | None = None) -> list[Seen]:
        """Tasks that match, as far as was read, those that changed last first.

        Args:
            wanted: which.
            size: at most so many.
            after: ``Seen.place`` of the last one shown. What changes between two pages moves to the top: :meth:`follow`
                tells of it.
        """
        where, values = _where(wanted)
        if after is not None:
            where, values = f"{where} and (active, task_id) < (?, ?)", [*values, after.updated, after.task_id]
        rows = self._index.select(
            f"select {_COLUMNS} from {_TABLES} where {where} order by active desc, task_id desc limit ?",  # noqa: S608 -- of our own fragments; values are bound
            [*values, size],
        )
        return [self._seen(row) for row in rows]

    async def follow(self, wanted: Wanted, mark: int | None = None) -> AsyncGenerator[Seen]:
        """Tasks that match, each time they have changed, without end; many changes within a second are one.

        Costs the broker one round trip a shard and second, however many follow this view. While the log does not
        answer nothing comes, and later all of it. A task that matches no more is not told of: to see those leave,
        follow with fewer conditions.

        Args:
            wanted: which.
            mark: only what changed after it; default: from now on.
        """
        told = self.mark if mark is None else mark
        where, values = _where(wanted)
        while True:
            self._index.keep_up()
            reached = self.mark
            while told < reached:
                rows = self._index.select(
                    f"select {_COLUMNS} from {_TABLES} where {where} and change > ? order by change limit ?",  # noqa: S608 -- of our own fragments; values are bound
                    [*values, told, _CHUNK],
                )
                found = [self._seen(row) for row in rows]
                told = found[-1].mark if len(found) == _CHUNK else reached
                for seen in found:
                    yield seen
            await asyncio.sleep(_LOOK_SECONDS)

    async def close(self) -> None:
        """Stop reading and close the file; followers must have ended."""
        if self._owned:
            await self._index.close()

    def _seen(self, row: tuple[Any, ...]) -> Seen:
        task_id, shard, agent, tenant, context_id, subject, state, created, active, revision, position, up, change = row
        return Seen(
            task=TaskRef(*log_and_shard(shard), agent, tenant, task_id),
            context_id=context_id,
            subject=subject,
            state=TaskState(state),
            created=created,
            updated=active,
            revision=revision,
            position=position,
            given_up=bool(up),
            mark=change,
        )


def _where(wanted: Wanted) -> tuple[str, list[Any]]:
    """A condition and its values; no text of anybody is in the condition."""
    conditions: list[str] = ["1"]
    values: list[Any] = []
    if wanted.agent:
        conditions.append("agent = ?")
        values.append(wanted.agent)
    states = wanted.states
    if wanted.failed_only:
        states = states & FAILED if states else FAILED
    if wanted.states or wanted.failed_only:
        conditions.append(f"state in ({', '.join('?' * len(states))})")
        values += sorted(state.value for state in states)
    if wanted.text:
        conditions.append("instr(lower(task_id || ' ' || context_id || ' ' || subject), lower(?))")
        values.append(wanted.text)
    if wanted.since:
        conditions.append("active >= ?")
        values.append(wanted.since)
    return " and ".join(conditions), values
