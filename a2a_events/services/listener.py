"""Where a service listens, and the HTTP server that does."""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import Any, Final

import uvicorn

BACKLOG: Final = 4096
"""Connections that may wait to be accepted: a thousand clients come back at once when a gateway does."""


class CannotListen(OSError):
    """The address cannot be had; the message names it and says what to do."""


def listen(host: str, port: int, port_flag: str = "--port", host_flag: str = "--host") -> socket.socket:
    """A listening socket.

    Args:
        host: address of this machine.
        port: to listen on.
        port_flag: that chooses another port, for the message.
        host_flag: that chooses another address, likewise.

    Raises:
        CannotListen: somebody else listens there, or there is no such address here.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        made = socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=host == "::")
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CannotListen(
                f"port {port} on {host} is taken by another program; choose another {port_flag}"
            ) from None
        raise CannotListen(
            f"cannot listen on {host}, port {port}: {error.strerror}; choose another {host_flag}"
        ) from None
    # Accepted connections inherit it. asyncio sets it only on sockets that say they are TCP, which these do not, and
    # without it an answer of two writes waits 40 ms for the client's delayed acknowledgement.
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


class Server(uvicorn.Server):
    """uvicorn, stopped by us: signals belong to the process, which may hold more than one service."""

    def capture_signals(self) -> Any:
        """Leave signals alone."""
        return contextlib.nullcontext()
