"""Agents without servers: the memory log, a worker and the operations, in the event loop of the test."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

import msgspec

from a2a_events import limits
from a2a_events.adapters.recognise import recognise
from a2a_events.log.memory import MemoryLog
from a2a_events.log.port import Log
from a2a_events.model import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    ListTasksResponse,
    Message,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    Task,
)
from a2a_events.runtime.agent import Agent, as_agent
from a2a_events.runtime.caller import Caller
from a2a_events.runtime.directory import ServedAgent
from a2a_events.runtime.operations import Operations, Updates
from a2a_events.runtime.turn import Content, parts_of
from a2a_events.runtime.worker import Worker
from a2a_events.timeline.record import Writer

_STOP_SECONDS = 30.0


class _SendMessageResponse(msgspec.Struct, frozen=True):
    task: Task | None = None
    message: Message | None = None


class Calls:
    """The operations of one agent, called without HTTP and answered with objects. Every wait is bounded.

    Args:
        operations: of a gateway.
        agent: whom to ask.
        caller: who asks.
        timeout_seconds: how long one answer, or the pause between two updates, may take.
    """

    def __init__(
        self, operations: Operations, agent: Agent, *, caller: Caller | None = None, timeout_seconds: float = 20.0
    ) -> None:
        self._operations = operations
        self._agent = ServedAgent(agent.name, agent.card, agent.replies)
        self._caller = caller or Caller()
        self._timeout_seconds = timeout_seconds

    async def send(
        self, content: Content, *, task_id: str = "", context_id: str = "", immediately: bool = False
    ) -> Task | Message:
        """SendMessage: the task when it has ended or waits for its client, or the agent's bare Message.

        Args:
            content: a text, a part, several, a dict for one data part, or a whole message.
            task_id: of the task that is answered.
            context_id: of the conversation.
            immediately: do not wait for the agent.

        Raises:
            A2AError: as the operation does.
            TimeoutError: no answer came.
        """
        request = self._request(content, task_id, context_id, immediately=immediately)
        async with asyncio.timeout(self._timeout_seconds):
            answer = await self._operations.send(self._caller, self._agent, request)
        got = msgspec.json.decode(answer.json, type=_SendMessageResponse)
        result = got.task or got.message
        assert result is not None, "an answer holds a task or a message"
        return result

    async def send_task(
        self, content: Content, *, task_id: str = "", context_id: str = "", immediately: bool = False
    ) -> Task:
        """:meth:`send` for an agent that answers with tasks."""
        result = await self.send(content, task_id=task_id, context_id=context_id, immediately=immediately)
        assert isinstance(result, Task), "the agent answered with a bare Message"
        return result

    async def stream(
        self, content: Content, *, task_id: str = "", context_id: str = ""
    ) -> AsyncGenerator[StreamResponse]:
        """SendStreamingMessage: what a client sees, until the stream ends.

        Raises:
            A2AError: as the operation does.
            TimeoutError: the next update did not come.
        """
        request = self._request(content, task_id, context_id)
        updates = await self._operations.send_stream(self._caller, self._agent, request)
        async with aclosing(self._shown(updates)) as shown:
            async for update in shown:
                yield update

    async def collect(self, content: Content, *, task_id: str = "", context_id: str = "") -> list[StreamResponse]:
        """:meth:`stream`, to its end."""
        return [update async for update in self.stream(content, task_id=task_id, context_id=context_id)]

    async def subscribe(self, task_id: str, *, cursor: str | None = None) -> AsyncGenerator[StreamResponse]:
        """SubscribeToTask: the task, then its updates until it ends; with a cursor, what came after it.

        Raises:
            A2AError: as the operation does.
            TimeoutError: the next update did not come.
        """
        request = SubscribeToTaskRequest(id=task_id)
        updates = await self._operations.subscribe(self._caller, self._agent, request, cursor=cursor)
        async with aclosing(self._shown(updates)) as shown:
            async for update in shown:
                yield update

    async def get(self, task_id: str) -> Task:
        """GetTask.

        Raises:
            TaskNotFoundError: there is no such task.
        """
        async with asyncio.timeout(self._timeout_seconds):
            answer = await self._operations.get(self._caller, self._agent, GetTaskRequest(id=task_id))
        return msgspec.json.decode(answer.json, type=Task)

    async def page(self, request: ListTasksRequest | None = None) -> ListTasksResponse:
        """ListTasks: one page.

        Raises:
            A2AError: as the operation does.
        """
        async with asyncio.timeout(self._timeout_seconds):
            answer = await self._operations.list_tasks(self._caller, self._agent, request or ListTasksRequest())
        return msgspec.json.decode(answer.json, type=ListTasksResponse)

    async def close(self) -> None:
        """Let go of what the operations keep."""
        await self._operations.close()

    async def cancel(self, task_id: str) -> Task:
        """CancelTask.

        Raises:
            A2AError: as the operation does.
        """
        async with asyncio.timeout(self._timeout_seconds):
            answer = await self._operations.cancel(self._caller, self._agent, CancelTaskRequest(id=task_id))
        return msgspec.json.decode(answer.json, type=Task)

    async def _shown(self, updates: Updates) -> AsyncGenerator[StreamResponse]:
        loop = asyncio.get_running_loop()
        try:
            runs = aiter(updates)
            deadline = loop.time() + self._timeout_seconds
            while True:
                async with asyncio.timeout_at(deadline):
                    run = await anext(runs)
                if run.updates:
                    deadline = loop.time() + self._timeout_seconds
                for update in run.updates:
                    yield msgspec.json.decode(update.line, type=StreamResponse)
                if run.last:
                    return
        finally:
            await updates.aclose()

    @staticmethod
    def _request(content: Content, task_id: str, context_id: str, *, immediately: bool = False) -> SendMessageRequest:
        if isinstance(content, Message):
            message = content
        else:
            message = Message(
                message_id=os.urandom(8).hex(),
                role=Role.USER,
                parts=parts_of(content),
                task_id=task_id,
                context_id=context_id,
            )
        configuration = SendMessageConfiguration(return_immediately=True) if immediately else None
        return SendMessageRequest(message=message, configuration=configuration)


@asynccontextmanager
async def in_memory(agent: object, *, log: Log | None = None, timeout_seconds: float = 20.0) -> AsyncGenerator[Calls]:
    """An agent served by a worker over a memory log, for as long as the block runs.

    Args:
        agent: whatever ``--agent`` could name: an Agent, a function, a class or an instance, ours or a framework's.
        log: default: a new ``MemoryLog``.
        timeout_seconds: see :class:`Calls`.

    Raises:
        TypeError: this is no agent.
    """
    served = recognise(agent) or as_agent(agent)
    home = log or MemoryLog()
    calls = Calls(Operations(home, Writer("gateway", "gateway-test")), served, timeout_seconds=timeout_seconds)
    worker = Worker(home, [served], Writer("worker", "worker-test"), drain_seconds=0.0)
    running = asyncio.get_running_loop().create_task(worker.run())
    try:
        ready = asyncio.get_running_loop().create_task(worker.ready.wait())
        await asyncio.wait([running, ready], timeout=limits.REQUEST_TIMEOUT_SECONDS, return_when="FIRST_COMPLETED")
        ready.cancel()
        if running.done():
            running.result()
        yield calls
    finally:
        await calls.close()
        worker.stop()
        try:
            await asyncio.wait_for(running, _STOP_SECONDS)
        finally:
            if log is None:
                await home.close()


async def run_agent(agent: object, message: Content, *, timeout_seconds: float = 20.0) -> list[StreamResponse]:
    """Give an agent one message and return everything that a streaming client would see, to the end of the stream.

    The agent runs under a real worker, so that ordering, failures and endings are those of a deployment.

    Args:
        agent: whatever ``--agent`` could name.
        message: a text, a part, several, a dict for one data part, or a whole message.
        timeout_seconds: how long the agent may say nothing.

    Raises:
        A2AError: the message was refused.
        TimeoutError: the agent said nothing for too long.
        TypeError: this is no agent.
    """
    async with in_memory(agent, timeout_seconds=timeout_seconds) as calls:
        return await calls.collect(message)
