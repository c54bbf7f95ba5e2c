"""Server-sent events out of bytes, however they were cut (WHATWG HTML, section 9.2.6).

Why not httpx-sse: its 0.4.3 splits lines correctly (httpx's own ``aiter_lines``, which also breaks at U+2028 and half a
dozen other characters, would cut a JSON document in two), but it keeps an id until the next one, so that nobody can
tell which event brought it; it reports an empty event at each blank line once it has seen an id; it has no bound on the
size of a line; and it decodes to text what the JSON decoder wants as bytes.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from a2a_events.client.errors import BadAnswer

EVENT_BYTES: Final = 64 * 1024 * 1024
"""Largest event. A Task with all its artifacts is one event; a server that never ends a line must not fill memory."""

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_BOM: Final = b"\xef\xbb\xbf"
_RETRY_DIGITS: Final = 9


class Event(Struct, frozen=True):
    """One event. ``id`` is the one that this event brought, None if it brought none.

    An event without data is reported if it has an id: it says where the reader stands.
    """

    data: bytes
    id: str | None = None
    name: str = "message"


class Parser:
    """Feed it chunks, get the events that they complete. What is incomplete at the end is dropped, as the rules want.

    Args:
        limit_bytes: largest event.
    """

    def __init__(self, limit_bytes: int = EVENT_BYTES) -> None:
        self._limit = limit_bytes
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._begun = False
        self._after_cr = False
        self._id: str | None = None
        self._name = ""
        self.retry_seconds: float | None = None
        """What the server last asked for with ``retry:``."""

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that end in this chunk, in order.

        Raises:
            BadAnswer: an event is over the limit.
        """
        if self._after_cr and chunk:
            # CR ended a line and its event; an LF here is the rest of that line end.
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        if not chunk:
            return []
        self._after_cr = chunk.endswith(b"\r")
        *lines, rest = _LINE_END.split(chunk) if b"\r" in chunk else chunk.split(b"\n")
        events: list[Event] = []
        for line in lines:
            if self._rest:
                line = b"".join([*self._rest, line])  # noqa: PLW2901 -- the line, whole
                self._rest, self._rest_bytes = [], 0
            self._line(line, events)
        if rest:
            self._rest.append(rest)
            self._rest_bytes += len(rest)
        self._check()
        return events

    def _line(self, line: bytes, events: list[Event]) -> None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(_BOM)
        if not line:
            self._dispatch(events)
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                self._data.append(value)
                self._data_bytes += len(value) + 1
                self._check()
            case b"id" if b"\0" not in value:
                self._id = value.decode(errors="replace")
            case b"event":
                self._name = value.decode(errors="replace")
            case b"retry" if value.isdigit():
                self.retry_seconds = int(value[:_RETRY_DIGITS]) / 1000
            case _:
                pass  # comments have an empty name; unknown fields are ignored

    def _dispatch(self, events: list[Event]) -> None:
        if self._data or self._id is not None:
            events.append(Event(b"\n".join(self._data), self._id, self._name or "message"))
        self._data, self._data_bytes, self._id, self._name = [], 0, None, ""

    def _check(self) -> None:
        if self._rest_bytes + self._data_bytes > self._limit:
            raise BadAnswer(f"The server sent an event larger than {self._limit} bytes")
