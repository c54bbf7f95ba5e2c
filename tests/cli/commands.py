"""The command line as its users run it: in this process for words and exit codes, as a process for the rest."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest

from a2a_events.cli import main
from a2a_events.settings import PREFIX
from a2a_events.testing import eventually

MARKER = "CLI_TEST_RUN"


def run_here(*arguments: str) -> int:
    """Run a command in this process; its exit code."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    code = left.value.code
    assert isinstance(code, int)
    return code


def _interruptible() -> None:
    """Whoever starts the tests in the background of a shell has them, and what they start, ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Command:
    """``python -m a2a_events.cli …`` in a session of its own, as a terminal starts it."""

    def __init__(self, *arguments: str, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.mark = uuid.uuid4().hex
        clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        self._files = [(folder / f"{self.mark}.{name}").open("w+b") for name in ("out", "err")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "a2a_events.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._files[0],
            stderr=self._files[1],
            cwd=folder,
            env={**clean, **(environment or {}), MARKER: self.mark},
            start_new_session=True,
            preexec_fn=_interruptible,  # noqa: PLW1509 -- it takes no lock
        )

    @property
    def out(self) -> str:
        """Standard output so far."""
        return self._read(0)

    @property
    def err(self) -> str:
        """Standard error so far."""
        return self._read(1)

    def _read(self, which: int) -> str:
        file = self._files[which]
        return os.pread(file.fileno(), 1 << 24, 0).decode()

    async def prints(self, pattern: str, *, seconds: float = 40.0) -> re.Match[str]:
        """Wait until its output or its log holds a pattern.

        Raises:
            AssertionError: it ended without it.
        """

        def found() -> re.Match[str] | None:
            match = re.search(pattern, self.out + self.err)
            ended = self.process.poll()
            assert match or ended is None, f"ended with {ended}:\n{self.out}\n{self.err}"
            return match

        match: re.Match[str] = await eventually(found, timeout_seconds=seconds, what=pattern)
        return match

    def interrupt(self) -> None:
        """Ctrl-C: the terminal sends it to the whole foreground group."""
        os.killpg(self.process.pid, signal.SIGINT)

    async def end(self, *, seconds: float = 40.0) -> int:
        """Wait for its end; the exit code."""
        return await asyncio.to_thread(self.process.wait, seconds)

    def family(self) -> dict[int, str]:
        """Every process that it started and that still lives, by its inherited environment."""
        found: dict[int, str] = {}
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARKER}={self.mark}".encode() in (directory / "environ").read_bytes().split(b"\0"):
                    found[int(directory.name)] = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue  # gone meanwhile, or a kernel's
        return found

    def close(self) -> None:
        """Kill whatever is left."""
        for pid in self.family():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
        for file in self._files:
            file.close()
