"""``cancel``: an operator ends a task without its client's credentials."""

from __future__ import annotations

import asyncio

import pytest

from a2a_events import Turn, agent
from a2a_events.model import TaskState
from a2a_events.testing import eventually
from tests.cli.commands import run_here
from tests.integration.stack import stack_of

pytestmark = pytest.mark.integration


@agent(name="endless")
async def endless(turn: Turn) -> None:
    """Goes on until somebody stops it."""
    await turn.wait_canceled()


async def test_a_task_of_any_tenant_ends_queued_or_running(
    nats_url: str, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--nats", nats_url, "--namespace", namespace]
    async with stack_of("jetstream", endless, nats_url, namespace) as stack:
        acme = stack.calls_of("acme")
        queued = await acme.send_task("never begun", immediately=True)
        assert await asyncio.to_thread(run_here, "cancel", queued.id, *where) == 0
        assert (await acme.get(queued.id)).status.state is TaskState.CANCELED
        await stack.worker()
        running = await acme.send_task("for ever", immediately=True)

        async def in_state(state: TaskState) -> bool:
            return (await acme.get(running.id)).status.state is state

        await eventually(lambda: in_state(TaskState.WORKING), what="a turn")
        assert await asyncio.to_thread(run_here, "cancel", running.id, *where) == 0
        await eventually(lambda: in_state(TaskState.CANCELED), what="its end")
        assert await asyncio.to_thread(run_here, "cancel", running.id, *where) == 1
    out, err = capsys.readouterr()
    assert out == "canceled\nasked\n"
    assert "has ended: there is nothing to cancel" in err


def test_a_file_or_nothing_at_all_is_refused(
    nats_url: str, namespace_of_a_test: str, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--nats", nats_url, "--namespace", namespace_of_a_test]
    assert run_here("cancel", __file__) == 2
    assert run_here("provision", *where) == 0
    assert run_here("cancel", "t1-main-0-MYdGnZ3czpDQGJQG006fOQ", *where) == 1
    assert run_here("cancel", "word", *where) == 1
    assert "t1-main-0-MYdGnZ3czpDQGJQG006fOQ" in capsys.readouterr().err
