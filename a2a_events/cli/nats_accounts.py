"""``nats-accounts``: an account of NATS for each tenant, with users for each service, limits, and nothing shared."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from a2a_events import limits
from a2a_events.cli import flags
from a2a_events.cli.outcome import Failure, say

if TYPE_CHECKING:
    from a2a_events.log.jetstream.accounts import Limits
    from a2a_events.log.jetstream.permissions import Permissions

_GIB: Final = 1024**3
_OWNER: Final = "owner"
"""A user without permissions: it may do everything within its account."""


@click.command(name="nats-accounts", short_help="Print an account of NATS for each tenant, for hard isolation.")
@click.option(
    "--tenant", "tenants", multiple=True, required=True, metavar="NAME", help="Whose account to print; repeatable."
)
@click.option(
    "--keys",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder of the users' keys; those that are missing are made.",
)
@click.option(
    "--storage-gib",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="What all streams of one account may take; on a cluster every copy counts.",
)
@click.option(
    "--connections",
    type=click.IntRange(min=1),
    default=limits.ACCOUNT_CONNECTIONS,
    show_default=True,
    help="Of one account, at once.",
)
@click.option(
    "--agent", "agents", multiple=True, metavar="NAME", help="The only agents that workers may serve; repeatable."
)
@click.option(
    "--owner",
    "owned",
    multiple=True,
    metavar="NAME",
    help="Tenant in whose account one more user, KEYS/NAME/owner.nk, may do everything: to remove it; repeatable.",
)
@flags.settings("shards", "namespace", "log")
def nats_accounts(
    *,
    tenants: tuple[str, ...],
    keys: Path,
    storage_gib: float,
    connections: int,
    agents: tuple[str, ...],
    owned: tuple[str, ...],
    **given: Any,
) -> None:
    """Print accounts for nats-server: one for each tenant, whose services nothing of another tenant can reach.

    Each account has streams of its own, limits of its own, and a user for each role with the permissions of
    `nats-permissions`. Run gateway, worker, notifier and provisioner once for each tenant, each with the key
    KEYS/TENANT/ROLE.nk as A2A_EVENTS_NATS_CREDENTIALS. Only public halves are printed. Keys that are there stay, so
    print it anew to add a tenant, after an upgrade, and when shards are added. Name all tenants each time:
    those that are left out have no account any more, and are named on standard error if KEYS has keys of them.

    NAME is lower-case letters, digits and dashes, and need not be what credentials call the tenant: that is
    A2A_EVENTS_AUTH_TENANT of its gateways.

    \b
    Examples:
      a2a-events nats-accounts --shards 1 --tenant acme --tenant globex --keys keys > accounts.conf
      A2A_EVENTS_NATS_CREDENTIALS=keys/acme/provisioner.nk a2a-events provision --shards 1
    """
    from a2a_events.log.jetstream.accounts import Limits, is_tenant, needed_streams
    from a2a_events.log.jetstream.permissions import ROLES, permissions
    from a2a_events.services.connect import names
    from a2a_events.settings import load
    from a2a_events.timeline.ids import is_name

    for tenant in tenants:
        if not is_tenant(tenant):
            raise click.BadParameter(
                f"{tenant!r} is not up to 32 lower-case letters, digits and inner dashes", param_hint="--tenant"
            )
    for tenant in owned:
        if tenant not in tenants:
            raise click.BadParameter(f"{tenant!r} is not among the --tenant that are printed", param_hint="--owner")
    for name in agents:
        if not is_name(name):
            raise click.BadParameter(f"{name!r} is not the name of an agent", param_hint="--agent")
    settings = load(given)
    where = names(settings)
    made = {role: permissions(role, where, log=settings.log, shards=settings.shards, agents=agents) for role in ROLES}
    users = {
        tenant: {
            role: _public(keys / tenant / f"{role}.nk") for role in (*ROLES, *([_OWNER] if tenant in owned else []))
        }
        for tenant in dict.fromkeys(tenants)
    }
    allowed = Limits(
        storage_bytes=int(storage_gib * _GIB),
        streams=needed_streams(where, log=settings.log, shards=settings.shards),
        connections=connections,
    )
    if left_out := sorted({found.parent.name for found in keys.glob("*/*.nk")} - users.keys()):
        say(
            f"{', '.join(left_out)}: there are keys in {keys}, but no --tenant; "
            "a server that loads this has no such account, and their services are cut off"
        )
    print(_configuration(made, users, allowed, settings.namespace), end="")


def _configuration(
    made: dict[str, Permissions], users: dict[str, dict[str, str]], allowed: Limits, namespace: str
) -> str:
    from a2a_events.log.jetstream.accounts import Account, account_name, configuration
    from a2a_events.log.jetstream.permissions import definitions

    accounts = [Account(account_name(tenant), keys, allowed) for tenant, keys in users.items()]
    return "\n".join(
        [
            "# Made by `a2a-events nats-accounts`: print it anew instead of editing it. Public halves of keys only.",
            *definitions(made, namespace),
            *configuration(accounts, frozenset(made), namespace),
            "",
        ]
    )


def _public(path: Path) -> str:
    """The public half of the key in a file, which is made if it is not there."""
    try:
        nkeys: Any = import_module("nkeys")  # ships no types
    except ImportError as error:
        raise Failure(f"keys need a package that is not here: install a2a-events[credentials] ({error})") from None

    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        seed = path.read_bytes().strip()
        if path.stat().st_mode & 0o077:
            say(f"{path} may be read by others than its owner: take that away, or remove it to have a new one made")
    else:
        seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
        with os.fdopen(descriptor, "wb") as file:
            file.write(seed)
    try:
        public: bytes = nkeys.from_seed(bytearray(seed)).public_key
    except nkeys.NkeysError:
        public = b""
    if not public.startswith(b"U"):
        raise Failure(f"{path} does not hold the seed of a user's nkey: remove it to have a new one made")
    return public.decode()
