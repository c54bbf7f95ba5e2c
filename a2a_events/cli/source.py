"""Where a command reads a timeline: a task of a log, or a bundle file, which needs no server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import msgspec
from msgspec import Struct

from a2a_events.cli.outcome import Failure, program
from a2a_events.settings import Settings

if TYPE_CHECKING:
    from a2a_events.log.port import Log
    from a2a_events.timeline.bundle import Bundle
    from a2a_events.timeline.ids import TaskRef
    from a2a_events.timeline.record import Record

PATIENCE_SECONDS: Final = 5.0
"""For NATS: somebody sits at the terminal."""

Result = TypeVar("Result")


class Source(Struct, frozen=True):
    """A task, and the log that it is read from."""

    log: Log
    task: TaskRef
    bundle: Bundle | None = None
    """Where the log in memory comes from."""

    async def records(self) -> list[Record]:
        """The whole timeline. See ``runtime.transfer.records_of``."""
        from a2a_events.runtime.transfer import records_of

        return await records_of(self.log, self.task)


def is_file(name: str) -> bool:
    """Whether this names a bundle's file rather than a task."""
    try:
        return Path(name).is_file()
    except (OSError, ValueError):
        return False


def at(argument: str) -> tuple[str, int | None]:
    """What ``TASK@REV`` names: the task or the file, and the revision, if one is given.

    Raises:
        UsageError: what stands after the ``@`` is no number.
    """
    name, mark, revision = argument.rpartition("@")
    if not mark or is_file(argument):
        return argument, None
    return name, number(revision)


def number(revision: str) -> int:
    """A revision out of its text.

    Raises:
        UsageError: not a number.
    """
    if not (revision.isascii() and revision.isdecimal()):
        raise click.UsageError(f"{revision!r} is no revision: those are the numbers 1, 2, 3 … that `timeline` prints")
    return int(revision)


def within(revision: int, records: list[Record], task: TaskRef) -> int:
    """The revision, if the timeline has it.

    Raises:
        Failure: it has none of this number.
    """
    newest = records[-1].header.last_revision if records else 0
    if not 1 <= revision <= newest:
        raise Failure(f"task {task.task_id} has revisions 1 to {newest}: {revision} is none of them")
    return revision


def read_bundle(name: str, content: bytes) -> Bundle:
    """The bundle that a file holds.

    Raises:
        Failure: it is none, or damaged.
    """
    from a2a_events.timeline.bundle import DamagedBundle, read

    try:
        return read(content)
    except DamagedBundle as error:
        raise Failure(f"{name}: {error}") from None


def run(
    name: str, given: dict[str, Any], role: str, work: Callable[[Source, Settings], Coroutine[Any, Any, Result]]
) -> Result:
    """Do something with a task of a log, or of a bundle.

    Args:
        name: a task id, or the path of a bundle.
        given: flags that are settings.
        role: for the server's monitoring.
        work: what to do.

    Raises:
        Failure: there is no such task, or the file is no bundle.
        SettingsError: a setting is wrong.
        LogError: the log cannot be read.
    """
    settings = configured(given)

    async def working() -> Result:
        async with opened(name, settings, role) as source:
            return await work(source, settings)

    return asyncio.run(working())


def configured(given: dict[str, Any]) -> Settings:
    """The settings of a command that somebody waits for: only errors are logged unless more is asked for.

    Raises:
        SettingsError: a setting is wrong.
    """
    from a2a_events.services import logs
    from a2a_events.settings import load

    settings = load({**given, "log_level": given["log_level"] or "error"})
    logs.configure(settings.log_level, settings.log_format)
    return settings


@asynccontextmanager
async def opened(name: str, settings: Settings, role: str) -> AsyncGenerator[Source]:
    """A task of a log, or of a bundle. See :func:`run`."""
    if is_file(name):
        async with _recorded(Path(name)) as source:
            yield source
    else:
        async with _stored(name, settings, role) as source:
            yield source


@asynccontextmanager
async def _recorded(path: Path) -> AsyncGenerator[Source]:
    from a2a_events.runtime.transfer import memory_log

    try:
        bundle = read_bundle(str(path), await asyncio.to_thread(path.read_bytes))
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}") from None
    log = memory_log(bundle)
    try:
        yield Source(log, bundle.task, bundle)
    finally:
        await log.close()


@asynccontextmanager
async def _stored(task_id: str, settings: Settings, role: str) -> AsyncGenerator[Source]:
    from a2a_events.services.connect import jetstream_log
    from a2a_events.timeline.ids import parse_task_id

    home = parse_task_id(task_id)
    if home is None:
        raise Failure(f"{task_id!r} is not the id of a task, nor a file: ids begin with t1-, and `send` prints them")
    settings = msgspec.structs.replace(settings, log=home[0])
    async with jetstream_log(settings, role, patience_seconds=PATIENCE_SECONDS) as (log, _):
        task = await log.find(task_id)
        if task is None:
            raise Failure(f"there is no task {task_id} at {settings.shown_nats}, namespace {settings.namespace!r}")
        yield Source(log, task)


def command(settings: Settings, name: str, *words: str) -> str:
    """A command of ours about the same deployment, as text for people to copy."""
    import shlex

    usual = Settings()
    named = {
        "--nats": (settings.shown_nats, usual.shown_nats),
        "--nats-credentials": (settings.nats_credentials, usual.nats_credentials),
        "--namespace": (settings.namespace, usual.namespace),
    }
    flags = [f"{flag} {shlex.quote(value)}" for flag, (value, default) in named.items() if value != default]
    return " ".join([program(), name, *words, *flags])
