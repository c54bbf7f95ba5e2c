"""Services as processes that are forked where the packages of others are imported already.

They are what they would be: a process, session, environment, folder, log and exit code of their own, to be killed or
frozen; only half a second of imports is not done anew for each of hundreds. What is ours is imported by each of them,
for a module may hold what must differ from process to process.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # nothing of ours may be imported where processes are forked
    from a2a_events.testing.deployment import Command, Started

IMPORTED: Final = (
    *("asyncio", "email.message", "importlib.metadata", "ssl", "xml.etree.ElementTree"),
    *(
        "click",
        "httpcore",
        "httptools",
        "msgspec",
        "nats.js",
        "prometheus_client",
        "structlog",
        "uvicorn.main",
        "uvloop",
    ),
    *("litestar.handlers", "litestar.middleware", "litestar.openapi", "litestar.response", "litestar.static_files"),
)
"""What services import of others, as long as it starts no thread."""

_context: Final = multiprocessing.get_context("forkserver")


class Forked:
    """One process; see :class:`~a2a_events.testing.deployment.Started`."""

    def __init__(self, command: Command, environment: Mapping[str, str], folder: Path, log_file: Path) -> None:
        _context.set_forkserver_preload([*IMPORTED, __name__])
        self._process = _context.Process(
            target=_become,
            args=(command.python, command.module, command.code, dict(environment), str(folder), str(log_file)),
            daemon=True,  # it is terminated with this process
        )
        log_file.touch()
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int:
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def launch(command: Command, environment: Mapping[str, str], folder: Path, log_file: Path) -> Started:
    """Fork it, unless it wants another interpreter."""
    if command.python != sys.executable:
        from a2a_events.testing.deployment import execute  # noqa: PLC0415 -- see above

        return execute(command, environment, folder, log_file)
    return Forked(command, environment, folder, log_file)


def _become(python: str, module: str, code: str, environment: Mapping[str, str], folder: str, log_file: str) -> None:
    """Be what ``python -c`` would be."""
    os.setsid()
    output = os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path.insert(0, "")
    sys.argv = ["-c"]
    sys.orig_argv = [python, "-c", code]  # a process may start itself anew
    importlib.import_module(module).main()
