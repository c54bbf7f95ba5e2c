"""What is measured: each cell is a load, the numbers it gives, and what this project means to reach with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import linear_regression

from bench.field import BARE, FASTA2A, SDK, Failed, Standing
from bench.jobs import Fanout, Gets, Idle, Make, Script, Streams

Values = dict[str, float]


class Better(Enum):
    HIGHER = "↑"
    LOWER = "↓"


@dataclass(frozen=True)
class Goal:
    """A bound on ours ÷ theirs, or on our own value: from below where higher is better, from above where lower is."""

    bound: float
    against: str | None = None
    sync: str | None = None  # meant for this fsync setting only


@dataclass(frozen=True)
class Metric:
    """One row of the table."""

    name: str
    better: Better
    unit: str = ""
    goals: Sequence[Goal] = ()


@dataclass(frozen=True)
class Length:
    """How long to measure: `--quick` is for a look, the full run for figures to publish."""

    seconds: float
    paced_chunks: int
    growing_chunks: int


FULL = Length(seconds=2.5, paced_chunks=50, growing_chunks=3_000)
QUICK = Length(seconds=0.6, paced_chunks=20, growing_chunks=1_500)


@dataclass(frozen=True)
class Turn:
    """One target's turn; the bare application is at hand for cells that measure against it."""

    target: Standing
    bare: Standing
    length: Length


@dataclass(frozen=True, kw_only=True)
class Cell(ABC):
    """Cells of a group share one start of the servers; `rounds` is the most that are worth their time."""

    name: str
    group: str
    rounds: int = 99
    large: bool = False  # not for a quick look

    @property
    @abstractmethod
    def metrics(self) -> Sequence[Metric]: ...

    @property
    def skipped(self) -> frozenset[str]:
        """Targets there is nothing to measure on."""
        return frozenset()

    @abstractmethod
    async def run(self, turn: Turn) -> Values:
        """Measures one target once.

        Raises:
            Failed: it did not get through.
        """


def _milliseconds(name: str, quantiles: list[float]) -> Values:
    return {f"{name} {which}": value * 1e3 for which, value in zip(("p50", "p99"), quantiles, strict=False)}


@dataclass(frozen=True, kw_only=True)
class StreamCell(Cell):
    """SendStreamingMessage, as fast as it goes."""

    clients: int
    chunks: int
    size: int

    @property
    def metrics(self) -> Sequence[Metric]:
        many = self.clients >= 32
        faster = (Goal(3.0, SDK), Goal(1.0, FASTA2A)) if many else ()
        sooner = (Goal(1.0, SDK), Goal(1.0, FASTA2A)) if many else ()
        return (
            Metric("events/s", Better.HIGHER, goals=faster),
            Metric("tasks/s", Better.HIGHER),
            Metric("first event p50", Better.LOWER, "ms"),
            Metric("first event p99", Better.LOWER, "ms", goals=sooner),
            Metric("terminal p50", Better.LOWER, "ms"),
            Metric("terminal p99", Better.LOWER, "ms"),
            Metric("CPU s/1,000 events", Better.LOWER),
        )

    async def run(self, turn: Turn) -> Values:
        warm = Streams(clients=min(self.clients, 32), script=Script(chunks=10), seconds=0.2)
        await turn.target.load(warm, timeout=30)
        job = Streams(
            clients=self.clients, script=Script(chunks=self.chunks, bytes=self.size), seconds=turn.length.seconds
        )
        answer = await turn.target.load(job, timeout=60)
        return {
            "events/s": answer.events / answer.elapsed,
            "tasks/s": answer.tasks / answer.elapsed,
            "CPU s/1,000 events": answer.cpu / answer.events * 1e3,
            "client CPU share": answer.client_cpu / answer.elapsed,
            **_milliseconds("first event", answer.first),
            **_milliseconds("first chunk", answer.chunk),
            **_milliseconds("terminal", answer.terminal),
        }


@dataclass(frozen=True, kw_only=True)
class PacedCell(Cell):
    """Streams as a model writes, all at once: one wave, from the first request to the last terminal event."""

    tasks: int

    @property
    def metrics(self) -> Sequence[Metric]:
        return (
            Metric("CPU s/1,000 events", Better.LOWER, goals=(Goal(0.5, SDK), Goal(1.0, FASTA2A, "2m"))),
            Metric("agent→client p50", Better.LOWER, "ms"),
            Metric("agent→client p99", Better.LOWER, "ms"),
            Metric("terminal p50", Better.LOWER, "ms"),
        )

    async def run(self, turn: Turn) -> Values:
        script = Script(chunks=turn.length.paced_chunks, delay_ms=20, stamp=True)
        answer = await turn.target.load(Streams(clients=self.tasks, script=script, seconds=0), timeout=60)
        return {
            "CPU s/1,000 events": answer.cpu / answer.events * 1e3,
            "events/s": answer.events / answer.elapsed,
            "client CPU share": answer.client_cpu / answer.elapsed,
            **_milliseconds("agent→client", answer.chunk),
            **_milliseconds("first event", answer.first),
            **_milliseconds("terminal", answer.terminal),
        }


@dataclass(frozen=True, kw_only=True)
class SendCell(Cell):
    """Blocking SendMessage; fasta2a answers it before the work is done, so there is nothing to compare."""

    clients: int

    @property
    def metrics(self) -> Sequence[Metric]:
        return (
            Metric("tasks/s", Better.HIGHER, goals=(Goal(3.0, SDK),)),
            Metric("answer p50", Better.LOWER, "ms"),
            Metric("answer p99", Better.LOWER, "ms"),
            Metric("CPU s/1,000 tasks", Better.LOWER),
        )

    @property
    def skipped(self) -> frozenset[str]:
        return frozenset({FASTA2A})

    async def run(self, turn: Turn) -> Values:
        script = Script(chunks=10)
        await turn.target.load(Streams(clients=8, script=script, seconds=0.2, blocking=True), timeout=30)
        job = Streams(clients=self.clients, script=script, seconds=turn.length.seconds, blocking=True)
        answer = await turn.target.load(job, timeout=60)
        return {
            "tasks/s": answer.tasks / answer.elapsed,
            "CPU s/1,000 tasks": answer.cpu / answer.tasks * 1e3,
            "client CPU share": answer.client_cpu / answer.elapsed,
            **_milliseconds("answer", answer.terminal),
        }


@dataclass(frozen=True, kw_only=True)
class GetCell(Cell):
    """GetTask on one connection; net of what an answer of exactly as many bytes costs from the bare application."""

    sizes: tuple[int, ...]

    @property
    def metrics(self) -> Sequence[Metric]:
        rows: list[Metric] = []
        for chunks in self.sizes:
            rows += [
                Metric(f"{chunks:,} chunks p50", Better.LOWER, "ms"),
                Metric(f"{chunks:,} chunks p50 net", Better.LOWER, "ms"),
                Metric(f"{chunks:,} chunks answer", Better.LOWER, "KB"),
            ]
        rows.append(Metric(self._growth, Better.LOWER, goals=(Goal(2.0),)))
        return rows

    @property
    def skipped(self) -> frozenset[str]:
        return frozenset({BARE})

    @property
    def _growth(self) -> str:
        return f"net, {self.sizes[-1]:,} ÷ {self.sizes[0]:,} chunks"

    async def run(self, turn: Turn) -> Values:
        values: Values = {}
        seconds = turn.length.seconds / 4
        for chunks in self.sizes:
            if chunks not in turn.target.made:
                turn.target.made[chunks] = (await turn.target.load(Make(script=Script(chunks=chunks)), timeout=90)).task
            answer = await turn.target.load(Gets(task=turn.target.made[chunks], seconds=seconds), timeout=30)
            if answer.events != chunks:
                raise Failed(f"GetTask shows {answer.events} of {chunks} chunks")
            floor = await turn.bare.load(Gets(task=str(answer.size), seconds=seconds / 2), timeout=30)
            values[f"{chunks:,} chunks p50"] = answer.terminal[0] * 1e3
            values[f"{chunks:,} chunks p50 net"] = (answer.terminal[0] - floor.terminal[0]) * 1e3
            values[f"{chunks:,} chunks answer"] = answer.size / 1e3
        low, high = (values[f"{chunks:,} chunks p50 net"] for chunks in (self.sizes[0], self.sizes[-1]))
        if low > 0:
            values[self._growth] = high / low
        return values


@dataclass(frozen=True, kw_only=True)
class GrowthCell(Cell):
    """What one more event costs when the task is already long.

    Eight tasks at a time with 2 ms between chunks: unpaced chunks travel in packs, and packs grow with the length of
    the task, so that a long task would look cheaper per event than a short one whatever its events cost. Creating and
    ending a task weighs more on a short one for the same effect. So the marginal cost is taken inside long tasks: a
    line through the CPU per event of their ten tenths (beginning and end left out), its end ÷ its start. Ten points,
    because on a shared machine any two of them may differ by 15 % for no reason of the server's.
    """

    @property
    def metrics(self) -> Sequence[Metric]:
        return (
            Metric("short tasks, CPU s/1,000", Better.LOWER),
            Metric("long tasks, CPU s/1,000", Better.LOWER),
            Metric("long ÷ short", Better.LOWER, goals=(Goal(1.2),)),
            Metric("marginal, end ÷ start of long", Better.LOWER, goals=(Goal(1.2),)),
        )

    async def run(self, turn: Turn) -> Values:
        clients, delay = 8, 2
        short = Streams(
            clients=clients, script=Script(chunks=100, delay_ms=delay), seconds=min(3.0, turn.length.seconds * 2)
        )
        shorts = await turn.target.load(short, timeout=60)
        script = Script(chunks=turn.length.growing_chunks, delay_ms=delay)
        job = Streams(clients=clients, script=script, seconds=0, marks=10, stagger=0.05)
        longs = await turn.target.load(job, timeout=90)
        costs = [answer.cpu / answer.events * 1e3 for answer in (shorts, longs)]
        return {
            "short tasks, CPU s/1,000": costs[0],
            "long tasks, CPU s/1,000": costs[1],
            "long ÷ short": costs[1] / costs[0],
            "marginal, end ÷ start of long": _rise(longs.parts),
            **{f"tenth {number}, CPU s/1,000": part * 1e3 for number, part in enumerate(longs.parts)},
        }


def _rise(parts: Sequence[float]) -> float:
    """Last ÷ first point of the straight line through the values."""
    slope, intercept = linear_regression(range(len(parts)), parts)
    return (intercept + slope * (len(parts) - 1)) / intercept


@dataclass(frozen=True, kw_only=True)
class FanoutCell(Cell):
    """One task, many subscriptions: how long until one event has reached the typical one, and all of them."""

    subscribers: int

    @property
    def metrics(self) -> Sequence[Metric]:
        return (
            Metric("event to one p50", Better.LOWER, "ms"),
            Metric("event to all", Better.LOWER, "ms"),
            Metric("gateway memory each", Better.LOWER, "KB", goals=(Goal(20.0),)),
            Metric("opened/s", Better.HIGHER),
        )

    async def run(self, turn: Turn) -> Values:
        answer = await turn.target.load(Fanout(subscribers=self.subscribers, delay_ms=2_000, events=3), timeout=90)
        return {
            "event to one p50": answer.chunk[0] * 1e3,
            "event to all": answer.to_all[0] * 1e3,
            "gateway memory each": answer.memory / 1e3,
            "opened/s": self.subscribers / answer.open_seconds,
            "CPU s/1,000 events": answer.cpu / answer.events * 1e3,
        }


@dataclass(frozen=True, kw_only=True)
class IdleCell(Cell):
    """A subscription on each of many tasks with nothing to say."""

    subscribers: int

    @property
    def metrics(self) -> Sequence[Metric]:
        return (
            Metric("gateway memory each", Better.LOWER, "KB", goals=(Goal(20.0),)),
            Metric("opened/s", Better.HIGHER),
        )

    async def run(self, turn: Turn) -> Values:
        answer = await turn.target.load(Idle(subscribers=self.subscribers), timeout=90)
        return {
            "gateway memory each": answer.memory / 1e3,
            "opened/s": self.subscribers / answer.open_seconds,
        }


def all_cells() -> list[Cell]:
    return [
        *(
            StreamCell(
                name=f"{chunks} × {size:,} B, clients: {clients}",
                group=f"streams-{size}",
                clients=clients,
                chunks=chunks,
                size=size,
                rounds=99 if clients > 1 else 2,
                large=size > 64,
            )
            for size in (64, 1024)
            for chunks in (10, 100)
            for clients in (1, 32, 256)
        ),
        PacedCell(name="paced 20 ms, 200 tasks", group="paced", tasks=200, rounds=2),
        PacedCell(name="paced 20 ms, 1,000 tasks", group="paced", tasks=1_000, rounds=1),
        *(SendCell(name=f"blocking send, clients: {clients}", group="send", clients=clients) for clients in (32, 256)),
        GetCell(name="GetTask", group="get", sizes=(10, 100, 1_000, 10_000), rounds=2),
        GrowthCell(name="growing task", group="growth", rounds=2),
        # A group each: what thousands of connections leave behind in a process is not the next cell's.
        *(
            FanoutCell(
                name=f"1 task, {count:,} subscriptions",
                group=f"fanout-{count}",
                subscribers=count,
                rounds=1,
                large=count > 1_000,
            )
            for count in (1_000, 5_000)
        ),
        *(
            IdleCell(
                name=f"{count:,} idle subscriptions",
                group=f"idle-{count}",
                subscribers=count,
                rounds=1,
                large=count > 1_000,
            )
            for count in (1_000, 5_000)
        ),
    ]
