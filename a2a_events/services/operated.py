"""A service under the eyes of its operators: its health, and the port where it is asked for."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import structlog

from a2a_events import __version__
from a2a_events.metrics.catalog import BUILD_INFO
from a2a_events.services.health import Health
from a2a_events.services.listener import listen
from a2a_events.settings import Settings

logger = structlog.get_logger(__name__)


@asynccontextmanager
async def operated(settings: Settings, *, connected: bool = True) -> AsyncGenerator[Health]:
    """The health of a service while it lives, and the port where it is asked for, if there is one.

    Args:
        settings: of this process.
        connected: whether it needs NATS.

    Raises:
        CannotListen: the port is taken.
    """
    health = Health(connected=connected)
    BUILD_INFO.set(1, __version__, settings.commit)
    async with health.beating():
        if not settings.admin_port:
            yield health
            return
        from a2a_events.services.admin import Admin  # noqa: PLC0415 -- only gateways need the web stack anyway

        with Admin(health, listen(settings.admin_host, settings.admin_port, "A2A_EVENTS_ADMIN_PORT")):
            logger.info("admin ready", host=settings.admin_host, port=settings.admin_port)
            yield health
