"""``dead-letters``: what was given up is listed, explained and tried again, in a pipe as on a terminal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest

from a2a_events.log.port import Letter
from a2a_events.model import TaskState
from a2a_events.runtime.agent import agent
from a2a_events.runtime.turn import Turn
from a2a_events.testing import eventually
from a2a_events.timeline.decide import RERUN
from tests.cli.commands import run_here
from tests.contract.logs import new_task
from tests.integration.stack import Stack, stack_of

pytestmark = pytest.mark.integration


@agent(name="greet", policy=RERUN, attempts=1, version="2.1.0")
async def broken(turn: Turn) -> None:
    """Raises, but for one message."""
    if turn.text != "fine":
        raise RuntimeError


@agent(name="greet", version="2.1.1")
async def repaired(turn: Turn) -> None:
    """Works."""
    await turn.artifact("Hello \x1b[2J")


@asynccontextmanager
async def stack(of: object, url: str, namespace: str) -> AsyncIterator[Stack]:
    async with stack_of("jetstream", of, url, namespace) as made:
        await made.worker()
        yield made


@pytest.fixture
def where(nats_url: str, namespace_of_a_test: str) -> list[str]:
    return ["--nats", nats_url, "--namespace", namespace_of_a_test]


@pytest.fixture
def given_up(nats_url: str, namespace_of_a_test: str) -> Callable[[int], list[str]]:
    """Makes tasks that are given up; their ids."""

    async def made(count: int) -> list[str]:
        async with stack(broken, nats_url, namespace_of_a_test) as served:
            tasks = [await served.calls.send_task("hello") for _ in range(count)]
            for task in tasks:
                await eventually(partial(served.log.dead_letter, served.ref(task.id)))
            return [task.id for task in tasks]

    return lambda count: asyncio.run(made(count))


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_what_was_given_up_is_listed_shown_and_replayed(
    given_up: Callable[[int], list[str]],
    where: list[str],
    nats_url: str,
    namespace_of_a_test: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = given_up(2)

    assert run_here("dead-letters", "list", *where) == 0
    listed = lines(capsys)
    assert [row["task"] for row in listed] == [first, second]
    assert list(listed[0]) == ["task", "agent", "tenant", "context", "time", "attempts", "reason", "epoch", "version"]
    assert (listed[0]["agent"], listed[0]["attempts"], listed[0]["version"]) == ("greet", 1, "2.1.0")

    assert run_here("dead-letters", "show", first, *where) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["letter"] == listed[0]
    assert shown["state"] == "FAILED"
    assert "RuntimeError" in shown["said"]
    assert [attempt["attempt"] for attempt in shown["attempts"]] == [1]
    assert "RuntimeError" in shown["attempts"][0]["reason"]
    assert shown["replay"] == ""

    assert run_here("dead-letters", "replay", first, *where) == 0
    [replayed] = lines(capsys)
    assert (replayed["task"], replayed["created"]) == (first, True)
    assert run_here("dead-letters", "replay", first, *where) == 0
    assert lines(capsys) == [{**replayed, "created": False}]
    assert run_here("dead-letters", "list", *where) == 0
    assert [row["task"] for row in lines(capsys)] == [second]
    assert run_here("dead-letters", "show", first, *where) == 0
    assert json.loads(capsys.readouterr().out)["replay"] == replayed["replay"]

    async def ends() -> TaskState:
        async with stack(repaired, nats_url, namespace_of_a_test) as served:

            async def over() -> TaskState | None:
                state = (await served.calls.get(str(replayed["replay"]))).status.state
                return state if state is TaskState.COMPLETED else None

            state: TaskState = await eventually(over)
            return state

    assert asyncio.run(ends()) is TaskState.COMPLETED


def test_a_terminal_gets_a_table_and_sentences(
    given_up: Callable[[int], list[str]], where: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    [task] = given_up(1)

    assert run_here("dead-letters", "list", "-o", "table", *where) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["task", "time", "agent", "attempts", "reason"]
    assert row.split()[0] == task
    assert run_here("dead-letters", "show", task, "-o", "text", *where) == 0
    out = capsys.readouterr().out
    assert "given up" in out
    assert f"timeline {task}" in out
    assert f"dead-letters replay {task}" in out
    assert run_here("dead-letters", "list", "-o", "json", *where) == 0
    assert [row["task"] for row in json.loads(capsys.readouterr().out)] == [task]


def test_all_letters_of_an_agent_are_replayed_and_those_of_others_are_not(
    given_up: Callable[[int], list[str]],
    where: list[str],
    nats_url: str,
    namespace_of_a_test: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tasks = given_up(3)

    async def unreadable() -> str:
        async with stack_of("jetstream", repaired, nats_url, namespace_of_a_test) as served:
            other = Letter(task=new_task(served.log, agent="other"), time=1, reason="unreadable", attempts=5)
            await served.log.put_dead_letter(other)
            return other.task.task_id

    other = asyncio.run(unreadable())

    assert run_here("dead-letters", "replay", "--all", "--agent", "greet", *where) == 0
    assert [(row["task"], row["created"]) for row in lines(capsys)] == [(task, True) for task in tasks]
    assert run_here("dead-letters", "list", *where) == 0
    assert [row["task"] for row in lines(capsys)] == [other]


def test_one_task_that_cannot_be_replayed_stops_no_other(
    given_up: Callable[[int], list[str]], where: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    [task] = given_up(1)

    assert run_here("dead-letters", "replay", "t1-main-0-" + "A" * 22, task, *where) == 1
    printed = capsys.readouterr()
    refused, replayed = [json.loads(line) for line in printed.out.splitlines()]
    assert "there is no task" in refused["error"]
    assert "there is no task" in printed.err
    assert replayed["created"]


def test_a_task_that_was_not_given_up_is_refused_with_its_state(
    where: list[str], nats_url: str, namespace_of_a_test: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def completed() -> str:
        async with stack(broken, nats_url, namespace_of_a_test) as served:
            return (await served.calls.send_task("fine")).id

    task = asyncio.run(completed())
    for command in ("show", "replay"):
        assert run_here("dead-letters", command, task, *where) == 1
        assert "was not given up: it is completed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["replay"], 2, "give tasks, or --all"),
        (["replay", "--all"], 2, "--agent"),
        (["replay", "t1-main-0-x", "--agent", "greet"], 2, "--all"),
        (["show"], 2, "TASK"),
        (["show", "nonsense"], 1, "not the id of a task"),
    ],
)
def test_a_wrong_command_line_is_refused(
    arguments: list[str], code: int, said: str, where: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_here("provision", *where) == 0
    assert run_here("dead-letters", *arguments, *where) == code
    assert said in capsys.readouterr().err


def test_a_deployment_without_letters_lists_none_and_one_that_was_not_provisioned_says_what_to_do(
    where: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_here("dead-letters", "list", *where) == 3
    assert "a2a-events provision" in capsys.readouterr().err
    assert run_here("provision", *where) == 0
    capsys.readouterr()
    assert run_here("dead-letters", "list", *where) == 0
    assert capsys.readouterr().out == ""
    assert run_here("dead-letters", "list", "-o", "table", *where) == 0
    assert "no dead letters" in capsys.readouterr().err
