"""Gateways and workers in the event loop of the test, over one log: what a deployment means, without its processes.

``Stack`` has two gateways (two sets of operations, over two connections where the log is JetStream) and starts workers
as a test asks for them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from a2a_events import limits
from a2a_events.log.jetstream import Connection, JetStreamLog, Names, StreamSettings, provision
from a2a_events.log.memory import MemoryLog
from a2a_events.log.port import Log
from a2a_events.model import Message, Part, StreamResponse, Task, TaskState
from a2a_events.runtime.agent import Agent, as_agent
from a2a_events.runtime.caller import Caller
from a2a_events.runtime.operations import Operations
from a2a_events.runtime.push_configs import Targets
from a2a_events.runtime.worker import Worker
from a2a_events.testing import Calls
from a2a_events.timeline.bounds import HistoryBounds, TaskBounds
from a2a_events.timeline.ids import ContextRef, TaskRef, context_of, reference
from a2a_events.timeline.record import Record, Writer

ACK_WAIT_SECONDS = 1.0
SHARDS = 2


class RunningWorker:
    """A worker under test."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.task = asyncio.get_running_loop().create_task(worker.run())

    async def ready(self) -> None:
        waiting = asyncio.get_running_loop().create_task(self.worker.ready.wait())
        await asyncio.wait([waiting, self.task], timeout=20, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self.task.done():
            self.task.result()

    async def stop(self) -> None:
        self.worker.stop()
        await asyncio.wait_for(asyncio.shield(self.task), 30)

    async def vanish(self) -> None:
        """As a crash: nothing more is said, neither to the log nor to the broker."""
        self.task.cancel()
        self.worker._stopping.set()  # so that nothing that waits with it is begun now
        gone = [self.task, *self.worker._running, *self.worker._background]
        agents = [r._agent_task for r in self.worker._running.values() if r is not None and r._agent_task is not None]
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        if agents:
            await asyncio.wait(agents, timeout=1)
        for dispatch in self.worker._dispatches:
            await dispatch.close()


class Stack:
    """One agent, two gateways, workers as asked for."""

    def __init__(
        self,
        logs: list[Log],
        agent: Agent,
        ack_wait_seconds: float,
        queue_limit: int,
        bounds: TaskBounds | None = None,
        history: HistoryBounds | None = None,
    ) -> None:
        self.agent = agent
        self._bounds = bounds
        self._ack_wait_seconds = ack_wait_seconds
        self._logs = logs
        self._operations = [
            Operations(
                log,
                Writer("gateway", f"gateway-{number}"),
                cancel_wait_seconds=3.0,
                queue_limit=queue_limit,
                targets=Targets(allow_private=True),
                bounds=bounds,
                history=history,
            )
            for number, log in enumerate(logs[:2])
        ]
        self.calls, self.other = (Calls(operations, agent) for operations in self._operations)
        self.log = logs[0]
        self._workers: list[RunningWorker] = []

    async def worker(self, *, drain_seconds: float = 0.5, turns: int = 100) -> RunningWorker:
        writer = Writer("worker", f"worker-{len(self._workers)}-{os.urandom(3).hex()}")
        log = self._logs[2 + len(self._workers) % max(1, len(self._logs) - 2)]
        made = RunningWorker(
            Worker(
                log,
                [self.agent],
                writer,
                turns=turns,
                ack_wait_seconds=self._ack_wait_seconds,
                drain_seconds=drain_seconds,
                bounds=self._bounds,
            )
        )
        self._workers.append(made)
        await made.ready()
        return made

    def calls_of(self, tenant: str, subject: str = Caller().subject) -> Calls:
        """The first gateway, as a tenant has it, or one of its users."""
        return Calls(self._operations[0], self.agent, caller=Caller(tenant=tenant, subject=subject))

    def ref(self, task_id: str, tenant: str = "") -> TaskRef:
        found = reference(task_id, agent=self.agent.name, tenant=tenant)
        assert found is not None
        return found

    def context(self, task_id: str, context_id: str) -> ContextRef:
        """The context of a task whose owner nobody has authenticated."""
        return context_of(self.ref(task_id), subject=Caller().subject, context_id=context_id)

    async def records(self, task_id: str) -> list[Record]:
        return [record async for run in self.log.read(self.ref(task_id)) for record in run]

    async def kinds(self, task_id: str) -> str:
        """The codes of all events of the task, in order."""
        return "".join(record.header.kinds for record in await self.records(task_id))

    async def close(self) -> None:
        await self.calls.close()
        await self.other.close()
        for worker in self._workers:
            if not worker.task.done():
                await worker.vanish()


@asynccontextmanager
async def stack_of(
    kind: str,
    agent: object,
    url: str,
    namespace: str,
    *,
    ack_wait_seconds: float = ACK_WAIT_SECONDS,
    queue_limit: int = limits.QUEUE_LIMIT,
    bounds: TaskBounds | None = None,
    history: HistoryBounds | None = None,
) -> AsyncIterator[Stack]:
    async with AsyncExitStack() as exits:
        logs: list[Log] = []
        if kind == "memory":
            memory = MemoryLog(ack_wait_seconds=ack_wait_seconds)
            exits.push_async_callback(memory.close)
            logs = [memory, memory, memory]
        else:
            names, settings = Names(namespace), StreamSettings("main", SHARDS, 1, ack_wait_seconds)
            for number in range(4):
                connection = Connection([url], name=f"stack-{number}")
                await connection.open()
                exits.push_async_callback(connection.close)
                if not number:
                    await provision(connection, names, settings)
                logs.append(await JetStreamLog.open(connection, names, settings))
        stack = Stack(logs, as_agent(agent), ack_wait_seconds, queue_limit, bounds, history)
        exits.push_async_callback(stack.close)
        yield stack


def text_of(message: Message | None) -> str:
    assert message is not None
    return " ".join(part.text for part in message.parts if isinstance(part.text, str))


def states(updates: list[StreamResponse]) -> list[TaskState]:
    """Every state that a stream showed, in order."""
    shown = []
    for update in updates:
        if update.task is not None:
            shown.append(update.task.status.state)
        if update.status_update is not None:
            shown.append(update.status_update.status.state)
    return shown


class Accumulated:
    """What a client knows after a stream (specification 4.2): the oracle for what GetTask must show."""

    def __init__(self) -> None:
        self.state: TaskState | None = None
        self.status_message: Message | None = None
        self.artifacts: dict[str, tuple[Part, ...]] = {}

    def take(self, update: StreamResponse) -> None:
        if update.task is not None:
            self.__init__()  # type: ignore[misc]
            self.state, self.status_message = update.task.status.state, update.task.status.message
            self.artifacts = {a.artifact_id: a.parts for a in update.task.artifacts}
        elif update.status_update is not None:
            self.state = update.status_update.status.state
            self.status_message = update.status_update.status.message
        elif update.artifact_update is not None:
            artifact = update.artifact_update.artifact
            before = self.artifacts.get(artifact.artifact_id, ()) if update.artifact_update.append else ()
            self.artifacts[artifact.artifact_id] = before + artifact.parts

    def assert_equals(self, task: Task) -> None:
        assert task.status.state is self.state
        assert task.status.message == self.status_message
        assert {a.artifact_id: a.parts for a in task.artifacts} == self.artifacts


def accumulate(updates: list[StreamResponse]) -> Accumulated:
    known = Accumulated()
    for update in updates:
        known.take(update)
    return known
