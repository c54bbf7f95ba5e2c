"""``export``, ``import`` and ``fork``: a task as a file, a file as a task, and a task from the middle of another."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import click
import msgspec

from a2a_events.cli import flags, source
from a2a_events.cli.outcome import Failure, say
from a2a_events.cli.source import Source

if TYPE_CHECKING:
    from a2a_events.settings import Settings
    from a2a_events.timeline.bundle import Bundle
    from a2a_events.timeline.ids import TaskRef

ENDING: Final = ".bundle.jsonl"
"""Of a bundle's file name."""
STDOUT: Final = "-"
_ITS_LOG: Final = "the one that the task's id names"


def _patterns(
    _context: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> tuple[re.Pattern[str], ...]:
    try:
        return tuple(re.compile(one) for one in given)
    except re.error as error:
        raise click.BadParameter(f"this is not a regular expression: {error}", param=parameter) from None


@click.command(short_help="Write a task's whole timeline into one file.")
@click.argument("task", metavar="TASK_OR_BUNDLE")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    show_default=f"<task id>{ENDING} in this folder",
    help="File to write; - for standard output.",
)
@click.option(
    "--redact-content",
    is_flag=True,
    help="Leave out what clients and agents wrote, and who they were; states, times, ids and names of steps stay.",
)
@click.option(
    "--redact",
    multiple=True,
    metavar="REGEX",
    callback=_patterns,
    help="Replace every match in any text but ids; repeatable. Not found: what chunks divide, and files.",
)
@click.option("--force", is_flag=True, help="Overwrite the file if it is there.")
@flags.settings(*flags.CONNECTION, "log_level", log_level="error")
def export(
    *,
    task: str,
    output: str | None,
    redact_content: bool,
    redact: tuple[re.Pattern[str], ...],
    force: bool,
    **given: Any,
) -> None:
    """Write the whole timeline of TASK_OR_BUNDLE into one file, a bundle, and print the file's name.

    A bundle holds every event as the log has it, and a checksum. `timeline`, `show` and `diff` read it as they read a
    task, and `import` puts it into a log. Secrets of webhooks are never in it. What is redacted is gone for good: give
    a bundle instead of a task to redact one that was exported whole. The file is there when it is whole, or not at all.

    \b
    Examples:
      a2a-events export TASK
      a2a-events export TASK -o failed.jsonl --redact '[\\w.]+@[\\w.]+' --redact 'sk-\\w+'
      a2a-events export TASK -o - | gzip > task.jsonl.gz
      a2a-events export whole.bundle.jsonl --redact-content -o public.bundle.jsonl
    """

    async def work(opened: Source, _: Settings) -> None:
        from a2a_events.runtime import transfer
        from a2a_events.timeline.bundle import redacted, write

        target = output or f"{opened.task.task_id}{ENDING}"
        _refuse_to_overwrite(target, force=force)
        bundle = opened.bundle or await transfer.export(opened.log, opened.task)
        if redact_content or redact:
            bundle = redacted(bundle, content=redact_content, patterns=redact)
        content = write(bundle)
        if target == STDOUT:
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
            return
        _write(Path(target), content, force=force)
        print(target)
        say(f"{len(bundle.records)} records, {bundle.revisions} events, {len(content)} B")

    source.run(task, given, "export", work)


def _refuse_to_overwrite(target: str, *, force: bool) -> None:
    if target != STDOUT and not force and Path(target).exists():
        raise Failure(f"{target} is there already: choose another name with -o, or overwrite it with --force")


def _write(target: Path, content: bytes, *, force: bool) -> None:
    """Write a file that is whole as soon as it is there."""
    unfinished = target.with_name(f".{target.name}.{os.urandom(4).hex()}")
    try:
        with unfinished.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _refuse_to_overwrite(str(target), force=force)
        unfinished.replace(target)
    except OSError as error:
        raise Failure(f"{target} cannot be written: {error.strerror}") from None
    finally:
        unfinished.unlink(missing_ok=True)


@click.command(name="import", short_help="Put an exported task into a log.")
@click.argument("bundle", type=click.File("rb"), metavar="BUNDLE")
@click.option(
    "--new-id", is_flag=True, help="Give the task an id of its own, so that it can stand beside the recorded one."
)
@flags.settings(*flags.CONNECTION, "log", "content_bytes", "log_level", log=_ITS_LOG, log_level="error")
def import_(*, bundle: IO[bytes], new_id: bool, **given: Any) -> None:
    """Put the task of BUNDLE, a file that `export` wrote, into a log, and print the task's id.

    Every event is as it was, and nothing happens because of them: no worker and no webhook is called. A task that has
    not ended is refused where workers of its agent are alive, because those would go on with it. Interrupted,
    repeat it: it goes on where it was. With --new-id each import is another task.

    \b
    Examples:
      a2a-events import task.bundle.jsonl --new-id
      a2a-events export TASK -o - | a2a-events import - --nats nats://127.0.0.1:4333
    """
    settings = source.configured(given)
    recorded = source.read_bundle(bundle.name, bundle.read())
    if not new_id and given["log"] is None:
        settings = msgspec.structs.replace(settings, log=recorded.task.log)
    task = asyncio.run(_imported(recorded, settings, new_id=new_id))
    print(task.task_id, flush=True)
    say(f"see it with: {source.command(settings, 'timeline', task.task_id)}")


async def _imported(bundle: Bundle, settings: Settings, *, new_id: bool) -> TaskRef:
    from a2a_events.runtime.transfer import NotImportable, import_bundle
    from a2a_events.services.connect import jetstream_log

    async with jetstream_log(settings, "import", patience_seconds=source.PATIENCE_SECONDS) as (log, _):
        try:
            return await import_bundle(log, bundle, new_id=new_id)
        except NotImportable as error:
            raise Failure(f"not imported: {error}") from None


@click.command(short_help="Begin a new task from a task's state at a revision.")
@click.argument("task", metavar="TASK@REV")
@flags.settings(*flags.CONNECTION, "content_bytes", "log_level", "instance", log_level="error")
def fork(*, task: str, **given: Any) -> None:
    """Begin a new task that goes on from the state of TASK at REV, and print its id. TASK itself is not touched.

    The new task has the owner, context, agent, history and artifacts of the other at that revision, and names it as its
    origin. A worker takes it up as any task: within a turn, an agent that resumes goes on from there; any other begins
    the turn anew, with the durable steps that it had taken. Webhooks, idempotency keys and a cancel are not carried
    over. A revision at which the task had ended is refused.

    Each fork is another task. What the agent did outside of the log, it may do again.

    \b
    Examples:
      a2a-events fork TASK@12
      a2a-events timeline --follow $(a2a-events fork TASK@12)
    """
    name, revision = source.at(task)
    if source.is_file(name):
        raise click.UsageError(f"{name} is a file, and a fork needs its log: `import` it, and fork the task")
    if revision is None:
        raise click.UsageError(f"say from which revision to go on: {task}@REV; `timeline {task}` prints them")

    async def work(opened: Source, settings: Settings) -> None:
        from a2a_events.runtime import transfer
        from a2a_events.services.connect import writer

        try:
            new = await transfer.fork(opened.log, opened.task, revision, writer(settings, "operator"))
        except transfer.NotForkable as error:
            raise Failure(f"not forked: {error}") from None
        print(new.task_id, flush=True)
        say(f"follow it with: {source.command(settings, 'timeline', '--follow', new.task_id)}")

    source.run(name, given, "fork", work)
