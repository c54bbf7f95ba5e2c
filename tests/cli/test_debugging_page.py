"""``docs/debugging.md``: every command on it is run, in its order, on a terminal, and prints what the page shows."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from a2a_events.settings import PREFIX
from a2a_events.testing import free_port
from tests.cli.commands import Command, run_here
from tests.cli.pages import matches
from tests.cli.terminal import terminal

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "debugging.md").read_text()
FILES: Final = ["agents.py", "the fix", "tests/test_recorded.py", "tests/test_tolerant.py"]
"""What the Python blocks of the page are, in their order."""
WRONG: Final = "        amount = int(count) * price\n"
FAILING: Final = ["send", "replay after the fix"]
"""What exits with 1: the task failed, and the fixed agent says something else than was recorded."""

NAMES: Final = [
    (r"\bc-[\w-]{20}", "CONTEXT"),
    (r"\b\d{13}\b", "MILLISECONDS"),
    (r"\d+ (ms|s) ago", "AGE"),
    # How events met in records depends on how busy the machine is.
    (r'"position":\d+', "POSITION"),
    (r"(position|sign|generation) +\d+ → \d+", "POSITIONS"),
    (r"^( *\d+) +\d+ +TIME", r"\1 POSITION TIME"),
]
"""What else differs from run to run, and what stands for it."""


class Reader:
    """Somebody who does what the page says, in a folder of their own."""

    def __init__(self, folder: Path, start: Callable[..., Command], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.commands: list[str] = []
        self._start = start
        self._monkeypatch = monkeypatch
        self._up: Command | None = None
        self._files = iter(FILES)
        self._ids: dict[str, str] = {}

    def read(self, page: str) -> None:
        for language, block in re.findall(r"```(\w*)\n(.*?)```", page, re.DOTALL):
            if language == "python":
                self._edit(next(self._files), block)
            elif language == "toml":
                (self.folder / "pyproject.toml").write_text(block)
            else:
                for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
                    self._do(command, shown.splitlines())

    def _edit(self, name: str, code: str) -> None:
        sys.modules.pop("agents", None)
        if name == "the fix":
            name, before = "agents.py", (self.folder / "agents.py").read_text()
            assert WRONG in before
            code = before.replace(WRONG, code)
            self._fixed = True
        (self.folder / name).write_text(code)

    _fixed = False

    def _do(self, command: str, shown: list[str]) -> None:
        self.commands.append(command)
        for name, task_id in self._ids.items():
            command = re.sub(rf"\b{name}\b", task_id, command)
        program, *arguments = shlex.split(command)
        if program != "a2a-events":
            printed = self._run(program, *arguments)
        elif arguments[0] == "up":
            printed = self._serve(*arguments)
        else:
            with terminal() as screen:
                code = run_here(*arguments)
            printed = screen.text
            expected = arguments[0] + (" after the fix" if arguments[0] == "replay" and self._fixed else "")
            assert code == (1 if expected in FAILING else 0), printed
        assert not shown or matches(shown, printed.splitlines(), NAMES), f"$ {command}\n{printed}"
        for name, of in (("TASK", "send"), ("FORK", "fork")):
            if arguments and arguments[0] == of:
                found = re.search(r"t1-main-\d+-[\w-]+", printed)
                assert found
                self._ids[name] = found[0]

    def _serve(self, *arguments: str) -> str:
        async def serving() -> Command:
            if self._up is not None:
                self._up.interrupt()
                assert await self._up.end() == 0
            ports = {f"{PREFIX}PORT": str(self._port), f"{PREFIX}TIMELINE_PORT": str(free_port())}
            up = self._start(*arguments, "--sync", "2m", PYTHONPATH=str(ROOT), **ports)
            await up.prints(r"\nstop +Ctrl-C")
            return up

        self._port = free_port(2)
        self._up = asyncio.run(serving())
        self._monkeypatch.setenv(f"{PREFIX}PORT", str(self._port))
        self._monkeypatch.setenv(f"{PREFIX}NATS", re.findall(r"^nats +(\S+)", self._up.out, re.MULTILINE)[0])
        return self._up.out

    def _run(self, program: str, *arguments: str) -> str:
        command = [program, *arguments]
        if program == "pytest":
            command = [sys.executable, "-m", "pytest", "-p", "a2a_events.testing.pytest_plugin", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "80"}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def reader(tmp_path: Path, start: Callable[..., Command], monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "dumb")
    yield Reader(tmp_path, start, monkeypatch)
    sys.modules.pop("agents", None)


@pytest.mark.integration
@pytest.mark.processes
@pytest.mark.timeout(300)
def test_who_does_what_the_page_says_sees_what_it_shows(reader: Reader) -> None:
    reader.read(PAGE)

    done = {command.split()[1] for command in reader.commands if command.startswith("a2a-events ")}
    assert {"up", "send", "tasks", "stuck", "timeline", "show", "diff", "export", "replay", "fork", "watch"} <= done
    assert sum(command.startswith("pytest") for command in reader.commands) == 3
