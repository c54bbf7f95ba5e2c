"""a2a-sdk's stores on the log beside its own on SQL: ``python -m bench.cluster_stores [rounds]``.

Two replicas' stores over one nats-server (R1, file, each write synced) and over one SQLite file (its defaults, which
sync each commit too). Both do the same in turns, in one process and one run: a round is 500 saves of one task, each
with the version of the one before, its first read elsewhere, and updates that one replica saves while the other
subscribes. Ratios are what to trust.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from tempfile import TemporaryDirectory

from a2a.server.cluster import (
    DatabaseTaskEventStream,
    TaskEventStream,
    TaskVersion,
    VersionedDatabaseTaskStore,
    VersionedTaskStore,
)
from a2a.server.context import ServerCallContext
from a2a.server.tasks.task_manager import append_artifact_to_task
from a2a.types import Artifact, Message, Part, Role, Task, TaskArtifactUpdateEvent, TaskState, TaskStatus
from msgspec import Struct
from sqlalchemy.ext.asyncio import create_async_engine

from a2a_events.services import logs
from a2a_events.services.a2a_cluster import jetstream_cluster
from a2a_events.services.nats_server import NatsServer
from a2a_events.settings import Settings

_SAVES = 500
_HEARD = 10
_CONTEXT = ServerCallContext()
_CHUNK = "a chunk of twenty-five b. "


class Replica(Struct):
    store: VersionedTaskStore
    stream: TaskEventStream


class Writer:
    """Saves a growing task as TaskManager does."""

    def __init__(self, replica: Replica, task_id: str) -> None:
        self.task = Task(
            id=task_id,
            context_id="context",
            status=TaskStatus(state=TaskState.TASK_STATE_WORKING),
            history=[Message(message_id="m", role=Role.ROLE_USER, parts=[Part(text="hello")])],
        )
        self.version = TaskVersion.MISSING
        self._store = replica.store
        self._chunks = 0

    async def begin(self) -> None:
        await self._save(self.task)

    async def chunk(self) -> None:
        event = TaskArtifactUpdateEvent(
            task_id=self.task.id,
            context_id=self.task.context_id,
            artifact=Artifact(artifact_id="out", parts=[Part(text=_CHUNK)]),
            append=self._chunks > 0,
        )
        self._chunks += 1
        append_artifact_to_task(self.task, event)
        await self._save(event)

    async def _save(self, event: Task | TaskArtifactUpdateEvent) -> None:
        self.version = await self._store.save(
            self.task, event=event, prev=self.task, prev_version=self.version, context=_CONTEXT
        )


async def _saves(one: Replica, task_id: str) -> float:
    """Seconds for so many saves, one after the other."""
    writer = Writer(one, task_id)
    await writer.begin()
    begun = time.perf_counter()
    for _ in range(_SAVES):
        await writer.chunk()
    return time.perf_counter() - begun


async def _heard(one: Replica, other: Replica, task_id: str) -> list[float]:
    """Seconds from the beginning of a save at one replica until a subscriber of the other has its event."""
    writer = Writer(one, task_id)
    await writer.begin()
    delays: list[float] = []
    async with aclosing(other.stream.subscribe(task_id, after=writer.version)) as events:
        for _ in range(_HEARD):
            waiting = asyncio.ensure_future(anext(events))
            await asyncio.sleep(random.uniform(0.6, 1.1))  # longer than a poll, and no multiple of one
            begun = time.perf_counter()
            await writer.chunk()
            await waiting
            delays.append(time.perf_counter() - begun)
    return delays


async def _read(other: Replica, task_id: str) -> float:
    """Seconds of one read by a process that has not seen the task before."""
    begun = time.perf_counter()
    assert await other.store.get(task_id, _CONTEXT) is not None
    return time.perf_counter() - begun


async def _database(exits: AsyncExitStack, folder: Path) -> Replica:
    engine = create_async_engine(f"sqlite+aiosqlite:///{folder / 'tasks.db'}")
    exits.push_async_callback(engine.dispose)
    store, stream = VersionedDatabaseTaskStore(engine), DatabaseTaskEventStream(engine)
    await store.initialize()
    await stream.initialize()
    return Replica(store, stream)


async def _main(rounds: int) -> None:
    async with AsyncExitStack() as exits:
        folder = Path(exits.enter_context(TemporaryDirectory(prefix="a2a-events-cluster-")))
        server = NatsServer(folder / "nats", sync="always")
        await server.start()
        exits.push_async_callback(server.stop)
        settings = Settings(nats=server.url)

        async def log() -> Replica:
            cluster = await exits.enter_async_context(jetstream_cluster("bench", settings, provision=True))
            return Replica(cluster.task_store, cluster.event_stream)

        async def database() -> Replica:
            return await _database(exits, folder)

        kinds: dict[str, Callable[[], Awaitable[Replica]]] = {"log": log, "SQLite": database}
        pairs = {kind: (await make(), await make()) for kind, make in kinds.items()}
        saves: dict[str, list[float]] = {kind: [] for kind in pairs}
        heard: dict[str, list[float]] = {kind: [] for kind in pairs}
        read: dict[str, list[float]] = {kind: [] for kind in pairs}
        for number in range(rounds):
            for kind, (one, other) in random.sample(sorted(pairs.items()), len(pairs)):
                saves[kind].append(await _saves(one, f"saves-{number}"))
                read[kind].append(await _read(other, f"saves-{number}"))
                heard[kind] += await _heard(one, other, f"heard-{number}")
    rows = [
        (f"{_SAVES} saves of one task, one after the other", saves),
        ("a save here until a subscriber there has it", heard),
        (f"first read of a task of {_SAVES} updates", read),
    ]
    print(f"{rounds} rounds in turns; median (least to most), milliseconds\n")
    print("| | log | SQLite | SQLite / log |\n|---|---|---|---|")
    for what, got in rows:
        log_ms, database_ms = (f"{_shown(got[kind])}" for kind in ("log", "SQLite"))
        ratio = statistics.median(got["SQLite"]) / statistics.median(got["log"])
        print(f"| {what} | {log_ms} | {database_ms} | {ratio:.1f} |")


def _shown(seconds: list[float]) -> str:
    least, middle, most = (1000 * value for value in (min(seconds), statistics.median(seconds), max(seconds)))
    return f"{middle:.1f} ({least:.1f} to {most:.1f})"


if __name__ == "__main__":
    logs.configure("warning")
    asyncio.run(_main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
