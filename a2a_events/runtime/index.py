"""The index behind ListTasks: which tasks there are, in whose scope, and their newest status (design 12).

A projection of the log in SQLite, never a source of truth: it can be thrown away and is built anew. It is fed when it
is asked, up to where the log ended at that moment, so an answer never lacks a task that was there before the question,
whoever made it and at whichever gateway. Once asked it keeps up for a while, so that the next question finds little to
read; never asked, it costs nothing.

A listing of several pages shows the tasks as they were ordered when it began: a status that has changed since keeps its
old place in ``moved``, for as long as a page token is valid.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from contextvars import copy_context
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
from msgspec import Struct

from a2a_events import limits
from a2a_events.errors import LogError, UnavailableError
from a2a_events.log.port import End, Log, Stored
from a2a_events.model import TERMINAL_STATES, TaskState, encode, milliseconds_of, timestamp_of
from a2a_events.timeline.events import Forked, Kind, StatusChanged, StatusLine, Submitted, decode_line
from a2a_events.timeline.ids import TaskRef

_SCHEMA_VERSION: Final = 4
_SCHEMA: Final = """
-- a shard is named <log>.<shard> here: one index shows the logs of all regions
create table shards (
    shard text primary key,
    incarnation text not null,
    position integer not null,
    epoch integer not null    -- of the log when it was read last
);
create table scopes (scope integer primary key, agent text, tenant text, subject text, unique (agent, tenant, subject));
create table tasks (
    task_id text primary key,
    shard text not null,
    scope integer,            -- null until clients may see a task
    owner integer not null,   -- the scope that it will be in
    context_id text not null,
    state text not null,
    updated integer not null, -- milliseconds: the status timestamp
    since integer not null,   -- position of the record that set the status
    ended integer not null,
    status blob,              -- null where it is too large to keep: the log has it
    -- for operators (survey):
    created integer not null, -- milliseconds: when it was submitted
    given_up integer not null,
    revision integer not null, -- of its newest event
    position integer not null, -- of its newest record
    active integer not null,  -- milliseconds: when that was stored, by the log's own clock
    change integer not null   -- counts up in this index: a task that changes gets the next number
) without rowid;
create index by_time on tasks (scope, updated, task_id);
create index by_context on tasks (scope, context_id, updated, task_id);
create index by_state on tasks (scope, state, updated, task_id);
create index by_activity on tasks (active, task_id);
create index by_change on tasks (change);
create table moved (
    shard text not null,
    until integer not null,   -- position of the record that changed the status; the place holds before it
    task_id text not null,
    since integer not null,
    updated integer not null,
    changed integer not null, -- milliseconds: when it moved
    primary key (shard, until, task_id)
) without rowid;
"""
_TELLING: Final = frozenset(
    {Kind.SUBMITTED.value, Kind.STATUS.value, Kind.ARTIFACT.value, Kind.REPLY.value, Kind.TOMBSTONE.value}
)
_PUBLIC: Final = frozenset({Kind.STATUS.value, Kind.ARTIFACT.value})
_GONE: Final = frozenset({Kind.REPLY.value, Kind.TOMBSTONE.value})

logger = structlog.get_logger(__name__)


class Scope(Struct, frozen=True):
    """Whose tasks: ``tenant`` is the token that stands in subjects."""

    agent: str
    tenant: str
    subject: str


class Filters(Struct, frozen=True):
    """Which of them. All that are given must match."""

    context_id: str = ""
    state: TaskState | None = None
    not_before: int = 0
    """Milliseconds; inclusive."""


class Place(Struct, frozen=True):
    """A task's place in a listing: newest status first, then by id, both descending."""

    updated: int
    task_id: str


class Row(Struct, frozen=True):
    """A task in a listing. ``status`` is the TaskStatus as JSON, empty if it is too large to be kept here."""

    place: Place
    task: TaskRef
    context_id: str
    status: bytes


class _Begun(Struct):
    """What a fork begins with, as far as lists show it."""

    status: StatusLine


class TaskIndex:
    """The index of one process.

    Args:
        log: what it is a projection of.
        path: where to keep it across restarts; empty: in memory. One process a file.
    """

    def __init__(self, log: Log, path: str = "") -> None:
        self._log = log
        self._database = _open(path)
        self._ends = {shard: End(i, p, epoch=e) for shard, i, p, e in self._database.execute("select * from shards")}
        self._scopes: dict[Scope, int] = {
            Scope(*rest): s for s, *rest in self._database.execute("select * from scopes")
        }
        self._changes = int(self._database.execute("select coalesce(max(change), 0) from tasks").fetchone()[0])
        self._feeding: asyncio.Task[None] | None = None
        self._keeping_up: asyncio.Task[None] | None = None
        self._context = copy_context()
        """Of no request: what works for all of them must not log as the one that began it."""
        self._asked = 0.0

    @property
    def ends(self) -> Mapping[str, End]:
        """How far each shard, named ``<log>.<shard>``, has been read."""
        return self._ends

    async def caught_up(self, patience_seconds: float = limits.INDEX_PATIENCE_SECONDS) -> None:
        """Read the log up to where it ends now; one round trip a shard when nothing is new.

        Raises:
            UnavailableError: there is more to read than the patience allows; reading goes on, so retry later.
            Unavailable: no answer; repeating is safe.
        """
        deadline = time.monotonic() + patience_seconds
        wanted = await self._wanted()
        while any(self._behind(shard, end) for shard, end in wanted.items()):
            feeding = self._fed(wanted)
            done, _ = await asyncio.wait([feeding], timeout=max(0.0, deadline - time.monotonic()))
            if not done:
                read, whole = (sum(end.position for end in ends.values()) for ends in (self._ends, wanted))
                raise UnavailableError(
                    f"The list of tasks is being built ({100 * read // max(1, whole)} % of the log read); please retry",
                    retry_after_seconds=limits.INDEX_RETRY_SECONDS,
                )
            feeding.result()
        self.keep_up()

    def keep_up(self) -> None:
        """Read what is new once in ``limits.INDEX_KEEP_UP_SECONDS``, for ``limits.INDEX_WARM_SECONDS`` from now.

        One round trip a shard each time, however many ask for it.
        """
        self._asked = time.monotonic()
        if self._keeping_up is None or self._keeping_up.done():
            self._keeping_up = asyncio.get_running_loop().create_task(self._keep_up(), context=self._context)

    async def close(self) -> None:
        """Stop reading and close the file."""
        tasks = [task for task in (self._feeding, self._keeping_up) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._database.close()

    # --- asking -------------------------------------------------------------------------------------------------------

    def count(self, scope: Scope, filters: Filters) -> int:
        """How many tasks match now."""
        where, values = _where(self._scopes.get(scope, 0), filters)
        query = f"select count(*) from tasks where {where}"  # noqa: S608 -- no text of a client is in it
        (found,) = self._database.execute(query, values).fetchone()
        return int(found)

    def page(
        self, scope: Scope, filters: Filters, size: int, *, as_of: Mapping[str, int], after: Place | None = None
    ) -> list[Row]:
        """The next tasks of a listing.

        Args:
            scope: whose.
            filters: which.
            size: at most so many.
            as_of: position of each shard when the listing began: the order of that moment is kept.
            after: place of the last task shown.
        """
        where, values = _where(self._scopes.get(scope, 0), filters)
        below, bounds = "", []
        if after is not None:
            below, bounds = " and (updated, task_id) < (?, ?)", [after.updated, after.task_id]
        seen = "case shard " + "when ? then ? " * len(as_of) + "else -1 end"
        known = [value for place in as_of.items() for value in place]
        rows: list[tuple[Any, ...]] = self._database.execute(
            f"select updated, task_id, shard, context_id, status from tasks where {where}{below} and since <= {seen}"  # noqa: S608 -- as above
            " order by updated desc, task_id desc limit ?",
            [*values, *bounds, *known, size],
        ).fetchall()
        for shard, position in as_of.items():
            rows += self._database.execute(
                "select * from (select moved.updated as updated, task_id, tasks.shard, context_id, status"  # noqa: S608 -- as above
                f" from moved join (select * from tasks where {where}) as tasks using (task_id)"
                " where moved.shard = ? and moved.until > ? and moved.since <= ?)"
                f" where 1{below} order by updated desc, task_id desc limit ?",
                [*values, shard, position, position, *bounds, size],
            ).fetchall()
        rows.sort(key=lambda row: (row[0], row[1]), reverse=True)
        return [
            Row(
                Place(updated, task_id),
                TaskRef(*log_and_shard(shard), scope.agent, scope.tenant, task_id),
                context,
                s or b"",
            )
            for updated, task_id, shard, context, s in rows[:size]
        ]

    @property
    def changes(self) -> int:
        """How many changes have been read; ``tasks.change`` of a task that changes later is above it."""
        return self._changes

    def select(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Rows of a query, for other views of the same tables."""
        return self._database.execute(query, values).fetchall()

    # --- feeding ------------------------------------------------------------------------------------------------------

    async def _wanted(self) -> dict[str, End]:
        """Where every shard of every log ends now."""
        logs = self._log.logs
        ends = await asyncio.gather(*(self._log.ends(log) for log in logs))
        return {_key(log, shard): end for log, of in zip(logs, ends, strict=True) for shard, end in of.items()}

    def _behind(self, shard: str, end: End) -> bool:
        known = self._ends.get(shard)
        return known is None or not _continues(end, known) or known.epoch < end.epoch or known.position < end.position

    def _fed(self, wanted: Mapping[str, End]) -> asyncio.Task[None]:
        """The reading that goes on, whoever began it, or a new one: there is never more than one."""
        if self._feeding is None or self._feeding.done():
            self._feeding = asyncio.get_running_loop().create_task(self._feed(wanted), context=self._context)
        return self._feeding

    async def _keep_up(self) -> None:
        """While it is asked now and then, the next question finds little to read."""
        while time.monotonic() - self._asked < limits.INDEX_WARM_SECONDS:
            await asyncio.sleep(limits.INDEX_KEEP_UP_SECONDS)
            try:
                feeding = self._fed(await self._wanted())
                await asyncio.wait([feeding])
                feeding.result()
            except LogError as error:
                logger.info("task index not fed", error=str(error))

    async def _feed(self, wanted: Mapping[str, End]) -> None:
        """Read every shard up to its end, all at once: while one answers, what another gave is taken in."""
        shards = [self._feed_shard(shard, end) for shard, end in wanted.items() if self._behind(shard, end)]
        failures = [result for result in await asyncio.gather(*shards, return_exceptions=True) if result is not None]
        self._database.execute("delete from moved where changed < ?", [_now() - limits.PAGE_TOKEN_SECONDS * 1000])
        self._database.commit()
        if failures:
            raise failures[0]

    async def _feed_shard(self, shard: str, end: End) -> None:
        known = self._ends.get(shard)
        if known is None or not _continues(end, known):
            self._forget(shard, end)
        elif known.epoch < end.epoch:
            self._reached(shard, known.position, end.epoch)
        log, number = log_and_shard(shard)
        async for batch in self._log.scan(number, self._ends[shard].position + 1, end.position, log):
            self._apply(shard, batch)
        if self._ends[shard].position < end.position:  # the newest records are deleted
            self._reached(shard, end.position)

    def _forget(self, shard: str, end: End) -> None:
        """A shard that is new, or made anew, or whose end is not in the log any more."""
        for table in ("tasks", "moved", "shards"):
            self._database.execute(f"delete from {table} where shard = ?", [shard])  # noqa: S608 -- as above
        self._database.execute("insert into shards values (?, ?, 0, ?)", [shard, end.incarnation, end.epoch])
        self._database.commit()
        self._ends[shard] = End(end.incarnation, 0, epoch=end.epoch)

    def _apply(self, shard: str, batch: Iterable[Stored]) -> None:
        position = self._ends[shard].position
        newest: dict[str, Stored] = {}
        for stored in batch:
            position = stored.record.position
            newest[stored.task.task_id] = stored
            if not _TELLING.isdisjoint(stored.record.header.kinds):
                try:
                    self._note(stored)
                except ValueError as error:  # one damaged record must not hide every other task
                    logger.error("record not indexed", task_id=stored.task.task_id, position=position, error=str(error))
        self._touched(newest)
        self._reached(shard, position)

    def _touched(self, newest: Mapping[str, Stored]) -> None:
        """What every record moves; once a batch for each task, because most records are chunks of few tasks."""
        rows = [
            (stored.record.header.last_revision, stored.record.position, stored.time, change, task_id)
            for change, (task_id, stored) in enumerate(newest.items(), self._changes + 1)
        ]
        self._changes += len(rows)
        self._database.executemany(
            "update tasks set revision = ?, position = ?, active = ?, change = ? where task_id = ?", rows
        )

    def _reached(self, shard: str, position: int, epoch: int = 0) -> None:
        known = self._ends[shard]
        self._ends[shard] = reached = End(known.incarnation, position, epoch=epoch or known.epoch)
        values = [position, reached.epoch, shard]
        self._database.execute("update shards set position = ?, epoch = ? where shard = ?", values)
        self._database.commit()

    def _note(self, stored: Stored) -> None:
        task, header, position = stored.task, stored.record.header, stored.record.position
        status: StatusLine | None = None
        public = not _PUBLIC.isdisjoint(header.kinds)
        for code, line, at in zip(header.kinds, stored.record.lines(), header.times, strict=True):
            if code == Kind.SUBMITTED.value:
                event = decode_line(code, line)
                assert isinstance(event, Submitted)
                self._submitted(task, event, position, at)
            elif code == Kind.FORKED.value:
                event = decode_line(code, line)
                assert isinstance(event, Forked)
                status, public = msgspec.json.decode(event.state, type=_Begun).status, event.public
            elif code == Kind.STATUS.value and (status is None or status.state not in TERMINAL_STATES):
                event = decode_line(code, line)
                assert isinstance(event, StatusChanged)
                status = event.status
        if not _GONE.isdisjoint(header.kinds):
            self._database.execute("delete from tasks where task_id = ?", [task.task_id])
            self._database.execute("delete from moved where task_id = ?", [task.task_id])
            return
        if status is not None:
            self._changed(task, status, position, header.times[-1])
        if Kind.TASK_DEAD_LETTERED.value in header.kinds:
            self._database.execute("update tasks set given_up = 1 where task_id = ?", [task.task_id])
        if public:
            self._database.execute("update tasks set scope = owner where task_id = ? and scope is null", [task.task_id])

    def _submitted(self, task: TaskRef, event: Submitted, position: int, at: int) -> None:
        owner = self._scope(Scope(task.agent, task.tenant, event.owner.subject))
        scope = owner if event.replies == "task" else None
        status = StatusLine(state=TaskState.SUBMITTED, timestamp=timestamp_of(at))
        self._database.execute(
            "insert or replace into tasks values (?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, 0, 0, 0, 0, 0)",
            [
                task.task_id,
                _key(task.log, task.shard),
                scope,
                owner,
                event.context_id,
                status.state.value,
                at,
                position,
                encode(status),
                at,
            ],
        )

    def _changed(self, task: TaskRef, status: StatusLine, position: int, now: int) -> None:
        kept = encode(status)
        if now > _now() - limits.PAGE_TOKEN_SECONDS * 1000:
            self._database.execute(
                "insert or replace into moved select shard, ?, task_id, since, updated, ? from tasks"
                " where task_id = ? and not ended and scope is not null and since < ?",
                [position, now, task.task_id, position],
            )
        self._database.execute(
            "update tasks set state = ?, updated = ?, since = ?, ended = ?, status = ? where task_id = ? and not ended",
            [
                status.state.value,
                milliseconds_of(status.timestamp) if status.timestamp else now,
                position,
                status.state in TERMINAL_STATES,
                kept if len(kept) <= limits.INDEX_STATUS_BYTES else None,
                task.task_id,
            ],
        )

    def _scope(self, scope: Scope) -> int:
        number = self._scopes.get(scope)
        if number is None:
            number = self._scopes[scope] = len(self._scopes) + 1
            self._database.execute(
                "insert into scopes values (?, ?, ?, ?)", [number, scope.agent, scope.tenant, scope.subject]
            )
        return number


def log_and_shard(key: str) -> tuple[str, int]:
    """Log and shard that the index calls so."""
    log, _, shard = key.rpartition(".")
    return log, int(shard)


def _continues(end: End, known: End) -> bool:
    """Whether what was read of a shard is in it still: a region that took it over may not have got the last of it."""
    if known.incarnation != end.incarnation:
        return False
    return known.epoch >= end.epoch or (known.epoch + 1 == end.epoch and known.position <= end.taken_at)


def _key(log: str, shard: int) -> str:
    return f"{log}.{shard}"


def _open(path: str) -> sqlite3.Connection:
    """The database, this process's alone; one of another version, or damaged, is made anew.

    Raises:
        OSError: the file cannot be made, or another process has it.
    """
    try:
        database = _connect(path)
        try:
            (version,) = database.execute("pragma user_version").fetchone()
            if version == _SCHEMA_VERSION:
                return database
            if version == 0 and not database.execute("select 1 from sqlite_master").fetchone():
                return _made(database)
        except sqlite3.OperationalError:
            database.close()
            raise
        except sqlite3.DatabaseError as error:
            logger.warning("task index is damaged and is built anew", error=str(error))
        database.close()
        Path(path).unlink()
        return _made(_connect(path))
    except sqlite3.OperationalError as error:
        raise OSError(f"cannot open the task index {path}: {error}") from None


def _connect(path: str) -> sqlite3.Connection:
    database = sqlite3.connect(path or ":memory:", timeout=1.0)
    database.execute("pragma locking_mode = exclusive")
    return database


def _made(database: sqlite3.Connection) -> sqlite3.Connection:
    database.execute("pragma journal_mode = wal")
    database.execute("pragma synchronous = normal")  # what a crash may lose is read from the log again
    database.executescript(_SCHEMA)
    database.execute(f"pragma user_version = {_SCHEMA_VERSION}")
    return database


def _where(scope: int, filters: Filters) -> tuple[str, list[Any]]:
    conditions, values = ["scope = ?"], [scope]
    more: list[tuple[str, Any]] = []
    if filters.context_id:
        more.append(("context_id = ?", filters.context_id))
    if filters.state is not None:
        more.append(("state = ?", filters.state.value))
    if filters.not_before:
        more.append(("updated >= ?", filters.not_before))
    return " and ".join([*conditions, *(c for c, _ in more)]), [*values, *(v for _, v in more)]


def _now() -> int:
    return int(time.time() * 1000)
