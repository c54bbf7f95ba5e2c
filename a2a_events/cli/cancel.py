"""``cancel``: the end of a task, asked for by an operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from a2a_events.cli import flags, source
from a2a_events.cli.outcome import Failure, say

if TYPE_CHECKING:
    from a2a_events.cli.source import Source
    from a2a_events.settings import Settings


@click.command(short_help="Cancel a task, whoever's it is.")
@click.argument("task")
@flags.settings(*flags.CONNECTION, "log_level", "instance", log_level="error")
def cancel(task: str, **given: Any) -> None:
    """Ask for the end of TASK, as its client would: for operators, who have no client's credentials.

    Prints `canceled` if it has ended by that, and `asked` if a worker is at it, who ends it when it has heard of it;
    `watch` and `timeline --follow` show when. Asking twice does no harm. A task that has ended is refused.

    \b
    Examples:
      a2a-events cancel TASK
      a2a-events tasks --state submitted | jq -r .task | xargs -n1 a2a-events cancel
    """
    if source.is_file(task):
        raise click.UsageError(f"{task} is what was recorded, and has no end to ask for: give a task of a log")

    async def work(opened: Source, settings: Settings) -> None:
        from a2a_events.errors import TaskNotCancelableError, TaskNotFoundError
        from a2a_events.runtime import cancellation
        from a2a_events.services.connect import writer

        try:
            ended = await cancellation.cancel(opened.log, writer(settings, "operator"), opened.task)
        except TaskNotCancelableError:
            raise Failure(f"task {task} has ended: there is nothing to cancel") from None
        except TaskNotFoundError:
            raise Failure(f"there is no task {task}") from None
        print("canceled" if ended else "asked", flush=True)
        if not ended:
            say(f"see its end with: {source.command(settings, 'timeline', '--follow', task)}")

    source.run(task, given, "cancel", work)
