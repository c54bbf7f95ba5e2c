"""A log as files, and files as a log."""

from __future__ import annotations

import asyncio
from pathlib import Path

from msgspec.structs import replace

from a2a_events.log.jetstream import backup
from a2a_events.log.jetstream.backup import Manifest
from a2a_events.services import provisioner
from a2a_events.services.connect import connection, names
from a2a_events.settings import Settings


async def save(settings: Settings, folder: Path) -> Manifest:
    """Write a backup of the log. Errors as ``log.jetstream.backup.save``."""
    async with connection(settings, "backup") as made:
        return await backup.save(made, names(settings), settings.log, folder)


async def restore(settings: Settings, folder: Path, *, replicas: int = 0) -> Manifest:
    """Restore a backup and provision the rest, with as many shards as it has.

    Raises:
        BackupError: as ``log.jetstream.backup.read`` and ``restore``, or the settings are of another log.
        LogError: no answer.
    """
    manifest = await asyncio.to_thread(backup.read, folder)
    if (manifest.namespace, manifest.log) != (settings.namespace, settings.log):
        raise backup.BackupError(
            f"the backup is of log {manifest.log!r} in namespace {manifest.namespace!r}: restore it with these settings"
        )
    async with connection(settings, "backup") as made:
        await backup.restore(made, manifest, folder, replicas=replicas)
    await provisioner.run(replace(settings, shards=manifest.shards, replicas=replicas or manifest.replicas))
    return manifest
