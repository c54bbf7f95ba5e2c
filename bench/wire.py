"""The least HTTP/1.1 and SSE a load client needs, on a bare asyncio protocol.

It shares two cores with the servers it measures, so it does its work on whole blocks of frames at once: the bytes of
a read are joined, cut at the last frame that is complete, and searched with methods that run in C. An HTTP library
costs several times what the faster of the servers do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import cast

_TEXT_KEYS = (b'"text":"', b'"text": "')  # with and without the blank that json.dumps leaves
NUMBERS: list[bytes] = [b"%06d" % number for number in range(10_001)]


class Broken(Exception):
    """The server did not do what a server must."""


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request at a time; the body goes to `receive` as it comes."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._receive: Callable[[bytes], None] = _ignore
        self._done: asyncio.Future[None] | None = None
        self._rest = b""
        self._in_head = True
        self._missing: int | None = None  # of a body with a length; None while it is chunked

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's does not derive from asyncio's

    @property
    def closed(self) -> bool:
        return self.transport is None or self.transport.is_closing()

    def exchange(self, request: bytes, receive: Callable[[bytes], None]) -> asyncio.Future[None]:
        assert self.transport is not None
        self._receive = receive
        self._in_head = True
        self._rest = b""
        self._done = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._done

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(Broken(f"connection lost: {exc or 'closed by the server'}"))
        self.transport = None

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
            self._rest = b""
        if self._in_head:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._rest = data
                return
            head = data[:end].lower()
            data = data[end + 4 :]
            self._in_head = False
            if not head.startswith(b"http/1.1 200"):
                self._fail(Broken(f"{head.splitlines()[0].decode()} {data[:200].decode(errors='replace')}"))
                self.close()
                return
            at = head.find(b"\r\ncontent-length:")
            self._missing = None if at < 0 else int(head[at + 17 :].split(b"\r\n", 1)[0])
        try:
            if self._missing is None:
                self._chunked(data)
            else:
                self._missing -= len(data)
                self._receive(data)
                if self._missing <= 0:
                    self._finish()
        except Broken as error:
            self._fail(error)
            self.close()
        except (ValueError, KeyError) as error:
            self._fail(Broken(f"{error!r} in {data[:200]!r}"))
            self.close()

    def _chunked(self, data: bytes) -> None:
        pieces: list[bytes] = []
        at = 0
        ended = False
        while (line := data.find(b"\r\n", at)) >= 0:
            size = int(data[at:line], 16)
            stop = line + 2 + size
            if len(data) < stop + 2:
                break
            at = stop + 2
            if size == 0:
                ended = True
                break
            pieces.append(data[line + 2 : stop])
        self._rest = data[at:]
        if pieces:
            self._receive(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if ended:
            self._finish()

    def _finish(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _fail(self, error: Broken) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)


def _ignore(_: bytes) -> None:
    pass


class Frames:
    """Cuts a body into blocks of whole SSE frames."""

    __slots__ = ("_tail", "first_at", "separator")

    def __init__(self) -> None:
        self.first_at = 0.0
        self.separator = b""
        self._tail = b""

    def __call__(self, data: bytes) -> None:
        if self._tail:
            data = self._tail + data
        if not self.separator:
            self.separator = b"\r\n\r\n" if b"\r\n" in data else b"\n\n"
        cut = data.rfind(self.separator)
        if cut < 0:
            self._tail = data
            return
        cut += len(self.separator)
        self._tail = data[cut:]
        block = data[:cut]
        if not self.first_at and b"data:" in block:
            self.first_at = time.perf_counter()
        self.on_block(block)

    def on_block(self, block: bytes) -> None:
        raise NotImplementedError

    def leftover(self) -> str:
        return self._tail[:300].decode(errors="replace")


class Tally:
    """What all streams of a run add to."""

    def __init__(self, expected: int, completed: str, *, stamped: bool) -> None:
        self.expected = expected
        self.completed = completed.encode()
        self.stamped = stamped
        self.events = 0
        self.text = b""
        self.delays: list[int] = []
        self.next_mark = 0
        self.on_mark: Callable[[], None] = lambda: None

    def texts(self, block: bytes) -> list[bytes]:
        """What follows each `"text":"` of the block."""
        if not self.text:
            self.text = next((key for key in _TEXT_KEYS if key in block), b"")
            if not self.text:
                return []
        return block.split(self.text)[1:]


class TaskStream(Frames):
    """One streamed task: every chunk's number in its place, then the terminal event, then nothing."""

    __slots__ = ("_seen", "_tally", "chunk_at", "terminal_at")

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self._tally = tally
        self._seen = 0
        self.chunk_at = 0.0
        self.terminal_at = 0.0

    def on_block(self, block: bytes) -> None:
        tally = self._tally
        chunks = block.count(b'"artifactUpdate"')
        if chunks:
            texts = tally.texts(block)
            seen = self._seen
            self._seen = seen + chunks
            if [text[:6] for text in texts] != NUMBERS[seen : min(seen + chunks, tally.expected)] or self.terminal_at:
                raise Broken(
                    f"expected chunk {seen} of {tally.expected}, got {texts[0][:6] if texts else block[:200]!r}"
                )
            if not self.chunk_at:
                self.chunk_at = time.perf_counter()
            if tally.stamped:
                now = time.time_ns()
                tally.delays.extend([now - int(text[7:26]) for text in texts])
        statuses = block.count(b'"statusUpdate"')
        if statuses and tally.completed in block:
            if self._seen != tally.expected or block.rfind(b'"artifactUpdate"') > block.rfind(tally.completed):
                raise Broken(f"terminal event after {self._seen} of {tally.expected} chunks")
            self.terminal_at = time.perf_counter()
        tally.events += chunks + statuses
        if tally.next_mark and tally.events >= tally.next_mark:
            tally.on_mark()

    def check_ended(self) -> None:
        if not self.terminal_at:
            raise Broken(f"stream ended after {self._seen} of {self._tally.expected} chunks: {self.leftover()}")


class Subscription(Frames):
    """A stream of a task that has begun already: the Task first, then chunks without a gap."""

    __slots__ = ("_last", "_on_chunk", "_on_first", "_tally")

    def __init__(self, tally: Tally, on_first: Callable[[bytes], None], on_chunk: Callable[[int, int], None]) -> None:
        super().__init__()
        self._tally = tally
        self._on_first: Callable[[bytes], None] | None = on_first
        self._on_chunk = on_chunk
        self._last = -1

    def on_block(self, block: bytes) -> None:
        now = time.time_ns()
        for frame in block.split(self.separator):
            if b"data:" not in frame:
                continue
            if self._on_first is not None:
                self._on_first(frame)
                self._on_first = None
            elif b'"artifactUpdate"' in frame:
                (text,) = self._tally.texts(frame)
                number = int(text[:6])
                if number != self._last + 1 and self._last >= 0:
                    raise Broken(f"subscription got chunk {number} after {self._last}")
                self._last = number
                self._on_chunk(number, now - int(text[7:26]))
            elif b'"error"' in frame:
                raise Broken(frame[:300].decode(errors="replace"))


class Body:
    """A response that is one piece of JSON."""

    __slots__ = ("_pieces",)

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def __call__(self, data: bytes) -> None:
        self._pieces.append(data)

    def bytes(self) -> bytes:
        return b"".join(self._pieces)
