"""The tasks of one a2a-sdk agent as timelines of the log: finding, reading and appending, for all of the stores."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from importlib.metadata import version
from typing import Final

from a2a.server.cluster import TaskVersion
from msgspec import structs

from a2a_events import limits
from a2a_events.adapters.a2a_cluster.fold import SdkFold
from a2a_events.errors import Conflict
from a2a_events.log.append import append
from a2a_events.log.port import Log
from a2a_events.runtime.commit import drafted
from a2a_events.timeline.idempotency import KeyScope, derived_task_id
from a2a_events.timeline.ids import TaskRef, is_name, token
from a2a_events.timeline.record import Entry, Record, Writer

_IDS: Final = "a2a-sdk"
"""Whose keys the ids of tasks are, so that no idempotency key of a client is taken for one."""


class Journal:
    """See the module. One for each server process.

    Args:
        open_log: gives the log; entered when it is first needed.
        agent: name of the agent; of no agent that workers of the log serve.
        instance: names this process in records; default: the host, and some random characters.
    """

    def __init__(
        self, open_log: Callable[[], AbstractAsyncContextManager[Log]], agent: str, *, instance: str = ""
    ) -> None:
        if not is_name(agent):
            message = f"{agent!r} cannot name an agent: it takes 1 to 64 of A-Z, a-z, 0-9, _ and -"
            raise ValueError(message)
        host = "".join(c if c.isalnum() else "-" for c in socket.gethostname())[:32]
        self.agent = agent
        self.writer = Writer("a2a-sdk", instance or f"{host}-{os.urandom(4).hex()}", f"a2a-sdk/{version('a2a-sdk')}")
        self._open_log = open_log
        self._opening = asyncio.Lock()
        self._exits = AsyncExitStack()
        self._log: Log | None = None
        self._folds: OrderedDict[TaskRef, SdkFold] = OrderedDict()

    async def log(self) -> Log:
        """The log; opened by whoever needs it first.

        Raises:
            LogError: it cannot be opened; the next one tries again.
        """
        if self._log is None:
            async with self._opening:
                if self._log is None:
                    self._log = await self._exits.enter_async_context(self._open_log())
        return self._log

    async def close(self) -> None:
        """Let go of the log. Closing twice is harmless."""
        self._log = None
        self._folds.clear()
        await self._exits.aclose()

    async def ref(self, task_id: str) -> TaskRef:
        """Where a task lives: its id, whatever it looks like, is hashed to an id of ours. No round trip."""
        log = await self.log()
        home = log.home("", task_id)
        scope = KeyScope("", _IDS, self.agent)
        derived, shard = derived_task_id(task_id, scope, home.log, home.keyed_shards)
        return TaskRef(home.log, shard, self.agent, token(""), derived)

    def known(self, ref: TaskRef) -> SdkFold:
        """The task as this process knows it, which may be old: empty if it does not. No round trip."""
        fold = self._folds.get(ref)
        if fold is None:
            fold = self._folds[ref] = SdkFold(ref)
        self._folds.move_to_end(ref)
        while len(self._folds) > limits.CLUSTER_TASKS:
            self._folds.popitem(last=False)
        return fold

    def forget(self, ref: TaskRef) -> None:
        """Keep nothing of the task in memory."""
        self._folds.pop(ref, None)

    async def current(self, ref: TaskRef) -> SdkFold:
        """The task as the leader has it now; one round trip if this process knew it, else what reading it costs.

        Raises:
            Unavailable: no answer; repeating is safe.
            Unreadable: a record is damaged.
        """
        log = await self.log()
        fold = self.known(ref)
        if fold.head.incarnation not in {"", log.incarnation(ref)}:
            self.forget(ref)  # the log was made anew: positions of the old one mean nothing in it
            fold = self.known(ref)
        async for records in log.read(ref, fold.head.position + 1):
            for record in records:
                fold.apply(record)
        return fold

    async def append(self, fold: SdkFold, entries: list[Entry]) -> int | None:
        """Append behind the fold, and advance it; one round trip.

        Returns:
            The record's position, which the fold may be past by now; None if another record stands there: nothing was
            written, read what landed.

        Raises:
            Unavailable: nothing was written.
            Uncertain: it may be stored.
            RecordTooLarge: nothing was written, and repeating cannot help.
        """
        log, expected = await self.log(), fold.head.position
        made = drafted(log, self.writer, fold.ref, fold.head, entries)
        # What has happened in this server: no worker is asked for anything.
        made = structs.replace(made, past=True)
        try:
            position = await append(log, fold.ref, made, expected)
        except Conflict:
            return None
        fold.apply(Record(position, made.header, made.payload, made.inbound))
        return position

    @staticmethod
    def now(fold: SdkFold) -> int:
        """The time of an event behind the fold, milliseconds."""
        return max(int(time.time() * 1000), fold.head.time)


def position_of(version: TaskVersion) -> int:
    """The position that a version of a2a-sdk is; 0 for none.

    Raises:
        TypeError: it is no number.
    """
    value: object = version._value  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] -- there is no other way
    if not isinstance(value, int):
        raise TypeError(f"versions of this store are positions, integer versions, and {version!r} is none")
    return value
