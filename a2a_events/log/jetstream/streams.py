"""Creating and verifying the streams that the log lives in: one owner, one place (design 5, 6, 14).

``provision`` is idempotent. It creates what is missing, changes what another version of it made otherwise, and refuses
what somebody else has changed (``drift``). What an operator may choose it leaves alone.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from importlib.metadata import version
from typing import Any, Final

import structlog
from msgspec import Struct

from a2a_events import limits
from a2a_events.errors import LogError, NotProvisioned, Unavailable, Uncertain
from a2a_events.log.jetstream import reads
from a2a_events.log.jetstream.connection import Connection
from a2a_events.log.jetstream.drift import MADE_AS, MADE_BY, Drift, listed, made_as, of_consumer, of_stream
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
TAKEN_AT: Final = "a2a-events-taken-at"
"""Metadata of a shard that was taken over: its last position then. What an older epoch stored after it is not in it."""
FENCED: Final = "a2a-events-fenced"
"""Metadata of a log's streams that another region has taken over: its epoch. They take nothing in any more."""
RESTORED: Final = "a2a-events-restored"
"""Metadata of a log's streams that were restored from a backup: random, another one with each restoration."""

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


class Inspected(Struct, frozen=True):
    """What was found of one stream or consumer; nothing was changed."""

    name: str
    """Of the stream; of a consumer: stream and consumer, with a slash between them."""
    state: str
    """``verified``, ``missing``, ``outdated`` (another version made it) or ``drifted`` (somebody changed it)."""
    config: dict[str, Any]
    """What is to be made of it."""
    drifts: tuple[Drift, ...] = ()
    outdated: tuple[str, ...] = ()
    """Settings that an upgrade changes."""


async def provision(
    connection: Connection,
    names: Names,
    settings: StreamSettings,
    *,
    agents: Collection[str] = (),
    notifier: bool = False,
) -> dict[str, str]:
    """Create or verify everything the log needs. Everything is looked at before anything is changed.

    Args:
        connection: to the servers.
        names: of everything shared with them.
        settings: what the operator chooses.
        agents: whose consumers to make, beside those of all agents that were ever announced.
        notifier: whether to make the consumers of notifiers.

    Returns:
        What happened to each stream, and to each consumer as ``<stream>/<consumer>``: ``created``, ``verified`` or
        ``updated``.

    Raises:
        ProvisionError: somebody changed what is there; the message names it, the setting, both values and what to do.
            Or the log is written in another domain by now. Nothing was changed.
        Unavailable: no answer; repeating is safe.
    """
    found = await inspect(connection, names, settings, agents=agents, notifier=notifier)
    drifts = [drift for one in found for drift in one.drifts]
    if drifts:
        raise ProvisionError(listed(drifts))
    done: dict[str, str] = {}
    for one in found:
        if "/" in one.name:
            if one.state == "missing":
                await _ensure_consumer(connection, one.name.partition("/")[0], one.config)
            done[one.name] = "created" if one.state == "missing" else "verified"
        elif one.state == "outdated":
            done[one.name] = await _upgrade(connection, one)
        else:
            done[one.name] = await _ensure_stream(connection, one.config) if one.state == "missing" else "verified"
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


async def inspect(
    connection: Connection,
    names: Names,
    settings: StreamSettings,
    *,
    agents: Collection[str] = (),
    notifier: bool = False,
) -> list[Inspected]:
    """What :func:`provision` would find, streams first; changes nothing. A round trip a stream and consumer.

    Raises:
        ProvisionError: something cannot be read, or the log is not written here.
        Unavailable: no answer; repeating is safe.
    """
    epoch, live = await _written_here(connection, names, settings.log)
    wanted = configurations(names, settings, epoch=epoch, live=live)
    found = [await _inspect_stream(connection, config) for config in wanted]
    there = {one.name for one in found if one.state != "missing"}
    served = {*agents}
    if names.registry_stream(settings.log) in there:
        served |= await _announced(connection, names, settings.log)
    for stream, config in _consumers(names, settings, sorted(served), notifier=notifier):
        name = f"{stream}/{config['durable_name']}"
        if stream not in there:
            found.append(Inspected(name, "missing", config))
            continue
        info = await ask(connection, f"CONSUMER.INFO.{stream}.{config['durable_name']}")
        if info.get("error", {}).get("err_code") == CONSUMER_NOT_FOUND:
            found.append(Inspected(name, "missing", config))
        elif "error" in info:
            raise ProvisionError(f"cannot read consumer {name}: {info['error'].get('description')}")
        else:
            drifts = of_consumer(stream, config, info["config"])
            found.append(Inspected(name, "drifted" if drifts else "verified", config, tuple(drifts)))
    return found


async def _written_here(connection: Connection, names: Names, log: str) -> tuple[int, str]:
    """Epoch of a log, and root of its live records; of one that is yet to be made, those of a new one.

    Raises:
        ProvisionError: it is written in another domain, or was taken over by another region.
    """
    standing = await shards_of(connection, names, log)
    if any(info["config"].get("mirror") for info in standing.values()):
        raise ProvisionError(
            f"log {log!r} is written in another domain, and mirrored here: `a2a-events region-promote` would "
            "take it over"
        )
    if not standing:
        return 1, "live"
    metadata: dict[str, str] = standing[0]["config"].get("metadata") or {}
    if FENCED in metadata:
        raise ProvisionError(f"log {log!r} was taken over by another region: choose another log here")
    epoch = int(metadata.get(EPOCH, "1"))
    republish: dict[str, str] = standing[0]["config"].get("republish") or {}
    return epoch, names.live_root(republish.get("dest", "")) if epoch > 1 else "live"


async def _inspect_stream(connection: Connection, config: dict[str, Any]) -> Inspected:
    name = config["name"]
    info = await ask(connection, f"STREAM.INFO.{name}")
    if info.get("error", {}).get("err_code") == STREAM_NOT_FOUND:
        return Inspected(name, "missing", config)
    if "error" in info:
        raise ProvisionError(f"cannot read stream {name}: {info['error'].get('description')}")
    drifts, outdated = of_stream(config, info["config"], _as_made_first(config))
    if ".snap." in config["subjects"][0]:
        # Snapshots may be lost; whether they are written at leisure depends on the replicas that they once had.
        drifts = [drift for drift in drifts if drift.setting != "persist_mode"]
        outdated = [setting for setting in outdated if setting != "persist_mode"]
    # An update must name every setting: what the operator chose stays what it is.
    merged = {**info["config"], **{setting: config.get(setting) for setting in outdated}}
    merged = {setting: value for setting, value in merged.items() if value is not None}
    if "max_msgs_per_subject" in outdated:
        merged.setdefault("max_msgs_per_subject", -1)
    merged["metadata"] = {**(info["config"].get("metadata") or {}), **marks(config)}
    state = "drifted" if drifts else "outdated" if outdated else "verified"
    return Inspected(name, state, merged, tuple(drifts), tuple(outdated))


def _as_made_first(config: dict[str, Any]) -> dict[str, Any]:
    """A stream as the first version made it, which wrote no mark: this version's settings, and what was otherwise."""
    return config | ({"allow_rollup_hdrs": True} if config["name"].startswith("OBJ_") else {})


async def _announced(connection: Connection, names: Names, log: str) -> set[str]:
    """Agents that have a card in the registry."""
    asked = {"subjects_filter": names.card(log, "*")}
    info = await ask(connection, f"STREAM.INFO.{names.registry_stream(log)}", asked)
    if "error" in info:
        raise ProvisionError(f"cannot read the agent registry: {info['error'].get('description')}")
    subjects: dict[str, int] = info["state"].get("subjects") or {}
    return {subject.split(".")[-2] for subject in subjects}


def marks(config: dict[str, Any]) -> dict[str, str]:
    """Metadata by which provisioning knows its own doing."""
    return {MADE_AS: made_as(config), MADE_BY: f"a2a-events/{version('a2a-events')}"}


async def _upgrade(connection: Connection, found: Inspected) -> str:
    """Change what another version made."""
    answer = await ask(connection, f"STREAM.UPDATE.{found.name}", found.config)
    if "error" in answer:
        settings = ", ".join(found.outdated)
        raise ProvisionError(
            f"stream {found.name} cannot be brought to this version, which changes its {settings}:"
            f" {answer['error'].get('description')}; go on with the version before, and read the change log"
        )
    logger.info("stream upgraded", stream=found.name, settings=found.outdated)
    return "updated"


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
    await _ensure_consumer(connection, stream, _worker_consumer(names, settings, shard, agent))


async def ensure_notifier_consumer(connection: Connection, names: Names, settings: StreamSettings, shard: int) -> None:
    """The durable consumer that shows every record of a shard to one of the notifiers."""
    stream = names.log_stream(settings.log, shard)
    await _ensure_consumer(connection, stream, _notifier_consumer(names, settings, shard))


async def ensure_timer_consumer(connection: Connection, names: Names, settings: StreamSettings, agent: str) -> None:
    """The durable consumer that hands an agent's wake-ups to all of its workers."""
    await _ensure_consumer(connection, names.timer_stream(settings.log), _timer_consumer(names, settings, agent))


def _consumers(
    names: Names, settings: StreamSettings, agents: Collection[str], *, notifier: bool
) -> list[tuple[str, dict[str, Any]]]:
    """Every consumer, and its stream."""
    found: list[tuple[str, dict[str, Any]]] = []
    for shard in range(settings.shards):
        stream = names.log_stream(settings.log, shard)
        found += [(stream, _worker_consumer(names, settings, shard, agent)) for agent in agents]
        found += [(stream, _notifier_consumer(names, settings, shard))] if notifier else []
    timers = names.timer_stream(settings.log)
    return found + [(timers, _timer_consumer(names, settings, agent)) for agent in agents]


def _worker_consumer(names: Names, settings: StreamSettings, shard: int, agent: str) -> dict[str, Any]:
    return {
        **_delivery(settings),
        "durable_name": names.worker_consumer(agent),
        "filter_subject": names.inbound_filter(settings.log, shard, agent),
        "max_ack_pending": MAX_ACK_PENDING,
        "max_waiting": 512,
    }


def _notifier_consumer(names: Names, settings: StreamSettings, shard: int) -> dict[str, Any]:
    return {
        **_delivery(settings),
        "durable_name": names.notifier_consumer,
        "filter_subject": names.shard("log", settings.log, shard),
        "headers_only": True,  # most records are of tasks without webhooks; the rest is read from the log
        "max_ack_pending": MAX_ACK_PENDING,
        "max_waiting": 512,
    }


def _timer_consumer(names: Names, settings: StreamSettings, agent: str) -> dict[str, Any]:
    return {
        **_delivery(settings),
        "durable_name": names.worker_consumer(agent),
        "filter_subject": names.due_filter(settings.log, agent),
    }


def _delivery(settings: StreamSettings) -> dict[str, Any]:
    return {
        "ack_policy": "explicit",
        "ack_wait": int(settings.ack_wait_seconds * 1e9),
        "deliver_policy": "all",
        "max_deliver": -1,
        "replay_policy": "instant",
    }


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
            "name": names.notes_stream(log),
            "description": f"a2a-events: what agents of log {log} keep for contexts",
            "subjects": [f"{space}.notes.{log}.>"],
        }
    )
    streams.append(
        {
            **common,
            "name": stream_of(names.bucket(log)),
            "description": f"a2a-events: what no record of log {log} holds; records refer to it",
            "subjects": subjects_of(names.bucket(log)),
            "discard": "new",  # a full bucket refuses: discarding the oldest would lose what records refer to
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


async def _ensure_stream(connection: Connection, config: dict[str, Any]) -> str:
    """Create a stream that was missing; whoever was faster may have made it."""
    name = config["name"]
    made = await ask(
        connection,
        f"STREAM.CREATE.{name}",
        {**config, "metadata": {**config.get("metadata", {}), **marks(config)}},
    )
    if "error" not in made:
        logger.debug("stream created", stream=name)
        return "created"
    found = await _inspect_stream(connection, config)
    if found.state == "missing" and made["error"].get("err_code") == NO_SUITABLE_PEERS:
        # A cluster that has just begun does not know all its servers; what is wrong for good says so for good.
        raise Unavailable(f"cannot create stream {name}: {made['error'].get('description')}")
    if found.state == "missing":
        raise ProvisionError(f"cannot create stream {name}: {made['error'].get('description')}")
    if found.drifts:
        raise ProvisionError(listed(found.drifts))
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
