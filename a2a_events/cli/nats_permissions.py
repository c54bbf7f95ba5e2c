"""``nats-permissions``: users of NATS that may do what their service does, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from a2a_events.cli import flags

if TYPE_CHECKING:
    from a2a_events.log.jetstream.permissions import Permissions


@click.command(name="nats-permissions", short_help="Print NATS users with as few permissions as each service needs.")
@click.option(
    "--agent", "agents", multiple=True, metavar="NAME", help="The only agents that workers may serve; repeatable."
)
@click.option("--nkey", "nkeys", multiple=True, metavar="ROLE=PUBLIC", help="Public nkey of a role's user; repeatable.")
@flags.settings("shards", "namespace", "log", "regions")
def nats_permissions(agents: tuple[str, ...], nkeys: tuple[str, ...], **given: Any) -> None:
    """Print an authorization block for nats-server: one user for each role, with the permissions that it needs.

    The roles are gateway, worker, notifier, timeline, sweeper, retention, provisioner, backup and operator (for doctor,
    stuck, tasks, timeline, dead-letters). Users without --nkey have passwords, which nats-server reads from its
    environment: A2A_GATEWAY_PASSWORD and so on. Print it anew after an upgrade, and when shards are added. To have the
    users in an account of their own, take the definitions and name them in the account's `users`.

    \b
    Examples:
      a2a-events nats-permissions --shards 1 > users.conf
      a2a-events nats-permissions --agent greet --nkey worker=$(cat worker.pub)
    """
    from a2a_events.log.jetstream.permissions import ROLES, permissions
    from a2a_events.services.connect import names
    from a2a_events.settings import load
    from a2a_events.timeline.ids import is_name

    keys: dict[str, str] = {}
    for one in nkeys:
        role, _, key = one.partition("=")
        if role not in ROLES or not (key.startswith("U") and key.isalnum()):
            raise click.BadParameter(
                f"{one!r} is not ROLE=PUBLIC with a role of {', '.join(ROLES)}", param_hint="--nkey"
            )
        keys[role] = key
    for name in agents:
        if not is_name(name):
            raise click.BadParameter(f"{name!r} is not the name of an agent", param_hint="--agent")
    settings = load(given)
    made = {
        role: permissions(
            role,
            names(settings),
            log=settings.log,
            shards=settings.shards,
            agents=agents,
            regions=settings.other_logs,
        )
        for role in ROLES
    }
    print(_configuration(made, keys, settings.namespace), end="")


def _configuration(made: dict[str, Permissions], keys: dict[str, str], namespace: str) -> str:
    from a2a_events.log.jetstream.permissions import definitions, variable

    lines = ["# Made by `a2a-events nats-permissions`: print it anew instead of editing it."]
    users: list[str] = []
    for role in made:
        name = variable(role, namespace)
        who = f"nkey: {keys[role]}" if role in keys else f"user: {role}, password: ${name}_PASSWORD"
        users.append(f"    {{ {who}, permissions: ${name} }} # {role}")
    return "\n".join([*lines, *definitions(made, namespace), "authorization {", "  users: [", *users, "  ]", "}", ""])
