"""``tasks`` and ``stuck``: what operators see of a log's tasks, in a pipe as on a terminal."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from a2a_events.agents import echo, scripted
from a2a_events.cli.stuck import facts, tell
from a2a_events.cli.tasks import Row, print_one
from a2a_events.settings import Settings
from a2a_events.timeline.attempts import Attempt
from a2a_events.timeline.diagnosis import Case, Deliveries, Diagnosis, Letter, Worker
from tests.cli.commands import Command, run_here
from tests.cli.terminal import COLUMNS, terminal
from tests.integration.stack import Stack, stack_of

pytestmark = pytest.mark.integration

FAILS = {"script": {"fail": True}}
ASKS = {"script": {"chunks": 2, "inputAt": 1}}


@asynccontextmanager
async def serving(url: str, namespace: str) -> AsyncIterator[Stack]:
    async with stack_of("jetstream", scripted, url, namespace) as made:
        await made.worker()
        yield made


@pytest.fixture
def where(nats_url: str, namespace_of_a_test: str) -> list[str]:
    return ["--nats", nats_url, "--namespace", namespace_of_a_test]


@pytest.fixture
def made(nats_url: str, namespace_of_a_test: str) -> list[str]:
    """Ids of tasks: completed, failed, one that waits for its client, and one that nobody has begun."""

    async def make() -> list[str]:
        async with serving(nats_url, namespace_of_a_test) as stack:
            done = await stack.calls.send_task("hi", context_id="orders-1")
            failed = await stack.calls_of("acme").send_task(FAILS, context_id="orders-2")
            asking = await stack.calls.send_task(ASKS)
        async with stack_of("jetstream", echo, nats_url, namespace_of_a_test) as stack:
            waiting = await stack.calls.send_task("hi", immediately=True)
        return [done.id, failed.id, asking.id, waiting.id]

    return asyncio.run(make())


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_tasks_are_listed_and_filtered_in_a_pipe(
    made: list[str], where: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    done, failed, asking, waiting = made

    def listed(*options: str) -> list[object]:
        assert run_here("tasks", *options, *where) == 0
        return [row["task"] for row in lines(capsys)]

    assert run_here("tasks", *where) == 0
    rows = lines(capsys)
    assert [row["task"] for row in rows] == [waiting, asking, failed, done]
    assert list(rows[0]) == [
        "task",
        "agent",
        "state",
        "updated",
        "context",
        "owner",
        "created",
        "revision",
        "given_up",
    ]
    assert [row["state"] for row in rows] == ["SUBMITTED", "INPUT_REQUIRED", "FAILED", "COMPLETED"]
    assert listed("--failed") == [failed]
    assert listed("--state", "input-required", "--state", "submitted") == [waiting, asking]
    assert listed("--text", "ORDERS") == [failed, done]
    assert listed("--agent", "echo") == [waiting]
    assert listed("--agent", "nobody") == []
    assert listed("--since", "1h") == [waiting, asking, failed, done]
    assert listed("--since", "2999-01-01T00:00:00Z") == []
    assert listed("--since", str(rows[1]["updated"])) == [waiting, asking]


def test_what_is_left_out_is_said(made: list[str], where: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("tasks", "--limit", "1", *where) == 0

    shown = capsys.readouterr()
    assert json.loads(shown.out)["task"] == made[-1]
    assert "3 more" in shown.err


def test_a_terminal_gets_a_table_with_ages(
    made: list[str], where: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_here("tasks", "-o", "table", *where) == 0

    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["task", "agent", "state", "updated", "context", "owner"]
    assert [row.split()[0] for row in rows] == list(reversed(made))
    assert all(" ago " in row for row in rows)
    assert run_here("tasks", "-o", "table", "--agent", "nobody", *where) == 0
    assert "no tasks match" in capsys.readouterr().err


@pytest.mark.parametrize("given", [("--since", "soon"), ("--state", "lost"), ("--follow", "-o", "json")])
def test_what_cannot_be_meant_is_refused(given: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("tasks", *given) == 2
    assert capsys.readouterr().err


def test_an_index_on_disk_serves_the_next_command(
    made: list[str], where: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = str(tmp_path / "tasks.sqlite")
    for _ in range(2):
        assert run_here("tasks", "--index", index, *where) == 0
        assert [row["task"] for row in lines(capsys)] == list(reversed(made))
    assert Path(index).stat().st_size
    assert run_here("tasks", "--index", str(tmp_path / "nowhere" / "x"), *where) == 1
    assert "--index" in capsys.readouterr().err


@pytest.mark.processes
async def test_changes_are_followed_as_they_come(start: Callable[..., Command], nats_url: str, namespace: str) -> None:
    async with serving(nats_url, namespace) as stack:
        before = await stack.calls.send_task("hi")
        following = start("tasks", "--follow", "--nats", nats_url, "--namespace", namespace)
        await following.prints(before.id)
        failed = await stack.calls.send_task(FAILS)
        await following.prints(rf'"task":"{failed.id}"[^\n]*"state":"FAILED"')
        following.interrupt()

        assert await following.end() == 130
        rows = [json.loads(line) for line in following.out.splitlines()]
        assert rows[0]["task"] == before.id
        assert {row["task"] for row in rows[1:]} == {failed.id}
        assert "Traceback" not in following.err


def test_why_a_task_is_stuck_is_json_in_a_pipe(
    made: list[str], where: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    _, failed, asking, waiting = made
    found = {}
    for task in (failed, asking, waiting):
        assert run_here("stuck", task, *where) == 0
        found[task] = json.loads(capsys.readouterr().out)

    assert (found[failed]["case"], found[failed]["stuck"]) == ("ended", False)
    assert (found[waiting]["case"], found[waiting]["stuck"]) == ("no-worker", True)
    assert "echo" in found[waiting]["advice"]
    assert (found[asking]["case"], found[asking]["state"]) == ("waits-for-client", "INPUT_REQUIRED")
    assert "its client" in found[asking]["why"]
    assert found[asking]["wakes_at"] in found[asking]["why"]


def test_why_a_task_is_stuck_begins_with_the_sentence_on_a_terminal(
    made: list[str], where: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_here("stuck", made[2], "-o", "text", *where) == 0

    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("It waits for its client (INPUT_REQUIRED)")
    assert shown[1] == "Send a message to the task, or cancel it."
    assert shown[3].split() == ["task", made[2]]
    assert "timeline" in shown[-1]


@pytest.mark.parametrize("task", ["lost", "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA"])
def test_a_task_that_is_not_there_is_said_to_be_so(
    task: str, made: list[str], where: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert made
    assert run_here("stuck", task, *where) == 1
    assert task in capsys.readouterr().err


FROZEN = Diagnosis(
    task="t1-main-0-x",
    agent="greet",
    case=Case.WORKER_SILENT,
    stuck=True,
    why="The turn is held by worker \x1b[2Jw1.\nworkers       forged\u202e",
    advice="Start a worker; see `a2a-events dead-letters show t1-main-0-x`.",
    time="2026-01-01T00:00:00.000Z",
    phase="running",
    state="WORKING",
    revision=4,
    position=9,
    silent_seconds=75.0,
    newest_writer="gateway/g1",
    owner="w1",
    owner_silent_seconds=90.0,
    epoch=13,
    attempt=2,
    policy="rerun",
    agent_version="1.0.0",
    attempts=(
        *(Attempt(1, n, 0, "w0", "rerun", reason=f"reason {n}") for n in range(1, 13)),
        Attempt(2, 13, 0, "w1", "rerun"),
    ),
    pending_messages=2,
    cancel_asked=True,
    nudge_unanswered=True,
    workers=(Worker("w2", 3.0),),
    deliveries=Deliveries(9, 7, 5, 4, 3, 2, 1, wanted=False),
    letter=Letter(0, "no", 5),
    untold=("wake-up: no answer",),
)


def test_every_fact_is_told_to_people_and_does_nothing_to_their_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    tell(FROZEN, Settings(nats="nats://elsewhere:1"))

    shown = capsys.readouterr().out
    assert shown.splitlines()[0] == "The turn is held by worker �[2Jw1.�workers       forged�"
    assert "dead-letters show t1-main-0-x --nats nats://elsewhere:1`." in shown.splitlines()[1]
    assert shown.splitlines()[-1].endswith("timeline t1-main-0-x --nats nats://elsewhere:1")
    assert [f"{name}: {value}" for name, value in facts(FROZEN)] == [
        "task: t1-main-0-x",
        "agent: greet 1.0.0",
        "state: WORKING (running), revision 4 at position 9",
        "newest record: 1 min 15 s ago, by gateway/g1",
        "claim: w1, epoch 13, last record 1 min 30 s ago, announced not lately",
        "cancel: asked for",
        "nudge: not answered yet",
        "attempts: 3 claims before these",
        *(f"attempt 1: epoch {n}, rerun, w0: reason {n}" for n in range(4, 13)),
        "attempt 2: epoch 13, rerun, w1: goes on",
        "messages: 2 that no agent was given, as far as the log tells",
        "delivery: of position 9: not handed out, 3 before it",
        (
            "queue: 4 wait, 2 under way, 1 of them handed out again; up to 7 handed out, up to 5 settled; "
            "no worker is free"
        ),
        "workers: w2 (3 s ago)",
        "dead letter: after 5 attempts: no",
        "not known: wake-up: no answer",
    ]
    assert all(value.split(",")[0] in shown for _, value in facts(FROZEN))


def test_the_sentence_is_broken_between_words_on_a_terminal() -> None:
    with terminal() as shown:
        tell(FROZEN, Settings())

    assert all(len(line) <= COLUMNS for line in re.sub(r"\x1b\[[\d;]*m", "", shown.text).splitlines()[:3])


def test_a_bundle_has_nobody_to_be_asked_about(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("stuck", "tests/bundles/report.bundle.jsonl") == 2
    assert "give a task of a log" in capsys.readouterr().err


def test_what_tasks_are_called_does_nothing_to_a_terminal() -> None:
    row = Row("t1-x", "a", "FAILED", "now", "\x9b31m\u202e", "\x1b[2J\nforged", "now", 1, given_up=False)
    with terminal() as shown:
        for how in ("table", "ndjson"):
            print_one(row, how)

    assert len(shown.text.splitlines()) == 2
    assert all(c.isprintable() for line in shown.text.splitlines() for c in line)
