"""Child processes that tell when they are ready, and that end when the benchmark does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
from collections import deque
from collections.abc import Mapping, Sequence

_READY_SECONDS = 30.0
_STOP_SECONDS = 5.0


class StartFailed(Exception):
    """A server did not come up; the message holds what it last said."""


class Process:
    """One child, its output read all the time, so that it never blocks on a full pipe and its last words are known."""

    def __init__(self, name: str, command: Sequence[str], *, ready: str, env: Mapping[str, str] | None = None) -> None:
        self._name = name
        self._command = command
        self._ready = ready.encode()
        self._env = env
        self._child: asyncio.subprocess.Process | None = None
        self._said: deque[bytes] = deque(maxlen=20)
        self._is_ready = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    @property
    def ended(self) -> bool:
        return self._child is not None and self._child.returncode is not None

    async def start(self) -> None:
        """Returns when the child has said the ready words, at once when there are none.

        Raises:
            StartFailed: it ended instead, or said nothing in time.
        """
        self._child = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **(self._env or {})},
            start_new_session=True,  # Ctrl-C is for the benchmark, which stops its children itself
        )
        self._reading = asyncio.create_task(self._read(self._child))
        if not self._ready:
            return
        waiting = asyncio.create_task(self._is_ready.wait())
        try:
            await asyncio.wait([waiting, self._reading], timeout=_READY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if not self._is_ready.is_set():
            await self.stop()
            raise StartFailed(f"{self._name} did not start: {self.last_words()}")

    async def finish(self, within: float) -> None:
        """Waits for a child that ends by itself.

        Raises:
            StartFailed: it did not, or not well.
        """
        assert self._child is not None
        try:
            async with asyncio.timeout(within):
                code = await self._child.wait()
        except TimeoutError:
            await self.stop()
            raise StartFailed(f"{self._name} did not end: {self.last_words()}") from None
        if code:
            raise StartFailed(f"{self._name} ended with {code}: {self.last_words()}")

    async def stop(self) -> None:
        child = self._child
        if child is None:
            return
        if child.returncode is None:
            self._signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await child.wait()
            except TimeoutError:
                self._signal(signal.SIGKILL)
                await child.wait()
        self._signal(signal.SIGKILL)  # whatever it started and left behind
        if self._reading is not None:
            await self._reading

    def last_words(self) -> str:
        return b"".join(self._said).decode(errors="replace").strip() or "it said nothing"

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    async def _read(self, child: asyncio.subprocess.Process) -> None:
        assert child.stdout is not None
        async for line in child.stdout:
            self._said.append(line)
            if self._ready and self._ready in line:
                self._is_ready.set()


def free_port() -> int:
    """A port below the range that outgoing connections take theirs from, of which a run opens thousands."""
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
