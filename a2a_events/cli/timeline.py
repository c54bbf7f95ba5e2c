"""``timeline``: everything that happened to a task, straight from the log."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, Final, assert_never

import click
import msgspec
from msgspec import Raw, Struct

from a2a_events.cli import flags
from a2a_events.cli.outcome import Failure
from a2a_events.cli.table import table
from a2a_events.model import timestamp_of
from a2a_events.timeline.events import (
    MEMBERS,
    Actor,
    ArtifactChanged,
    CancelRequested,
    DeadLetter,
    Event,
    Kind,
    MessageReceived,
    MessageUnread,
    PushConfigDeleted,
    PushConfigSet,
    Replied,
    StatusChanged,
    Step,
    Submitted,
    TaskDeadLettered,
    Timer,
    TurnClaimed,
    TurnConfirmed,
    TurnEnded,
    TurnNudged,
    TurnReleased,
    TurnSuspended,
    Unknown,
    line_of,
)
from a2a_events.timeline.record import Record

if TYPE_CHECKING:
    from a2a_events.settings import Settings

PATIENCE_SECONDS: Final = 5.0
"""For NATS: somebody sits at the terminal."""
_KINDS: Final = {kind.value: MEMBERS[kind] for kind in Kind}


class Row(Struct, frozen=True, omit_defaults=True):
    """One event, as it is printed. ``event`` is its JSON, left out for kinds that this version does not know."""

    revision: int
    position: int
    time: str
    kind: str
    writer: str
    epoch: int
    summary: str
    event: Raw | msgspec.UnsetType = msgspec.UNSET


# omit_defaults leaves UNSET out and keeps every member that has no default.


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


def rows_of(record: Record) -> list[Row]:
    """One row for each event of a record."""
    header = record.header
    events = zip(header.kinds, header.times, record.lines(), record.events(), strict=True)
    return [
        Row(
            revision=revision,
            position=record.position,
            time=timestamp_of(time),
            kind=_KINDS.get(code, f"unknown ({code})"),
            writer=f"{header.writer.role}/{header.writer.instance}",
            epoch=header.epoch,
            summary=summary(event),
            event=_shown(event, line),
        )
        for revision, (code, time, line, event) in enumerate(events, header.revision)
    ]


def _shown(event: Event, line: bytes) -> Raw | msgspec.UnsetType:
    match event:
        case Unknown():
            return msgspec.UNSET
        case PushConfigSet():
            return Raw(line_of(msgspec.structs.replace(event, sealed=""))[1])  # secrets are shown in no form
        case _:
            return Raw(line)


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


def summary(event: Event) -> str:
    """What an event says, in a few words; content is only counted."""
    match event:
        case Submitted():
            return f"message {_message_id(event.message)}, context {event.context_id}{_by(event.actor)}"
        case MessageReceived():
            return f"message {_message_id(event.message)}{_by(event.actor)}"
        case MessageUnread():
            return f"not handled: {', '.join(event.message_ids)}"
        case CancelRequested():
            return f"asked{_by(event.actor)}"
        case TurnClaimed():
            why = f": {event.reason}" if event.reason else ""
            return f"attempt {event.attempt}, policy {event.policy}{why}"
        case TurnReleased():
            return f"of epoch {event.epoch}{f': {event.reason}' if event.reason else ''}"
        case TurnNudged() | TurnConfirmed():
            return f"of epoch {event.epoch}"
        case TurnSuspended():
            return f"until {timestamp_of(event.until)}"
        case Step():
            return f"{event.name}: {len(bytes(event.result))} B"
        case Timer():
            return f"{event.name}: due {timestamp_of(event.due)}"
        case TurnEnded():
            return event.reason
        case StatusChanged():
            return event.status.state.name
        case ArtifactChanged():
            more = " more" if event.append else ""
            last = ", the last" if event.last_chunk else ""
            return f"{event.artifact.artifact_id}: {len(bytes(event.artifact.parts))} B{more}{last}"
        case Replied():
            return f"message {_message_id(event.message)}"
        case PushConfigSet():
            return f"{event.id}: {event.url}{_by(event.actor)}"
        case PushConfigDeleted():
            return f"{event.id}{_by(event.actor)}"
        case DeadLetter():
            return f"{event.config} did not take revision {event.revision} in {event.attempts} attempts: {event.reason}"
        case TaskDeadLettered():
            return f"given up after {event.attempts} {'attempt' if event.attempts == 1 else 'attempts'}: {event.reason}"
        case Unknown():
            return f"{len(event.line)} B"
        case _:
            assert_never(event)


def _by(actor: Actor) -> str:
    return "" if actor == Actor() else f", by {actor.subject}{f' of {actor.tenant}' if actor.tenant else ''}"


class _Named(Struct, rename="camel"):
    message_id: str = ""


def _message_id(message: Raw) -> str:
    return msgspec.json.decode(message, type=_Named).message_id
