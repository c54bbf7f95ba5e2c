"""A short real run: two gateways, two workers and a notifier over one log in memory, two tenants, all recorded.

One worker is cut off in the middle of a turn, another takes the turn over, and the first comes back and is refused.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from typing import cast as cast_type

import msgspec

from a2a_events import Turn, agent
from a2a_events.errors import A2AError, TaskNotFoundError
from a2a_events.log.memory import MemoryLog
from a2a_events.log.port import Log
from a2a_events.model import (
    CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest,
    GetTaskRequest,
    ListTasksRequest,
    ListTasksResponse,
    Message,
    Part,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    SubscribeToTaskRequest,
    TaskPushNotificationConfig,
)
from a2a_events.runtime.agent import Agent
from a2a_events.runtime.caller import Caller
from a2a_events.runtime.directory import ServedAgent
from a2a_events.runtime.notification import Persistence
from a2a_events.runtime.notifier import Notifier
from a2a_events.runtime.operations import Operations, Updates
from a2a_events.runtime.push_configs import Targets
from a2a_events.runtime.seal import Seals
from a2a_events.runtime.worker import Worker
from a2a_events.services.webhook_client import WebhookClient
from a2a_events.testing import eventually
from a2a_events.timeline.record import Writer
from faults import history as h
from faults.checker import Terms
from faults.log_dump import dump_memory, records, write_replica
from faults.receiver import REFUSED, TAKEN, Receiver
from faults.recording import recorded

TENANTS = {"acme": "canary-of-acme-7f3", "globex": "canary-of-globex-9c1"}
ACK_WAIT_SECONDS = 1.5
SUSPEND_SECONDS = 0.2
GATEWAYS = ("gateway-1", "gateway-2")


@agent(name="cast", policy="fail")
async def cast(turn: Turn) -> None:
    """Does what the first word of the newest message says."""
    order = turn.text.split()[0]
    if order == "crash":
        raise RuntimeError("as told")
    if order == "slow":
        await turn.chunk("slow", "begun", last=False)
        await turn.flush()
        await asyncio.sleep(0.6)
    if order == "wait":
        await turn.chunk("wait", "waiting", last=False)
        await turn.flush()
        await asyncio.sleep(30)
    for number in range(3):
        await turn.chunk("text", f"{number} ", last=number == 2)
        await turn.flush()
    if order == "ask":
        turn.require_input("what next?")


@agent(name="stubborn", policy="rerun", attempts=3)
async def stubborn(turn: Turn) -> None:
    """Is tried again, takes steps, sleeps without a process, and is handed over."""
    order = turn.text.split()[0]
    if order == "doomed":
        raise RuntimeError("as told")
    await turn.chunk("text", "begun ", last=False)
    drawn = await turn.step("draw", lambda: 7)
    if order == "flaky" and turn.attempt == 1:
        raise RuntimeError("as told")
    if order == "nap":
        await turn.sleep(SUSPEND_SECONDS * 3)
    if order == "linger" and turn.task_id not in _LINGERED:
        _LINGERED.add(turn.task_id)
        await turn.flush()
        await asyncio.sleep(30)
    if order == "slow":
        await asyncio.sleep(0.6)
    await turn.chunk("text", f"{drawn}", last=True)


_LINGERED: set[str] = set()


class Cable:
    """A log whose appends stop on their way while it is cut."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.whole = asyncio.Event()
        self.whole.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def try_append(self, *arguments: Any, **options: Any) -> int:
        await self.whole.wait()
        return await self._log.try_append(*arguments, **options)


def _served(served: Agent) -> ServedAgent:
    capabilities = msgspec.structs.replace(served.card.capabilities, push_notifications=True, streaming=True)
    return ServedAgent(served.name, msgspec.structs.replace(served.card, capabilities=capabilities), served.replies)


class Session:
    """The clients, and what they work with."""

    def __init__(self, folder: Path, log: MemoryLog) -> None:
        self.log = log
        self.driver = h.Recorder(folder, "driver", seed="1", commit="abc")
        self.canaries = h.Canaries(TENANTS)
        self.operations: dict[str, Operations] = {}
        self.agents = {each.name: _served(each) for each in (cast, stubborn)}
        self.homes: dict[str, str] = {}
        """Agent of each task."""
        self.messages = 0
        self.counts: Counter[str] = Counter()
        self.receiver = Receiver("receiver", self.driver, self.canaries, self.counts)

    def agent(self, task: str) -> ServedAgent:
        return self.agents[self.homes.get(task, cast.name)]

    def request(
        self,
        tenant: str,
        order: str,
        task: str = "",
        *,
        streaming: bool = False,
        hook: TaskPushNotificationConfig | None = None,
        key: str = "",
    ) -> tuple[h.Send, SendMessageRequest]:
        self.messages += 1
        message_id = f"m-{self.messages}"
        text = f"{order} {TENANTS[tenant]}"
        message = Message(message_id=message_id, role=Role.USER, parts=(Part(text=text),), task_id=task)
        operation = h.Send(
            client=f"c-{tenant}",
            gateway=GATEWAYS[self.messages % 2],
            tenant=tenant,
            message_id=message_id,
            task=task,
            key=key,
            body=h.digest(text.encode()),
            streaming=streaming,
            webhook=hook.id if hook else "",
            poison=order in {"crash", "doomed"},
            deadline_seconds=30,
        )
        configuration = SendMessageConfiguration(return_immediately=True, task_push_notification_config=hook)
        return operation, SendMessageRequest(message=message, configuration=configuration)

    async def send(
        self,
        tenant: str,
        order: str,
        task: str = "",
        *,
        hook: TaskPushNotificationConfig | None = None,
        key: str = "",
        to: Agent = cast,
    ) -> str:
        operation, request = self.request(tenant, order, task, hook=hook, key=key)
        call = self.driver.invoke(operation)
        try:
            served = self.agent(task) if task else self.agents[to.name]
            result = await self.operations[operation.gateway].send(Caller(tenant=tenant), served, request)
        except A2AError as error:
            call.fail(f"{type(error).__name__}: {error}")
            raise
        answer = self.answer(bytes(msgspec.json.decode(result.json, type=dict[str, msgspec.Raw])["task"]))
        call.ok(answer)
        self.homes.setdefault(answer.task, to.name)
        return answer.task

    def hook(self, name: str, tenant: str, *, gone: bool = False) -> TaskPushNotificationConfig:
        """A webhook that the receiver expects."""
        config_id = f"{name}-{tenant}"
        token = self.receiver.expect(config_id, tenant, gone=gone)
        return TaskPushNotificationConfig(
            url=f"http://127.0.0.1:{self.receiver.port}/{config_id}", id=config_id, token=token
        )

    async def set_webhook(self, tenant: str, task: str, hook: TaskPushNotificationConfig) -> None:
        operation = h.SetWebhook(client=f"w-{tenant}", gateway="gateway-1", tenant=tenant, task=task, webhook=hook.id)
        call = self.driver.invoke(operation)
        request = msgspec.structs.replace(hook, task_id=task)
        await self.operations["gateway-1"].push_configs.create(Caller(tenant=tenant), self.agent(task), request)
        call.ok()

    async def delete_webhook(self, tenant: str, task: str, config: str) -> None:
        operation = h.DeleteWebhook(client=f"w-{tenant}", gateway="gateway-2", tenant=tenant, task=task, webhook=config)
        call = self.driver.invoke(operation)
        request = DeleteTaskPushNotificationConfigRequest(task_id=task, id=config)
        await self.operations["gateway-2"].push_configs.delete(Caller(tenant=tenant), self.agent(task), request)
        call.ok()

    def answer(self, raw: bytes) -> h.Answer:
        return h.answer(raw, canaries=self.canaries.found_in(raw))

    async def stream(self, tenant: str, order: str) -> str:
        """A streaming send, read to its end."""
        operation, request = self.request(tenant, order, streaming=True)
        call = self.driver.invoke(operation)
        updates = await self.operations[operation.gateway].send_stream(
            Caller(tenant=tenant), self.agents[cast.name], request
        )
        call.ok(h.Answer(task=updates.task.task_id))
        await self.read(call.number, updates)
        return updates.task.task_id

    async def subscribe(self, tenant: str, task: str, gateway: str, *, leave_after: int = 0) -> None:
        """Watch to the end; or leave after so many updates, and come back at the other gateway."""
        cursor, number = "", 0
        while True:
            call = self.driver.invoke(
                h.Subscribe(
                    client=f"s-{tenant}", gateway=gateway, tenant=tenant, task=task, cursor=cursor, resumes=number
                )
            )
            try:
                updates = await self.operations[gateway].subscribe(
                    Caller(tenant=tenant), self.agent(task), SubscribeToTaskRequest(id=task), cursor=cursor or None
                )
            except A2AError as error:
                call.fail(f"{type(error).__name__}: {error}")
                return
            call.ok(h.Opened())
            cursor, number = await self.read(call.number, updates, leave_after), call.number
            if not leave_after:
                return
            leave_after, gateway = 0, GATEWAYS[gateway == GATEWAYS[0]]

    async def read(self, number: int, updates: Updates, leave_after: int = 0) -> str:
        cursor, seen = "", 0
        how: Literal["closed", "left"] = "left"
        async with aclosing(updates):
            async for run in updates:
                for update in run.updates:
                    if leave_after and seen == leave_after:
                        continue
                    found = self.canaries.found_in(update.line)
                    self.driver.note(h.update(number, update.cursor, update.line, found))
                    cursor, seen = update.cursor, seen + 1
                if run.last:
                    how = "closed"
                if run.last or (leave_after and seen == leave_after):
                    break
        self.driver.note(h.StreamEnd(stream=number, how=how, silence_seconds=0.1))
        return cursor

    async def get(self, tenant: str, task: str, gateway: str, *, final: bool = False) -> str:
        call = self.driver.invoke(
            h.Get(client=f"g-{tenant}", gateway=gateway, tenant=tenant, task=task, final=final, deadline_seconds=30)
        )
        try:
            result = await self.operations[gateway].get(
                Caller(tenant=tenant), self.agent(task), GetTaskRequest(id=task)
            )
        except TaskNotFoundError as error:
            call.fail(f"TaskNotFoundError: {error}")
            return ""
        answer = self.answer(result.json)
        call.ok(answer)
        return answer.state

    async def cancel(self, tenant: str, task: str) -> None:
        operation = h.Cancel(client=f"x-{tenant}", gateway="gateway-1", tenant=tenant, task=task, deadline_seconds=30)
        call = self.driver.invoke(operation)
        try:
            result = await self.operations["gateway-1"].cancel(
                Caller(tenant=tenant), self.agent(task), CancelTaskRequest(id=task)
            )
        except A2AError as error:
            call.fail(f"{type(error).__name__}: {error}")
            return
        call.ok(self.answer(result.json))

    async def list_all(self, tenant: str, gateway: str) -> None:
        for served in self.agents.values():
            await self.list_agent(tenant, gateway, served)

    async def list_agent(self, tenant: str, gateway: str, served: ServedAgent) -> None:
        token, walk = "", f"{gateway} {served.name}"
        while True:
            operation = h.ListTasks(client=f"l-{tenant}", gateway=gateway, tenant=tenant, walk=walk, final=True)
            call = self.driver.invoke(operation)
            request = ListTasksRequest(page_size=5, page_token=token)
            result = await self.operations[gateway].list_tasks(Caller(tenant=tenant), served, request)
            page = msgspec.json.decode(result.json, type=ListTasksResponse)
            rows = tuple(h.Row(t.id, t.status.state.value) for t in page.tasks)
            token = page.next_page_token
            call.ok(h.Page(rows=rows, last=not token, canaries=self.canaries.found_in(result.json)))
            if not token:
                return

    async def rested(self, tenant: str, task: str, *states: str) -> None:
        wanted = [f"TASK_STATE_{state}" for state in states]

        async def rests() -> bool:
            return await self.get(tenant, task, "gateway-2") in wanted

        await eventually(rests, timeout_seconds=20, what=f"rest of {task}")


@asynccontextmanager
async def _worker(log: Log, name: str) -> AsyncGenerator[Worker]:
    worker = Worker(log, [cast, stubborn], Writer("worker", name), ack_wait_seconds=ACK_WAIT_SECONDS, drain_seconds=0)
    running = asyncio.get_running_loop().create_task(worker.run())
    try:
        await worker.ready.wait()
        yield worker
    finally:
        worker.stop()
        await running


@asynccontextmanager
async def _notifier(log: Log, name: str) -> AsyncGenerator[None]:
    client = WebhookClient(allow_private=True)
    persistence = Persistence(Terms().webhook_attempts, 0.01)
    notifier = Notifier(
        log,
        client,
        Seals(log),
        Writer("notifier", name),
        persistence=persistence,
        ack_wait_seconds=ACK_WAIT_SECONDS,
    )
    running = asyncio.get_running_loop().create_task(notifier.run())
    try:
        await notifier.ready.wait()
        yield
    finally:
        notifier.stop()
        await running
        await client.close()


async def _refuse_a_few(session: Session) -> None:
    """The receiver refuses the first calls, which come again."""
    session.receiver.turn(REFUSED)
    await eventually(lambda: session.counts[f"receiver answered {REFUSED}"] > 3, what="calls that were refused")
    session.receiver.turn(TAKEN)


async def play(folder: Path) -> None:
    """The run: histories and the final log end up in the folder. Turns are suspended early, to save time."""
    log = MemoryLog(ack_wait_seconds=ACK_WAIT_SECONDS)
    session = Session(folder, log)
    nemesis = h.Recorder(folder, "nemesis")
    driver = session.driver
    for tenant, text in TENANTS.items():
        driver.note(h.Canary(tenant=tenant, text=text))
    nemesis.note(h.Resources(when="before", counts={"consumers": 4, "worker-1 rss_bytes": 1000}))
    async with AsyncExitStack() as stack:
        for name in GATEWAYS:
            recorder = stack.enter_context(h.Recorder(folder, name))
            session.operations[name] = Operations(
                recorded(log, recorder), Writer("gateway", name), targets=Targets(allow_private=True)
            )
            stack.push_async_callback(session.operations[name].close)
        await session.receiver.open()
        stack.push_async_callback(session.receiver.close)
        telling = stack.enter_context(h.Recorder(folder, "notifier-1"))
        await stack.enter_async_context(_notifier(recorded(log, telling), "notifier-1"))
        first = stack.enter_context(h.Recorder(folder, "worker-1"))
        cable = Cable(log)
        cut = recorded(cast_type("Log", cable), first)
        async with _worker(cut, "worker-1"):
            # Only the first worker is there yet: the turn is its own.
            taken = await session.send("acme", "slow")
            again = await session.send("globex", "slow", to=stubborn)
            for task in (taken, again):
                await _begun(log, task)
            fault = nemesis.invoke(h.Fault(kind="cut_worker", target="worker-1", loses="worker"))
            cable.whole.clear()
            second = stack.enter_context(h.Recorder(folder, "worker-2"))
            async with _worker(recorded(log, second), "worker-2"):
                await session.rested("acme", taken, "FAILED")
                await session.rested("globex", again, "COMPLETED")
                cable.whole.set()
                first.note(h.Fenced(task=taken, epoch=1))
                fault.ok(h.Bitten(evidence="worker-2 took over"))
                leader = nemesis.invoke(h.Fault(kind="kill_leader", target="n1", loses="leader", shard=0))
                await asyncio.gather(_load(session), _refuse_a_few(session))
                await _hand_over(session, folder)
                await eventually(lambda: log._all is not None and not log._all.depth, what="rest of the webhooks")
                leader.ok(h.Bitten(evidence="n1 -> n2"))
                nemesis.note(h.Heal())
                driver.note(h.Resources(when="after", counts={"consumers": 4, "worker-1 rss_bytes": 1040}))
                for known in log._timelines:
                    tenant = _tenant(log, known.task_id)
                    for gateway in GATEWAYS:
                        await session.get(tenant, known.task_id, gateway, final=True)
                for tenant in TENANTS:
                    for gateway in GATEWAYS:
                        await session.list_all(tenant, gateway)
    nemesis.close()
    driver.close()
    await dump_memory(log, folder)
    for stream, stored in records(folder):
        for server in ("n1", "n2", "n3"):
            write_replica(folder, stream, server, ((r.position, msgspec.json.encode(r)) for r in stored))
    await log.close()


async def _begun(log: MemoryLog, task_id: str) -> None:
    """Wait until a turn of the task has said something."""
    await eventually(
        lambda: any(len(records) >= 3 for task, records in log._timelines.items() if task.task_id == task_id),
        timeout_seconds=10,
        what=f"a turn of {task_id}",
    )


async def _hand_over(session: Session, folder: Path) -> None:
    """A worker that is stopped hands its turns over."""
    with h.Recorder(folder, "worker-3") as recorder:
        async with _worker(recorded(session.log, recorder), "worker-3"):
            tasks = [await session.send("acme", "linger", to=stubborn) for _ in range(6)]
            for task in tasks:
                await _begun(session.log, task)
        # Those that another worker had linger still: it is their deadline's business, or their client's.
        for task in tasks:
            await session.cancel("acme", task)
            await session.rested("acme", task, "COMPLETED", "CANCELED")


def _tenant(log: MemoryLog, task_id: str) -> str:
    record = next(r[0] for t, r in log._timelines.items() if t.task_id == task_id)
    return next(tenant for tenant, text in TENANTS.items() if text.encode() in record.payload)


async def _load(session: Session) -> None:
    async def talk(tenant: str, order: str, *, hook: TaskPushNotificationConfig | None = None) -> None:
        task = await session.send(tenant, order, hook=hook, key=f"key-{order}-{hook.id if hook else ''}")
        await asyncio.gather(
            session.subscribe(tenant, task, "gateway-1"),
            session.subscribe(tenant, task, "gateway-2", leave_after=2),
            session.subscribe(tenant, task, "gateway-2"),
            session.get(tenant, task, "gateway-1"),
        )
        await session.rested(tenant, task, "COMPLETED")

    async def ask(tenant: str) -> None:
        task = await session.send(tenant, "ask")
        watching = asyncio.get_running_loop().create_task(session.subscribe(tenant, task, "gateway-1"))
        await session.rested(tenant, task, "INPUT_REQUIRED")
        await session.send(tenant, "answer", task)
        await session.rested(tenant, task, "COMPLETED")
        await watching

    async def interrupt(tenant: str) -> None:
        task = await session.send(tenant, "slow")
        await session.rested(tenant, task, "WORKING")
        await session.send(tenant, "more", task)
        await session.rested(tenant, task, "COMPLETED")

    async def stop(tenant: str) -> None:
        task = await session.send(tenant, "wait")
        await session.rested(tenant, task, "WORKING")
        await asyncio.gather(session.cancel(tenant, task), session.subscribe(tenant, task, "gateway-2"))
        await session.rested(tenant, task, "CANCELED")
        await session.cancel(tenant, task)

    async def poison(tenant: str) -> None:
        task = await session.send(tenant, "crash")
        await session.rested(tenant, task, "FAILED")

    async def refused(tenant: str) -> None:
        with_nobody = "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA"
        try:
            await session.send(tenant, "hello", with_nobody)
        except TaskNotFoundError:
            return
        raise AssertionError("a message to a task that is not there was accepted")

    async def rest(tenant: str) -> None:
        task = await session.stream(tenant, "ask")
        await session.rested(tenant, task, "INPUT_REQUIRED")

    async def tell_later(tenant: str) -> None:
        """One webhook is set while the agent works, and another that is deleted again."""
        task = await session.send(tenant, "slow")
        await session.rested(tenant, task, "WORKING")
        await session.set_webhook(tenant, task, session.hook("later", tenant))
        await session.set_webhook(tenant, task, session.hook("deleted", tenant))
        await session.delete_webhook(tenant, task, f"deleted-{tenant}")
        await session.rested(tenant, task, "COMPLETED")

    async def stubbornly(tenant: str, order: str, end: str) -> None:
        task = await session.send(tenant, order, to=stubborn)
        await asyncio.gather(session.subscribe(tenant, task, "gateway-1"), session.rested(tenant, task, end))

    for tenant in TENANTS:
        scenes = (ask, interrupt, stop, poison, refused, rest, tell_later)
        await asyncio.gather(
            stubbornly(tenant, "flaky", "COMPLETED"),
            stubbornly(tenant, "nap", "COMPLETED"),
            stubbornly(tenant, "doomed", "FAILED"),
            talk(tenant, "go"),
            talk(tenant, "slow", hook=session.hook("inline", tenant)),
            talk(tenant, "go", hook=session.hook("gone", tenant, gone=True)),
            session.stream(tenant, "go"),
            *(s(tenant) for s in scenes),
        )
