"""Everything that a run has: servers, services, receivers of webhooks, the load, and what was seen of the faults."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Coroutine, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal, Self

import msgspec

from a2a_events.errors import Unavailable, Uncertain
from a2a_events.log.jetstream import Names
from a2a_events.services.provisioner import run as provision
from a2a_events.services.webhook_client import IDLE_CONNECTIONS
from a2a_events.settings import Settings
from a2a_events.testing.waiting import eventually
from faults import history as h
from faults import sabotage
from faults.agents import Plan
from faults.checker.run import Terms
from faults.children import Family, get, port_of_its_own
from faults.cluster import Cluster, Node
from faults.disks import Disk, disks
from faults.load import Config, Ports
from faults.proxy import Link
from faults.receiver import TAKEN
from faults.services import Service

AGENTS: Final = "faults.agents:alpha,faults.agents:beta,faults.agents:gamma"
TENANTS: Final = ("alpha", "beta", "gamma")
RECEIVERS: Final = ("receiver-1", "receiver-2")
PUSH_PAUSE_SECONDS: Final = 0.1
"""After the first failed call of a webhook. One that refuses everything is given up after 6 to 13 seconds."""

LEAK_SECONDS: Final = 40.0
"""How long what a client that is gone leaves behind may be kept: two keep-alives tell a gateway, and a margin."""

Loses = Literal["", "leader", "worker", "gateway"]


class Skipped(Exception):
    """This fault cannot be had here, or not now; says why."""


class Bite:
    """A fault under way; whoever makes it says here how it is known that it bit."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.evidence = ""


class Site:
    """All of it, ``async with``.

    Args:
        folder: of the run.
        seed: of everything that is random here.
        servers: 3, or 1.
        gateways: how many.
        workers: how many.
        notifiers: how many.
        ack_wait_seconds: after which a silent turn is taken over.
        broken: see ``faults.sabotage``.
        own_disks: whether to give each server a disk of its own, where that can be had.
    """

    def __init__(
        self,
        folder: Path,
        seed: str,
        *,
        servers: int = 3,
        gateways: int = 3,
        workers: int = 4,
        notifiers: int = 2,
        ack_wait_seconds: float = 5.0,
        broken: str = "",
        own_disks: bool = False,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.seed = seed
        self.chance = random.Random(seed)
        self.ack_wait_seconds = ack_wait_seconds
        self.family = Family()
        self.disks: list[Disk] = []
        self.no_disks = "not asked for"
        if own_disks:
            self.disks, self.no_disks = disks(folder, [f"n{n}" for n in range(1, servers + 1)])
        self.cluster = Cluster(
            self.family, folder, size=servers, stores=[disk.mount_point / "store" for disk in self.disks]
        )
        settings = {
            "namespace": "faults",
            "replicas": str(servers),
            "shards": "1",
            "ack_wait_seconds": f"{ack_wait_seconds:g}",
            "agent": AGENTS,
            "push_allow_private": "true",
            "push_attempts": str(Terms().webhook_attempts),
            "push_pause_seconds": f"{PUSH_PAUSE_SECONDS:g}",
        }
        self.broken = broken
        self.gateways = [
            Service(self.family, "gateway", f"gateway-{n}", folder, settings, broken) for n in range(1, gateways + 1)
        ]
        self.workers = [
            Service(self.family, "worker", f"worker-{n}", folder, settings, broken) for n in range(1, workers + 1)
        ]
        self.notifiers = [
            Service(self.family, "notifier", f"notifier-{n}", folder, settings, broken) for n in range(1, notifiers + 1)
        ]
        self.receivers = {name: Link(f"webhooks>{name}", port_of_its_own()) for name in RECEIVERS}
        """The ways of notifiers to the receivers of webhooks."""
        self.names = Names("faults")
        self.stream = self.names.log_stream("main", 0)
        self.recorder = h.Recorder(folder / "histories", "nemesis", seed=seed, **(facts or {}))
        self.busy: set[str] = set()
        """Names of what is broken at the moment: no two faults hit the same."""
        self.at_cluster = asyncio.Lock()
        """Faults of servers come one at a time: otherwise every pair of them is a loss of the majority."""
        self.bitten: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self.skipped: dict[str, str] = {}
        self.in_use: dict[str, int] = {}
        """Subscriptions by client, as last counted: where to look when there are more than before."""
        self.late: list[str] = []
        """What was not well again in time after a fault, under load; at the end all has to be."""
        self.counts: Counter[str] = Counter()
        self.load: subprocess.Popen[bytes] | None = None
        self.progress: dict[str, Any] = {}
        self._told: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._watching: list[asyncio.Task[None]] = []

    # --- life ---------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._close()

    async def _start(self) -> None:
        await self.cluster.start()
        if self.broken == sabotage.MEMORY_STORAGE:
            with sabotage.volatile():
                await provision(self._settings)
        else:
            await provision(self._settings)
        await self.cluster.whole()
        await self.cluster.connection()  # before anything is counted
        for service in self.services:
            await service.connect(self.cluster)
        # One after the other: a process that starts takes a core for a second.
        for service in self.services:
            service.start()
        for link in self.receivers.values():
            await link.open()
        await asyncio.gather(*(service.ready() for service in self.services))
        await asyncio.gather(*(self._knows_agents(gateway) for gateway in self.gateways))
        self._watch(self._watch_leaders())
        self._watch(self._supervise())

    async def _knows_agents(self, gateway: Service) -> None:
        for tenant in TENANTS:
            path = f"/agents/{tenant}/.well-known/agent-card.json"

            async def known(path: str = path) -> bool:
                return (await get(gateway.port, path))[0] == 200

            await eventually(known, timeout_seconds=30, what=f"agent {tenant} at {gateway.name}")

    async def _close(self) -> None:
        for task in self._watching:
            task.cancel()
        if self.load is not None and self.load.poll() is None:
            self.load.kill()
            self.load.wait()
        for service in self.services:
            await service.close()
        for link in self.receivers.values():
            await link.close()
        await self.cluster.close()
        self.recorder.close()
        self.family.close()
        for disk in self.disks:
            with suppress(Exception):
                await disk.close()

    @property
    def _settings(self) -> Settings:
        return Settings(
            nats=",".join(self.cluster.urls),
            namespace="faults",
            replicas=self.cluster.size,
            shards=1,
            ack_wait_seconds=self.ack_wait_seconds,
        )

    @property
    def services(self) -> list[Service]:
        """Gateways, workers and notifiers."""
        return [*self.gateways, *self.workers, *self.notifiers]

    # --- the load -----------------------------------------------------------------------------------------------------

    async def start_load(self, *, tasks: int, clients: int, subscribers: int, **more: Any) -> None:
        """Start the clients."""
        config = Config(
            folder=str(self.folder),
            seed=self.seed,
            gateways={gateway.name: gateway.clients.port for gateway in self.gateways},
            tenants={tenant: f"canary-{tenant}-{self.chance.getrandbits(40):010x}" for tenant in TENANTS},
            tasks=tasks,
            clients=clients,
            subscribers=subscribers,
            receivers={name: Ports(link.target, link.port) for name, link in self.receivers.items()},
            **more,
        )
        file = self.folder / "load.json"
        file.write_bytes(msgspec.json.encode(config))
        with (self.folder / "load.log").open("ab") as log:
            self.load = subprocess.Popen(
                [sys.executable, "-m", "faults.load", str(file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                process_group=self.family.group,
            )
        self._watch(self._listen(self.load))

    async def _listen(self, load: subprocess.Popen[bytes]) -> None:
        reader = asyncio.StreamReader(limit=16 * 1024 * 1024)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), load.stdout)
        async for line in reader:
            told = json.loads(line)
            self.progress = told
            waiting = self._told.pop(told["what"], None)
            if waiting is not None and not waiting.done():
                waiting.set_result(told)
        for waiting in self._told.values():
            if not waiting.done():
                waiting.set_exception(RuntimeError(f"the load ended: see {self.folder / 'load.log'}"))

    async def order(self, do: str, answer: str = "", *, timeout_seconds: float = 600.0, **more: Any) -> dict[str, Any]:
        """Tell the load to do something, and wait for its answer if there is one.

        Raises:
            RuntimeError: it has ended instead.
        """
        assert self.load is not None
        assert self.load.stdin is not None
        waiting: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        if answer:
            self._told[answer] = waiting
        self.load.stdin.write(json.dumps({"do": do, **more}).encode() + b"\n")
        self.load.stdin.flush()
        if not answer:
            return {}
        async with asyncio.timeout(timeout_seconds):
            return await waiting

    async def special(self, plan: Plan, *, poison: bool = False, tenant: str = "", receiver: str = "") -> None:
        """Have the load send one task that does something in particular, or has a webhook at this receiver."""
        told = {name: value for name, value in msgspec.to_builtins(plan).items() if value is not None}
        await self.order("special", plan=told, poison=poison, tenant=tenant, receiver=receiver)

    # --- faults -------------------------------------------------------------------------------------------------------

    @contextmanager
    def fault(self, kind: str, target: str, loses: Loses = "") -> Generator[Bite]:
        """Record a fault from its first moment to its last."""
        call = self.recorder.invoke(h.Fault(kind=kind, target=target, loses=loses))
        bite = Bite(time.monotonic())
        try:
            yield bite
        except BaseException as error:
            call.info(f"{type(error).__name__}: {error}")
            raise
        call.ok(h.Bitten(evidence=bite.evidence))
        (self.bitten if bite.evidence else self.missed)[kind] += 1

    @asynccontextmanager
    async def taken(self, services: list[Service], *, keep: int = 1) -> AsyncGenerator[Service]:
        """One of these that nothing else is done to, for as long as the block runs.

        Args:
            services: to choose from.
            keep: how many of them have to be left alone.

        Raises:
            Skipped: too few are left.
        """
        free = [service for service in services if service.name not in self.busy]
        if len(free) <= keep:
            raise Skipped("too many are broken already")
        service = self.chance.choice(free)
        self.busy.add(service.name)
        try:
            yield service
        finally:
            service.child.resume()
            service.heal()
            await service.restart()
            self.busy.discard(service.name)

    @asynccontextmanager
    async def receiver(self) -> AsyncGenerator[str]:
        """A receiver of webhooks that nothing else is done to; the other goes on. As new afterwards.

        Raises:
            Skipped: one is broken already.
        """
        if self.busy & self.receivers.keys():
            raise Skipped("a receiver is broken already")
        name = self.chance.choice(list(self.receivers))
        self.busy.add(name)
        try:
            yield name
        finally:
            await self.order("webhooks", receiver=name, status=TAKEN)
            self.receivers[name].heal()
            self.busy.discard(name)

    async def leader(self) -> Node:
        """The server that leads the log.

        Raises:
            Skipped: none does at the moment.
        """
        name = (await self.cluster.leaders()).get(self.stream, "")
        if not name:
            raise Skipped("the log has no leader")
        return self.cluster.named(name)

    async def led_by_another(self, than: str, timeout_seconds: float = 20.0) -> str:
        """Wait for another leader of the log; its name, empty if none came."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            now = (await self.cluster.leaders()).get(self.stream, "")
            if now and now != than:
                return now
            await asyncio.sleep(0.1)
        return ""

    def _watch(self, work: Coroutine[Any, Any, None]) -> None:
        self._watching.append(asyncio.get_running_loop().create_task(work))

    async def _supervise(self) -> None:
        """Starts again what ended by itself, as an orchestrator would."""
        while True:
            await asyncio.sleep(0.2)
            for service in self.services:
                if service.name in self.busy or service.child.running:
                    continue
                self.counts["deaths of their own"] += 1
                self.busy.add(service.name)
                self._watch(self._revive(service))

    async def _revive(self, service: Service) -> None:
        try:
            await asyncio.sleep(0.5)
            await service.restart()
        finally:
            self.busy.discard(service.name)

    async def _watch_leaders(self) -> None:
        """Counts changes of leadership, whoever caused them."""
        known = ""
        while True:
            now = (await self.cluster.leaders()).get(self.stream, "")
            if now and known and now != known:
                self.counts["leader changes"] += 1
            known = now or known
            await asyncio.sleep(1.0)

    async def heal(self) -> float:
        """Everything as new; seconds that it took.

        Raises:
            TimeoutError: the servers did not come together again.
        """
        began = time.monotonic()
        for link in [*self.cluster.routes.values(), *self.receivers.values()]:
            link.heal()
        for service in self.services:
            service.child.resume()
            service.heal()
        for node in self.cluster.nodes:
            node.child.resume()
            await self.cluster.restart(node)
        await self.cluster.whole(90.0)
        for service in self.services:
            await service.restart()
        self.recorder.note(h.Heal())
        return time.monotonic() - began

    async def notified(self, patience_seconds: float) -> bool:
        """Wait until notifiers owe nobody anything: no record waits for them, and none is in their hands.

        Returns:
            False if that did not come.
        """
        connection = await self.cluster.connection()
        verb = f"CONSUMER.INFO.{self.stream}.{self.names.notifier_consumer}"
        deadline = time.monotonic() + patience_seconds
        while time.monotonic() < deadline:
            with suppress(Unavailable, Uncertain):
                info = await connection.api(verb)
                if not info.get("num_pending", 1) and not info.get("num_ack_pending", 1):
                    return True
            await asyncio.sleep(0.5)
        return False

    # --- what is in use -----------------------------------------------------------------------------------------------

    async def resources(self) -> dict[str, int]:
        """Count what must not leak."""
        counts: dict[str, int] = {}
        found = await self.cluster.jsz("?accounts=true&streams=true&consumers=true")
        for account in found.get("account_details", []):
            for stream in account.get("stream_detail") or []:
                if stream["name"].startswith("FAULTS_LOG"):
                    counts[f"{stream['name']} consumers"] = len(stream.get("consumer_detail") or [])
        subscriptions = 0
        per_client: dict[str, int] = {}
        for node in self.cluster.nodes:
            status, body = await get(node.monitor, "/connz?limit=1024")
            if status == 200:
                for connection in json.loads(body)["connections"]:
                    subscriptions += connection["subscriptions"]
                    who = f"subscriptions of {connection.get('name', 'somebody')}"
                    per_client[who] = per_client.get(who, 0) + connection["subscriptions"]
                    counts["nats connections"] = counts.get("nats connections", 0) + 1
        counts["nats subscriptions"] = subscriptions
        self.in_use = per_client
        for service in self.services:
            if service.child.running:
                counts[f"{service.name} descriptors"] = len(list(Path(f"/proc/{service.child.pid}/fd").iterdir()))
        return counts

    async def rested(self, before: dict[str, int]) -> None:
        """Count and record again what is in use, once it is about as little as before, or nothing goes any more."""
        # What a notifier keeps open for its receivers' next update is no leak.
        kept = {f"{notifier.name} descriptors": IDLE_CONNECTIONS * len(self.receivers) for notifier in self.notifiers}
        before = {name: count + kept.get(name, 0) for name, count in before.items()}
        deadline = time.monotonic() + LEAK_SECONDS
        counts = await self.resources()
        while time.monotonic() < deadline and any(
            number > before.get(name, 0) * 1.1 for name, number in counts.items()
        ):
            await asyncio.sleep(1.0)
            counts = await self.resources()
        self.recorder.note(h.Resources(when="before", counts=before))
        self.recorder.note(h.Resources(when="after", counts=counts))
