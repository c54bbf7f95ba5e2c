"""``replay``: exit codes, and what is shown of a difference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec import structs

from a2a_events.log.memory import MemoryLog
from a2a_events.runtime.agent import agent
from a2a_events.runtime.transfer import export
from a2a_events.runtime.turn import Turn
from a2a_events.testing import in_memory
from a2a_events.timeline.bundle import read, redacted, write
from tests.cli.commands import run_here


@agent(name="greet")
async def greet(turn: Turn) -> None:
    print("what an agent prints")  # noqa: T201 -- some do
    await turn.artifact(f"Hello, {turn.text}!", artifact_id="greeting")


@agent(name="greet")
async def hostile(turn: Turn) -> None:
    await turn.artifact(f"\x1b[2JHello\u202e, {turn.text}!\n\x9b2J", artifact_id="greeting")


HERE = "tests.cli.test_replay"


@pytest.fixture
async def bundle(tmp_path: Path) -> Path:
    log = MemoryLog()
    async with in_memory(greet, log=log) as calls:
        task = await calls.send_task("Ada")
    found = await log.find(task.id)
    assert found is not None
    recorded = await export(log, found)
    path = tmp_path / "greet.bundle.jsonl"
    path.write_bytes(write(recorded))
    (tmp_path / "redacted.bundle.jsonl").write_bytes(write(redacted(recorded, content=True)))
    await log.close()
    return path


def test_an_unchanged_agent_is_equal(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("replay", str(bundle), "--agent", f"{HERE}:greet") == 0
    out = capsys.readouterr().out
    assert "\nattempt 1 (epoch 1, revisions 2 to 6): equal, 3 events\n" in out
    assert "what an agent prints" not in out


def test_a_changed_agent_is_shown_with_the_first_difference(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("replay", str(bundle), "--agent", "a2a_events.agents:echo") == 1
    out = capsys.readouterr().out
    assert "attempt 1 (epoch 1, revisions 2 to 6): DIFFERS after 0 events" in out
    assert "first difference: revision 4 in artifact.artifactId" in out
    assert "--- recorded: artifactUpdate" in out
    assert "+++ new: artifactUpdate" in out
    assert '\n  -          "text": "Hello, Ada!"' in out
    assert '\n  +          "text": "Ada"' in out


def test_what_an_agent_says_does_nothing_to_the_terminal(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("replay", str(bundle), "--agent", f"{HERE}:hostile") == 1
    out = capsys.readouterr().out
    assert "Hello" in out
    assert all(character.isprintable() or character == "\n" for character in out)


def test_differences_that_are_ignored_are_none(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ignored = ("--ignore", "artifact.artifactId", "--ignore", "artifact.name", "--text", "ignore")
    assert run_here("replay", str(bundle), "--agent", "a2a_events.agents:echo", *ignored) == 0


def test_json_says_the_same(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("replay", str(bundle), "--agent", "a2a_events.agents:echo", "-o", "json") == 1
    shown = json.loads(capsys.readouterr().out)
    assert shown["differs"] is True
    (attempt,) = shown["attempts"]
    assert (1, 2, 6) == (attempt["epoch"], attempt["first"], attempt["last"])
    assert attempt["divergence"]["revision"] == 4
    assert attempt["divergence"]["new"]["artifactUpdate"]["artifact"]["parts"] == [{"text": "Ada"}]


def test_a_bundle_without_content_is_refused(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = bundle.with_name("redacted.bundle.jsonl")
    assert run_here("replay", str(path), "--agent", f"{HERE}:greet") == 2
    assert "what the client wrote was removed" in capsys.readouterr().err


def test_a_damaged_bundle_is_refused(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle.write_bytes(bundle.read_bytes().replace(b"Ada", b"Bob"))
    assert run_here("replay", str(bundle), "--agent", f"{HERE}:greet") == 2
    assert "checksum" in capsys.readouterr().err


def test_a_bundle_of_which_an_event_cannot_be_read_is_refused(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded = read(bundle.read_bytes())
    first, second, *others = recorded.records
    damaged = structs.replace(second, payload=second.payload.replace(b'"epoch":1', b'"epoch":"one"', 1))
    assert damaged != second
    bundle.write_bytes(write(structs.replace(recorded, records=(first, damaged, *others))))
    assert run_here("replay", str(bundle), "--agent", f"{HERE}:greet") == 2
    assert f"{bundle}: an event of the bundle cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--agent", "nowhere:greet"], "cannot import 'nowhere'"),
        (["--agent", f"{HERE}:nobody"], "no attribute 'nobody'"),
        (["--agent", f"{HERE}:HERE"], "expected an Agent"),
        ([], "Missing option '--agent'"),
    ],
)
def test_what_is_no_agent_is_a_mistake_on_the_command_line(
    bundle: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run_here("replay", str(bundle), *arguments) == 2
    assert said in capsys.readouterr().err
