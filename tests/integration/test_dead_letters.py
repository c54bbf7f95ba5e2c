"""Tasks that are given up: FAILED with the reason, one letter each whoever dies on the way, and tried again once."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from a2a_events import audit, limits
from a2a_events.errors import Unavailable
from a2a_events.log.jetstream import JetStreamLog, provision
from a2a_events.log.port import Letter, Log
from a2a_events.model import Task, TaskState
from a2a_events.runtime import dead_letters
from a2a_events.runtime.agent import agent
from a2a_events.runtime.commit import commit
from a2a_events.runtime.seal import Seals, Secrets
from a2a_events.runtime.turn import Turn
from a2a_events.testing import eventually
from a2a_events.timeline import decide
from a2a_events.timeline.decide import RERUN
from a2a_events.timeline.events import MessageReceived, PushConfigSet, Submitted, TaskDeadLettered, TurnClaimed
from a2a_events.timeline.fold import TaskFold
from a2a_events.timeline.record import Draft, Writer
from tests.integration.conftest import StackOf
from tests.integration.stack import Stack, text_of
from tests.integration.test_turns import in_state

FAILED, COMPLETED = TaskState.FAILED, TaskState.COMPLETED


class Broken:
    """An agent that raises until it is repaired."""

    def __init__(self) -> None:
        self.repaired = False
        self.texts: list[list[str]] = []

    def __call__(self, *, policy: str = RERUN, attempts: int = 2, name: str = "broken") -> object:
        @agent(name=name, policy=policy, attempts=attempts, version="2.1.0")
        async def run(turn: Turn) -> None:
            """Works once it is repaired."""
            self.texts.append([text_of(message) for message in turn.messages])
            if turn.text == "ask" and len(turn.messages) == 1:
                turn.require_input("what for?")
                return
            if not self.repaired and "fine" not in turn.text:
                raise RuntimeError("secret of the operator")
            await turn.artifact("done: " + ", ".join(self.texts[-1]))

        return run


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RETRY_PAUSE_SECONDS", 0.01)


async def letters(log: Log) -> list[Letter]:
    return [letter async for letter in log.dead_letters()]


async def replay(stack: Stack, task: Task) -> dead_letters.Replayed:
    """What an operator's command does."""
    log = stack.log
    now = int(time.time() * 1000)
    return await dead_letters.replay(log, Writer("operator", "operator-1"), Seals(log), stack.ref(task.id), now)


async def given_up(stack: Stack, text: str = "poison") -> tuple[Task, Letter]:
    """A task that was given up, and its letter."""
    task = await stack.calls.send_task(text)
    assert task.status.state is FAILED
    letter: Letter = await eventually(lambda: stack.log.dead_letter(stack.ref(task.id)))
    return task, letter


async def test_a_poisoned_task_fails_after_its_attempts_with_a_reason_and_one_letter(serve: StackOf) -> None:
    broken = Broken()
    stack = await serve(broken())
    await stack.worker()

    task, letter = await given_up(stack)

    assert len(broken.texts) == 2
    said = text_of(task.status.message)
    assert "failed" in said
    assert "RuntimeError" in said
    assert "secret" not in said
    events = [event for record in await stack.records(task.id) for event in record.events()]
    first, second = [event for event in events if isinstance(event, TurnClaimed)]
    assert (first.attempt, first.reason) == (1, "")
    assert second.attempt == 2
    assert "RuntimeError" in second.reason
    [dead] = [event for event in events if isinstance(event, TaskDeadLettered)]
    assert await letters(stack.log) == [letter]
    assert (letter.task, letter.attempts, letter.epoch, letter.reason) == (stack.ref(task.id), 2, 2, dead.reason)
    assert (letter.context_id, letter.agent_version) == (task.context_id, "2.1.0")
    assert events[letter.revision - 1] == dead


async def test_a_task_that_ended_by_its_agents_word_has_no_letter(serve: StackOf) -> None:
    @agent(name="honest")
    async def honest(turn: Turn) -> None:
        """Fails, and says so."""
        if turn.text == "fail":
            turn.fail("no such city")

    stack = await serve(honest)
    worker = await stack.worker()
    assert (await stack.calls.send_task("fail")).status.state is FAILED
    assert (await stack.calls.send_task("go")).status.state is COMPLETED
    await worker.stop()

    assert await letters(stack.log) == []


async def test_a_worker_killed_between_ending_and_letter_leaves_one_letter(
    serve: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = await serve(Broken()())
    worker = await stack.worker()
    reached = asyncio.Event()

    async def never(letter: Letter) -> None:
        reached.set()
        await asyncio.Event().wait()

    log = worker.worker._log
    with monkeypatch.context() as patched:
        patched.setattr(log, "put_dead_letter", never)
        task = await stack.calls.send_task("poison")
        assert task.status.state is FAILED
        async with asyncio.timeout(20):
            await reached.wait()
        await worker.vanish()
    assert await letters(stack.log) == []

    await stack.worker()
    letter = await eventually(lambda: stack.log.dead_letter(stack.ref(task.id)))

    assert await letters(stack.log) == [letter]
    assert (await stack.kinds(task.id)).count("L") == 1


async def test_one_poisoned_task_delays_no_other(serve: StackOf) -> None:
    stack = await serve(Broken()())
    await stack.worker(turns=4)
    poisoned = [await stack.calls.send_task("poison", immediately=True) for _ in range(3)]
    fine = await asyncio.gather(*(stack.other.send_task("fine") for _ in range(20)))

    assert {task.status.state for task in fine} == {COMPLETED}
    for task in poisoned:
        await in_state(stack.calls, task.id, FAILED)
    await eventually(lambda: _count(stack.log, 3))


async def _count(log: Log, wanted: int) -> bool:
    return len(await letters(log)) == wanted


async def test_a_record_that_nobody_can_read_gets_a_letter_and_the_log_stays_as_it_is(serve: StackOf) -> None:
    stack = await serve(Broken()())
    task = await stack.calls.send_task("fine", immediately=True)
    [first] = await stack.records(task.id)
    damaged = msgspec.structs.replace(first.header, record_id="damaged", revision=9)  # a hole between revisions
    await stack.log.try_append(stack.ref(task.id), Draft(damaged, first.payload), first.position)
    await stack.worker()
    letter = await eventually(lambda: stack.log.dead_letter(stack.ref(task.id)), timeout_seconds=30)

    assert letter.revision == 0
    assert letter.attempts >= limits.UNREADABLE_DELIVERIES
    assert letter.reason.startswith("unreadable")
    assert len(await stack.records(task.id)) == 2
    assert await letters(stack.log) == [letter]


async def test_workers_go_on_before_an_upgraded_deployment_is_provisioned_and_letters_come_after_it(
    serve: StackOf,
) -> None:
    stack = await serve(Broken()())
    log = stack.log
    if not isinstance(log, JetStreamLog):
        pytest.skip("a log in memory is provisioned by being made")
    await log._connection.api(f"STREAM.DELETE.{log._names.dead_stream(log.name)}")
    await stack.worker()

    task = await stack.calls.send_task("poison")
    assert task.status.state is FAILED
    assert (await stack.calls.send_task("fine")).status.state is COMPLETED
    with pytest.raises(Unavailable, match="provision"):
        await letters(log)

    done = await provision(log._connection, log._names, log._settings)
    assert done[log._names.dead_stream(log.name)] == "created"
    letter = await eventually(lambda: log.dead_letter(stack.ref(task.id)))
    assert await letters(log) == [letter]


# --- what operators see -----------------------------------------------------------------------------------------------


async def test_an_account_tells_every_attempt_at_the_turn_that_failed_and_why_it_ended(serve: StackOf) -> None:
    stack = await serve(Broken()(attempts=3))
    worker = await stack.worker()
    asked = await stack.calls.send_task("ask")
    task = await stack.calls.send_task("poison", task_id=asked.id)
    assert task.status.state is FAILED
    await eventually(lambda: stack.log.dead_letter(stack.ref(task.id)))

    account = await dead_letters.account(stack.log, stack.ref(task.id))

    assert account.letter == await stack.log.dead_letter(stack.ref(task.id))
    assert [attempt.attempt for attempt in account.attempts] == [1, 2, 3]
    assert [attempt.epoch for attempt in account.attempts] == [2, 3, 4]
    assert all("RuntimeError" in attempt.reason for attempt in account.attempts)
    assert {attempt.worker for attempt in account.attempts} == {worker.worker._writer.instance}
    assert account.status.state is FAILED
    assert account.replay == ""


async def test_a_turn_whose_worker_disappeared_is_accounted_for_too(serve: StackOf) -> None:
    started = asyncio.Event()

    @agent(name="hangs")
    async def hangs(turn: Turn) -> None:
        """Never ends."""
        started.set()
        await asyncio.Event().wait()

    stack = await serve(hangs)
    first = await stack.worker()
    task = await stack.calls.send_task("go", immediately=True)
    async with asyncio.timeout(20):
        await started.wait()
    await first.vanish()
    await stack.worker()
    await in_state(stack.calls, task.id, FAILED)
    await eventually(lambda: stack.log.dead_letter(stack.ref(task.id)))

    [attempt] = (await dead_letters.account(stack.log, stack.ref(task.id))).attempts
    assert attempt.worker == first.worker._writer.instance
    assert "disappeared" in attempt.reason


async def test_there_is_no_account_of_a_task_that_was_not_given_up(serve: StackOf) -> None:
    stack = await serve(Broken()())
    await stack.worker()
    task = await stack.calls.send_task("fine")

    with pytest.raises(dead_letters.NotGivenUp, match="completed"):
        await dead_letters.account(stack.log, stack.ref(task.id))


# --- replay -----------------------------------------------------------------------------------------------------------


async def test_a_replay_with_a_repaired_agent_completes_as_a_new_task_and_the_letter_is_gone(
    serve: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted: list[tuple[str, dict[str, str]]] = []
    monkeypatch.setattr(audit, "deleted", lambda what, **of: deleted.append((what, of)))
    broken = Broken()
    stack = await serve(broken())
    await stack.worker()
    task, _ = await given_up(stack)
    broken.repaired = True

    replayed = await replay(stack, task)

    assert replayed.created
    again = await in_state(stack.calls, replayed.task.task_id, COMPLETED)
    assert again.id != task.id
    assert again.context_id == task.context_id
    assert [message.message_id for message in again.history] == [message.message_id for message in task.history[:1]]
    assert {message.task_id for message in again.history} == {again.id}
    assert await stack.calls.get(task.id) == task
    assert await letters(stack.log) == []
    told = {"task_id": task.id, "agent": stack.ref(task.id).agent, "replay": again.id, "by": "operator-1"}
    assert deleted == [("dead letter", told)]
    assert (await dead_letters.account(stack.log, stack.ref(task.id))).replay == again.id
    submitted = (await stack.records(again.id))[0].events()[0]
    assert isinstance(submitted, Submitted)
    assert msgspec.json.decode(submitted.origin) == {"replayOf": task.id}


async def test_every_message_of_the_dead_task_is_replayed_in_order_as_one_turn(serve: StackOf) -> None:
    broken = Broken()
    stack = await serve(broken())
    await stack.worker()
    asked = await stack.calls.send_task("ask")
    task = await stack.calls.send_task("poison", task_id=asked.id)
    await eventually(lambda: stack.log.dead_letter(stack.ref(task.id)))
    broken.repaired = True

    replayed = await replay(stack, task)

    again = await in_state(stack.calls, replayed.task.task_id, COMPLETED)
    assert broken.texts[-1] == ["ask", "poison"]
    assert [text_of(message) for message in again.history] == ["ask", "poison"]
    first = (await stack.records(again.id))[0]
    assert [type(event) for event in first.events()] == [Submitted, MessageReceived]
    assert (await stack.kinds(again.id)).count("u") == 0


async def test_replaying_at_the_same_time_and_again_makes_one_task(serve: StackOf) -> None:
    broken = Broken()
    stack = await serve(broken())
    await stack.worker()
    task, _ = await given_up(stack)
    broken.repaired = True

    replays = await asyncio.gather(*(replay(stack, task) for _ in range(8)))
    replays.append(await replay(stack, task))

    assert len({one.task for one in replays}) == 1
    assert [one.created for one in replays].count(True) == 1
    again = await in_state(stack.calls, replays[0].task.task_id, COMPLETED)
    assert {shown.id for shown in (await stack.calls.page()).tasks} == {task.id, again.id}
    assert await letters(stack.log) == []


async def test_a_replay_that_was_interrupted_keeps_the_letter_and_is_finished_by_the_next(
    serve: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Broken()
    stack = await serve(broken())
    await stack.worker()
    task, letter = await given_up(stack)
    broken.repaired = True

    async def killed(letter: Letter) -> None:
        raise KeyboardInterrupt(letter.task.task_id)

    with monkeypatch.context() as patched:
        patched.setattr(stack.log, "forget_dead_letter", killed)
        with pytest.raises(KeyboardInterrupt):
            await replay(stack, task)
    assert await letters(stack.log) == [letter]

    replayed = await replay(stack, task)

    assert not replayed.created
    await in_state(stack.calls, replayed.task.task_id, COMPLETED)
    assert await letters(stack.log) == []


async def test_a_replay_that_fails_again_has_a_letter_of_its_own_and_can_be_replayed(serve: StackOf) -> None:
    broken = Broken()
    stack = await serve(broken())
    await stack.worker()
    task, _ = await given_up(stack)

    second = (await replay(stack, task)).task
    letter = await eventually(lambda: stack.log.dead_letter(second))
    assert await letters(stack.log) == [letter]
    broken.repaired = True
    third = (await replay(stack, await stack.calls.get(second.task_id))).task

    await in_state(stack.calls, third.task_id, COMPLETED)
    assert await letters(stack.log) == []


async def test_a_delivery_that_comes_back_after_the_replay_does_not_bring_the_letter_back(
    serve: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = await serve(Broken()())
    worker = await stack.worker()
    log, put = worker.worker._log, worker.worker._log.put_dead_letter
    stored, again = asyncio.Event(), asyncio.Event()

    async def interrupted(letter: Letter) -> None:
        await put(letter)
        if stored.is_set():
            again.set()
            return
        stored.set()
        raise Unavailable("killed before the acknowledgement")

    monkeypatch.setattr(log, "put_dead_letter", interrupted)
    task = await stack.calls.send_task("poison")
    async with asyncio.timeout(20):
        await stored.wait()
    await stack.log.forget_dead_letter((await letters(stack.log))[0])
    async with asyncio.timeout(20):
        await again.wait()

    assert await letters(stack.log) == []
    assert task.status.state is FAILED


async def test_only_a_task_that_was_given_up_is_replayed(serve: StackOf) -> None:
    stack = await serve(Broken()())
    await stack.worker()
    task = await stack.calls.send_task("fine")

    with pytest.raises(dead_letters.NotGivenUp, match="completed"):
        await replay(stack, task)
    assert await stack.log.last(dead_letters.replay_of(stack.ref(task.id))) is None


async def test_messages_that_do_not_fit_into_one_record_are_refused_and_the_letter_stays(
    serve: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = await serve(Broken()())
    await stack.worker()
    task, letter = await given_up(stack)
    monkeypatch.setattr(limits, "RECORD_EVENTS", 0)

    with pytest.raises(dead_letters.NotReplayable, match="1 messages"):
        await replay(stack, task)
    monkeypatch.undo()
    monkeypatch.setattr(stack.log, "content_bytes", 10)
    with pytest.raises(dead_letters.NotReplayable, match="do not fit"):
        await replay(stack, task)

    assert await letters(stack.log) == [letter]
    assert await stack.log.last(dead_letters.replay_of(stack.ref(task.id))) is None


async def test_webhooks_go_along_with_their_secrets(serve: StackOf) -> None:
    stack = await serve(Broken()())
    seals = Seals(stack.log)
    task = await stack.calls.send_task("poison", immediately=True)
    ref, fold = stack.ref(task.id), TaskFold.of(await stack.records(task.id))
    sealed = await seals.seal(Secrets("s3cret"), task.id, "hook")
    hook = PushConfigSet(id="hook", url="https://hooks.example.com/a", sealed=sealed)
    operator = Writer("gateway", "gateway-1")
    await commit(stack.log, operator, ref, fold, lambda: decide.set_webhook(fold.head, hook, fold.head.time))
    await stack.worker()
    await in_state(stack.calls, task.id, FAILED)

    new = (await replay(stack, task)).task

    again = TaskFold.of(await stack.records(new.task_id))
    [webhook] = again.head.webhooks
    assert (webhook.id, webhook.url) == ("hook", "https://hooks.example.com/a")
    assert await seals.open(webhook.sealed, new.task_id, "hook") == Secrets("s3cret", "")
