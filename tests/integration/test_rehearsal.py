"""Agents run against what was recorded of them: an unchanged one says the same, a changed one is caught.

Everything here is recorded by a real run, over both logs. Each agent is made of a word: said with another one it is a
changed agent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from a2a_events import limits
from a2a_events.model import TaskState
from a2a_events.runtime.agent import Agent, Deadlines, agent
from a2a_events.runtime.rehearsal import NotRehearsable, Rehearsed, Replay, rehearse
from a2a_events.runtime.thread_turn import ThreadTurn
from a2a_events.runtime.transfer import export
from a2a_events.runtime.turn import Turn
from a2a_events.services.connect import jetstream_log
from a2a_events.testing import Deployment, Tolerance, eventually
from a2a_events.timeline.bundle import Bundle, read, redacted, write
from a2a_events.timeline.events import Kind
from tests.integration.conftest import StackOf
from tests.integration.http import client, message
from tests.integration.stack import Stack

Drive = Callable[[Stack], Awaitable[str]]
Made = Callable[[str], Agent]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RETRY_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(limits, "SUSPEND_SECONDS", 0.5)


async def recorded(serve: StackOf, served: Agent, drive: Drive) -> Bundle:
    stack = await serve(served)
    await stack.worker()
    return await bundle_of(stack, await drive(stack))


async def bundle_of(stack: Stack, task_id: str) -> Bundle:
    task = stack.ref(task_id)
    return read(write(await export(stack.log, task)))


async def ended(stack: Stack, task_id: str) -> str:
    async def over() -> bool:
        return (await stack.calls.get(task_id)).status.state is not TaskState.WORKING

    await eventually(over, what="the end of the task")
    return task_id


async def go(stack: Stack) -> str:
    return (await stack.calls.send_task("go")).id


def attempts(replay: Replay) -> list[Rehearsed]:
    assert replay.attempts
    return list(replay.attempts)


# --- agents, and what was said to them --------------------------------------------------------------------------------


def chunks(word: str) -> Agent:
    @agent(name="chunks")
    async def chunks(turn: Turn) -> None:
        await turn.working("begun")
        await turn.working()
        for number in range(20):
            await turn.chunk("text", f"{number} ", last=number == 19)
        made = await turn.artifact("other", name="random id")
        await turn.chunk(made, word if turn.text == "go" else "?")
        turn.complete(f"made {made}")

    return chunks


def steps(word: str) -> Agent:
    taken: list[str] = []

    @agent(name="steps", policy="resume")
    async def steps(turn: Turn) -> None:
        first = await turn.step("roll", time.time_ns, result=int)
        again = await turn.step("roll", time.time_ns, result=int)
        await turn.artifact({"rolled": [first, again], "word": word})
        await turn.step("pay", taken.append, word)

    return steps


def sleeper(word: str) -> Agent:
    @agent(name="sleeper", policy="rerun")
    async def sleeper(turn: Turn) -> None:
        begun = await turn.step("begin", lambda: turn.attempt, result=int)
        await turn.artifact(f"begun in {begun}", artifact_id="before")
        for _ in range(2):
            await turn.sleep(0.3)  # together they are longer than what suspends a turn
        await turn.sleep(1.0, name="long")
        await turn.artifact(word)

    return sleeper


def asking(word: str) -> Agent:
    @agent(name="asking")
    async def asking(turn: Turn) -> None:
        await turn.artifact(f"{len(turn.task.history)} messages")
        if turn.text == "go":
            turn.require_input("how many?")
        else:
            await turn.artifact(f"{turn.text} {word}")

    return asking


async def answer(stack: Stack) -> str:
    task_id = await go(stack)
    await stack.calls.send("three", task_id=task_id)
    return task_id


def receiving(word: str) -> Agent:
    @agent(name="receiving")
    async def receiving(turn: Turn) -> None:
        await turn.working("waiting")
        more = await turn.receive()
        await turn.artifact(f"{word} {more.parts[0].text}")

    return receiving


def polling(word: str) -> Agent:
    @agent(name="polling", linger_seconds=0.2)
    async def polling(turn: Turn) -> None:
        number = 0
        while (more := turn.receive_nowait()) is None:
            await turn.chunk("poll", f"{number} ")
            number += 1
            await asyncio.sleep(0.01)
        await turn.artifact(f"{word} {more.parts[0].text}")

    return polling


async def say_more(stack: Stack) -> str:
    stream = stack.calls.stream("go")
    first = await anext(stream)
    assert first.task is not None
    async for update in stream:
        if update.artifact_update or (update.status_update and update.status_update.status.message):
            break
    await stream.aclose()
    await stack.calls.send("more", task_id=first.task.id)
    return await ended(stack, first.task.id)


def slow_to_react(word: str) -> Agent:
    """What it had prepared it says first."""

    @agent(name="slow-to-react", linger_seconds=0.0)
    async def slow(turn: Turn) -> None:
        more, left = None, 3
        while more is None or left:
            left -= more is not None
            more = more or turn.receive_nowait()
            await turn.chunk("poll", "and ")
            await asyncio.sleep(0.01)
        await turn.artifact(f"{word} {more.parts[0].text}")

    return slow


def kept_awake(word: str) -> Agent:
    """Is not suspended, because a message came that it was not given."""

    @agent(name="kept-awake", policy="rerun")
    async def awake(turn: Turn) -> None:
        await turn.working(turn.text)
        await turn.flush()
        while len(HEARD) < 1:  # noqa: ASYNC110 -- the test says when
            await asyncio.sleep(0.01)
        await turn.sleep(1.0)
        await turn.artifact(f"{word} {len(turn.messages)}")

    return awake


def deaf(word: str) -> Agent:
    """What it does not take is another turn."""

    @agent(name="deaf")
    async def deaf(turn: Turn) -> None:
        await turn.working(turn.text)
        await turn.flush()
        if turn.text == "go":
            while len(HEARD) < 1:  # noqa: ASYNC110 -- the test says when
                await asyncio.sleep(0.01)
        turn.complete(f"{word} {turn.text}")

    return deaf


HEARD: list[str] = []


async def say_more_to_the_deaf(stack: Stack) -> str:
    HEARD.clear()
    stream = stack.calls.stream("go")
    first = await anext(stream)
    assert first.task is not None
    async for update in stream:
        if update.status_update and update.status_update.status.message:
            break
    await stack.calls.send("more", task_id=first.task.id, immediately=True)
    HEARD.append("more")
    async for _ in stream:
        pass
    return await ended(stack, first.task.id)


def hanging(word: str) -> Agent:
    @agent(name="hanging")
    async def hanging(turn: Turn) -> None:
        await turn.artifact(word)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await turn.artifact("tidied up")
            raise

    return hanging


def cooperative(word: str) -> Agent:
    @agent(name="cooperative", linger_seconds=0.2)
    async def cooperative(turn: Turn) -> None:
        number = 0
        while not turn.canceled:
            await turn.chunk("text", f"{number} ")
            number += 1
            await asyncio.sleep(0.01)
        await turn.chunk("text", word)
        turn.complete("stopped")

    return cooperative


async def cancel(stack: Stack) -> str:
    stream = stack.calls.stream("go")
    first = await anext(stream)
    assert first.task is not None
    async for update in stream:
        if update.artifact_update:
            break
    await stream.aclose()
    assert (await stack.calls.cancel(first.task.id)).status.state is TaskState.CANCELED
    return first.task.id


def shy(word: str) -> Agent:
    @agent(name="shy", replies="either")
    async def shy(turn: Turn) -> None:
        await turn.artifact(word)

    return shy


def shy_of_steps(word: str) -> Agent:
    """Whether its artifact is preceded by WORKING depends on what waits to be written."""

    @agent(name="shy-of-steps", replies="either", policy="rerun")
    async def shy(turn: Turn) -> None:
        await turn.sleep(0.001)
        await turn.artifact(word)

    return shy


def large(word: str) -> Agent:
    """Asked and says more than one record holds."""

    @agent(name="large")
    async def large(turn: Turn) -> None:
        await turn.artifact(turn.text[::-1] + word, artifact_id="whole")
        for _ in range(3):
            await turn.chunk("pieces", turn.text[: limits.RECORD_BYTES // 2])

    return large


async def ask_at_length(stack: Stack) -> str:
    return (await stack.calls.send_task("go" * limits.RECORD_BYTES)).id


def blocking(word: str) -> Agent:
    @agent(name="blocking")
    def blocking(turn: ThreadTurn) -> None:
        turn.working("begun")
        time.sleep(0.02)
        rolled = turn.step("roll", time.time_ns, result=int)
        turn.sleep(0.01)
        turn.artifact(f"{word} {rolled}")

    return blocking


def blocking_receiver(word: str) -> Agent:
    @agent(name="blocking-receiver")
    def receiver(turn: ThreadTurn) -> None:
        turn.working("waiting")
        turn.artifact(f"{word} {turn.receive().parts[0].text}")

    return receiver


def failing(word: str) -> Agent:
    @agent(name="failing")
    async def failing(turn: Turn) -> None:
        await turn.artifact("so far")
        raise KeyError if word == "old" else ValueError

    return failing


def retried(word: str) -> Agent:
    @agent(name="retried", policy="rerun")
    async def retried(turn: Turn) -> None:
        await turn.chunk("text", f"attempt {turn.attempt}; ")
        await turn.chunk("text", await turn.step("kept", lambda: turn.attempt, result=int) * "x")
        if turn.attempt < 3:
            raise ConnectionError
        await turn.artifact(word)

    return retried


def rejecting(word: str) -> Agent:
    @agent(name="rejecting")
    async def rejecting(turn: Turn) -> None:
        turn.reject(word)

    return rejecting


KINDS: list[tuple[Made, Drive, int]] = [
    (chunks, go, 1),
    (steps, go, 1),
    (sleeper, go, 2),
    (asking, answer, 2),
    (receiving, say_more, 1),
    (polling, say_more, 1),
    (slow_to_react, say_more, 1),
    (deaf, say_more_to_the_deaf, 2),
    (kept_awake, say_more_to_the_deaf, 3),
    (hanging, cancel, 1),
    (cooperative, cancel, 1),
    (shy, go, 1),
    (shy_of_steps, go, 1),
    (large, ask_at_length, 1),
    (blocking, go, 1),
    (blocking_receiver, say_more, 1),
    (failing, go, 1),
    (retried, go, 3),
    (rejecting, go, 1),
]


@pytest.mark.parametrize(("made", "drive", "count"), KINDS, ids=[kind[0].__name__ for kind in KINDS])
async def test_an_unchanged_agent_says_the_same_and_a_changed_one_is_caught(
    serve: StackOf, made: Made, drive: Drive, count: int
) -> None:
    bundle = await recorded(serve, made("old"), drive)

    for tolerance in (Tolerance(), Tolerance(merge_chunks=True)):
        unchanged = rehearse(bundle, made("old"), tolerance=tolerance)
        assert count == len(unchanged.attempts)
        assert not unchanged.differs, unchanged
        assert all(attempt.ran and not attempt.note for attempt in unchanged.attempts)
    changed = rehearse(bundle, made("new"))
    assert changed.differs
    divergence = next(attempt.divergence for attempt in changed.attempts if attempt.divergence)
    assert "old" in str(divergence.recorded) or made is failing
    assert "new" in str(divergence.new) or made is failing


async def test_a_thread_that_looks_for_a_cancel_and_says_nothing_hears_of_it(serve: StackOf) -> None:
    @agent(name="silent")
    def silent(turn: ThreadTurn) -> None:
        while not turn.canceled:
            time.sleep(0.01)
        turn.artifact("tidied up")

    async def cancel_soon(stack: Stack) -> str:
        task = await stack.calls.send_task("go", immediately=True)

        async def runs() -> bool:
            return (await stack.calls.get(task.id)).status.state is TaskState.WORKING

        await eventually(runs, what="the agent")
        await stack.calls.cancel(task.id)
        return task.id

    (attempt,) = attempts(rehearse(await recorded(serve, silent, cancel_soon), silent, timeout_seconds=1.0))
    assert (None, "", True) == (attempt.divergence, attempt.note, attempt.ran)


# --- attempts that were cut -------------------------------------------------------------------------------------------


async def test_a_message_between_two_attempts_is_given_to_the_second(
    serve: StackOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def patient(word: str) -> Agent:
        @agent(name="patient", policy="rerun")
        async def patient(turn: Turn) -> None:
            await turn.artifact(f"{len(turn.messages)} {word}")
            if turn.attempt == 1:
                raise ConnectionError

        return patient

    async def meanwhile(stack: Stack) -> str:
        task = await stack.calls.send_task("go", immediately=True)

        async def claimed_twice() -> bool:
            return (await stack.kinds(task.id)).count(Kind.TURN_CLAIMED.value) > 1

        await eventually(claimed_twice, what="the second attempt")
        await stack.calls.send("more", task_id=task.id, immediately=True)
        return await ended(stack, task.id)

    monkeypatch.setattr(limits, "RETRY_PAUSE_SECONDS", 2.0)
    bundle = await recorded(serve, patient("old"), meanwhile)

    first, second = attempts(rehearse(bundle, patient("old")))
    assert first.divergence is second.divergence is None, (first, second)
    _, second = attempts(rehearse(bundle, patient("new")))
    assert second.divergence is not None
    assert ("2 old" in str(second.divergence.recorded), "2 new" in str(second.divergence.new)) == (True, True)


def survivor(word: str, policy: str, pieces: int = 1) -> Agent:
    @agent(name="survivor", policy=policy)
    async def survivor(turn: Turn) -> None:
        done = len(turn.task.artifacts[0].parts) if turn.task.artifacts else 0
        begun = await turn.step("begin", lambda: turn.attempt, result=int)
        for number in range(done, 10):
            for piece in ([f"{number} "], [f"{number}", " "])[pieces - 1]:
                await turn.chunk("text", piece)
            if number == 4 and turn.attempt == 1 and GATE.open:
                await turn.flush()
                GATE.reached.set()
                await asyncio.sleep(3600)
        await turn.artifact(f"begun in {begun} {word}")

    return survivor


class Gate:
    """Where a worker is stopped in the middle of a turn; closed in rehearsals, in which nobody stops it."""

    def __init__(self) -> None:
        self.open = False
        self.reached = asyncio.Event()


GATE = Gate()


async def interrupted(stack: Stack, how: str) -> Bundle:
    GATE.open, GATE.reached = True, asyncio.Event()
    worker = await stack.worker()
    task = await stack.calls.send_task("go", immediately=True)
    await GATE.reached.wait()
    await (worker.vanish() if how == "vanish" else worker.stop())
    GATE.open = False
    await stack.worker()
    return await bundle_of(stack, await ended(stack, task.id))


@pytest.mark.parametrize("how", ["vanish", "stop"])
@pytest.mark.parametrize("policy", ["rerun", "resume"])
async def test_what_an_attempt_said_before_its_worker_went_is_compared(serve: StackOf, policy: str, how: str) -> None:
    stack = await serve(survivor("old", policy))
    bundle = await interrupted(stack, how)

    for tolerance in (Tolerance(), Tolerance(merge_chunks=True)):
        first, second = attempts(rehearse(bundle, survivor("old", policy), tolerance=tolerance))
        assert first.divergence is second.divergence is None, (first, second)
        assert ("disappeared" if how == "vanish" else "stopped") in first.note
        assert not second.note
        assert second.attempt == (2 if how == "vanish" else 1)
        first, second = attempts(rehearse(bundle, survivor("new", policy), tolerance=tolerance))
        assert first.divergence is None
        assert second.divergence is not None
        assert "begun in 1 old" in str(second.divergence.recorded)
        assert "begun in 1 new" in str(second.divergence.new)


@pytest.mark.parametrize("pieces", [1, 2])
async def test_a_beginning_is_compared_however_it_was_cut_into_chunks(serve: StackOf, pieces: int) -> None:
    stack = await serve(survivor("old", "rerun", pieces))
    bundle = await interrupted(stack, "vanish")
    otherwise = survivor("old", "rerun", 3 - pieces)

    assert rehearse(bundle, otherwise).differs
    first, second = attempts(rehearse(bundle, otherwise, tolerance=Tolerance(merge_chunks=True)))
    assert first.divergence is second.divergence is None, (first, second)
    assert "disappeared" in first.note


async def test_a_beginning_may_be_said_at_once_with_what_follows(serve: StackOf) -> None:
    @agent(name="survivor", policy="rerun")
    async def at_once(turn: Turn) -> None:
        begun = await turn.step("begin", lambda: turn.attempt, result=int)
        await turn.chunk("text", "".join(f"{number} " for number in range(10)))
        await turn.artifact(f"begun in {begun} old")

    bundle = await interrupted(await serve(survivor("old", "rerun")), "vanish")
    first, second = attempts(rehearse(bundle, at_once, tolerance=Tolerance(merge_chunks=True)))
    assert first.divergence is second.divergence is None, (first, second)


async def test_an_agent_that_must_not_run_twice_is_compared_until_its_worker_went(serve: StackOf) -> None:
    stack = await serve(survivor("old", "fail"))
    bundle = await interrupted(stack, "vanish")

    first, second = attempts(rehearse(bundle, survivor("old", "fail")))
    assert (None, True) == (first.divergence, first.ran)
    assert "disappeared" in first.note
    assert (None, False) == (second.divergence, second.ran)
    assert "the agent was not run" in second.note


async def test_a_turn_of_which_nothing_was_recorded_has_nothing_to_compare(serve: StackOf) -> None:
    @agent(name="mute", policy="fail")
    async def mute(turn: Turn) -> None:
        assert turn.text
        GATE.reached.set()
        await asyncio.sleep(3600)

    stack = await serve(mute)
    bundle = await interrupted(stack, "vanish")

    with pytest.raises(NotRehearsable, match=r"nothing was recorded of what the agent did: .* disappeared"):
        rehearse(bundle, mute)


async def test_an_agent_that_says_less_than_before_its_worker_went_is_caught(serve: StackOf) -> None:
    @agent(name="survivor", policy="rerun")
    async def short(turn: Turn) -> None:
        await turn.step("begin", lambda: turn.attempt, result=int)
        await turn.chunk("text", "0 ")

    stack = await serve(survivor("old", "rerun"))
    first, _ = attempts(rehearse(await interrupted(stack, "vanish"), short))

    assert first.divergence is not None
    assert (2, "1 ") == (first.equal, first.divergence.recorded["artifactUpdate"]["artifact"]["parts"][0]["text"])  # type: ignore[index]
    assert first.divergence.new is not None
    assert "turnEnded" in first.divergence.new


async def test_a_turn_that_a_deadline_ended_is_compared_up_to_there(serve: StackOf) -> None:
    def slow(word: str) -> Agent:
        @agent(name="slow", deadlines=Deadlines(idle_seconds=0.3))
        async def slow(turn: Turn) -> None:
            await turn.artifact(word)
            await asyncio.sleep(3600)

        return slow

    bundle = await recorded(serve, slow("old"), go)

    (same,) = attempts(rehearse(bundle, slow("old")))
    assert (None, 1) == (same.divergence, same.equal)
    assert "said nothing for 0.3 seconds" in same.note
    assert rehearse(bundle, slow("new")).differs


async def test_a_task_that_was_canceled_before_it_ran_has_nothing_to_compare(serve: StackOf) -> None:
    stack = await serve(chunks("old"))
    task = await stack.calls.send_task("go", immediately=True)
    await stack.calls.cancel(task.id)

    with pytest.raises(NotRehearsable, match="no worker has claimed"):
        rehearse(await bundle_of(stack, task.id), chunks("old"))


# --- steps ------------------------------------------------------------------------------------------------------------


async def test_a_step_that_is_not_recorded_is_not_taken(serve: StackOf) -> None:
    taken: list[str] = []

    @agent(name="steps", policy="resume")
    async def careless(turn: Turn) -> None:
        try:
            await turn.step("roll", lambda: 1)
            await turn.step("charge", taken.append, "twice")
        finally:
            taken.append("left")

    bundle = await recorded(serve, steps("old"), go)
    (attempt,) = attempts(rehearse(bundle, careless))

    assert ["left"] == taken
    assert attempt.divergence is not None
    assert {"step": {"epoch": 1, "name": "charge"}} == attempt.divergence.new
    assert attempt.equal == 1


async def test_a_step_that_raised_leaves_nothing_to_compare_with(serve: StackOf) -> None:
    def unlucky(word: str) -> Agent:
        async def refuse() -> None:
            raise ConnectionError

        @agent(name="unlucky")
        async def unlucky(turn: Turn) -> None:
            await turn.artifact(word)
            await turn.step("order", refuse)

        return unlucky

    bundle = await recorded(serve, unlucky("old"), go)

    (attempt,) = attempts(rehearse(bundle, unlucky("old")))
    assert (None, 1) == (attempt.divergence, attempt.equal)
    assert "step 'order'" in attempt.note
    assert rehearse(bundle, unlucky("new")).differs


# --- what is compared -------------------------------------------------------------------------------------------------


async def test_a_raise_names_its_exception(serve: StackOf) -> None:
    bundle = await recorded(serve, failing("old"), go)

    (attempt,) = attempts(rehearse(bundle, failing("new")))
    assert attempt.divergence is not None
    assert attempt.divergence.path == "reason"
    assert "KeyError" in str(attempt.divergence.recorded)
    assert "ValueError" in str(attempt.divergence.new)
    first, *_, last = attempt.raised.splitlines()
    assert Path(__file__).name in first
    assert last == "ValueError"


async def test_chunks_may_be_cut_otherwise_if_that_is_tolerated(serve: StackOf) -> None:
    def cut(pieces: list[str]) -> Agent:
        @agent(name="cut")
        async def cut(turn: Turn) -> None:
            for piece in pieces:
                await turn.chunk("text", piece)

        return cut

    bundle = await recorded(serve, cut(["ab", "cd", "ef"]), go)
    merged = Tolerance(merge_chunks=True)

    assert rehearse(bundle, cut(["abc", "def"])).differs
    assert not rehearse(bundle, cut(["abc", "def"]), tolerance=merged).differs
    assert rehearse(bundle, cut(["abc", "deX"]), tolerance=merged).differs


async def test_what_may_differ_is_tolerated_and_nothing_else(serve: StackOf) -> None:
    def priced(text: str, cost: float, latency: float) -> Agent:
        @agent(name="priced")
        async def priced(turn: Turn) -> None:
            await turn.artifact({"cost": cost}, artifact_id="offer", metadata={"latency": latency})
            turn.complete(text)

        return priced

    bundle = await recorded(serve, priced("it costs  much", 10.0, 1.5), go)

    def differs(new: Agent, **tolerated: object) -> bool:
        return rehearse(bundle, new, tolerance=Tolerance(**tolerated)).differs  # type: ignore[arg-type]

    assert not differs(priced("it costs  much", 10, 1.5))
    assert differs(priced("it costs much", 10.0, 1.5))
    assert not differs(priced("it costs much", 10.0, 1.5), text="whitespace")
    assert not differs(priced("Cheap!", 10.0, 1.5), text="ignore")
    assert not differs(priced("it costs 10", 10.0, 1.5), text=lambda old, new: old[:8] == new[:8])
    assert not differs(priced("it costs  much", 10.4, 1.5), numbers=0.05)
    assert differs(priced("it costs  much", 11.4, 1.5), numbers=0.05)
    assert not differs(priced("it costs  much", 10.0, 99.0), ignore=("artifact.metadata.latency",))
    assert not differs(priced("it costs  much", 99.0, 1.5), ignore=("artifactUpdate.artifact.parts.*.data.cost",))
    assert differs(priced("it costs  much", 99.0, 99.0), ignore=("artifact.metadata.latency",))


async def test_an_agent_that_waits_for_what_never_came_is_caught_and_not_waited_for(serve: StackOf) -> None:
    @agent(name="chunks")
    async def patient(turn: Turn) -> None:
        await turn.receive()

    bundle = await recorded(serve, chunks("old"), go)
    (attempt,) = attempts(rehearse(bundle, patient))

    assert attempt.divergence is not None
    assert "waits for something" in str(attempt.divergence.new)


async def test_an_agent_that_never_ends_is_given_up(serve: StackOf) -> None:
    go_on = asyncio.Event()

    @agent(name="chunks")
    def busy(turn: ThreadTurn) -> None:
        while not go_on.is_set():
            time.sleep(0.01)

    bundle = await recorded(serve, chunks("old"), go)
    fast = agent(name="chunks", cancel_grace_seconds=0.1)(busy.handler)
    (attempt,) = attempts(rehearse(bundle, fast, timeout_seconds=0.5))
    go_on.set()

    assert attempt.divergence is not None
    assert "was given up" in str(attempt.divergence.new)


async def test_no_agent_is_run_on_input_that_was_removed(serve: StackOf) -> None:
    bundle = await recorded(serve, chunks("old"), go)

    with pytest.raises(NotRehearsable, match="was removed"):
        rehearse(redacted(bundle, content=True), chunks("old"))


# --- a worker process that is killed ----------------------------------------------------------------------------------

KEEPER = '''
import os
import signal

from a2a_events import Turn, agent


@agent(name="keeper", policy="resume")
async def keeper(turn: Turn) -> None:
    """Is killed in its first attempt; a second one goes on."""
    done = len(turn.task.artifacts[0].parts) if turn.task.artifacts else 0
    begun = await turn.step("begin", lambda: turn.attempt, result=int)
    for number in range(done, 12):
        if number == 6 and turn.attempt == 1:
            await turn.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        await turn.chunk("log", f"{number} ")
    turn.complete(f"begun in attempt {begun}")
'''


@pytest.mark.integration
@pytest.mark.processes
@pytest.mark.timeout(120)
async def test_a_task_that_outlived_its_worker_process_is_rehearsed_without_killing_anybody(
    nats_url: str, tmp_path: Path
) -> None:
    (tmp_path / "keeper.py").write_text(KEEPER)
    settings = {"ack_wait_seconds": "2"}
    async with Deployment(nats_url, agents="keeper:keeper", workers=2, settings=settings, folder=tmp_path) as deployed:
        async with client(deployed.gateways[0].url) as http:
            answer = await http.post("/message:send", json=message("go"), timeout=60)
        task_id = answer.json()["task"]["id"]
        async with jetstream_log(deployed.settings, "test") as (log, _):
            found = await log.find(task_id)
            assert found is not None
            bundle = read(write(await export(log, found)))
    unchanged, changed = namespace_of(KEEPER), namespace_of(KEEPER.replace("{number} ", "{number}, "))

    first, second = attempts(rehearse(bundle, unchanged["keeper"]))
    assert first.divergence is second.divergence is None, (first, second)
    assert "disappeared" in first.note
    assert (1, 2) == (first.attempt, second.attempt)
    first, second = attempts(rehearse(bundle, changed["keeper"]))
    assert first.divergence is not None
    assert second.divergence is not None
    assert [{"text": "6, "}] == second.divergence.new["artifactUpdate"]["artifact"]["parts"]  # type: ignore[index]


def namespace_of(code: str) -> dict[str, Agent]:
    namespace: dict[str, Agent] = {}
    exec(compile(code, "keeper.py", "exec"), namespace)  # noqa: S102 -- ours
    return namespace
