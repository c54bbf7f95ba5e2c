"""The log of a process, from its settings."""

from __future__ import annotations

import importlib.util
import os
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Final

import a2a_events
from a2a_events import limits
from a2a_events.errors import Unavailable
from a2a_events.log.jetstream import Connection, JetStreamLog, Names, RegionalLog, StreamSettings, open_regional
from a2a_events.log.jetstream.permissions import ROLES
from a2a_events.log.patience import patiently
from a2a_events.metrics.catalog import MIRROR_ACTIVE_SECONDS, MIRROR_LAG_SECONDS
from a2a_events.services.health import Health
from a2a_events.settings import PREFIX, Settings, SettingsError
from a2a_events.timeline.bounds import TaskBounds
from a2a_events.timeline.record import Writer

PATIENCE_SECONDS: Final = limits.START_PATIENCE_SECONDS
_ROLES: Final = {
    **{role: role for role in ROLES},
    "timeline-page": "timeline",
    "sweep": "sweeper",
    "tenant": "retention",
    "regions": "provisioner",
    "a2a-sdk": "gateway",
}
"""As whose user of NATS a process signs in, by its name; any other is an operator's."""


def names(settings: Settings) -> Names:
    """Subjects and streams."""
    return Names(settings.namespace)


def stream_settings(settings: Settings) -> StreamSettings:
    """What provisioning makes."""
    return StreamSettings(settings.log, settings.shards, settings.replicas, settings.ack_wait_seconds)


def inbox(settings: Settings, name: str) -> str:
    """Below which a process hears answers.

    Args:
        settings: of this process.
        name: of what it runs, as :func:`connection` has it.

    Raises:
        SettingsError: there is no such role.
    """
    role = settings.nats_role or _ROLES.get(name, "operator")
    if role not in ROLES:
        raise SettingsError(f"{PREFIX}NATS_ROLE={role!r} must be one of {', '.join(ROLES)}")
    return names(settings).inbox(role)


def writer(settings: Settings, role: str) -> Writer:
    """Who this process is in records; a restarted process is another."""
    host = "".join(c if c.isalnum() else "-" for c in socket.gethostname())[:32]
    instance = settings.instance or f"{host}-{os.urandom(4).hex()}"
    return Writer(role, instance, f"a2a-events/{a2a_events.__version__}")


@asynccontextmanager
async def connection(
    settings: Settings, role: str, *, patience_seconds: float = PATIENCE_SECONDS
) -> AsyncGenerator[Connection]:
    """A connection to NATS, closed at the end.

    Args:
        settings: of this process.
        role: what it runs: for the server's monitoring, and for where answers are heard.
        patience_seconds: for a server that answers.

    Raises:
        Unavailable: no server answers.
        SettingsError: the credentials or the certificates cannot be read, or there is no such role.
    """
    made = Connection(
        settings.servers,
        name=f"a2a-events-{role}",
        credentials=_credentials(settings.nats_credentials),
        tls=_trust(settings.nats_ca),
        raw=settings.nats_raw,
        inbox=inbox(settings, role),
    )
    try:
        await made.open(patience_seconds=patience_seconds)
    except Unavailable:
        raise Unavailable(f"no NATS server answers at {settings.shown_nats}") from None
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def jetstream_log(
    settings: Settings, role: str, *, patience_seconds: float = PATIENCE_SECONDS, health: Health | None = None
) -> AsyncGenerator[tuple[JetStreamLog, Connection]]:
    """The provisioned log, or the logs of all regions where there are several; closed at the end.

    Args:
        settings: of this process.
        role: for the server's monitoring.
        patience_seconds: for a server that answers, and after that for streams that have leaders.
        health: is told of the connection.

    Raises:
        NotProvisioned: nothing was provisioned.
        Unavailable: no server answers, or they elect no leaders.
    """
    async with connection(settings, role, patience_seconds=patience_seconds) as made:
        where = (made, names(settings), stream_settings(settings))
        opened: Callable[[], Awaitable[JetStreamLog]] = partial(
            JetStreamLog.open, *where, content_bytes=settings.content_bytes
        )
        if settings.other_logs:
            opened = partial(
                open_regional,
                *where,
                regions=settings.other_logs,
                homes=settings.homes,
                content_bytes=settings.content_bytes,
            )
        log = await patiently(opened, "the log", patience_seconds=patience_seconds)
        if health is not None and isinstance(log, RegionalLog):
            health.check(partial(getattr, log, "overtaken"))
        try:
            with _mirrors_shown(log):
                async with health.watching(log, made) if health is not None else nullcontext():
                    yield log, made
        finally:
            await log.close()


def task_bounds(settings: Settings) -> TaskBounds:
    """How much a task may hold: the same for whoever writes to it."""
    return TaskBounds(
        size_bytes=settings.task_bytes,
        events=settings.task_events,
        artifact_bytes=settings.artifact_bytes,
        webhooks=settings.push_configs,
    )


@contextmanager
def _mirrors_shown(log: JetStreamLog) -> Generator[None]:
    """How well the mirrors of other regions' logs follow is among the metrics while this is entered."""
    if not isinstance(log, RegionalLog):
        yield
        return
    forget_lag = MIRROR_LAG_SECONDS.read_by(lambda: {(each.log,): each.lag_seconds for each in log.mirrors})
    forget_active = MIRROR_ACTIVE_SECONDS.read_by(lambda: {(each.log,): each.active_seconds for each in log.mirrors})
    try:
        yield
    finally:
        forget_lag()
        forget_active()


def _credentials(path: str) -> str | None:
    """The file, which nats-py reads again at each connection, so that a new one is taken up."""
    if not path:
        return None
    try:
        Path(path).read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read the NATS credentials in {path}: {error.strerror}") from None
    if importlib.util.find_spec("nkeys") is None:
        raise SettingsError("NATS credentials need a package that is not here: install a2a-events[credentials]")
    return path


def _trust(path: str) -> ssl.SSLContext | None:
    """Checks servers' certificates against these and no others; None: against those of the system."""
    if not path:
        return None
    try:
        return ssl.create_default_context(cafile=path)
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(f"cannot read the certificates in {path}: {error.strerror or error}") from None
