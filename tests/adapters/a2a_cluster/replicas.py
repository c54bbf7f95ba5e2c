"""Stores of a2a-sdk under test, and the agents and handlers that use them.

``replicas`` are two processes' worth of stores over one place where tasks are kept: the log in memory, the log on
JetStream, or a database, where a2a-sdk's own stores show what these have to keep up with.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.cluster import (
    DatabaseTaskEventStream,
    TaskEventStream,
    TaskVersion,
    VersionedDatabaseTaskStore,
    VersionedTaskStore,
)
from a2a.server.context import ServerCallContext
from a2a.server.events import EventQueue
from a2a.server.events.event_queue import Event
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.tasks import PushNotificationConfigStore, TaskUpdater
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    Artifact,
    Message,
    Part,
    Role,
    SendMessageRequest,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatus,
    TaskStatusUpdateEvent,
)
from msgspec import Struct
from sqlalchemy.ext.asyncio import create_async_engine

from a2a_events.adapters.a2a_cluster import Cluster, StoredContextBuilder
from a2a_events.adapters.a2a_sdk.context import Caller
from a2a_events.log.memory import MemoryLog
from a2a_events.log.port import Log
from a2a_events.services.a2a_cluster import jetstream_cluster
from a2a_events.settings import Settings

AGENT = "sdk-agent"
MEMORY, JETSTREAM, DATABASE = "memory", "jetstream", "database"


def caller(name: str = "alice") -> ServerCallContext:
    return ServerCallContext(user=Caller(name))


ALICE, BOB = caller(), caller("bob")


class Replica(Struct):
    """The stores of one server."""

    store: VersionedTaskStore
    stream: TaskEventStream
    push: PushNotificationConfigStore | None = None
    builder: StoredContextBuilder | None = None
    cluster: Cluster | None = None

    def handler(self, executor: AgentExecutor, **given: Any) -> DefaultRequestHandler:
        """A server's request handler as its author writes it, on these stores."""
        return DefaultRequestHandler(
            agent_executor=executor,
            task_store=self.store,
            event_stream=self.stream,
            push_config_store=self.push,
            agent_card=AgentCard(
                name=AGENT,
                description="Is tested.",
                version="1.0.0",
                capabilities=AgentCapabilities(streaming=True, push_notifications=True),
            ),
            **given,
        )


def opened(log: Log) -> Callable[[], AbstractAsyncContextManager[Log]]:
    """A log that is there already, and stays."""

    @asynccontextmanager
    async def shared() -> AsyncGenerator[Log]:
        yield log

    return shared


def replica_of(cluster: Cluster) -> Replica:
    return Replica(
        cluster.task_store, cluster.event_stream, cluster.push_config_store, cluster.request_context_builder, cluster
    )


def settings_for(nats_url: str, namespace: str, **given: Any) -> Settings:
    return Settings(nats=nats_url, namespace=namespace, shards=2, **given)


@asynccontextmanager
async def replicas(kind: str, folder: Path, nats_url: str, namespace: str) -> AsyncIterator[tuple[Replica, Replica]]:
    async with AsyncExitStack() as exits:
        if kind == DATABASE:
            made: list[Replica] = []
            for _ in range(2):
                engine = create_async_engine(f"sqlite+aiosqlite:///{folder / 'tasks.db'}")
                exits.push_async_callback(engine.dispose)
                store, stream = VersionedDatabaseTaskStore(engine), DatabaseTaskEventStream(engine)
                await store.initialize()
                await stream.initialize()
                made.append(Replica(store, stream))
            yield made[0], made[1]
            return
        if kind == MEMORY:
            log = MemoryLog()
            exits.push_async_callback(log.close)
            clusters = [Cluster(opened(log), AGENT) for _ in range(2)]
        else:
            settings = settings_for(nats_url, namespace)
            clusters = [jetstream_cluster(AGENT, settings, provision=number == 0) for number in range(2)]
        for cluster in clusters:
            await exits.enter_async_context(cluster)
        yield replica_of(clusters[0]), replica_of(clusters[1])


# --- what is saved ---------------------------------------------------------------------------------------------------


def said(text: str, message_id: str = "m-1", **given: Any) -> Message:
    return Message(message_id=message_id, role=Role.ROLE_USER, parts=[Part(text=text)], **given)


def asking(text: str, message_id: str = "m-1", **given: Any) -> SendMessageRequest:
    return SendMessageRequest(message=said(text, message_id, **given))


def new_task(
    task_id: str = "task-1", state: TaskState = TaskState.TASK_STATE_SUBMITTED, context_id: str = "context-1"
) -> Task:
    return Task(id=task_id, context_id=context_id, status=TaskStatus(state=state), history=[said("hello")])


def status(task: Task, state: TaskState, text: str = "") -> TaskStatusUpdateEvent:
    made = TaskStatusUpdateEvent(task_id=task.id, context_id=task.context_id, status=TaskStatus(state=state))
    if text:
        made.status.message.CopyFrom(Message(message_id=f"a-{text}", role=Role.ROLE_AGENT, parts=[Part(text=text)]))
    made.status.timestamp.GetCurrentTime()
    return made


def chunk(task: Task, text: str, *, append: bool, artifact_id: str = "out") -> TaskArtifactUpdateEvent:
    return TaskArtifactUpdateEvent(
        task_id=task.id,
        context_id=task.context_id,
        artifact=Artifact(artifact_id=artifact_id, parts=[Part(text=text)]),
        append=append,
    )


class Saver:
    """Saves as a2a-sdk's TaskManager does: the task that was saved is changed in place, and is ``prev`` as well."""

    def __init__(self, store: VersionedTaskStore, task: Task, context: ServerCallContext = ALICE) -> None:
        self.task = task
        self.version = TaskVersion.MISSING
        self._store = store
        self._context = context

    async def save(self, event: Event | None = None) -> TaskVersion:
        if isinstance(event, TaskStatusUpdateEvent):
            if self.task.status.HasField("message"):
                self.task.history.append(self.task.status.message)
            if event.metadata:
                self.task.metadata.MergeFrom(event.metadata)
            self.task.status.CopyFrom(event.status)
        elif isinstance(event, TaskArtifactUpdateEvent):
            known = [a for a in self.task.artifacts if a.artifact_id == event.artifact.artifact_id]
            if event.append:
                known[0].parts.extend(event.artifact.parts)
            elif known:
                known[0].CopyFrom(event.artifact)
            else:
                self.task.artifacts.append(event.artifact)
        self.version = await self._store.save(
            self.task, event=event, prev=self.task, prev_version=self.version, context=self._context
        )
        return self.version


# --- agents ----------------------------------------------------------------------------------------------------------


class Agent(AgentExecutor):
    """Says a Task first, as a2a-sdk wants it, and then what its subclasses do."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.task_id is not None
        assert context.context_id is not None
        assert context.message is not None
        updater = TaskUpdater(event_queue, context.task_id, context.context_id)
        if context.current_task is None:
            task = new_task(context.task_id, context_id=context.context_id)
            task.history[0].CopyFrom(context.message)
            task.status.timestamp.GetCurrentTime()
            await event_queue.enqueue_event(task)
        await self.act(context, updater)

    async def act(self, context: RequestContext, updater: TaskUpdater) -> None:
        raise NotImplementedError

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        pass


class Completing(Agent):
    async def act(self, context: RequestContext, updater: TaskUpdater) -> None:
        await updater.start_work()
        await updater.add_artifact([Part(text="result")])
        await updater.complete()


class Held(Agent):
    """Works until it is let go on."""

    def __init__(self) -> None:
        self.working = asyncio.Event()
        self.go_on = asyncio.Event()

    async def act(self, context: RequestContext, updater: TaskUpdater) -> None:
        await updater.start_work()
        self.working.set()
        await self.go_on.wait()
        for number in range(3):
            await updater.add_artifact([Part(text=f"{number}")], artifact_id="out", append=number > 0)
        await updater.complete()


class Ticking(Agent):
    """Reports again and again, until it is stopped."""

    def __init__(self) -> None:
        self.working = asyncio.Event()
        self.stopped = asyncio.Event()

    async def act(self, context: RequestContext, updater: TaskUpdater) -> None:
        await updater.start_work()
        self.working.set()
        try:
            while True:
                await updater.start_work(updater.new_agent_message([Part(text="tick")]))
                await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            self.stopped.set()
            raise


class Curious(Agent):
    """Asks back until a client has said three things."""

    async def act(self, context: RequestContext, updater: TaskUpdater) -> None:
        history = context.current_task.history if context.current_task is not None else []
        if sum(message.role == Role.ROLE_USER for message in history) < 2:
            await updater.requires_input(updater.new_agent_message([Part(text="and?")]))
            return
        await updater.start_work()
        await updater.complete()
