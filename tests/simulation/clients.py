"""Clients: conversations that send, ask, cancel and wait, and subscribers that disconnect and come back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final

import msgspec

from a2a_events.errors import A2AError, TaskNotFoundError, UnsupportedOperationError
from a2a_events.model import (
    CancelTaskRequest,
    GetTaskRequest,
    Message,
    Part,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    SubscribeToTaskRequest,
    Task,
)
from a2a_events.runtime.caller import Caller, Result
from a2a_events.runtime.operations import Run, Updates
from a2a_events.timeline.decide import FAIL
from a2a_events.timeline.events import Submitted
from tests.simulation.agents import plan
from tests.simulation.cluster import CRASH_POLICIES, REPLIES, Cluster, ConnectionLost, Gateway, Refused
from tests.simulation.history import Answer, Asked, Stream

PATIENCE_SECONDS: Final = 40.0
CALLER: Final = Caller()
_BARE_MESSAGE: Final = b'{"message":'


class _Answer(msgspec.Struct, rename="camel"):
    task: Task | None = None
    message: Message | None = None


class Clients:
    """All clients of a run."""

    def __init__(self, seed: str, cluster: Cluster) -> None:
        self.cluster = cluster
        self.history = cluster.history
        self.rng = random.Random(f"clients-{seed}")
        self.restless = True
        """Whether subscribers disconnect; not any more once the run heals."""
        self.following: list[asyncio.Task[Any]] = []
        self.conversing: list[asyncio.Task[Any]] = []
        self._messages = 0

    def start(self, conversations: int) -> None:
        """Begin."""
        loop = asyncio.get_running_loop()
        for number in range(1, conversations + 1):
            agent = self.rng.choice([*REPLIES, "steady"])
            self.conversing.append(loop.create_task(Conversation(self, f"client-{number}", agent).run()))

    async def gateway(self) -> Gateway:
        """Any gateway."""
        while not self.cluster.gateways:  # noqa: ASYNC110 -- a client tries again, nobody tells it
            await asyncio.sleep(0.5)
        return self.rng.choice(self.cluster.gateways)

    def message_id(self) -> str:
        self._messages += 1
        return f"m{self._messages}"

    async def ask(self, asked: Asked, gateway: Gateway, operation: Callable[[], Awaitable[Result]]) -> Result | None:
        """One request; what came of it is in ``asked``."""
        history = self.history
        history.asked.append(asked)
        asked.floor = history.told.get(asked.task_id, 0)
        what = f"{asked.name} {asked.message_id} {asked.task_id[-6:]}"
        history.note(asked.client, f"{what} at {gateway.process.name}")
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                result: Result = await gateway.call(operation)
        except Refused as refused:
            asked.answer = Answer.REFUSED if refused.definite else Answer.UNKNOWN
            asked.error = type(refused.error).__name__
        except (TimeoutError, ConnectionLost) as lost:
            asked.error = type(lost).__name__
        else:
            asked.answer, asked.task_id, asked.revision = Answer.DONE, result.task_id, result.revision
            asked.json = result.json
            history.tell(result.task_id, result.revision)
            history.note(asked.client, f"{what}: {asked.task_id[-6:]} at revision {asked.revision}")
            return result
        history.note(asked.client, f"{what}: {asked.answer.value}, {asked.error}")
        return None

    async def get(self, client: str, agent: str, task_id: str) -> Asked:
        """GetTask."""
        gateway = await self.gateway()
        asked = Asked("get", client, task_id)
        served, request = self.cluster.served(agent), GetTaskRequest(id=task_id)
        await self.ask(asked, gateway, lambda: gateway.operations.get(CALLER, served, request))
        return asked

    async def cancel(self, client: str, agent: str, task_id: str) -> Asked:
        """CancelTask."""
        gateway = await self.gateway()
        asked = Asked("cancel", client, task_id, self.message_id())
        request = CancelTaskRequest(id=task_id, metadata={"ask": asked.message_id})
        served = self.cluster.served(agent)
        await self.ask(asked, gateway, lambda: gateway.operations.cancel(CALLER, served, request))
        return asked


class Conversation:
    """One client with one task."""

    def __init__(self, clients: Clients, name: str, agent: str) -> None:
        self.name = name
        self._clients = clients
        self._cluster = clients.cluster
        self._history = clients.history
        self._agent = agent
        self._rng = random.Random(clients.rng.random())
        self._task_id = ""

    async def run(self) -> None:
        """Send, and then do this and that."""
        rng, clients = self._rng, self._clients
        await asyncio.sleep(rng.uniform(0, 15))
        await self._send()
        if not self._task_id:
            return
        for _ in range(rng.randrange(3)):
            self._subscribe()
        for _ in range(rng.randrange(5)):
            await asyncio.sleep(rng.expovariate(1.0))
            match rng.choice(("message", "message", "message", "two", "get", "get", "cancel", "cancel", "subscribe")):
                case "message":
                    await self._send()
                case "two":
                    await asyncio.gather(self._send(), self._send())
                case "get":
                    await clients.get(self.name, self._agent, self._task_id)
                case "cancel":
                    await clients.cancel(self.name, self._agent, self._task_id)
                case _:
                    self._subscribe()

    # --- messages ---

    async def _send(self) -> None:
        rng = self._rng
        message_id = self._clients.message_id()
        mode = rng.choice(("blocking", "stream", "stream", "immediately", "immediately"))
        words = plan(rng, sleeps_long=CRASH_POLICIES.get(self._agent, FAIL) != FAIL)
        request = SendMessageRequest(
            message=Message(message_id=message_id, role=Role.USER, parts=(Part(text=words),), task_id=self._task_id),
            configuration=SendMessageConfiguration(return_immediately=mode == "immediately"),
        )
        asked = Asked("send", self.name, self._task_id, message_id)
        gateway = await self._clients.gateway()
        served = self._cluster.served(self._agent)
        if mode == "stream":
            await self._send_stream(asked, gateway, request)
            return
        await self._clients.ask(asked, gateway, lambda: gateway.operations.send(CALLER, served, request))
        if asked.answer is Answer.DONE:
            self._task_id = asked.task_id
        elif asked.answer is Answer.UNKNOWN and not self._task_id:
            self._task_id = self._found(message_id)

    async def _send_stream(self, asked: Asked, gateway: Gateway, request: SendMessageRequest) -> None:
        history = self._history
        history.asked.append(asked)
        served = self._cluster.served(self._agent)

        async def opening() -> Updates:
            updates = await gateway.operations.send_stream(CALLER, served, request)
            asked.task_id = updates.task.task_id
            return updates

        chain: list[Stream] = []
        history.streams.append(chain)
        first = Stream(self.name, "send", self._task_id)
        chain.append(first)
        history.note(self.name, f"stream {asked.message_id} {self._task_id[-6:]} at {gateway.process.name}")
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def follow() -> None:
            try:
                await self._read(gateway, opening, first, opened)
            except Refused as refused:
                first.error = type(refused.error).__name__
                # An error after the first update is a stream that broke; what was sent is in the log.
                asked.error = first.error
                if not first.updates:
                    asked.answer = Answer.REFUSED if refused.definite else Answer.UNKNOWN
            except (TimeoutError, ConnectionLost) as lost:
                asked.error = first.error = type(lost).__name__
            if first.updates:
                asked.answer = Answer.DONE
            first.task_id = first.task_id or asked.task_id
            history.note(self.name, f"stream {asked.message_id}: {asked.answer.value} {asked.error}, {_told(first)}")
            if not opened.done():
                opened.set_result(None)
            if first.updates:
                await self._resume(first.task_id, chain)

        task = asyncio.get_running_loop().create_task(follow())
        self._clients.following.append(task)
        await opened
        if first.updates:
            asked.answer = Answer.DONE
            self._task_id = first.task_id = asked.task_id
        elif not self._task_id:
            self._task_id = self._found(asked.message_id)

    def _found(self, message_id: str) -> str:
        """What a client learns who asks an operator whether its message has arrived."""
        for task_id, records in self._history.timelines().items():
            for event in records[0].events():
                if isinstance(event, Submitted) and f'"{message_id}"'.encode() in bytes(event.message):
                    return task_id
        return ""

    # --- streams ---

    def _subscribe(self) -> None:
        chain: list[Stream] = []
        self._history.streams.append(chain)
        self._clients.following.append(asyncio.get_running_loop().create_task(self._resume(self._task_id, chain)))

    async def _resume(self, task_id: str, chain: list[Stream]) -> None:
        """Subscribe, again and again, until the task has ended."""
        served = self._cluster.served(self._agent)
        while True:
            seen = [update for stream in chain for update in stream.updates]
            if seen and seen[-1][1].startswith(_BARE_MESSAGE):
                return  # the whole answer; there is no task
            cursor = chain_cursor(chain)
            gateway = await self._clients.gateway()
            stream = Stream(self.name, "subscribe", task_id, seen[-1][0] if seen else None)
            chain.append(stream)
            request = SubscribeToTaskRequest(id=task_id)

            async def opening(
                gateway: Gateway = gateway, request: SubscribeToTaskRequest = request, cursor: str | None = cursor
            ) -> Updates:
                return await gateway.operations.subscribe(CALLER, served, request, cursor=cursor)

            try:
                await self._read(gateway, opening, stream, None)
            except Refused as refused:
                stream.error = type(refused.error).__name__
                if isinstance(refused.error, TaskNotFoundError | UnsupportedOperationError) and not seen:
                    return
                assert_temporary(refused.error, self._history, self.name)
            except (TimeoutError, ConnectionLost) as lost:
                stream.error = type(lost).__name__
            self._history.note(self.name, f"subscription to {task_id[-6:]} {stream.error}: {_told(stream)}")
            if stream.ended:
                return
            self._history.counts["disconnected"] += 1
            await asyncio.sleep(self._rng.uniform(0.05, 3))

    async def _read(
        self,
        gateway: Gateway,
        opening: Callable[[], Awaitable[Updates]],
        stream: Stream,
        opened: asyncio.Future[None] | None,
    ) -> None:
        """Read one connection until it ends, breaks, or this client has had enough."""
        rng = self._rng
        connection = gateway.stream(opening, rng.choice((1, 2, 100)))
        slow = rng.random() < 0.2
        enough = rng.expovariate(0.2) if self._clients.restless and rng.random() < 0.6 else None
        try:
            async with aclosing(connection.runs()) as runs, asyncio.timeout(enough):  # type: ignore[type-var]
                while True:
                    run = await self._next(runs)
                    stream.updates += [(u.revision, u.line) for u in run.updates]
                    if run.updates:
                        stream.cursor = run.updates[-1].cursor
                        stream.ended = run.last
                        self._history.tell(stream.task_id, run.updates[-1].revision)
                        if stream.cursor_revision is not None:
                            self._history.counts["resumed from a cursor"] += 1
                    if opened is not None and not opened.done() and stream.updates:
                        opened.set_result(None)
                    if run.last:
                        stream.ended = True
                        return
                    if slow:
                        await asyncio.sleep(rng.uniform(0, 2))
        finally:
            gateway.close(connection)

    async def _next(self, runs: AsyncIterator[Run]) -> Run:
        """What comes next; a stream that is silent for long is a broken promise, unless things go wrong."""
        healed = not self._clients.restless
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await anext(runs)
        except TimeoutError:
            if healed:
                self._history.problems.append(f"{self.name} heard nothing for {PATIENCE_SECONDS:g} s")
            raise


def chain_cursor(chain: list[Stream]) -> str | None:
    """The newest cursor that any of these connections brought."""
    return next((stream.cursor for stream in reversed(chain) if stream.cursor), None)


def assert_temporary(error: A2AError, history: Any, who: str) -> None:
    """A subscriber that has a cursor may be told to come back later, and nothing else."""
    if error.http_status != 503:
        history.problems.append(f"{who} could not resume: {type(error).__name__} {error.message}")


def _told(stream: Stream) -> str:
    revisions = [revision for revision, _ in stream.updates]
    return f"{revisions}{' and its end' if stream.ended else ''}"
