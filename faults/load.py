"""The clients of a run: many at once, each doing one thing after the other, all of it recorded before and after.

A process of its own (``python -m faults.load CONFIG``): it takes orders as JSON lines on its standard input, and
answers with JSON lines. It speaks through the wire layer of our client, which shows the bytes that came; one subscriber
in four is the whole client, which resumes by itself.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
from msgspec import Raw, Struct

from a2a_events.client import REPLAY_EXTENSION, Client, ClientError, ConnectionFailed, Retry, accumulate
from a2a_events.client.endpoint import Endpoint, Wishes
from a2a_events.client.http_link import Http
from a2a_events.client.link import Frames, Link
from a2a_events.client.operations import Request
from a2a_events.errors import A2AError, InternalError, UnavailableError, UnsupportedOperationError
from a2a_events.model import (
    AgentInterface,
    CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest,
    GetTaskRequest,
    ListTasksRequest,
    Message,
    Part,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    SubscribeToTaskRequest,
    Task,
    TaskPushNotificationConfig,
    encode,
)
from a2a_events.services import event_loop
from faults import history as h
from faults.agents import Plan
from faults.receiver import Receiver

PATIENCE_SECONDS: Final = 30.0
"""For an answer that a server gives at once."""
BLOCKING_SECONDS: Final = 60.0
"""For a send that waits for the end of its task."""
LIFE_SECONDS: Final = 60.0
"""After which a client leaves a task alone; what became of it is looked at after the last fault."""
STALL_SECONDS: Final = 45.0
HOOKED_SLEEP_MS: Final = 300.0
"""Between two steps of a task whose webhook comes by an operation of its own: setting it takes a second under load."""
SLOW_SECONDS: Final = 5.0
"""How long a slow reader is slow: later than that its stream would be late by its own fault."""
TERMINAL: Final = frozenset(f"TASK_STATE_{state}" for state in ("COMPLETED", "FAILED", "CANCELED", "REJECTED"))
RESTING: Final = TERMINAL | {"TASK_STATE_INPUT_REQUIRED", "TASK_STATE_AUTH_REQUIRED"}
CERTAIN: Final = "nothing was written"
"""What an UnavailableError says that is no doubt about the request."""


class Ports(Struct, frozen=True):
    """Where a receiver of webhooks is."""

    own: int
    link: int
    """What stands in the URLs: the way of notifiers to it."""


class Config(Struct, frozen=True):
    """What a load is to do."""

    folder: str
    seed: str
    gateways: dict[str, int]
    """Ports of the gateways' links for clients, by name."""
    tenants: dict[str, str]
    """Canary of each tenant; each is an agent too."""
    tasks: int
    clients: int
    subscribers: int = 3
    idempotent: bool = False
    """Whether gateways honour Idempotency-Key."""
    cancels: float = 0.05
    inputs: float = 0.05
    slow: float = 0.02
    """Share of tasks that take seconds."""
    pause_seconds: float = 0.0
    """Between two tasks of one client."""
    receivers: dict[str, Ports] = {}
    """Of webhooks, by name."""
    webhooks: float = 0.2
    """Share of tasks that have one."""
    gone: float = 0.05
    """Of webhooks, how many refuse everything."""


class Known(Struct):
    """What the load knows of a task."""

    tenant: str
    state: str = ""


class _Sent(Struct):
    task: Raw = Raw(b"")
    message: Raw = Raw(b"")


class _Page(Struct):
    tasks: list[dict[str, Any]] = []
    next_page_token: str = msgspec.field(name="nextPageToken", default="")


class Refused(Exception):
    """The call was recorded as failed, or as unknown."""

    def __init__(self, error: Exception, *, certain: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.certain = certain


def certain(error: Exception, *, changes: bool) -> bool:
    """Whether a call that failed so has certainly done nothing."""
    match error:
        case UnavailableError():
            return CERTAIN in error.message or not changes
        case InternalError():
            return False
        case A2AError() | ConnectionFailed():
            return True
        case _:
            return False


class Load:
    """All clients together."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.recorder = h.Recorder(Path(config.folder) / "histories", "driver", seed=config.seed)
        self.canaries = h.Canaries(config.tenants)
        for tenant, text in config.tenants.items():
            self.recorder.note(h.Canary(tenant=tenant, text=text))
        self.counts: Counter[str] = Counter()
        self.tasks: dict[str, Known] = {}
        self.begun = 0
        self.ended = 0
        self.stopping = False
        self.links: dict[tuple[str, str, str, bool], Link] = {}
        self.http = httpx.AsyncClient(limits=httpx.Limits(max_connections=None, max_keepalive_connections=200))
        self._http = Http(self.http, {}, STALL_SECONDS)
        self.receivers = {name: Receiver(name, self.recorder, self.canaries, self.counts) for name in config.receivers}
        self._special: set[asyncio.Task[None]] = set()

    async def link(self, gateway: str, tenant: str, binding: str, *, rooted: bool) -> Link:
        """The wire to an agent behind a gateway."""
        key = (gateway, tenant, binding, rooted)
        if key not in self.links:
            at = self.interface(gateway, tenant, binding, rooted=rooted)
            self.links[key] = await Endpoint(
                self._http, at, Wishes(extensions=(REPLAY_EXTENSION,)), PATIENCE_SECONDS
            ).link()
        return self.links[key]

    def interface(self, gateway: str, tenant: str, binding: str, *, rooted: bool) -> AgentInterface:
        """Where an agent is: by its tenant at the root, or by its path."""
        root = f"http://127.0.0.1:{self.config.gateways[gateway]}"
        url = root if rooted else f"{root}/agents/{tenant}"
        return AgentInterface(
            url=url, protocol_binding=binding, protocol_version="1.0", tenant=tenant if rooted else ""
        )

    async def run_client(self, name: str) -> None:
        """One client: task after task."""
        while not self.stopping and self.begun < self.config.tasks:
            number = self.begun
            self.begun += 1
            try:
                await Life(self, name, number, None, poison=False).run()
            except Exception:  # noqa: BLE001 -- printed, and the client goes on
                traceback.print_exc()  # a client that stands still would make the load lighter in silence
                self.counts["lives that broke"] += 1
            self.ended += 1
            await asyncio.sleep(self.config.pause_seconds)

    def special(self, plan: Plan, *, poison: bool, tenant: str, receiver: str) -> None:
        """One more task, that does something in particular."""
        number = self.counts["special"]
        self.counts["special"] += 1
        life = asyncio.get_running_loop().create_task(
            Life(
                self, f"special-{number}", 10_000_000 + number, plan, poison=poison, tenant=tenant, receiver=receiver
            ).run()
        )
        self._special.add(life)
        life.add_done_callback(self._special.discard)

    def saw(self, task: str, state: str) -> None:
        """What a client was shown."""
        known = self.tasks.get(task)
        if known is not None and state and known.state not in TERMINAL:
            known.state = state

    # --- after the last fault -----------------------------------------------------------------------------------------

    async def rest(self, patience_seconds: float) -> list[str]:
        """Wait until every task has ended or waits for its client; those that do neither."""
        deadline = time.monotonic() + patience_seconds
        asker = Caller(self, "rest", random.Random(0))
        while True:
            open_tasks = [task for task, known in self.tasks.items() if known.state not in TERMINAL]
            await _at_once(16, [self._look(asker, task) for task in open_tasks])
            left = [task for task, known in self.tasks.items() if known.state not in RESTING]
            if not left or time.monotonic() > deadline:
                return left
            await asyncio.sleep(0.5)

    async def _look(self, asker: Caller, task: str) -> None:
        try:
            self.saw(task, (await asker.get(task, self.tasks[task].tenant)).state)
        except Refused:
            self.counts["rest refused"] += 1

    async def final(self) -> None:
        """Every task from every gateway, and every page of every list."""
        work: list[Coroutine[Any, Any, None]] = []
        for gateway in self.config.gateways:
            asker = Caller(self, f"final-{gateway}", random.Random(0))
            work += [self._final_get(asker, gateway, task, known.tenant) for task, known in self.tasks.items()]
            work += [self._final_list(asker, gateway, tenant) for tenant in self.config.tenants]
        await _at_once(16, work)

    async def _final_get(self, asker: Caller, gateway: str, task: str, tenant: str) -> None:
        try:
            await asker.get(task, tenant, gateway=gateway, final=True)
        except Refused as refused:
            self.counts[f"final get refused: {type(refused.error).__name__}"] += 1

    async def _final_list(self, asker: Caller, gateway: str, tenant: str) -> None:
        try:
            await asker.list_all(tenant, gateway)
        except Refused as refused:
            self.counts[f"final list refused: {type(refused.error).__name__}"] += 1


class Caller:
    """One who asks, one thing after the other; what it has seen it must not see undone."""

    def __init__(self, load: Load, name: str, chance: random.Random) -> None:
        self.load = load
        self.name = name
        self.chance = chance
        self.gateways = list(load.config.gateways)

    def gateway(self, but: str = "") -> str:
        """One of the gateways, another than this."""
        return self.chance.choice([gateway for gateway in self.gateways if gateway != but] or self.gateways)

    async def wire(self, gateway: str, tenant: str) -> Link:
        """Through either binding, and either address."""
        binding = self.chance.choice(("JSONRPC", "HTTP+JSON"))
        return await self.load.link(gateway, tenant, binding, rooted=self.chance.random() < 0.5)

    async def ask(
        self,
        operation: h.Operation,
        tenant: str,
        request: Request,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        headers: dict[str, str] | None = None,
        changes: bool = False,
    ) -> tuple[h.Call, bytes]:
        """One operation; its call, which the caller has to end, and what it gave.

        Raises:
            Refused: and how that was recorded.
        """
        assert isinstance(operation, h.Request)
        link = await self.wire(operation.gateway, tenant)
        call = self.load.recorder.invoke(operation)
        try:
            reply = await link.ask(request, headers or {}, patience_seconds)
        except (A2AError, ClientError) as error:
            raise self.refused(call, error, changes=changes) from None
        except BaseException:
            call.info("left")
            raise
        return call, reply.raw

    def refused(self, call: h.Call, error: Exception, *, changes: bool) -> Refused:
        """Record that a call failed."""
        sure = certain(error, changes=changes)
        name = type(error).__name__
        self.load.counts[f"{'refused' if sure else 'unknown'}: {name}"] += 1
        (call.fail if sure else call.info)(f"{name}: {error}")
        return Refused(error, certain=sure)

    async def get(self, task: str, tenant: str, *, gateway: str = "", final: bool = False) -> h.Answer:
        """GetTask."""
        operation = h.Get(
            client=self.name, gateway=gateway or self.gateway(), tenant=tenant, task=task, final=final,
            deadline_seconds=PATIENCE_SECONDS,
        )  # fmt: skip
        call, raw = await self.ask(operation, tenant, GetTaskRequest(id=task))
        answer = self.answer(raw)
        call.ok(answer)
        return answer

    def answer(self, raw: bytes) -> h.Answer:
        """What a Task says."""
        made = h.answer(raw, revision=_revision(raw), canaries=self.load.canaries.found_in(raw))
        self.load.saw(made.task, made.state)
        return made

    async def cancel(self, task: str, tenant: str) -> None:
        """CancelTask."""
        operation = h.Cancel(
            client=self.name, gateway=self.gateway(), tenant=tenant, task=task, deadline_seconds=PATIENCE_SECONDS
        )
        call, raw = await self.ask(operation, tenant, CancelTaskRequest(id=task), changes=True)
        call.ok(self.answer(raw))

    async def list_page(
        self, tenant: str, gateway: str, token: str = "", *, walk: str = "", size: int = 20, final: bool = False
    ) -> str:
        """ListTasks, one page; the token of the next."""
        operation = h.ListTasks(
            client=self.name, gateway=gateway, tenant=tenant, walk=walk, final=final, deadline_seconds=PATIENCE_SECONDS
        )
        call, raw = await self.ask(operation, tenant, ListTasksRequest(page_size=size, page_token=token))
        page = msgspec.json.decode(raw, type=_Page)
        rows = tuple(h.Row(task["id"], task["status"]["state"]) for task in page.tasks)
        call.ok(h.Page(rows=rows, last=not page.next_page_token, canaries=self.load.canaries.found_in(raw)))
        return page.next_page_token

    async def list_all(self, tenant: str, gateway: str) -> None:
        """ListTasks, all pages."""
        token = await self.list_page(tenant, gateway, walk=f"{gateway} {tenant}", size=100, final=True)
        while token:
            token = await self.list_page(tenant, gateway, token, walk=f"{gateway} {tenant}", size=100, final=True)


class Life:
    """One task, from its message to its end, and everybody who watches it."""

    def __init__(
        self,
        load: Load,
        client: str,
        number: int,
        plan: Plan | None,
        *,
        poison: bool,
        tenant: str = "",
        receiver: str = "",
    ) -> None:
        self.load = load
        self.chance = random.Random(f"{load.config.seed}:{number}")
        self.client = client
        self.number = number
        self.tenant = tenant or self.chance.choice(list(load.config.tenants))
        self.poison = poison
        self.plan = msgspec.structs.replace(plan or self._plan(), canary=load.config.tenants[self.tenant])
        self.task = ""
        self.state = ""
        self.changed = asyncio.Event()
        self.deadline = time.monotonic() + LIFE_SECONDS
        self.caller = Caller(load, client, self.chance)
        self.replied = 0
        self.own: list[asyncio.Task[Any]] = []
        """The stream that a message began, read on."""
        self.hook = Hook.of(self, receiver)
        if self.hook is not None and not self.hook.inline:  # the task has to last until its webhook is set
            self.plan = msgspec.structs.replace(self.plan, sleep_ms=max(self.plan.sleep_ms, HOOKED_SLEEP_MS))

    def _plan(self) -> Plan:
        chance, config = self.chance, self.load.config
        slow = chance.random() < config.slow
        steps = chance.randint(5, 10)
        return Plan(
            steps=steps,
            chunk=chance.choice((48, 200, 1000)),
            sleep_ms=chance.uniform(300, 900) if slow else chance.uniform(10, 120),
            input_at=chance.randint(1, steps - 1) if chance.random() < config.inputs else None,
            fail=chance.random() < 0.02,
            cooperative=chance.random() < 0.2,
            deaf=chance.random() < 0.02,
        )

    async def run(self) -> None:
        """Send, watch, ask, cancel, answer, until it is over or has taken too long."""
        try:
            await self._send()
        except Refused:
            return
        if not self.task:
            return
        watching = [*self.own, *(self._spawn(self._watch(number)) for number in range(self.load.config.subscribers))]
        if self.hook is not None:
            watching.append(self._spawn(self.hook.run()))
        meddling = self._spawn(self._meddle())
        try:
            async with asyncio.timeout_at(self.deadline - time.monotonic() + asyncio.get_running_loop().time()):
                await asyncio.gather(*watching)
        except TimeoutError:
            self.load.counts["lives given up"] += 1
        for task in [*watching, meddling]:
            task.cancel()
        await asyncio.gather(*watching, meddling, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return asyncio.get_running_loop().create_task(work)

    # --- messages -----------------------------------------------------------------------------------------------------

    async def _send(self) -> None:
        how = self.chance.random()
        plan = {name: value for name, value in msgspec.to_builtins(self.plan).items() if value is not None}
        parts = (Part(text=f"go {self.plan.canary}"), Part(data={"plan": plan}))
        message_id = f"{self.client}-{self.number}"
        if how < 0.35:
            await self._send_streaming(parts, message_id)
        else:
            await self._send_waiting(parts, message_id, immediately=how < 0.9)

    def _sending(self, parts: tuple[Part, ...], message_id: str, gateway: str, *, streaming: bool) -> h.Send:
        return h.Send(
            client=self.client,
            gateway=gateway,
            tenant=self.tenant,
            message_id=message_id,
            task=self.task,
            key=message_id if self.load.config.idempotent else "",
            body=h.digest(b"".join(encode(part) for part in parts)),
            streaming=streaming,
            webhook=self._hook.id if self._hook is not None else "",
            poison=self.poison,
            deadline_seconds=PATIENCE_SECONDS + BLOCKING_SECONDS,
        )

    @property
    def _hook(self) -> TaskPushNotificationConfig | None:
        """What comes with the next message."""
        return self.hook.config if not self.task and self.hook is not None and self.hook.inline else None

    def _configuration(self, *, immediately: bool) -> SendMessageConfiguration:
        return SendMessageConfiguration(return_immediately=immediately, task_push_notification_config=self._hook)

    def _message(self, parts: tuple[Part, ...], message_id: str) -> Message:
        return Message(message_id=message_id, role=Role.USER, parts=parts, task_id=self.task)

    def _headers(self, message_id: str) -> dict[str, str]:
        return {"Idempotency-Key": message_id} if self.load.config.idempotent else {}

    async def _send_waiting(self, parts: tuple[Part, ...], message_id: str, *, immediately: bool) -> None:
        configuration = self._configuration(immediately=immediately)
        request = SendMessageRequest(message=self._message(parts, message_id), configuration=configuration)
        gateway = self.caller.gateway()
        while True:
            try:
                call, raw = await self.caller.ask(
                    self._sending(parts, message_id, gateway, streaming=False),
                    self.tenant,
                    request,
                    patience_seconds=PATIENCE_SECONDS if immediately else BLOCKING_SECONDS,
                    headers=self._headers(message_id),
                    changes=True,
                )
            except Refused as refused:
                gateway = await self._again(refused, gateway)
                continue
            self._accepted(call, bytes(msgspec.json.decode(raw, type=_Sent).task))
            return

    async def _again(self, refused: Refused, gateway: str) -> str:
        """The gateway to repeat a send at, if that is safe and may help.

        Raises:
            Refused: it is not.
        """
        passing = isinstance(refused.error, ClientError | UnavailableError)
        safe = refused.certain or self.load.config.idempotent
        if not (passing and safe) or time.monotonic() > self.deadline or self.load.stopping:
            raise refused
        self.load.counts["sends repeated"] += 1
        await asyncio.sleep(self.chance.uniform(0.1, 1.0))
        return self.caller.gateway(but=gateway)

    def _accepted(self, call: h.Call, task: bytes) -> None:
        call.ok(self.learn(task))

    def learn(self, task: bytes) -> h.Answer:
        """The task that a message made."""
        shown: str = msgspec.json.decode(task)["id"]
        self.load.tasks.setdefault(shown, Known(self.tenant))
        answer = self.caller.answer(task)
        self.task = answer.task
        self.saw(answer.state)
        return answer

    async def _send_streaming(self, parts: tuple[Part, ...], message_id: str) -> None:
        configuration = self._configuration(immediately=False)
        request = SendMessageRequest(message=self._message(parts, message_id), configuration=configuration)
        gateway = self.caller.gateway()
        stream = Stream(self, self.caller)
        while True:
            operation = self._sending(parts, message_id, gateway, streaming=True)
            try:
                await stream.open(operation, request, self._headers(message_id), changes=True)
            except Refused as refused:
                gateway = await self._again(refused, gateway)
                continue
            break
        await stream.first()
        if not self.task:
            return
        self.changed.set()
        self.load.counts["streams"] += 1
        self.own.append(self._spawn(stream.read(None)))

    # --- what goes on beside ------------------------------------------------------------------------------------------

    def saw(self, state: str) -> None:
        """What somebody was shown."""
        if state and state != self.state:
            self.state = state
            self.changed.set()

    async def _meddle(self) -> None:
        """Questions, a cancel perhaps, an answer where one is wanted."""
        chance, config = self.chance, self.load.config
        asker = Caller(self.load, f"{self.client}.asks", chance)
        cancel = chance.random() < config.cancels
        questions = chance.choice((0, 1, 1, 2))
        while self.state not in TERMINAL:
            await asyncio.sleep(chance.uniform(0.02, 0.8))
            try:
                if self.state == "TASK_STATE_INPUT_REQUIRED" and not self.replied:
                    self.replied += 1
                    await self._send_waiting(
                        (Part(text=f"go on {self.plan.canary}"),), f"{self.client}-{self.number}-r", immediately=True
                    )
                elif questions:
                    questions -= 1
                    await asker.get(self.task, self.tenant)
                    if chance.random() < 0.05:
                        await asker.list_page(self.tenant, asker.gateway())
                elif cancel:
                    cancel = False
                    await asker.cancel(self.task, self.tenant)
            except Refused:
                await asyncio.sleep(0.2)

    async def _watch(self, number: int) -> None:
        """One subscriber: leaves, comes back elsewhere with its cursor, until the end."""
        caller = Caller(self.load, f"{self.client}.s{number}", random.Random(f"{self.number}:{number}"))
        chance = caller.chance
        manner = chance.random()
        if manner < 0.2:
            await self._follow(caller)
            return
        stream = Stream(self, caller)
        leaves = chance.choice((0, 0, 1, 2))
        gateway = caller.gateway()
        while True:
            operation = h.Subscribe(
                client=caller.name,
                gateway=gateway,
                tenant=self.tenant,
                task=self.task,
                cursor=stream.cursor,
                resumes=stream.number if stream.cursor else 0,
                deadline_seconds=PATIENCE_SECONDS,
            )
            headers = {"Last-Event-ID": stream.cursor} if stream.cursor else {}
            gateway = caller.gateway(but=gateway)
            try:
                await stream.open(operation, SubscribeToTaskRequest(id=self.task), headers, changes=False)
            except Refused as refused:
                if isinstance(refused.error, UnsupportedOperationError):
                    return  # ended before it was asked for
                await asyncio.sleep(chance.uniform(0.05, 0.5))
                continue
            self.load.counts["streams"] += 1
            if stream.resumed:
                self.load.counts["resumed"] += 1
            most = chance.randint(1, 5) if leaves else None
            leaves -= 1 if leaves else 0
            pace = chance.uniform(0.2, 1.0) if manner < 0.25 else 0.0
            how = await stream.read(most, pace)
            if how == "closed":
                return
            if how == "left":
                await asyncio.sleep(chance.uniform(0, 0.5))

    async def _follow(self, caller: Caller) -> None:
        """The whole client: resumes by itself, and adds up."""
        binding = caller.chance.choice(("JSONRPC", "HTTP+JSON"))
        gateways = list(self.load.config.gateways)
        caller.chance.shuffle(gateways)
        client = Client(
            [self.load.interface(gateway, self.tenant, binding, rooted=False) for gateway in gateways],
            http=self.load.http,
            extensions=(REPLAY_EXTENSION,),
            retry=Retry(attempts=30, requests=30, ceiling_seconds=3.0),
            stall_seconds=STALL_SECONDS,
        )
        call = self.load.recorder.invoke(
            h.Subscribe(client=caller.name, gateway="*".join(gateways), tenant=self.tenant, task=self.task)
        )
        opened = ended = False
        task: Task | None = None
        how: h.StreamEnding = "broken"
        try:
            async with client.subscribe(self.task) as updates:
                call.ok(h.Opened())
                opened = True
                self.load.counts["streams"] += 1
                async for update in updates:
                    line = encode(update.response)
                    found = self.load.canaries.found_in(line)
                    if (
                        update.resynchronised
                        and update.task is not None
                        and update.state
                        and update.state.value in TERMINAL
                    ):
                        # Not shown by the stream: the client asked for the task, because the server said it had ended.
                        task = update.task
                        continue
                    self.load.recorder.note(h.update(call.number, update.cursor or "", line, found))
                    task = accumulate(task, update.response)
                    self.saw(update.state.value if update.state else "")
                    self.load.counts["updates"] += 1
            ended = True
            how = "closed"
        except (A2AError, ClientError) as error:
            if not opened:
                (call.fail if certain(error, changes=False) else call.info)(f"{type(error).__name__}: {error}")
        except asyncio.CancelledError:
            how = "left"
            if not opened:
                call.info("left")
            raise
        finally:
            if opened:
                view = h.view_of(msgspec.json.decode(encode(task))) if ended and task is not None else ""
                self.load.recorder.note(h.StreamEnd(stream=call.number, how=how, view=view))


class Hook:
    """The webhook of a task: comes with its message, or by an operation of its own; some are deleted again."""

    def __init__(self, life: Life, config: TaskPushNotificationConfig, chance: random.Random) -> None:
        self.config = config
        self.inline = chance.random() < 0.5
        self._life = life
        self._chance = chance
        self._caller = Caller(life.load, f"{life.client}.hooks", chance)
        self._deletes = chance.random() < 0.1

    @classmethod
    def of(cls, life: Life, receiver: str = "") -> Hook | None:
        """The webhook of a task, at this receiver if one is named; most tasks have none."""
        load = life.load
        chance = random.Random(f"{load.config.seed}:{life.number}:webhook")
        if not receiver and (not load.receivers or chance.random() >= load.config.webhooks):
            return None
        name = receiver or chance.choice(list(load.receivers))
        config_id = f"{life.client}-{life.number}"
        gone = chance.random() < load.config.gone
        token = load.receivers[name].expect(config_id, life.tenant, gone=gone)
        url = f"http://127.0.0.1:{load.config.receivers[name].link}/{config_id}"
        return cls(life, TaskPushNotificationConfig(url=url, id=config_id, token=token), chance)

    async def run(self) -> None:
        """All that is done about it once the task is there."""
        task, chance = self._life.task, self._chance
        try:
            if not self.inline:
                await self._ask(h.SetWebhook, msgspec.structs.replace(self.config, task_id=task))
            if self._deletes:
                await asyncio.sleep(chance.uniform(0, 1.0))
                await self._ask(
                    h.DeleteWebhook, DeleteTaskPushNotificationConfigRequest(task_id=task, id=self.config.id)
                )
        except Refused:
            return

    async def _ask(self, kind: type[h.SetWebhook | h.DeleteWebhook], request: Request) -> None:
        """Until it is accepted: doing it twice does no harm.

        Raises:
            Refused: it is not to be had, or the task's time is over.
        """
        life, gateway = self._life, self._caller.gateway()
        while True:
            operation = kind(
                client=self._caller.name,
                gateway=gateway,
                tenant=life.tenant,
                task=life.task,
                webhook=self.config.id,
                deadline_seconds=PATIENCE_SECONDS,
            )
            try:
                call, _ = await self._caller.ask(operation, life.tenant, request, changes=True)
            except Refused as refused:
                if not isinstance(refused.error, ClientError | UnavailableError | InternalError):
                    raise
                await asyncio.sleep(self._chance.uniform(0.1, 1.0))
                gateway = self._caller.gateway(but=gateway)
                continue
            call.ok()
            life.load.counts["webhooks set" if kind is h.SetWebhook else "webhooks deleted"] += 1
            return


class Stream:
    """One watcher's way through a task, over as many connections as it takes."""

    def __init__(self, life: Life, caller: Caller) -> None:
        self.life = life
        self.caller = caller
        self.cursor = ""
        self.number = 0
        self.resumed = False
        self.silence = 0.0
        self._frames: Frames | None = None
        self._call: h.Call | None = None
        self._sends = False
        self._state = ""
        self._heard = 0.0
        self._answered = False

    async def open(
        self, operation: h.Send | h.Subscribe, request: Request, headers: dict[str, str], *, changes: bool
    ) -> None:
        """Open a connection.

        Raises:
            Refused: recorded so.
        """
        load = self.caller.load
        link = await self.caller.wire(operation.gateway, self.life.tenant)
        call = load.recorder.invoke(operation)
        self._sends = isinstance(operation, h.Send)
        self._answered = False
        try:
            self._frames = await link.open(request, headers, PATIENCE_SECONDS)
        except (A2AError, ClientError) as error:
            raise self.caller.refused(call, error, changes=changes) from None
        except BaseException:
            call.info("left")
            raise
        self.resumed = bool(self.cursor)
        self.number, self._call = call.number, call
        self.silence, self._heard = 0.0, time.monotonic()
        if not self._sends:
            call.ok(h.Opened())
            self._answered = True

    async def first(self) -> None:
        """Of a send: read until the Task was shown, which is the answer."""
        while not self._answered:
            how = await self._step()
            if how:
                self._ended_early(how)
                await self._close()
                return

    async def read(self, most: int | None, pace_seconds: float = 0.0) -> h.StreamEnding:
        """Read on, until the end or so many updates; how it ended."""
        seen = 0
        how: h.StreamEnding = "left"
        hurry = time.monotonic() + SLOW_SECONDS
        try:
            while self._frames is not None and (most is None or seen < most):
                before = self.caller.load.counts["updates"]
                ended = await self._step()
                if ended:
                    how = ended
                    break
                seen += self.caller.load.counts["updates"] > before
                if pace_seconds and time.monotonic() < hurry:
                    await asyncio.sleep(pace_seconds)
        finally:
            if self._frames is not None:
                self._over(how)
                await self._close()
        return how

    async def _step(self) -> h.StreamEnding | None:
        """What one read gives; how the stream ended, if it did."""
        frames = self._frames
        assert frames is not None
        try:
            events = await frames.read()
            now = time.monotonic()
            self.silence = max(self.silence, now - self._heard)
            self._heard = now
            if events is None:
                whole = self._state in (RESTING if self._sends else TERMINAL)
                return "closed" if whole else "drained"
            for event in events:
                self._take(event.id or "", frames.update(event))
        except UnavailableError:
            return "drained"
        except (A2AError, ClientError) as error:
            self.silence = max(self.silence, time.monotonic() - self._heard)
            self.caller.load.counts[f"stream broke: {type(error).__name__}"] += 1
            return "broken"
        return None

    def _take(self, cursor: str, line: bytes) -> None:
        load = self.caller.load
        found = load.canaries.found_in(line)
        seen = h.update(self.number, cursor, line, found)
        if not self._answered and self._call is not None:
            if seen.kind == "task":
                self._call.ok(self.life.learn(bytes(msgspec.json.decode(line, type=_Sent).task)))
            else:
                self._call.info(f"the stream began with {seen.kind}")
            self._answered = True
        load.recorder.note(seen)
        load.counts["updates"] += 1
        if cursor:
            self.cursor = cursor
        if seen.state:
            self._state = seen.state
            load.saw(seen.task, seen.state)
            self.life.saw(seen.state)

    def _ended_early(self, how: h.StreamEnding) -> None:
        if self._answered:
            self._over(how)
        elif self._call is not None:
            self._call.info("the stream ended before its first update")

    def _over(self, how: h.StreamEnding) -> None:
        note = h.StreamEnd(stream=self.number, how=how, silence_seconds=round(self.silence, 3))
        self.caller.load.recorder.note(note)

    async def _close(self) -> None:
        frames, self._frames = self._frames, None
        if frames is not None:
            await frames.aclose()


def _revision(task: bytes) -> int:
    mark = msgspec.json.decode(task).get("metadata", {}).get(h.REPLAY, {})
    return int(mark.get("revision", 0))


async def _at_once(most: int, work: list[Coroutine[Any, Any, None]]) -> None:
    """Do all of it, so many at a time."""
    waiting = iter(work)

    async def one() -> None:
        for job in waiting:
            await job

    await asyncio.gather(*(one() for _ in range(most)))


async def run(config: Config) -> None:
    """Do as told on standard input, until told to end."""
    load = Load(config)
    for name, receiver in load.receivers.items():
        await receiver.open(config.receivers[name].own)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    clients = [asyncio.get_running_loop().create_task(load.run_client(f"c{n}")) for n in range(config.clients)]
    telling = asyncio.get_running_loop().create_task(_tell(load))
    async for line in reader:
        order = msgspec.json.decode(line)
        match order["do"]:
            case "special":
                load.special(
                    msgspec.convert(order["plan"], Plan),
                    poison=order["poison"],
                    tenant=order["tenant"],
                    receiver=order["receiver"],
                )
            case "webhooks":
                load.receivers[order["receiver"]].turn(order["status"])
            case "stop":
                load.stopping = True
                await asyncio.gather(*clients, *load._special, return_exceptions=True)  # noqa: SLF001 -- this module's own
                _say("stopped", load)
            case "rest":
                _say("rested", load, left=await load.rest(order["seconds"]))
            case "final":
                await load.final()
                _say("final", load)
            case _:
                break
    telling.cancel()
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    await load.http.aclose()
    for receiver in load.receivers.values():
        await receiver.close()
    load.recorder.close()


async def _tell(load: Load) -> None:
    while True:
        await asyncio.sleep(0.5)
        _say("progress", load)


def _say(what: str, load: Load, **more: Any) -> None:
    told = {"what": what, "begun": load.begun, "ended": load.ended, "tasks": len(load.tasks), "counts": load.counts}
    sys.stdout.buffer.write(msgspec.json.encode({**told, **more}) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    event_loop.run(run(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Config)))
