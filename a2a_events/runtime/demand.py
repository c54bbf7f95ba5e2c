"""What a gateway knows of an agent's queue and of its workers: whether to admit a task, whether to say that it waits.

Neither is a fact about a task, so neither is written. Both are read from the broker now and then and remembered; a
request waits for a reading only where the answer would be a refusal, or nobody is there to make the request hot.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog

from a2a_events import limits
from a2a_events.errors import LogError, UnavailableError
from a2a_events.log.port import Log
from a2a_events.metrics.catalog import RATE_LIMITED
from a2a_events.timeline.ids import TaskRef

FRESH_SECONDS: Final = 5.0
"""How old what is known of workers may be when it is relied on."""
READINGS: Final = 3
"""How often a depth is read before a task is refused that only a sum of readings and own tasks speaks against."""
MISSING_SECONDS: Final = 0.25
"""The same for an agent that had none: then nothing is in a hurry, and a worker that comes should be seen."""

logger = structlog.get_logger(__name__)


class _Reading:
    """One thing read from the broker, by one request at a time."""

    def __init__(self, read: Callable[[], Coroutine[Any, Any, None]], what: str) -> None:
        self._read = read
        self._what = what
        self._at = -1e9
        self._reading: asyncio.Task[None] | None = None

    def older_than(self, seconds: float) -> bool:
        """Whether the last reading is, or there is none."""
        return time.monotonic() - self._at > seconds

    def refresh(self) -> asyncio.Task[None]:
        """A reading that is under way, or begins now."""
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._refresh())
        return self._reading

    async def renew(self) -> None:
        """Wait for :meth:`refresh`; a caller who gives up does not take it from the others."""
        await asyncio.shield(self.refresh())

    async def _refresh(self) -> None:
        try:
            await self._read()
            self._at = time.monotonic()
        except LogError as error:
            logger.warning("not read", what=self._what, error=str(error))
        finally:
            self._reading = None


class _Queue:
    """One agent's queue, as last read."""

    def __init__(self, log: Log, agent: str) -> None:
        self._log = log
        self._agent = agent
        self.depth = 0
        self.written = 0
        """Tasks that this gateway has written since the reading began."""
        self.under_way = 0
        """Tasks that it has admitted and that are not written yet: a reading may or may not have them."""
        self.reading = _Reading(self._read, f"queue of {agent}")

    async def _read(self) -> None:
        self.written = 0
        try:
            self.depth = await self._log.queue_depth(self._agent)
        except LogError:
            self.depth = 0
            raise

    @property
    def known(self) -> int:
        """How deep it is at most, but for what other gateways have admitted since the reading."""
        return self.depth + self.written + self.under_way


class Admission:
    """Refuses new tasks of an agent whose queue is too deep.

    A reading of the depth is used for ``limits.QUEUE_FRESH_SECONDS``, with what was admitted here since; so one gateway
    keeps to the limit once it has read, and several go over it by what they admit in that time.

    Args:
        log: whose queues.
        limit: most messages of an agent that are queued or running; 0: any number.
    """

    def __init__(self, log: Log, limit: int) -> None:
        self._log = log
        self._limit = limit
        self._queues: dict[str, _Queue] = {}

    @asynccontextmanager
    async def admit(self, task: TaskRef) -> AsyncGenerator[None]:
        """For as long as it takes to write one new task. No round trip, unless the last reading alone refuses nothing.

        A queue that cannot be read refuses nobody: the append that follows finds out what is the matter.

        Raises:
            UnavailableError: the queue is full; nothing was written.
        """
        if not self._limit or task.log != self._log.name:  # how deep queues are in other regions is not known here
            yield
            return
        agent = task.agent
        queue = self._queues.get(agent)
        if queue is None:
            queue = self._queues[agent] = _Queue(self._log, agent)
        old = queue.reading.older_than(limits.QUEUE_FRESH_SECONDS)
        if old and queue.known < self._limit:
            queue.reading.refresh()
        for attempt in range(READINGS):
            # What is written while a reading is under way counts twice until the next one.
            if queue.known < self._limit or (queue.depth >= self._limit and not (old and attempt == 0)):
                break
            await queue.reading.renew()
        if queue.known >= self._limit:
            RATE_LIMITED.inc("queue")
            logger.warning("task refused", agent=agent, queued=queue.known, limit=self._limit)
            raise UnavailableError(
                f"Agent {agent!r} has {queue.known} messages that wait or are being worked on, and "
                f"the limit is {self._limit}; nothing was written, please retry later",
                retry_after_seconds=limits.QUEUE_RETRY_SECONDS,
            )
        queue.under_way += 1
        try:
            yield
        finally:
            queue.under_way -= 1
            queue.written += 1


class Attendance:
    """Which agents have a worker.

    An agent has none when no process has announced it for three heartbeats, by the broker's clock.

    Args:
        log: whose registry.
        now: the clock, milliseconds since 1970.
    """

    def __init__(self, log: Log, now: Callable[[], int]) -> None:
        self._log = log
        self._now = now
        self._attended: set[str] | None = None
        self._absent: dict[str, int] = {}
        self._reading = _Reading(self._read, "workers")

    async def absent_since(self, agent: str, *, patient: bool) -> int | None:
        """When the agent was last known to have a worker at the latest, if it has none now; milliseconds since 1970.

        Args:
            agent: its name.
            patient: whether to wait for a reading if the last one is old; otherwise nothing is said that is not known.
        """
        missing = self._attended is not None and agent not in self._attended
        if self._reading.older_than(MISSING_SECONDS if missing else FRESH_SECONDS):
            if patient or missing:
                await self._reading.renew()
            else:
                self._reading.refresh()
        if self._reading.older_than(FRESH_SECONDS) or self._attended is None or agent in self._attended:
            return None
        if agent not in self._absent:
            # Its last sign is gone because it is older than three heartbeats.
            self._absent[agent] = self._now() - int(3000 * limits.AGENT_HEARTBEAT_SECONDS)
            logger.warning("agent without worker", agent=agent)
        return self._absent[agent]

    async def _read(self) -> None:
        attended = await self._log.attended()
        for agent in attended & self._absent.keys():
            del self._absent[agent]
            logger.info("agent has a worker again", agent=agent)
        self._attended = attended
