"""Mirrors of other regions' logs: made and verified here, fed by the servers (ADR 0025).

A mirror has the name of its origin and keeps its positions, so a cursor is the same place in both. It lists no
subjects: two streams on the same subjects would both store an append, and its writer would hear of one. What the
origin knows of itself (its incarnation, its epoch) a mirror is not given by the servers, so it is copied here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import structlog
from msgspec.structs import replace

from a2a_events.errors import Unavailable
from a2a_events.log.jetstream.connection import Connection
from a2a_events.log.jetstream.domain import DomainConnection
from a2a_events.log.jetstream.names import STREAM_NOT_FOUND, Names
from a2a_events.log.jetstream.object_store import stream_of
from a2a_events.log.jetstream.streams import (
    EPOCH,
    FENCED,
    INCARNATION,
    KEYED_SHARDS,
    RESTORED,
    TAKEN_AT,
    ProvisionError,
    StreamSettings,
    ask,
    provision,
    shards_of,
)

_COPIED: Final = ("max_msgs_per_subject", "max_age", "allow_msg_ttl")
"""What a mirror must have as its origin has it; else it would keep more, or less."""
_METADATA: Final = (INCARNATION, KEYED_SHARDS, EPOCH, TAKEN_AT, RESTORED)

logger = structlog.get_logger(__name__)


async def provision_mirrors(
    connection: Connection, names: Names, settings: StreamSettings, regions: Mapping[str, str]
) -> dict[str, str]:
    """Create or verify, in the domain connected to, the mirrors of other regions' logs.

    A log that is written here too, because this region took it over, is provisioned as the own one is.

    Args:
        connection: to the servers of this region.
        names: of everything shared with them.
        settings: of this region's own log.
        regions: the other logs, and the JetStream domain in which each is written.

    Returns:
        What happened to each mirror: ``created``, ``verified``, or ``kept`` (the other region cannot be reached now).
        Of logs that are written here, see :func:`provision`.

    Raises:
        ProvisionError: a stream is there and is not that mirror.
        Unavailable: no answer, or the other region cannot be reached or has no log yet, and has no mirror here;
            repeating is safe.
    """
    done: dict[str, str] = {}
    for log, domain in regions.items():
        there = DomainConnection(connection, domain)
        here = await shards_of(connection, names, log)
        if here and not here[0]["config"].get("mirror"):
            await _require_home(there, names, log, here[0])
            done |= await provision(connection, names, replace(settings, log=log, shards=len(here)))
            continue
        try:
            origins = await _origins(there, names, log, domain)
        except Unavailable as error:
            if not here:
                raise
            done |= {names.log_stream(log, shard): "kept" for shard in here}
            logger.warning("mirrors kept as they are", log=log, domain=domain, why=str(error))
            continue
        for origin in origins:
            done[origin["name"]] = await _ensure_mirror(
                connection, _mirror_of(names, settings, log, domain, origin), domain
            )
    return done


def streams_beside(names: Names, log: str) -> list[str]:
    """The streams of a log beside its shards."""
    return [
        names.snapshot_stream(log),
        names.push_stream(log),
        names.timer_stream(log),
        names.dead_stream(log),
        names.notes_stream(log),
        stream_of(names.bucket(log)),
        names.registry_stream(log),
    ]


async def _require_home(there: Connection, names: Names, log: str, here: dict[str, Any]) -> None:
    """Say that a log of which the first shard here is no mirror is written here by right.

    Raises:
        ProvisionError: another region has taken it over, or it is another log than the one of that name there.
    """
    metadata: dict[str, str] = here["config"].get("metadata") or {}
    if FENCED in metadata:
        raise ProvisionError(
            f"log {log!r} was taken over by another region, and its old streams are still here: delete them, and "
            "provision again to mirror it; what they alone have is gone then"
        )
    if EPOCH in metadata:
        return
    # Nor was it taken over: then the domain that was named is the one connected to.
    origin = (await shards_of(there, names, log)).get(0)
    of_origin: dict[str, str] = origin["config"].get("metadata") or {} if origin is not None else {}
    if metadata.get(INCARNATION) != of_origin.get(INCARNATION):
        raise ProvisionError(f"log {log!r} is no mirror: this domain writes a log of that name itself")


async def _origins(there: Connection, names: Names, log: str, domain: str) -> list[dict[str, Any]]:
    missing = f"domain {domain!r} has no log {log!r} yet, or not all of it: provision it there too"
    beside: list[dict[str, Any]] = []
    for stream in streams_beside(names, log):  # first: shards are made before them
        info = await ask(there, f"STREAM.INFO.{stream}")
        if info.get("error", {}).get("err_code") == STREAM_NOT_FOUND:
            raise Unavailable(missing)
        if "error" in info:
            raise ProvisionError(
                f"cannot read stream {stream} of domain {domain!r}: {info['error'].get('description')}"
            )
        beside.append(info["config"])
    shards = await shards_of(there, names, log)
    if not shards:
        raise Unavailable(missing)
    configs: list[dict[str, Any]] = [*(info["config"] for info in shards.values()), *beside]
    of_first: dict[str, str] = configs[0].get("metadata") or {}
    if RESTORED in of_first:  # snapshots are made anew after a restoration: their stream has no mark of its own
        for config in configs:
            config["metadata"] = (config.get("metadata") or {}) | {RESTORED: of_first[RESTORED]}
    return configs


def _mirror_of(names: Names, settings: StreamSettings, log: str, domain: str, origin: dict[str, Any]) -> dict[str, Any]:
    name: str = origin["name"]
    metadata: dict[str, str] = origin.get("metadata") or {}
    config: dict[str, Any] = {
        "name": name,
        "description": f"a2a-events: mirror of {name} in {domain}",
        "mirror": {"name": name, "external": {"api": f"$JS.{domain}.API"}},
        "storage": "file",
        "retention": "limits",
        "num_replicas": settings.replicas,
        "allow_direct": True,
        "metadata": {key: metadata[key] for key in _METADATA if key in metadata},
    }
    config |= {key: origin[key] for key in _COPIED if origin.get(key)}
    if name == names.snapshot_stream(log) and settings.replicas == 1:
        config["persist_mode"] = "async"
    if origin.get("republish"):
        kept = origin["republish"]["src"]
        live = kept.replace(f"{names.namespace}.log.", f"{names.namespace}.live-{settings.log}.", 1)
        config["republish"] = {"src": kept, "dest": live}
    return config


async def _ensure_mirror(connection: Connection, config: dict[str, Any], domain: str) -> str:
    name = config["name"]
    info = await ask(connection, f"STREAM.INFO.{name}")
    if info.get("error", {}).get("err_code") == STREAM_NOT_FOUND:
        made = await ask(connection, f"STREAM.CREATE.{name}", config)
        if "error" not in made:
            logger.debug("mirror created", stream=name, domain=domain)
            return "created"
        info = await ask(connection, f"STREAM.INFO.{name}")
        if "error" in info:
            raise ProvisionError(f"cannot create mirror {name}: {made['error'].get('description')}")
    if "error" in info:
        raise ProvisionError(f"cannot read stream {name}: {info['error'].get('description')}")
    there: dict[str, Any] = info["config"]
    metadata: dict[str, str] = there.get("metadata") or {}
    mirror = there.get("mirror")
    if mirror is None:
        raise ProvisionError(f"stream {name} is there and is no mirror: this domain writes a log of that name itself")
    external: dict[str, str] = mirror.get("external") or {}
    api = external.get("api")
    if api != config["mirror"]["external"]["api"]:
        raise ProvisionError(f"stream {name} mirrors {api}, not domain {domain!r}: delete it, and provision again")
    wanted: dict[str, str] = config["metadata"]
    if metadata.get(INCARNATION) != wanted.get(INCARNATION):
        raise ProvisionError(
            f"stream {name} mirrors a log that was made anew in domain {domain!r}: delete it, and provision again"
        )
    if metadata.get(RESTORED) != wanted.get(RESTORED):
        raise ProvisionError(
            f"stream {name} mirrors what domain {domain!r} had before a backup was restored there: delete it, and"
            " provision again"
        )
    if not _republishes_alike(there.get("republish") or {}, config.get("republish") or {}):
        raise ProvisionError(f"stream {name} republishes to {there.get('republish')}: delete it, and provision again")
    return "verified"


def _republishes_alike(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """A mirror keeps the root it was made with, ``live-<log>``, when its region has another log of its own by now."""
    if not found or not wanted:
        return found == wanted
    space, _, rest = str(wanted["dest"]).partition(".live-")
    of_log = rest.partition(".")[2]
    return (
        found.get("src") == wanted["src"]
        and re.fullmatch(rf"{re.escape(space)}\.live-[^.]+\.{re.escape(of_log)}", str(found.get("dest"))) is not None
    )
