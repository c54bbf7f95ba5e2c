"""What a process knows of its own health: three questions that orchestrators ask, and never mix up (ADR 0027).

Has it started; is it worth keeping; should requests be sent to it now. Only the last one depends on others: a broker
that is away makes processes unready, and never has them restarted.

A beat on the event loop looks at everything that can change and notes since when it is wrong. Who asks, in whatever
thread, reads these notes, and how old they are: so a loop that is blocked cannot hide.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import structlog

from a2a_events import limits
from a2a_events.errors import LogError
from a2a_events.log.jetstream import Connection, JetStreamLog
from a2a_events.metrics.catalog import (
    LOOP_BLOCKED_SECONDS,
    NATS_CERTIFICATE_END,
    NATS_CONNECTED,
    NATS_RTT_SECONDS,
)

BEAT_SECONDS: Final = 0.5

logger = structlog.get_logger(__name__)


class Health:
    """Of one service in this process. Made in the event loop that it watches; answers in any thread.

    Args:
        connected: False for a service that needs no NATS: it has started at once.
        loop_dead_seconds: how long the event loop need not have turned before the process is to be started anew.
    """

    def __init__(self, *, connected: bool = True, loop_dead_seconds: float | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop_dead_seconds = loop_dead_seconds
        self._beat_at = time.monotonic()
        self._starting = "not connected to NATS yet" if connected else ""
        self._draining: Callable[[], bool] = lambda: False
        self._connection: Connection | None = None
        self._leader_seen = 0.0
        self._checks: list[Callable[[], str]] = [self._nats, self._leader]
        self._wrong: dict[int, tuple[float, str]] = {}
        """Since when each check fails, by its number, and what it says."""

    # --- what is asked ------------------------------------------------------------------------------------------------

    def not_started(self) -> list[str]:
        """Why it has not started yet; empty once it was connected and the log's streams were there."""
        return [self._starting] if self._starting else []

    def dead(self) -> list[str]:
        """Why the process should be started anew; never because of something outside it."""
        reasons: list[str] = []
        age = self._age()
        if age > self._patience():
            reasons.append(self._blocked(age))
        closed = self._connection.closed_since if self._connection is not None else 0.0
        if closed and time.monotonic() - closed > limits.CLIENT_DEAD_SECONDS:
            reasons.append(f"the NATS client was closed for good {time.monotonic() - closed:.0f} s ago and is not back")
        return reasons

    def unready(self) -> list[str]:
        """Why no requests should be sent here now. What may pass by itself counts after a grace time."""
        if self._starting:
            return [self._starting]
        if self._draining():
            return ["draining"]
        reasons: list[str] = []
        age = self._age()
        if age > limits.UNREADY_AFTER_SECONDS:
            reasons.append(self._blocked(age))
        now = time.monotonic()
        for since, why in list(self._wrong.values()):
            if now - since >= limits.UNREADY_AFTER_SECONDS:
                reasons.append(f"{why} for {now - since:.0f} s")
        return reasons

    # --- what is told -------------------------------------------------------------------------------------------------

    def drains_when(self, draining: Callable[[], bool]) -> None:
        """From when on the service takes no more work."""
        self._draining = draining

    def check(self, failing: Callable[[], str]) -> None:
        """Ask this, too: why requests should not be sent here now; empty if they should. Must be quick."""
        self._checks.append(failing)

    @asynccontextmanager
    async def beating(self) -> AsyncGenerator[None]:
        """Look after the event loop, and all checks, while this is entered."""
        forget = LOOP_BLOCKED_SECONDS.read_by(lambda: {(): max(0.0, self._age() - BEAT_SECONDS)})
        beating = self._loop.create_task(self._beat(), name="health")
        try:
            yield
        finally:
            beating.cancel()
            forget()

    @asynccontextmanager
    async def watching(self, log: JetStreamLog, connection: Connection) -> AsyncGenerator[None]:
        """The service is connected, and the log's streams are there: it has started."""
        self._connection = connection
        self._leader_seen = time.monotonic()
        self._starting = ""
        forget = NATS_CONNECTED.read_by(lambda: {(): float(connection.connected)})
        asking = self._loop.create_task(self._ask(log, connection), name="health of NATS")
        try:
            yield
        finally:
            asking.cancel()
            forget()
            with suppress(asyncio.CancelledError):
                await asyncio.wait([asking])
            self._connection = None

    # --- inside -------------------------------------------------------------------------------------------------------

    def _patience(self) -> float:
        """Who starts imports agents, which may take as long as it takes: a startup probe says how long."""
        if self._starting:
            return limits.START_DEAD_SECONDS
        return limits.LOOP_DEAD_SECONDS if self._loop_dead_seconds is None else self._loop_dead_seconds

    def _age(self) -> float:
        return time.monotonic() - self._beat_at

    def _blocked(self, age: float) -> str:
        task = asyncio.current_task(self._loop)
        return f"the event loop has not turned for {age:.0f} s: it is in {task.get_name() if task else 'a callback'}"

    async def _beat(self) -> None:
        while True:
            now = self._beat_at = time.monotonic()
            for number, failing in enumerate(self._checks):
                why = failing()
                if not why:
                    self._wrong.pop(number, None)
                else:
                    self._wrong[number] = (self._wrong[number][0] if number in self._wrong else now, why)
            await asyncio.sleep(BEAT_SECONDS)

    def _nats(self) -> str:
        return "not connected to NATS" if self._connection is not None and not self._connection.connected else ""

    def _leader(self) -> str:
        silent = time.monotonic() - self._leader_seen
        if self._connection is None or self._nats() or silent <= limits.LEADER_SEEN_SECONDS:
            return ""
        return "no leader of the log has answered"

    async def _ask(self, log: JetStreamLog, connection: Connection) -> None:
        """Ask the leader of one shard after the other for a sign of life."""
        shard = 0
        while True:
            try:
                shard = (shard + 1) % log.shards
                begun = time.monotonic()
                await log.ask_leader(shard)
                self._leader_seen = time.monotonic()
                NATS_RTT_SECONDS.set(self._leader_seen - begun)
                NATS_CERTIFICATE_END.set(connection.certificate_end)
            except LogError as error:
                logger.debug("no sign of life", shard=shard, error=str(error))
            except Exception as error:  # noqa: BLE001 -- ours or nats-py's: who asks must not fall silent
                logger.warning("no sign of life", shard=shard, error=str(error) or type(error).__name__)
            await asyncio.sleep(limits.HEALTH_SECONDS)
