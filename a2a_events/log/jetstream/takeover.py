"""Fail-over: what was a mirror becomes the log, and what was the log takes nothing in any more (ADR 0025).

A log that was taken over is written on subjects of its own epoch, and stored under the old ones, so ids, cursors and
positions stay. The old region's streams never see such an append, and no append of the old region is seen here: no two
streams store the same one, even before the old region hears that it is the old one. Then it is fenced.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final

import structlog
from msgspec import Struct

from a2a_events.errors import NotProvisioned, Unavailable
from a2a_events.log.jetstream import reads
from a2a_events.log.jetstream.connection import Connection
from a2a_events.log.jetstream.domain import DomainConnection
from a2a_events.log.jetstream.log import JetStreamLog, ShardView
from a2a_events.log.jetstream.mirrors import streams_beside
from a2a_events.log.jetstream.names import SCHEDULE, STREAM_NOT_FOUND, Names
from a2a_events.log.jetstream.streams import (
    EPOCH,
    FENCED,
    INCARNATION,
    TAKEN_AT,
    ProvisionError,
    StreamSettings,
    ask,
    configurations,
    marks,
)
from a2a_events.log.jetstream.wire import header_value

_EVEN_SECONDS: Final = 60.0
"""How long a planned fail-over waits until the mirrors have everything."""
_LOOK_SECONDS: Final = 0.1

Infos = Mapping[str, dict[str, Any]]
"""What servers say of streams, by their names."""

logger = structlog.get_logger(__name__)


class TakenOver(Struct, frozen=True):
    """A log that is written here from now on."""

    log: str
    epoch: int
    positions: dict[int, int]
    """Where each shard ended."""
    planned: bool
    """The old region was there, is fenced, and has nothing that is not here."""
    silent_seconds: float | None
    """Since the old region was last heard of: what it stored in that time is not here. 0 if it was planned; None: not
    known any more, or it was never heard of."""


class Fenced(Struct, frozen=True):
    """What the old region has that the log has not, because it was stored there after the link was cut."""

    log: str
    epoch: int
    beyond: dict[int, int]
    """Records of each shard after the position at which it was taken over; they are in no log, and stay to be read."""


async def take_over(
    connection: Connection, names: Names, log: str, domain: str, *, lost: bool, others: Collection[str] = ()
) -> TakenOver:
    """Make the mirrors of a log, in the domain connected to, the log itself. May be repeated when it was interrupted.

    A region that answers is fenced first, and nothing is lost. Everything that can be refused is refused before that.
    Of one that does not answer, or has lost the log, what the mirrors lack is lost.

    Args:
        connection: to the region that takes over.
        names: of everything shared with it.
        log: that it takes over.
        domain: JetStream domain in which the log is written now.
        lost: go on although that does not answer. Whoever says so has made sure that nobody reaches it.
        others: domains of all other regions, which are asked whether they have taken the log over.

    Raises:
        ProvisionError: there are no mirrors here of all that the region has, another region has taken the log over, or
            the region does not answer and ``lost`` was not said. Nothing was changed.
        Unavailable: no answer, or the mirrors lack something for too long; repeating is safe.
    """
    standing = await _standing(connection, names, log)
    epoch = _next_epoch(names, log, standing)
    await _require_only_one(connection, names, log, epoch, {*others} - {domain, _domain(names, log, standing)})
    there = DomainConnection(connection, domain)
    silent = _silent_seconds(standing)
    try:
        origins = await _origins(there, names, log, domain, standing)
    except Unavailable as error:
        if not lost:
            raise ProvisionError(
                f"{error}: make sure that no client, gateway or worker reaches it, and say --lost; what it stored and "
                "no mirror here has is lost"
            ) from None
        planned = False
    else:
        _require_older(origins, log, domain, epoch)
        follow = _mirrors_of(origins, standing, domain)
        await _even(connection, there, follow)  # who does not follow must not cost the log the home that it has
        await _fence(there, names, origins, epoch)
        await _even(connection, there, follow)
        opened = [stream for stream in origins if stream not in follow]
        planned = not sum([await _alone(there, stream, standing[stream]) for stream in opened])
        silent = 0.0 if planned else None
    shards = _shards(names, log, standing)
    wanted = {c["name"]: c for c in configurations(names, StreamSettings(log, len(shards)), epoch=epoch)}
    for stream in standing:
        await _open(connection, wanted[stream], epoch)
    if not planned:
        # Their mirror may have been ahead of the log's, and nobody looks behind the snapshot of a task that has ended.
        purged = await ask(connection, f"STREAM.PURGE.{names.snapshot_stream(log)}")
        if "error" in purged:
            raise Unavailable(f"snapshots of log {log!r} remain: {purged['error'].get('description')}")
    await _ask_again(connection, names, log)
    ends = await _standing(connection, names, log)
    positions = {shard: ends[stream]["state"]["last_seq"] for shard, stream in enumerate(shards)}
    logger.info("log taken over", log=log, epoch=epoch, planned=planned, silent_seconds=silent)
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
        patience_seconds: how long to wait until it can be reached, and has the log.

    Raises:
        NotProvisioned: the log was not taken over here.
        ProvisionError: the domain is not one that the log was taken over from. Nothing was changed.
        Unavailable: the old domain cannot be reached, or has no such log; repeating is safe.
    """
    here = await _standing(connection, names, log)
    views = [ShardView.of(names, here[stream]["config"]) for stream in _shards(names, log, here)]
    epoch = max((view.epoch for view in views if not view.mirror and not view.fenced), default=1)
    if epoch == 1:
        raise NotProvisioned(f"log {log!r} was not taken over here")
    there = DomainConnection(connection, domain)
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            old = await _standing(there, names, log)
            if not old:
                raise Unavailable(f"domain {domain!r} has no log {log!r}: there is nothing to fence")
            _require_older(old, log, domain, epoch)
            await _fence(there, names, old, epoch)
            beyond = {
                shard: await _alone(there, stream, here.get(stream))
                for shard, stream in enumerate(_shards(names, log, old))
            }
            return Fenced(log, epoch, beyond)
        except Unavailable:
            if time.monotonic() >= deadline:
                raise
        await asyncio.sleep(_LOOK_SECONDS)


# --- what stands where ------------------------------------------------------------------------------------------------


async def _standing(connection: Connection, names: Names, log: str) -> dict[str, dict[str, Any]]:
    """Every stream of a log that is there, shards first; nothing without the first shard."""
    found: dict[str, dict[str, Any]] = {}
    while (info := await _found(connection, stream := names.log_stream(log, len(found)))) is not None:
        found[stream] = info
    if not found:
        return found
    for stream in streams_beside(names, log):
        if (info := await _found(connection, stream)) is not None:
            found[stream] = info
    return found


async def _found(connection: Connection, stream: str) -> dict[str, Any] | None:
    info = await ask(connection, f"STREAM.INFO.{stream}")
    if "error" not in info:
        return info
    if info["error"].get("err_code") == STREAM_NOT_FOUND:
        return None
    raise Unavailable(f"cannot read stream {stream}: {info['error'].get('description')}")


def _shards(names: Names, log: str, standing: Infos) -> list[str]:
    beside = streams_beside(names, log)
    return [stream for stream in standing if stream not in beside]


def _domain(names: Names, log: str, standing: Infos) -> str:
    return str(standing[names.log_stream(log, 0)].get("domain", ""))


def _next_epoch(names: Names, log: str, standing: Infos) -> int:
    """The epoch that the log has once it is taken over; of a try before this one, if there was one.

    Raises:
        ProvisionError: it cannot be taken over by what stands here.
    """
    if not standing:
        raise ProvisionError(f"there is no mirror of log {log!r} here: provision it first")
    views = [ShardView.of(names, standing[stream]["config"]) for stream in _shards(names, log, standing)]
    if any(view.fenced for view in views):
        raise ProvisionError(f"log {log!r} was taken over from here: delete its streams, and provision again")
    taken = [view.epoch for view in views if not view.mirror]
    if taken and max(taken) == 1:
        raise ProvisionError(f"log {log!r} is written here already")
    for stream in streams_beside(names, log):
        if stream not in standing:
            raise ProvisionError(f"there is no mirror {stream} here: provision it first")
    return max(taken) if taken else 1 + max(view.epoch for view in views)


async def _require_only_one(
    connection: Connection, names: Names, log: str, epoch: int, domains: Collection[str]
) -> None:
    """Two regions that take the same log over would both store every append.

    Raises:
        ProvisionError: another region has taken it over, or cannot be asked.
    """
    for domain in sorted(domains):
        try:
            info = await _found(DomainConnection(connection, domain), names.log_stream(log, 0))
        except Unavailable:
            raise ProvisionError(
                f"domain {domain!r} does not answer, and may have taken log {log!r} over: if you know that it has not, "
                "leave it out of A2A_EVENTS_REGIONS for this command"
            ) from None
        if info is None:
            continue
        view = ShardView.of(names, info["config"])
        if not view.mirror and not view.fenced and view.epoch >= epoch:
            raise ProvisionError(
                f"domain {domain!r} has taken log {log!r} over already (epoch {view.epoch}): delete the mirrors of "
                f"it here, say {log}={domain} in A2A_EVENTS_REGIONS, and provision again"
            )


async def _origins(
    there: Connection, names: Names, log: str, domain: str, standing: Infos
) -> dict[str, dict[str, Any]]:
    """What the mirrors here follow.

    Raises:
        Unavailable: the domain does not answer, or what it has is another log or none.
    """
    try:
        origins = await _standing(there, names, log)
    except Unavailable:
        raise Unavailable(f"domain {domain!r} does not answer") from None
    if not origins:
        raise Unavailable(f"domain {domain!r} has no log {log!r} any more")
    for stream, info in origins.items():
        if stream in standing and _metadata(info).get(INCARNATION) != _metadata(standing[stream]).get(INCARNATION):
            raise Unavailable(f"log {log!r} was made anew in domain {domain!r}, and has not what the mirrors here have")
    return origins


def _require_older(streams: Infos, log: str, domain: str, epoch: int) -> None:
    """Whoever is fenced must have written before who fences.

    Raises:
        ProvisionError: it only follows, or is the new home itself.
    """
    for stream, info in streams.items():
        if info["config"].get("mirror"):
            raise ProvisionError(
                f"stream {stream} of domain {domain!r} is a mirror: A2A_EVENTS_REGIONS must say where log {log!r} was "
                "written until now"
            )
        written = int(_metadata(info).get(EPOCH, "1"))
        if written >= epoch:
            raise ProvisionError(
                f"domain {domain!r} has itself taken log {log!r} over (epoch {written}): A2A_EVENTS_REGIONS must say "
                "for this command where it was written before"
            )


def _mirrors_of(origins: Infos, standing: Infos, domain: str) -> list[str]:
    """Those of the origins that are followed here; the others were opened by a try before this one.

    Raises:
        ProvisionError: one of the origins is not followed, and was not opened.
    """
    follow: list[str] = []
    for stream in origins:
        config: dict[str, Any] = standing[stream]["config"] if stream in standing else {}
        mirror: dict[str, Any] = config.get("mirror") or {}
        external: dict[str, str] = mirror.get("external") or {}
        metadata: dict[str, str] = config.get("metadata") or {}
        if external.get("api") == f"$JS.{domain}.API":
            follow.append(stream)
        elif mirror or TAKEN_AT not in metadata:
            raise ProvisionError(
                f"stream {stream} of domain {domain!r} has no mirror here that follows it, and would be lost: "
                "provision here, and repeat this"
            )
    return follow


async def _alone(there: Connection, stream: str, here: Mapping[str, Any] | None) -> int:
    """Records of a fenced stream that are not in the one that was taken over; all, if that never was its mirror."""
    old = await _found(there, stream)
    if old is None:
        return 0
    end, taken_at = old["state"]["last_seq"], 0
    if here is not None and _metadata(here).get(INCARNATION) == _metadata(old).get(INCARNATION):
        taken_at = int(_metadata(here).get(TAKEN_AT, "0"))
    if end <= taken_at or not await _newer(there, stream, taken_at):
        return 0
    return int(min(end - taken_at, old["state"]["messages"]))


async def _newer(there: Connection, stream: str, position: int) -> bool:
    """Whether a stream has a message after a position: its newest ones may have been removed."""
    try:
        return await reads.from_leader(there, stream, {"seq": position + 1, "next_by_subj": ">"}) is not None
    except Unavailable:
        return True  # it may be one that is too large for a leaf as JSON


# --- what is done -----------------------------------------------------------------------------------------------------


async def _fence(there: Connection, names: Names, streams: Infos, epoch: int) -> None:
    for stream, info in streams.items():
        metadata = _own_metadata(info["config"])
        if FENCED in metadata:
            continue
        # The log itself is served no more; nor is what it republishes. What it holds stays.
        kept = {key: value for key, value in info["config"].items() if key not in {"republish", "subject_transform"}}
        fenced = {
            "subjects": [f"{names.namespace}.fenced.{stream}.>"],
            "metadata": metadata | {FENCED: str(epoch)},
        }
        await _update(there, kept | fenced)


async def _even(connection: Connection, there: Connection, streams: Collection[str]) -> None:
    """Wait until mirrors have everything that their origins have now.

    Raises:
        Unavailable: they have not for too long.
    """
    deadline = time.monotonic() + _EVEN_SECONDS
    for stream in streams:
        end = await _end(there, stream)
        before = -1
        while (position := await _end(connection, stream)) < end:
            if position == before and not await _newer(there, stream, position):
                break  # what its origin had after that was removed before it was copied
            if time.monotonic() > deadline:
                raise Unavailable(f"the mirror {stream} still lacks records: repeat this when it has caught up")
            before = position
            await asyncio.sleep(_LOOK_SECONDS)


async def _end(connection: Connection, stream: str) -> int:
    info = await _found(connection, stream)
    if info is None:
        raise Unavailable(f"stream {stream} is gone")
    return int(info["state"]["last_seq"])


async def _open(connection: Connection, wanted: dict[str, Any], epoch: int) -> None:
    """Make a mirror a stream of its own."""
    info = await _found(connection, wanted["name"])
    if info is None:
        raise ProvisionError(f"the mirror {wanted['name']} is gone: repeat this")
    config: dict[str, Any] = info["config"]
    if config.pop("mirror", None) is None:
        return  # by a try before this one
    metadata = _own_metadata(config)
    metadata |= {EPOCH: str(epoch), TAKEN_AT: str(info["state"]["last_seq"])}
    taken = ("subjects", "subject_transform", "allow_msg_schedules", "allow_rollup_hdrs", "discard", "max_consumers")
    config |= {key: wanted[key] for key in taken if key in wanted}
    config |= {"description": wanted["description"], "metadata": metadata | marks(config)}
    await _update(connection, config)


def _metadata(info: Mapping[str, Any]) -> dict[str, str]:
    return info["config"].get("metadata") or {}


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


def _silent_seconds(standing: Infos) -> float | None:
    ages = [info["mirror"]["active"] / 1e9 for info in standing.values() if "mirror" in info]
    return max((age for age in ages if age >= 0), default=None)
