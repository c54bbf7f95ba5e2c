"""This project as it is deployed: nats-server, provisioner, one gateway, one worker, all counted."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bench.jobs import Dialect, Server
from bench.processes import Process, free_port

_AGENT = "bench.targets.agent:scripted"
_PROVISION_SECONDS = 30.0
_SETTINGS = {
    "A2A_EVENTS_LOG_LEVEL": "warning",  # the others write no line per request either
    "A2A_EVENTS_TURNS": "6000",  # 5,000 idle tasks are 5,000 turns; the others know no limit
}


class Ours:
    """`sync` is the server's sync_interval: `always` puts every record on disk before it is acknowledged.

    `settings` are more variables of its processes.
    """

    def __init__(self, name: str, sync: str, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._sync = sync
        self._folder = folder
        self._settings = {**_SETTINGS, **(settings or {})}
        self._store: Path | None = None
        self._processes: list[Process] = []

    async def start(self) -> Server:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._store = Path(tempfile.mkdtemp(prefix=f"store-{self._sync}-", dir=self._folder))
        nats_port, port = free_port(), free_port()
        nats_url = f"nats://127.0.0.1:{nats_port}"
        config = self._store / "nats.conf"
        config.write_text(
            f"listen: 127.0.0.1:{nats_port}\n"
            f"jetstream {{ store_dir: {str(self._store)!r}, sync_interval: {self._sync} }}\n"
        )
        binaries = Path(sys.executable).parent
        nats = Process("nats-server", [str(binaries / "nats-server"), "-c", str(config)], ready="Server is ready")
        self._processes.append(nats)
        await nats.start()
        provision = self._command("provision", nats_url, ready="")
        self._processes.append(provision)
        await provision.start()
        await provision.finish(_PROVISION_SECONDS)
        self._processes.remove(provision)
        worker = self._command("worker", nats_url, "--agent", _AGENT, ready="")
        gateway = self._command("gateway", nats_url, "--host", "127.0.0.1", "--port", str(port), ready="")
        for process in (worker, gateway):
            self._processes.append(process)
            await process.start()
        return Server(
            port=port,
            pids=[process.pid for process in self._processes],
            gateway=gateway.pid,
            dialect=Dialect(),
        )

    async def stop(self) -> None:
        for process in reversed(self._processes):
            await process.stop()
        self._processes.clear()
        if self._store is not None:
            shutil.rmtree(self._store, ignore_errors=True)

    def ended(self) -> bool:
        return any(process.ended for process in self._processes)

    def last_words(self) -> str:
        return "\n".join(process.last_words() for process in self._processes[1:])

    def _command(self, name: str, nats_url: str, *options: str, ready: str) -> Process:
        command = [sys.executable, "-m", "a2a_events.cli", name, "--nats", nats_url, *options]
        return Process(name, command, ready=ready, env=self._settings)
