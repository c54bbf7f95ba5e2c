"""What the load client is asked to do and what it answers: JSON over its standard streams."""

from __future__ import annotations

import msgspec


class Dialect(msgspec.Struct, frozen=True):
    """The names a server goes by: fasta2a is asked by its own, which spares it a translation of every event."""

    stream: str = "SendStreamingMessage"
    send: str = "SendMessage"
    get: str = "GetTask"
    subscribe: str = "SubscribeToTask"
    role: str = "ROLE_USER"
    completed: str = "TASK_STATE_COMPLETED"


class Server(msgspec.Struct, frozen=True):
    """A running target as the load client sees it."""

    port: int
    pids: list[int]
    gateway: int
    dialect: Dialect


class Script(msgspec.Struct, frozen=True, rename="camel"):
    """The part of the scripted agent's language that benchmarks use."""

    chunks: int
    bytes: int = 64
    delay_ms: int = 0
    artifacts: int = 1
    stamp: bool = False


class Streams(msgspec.Struct, frozen=True, tag=True):
    """Closed loop: each client runs one task after the other until `seconds` are over, and ends what it has begun.

    With zero seconds each client runs exactly one task: a wave. Everything that was begun is counted, so that events
    and CPU belong together. `marks` divides the events into that many parts and gives the CPU per event of each.
    `stagger` spreads the clients' first requests over so many seconds.
    """

    clients: int
    script: Script
    seconds: float
    blocking: bool = False
    marks: int = 0
    stagger: float = 0.0


class Make(msgspec.Struct, frozen=True, tag=True):
    """Run one task to its end, to be read by `Gets`."""

    script: Script


class Gets(msgspec.Struct, frozen=True, tag=True):
    """GetTask over and over on one connection."""

    task: str
    seconds: float


class Fanout(msgspec.Struct, frozen=True, tag=True):
    """Many subscriptions of one task that says something every `delay_ms`; the first `events` that reach all count."""

    subscribers: int
    delay_ms: int
    events: int


class Idle(msgspec.Struct, frozen=True, tag=True):
    """One subscription on each of many tasks that have nothing to say."""

    subscribers: int


Job = Streams | Make | Gets | Fanout | Idle


class Order(msgspec.Struct, frozen=True):
    server: Server
    job: Job
    timeout: float


class Answer(msgspec.Struct):
    """What came out. Times in seconds; a list of latencies is reduced to [p50, p99]."""

    failure: str | None = None
    elapsed: float = 0.0
    events: int = 0
    tasks: int = 0
    cpu: float = 0.0
    client_cpu: float = 0.0
    first: list[float] = []
    terminal: list[float] = []
    chunk: list[float] = []
    parts: list[float] = []
    task: str = ""
    size: int = 0
    memory: float = 0.0
    open_seconds: float = 0.0
    to_all: list[float] = []
