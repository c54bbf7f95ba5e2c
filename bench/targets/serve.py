"""One way to serve for all comparators: uvicorn with uvloop and httptools, no logs, one process."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

READY = "ready"


class _Announced(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(READY, flush=True)


def serve(app: Callable[[int], Callable[..., Any]]) -> None:
    """Serves what `app` makes for a port."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    port: int = parser.parse_args().port
    config = uvicorn.Config(
        app(port),
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_level="critical",
        access_log=False,
        backlog=4096,
        timeout_graceful_shutdown=1,
        timeout_keep_alive=75,
    )
    _Announced(config).run()
