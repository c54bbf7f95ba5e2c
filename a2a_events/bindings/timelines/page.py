"""The files of the page: read once, served with what keeps a page safe that shows what anybody wrote."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final

from a2a_events.bindings.exchange import Exchange
from a2a_events.bindings.timelines.api import Problem

_TYPES: Final = {
    "html": b"text/html; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types 'none'"  # no text can be given to what reads markup
)
HEADERS: Final = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""Of every answer, files and API: nothing is loaded from elsewhere, no text becomes a script, nobody frames it."""
INDEX: Final = "index.html"


class Page:
    """The files, in memory."""

    def __init__(self) -> None:
        folder = files("a2a_events.bindings.timelines") / "static"
        self._files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
        self._tags = {
            name: f'"{hashlib.sha256(content).hexdigest()[:16]}"'.encode() for name, content in self._files.items()
        }

    async def serve(self, exchange: Exchange, name: str) -> None:
        """Answer with a file.

        Raises:
            Problem: there is none of this name, or the verb is another than GET.
        """
        if exchange.method != "GET":
            raise Problem(405, "Use GET on this path", ((b"allow", b"GET"),))
        media_type = _TYPES.get(name.rpartition(".")[2])
        if name not in self._files or media_type is None:
            raise Problem(404, "There is nothing at this path")
        headers = [(b"etag", self._tags[name]), (b"cache-control", b"no-cache")]
        if exchange.header(b"if-none-match").encode("latin-1") == self._tags[name]:
            await exchange.answer(304, b"", media_type, headers)
        else:
            await exchange.answer(200, self._files[name], media_type, headers)
