"""What gateways tell each other of how much their callers use, on core NATS: nobody waits for it (ADR 0034)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import structlog

from a2a_events import limits
from a2a_events.bindings.caps.buckets import Rate
from a2a_events.bindings.caps.budget import Allowance
from a2a_events.bindings.caps.caps import Caps
from a2a_events.errors import Unavailable
from a2a_events.log.jetstream import Connection
from a2a_events.settings import Settings

UNHEARD_SECONDS: Final = 10.0
"""How long a gateway need not hear its own announcements before it says that they get nowhere."""
UNHEARD_PAUSE_SECONDS: Final = 30.0
"""How often it tries then: a server that forbids it writes a line each time."""

logger = structlog.get_logger(__name__)


def caps(settings: Settings) -> Caps:
    """What callers of a gateway with these settings may use."""
    return Caps(
        Allowance(_rate(settings.rate_per_tenant, settings.rate_per_tenant_burst), settings.streams_per_tenant),
        Allowance(_rate(settings.rate_per_address, settings.rate_per_address_burst), settings.streams_per_address),
    )


def _rate(per_second: float, burst: int) -> Rate | None:
    return Rate(per_second, burst) if per_second else None


@asynccontextmanager
async def shared(caps: Caps, connection: Connection, subject: str) -> AsyncGenerator[None]:
    """Tell other gateways what callers use here, and hear what they use there, for as long as this is open.

    Args:
        caps: of this gateway.
        connection: to NATS. While it is away each gateway goes by what it sees itself.
        subject: of all gateways of the log.
    """

    def hear(_subject: str, _reply: str, _headers: bytes, payload: bytes) -> None:
        caps.hear(payload)

    if not caps.any:
        yield
        return
    subscription = await connection.subscribe(subject, hear)
    telling = asyncio.get_running_loop().create_task(_tell(caps, connection, subject))
    try:
        yield
    finally:
        telling.cancel()
        await connection.unsubscribe(subscription)


async def _tell(caps: Caps, connection: Connection, subject: str) -> None:
    loop = asyncio.get_running_loop()
    heard, heard_at, warned = caps.heard_itself_at, loop.time(), False
    while True:
        await asyncio.sleep(UNHEARD_PAUSE_SECONDS if warned else limits.USAGE_SECONDS)
        try:
            for announcement in caps.announcements():
                await connection.publish(subject, announcement)
        except Unavailable:  # nobody hears it, and nobody misses it: what comes next says what is so then
            heard_at = loop.time()
        except Exception:
            logger.exception(
                "what callers use was not told to other gateways; what comes next will be", subject=subject
            )
        if caps.heard_itself_at != heard:
            heard, heard_at, warned = caps.heard_itself_at, loop.time(), False
        elif not warned and loop.time() - heard_at > UNHEARD_SECONDS:
            warned = True
            logger.warning("gateways do not hear each other; each allows callers their whole rate", subject=subject)
