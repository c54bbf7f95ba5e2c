"""Probes: three questions, asked of real processes and of an event loop that is blocked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from a2a_events import limits
from a2a_events.services import provisioner
from a2a_events.services.admin import Admin
from a2a_events.services.connect import jetstream_log
from a2a_events.services.health import Health
from a2a_events.services.listener import listen
from a2a_events.services.nats_server import NatsServer
from a2a_events.settings import Settings
from a2a_events.testing import Deployment, eventually, free_port
from a2a_events.testing.deployment import ServiceProcess

PROBES = ("startupz", "livez", "readyz")


async def asked(http: httpx.AsyncClient, url: str) -> dict[str, tuple[int, list[str]]]:
    """Status of each probe, and what it says is wrong."""
    answers = {probe: await http.get(f"{url}/{probe}") for probe in PROBES}
    return {probe: (answer.status_code, answer.json().get("failing", [])) for probe, answer in answers.items()}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    made = NatsServer(tmp_path)
    await made.start()
    yield made
    await made.stop()
    made.clean()


@pytest.mark.integration
@pytest.mark.processes
@pytest.mark.timeout(120)
async def test_only_readiness_depends_on_nats(server: NatsServer) -> None:
    async with Deployment(server.url, notifiers=1, admin=True) as deployment, httpx.AsyncClient() as http:
        processes: list[ServiceProcess] = [*deployment.gateways, *deployment.workers, *deployment.notifiers]
        for process in processes:
            assert await asked(http, process.admin_url) == dict.fromkeys(PROBES, (200, []))
        server.kill()
        for process in processes:

            async def unready(process: ServiceProcess = process) -> bool:
                return (await http.get(f"{process.admin_url}/readyz")).status_code == 503

            await eventually(unready, what=f"a {process.role} that says that it is unready")
            seen = await asked(http, process.admin_url)
            assert seen["startupz"] == seen["livez"] == (200, [])
            assert seen["readyz"][1][0].startswith("not connected to NATS for ")
            metrics = (await http.get(f"{process.admin_url}/metrics")).text
            assert "\na2a_nats_connected 0.0\n" in metrics
        public = await http.get(f"{deployment.gateways[0].url}/readyz")
        assert (public.status_code, public.json()["failing"][0][:21]) == (503, "not connected to NATS")
        await server.start()
        for process in processes:

            async def ready(process: ServiceProcess = process) -> bool:
                return (await http.get(f"{process.admin_url}/readyz")).status_code == 200

            await eventually(ready, what=f"a {process.role} that is ready again")
            metrics = (await http.get(f"{process.admin_url}/metrics")).text
            assert "\na2a_nats_connected 1.0\n" in metrics
            assert "\na2a_nats_reconnects_total 1.0\n" in metrics


@pytest.mark.integration
@pytest.mark.processes
async def test_a_process_that_waits_for_nats_has_not_started_and_lives(tmp_path: Path) -> None:
    port = free_port()
    nobody = f"nats://127.0.0.1:{free_port()}"
    environment = {"A2A_EVENTS_NATS": nobody, "A2A_EVENTS_ADMIN_PORT": str(port), "PATH": "/usr/bin:/bin"}
    process = ServiceProcess("notifier", "notifier", environment, Path.cwd(), tmp_path / "log")
    try:
        async with httpx.AsyncClient() as http:

            async def answers() -> bool:
                try:
                    return (await http.get(f"{process.admin_url}/livez")).status_code == 200
                except httpx.TransportError:
                    assert process.running, process.output
                    return False

            await eventually(answers, what="an admin port")
            why = ["not connected to NATS yet"]
            assert await asked(http, process.admin_url) == {
                "startupz": (503, why),
                "livez": (200, []),
                "readyz": (503, why),
            }
    finally:
        process.kill()


async def test_a_short_fault_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UNREADY_AFTER_SECONDS", 3600.0)
    health = Health(connected=False)
    looked = asyncio.Event()

    def failing() -> str:
        looked.set()
        return "a tooth aches"

    health.check(failing)
    async with health.beating():
        await looked.wait()
        assert health.unready() == []
        monkeypatch.setattr(limits, "UNREADY_AFTER_SECONDS", 0.0)
        assert [why[:13] for why in health.unready() if "tooth" in why] == ["a tooth aches"]
        assert health.dead() == []


@contextmanager
def blocked_service() -> Iterator[tuple[str, threading.Event]]:
    """A service with an admin port, whose event loop stands until the event is set."""
    made: list[str] = []
    begun, go_on, over = threading.Event(), threading.Event(), threading.Event()

    async def block() -> None:
        begun.set()
        go_on.wait()

    async def serve() -> None:
        health = Health(connected=False)
        listener = listen("127.0.0.1", 0)
        made.append(f"http://127.0.0.1:{listener.getsockname()[1]}")
        with Admin(health, listener):
            async with health.beating():
                await asyncio.get_running_loop().create_task(block(), name="agent greedy, task t1")
                await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert begun.wait(20)
        yield made[0], go_on
    finally:
        go_on.set()
        over.set()
        thread.join()


async def test_a_blocked_event_loop_is_named_while_it_is_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOOP_DEAD_SECONDS", 1.0)
    monkeypatch.setattr(limits, "UNREADY_AFTER_SECONDS", 0.5)
    with blocked_service() as (url, go_on):
        async with httpx.AsyncClient(base_url=url) as http:

            async def lives(status: int) -> bool:
                return (await http.get("/livez")).status_code == status

            await eventually(lambda: lives(503), what="a livez that notices")
            seen = await asked(http, url)
            for probe in ("livez", "readyz"):
                assert seen[probe][0] == 503
                assert "the event loop has not turned for" in seen[probe][1][0]
                assert seen[probe][1][0].endswith("it is in agent greedy, task t1")
            metrics = (await http.get("/metrics")).text
            (value,) = (line.split()[1] for line in metrics.splitlines() if line.startswith("a2a_event_loop_blocked_s"))
            assert float(value) > 0.4
            go_on.set()
            await eventually(lambda: lives(200), what="a livez that is well again")


async def test_a_client_that_was_closed_for_good_and_does_not_come_back_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, server: NatsServer
) -> None:
    settings = Settings(nats=server.url, shards=1)
    await provisioner.run(settings)
    health = Health()
    assert health.not_started()
    async with health.beating(), jetstream_log(settings, "test", health=health) as (_, connection):
        assert health.not_started() == health.dead() == []
        server.kill()
        await connection._wire.client.close()  # type: ignore[union-attr]
        await eventually(lambda: connection.closed_since)
        assert health.dead() == []
        monkeypatch.setattr(limits, "CLIENT_DEAD_SECONDS", 0.0)
        assert health.dead()[0].startswith("the NATS client was closed for good")
        await server.start()
        await eventually(lambda: not health.dead(), what="a client that is back")
