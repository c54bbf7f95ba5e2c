"""Fail-over between regions: take a log over, and fence the region that had it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from a2a_events.cli import flags

if TYPE_CHECKING:
    from a2a_events.log.jetstream import Connection, Names
    from a2a_events.settings import Settings

T = TypeVar("T")


@click.command(short_help="Take over the log of another region (fail-over).")
@click.argument("log_name", metavar="LOG")
@click.option(
    "--lost",
    is_flag=True,
    help="Go on although its region does not answer. Say it only when nobody can reach that region any more.",
)
@flags.settings(*flags.CONNECTION, "log", *flags.LOGGING)
def region_promote(*, log_name: str, lost: bool, **given: Any) -> None:
    """Make this region the home of another region's LOG: its mirrors here become the log itself.

    The servers of --nats are those that take over; A2A_EVENTS_REGIONS names the domain that has the log now. A region
    that answers is fenced first, and nothing is lost. Of one that does not, everything is lost that its mirrors here
    lack: what it stored since it was last heard of, which is printed. Then start workers here with
    A2A_EVENTS_LOG=LOG, and leave `region-fence LOG --wait` running until the old region has come back.

    All other regions of A2A_EVENTS_REGIONS are asked first whether they have taken LOG over: only one may. One that
    does not answer, and has not, is to be left out of the variable for this command.

    \b
    Examples:
      a2a-events region-promote eu
      a2a-events region-promote eu --lost
    """
    from a2a_events.log.jetstream.takeover import take_over

    domain, settings = _domain(log_name, given)

    others = settings.domains
    done = asyncio.run(_with(settings, lambda c, n: take_over(c, n, log_name, domain, lost=lost, others=others)))
    ends = ", ".join(f"shard {shard} at {position}" for shard, position in sorted(done.positions.items()))
    print(f"log {done.log} is written here from now on, epoch {done.epoch}: {ends}")
    if done.planned:
        print("its old region is fenced; nothing was lost")
    else:
        silent = f" in the last {done.silent_seconds:.1f} seconds and later" if done.silent_seconds is not None else ""
        print(f"lost: what its old region stored{silent} and is not here")
        print(f"fence it when it comes back: a2a-events region-fence {done.log} --wait 86400")


@click.command(short_help="Fence the region that a log was taken over from.")
@click.argument("log_name", metavar="LOG")
@click.option("--wait", type=click.FloatRange(min=0), default=0.0, help="Seconds to wait until it can be reached.")
@flags.settings(*flags.CONNECTION, "log", *flags.LOGGING)
def region_fence(*, log_name: str, wait: float, **given: Any) -> None:
    """Take every subject from LOG's old streams, so that nobody can write to them any more.

    Run it in the region that took LOG over, and leave it waiting until the old region has come back. What that stored
    and nobody took over stays there to be read, and is counted.

    \b
    Example:
      a2a-events region-fence eu --wait 86400
    """
    from a2a_events.log.jetstream.takeover import fence

    domain, settings = _domain(log_name, given)
    done = asyncio.run(_with(settings, lambda c, n: fence(c, n, log_name, domain, patience_seconds=wait)))
    print(f"log {done.log} is fenced in {domain}: epoch {done.epoch} is written elsewhere")
    for shard, records in sorted(done.beyond.items()):
        if records:
            print(f"shard {shard} has {records} records there that are in no log: they were stored after the cut")


def _domain(log: str, given: dict[str, Any]) -> tuple[str, Settings]:
    from a2a_events.services import logs
    from a2a_events.settings import PREFIX, SettingsError, load

    settings = load(given)
    logs.configure(settings.log_level, settings.log_format)
    domain = settings.other_logs.get(log)
    if domain is None:
        raise SettingsError(f"{PREFIX}REGIONS names no domain of log {log!r}; say {log}=DOMAIN there")
    return domain, settings


async def _with(settings: Settings, act: Callable[[Connection, Names], Awaitable[T]]) -> T:
    from a2a_events.services.connect import connection, names

    async with connection(settings, "regions") as made:
        return await act(made, names(settings))
