"""What a context remembers: steps of its newest turn, for the next one, wherever that runs and whoever else asks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import msgspec
import pytest

from a2a_events import Deadlines, Recollection, TaskState, ThreadTurn, Turn, agent, limits
from a2a_events.log.jetstream import JetStreamLog
from a2a_events.log.memory import MemoryLog
from a2a_events.runtime.caller import Caller
from a2a_events.runtime.operations import Operations
from a2a_events.runtime.retention import Retention
from a2a_events.testing import Calls, eventually
from a2a_events.timeline.decide import RERUN
from a2a_events.timeline.record import Writer
from tests.integration.conftest import StackOf
from tests.integration.stack import Stack, text_of

ENTERED: dict[str, asyncio.Event] = {}


@agent(name="counter", deadlines=Deadlines(input_seconds=60.0))
async def counter(turn: Turn) -> None:
    """Says what the context remembers, and has it remember one word more."""
    found = await turn.step("found", turn.recall, result=Recollection)
    words: list[str] = msgspec.json.decode(found.steps["words"]) if found.steps else []
    if turn.text.startswith("wait"):
        ENTERED.setdefault("entered", asyncio.Event()).set()
        await turn.receive()
    await turn.step("words", lambda: [*words, turn.messages[0].parts[0].text])
    done = await turn.remember("words", since=found.version)
    await turn.artifact(f"{' '.join(words)}|{done}", artifact_id="known")
    if turn.text == "ask":
        turn.require_input()


async def knew(stack: Stack, text: str, context_id: str = "talk", task_id: str = "") -> str:
    task = await stack.calls.send_task(text, context_id=context_id, task_id=task_id)
    assert task.status.state in {TaskState.COMPLETED, TaskState.INPUT_REQUIRED}, text_of(task.status.message)
    return str(task.artifacts[0].parts[0].text)


async def test_a_turn_recalls_what_the_last_one_of_its_context_left_in_any_task(serve: StackOf) -> None:
    stack = await serve(counter)
    first = await stack.worker()
    assert await knew(stack, "one") == "|True"
    await first.stop()
    await stack.worker()
    asked = await stack.calls.send_task("ask", context_id="talk")
    assert asked.artifacts[0].parts[0].text == "one|True"
    assert await knew(stack, "answer", task_id=asked.id) == "one ask|True"
    assert await knew(stack, "last") == "one ask answer|True"
    assert await knew(stack, "one", context_id="another talk") == "|True"


async def test_what_no_message_of_the_broker_holds_is_recalled_whole(serve: StackOf) -> None:
    stack = await serve(counter)
    await stack.worker()
    large = "x" * (2 * limits.RECORD_BYTES)
    await knew(stack, large)
    assert await knew(stack, "two") == f"{large}|True"


async def test_nobody_else_recalls_it(serve: StackOf) -> None:
    stack = await serve(counter)
    await stack.worker()
    await knew(stack, "secret")
    operations = Operations(stack.log, Writer("gateway", "gateway-other"))
    for caller in (Caller(tenant="acme"), Caller(subject="somebody")):
        task = await Calls(operations, stack.agent, caller=caller).send_task("hello", context_id="talk")
        assert task.artifacts[0].parts[0].text == "|True"
    await operations.close()


async def test_who_did_not_know_of_the_newest_does_not_replace_it(serve: StackOf) -> None:
    ENTERED.clear()
    stack = await serve(counter)
    await stack.worker()
    await knew(stack, "one")
    slow = await stack.calls.send_task("wait", context_id="talk", immediately=True)
    async with asyncio.timeout(20):
        await ENTERED.setdefault("entered", asyncio.Event()).wait()
    assert await knew(stack, "two") == "one|True"
    await stack.calls.send_task("go on", task_id=slow.id)
    ended = await stack.calls.get(slow.id)

    assert ended.artifacts[0].parts[0].text == "one|False"
    assert await knew(stack, "three") == "one two|True"


@pytest.mark.parametrize("grace_seconds", [0.0, 60.0])
async def test_what_is_remembered_goes_with_the_task_that_it_stands_in(serve: StackOf, grace_seconds: float) -> None:
    stack = await serve(counter)
    await stack.worker()
    await knew(stack, "one")
    log = stack.log
    assert isinstance(log, JetStreamLog | MemoryLog)
    (task,) = (await stack.calls.page()).tasks
    retention = Retention(log, Writer("retention", "test"), older_than_seconds=0.0, grace_seconds=grace_seconds)
    removing = asyncio.create_task(retention.run())
    if grace_seconds:  # there is a tombstone, and the records in front of it still are
        await eventually(lambda: _is(stack.kinds(task.id), "z"), what="the tombstone")
    else:
        assert (await removing).tasks == 1

    assert await knew(stack, "two") == "|True"
    assert await knew(stack, "three") == "two|True"
    removing.cancel()


async def _is(asked: Awaitable[str], expected: str) -> bool:
    return await asked == expected


async def test_an_attempt_replaces_what_the_one_before_has_remembered(serve: StackOf) -> None:
    @agent(name="stumbling", policy=RERUN)
    async def stumbling(turn: Turn) -> None:
        """Remembers, and falls the first time."""
        found = await turn.step("found", turn.recall, result=Recollection)
        word = f"word {turn.attempt}"
        await turn.step(word, lambda: word)
        done = await turn.remember(word, since=found.version)
        if turn.text == "stumble" and turn.attempt == 1:
            raise RuntimeError("fallen")
        await turn.artifact(f"{' '.join(found.steps)}|{done}")

    stack = await serve(stumbling)
    await stack.worker()
    assert await knew(stack, "stumble") == "|True"
    assert await knew(stack, "walk") == "word 2|True"


async def test_only_steps_of_the_turn_can_be_remembered(serve: StackOf) -> None:
    @agent(name="careless")
    async def careless(turn: Turn) -> None:
        """Remembers what it has not recorded."""
        with pytest.raises(ValueError, match="no step of this turn is called 'nothing'"):
            await turn.remember("nothing", since=0)
        await turn.artifact(str((await turn.recall()).version))

    stack = await serve(careless)
    await stack.worker()
    assert await knew(stack, "go") == "0"


async def test_code_that_blocks_remembers_as_well(serve: StackOf) -> None:
    @agent(name="blocking")
    def blocking(turn: ThreadTurn) -> None:
        """The same in a thread."""
        found = turn.step("found", turn.recall, result=Recollection)
        turn.step("word", lambda: turn.text)
        turn.remember("word", since=found.version)
        turn.artifact(msgspec.json.decode(found.steps["word"], type=str) if found.steps else "nothing")

    stack = await serve(blocking)
    await stack.worker()
    assert [await knew(stack, text) for text in ("one", "two", "three")] == ["nothing", "one", "two"]
