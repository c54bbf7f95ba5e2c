"""Looks a deployment over and says in plain sentences what is wrong with it, and what to do. Changes nothing."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec import Struct

from a2a_events import limits
from a2a_events.errors import Forbidden, LogError, Unavailable
from a2a_events.log.jetstream import Connection, Inspected, JetStreamLog, inspect
from a2a_events.log.jetstream.mirrors import streams_beside
from a2a_events.log.jetstream.streams import ask
from a2a_events.services.connect import connection, names, stream_settings
from a2a_events.settings import Settings

PATIENCE_SECONDS: Final = 5.0
"""For NATS: somebody waits for the answer."""
NEEDED: Final = (2, 12)
"""The first nats-server with everything that the streams ask for (schedules, time to live, conditions)."""
TRIED: Final = (2, 14)
"""Since when the faults that testing found in it are mended."""
CLOCK_SECONDS: Final = (1.0, 5.0)
"""Difference between this machine's clock and the log's: to be told of, and wrong. Deadlines and wake-ups suffer."""
FULL: Final = (0.75, 0.85)
"""Of a limit, used: to be told of, and wrong. A full disk disables JetStream until the server is restarted."""
LAG_RECORDS: Final = 1000
"""Records that wait for notifiers, over which they are behind."""


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    UNKNOWN = "unknown"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(Struct, frozen=True, omit_defaults=True):
    """One thing that was looked at."""

    check: str
    level: Level
    says: str
    do: str = ""
    """What to do about it; empty if there is nothing to do."""


class _Doctor:
    def __init__(self, made: Connection, settings: Settings, monitor: str) -> None:
        self._connection = made
        self._settings = settings
        self._names = names(settings)
        self._monitor = monitor.rstrip("/")
        self._streams: dict[str, dict[str, Any]] = {}
        """Info of each stream that is there."""
        self._silent: list[str] = []
        """Streams of which nobody can say anything now."""

    async def findings(self) -> AsyncIterator[Finding]:
        await self._look()
        checks: list[tuple[str, Callable[[], AsyncIterator[Finding]]]] = [
            ("server", self._server),
            ("durability", self._durability),
            ("streams", self._provisioned),
            ("replicas", self._replicas),
            ("limits", self._limits),
            ("clock", self._clock),
            ("agents", self._agents),
            ("dead letters", self._letters),
        ]
        for check, look in checks:
            try:
                async for finding in look():
                    yield finding
            except Forbidden as error:
                yield Finding(check, Level.UNKNOWN, f"This user may not look: {error}.", "Run it as an operator.")
            except LogError as error:
                do = "Do what is said of the others, and look again."
                yield Finding(check, Level.PROBLEM, f"It cannot be looked at: {error}.", do)

    async def _look(self) -> None:
        """Ask for each stream by itself: one that cannot answer must not hide the others."""
        log, shards = self._settings.log, self._settings.shards
        streams = [self._names.log_stream(log, shard) for shard in range(shards)] + streams_beside(self._names, log)
        asked = (ask(self._connection, f"STREAM.INFO.{stream}") for stream in streams)
        for stream, info in zip(streams, await asyncio.gather(*asked, return_exceptions=True), strict=True):
            if isinstance(info, Unavailable):
                self._silent.append(stream)
            elif isinstance(info, BaseException):
                if not isinstance(info, Forbidden):
                    raise info
            elif "error" not in info:
                self._streams[stream] = info

    async def _server(self) -> AsyncIterator[Finding]:
        info = msgspec.json.decode((await self._connection.request("$SYS.REQ.USER.INFO")).payload)
        version = str(info["server"]["ver"])
        numbers = tuple(int(n) for n in version.partition("-")[0].split(".")[:2])
        if numbers < NEEDED:
            do = "Upgrade NATS, one minor version at a time, with a backup before."
            yield Finding("server", Level.PROBLEM, f"nats-server {version} lacks what the log needs.", do)
        elif numbers < TRIED:
            says = f"nats-server {version} is older than {TRIED[0]}.{TRIED[1]}, which mended faults that lose records."
            yield Finding("server", Level.WARNING, says, "Upgrade NATS, one minor version at a time.")
        else:
            yield Finding("server", Level.OK, f"nats-server {version}.")
        largest = self._connection.max_payload
        wanted = limits.RECORD_BYTES + limits.HEADER_BYTES
        if largest < wanted:
            says = f"max_payload is {largest}: records over it go to the object store, which costs more."
            yield Finding("server", Level.WARNING, says, f"Set max_payload to {wanted} or more; 1MB is the default.")
        user: dict[str, Any] = info.get("data") or {}
        allowed: dict[str, Any] = user.get("permissions") or {}
        who = f"user {user.get('user') or 'nobody'} of account {user.get('account_name') or user.get('account')}"
        if not allowed:
            says = f"This is {who}, who may do everything there."
            do = "Give each service a user of its own: `a2a-events nats-permissions`."
            yield Finding("permissions", Level.WARNING, says, do)
        else:
            yield Finding("permissions", Level.OK, f"This is {who}, whose permissions are limited.")

    async def _durability(self) -> AsyncIterator[Finding]:
        if not self._monitor:
            says = "sync_interval cannot be seen through a client's connection."
            do = "Give a monitoring address with --monitor, or read the servers' configuration: it must be always."
            yield Finding("durability", Level.UNKNOWN, says, do)
            return
        try:
            state = await asyncio.to_thread(_fetched, f"{self._monitor}/jsz?config=true")
        except (OSError, ValueError) as error:
            says = f"The monitoring address {self._monitor} does not answer: {error}."
            yield Finding("durability", Level.UNKNOWN, says, "Give the address of `http_port`, as http://HOST:8222.")
            return
        config: dict[str, Any] = state.get("config") or {}
        if config.get("sync_always"):
            yield Finding("durability", Level.OK, "sync_interval is always: what is acknowledged is on disk.")
        else:
            seconds = (config.get("sync_interval") or 0) / 1e9
            says = f"sync_interval is {seconds:g} s: a power cut loses what was acknowledged in that time."
            yield Finding(
                "durability", Level.PROBLEM, says, "Set `sync_interval: always` and restart server by server."
            )
        yield _used("what this server may store", state.get("storage") or 0, config.get("max_storage") or 0)

    async def _provisioned(self) -> AsyncIterator[Finding]:
        if self._silent:
            says = "Streams are not compared with this version's while some of them do not answer."
            yield Finding("streams", Level.UNKNOWN, says, "Look again when they do.")
            return
        notifier = self._settings.push
        found = await inspect(self._connection, self._names, stream_settings(self._settings), notifier=notifier)
        wrong = False
        for one in found:
            wrong = wrong or one.state != "verified"
            for finding in _of(one):
                yield finding
        for one in found:
            stream, _, consumer = one.name.partition("/")
            if consumer and one.state != "missing":
                info = await self._connection.api(f"CONSUMER.INFO.{stream}.{consumer}")
                if info.get("paused"):
                    wrong = True
                    until = info["config"].get("pause_until")
                    says = f"Consumer {one.name} is paused until {until}: it hands out nothing."
                    yield Finding("streams", Level.PROBLEM, says, f"`nats consumer resume {stream} {consumer}`")
        if not wrong:
            yield Finding("streams", Level.OK, f"{len(found)} streams and consumers are as this version makes them.")

    async def _replicas(self) -> AsyncIterator[Finding]:
        lost = "See the runbook: no stream leader. Most servers of the stream must be up."
        for name in self._silent:
            yield Finding("replicas", Level.PROBLEM, f"Stream {name} does not answer: it has no leader.", lost)
        if not self._streams and not self._silent:
            yield Finding("replicas", Level.UNKNOWN, "There was no stream to look at.", "Look again when there are.")
            return
        thin: dict[str, int] = {}
        for name, info in self._streams.items():
            cluster: dict[str, Any] = info.get("cluster") or {}
            replicas: int = info["config"].get("num_replicas", 1)
            copies: list[dict[str, Any]] = cluster.get("replicas") or []
            if not cluster.get("leader"):
                yield Finding("replicas", Level.PROBLEM, f"Stream {name} has no leader: nothing is stored.", lost)
            for replica in copies:
                if replica.get("offline") or not replica.get("current"):
                    state = "offline" if replica.get("offline") else f"{replica.get('lag', 0)} operations behind"
                    do = "Touch no other server until it is current; see the runbook: replica not current."
                    says = f"The replica of {name} on {replica['name']} is {state}."
                    yield Finding("replicas", Level.WARNING, says, do)
            if replicas < self._settings.replicas:
                thin[name] = replicas
        if thin:
            told = ", ".join(f"{name} has {replicas}" for name, replicas in thin.items())
            says = f"Fewer replicas than the {self._settings.replicas} that are set: {told}."
            do = "Update the streams' num_replicas."
            if any(self._streams[name]["config"].get("persist_mode") == "async" for name in thin):
                do += " That of snapshots refuses it: delete it and its mirrors, and provision; they are made anew."
            yield Finding("replicas", Level.PROBLEM, says, do)
        elif self._settings.replicas == 1:
            says = "Each stream is on one server: while that is away nothing works, and with its disk all is lost."
            yield Finding(
                "replicas", Level.WARNING, says, "For production three servers and --replicas 3; and backups."
            )
        elif not self._silent:
            yield Finding("replicas", Level.OK, f"Every stream has {self._settings.replicas} replicas or more.")

    async def _limits(self) -> AsyncIterator[Finding]:
        for finding in self._limits_of_streams():
            yield finding
        account = await self._connection.api("INFO")
        if "error" in account:
            raise LogError(account["error"].get("description"))
        most = account["limits"].get("max_storage", -1)
        yield _used("the account's storage", account["storage"], most)

    def _limits_of_streams(self) -> Iterator[Finding]:
        for name, info in self._streams.items():
            config, state = info["config"], info["state"]
            if (most := config.get("max_bytes", -1)) > 0:
                yield _used(f"max_bytes of stream {name}", state["bytes"], most)
            keeps = name.startswith((self._names.log_stream(self._settings.log, 0)[:-1], "OBJ_"))
            if keeps and config.get("max_age"):
                says = f"Stream {name} has max_age: it drops records of tasks that have not ended."
                yield Finding("limits", Level.PROBLEM, says, "Remove max_age; `a2a-events retain` removes ended tasks.")
            limited = config.get("max_bytes", -1) > 0 or config.get("max_msgs", -1) > 0
            if keeps and limited and config.get("discard") != "new":
                says = f"Stream {name} has a limit and discards its oldest records when it is reached."
                yield Finding(
                    "limits", Level.PROBLEM, says, "Set `discard: new`, so that it refuses new records instead."
                )

    async def _clock(self) -> AsyncIterator[Finding]:
        if not self._streams:
            yield Finding("clock", Level.UNKNOWN, "No stream told the log's time.", "Look again when one answers.")
            return
        before = time.time()
        info = await self._connection.api(f"STREAM.INFO.{next(iter(self._streams))}")
        after = time.time()
        there = datetime.fromisoformat(info["ts"]).timestamp()
        apart = 0.0 if before <= there <= after else min(abs(there - before), abs(there - after))
        says = f"This machine's clock and the log's are {apart:.1f} s apart."
        do = "Synchronise the clocks (NTP, chrony) of all machines."
        level = Level.PROBLEM if apart > CLOCK_SECONDS[1] else Level.WARNING if apart > CLOCK_SECONDS[0] else Level.OK
        yield Finding("clock", level, says, do if level is not Level.OK else "")

    async def _agents(self) -> AsyncIterator[Finding]:
        log = await self._log()
        agents, attended = await log.agents(), await log.attended()
        if not agents:
            do = "Start one: `a2a-events worker --agent MODULE:ATTR`."
            yield Finding("agents", Level.WARNING, "No worker has ever announced an agent.", do)
        for agent in sorted(agents):
            depth, workers = await log.queue_depth(agent), await log.workers(agent)
            tells = (
                f"Agent {agent} has {_count(len(workers), 'worker')} and {_count(depth, 'message')} queued or running."
            )
            if agent not in attended and depth:
                yield Finding("agents", Level.PROBLEM, tells, "Start workers of it; see the runbook: lag growing.")
            elif agent not in attended:
                yield Finding("agents", Level.WARNING, tells, "Start a worker of it, if it is still wanted.")
            elif self._settings.queue_limit and depth >= self._settings.queue_limit:
                do = "New tasks are refused. Start more workers; see the runbook: lag growing."
                yield Finding("agents", Level.PROBLEM, tells, do)
            else:
                yield Finding("agents", Level.OK, tells)
        if self._settings.push:
            async for finding in self._notifiers(log):
                yield finding

    async def _notifiers(self, log: JetStreamLog) -> AsyncIterator[Finding]:
        behind, consumers, waiting = 0, 0, 0
        for shard in range(log.shards):
            stream = self._names.log_stream(log.name, shard)
            info = await self._connection.api(f"CONSUMER.INFO.{stream}.{self._names.notifier_consumer}")
            if "error" not in info:
                consumers += 1
                behind += info["num_pending"]
                waiting += info["num_waiting"]
        if consumers < log.shards:
            do = "Start one: `a2a-events notifier`, or set A2A_EVENTS_PUSH=false if webhooks are not wanted."
            yield Finding("notifiers", Level.WARNING, "Webhooks are offered and no notifier was ever here.", do)
        elif behind > LAG_RECORDS and not waiting:
            says = f"No notifier takes records, and {behind} wait: webhooks are late."
            yield Finding("notifiers", Level.PROBLEM, says, "Start one: `a2a-events notifier`.")
        elif behind > LAG_RECORDS:
            says = f"Notifiers are {behind} records behind."
            yield Finding("notifiers", Level.WARNING, says, "If it grows, start more of them.")
        else:
            yield Finding("notifiers", Level.OK, f"{_count(behind, 'record')} to look at for webhooks.")

    async def _letters(self) -> AsyncIterator[Finding]:
        log = await self._log()
        count = 0
        async for _ in log.dead_letters():
            count += 1
        if count:
            do = "See why with `a2a-events dead-letters list`, and replay them when the cause is gone."
            yield Finding("dead letters", Level.WARNING, f"{_count(count, 'task')} were given up.", do)
        else:
            yield Finding("dead letters", Level.OK, "No task was given up.")

    async def _log(self) -> JetStreamLog:
        settings = self._settings
        return await JetStreamLog.open(self._connection, self._names, stream_settings(settings))


def _of(one: Inspected) -> list[Finding]:
    kind = "Consumer" if "/" in one.name else "Stream"
    # Workers and notifiers make their consumers themselves; that they are not there is told of with them.
    missing = Level.WARNING if kind == "Consumer" else Level.PROBLEM
    again = "Run `a2a-events provision`."
    match one.state:
        case "missing":
            return [Finding("streams", missing, f"{kind} {one.name} is not there.", again)]
        case "outdated":
            says = f"{kind} {one.name} is as another version made it ({', '.join(one.outdated)})."
            return [Finding("streams", Level.PROBLEM, says, again)]
        case _:
            return [Finding("streams", Level.PROBLEM, _sentence(str(drift))) for drift in one.drifts]


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _used(what: str, used: int, most: int) -> Finding:
    if most <= 0:
        says = f"{used} bytes of {what} are used, which has no limit: the disk is one."
        return Finding("limits", Level.OK, says)
    share = used / most
    level = Level.PROBLEM if share > FULL[1] else Level.WARNING if share > FULL[0] else Level.OK
    do = "Grow it, or remove ended tasks: `a2a-events retain --days N`. See the runbook: disk full."
    return Finding("limits", level, f"{share:.0%} of {what} is used.", do if level is not Level.OK else "")


def _count(number: int, of: str) -> str:
    return f"{number} {of}{'' if number == 1 else 's'}"


def _fetched(url: str) -> dict[str, Any]:
    if not url.startswith(("http://", "https://")):
        raise ValueError("it is no http or https address")
    with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer:  # noqa: S310 -- checked above
        found: dict[str, Any] = msgspec.json.decode(answer.read())
        return found


async def examine(settings: Settings, *, monitor: str = "") -> list[Finding]:
    """Look at everything; findings in the order in which they were looked for.

    Args:
        settings: of the deployment, as its services have them.
        monitor: address of a server's monitoring port, for what no connection tells.

    Raises:
        Unavailable: no server answers.
    """
    async with connection(settings, "doctor", patience_seconds=PATIENCE_SECONDS) as made:
        return [finding async for finding in _Doctor(made, settings, monitor).findings()]
