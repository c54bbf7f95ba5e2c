"""Timelines for whoever looks at them: read once, kept for a while, and read on from where they were.

Reading needs no worker and disturbs none. What is kept is bounded; a timeline is dropped when others are looked at.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Sequence

from msgspec import Struct

from a2a_events import limits
from a2a_events.errors import Unreadable
from a2a_events.log.port import Log
from a2a_events.timeline.checkpoints import Checkpoints
from a2a_events.timeline.fold import TaskFold
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Record
from a2a_events.timeline.rows import Filter, Row, Run, compact, rows_of

_BATCH_RECORDS = 64
"""Turned into rows at once: others are served in between."""


class TimelineTooLarge(Exception):
    """A timeline is larger than this process keeps; ``export`` has no such limit."""


class TaskRemoved(Exception):
    """Retention has removed the task: nothing of it is shown, not what is kept of it either."""


class View(Struct, frozen=True):
    """A timeline's rows through a filter, in order; the runs of one artifact may be one row."""

    rows: Sequence[Row | Run]
    revisions: Sequence[int]
    """Of each row."""

    def index(self, revision: int) -> int:
        """Of the row that holds this revision, or of the last one before it; -1 if all come later."""
        return bisect_right(self.revisions, revision) - 1


class Timeline:
    """One task's timeline as far as it was read.

    Args:
        task: whose.
        incarnation: of its shard, when reading began.
    """

    def __init__(self, task: TaskRef, incarnation: str) -> None:
        self.task = task
        self.incarnation = incarnation
        self.records: list[Record] = []
        self.rows: list[Row] = []
        """One for each event: that of revision n is the one before the n-th."""
        self.times: list[int] = []
        """Of each event, milliseconds."""
        self.size = 0
        """Bytes that it costs, about."""
        self.asked = 0.0
        """When the log was asked last for what comes after it, by the monotonic clock."""
        self.lock = asyncio.Lock()
        self._folds = Checkpoints(self.records)
        self._views: dict[tuple[Filter, bool], tuple[int, View]] = {}

    @property
    def newest(self) -> int:
        """Revision of the newest event, 0 without one."""
        return len(self.rows)

    @property
    def position(self) -> int:
        """Of the newest record, 0 without one."""
        return self.records[-1].position if self.records else 0

    def fold_at(self, revision: int) -> TaskFold:
        """See ``revisions.fold_at``; costs the events since the last checkpoint."""
        return self._folds.at(revision)

    def view(self, wanted: Filter, *, compacted: bool) -> View:
        """Its rows through a filter. The last few views are kept."""
        known = self._views.pop((wanted, compacted), None)
        if known is None or known[0] != self.newest:
            matching = [row for row in self.rows if wanted.matches(row)]
            rows: list[Row | Run] = list(compact(matching) if compacted else matching)
            known = self.newest, View(rows, [row.revision for row in rows])
        self._views[wanted, compacted] = known
        while len(self._views) > limits.TIMELINE_VIEWS:
            del self._views[next(iter(self._views))]
        return known[1]

    def add(self, record: Record) -> None:
        """Take in the next record.

        Raises:
            ValueError: it is damaged.
        """
        rows = rows_of(record)
        self.records.append(record)
        self.rows += rows
        self.times += record.header.times
        # The record's payload, and the same bytes once more in its rows.
        self.size += 2 * len(record.payload) + limits.TIMELINE_EVENT_BYTES * len(rows)


class Timelines:
    """The timelines that were looked at last.

    Args:
        log: where they are.
        together: bytes that are kept of all of them, and of one at most.
    """

    def __init__(self, log: Log, together: int = limits.TIMELINES_BYTES) -> None:
        self._log = log
        self._together = together
        self._kept: dict[TaskRef, Timeline] = {}
        """The one that was asked for last comes last."""

    def known(self, task_id: str) -> TaskRef | None:
        """Whose task it is, if its timeline is kept."""
        return next((task for task in self._kept if task.task_id == task_id), None)

    async def get(self, task: TaskRef, revision: int = 0) -> Timeline:
        """The task's timeline as the leader has it now; empty if there is none.

        Args:
            task: whose.
            revision: as far as this is enough: then what is kept may be enough, without a question to the log. Not for
                longer than ``limits.REMOVAL_GRACE_SECONDS``: a task that was removed must not be shown for ever.

        Raises:
            TaskRemoved: it was; what was kept of it is dropped.
            TimelineTooLarge: it is.
            Unavailable: no answer; repeating is safe.
            Unreadable: a record is damaged; repeating cannot help.
        """
        incarnation = self._log.incarnation(task)
        timeline = self._kept.pop(task, None)
        if timeline is None or timeline.incarnation != incarnation:
            timeline = Timeline(task, incarnation)
        self._kept[task] = timeline
        fresh = time.monotonic() - timeline.asked < limits.REMOVAL_GRACE_SECONDS
        if not (fresh and 0 < revision <= timeline.newest):
            async with timeline.lock:
                await self._read_on(timeline)
        if not timeline.records:
            self._drop(timeline)
        self._shrink()
        return timeline

    async def _read_on(self, timeline: Timeline) -> None:
        timeline.asked = time.monotonic()
        async for records in self._log.read(timeline.task, timeline.position + 1):
            for number, record in enumerate(records, 1):
                if record.header.tombstone:
                    self._drop(timeline)
                    raise TaskRemoved(f"task {timeline.task.task_id} was removed")
                try:
                    timeline.add(record)
                except ValueError as error:
                    message = f"record {record.header.record_id} at {record.position} is damaged: {error}"
                    raise Unreadable(message) from None
                if not number % _BATCH_RECORDS:
                    await asyncio.sleep(0)
            if timeline.size > self._together:
                self._drop(timeline)
                raise TimelineTooLarge(
                    f"the timeline of task {timeline.task.task_id} is over {self._together} bytes, more than is kept"
                    " to look at it here: `a2a-events export` writes it into a file"
                )

    def _drop(self, timeline: Timeline) -> None:
        if self._kept.get(timeline.task) is timeline:
            del self._kept[timeline.task]

    def _shrink(self) -> None:
        size = sum(timeline.size for timeline in self._kept.values())
        while size > self._together and len(self._kept) > 1:
            size -= self._kept.pop(next(iter(self._kept))).size
