"""``docs/debugging.md``: its agent fails as it says, and ``replay`` prints what it shows."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from a2a_events.log.memory import MemoryLog
from a2a_events.model import TaskState
from a2a_events.runtime.transfer import export, fork
from a2a_events.services.worker import load_agents
from a2a_events.testing import assert_replays, eventually, in_memory, load_bundle
from a2a_events.timeline.bundle import write
from a2a_events.timeline.record import Writer
from tests.cli.commands import run_here

PAGE = (Path(__file__).parents[2] / "docs" / "debugging.md").read_text()


def code(number: int) -> str:
    """A Python block of the page."""
    blocks: list[str] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    return blocks[number]


def shown(number: int) -> str:
    """What the page shows of a replay, from the line of the attempt on."""
    blocks: list[str] = re.findall(r"\$ a2a-events replay .*?\n\n(attempt .*?)\n```", PAGE, re.DOTALL)
    return blocks[number]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the page's agent."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "agents.py").write_text(code(0))
    yield tmp_path
    sys.modules.pop("agents", None)


def fixed(shop: Path) -> None:
    """Fix the agent as the page does."""
    wrong = "        amount = int(count) * price\n"
    assert wrong in code(0)
    (shop / "agents.py").write_text(code(0).replace(wrong, code(1)))
    sys.modules.pop("agents", None)


def printed(text: str) -> str:
    """Output with the ids that the page happens to show."""
    task, context = (re.search(pattern, PAGE) for pattern in (r"task (t1-[\w-]+)", r'"contextId": "(.*?)"'))
    assert task
    assert context
    return re.sub(r'"c-[\w-]+"', f'"{context[1]}"', re.sub(r"t1-main-\d+-[\w-]+", task[1], text))


async def test_the_failure_is_replayed_fixed_and_becomes_a_test(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (broken,) = load_agents("agents:orders")
    log = MemoryLog()
    async with in_memory(broken, log=log) as calls:
        failed = await calls.send_task("2 apple, a pear")
    assert failed.status.state is TaskState.FAILED
    task = await log.find(failed.id)
    assert task is not None
    (shop / "failed.bundle.jsonl").write_bytes(write(await export(log, task)))
    replay = ("replay", "failed.bundle.jsonl", "--agent", "agents:orders")

    assert run_here(*replay) == 0
    assert shown(0) in printed(capsys.readouterr().out)
    fixed(shop)
    assert run_here(*replay) == 1
    assert shown(1) in printed(capsys.readouterr().out)

    (mended,) = load_agents("agents:orders")
    forked = await fork(log, task, 6, Writer("operator", "test"))
    async with in_memory(mended, log=log) as calls:

        async def completed() -> bool:
            return (await calls.get(forked.task_id)).status.state is TaskState.COMPLETED

        await eventually(completed, what="the end of the fork")
    bundle = shop / "an-article.bundle.jsonl"
    bundle.write_bytes(write(await export(log, forked)))
    await log.close()
    assert_replays(load_bundle(bundle), mended)
    with pytest.raises(AssertionError, match="ValueError"):
        assert_replays(bundle, broken)
