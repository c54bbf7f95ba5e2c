"""ListTasks (specification 3.1.4): pages of a caller's tasks, newest status first."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Struct

from a2a_events import limits
from a2a_events.errors import InvalidParamsError
from a2a_events.log.port import End, Log
from a2a_events.model import ListTasksRequest, TaskState, encode, milliseconds_of
from a2a_events.runtime.caller import Caller, Result
from a2a_events.runtime.directory import ServedAgent
from a2a_events.runtime.framing import with_generation
from a2a_events.runtime.index import Filters, Place, Row, Scope, TaskIndex
from a2a_events.runtime.load import content, load
from a2a_events.timeline.bounds import HistoryBounds
from a2a_events.timeline.ids import token
from a2a_events.timeline.render import segment_keys
from a2a_events.timeline.render import task as render_task

_ANY_STATE: Final = frozenset({"", "TASK_STATE_UNSPECIFIED"})


class _PageToken(Struct, frozen=True, array_like=True):
    """Where the next page begins. ``check`` binds it to caller, agent, filters and the log."""

    check: str
    issued: int
    total: int
    positions: tuple[int, ...]
    updated: int
    task_id: str


class Listing:
    """The operation, on an index.

    Args:
        log: for what the index does not hold: history and artifacts.
        index: of the same log.
        generations: whether tasks show the generation that A2A 1.1 adds; each is then read from the log.
        history: how much of it an answer shows.
    """

    def __init__(
        self, log: Log, index: TaskIndex, *, generations: bool = False, history: HistoryBounds | None = None
    ) -> None:
        self._log = log
        self._index = index
        self._generations = generations
        self._history = history or HistoryBounds()

    async def page(self, caller: Caller, agent: ServedAgent, request: ListTasksRequest) -> Result:
        """One page. All pages of a listing show each task that was there when it began once, in the order of then.

        Costs one round trip a shard; with history or artifacts some more a task. Without ``historyLength`` a list has
        no history. A page ends early where its tasks would hold more than ``limits.PAGE_BYTES``.

        Returns:
            A ListTasksResponse.

        Raises:
            InvalidParamsError: a filter is malformed, or the page token was not issued for this listing or is old.
            UnavailableError: the index is being built; retry later.
        """
        filters = _filters(request)
        size = request.page_size or limits.PAGE_TASKS
        await self._index.caught_up()
        ends = self._index.ends
        scope = Scope(agent.name, token(caller.tenant), caller.subject)
        check = _check(scope, filters, ends)
        at = _read(request.page_token, check) if request.page_token else None
        if at is None:
            positions = {shard: end.position for shard, end in ends.items()}
            total, after = self._index.count(scope, filters), None
        else:
            positions = dict(zip(sorted(ends), at.positions, strict=True))
            total, after = at.total, Place(at.updated, at.task_id)
        rows = self._index.page(scope, filters, size + 1, as_of=positions, after=after)
        shown = await self._shown(rows[:size], request, self._history.shared(size))
        following = ""
        if len(rows) > len(shown):
            last = rows[len(shown) - 1].place
            following = _written(
                _PageToken(
                    check,
                    at.issued if at else int(time.time()),
                    total,
                    tuple(positions[shard] for shard in sorted(positions)),
                    last.updated,
                    last.task_id,
                )
            )
        return Result(
            b'{"tasks":[%b],"nextPageToken":%b,"pageSize":%d,"totalSize":%d}'
            % (b",".join(shown), encode(following), size, total),
            staleness_seconds=self._log.staleness(),
        )

    async def _shown(self, rows: list[Row], request: ListTasksRequest, bounds: HistoryBounds) -> list[bytes]:
        """The first of these tasks, as many as fit on a page."""
        shown: list[bytes] = []
        left = limits.PAGE_BYTES
        for at in range(0, len(rows), limits.PAGE_TASKS_AT_ONCE):
            some = rows[at : at + limits.PAGE_TASKS_AT_ONCE]
            for task in await asyncio.gather(*(self._task(row, request, bounds) for row in some)):
                left -= len(task)
                if shown and left < 0:
                    return shown
                shown.append(task)
        return shown

    async def _task(self, row: Row, request: ListTasksRequest, bounds: HistoryBounds) -> bytes:
        from_log = request.include_artifacts or request.history_length or self._generations
        if row.status and not from_log:
            task_id, context_id = encode(row.task.task_id), encode(row.context_id)
            return b'{"id":%b,"contextId":%b,"status":%b}' % (task_id, context_id, row.status)
        fold = await load(self._log, row.task)
        whole, segments = await content(self._log, row.task, fold, segment_keys(fold, bounds))
        shown = render_task(
            whole,
            row.task.task_id,
            segments,
            request.history_length or 0,
            artifacts=request.include_artifacts,
            bounds=bounds,
        )
        return with_generation(shown, fold.head.generation) if self._generations else shown


def _filters(request: ListTasksRequest) -> Filters:
    """The filters of a request.

    Raises:
        InvalidParamsError: names every field that is wrong.
    """
    violations: list[tuple[str, str]] = []
    state: TaskState | None = None
    if request.status not in _ANY_STATE:
        try:
            state = TaskState(request.status)
        except ValueError:
            violations.append(("status", "must be the name of a task state"))
    not_before = 0
    if request.status_timestamp_after:
        try:
            finer = request.status_timestamp_after.partition(".")[2][3:].strip("0Z")
            not_before = milliseconds_of(request.status_timestamp_after) + bool(finer)  # tasks have milliseconds
        except ValueError as error:
            violations.append(("statusTimestampAfter", str(error)))
    if violations:
        raise InvalidParamsError(violations=tuple(violations))
    return Filters(request.context_id, state, not_before)


def _check(scope: Scope, filters: Filters, ends: Mapping[str, End]) -> str:
    log = [(shard, ends[shard].incarnation) for shard in sorted(ends)]
    return hashlib.blake2s(encode((scope, filters, log)), digest_size=8).hexdigest()


def _written(page_token: _PageToken) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(page_token)).decode().rstrip("=")


def _read(text: str, check: str) -> _PageToken:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        at = msgspec.msgpack.decode(raw, type=_PageToken)
    except (ValueError, msgspec.DecodeError):
        at = None
    if at is None or at.check != check:
        raise _refused("was not issued for this list")
    if time.time() - at.issued > limits.PAGE_TOKEN_SECONDS:
        raise _refused("is too old: begin the list again")
    return at


def _refused(why: str) -> InvalidParamsError:
    return InvalidParamsError(f"The page token {why}", violations=(("pageToken", why),))
