"""Gateways and workers as processes that can be killed, paused and cut off, and clients' connections to them."""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from a2a_events.bindings.errors import shown
from a2a_events.errors import A2AError, UnavailableError
from a2a_events.log.memory import MemoryLog
from a2a_events.model import AgentCapabilities, AgentCard, AgentSkill
from a2a_events.runtime.agent import Agent, Deadlines
from a2a_events.runtime.directory import ServedAgent
from a2a_events.runtime.operations import Operations, Run, Updates
from a2a_events.runtime.worker import Unfit, Worker
from a2a_events.timeline.decide import FAIL, RERUN, RESUME
from a2a_events.timeline.record import Writer
from tests.simulation.agents import Actors
from tests.simulation.faulty import Chances, FaultyLog, Network
from tests.simulation.history import History
from tests.simulation.loop import Process

ACK_WAIT_SECONDS: Final = 6.0
DRAIN_SECONDS: Final = 4.0
CANCEL_WAIT_SECONDS: Final = 3.0
DEADLINES: Final = Deadlines(turn_seconds=30.0, idle_seconds=12.0, input_seconds=15.0)
CANCEL_GRACE_SECONDS: Final = 2.0
TURNS_PER_WORKER: Final = 3
REPLIES: Final = {"steady": "task", "brief": "either", "again": "task", "patient": "task"}
"""The agents of a run, and what they may reply with."""
CRASH_POLICIES: Final = {"again": RERUN, "patient": RESUME}
"""Of those that have another than to fail."""


class ConnectionLost(Exception):
    """The gateway is gone."""


class Refused(Exception):
    """The gateway has answered with an error.

    Args:
        error: as the client sees it.
        definite: whether it says that nothing was written.
    """

    def __init__(self, error: A2AError, *, definite: bool) -> None:
        super().__init__(type(error).__name__)
        self.error = error
        self.definite = definite


class Connection:
    """A stream on its way to a client: what the gateway has sent, and at most so much unread."""

    def __init__(self, unread: int) -> None:
        self._unread = unread
        self._sent: deque[Run | Exception] = deque()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self.serving: asyncio.Task[Any] | None = None

    async def put(self, run: Run) -> None:
        """Send; waits while the client does not read."""
        while len(self._sent) >= self._unread:
            self._room.clear()
            await self._room.wait()
        self._sent.append(run)
        self._arrived.set()

    def fail(self, error: Exception) -> None:
        """It ends here."""
        self._sent.append(error)
        self._arrived.set()

    async def runs(self) -> AsyncIterator[Run]:
        """What came; raises what ended it."""
        while True:
            while not self._sent:
                self._arrived.clear()
                await self._arrived.wait()
            run = self._sent.popleft()
            self._room.set()
            if isinstance(run, Exception):
                raise run
            yield run
            if run.last:
                return


class Gateway:
    """One gateway process."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        self._network = cluster.network
        self.process = Process(name, skew_seconds=cluster.rng.uniform(-2, 2))
        self.log = FaultyLog(self._network, self.process)
        self.operations = Operations(self.log, Writer("gateway", name), cancel_wait_seconds=CANCEL_WAIT_SECONDS)
        self._calls: list[asyncio.Future[Any]] = []
        self._connections: list[Connection] = []

    async def call(self, operation: Callable[[], Awaitable[Any]]) -> Any:
        """A request and its answer.

        Raises:
            Refused: the answer is an error.
            ConnectionLost: the gateway has gone away meanwhile.
        """
        network = self._network
        outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls.append(outcome)

        async def serve() -> None:
            try:
                result = await operation()
            except Exception as error:  # noqa: BLE001 -- as the edge does: everything becomes an answer
                network.later(network.delay(), _settle, outcome, None, _refused(error))
            else:
                network.later(network.delay(), _settle, outcome, result, None)

        task = self.process.start(serve())
        try:
            return await outcome
        except asyncio.CancelledError:
            network.later(network.delay(), task.cancel, context=self.process.context.copy())
            raise
        finally:
            self._calls.remove(outcome)

    def stream(self, opening: Callable[[], Awaitable[Updates]], unread: int) -> Connection:
        """Open a stream."""
        connection = Connection(unread)
        self._connections.append(connection)

        async def serve() -> None:
            try:
                updates = await opening()
                try:
                    async for run in aiter(updates):
                        await connection.put(run)
                        updates.sent(run)
                        if run.last:
                            return
                    connection.fail(ConnectionLost("the stream ended before its time"))
                finally:
                    await updates.aclose()
            except Exception as error:  # noqa: BLE001 -- as the edge does: everything becomes an answer
                connection.fail(_refused(error))

        connection.serving = self.process.start(serve())
        return connection

    def close(self, connection: Connection) -> None:
        """The client has gone away; the gateway notices after a while."""
        self._connections.remove(connection)
        if connection.serving is not None:
            delay = self._network.delay()
            self._network.later(delay, connection.serving.cancel, context=self.process.context.copy())

    def crash(self) -> None:
        """Kill it."""
        self.process.kill()
        for outcome in self._calls:
            self._network.later(self._network.delay(), _settle, outcome, None, ConnectionLost("killed"))
        for connection in self._connections:
            self._network.later(self._network.delay(), connection.fail, ConnectionLost("killed"))
        self._network.later(0.0, self._network.start, self.log.lost_connection())


class WorkerNode:
    """One worker process."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        network = cluster.network
        self.process = Process(name, skew_seconds=cluster.rng.uniform(-2, 2))
        self.log = FaultyLog(network, self.process)
        agents = cluster.actors.agents(name, cluster.agents)
        self.worker = Worker(
            self.log,
            agents,
            Writer("worker", name),
            turns=TURNS_PER_WORKER,
            ack_wait_seconds=ACK_WAIT_SECONDS,
            drain_seconds=DRAIN_SECONDS,
        )
        self._asked = False
        """Whether it was to stop."""
        self.running = self.process.start(self.worker.run())
        self.running.add_done_callback(self._ended, context=contextvars.copy_context())

    def stop(self) -> None:
        """Drain it, as SIGTERM does."""
        self._asked = True
        self.worker.stop()

    def _ended(self, running: asyncio.Task[None]) -> None:
        """It has drained; if because an agent did not stop, its supervisor kills and replaces it."""
        cluster = self._cluster
        if self.process.dead:
            return
        error = None if running.cancelled() else running.exception()
        if error is None:
            cluster.network.start(self.log.lost_connection())
            return
        cluster.history.note(self.process.name, f"ends: {error}")
        if not isinstance(error, Unfit):
            cluster.history.problems.append(f"{self.process.name} ended: {error!r}")
        cluster.history.counts["recycled"] += 1
        cluster.crash(self)
        if not self._asked:
            cluster.add_worker()

    def crash(self) -> None:
        """Kill it. The server notices after a while; until then it may hand out work to nobody."""
        self.process.kill()
        network = self._cluster.network
        network.later(3 * network.rng.random(), network.start, self.log.lost_connection())


class Cluster:
    """All processes of a run, those that were killed included."""

    def __init__(self, seed: str, log: MemoryLog, chances: Chances, history: History) -> None:
        self.rng = random.Random(f"cluster-{seed}")
        self.history = history
        self.log = log
        self.network = Network(log, random.Random(f"network-{seed}"), chances, history)
        self.actors = Actors(history)
        self.agents = [declared(name) for name in REPLIES]
        self.gateways: list[Gateway] = []
        self.workers: list[WorkerNode] = []
        self.drained: list[WorkerNode] = []
        """Asked to stop."""
        self.buried: list[Gateway | WorkerNode] = []
        """Killed."""
        self.healed = False
        self._made = 0

    def served(self, name: str) -> ServedAgent:
        """An agent as gateways serve it."""
        agent = next(agent for agent in self.agents if agent.name == name)
        return ServedAgent(name, agent.card, agent.replies)

    def agent_of(self, task_id: str) -> str:
        """The agent that a task was sent to."""
        return self.history.agents[task_id]

    def living(self) -> list[Gateway | WorkerNode]:
        """Every process that was not killed."""
        return [*self.workers, *self.gateways, *self.drained]

    def add_gateway(self) -> Gateway:
        self._made += 1
        gateway = Gateway(self, f"gateway-{self._made}")
        self.gateways.append(gateway)
        return gateway

    def add_worker(self) -> WorkerNode:
        self._made += 1
        worker = WorkerNode(self, f"worker-{self._made}")
        self.workers.append(worker)
        return worker

    def replace(self, node: Gateway | WorkerNode) -> None:
        """Another process takes the place of one that was killed, unless the run is over."""
        if not self.healed:
            _ = self.add_gateway() if isinstance(node, Gateway) else self.add_worker()

    def crash(self, node: Gateway | WorkerNode) -> None:
        """Kill a process."""
        node.crash()
        self.buried.append(node)
        if isinstance(node, Gateway):
            self.gateways.remove(node)
        elif node in self.workers:
            self.workers.remove(node)
        else:
            self.drained.remove(node)


def declared(name: str) -> Agent:
    """One of the agents, without anything to run."""

    async def nothing(_turn: Any) -> None:
        raise NotImplementedError

    card = AgentCard(
        name=name,
        description=name,
        version="1.0.0",
        supported_interfaces=(),
        capabilities=AgentCapabilities(streaming=True),
        default_input_modes=("*/*",),
        default_output_modes=("*/*",),
        skills=(AgentSkill(id=name, name=name, description=name, tags=(name,)),),
    )
    return Agent(
        name,
        nothing,
        card,
        replies=REPLIES[name],
        policy=CRASH_POLICIES.get(name, FAIL),
        deadlines=DEADLINES,
        cancel_grace_seconds=CANCEL_GRACE_SECONDS,
    )


def _refused(error: Exception) -> Refused:
    seen = shown(error)
    definite = not isinstance(seen, UnavailableError) or "nothing was written" in seen.message
    return Refused(seen, definite=definite)


def _settle(outcome: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if outcome.done():
        return
    if error is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(result)
