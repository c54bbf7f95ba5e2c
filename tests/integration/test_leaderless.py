"""A log that cannot answer for a while: nothing that exists is said not to, and who starts meanwhile waits."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from a2a_events.errors import NotProvisioned, Unavailable
from a2a_events.log.jetstream import Connection, JetStreamLog, Names, StreamSettings, provision
from a2a_events.log.jetstream.streams import ProvisionError
from a2a_events.log.port import AgentEntry
from a2a_events.model import TaskState
from a2a_events.runtime.agent import agent, as_agent
from a2a_events.runtime.operations import Operations
from a2a_events.runtime.turn import Turn
from a2a_events.runtime.worker import Worker
from a2a_events.services import doctor
from a2a_events.services.connect import jetstream_log
from a2a_events.services.doctor import Finding
from a2a_events.services.nats_server import NatsServer, binary
from a2a_events.settings import Settings
from a2a_events.testing import Calls, Deployment, eventually, free_port
from a2a_events.timeline.record import Writer
from tests.integration.http import client, message, rpc
from tests.integration.stack import RunningWorker

pytestmark = [pytest.mark.integration, pytest.mark.processes, pytest.mark.timeout(150)]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A server of the test's own, to be killed."""
    made = NatsServer(tmp_path)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
        made.clean()


async def test_a_gateway_that_cannot_read_the_registry_says_so_and_denies_no_task(server: NatsServer) -> None:
    async with Deployment(server.url, gateways=2) as deployment:
        one, two = deployment.gateways
        async with client(one.url) as http:
            sent = await http.post("/message:send", json=message({"script": {"chunks": 2}}))
        task_id = sent.json()["task"]["id"]
        two.kill()
        server.kill()
        fresh = deployment._gateway()  # it is ready only when there is a server again
        try:
            async with client(one.url) as http:

                async def unread() -> bool:  # what was read a moment ago holds for that moment
                    return (await http.get("/agents/unknown/.well-known/agent-card.json")).status_code == 503

                await eventually(unread, timeout_seconds=10)
                for path in (f"/tasks/{task_id}", f"/tasks/{task_id}:subscribe", f"/agents/unknown/tasks/{task_id}"):
                    answer = await http.get(path)
                    assert (answer.status_code, "retry-after" in answer.headers) == (503, True), (path, answer.text)
                answer = await http.post("/agents/unknown/", json=rpc("GetTask", {"id": task_id}))
                assert answer.status_code == 503, answer.text
                answer = await http.get("/agents/unknown/.well-known/agent-card.json")
                assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
                assert (await http.get("/.well-known/agent-card.json")).status_code == 200  # what is known stays
        finally:
            await server.start()
        await fresh.ready()
        for gateway in (one, fresh):
            async with client(gateway.url) as http:

                async def found(http: httpx.AsyncClient = http) -> bool:
                    answer = await http.get(f"/tasks/{task_id}")
                    assert answer.status_code != 404, answer.text
                    return answer.status_code == 200

                await eventually(found, timeout_seconds=30)
                assert (await http.get(f"/agents/unknown/tasks/{task_id}")).status_code == 404


class Cluster:
    """Three servers on loopback, on fixed ports, that are stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self._ports = [free_port() for _ in range(3)]
        routes = [free_port() for _ in range(3)]
        listed = ", ".join(f"nats://127.0.0.1:{port}" for port in routes)
        self._configs = [folder / f"n{number}.conf" for number in range(3)]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        for number, (port, route) in enumerate(zip(self._ports, routes, strict=True)):
            self._configs[number].write_text(
                f"server_name: n{number}\nhost: 127.0.0.1\nport: {port}\n"
                f"jetstream {{ store_dir: '{folder / f'n{number}'}' }}\n"
                f"cluster {{ name: leaderless, listen: '127.0.0.1:{route}', routes: [{listed}] }}\n"
            )

    def url(self, number: int) -> str:
        return f"nats://127.0.0.1:{self._ports[number]}"

    @property
    def urls(self) -> list[str]:
        return [self.url(number) for number in range(3)]

    def start(self, *numbers: int) -> None:
        for number in numbers:
            command = [binary(), "-c", str(self._configs[number])]
            self._processes[number] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self, *numbers: int) -> None:
        for number in numbers:
            process = self._processes.pop(number)
            process.send_signal(signal.SIGKILL)
            process.wait()

    def leave_one(self) -> None:
        """The power fails, and one server of three comes back: there are no leaders, not even old ones."""
        self.kill(0, 1, 2)
        self.start(0)

    def stop(self) -> None:
        self.kill(*self._processes)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    made = Cluster(tmp_path)
    made.start(0, 1, 2)
    try:
        yield made
    finally:
        made.stop()


@contextlib.asynccontextmanager
async def connected(urls: list[str]) -> AsyncIterator[Connection]:
    connection = Connection(urls, name="leaderless-test")
    await connection.open()
    try:
        yield connection
    finally:
        await connection.close()


async def provisioned(cluster: Cluster, names: Names, streams: StreamSettings) -> None:
    async with connected(cluster.urls) as connection:

        async def tried() -> bool:
            try:
                await provision(connection, names, streams)
            except (Unavailable, ProvisionError):  # also while too few servers have found each other
                return False
            return True

        await eventually(tried, timeout_seconds=60, what="a cluster that has elected its leaders")


@pytest.mark.slow
async def test_services_that_start_without_a_quorum_wait_and_serve(cluster: Cluster) -> None:
    settings = {"replicas": "3", "shards": "1", "push": "true", "push_allow_private": "true"}
    deployment = Deployment(",".join(cluster.urls), gateways=0, workers=0, settings=settings)
    names, streams = Names(deployment.namespace), StreamSettings("main", 1, 3, 30.0)
    await provisioned(cluster, names, streams)
    cluster.leave_one()
    processes = [deployment._worker(), deployment._gateway(), deployment._notifier()]
    try:

        def waiting() -> bool:
            assert all(process.running for process in processes), [process.output for process in processes]
            return all('"waiting for the log"' in process.output for process in processes)

        await eventually(waiting, timeout_seconds=60, what="services that say why they wait")
        cluster.start(1, 2)
        await asyncio.gather(*(process.ready() for process in processes))
        (gateway,) = deployment.gateways
        await gateway.knows_agents()
        async with client(gateway.url) as http:
            answer = await http.post("/message:send", json=message({"script": {"chunks": 3}}))
        assert answer.json()["task"]["status"]["state"] == "TASK_STATE_COMPLETED"
    finally:
        for process in processes:
            if process.running:
                process.kill()
        deployment._logs.cleanup()  # its streams go with the cluster


@pytest.mark.slow
async def test_without_leaders_everything_is_unavailable_and_nothing_is_missing(
    cluster: Cluster, namespace: str
) -> None:
    names, streams = Names(namespace), StreamSettings("main", 1, 3, 30.0)
    await provisioned(cluster, names, streams)
    async with connected([cluster.url(0)]) as connection:
        log = await JetStreamLog.open(connection, names, streams)
        await log.announce(AgentEntry(name="one", card=b"{}"), "worker-1")
        cluster.leave_one()

        await eventually(lambda: connection.reconnects and connection.connected, timeout_seconds=30)
        calls: list[Callable[[], Awaitable[object]]] = [
            log.agents,
            log.attended,
            log.refresh,
            lambda: log.follow("one"),
        ]
        for call in calls:

            async def leaderless(call: Callable[[], Awaitable[object]] = call) -> bool:
                try:
                    await call()
                except Unavailable:
                    return True
                return False

            await eventually(leaderless, timeout_seconds=60, what="a log without leaders")
        cluster.start(1, 2)

        async def back() -> bool:
            try:
                known = await log.agents()
            except Unavailable:
                return False
            assert known.keys() == {"one"}
            return True

        await eventually(back, timeout_seconds=60)


@pytest.mark.slow
async def test_the_doctor_says_which_streams_have_no_leader(cluster: Cluster, namespace: str) -> None:
    names, streams = Names(namespace), StreamSettings("main", 1, 3, 30.0)
    await provisioned(cluster, names, streams)
    settings = Settings(nats=cluster.url(0), namespace=namespace, shards=1, replicas=3)
    cluster.leave_one()

    async def told() -> list[Finding]:
        try:
            found = await doctor.examine(settings)
        except Unavailable:  # the server has not begun to listen
            return []
        return found if any("it has no leader" in one.says for one in found) else []

    found = await eventually(told, timeout_seconds=90, what="a stream without a leader")
    stream = names.log_stream("main", 0)
    said = [one for one in found if one.says == f"Stream {stream} does not answer: it has no leader."]
    assert [(one.check, one.level) for one in said] == [("replicas", "problem")]
    assert "no stream leader" in said[0].do
    assert not [one for one in found if one.check == "replicas" and one.level == "ok"]
    assert {one.check for one in found} >= {"streams", "clock", "agents", "dead letters"}
    assert all(one.do for one in found if one.level != "ok")


async def test_what_was_never_provisioned_ends_a_service_at_once(nats_url: str, namespace: str) -> None:
    async with asyncio.timeout(10):  # well below the patience of a start
        with pytest.raises(NotProvisioned, match="a2a-events provision"):
            async with jetstream_log(Settings(nats=nats_url, namespace=namespace), "worker"):
                pass


async def test_a_registry_whose_replica_answers_nothing_is_read_from_its_leader(nats_url: str, namespace: str) -> None:
    """Without direct gets the server says that nobody serves them, as while a replica recovers."""
    names, streams = Names(namespace), StreamSettings("main", 1, 1, 30.0)
    async with connected([nats_url]) as connection:
        await provision(connection, names, streams)
        log = await JetStreamLog.open(connection, names, streams)
        entries = {name: AgentEntry(name=name, card=b"{}") for name in ("one", "two")}
        for entry in entries.values():
            await log.announce(entry, "worker-1")
        info = await connection.api(f"STREAM.INFO.{names.registry_stream('main')}")
        changed = await connection.api(
            f"STREAM.UPDATE.{names.registry_stream('main')}", {**info["config"], "allow_direct": False}
        )
        assert "error" not in changed

        assert await log.agents() == entries


async def test_a_worker_takes_work_before_the_registry_answers(nats_url: str, namespace: str) -> None:
    async def answer(turn: Turn) -> None:
        await turn.artifact("done")

    names, streams = Names(namespace), StreamSettings("main", 1, 1, 30.0)
    agents = [as_agent(agent(name=name)(answer)) for name in ("one", "two", "three")]
    async with connected([nats_url]) as connection:
        await provision(connection, names, streams)
        log = await JetStreamLog.open(connection, names, streams)
        await connection.api(f"STREAM.DELETE.{names.registry_stream('main')}")
        asked = asyncio.Event()
        # Somebody hears what the registry is asked, and does not answer.
        await connection.subscribe(f"$JS.API.DIRECT.GET.{names.registry_stream('main')}", lambda *_: asked.set())
        worker = Worker(log, agents, Writer("worker", "worker-1"), ack_wait_seconds=600.0)  # asks for work only once
        running = RunningWorker(worker)
        try:
            calls = Calls(Operations(log, Writer("gateway", "gateway-1")), agents[2])
            async with asyncio.timeout(30):
                task = await calls.send_task("hello")
                await asked.wait()
            assert task.status.state is TaskState.COMPLETED
            assert not running.worker.ready.is_set()
            await calls.close()
        finally:
            await running.stop()
