"""``stuck``: why a task stands where it stands, and what to do about it."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from a2a_events.cli import flags, source
from a2a_events.cli.source import Source
from a2a_events.cli.text import json_text, one_line

if TYPE_CHECKING:
    from a2a_events.settings import Settings
    from a2a_events.timeline.diagnosis import Deliveries, Diagnosis

_COMMAND: Final = re.compile("`a2a-events ([^`]+)`")
_LAST_ATTEMPTS: Final = 10
"""As many claims are shown to people; JSON has all."""


@click.command(short_help="Say in a sentence why a task does not go on.")
@click.argument("task")
@flags.output("text", "json")
@flags.settings(*flags.CONNECTION, "log_level", log_level="error")
def stuck(task: str, output: str | None, **given: Any) -> None:
    """Say why TASK stands where it stands, what to do about it, and what that rests on.

    Reads the log and asks the broker, so it works while no worker is alive, and disturbs none. In JSON, `case` names
    the matter, and `stuck` is true if the task stays like this until somebody does something. The exit code is 0
    whatever the answer is.

    \b
    Examples:
      a2a-events stuck TASK
      a2a-events stuck TASK | jq -r .why
      a2a-events tasks --state working | jq -r .task | xargs -n1 a2a-events stuck | jq -c 'select(.stuck)'
    """
    form = output or ("text" if sys.stdout.isatty() else "json")
    if source.is_file(task):
        raise click.UsageError(f"{task} is what was recorded, and no worker is at that: give a task of a log")

    async def work(opened: Source, settings: Settings) -> None:
        from a2a_events.runtime.examination import examine

        found = await examine(opened.log, opened.task)
        if form == "json":
            print(json_text(msgspec.json.format(msgspec.json.encode(found), indent=2)))
        else:
            tell(found, settings)

    source.run(task, given, "stuck", work)


def tell(found: Diagnosis, settings: Settings) -> None:
    """Print a diagnosis for people."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, emoji=False, markup=False)

    def line(text: str, style: str = "", *, prose: bool = False) -> None:
        console.print(Text(one_line(text), style), soft_wrap=not (prose and console.is_terminal))

    line(found.why, "bold red" if found.stuck else "bold", prose=True)
    if found.advice:
        line(_COMMAND.sub(lambda match: f"`{source.command(settings, match[1])}`", found.advice), prose=True)
    line("")
    for name, value in facts(found):
        line(f"{name:<14}{value}")
    line(f"every event:  {source.command(settings, 'timeline', found.task)}", "dim")


def facts(found: Diagnosis) -> list[tuple[str, str]]:
    """What the sentence rests on, as lines of a name and a value; what does not apply is left out."""
    version = f" {found.agent_version}" if found.agent_version else ""
    place = f", revision {found.revision} at position {found.position}" if found.revision else ""
    shown = [("task", found.task), ("agent", f"{found.agent}{version}")]
    if found.phase:
        shown.append(("state", f"{found.state or '-'} ({found.phase}){place}"))
    if found.silent_seconds is not None:
        shown.append(("newest record", f"{_ago(found.silent_seconds)}, by {found.newest_writer}"))
    if found.owner:
        signs = [
            f"last record {_ago(found.owner_silent_seconds)}",
            f"announced {_ago(found.owner_announced_seconds_ago)}",
        ]
        shown.append(("claim", f"{found.owner}, epoch {found.epoch}, {', '.join(signs)}"))
    if found.cancel_asked:
        shown.append(("cancel", "asked for"))
    if found.nudge_unanswered:
        shown.append(("nudge", "not answered yet"))
    left_out = len(found.attempts) - _LAST_ATTEMPTS
    if left_out > 0:
        shown.append(("attempts", f"{left_out} claims before these"))
    shown += [
        (
            f"attempt {one.attempt}",
            f"epoch {one.epoch}, {one.policy}, {one.worker}: {one.reason or 'goes on'}",
        )
        for one in found.attempts[-_LAST_ATTEMPTS:]
    ]
    if found.pending_messages:
        shown.append(("messages", f"{found.pending_messages} that no agent was given, as far as the log tells"))
    if found.wakes_at:
        shown.append(("wake-up", found.wakes_at))
    if found.deliveries is not None:
        shown += _lag(found.deliveries)
    if found.workers is not None:
        names = [f"{one.name} ({_ago(one.announced_seconds_ago)})" for one in found.workers]
        shown.append(("workers", ", ".join(names) or "none announces the agent"))
    if found.letter is not None:
        shown.append(("dead letter", f"after {found.letter.attempts} attempts: {found.letter.reason}"))
    return [*shown, *(("not known", what) for what in found.untold)]


def _lag(queue: Deliveries) -> list[tuple[str, str]]:
    shown: list[tuple[str, str]] = []
    if queue.position > queue.handed_out:
        shown.append(("delivery", f"of position {queue.position}: not handed out, {queue.ahead} before it"))
    elif queue.position:
        done = "acknowledged" if queue.position <= queue.settled else "handed out, and perhaps not acknowledged"
        shown.append(("delivery", f"of position {queue.position}: {done}"))
    lag = f"{queue.waiting} wait, {queue.under_way} under way, {queue.repeated} of them handed out again"
    free = "a worker is free" if queue.wanted else "no worker is free"
    shown.append(("queue", f"{lag}; up to {queue.handed_out} handed out, up to {queue.settled} settled; {free}"))
    return shown


def _ago(seconds: float | None) -> str:
    from a2a_events.timeline.diagnosis import span

    return "not lately" if seconds is None else f"{span(seconds)} ago"
