"""Fail-over: what was a mirror becomes the log, and what was the log takes nothing in any more (ADR 0025).

A log that was taken over is written on subjects of its own epoch, and stored under the old ones, so ids, cursors and
positions stay. The old region's streams never see such an append, and no append of the old region is seen here: no two
streams store the same one, even before the old region hears that it is the old one. Then it is fenced.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Any, Final

import structlog
from msgspec import Struct

from a2a_events.errors import LogError, NotProvisioned, Unavailable
from a2a_events.log.jetstream import reads
from a2a_events.log.jetstream.connection import Connection
from a2a_events.log.jetstream.domain import DomainConnection
from a2a_events.log.jetstream.log import JetStreamLog, ShardView
from a2a_events.log.jetstream.mirrors import streams_beside
from a2a_events.log.jetstream.names import SCHEDULE, STREAM_NOT_FOUND, Names
from a2a_events.log.jetstream.streams import (
    EPOCH,
    FENCED,
    TAKEN_AT,
    ProvisionError,
    StreamSettings,
    ask,
    configurations,
    marks,
    shards_of,
)
from a2a_events.log.jetstream.wire import header_value

_EVEN_SECONDS: Final = 60.0
"""How long a planned fail-over waits until the mirrors have everything."""
_LOOK_SECONDS: Final = 0.1

logger = structlog.get_logger(__name__)


class TakenOver(Struct, frozen=True):
    """A log that is written here from now on."""

    log: str
    epoch: int
    positions: dict[int, int]
    """Where each shard ended."""
    planned: bool
    """The old region was there, was fenced first, and had nothing that is not here."""
    silent_seconds: float
    """Since the old region was last heard of: what it stored in that time is not here. 0 if it was planned."""


class Fenced(Struct, frozen=True):
    """What the old region has that the log has not, because it was stored there after the link was cut."""

    log: str
    epoch: int
    beyond: dict[int, int]
    """Records of each shard after the position at which it was taken over; they are in no log, and stay to be read."""


async def take_over(connection: Connection, names: Names, log: str, domain: str, *, lost: bool) -> TakenOver:
    """Make the mirrors of a log, in the domain connected to, the log itself. May be repeated when it was interrupted.

    A region that answers is fenced first, and nothing is lost. Of one that does not, what the mirrors lack is lost.

    Args:
        connection: to the region that takes over.
        names: of everything shared with it.
        log: that it takes over.
        domain: JetStream domain in which the log is written now.
        lost: go on although that does not answer. Whoever says so has made sure that nobody reaches it.

    Raises:
        ProvisionError: there are no mirrors here, or the region does not answer and ``lost`` was not said.
        Unavailable: no answer, or the mirrors lack something for too long; repeating is safe.
    """
    here = await shards_of(connection, names, log)
    views = {shard: ShardView.of(names, info["config"]) for shard, info in here.items()}
    if not here:
        raise ProvisionError(f"there is no mirror of log {log!r} here: provision it first")
    if not any(view.mirror for view in views.values()) and all(view.epoch == 1 for view in views.values()):
        raise ProvisionError(f"log {log!r} is written here already")
    taken = [view.epoch for view in views.values() if not view.mirror]
    epoch = max(taken) if taken else 1 + max(view.epoch for view in views.values())
    there = DomainConnection(connection, domain)
    silent = _silent_seconds(here)
    planned = True
    try:
        origins = await shards_of(there, names, log)
    except Unavailable:
        if not lost:
            raise ProvisionError(
                f"domain {domain!r} does not answer: make sure that no client, gateway or worker reaches it, and say "
                "--lost; what it stored since it was last heard of is lost"
            ) from None
        planned = False
    else:
        await _fence(there, names, log, epoch)
        await _even(connection, there, names, log, len(origins))
        silent = 0.0
    wanted = {c["name"]: c for c in configurations(names, StreamSettings(log, len(here)), epoch=epoch)}
    for stream in [*(names.log_stream(log, shard) for shard in here), *streams_beside(names, log)]:
        await _open(connection, wanted[stream], epoch)
    await _ask_again(connection, names, log)
    positions = {s: i["state"]["last_seq"] for s, i in (await shards_of(connection, names, log)).items()}
    logger.info("log taken over", log=log, epoch=epoch, planned=planned, silent_seconds=round(silent, 3))
    return TakenOver(log, epoch, positions, planned, silent)


async def fence(
    connection: Connection, names: Names, log: str, domain: str, *, patience_seconds: float = 0.0
) -> Fenced:
    """Take every subject from a log's old streams, in the domain that it was taken over from.

    Their records stay readable. Whoever still writes there is refused from now on, at once and for good.

    Args:
        connection: to the region that took over.
        names: of everything shared with it.
        log: that it took over.
        domain: the old one.
        patience_seconds: how long to wait until it can be reached.

    Raises:
        NotProvisioned: the log was not taken over here.
        Unavailable: the old domain cannot be reached; repeating is safe.
    """
    here = await shards_of(connection, names, log)
    epochs = [ShardView.of(names, i["config"]).epoch for i in here.values() if not i["config"].get("mirror")]
    if not epochs or max(epochs) == 1:
        raise NotProvisioned(f"log {log!r} was not taken over here")
    there = DomainConnection(connection, domain)
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            await _fence(there, names, log, max(epochs))
            break
        except LogError:
            if time.monotonic() >= deadline:
                raise
        await asyncio.sleep(_LOOK_SECONDS)
    origins = await shards_of(there, names, log)
    beyond = {
        shard: max(0, info["state"]["last_seq"] - int(here[shard]["config"]["metadata"][TAKEN_AT]))
        for shard, info in origins.items()
        if shard in here
    }
    return Fenced(log, max(epochs), beyond)


async def _fence(there: Connection, names: Names, log: str, epoch: int) -> None:
    shards = await shards_of(there, names, log)
    streams = [*(names.log_stream(log, shard) for shard in shards), *streams_beside(names, log)]
    for number, stream in enumerate(streams):
        info = await ask(there, f"STREAM.INFO.{stream}")
        if info.get("error", {}).get("err_code") == STREAM_NOT_FOUND:
            continue
        config: dict[str, Any] = info["config"]
        metadata = _own_metadata(config)
        if FENCED in metadata or config.get("mirror"):
            continue
        # The log itself is served no more; nor is what it republishes. What it holds stays.
        for key in ("republish", "subject_transform"):
            config.pop(key, None)
        config |= {
            "subjects": [f"{names.namespace}.fenced.{log}.{number}.>"],
            "metadata": metadata | {FENCED: str(epoch)},
        }
        await _update(there, config)


async def _even(connection: Connection, there: Connection, names: Names, log: str, shards: int) -> None:
    """Wait until the mirrors have everything that the fenced streams have: from now on those grow no more."""
    streams = [*(names.log_stream(log, shard) for shard in range(shards)), *streams_beside(names, log)]
    deadline = time.monotonic() + _EVEN_SECONDS
    for stream in streams:
        end = (await ask(there, f"STREAM.INFO.{stream}"))["state"]["last_seq"]
        while (await ask(connection, f"STREAM.INFO.{stream}"))["state"]["last_seq"] < end:
            if time.monotonic() > deadline:
                raise Unavailable(f"the mirror {stream} still lacks records: repeat this when it has caught up")
            await asyncio.sleep(_LOOK_SECONDS)


async def _open(connection: Connection, wanted: dict[str, Any], epoch: int) -> None:
    """Make a mirror a stream of its own."""
    info = await ask(connection, f"STREAM.INFO.{wanted['name']}")
    if "error" in info:
        raise ProvisionError(f"cannot read stream {wanted['name']}: {info['error'].get('description')}")
    config: dict[str, Any] = info["config"]
    if config.pop("mirror", None) is None:
        return  # by a try before this one
    metadata = _own_metadata(config)
    metadata |= {EPOCH: str(epoch), TAKEN_AT: str(info["state"]["last_seq"])}
    taken = ("subjects", "subject_transform", "allow_msg_schedules", "allow_rollup_hdrs", "discard", "max_consumers")
    config |= {key: wanted[key] for key in taken if key in wanted}
    config |= {"description": wanted["description"], "metadata": metadata | marks(config)}
    await _update(connection, config)


def _own_metadata(config: dict[str, Any]) -> dict[str, str]:
    """Without what the server adds by itself."""
    metadata: dict[str, str] = config.get("metadata") or {}
    return {key: value for key, value in metadata.items() if not key.startswith("_nats.")}


async def _ask_again(connection: Connection, names: Names, log: str) -> None:
    """Set every wake-up anew: a schedule that came as a copy never falls due."""
    taken = await JetStreamLog.open(connection, names, StreamSettings(log))
    stream = names.timer_stream(log)
    end = (await ask(connection, f"STREAM.INFO.{stream}"))["state"]["last_seq"]
    async for run in reads.batches(connection, stream, names.wakeups(log), 1, end):
        for message in run:
            due = datetime.fromisoformat(header_value(message.headers, SCHEDULE.encode()).removeprefix("@at "))
            task = names.task_of(message.subject)
            await taken.wake_at(task, int(message.payload), int(due.timestamp() * 1000))


async def _update(connection: Connection, config: dict[str, Any]) -> None:
    answer = await ask(connection, f"STREAM.UPDATE.{config['name']}", config)
    if "error" in answer:
        raise ProvisionError(f"cannot change stream {config['name']}: {answer['error'].get('description')}")


def _silent_seconds(here: dict[int, dict[str, Any]]) -> float:
    ages = [info["mirror"]["active"] / 1e9 for info in here.values() if "mirror" in info]
    return max((age for age in ages if age >= 0), default=float("inf"))
