"""Server-sent events: one frame an update, ``id`` is the cursor that resumes after it, ``data`` is one line of JSON.

Lines come from the log, where every writer made them without raw newlines. What only some clients take for the end of a
line is escaped here: httpx's ``aiter_lines``, which the official Python SDK reads streams with, also splits at U+0085,
U+2028 and U+2029. JSON has these in strings only, and the other characters of that kind never raw.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from a2a_events import limits
from a2a_events.bindings.errors import jsonrpc_body
from a2a_events.errors import A2AError
from a2a_events.runtime.operations import Run

_LINE_ENDS: Final = re.compile(rb"\xc2\x85|\xe2\x80[\xa8\xa9]")


def one_line(line: bytes) -> bytes:
    """JSON that every client takes for one line."""
    if line.isascii():
        return line
    return _LINE_ENDS.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), line)


def plain(run: Run) -> bytes:
    """Frames of the HTTP+JSON binding: the StreamResponse itself."""
    return b"".join([b"id: %b\ndata: %b\n\n" % (u.cursor.encode(), one_line(u.line)) for u in run.updates])


def jsonrpc(request_id: bytes) -> Callable[[Run], bytes]:
    """Frames of the JSON-RPC binding: each a response to the request."""
    before = b'\ndata: {"jsonrpc":"2.0","id":' + one_line(request_id) + b',"result":'

    def frame(run: Run) -> bytes:
        return b"".join([b"id: %b%b%b}\n\n" % (u.cursor.encode(), before, one_line(u.line)) for u in run.updates])

    return frame


def farewell(chance: float, why: str) -> bytes:
    """The end of a stream that is ended from here: no event, but when to come back (WHATWG HTML, 9.2.6).

    Args:
        chance: a number in [0, 1), so that not all come back at once.
        why: for people; one line.
    """
    shortest, longest = limits.COME_BACK_MILLISECONDS
    return b"retry: %d\n: %b\n\n" % (shortest + int(chance * (longest - shortest + 1)), why.encode())


def plain_error(body: bytes) -> bytes:
    """An error in mid-stream, HTTP+JSON."""
    return b"event: error\ndata: " + one_line(body) + b"\n\n"


def jsonrpc_error(error: A2AError, request_id: bytes) -> bytes:
    """An error in mid-stream, JSON-RPC."""
    return b"data: " + one_line(jsonrpc_body(error, request_id)) + b"\n\n"
