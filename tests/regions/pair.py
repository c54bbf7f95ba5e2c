"""The logs of two regions in a namespace of their own, on servers that tests share; no services."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from msgspec.structs import replace

from a2a_events.log.jetstream import Connection, JetStreamLog, Names, StreamSettings
from a2a_events.log.jetstream.mirrors import streams_beside
from a2a_events.services import provisioner
from a2a_events.settings import Settings
from a2a_events.testing import eventually, unique_namespace
from faults.regions import EU, US, Regions
from tests.contract.logs import new_task, offered
from tests.regions.two import CATCH_UP_SECONDS

SHARDS = 2


class Pair:
    """``async with`` connects to both; :meth:`provision` makes logs and mirrors."""

    def __init__(self, regions: Regions) -> None:
        self.regions = regions
        self.namespace = unique_namespace()
        self.names = Names(self.namespace)
        self.connections: dict[str, Connection] = {}
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for region, server in self.regions.servers.items():
            made = self.connections[region] = Connection([server.url], name=f"pair-{region}")
            await made.open()
            self._exits.push_async_callback(made.close)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exits.aclose()

    @property
    def eu(self) -> Connection:
        return self.connections[EU]

    @property
    def us(self) -> Connection:
        return self.connections[US]

    def settings(self, region: str, **changes: Any) -> Settings:
        return replace(self.regions.settings(region), namespace=self.namespace, **changes)

    async def provision(self) -> None:
        await asyncio.gather(*(provisioner.run(self.settings(region)) for region in self.connections))

    def streams(self, log: str, shards: int = SHARDS) -> list[str]:
        return [*(self.names.log_stream(log, shard) for shard in range(shards)), *streams_beside(self.names, log)]

    async def info(self, region: str, stream: str) -> dict[str, Any]:
        found: dict[str, Any] = await self.connections[region].api(f"STREAM.INFO.{stream}")
        return found

    async def last(self, region: str, log: str, shard: int = 0) -> int:
        return int((await self.info(region, self.names.log_stream(log, shard)))["state"]["last_seq"])

    async def delete(self, region: str, *streams: str) -> None:
        for stream in streams:
            assert (await self.connections[region].api(f"STREAM.DELETE.{stream}"))["success"]

    async def write(self, region: str, log: str, shard: int = 0) -> int:
        """A record of a new task; its position."""
        opened = await JetStreamLog.open(self.connections[region], self.names, StreamSettings(log))
        return await opened.try_append(new_task(opened, shard=shard), offered(0), 0)

    async def mirrored(self, region: str, log: str, shard: int, position: int) -> None:
        """Wait until a mirror has a position."""

        async def there() -> bool:
            return await self.last(region, log, shard) >= position

        await eventually(there, timeout_seconds=CATCH_UP_SECONDS, what=f"position {position} in the mirror")
