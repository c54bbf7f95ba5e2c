"""What can be read of one task's timeline over HTTP: JSON, server-sent events, and problems (RFC 9457) for errors.

Reading is all it is: no worker is needed, and none is disturbed. Paths are below the one of the task.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import aclosing
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
import structlog
from msgspec import Raw, Struct

from a2a_events import limits
from a2a_events.bindings import sse
from a2a_events.bindings.errors import headers_of, shown
from a2a_events.bindings.exchange import FAREWELLS, JSON, ClientGone, Exchange, Streams
from a2a_events.errors import Unreadable
from a2a_events.log.port import Log, Watch
from a2a_events.model import timestamp_of
from a2a_events.runtime import transfer
from a2a_events.runtime.examination import examine
from a2a_events.runtime.timelines import TaskRemoved, Timeline, Timelines, TimelineTooLarge
from a2a_events.timeline import bundle
from a2a_events.timeline.difference import difference, internal_of
from a2a_events.timeline.events import Submitted
from a2a_events.timeline.fold import Head, Pieces, TaskFold
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.lanes import picture
from a2a_events.timeline.render import task as render_task
from a2a_events.timeline.rows import Filter, Origin, Row, Run, rows_of

PROBLEM: Final = b"application/problem+json"
BUNDLE: Final = b"application/x-ndjson"
KEEP_ALIVE: Final = b": keep-alive\n\n"
_FRAMES: Final = 256
"""Events of a stream that are written at once, at most."""
_FAILED: Final = frozenset({"FAILED", "REJECTED"})
_PART_CHARACTERS: Final = 4000
"""Of a text that is shown briefly."""
_PART_BYTES: Final = 16 * 1024
"""A larger part is cut when it is to be shown briefly."""
_TITLES: Final = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    410: "Gone",
    413: "Too large",
    415: "Unsupported media type",
    429: "Too many requests",
    500: "Internal error",
    503: "Unavailable",
}

logger = structlog.get_logger(__name__)


class Problem(Exception):
    """The answer is no; says why, and what to do.

    Args:
        status: of HTTP.
        detail: one sentence for whoever asked.
        headers: of the answer.
    """

    def __init__(self, status: int, detail: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


async def answered(exchange: Exchange, work: Awaitable[None], *, candid: bool) -> int:
    """Do the work that answers a request; whatever goes wrong becomes a problem.

    Args:
        exchange: the request.
        work: answers it.
        candid: whether the caller may know what is wrong inside: operators may.

    Returns:
        The status.
    """
    try:
        await work
    except ClientGone:
        return 0
    except Problem as problem:
        found = problem
    except TaskRemoved:
        found = Problem(410, "The task was removed")
    except TimelineTooLarge as error:
        found = Problem(413, str(error))
    except transfer.NotForkable as error:
        found = Problem(409, str(error))
    except Unreadable as error:
        logger.error("timeline cannot be read", error=str(error))
        found = Problem(500, str(error) if candid else "The timeline cannot be read")
    except Exception as error:  # noqa: BLE001 -- the edge: whatever it is, the caller gets an answer
        seen = shown(error)
        found = Problem(seen.http_status, seen.message, tuple(headers_of(seen)))
    else:
        return 200
    if exchange.begun:
        body = sse.one_line(_encode({"status": found.status, "detail": found.detail}))
        await exchange.end(b"event: problem\ndata: " + body + b"\n\n")
    else:
        await answer_problem(exchange, found)
    return found.status


async def answer_problem(exchange: Exchange, problem: Problem) -> None:
    """One problem as the answer."""
    body = {
        "type": "about:blank",
        "title": _TITLES.get(problem.status, "Error"),
        "status": problem.status,
        "detail": problem.detail,
    }
    await exchange.answer(problem.status, _encode(body), PROBLEM, problem.headers)


async def answer_json(exchange: Exchange, content: Any, status: int = 200) -> None:
    """One JSON answer, that nobody keeps."""
    await exchange.answer(status, _encode(content), JSON)


class Query:
    """The parameters of one request; whatever is not known is refused.

    Args:
        raw: as it stands in the address.
        known: names that this path has.

    Raises:
        Problem: an unknown name.
    """

    def __init__(self, raw: str, *known: str) -> None:
        pairs = parse_qsl(raw, keep_blank_values=True)
        unknown = sorted({name for name, _ in pairs if name not in known})
        if unknown:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise Problem(400, f"This path has no parameter {', '.join(unknown)}; {has}")
        self._pairs = pairs

    def text(self, name: str) -> str:
        """The last value; empty without one."""
        return next((value for key, value in reversed(self._pairs) if key == name), "")

    def words(self, name: str) -> frozenset[str]:
        """Every value, separated by commas or given one by one."""
        return frozenset(
            word.strip() for key, value in self._pairs if key == name for word in value.split(",") if word.strip()
        )

    def flag(self, name: str) -> bool:
        """Whether it is set.

        Raises:
            Problem: neither true nor false.
        """
        value = self.text(name).lower()
        if value in {"", "0", "false"}:
            return False
        if value in {"1", "true"}:
            return True
        raise Problem(400, f"{name} is true or false, not {value!r}")

    def number(self, name: str, default: int, least: int = 0, most: int = 2**53) -> int:
        """A whole number.

        Raises:
            Problem: it is none, or out of bounds.
        """
        value = self.text(name)
        if not value:
            return default
        return whole(value, name, least, most)


def whole(value: str, name: str, least: int = 0, most: int = 2**53) -> int:
    """A whole number that stands in an address.

    Raises:
        Problem: it is none, or out of bounds.
    """
    if not (value.isascii() and value.isdecimal() and len(value) < 17 and least <= int(value) <= most):  # noqa: PLR2004 -- digits of 2**53
        raise Problem(400, f"{name} is a whole number from {least} to {most}, not {value[:40]!r}")
    return int(value)


class Summary(Struct, rename="camel", omit_defaults=True):
    """A task in a few words, and its picture."""

    task_id: str
    context_id: str
    agent: str
    tenant: str
    """The token, never the raw name; ``-`` for none."""
    owner: str
    state: str
    phase: str
    ended: bool
    failed: bool
    revisions: int
    began: str
    latest: str
    attempts: int
    """The highest attempt at any turn."""
    claims: int
    axis: list[Any]
    lanes: list[Any]
    origin: Origin | None = None


class TaskApi:
    """The paths of one task.

    Args:
        log: where tasks are.
        streams: where open streams are kept.
        timelines: what was looked at last.
    """

    def __init__(self, log: Log, streams: Streams, timelines: Timelines) -> None:
        self._log = log
        self._streams = streams
        self._timelines = timelines

    async def __call__(self, exchange: Exchange, task: TaskRef, path: list[str], query: str) -> None:
        """Answer one request.

        Args:
            exchange: the request.
            task: of which; the caller may see it.
            path: segments below the task's.
            query: encoded.

        Raises:
            Problem: there is no such path, or a parameter is wrong.
            TaskRemoved, TimelineTooLarge, LogError: see ``Timelines.get``.
        """
        if exchange.method != "GET":
            raise Problem(405, "Use GET on this path", ((b"allow", b"GET"),))
        match path:
            case []:
                await self._summary(exchange, task, query)
            case ["rows"]:
                await self._rows(exchange, task, query)
            case ["at", revision]:
                await self._at(exchange, task, whole(revision, "The revision", 1), query)
            case ["difference"]:
                await self._difference(exchange, task, query)
            case ["events"]:
                await self._events(exchange, task, query)
            case ["bundle"]:
                await self._bundle(exchange, task, query)
            case ["why"]:
                Query(query)
                await answer_json(exchange, await examine(self._log, task))
            case _:
                raise Problem(404, "There is nothing at this path")

    async def _timeline(self, task: TaskRef, revision: int = 0) -> Timeline:
        timeline = await self._timelines.get(task, revision)
        if not timeline.records:
            raise Problem(404, "Task not found")
        if revision > timeline.newest:
            raise Problem(404, f"The task has revisions 1 to {timeline.newest}: {revision} is none of them yet")
        return timeline

    async def _summary(self, exchange: Exchange, task: TaskRef, raw: str) -> None:
        Query(raw)
        timeline = await self._timeline(task)
        head = timeline.fold_at(timeline.newest).head
        drawn = picture(timeline.rows, timeline.times)
        first = timeline.records[0].events()[0]
        origin = bytes(first.origin) if isinstance(first, Submitted) else b""
        summary = Summary(
            task_id=task.task_id,
            context_id=head.context_id,
            agent=task.agent,
            tenant=task.tenant,
            owner=head.owner.subject if head.owner else "",
            state=head.state.name,
            phase=head.phase.value,
            ended=head.terminal,
            failed=head.terminal and (head.state.name in _FAILED or head.dead_letter > 0),
            revisions=timeline.newest,
            began=timestamp_of(timeline.times[0]),
            latest=timestamp_of(timeline.times[-1]),
            attempts=max(row.attempt for row in timeline.rows),
            claims=head.epoch,
            axis=drawn.axis,
            lanes=drawn.lanes,
            origin=msgspec.json.decode(origin, type=Origin) if origin else None,
        )
        await answer_json(exchange, summary)

    async def _rows(self, exchange: Exchange, task: TaskRef, raw: str) -> None:
        query = Query(raw, *_FILTER, "compact", "offset", "limit", "around", "content")
        wanted = _filter(query)
        limit = query.number("limit", 200, 1, limits.TIMELINE_ROWS)
        around = query.number("around", 0)
        content = _content(query)
        timeline = await self._timeline(task)
        view = timeline.view(wanted, compacted=query.flag("compact"))
        offset = query.number("offset", 0)
        index = view.index(around) if around else -1
        if around:
            offset = max(0, index - limit // 2)
        rows = view.rows[offset : offset + limit]
        head = timeline.fold_at(timeline.newest).head
        page: dict[str, Any] = {
            "total": len(view.rows),
            "offset": offset,
            "revisions": timeline.newest,
            "ended": head.terminal,
            "rows": [_shown(row, content) for row in rows],
        }
        if around:
            page["index"] = index
        await answer_json(exchange, page)

    async def _at(self, exchange: Exchange, task: TaskRef, revision: int, raw: str) -> None:
        query = Query(raw, "newest")
        newest = query.number("newest", 0, 1) if query.text("newest") else None
        timeline = await self._timeline(task, revision)
        fold = timeline.fold_at(revision)
        row = timeline.rows[revision - 1]
        state: dict[str, Any] = {"revision": revision, "time": row.time, "kind": row.kind}
        if newest is None:
            state["task"] = Raw(render_task(fold, task.task_id, {}))
        else:
            state["task"], state["leftOut"] = _brief_task(fold, task.task_id, newest)
        if fold.content.reply:
            state["reply"] = Raw(fold.content.reply)
        state["internal"] = internal_of(fold)
        await answer_json(exchange, state)

    async def _difference(self, exchange: Exchange, task: TaskRef, raw: str) -> None:
        query = Query(raw, "from", "to", "brief")
        to = query.number("to", 0, 1)
        brief = query.flag("brief")
        timeline = await self._timeline(task, to)
        to = to or timeline.newest
        begin = query.number("from", to - 1)
        if begin > to:
            raise Problem(400, f"from ({begin}) comes after to ({to})")
        found = difference(timeline.fold_at(begin), timeline.fold_at(to))
        if brief:
            artifacts = [
                msgspec.structs.replace(artifact, parts=[_brief_part(part) for part in artifact.parts[-_BRIEF_PARTS:]])
                for artifact in found.artifacts
            ]
            history = [_brief_message(message) for message in found.history[-_BRIEF_PARTS:]]
            found = msgspec.structs.replace(found, artifacts=artifacts, history=history)
        await answer_json(exchange, found)

    async def _bundle(self, exchange: Exchange, task: TaskRef, raw: str) -> None:
        query = Query(raw, "redact")
        redact = query.text("redact")
        if redact not in {"", "content"}:
            raise Problem(400, f"redact is content or left out, not {redact[:40]!r}")
        exported = await transfer.export(self._log, task)
        if not exported.records:
            raise Problem(404, "Task not found")
        if exported.records[-1].header.tombstone:
            raise TaskRemoved
        if redact:
            exported = bundle.redacted(exported, content=True)
        name = f"{task.task_id}{'.redacted' if redact else ''}.jsonl"
        headers = [(b"content-disposition", f'attachment; filename="{name}"'.encode())]
        await exchange.answer(200, bundle.write(exported), BUNDLE, headers)

    async def _events(self, exchange: Exchange, task: TaskRef, raw: str) -> None:
        query = Query(raw, "after", "content")
        content = _content(query)
        resumed = exchange.cursor  # what a browser adds when it comes back
        after = whole(resumed, "Last-Event-ID") if resumed else query.number("after", 0)
        self._streams.check()
        async with self._log.watch(task) as watch:
            timeline = await self._timeline(task)
            if after > timeline.newest:
                raise Problem(409, f"The task has revisions 1 to {timeline.newest}, and none after {after} yet")
            await stream(exchange, self._streams, _frames(watch, timeline, after, content))


async def stream(exchange: Exchange, streams: Streams, parts: AsyncGenerator[bytes]) -> None:
    """Send a stream to its end, or until its reader is gone or does not read."""
    kept = streams.begin(exchange, exchange.gone)
    kept.begun = True  # whoever reads it can come back at any time
    try:
        async with aclosing(parts):
            await exchange.begin_stream()
            await exchange.part(KEEP_ALIVE)
            async for part in parts:
                await exchange.part(part)
        await exchange.end(b"")
        kept.over = "terminal"
    except asyncio.CancelledError:
        if not kept.lost:
            raise
        kept.uncancel()
        if kept.lost in FAREWELLS and not exchange.sending_since:
            await exchange.end(sse.farewell(random.random(), FAREWELLS[kept.lost]))  # noqa: S311 -- no secret
    finally:
        streams.end(kept)


async def _frames(watch: Watch, timeline: Timeline, after: int, content: int | None) -> AsyncGenerator[bytes]:
    """A frame for each event after a revision, until the task has ended; then one that says so."""
    head = timeline.fold_at(timeline.newest).head
    position, newest = timeline.position, timeline.newest
    for at in range(after, newest, _FRAMES):
        yield _framed(timeline.rows[at : min(at + _FRAMES, newest)], content)
    del timeline
    if not _over(head):
        async with aclosing(watch.after(position, newest)) as runs:
            async for records in runs:
                for record in records:
                    head.apply(record)
                    yield _framed([row for row in rows_of(record) if row.revision > after], content)
                if not records:
                    yield KEEP_ALIVE
                if _over(head):
                    break
    yield b"event: end\ndata: {}\n\n"


def _over(head: Head) -> bool:
    return head.terminal


def _framed(rows: list[Row], content: int | None) -> bytes:
    return b"".join(
        b"id: %d\ndata: %b\n\n" % (row.revision, sse.one_line(_encode(_shown(row, content)))) for row in rows
    )


_FILTER: Final = ("from", "to", "kind", "state", "writer", "attempt", "text")


def _filter(query: Query) -> Filter:
    return Filter(
        kinds=query.words("kind"),
        states=frozenset(state.upper().removeprefix("TASK_STATE_").replace("-", "_") for state in query.words("state")),
        writer=query.text("writer"),
        attempt=query.number("attempt", 0) if query.text("attempt") else None,
        text=query.text("text"),
        first=query.number("from", 1, 1),
        last=query.number("to", 0, 1) if query.text("to") else None,
    )


def _content(query: Query) -> int | None:
    """How many characters of events are shown; None for all of it."""
    return None if query.text("content") in {"", "full"} else query.number("content", 0)


def _shown(row: Row | Run, characters: int | None) -> Any:
    if isinstance(row, Run) or characters is None:
        return row
    members: Mapping[str, Any] = msgspec.to_builtins(msgspec.structs.replace(row, event=msgspec.UNSET))
    if not characters or isinstance(row.event, msgspec.UnsetType):
        return members
    # A character is up to four bytes: what is cut in its middle is dropped.
    begin = bytes(row.event)[: 4 * characters].decode(errors="ignore")[:characters]
    return {**members, "preview": begin}


# --- briefly ----------------------------------------------------------------------------------------------------------

_BRIEF_PARTS: Final = 50


def _brief_task(fold: TaskFold, task_id: str, newest: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The Task with only the newest of its history and of each artifact's parts, and how many were left out."""
    content = fold.content
    history = _elements(content.history)
    left_out: dict[str, Any] = {"history": max(0, len(history) - newest), "artifacts": {}}
    artifacts: list[dict[str, Any]] = []
    for artifact in content.artifacts.values():
        parts = _elements(artifact.parts)
        left_out["artifacts"][artifact.artifact_id] = max(0, len(parts) - newest)
        members = {
            "artifactId": artifact.artifact_id,
            "name": artifact.name,
            "description": artifact.description,
            "metadata": artifact.metadata,
        }
        shown_parts = {"parts": [_brief_part(part) for part in parts[-newest:]]}
        artifacts.append({name: value for name, value in members.items() if value} | shown_parts)
    status: dict[str, Any] = {"state": content.status.state, "timestamp": content.status.timestamp}
    if bytes(content.status.message):
        status["message"] = _brief_message(content.status.message)
    brief = {
        "id": task_id,
        "contextId": fold.head.context_id,
        "status": status,
        "artifacts": artifacts,
        "history": [_brief_message(message) for message in history[-newest:]],
    }
    return brief, left_out


def _elements(pieces: Pieces) -> list[Raw]:
    return _raws.decode(b"[" + b",".join(pieces.tail) + b"]")


def _brief_part(part: Raw) -> Any:
    """A part, cut if it is large: ``cutFrom`` says how many characters or bytes it had."""
    if len(bytes(part)) <= _PART_BYTES:
        return part
    text: Any = msgspec.json.decode(part, type=dict[str, Any]).get("text")
    if isinstance(text, str):
        return {"text": text[:_PART_CHARACTERS], "cutFrom": len(text)}
    return {"cutFrom": len(bytes(part))}


def _brief_message(message: Raw) -> Any:
    if len(bytes(message)) <= _PART_BYTES:
        return message
    members: dict[str, Any] = msgspec.json.decode(message, type=dict[str, Raw])
    if "parts" in members:
        parts = _raws.decode(members["parts"])
        members["parts"] = [_brief_part(part) for part in parts[:_BRIEF_PARTS]]
        members.pop("metadata", None)
    return members


_encode = msgspec.json.Encoder().encode
_raws = msgspec.json.Decoder(list[Raw])
