"""``backup`` and ``restore``: a log as files, and files as a log."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from a2a_events.cli import flags

if TYPE_CHECKING:
    from a2a_events.log.jetstream.backup import Manifest


@click.command(short_help="Write a backup of the log into a folder.")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@flags.settings(*flags.CONNECTION, "log", *flags.LOGGING)
def backup(folder: Path, **given: Any) -> None:
    """Write a backup of the log into FOLDER, which must be empty or not there. Nobody has to stop meanwhile.

    It holds every record with its position, the contents of large ones, the consumers with what they have settled,
    webhooks and how far they were notified, wake-ups, dead letters and agents. Each file is checked before it is
    restored. Keep it as secret as the tasks, and let it expire: a task that was removed stays in it.

    \b
    Example:
      a2a-events backup ./backup-monday --nats nats://broker:4222
    """
    from a2a_events.services import backup as service

    _tell(asyncio.run(service.save(_settings(given), folder)))


@click.command(short_help="Restore a backup of the log where there is none.")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@flags.settings("replicas", "ack_wait_seconds", "push", *flags.CONNECTION, "log", *flags.LOGGING)
def restore(folder: Path, **given: Any) -> None:
    """Restore the backup in FOLDER to a server or account where none of its streams is, and provision the rest.

    Start no service before it has ended. Cursors that clients hold stay good, but for those of events that came after
    the backup. Give --replicas if the servers are not as many as they were.

    \b
    Example:
      a2a-events restore ./backup-monday --nats nats://new-broker:4222 --replicas 1
    """
    from a2a_events.services import backup as service

    _tell(asyncio.run(service.restore(_settings(given), folder, replicas=given["replicas"] or 0)))


def _settings(given: dict[str, Any]) -> Any:
    from a2a_events.services import logs
    from a2a_events.settings import load

    settings = load(given)
    logs.configure(settings.log_level, settings.log_format)
    return settings


def _tell(manifest: Manifest) -> None:
    for saved in manifest.streams:
        print(f"{saved.messages:>9} messages {saved.bytes:>12} bytes  {saved.stream}")
