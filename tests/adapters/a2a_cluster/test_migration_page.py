"""``docs/migration.md``: its files are written, its commands are run in their order, and print what the page shows."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
from a2a.server.tasks import DatabaseTaskStore
from a2a.types import TaskState
from sqlalchemy.ext.asyncio import create_async_engine

from a2a_events.settings import PREFIX
from a2a_events.testing import eventually, free_port, remove_streams, unique_namespace
from tests.adapters.a2a_cluster.replicas import ALICE, BOB, new_task
from tests.cli.commands import run_here
from tests.cli.pages import matches
from tests.cli.terminal import terminal

ROOT: Final = Path(__file__).parents[3]
PAGE: Final = (ROOT / "docs" / "migration.md").read_text()
NEEDED: Final = {"2. ": "a2a_events.adapters.a2a_sdk", "3. ": "a2a_events.adapters.fasta2a"}
"""What a section is about; it may be missing where an extra of the package is built without it."""
BEFORE_ITS_BLOCK: Final = re.compile(r"`(\w+\.py)`:\n\n$")

NAMES: Final = [
    (r"\bpc-…", "INSTANCE"),
    (r"\d+ B of state", "STATE"),
    (r"^( *[\d-]+) +\d+ +TIME", r"\1 POSITION TIME"),
]
"""What else differs from run to run, and what stands for it."""


def patched(text: str, diff: str) -> str:
    """A file after the changes that a page shows."""
    lines, at = text.splitlines(), 0
    for change in diff.splitlines():
        mark, line = change[:1], change[1:]
        if mark == "+":
            lines.insert(at, line)
            at += 1
        elif mark in {"-", " "}:
            at = lines.index(line, at)
            if mark == "-":
                del lines[at]
            else:
                at += 1
    return "\n".join(lines) + "\n"


class Reader:
    """Somebody who does what the page says, in a folder of their own."""

    def __init__(
        self, folder: Path, exits: ExitStack, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.folder = folder
        self.commands: list[str] = []
        self._exits = exits
        self._monkeypatch = monkeypatch
        self._running: list[Callable[[], None]] = []
        self._environment = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
        self._ports: dict[str, int] = {}
        self._task = ""

    def read(self, page: str) -> None:
        for section in re.split(r"^## ", page, flags=re.MULTILINE):
            if all(importlib.util.find_spec(module) for title, module in NEEDED.items() if section.startswith(title)):
                self._section(section)

    def _section(self, page: str) -> None:
        written = ""
        for before, language, block in re.findall(r"(.*?)```(\w*)\n(.*?)```", page, re.DOTALL):
            named = BEFORE_ITS_BLOCK.search(before)
            if language == "python":
                assert named, before
                written = named[1]
                (self.folder / written).write_text(block)
            elif language == "diff":
                file = self.folder / written
                file.write_text(patched(file.read_text(), block))
            else:
                for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
                    self._do(command, shown.splitlines())

    def _do(self, command: str, shown: list[str]) -> None:
        self.commands.append(command)
        for number in ("8001", "8002"):
            if number in command:
                command = command.replace(number, str(self._ports.setdefault(number, free_port())))
        program, *arguments = shlex.split(command.replace("TASK", self._task))
        if arguments[0] == "server.py":
            self._serve([sys.executable, *arguments], r"Uvicorn running")
            printed = ""
        elif arguments[0] == "up":
            self._up(arguments)
            printed = ""
        elif program == "a2a-events":
            with terminal() as screen:
                code = run_here(*arguments)
            printed = screen.text
            assert code == 0, printed
        else:
            printed = self._run(arguments)
        assert not shown or matches(shown, printed.splitlines(), NAMES), f"$ {command}\n{printed}"
        if arguments[0] == "tasks":
            found = re.search(r"t1-main-\d+-[\w-]+", printed)
            assert found
            self._task = found[0]

    def _up(self, arguments: list[str]) -> None:
        """Everything in one command, in place of the one that ran before."""
        for stop in self._running:
            stop()
        ports = {f"{PREFIX}PORT": str(free_port()), f"{PREFIX}TIMELINE_PORT": str(free_port())}
        for name in (f"{PREFIX}NATS", f"{PREFIX}NAMESPACE"):
            self._environment.pop(name, None)
        self._environment |= ports
        command = [sys.executable, "-m", "a2a_events.cli", *arguments, "--sync", "2m"]
        self._running = [self._serve(command, r"\nstop +Ctrl-C", signal.SIGINT)]
        self._monkeypatch.setenv(f"{PREFIX}PORT", ports[f"{PREFIX}PORT"])

    def _serve(self, command: list[str], ready: str, end: int = signal.SIGKILL) -> Callable[[], None]:
        log_file = self.folder / f"{len(self.commands)}.log"
        with log_file.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

        def stop() -> None:
            if process.poll() is None:
                os.killpg(process.pid, end)
            process.wait(40)

        self._exits.callback(stop)

        def up() -> bool:
            assert process.poll() is None, log_file.read_text()
            return re.search(ready, log_file.read_text()) is not None

        asyncio.run(eventually(up, timeout_seconds=60))
        return stop

    def _run(self, arguments: list[str]) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


async def fill_database(file: Path) -> None:
    """The tasks that somebody has in SQL: three, of two owners."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{file}")
    store = DatabaseTaskStore(engine)
    for number, context in enumerate((ALICE, BOB, ALICE)):
        await store.save(new_task(f"old-{number}", TaskState.TASK_STATE_COMPLETED), context)
    await engine.dispose()


@pytest.fixture
def reader(tmp_path: Path, nats_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    namespace = unique_namespace()
    settings = {f"{PREFIX}NATS": nats_url, f"{PREFIX}NAMESPACE": namespace}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("a2a_events.services.logs.configure", lambda *_: None)
    asyncio.run(fill_database(tmp_path / "tasks.db"))
    with ExitStack() as exits:
        exits.callback(lambda: asyncio.run(remove_streams(nats_url, namespace)))
        yield Reader(tmp_path, exits, settings, monkeypatch)


@pytest.mark.integration
@pytest.mark.processes
@pytest.mark.timeout(240)
def test_who_does_what_the_page_says_sees_what_it_shows(reader: Reader) -> None:
    reader.read(PAGE)

    done = {" ".join(command.split()[:2]) for command in reader.commands}
    assert {
        "a2a-events provision",
        "python server.py",
        "a2a-events send",
        "a2a-events timeline",
        "python move.py",
    } <= done
