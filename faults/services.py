"""Gateways, workers and notifiers of a run as processes, each with its own links to servers, and clients' to it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from a2a_events.settings import PREFIX
from a2a_events.testing.waiting import eventually
from faults import entry
from faults.children import Child, Family, get, port_of_its_own
from faults.cluster import Cluster
from faults.proxy import Link

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 45.0
STARTS: Final = 10
"""How often a process may end before it has begun to serve: the servers it needs may be away."""


class Service:
    """One gateway, worker or notifier, through all its lives.

    Args:
        role: ``gateway``, ``worker`` or ``notifier``.
        name: of it in histories; its records name the life as well.
        folder: of the run.
        settings: of the product, by name, as text.
        sabotage: see ``faults.sabotage``.
    """

    def __init__(  # noqa: PLR0917 -- made in one place
        self, family: Family, role: str, name: str, folder: Path, settings: Mapping[str, str], sabotage: str = ""
    ) -> None:
        self.role = role
        self.name = name
        self.port = port_of_its_own() if role == "gateway" else 0
        self.to_nats: dict[str, Link] = {}
        """Its links to the servers, by the servers' names."""
        self.clients = Link(f"clients>{name}", self.port)
        """The link that clients take to a gateway."""
        self._settings = {**settings, "log_format": "json"}
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
        self._environment = {
            **inherited,
            entry.FOLDER: str(folder / "histories"),
            entry.PROCESS: name,
            entry.SABOTAGE: sabotage,
        }
        command = [sys.executable, "-m", f"faults.serve_{role}"]
        self.child = Child(family, name, command, self._environment, folder / f"{name}.log")

    async def connect(self, cluster: Cluster) -> None:
        """Make its links."""
        for node in cluster.nodes:
            self.to_nats[node.name] = Link(f"{self.name}>{node.name}", node.port)
        for link in self.to_nats.values():
            await link.open()
        if self.role == "gateway":
            await self.clients.open()
            self._settings["port"] = str(self.port)
        self._settings["nats"] = ",".join(f"nats://127.0.0.1:{link.port}" for link in self.to_nats.values())

    async def close(self) -> None:
        """Kill it and close its links."""
        self.child.kill()
        for link in [*self.to_nats.values(), self.clients]:
            await link.close()

    def start(self, extra: Mapping[str, str] | None = None) -> None:
        """Begin another life; ``extra`` is added to its environment."""
        settings = {**self._settings, "instance": f"{self.name}-{self.child.starts + 1}"}
        product = {f"{PREFIX}{key.upper()}": value for key, value in settings.items()}
        self.child.environment = {**self._environment, **product, **(extra or {})}
        self.child.start()

    async def ready(self) -> None:
        """Wait until this life serves.

        Raises:
            RuntimeError: it ended instead.
            TimeoutError: neither.
        """
        begun = self.child.starts
        what = f'"instance":"{self.name}-{begun}"'

        async def serves() -> bool:
            if not self.child.running:
                raise RuntimeError(f"{self.name} ended:\n{self.child.last_words()}")
            if self.role == "gateway":
                return (await get(self.port, "/readyz"))[0] == 200
            said = self.child.first_words()
            if what not in said:
                await asyncio.sleep(0.2)
            return what in said

        await eventually(serves, timeout_seconds=START_SECONDS, what=f"readiness of {self.name}")

    async def restart(self) -> None:
        """Begin another life if this one has ended, and again as an orchestrator would, until one serves.

        Raises:
            RuntimeError, TimeoutError: none did.
        """
        for left in reversed(range(STARTS)):
            if not self.child.running:
                self.start()
            try:
                await self.ready()
                return
            except RuntimeError:
                if not left:
                    raise
                await asyncio.sleep(1.0)

    async def stop(self) -> int | None:
        """Ask it to stop (SIGTERM); its exit code, None if it had to be killed."""
        self.child.terminate()
        if await self.child.ended(STOP_SECONDS):
            return self.child.exit_code
        self.child.kill()
        return None

    @property
    def server(self) -> str:
        """Name of the server that it is connected to; empty if none."""
        return next((name for name, link in self.to_nats.items() if link.connections), "")

    def heal(self) -> None:
        """All its links as new."""
        for link in [*self.to_nats.values(), self.clients]:
            link.heal()
