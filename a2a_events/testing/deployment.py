"""A deployment of real processes on this machine: gateways and workers over one nats-server, to be killed at will."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Protocol, Self, TypeAlias

from a2a_events.errors import Unavailable, Uncertain
from a2a_events.services import provisioner
from a2a_events.settings import PREFIX, Settings
from a2a_events.testing.nats import remove_streams, unique_namespace
from a2a_events.testing.waiting import eventually, free_port

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Command:
    """The command line of a service: an interpreter, and the module whose ``main()`` it runs."""

    python: str
    module: str

    @property
    def code(self) -> str:
        """What the interpreter runs."""
        return f"from {self.module} import main; main()"


class Started(Protocol):
    """A process that was started; as of :class:`subprocess.Popen`."""

    pid: int

    def poll(self) -> int | None:
        """The exit code; None: it runs."""

    def wait(self) -> int:
        """Wait for its end; the exit code."""
        ...

    def kill(self) -> None:
        """Send SIGKILL."""

    def send_signal(self, number: int, /) -> None:
        """Send a signal."""


Launch: TypeAlias = Callable[[Command, Mapping[str, str], Path, Path], Started]
"""Starts a command with an environment in a folder; what it writes is appended to a file."""


def execute(command: Command, environment: Mapping[str, str], folder: Path, log_file: Path) -> Started:
    """Start it as an orchestrator would."""
    with log_file.open("ab") as output:
        return subprocess.Popen(
            [command.python, "-c", command.code],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,  # Ctrl-C belongs to the test
        )


class ServiceProcess:
    """One process of a deployment.

    Args:
        role: ``gateway``, ``worker`` or ``notifier``.
        name: of the instance, as it stands in records.
        environment: of the process.
        folder: its current directory; modules there are importable.
        log_file: takes what it writes.
        python: its interpreter.
    """

    launch: ClassVar[Launch] = staticmethod(execute)
    """How processes are started; our own tests, which start hundreds, fork most of them."""

    def __init__(  # noqa: PLR0917 -- what a process is started with
        self,
        role: str,
        name: str,
        environment: Mapping[str, str],
        folder: Path,
        log_file: Path,
        python: str = sys.executable,
    ) -> None:
        self.role = role
        self.name = name
        self.admin_url = f"http://127.0.0.1:{environment.get(f'{PREFIX}ADMIN_PORT', '0')}"
        """Where probes and metrics are, of a deployment with admin ports."""
        self._log_file = log_file
        self._process = ServiceProcess.launch(
            Command(python, f"a2a_events.services.{role}"), environment, folder, log_file
        )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._process.poll() is None

    @property
    def output(self) -> str:
        """Its log so far: JSON lines."""
        return self._log_file.read_text(errors="replace")

    def kill(self) -> None:
        """As a crash would (SIGKILL)."""
        self._process.kill()
        self._process.wait()

    def ask_to_stop(self) -> None:
        """As an orchestrator would (SIGTERM); returns at once."""
        if self.running:
            self._process.send_signal(signal.SIGTERM)

    async def stopped(self, timeout_seconds: float = STOP_SECONDS) -> int:
        """Wait for its end; the exit code.

        Raises:
            TimeoutError: it goes on.
        """
        await eventually(lambda: not self.running, timeout_seconds=timeout_seconds, what=f"the end of {self.name}")
        return self._process.wait()

    async def stop(self) -> int:
        """Stop it in good order; the exit code. One that does not stop is killed."""
        self.ask_to_stop()
        try:
            return await self.stopped()
        except TimeoutError:
            self.kill()
            raise

    async def ready(self) -> None:
        """Wait until it serves.

        Raises:
            RuntimeError: it ended instead; with the end of its log.
            TimeoutError: neither.
        """

        async def up() -> bool:
            if not self.running:
                raise RuntimeError(f"{self.name} ended:\n{self.output[-3000:]}")
            return await self._serves()

        await eventually(up, timeout_seconds=START_SECONDS, what=f"readiness of {self.name}")

    async def _serves(self) -> bool:
        return f'"{self.role} ready"' in self.output


class GatewayProcess(ServiceProcess):
    """A gateway, and where it listens. See :class:`ServiceProcess`."""

    def __init__(self, name: str, environment: Mapping[str, str], folder: Path, log_file: Path, port: int) -> None:
        super().__init__("gateway", name, environment, folder, log_file)
        self.port = port

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self.port}"

    async def _serves(self) -> bool:
        return await _answers(self.port, "/readyz")

    async def knows_agents(self) -> None:
        """Wait until it has found an agent to serve."""
        await eventually(
            lambda: _answers(self.port, "/.well-known/agent-card.json"),
            timeout_seconds=START_SECONDS,
            what=f"an agent at {self.name}",
        )


class Deployment:
    """Gateways, workers and notifiers as processes; ``async with`` starts them and leaves nothing running.

    Args:
        nats: URL of the server, for example from :func:`~a2a_events.testing.nats_server`.
        agents: what the workers serve, as ``module:attr[,module:attr…]``.
        gateways: how many to start.
        workers: how many to start.
        notifiers: how many to start.
        settings: further settings of all processes, by name (``ack_wait_seconds``), as text.
        folder: current directory of the processes; default: this one's.
        admin: whether each process has an admin port.
        worker_python: interpreter of the workers, for agents whose packages do not fit beside those of this process.
    """

    def __init__(
        self,
        nats: str,
        *,
        agents: str = "a2a_events.agents:scripted",
        gateways: int = 1,
        workers: int = 1,
        notifiers: int = 0,
        settings: Mapping[str, str] | None = None,
        folder: Path | None = None,
        admin: bool = False,
        worker_python: str = sys.executable,
    ) -> None:
        self._admin = admin
        self._worker_python = worker_python
        self.nats = nats
        self.namespace = unique_namespace()
        self.gateways: list[GatewayProcess] = []
        self.workers: list[ServiceProcess] = []
        self.notifiers: list[ServiceProcess] = []
        self._counts = (gateways, workers, notifiers)
        self._folder = folder or Path.cwd()
        self._logs = tempfile.TemporaryDirectory(prefix="a2a-events-deployment-")
        values = {"nats": nats, "namespace": self.namespace, "agent": agents, "shards": "2", "log_format": "json"}
        self._settings = {**values, **(settings or {})}

    @property
    def settings(self) -> Settings:
        """The settings that all processes share."""
        return Settings(
            nats=self.nats,
            namespace=self.namespace,
            shards=int(self._settings["shards"]),
            ack_wait_seconds=float(self._settings.get("ack_wait_seconds", Settings().ack_wait_seconds)),
        )

    async def __aenter__(self) -> Self:
        try:
            await provisioner.run(self.settings)
            gateways, workers, notifiers = self._counts
            started: list[ServiceProcess] = [self._worker() for _ in range(workers)]
            started += [self._notifier() for _ in range(notifiers)]
            started += [self._gateway() for _ in range(gateways)]
            await asyncio.gather(*(process.ready() for process in started))
            if workers:
                await asyncio.gather(*(gateway.knows_agents() for gateway in self.gateways))
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def add_gateway(self, port: int | None = None) -> GatewayProcess:
        """Start one more gateway and wait until it serves.

        Args:
            port: to listen on, for one that takes the place of another; default: a free one.
        """
        gateway = self._gateway(port)
        await gateway.ready()
        await gateway.knows_agents()
        return gateway

    async def add_worker(self) -> ServiceProcess:
        """Start one more worker and wait until it takes deliveries."""
        worker = self._worker()
        await worker.ready()
        return worker

    async def add_notifier(self) -> ServiceProcess:
        """Start one more notifier and wait until it takes deliveries."""
        notifier = self._notifier()
        await notifier.ready()
        return notifier

    async def close(self) -> None:
        """Kill what still runs and remove what it left: not its streams, if the server has ended before."""
        for process in [*self.gateways, *self.workers, *self.notifiers]:
            if process.running:
                process.kill()
        self._logs.cleanup()
        with suppress(Unavailable, Uncertain):
            await remove_streams(self.nats, self.namespace)

    def _gateway(self, port: int | None = None) -> GatewayProcess:
        name = f"gateway-{len(self.gateways) + 1}"
        port = port or free_port()
        environment = self._environment(name, port=str(port))
        gateway = GatewayProcess(name, environment, self._folder, self._log_file(name), port)
        self.gateways.append(gateway)
        return gateway

    def _worker(self) -> ServiceProcess:
        name = f"worker-{len(self.workers) + 1}"
        worker = ServiceProcess(
            "worker", name, self._environment(name), self._folder, self._log_file(name), self._worker_python
        )
        self.workers.append(worker)
        return worker

    def _notifier(self) -> ServiceProcess:
        name = f"notifier-{len(self.notifiers) + 1}"
        notifier = ServiceProcess("notifier", name, self._environment(name), self._folder, self._log_file(name))
        self.notifiers.append(notifier)
        return notifier

    def _log_file(self, name: str) -> Path:
        return Path(self._logs.name) / f"{name}.log"

    def _environment(self, name: str, **more: str) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
        values = {**self._settings, "instance": name, **more}
        if self._admin:
            values["admin_port"] = str(free_port())
        return {**inherited, **{f"{PREFIX}{key.upper()}": value for key, value in values.items()}}


async def _answers(port: int, path: str) -> bool:
    """Whether a GET is answered 200; without httpx, which is for the client package."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
