"""A service under the eyes of its operators: its health, and the port where it is asked for."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

import structlog

from a2a_events import __version__
from a2a_events.metrics.catalog import BUILD_INFO
from a2a_events.services.health import Health
from a2a_events.services.listener import listen
from a2a_events.settings import PREFIX, Settings, SettingsError

logger = structlog.get_logger(__name__)


@asynccontextmanager
async def operated(
    settings: Settings, role: str, *, connected: bool = True, loop_dead_seconds: float | None = None
) -> AsyncGenerator[Health]:
    """The health of a service while it lives, and the port where it is asked for, if there is one.

    Args:
        settings: of this process.
        role: of the service.
        connected: whether it needs NATS.
        loop_dead_seconds: as of ``Health``.

    Raises:
        CannotListen: the port is taken.
        SettingsError: spans are wanted, and OpenTelemetry is not installed, or there is nowhere to put them.
    """
    health = Health(connected=connected, loop_dead_seconds=loop_dead_seconds)
    BUILD_INFO.set(1, __version__, settings.commit)
    async with _recorded(settings, role), health.beating():
        if not settings.admin_port:
            yield health
            return
        from a2a_events.services.admin import Admin  # noqa: PLC0415 -- only gateways need the web stack anyway

        with Admin(health, listen(settings.admin_host, settings.admin_port, "A2A_EVENTS_ADMIN_PORT")):
            logger.info("admin ready", host=settings.admin_host, port=settings.admin_port)
            yield health


def _recorded(settings: Settings, role: str) -> AbstractAsyncContextManager[None]:
    if not settings.traces:
        return nullcontext()
    try:
        from a2a_events.services.spans import recorded  # noqa: PLC0415 -- an optional extra
    except ImportError as error:
        raise SettingsError(
            f"{PREFIX}TRACES is set and OpenTelemetry is not installed: install a2a-events[tracing] ({error})"
        ) from None
    return recorded(settings.traces, role)
