"""A log that records what its process does with it: every try of an append, deliveries, acknowledgements.

It stands where the log stands, so the product needs no hooks: ``recorded(log, recorder)`` goes wherever a ``Log`` goes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

from a2a_events.errors import Conflict, LogError, RecordTooLarge, Unavailable
from a2a_events.log.port import Dispatch, Handle, Log
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Draft
from faults.history import Acknowledge, Append, Delivery, Recorder, Stored, digest


def recorded(log: Log, recorder: Recorder) -> Log:
    """The log, with its appends and deliveries written to this history."""
    return cast("Log", _RecordedLog(log, recorder))


class _RecordedLog:
    """See ``port.Log``; what is not here goes to the log behind it as it is."""

    def __init__(self, log: Log, recorder: Recorder) -> None:
        self._behind = log
        self._recorder = recorder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)

    async def try_append(self, task: TaskRef, draft: Draft, expected: int, *, trace: str = "") -> int:
        """See ``port.Log``: only these three errors promise that this try wrote nothing."""
        header = draft.header
        call = self._recorder.invoke(
            Append(
                task=task.task_id,
                record_id=header.record_id,
                expected=expected,
                revision=header.revision,
                kinds=header.kinds,
                payload=digest(draft.payload),
                epoch=header.epoch,
                attempt=header.attempt,
                role=header.writer.role,
            )
        )
        try:
            position = await self._behind.try_append(task, draft, expected, trace=trace)
        except (Conflict, Unavailable, RecordTooLarge) as error:
            call.fail(_said(error))
            raise
        except BaseException as error:
            call.info(_said(error))
            raise
        call.ok(Stored(position=position))
        return position

    async def follow(self, agent: str) -> Dispatch:
        """See ``port.Log``."""
        return cast("Dispatch", _RecordedDispatch(await self._behind.follow(agent), self._recorder))


class _RecordedDispatch:
    """See ``port.Dispatch``."""

    def __init__(self, dispatch: Dispatch, recorder: Recorder) -> None:
        self._behind = dispatch
        self._recorder = recorder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)

    async def __aiter__(self) -> AsyncIterator[Handle]:
        async for handle in self._behind:
            self._recorder.note(Delivery(task=handle.task.task_id, position=handle.record.position, count=handle.count))
            yield cast("Handle", _RecordedHandle(handle, self._recorder))


class _RecordedHandle:
    """See ``port.Handle``."""

    def __init__(self, handle: Handle, recorder: Recorder) -> None:
        self._behind = handle
        self._recorder = recorder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)

    async def acknowledge(self) -> None:
        """See ``port.Handle``."""
        behind = self._behind
        call = self._recorder.invoke(
            Acknowledge(task=behind.task.task_id, position=behind.record.position, count=behind.count)
        )
        try:
            await behind.acknowledge()
        except LogError as error:
            call.info(_said(error))
            raise
        call.ok()


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
