"""TCP links that can be broken: cut, held, made to lose bytes in one direction, slow, dribbling, reset.

One :class:`Link` stands for the way from one process to another. TCP never loses a byte of a connection that lives, so
a link that has swallowed some resets its connections when it heals; one that has only held them delivers them late.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from enum import Enum
from typing import Final, cast

from msgspec import Struct

HELD_BYTES: Final = 256 * 1024
"""What one direction of a connection may have waiting before its sender is not read any longer."""
DRIBBLE_SECONDS: Final = 0.02
"""How often a dribbling direction lets a few bytes through."""


class Way(Enum):
    """A direction: towards the server, or back."""

    UP = 0
    DOWN = 1


class Mode(Enum):
    """What happens to the bytes of one direction."""

    THROUGH = "through"
    HOLD = "hold"
    LOSE = "lose"
    DELAY = "delay"
    DRIBBLE = "dribble"


class Injury(Struct):
    """What a link has done so far: the evidence that a fault bit."""

    lost_bytes: int = 0
    held_bytes: int = 0
    late_bytes: int = 0
    resets: int = 0
    refused: int = 0


class Link:
    """A port of this machine that forwards to another, until told otherwise.

    Args:
        name: for reports.
        target: port of loopback to forward to.
    """

    def __init__(self, name: str, target: int) -> None:
        self.name = name
        self.target = target
        self.port = 0
        self.injury = Injury()
        self.delay_seconds = 0.0
        self.dribble_bytes = 16
        self.refusing = False
        self.modes = [Mode.THROUGH, Mode.THROUGH]
        self._pairs: set[_Pair] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen; :attr:`port` says where."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Pair(self).near, "127.0.0.1", self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and end every connection."""
        if self._server is not None:
            self._server.close()
        for pair in list(self._pairs):
            pair.abort()

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return len(self._pairs)

    @property
    def waiting_bytes(self) -> int:
        """What it has taken and not yet given."""
        return sum(side.waiting_bytes + side.unwritten_bytes for pair in self._pairs for side in (pair.near, pair.far))

    # --- faults -------------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """End every connection and refuse new ones, as a server that is not there."""
        self.refusing = True
        self.reset()

    def reset(self) -> None:
        """End every connection with RST, once."""
        for pair in list(self._pairs):
            self.injury.resets += 1
            pair.abort()

    def hold(self, *ways: Way) -> None:
        """Let nothing through, and nobody know: as a cable that is unplugged (both ways unless told)."""
        self._set(Mode.HOLD, ways)

    def lose(self, *ways: Way) -> None:
        """Swallow what is sent. Connections that lost something are reset at :meth:`heal`."""
        self._set(Mode.LOSE, ways)

    def delay(self, seconds: float, *ways: Way) -> None:
        """Deliver everything later."""
        self.delay_seconds = seconds
        self._set(Mode.DELAY, ways)

    def dribble(self, size: int, *ways: Way) -> None:
        """Deliver a few bytes at a time."""
        self.dribble_bytes = size
        self._set(Mode.DRIBBLE, ways)

    def heal(self) -> None:
        """As new. What was held is delivered now; what lost bytes is reset."""
        self.refusing = False
        self.modes = [Mode.THROUGH, Mode.THROUGH]
        for pair in list(self._pairs):
            pair.healed()

    def _set(self, mode: Mode, ways: tuple[Way, ...]) -> None:
        for way in ways or tuple(Way):
            self.modes[way.value] = mode

    # --- connections --------------------------------------------------------------------------------------------------

    @property
    def unreachable(self) -> bool:
        """Whether a new connection could not be made now, and would not be refused either."""
        return any(mode in {Mode.HOLD, Mode.LOSE} for mode in self.modes)

    def enter(self, pair: _Pair) -> None:
        """A connection was made."""
        self._pairs.add(pair)

    def leave(self, pair: _Pair) -> None:
        """A connection is over."""
        self._pairs.discard(pair)


class _Pair:
    """One connection: the side near the client, and the one to the server."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.near = _Side(self, Way.UP)
        self.far = _Side(self, Way.DOWN)
        self.damaged = False
        self.dialing: asyncio.Task[None] | None = None

    def accepted(self) -> None:
        if self.link.refusing:
            self.link.injury.refused += 1
            self.abort()
            return
        self.link.enter(self)
        if not self.link.unreachable:
            self.dial()

    def dial(self) -> None:
        if self.dialing is None:
            self.dialing = asyncio.get_running_loop().create_task(self._dial())

    async def _dial(self) -> None:
        try:
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: self.far, "127.0.0.1", self.link.target)
        except OSError:
            self.abort()
            return
        self.near.flush()

    def other(self, side: _Side) -> _Side:
        return self.far if side is self.near else self.near

    def healed(self) -> None:
        if self.damaged:
            self.link.injury.resets += 1
            self.abort()
        elif self.far.transport is None and not self.near.over:
            self.dial()
        else:
            self.near.flush()
            self.far.flush()

    def ended(self, side: _Side) -> None:
        """One side is gone: so is the other, once it has what was sent; unless the link hides it."""
        other = self.other(side)
        if other.over or other.transport is None:
            self.link.leave(self)
        elif not side.waiting and self.link.modes[side.way.value] not in {Mode.HOLD, Mode.LOSE}:
            other.transport.close()

    def abort(self) -> None:
        self.link.leave(self)
        for side in (self.near, self.far):
            if side.transport is not None and not side.over:
                sock = side.transport.get_extra_info("socket")
                if sock is not None:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                side.transport.abort()


class _Side(asyncio.Protocol):
    """Reads one end, and writes what the link lets through to the other."""

    def __init__(self, pair: _Pair, way: Way) -> None:
        self.pair = pair
        self.way = way
        self.transport: asyncio.Transport | None = None
        self.over = False
        self.waiting: deque[tuple[float, bytes]] = deque()
        self.waiting_bytes = 0
        self.timer: asyncio.TimerHandle | None = None
        self.clogged = False

    @property
    def unwritten_bytes(self) -> int:
        """What this end has not taken yet."""
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are none of asyncio's classes
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.way is Way.UP:
            self.pair.accepted()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature
        self.over = True
        self.pair.ended(self)

    def data_received(self, data: bytes) -> None:
        link = self.pair.link
        mode = link.modes[self.way.value]
        peer = self.pair.other(self).transport
        if mode is Mode.THROUGH and not self.waiting and peer is not None:
            if not peer.is_closing():  # one that closes would say so by an error, where asyncio's own loop says nothing
                peer.write(data)
            return
        if mode is Mode.LOSE:
            self.pair.damaged = True
            link.injury.lost_bytes += len(data)
            return
        now = asyncio.get_running_loop().time()
        due = now + link.delay_seconds if mode is Mode.DELAY else now
        if mode is Mode.HOLD:
            link.injury.held_bytes += len(data)
        elif mode is not Mode.THROUGH:
            link.injury.late_bytes += len(data)
        self.waiting.append((due, data))
        self.waiting_bytes += len(data)
        self.throttle()
        if self.timer is None:
            self.flush()

    def flush(self) -> None:
        """Send on what may go now, and come back for the rest."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        loop = asyncio.get_running_loop()
        link = self.pair.link
        mode = link.modes[self.way.value]
        peer = self.pair.other(self)
        if mode in {Mode.HOLD, Mode.LOSE} or peer.transport is None or peer.over or peer.transport.is_closing():
            return
        while self.waiting:
            due, data = self.waiting[0]
            if mode is Mode.DELAY and due > loop.time():
                self.timer = loop.call_at(due, self._timed)
                break
            if mode is Mode.DRIBBLE:
                peer.transport.write(data[: link.dribble_bytes])
                self.waiting_bytes -= len(data[: link.dribble_bytes])
                self.waiting.popleft()
                if rest := data[link.dribble_bytes :]:
                    self.waiting.appendleft((due, rest))
                self.timer = loop.call_later(DRIBBLE_SECONDS, self._timed)
                break
            self.waiting.popleft()
            self.waiting_bytes -= len(data)
            peer.transport.write(data)
        self.throttle()
        if self.over and not self.waiting:
            self.pair.ended(self)

    def _timed(self) -> None:
        self.timer = None
        self.flush()

    # A peer that does not read must be felt by the sender, not by our memory.

    def pause_writing(self) -> None:
        other = self.pair.other(self)
        other.clogged = True
        other.throttle()

    def resume_writing(self) -> None:
        other = self.pair.other(self)
        other.clogged = False
        other.throttle()

    def throttle(self) -> None:
        """Read this end as long as the other takes what comes."""
        if self.transport is None or self.over:
            return
        if self.clogged or self.waiting_bytes > HELD_BYTES:
            self.transport.pause_reading()
        elif not self.transport.is_closing():
            self.transport.resume_reading()
