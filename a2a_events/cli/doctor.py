"""``doctor``: what is wrong with a deployment, and what to do about it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from a2a_events.cli import flags
from a2a_events.cli.outcome import Exit
from a2a_events.cli.text import clean

if TYPE_CHECKING:
    from a2a_events.services.doctor import Finding

_STYLES: Final = {"ok": "green", "unknown": "cyan", "warning": "yellow", "problem": "bold red"}


@click.command(short_help="Look a deployment over, and say what is wrong and what to do.")
@click.option("--monitor", default="", metavar="URL", help="Monitoring address of a NATS server, as http://HOST:8222.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default=None,
    show_default="text on a terminal, json elsewhere",
    help="How to print.",
)
@flags.settings("shards", "replicas", "ack_wait_seconds", "push", *flags.CONNECTION, "log", "log_level")
def doctor(monitor: str, output: str | None, **given: Any) -> int:
    """Look a deployment over, and say in plain sentences what is wrong with it and what to do. Changes nothing.

    It looks at the NATS server, how durable it is, streams and consumers, replicas, limits and how much of them is
    used, clocks, agents, their workers and queues, notifiers, dead letters, and what its own user may do. Give it the
    settings of the services, and with --monitor it also sees what no connection tells.

    The exit code is 1 if there is a problem, and 0 if there are warnings only.

    \b
    Examples:
      a2a-events doctor --nats nats://broker:4222 --monitor http://broker:8222
      a2a-events doctor | jq -r '.[] | select(.level == "problem") | .says'
    """
    import asyncio

    from a2a_events.services import doctor as service
    from a2a_events.services import logs
    from a2a_events.settings import load

    settings = load({**given, "log_level": given["log_level"] or "error"})
    logs.configure(settings.log_level, settings.log_format)
    found = asyncio.run(service.examine(settings, monitor=monitor))
    if (output or ("text" if sys.stdout.isatty() else "json")) == "json":
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        _tell(found)
    return Exit.FAILED if any(finding.level == "problem" for finding in found) else Exit.OK


def _tell(found: list[Finding]) -> None:
    """For people."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, emoji=False, markup=False, soft_wrap=True)
    for finding in found:
        level = Text(f"{finding.level:<8}", _STYLES[finding.level])
        console.print(level, Text(clean(f"{finding.check}: {finding.says}")))
        if finding.do:
            console.print(Text(clean(f"         {finding.do}"), "dim"))
