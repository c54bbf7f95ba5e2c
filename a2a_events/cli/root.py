"""The command that holds all others, and the help that teaches them."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from keyword import iskeyword
from typing import Final

import click

import a2a_events
from a2a_events.cli.outcome import Exit

_COMMANDS: Final = {
    "up": "up",
    "send": "send",
    "watch": "watch",
    "timeline": "timeline",
    "show": "state",
    "diff": "diff",
    "export": "transfer",
    "import": "transfer",
    "fork": "transfer",
    "tasks": "tasks",
    "stuck": "stuck",
    "cancel": "cancel",
    "replay": "replay",
    "dead-letters": "dead_letters",
    "demo": "demo",
    "gateway": "services",
    "worker": "services",
    "notifier": "services",
    "timeline-page": "services",
    "provision": "services",
    "sweep": "services",
    "retain": "services",
    "doctor": "doctor",
    "tenant": "tenant",
    "backup": "backup",
    "restore": "backup",
    "nats-permissions": "nats_permissions",
    "nats-accounts": "nats_accounts",
    "api-key": "api_key",
    "card": "card",
    "region-promote": "regions",
    "region-fence": "regions",
}
"""Command and its module, in the order in which a newcomer needs them."""


class _Commands(click.Group):
    """Imports a command's module when it is needed."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever read our output has gone, as with `| head`.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at its exit
            return Exit.PIPE
        return result

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"a2a_events.cli.{_COMMANDS[cmd_name]}")
        attribute = cmd_name.replace("-", "_")
        command: click.Command = getattr(module, f"{attribute}_" if iskeyword(attribute) else attribute)
        return command


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Exit codes:
  0    done; for send and watch: the task completed, or waits for you
  1    the task failed, was rejected or canceled, or the operation was refused
  2    the command line or a setting is wrong, or the port is taken
  3    unavailable: no gateway or no NATS server answers
  130  interrupted by Ctrl-C (services stop cleanly instead: 0)

\b
Settings: every flag of the services is also an environment variable,
A2A_EVENTS_<NAME> (--log-level is A2A_EVENTS_LOG_LEVEL). Flags win; a variable
that is not known is refused. `a2a-events COMMAND --help` says more of each.""",
)
@click.version_option(a2a_events.__version__, message="%(prog)s %(version)s")
def root() -> None:
    """Durable, replayable A2A 1.0 agents on NATS JetStream.

    \b
    Start everything, with a demo agent, and talk to it:
      a2a-events up
      a2a-events send "hello"
      a2a-events send --script '{"chunks": 50, "delayMs": 100}'

    \b
    Serve an agent of your own, from agents.py in this folder:
      a2a-events up --agent agents:greet

    \b
    See what happened to a task, event by event, even with no worker alive:
      a2a-events timeline TASK --compact
      a2a-events show TASK@12
      a2a-events diff TASK 12 40

    \b
    Which tasks are not done, and why does this one not go on?
      a2a-events tasks --state working --state submitted
      a2a-events stuck TASK

    \b
    Take it home, and try again from before it went wrong:
      a2a-events export TASK
      a2a-events timeline TASK.bundle.jsonl -o markdown
      a2a-events fork TASK@12

    \b
    Watch a stream outlive its gateway:
      a2a-events demo
    """
