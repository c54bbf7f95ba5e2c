"""Server-sent events: one frame an update, ``id`` is the cursor that resumes after it, ``data`` is one line of JSON.

Lines come from the log, where every writer made them without raw newlines, so they need no escaping here.
"""

from __future__ import annotations

from collections.abc import Callable

from a2a_events.bindings.errors import jsonrpc_body
from a2a_events.errors import A2AError
from a2a_events.runtime.operations import Run


def plain(run: Run) -> bytes:
    """Frames of the HTTP+JSON binding: the StreamResponse itself."""
    return b"".join([b"id: %b\ndata: %b\n\n" % (u.cursor.encode(), u.line) for u in run.updates])


def jsonrpc(request_id: bytes) -> Callable[[Run], bytes]:
    """Frames of the JSON-RPC binding: each a response to the request."""
    before = b'\ndata: {"jsonrpc":"2.0","id":' + request_id + b',"result":'

    def frame(run: Run) -> bytes:
        return b"".join([b"id: %b%b%b}\n\n" % (u.cursor.encode(), before, u.line) for u in run.updates])

    return frame


def plain_error(body: bytes) -> bytes:
    """An error in mid-stream, HTTP+JSON."""
    return b"event: error\ndata: " + body + b"\n\n"


def jsonrpc_error(error: A2AError, request_id: bytes) -> bytes:
    """An error in mid-stream, JSON-RPC."""
    return b"data: " + jsonrpc_body(error, request_id) + b"\n\n"
