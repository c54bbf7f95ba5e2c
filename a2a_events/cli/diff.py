"""``diff``: what changed between two revisions of a task."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec
from msgspec import Raw, Struct

from a2a_events.cli import flags, source
from a2a_events.cli.source import Source
from a2a_events.cli.text import json_text, one_line, said
from a2a_events.model import Message, Part, Role
from a2a_events.timeline.rows import Row, Run, compact, rows_of

if TYPE_CHECKING:
    from a2a_events.settings import Settings
    from a2a_events.timeline.difference import ArtifactDifference, Change, Difference
    from a2a_events.timeline.events import StatusLine


class _Changes(Struct, frozen=True):
    """What is printed as JSON."""

    difference: Any
    events: list[Row | Run]


@click.command(short_help="Print what changed between two revisions of a task.")
@click.argument("task", metavar="TASK_OR_BUNDLE")
@click.argument("before", metavar="REV")
@click.argument("after", metavar="REV")
@flags.output("text", "json")
@flags.settings(*flags.CONNECTION, "log_level", log_level="error")
def diff(*, task: str, before: str, after: str, output: str | None, **given: Any) -> None:
    """Print what changed from one REV to a later one, and the events that did it.

    Status, history and artifacts are those that clients see; internal is what the turn protocol knows. Revision 0 is
    before the first event. Reads the log, or a file that `export` wrote.

    JSON is an object with the members difference and events, in which a run of chunks is one row.

    \b
    Examples:
      a2a-events diff TASK 12 40
      a2a-events diff task.bundle.jsonl 0 3
      a2a-events diff TASK 12 13 | jq .difference.internal
    """
    first, last = source.number(before), source.number(after)
    if first > last:
        raise click.UsageError(f"revision {first} does not come before {last}: give the earlier one first")
    form = output or ("text" if sys.stdout.isatty() else "json")

    async def work(opened: Source, _: Settings) -> None:
        from a2a_events.timeline.difference import difference
        from a2a_events.timeline.revisions import fold_at

        records = await opened.records()
        for revision in (first, last):
            source.within(revision or 1, records, opened.task)
        changed = difference(fold_at(records, first), fold_at(records, last))
        rows = compact(row for record in records for row in rows_of(record) if first < row.revision <= last)
        if form == "json":
            encoded = msgspec.json.encode(_Changes(changed, list(rows)))
            print(json_text(msgspec.json.format(encoded, indent=2)))
        else:
            _tell(opened, changed, list(rows))

    source.run(task, given, "diff", work)


def _tell(opened: Source, changed: Difference, rows: list[Row | Run]) -> None:
    """For people: + and green is what came, - and red is what went."""
    from rich.console import Console
    from rich.text import Text

    from a2a_events.cli.timeline import print_table

    console = Console(highlight=False, emoji=False, markup=False, soft_wrap=True)

    def line(text: str, style: str = "") -> None:
        console.print(Text(text, style))

    line(f"task {opened.task.task_id}", "bold")
    line(f"from revision {changed.from_revision} to {changed.to_revision}", "dim")
    if changed.status is not None:
        line("status", "bold")
        _tell_status(changed.status, line)
    if changed.history:
        line("history", "bold")
    for raw in changed.history:
        message = msgspec.json.decode(raw, type=Message)
        who = "agent" if message.role is Role.AGENT else "user"
        line(f"+ {who}, message {one_line(message.message_id)}", "green")
        line(said(message.parts, "+   "), "green")
    for artifact in changed.artifacts:
        _tell_artifact(artifact, line)
    if isinstance(changed.reply, Raw):
        line("the agent answered with a bare message", "bold")
        line(said(msgspec.json.decode(changed.reply, type=Message).parts, "+ "), "green")
    if changed.internal:
        line("internal", "bold")
        width = max(map(len, changed.internal))
        for name, change in changed.internal.items():
            line(one_line(f"  {name.ljust(width)}  {_value(change.before)} → {_value(change.after)}"))
    line(f"events: {sum(row.count if isinstance(row, Run) else 1 for row in rows)}", "bold")
    if rows:
        print_table(rows)


def _tell_status(change: Change, line: Any) -> None:
    for mark, style, status in (("-", "red", change.before), ("+", "green", change.after)):
        if status is None:
            continue
        shown: StatusLine = status
        line(f"{mark} {shown.state.name}", style)
        if bytes(shown.message):
            line(said(msgspec.json.decode(shown.message, type=Message).parts, f"{mark}   "), style)


def _tell_artifact(artifact: ArtifactDifference, line: Any) -> None:
    line(f"artifact {one_line(artifact.artifact_id)}, {artifact.change}", "bold")
    for name, value in artifact.members.items():
        line(one_line(f"+ {name}: {_value(value)}"), "green")
    if artifact.parts:
        line(said(_parts(artifact.parts), "+ "), "green")


def _parts(raw: Sequence[Raw]) -> tuple[Part, ...]:
    return tuple(msgspec.json.decode(one, type=Part) for one in raw)


def _value(value: Any) -> str:
    return "-" if value is None else value if isinstance(value, str) else msgspec.json.encode(value).decode()
