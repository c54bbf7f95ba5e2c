"""``replay``: today's agent against a recorded task, offline, and the first difference."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import click
import msgspec

from a2a_events.cli.outcome import Exit, Failure

Texts: TypeAlias = Literal["exact", "whitespace", "ignore"]

if TYPE_CHECKING:
    from a2a_events.runtime.rehearsal import Rehearsed, Replay
    from a2a_events.timeline.bundle import Bundle
    from a2a_events.timeline.comparison import Divergence


@click.command(short_help="Run today's agent against a recorded task, offline.")
@click.argument("bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--agent", required=True, metavar="MODULE:ATTR", help="Agent to run, importable from this folder.")
@click.option("--ignore", multiple=True, metavar="PATH", help="What may differ within an event; repeatable.")
@click.option("--text", type=click.Choice(get_args(Texts)), default="exact", help="How to compare texts.")
@click.option("--merge-chunks", is_flag=True, help="Compare whole artifacts, however they were cut into chunks.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print.")
def replay(bundle: Path, agent: str, ignore: tuple[str, ...], text: Texts, merge_chunks: bool, output: str) -> int:  # noqa: FBT001, PLR0917 -- click's way
    """Run an agent against a task that `export` recorded in BUNDLE, and show the first difference.

    Needs no server. Every attempt is run by itself, from the state at its claim, with the messages that the agent was
    given then. Results of durable steps come from the record; a step that the record does not hold is not taken. What
    the agent does outside of steps it does. Times and random ids may differ.

    \b
    Paths that may differ, where * is any one name or index:
      --ignore status.message.metadata.latency
      --ignore 'artifact.parts.*.data.cost'

    \b
    Exit codes: 0 nothing differs, 1 something does, 2 the command line is wrong,
    or the bundle cannot be read or holds nothing to run an agent on.

    \b
    Examples:
      a2a-events replay task.bundle.jsonl --agent agents:greet
      a2a-events replay task.bundle.jsonl --agent agents:greet --merge-chunks -o json
    """
    from a2a_events.errors import Unreadable
    from a2a_events.runtime.rehearsal import NotRehearsable, rehearse
    from a2a_events.services.worker import load_agents
    from a2a_events.timeline.bundle import DamagedBundle, read
    from a2a_events.timeline.comparison import Tolerance

    (served,) = load_agents(agent)[:1]
    tolerance = Tolerance(ignore=ignore, text=text, merge_chunks=merge_chunks)
    try:
        recorded = read(bundle.read_bytes())
        with redirect_stdout(sys.stderr):  # what the agent prints is not the product
            result = rehearse(recorded, served, tolerance=tolerance)
    except (DamagedBundle, NotRehearsable, Unreadable) as error:
        raise Failure(f"{bundle}: {error}", Exit.USAGE) from None
    if output == "json":
        shown = {**msgspec.to_builtins(result), "differs": result.differs}
        print(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())
    else:
        _show(recorded, result)
    return Exit.FAILED if result.differs else Exit.OK


def _show(bundle: Bundle, result: Replay) -> None:
    count = len(result.attempts)
    attempts = f"{count} {'attempt' if count == 1 else 'attempts'}"
    print(f"task {result.task_id}, agent {result.agent}: {attempts}, {bundle.revisions} events")
    for attempt in result.attempts:
        revisions = f"revisions {attempt.first} to {attempt.last}"
        print(f"\nattempt {attempt.attempt} (epoch {attempt.epoch}, {revisions}): {_verdict(attempt)}")
        if attempt.note:
            print(f"  {_printable(attempt.note)}")
        if attempt.raised:
            print("  the agent raised:")
            for line in attempt.raised.splitlines():
                print(f"  {_printable(line)}")
        if attempt.divergence:
            _show_divergence(attempt.divergence)


def _verdict(attempt: Rehearsed) -> str:
    if not attempt.ran:
        return "not compared"
    events = f"{attempt.equal} {'event' if attempt.equal == 1 else 'events'}"
    if attempt.divergence is None:
        return f"equal, {events}"
    return f"DIFFERS after {events}"


def _show_divergence(divergence: Divergence) -> None:
    recorded, new = divergence.recorded, divergence.new
    where = f" in {divergence.path}" if divergence.path else ""
    place = f"revision {divergence.revision}" if recorded else f"after revision {divergence.revision}"
    print(f"  first difference: {place}{_printable(where)}")
    old_name = f"recorded: {_kind(recorded)}"
    new_name = f"new: {_kind(new)}"
    for line in unified_diff(_lines(recorded), _lines(new), old_name, new_name, n=3, lineterm=""):
        if not line.startswith("@@"):
            print(f"  {_printable(line)}")


def _kind(event: dict[str, Any] | None) -> str:
    return next(iter(event)) if event else "nothing more"


def _lines(event: dict[str, Any] | None) -> list[str]:
    if event is None:
        return []
    return msgspec.json.format(msgspec.json.encode(event), indent=2).decode().splitlines()


def _printable(text: str) -> str:
    """Others' text, without what would move the cursor or change what is shown."""
    return "".join(c if c.isprintable() else "�" for c in text)
