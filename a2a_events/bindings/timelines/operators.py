"""Everything about all tasks, for who looks after them: list, timelines, forks, and the page that shows them."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final, cast
from urllib.parse import unquote

import msgspec
import structlog
from litestar import Litestar, asgi
from litestar.types import HTTPScope, Receive, Scope, Send
from msgspec import Struct

from a2a_events import audit, limits
from a2a_events.bindings import sse
from a2a_events.bindings.exchange import Exchange, Intake, Streams
from a2a_events.bindings.timelines.api import KEEP_ALIVE, Problem, Query, TaskApi, answer_json, answered, stream
from a2a_events.bindings.timelines.guard import Guard
from a2a_events.bindings.timelines.page import HEADERS, INDEX, Page
from a2a_events.log.port import Log
from a2a_events.model import TaskState, timestamp_of
from a2a_events.runtime import transfer
from a2a_events.runtime.index import Place
from a2a_events.runtime.survey import Seen, Survey, Wanted
from a2a_events.runtime.timelines import Timelines
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import Writer

_PAGE_TASKS: Final = 50
_FORK_BYTES: Final = 1024
"""Largest body of the one request that has one."""
_PLACE: Final = re.compile(r"(\d{1,16})\.([A-Za-z0-9_-]{1,64})")
_STATES: Final = {state.name: state for state in TaskState}

logger = structlog.get_logger("a2a_events.request")


class About(Struct, frozen=True, rename="camel"):
    """What the page is in front of."""

    name: str
    """Of the deployment or the files, for people."""
    version: str
    forks: bool = True
    """Whether a fork would be taken up by somebody."""


class _Fork(Struct, forbid_unknown_fields=True):
    revision: int


class Operators:
    """The API below ``/api``.

    Args:
        log: of all tasks.
        survey: of the log.
        streams: where open streams are kept.
        writer: names this process in the records of forks.
        about: what this is in front of.
    """

    def __init__(self, log: Log, survey: Survey, streams: Streams, writer: Writer, about: About) -> None:
        self._log = log
        self._survey = survey
        self._streams = streams
        self._writer = writer
        self._about = about
        self._timelines = Timelines(log)
        self._task = TaskApi(log, streams, self._timelines)
        self._life = os.urandom(4).hex()
        """Tells the marks of this process's survey from those of the one before."""

    async def __call__(self, exchange: Exchange, path: list[str]) -> None:
        """Answer one request.

        Raises:
            Problem: it is none that can be answered.
        """
        match path:
            case ["about"]:
                _only_get(exchange)
                await answer_json(exchange, self._about)
            case ["tasks"]:
                _only_get(exchange)
                await self._list(exchange)
            case ["tasks", "events"]:
                _only_get(exchange)
                await self._changes(exchange)
            case ["tasks", task_id, "fork"]:
                await self._fork(exchange, await self._find(task_id))
            case ["tasks", task_id, *rest]:
                await self._task(exchange, await self._find(task_id), rest, exchange.query)
            case _:
                raise Problem(404, "There is nothing at this path")

    async def _find(self, task_id: str) -> TaskRef:
        task = self._timelines.known(task_id) or await self._log.find(task_id)
        if task is None:
            raise Problem(404, "Task not found")
        return task

    async def _list(self, exchange: Exchange) -> None:
        query = Query(exchange.query, *_FILTER, "limit", "after")
        wanted = _wanted(query)
        limit = query.number("limit", _PAGE_TASKS, 1, limits.TIMELINE_ROWS)
        after = _place(query.text("after"))
        await self._survey.caught_up()
        mark = self._survey.mark
        found = self._survey.page(wanted, limit + 1, after)
        tasks, more = found[:limit], len(found) > limit
        page: dict[str, Any] = {
            "tasks": [_shown(seen) for seen in tasks],
            "total": self._survey.count(wanted),
            "mark": f"{self._life}.{mark}",
        }
        if more:
            page["after"] = f"{tasks[-1].place.updated}.{tasks[-1].place.task_id}"
        await answer_json(exchange, page)

    async def _changes(self, exchange: Exchange) -> None:
        """Every task that has changed since a list was made; ``reset`` if that was in another life of this process."""
        query = Query(exchange.query, *_FILTER, "after")
        wanted = _wanted(query)
        mark = exchange.cursor or query.text("after")
        self._streams.check()
        if not mark:
            await self._survey.caught_up()
            mark = f"{self._life}.{self._survey.mark}"
        life, _, number = mark.partition(".")
        if life != self._life or not (number.isdecimal() and number.isascii()):
            await stream(exchange, self._streams, _reset())
            return
        await stream(exchange, self._streams, self._changed(wanted, int(number)))

    async def _changed(self, wanted: Wanted, mark: int) -> AsyncGenerator[bytes]:
        async with aclosing(self._survey.follow(wanted, mark)) as changes:
            waiting: asyncio.Task[Seen] | None = None
            try:
                while True:
                    waiting = waiting or asyncio.ensure_future(anext(changes))
                    done, _ = await asyncio.wait([waiting], timeout=limits.KEEP_ALIVE_SECONDS)
                    if not done:
                        yield KEEP_ALIVE
                        continue
                    seen = waiting.result()
                    waiting = None
                    line = sse.one_line(msgspec.json.encode(_shown(seen)))
                    yield b"id: %b.%d\ndata: %b\n\n" % (self._life.encode(), seen.mark, line)
            finally:
                if waiting is not None:
                    waiting.cancel()
                    await asyncio.wait([waiting])

    async def _fork(self, exchange: Exchange, task: TaskRef) -> None:
        if exchange.method != "POST":
            raise Problem(405, "Use POST on this path", ((b"allow", b"POST"),))
        Query(exchange.query)
        try:
            asked = msgspec.json.decode(await exchange.body(), type=_Fork)
        except msgspec.DecodeError as error:
            raise Problem(400, f'The body must be like {{"revision": 12}}: {error}') from None
        finally:
            exchange.release()
        if not self._about.forks:
            raise Problem(
                409, "What is shown here was read from a file: nobody would take the fork up; import it first"
            )
        new = await transfer.fork(self._log, task, asked.revision, self._writer)
        await answer_json(exchange, {"taskId": new.task_id}, 201)


def create_app(operators: Operators, guard: Guard, page: Page) -> Litestar:
    """The application of one timeline service."""
    intake = Intake(_FORK_BYTES, 64 * _FORK_BYTES)

    @asgi("/", is_mount=True, copy_scope=False)
    async def everything(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(cast("HTTPScope", scope), receive, send, intake)
        for name, value in HEADERS:
            exchange.add_header(name, value)
        raw = exchange.scope["raw_path"] or exchange.scope["path"].encode()
        path = [unquote(segment) for segment in raw.split(b"?")[0].decode("latin-1").strip("/").split("/")]
        status = await answered(exchange, serve(exchange, path), candid=True)
        if status >= 500 or exchange.method != "GET":  # noqa: PLR2004 -- HTTP
            logger.info("request", binding="TIMELINES", operation="/".join(path[:2]), status=status)

    async def serve(exchange: Exchange, path: list[str]) -> None:
        match path:
            case ["livez"]:
                await exchange.answer(200, b'{"status":"ok"}')
            case ["api", *rest]:
                guard.check(exchange, api=True)
                what, task_id = (rest[0], rest[1] if len(rest) > 1 else "") if rest else ("", "")
                audit.seen(f"page {what}", task_id=task_id, address=exchange.presented.address)
                await operators(exchange, rest)
            case [""] | ["tasks", _]:
                guard.check(exchange, api=False)
                await page.serve(exchange, INDEX)
            case ["static", name]:
                guard.check(exchange, api=False)
                await page.serve(exchange, name)
            case _:
                guard.check(exchange, api=False)
                raise Problem(404, "There is nothing at this path")

    return Litestar(route_handlers=[everything], openapi_config=None, logging_config=None)


_FILTER: Final = ("agent", "state", "failed", "text")


def _wanted(query: Query) -> Wanted:
    states: Sequence[str] = [
        name.upper().removeprefix("TASK_STATE_").replace("-", "_") for name in query.words("state")
    ]
    unknown = [name for name in states if name not in _STATES]
    if unknown:
        raise Problem(400, f"There is no state {unknown[0][:40]!r}; states are {', '.join(_STATES)}")
    return Wanted(
        agent=query.text("agent"),
        states=frozenset(_STATES[name] for name in states),
        failed_only=query.flag("failed"),
        text=query.text("text"),
    )


def _place(text: str) -> Place | None:
    if not text:
        return None
    found = _PLACE.fullmatch(text)
    if found is None:
        raise Problem(400, "after is what the page before said")
    return Place(int(found[1]), found[2])


def _shown(seen: Seen) -> dict[str, Any]:
    return {
        "taskId": seen.task.task_id,
        "contextId": seen.context_id,
        "agent": seen.task.agent,
        "owner": seen.subject,
        "state": seen.state.name,
        "failed": seen.failed or seen.given_up,
        "created": timestamp_of(seen.created),
        "updated": timestamp_of(seen.updated),
        "revision": seen.revision,
    }


async def _reset() -> AsyncGenerator[bytes]:
    yield b"event: reset\ndata: {}\n\n"


def _only_get(exchange: Exchange) -> None:
    if exchange.method != "GET":
        raise Problem(405, "Use GET on this path", ((b"allow", b"GET"),))
