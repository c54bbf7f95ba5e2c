"""A server that hangs, or that forbids: noticed within seconds, said clearly, and never waited for without an end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from a2a_events.errors import Forbidden, LogError
from a2a_events.log.append import append
from a2a_events.log.jetstream import Connection, JetStreamLog, Names, StreamSettings, provision
from a2a_events.services.nats_server import NatsServer, binary
from a2a_events.testing import eventually, free_port
from tests.contract.logs import new_task, offered, read_all

pytestmark = [pytest.mark.integration, pytest.mark.processes, pytest.mark.timeout(120)]

NOTICED_SECONDS = 15.0
"""Three missed pings and a connection, with room for a slow machine; nats-py by itself takes four minutes."""


@asynccontextmanager
async def connected(urls: list[str], *, raw: bool = True) -> AsyncIterator[Connection]:
    connection = Connection(urls, name="frozen-test", raw=raw)
    await connection.open()
    try:
        yield connection
    finally:
        await connection.close()


async def answered(connection: Connection) -> bool:
    try:
        await connection.api("INFO", timeout=1.0)
    except LogError:
        return False
    return True


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "stock"])
@pytest.mark.parametrize(
    "filled", [pytest.param(False, marks=pytest.mark.slow), True], ids=["idle", "with full buffers"]
)
async def test_a_server_that_hangs_is_noticed_and_used_again_when_it_returns(
    tmp_path: Path, raw: bool, filled: bool
) -> None:
    server = NatsServer(tmp_path)
    await server.start()
    try:
        async with connected([server.url], raw=raw) as connection:
            os.kill(server.pid, signal.SIGSTOP)
            try:
                if filled:  # more than sockets take: the rest cannot be flushed before the server reads again
                    for _ in range(20):
                        with_room = asyncio.create_task(connection.publish("nobody", bytes(700_000)))
                        await asyncio.wait([with_room], timeout=0.2)
                        with_room.cancel()
                await eventually(lambda: not connection.connected, timeout_seconds=NOTICED_SECONDS)
                async with asyncio.timeout(NOTICED_SECONDS):
                    assert not await answered(connection)
            finally:
                os.kill(server.pid, signal.SIGCONT)

            async def back() -> bool:
                return await answered(connection)

            await eventually(back, timeout_seconds=NOTICED_SECONDS)
    finally:
        await server.stop()
        server.clean()


def _started(config: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([binary(), "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Cluster:
    """Three servers on loopback."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = [free_port() for _ in range(3)]
        self._routes = [free_port() for _ in range(3)]
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def urls(self) -> list[str]:
        return [f"nats://127.0.0.1:{port}" for port in self._ports]

    def start(self) -> None:
        routes = ", ".join(f"nats://127.0.0.1:{port}" for port in self._routes)
        for number, (port, route) in enumerate(zip(self._ports, self._routes, strict=True)):
            config = self._folder / f"n{number}.conf"
            config.write_text(
                f"server_name: n{number}\nhost: 127.0.0.1\nport: {port}\n"
                f"jetstream {{ store_dir: '{self._folder / f'n{number}'}' }}\n"
                f"cluster {{ name: frozen, listen: '127.0.0.1:{route}', routes: [{routes}] }}\n"
            )
            self.processes.append(_started(config))

    def of(self, connection: Connection) -> subprocess.Popen[bytes]:
        """The server that a connection is at."""
        wire = connection._wire
        assert wire is not None
        assert wire.client.connected_url is not None
        return self.processes[self._ports.index(wire.client.connected_url.port or 0)]

    def stop(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


@pytest.mark.filterwarnings("ignore:.*StreamWriter:pytest.PytestUnraisableExceptionWarning")  # nats-py's, on the way
@pytest.mark.parametrize(
    "filled", [pytest.param(False, marks=pytest.mark.slow), True], ids=["idle", "with full buffers"]
)
async def test_when_the_server_of_a_cluster_hangs_requests_go_on_at_another(
    tmp_path: Path, namespace: str, filled: bool
) -> None:
    cluster = Cluster(tmp_path)
    cluster.start()
    try:
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(connected(cluster.urls))
            names, settings = Names(namespace), StreamSettings("main", 1, 3, 30.0)

            async def provisioned() -> bool:
                try:
                    await provision(connection, names, settings)
                except LogError:
                    return False
                return True

            await eventually(provisioned, timeout_seconds=60, what="a cluster that has elected its leaders")
            log = await JetStreamLog.open(connection, names, settings)
            task, expected, ids = new_task(log), 0, []
            frozen = None
            for number in range(20):
                if number == 5:
                    frozen = cluster.of(connection)
                    frozen.send_signal(signal.SIGSTOP)
                    for _ in range(20 if filled else 0):
                        with_room = asyncio.create_task(connection.publish("nobody", bytes(700_000)))
                        await asyncio.wait([with_room], timeout=0.1)
                        with_room.cancel()
                made = offered(number)
                async with asyncio.timeout(40):
                    expected = await append(log, task, made, expected, patience_seconds=35)
                ids.append(made.header.record_id)

            assert cluster.of(connection) is not frozen
            assert [record.header.record_id for record in await read_all(log, task)] == ids
    finally:
        cluster.stop()


# --- permissions ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def forbidding(folder: Path, permissions: str) -> AsyncIterator[str]:
    """A server whose only user may not do everything; its URL."""
    port = free_port()
    config = folder / "forbidding.conf"
    config.write_text(
        f"host: 127.0.0.1\nport: {port}\njetstream {{ store_dir: '{folder / 'store'}' }}\n"
        f"authorization {{ users: [{{ user: a, password: b, permissions: {permissions} }}] }}\n"
    )
    process = _started(config)
    try:
        yield f"nats://a:b@127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "stock"])
async def test_what_the_server_forbids_is_said_at_once_and_not_repeated(tmp_path: Path, raw: bool) -> None:
    async with (
        forbidding(tmp_path, '{ publish: { deny: ["secret.>"] } }') as url,
        connected([url], raw=raw) as connection,
    ):
        async with asyncio.timeout(3):  # well below the time that an answer is waited for
            with pytest.raises(Forbidden, match=r"secret\.here.*permissions"):
                await connection.request("secret.here", b"x")
        assert await answered(connection)
        assert connection.reconnects == 0


async def test_an_append_that_the_server_forbids_fails_clearly_and_stores_nothing(tmp_path: Path) -> None:
    async with forbidding(tmp_path, '{ publish: { deny: ["a2a.log.>"] } }') as url, connected([url]) as connection:
        names, settings = Names("a2a"), StreamSettings("main", 1, 1, 30.0)
        await provision(connection, names, settings)
        log = await JetStreamLog.open(connection, names, settings)
        async with asyncio.timeout(5):
            with pytest.raises(Forbidden):
                await append(log, new_task(log), offered(0), 0)
        assert (await log.ends())[0].position == 0


async def test_a_user_that_may_not_hear_answers_is_told_so_at_the_start(tmp_path: Path) -> None:
    async with (
        forbidding(tmp_path, '{ subscribe: { deny: ["_INBOX.>"] } }') as url,
        connected([url]) as connection,
        asyncio.timeout(3),
    ):
        with pytest.raises(Forbidden, match="_inbox"):
            await connection.api("INFO")
