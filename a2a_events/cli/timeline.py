"""``timeline``: everything that happened to a task, straight from the log."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from a2a_events.cli import flags
from a2a_events.cli.outcome import Failure
from a2a_events.cli.table import table
from a2a_events.timeline.events import MEMBERS, Kind
from a2a_events.timeline.rows import Row, rows_of

if TYPE_CHECKING:
    from a2a_events.settings import Settings

PATIENCE_SECONDS: Final = 5.0
"""For NATS: somebody sits at the terminal."""


@click.command(short_help="Print every event of a task, straight from the log.")
@click.argument("task")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "ndjson"]),
    default=None,
    show_default="table on a terminal, ndjson elsewhere",
    help="How to print.",
)
@flags.settings(*flags.CONNECTION, "log_level")
def timeline(task: str, output: str | None, **given: Any) -> None:
    """Print every event of TASK: what happened, when, and who wrote it.

    Reads the log itself, so it works while no gateway and no worker is alive. `up` prints the address of its NATS
    server.

    \b
    Columns:
      revision  number of the event within the task: 1, 2, 3 …, no gaps
      position  place of its record in the log; events with one position are one commit
      time      the writer's clock, UTC
      kind      statusUpdate, artifactUpdate and message are what clients see; the rest is internal
      writer    role and instance of the process that wrote it
      epoch     number of the claim it was written under, 0 without one

    \b
    Examples:
      a2a-events timeline TASK
      a2a-events timeline TASK --nats nats://127.0.0.1:40123 -o json
      a2a-events timeline TASK | jq -r 'select(.kind == "statusUpdate") | .event.statusUpdate.status.state'
    """
    from a2a_events.services import logs
    from a2a_events.settings import load

    settings = load({**given, "log_level": given["log_level"] or "error"})
    logs.configure(settings.log_level, settings.log_format)
    show(asyncio.run(read(task, settings)), output or ("table" if sys.stdout.isatty() else "ndjson"))


async def read(task_id: str, settings: Settings) -> list[Row]:
    """The rows of a task's timeline.

    Raises:
        Failure: there is no such task.
        LogError: the log cannot be read.
    """
    from a2a_events.services.connect import jetstream_log
    from a2a_events.timeline.ids import parse_task_id

    home = parse_task_id(task_id)
    if home is None:
        raise Failure(f"{task_id!r} is not the id of a task: those begin with t1-, and `send` prints them")
    settings = msgspec.structs.replace(settings, log=home[0])
    async with jetstream_log(settings, "timeline", patience_seconds=PATIENCE_SECONDS) as (log, _):
        task = await log.find(task_id)
        if task is None:
            raise Failure(f"there is no task {task_id} at {settings.nats}, namespace {settings.namespace!r}")
        return [row async for records in log.read(task) for record in records for row in rows_of(record)]


def show(rows: list[Row], output: str) -> None:
    """Print rows as asked."""
    if output == "table":
        columns = ("revision", "position", "time", "kind", "writer", "epoch", "summary")
        table(columns, rows, right={"revision", "position", "epoch"}, style=_style)
        return
    if output == "json":
        print(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
        return
    for row in rows:
        print(msgspec.json.encode(row).decode())


def _style(row: Row) -> str:
    if row.kind == MEMBERS[Kind.STATUS]:
        return "cyan"
    return "" if row.kind in {MEMBERS[Kind.ARTIFACT], MEMBERS[Kind.REPLY]} else "dim"
