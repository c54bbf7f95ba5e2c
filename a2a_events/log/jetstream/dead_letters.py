"""Dead letters: one message a task, replaced on the condition that it is still the one that was read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from a2a_events import limits
from a2a_events.errors import Conflict, Unavailable, Uncertain
from a2a_events.log.jetstream import reads
from a2a_events.log.jetstream.connection import Connection
from a2a_events.log.jetstream.names import Names
from a2a_events.log.port import Letter
from a2a_events.timeline.ids import TaskRef

_decoder = msgspec.json.Decoder(Letter)
_encode = msgspec.json.Encoder().encode


class DeadLetters:
    """The letters of one log. Until provisioning has made their stream every call raises Unavailable and says so.

    Args:
        connection: to the servers.
        names: of everything shared with them.
        log: whose.
        replace: puts the one message of a subject in the place of the one at a position.
    """

    def __init__(
        self, connection: Connection, names: Names, log: str, replace: Callable[[str, bytes, int], Awaitable[int]]
    ) -> None:
        self._connection = connection
        self._names = names
        self._log = log
        self._stream = names.dead_stream(log)
        self._replace = replace

    async def put(self, letter: Letter) -> None:
        """See ``port.Log``."""
        await self._change(
            letter.task, lambda kept: letter if kept is None or kept.revision < letter.revision else None
        )

    async def forget(self, letter: Letter) -> None:
        """See ``port.Log``."""
        forgotten = msgspec.structs.replace(letter, forgotten=True)

        def mark(kept: Letter | None) -> Letter | None:
            if kept is not None and (kept.revision > letter.revision or kept == forgotten):
                return None
            return forgotten

        await self._change(letter.task, mark)

    async def of(self, task: TaskRef) -> Letter | None:
        """See ``port.Log``."""
        kept, _ = await self._kept(task)
        return None if kept is None or kept.forgotten else kept

    async def all(self, agent: str) -> AsyncIterator[Letter]:
        """See ``port.Log``."""
        end, subjects = await self._end(), self._names.dead_letters(self._log, agent)
        async for messages in reads.batches(self._connection, self._stream, subjects, 1, end):
            for message in messages:
                letter = _decoder.decode(message.payload)
                if not letter.forgotten:
                    yield letter

    async def _change(self, task: TaskRef, change: Callable[[Letter | None], Letter | None]) -> None:
        """Replace what is kept of a task with what is made of it; nothing: it stays."""
        for _ in range(limits.DECIDE_ATTEMPTS):
            kept, position = await self._kept(task)
            made = change(kept)
            if made is None:
                return
            try:
                await self._replace(self._names.dead_letter(task), _encode(made), position)
                return
            except (Conflict, Uncertain):
                await asyncio.sleep(limits.VERIFY_AFTER_SECONDS[0])  # somebody else's, or ours: read which
        raise Unavailable(f"the dead letter of task {task.task_id} could not be changed")

    async def _kept(self, task: TaskRef) -> tuple[Letter | None, int]:
        """What is kept of a task, marks included, and where."""
        request = {"last_by_subj": self._names.dead_letter(task)}
        found = await reads.from_leader(self._connection, self._stream, request)
        if found is None:
            return None, 0
        return _decoder.decode(found.payload), found.position

    async def _end(self) -> int:
        """Position of the newest letter; the stream is there."""
        try:
            info = await self._connection.api(f"STREAM.INFO.{self._stream}")
        except Uncertain as error:
            raise Unavailable(str(error)) from None
        if "error" in info:
            why = info["error"].get("description", "no answer")
            raise Unavailable(f"cannot use stream {self._stream} ({why}): run `a2a-events provision` of this version")
        return int(info["state"]["last_seq"])
