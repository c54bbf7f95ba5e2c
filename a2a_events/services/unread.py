"""Connections whose clients do not read what they asked for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from a2a_events import limits

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

_GRACE_SECONDS: Final = 5.0
"""So much later than a stream is cut: one that its steward has cut is counted as such."""


class ReadConnection(HttpToolsProtocol):
    """A connection that is given up when its client reads nothing for ``limits.STREAM_STALL_SECONDS``.

    Closing it would not do: a transport that is closed first waits until what it holds is written. So an answer that
    nobody reads would stay in memory, and its connection open, for as long as the client likes. While it is open, only
    an answer that is more than the transport likes to hold counts as unread; once it is closed, any byte does.
    """

    def __init__(self, *given: object, **named: object) -> None:
        super().__init__(*given, **named)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] -- as it is
        self._unread: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        """More waits to be read than is held for a client."""
        super().pause_writing()
        self._wait()

    def resume_writing(self) -> None:
        """It was read."""
        self._stop_waiting()
        super().resume_writing()
        self._closing()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._stop_waiting()
        super().connection_lost(exc)

    def close(self) -> None:
        """End it when what it holds is read, or not read in time."""
        self.transport.close()
        self._closing()

    def shutdown(self) -> None:
        """The server stops: end it, if nothing is being answered."""
        super().shutdown()
        self._closing()

    def timeout_keep_alive_handler(self) -> None:
        """No further request came after an answer."""
        if not self.transport.is_closing():
            self.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """As in uvicorn, which closes connections after answers that were the last or failed."""
        task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(self._answered)
        self.tasks.add(task)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._closing()

    def _closing(self) -> None:
        """If it was closed: see that it ends."""
        if self._unread is None and self.transport.is_closing() and self.transport.get_write_buffer_size():
            self._wait()

    def _wait(self) -> None:
        self._unread = self.loop.call_later(limits.STREAM_STALL_SECONDS + _GRACE_SECONDS, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
