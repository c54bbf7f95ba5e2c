"""What each role may publish and subscribe to, and nothing else: for users of NATS, one a role.

A stream's name is one token, so shards are named one by one: whoever adds shards prints the permissions anew.
Deleting streams and consumers is nobody's. Purging is retention's, and of the object store the sweeper's. Where a
stream keeps one message a subject, or must allow rollups (wake-ups), whoever may write it may replace what is there.

Of several regions each role may do in every log what it does in the own one, so that it goes on after a fail-over. What
is asked of another region goes to the JetStream domain there (ADR 0025).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

from msgspec import Struct

from a2a_events.log.jetstream.names import Names, ingest_root
from a2a_events.log.jetstream.object_store import stream_of

EPOCHS: Final = 4
"""How many regions one after the other may write a log with the permissions that are printed once."""


class Permissions(Struct, frozen=True):
    """Subjects that a role may use; what is not named is denied."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


class _Subjects:
    """The subjects of one log, by what they are good for."""

    def __init__(
        self, names: Names, log: str, shards: int, agents: Collection[str], *, own: str, regions: Mapping[str, str]
    ) -> None:
        self._names = names
        self._log = log
        self._space = names.namespace
        self._apis = ["$JS.API", *(f"$JS.{domain}.API" for domain in sorted({*regions.values()}))]
        self._epochs = range(1, EPOCHS + 1 if regions else 2)
        # Mirrors republish under the name of the own log of their region.
        self._lives = ["live", *(f"live-{each}" for each in sorted({own, *regions}) if regions)]
        self.logs = [names.log_stream(log, shard) for shard in range(shards)]
        self.beyond = names.log_stream(log, shards)
        """The shard that is asked for to find that it is not there."""
        self.snap, self.push = names.snapshot_stream(log), names.push_stream(log)
        self.timer, self.dead = names.timer_stream(log), names.dead_stream(log)
        self.notes = names.notes_stream(log)
        self.content, self.agents = stream_of(names.bucket(log)), names.registry_stream(log)
        self.all = [*self.logs, self.snap, self.push, self.timer, self.dead, self.notes, self.content, self.agents]
        self._consumers = [names.worker_consumer(agent) for agent in agents] or ["*"]
        self.agents_served = list(agents) or ["*"]

    def under(self, root: str, rest: str = ">") -> str:
        return f"{self._space}.{root}.{self._log}.{rest}"

    @property
    def registry(self) -> str:
        return self.under("registry")

    def cards(self) -> list[str]:
        """The agent registry, which is taken over from where a version before had it."""
        return [f"$JS.API.DIRECT.GET.{self._names.old_registry_stream}", self.under("registry", "*.card")]

    @property
    def usage(self) -> str:
        """What gateways tell each other."""
        return self._names.usage(self._log)

    @property
    def live(self) -> list[str]:
        return [self.under(root) for root in self._lives]

    @property
    def bucket(self) -> str:
        return f"$O.{self._names.bucket(self._log)}.>"

    def read(self, *streams: str) -> list[str]:
        verbs = ("STREAM.INFO", "STREAM.MSG.GET", "DIRECT.GET")
        return [f"{api}.{verb}.{stream}" for api in self._apis for stream in streams for verb in verbs]

    def read_log(self) -> list[str]:
        """Tasks, from wherever they are kept, and which agents there are."""
        looked = self.read(*self.logs, self.snap, self.content, self.agents)
        return [*looked, *self.look_beyond()]

    def look_beyond(self) -> list[str]:
        return [f"{api}.STREAM.INFO.{self.beyond}" for api in self._apis]

    def records(self, rest: str = ">") -> list[str]:
        return [self.under(ingest_root(epoch), rest) for epoch in self._epochs]

    def write_log(self) -> list[str]:
        return [*self.records(), self.under("snap"), self.bucket]

    def contexts(self) -> list[str]:
        """What the contexts of agents remember."""
        return [self.under("push", f"context.{agent}.>") for agent in self.agents_served]

    def queues(self) -> list[str]:
        """How deep they are; nothing can be taken from them."""
        return [f"$JS.API.CONSUMER.INFO.{stream}.*" for stream in self.logs]

    def work(self) -> list[str]:
        """Deliveries and wake-ups of workers."""
        filters = [
            (stream, self._names.inbound_filter(self._log, shard, agent))
            for shard, stream in enumerate(self.logs)
            for agent in self.agents_served
        ]
        filters += [(self.timer, self._names.due_filter(self._log, agent)) for agent in self.agents_served]
        made = [
            f"$JS.API.CONSUMER.CREATE.{stream}.{consumer}.{subjects}"
            for stream, subjects in filters
            for consumer in self._consumers
            if consumer == "*" or f".{consumer.removeprefix('worker-')}." in subjects
        ]
        taken = [self.taking(stream, consumer) for stream in (*self.logs, self.timer) for consumer in self._consumers]
        return [*made, *(subject for subjects in taken for subject in subjects)]

    def taking(self, stream: str, consumer: str) -> list[str]:
        return [
            f"$JS.API.CONSUMER.INFO.{stream}.{consumer}",
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}",
            f"$JS.ACK.{stream}.{consumer}.>",
            f"$JS.ACK.*.*.{stream}.{consumer}.>",
        ]

    def notify(self) -> list[str]:
        """Deliveries of notifiers."""
        consumer = self._names.notifier_consumer
        made = [
            f"$JS.API.CONSUMER.CREATE.{stream}.{consumer}.{self._names.shard('log', self._log, shard)}"
            for shard, stream in enumerate(self.logs)
        ]
        return [*made, *(subject for stream in self.logs for subject in self.taking(stream, consumer))]

    def take_over(self) -> list[str]:
        """What mirrors need of their origins, and a fail-over of both."""
        there = [
            f"{api}.{verb}.{stream}"
            for api in self._apis[1:]
            for stream in self.all
            for verb in ("STREAM.INFO", "STREAM.UPDATE", "STREAM.MSG.GET")
        ]
        purged = f"$JS.API.STREAM.PURGE.{self.snap}"
        return [*there, *self.read(self.timer), self.under("timer", "set.>"), purged] if there else []

    def purge(self, stream: str) -> str:
        return f"$JS.API.STREAM.PURGE.{stream}"

    def verbs(self, *verbs: str, rest: str = "") -> list[str]:
        return [f"$JS.API.{verb}.{stream}{rest}" for stream in self.all for verb in verbs]


def _gateway(s: _Subjects) -> list[str]:
    # The key of webhook secrets is made by whoever needs it first.
    return [*s.read_log(), *s.write_log(), *s.queues(), *s.read(s.push), s.under("push", "key"), s.usage]


def _worker(s: _Subjects) -> list[str]:
    kept = [s.under("push", "progress.>"), *s.contexts(), s.under("timer", "set.>"), s.under("dead"), s.registry]
    noted = [*s.read(s.notes), *(s.under("notes", f"{agent}.>") for agent in s.agents_served), s.purge(s.notes)]
    return [*s.read_log(), *s.write_log(), *s.queues(), *s.work(), *s.read(s.push, s.timer, s.dead), *kept, *noted]


def _notifier(s: _Subjects) -> list[str]:
    return [
        *s.read_log(), *s.read(s.push), *s.notify(),
        *s.records("*.*.*.*.out"), s.under("snap"), s.under("push", ">"),
    ]  # fmt: skip


def _sweeper(s: _Subjects) -> list[str]:
    return [*s.read_log(), *s.write_log(), *s.queues(), *s.read(s.push), f"$JS.API.STREAM.PURGE.{s.content}"]


def _retention(s: _Subjects) -> list[str]:
    kept = [stream for stream in s.all if stream != s.agents]
    purged = [f"$JS.API.STREAM.PURGE.{stream}" for stream in kept]
    return [*s.read_log(), *purged, *s.records("*.*.*.*.out"), s.under("snap")]


def _provisioner(s: _Subjects) -> list[str]:
    made = s.verbs("STREAM.INFO", "STREAM.CREATE", "STREAM.UPDATE")
    consumers = [*s.verbs("CONSUMER.INFO", rest=".*"), *s.verbs("CONSUMER.CREATE", rest=".>")]
    return [*made, *s.look_beyond(), *consumers, *s.cards(), *s.take_over()]


def _backup(s: _Subjects) -> list[str]:
    """It reads everything; to restore is the business of who owns the account."""
    looked = [f"$JS.API.STREAM.INFO.{s.beyond}", "$JS.SNAPSHOT.ACK.>"]
    return [*s.verbs("STREAM.INFO", "STREAM.SNAPSHOT"), *looked]


def _timeline(s: _Subjects) -> list[str]:
    return [*s.read_log(), *s.write_log(), *s.queues(), *s.read(s.push, s.timer, s.dead)]  # it forks


def _operator(s: _Subjects) -> list[str]:
    seen = [*s.verbs("CONSUMER.INFO", rest=".*"), "$JS.API.INFO", "$SYS.REQ.USER.INFO"]
    return [*_timeline(s), *s.read(s.notes), *seen, s.under("push", "key"), s.under("dead")]  # it replays dead letters


_ROLES: Final[dict[str, Callable[[_Subjects], list[str]]]] = {
    "gateway": _gateway,
    "worker": _worker,
    "notifier": _notifier,
    "timeline": _timeline,
    "sweeper": _sweeper,
    "retention": _retention,
    "provisioner": _provisioner,
    "backup": _backup,
    "operator": _operator,
}
ROLES: Final = tuple(_ROLES)
_FOLLOWS: Final = frozenset({"gateway", "worker", "notifier", "timeline", "operator"})
"""Roles that follow tasks as they go on."""


def permissions(
    role: str,
    names: Names,
    *,
    log: str = "main",
    shards: int,
    agents: Collection[str] = (),
    regions: Mapping[str, str] | None = None,
) -> Permissions:
    """What a role needs.

    Args:
        role: one of ``ROLES``.
        names: of the deployment.
        log: whose.
        shards: that each log has.
        agents: the only ones that workers may serve; none: all.
        regions: logs of other regions, and the JetStream domain in which each is written.
    """
    domains = regions or {}
    of = [_Subjects(names, each, shards, agents, own=log, regions=domains) for each in dict.fromkeys([log, *domains])]
    publish = tuple(dict.fromkeys(subject for subjects in of for subject in _ROLES[role](subjects)))
    live = tuple(dict.fromkeys(subject for subjects in of for subject in subjects.live))
    usage = tuple(subjects.usage for subjects in of) if role == "gateway" else ()
    answers = f"{names.inbox(role)}.>"
    return Permissions(publish, (answers, *live, *usage) if role in _FOLLOWS else (answers,))


def streams_of(names: Names, *, log: str, shards: int) -> tuple[str, ...]:
    """Every stream of a deployment."""
    return tuple(_Subjects(names, log, shards, (), own=log, regions={}).all)


def variable(role: str, namespace: str) -> str:
    """Name of a role's permissions in the configuration of nats-server."""
    return f"{namespace.upper().replace('.', '_')}_{role.upper()}"


def definitions(made: Mapping[str, Permissions], namespace: str) -> list[str]:
    """Lines for the configuration of nats-server that give each role's permissions a name, for users to refer to."""
    lines: list[str] = []
    for role, allowed in made.items():
        both = (("publish", allowed.publish), ("subscribe", allowed.subscribe))
        lines.append(f"{variable(role, namespace)}: {{")
        for verb, subjects in both:
            lines += [f"  {verb}: {{ allow: [", *(f'    "{subject}"' for subject in subjects), "  ] }"]
        lines.append("}")
    return lines
