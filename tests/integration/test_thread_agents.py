"""Agents that block: plain functions, and threads of async agents. They report, end, and stop like any other."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

from a2a_events import Deadlines, Task, TaskState, ThreadTurn, Turn, agent, as_agent, limits
from a2a_events.runtime.turn import TurnOver
from a2a_events.testing import eventually, run_agent
from tests.integration.conftest import StackOf
from tests.integration.stack import accumulate, states, text_of

COMPLETED, FAILED, CANCELED = TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELED


class Gate:
    """Where a blocking agent waits for its test."""

    def __init__(self) -> None:
        self.begun, self.proceed = threading.Event(), threading.Event()

    def wait(self) -> None:
        self.begun.set()
        assert self.proceed.wait(20)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, 20)


async def test_a_plain_function_is_an_agent(serve: StackOf) -> None:
    idents: list[int] = []

    def greet(turn: ThreadTurn) -> None:
        """Greets."""
        idents.append(threading.get_ident())
        turn.working("thinking")
        for number in range(5):
            turn.chunk("a", f"{number} ")
        turn.artifact(f"Hello, {turn.text}", artifact_id="b")
        turn.flush()
        turn.complete("bye")

    stack = await serve(greet)
    await stack.worker()
    updates = await stack.calls.collect("Ada")
    task = await stack.other.get(updates[-1].status_update.task_id)  # type: ignore[union-attr]

    accumulate(updates).assert_equals(task)
    assert states(updates)[-1] is COMPLETED
    assert [str(p.text) for a in task.artifacts for p in a.parts] == ["0 ", "1 ", "2 ", "3 ", "4 ", "Hello, Ada"]
    assert text_of(task.status.message) == "bye"
    assert idents
    assert threading.get_ident() not in idents
    assert stack.agent.card.description == "Greets."


async def test_a_class_may_have_a_plain_run() -> None:
    class Greeter:
        def run(self, turn: ThreadTurn) -> None:
            turn.artifact("Hello")

    updates = await run_agent(Greeter, "hi")
    assert states(updates)[-1] is COMPLETED
    assert accumulate(updates).artifacts


async def test_many_blocking_turns_run_at_once(serve: StackOf) -> None:
    together = threading.Barrier(50)

    def meet(turn: ThreadTurn) -> None:
        together.wait(30)

    stack = await serve(meet)
    await stack.worker()
    tasks = await asyncio.gather(*(stack.calls.send_task("go") for _ in range(50)))
    assert {task.status.state for task in tasks} == {COMPLETED}


async def test_the_blocking_part_of_an_async_agent_reports(serve: StackOf) -> None:
    def render(turn: ThreadTurn, times: int) -> int:
        for _ in range(times):
            turn.chunk("a", "x")
        return times

    async def draws(turn: Turn) -> None:
        drawn = await turn.in_thread(render, ThreadTurn(turn), 3)
        await turn.artifact(str(drawn), artifact_id="b")

    stack = await serve(draws)
    await stack.worker()
    task = await stack.calls.send_task("go")
    assert [(a.artifact_id, len(a.parts)) for a in task.artifacts] == [("a", 3), ("b", 1)]


async def test_a_plain_function_takes_a_message_that_comes_while_it_runs(serve: StackOf) -> None:
    gate = Gate()

    def talks(turn: ThreadTurn) -> None:
        gate.begun.set()
        turn.artifact(turn.receive().parts[0].text or "", artifact_id="a")
        assert turn.receive_nowait() is None

    stack = await serve(talks)
    await stack.worker()
    task = await stack.calls.send_task("first", immediately=True)
    await gate.reached()
    ended = await stack.other.send_task("second", task_id=task.id)
    assert ended.status.state is COMPLETED
    assert str(ended.artifacts[0].parts[0].text) == "second"


async def test_what_a_plain_function_raises_fails_its_task(serve: StackOf) -> None:
    def breaks(turn: ThreadTurn) -> None:
        raise KeyError("hunter2")

    stack = await serve(breaks)
    await stack.worker()
    task = await stack.calls.send_task("go")
    assert task.status.state is FAILED
    assert "KeyError" in text_of(task.status.message)
    assert "hunter2" not in text_of(task.status.message)


async def _cancel(stack_of_agent: StackOf, served: object, gate: Gate) -> Task:
    stack = await stack_of_agent(served)
    await stack.worker()
    task = await stack.calls.send_task("go", immediately=True)
    await gate.reached()
    canceling = asyncio.create_task(stack.other.cancel(task.id))

    async def asked() -> bool:
        return "x" in await stack.kinds(task.id)

    await eventually(asked)
    gate.proceed.set()
    answer = await canceling
    assert await stack.calls.get(task.id) == answer
    return answer


async def test_a_canceled_thread_is_stopped_at_its_next_report(serve: StackOf) -> None:
    gate, left = Gate(), threading.Event()

    def reports(turn: ThreadTurn) -> None:
        turn.artifact("begun", artifact_id="a")
        turn.flush()
        gate.wait()
        try:
            while True:
                turn.working("still here")
                turn.flush()
        finally:
            left.set()

    answer = await _cancel(serve, reports, gate)
    assert answer.status.state is CANCELED
    assert await asyncio.to_thread(left.wait, 20)


async def test_a_thread_that_watches_for_the_cancel_may_finish_what_it_says(serve: StackOf) -> None:
    gate = Gate()

    def tidy(turn: ThreadTurn) -> None:
        watches = turn.canceled
        gate.wait()
        while not watches:
            watches = turn.canceled
        turn.artifact("half of it", artifact_id="half")

    answer = await _cancel(serve, tidy, gate)
    assert answer.status.state is CANCELED
    assert [a.artifact_id for a in answer.artifacts] == ["half"]


async def test_a_thread_is_silent_unless_it_reports(serve: StackOf) -> None:
    gate = Gate()

    @agent(name="silent", deadlines=Deadlines(idle_seconds=0.5))
    def silent(turn: ThreadTurn) -> None:
        gate.begun.set()
        gate.proceed.wait(1.5)
        turn.flush()

    stack = await serve(silent)
    await stack.worker()
    task = await stack.calls.send_task("go")
    assert task.status.state is FAILED
    assert "said nothing for 0.5 seconds" in text_of(task.status.message)


async def test_a_thread_that_reports_is_not_idle(serve: StackOf) -> None:
    pause = threading.Event()

    @agent(name="talks", deadlines=Deadlines(idle_seconds=1.0))
    def talks(turn: ThreadTurn) -> None:
        for _ in range(8):
            pause.wait(0.25)
            turn.working()

    stack = await serve(talks)
    await stack.worker()
    assert (await stack.calls.send_task("go")).status.state is COMPLETED


async def test_a_step_is_done_once_in_whatever_thread_it_runs(serve: StackOf) -> None:
    done: list[str] = []

    def once(what: str) -> dict[str, str]:
        done.append(what)
        return {"did": what}

    @agent(name="steps", policy="rerun")
    def steps(turn: ThreadTurn) -> None:
        got = turn.step("pay", once, turn.idempotency_key("pay"), result=dict)
        turn.sleep(0.01)
        if turn.attempt == 1:
            raise RuntimeError("once more")
        turn.artifact(got["did"], artifact_id="a")

    stack = await serve(steps)
    await stack.worker()
    task = await stack.calls.send_task("go")
    assert task.status.state is COMPLETED
    assert [str(task.artifacts[0].parts[0].text)] == done


async def test_a_plain_function_may_sleep_without_a_process(serve: StackOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SUSPEND_SECONDS", 0.5)
    attempts: list[int] = []

    @agent(name="sleeps", policy="rerun")
    def sleeps(turn: ThreadTurn) -> None:
        attempts.append(turn.attempt)
        turn.sleep(2.0)

    stack = await serve(sleeps)
    await stack.worker()
    assert (await stack.calls.send_task("go")).status.state is COMPLETED
    assert len(attempts) == 2


async def test_what_an_agent_leaves_running_reports_nothing_after_its_turn(serve: StackOf) -> None:
    refused: list[BaseException] = []
    told = asyncio.Event()
    kept: list[asyncio.Task[None]] = []

    async def leaves(turn: Turn) -> None:
        async def later() -> None:
            await told.wait()
            for say in (turn.working, partial(turn.chunk, "a", "late"), turn.flush):
                try:
                    await say()
                except TurnOver as error:
                    refused.append(error)

        kept.append(asyncio.create_task(later()))

    stack = await serve(leaves)
    await stack.worker()
    task = await stack.calls.send_task("go")
    told.set()
    await kept[0]
    assert len(refused) == 2
    assert await stack.other.get(task.id) == task


async def test_a_function_that_returns_something_to_await_is_told_how_to_be_declared(
    serve: StackOf,
) -> None:
    async def works(turn: Turn) -> None: ...

    def forgot(turn: ThreadTurn) -> None:
        return asyncio.wait_for(works, 1)  # type: ignore[return-value, arg-type]

    stack = await serve(forgot)
    await stack.worker()
    task = await stack.calls.send_task("go")
    assert task.status.state is FAILED
    assert "TypeError" in text_of(task.status.message)


async def _generates(turn: Turn):  # type: ignore[no-untyped-def]  # noqa: ANN202
    yield turn


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: None, "one argument"),
        (lambda _a, _b: None, "one argument"),
        (_generates, "yields"),
        (3, "expected an Agent"),
        ("name", "expected an Agent"),
    ],
)
def test_what_nobody_could_call_with_a_turn_is_refused(wrong: object, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        as_agent(wrong)
