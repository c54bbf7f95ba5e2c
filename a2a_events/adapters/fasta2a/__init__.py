# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""A worker of fasta2a as one of our agents, and our log behind fasta2a's own server.

::

    agent = agent_of(MyWorker, name="my-agent")  # or the instance that your code has: agent_of(worker)

The worker runs as it is, on storage, broker and event bus of this log (ADR 0030). Each turn runs in a task group of its
own, by ``Worker.run``, so a process runs many and any number of processes may be there.
"""

from __future__ import annotations

import asyncio
import copy
from functools import partial
from typing import Any, Final, Literal, TypeGuard, TypeVar, Unpack, get_args, get_origin

from fasta2a import FastA2A
from fasta2a.worker import Worker
from pydantic import ConfigDict, PydanticUserError, TypeAdapter

from a2a_events.adapters.declaration import Given, declare, name_of
from a2a_events.adapters.fasta2a.log_objects import LogBroker, LogEventBus, LogStorage
from a2a_events.adapters.fasta2a.served import Served
from a2a_events.adapters.fasta2a.turns import OperatedTurn, Operation, current
from a2a_events.model import AgentCard
from a2a_events.runtime.agent import Agent
from a2a_events.runtime.turn import Turn
from a2a_events.timeline.decide import FAIL

_BYTES_AS_BASE64: Final = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
"""As pydantic-ai writes messages."""

__all__ = ["LogBroker", "LogEventBus", "LogStorage", "Served", "agent_of", "recognises"]


def recognises(value: object) -> bool:
    """Whether this is a worker of fasta2a, a class of workers, or a server that has one."""
    return isinstance(value, Worker | FastA2A) or (isinstance(value, type) and issubclass(value, Worker))


def agent_of(
    value: object,
    /,
    *,
    name: str | None = None,
    card: AgentCard | None = None,
    **given: Unpack[Given],
) -> Agent:
    """The agent whose turns a worker of fasta2a runs.

    Args:
        value: the worker, which is copied and given our storage and broker; or what makes one of ``broker=`` and
            ``storage=``, its class for example; or the server of ``agent_to_a2a``, whose worker it then is.
        name: default: that of the server, of the worker's agent, or of its class.
        card: default: made of the name and what is given.
        given: terms, and what the card says, as ``a2a_events.agent`` takes them.

    Raises:
        TypeError: there is no worker in it, or the terms do not go together.
    """
    broker, storage = LogBroker(), LogStorage()
    if isinstance(value, FastA2A):
        name, value = name or _dashed(value.name), _worker_of(value, given)
    if _is_worker(value):
        worker = copy.copy(value)
        worker.broker, worker.storage = broker, storage
    else:
        worker = _made(value, broker, storage)
    runner = _Runner(worker, given.get("policy", FAIL))
    return declare(runner.run, given, name=name or _named(worker), card=card)


def _made(value: object, broker: LogBroker, storage: LogStorage) -> Worker[Any]:
    if not callable(value):
        raise TypeError(f"expected a worker of fasta2a or what makes one, not {value!r}")
    made: object = value(broker=broker, storage=storage)
    if not _is_worker(made):
        raise TypeError(f"{value!r} has made no worker of fasta2a, but {made!r}")
    return made


def _is_worker(value: object) -> TypeGuard[Worker[Any]]:
    return isinstance(value, Worker)


def _worker_of(server: FastA2A, given: Given) -> Worker[Any]:
    """The worker that a server's lifespan runs, as ``agent_to_a2a`` makes them."""
    lifespan = server.router.lifespan_context
    worker: object = lifespan.keywords.get("worker") if isinstance(lifespan, partial) else None
    if not _is_worker(worker):
        raise TypeError(f"the server {server.name!r} does not say which worker it runs: name the worker itself")
    given.setdefault("version", server.version)
    given.setdefault("description", server.description)
    return worker


def _named(worker: Worker[Any]) -> str:
    own: object = getattr(getattr(worker, "agent", None), "name", None)
    return (_dashed(own) if isinstance(own, str) else "") or name_of(worker, "worker")


def _dashed(name: str) -> str:
    return "-".join("".join(c if c.isascii() and (c.isalnum() or c in "_-") else " " for c in name).split())[:64]


class _Runner:
    """Runs one worker, for many turns at once."""

    def __init__(self, worker: Worker[Any], policy: str) -> None:
        self._worker = worker
        self._policy = policy
        self._context_type = _adapter(_context_type(type(worker)))

    async def run(self, turn: Turn) -> None:
        """One turn: the operation to run it, and beside that the one to cancel it once it is to stop."""
        operated = OperatedTurn(turn, self._policy, self._context_type)
        running = asyncio.create_task(self._operate(operated, "run"))
        canceled = asyncio.create_task(turn.wait_canceled())
        try:
            await asyncio.wait({running, canceled}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                await self._operate(operated, "cancel")
                # A worker that stops by itself waits for that in cancel_task; any other is stopped now.
                return
        finally:
            for task in (running, canceled):
                task.cancel()
            await asyncio.gather(running, canceled, return_exceptions=True)
        operated.end(running.exception())

    async def _operate(self, operated: OperatedTurn, kind: Literal["run", "cancel"]) -> None:
        operation = Operation(operated, kind)
        current.set(operation)
        async with self._worker.run():
            await operation.handled.wait()


def _context_type(worker: type) -> Any:
    """What a class of workers keeps of a context: ``ContextT`` of the ``Worker[ContextT]`` that it extends."""
    for each in worker.__mro__:
        for base in each.__dict__.get("__orig_bases__", ()):
            if get_origin(base) is Worker:
                (kept,) = get_args(base)
                return Any if isinstance(kept, TypeVar) else kept
    return Any


def _adapter(kept: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(kept, config=_BYTES_AS_BASE64)
    except PydanticUserError:
        return TypeAdapter(kept)  # a model says itself how its bytes are written
