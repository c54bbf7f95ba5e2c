"""``tasks``: every task of a log, whoever's it is, and what changes."""

from __future__ import annotations

import asyncio
import re
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec
from msgspec import Struct

from a2a_events import limits
from a2a_events.cli import flags, source
from a2a_events.cli.outcome import Failure, say
from a2a_events.cli.table import table
from a2a_events.cli.text import json_text, one_line
from a2a_events.model import TaskState, milliseconds_of, timestamp_of

if TYPE_CHECKING:
    from a2a_events.runtime.survey import Seen, Survey, Wanted
    from a2a_events.settings import Settings

_SPAN: Final = re.compile(r"(\d+)([smhd])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_STATES: Final = {state.name.lower().replace("_", "-"): state for state in TaskState}
_COLUMNS: Final = ("task", "agent", "state", "updated", "context", "owner")
_LEAST: Final = {"task": 33, "agent": 12, "state": 14, "updated": 24, "context": 36, "owner": 0}
"""Widths of lines that come one by one."""


class Row(Struct, frozen=True):
    """One task, as it is printed."""

    task: str
    agent: str
    state: str
    updated: str
    """When its newest record was stored; for people, how long ago."""
    context: str
    owner: str
    created: str
    revision: int
    given_up: bool


@click.command(short_help="List every task of the log, and follow what changes.")
@click.option("--agent", default="", metavar="NAME", help="Of this agent only.")
@click.option("--state", "states", multiple=True, type=click.Choice(sorted(_STATES)), help="In this state; repeatable.")
@click.option("--failed", is_flag=True, help="Failed or rejected.")
@click.option("--text", default="", metavar="TEXT", help="In the task's id, its context or its owner's name.")
@click.option("--since", default="", metavar="WHEN", help="Changed since then: 90s, 10m, 2h, 3d or a timestamp.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="At most so many.")
@click.option("-f", "--follow", is_flag=True, help="Then print each task that changes, until Ctrl-C.")
@flags.output("table", "ndjson", "json")
@flags.settings(*flags.CONNECTION, "log", "index", "log_level", log_level="error")
def tasks(  # noqa: PLR0917 -- click's way
    agent: str,
    states: tuple[str, ...],
    failed: bool,  # noqa: FBT001 -- click's way
    text: str,
    since: str,
    limit: int,
    follow: bool,  # noqa: FBT001 -- click's way
    output: str | None,
    **given: Any,
) -> None:
    """List the tasks of a log, whatever their agent, tenant and owner, those that changed last first.

    Reads the log itself, so it works while no gateway and no worker is alive, and disturbs none. It reads every record
    the first time; with --index FILE it keeps what it has read, and reads only what is new the next time. Filters add
    up. With --follow a task is printed again each time it has changed, at most once in a second.

    \b
    Columns:
      task     its id; `timeline`, `show` and `stuck` take it
      state    as clients see it; `given up`: it has or had a dead letter
      updated  when its newest record was stored, by the log's clock; a span on a terminal
      context  the conversation that it belongs to
      owner    who asked for it

    \b
    Examples:
      a2a-events tasks --failed --since 1d
      a2a-events tasks --agent greet --state working --state input-required
      a2a-events tasks --follow | jq -r 'select(.state == "FAILED") | .task'
    """
    if follow and output == "json":
        raise click.UsageError("--follow never ends, and a JSON array would: use -o ndjson")
    age_seconds, at = _since(since)
    settings = source.configured(given)

    async def work() -> None:
        from a2a_events.runtime.survey import Survey, Wanted
        from a2a_events.services.connect import jetstream_log

        async with jetstream_log(settings, "tasks", patience_seconds=source.PATIENCE_SECONDS) as (log, _):
            survey = _survey(log, settings, Survey)
            try:
                now = max(end.time for end in (await log.ends()).values())
                wanted = Wanted(
                    agent=agent,
                    states=frozenset(_STATES[state] for state in states),
                    failed_only=failed,
                    text=text,
                    since=at or (now - age_seconds * 1000 if age_seconds else 0),
                )
                await _caught_up(survey)
                await _print(survey, wanted, limit, output, now, follow=follow)
            finally:
                await survey.close()

    asyncio.run(work())


def _since(text: str) -> tuple[int, int]:
    """Seconds ago, or milliseconds since 1970; 0 for what it is not."""
    if not text:
        return 0, 0
    span = _SPAN.fullmatch(text)
    if span:
        return int(span[1]) * _UNITS[span[2]], 0
    try:
        return 0, milliseconds_of(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is neither a span (90s, 10m, 2h, 3d) nor a timestamp (2026-01-31T12:00:00Z)",
            param_hint="--since",
        ) from None


def _survey(log: Any, settings: Settings, of: type[Survey]) -> Survey:
    try:
        return of(log, settings.index)
    except OSError as error:
        raise Failure(f"{error}; give each process that keeps an index a file of its own with --index") from None


async def _caught_up(survey: Survey) -> None:
    from a2a_events.errors import UnavailableError

    while True:
        try:
            await survey.caught_up(limits.INDEX_PATIENCE_SECONDS)
        except UnavailableError as error:
            say(error.message.partition(";")[0])
        else:
            return


async def _print(survey: Survey, wanted: Wanted, limit: int, output: str | None, now: int, *, follow: bool) -> None:
    how = output or ("table" if sys.stdout.isatty() else "ndjson")
    mark = survey.mark
    found = survey.page(wanted, limit)
    if follow:
        found.reverse()  # what changed last stands where what changes next will
        for seen in found:
            print_one(_row(seen), how)
        async with aclosing(survey.follow(wanted, mark)) as changes:
            async for seen in changes:
                print_one(_row(seen), how)
        return
    if how == "table":
        if not found:
            say("no tasks match")
            return
        table(_COLUMNS, [_row(seen, now) for seen in found], style=_style)
    elif how == "json":
        print(json_text(msgspec.json.format(msgspec.json.encode([_row(seen) for seen in found]), indent=2)))
    else:
        for seen in found:
            print(json_text(msgspec.json.encode(_row(seen))))
    left = survey.count(wanted) - len(found)
    if left > 0:
        say(f"{left} more: raise --limit, or narrow the list")


def print_one(row: Row, how: str) -> None:
    """A task as a line of its own, for lists that go on."""
    if how == "ndjson":
        print(json_text(msgspec.json.encode(row)), flush=True)
        return
    shown = "  ".join(one_line(str(getattr(row, name))).ljust(_LEAST[name]) for name in _COLUMNS)
    print(shown.rstrip(), flush=True)


def _row(seen: Seen, now: int | None = None) -> Row:
    """A task as it is printed; with the log's time, for people."""
    from a2a_events.timeline.diagnosis import span

    people = now is not None
    return Row(
        task=seen.task.task_id,
        agent=seen.task.agent,
        state=f"{seen.state.name}, given up" if people and seen.given_up else seen.state.name,
        updated=timestamp_of(seen.updated) if now is None else f"{span((now - seen.updated) / 1000)} ago",
        context=seen.context_id,
        owner=seen.subject,
        created=timestamp_of(seen.created),
        revision=seen.revision,
        given_up=seen.given_up,
    )


def _style(row: Row) -> str:
    if row.state.startswith(("FAILED", "REJECTED")):
        return "red"
    return "dim" if row.state in {"COMPLETED", "CANCELED"} else ""
