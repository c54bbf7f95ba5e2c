"""A nats-server that asks who somebody is, with the users that ``nats-permissions`` prints."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from msgspec import Struct

from a2a_events.cli.nats_permissions import _configuration
from a2a_events.log.jetstream import Names
from a2a_events.log.jetstream.permissions import Permissions, permissions
from a2a_events.services.nats_server import binary
from a2a_events.testing import eventually

PASSWORD = "secret"


class Guarded(Struct):
    """A server that runs."""

    address: str
    """Without ``nats://``."""
    config: Path
    process: asyncio.subprocess.Process

    def reload(self, configuration: str) -> None:
        """Go on with another configuration, as ``nats-server --signal reload`` has it do."""
        self.config.write_text(_at(self.config.parent) + configuration)
        self.process.send_signal(signal.SIGHUP)


@asynccontextmanager
async def serving(folder: Path, configuration: str, passwords: dict[str, str] | None = None) -> AsyncIterator[Guarded]:
    """A nats-server with these users."""
    config = folder / "nats.conf"
    config.write_text(_at(folder) + configuration)
    process = await asyncio.create_subprocess_exec(
        binary(), "-c", str(config), env=os.environ | (passwords or {}), stderr=subprocess.DEVNULL
    )

    def address() -> str:
        file = next(folder.glob("*.ports"), None)
        text = file.read_text() if file else ""
        return text.split("nats://")[1].split('"')[0] if "nats://" in text else ""

    try:
        yield Guarded(await eventually(address), config, process)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


@asynccontextmanager
async def guarded(
    folder: Path,
    names: Names,
    roles: Collection[str],
    *,
    shards: int,
    agents: Collection[str] = (),
    made: dict[str, Permissions] | None = None,
) -> AsyncIterator[str]:
    """Its address, without ``nats://``: users are named like their roles.

    ``made`` takes the place of what would be printed.
    """
    made = made or {role: permissions(role, names, shards=shards, agents=agents) for role in roles}
    passwords = {f"A2A_{role.upper()}_PASSWORD": PASSWORD for role in roles}
    async with serving(folder, _configuration(made, {}, "a2a"), passwords) as server:
        yield server.address


def _at(folder: Path) -> str:
    return f'host: 127.0.0.1\nport: -1\nports_file_dir: "{folder}"\njetstream {{ store_dir: "{folder}/js" }}\n'
