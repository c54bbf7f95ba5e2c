"""The race that a hanging stream comes from: a subscription that begins while the terminal event is being appended.

Each subscription either tails through the terminal event or is told that the task has ended. None hangs, none misses
the end, none sees anything twice.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from a2a_events.errors import TaskNotCancelableError, UnsupportedOperationError
from a2a_events.model import TERMINAL_STATES, StreamResponse, Task, TaskState
from a2a_events.runtime.turn import Turn
from a2a_events.testing import Calls
from tests.integration.http import Frame, gateway_in_process
from tests.integration.stack import accumulate, stack_of, states

RACES = pytest.mark.parametrize("races", [400, pytest.param(2_000, marks=pytest.mark.slow)])
ACK_WAIT_SECONDS = 60.0
"""Nobody is to take over from a worker that shares its loop with everybody here, and its machine with more."""
AT_ONCE = 40

pytestmark = pytest.mark.integration


class Gate:
    """An agent that says something, and ends when its test says so."""

    def __init__(self) -> None:
        self.started: dict[str, asyncio.Event] = {}
        self.proceed: dict[str, asyncio.Event] = {}

    def expect(self, name: str) -> None:
        self.started[name], self.proceed[name] = asyncio.Event(), asyncio.Event()

    async def run(self, turn: Turn) -> None:
        """Waits for its gate."""
        name = turn.text
        await turn.artifact("begun", artifact_id="a")
        await turn.flush()
        self.started[name].set()
        await self.proceed[name].wait()
        await turn.artifact("over", artifact_id="b")


async def _hold_back(rng: random.Random) -> None:
    """A pause around the time that storing the terminal event takes."""
    if rng.random() < 0.5:
        for _ in range(rng.randrange(40)):
            await asyncio.sleep(0)
    else:
        await asyncio.sleep(rng.random() * 0.02)


def _check(numbers: list[int], final: str) -> None:
    assert final == "TASK_STATE_COMPLETED"
    assert numbers == sorted(set(numbers)), "an update was repeated or out of order"


@RACES
@pytest.mark.timeout(120)
async def test_subscriptions_over_http_while_the_task_ends(nats_url: str, namespace: str, races: int) -> None:
    gate = Gate()
    outcomes: Counter[str] = Counter()
    async with stack_of("jetstream", gate, nats_url, namespace, ack_wait_seconds=ACK_WAIT_SECONDS) as stack:
        await stack.worker()
        async with gateway_in_process(nats_url, namespace) as url:
            port = int(url.rsplit(":", 1)[1])

            async def race(number: int) -> None:
                rng, name = random.Random(number), str(number)
                gate.expect(name)
                task = await stack.calls.send_task(name, immediately=True)
                await asyncio.wait_for(gate.started[name].wait(), 30)
                subscribing = asyncio.create_task(_subscribe(port, task.id))
                await _hold_back(rng)
                gate.proceed[name].set()
                outcomes[await subscribing] += 1

            await _all(race, races)

    assert sum(outcomes.values()) == races
    assert set(outcomes) == {"tailed", "refused"}, outcomes


async def _subscribe(port: int, task_id: str) -> str:
    """A client of a few lines: a thousand of httpx's streams would take most of the time of this test."""
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"GET /tasks/{task_id}:subscribe HTTP/1.1\r\nHost: x\r\nA2A-Version: 1.0\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        answer = await reader.read(-1)
        writer.close()
    head_bytes, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head_bytes.split(b"\r\n")[0]:
        assert b'"UNSUPPORTED_OPERATION"' in body, answer
        return "refused"
    assert body.endswith(b"0\r\n\r\n"), "the response has no end"
    lines = [line for line in body.split(b"\n") if line.startswith((b"id: ", b"data: "))]
    seen = [
        Frame(cursor[4:].decode(), msgspec.json.decode(data[6:].rstrip(b"\r"), type=StreamResponse), data)
        for cursor, data in zip(lines[::2], lines[1::2], strict=True)
    ]
    _check([frame.revision for frame in seen], seen[-1].state)
    assert set(accumulate([frame.update for frame in seen]).artifacts) == {"a", "b"}
    return "tailed"


@RACES
@pytest.mark.timeout(120)
async def test_subscriptions_at_two_gateways_while_the_task_ends(nats_url: str, namespace: str, races: int) -> None:
    gate = Gate()
    outcomes: Counter[str] = Counter()
    async with stack_of("jetstream", gate, nats_url, namespace, ack_wait_seconds=ACK_WAIT_SECONDS) as stack:
        await stack.worker()

        async def race(number: int) -> None:
            rng, name = random.Random(number), str(number)
            gate.expect(name)
            task = await stack.calls.send_task(name, immediately=True)
            await asyncio.wait_for(gate.started[name].wait(), 30)
            late = number % 2
            if late:
                gate.proceed[name].set()
                await _hold_back(rng)
            tails = [asyncio.create_task(_tail(calls, task.id)) for calls in (stack.calls, stack.other)]
            if not late:
                await _hold_back(rng)
                gate.proceed[name].set()
            outcomes.update(await asyncio.gather(*tails))

        await _all(race, races // 2)

    assert sum(outcomes.values()) == races
    assert set(outcomes) == {"tailed", "refused"}, outcomes


async def _tail(calls: Calls, task_id: str) -> str:
    try:
        seen = [update async for update in calls.subscribe(task_id)]
    except UnsupportedOperationError:
        return "refused"
    shown = states(seen)
    assert shown[-1].value == "TASK_STATE_COMPLETED"
    assert len(shown) == len(set(shown)), "a state was shown twice"
    chunks = [u.artifact_update.artifact.artifact_id for u in seen if u.artifact_update is not None]
    assert len(chunks) == len(set(chunks)), "an artifact was shown twice"
    assert set(accumulate(seen).artifacts) == {"a", "b"}
    return "tailed"


@RACES
@pytest.mark.timeout(120)
async def test_cancels_while_the_task_completes_have_one_winner_each(nats_url: str, namespace: str, races: int) -> None:
    """What CancelTask answers, how the stream ends, and what both gateways and the log show is one state."""
    gate = Gate()
    outcomes: Counter[TaskState] = Counter()
    async with stack_of("jetstream", gate, nats_url, namespace, ack_wait_seconds=ACK_WAIT_SECONDS) as stack:
        await stack.worker()

        async def race(number: int) -> None:
            rng, name = random.Random(number), str(number)
            gate.expect(name)
            task = await stack.calls.send_task(name, immediately=True)
            await asyncio.wait_for(gate.started[name].wait(), 30)
            following = asyncio.create_task(_followed(stack.calls, task.id))
            canceling = asyncio.create_task(_canceled(stack.other, task.id))
            await _hold_back(rng)
            gate.proceed[name].set()
            answer, seen = await canceling, await following

            final = await stack.calls.get(task.id)
            assert await stack.other.get(task.id) == final
            assert final.status.state in {TaskState.COMPLETED, TaskState.CANCELED}
            assert answer is None or answer.status.state is final.status.state
            assert (answer is not None) == (final.status.state is TaskState.CANCELED)
            assert not seen or [s for s in states(seen) if s in TERMINAL_STATES] == [final.status.state]
            kinds = await stack.kinds(task.id)
            assert kinds.count("x") <= 1
            outcomes[final.status.state] += 1

        await _all(race, races // 4)

    assert sum(outcomes.values()) == races // 4
    assert set(outcomes) == {TaskState.COMPLETED, TaskState.CANCELED}, outcomes


async def _canceled(calls: Calls, task_id: str) -> Task | None:
    try:
        return await calls.cancel(task_id)
    except TaskNotCancelableError:
        return None


async def _followed(calls: Calls, task_id: str) -> list[StreamResponse]:
    try:
        return [update async for update in calls.subscribe(task_id)]
    except UnsupportedOperationError:
        return []


async def _all(race: Callable[[int], Awaitable[None]], races: int) -> None:
    numbers = iter(range(races))

    async def some() -> None:
        for number in numbers:
            await race(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(some())
