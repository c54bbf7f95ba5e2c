"""The faults, each by its name and its number in the fault matrix. Each breaks, waits, heals, and says how it bit."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, Final, TypeAlias

from msgspec import Struct

from a2a_events.errors import LogError
from faults.agents import ATTEMPTS, Plan
from faults.cluster import Node
from faults.proxy import Injury, Link, Way
from faults.receiver import REDIRECTED, REFUSED, RESET, SILENT
from faults.services import Service
from faults.site import Bite, Site, Skipped

Act: TypeAlias = Callable[[Site], Awaitable[None]]

ELECTION_SECONDS: Final = 20.0
"""How long another leader is waited for, as evidence."""
RESTART_SECONDS: Final = 3.0
"""How long a killed server is away."""


class Scenario(Struct, frozen=True):
    """One kind of fault."""

    name: str
    number: str
    """In the fault matrix."""
    act: Act
    says: str
    at_random: bool = True
    """Whether it is one of those that a run chooses from by itself."""


SCENARIOS: Final[dict[str, Scenario]] = {}


def scenario(number: str, *, at_random: bool = True) -> Callable[[Act], Act]:
    """Enter a function into :data:`SCENARIOS` under its own name."""

    def enter(act: Act) -> Act:
        name = act.__name__.replace("_", "-")
        says = (act.__doc__ or "").partition("\n")[0]
        SCENARIOS[name] = Scenario(name, number, act, says, at_random)
        return act

    return enter


# --- servers ----------------------------------------------------------------------------------------------------------


async def _back(site: Site, *nodes: Node) -> None:
    """Let servers live again, and wait until the cluster is whole."""
    for node in nodes:
        node.child.resume()
    for node in nodes:
        await site.cluster.restart(node)
    await site.cluster.whole(90.0)


def _three(site: Site) -> None:
    if site.cluster.size == 1:
        raise Skipped("needs a cluster")


@scenario("F01")
async def leader_killed(site: Site) -> None:
    """The server that leads the log is killed, and comes back after a while."""
    async with site.at_cluster:
        node = await site.leader()
        try:
            with site.fault("leader-killed", node.name, "leader") as bite:
                node.child.kill()
                if site.cluster.size == 1:
                    bite.evidence = f"{node.name} died"
                elif new := await site.led_by_another(node.name, ELECTION_SECONDS):
                    bite.evidence = f"leader {node.name} -> {new}"
                await asyncio.sleep(RESTART_SECONDS)
        finally:
            await _back(site, node)


@scenario("F02")
async def follower_killed(site: Site) -> None:
    """A server that follows is killed."""
    _three(site)
    async with site.at_cluster:
        leader = await site.leader()
        node = site.chance.choice([n for n in site.cluster.nodes if n is not leader])
        try:
            with site.fault("follower-killed", node.name) as bite:
                if node.child.kill():
                    bite.evidence = f"{node.name} died"
                await asyncio.sleep(RESTART_SECONDS)
        finally:
            await _back(site, node)


@scenario("F03")
async def meta_leader_killed(site: Site) -> None:
    """The server that leads the meta group is killed, if it does not lead the log as well."""
    _three(site)
    async with site.at_cluster:
        leader, meta = await site.leader(), await site.cluster.meta_leader()
        if not meta:
            raise Skipped("no meta leader is known")
        if leader.name == meta:
            other = site.chance.choice([n for n in site.cluster.nodes if n is not leader])
            await site.cluster.step_down(site.stream, other.name)
        node = site.cluster.named(meta)
        try:
            with site.fault("meta-leader-killed", node.name) as bite:
                node.child.kill()
                deadline = time.monotonic() + ELECTION_SECONDS
                while time.monotonic() < deadline and not bite.evidence:
                    now = await site.cluster.meta_leader()
                    if now and now != meta:
                        bite.evidence = f"meta leader {meta} -> {now}"
                    await asyncio.sleep(0.1)
        finally:
            await _back(site, node)


@scenario("F04")
async def majority_killed(site: Site) -> None:
    """Two of three servers are killed: nothing can be written for a while."""
    _three(site)
    async with site.at_cluster:
        nodes = site.chance.sample(site.cluster.nodes, 2)
        try:
            with site.fault("majority-killed", " ".join(n.name for n in nodes), "leader") as bite:
                died = [node.name for node in nodes if node.child.kill()]
                await asyncio.sleep(site.chance.uniform(3, 6))
                bite.evidence = f"{' and '.join(died)} died"
                for node in nodes:
                    await site.cluster.restart(node)
        finally:
            await _back(site, *nodes)


@scenario("F05")
async def all_killed(site: Site) -> None:
    """All servers are killed at one instant."""
    async with site.at_cluster:
        nodes = site.cluster.nodes
        try:
            with site.fault("all-killed", " ".join(n.name for n in nodes), "leader") as bite:
                for node in nodes:
                    node.child.signal(signal.SIGKILL)
                bite.evidence = f"{sum([await node.child.ended(5) for node in nodes])} died"
                for node in nodes:
                    await site.cluster.restart(node)
        finally:
            await _back(site, *nodes)


@scenario("F06")
async def leader_paused(site: Site) -> None:
    """The server that leads the log stands still, and wakes when another leads."""
    _three(site)
    async with site.at_cluster:
        node = await site.leader()
        try:
            with site.fault("leader-paused", node.name, "leader") as bite:
                node.child.pause()
                if new := await site.led_by_another(node.name, ELECTION_SECONDS):
                    bite.evidence = f"leader {node.name} -> {new}"
                await asyncio.sleep(site.chance.uniform(0.5, 5))
        finally:
            await _back(site, node)


@scenario("F06")
async def leader_stalled(site: Site) -> None:
    """The server that leads the log stands still for less than anybody notices."""
    async with site.at_cluster:
        node = await site.leader()
        try:
            with site.fault("leader-stalled", node.name) as bite:
                node.child.pause()
                seconds = site.chance.uniform(0.5, 2.5)
                await asyncio.sleep(seconds)
                bite.evidence = f"{node.name} stood still for {seconds:.1f} s"
        finally:
            await _back(site, node)


@scenario("F07")
async def gateways_server_paused(site: Site) -> None:
    """The server that a gateway is connected to stands still; not the leader if that can be."""
    _three(site)
    async with site.at_cluster:
        leader = await site.leader()
        sitting = {g.server: g for g in site.gateways if g.server}
        names = [name for name in sitting if name != leader.name] or list(sitting)
        if not names:
            raise Skipped("no gateway is connected")
        node = site.cluster.named(site.chance.choice(names))
        gateway = sitting[node.name]
        try:
            with site.fault("gateways-server-paused", node.name) as bite:
                node.child.pause()
                deadline = time.monotonic() + ELECTION_SECONDS
                while time.monotonic() < deadline and gateway.server in {node.name, ""}:
                    await asyncio.sleep(0.1)
                if gateway.server not in {node.name, ""}:
                    bite.evidence = f"{gateway.name} went from {node.name} to {gateway.server}"
        finally:
            await _back(site, node)


@scenario("F08")
async def swizzled(site: Site) -> None:
    """Jepsen's schedule: pause one, kill another, start it, pause the third, wake the first."""
    _three(site)
    async with site.at_cluster:
        one, two, three = site.chance.sample(site.cluster.nodes, 3)
        try:
            with site.fault("swizzled", f"{one.name} {two.name} {three.name}", "leader") as bite:
                one.child.pause()
                await asyncio.sleep(site.chance.uniform(0.5, 2))
                died = three.child.kill()
                await asyncio.sleep(site.chance.uniform(0.5, 2))
                await site.cluster.restart(three)
                two.child.pause()
                await asyncio.sleep(site.chance.uniform(0.5, 2))
                one.child.resume()
                await asyncio.sleep(site.chance.uniform(0.5, 2))
                two.child.resume()
                bite.evidence = f"{three.name} died, {one.name} and {two.name} stood still" if died else ""
        finally:
            await _back(site, one, two, three)


@scenario("F10")
async def servers_rolled(site: Site) -> None:
    """Every server is replaced in good order, the leader last."""
    _three(site)
    async with site.at_cluster:
        leader = await site.leader()
        nodes = [*(n for n in site.cluster.nodes if n is not leader), leader]
        try:
            with site.fault("servers-rolled", " ".join(n.name for n in nodes)) as bite:
                for node in nodes:
                    await site.cluster.lame_duck(node)
                    await site.cluster.restart(node)
                    await site.cluster.whole(60)
                now = (await site.leader()).name
                bite.evidence = f"all restarted, leader {leader.name} -> {now}" if now != leader.name else ""
        finally:
            await _back(site, *nodes)


@scenario("F10")
async def leader_terminated(site: Site) -> None:
    """The server that leads the log gets SIGTERM."""
    _three(site)
    async with site.at_cluster:
        node = await site.leader()
        try:
            with site.fault("leader-terminated", node.name, "leader") as bite:
                node.child.terminate()
                if new := await site.led_by_another(node.name, ELECTION_SECONDS):
                    bite.evidence = f"leader {node.name} -> {new}"
                if not await node.child.ended(15):
                    node.child.kill()
        finally:
            await _back(site, node)


@scenario("F10")
async def leader_moved(site: Site) -> None:
    """The leader of the log steps down for another, and that of each consumer with it."""
    _three(site)
    async with site.at_cluster:
        node = await site.leader()
        with site.fault("leader-moved", node.name) as bite:
            new = await site.cluster.step_down(site.stream)
            bite.evidence = f"leader {node.name} -> {new}"


@scenario("F20")
async def server_cut_off(site: Site) -> None:
    """A server reaches neither the others nor anybody else, and does not know it."""
    _three(site)
    async with site.at_cluster:
        node = await site.leader() if site.chance.random() < 0.5 else site.chance.choice(site.cluster.nodes)
        links = [*site.cluster.routes_of(node), *(s.to_nats[node.name] for s in site.services)]
        await _injured(site, "server-cut-off", node.name, links, lambda link: link.hold(), (5, 9), "held_bytes")
        await _back(site, node)


@scenario("F20")
async def routes_one_way(site: Site) -> None:
    """A server hears the others, and they do not hear it."""
    _three(site)
    async with site.at_cluster:
        node = await site.leader()

        def deafen(link: Link) -> None:
            link.hold(Way.UP if link.name.startswith(node.name) else Way.DOWN)

        links = site.cluster.routes_of(node)
        await _injured(site, "routes-one-way", node.name, links, deafen, (5, 9), "held_bytes")
        await _back(site, node)


@scenario("F23")
async def routes_flapping(site: Site) -> None:
    """The routes of one server come and go."""
    _three(site)
    async with site.at_cluster:
        node = site.chance.choice(site.cluster.nodes)
        await _flap(site, "routes-flapping", node.name, site.cluster.routes_of(node))
        await _back(site, node)


@scenario("F15")
async def routes_slow(site: Site) -> None:
    """Every word between servers takes a while."""
    _three(site)
    async with site.at_cluster:
        links = list(site.cluster.routes.values())
        seconds = site.chance.uniform(0.02, 0.1)
        await _injured(site, "routes-slow", "all", links, lambda link: link.delay(seconds), (4, 8), "late_bytes")
        await _back(site)


@scenario("F12")
async def disk_full(site: Site) -> None:
    """The disk of a follower is full: its JetStream is off until it is restarted."""
    _three(site)
    if not site.disks:
        raise Skipped(f"servers have no disks of their own ({site.no_disks})")
    async with site.at_cluster:
        leader = await site.leader()
        which = site.chance.choice([i for i, n in enumerate(site.cluster.nodes) if n is not leader])
        node, disk = site.cluster.nodes[which], site.disks[which]
        try:
            with site.fault("disk-full", node.name) as bite:
                taken = disk.fill()
                deadline = time.monotonic() + 15
                while time.monotonic() < deadline and await node.healthy():
                    await asyncio.sleep(0.2)
                if not await node.healthy():
                    bite.evidence = f"{taken >> 20} MiB taken, {node.name} says that it is not healthy"
                await asyncio.sleep(2)
        finally:
            disk.empty()
            node.child.kill()
            await _back(site, node)


@scenario("F09")
async def power_cut(site: Site) -> None:
    """All servers lose their power at one instant: what was not flushed is gone."""
    if not site.disks:
        raise Skipped(f"servers have no disks of their own ({site.no_disks})")
    async with site.at_cluster:
        nodes = site.cluster.nodes
        try:
            with site.fault("power-cut", " ".join(n.name for n in nodes), "leader") as bite:
                for disk in site.disks:
                    disk.cut_power()
                for node in nodes:
                    node.child.signal(signal.SIGKILL)
                for node in nodes:
                    await node.child.ended(5)
                await asyncio.gather(*(_remount(disk) for disk in site.disks))
                bite.evidence = "all disks lost what was not flushed"
                for node in nodes:
                    await site.cluster.restart(node)
        finally:
            await _back(site, *nodes)


async def _remount(disk: Any) -> None:
    for attempt in range(50):
        try:
            await asyncio.to_thread(disk.unmount)
            break
        except OSError:
            raise
        except Exception:
            if attempt == 49:
                raise
            await asyncio.sleep(0.1)
    await asyncio.to_thread(disk.mount)


@scenario("F16")
async def store_wiped(site: Site) -> None:
    """A follower loses its data, and gets it from the others."""
    _three(site)
    async with site.at_cluster:
        await site.cluster.whole(60, at_once=True)  # the others must have everything
        leader = await site.leader()
        node = site.chance.choice([n for n in site.cluster.nodes if n is not leader])
        try:
            with site.fault("store-wiped", node.name) as bite:
                node.child.kill()
                bite.evidence = f"{site.cluster.wipe(node)} bytes removed"
                await site.cluster.restart(node)
        finally:
            await _back(site, node)


# --- links ------------------------------------------------------------------------------------------------------------


def _total(links: Iterable[Link], what: str) -> int:
    return sum(getattr(link.injury, what) for link in links)


async def _injured(  # noqa: PLR0917 -- one line a scenario
    site: Site,
    kind: str,
    target: str,
    links: list[Link],
    hurt: Callable[[Link], None],
    seconds: tuple[float, float],
    evidence: str,
) -> None:
    """Hurt links for a while; the evidence is what they counted."""
    before = _total(links, evidence)
    try:
        with site.fault(kind, target) as bite:
            for link in links:
                hurt(link)
            await asyncio.sleep(site.chance.uniform(*seconds))
            for link in links:
                link.heal()
            if (count := _total(links, evidence) - before) > 0:
                bite.evidence = f"{count} {evidence.replace('_', ' ')}"
    finally:
        for link in links:
            link.heal()


async def _flap(site: Site, kind: str, target: str, links: list[Link]) -> None:
    before = _total(links, "resets") + _total(links, "refused")
    try:
        with site.fault(kind, target) as bite:
            for _ in range(site.chance.randint(4, 8)):
                for link in links:
                    link.cut()
                await asyncio.sleep(0.5)
                for link in links:
                    link.heal()
                await asyncio.sleep(0.5)
            bite.evidence = f"{_total(links, 'resets') + _total(links, 'refused') - before} resets and refusals"
    finally:
        for link in links:
            link.heal()


async def _to_nats(  # noqa: PLR0917 -- one line a scenario
    site: Site,
    kind: str,
    services: list[Service],
    hurt: Callable[[Link], None],
    seconds: tuple[float, float],
    evidence: str,
) -> None:
    async with site.taken(services) as service:
        await _injured(site, kind, service.name, list(service.to_nats.values()), hurt, seconds, evidence)


@scenario("F21")
async def gateway_cut_off(site: Site) -> None:
    """A gateway is cut from every server."""
    await _to_nats(site, "gateway-cut-off", site.gateways, lambda link: link.cut(), (3, 9), "resets")


@scenario("F21")
async def gateway_unplugged(site: Site) -> None:
    """Nothing comes through between a gateway and the servers, and neither knows."""
    await _to_nats(site, "gateway-unplugged", site.gateways, lambda link: link.hold(), (3, 12), "held_bytes")


@scenario("F21")
async def worker_cut_off(site: Site) -> None:
    """A worker is cut from every server."""
    await _to_nats(site, "worker-cut-off", site.workers, lambda link: link.cut(), (1, 4), "resets")


@scenario("F31")
async def worker_unplugged(site: Site) -> None:
    """A worker runs on without the servers for longer than its turns are its own: a zombie."""
    wait = site.ack_wait_seconds
    await _to_nats(site, "worker-unplugged", site.workers, lambda link: link.hold(), (wait + 2, wait + 5), "held_bytes")


@scenario("F51")
async def gateway_acks_lost(site: Site) -> None:
    """What servers answer a gateway is lost, after they have done it."""
    await _to_nats(site, "gateway-acks-lost", site.gateways, lambda link: link.lose(Way.DOWN), (0.5, 3), "lost_bytes")


@scenario("F51")
async def worker_acks_lost(site: Site) -> None:
    """What servers answer a worker is lost, after they have done it."""
    await _to_nats(site, "worker-acks-lost", site.workers, lambda link: link.lose(Way.DOWN), (0.5, 3), "lost_bytes")


@scenario("F22")
async def worker_requests_lost(site: Site) -> None:
    """What a worker sends is lost; it still hears."""
    await _to_nats(site, "worker-requests-lost", site.workers, lambda link: link.lose(Way.UP), (0.5, 4), "lost_bytes")


@scenario("F22")
async def gateway_requests_lost(site: Site) -> None:
    """What a gateway sends is lost; it still hears."""
    await _to_nats(site, "gateway-requests-lost", site.gateways, lambda link: link.lose(Way.UP), (0.5, 4), "lost_bytes")


@scenario("F23")
async def gateway_flapping(site: Site) -> None:
    """The links of a gateway to the servers come and go."""
    async with site.taken(site.gateways) as service:
        await _flap(site, "gateway-flapping", service.name, list(service.to_nats.values()))


@scenario("F23")
async def worker_flapping(site: Site) -> None:
    """The links of a worker to the servers come and go."""
    async with site.taken(site.workers) as service:
        await _flap(site, "worker-flapping", service.name, list(service.to_nats.values()))


@scenario("F15")
async def worker_slow(site: Site) -> None:
    """Every word between a worker and the servers takes a while."""
    seconds = site.chance.uniform(0.05, 0.4)
    await _to_nats(site, "worker-slow", site.workers, lambda link: link.delay(seconds), (3, 7), "late_bytes")


@scenario("F15")
async def gateway_dribbling(site: Site) -> None:
    """Servers reach a gateway a few bytes at a time."""
    await _to_nats(
        site, "gateway-dribbling", site.gateways, lambda link: link.dribble(150, Way.DOWN), (2, 5), "late_bytes"
    )


@scenario("F42")
async def replies_lost(site: Site) -> None:
    """What a gateway answers its clients is lost, after it was done."""
    async with site.taken(site.gateways) as service:
        await _injured(
            site, "replies-lost", service.name, [service.clients], lambda link: link.lose(Way.DOWN), (0.5, 3),
            "lost_bytes",
        )  # fmt: skip


@scenario("F42")
async def clients_reset(site: Site) -> None:
    """Every connection between clients and a gateway is reset."""
    async with site.taken(site.gateways) as service:
        await _injured(
            site, "clients-reset", service.name, [service.clients], lambda link: link.reset(), (0.1, 0.5), "resets"
        )


@scenario("F43")
async def readers_slow(site: Site) -> None:
    """All readers at a gateway get a few bytes at a time."""
    async with site.taken(site.gateways) as service:
        await _injured(
            site, "readers-slow", service.name, [service.clients], lambda link: link.dribble(24, Way.DOWN), (3, 7),
            "late_bytes",
        )  # fmt: skip


@scenario("F44")
async def readers_vanished(site: Site) -> None:
    """All clients of a gateway are gone without a word."""
    async with site.taken(site.gateways) as service:
        link = service.clients
        before = link.injury.resets
        try:
            with site.fault("readers-vanished", service.name) as bite:
                link.hold()
                await asyncio.sleep(site.chance.uniform(4, 10))
                link.reset()
                bite.evidence = f"{link.injury.resets - before} connections stood still and were lost"
        finally:
            link.heal()


# --- workers ----------------------------------------------------------------------------------------------------------


@scenario("F30")
async def worker_killed(site: Site) -> None:
    """A worker is killed in the middle of its turns."""
    async with site.taken(site.workers) as worker:
        with site.fault("worker-killed", worker.name, "worker") as bite:
            if worker.child.kill():
                bite.evidence = f"{worker.name} died"
            await asyncio.sleep(site.chance.uniform(0, 3))


@scenario("F35")
async def all_workers_killed(site: Site) -> None:
    """All workers are killed; tasks wait."""
    free = [worker for worker in site.workers if worker.name not in site.busy]
    if len(free) < len(site.workers):
        raise Skipped("some are broken already")
    site.busy.update(worker.name for worker in free)
    try:
        with site.fault("all-workers-killed", "all", "worker") as bite:
            bite.evidence = f"{sum([worker.child.kill() for worker in free])} died"
            await asyncio.sleep(site.chance.uniform(1, 4))
    finally:
        for worker in free:
            await worker.restart()
        site.busy.difference_update(worker.name for worker in free)


@scenario("F06")
async def worker_paused(site: Site) -> None:
    """A worker stands still, not for so long that its turns are taken."""
    async with site.taken(site.workers) as worker:
        with site.fault("worker-paused", worker.name) as bite:
            seconds = site.chance.uniform(0.5, 0.6 * site.ack_wait_seconds)
            if worker.child.pause():
                bite.evidence = f"{worker.name} stood still for {seconds:.1f} s"
            await asyncio.sleep(seconds)


@scenario("F31")
async def zombie(site: Site) -> None:
    """A worker stands still until others have its turns, and goes on as if nothing had been."""
    async with site.taken(site.workers) as worker:
        mark = fenced(worker)
        for _ in range(4):
            # Turns that are still under way when it wakes, whoever has them by then.
            await site.special(Plan(steps=8, sleep_ms=400))
        await asyncio.sleep(0.7)
        with site.fault("zombie", worker.name, "worker") as bite:
            worker.child.pause()
            await asyncio.sleep(site.ack_wait_seconds + site.chance.uniform(2, 4))
            worker.child.resume()
            deadline = time.monotonic() + 8
            while time.monotonic() < deadline and fenced(worker) == mark:
                await asyncio.sleep(0.2)
            count = fenced(worker) - mark
            bite.evidence = f"fenced {count} times" if count else ""
            site.counts["fenced"] += count


def fenced(worker: Service) -> int:
    """How often a worker has said that its turn is somebody else's."""
    return len(re.findall('"event":"fenced"', worker.child.last_words(4_000_000)))


@scenario("F32")
async def worker_blocked(site: Site) -> None:
    """An agent holds up its whole worker for longer than its turns are its own."""
    seconds = site.ack_wait_seconds + site.chance.uniform(1, 3)
    with site.fault("worker-blocked", "some worker", "worker") as bite:
        await site.special(Plan(steps=4, block_at=2, block_seconds=seconds))
        await asyncio.sleep(seconds)
        bite.evidence = f"a loop stood still for {seconds:.1f} s"


@scenario("F40")
async def worker_stopped(site: Site) -> None:
    """A worker is asked to stop, and has turns."""
    async with site.taken(site.workers) as worker:
        with site.fault("worker-stopped", worker.name) as bite:
            began = time.monotonic()
            code = await worker.stop()
            bite.evidence = f"ended with {code} after {time.monotonic() - began:.1f} s"


async def _died(site: Site, kind: str, plan: Plan, *, poison: bool) -> None:
    """Send what kills workers; the site starts them again."""
    before = site.counts["deaths of their own"]
    attempts = ATTEMPTS if poison else 1
    with site.fault(kind, "some worker", "worker") as bite:
        await site.special(plan, poison=poison, tenant="beta" if poison else "")
        deadline = time.monotonic() + attempts * (site.ack_wait_seconds + 4)
        while time.monotonic() < deadline and site.counts["deaths of their own"] - before < attempts:
            await asyncio.sleep(0.2)
        deaths = site.counts["deaths of their own"] - before
        bite.evidence = f"{deaths} workers died of it" if deaths else ""


@scenario("F33")
async def agent_crashed(site: Site) -> None:
    """An agent takes its worker along, once."""
    await _died(site, "agent-crashed", Plan(steps=6, crash_at=site.chance.randint(0, 5)), poison=False)


@scenario("F54")
async def poisoned(site: Site) -> None:
    """An agent takes its worker along at every attempt."""
    await _died(site, "poisoned", Plan(steps=6, crash_at=2, poison=True), poison=True)


@scenario("F53")
async def redelivery_storm(site: Site) -> None:
    """For a while the broker waits so little that every delivery comes again and again."""
    connection = await site.cluster.connection()
    names, agents = site.names, ("alpha", "beta", "gamma")

    async def wait_for(seconds: float) -> int:
        redelivered = 0
        for agent in agents:
            consumer = names.worker_consumer(agent)
            info = await connection.api(f"CONSUMER.INFO.{site.stream}.{consumer}")
            redelivered += info.get("num_redelivered", 0)
            config = {**info["config"], "ack_wait": int(seconds * 1e9)}
            verb = f"CONSUMER.CREATE.{site.stream}.{consumer}.{config['filter_subject']}"
            await connection.api(verb, {"stream_name": site.stream, "config": config, "action": "update"})
        return redelivered

    async with site.at_cluster:
        try:
            with site.fault("redelivery-storm", "all consumers") as bite:
                await wait_for(0.5)
                await asyncio.sleep(site.chance.uniform(3, 5))
                count = await wait_for(site.ack_wait_seconds)
                bite.evidence = f"{count} deliveries repeated" if count else ""
        except (LogError, KeyError) as error:
            raise Skipped(f"the consumers could not be changed: {error}") from None
        finally:
            for attempt in range(5):
                try:
                    await wait_for(site.ack_wait_seconds)
                    break
                except (LogError, KeyError):
                    if attempt == 4:
                        raise
                    await asyncio.sleep(1)


@scenario("F56", at_random=False)
async def consumer_deleted(site: Site) -> None:
    """The consumer that hands out an agent's work is deleted."""
    connection = await site.cluster.connection()
    agent = site.chance.choice(("alpha", "beta", "gamma"))
    consumer = site.names.worker_consumer(agent)
    with site.fault("consumer-deleted", consumer) as bite:
        with suppress(LogError):
            done = await connection.api(f"CONSUMER.DELETE.{site.stream}.{consumer}")
            bite.evidence = f"{consumer} deleted" if done.get("success") else ""
        await asyncio.sleep(5)


# --- gateways ---------------------------------------------------------------------------------------------------------


def _open_streams(service: Service) -> int:
    return service.clients.connections


@scenario("F40")
async def gateway_killed(site: Site) -> None:
    """A gateway is killed with streams open."""
    async with site.taken(site.gateways) as gateway:
        with site.fault("gateway-killed", gateway.name, "gateway") as bite:
            count = _open_streams(gateway)
            if gateway.child.kill():
                bite.evidence = f"{gateway.name} died with {count} connections"
            await asyncio.sleep(site.chance.uniform(0, 3))


@scenario("F41")
async def gateway_stopped(site: Site) -> None:
    """A gateway is asked to stop, with streams open."""
    async with site.taken(site.gateways) as gateway:
        with site.fault("gateway-stopped", gateway.name) as bite:
            count, began = _open_streams(gateway), time.monotonic()
            code = await gateway.stop()
            bite.evidence = f"ended with {code} after {time.monotonic() - began:.1f} s, had {count} connections"


@scenario("F40")
async def gateway_paused(site: Site) -> None:
    """A gateway stands still."""
    async with site.taken(site.gateways) as gateway:
        with site.fault("gateway-paused", gateway.name) as bite:
            seconds = site.chance.uniform(1, 10)
            if gateway.child.pause():
                bite.evidence = f"{gateway.name} stood still for {seconds:.1f} s"
            await asyncio.sleep(seconds)


@scenario("F41")
async def all_rolled(site: Site) -> None:
    """Every gateway and every worker is replaced in good order, one after the other."""
    if site.busy:
        raise Skipped("some are broken already")
    with site.fault("all-rolled", "all") as bite:
        codes: list[int | None] = []
        for service in site.services:
            if service.name in site.busy:
                continue
            site.busy.add(service.name)
            try:
                codes.append(await service.stop())
                await service.restart()
            finally:
                site.busy.discard(service.name)
        bite.evidence = f"ended with {codes}"


# --- webhooks ---------------------------------------------------------------------------------------------------------


async def _notified(site: Site, receiver: str) -> None:
    """Have a receiver called for a few seconds, whatever else there is."""
    for _ in range(3):
        await site.special(Plan(steps=10, sleep_ms=300), receiver=receiver)


async def _answering(site: Site, kind: str, status: int, seconds: tuple[float, float]) -> None:
    """Have a receiver answer everything so for a while; the evidence is how many calls were answered so."""
    async with site.receiver() as receiver:
        counted = f"{receiver} answered {status}"

        def count() -> int:
            return int(site.progress.get("counts", {}).get(counted, 0))

        before = count()
        await _notified(site, receiver)
        with site.fault(kind, receiver) as bite:
            await site.order("webhooks", receiver=receiver, status=status)
            await asyncio.sleep(site.chance.uniform(*seconds))
            bite.evidence = f"{count() - before} calls" if count() > before else ""


@scenario("F70")
async def webhooks_refused(site: Site) -> None:
    """A receiver of webhooks answers 500."""
    await _answering(site, "webhooks-refused", REFUSED, (2, 5))


@scenario("F70")
async def webhooks_redirected(site: Site) -> None:
    """A receiver of webhooks sends its callers elsewhere, where they must not go."""
    await _answering(site, "webhooks-redirected", REDIRECTED, (1, 3))


@scenario("F70")
async def webhooks_reset(site: Site) -> None:
    """A receiver of webhooks resets every connection in place of an answer."""
    await _answering(site, "webhooks-reset", RESET, (2, 5))


@scenario("F70")
async def webhooks_unanswered(site: Site) -> None:
    """A receiver of webhooks takes every call, and answers none."""
    await _answering(site, "webhooks-unanswered", SILENT, (4, 9))


async def _to_receiver(
    site: Site, kind: str, hurt: Callable[[Link], None], seconds: tuple[float, float], evidence: str
) -> None:
    async with site.receiver() as receiver:
        await _notified(site, receiver)
        await _injured(site, kind, receiver, [site.receivers[receiver]], hurt, seconds, evidence)


@scenario("F70")
async def receiver_closed(site: Site) -> None:
    """A receiver of webhooks is gone, and comes back."""
    await _to_receiver(site, "receiver-closed", lambda link: link.cut(), (2, 5), "refused")


@scenario("F70")
async def receiver_unplugged(site: Site) -> None:
    """Nothing comes through to a receiver of webhooks."""
    await _to_receiver(site, "receiver-unplugged", lambda link: link.hold(), (4, 9), "held_bytes")


@scenario("F70")
async def webhook_answers_lost(site: Site) -> None:
    """What a receiver answers is lost, after it has taken the update."""
    await _to_receiver(site, "webhook-answers-lost", lambda link: link.lose(Way.DOWN), (1, 3), "lost_bytes")


@scenario("F30")
async def notifier_killed(site: Site) -> None:
    """A notifier is killed in the middle of its calls."""
    async with site.taken(site.notifiers) as notifier:
        with site.fault("notifier-killed", notifier.name) as bite:
            if notifier.child.kill():
                bite.evidence = f"{notifier.name} died"
            await asyncio.sleep(site.chance.uniform(0, 3))


@scenario("F40")
async def notifier_stopped(site: Site) -> None:
    """A notifier is asked to stop, and has calls under way."""
    async with site.taken(site.notifiers) as notifier:
        with site.fault("notifier-stopped", notifier.name) as bite:
            began = time.monotonic()
            code = await notifier.stop()
            bite.evidence = f"ended with {code} after {time.monotonic() - began:.1f} s"


@scenario("F31")
async def notifier_paused(site: Site) -> None:
    """A notifier stands still until the other has its tasks, and goes on as if nothing had been."""
    async with site.taken(site.notifiers) as notifier:
        with site.fault("notifier-paused", notifier.name) as bite:
            seconds = site.ack_wait_seconds + site.chance.uniform(2, 4)
            if notifier.child.pause():
                bite.evidence = f"{notifier.name} stood still for {seconds:.1f} s"
            await asyncio.sleep(seconds)


@scenario("F31")
async def notifier_unplugged(site: Site) -> None:
    """A notifier runs on without the servers for longer than its tasks are its own."""
    wait = site.ack_wait_seconds
    await _to_nats(
        site, "notifier-unplugged", site.notifiers, lambda link: link.hold(), (wait + 2, wait + 5), "held_bytes"
    )


@scenario("F51")
async def notifier_acks_lost(site: Site) -> None:
    """What servers answer a notifier is lost, after they have done it."""
    await _to_nats(site, "notifier-acks-lost", site.notifiers, lambda link: link.lose(Way.DOWN), (0.5, 3), "lost_bytes")


# --- clocks -----------------------------------------------------------------------------------------------------------


@scenario("F60")
async def clock_skewed(site: Site) -> None:
    """A gateway or worker is restarted with a clock that is an hour off."""
    library = skew_library()
    if not library:
        raise Skipped("libfaketime is not installed")
    services = site.workers if site.chance.random() < 0.5 else site.gateways
    async with site.taken(services) as service:
        by = site.chance.choice(("+1h", "-1h", "+10s", "-10s"))
        with site.fault("clock-skewed", service.name) as bite:
            await service.stop()
            skew = {
                "LD_PRELOAD": library,
                "FAKETIME": by,
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "DONT_FAKE_MONOTONIC": "1",
            }
            service.start(skew)
            await service.ready()
            await asyncio.sleep(site.chance.uniform(4, 8))
            await service.stop()
            bite.evidence = f"{service.name} lived with a clock {by} off"


def skew_library() -> str:
    """Path of libfaketime, where it is installed."""
    from pathlib import Path  # noqa: PLC0415 -- only here

    found = [
        *Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"),
        *Path("/usr/lib").glob("faketime/libfaketimeMT.so.1"),
    ]
    return str(found[0]) if found else ""


__all__ = ["SCENARIOS", "Bite", "Injury", "Scenario"]
