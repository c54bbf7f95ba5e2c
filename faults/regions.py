"""Two regions on this machine: a nats-server with a JetStream domain each, joined by a leaf node that can be cut."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from a2a_events.log.jetstream import Connection
from a2a_events.services import provisioner
from a2a_events.services.nats_server import NatsServer
from a2a_events.settings import Settings
from a2a_events.testing import unique_namespace
from a2a_events.testing.waiting import eventually, free_port
from faults.proxy import Link

EU: Final = "eu"
US: Final = "us"
_PINGS: Final = 'ping_interval: "1s"\nping_max: 2\n'
"""A link that swallows everything is noticed after some seconds; nats-server's default takes minutes."""


class Regions:
    """``async with`` starts both and provisions their logs and mirrors; ``eu`` listens for the leaf, ``us`` connects.

    Args:
        folder: for the stores; None: temporary.
        shards: of each log.
    """

    def __init__(self, folder: Path | None = None, *, shards: int = 2) -> None:
        leaf = free_port()
        self.link = Link("leaf", leaf)
        self.namespace = unique_namespace()
        self._folder = folder
        self._shards = shards
        self._leaf = leaf
        self.servers: dict[str, NatsServer] = {}

    def settings(self, region: str) -> Settings:
        """Of a process in a region."""
        return Settings(
            nats=self.servers[region].url,
            namespace=self.namespace,
            log=region,
            regions=",".join(f"{each}={domain(each)}" for each in self.servers),
            shards=self._shards,
        )

    async def __aenter__(self) -> Self:
        try:
            await self._join()
            await asyncio.gather(*(provisioner.run(self.settings(region)) for region in self.servers))
        except BaseException:
            await self.close()
            raise
        return self

    async def _join(self) -> None:
        # What is advertised would lead the leaf past the link.
        listening = f"{_PINGS}leafnodes {{ host: 127.0.0.1, port: {self._leaf}, no_advertise: true }}\n"
        await self._start(EU, listening)
        await self.link.open()
        await self._start(US, self._leaf_of(self.link.port))
        await self.joined()

    def _leaf_of(self, port: int) -> str:
        return f'{_PINGS}leafnodes {{ remotes: [{{ url: "nats://127.0.0.1:{port}" }}], reconnect: "0.3s" }}\n'

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _start(self, region: str, more: str) -> None:
        store = None if self._folder is None else self._folder / region
        server = self.servers[region] = NatsServer(store, sync="2m", domain=domain(region), more=more)
        await server.start()

    async def joined(self) -> None:
        """Wait until each region reaches the others."""
        for region, other in itertools.permutations(self.servers, 2):
            connection = Connection([self.servers[region].url], name="joined")
            await connection.open()
            try:

                async def reached(connection: Connection = connection, other: str = other) -> bool:
                    try:
                        await connection.request(f"$JS.{domain(other)}.API.INFO", timeout=1.0)
                    except Exception:  # noqa: BLE001 -- whatever it is, it is not there yet
                        return False
                    return True

                await eventually(reached, timeout_seconds=30, what=f"the way from {region} to {other}")
            finally:
                await connection.close()

    async def close(self) -> None:
        """Stop everything."""
        await self.link.close()
        for server in self.servers.values():
            await server.stop()
            server.clean()


def domain(region: str) -> str:
    """A region's JetStream domain."""
    return f"hub-{region}"
