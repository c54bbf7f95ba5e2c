"""``export``, ``import`` and ``fork`` as processes, against a deployment that runs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from a2a_events.client import Client
from a2a_events.model import Task, TaskState
from a2a_events.services import provisioner
from a2a_events.settings import Settings
from a2a_events.testing import Deployment
from a2a_events.timeline.bundle import read
from tests.cli.commands import Command, run_here

Start = Callable[..., Command]

RECORDED = Path(__file__).parent.parent / "bundles" / "report.bundle.jsonl"
TASK = "t1-main-0-MYdGnZ3czpDQGJQG006fOQ"
CAREFUL = '''
from pathlib import Path

from a2a_events import Turn, agent


@agent()
async def careful(turn: Turn) -> None:
    """Fails as long as there is no permission."""
    await turn.artifact("prepared", artifact_id="one")
    await turn.flush()
    if not Path("permission").exists():
        turn.fail("there is no permission")
        return
    turn.complete("done")
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a bundle in it."""
    shutil.copy(RECORDED, tmp_path / "report")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_bundle_is_named_after_its_task(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("export", "report") == 0
    out, err = capsys.readouterr()
    assert out == f"{TASK}.bundle.jsonl\n"
    assert "36 records, 44 events" in err
    assert (here / f"{TASK}.bundle.jsonl").read_bytes() == RECORDED.read_bytes()
    assert names(here) == {"report", f"{TASK}.bundle.jsonl"}


def test_a_file_that_is_there_is_overwritten_only_by_force(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "kept").write_text("mine")
    assert run_here("export", "report", "-o", "kept") == 1
    assert "kept is there already" in capsys.readouterr().err
    assert (here / "kept").read_text() == "mine"
    assert run_here("export", "report", "-o", "kept", "--force") == 0
    assert (here / "kept").read_bytes() == RECORDED.read_bytes()
    assert names(here) == {"report", "kept"}


def test_a_bundle_that_cannot_be_written_leaves_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_here("export", "report", "-o", "nowhere/file") == 1
    assert "nowhere/file cannot be written: No such file or directory" in capsys.readouterr().err

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert run_here("export", "report", "-o", "new") == 1
    assert "new cannot be written: No space left on device" in capsys.readouterr().err
    assert names(here) == {"report"}


def test_what_is_redacted_is_gone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("export", "report", "-o", "clean", "--redact", "harvest", "--redact", "20[0-9]+") == 0
    content = (here / "clean").read_text()
    assert "About [redacted], please." in content
    assert "harvest" not in content
    assert "rain.csv" in content
    assert run_here("export", "clean", "-o", "cleaner", "--redact-content") == 0
    assert "rain.csv" not in (here / "cleaner").read_text()
    assert read((here / "cleaner").read_bytes()).redacted
    capsys.readouterr()
    assert run_here("timeline", "cleaner") == 0
    assert len(capsys.readouterr().out.splitlines()) == 44


async def ran(start: Start, *arguments: str, code: int = 0) -> str:
    """What a command printed."""
    command = start(*arguments)
    assert await command.end() == code, command.err
    assert "Traceback" not in command.err
    return command.out if code == 0 else command.err


@pytest.mark.integration
@pytest.mark.processes
async def test_a_task_that_is_exported_and_imported_is_the_same_task(
    nats_url: str, namespace: str, start: Start, tmp_path: Path
) -> None:
    await provisioner.run(Settings(nats=nats_url, namespace=namespace, shards=1))
    place = ("--nats", nats_url, "--namespace", namespace)
    assert await ran(start, "import", str(RECORDED), *place) == f"{TASK}\n"
    for revision in (12, 44):
        recorded = await ran(start, "show", f"{RECORDED}@{revision}")
        assert await ran(start, "show", f"{TASK}@{revision}", *place) == recorded
    assert await ran(start, "import", str(RECORDED), *place) == f"{TASK}\n"  # again: nothing more
    exported = await ran(start, "export", TASK, *place)
    bundle, original = read((tmp_path / exported.strip()).read_bytes()), read(RECORDED.read_bytes())
    assert [record.header.kinds for record in bundle.records] == [record.header.kinds for record in original.records]

    other = (await ran(start, "import", str(RECORDED), "--new-id", *place)).strip()
    assert other != TASK
    renamed = (await ran(start, "show", other, *place)).replace(other, TASK)
    assert renamed == await ran(start, "show", str(RECORDED))


@pytest.mark.integration
@pytest.mark.processes
async def test_another_task_of_the_same_id_is_not_written_over(
    nats_url: str, namespace: str, start: Start, tmp_path: Path
) -> None:
    await provisioner.run(Settings(nats=nats_url, namespace=namespace, shards=1))
    place = ("--nats", nats_url, "--namespace", namespace)
    await ran(start, "import", str(RECORDED), *place)
    before = await ran(start, "timeline", TASK, *place)
    content = RECORDED.read_bytes()
    forged = content.replace(b"97a6855bcb1927827f", b"000000000000000000").rsplit(b"\n", 2)[0] + b"\n"
    (tmp_path / "forged").write_bytes(forged + b'{"sha256":"%b"}\n' % hashlib.sha256(forged).hexdigest().encode())
    refused = await ran(start, "import", "forged", *place, code=1)
    assert f"not imported: there is another task {TASK} here: import it under a new id" in refused
    assert await ran(start, "timeline", TASK, *place) == before
    elsewhere = await ran(start, "import", str(RECORDED), "--log", "other", *place, code=3)
    assert "log 'other' has no streams" in elsewhere


@pytest.mark.integration
@pytest.mark.processes
async def test_a_failed_task_is_forked_before_its_failure_and_completes(
    nats_url: str, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "careful_agent.py").write_text(CAREFUL)
    async with Deployment(nats_url, agents="careful_agent:careful", folder=tmp_path) as deployment:
        async with Client(deployment.gateways[0].url) as client:
            failed = await client.send("do it")
        assert isinstance(failed, Task)
        assert failed.status.state is TaskState.FAILED
        place = ("--nats", nats_url, "--namespace", deployment.namespace)
        rows: list[Any] = [json.loads(line) for line in (await ran(start, "timeline", failed.id, *place)).splitlines()]
        [said] = [row["revision"] for row in rows if row["kind"] == "artifactUpdate"]
        refused = await ran(start, "fork", f"{failed.id}@{rows[-1]['revision']}", *place, code=1)
        assert "not forked" in refused
        assert "had ended by revision" in refused
        assert "revisions 1 to" in await ran(start, "fork", f"{failed.id}@99", *place, code=1)

        (tmp_path / "permission").touch()
        forking = start("fork", f"{failed.id}@{said}", *place)
        assert await forking.end() == 0
        new = forking.out.strip()
        assert f"timeline --follow {new} --nats {nats_url} --namespace {deployment.namespace}" in forking.err
        followed = await ran(start, "timeline", "--follow", new, *place)
        assert json.loads(followed.splitlines()[-1])["state"] == "COMPLETED"
        assert f"forked from {failed.id}@{said}" in followed
        again: list[Any] = [json.loads(line) for line in (await ran(start, "timeline", failed.id, *place)).splitlines()]
        assert again == rows
