"""What happened in a run, as its clients, agents and the nemesis saw it; the judge compares it with the log."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Record


class Answer(Enum):
    """What a client knows after it has asked for something."""

    DONE = "done"
    REFUSED = "refused"
    """Definitely: nothing of it may be in the log."""
    UNKNOWN = "unknown"
    """No answer, or one that says that nobody knows."""


@dataclass
class Asked:
    """One operation of a client."""

    name: str
    client: str
    task_id: str = ""
    message_id: str = ""
    answer: Answer = Answer.UNKNOWN
    error: str = ""
    revision: int = 0
    """Of the task that was answered."""
    floor: int = 0
    """Revision of the task that somebody had been told of before this was asked."""
    json: bytes = b""


@dataclass
class Stream:
    """One connection of a subscriber: what came, in order."""

    client: str
    operation: str
    task_id: str = ""
    cursor_revision: int | None = None
    """What it resumed after; None for a stream that begins with a Task."""
    updates: list[tuple[int, bytes]] = field(default_factory=list)
    cursor: str = ""
    """The newest one that came."""
    ended: bool = False
    """Whether the server said that this was all."""
    error: str = ""


@dataclass
class Run:
    """One call of an agent's handler."""

    number: int
    task_id: str
    worker: str
    attempt: int
    said: int = 0
    """Chunks, numbered from 1."""
    returned: bool = False
    wanted: str = ""
    """How it ended, in its own words."""


class History:
    """Everything that was seen, and a readable trace of it."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.asked: list[Asked] = []
        self.streams: list[list[Stream]] = []
        """Of each subscriber its connections, one after the other."""
        self.runs: list[Run] = []
        self.steps: list[tuple[str, int]] = []
        """Task and result of each step that returned to its agent; the result is the run that did it."""
        self.given: set[tuple[str, str]] = set()
        """Worker and message: what an agent was really given."""
        self.told: dict[str, int] = {}
        """Newest revision of each task that anybody was told of."""
        self.trace: list[tuple[float, str, str]] = []
        self.problems: list[str] = []
        """What should never happen, whatever the log says: failed background work, say."""
        self.agents: dict[str, str] = {}
        """Of each task its agent."""
        self._stored: dict[str, list[Record]] = {}

    def note(self, who: str, what: str) -> None:
        """A line of the trace."""
        self.trace.append((asyncio.get_running_loop().time(), who, what))

    def stored(self, task: TaskRef, record: Record) -> None:
        """The log has taken a record."""
        self.agents[task.task_id] = task.agent
        self._stored.setdefault(task.task_id, []).append(record)

    def timelines(self) -> dict[str, list[Record]]:
        """Every record that was ever stored, by task."""
        return self._stored

    def tell(self, task_id: str, revision: int) -> None:
        """Somebody knows that the task has got this far."""
        self.told[task_id] = max(self.told.get(task_id, 0), revision)

    def lines(self) -> list[str]:
        """The trace, as text."""
        return [f"{at - 1000:9.4f}  {who:<12} {what}" for at, who, what in self.trace]
