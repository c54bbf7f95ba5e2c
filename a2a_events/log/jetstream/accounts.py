"""Accounts of NATS: subjects, streams and limits that nothing crosses, one account a tenant or a deployment (ADR 0035).

Within an account each service has a user of its own, which may do what its role needs (``permissions``). Nothing is
exported or imported, so a subject of one account is no subject of another, and no request can name another's stream.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from a2a_events.log.jetstream.names import Names
from a2a_events.log.jetstream.permissions import streams_of, variable
from a2a_events.log.jetstream.streams import MAX_CONSUMERS

SYSTEM: Final = "SYS"
"""The account of the server's own events. It has no users, so nobody hears them."""
_TENANT: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


class Limits(Struct, frozen=True):
    """What an account may use of the server; the server refuses what is over it, to that account alone."""

    storage_bytes: int
    """Of all streams together; on a cluster every copy counts."""
    streams: int
    connections: int


class Account(Struct, frozen=True):
    """An account, and who signs in to it."""

    name: str
    users: Mapping[str, str]
    """Public halves of nkeys, by role. A role without permissions may do everything within the account."""
    limits: Limits | None = None
    """None: as much as the server has."""


def is_tenant(name: str) -> bool:
    """Whether a tenant can be called so here: up to 32 lower-case letters, digits and inner dashes."""
    return _TENANT.fullmatch(name) is not None


def account_name(tenant: str) -> str:
    """What the account of a tenant is called."""
    return f"TENANT_{tenant}"


def needed_streams(names: Names, *, log: str, shards: int) -> int:
    """How many streams a deployment has: with this limit nobody in its account can make one more."""
    return len(streams_of(names, log=log, shards=shards))


def configuration(accounts: list[Account], restricted: frozenset[str], namespace: str) -> list[str]:
    """Lines for the configuration of nats-server.

    Args:
        accounts: all there are, but for the system's.
        restricted: roles whose permissions are defined under their :func:`~permissions.variable`.
        namespace: of these definitions.
    """
    lines = ["accounts {"]
    for account in accounts:
        lines += [f"  {account.name} {{", *_limits(account.limits), "    users: ["]
        for role, key in account.users.items():
            allowed = f", permissions: ${variable(role, namespace)}" if role in restricted else ""
            lines.append(f"      {{ nkey: {key}{allowed} }} # {role}")
        lines += ["    ]", "  }"]
    return [*lines, f"  {SYSTEM} {{}}", "}", f"system_account: {SYSTEM}"]


def _limits(limits: Limits | None) -> list[str]:
    if limits is None:
        return ["    jetstream: enabled"]
    return [
        "    jetstream {",
        "      max_memory: 0",  # all streams are files
        f"      max_file: {limits.storage_bytes}",
        f"      max_streams: {limits.streams}",
        # It bounds each stream, and streams say that they want as many.
        f"      max_consumers: {MAX_CONSUMERS}",
        "    }",
        f"    limits {{ max_connections: {limits.connections}, max_leafnodes: 0 }}",
    ]
