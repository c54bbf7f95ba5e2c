"""Child processes that can be killed, stopped and let go on, and that never outlive this process."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_GUARD: Final = "read -r _; kill -9 0"
"""Waits for the end of its standard input, which is the end of whoever started it, and takes its group along."""
_LOOK_SECONDS: Final = 0.02


_given: Final[set[int]] = set()


def port_of_its_own() -> int:
    """A port that nobody listens on, and that is given to no outgoing connection while its owner is away."""
    while True:
        port = random.randint(15_000, 32_000)
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port


class Family:
    """A process group that ends when this process does, however that comes."""

    def __init__(self) -> None:
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,  # of the same session: a process can join no group of another
        )
        self.group = self._guard.pid

    def close(self) -> None:
        """End whoever is left."""
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        self._guard.wait()


class Child:
    """One process: started again and again under the same name.

    Args:
        family: it belongs to.
        name: for reports.
        command: to run.
        environment: of the process.
        log_file: takes what it writes.
    """

    def __init__(
        self, family: Family, name: str, command: Sequence[str], environment: Mapping[str, str], log_file: Path
    ) -> None:
        self.name = name
        self.command = list(command)
        self.environment = dict(environment)
        self.log_file = log_file
        self.starts = 0
        self._begins = 0
        self.paused = False
        self._family = family
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None, "start it first"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it lives; a stopped one does."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Of the last run; None while it lives."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start it; returns before it serves."""
        assert not self.running, f"{self.name} runs already"
        self.starts += 1
        self.paused = False
        self._begins = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.log_file.open("ab") as output:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environment,
                process_group=self._family.group,
            )

    def kill(self) -> bool:
        """As a crash would (SIGKILL); whether it lived until now."""
        if self._process is None or not self.running:
            return False
        self._process.kill()
        self._process.wait()
        return True

    def signal(self, number: signal.Signals) -> bool:
        """Send it a signal; whether it lived."""
        if not self.running:
            return False
        os.kill(self.pid, number)
        return True

    def terminate(self) -> bool:
        """Ask it to end (SIGTERM); whether it lived."""
        return self.signal(signal.SIGTERM)

    def pause(self) -> bool:
        """Stop it where it stands (SIGSTOP); whether it lived."""
        self.paused = self.signal(signal.SIGSTOP)
        return self.paused

    def resume(self) -> None:
        """Let it go on (SIGCONT), if it still lives."""
        if self.paused:
            self.signal(signal.SIGCONT)
        self.paused = False

    async def ended(self, timeout_seconds: float) -> bool:
        """Wait for its end; whether it came."""
        deadline = time.monotonic() + timeout_seconds
        while self.running:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_LOOK_SECONDS)
        return True

    def first_words(self, size: int = 200_000) -> str:
        """The beginning of what this life has logged."""
        with self.log_file.open("rb") as file:
            file.seek(self._begins)
            return file.read(size).decode(errors="replace")

    def last_words(self, size: int = 2000) -> str:
        """The end of its log."""
        return self.log_file.read_text(errors="replace")[-size:] if self.log_file.exists() else ""


async def get(port: int, path: str, *, timeout_seconds: float = 2.0) -> tuple[int, bytes]:
    """Status and body of a GET on loopback; status 0 if nobody answers."""
    try:
        async with asyncio.timeout(timeout_seconds):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
                answer = await reader.read()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return 0, b""
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    return (int(words[1]), body) if len(words) > 1 and words[1].isdigit() else (0, b"")
