"""A nats-server that asks who somebody is, with the users that ``nats-permissions`` prints."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from a2a_events.cli.nats_permissions import _configuration
from a2a_events.log.jetstream import Names
from a2a_events.log.jetstream.permissions import Permissions, permissions
from a2a_events.services.nats_server import binary
from a2a_events.testing import eventually

PASSWORD = "secret"


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
    config = folder / "nats.conf"
    config.write_text(
        f'port: -1\nports_file_dir: "{folder}"\njetstream {{ store_dir: "{folder}/js" }}\n'
        + _configuration(made, {}, "a2a")
    )
    passwords = {f"A2A_{role.upper()}_PASSWORD": PASSWORD for role in roles}
    process = await asyncio.create_subprocess_exec(
        binary(), "-c", str(config), env=os.environ | passwords, stderr=subprocess.DEVNULL
    )

    def address() -> str:
        file = next(folder.glob("*.ports"), None)
        text = file.read_text() if file else ""
        return text.split("nats://")[1].split('"')[0] if "nats://" in text else ""

    try:
        yield await eventually(address)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
