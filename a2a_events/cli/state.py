"""``show``: a task as it was at any revision."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click
import msgspec
from msgspec import Raw, Struct

from a2a_events.cli import flags, source
from a2a_events.cli.outcome import Failure
from a2a_events.cli.source import Source
from a2a_events.cli.text import json_text, one_line, said
from a2a_events.model import Message, Role, Task, timestamp_of

if TYPE_CHECKING:
    from a2a_events.settings import Settings
    from a2a_events.timeline.fold import TaskFold


class _Whole(Struct, frozen=True):
    """What ``--internal`` prints as JSON."""

    revision: int
    task: Raw
    internal: dict[str, Any]


@click.command(short_help="Print a task as it was at a revision.")
@click.argument("task", metavar="TASK_OR_BUNDLE[@REV]")
@click.option(
    "--internal", is_flag=True, help="Also what the turn protocol knows: phase, epoch, claim, pending, steps, …"
)
@flags.output("text", "json")
@flags.settings(*flags.CONNECTION, "log_level", log_level="error")
def show(*, task: str, internal: bool, output: str | None, **given: Any) -> None:
    """Print the Task that the events up to REV amount to; without @REV, up to the newest.

    Every event has a revision: `timeline` prints them. A revision within a commit is shown as well, although nobody
    acted on it. Reads the log, or a file that `export` wrote, and needs no gateway and no worker.

    JSON is the Task as GetTask would have shown it, or the bare Message that the agent answered with. With --internal
    it is an object with the members revision, task and internal. Secrets of webhooks are shown in no form.

    \b
    Examples:
      a2a-events show TASK
      a2a-events show TASK@12 --internal
      a2a-events show task.bundle.jsonl@3
      a2a-events show TASK@12 | jq .status
    """
    name, revision = source.at(task)
    form = output or ("text" if sys.stdout.isatty() else "json")

    async def work(opened: Source, _: Settings) -> None:
        from a2a_events.timeline.revisions import fold_at

        records = await opened.records()
        if not records:
            raise Failure(f"task {opened.task.task_id} has no revision: nothing of it is stored")
        newest = records[-1].header.last_revision
        fold = fold_at(records, newest if revision is None else source.within(revision, records, opened.task))
        if form == "json":
            _print_json(fold, opened, internal=internal)
        else:
            _tell(fold, opened, newest, internal=internal)

    source.run(name, given, "show", work)


def _seen(fold: TaskFold, opened: Source) -> bytes:
    """The Task, or the bare Message."""
    from a2a_events.timeline.render import task

    return fold.content.reply or task(fold, opened.task.task_id, {})


def _print_json(fold: TaskFold, opened: Source, *, internal: bool) -> None:
    from a2a_events.timeline.difference import internal_of

    shown = _seen(fold, opened)
    if internal:
        shown = msgspec.json.encode(_Whole(fold.head.revision, Raw(shown), internal_of(fold)))
    print(json_text(msgspec.json.format(shown, indent=2)))


def _tell(fold: TaskFold, opened: Source, newest: int, *, internal: bool) -> None:
    """For people."""
    from rich.console import Console
    from rich.text import Text

    from a2a_events.timeline.difference import internal_of

    console = Console(highlight=False, emoji=False, markup=False, soft_wrap=True)
    head = fold.head

    def line(text: str, style: str = "") -> None:
        console.print(Text(text, style))

    line(f"task {opened.task.task_id}", "bold")
    line(f"revision {head.revision} of {newest}, {timestamp_of(head.time)}", "dim")
    agent = one_line(f"{opened.task.agent} {head.agent_version}").strip()
    line(f"agent {agent}, context {one_line(head.context_id)}", "dim")
    shown = _seen(fold, opened)
    if fold.content.reply:
        line("the agent answered with a bare message", "cyan")
        line(said(msgspec.json.decode(shown, type=Message).parts))
    else:
        _tell_task(msgspec.json.decode(shown, type=Task), line, exists=head.exists)
    if internal:
        line("internal", "bold")
        members = internal_of(fold)
        width = max(map(len, members))
        for name, value in members.items():
            line(one_line(f"  {name.ljust(width)}  {_value(value)}"))


def _tell_task(task: Task, line: Any, *, exists: bool) -> None:
    line(task.status.state.name if exists else f"{task.status.state.name}, but clients see no task yet", "cyan")
    if task.status.message is not None:
        line(said(task.status.message.parts))
    if task.history:
        line("history", "bold")
    for message in task.history:
        who = "agent" if message.role is Role.AGENT else "user"
        line(f"  {who}, message {one_line(message.message_id)}", "dim")
        line(said(message.parts, "    "))
    for artifact in task.artifacts:
        named = f" ({one_line(artifact.name)})" if artifact.name else ""
        line(f"artifact {one_line(artifact.artifact_id)}{named}, parts: {len(artifact.parts)}", "bold")
        line(said(artifact.parts))


def _value(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
