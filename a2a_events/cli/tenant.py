"""``tenant``: all tasks of one tenant, as files or gone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from a2a_events.cli import flags
from a2a_events.cli.outcome import Exit, Failure, say

if TYPE_CHECKING:
    from a2a_events.runtime.retention import Removed
    from a2a_events.settings import Settings
    from a2a_events.timeline.ids import TaskRef


@click.group(short_help="All tasks of one tenant: export, delete.")
def tenant() -> None:
    """All tasks of one tenant, as files or gone. A tenant is named as its clients name it in their requests.

    \b
    Examples:
      a2a-events tenant export acme ./acme
      a2a-events tenant delete acme --yes
    """


@tenant.command(short_help="Write every task of a tenant into a folder.")
@click.argument("name", metavar="TENANT")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@flags.settings(*flags.CONNECTION, "log", "regions", "log_level", log_level="error")
def export(name: str, folder: Path, **given: Any) -> int:
    """Write every task of TENANT into FOLDER, a bundle each, and say how many they were.

    A task that cannot be read is named and left out; the exit code is 1 then.

    Bundles hold all events, without secrets of webhooks; `timeline`, `show` and `import` read them. Tasks of other
    regions are taken from the mirrors here, as far as these have come. FOLDER must be empty or not there.

    \b
    Example:
      a2a-events tenant export acme ./acme
    """
    from a2a_events.cli.transfer import ENDING
    from a2a_events.errors import Unreadable
    from a2a_events.runtime.tenants import tasks_of
    from a2a_events.runtime.transfer import export as exported
    from a2a_events.services.connect import jetstream_log
    from a2a_events.timeline.bundle import write

    settings = _settings(given)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise Failure(f"{folder} is not empty: nothing is written over anything")
        folder.chmod(0o700)  # it holds all that the tenant has said
    except OSError as error:
        raise Failure(f"{folder} cannot be written and kept to its owner: {error.strerror}") from None

    async def run() -> tuple[int, int]:
        count = left_out = 0
        async with jetstream_log(settings, "tenant") as (log, _):
            for task in await tasks_of(log, name):
                try:
                    content = write(await exported(log, task))
                except Unreadable as error:
                    left_out += 1
                    say(f"task {task.task_id} cannot be read and is left out: {error}")
                    continue
                await asyncio.to_thread((folder / f"{task.task_id}{ENDING}").write_bytes, content)
                count += 1
        return count, left_out

    count, left_out = asyncio.run(run())
    print(f"exported {count}" + (f", left out {left_out}" if left_out else ""))
    return Exit.FAILED if left_out else Exit.OK


@tenant.command(short_help="Remove every task of a tenant that has ended.")
@click.argument("name", metavar="TENANT")
@click.option("--yes", is_flag=True, help="Nobody can bring them back: say that you mean it.")
@flags.settings(*flags.CONNECTION, "log", "regions", "instance", "log_level", log_level="error")
def delete(name: str, yes: bool, **given: Any) -> int:  # noqa: FBT001 -- click's way
    """Remove every task of TENANT that has ended, as `retain` does, however young it is.

    Tasks that have not ended stay, and are named, as are those of other regions; the exit code is 1 then. Cancel
    what has not ended, and delete again, in each region. First make sure that the tenant's clients cannot send any
    more. When none is left, what agents keep for its contexts goes too. Tombstones stay, with ids, times and hashes.
    Backups and mirrors are not reached.

    \b
    Example:
      a2a-events tenant delete acme --yes
    """
    from a2a_events.runtime.tenants import delete as remove
    from a2a_events.services.connect import jetstream_log, writer

    if not yes:
        raise click.UsageError("nobody can bring the tasks back: give --yes if you mean it")
    settings = _settings(given)

    async def run() -> tuple[Removed, list[TaskRef]]:
        async with jetstream_log(settings, "tenant") as (log, _):
            return await remove(log, writer(settings, "operator"), name)

    done, left = asyncio.run(run())
    print(f"removed {done.tasks}, left {len(left)}")
    for task in left:
        here = "has not ended, or cannot be read: cancel it, and delete again"
        elsewhere = f"is one of log {task.log}: delete in the region that writes it"
        say(f"task {task.task_id} {here if task.log == settings.log else elsewhere}")
    return Exit.FAILED if left else Exit.OK


def _settings(given: dict[str, Any]) -> Settings:
    from a2a_events.services import logs
    from a2a_events.settings import load

    settings = load({**given, "log_level": given["log_level"] or "error"})
    logs.configure(settings.log_level, settings.log_format)
    return settings
