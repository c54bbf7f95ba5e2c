"""Connections whose clients do not read what they asked for."""

from __future__ import annotations

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from a2a_events import limits

_GRACE_SECONDS: Final = 5.0
"""So much later than a stream is cut: one that its steward has cut is counted as such."""


class ReadConnection(HttpToolsProtocol):
    """A connection that is given up when its client reads nothing for ``limits.STREAM_STALL_SECONDS``.

    Closing it would not do: a transport that is closed first waits until what it holds is written. So an answer that
    nobody reads would stay in memory, and its connection open, for as long as the client likes.
    """

    def __init__(self, *given: object, **named: object) -> None:
        super().__init__(*given, **named)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] -- as it is
        self._unread: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        """More waits to be read than is held for a client."""
        super().pause_writing()
        self._unread = self.loop.call_later(limits.STREAM_STALL_SECONDS + _GRACE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It was read."""
        self._stop_waiting()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _stop_waiting(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
