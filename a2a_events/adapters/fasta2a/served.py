# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""What storage, broker and event bus do for fasta2a's own server: the operations of a gateway, under fasta2a's names.

::

    served = Served(log, writer, agent="my-agent")
    app = FastA2A(storage=LogStorage(served), broker=LogBroker(served))

Its workers are elsewhere (``a2a-events up --agent module:worker``). Any number of such servers may be there.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from contextvars import ContextVar
from typing import Final

import anyio
import anyio.abc
import msgspec
from fasta2a import schema

from a2a_events.adapters.fasta2a.objects import message_from, task_for, update_for
from a2a_events.errors import TaskNotCancelableError, TaskNotFoundError
from a2a_events.log.port import Log
from a2a_events.model import (
    AgentCapabilities,
    AgentCard,
    CancelTaskRequest,
    GetTaskRequest,
    SendMessageConfiguration,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    Task,
)
from a2a_events.runtime.caller import Caller
from a2a_events.runtime.directory import ServedAgent
from a2a_events.runtime.operations import Operations, Updates
from a2a_events.timeline import cursor as cursors
from a2a_events.timeline.cursor import Cursor
from a2a_events.timeline.idempotency import KeyScope, derived_task_id
from a2a_events.timeline.ids import reference
from a2a_events.timeline.record import Writer

_CALLER: Final = Caller(dialect="fasta2a")
_PREPARED: Final = 1024
"""Tasks that were named and not sent; those of requests that were cut in between go."""
_ENDS: Final = schema.STREAM_ENDING_STATES

_loaded: ContextVar[tuple[str, int]] = ContextVar("a2a_events_fasta2a_loaded", default=("", 0))
"""The task that this request has loaded, and its revision: what it subscribes to begins behind that."""


class Served:
    """One agent, for a server of fasta2a.

    Args:
        log: the log.
        writer: names the server's process in records.
        agent: whose workers are to run what is sent.
    """

    def __init__(self, log: Log, writer: Writer, *, agent: str) -> None:
        card = AgentCard(
            name=agent,
            description=agent,
            version="",
            supported_interfaces=(),
            capabilities=AgentCapabilities(streaming=True),
            default_input_modes=(),
            default_output_modes=(),
            skills=(),
        )
        self._log = log
        self._operations = Operations(log, writer)
        self._agent = ServedAgent(agent, card, "task")
        self._prepared: dict[str, str] = {}
        """Keys of tasks that the server has named and not sent yet, by task id."""

    def prepare(self, context_id: str, message: schema.Message) -> schema.Task:
        """A task's id, before there is one: derived from a key, so that sending it under that key makes this task."""
        key = os.urandom(18).hex()
        scope = KeyScope(_CALLER.tenant, _CALLER.subject, self._agent.name)
        name = f"{_CALLER.tenant}\n{_CALLER.subject}\n{self._agent.name}\n{key}"
        home = self._log.home(_CALLER.tenant, name)
        task_id, _ = derived_task_id(key, scope, home.log, home.keyed_shards)
        self._prepared[task_id] = key
        if len(self._prepared) > _PREPARED:
            self._prepared.pop(next(iter(self._prepared)))
        message["task_id"], message["context_id"] = task_id, context_id
        _loaded.set((task_id, 1))
        return {"id": task_id, "context_id": context_id, "status": {"state": "submitted"}, "history": [message]}

    async def send(self, params: schema.TaskSendParams) -> None:
        """Put a task that was prepared into the log.

        Raises:
            A2AError: it was refused; nothing was written.
            LookupError: it was never prepared, or long ago.
        """
        task_id = params["id"]
        if task_id not in self._prepared:
            raise LookupError(f"task {task_id} was not submitted to this storage")
        caller = msgspec.structs.replace(_CALLER, idempotency_key=self._prepared.pop(task_id))
        message = msgspec.structs.replace(message_from(params["message"]), task_id="", context_id=params["context_id"])
        configuration = SendMessageConfiguration(
            accepted_output_modes=tuple(params.get("accepted_output_modes", ())),
            history_length=params.get("history_length"),
            return_immediately=True,
        )
        request = SendMessageRequest(message=message, configuration=configuration, metadata=params.get("metadata"))
        await self._operations.send(caller, self._agent, request)

    async def load(self, task_id: str, history_length: int | None) -> schema.Task | None:
        """The task as it is; None if it is not there."""
        request = GetTaskRequest(id=task_id, history_length=history_length)
        try:
            found = await self._operations.get(_CALLER, self._agent, request)
        except TaskNotFoundError:
            return None
        _loaded.set((task_id, found.revision))
        return task_for(msgspec.json.decode(found.json, type=Task))

    async def cancel(self, task_id: str) -> None:
        """Cancel a task, and wait a while for its end. One that is not there or has ended is left alone."""
        try:
            await self._operations.cancel(_CALLER, self._agent, CancelTaskRequest(id=task_id))
        except (TaskNotFoundError, TaskNotCancelableError):
            pass  # the server loads it next, and says what it finds

    def updates(self, task_id: str) -> LogUpdates:
        """What happens to a task behind where this request has loaded it, until it ends or waits for its client."""
        loaded, revision = _loaded.get()
        return LogUpdates(lambda: self._subscribed(task_id, revision if loaded == task_id else 0))

    async def _subscribed(self, task_id: str, revision: int) -> Updates:
        task = reference(task_id, agent=self._agent.name, tenant=_CALLER.tenant)
        if task is None:
            raise TaskNotFoundError
        cursor = cursors.text(task, Cursor(self._log.incarnation(task), 0, revision))
        return await self._operations.subscribe(_CALLER, self._agent, SubscribeToTaskRequest(id=task_id), cursor=cursor)


class LogUpdates(anyio.abc.ObjectReceiveStream[schema.StreamResponse]):
    """A task's updates, at the pace of who reads them. Nothing is asked for before the first one is.

    Args:
        subscribe: begins the stream.
    """

    def __init__(self, subscribe: Callable[[], Awaitable[Updates]]) -> None:
        self._updates = _until_it_rests(subscribe)

    async def receive(self) -> schema.StreamResponse:
        """The next one.

        Raises:
            EndOfStream: there are no more: the task has ended, or waits for its client.
            A2AError: the task is not there.
        """
        try:
            return await anext(self._updates)
        except StopAsyncIteration:
            raise anyio.EndOfStream from None

    async def aclose(self) -> None:
        """Give up the interest in the task; the task goes on."""
        await self._updates.aclose()


async def _until_it_rests(subscribe: Callable[[], Awaitable[Updates]]) -> AsyncGenerator[schema.StreamResponse]:
    async with aclosing(await subscribe()) as updates:
        async for run in updates:
            for update in run.updates:
                shown = update_for(msgspec.json.decode(update.line, type=StreamResponse))
                yield shown
                if "status_update" in shown and shown["status_update"]["status"]["state"] in _ENDS:
                    return
