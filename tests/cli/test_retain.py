"""``retain``: what it says, and what it refuses."""

from __future__ import annotations

import asyncio

import pytest

from a2a_events import Turn, agent, limits
from a2a_events.errors import TaskNotFoundError
from a2a_events.model import TaskState
from tests.cli.commands import run_here
from tests.integration.stack import stack_of

MOMENT = "0.000000001"
"""Days."""


def test_ages_are_over_nothing_and_tombstones_stay_longer(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("retain") == 2
    assert run_here("retain", "--days", "0") == 2
    assert run_here("retain", "--days", "30", "--tombstone-days", "30") == 2
    assert "must be over --days" in capsys.readouterr().err


@agent(name="kept")
async def kept(turn: Turn) -> None:
    """Asks for more if it is told to ask, and repeats the rest."""
    if turn.text == "ask":
        turn.require_input("what else?")
    else:
        await turn.artifact(turn.text)


@pytest.mark.integration
async def test_it_says_how_many_were_removed(
    nats_url: str, namespace: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REMOVAL_GRACE_SECONDS", 0.0)

    async def said(*options: str) -> str:
        where = ["--nats", nats_url, "--namespace", namespace]
        assert await asyncio.to_thread(run_here, "retain", *options, *where) == 0
        return capsys.readouterr().out

    async with stack_of("jetstream", kept, nats_url, namespace) as stack:
        await stack.worker()
        gone = [await stack.calls.send_task(word) for word in ("one", "two", "three")]
        waits = await stack.calls.send_task("ask")
        assert await said("--days", "1") == "removed 0, tombstones 0\n"
        assert await said("--days", MOMENT) == "removed 3, tombstones 0\n"
        for task in gone:
            with pytest.raises(TaskNotFoundError):
                await stack.calls.get(task.id)
        assert (await stack.calls.get(waits.id)).status.state is TaskState.INPUT_REQUIRED
        assert await said("--days", MOMENT, "--tombstone-days", "1") == "removed 0, tombstones 0\n"
        assert await said("--days", MOMENT, "--tombstone-days", f"{MOMENT}1") == "removed 0, tombstones 3\n"
