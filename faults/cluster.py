"""A cluster of real nats-servers on loopback, whose servers and routes can be broken one by one."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from a2a_events.log.jetstream import Connection
from a2a_events.services.nats_server import binary
from a2a_events.testing.waiting import eventually
from faults.children import Child, Family, get, port_of_its_own
from faults.proxy import Link

READY_SECONDS: Final = 45.0
"""How long a cluster may take to be whole again: a bound, not a figure."""


class Node:
    """One nats-server, and where it listens."""

    def __init__(self, family: Family, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.store = folder / "store"
        self.port = port_of_its_own()
        self.monitor = port_of_its_own()
        self.cluster = port_of_its_own()
        self.config = folder / "nats-server.conf"
        folder.mkdir(parents=True, exist_ok=True)
        self.child = Child(family, name, [binary(), "-c", str(self.config)], os.environ, folder / "out.log")

    @property
    def log(self) -> str:
        """What the server logged."""
        file = self.folder / "server.log"
        return file.read_text(errors="replace") if file.exists() else ""

    async def healthy(self) -> bool:
        """Whether it says that everything in it works."""
        return (await get(self.monitor, "/healthz"))[0] == 200


class Cluster:
    """Three servers that replicate everything, or one.

    Args:
        family: its processes belong to.
        folder: for stores and logs.
        size: 3, or 1.
        sync: ``sync_interval``.
        stores: folders to keep data in, in place of those under ``folder``.
    """

    def __init__(
        self, family: Family, folder: Path, *, size: int = 3, sync: str = "always", stores: Sequence[Path] = ()
    ) -> None:
        self.size = size
        self.sync = sync
        self.nodes = [Node(family, f"n{number}", folder / f"n{number}") for number in range(1, size + 1)]
        for node, store in zip(self.nodes, stores, strict=False):
            node.store = store
        self.routes: dict[tuple[str, str], Link] = {}
        """The way from one server to another, by their names."""
        self._connection: Connection | None = None
        self._missing: list[str] = []
        """What kept the cluster from being whole at the last look."""

    # --- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start all servers and wait until they are a cluster."""
        for one in self.nodes:
            for other in self.nodes:
                if one is not other:
                    link = Link(f"{one.name}>{other.name}", other.cluster)
                    await link.open()
                    self.routes[one.name, other.name] = link
        for node in self.nodes:
            self._configure(node)
            node.child.start()
        await self.whole()

    def _configure(self, node: Node) -> None:
        lines = [
            f"server_name: {node.name}",
            "host: 127.0.0.1",
            f"port: {node.port}",
            f"http: 127.0.0.1:{node.monitor}",
            f"log_file: {json.dumps(str(node.folder / 'server.log'))}",
            "max_payload: 1MB",
            "lame_duck_grace_period: 1s",
            "lame_duck_duration: 30s",
            f"jetstream {{ store_dir: {json.dumps(str(node.store))}, sync_interval: {self.sync} }}",
        ]
        if self.size > 1:
            ways = [f'"nats://127.0.0.1:{link.port}"' for (one, _), link in self.routes.items() if one == node.name]
            # What servers tell of each other would lead past our links: to a port where nobody is.
            lines.append(
                f"cluster {{ name: faults, listen: 127.0.0.1:{node.cluster}, advertise: 127.0.0.1:1, "
                f"no_advertise: true, routes: [{', '.join(ways)}] }}"
            )
        node.config.write_text("\n".join(lines) + "\n")

    async def close(self) -> None:
        """End everything."""
        if self._connection is not None:
            await self._connection.close()
        for node in self.nodes:
            node.child.kill()
        for link in self.routes.values():
            await link.close()

    async def restart(self, node: Node) -> None:
        """Start a server that has ended, and wait until it answers; not until it has caught up."""
        if not node.child.running:
            node.child.start()
        await eventually(lambda: _answers(node), timeout_seconds=READY_SECONDS, what=f"an answer of {node.name}")

    async def lame_duck(self, node: Node, timeout_seconds: float = READY_SECONDS) -> None:
        """Have a server hand over everything and end."""
        node.child.signal(signal.SIGUSR2)
        if not await node.child.ended(timeout_seconds):
            node.child.kill()

    def wipe(self, node: Node) -> int:
        """Remove the data of a server that has ended; bytes removed."""
        assert not node.child.running, "stop it first"
        size = sum(file.stat().st_size for file in node.store.rglob("*") if file.is_file())
        shutil.rmtree(node.store, ignore_errors=True)
        return size

    # --- links --------------------------------------------------------------------------------------------------------

    def routes_of(self, node: Node) -> list[Link]:
        """Every link between a server and the others."""
        return [link for pair, link in self.routes.items() if node.name in pair]

    # --- questions ----------------------------------------------------------------------------------------------------

    def named(self, name: str) -> Node:
        """The server of this name."""
        return next(node for node in self.nodes if node.name == name)

    @property
    def urls(self) -> list[str]:
        """Where clients connect, with nothing in between."""
        return [f"nats://127.0.0.1:{node.port}" for node in self.nodes]

    async def connection(self) -> Connection:
        """A connection of the nemesis's own."""
        if self._connection is None:
            made = Connection(self.urls, name="faults-nemesis")
            await made.open(patience_seconds=READY_SECONDS)
            self._connection = made
        return self._connection

    async def jsz(self, query: str = "") -> dict[str, Any]:
        """``/jsz`` of the first server that answers; empty if none does."""
        for node in self.nodes:
            if node.child.running and not node.child.paused:
                status, body = await get(node.monitor, f"/jsz{query}")
                if status == 200:
                    found: dict[str, Any] = json.loads(body)
                    return found
        return {}

    async def meta_leader(self) -> str:
        """Name of the server that leads the meta group; empty if none is known."""
        return str((await self.jsz()).get("meta_cluster", {}).get("leader", ""))

    async def leaders(self) -> dict[str, str]:
        """The leader of every stream, as most of the servers that answer have it; the only one where there is one."""
        running = [node for node in self.nodes if node.child.running and not node.child.paused]
        votes: dict[str, Counter[str]] = {}
        for seen in await asyncio.gather(*(_groups(node) for node in running)):
            for name, cluster in seen:
                leader = cluster.get("leader") or (self.nodes[0].name if self.size == 1 else "")
                votes.setdefault(name, Counter())[leader] += 1
        for count in votes.values():
            if len(count) > 1:
                del count[""]
        return {name: count.most_common(1)[0][0] for name, count in votes.items()}

    async def whole(self, timeout_seconds: float = READY_SECONDS, *, at_once: bool = False) -> float:
        """Wait until every server runs, and every stream and consumer has a leader and replicas that have caught up.

        A replica of what is written all the time falls behind by a few entries again and again. So it is enough that
        each was seen to have caught up once since the waiting began.

        Args:
            timeout_seconds: how long.
            at_once: wait for a moment at which all of them have.

        Returns:
            Seconds that it took.

        Raises:
            TimeoutError: it did not come to that.
        """
        began = time.monotonic()
        seen: set[str] = set()

        async def is_whole() -> bool:
            return await self._is_whole(set() if at_once else seen)

        try:
            await eventually(is_whole, timeout_seconds=timeout_seconds, what="a whole cluster")
        except TimeoutError as error:
            raise TimeoutError(f"{error}; missing: {', '.join(self._missing)}") from None
        return time.monotonic() - began

    async def _is_whole(self, seen: set[str]) -> bool:
        """Whether all is well; ``seen`` remembers what was well before."""
        healthy = await asyncio.gather(*(node.healthy() for node in self.nodes))
        seen.update(node.name for node, is_healthy in zip(self.nodes, healthy, strict=True) if is_healthy)
        self._missing = [node.name for node in self.nodes if node.name not in seen]
        if self._missing:
            await asyncio.sleep(0.1)
            return False
        if self.size == 1:
            return True
        if not await self.meta_leader():
            self._missing = ["a meta leader"]
            return False
        groups: dict[str, bool] = {}
        for node in self.nodes:
            for name, cluster in await _groups(node):
                groups.setdefault(name, False)
                # Only the leader of a group knows how far the others are.
                if cluster.get("leader") == node.name:
                    replicas = cluster.get("replicas") or []
                    groups[name] = not any(replica.get("offline") for replica in replicas)
                    seen.update(f"{name} at {r['name']}" for r in replicas if r.get("current"))
                    groups[name] &= seen.issuperset(f"{name} at {replica['name']}" for replica in replicas)
        self._missing = [name for name, is_whole in groups.items() if not is_whole]
        return not self._missing

    async def step_down(self, stream: str, to: str = "") -> str:
        """Have the leader of a stream step down, for a server if one is named; who leads then."""
        connection = await self.connection()
        before = (await self.leaders()).get(stream, "")
        body = {"placement": {"preferred": to}} if to else None
        await connection.api(f"STREAM.LEADER.STEPDOWN.{stream}", body)

        async def led() -> str:
            now = (await self.leaders()).get(stream, "")
            return now if now and (now == to if to else now != before) else ""

        return str(await eventually(led, timeout_seconds=READY_SECONDS, what=f"a leader of {stream}"))


async def _groups(node: Node) -> list[tuple[str, dict[str, Any]]]:
    """Every stream and consumer that a server has, and what it knows of the servers that share it."""
    status, body = await get(node.monitor, "/jsz?accounts=true&streams=true&consumers=true")
    if status != 200:
        return []
    found: list[tuple[str, dict[str, Any]]] = []
    for account in json.loads(body).get("account_details", []):
        for stream in account.get("stream_detail") or []:
            found.append((stream["name"], stream.get("cluster") or {}))
            consumers = stream.get("consumer_detail") or []
            found.extend((f"{stream['name']} {one['name']}", one.get("cluster") or {}) for one in consumers)
    return found


async def _answers(node: Node) -> bool:
    status, _ = await get(node.monitor, "/varz")
    if status != 200:
        await asyncio.sleep(0.1)
    return status == 200
