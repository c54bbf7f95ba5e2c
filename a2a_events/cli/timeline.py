"""``timeline``: everything that happened to a task, straight from the log or out of a bundle."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, Protocol

import click
import msgspec
from msgspec import Struct

from a2a_events.cli import flags, source
from a2a_events.cli.source import Source
from a2a_events.cli.table import Table
from a2a_events.cli.text import json_text, one_line
from a2a_events.model import TERMINAL_STATES, TaskState
from a2a_events.timeline.events import MEMBERS, Kind
from a2a_events.timeline.rows import INTERNAL, PUBLIC, Compaction, Filter, Row, Run, rows_of

if TYPE_CHECKING:
    from a2a_events.settings import Settings
    from a2a_events.timeline.record import Record

_STATUS: Final = MEMBERS[Kind.STATUS]
_SAID: Final = frozenset({MEMBERS[Kind.ARTIFACT], MEMBERS[Kind.REPLY]})
_STATES: Final = {state.name.lower().replace("_", "-"): state.name for state in TaskState}
_LIVE: Final = ("table", "ndjson")
"""How rows can be printed as they come."""


@click.command(short_help="Print every event of a task, straight from the log.")
@click.argument("task", metavar="TASK_OR_BUNDLE")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice([PUBLIC, INTERNAL, *MEMBERS.values()]),
    metavar="KIND",
    help="Only events of this kind; `public` is what clients see, `internal` the rest; repeatable.",
)
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(list(_STATES)),
    metavar="STATE",
    help="Only status updates to this state (`failed`, `input-required`); repeatable.",
)
@click.option("--writer", default="", metavar="NAME", help="Only of this role, instance, or ROLE/INSTANCE.")
@click.option(
    "--attempt", type=click.IntRange(min=0), help="Only what was written in this attempt; 0: outside of turns."
)
@click.option("--text", default="", metavar="TEXT", help="Only events that hold this text, in any case of letters.")
@click.option("--from", "first", type=click.IntRange(min=1), default=1, metavar="REV", help="From this revision on.")
@click.option("--until", "last", type=click.IntRange(min=1), metavar="REV", help="Up to this revision.")
@click.option("--compact", is_flag=True, help="One row for each run of chunks: count, bytes, seconds.")
@click.option("-f", "--follow", is_flag=True, help="Print what is there, then what comes, until the task ends.")
@flags.output(
    *("table", "ndjson", "json", "mermaid", "markdown"),
    note="The last two are a sequence diagram and a report for an issue, compact always.",
)
@flags.settings(*flags.CONNECTION, "log_level", log_level="error")
def timeline(
    *,
    task: str,
    kinds: tuple[str, ...],
    states: tuple[str, ...],
    writer: str,
    attempt: int | None,
    text: str,
    first: int,
    last: int | None,
    compact: bool,
    follow: bool,
    output: str | None,
    **given: Any,
) -> None:
    """Print every event of TASK_OR_BUNDLE: what happened, when, and who wrote it.

    Reads the log itself, so it works while no gateway and no worker is alive, and disturbs none. `up` prints the
    address of its NATS server. The path of a file that `export` wrote stands for the task in it, and needs no server.

    Rows are printed as they are read. With --follow the rest comes as it is written, also across restarts of the NATS
    server, until the task ends; a run of chunks under --compact is printed when it is over.

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
      a2a-events timeline TASK --follow --compact
      a2a-events timeline TASK --kind turnClaimed --kind turnEnded    # attempts and their ends
      a2a-events timeline TASK --state failed --from 100
      a2a-events timeline task.bundle.jsonl -o markdown > report.md
      a2a-events timeline TASK --nats nats://127.0.0.1:40123 -o json
      a2a-events timeline TASK | jq -r 'select(.kind == "statusUpdate") | .event.statusUpdate.status.state'
    """
    output = output or ("table" if sys.stdout.isatty() else "ndjson")
    if follow and output not in _LIVE:
        raise click.UsageError(f"--follow prints rows as they come: -o {output} needs them all; use -o table or ndjson")
    if follow and source.is_file(task):
        raise click.UsageError(f"{task} is what was recorded, and nothing comes after it: leave --follow out")
    named = frozenset(_STATES[state] for state in states)
    wanted = Filter(frozenset(kinds), named, writer, attempt, text, first, last)

    async def work(opened: Source, _: Settings) -> None:
        if output in _LIVE or output == "json":
            await show(opened, output, wanted, compact=compact, follow=follow)
        else:
            await _draw(opened, output, wanted)

    source.run(task, given, "timeline", work)


async def show(
    opened: Source, output: str, wanted: Filter | None = None, *, compact: bool = False, follow: bool = False
) -> None:
    """Print the rows of a timeline as they are read.

    Args:
        opened: where it is.
        output: ``table``, ``ndjson`` or ``json``.
        wanted: which rows; default: all.
        compact: whether runs of chunks are one row.
        follow: whether to go on until the task ends.

    Raises:
        LogError: the log cannot be read.
    """
    wanted = wanted or Filter()
    printers: dict[str, type[_Printer]] = {"table": _Rows, "ndjson": _Lines, "json": _Array}
    printer = printers[output]()
    compaction = Compaction()
    try:
        async with aclosing(_followed(opened) if follow else _stored(opened)) as batches:
            async for records in batches:
                rows = [row for record in records for row in rows_of(record) if wanted.matches(row)]
                if compact:
                    printer.add([whole for row in rows for whole in compaction.add(row)])
                    printer.pause(compaction.waiting if follow else None)
                else:
                    printer.add(rows)
                if wanted.last is not None and records[-1].header.last_revision >= wanted.last:
                    break
    finally:
        printer.pause(None)
        printer.add(compaction.end())  # also when it was interrupted
    printer.close()


async def _stored(opened: Source) -> AsyncGenerator[list[Record]]:
    async for records in opened.log.read(opened.task):
        yield records


async def _followed(opened: Source) -> AsyncGenerator[list[Record]]:
    """What is there and what comes, to the record that ends the task: subscribed first, then read (turns 8)."""
    position = revision = 0
    async with opened.log.watch(opened.task) as watch:
        ended = False
        async for records in opened.log.read(opened.task):
            yield records
            position, revision = records[-1].position, records[-1].header.last_revision
            ended = ended or any(map(_ends, records))
        if ended:
            return
        async with aclosing(watch.after(position, revision)) as coming:
            async for records in coming:
                if records:
                    yield records
                if any(map(_ends, records)):
                    return


def _ends(record: Record) -> bool:
    """Whether the task ended in this record: by a state that is final, or a bare Message."""
    if Kind.REPLY.value in record.header.kinds:
        return True
    if Kind.STATUS.value not in record.header.kinds:
        return False
    return any(TaskState[row.state] in TERMINAL_STATES for row in rows_of(record) if row.state)


async def _draw(opened: Source, output: str, wanted: Filter) -> None:
    from a2a_events.cli.outcome import Failure
    from a2a_events.timeline.drawing import sequence
    from a2a_events.timeline.report import report
    from a2a_events.timeline.rows import compact

    records = await opened.records()
    if not records:
        raise Failure(f"there is nothing of task {opened.task.task_id} to draw")
    rows = list(compact(row for record in records for row in rows_of(record) if wanted.matches(row)))
    drawn = sequence(rows) if output == "mermaid" else report(opened.task, records, rows)
    print(drawn, end="")


class _Printer(Protocol):
    def add(self, rows: Sequence[Row | Run]) -> None:
        """Print some rows."""

    def pause(self, waiting: Row | Run | None) -> None:
        """Nothing more is there for now; this one may grow."""

    def close(self) -> None:
        """That was all."""


class _Line(Struct, frozen=True):
    """A row of the table."""

    revision: str
    position: int
    time: str
    kind: str
    writer: str
    epoch: int
    summary: str


class _Rows:
    """A table, and on a terminal a line under it that tells of the run that has not ended."""

    def __init__(self) -> None:
        columns = _Line.__struct_fields__
        right = {"revision", "position", "epoch"}
        self._table = Table(columns, right=right, style=_style, least={"kind": len(_STATUS), "position": 5})
        self._status: Any = None
        self._begun = False

    def add(self, rows: Sequence[Row | Run]) -> None:
        if not rows and self._begun:
            return
        self.pause(None)
        self._begun = True
        self._table.add([_line(row) for row in rows])

    def pause(self, waiting: Row | Run | None) -> None:
        if waiting is None:
            if self._status is not None:
                self._status.stop()
                self._status = None
            return
        if not self._table.console.is_terminal:
            return
        from rich.text import Text

        text = Text(one_line(f"{_number(waiting)}  {waiting.summary} …"), "dim", no_wrap=True, overflow="ellipsis")
        if self._status is None:
            self._status = self._table.console.status(text)
            self._status.start()
        else:
            self._status.update(text)

    def close(self) -> None:
        self.add([])


class _Lines:
    """JSON lines, each batch on its way at once."""

    def add(self, rows: Sequence[Row | Run]) -> None:
        if rows:
            print(json_text(b"\n".join(map(msgspec.json.encode, rows))), flush=True)

    def pause(self, waiting: Row | Run | None) -> None:
        pass

    def close(self) -> None:
        pass


class _Array:
    """One JSON array, when all is there."""

    def __init__(self) -> None:
        self._rows: list[Row | Run] = []

    def add(self, rows: Sequence[Row | Run]) -> None:
        self._rows.extend(rows)

    def pause(self, waiting: Row | Run | None) -> None:
        pass

    def close(self) -> None:
        print(json_text(msgspec.json.format(msgspec.json.encode(self._rows), indent=2)))


def print_table(rows: Sequence[Row | Run]) -> None:
    """Rows as ``timeline`` prints them for people."""
    _Rows().add(rows)


def _line(row: Row | Run) -> _Line:
    return _Line(_number(row), row.position, row.time, row.kind, row.writer, row.epoch, row.summary)


def _number(row: Row | Run) -> str:
    return f"{row.revision}-{row.last_revision}" if isinstance(row, Run) else str(row.revision)


def _style(line: _Line) -> str:
    if line.kind == _STATUS:
        return "cyan"
    return "" if line.kind in _SAID else "dim"
