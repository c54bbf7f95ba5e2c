"""Two regions with a gateway and a worker in each, in the event loop of the test, over real servers and a real link."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import msgspec

from a2a_events import Turn, agent
from a2a_events.log.jetstream import Connection, JetStreamLog, RegionalLog
from a2a_events.log.port import Log
from a2a_events.model import (
    GetTaskRequest,
    Message,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    SubscribeToTaskRequest,
    Task,
)
from a2a_events.runtime.agent import as_agent
from a2a_events.runtime.caller import Caller, Result
from a2a_events.runtime.directory import ServedAgent
from a2a_events.runtime.framing import Update
from a2a_events.runtime.operations import Operations, Updates
from a2a_events.runtime.push_configs import Targets
from a2a_events.runtime.turn import parts_of
from a2a_events.runtime.worker import Worker
from a2a_events.services.connect import jetstream_log
from a2a_events.testing import Calls, eventually
from a2a_events.timeline.ids import TaskRef, reference
from a2a_events.timeline.record import Record, Writer
from faults.regions import EU, US, Regions
from tests.integration.stack import RunningWorker

CATCH_UP_SECONDS = 90.0
"""A bound against hanging: nats-server may take over 40 s until it looks at a mirror again (docs/regions.md)."""
GATES: dict[str, asyncio.Queue[str]] = {}
"""What the agent says next, by the first message of its task; "" ends the turn."""


@agent(name="speaker")
async def speaker(turn: Turn) -> None:
    """Says what the test lets it say; ``ask`` asks the client, anything else is repeated."""
    if turn.text == "ask":
        turn.require_input("what else?")
        return
    gate = GATES.get(turn.text)
    if gate is None:
        await turn.artifact(turn.text)
        return
    while said := await gate.get():
        await turn.artifact(said)


SPEAKER = as_agent(speaker)
SERVED = ServedAgent(SPEAKER.name, SPEAKER.card, SPEAKER.replies)


class Gateway:
    """The operations of one gateway, and the log it has."""

    def __init__(self, region: str, log: RegionalLog, connection: Connection) -> None:
        self.region = region
        self.log = log
        self.connection = connection
        self.operations = Operations(
            log, Writer("gateway", f"gateway-{region}"), cancel_wait_seconds=2.0, targets=Targets(allow_private=True)
        )
        self.calls = Calls(self.operations, SPEAKER, timeout_seconds=30.0)

    def calls_of(self, tenant: str) -> Calls:
        return Calls(self.operations, SPEAKER, caller=Caller(tenant=tenant), timeout_seconds=30.0)

    async def send(
        self, text: str, *, key: str | None = None, task_id: str = "", tenant: str = "", message_id: str = ""
    ) -> Task:
        message_id = message_id or os.urandom(8).hex()
        message = Message(message_id=message_id, role=Role.USER, parts=parts_of(text), task_id=task_id)
        request = SendMessageRequest(message=message, configuration=SendMessageConfiguration(return_immediately=True))
        caller = Caller(tenant=tenant, idempotency_key=key)
        answer = await self.operations.send(caller, SERVED, request)
        return msgspec.convert(msgspec.json.decode(answer.json)["task"], Task, strict=False)

    async def stream(self, text: str) -> Updates:
        message = Message(message_id=os.urandom(8).hex(), role=Role.USER, parts=parts_of(text))
        return await self.operations.send_stream(Caller(), SERVED, SendMessageRequest(message=message))

    async def subscribe(self, task_id: str, cursor: str | None = None) -> Updates:
        return await self.operations.subscribe(Caller(), SERVED, SubscribeToTaskRequest(id=task_id), cursor=cursor)

    async def replay(self, task_id: str, cursor: str) -> list[Update]:
        """Everything after a cursor, of a task that has ended."""
        return [update async for update in shown(await self.subscribe(task_id, cursor))]

    async def get(self, task_id: str) -> Result:
        return await self.operations.get(Caller(), SERVED, GetTaskRequest(id=task_id))

    async def records(self, task: TaskRef) -> list[Record]:
        return [record async for run in self.log.read(task) for record in run]


async def shown(updates: Updates) -> AsyncGenerator[Update]:
    """What a stream shows, to its end; each pause is bounded."""
    try:
        runs = aiter(updates)
        while True:
            async with asyncio.timeout(CATCH_UP_SECONDS):
                run = await anext(runs)
            for update in run.updates:
                yield update
            if run.last:
                return
    finally:
        await updates.aclose()


async def take(updates: AsyncGenerator[Update], count: int) -> list[Update]:
    return [await anext(updates) for _ in range(count)]


def ref(task_id: str) -> TaskRef:
    found = reference(task_id, agent=SPEAKER.name, tenant="")
    assert found is not None
    return found


class TwoRegions(Regions):
    """Both regions, with a gateway each and a worker each."""

    def __init__(self) -> None:
        super().__init__()
        self._exits = AsyncExitStack()
        self.gateways: dict[str, Gateway] = {}
        self.workers: dict[str, RunningWorker] = {}

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        try:
            for region in (EU, US):
                self.gateways[region] = await self.gateway(region)
                await self.worker(region)
            await eventually(self._announced, timeout_seconds=30, what="gateways that know where the agent is")
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    def _announced(self) -> bool:
        return all(SPEAKER.name in g.log._agents_of(log) for g in self.gateways.values() for log in g.log.logs)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        GATES.clear()
        for worker in self.workers.values():
            await worker.vanish()
        await self._exits.aclose()
        await super().__aexit__(kind, error, trace)

    async def gateway(self, region: str, **settings: str) -> Gateway:
        """One more gateway of a region."""
        chosen = msgspec.structs.replace(self.settings(region), **settings)
        log, connection = await self._exits.enter_async_context(jetstream_log(chosen, "gateway"))
        assert isinstance(log, RegionalLog)
        made = Gateway(region, log, connection)
        self._exits.push_async_callback(made.calls.close)
        return made

    async def worker(self, region: str, log: str = "") -> RunningWorker:
        """A worker in a region, of its own log or of another one, with the settings that the documents tell."""
        chosen = msgspec.structs.replace(self.settings(region), log=log or region)
        opened, _ = await self._exits.enter_async_context(jetstream_log(chosen, "worker"))
        assert isinstance(opened, JetStreamLog)
        writer = Writer("worker", f"worker-{region}-{os.urandom(3).hex()}")
        made = RunningWorker(
            Worker(self.seen(opened, "worker"), [SPEAKER], writer, ack_wait_seconds=5.0, drain_seconds=0.5)
        )
        self.workers[writer.instance] = made
        await made.ready()
        return made

    def seen(self, log: Log, role: str) -> Log:
        """The log that a process of a role works on."""
        return log

    @property
    def eu(self) -> Gateway:
        return self.gateways[EU]

    @property
    def us(self) -> Gateway:
        return self.gateways[US]

    def gate(self, name: str) -> asyncio.Queue[str]:
        return GATES.setdefault(name, asyncio.Queue())

    async def cut(self) -> None:
        """Cut the leaf, and wait until both servers know."""
        self.link.cut()
        for gateway, other in ((self.eu, US), (self.us, EU)):

            def gone(gateway: Gateway = gateway, other: str = other) -> bool:
                return not next(state for state in gateway.log.mirrors if state.log == other).reachable

            await eventually(gone, timeout_seconds=30, what="the cut")

    async def heal(self) -> None:
        self.link.heal()
        await self.joined()

    async def even(self) -> None:
        """Wait until every mirror has what was written before: it was looked at since, and lacked nothing."""
        begun = time.monotonic()
        for gateway in self.gateways.values():

            def caught_up(gateway: Gateway = gateway) -> bool:
                return all(s.lag_seconds < time.monotonic() - begun for s in gateway.log.mirrors)

            await eventually(caught_up, timeout_seconds=CATCH_UP_SECONDS, what="mirrors that have everything")
