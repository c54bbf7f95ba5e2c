"""One run: a cluster, clients, a nemesis; then everything heals, and the judge looks."""

from __future__ import annotations

import asyncio
import random
import re
import traceback
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from typing import Any, Final

import structlog
from msgspec import Struct

from a2a_events import limits
from a2a_events.errors import Unreadable
from a2a_events.log.memory import MemoryLog
from a2a_events.runtime import worker
from a2a_events.timeline.fold import Phase, TaskFold
from a2a_events.timeline.record import Record
from tests.simulation import judge
from tests.simulation.agents import AgentFault
from tests.simulation.clients import Clients
from tests.simulation.cluster import ACK_WAIT_SECONDS, Cluster
from tests.simulation.faulty import Chances
from tests.simulation.history import Answer, History
from tests.simulation.loop import VirtualLoop, virtual

CHAOS_SECONDS: Final = 40.0
QUIET_WITHIN_SECONDS: Final = 150.0
"""After everything has healed: deadlines of turns, two ack waits, a keep-alive and the patience of appends fit in."""
CANCELED_WITHIN_SECONDS: Final = 40.0
UNWIND_SECONDS: Final = 60.0

SMALL: Final = {
    "SNAPSHOT_EVENTS": 6,
    "SNAPSHOT_FROM_EVENTS": 8,
    "SEGMENT_BYTES": 60,
    "SEGMENT_LARGEST_BYTES": 100,
    "SEGMENT_LEAST_BYTES": 20,
    "TAIL_BUFFER_RECORDS": 3,
    "WRITER_QUEUED_EVENTS": 5,
    "RECORD_EVENTS": 8,
    "PENDING_MESSAGES": 3,
    "DECIDE_ATTEMPTS": 6,
    "SUSPEND_SECONDS": 3.0,
}
"""Limits that a run must meet within seconds."""

NEMESES: Final = (
    "kill worker",
    "kill gateway",
    "pause worker",
    "pause gateway",
    "cut off worker",
    "cut off gateway",
    "outage",
    "storm",
    "drain worker",
)


KNOWN: Final[tuple[str, ...]] = ()
"""Faults of the product that this simulation has found and that are still there; each goes when its fault goes."""


def known(violation: str) -> bool:
    """Whether this is one of them."""
    return any(re.search(pattern, violation) for pattern in KNOWN)


class Verdict(Struct, frozen=True):
    """What a run came to."""

    seed: str
    violations: list[str]
    history: History
    digest: str
    """Of every record that was stored."""


def run(seed: object) -> Verdict:
    """Run one seed and judge it."""
    history = History()
    with virtual(str(seed)) as loop, _small_limits(), _logging_to(history):
        return loop.run_until_complete(_run(str(seed), loop, history))


async def _run(seed: str, loop: VirtualLoop, history: History) -> Verdict:
    rng = random.Random(f"scenario-{seed}")
    log = MemoryLog(ack_wait_seconds=ACK_WAIT_SECONDS)
    cluster = Cluster(seed, log, _chances(rng), history)
    for _ in range(rng.randint(1, 2)):
        cluster.add_gateway()
    for _ in range(rng.randint(1, 3)):
        cluster.add_worker()
    clients = Clients(seed, cluster)
    clients.start(rng.randint(1, 4))
    await _nemesis(rng, cluster)
    await _heal(cluster, clients)
    violations = await _quiet(cluster, clients)
    violations += await _cancel_all(cluster, clients)
    records = history.timelines()
    violations += await judge.judge(log, cluster, clients, history)
    violations += await _leave(loop, cluster, clients)
    digest = judge.digest(records)
    return Verdict(seed, violations + history.problems, history, digest)


def _chances(rng: random.Random) -> Chances:
    """A run has some kinds of faults, not all: what each does alone is seen too."""
    some = {name: rng.choice((0.03, 0.1, 0.3)) for name in Chances.__struct_fields__ if rng.random() < 0.4}
    return Chances(**some)


async def _nemesis(rng: random.Random, cluster: Cluster) -> None:
    """Bad things happen to processes and connections."""
    kinds = rng.sample(NEMESES, k=rng.randint(0, 4))
    end = asyncio.get_running_loop().time() + CHAOS_SECONDS
    mean_seconds = rng.choice((2.0, 5.0, 12.0))
    while (left := end - asyncio.get_running_loop().time()) > 0:
        await asyncio.sleep(min(left, rng.expovariate(1 / mean_seconds)))
        if kinds:
            await _strike(rng, cluster, rng.choice(kinds))


async def _strike(rng: random.Random, cluster: Cluster, kind: str) -> None:
    network, history = cluster.network, cluster.history
    nodes: list[Any] = cluster.workers if "worker" in kind else cluster.gateways
    history.counts[kind] += 1
    match kind:
        case "storm":
            history.note("nemesis", f"storm: {await network.storm()} deliveries again")
        case "outage":
            network.cut.add("*")
            history.note("nemesis", "outage begins")
            network.later(rng.uniform(0.5, 9), network.cut.discard, "*")
        case _ if not nodes:
            return
        case "kill worker" | "kill gateway":
            node = rng.choice(nodes)
            history.note("nemesis", f"kills {node.process.name}")
            cluster.crash(node)
            network.later(rng.uniform(0.1, 8), cluster.replace, node)
        case "pause worker" | "pause gateway":
            process = rng.choice(nodes).process
            seconds = rng.uniform(0.2, 3 * ACK_WAIT_SECONDS)
            history.note("nemesis", f"pauses {process.name} for {seconds:.1f} s")
            process.pause()
            network.later(seconds, process.resume)
        case "cut off worker" | "cut off gateway":
            name = rng.choice(nodes).process.name
            seconds = rng.uniform(0.5, 2 * ACK_WAIT_SECONDS)
            history.note("nemesis", f"cuts off {name} for {seconds:.1f} s")
            network.cut.add(name)
            network.later(seconds, network.cut.discard, name)
        case "drain worker":
            node = rng.choice(nodes)
            history.note("nemesis", f"drains {node.process.name}")
            cluster.workers.remove(node)
            cluster.drained.append(node)
            node.stop()
            cluster.add_worker()
        case _:
            raise AssertionError(f"no such nemesis: {kind}")


async def _heal(cluster: Cluster, clients: Clients) -> None:
    cluster.history.note("nemesis", "everything heals")
    clients.restless = False
    cluster.healed = True
    cluster.network.heal()
    for node in cluster.living():
        node.process.resume()
    if not cluster.gateways:
        cluster.add_gateway()
    if not cluster.workers:
        cluster.add_worker()


def phases(history: History) -> dict[str, Phase]:
    """Where each task stands; without those whose timeline is damaged, which the judge finds."""
    found = {}
    for task_id, records in history.timelines().items():
        with suppress(Unreadable):
            found[task_id] = TaskFold.of(records).head.phase
    return found


async def _quiet(cluster: Cluster, clients: Clients) -> list[str]:
    """Wait until nobody has anything to do any more."""
    history = cluster.history
    moving: list[str] = []
    for _ in range(int(QUIET_WITHIN_SECONDS / 2)):
        await asyncio.sleep(2.0)
        moving = [f"client {number} still asks" for number, task in enumerate(clients.conversing, 1) if not task.done()]
        if moving:
            continue
        moving = [
            f"task {task_id[-6:]} is {phase.value} long after everything healed"
            for task_id, phase in phases(history).items()
            if phase not in {Phase.RESTING, Phase.TERMINAL}
        ]
        if not moving:
            history.note("judge", "everything is at rest")
            return []
    return moving


async def _cancel_all(cluster: Cluster, clients: Clients) -> list[str]:
    """Whatever rests is canceled, so that every task ends and every subscriber sees it."""
    violations = []
    for task_id, phase in sorted(phases(cluster.history).items()):
        if phase is Phase.RESTING:
            agent = cluster.agent_of(task_id)
            asked = await clients.cancel("judge", agent, task_id)
            # Its deadline for input may have come first: then it has ended, as it should.
            if asked.answer is not Answer.DONE and phases(cluster.history).get(task_id) is not Phase.TERMINAL:
                violations.append(f"task {task_id[-6:]} rests and cannot be canceled: {asked.error}")
    if clients.following:
        _, pending = await asyncio.wait(clients.following, timeout=CANCELED_WITHIN_SECONDS)
        violations += ["a subscriber was never told that its task had ended"] * len(pending)
    return violations


async def _leave(loop: VirtualLoop, cluster: Cluster, clients: Clients) -> list[str]:
    """Stop what lives, let what was killed unwind, and see that nothing is left."""
    stored = sum(map(len, cluster.history.timelines().values()))
    for task in [*clients.following, *clients.conversing]:
        task.cancel()
    for node in cluster.workers:
        node.stop()
    running = [node.running for node in [*cluster.workers, *cluster.drained]]
    if running:
        _, pending = await asyncio.wait(running, timeout=UNWIND_SECONDS)
        if pending:
            return ["a worker does not stop"]
    for living in cluster.living():
        await living.log.close()
        await living.log.lost_connection()
    await cluster.log.close()
    await asyncio.sleep(UNWIND_SECONDS)
    alive = [task for task in loop.unfinished() if task.process is None or not task.process.dead]
    violations = [f"an asyncio task is left over: {task.get_coro()}" for task in alive]
    if sum(map(len, cluster.history.timelines().values())) != stored:
        violations.append("something was written after everything had come to rest")
    await _unwind(loop, cluster)
    violations += [f"asyncio reports: {f.get('message')} {f.get('exception')!r}" for f in loop.failures]
    return violations


async def _unwind(loop: VirtualLoop, cluster: Cluster) -> None:
    """The coroutines of killed processes end now, cut off from the log; nothing they do counts."""
    failures = len(loop.failures)
    for _ in range(20):
        left = loop.unfinished()
        if not left:
            break
        for task in left:
            task.cancel()
        for node in cluster.buried:
            node.process.bury()
        await asyncio.sleep(5.0)
    del loop.failures[failures:]


@contextmanager
def _small_limits() -> Iterator[None]:
    before = {name: getattr(limits, name) for name in SMALL}
    steward = worker.STEWARD_SECONDS
    for name, value in SMALL.items():
        setattr(limits, name, value)
    worker.STEWARD_SECONDS = 0.5  # type: ignore[misc]
    try:
        yield
    finally:
        worker.STEWARD_SECONDS = steward  # type: ignore[misc]
        for name, value in before.items():
            setattr(limits, name, value)


COUNTED: Final = {
    "fenced",
    "agent does not stop",
    "turn given up",
    "turn ended without running",
    "turn not looked after",
    "turn woken",
    "task expired",
}
BUGS: Final = {"background work failed", "unreadable task", "request failed", "log failed"}


@contextmanager
def _logging_to(history: History) -> Iterator[None]:
    """What the product logs is a source too: some lines are counted, some must never come."""

    def listen(_logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event = line["event"]
        if event in COUNTED:
            history.counts[event] += 1
        elif event in BUGS or (event == "agent raised" and line["error"] != AgentFault.__name__):
            history.problems.append(f"logged: {_described(line)}")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[listen], cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.configure(**before)


def _described(line: MutableMapping[str, Any]) -> str:
    """A line of the log, without what differs from run to run."""
    info = line.get("exc_info")
    error = info if isinstance(info, BaseException) else info[1] if isinstance(info, tuple) else None
    if error is None:
        return f"{dict(line)}"
    places = [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    return f"{line['event']}: {error!r} in {' > '.join(places)}"


def shown(records: list[Record]) -> list[str]:
    """A timeline, readable."""
    return [
        f"  {r.position:>5} {r.header.writer.instance:<12} epoch {r.header.epoch} revision {r.header.revision} "
        f"[{r.header.kinds}] {r.payload.decode()[:300]!r}"
        for r in records
    ]
