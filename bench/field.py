"""The servers that are compared, started for one group of cells and measured in turn."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Protocol

import msgspec

from bench.jobs import Answer, Dialect, Job, Order, Script, Server, Streams
from bench.processes import Process, StartFailed, free_port
from bench.targets.ours import Ours
from bench.targets.serve import READY

_FIRST_ANSWER_SECONDS = 20.0
_GRACE_SECONDS = 20.0


class Failed(Exception):
    """A measurement that a target did not get through: shown in the table in the place of its numbers."""


class Target(Protocol):
    name: str

    async def start(self) -> Server: ...
    async def stop(self) -> None: ...
    def ended(self) -> bool: ...
    def last_words(self) -> str: ...


class Comparator:
    """Another server: one process, a module of `bench.targets`."""

    def __init__(self, name: str, module: str, dialect: Dialect) -> None:
        self.name = name
        self._module = module
        self._dialect = dialect
        self._process: Process | None = None

    async def start(self) -> Server:
        port = free_port()
        command = [sys.executable, "-m", f"bench.targets.{self._module}", "--port", str(port)]
        self._process = Process(self.name, command, ready=READY)
        await self._process.start()
        pid = self._process.pid
        return Server(port=port, pids=[pid], gateway=pid, dialect=self._dialect)

    async def stop(self) -> None:
        if self._process is not None:
            await self._process.stop()

    def ended(self) -> bool:
        return self._process is not None and self._process.ended

    def last_words(self) -> str:
        return "" if self._process is None else self._process.last_words()


SDK, FASTA2A, BARE = "a2a-sdk", "fasta2a", "bare"
_SLASHED = Dialect(
    stream="message/stream",
    send="message/send",
    get="tasks/get",
    subscribe="tasks/resubscribe",
    role="user",
    completed='"completed"',
)


def ours_name(sync: str) -> str:
    return f"ours {sync}"


def all_targets(syncs: list[str], folder: Path) -> list[Target]:
    return [
        *(Ours(ours_name(sync), sync, folder) for sync in syncs),
        Comparator(SDK, "a2a_sdk", Dialect()),
        Comparator(FASTA2A, "fasta2a", _SLASHED),
        Comparator(BARE, "bare", Dialect()),
    ]


class Standing:
    """A target that is up, with what cells remember of it (the tasks they made)."""

    def __init__(self, target: Target) -> None:
        self.name = target.name
        self._target = target
        self._server: Server | None = None
        self.made: dict[int, str] = {}

    async def start(self) -> None:
        """Up means that it has run a task: a gateway may well listen before any worker does.

        Raises:
            Failed: it did not come up.
        """
        try:
            self._server = await self._target.start()
        except StartFailed as error:
            await self._target.stop()
            raise Failed(str(error)) from error
        first = Streams(clients=1, script=Script(chunks=1), seconds=0)
        why = ""
        try:
            async with asyncio.timeout(_FIRST_ANSWER_SECONDS):
                while True:
                    try:
                        await self.load(first, timeout=5.0)
                        return
                    except Failed as error:
                        # Servers say on no common channel that they are ready, so they are asked.
                        why = str(error)
                        if self._target.ended():
                            raise TimeoutError from None
                        await asyncio.sleep(0.2)
        except TimeoutError:
            words = self._target.last_words()
            await self.stop()
            raise Failed(f"ran no task: {why}; {words}") from None

    async def stop(self) -> None:
        self._server = None
        self.made.clear()
        await self._target.stop()

    async def restart(self) -> None:
        """After a failure: what it left running must not disturb the next in turn."""
        await self.stop()
        await self.start()

    async def load(self, job: Job, *, timeout: float) -> Answer:
        """Has the load client do a job.

        Raises:
            Failed: the target did not get through it.
        """
        if self._server is None:
            raise Failed("not running")
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bench.load",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        order = msgspec.json.encode(Order(server=self._server, job=job, timeout=timeout))
        try:
            async with asyncio.timeout(timeout + _GRACE_SECONDS):
                output, errors = await child.communicate(order)
        except TimeoutError:
            raise Failed("the load client hangs") from None
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        if child.returncode:
            raise Failed(f"the load client broke: {errors.decode(errors='replace')[-500:]}")
        answer = msgspec.json.decode(output, type=Answer)
        if answer.failure is not None:
            raise Failed(answer.failure)
        return answer
