"""A message sent again under its key, at any gateway, whatever became of the first try: taken once (ADR 0018)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any

import msgspec
import pytest

from a2a_events import Turn, agent, limits
from a2a_events.client import Client
from a2a_events.errors import A2AError, InvalidParamsError, Uncertain, UnsupportedOperationError
from a2a_events.log.jetstream import Connection, JetStreamLog, Names, StreamSettings, provision
from a2a_events.log.memory import MemoryLog
from a2a_events.log.port import Log
from a2a_events.model import (
    Message,
    Part,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    StreamResponse,
    Task,
    TaskState,
)
from a2a_events.model.requests import SendMessageResponse
from a2a_events.runtime.agent import Agent
from a2a_events.runtime.caller import Caller
from a2a_events.runtime.directory import ServedAgent
from a2a_events.runtime.operations import Operations
from a2a_events.services.connect import jetstream_log
from a2a_events.testing import Deployment, eventually
from a2a_events.timeline.ids import TaskRef, parse_task_id
from a2a_events.timeline.record import Draft, Writer
from tests.integration.conftest import StackOf
from tests.integration.stack import Stack

RUNS: list[str] = []
"""What the agents were given, in order."""


@agent(name="answers")
async def answers(turn: Turn) -> None:
    """Asks for more if it is told to ask, and otherwise repeats what it was told."""
    RUNS.append(turn.text)
    if turn.text == "ask":
        turn.require_input("what else?")
    else:
        await turn.artifact(turn.text)


@agent(name="replies", replies="either")
async def replies(turn: Turn) -> None:
    RUNS.append(turn.text)
    turn.reply("bare")


@pytest.fixture(autouse=True)
def no_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    RUNS.clear()
    # An answer that needs a sign of life to be noticed is no answer at once.
    monkeypatch.setattr(limits, "KEEP_ALIVE_SECONDS", 600.0)


class Sender:
    """Sends under keys, through the operations of one gateway."""

    def __init__(self, operations: Operations, of: Agent) -> None:
        self.operations = operations
        self.agent = ServedAgent(of.name, of.card, of.replies)

    async def send(self, text: str, key: str | None, *, immediately: bool = False, **how: Any) -> Task | Message:
        caller, request = self._asked(text, key, immediately=immediately, **how)
        async with asyncio.timeout(20):
            result = await self.operations.send(caller, self.agent, request)
        answer = msgspec.json.decode(result.json, type=SendMessageResponse)
        found = answer.task or answer.message
        assert found is not None
        return found

    async def task(self, text: str, key: str | None, **how: Any) -> Task:
        found = await self.send(text, key, **how)
        assert isinstance(found, Task)
        return found

    async def stream(self, text: str, key: str, **how: Any) -> list[StreamResponse]:
        caller, request = self._asked(text, key, **how)
        seen: list[StreamResponse] = []
        async with asyncio.timeout(20):
            updates = await self.operations.send_stream(caller, self.agent, request)
            async with aclosing(updates):
                async for run in updates:
                    seen += [msgspec.json.decode(update.line, type=StreamResponse) for update in run.updates]
                    if run.last:
                        break
        return seen

    def _asked(
        self,
        text: str,
        key: str | None,
        *,
        immediately: bool = False,
        task_id: str = "",
        tenant: str = "",
        subject: str = "anonymous",
    ) -> tuple[Caller, SendMessageRequest]:
        message = Message(message_id="m", role=Role.USER, parts=(Part(text=text),), task_id=task_id)
        configuration = SendMessageConfiguration(return_immediately=immediately)
        caller = Caller(tenant=tenant, subject=subject, idempotency_key=key)
        return caller, SendMessageRequest(message=message, configuration=configuration)


def senders(stack: Stack) -> tuple[Sender, Sender]:
    return Sender(stack.calls._operations, stack.agent), Sender(stack.other._operations, stack.agent)


async def stored(log: Log) -> dict[str, str]:
    """Every task in the log, and the kinds of its events."""
    found: dict[str, str] = {}
    for shard, end in (await log.ends()).items():
        async for run in log.scan(shard, 1, end.position):
            for each in run:
                found[each.task.task_id] = found.get(each.task.task_id, "") + each.record.header.kinds
    return found


# --- new tasks -------------------------------------------------------------------------------------------------------


async def test_fifty_identical_sends_at_once_make_one_task(serve: StackOf) -> None:
    stack = await serve(answers)
    one, other = senders(stack)
    await stack.worker()
    tasks = await asyncio.gather(*(sender.task("go", "key") for sender in (one, other) for _ in range(25)))
    assert 1 == len({task.id for task in tasks})
    assert {TaskState.COMPLETED} == {task.status.state for task in tasks}
    assert 1 == len(await stored(stack.log))
    assert ["go"] == RUNS


@pytest.mark.parametrize("immediately", [False, True])
async def test_a_repetition_gets_the_task_as_its_first_sender_would(serve: StackOf, immediately: bool) -> None:
    stack = await serve(answers)
    one, other = senders(stack)
    begun = await one.task("go", "key", immediately=True)
    assert TaskState.SUBMITTED is begun.status.state
    assert begun == await other.task("go", "key", immediately=True)
    waiting = asyncio.create_task(other.task("go", "key"))
    await stack.worker()
    ended = await waiting
    assert (begun.id, TaskState.COMPLETED) == (ended.id, ended.status.state)
    before = await stored(stack.log)
    assert ended == await one.task("go", "key", immediately=immediately)
    assert before == await stored(stack.log)


async def test_a_stream_that_is_repeated_shows_the_task_and_what_follows(serve: StackOf) -> None:
    stack = await serve(answers)
    one, other = senders(stack)
    begun = await one.task("go", "key", immediately=True)
    streaming = asyncio.create_task(other.stream("go", "key"))
    await stack.worker()
    seen = await streaming
    assert seen[0].task is not None
    assert begun.id == seen[0].task.id
    last = seen[-1].status_update
    assert last is not None
    assert TaskState.COMPLETED is last.status.state
    (ended,) = await one.stream("go", "key")
    assert ended.task is not None
    assert (begun.id, TaskState.COMPLETED) == (ended.task.id, ended.task.status.state)
    assert 1 == len(await stored(stack.log))


async def test_a_task_that_waits_for_its_client_is_the_answer_at_once(serve: StackOf) -> None:
    stack = await serve(answers)
    one, other = senders(stack)
    await stack.worker()
    asked = await one.task("ask", "key")
    assert TaskState.INPUT_REQUIRED is asked.status.state
    assert asked == await other.task("ask", "key")
    (shown,) = await other.stream("ask", "key")
    assert asked == shown.task


async def test_a_bare_reply_is_given_again(serve: StackOf) -> None:
    stack = await serve(replies)
    one, other = senders(stack)
    await stack.worker()
    reply = await one.send("hello", "key")
    assert isinstance(reply, Message)
    assert reply == await other.send("hello", "key") == await other.send("hello", "key", immediately=True)
    (shown,) = await other.stream("hello", "key")
    assert reply == shown.message
    assert ["hello"] == RUNS


async def test_another_message_under_the_same_key_is_refused_and_nothing_is_written(serve: StackOf) -> None:
    stack = await serve(answers)
    one, other = senders(stack)
    first = await one.task("go", "key", immediately=True)
    before = await stored(stack.log)
    for sending in (other.send, other.stream):
        with pytest.raises(InvalidParamsError) as refused:
            await sending("something else", "key")
        assert ["Idempotency-Key"] == [field for field, _ in refused.value.violations]
    assert before == await stored(stack.log)
    assert first == await other.task("go", "key", immediately=True)


@pytest.mark.parametrize("key", ["", "two words", "é", "x" * 256])
async def test_what_is_no_key_is_refused_and_nothing_is_written(serve: StackOf, key: str) -> None:
    stack = await serve(answers)
    one, _ = senders(stack)
    with pytest.raises(InvalidParamsError) as refused:
        await one.send("go", key)
    assert ["Idempotency-Key"] == [field for field, _ in refused.value.violations]
    assert {} == await stored(stack.log)


async def test_a_refused_message_does_not_use_its_key_up(serve: StackOf) -> None:
    stack = await serve(answers)
    one, other = senders(stack)
    with pytest.raises(A2AError):
        await one.send("go", "key", task_id="no-such-task")
    taken = await other.task("go", "key", immediately=True)
    assert [taken.id] == list(await stored(stack.log))


async def test_the_same_key_of_another_tenant_or_caller_is_another_key(serve: StackOf) -> None:
    stack = await serve(answers)
    one, other = senders(stack)
    tasks = [
        await sender.task(text, "key", immediately=True, tenant=tenant, subject=subject)
        for sender in (one, other)
        for text, tenant, subject in (("a", "", "anonymous"), ("b", "acme", "anonymous"), ("c", "", "alice"))
    ]
    assert [task.id for task in tasks[:3]] == [task.id for task in tasks[3:]]
    assert 3 == len({task.id for task in tasks}) == len(await stored(stack.log))


async def test_the_key_itself_is_nowhere_in_the_log(serve: StackOf) -> None:
    stack = await serve(answers)
    one, _ = senders(stack)
    task = await one.task("go", "a-key-to-be-kept", immediately=True)
    await one.task("more", "another-key-to-be-kept", task_id=task.id, immediately=True)
    records = await stack.records(task.id)
    assert 2 == len(records)
    assert not any(b"to-be-kept" in record.payload for record in records)
    assert all(b'"idempotencyKey"' in record.payload for record in records)


# --- further messages ------------------------------------------------------------------------------------------------


async def test_a_further_message_is_taken_once(serve: StackOf) -> None:
    stack = await serve(answers)
    one, other = senders(stack)
    await stack.worker()
    task = await one.task("ask", "first")
    told = await asyncio.gather(
        *(sender.task("ask", "second", task_id=task.id) for sender in (one, other) for _ in range(10))
    )
    assert {TaskState.INPUT_REQUIRED} == {each.status.state for each in told}
    assert ["ask", "ask"] == RUNS
    assert 1 == (await stack.kinds(task.id)).count("m")
    ended = await other.task("done", "third", task_id=task.id)
    assert TaskState.COMPLETED is ended.status.state
    before = await stored(stack.log)
    # Also now that the task has ended, and takes no new message any more.
    assert ended == await one.task("done", "third", task_id=task.id)
    (shown,) = await one.stream("ask", "second", task_id=task.id)
    assert ended == shown.task
    with pytest.raises(UnsupportedOperationError):
        await one.task("done", "fourth", task_id=task.id)
    assert before == await stored(stack.log)


async def test_a_key_of_the_task_with_another_message_is_refused(serve: StackOf) -> None:
    stack = await serve(answers)
    one, other = senders(stack)
    task = await one.task("go", "first", immediately=True)
    await one.task("more", "second", task_id=task.id, immediately=True)
    before = await stored(stack.log)
    for key in ("first", "second"):
        with pytest.raises(InvalidParamsError) as refused:
            await other.task("something else", key, task_id=task.id, immediately=True)
        assert ["Idempotency-Key"] == [field for field, _ in refused.value.violations]
    assert before == await stored(stack.log)


# --- answers that are lost -------------------------------------------------------------------------------------------


class Forgetful:
    """The real log behind a network that loses what a test says, and from then on every look at what was stored."""

    def __init__(self, log: Log, lose: Callable[[Log, TaskRef, Draft, int], Any]) -> None:
        self._log = log
        self._lose = lose
        self._losing = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def try_append(self, task: TaskRef, draft: Draft, expected: int, *, trace: str = "") -> int:
        self._losing = True
        result: int = await self._lose(self._log, task, draft, expected)
        return result

    async def first_after(self, task: TaskRef, position: int) -> Any:
        if self._losing:
            raise Uncertain("no answer")
        return await self._log.first_after(task, position)


def gateway_over(log: Any, of: Agent) -> Sender:
    return Sender(Operations(log, Writer("gateway", "gateway-9")), of)


@pytest.mark.parametrize("follow_up", [False, True])
async def test_a_first_try_of_which_nobody_knows_is_found_by_the_second(serve: StackOf, follow_up: bool) -> None:
    stack = await serve(answers)
    one, _ = senders(stack)
    task_id = (await one.task("before", None, immediately=True)).id if follow_up else ""

    async def answer_lost(log: Log, task: TaskRef, draft: Draft, expected: int) -> int:
        await log.try_append(task, draft, expected)
        raise Uncertain("stored, no answer")

    with pytest.raises(Uncertain):
        await gateway_over(Forgetful(stack.log, answer_lost), stack.agent).task("go", "key", task_id=task_id)
    before = await stored(stack.log)
    assert 1 == len(before)
    found = await one.task("go", "key", task_id=task_id, immediately=True)
    assert {found.id: "sm" if follow_up else "s"} == before == await stored(stack.log)


@pytest.mark.parametrize("follow_up", [False, True])
async def test_a_first_try_that_lands_behind_the_second_is_refused_by_the_log(serve: StackOf, follow_up: bool) -> None:
    """The first try is on its way for as long as a network may keep it; its client has given up and asked elsewhere."""
    stack = await serve(answers)
    one, _ = senders(stack)
    task_id = (await one.task("before", None, immediately=True)).id if follow_up else ""
    late, sent = asyncio.Event(), asyncio.Event()

    async def held_up(log: Log, task: TaskRef, draft: Draft, expected: int) -> int:
        sent.set()
        await late.wait()
        return await log.try_append(task, draft, expected)

    first = asyncio.create_task(
        gateway_over(Forgetful(stack.log, held_up), stack.agent).task("go", "key", task_id=task_id, immediately=True)
    )
    async with asyncio.timeout(20):
        await sent.wait()
    second = await one.task("go", "key", task_id=task_id, immediately=True)
    before = await stored(stack.log)
    late.set()
    assert second.id == (await first).id
    assert {second.id: "sm" if follow_up else "s"} == before == await stored(stack.log)


# --- shards and restarts ---------------------------------------------------------------------------------------------


def test_a_log_in_memory_spreads_keys_over_its_shards() -> None:
    assert 4 == MemoryLog(shards=4).keyed_shards


@pytest.mark.integration
async def test_a_key_stays_where_it_is_when_shards_are_added_and_everything_is_restarted(
    nats_url: str, namespace: str
) -> None:
    names, keys = Names(namespace), [str(number) for number in range(12)]

    async def sent(shards: int, *, provisioned: bool) -> tuple[list[str], int, int, int]:
        settings = StreamSettings("main", shards)
        connection = Connection([nats_url], name="gateway")
        await connection.open()
        try:
            if provisioned:
                await provision(connection, names, settings)
            log = await JetStreamLog.open(connection, names, settings)
            sender = gateway_over(log, answers)
            tasks = [await sender.task("go", key, immediately=True) for key in keys]
            return [task.id for task in tasks], log.shards, log.keyed_shards, len(await stored(log))
        finally:
            await connection.close()

    first, *of_log = await sent(2, provisioned=True)
    assert [2, 2, 12] == of_log
    assert {("main", 0), ("main", 1)} == {parse_task_id(task_id) for task_id in first}
    assert (first, 4, 2, 12) == await sent(4, provisioned=True)
    assert (first, 4, 2, 12) == await sent(1, provisioned=False)


@pytest.mark.integration
async def test_a_log_of_before_keys_keeps_them_in_its_first_shard(nats_url: str, namespace: str) -> None:
    names, settings = Names(namespace), StreamSettings("main", 2)
    connection = Connection([nats_url], name="gateway")
    await connection.open()
    try:
        await provision(connection, names, settings)
        stream = names.log_stream("main", 0)
        config = (await connection.api(f"STREAM.INFO.{stream}"))["config"]
        del config["metadata"]["a2a-events-keyed-shards"]
        updated = await connection.api(f"STREAM.UPDATE.{stream}", config)
        assert "error" not in updated, updated
        await provision(connection, names, settings)  # as a newer version does; it must not move keys
        log = await JetStreamLog.open(connection, names, settings)
        assert (2, 1) == (log.shards, log.keyed_shards)
    finally:
        await connection.close()


@pytest.mark.integration
@pytest.mark.processes
@pytest.mark.parametrize("streaming", [False, True])
async def test_a_client_whose_gateway_is_killed_with_its_message_in_the_log_gets_its_task(
    nats_url: str, streaming: bool
) -> None:
    slow = Message(message_id="m", role=Role.USER, parts=(Part(data={"script": {"chunks": 40, "delayMs": 25}}),))
    async with Deployment(nats_url, gateways=2, workers=1) as deployment, AsyncExitStack() as exits:
        log, _ = await exits.enter_async_context(jetstream_log(deployment.settings, "test"))
        one, two = deployment.gateways

        async def send() -> str | None:
            async with Client([one.url, two.url]) as client:
                if not streaming:
                    task = await client.send(slow)
                    assert isinstance(task, Task)
                    assert TaskState.COMPLETED is task.status.state
                    return task.id
                async with client.stream(slow) as updates:
                    states = [update.state async for update in updates]
                assert TaskState.COMPLETED is states[-1]
                return updates.task_id

        sending = asyncio.create_task(send())
        await eventually(lambda: stored(log), what="a task in the log")
        one.kill()
        async with asyncio.timeout(60):
            task_id = await sending
        assert [task_id] == list(await stored(log))
