"""``tenant``: nothing is deleted by accident, nothing written over anything, and one bad task spoils no export."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from a2a_events import Turn, agent, limits
from a2a_events.log.jetstream import JetStreamLog
from a2a_events.timeline.bundle import read
from tests.cli.commands import run_here
from tests.integration.stack import stack_of


@agent(name="tenanted")
async def tenanted(turn: Turn) -> None:
    """Asks for more if it is told to ask, and repeats the rest."""
    if turn.text == "ask":
        turn.require_input("what else?")
    else:
        await turn.artifact(turn.text)


def test_deleting_needs_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("tenant", "delete", "acme") == 2
    assert "--yes" in capsys.readouterr().err


@pytest.mark.integration
async def test_what_a_tenant_has_is_exported_and_removed(
    nats_url: str,
    namespace: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "REMOVAL_GRACE_SECONDS", 0.0)
    where, folder = ["--nats", nats_url, "--namespace", namespace], tmp_path / "acme"
    async with stack_of("jetstream", tenanted, nats_url, namespace) as stack:
        await stack.worker()
        acme = stack.calls_of("acme")
        ended, waits = await acme.send_task("one"), await acme.send_task("ask")
        damaged = await acme.send_task("x" * (limits.RECORD_BYTES + 10))
        theirs = await stack.calls_of("other").send_task("two")
        assert isinstance(stack.log, JetStreamLog)
        content = {"filter": f"$O.{stack.log._names.bucket('main')}.C.>"}
        await stack.log._connection.api(f"STREAM.PURGE.OBJ_{stack.log._names.bucket('main')}", content)

        assert await asyncio.to_thread(run_here, "tenant", "export", "acme", str(folder), *where) == 1
        out, err = capsys.readouterr()
        assert out == "exported 2, left out 1\n"
        assert f"task {damaged.id} cannot be read and is left out" in err
        assert {read(file.read_bytes()).task.task_id for file in folder.iterdir()} == {ended.id, waits.id}
        assert folder.stat().st_mode & 0o777 == 0o700
        assert await asyncio.to_thread(run_here, "tenant", "export", "acme", str(folder), *where) == 1
        assert "is not empty" in capsys.readouterr().err

        assert await asyncio.to_thread(run_here, "tenant", "delete", "acme", "--yes", *where) == 1
        out, err = capsys.readouterr()
        assert out == "removed 1, left 2\n"
        assert f"task {waits.id} has not ended" in err
        assert (await stack.calls_of("other").get(theirs.id)).id == theirs.id
