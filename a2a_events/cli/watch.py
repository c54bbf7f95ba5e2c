"""``watch``: follow a task to its end, whatever happens to gateways meanwhile."""

from __future__ import annotations

from typing import Final

import click

from a2a_events.cli import flags

ATTEMPTS: Final = 40
"""Failures in a row, with back-off up to 15 s: about five minutes without any gateway."""


@click.command(short_help="Follow a task until it ends; survives restarts of gateways.")
@click.argument("task")
@flags.urls
@click.option("--cursor", help="Show only what came after this cursor, also of a task that has ended.")
@flags.output("text", "ndjson")
def watch(
    *,
    task: str,
    urls: tuple[str, ...],
    headers: tuple[str, ...],
    token: str | None,
    key: str | None,
    cursor: str | None,
    output: str | None,
) -> int:
    """Follow TASK until it ends, and show its updates as they come.

    A gateway that dies or is restarted does no harm: the stream goes on there, or at another --url, from its cursor,
    with nothing lost and nothing repeated. A task that has ended is shown as it is. The exit code is 0 when the task
    completed, 1 when it failed, was rejected or was canceled.

    \b
    Examples:
      a2a-events watch TASK
      a2a-events watch TASK --url http://127.0.0.1:8000 --url http://127.0.0.1:8001
      a2a-events watch TASK --cursor CURSOR > updates.ndjson
    """
    from a2a_events.cli import show
    from a2a_events.client import Client, Retry
    from a2a_events.errors import UnsupportedOperationError
    from a2a_events.model import TERMINAL_STATES, StreamResponse

    screen = show.screen(output)
    addresses = flags.addresses(urls)
    shown = flags.credentials(token, key)

    async def work() -> int:
        retry = Retry(attempts=ATTEMPTS)
        async with Client(addresses, headers=flags.parse_headers(headers), credentials=shown, retry=retry) as client:
            try:
                updates = client.subscribe(task, cursor)
            except ValueError:
                raise click.BadParameter("no server gave this cursor", param_hint="--cursor") from None
            try:
                return await show.follow(updates, screen, urls)
            except UnsupportedOperationError:
                ended = await client.get(task)
                if ended.status.state not in TERMINAL_STATES:
                    raise
                return show.whole(StreamResponse(task=ended), screen, urls)

    return show.run(work())
