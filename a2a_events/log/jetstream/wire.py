"""The seam to nats-py: publish bytes, and get messages as bytes.

:class:`StockWire` uses the client's public interface only. :class:`RawWire` gives and takes header blocks as they are
on the wire, because building and parsing header dictionaries was most of a gateway's cost (design, hot path 8); it
leans on private names of nats-py and is used only with the version it was written for. Both pass the same tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Final, Protocol, TypeAlias

from nats import errors as nats_errors
from nats.aio.client import Client
from nats.aio.msg import Msg

Sink: TypeAlias = Callable[[str, str, bytes, bytes], None]
"""Takes subject, reply subject, header block and payload of one message. Must not block."""

HEADER_LINE: Final = b"NATS/1.0"
RAW_VERSIONS: Final = ("2.16.",)
"""nats-py versions whose private names :class:`RawWire` was written for."""


class Wire(Protocol):
    """Publish and subscribe on a client that is connected or trying to be."""

    client: Client

    async def publish(self, subject: str, reply: str, headers: bytes, payload: bytes) -> None:
        """Send one message. ``headers`` is a whole header block, or empty."""
        ...

    async def subscribe(self, subject: str, sink: Sink) -> Any:
        """Give a sink every message of a subject, also after reconnects. Returns what :meth:`unsubscribe` takes."""
        ...

    async def unsubscribe(self, token: Any) -> None:
        """Take the sink back."""
        ...


def header_block(fields: dict[str, str]) -> bytes:
    """A header block out of names and values of our own (never a client's string)."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"NATS/1.0\r\n{lines}\r\n".encode()


def header_value(headers: bytes, name: bytes) -> str:
    """One value out of a header block; empty if it is not there."""
    start = headers.find(b"\r\n" + name + b":")
    if start < 0:
        return ""
    start += len(name) + 3
    return headers[start : headers.index(b"\r\n", start)].decode().strip()


def status(headers: bytes) -> int:
    """The status of a header block (``NATS/1.0 404 …``), 0 without one."""
    digits = headers[9:12]
    return int(digits) if digits.isdigit() else 0


class StockWire:
    """nats-py as it is."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def publish(self, subject: str, reply: str, headers: bytes, payload: bytes) -> None:
        """See :class:`Wire`."""
        fields: dict[str, str] | None = None
        if headers:
            pairs = (line.split(":", 1) for line in headers.decode().split("\r\n")[1:] if line)
            fields = {name: value.strip() for name, value in pairs}
        await self.client.publish(subject, payload, reply=reply, headers=fields)

    async def subscribe(self, subject: str, sink: Sink) -> Any:
        """See :class:`Wire`."""

        async def deliver(message: Msg) -> None:
            fields = dict(message.headers or {})
            block = b""
            if fields:
                code = fields.pop("Status", "")
                described = fields.pop("Description", "")
                block = header_block(fields)
                if code:
                    block = b"NATS/1.0 " + f"{code} {described}".strip().encode() + block[len(HEADER_LINE) :]
            sink(message.subject, message.reply, block, message.data)

        client: Any = self.client
        return await client.subscribe(subject, cb=deliver)

    async def unsubscribe(self, token: Any) -> None:
        """See :class:`Wire`."""
        if not self.client.is_closed:
            await token.unsubscribe()


class _Interest:
    """What nats-py needs to know of a subscription to restore it after a reconnect."""

    __slots__ = (
        "_max_msgs",
        "_message_iterator",
        "_pending_next_msgs_calls",
        "_queue",
        "_received",
        "_subject",
        "_wait_for_msgs_task",
    )

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._queue = ""
        self._max_msgs = 0
        self._received = 0
        self._wait_for_msgs_task = None
        self._message_iterator = None
        self._pending_next_msgs_calls = None


class RawClient(Client):
    """nats-py's client, with messages of our subscriptions taken from the parser as bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.sinks: dict[int, Sink] = {}

    async def _process_op_err(self, e: Exception) -> None:
        """Leave a server at once: closing would wait for it to read what was sent, and one that hangs does not."""
        if not self.is_closed and not self.is_reconnecting:
            writer = getattr(self._transport, "_io_writer", None)
            if writer is not None:
                writer.transport.abort()
        await super()._process_op_err(e)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        sink = self.sinks.get(sid)
        if sink is None:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        sink(subject.decode(), reply.decode() if reply else "", headers or b"", data)


class RawWire:
    """nats-py's connection, with our own framing on top."""

    def __init__(self, client: RawClient) -> None:
        self.client: Any = client

    async def publish(self, subject: str, reply: str, headers: bytes, payload: bytes) -> None:
        """See :class:`Wire`."""
        if headers:
            size = len(headers)
            head = f"HPUB {subject} {reply} {size} {size + len(payload)}\r\n".encode()
            await self._send(b"%b%b%b\r\n" % (head, headers, payload))
        else:
            await self._send(b"%b%b\r\n" % (f"PUB {subject} {reply} {len(payload)}\r\n".encode(), payload))

    async def subscribe(self, subject: str, sink: Sink) -> Any:
        """See :class:`Wire`."""
        client = self.client
        client._sid += 1  # noqa: SLF001 -- the seam (module docstring); likewise below
        sid: int = client._sid  # noqa: SLF001
        client._subs[sid] = _Interest(subject)  # noqa: SLF001
        client.sinks[sid] = sink
        await self._send(f"SUB {subject}  {sid}\r\n".encode())
        return sid

    async def unsubscribe(self, token: Any) -> None:
        """See :class:`Wire`."""
        client = self.client
        client.sinks.pop(token, None)
        # Also while there is no connection: what was sent in the meantime waits for the next one, the SUB among it.
        if client._subs.pop(token, None) is not None and not client.is_closed:  # noqa: SLF001
            await self._send(f"UNSUB {token} \r\n".encode())

    async def _send(self, command: bytes) -> None:
        client = self.client
        if client.is_closed:
            raise nats_errors.ConnectionClosedError
        await client._send_command(command)  # noqa: SLF001
        if client._flush_queue.empty():  # noqa: SLF001
            client._flush_queue.put_nowait(asyncio.get_running_loop().create_future())  # noqa: SLF001


def raw_is_safe() -> bool:
    """Whether the installed nats-py is one that :class:`RawWire` was written for."""
    return version("nats-py").startswith(RAW_VERSIONS)
