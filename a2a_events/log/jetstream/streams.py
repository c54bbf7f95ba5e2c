"""Creating and verifying the streams that the log lives in: one owner, one place (design 5, 6, 14).

``provision`` is idempotent. It creates what is missing and refuses what differs from what it would make, except for
settings that an operator may choose (replicas, placement, limits of size).
"""

from __future__ import annotations

import os
from typing import Any, Final

import structlog
from msgspec import Struct

from a2a_events import limits
from a2a_events.errors import LogError, NotProvisioned, Unavailable, Uncertain
from a2a_events.log.jetstream import reads
from a2a_events.log.jetstream.connection import Connection
from a2a_events.log.jetstream.names import CONSUMER_NOT_FOUND, STREAM_NOT_FOUND, Names
from a2a_events.log.jetstream.object_store import stream_of, subjects_of

INCARNATION: Final = "a2a-events-incarnation"
"""Stream metadata: random, made with the stream; every record of the shard carries it."""
KEYED_SHARDS: Final = "a2a-events-keyed-shards"
"""Metadata of shard 0's stream: over how many shards idempotency keys are spread, as it was when the log was made. It
is never changed, whatever shards are added. A log of a version that did not write it keeps its keys in shard 0."""
MAX_CONSUMERS: Final = 20_000
"""nats-server 2.15 allows 1,000 a stream unless told otherwise; one a worker consumer is far below either."""
MAX_ACK_PENDING: Final = 50_000
"""Deliveries under way a consumer; the default of 1,000 would cap the turns of all workers together."""

EPOCH: Final = "a2a-events-epoch"
"""Metadata of a log's streams: 1 higher with each region that took the log over (ADR 0025); 1 where it is missing."""
FENCED: Final = "a2a-events-fenced"
"""Metadata of a log's streams that another region has taken over: its epoch. They take nothing in any more."""

NO_SUITABLE_PEERS: Final = 10005
UNAVAILABLE: Final = 503
"""Code of what a server cannot say or do now; codes of 4xx and 500 are definite."""

logger = structlog.get_logger(__name__)


class ProvisionError(LogError):
    """A stream or consumer exists and is not what this version needs; nothing was changed."""


class StreamSettings(Struct, frozen=True):
    """What an operator chooses about the log's streams."""

    log: str = "main"
    shards: int = 4
    """4 for one server that syncs each write (one fsync at a time a stream), 1 for a cluster, which shares them."""
    replicas: int = 1
    ack_wait_seconds: float = limits.ACK_WAIT_SECONDS


async def provision(connection: Connection, names: Names, settings: StreamSettings) -> dict[str, str]:
    """Create or verify everything the log needs.

    Returns:
        What happened to each stream: ``created`` or ``verified``.

    Raises:
        ProvisionError: a stream is there and differs; the message names it, the setting and both values.
        Unavailable: no answer; repeating is safe.
    """
    done: dict[str, str] = {}
    standing = await shards_of(connection, names, settings.log)
    if any(info["config"].get("mirror") for info in standing.values()):
        raise ProvisionError(
            f"log {settings.log!r} is written in another domain, and mirrored here: `a2a-events region-promote` would "
            "take it over"
        )
    epoch, live = 1, "live"
    if standing:
        metadata: dict[str, str] = standing[0]["config"].get("metadata") or {}
        if FENCED in metadata:
            raise ProvisionError(f"log {settings.log!r} was taken over by another region: choose another log here")
        epoch = int(metadata.get(EPOCH, "1"))
        republish: dict[str, str] = standing[0]["config"].get("republish") or {}
        live = names.live_root(republish.get("dest", "")) if epoch > 1 else live
    for config in configurations(names, settings, epoch=epoch, live=live):
        done[config["name"]] = await _ensure_stream(connection, config)
    if done[names.registry_stream(settings.log)] == "created":
        await _take_over_cards(connection, names, settings.log)
    return done


async def _take_over_cards(connection: Connection, names: Names, log: str) -> None:
    """What agents there are, from the registry of a version whose subjects did not name the log (ADR 0025).

    So that gateways of this version show them before their workers have been replaced. The old stream stays: workers of
    the version before still write there.
    """
    old = f"{names.namespace}.agents.*.card"
    async for message in reads.newest(connection, names.old_registry_stream, old):
        agent = message.subject.split(".")[-2]
        await connection.request(names.card(log, agent), message.payload)
        logger.info("agent taken over from the old registry", agent=agent)


async def shards_of(connection: Connection, names: Names, log: str) -> dict[int, dict[str, Any]]:
    """The shards of a log that exist, with each stream's info.

    Raises:
        ProvisionError: one of them cannot be read.
        Unavailable: no answer, or no leader yet; repeating is safe.
    """
    found: dict[int, dict[str, Any]] = {}
    shard = 0
    while True:
        info = await ask(connection, f"STREAM.INFO.{names.log_stream(log, shard)}")
        if "error" in info:
            if info["error"].get("err_code") == STREAM_NOT_FOUND:
                return found
            raise ProvisionError(f"cannot read stream of shard {shard}: {info['error'].get('description')}")
        found[shard] = info
        shard += 1


async def require_stream(connection: Connection, stream: str) -> None:
    """Say that a stream is there.

    Raises:
        NotProvisioned: it is not.
        Unavailable: no answer, or no leader yet; repeating is safe.
    """
    info = await ask(connection, f"STREAM.INFO.{stream}")
    if "error" in info:
        why = info["error"].get("description", "no answer")
        raise NotProvisioned(f"cannot use stream {stream} ({why}): run `a2a-events provision` of this version")


async def ensure_worker_consumer(
    connection: Connection, names: Names, settings: StreamSettings, shard: int, agent: str
) -> None:
    """The durable consumer that hands an agent's work to all of its workers.

    Raises:
        ProvisionError: it is there with other settings that cannot be changed.
        Unavailable: no answer, or no leader yet; repeating is safe.
    """
    stream = names.log_stream(settings.log, shard)
    await _ensure_consumer(
        connection,
        stream,
        {
            "durable_name": names.worker_consumer(agent),
            "filter_subject": names.inbound_filter(settings.log, shard, agent),
            "ack_policy": "explicit",
            "ack_wait": int(settings.ack_wait_seconds * 1e9),
            "deliver_policy": "all",
            "max_deliver": -1,
            "max_ack_pending": MAX_ACK_PENDING,
            "max_waiting": 512,
            "replay_policy": "instant",
        },
    )


async def ensure_notifier_consumer(connection: Connection, names: Names, settings: StreamSettings, shard: int) -> None:
    """The durable consumer that shows every record of a shard to one of the notifiers."""
    await _ensure_consumer(
        connection,
        names.log_stream(settings.log, shard),
        {
            "durable_name": names.notifier_consumer,
            "filter_subject": names.shard("log", settings.log, shard),
            "headers_only": True,  # most records are of tasks without webhooks; the rest is read from the log
            "ack_policy": "explicit",
            "ack_wait": int(settings.ack_wait_seconds * 1e9),
            "deliver_policy": "all",
            "max_deliver": -1,
            "max_ack_pending": MAX_ACK_PENDING,
            "max_waiting": 512,
            "replay_policy": "instant",
        },
    )


async def ensure_timer_consumer(connection: Connection, names: Names, settings: StreamSettings, agent: str) -> None:
    """The durable consumer that hands an agent's wake-ups to all of its workers."""
    await _ensure_consumer(
        connection,
        names.timer_stream(settings.log),
        {
            "durable_name": names.worker_consumer(agent),
            "filter_subject": names.due_filter(settings.log, agent),
            "ack_policy": "explicit",
            "ack_wait": int(settings.ack_wait_seconds * 1e9),
            "deliver_policy": "all",
            "max_deliver": -1,
            "replay_policy": "instant",
        },
    )


def configurations(
    names: Names, settings: StreamSettings, *, epoch: int = 1, live: str = "live"
) -> list[dict[str, Any]]:
    """Every stream of a log, as it is made.

    Args:
        names: of everything shared with the servers.
        settings: what the operator chooses.
        epoch: over 1 for a log that was taken over from another region.
        live: root of its live records, which a log that was taken over keeps.
    """
    log, space = settings.log, names.namespace
    common: dict[str, Any] = {
        "storage": "file",
        "retention": "limits",
        "num_replicas": settings.replicas,
        "allow_direct": True,
    }
    streams: list[dict[str, Any]] = [
        {
            **common,
            "name": names.log_stream(log, shard),
            "description": f"a2a-events: tasks of shard {shard} of log {log}",
            "subjects": [names.ingest(log, shard, epoch)],
            "republish": {"src": names.shard("log", log, shard), "dest": names.shard(live, log, shard)},
            "max_consumers": MAX_CONSUMERS,
            "metadata": {INCARNATION: os.urandom(6).hex()} | ({} if shard else {KEYED_SHARDS: str(settings.shards)}),
        }
        | (_transformed(names, log, shard, epoch) if epoch > 1 else {})
        for shard in range(settings.shards)
    ]
    snapshots: dict[str, Any] = {
        **common,
        "name": names.snapshot_stream(log),
        "description": f"a2a-events: snapshots of log {log}; may be deleted, is rebuilt",
        "subjects": [f"{space}.snap.{log}.>"],
        "max_msgs_per_subject": 1,
        "allow_rollup_hdrs": False,
    }
    if settings.replicas == 1:
        snapshots["persist_mode"] = (
            "async"  # 18 times the puts under sync_interval always; refused on replicated streams
        )
    streams.append(snapshots)
    streams.append(
        {
            **common,
            "name": names.push_stream(log),
            "description": f"a2a-events: how far webhooks of log {log} were notified, and the key of their secrets",
            "subjects": [f"{space}.push.{log}.>"],
            "max_msgs_per_subject": 1,
        }
    )
    streams.append(
        {
            **common,
            "name": names.timer_stream(log),
            "description": f"a2a-events: wake-ups of log {log}",
            "subjects": [f"{space}.timer.{log}.>"],
            "max_msgs_per_subject": 1,
            "allow_msg_schedules": True,
            "allow_rollup_hdrs": True,
        }
    )
    streams.append(
        {
            **common,
            "name": names.dead_stream(log),
            "description": f"a2a-events: dead letters of log {log}: tasks that were given up",
            "subjects": [f"{space}.dead.{log}.>"],
            "max_msgs_per_subject": 1,
            "max_age": int(limits.DEAD_LETTER_SECONDS * 1e9),
        }
    )
    streams.append(
        {
            **common,
            "name": stream_of(names.bucket(log)),
            "description": f"a2a-events: what no record of log {log} holds; records refer to it",
            "subjects": subjects_of(names.bucket(log)),
            "discard": "new",  # a full bucket refuses: discarding the oldest would lose what records refer to
            "allow_rollup_hdrs": True,
        }
    )
    streams.append(
        {
            **common,
            "name": names.registry_stream(log),
            "description": f"a2a-events: what agents there are for log {log}",
            "subjects": [f"{space}.registry.{log}.>"],
            "max_msgs_per_subject": 1,
            "allow_msg_ttl": True,
        }
    )
    return streams


def _transformed(names: Names, log: str, shard: int, epoch: int) -> dict[str, Any]:
    """What is taken in on the subjects of an epoch is stored under those that readers know."""
    taken_in = names.ingest(log, shard, epoch)
    return {"subject_transform": {"src": taken_in, "dest": names.shard("log", log, shard)}}


_VERIFIED: Final = (
    "subjects",
    "storage",
    "retention",
    "allow_direct",
    "republish",
    "subject_transform",
    "max_msgs_per_subject",
    "allow_msg_schedules",
    "allow_msg_ttl",
)


async def _ensure_stream(connection: Connection, config: dict[str, Any]) -> str:
    name = config["name"]
    info = await ask(connection, f"STREAM.INFO.{name}")
    if info.get("error", {}).get("err_code") == STREAM_NOT_FOUND:
        made = await ask(connection, f"STREAM.CREATE.{name}", config)
        if "error" not in made:
            logger.debug("stream created", stream=name)
            return "created"
        info = await ask(connection, f"STREAM.INFO.{name}")  # another provisioner may have been faster
        if "error" in info and made["error"].get("err_code") == NO_SUITABLE_PEERS:
            # A cluster that has just begun does not know all its servers; what is wrong for good says so for good.
            raise Unavailable(f"cannot create stream {name}: {made['error'].get('description')}")
        if "error" in info:
            raise ProvisionError(f"cannot create stream {name}: {made['error'].get('description')}")
    if "error" in info:
        raise ProvisionError(f"cannot read stream {name}: {info['error'].get('description')}")
    there = info["config"]
    for setting in _VERIFIED:
        wanted, found = config.get(setting), there.get(setting)
        if setting == "max_msgs_per_subject":
            wanted, found = wanted or -1, found or -1
        if (wanted or None) != (found or None):
            raise ProvisionError(
                f"stream {name} has {setting} {found!r} where {wanted!r} is needed; it was not made by this version: "
                "correct it, or use another namespace"
            )
    return "verified"


async def _ensure_consumer(connection: Connection, stream: str, config: dict[str, Any]) -> None:
    name = config["durable_name"]
    made = await ask(
        connection,
        f"CONSUMER.CREATE.{stream}.{name}.{config['filter_subject']}",
        {"stream_name": stream, "config": {**config, "name": name}, "action": ""},
    )
    if "error" in made:
        code = made["error"].get("err_code")
        hint = "" if code != CONSUMER_NOT_FOUND else " (deleted meanwhile)"
        raise ProvisionError(f"consumer {name} of {stream}: {made['error'].get('description')}{hint}")


async def ask(connection: Connection, verb: str, payload: object = None) -> dict[str, Any]:
    """A call that may be repeated: creating the same thing twice is one thing.

    Raises:
        Unavailable: no answer, or the servers cannot say now, as while they elect a leader.
    """
    for attempt in range(3):
        try:
            answer: dict[str, Any] = await connection.api(verb, payload)
        except Uncertain as error:
            if attempt == 2:  # noqa: PLR2004 -- the last of three
                raise Unavailable(f"{error} to {verb}") from None
            continue
        if answer.get("error", {}).get("code") == UNAVAILABLE:
            raise Unavailable(f"{verb}: {answer['error'].get('description')}")
        return answer
    raise AssertionError
