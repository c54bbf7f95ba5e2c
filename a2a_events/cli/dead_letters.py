"""``dead-letters``: tasks that were given up, why, and once more from the start."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec
from msgspec import Struct

from a2a_events.cli import flags
from a2a_events.cli.outcome import Exit, Failure, explain, program, say
from a2a_events.cli.table import table
from a2a_events.cli.text import clean, text_of
from a2a_events.errors import LogError
from a2a_events.model import Message, timestamp_of

if TYPE_CHECKING:
    from a2a_events.log.jetstream import JetStreamLog
    from a2a_events.log.port import Letter
    from a2a_events.runtime.dead_letters import Account
    from a2a_events.settings import Settings
    from a2a_events.timeline.ids import TaskRef

PATIENCE_SECONDS: Final = 5.0
"""For NATS: somebody sits at the terminal."""


class Row(Struct, frozen=True, omit_defaults=True):
    """One letter, as it is printed."""

    task: str
    agent: str
    tenant: str
    context: str
    time: str
    attempts: int
    reason: str
    epoch: int
    version: str


class Try(Struct, frozen=True):
    """One attempt, as it is printed."""

    attempt: int
    epoch: int
    time: str
    worker: str
    reason: str


class Details(Struct, frozen=True):
    """What ``show`` prints."""

    letter: Row
    state: str
    said: str
    attempts: list[Try]
    replay: str


class Replay(Struct, frozen=True):
    """What became of one task that was to be replayed."""

    task: str
    replay: str
    created: bool
    error: str


@click.group(name="dead-letters", short_help="Tasks that were given up: list, show, replay.")
def dead_letters() -> None:
    """Tasks that were given up: no agent's word ended them. List them, see why, and try them again.

    A task is given up when its agent raised or its workers disappeared as often as its crash policy allows, or when a
    deadline passed. It is FAILED then, for good. A letter is kept for 90 days, or until the task is replayed.

    \b
    Examples:
      a2a-events dead-letters list
      a2a-events dead-letters show TASK
      a2a-events dead-letters replay TASK
    """


@dead_letters.command(name="list", short_help="Print every dead letter.")
@click.option("--agent", default="", metavar="NAME", help="Of this agent's tasks only.")
@flags.output("table", "ndjson", "json")
@flags.settings(*flags.CONNECTION, "log", "log_level")
def list_letters(agent: str, output: str | None, **given: Any) -> None:
    """Print every dead letter, the oldest first.

    \b
    Columns:
      task      its id; `show` and `replay` take it
      time      when it was given up, UTC
      agent     whose task it was; `version` in JSON is that of its code
      attempts  at the turn that failed; of a task that cannot be read, how often it was delivered
      reason    of the last attempt's end; `unreadable` if the log cannot be read by this version

    \b
    Examples:
      a2a-events dead-letters list --agent greet
      a2a-events dead-letters list | jq -r 'select(.attempts > 1) | .task'
    """
    letters = _run(given, lambda log, _: _letters(log, agent))
    _print([_row(letter) for letter in letters], output or ("table" if sys.stdout.isatty() else "ndjson"))


@dead_letters.command(short_help="Print why a task was given up.")
@click.argument("task")
@flags.output("text", "json")
@flags.settings(*flags.CONNECTION, "log_level")
def show(task: str, output: str | None, **given: Any) -> None:
    """Print why TASK was given up: its letter, its last status, and every attempt with what ended it.

    Reads the timeline, so it also tells of a task whose letter is gone because it was replayed.

    \b
    Example:
      a2a-events dead-letters show TASK
    """
    found = _run(given, _accounted(task), log_of=task)
    if (output or ("text" if sys.stdout.isatty() else "json")) == "json":
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        _tell(found)


@dead_letters.command(short_help="Try tasks that were given up again, as new tasks.")
@click.argument("task", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every dead letter of --agent.")
@click.option("--agent", default="", metavar="NAME", help="With --all: whose.")
@flags.settings(*flags.CONNECTION, "log", "content_bytes", "push_keys", "log_level", "instance")
def replay(task: tuple[str, ...], every: bool, agent: str, **given: Any) -> int:  # noqa: FBT001 -- click's way
    """Try each TASK again, and print a line of JSON for each: the task, and the new task that replays it.

    A task that has ended is final, so a replay is a new task. It has the same owner, tenant, context and configuration,
    the same webhooks, and all messages of the dead task in order, which its agent gets in one turn. Its id follows from
    the dead task's: to replay again, also at the same time as somebody else, makes no second one. The letter goes when
    the new task is stored. Replay when the cause is gone: a replay that fails has a letter of its own.

    The exit code is 1 if a task could not be replayed; the others are all the same.

    \b
    Examples:
      a2a-events dead-letters replay TASK
      a2a-events dead-letters replay --all --agent greet
    """
    if every == bool(task):
        raise click.UsageError("give tasks, or --all with --agent NAME")
    if every != bool(agent):
        raise click.UsageError("--all and --agent NAME go together")
    codes = _run(given, _replays(task, agent), log_of=task[0] if task else "")
    return max(codes, default=Exit.OK)


def _run(
    given: dict[str, Any],
    work: Callable[[JetStreamLog, Settings], Coroutine[Any, Any, Any]],
    *,
    log_of: str = "",
) -> Any:
    from a2a_events.services import logs
    from a2a_events.settings import load
    from a2a_events.timeline.ids import parse_task_id

    settings = load({**given, "log_level": given["log_level"] or "error"})
    logs.configure(settings.log_level, settings.log_format)
    home = parse_task_id(log_of)
    if home is not None:
        settings = msgspec.structs.replace(settings, log=home[0])

    async def run() -> Any:
        async with _log(settings) as log:
            return await work(log, settings)

    return asyncio.run(run())


@asynccontextmanager
async def _log(settings: Settings) -> AsyncGenerator[JetStreamLog]:
    from a2a_events.services.connect import jetstream_log

    async with jetstream_log(settings, "dead-letters", patience_seconds=PATIENCE_SECONDS) as (log, _):
        yield log


async def _letters(log: JetStreamLog, agent: str) -> list[Letter]:
    return [letter async for letter in log.dead_letters(agent)]


async def _find(log: JetStreamLog, settings: Settings, task_id: str) -> TaskRef:
    from a2a_events.timeline.ids import parse_task_id

    home = parse_task_id(task_id)
    if home is None:
        raise Failure(f"{task_id!r} is not the id of a task: those begin with t1-, and `dead-letters list` prints them")
    found = await log.find(task_id)
    if found is None:
        where = f"{settings.shown_nats}, namespace {settings.namespace!r}, log {log.name!r}"
        raise Failure(f"there is no task {task_id} at {where}")
    return found


def _accounted(task_id: str) -> Callable[[JetStreamLog, Settings], Coroutine[Any, Any, Details]]:
    async def work(log: JetStreamLog, settings: Settings) -> Details:
        from a2a_events.errors import Unreadable
        from a2a_events.runtime.dead_letters import NotGivenUp, account

        task = await _find(log, settings, task_id)
        try:
            return _details(await account(log, task))
        except NotGivenUp as error:
            raise Failure(str(error)) from None
        except Unreadable:
            letter = await log.dead_letter(task)
            if letter is None:
                raise
            return Details(_row(letter), "unreadable", "", [], "")

    return work


def _replays(task_ids: tuple[str, ...], agent: str) -> Callable[[JetStreamLog, Settings], Coroutine[Any, Any, Any]]:
    async def work(log: JetStreamLog, settings: Settings) -> list[int]:
        from a2a_events.runtime.dead_letters import NotGivenUp, NotReplayable
        from a2a_events.runtime.dead_letters import replay as again
        from a2a_events.runtime.seal import Seals
        from a2a_events.services import push
        from a2a_events.services.connect import writer

        by, seals = writer(settings, "operator"), Seals(log, push.keys(settings))
        codes: list[int] = []
        for task_id in task_ids or [letter.task.task_id for letter in await _letters(log, agent)]:
            code, done, problem = Exit.OK, None, ""
            try:
                done = await again(log, by, seals, await _find(log, settings, task_id), int(time.time() * 1000))
            except (Failure, LogError) as error:
                code, problem = explain(error) or (Exit.FAILED, str(error))
            except (NotGivenUp, NotReplayable) as error:
                code, problem = Exit.FAILED, str(error)
            if problem:
                say(f"error: {problem}")
            shown = Replay(task_id, done.task.task_id if done else "", done is not None and done.created, problem)
            print(msgspec.json.encode(shown).decode(), flush=True)
            codes.append(code)
        return codes

    return work


def _row(letter: Letter) -> Row:
    return Row(
        task=letter.task.task_id,
        agent=letter.task.agent,
        tenant=letter.tenant,
        context=letter.context_id,
        time=timestamp_of(letter.time),
        attempts=letter.attempts,
        reason=letter.reason,
        epoch=letter.epoch,
        version=letter.agent_version,
    )


def _details(account: Account) -> Details:
    message = bytes(account.status.message)
    parts = msgspec.json.decode(message, type=Message).parts if message else ()
    return Details(
        letter=_row(account.letter),
        state=account.status.state.name,
        said=" ".join(text_of(part) for part in parts),
        attempts=[Try(a.attempt, a.epoch, timestamp_of(a.time), a.worker, a.reason) for a in account.attempts],
        replay=account.replay,
    )


def _print(rows: list[Row], output: str) -> None:
    if output == "table":
        if not rows:
            say("no dead letters")
            return
        table(("task", "time", "agent", "attempts", "reason"), rows, right={"attempts"})
    elif output == "json":
        print(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
    else:
        for row in rows:
            print(msgspec.json.encode(row).decode())


def _tell(found: Details) -> None:
    """For people."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, emoji=False, markup=False, soft_wrap=True)
    letter = found.letter
    version = f" {letter.version}" if letter.version else ""
    tenant = f", tenant {letter.tenant}" if letter.tenant else ""

    def line(text: str, style: str = "") -> None:
        console.print(Text(clean(text), style))

    line(f"task {letter.task}", "bold")
    line(f"given up {letter.time} after {letter.attempts} attempts: {letter.reason}", "bold red")
    line(f"agent {letter.agent}{version}{tenant}, context {letter.context or '-'}", "dim")
    line(f"{found.state.lower()}{f': {found.said}' if found.said else ''}")
    for one in found.attempts:
        line(f"attempt {one.attempt}  {one.time}  epoch {one.epoch}  {one.worker}: {one.reason}")
    if found.replay:
        line(f"replayed as {found.replay}", "bold green")
    line(f"every event:    {program()} timeline {letter.task}", "dim")
    if not found.replay:
        line(f"try it again:   {program()} dead-letters replay {letter.task}", "dim")
