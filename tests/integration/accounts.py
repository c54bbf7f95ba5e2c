"""A nats-server with an account for each of two tenants, as `nats-accounts` prints them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct

from a2a_events.cli.nats_accounts import _configuration, _public
from a2a_events.log.jetstream import Connection, Names
from a2a_events.log.jetstream.accounts import Limits, needed_streams
from a2a_events.log.jetstream.permissions import ROLES, permissions
from a2a_events.services import provisioner
from a2a_events.services.connect import connection
from a2a_events.services.nats_server import NatsServer
from a2a_events.settings import Settings

NAMES = Names("a2a")
SHARDS = 2
TENANTS = ("acme", "globex")
DOMAIN = "main"
"""Of the server's JetStream, as regions have one: another way in."""
OWNER = "owner"
"""A user without permissions: what a tenant's account can do at most, as if all of it had been taken over."""


class Shared(Struct):
    """A server, and the keys of the users of its accounts."""

    server: NatsServer
    keys: Path

    def settings(self, tenant: str, role: str = OWNER, **more: object) -> Settings:
        credentials = str(self.keys / tenant / f"{role}.nk")
        given = {"nats": self.server.url, "nats_credentials": credentials, "shards": SHARDS, "drain_spread_seconds": 0}
        return Settings(**{**given, **more})  # type: ignore[arg-type]

    @asynccontextmanager
    async def connected(self, tenant: str, role: str = OWNER) -> AsyncIterator[Connection]:
        async with connection(self.settings(tenant, role), role) as made:
            yield made

    async def provision(self) -> None:
        for tenant in TENANTS:
            await provisioner.run(self.settings(tenant, "provisioner"))


@contextlib.contextmanager
def accounts(folder: Path, *, storage_bytes: int = 1 << 30, more_streams: int = 0) -> Iterator[Shared]:
    """The server is to be started by who uses it, in its own event loop.

    Args:
        folder: for keys and data.
        storage_bytes: of each account.
        more_streams: than a deployment needs, for tests that make streams of their own.
    """
    keys = folder / "keys"
    users = {tenant: {role: _public(keys / tenant / f"{role}.nk") for role in (*ROLES, OWNER)} for tenant in TENANTS}
    made = {role: permissions(role, NAMES, shards=SHARDS) for role in ROLES}
    streams = needed_streams(NAMES, log="main", shards=SHARDS)
    allowed = Limits(storage_bytes=storage_bytes, streams=streams + more_streams, connections=20)
    server = NatsServer(
        folder / "nats", sync="2m", domain=DOMAIN, more=_configuration(made, users, allowed, NAMES.namespace)
    )
    try:
        yield Shared(server, keys)
    finally:
        server.clean()
