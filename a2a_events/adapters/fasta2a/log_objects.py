# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Storage, broker and event bus of fasta2a, on the log.

Each has two sides. To a worker they are the turn that it runs: one worker runs many at once, each in a context of its
own. To fasta2a's server they are what a gateway does, if they were given a :class:`~.served.Served`; it then runs no
worker itself, and any number of servers and workers may be there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio.abc
from fasta2a import schema
from fasta2a.broker import Broker, TaskOperation
from fasta2a.event_bus import EventBus
from fasta2a.storage import Storage

from a2a_events.adapters.fasta2a.turns import OperatedTurn, Operation, current

if TYPE_CHECKING:
    from a2a_events.adapters.fasta2a.served import Served


class LogStorage(Storage[Any]):
    """Tasks and contexts, in the log.

    Args:
        served: for fasta2a's server.
    """

    def __init__(self, served: Served | None = None) -> None:
        self._served = served

    async def load_task(self, task_id: str, history_length: int | None = None) -> schema.Task | None:
        """The task, for the worker that runs it or for the server; None if it is not there, or not theirs."""
        operation = current.get()
        if operation is not None:
            turn = operation.turn
            return turn.task(history_length) if turn.task_id == task_id else None
        return await _serving(self._served).load(task_id, history_length)

    async def submit_task(self, context_id: str, message: schema.Message) -> schema.Task:
        """For the server: a new task's id. The task is there when the broker was given it."""
        return _serving(self._served).prepare(context_id, message)

    async def update_task(
        self,
        task_id: str,
        state: schema.TaskState,
        new_artifacts: list[schema.Artifact] | None = None,
        new_messages: list[schema.Message] | None = None,
    ) -> schema.Task:
        """For the worker: what has become of its task. One that has ended stays as it is.

        Raises:
            LookupError: it is another's task.
        """
        return await _running(task_id).update(state, new_artifacts or [], new_messages or [])

    async def load_context(self, context_id: str) -> Any:
        """For the worker: what earlier tasks of the context have kept."""
        return await _running().load_context(context_id)

    async def update_context(self, context_id: str, context: Any) -> None:
        """For the worker: what later tasks of the context are to load."""
        await _running().update_context(context_id, context)


class LogEventBus(EventBus):
    """Updates, by way of the log: no reader ever keeps a worker waiting, and none misses anything.

    Args:
        served: for fasta2a's server.
    """

    def __init__(self, served: Served | None = None) -> None:
        self._served = served

    @asynccontextmanager
    async def subscribe(self, task_id: str) -> AsyncGenerator[anyio.abc.ObjectReceiveStream[schema.StreamResponse]]:
        """For the server: every update from here on, or from where this request has loaded the task."""
        stream = _serving(self._served).updates(task_id)
        try:
            yield stream
        finally:
            await stream.aclose()

    async def emit(self, task_id: str, event: schema.StreamResponse) -> None:
        """For the worker: tell its clients."""
        await _running(task_id).emit(event)

    async def close(self, task_id: str) -> None:
        """Streams end where the task ends or waits for its client, and not where somebody closes them."""


class LogBroker(Broker):
    """Work, by way of the log. See ``Broker`` of fasta2a."""

    def __init__(self, served: Served | None = None) -> None:
        super().__init__(event_bus=LogEventBus(served))
        self._served = served

    async def run_task(self, params: schema.TaskSendParams) -> None:
        """For the server: the task is in the log, and some worker will run it."""
        await _serving(self._served).send(params)

    async def cancel_task(self, params: schema.TaskIdParams) -> None:
        """For the server: the task ends, beside whatever else its worker does."""
        await _serving(self._served).cancel(params["id"])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    async def receive_task_operations(self) -> AsyncIterator[TaskOperation]:
        """For the worker: the one operation that it was started for."""
        async for operation in _operation().received():
            yield operation


def _operation() -> Operation:
    operation = current.get()
    if operation is None:
        raise LookupError("a worker of fasta2a runs here as an agent: a2a-events up --agent module:worker")
    return operation


def _running(task_id: str = "") -> OperatedTurn:
    turn = _operation().turn
    if task_id and turn.task_id != task_id:
        raise LookupError(f"this worker runs task {turn.task_id}, not {task_id}")
    return turn


def _serving(served: Served | None) -> Served:
    if served is None:
        raise LookupError("these were made for a worker: fasta2a's server needs served(log, …)")
    return served
