"""A broker for tests: a nats-server of their own, or the one that the environment names."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from a2a_events.log.jetstream import Names
from a2a_events.log.jetstream.object_store import stream_of
from a2a_events.services.connect import connection
from a2a_events.services.nats_server import NatsServer
from a2a_events.settings import Settings

NATS_URL_VARIABLE: Final = "A2A_EVENTS_TEST_NATS_URL"
"""Environment variable: the server that tests are to use instead of starting one. It must have JetStream."""
PATIENCE_SECONDS: Final = 5.0
"""How long a server may take to answer who cleans up after a test."""


@asynccontextmanager
async def nats_server(*, store: Path | None = None, sync: str = "always") -> AsyncGenerator[str]:
    """A nats-server with JetStream for as long as the block runs; its URL.

    With ``A2A_EVENTS_TEST_NATS_URL`` that server is used instead, and left running: take a namespace of your own
    (:func:`unique_namespace`, which :class:`~a2a_events.testing.Deployment` does by itself).

    Args:
        store: folder for its data; None: a temporary one.
        sync: its ``sync_interval``.

    Raises:
        NatsServerMissing: there is no nats-server (install ``a2a-events[server]``).
    """
    elsewhere = os.environ.get(NATS_URL_VARIABLE)
    if elsewhere:
        yield elsewhere
        return
    server = NatsServer(store, sync=sync)
    await server.start()
    try:
        yield server.url
    finally:
        await server.stop()
        server.clean()


def unique_namespace() -> str:
    """A namespace that no other test uses."""
    return f"test{os.urandom(5).hex()}"


async def remove_streams(nats: str, namespace: str) -> int:
    """Delete every stream of a namespace; how many there were. For servers that outlive a test.

    Raises:
        Unavailable: no server answers within ``PATIENCE_SECONDS``.
        Uncertain: it stopped answering; repeating this is safe.
    """
    removed = 0
    bucket = stream_of(Names(namespace).bucket(""))
    async with connection(Settings(nats=nats), "test", patience_seconds=PATIENCE_SECONDS) as made:
        for subject, prefix in ((f"{namespace}.>", ""), ("$O.>", bucket)):
            answer: dict[str, list[str] | None] = await made.api("STREAM.NAMES", {"subject": subject})
            for name in answer.get("streams") or []:
                if name.startswith(prefix):
                    await made.api(f"STREAM.DELETE.{name}")
                    removed += 1
    return removed
