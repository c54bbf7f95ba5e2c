"""What the doctor says of deployments that lack something, each broken in one place."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from a2a_events.log.jetstream import Connection, JetStreamLog, Names, StreamSettings, provision
from a2a_events.log.port import AgentEntry, Letter
from a2a_events.services import doctor
from a2a_events.services.doctor import Finding, Level
from a2a_events.services.nats_server import binary
from a2a_events.settings import Settings
from a2a_events.testing import eventually
from a2a_events.timeline.events import Kind
from tests.contract.logs import new_task, offered

pytestmark = pytest.mark.integration

STREAMS = StreamSettings("main", 1)
STORE_BYTES = 10_000_000


@pytest.fixture
async def connection(nats_url: str) -> AsyncIterator[Connection]:
    made = Connection([nats_url], name="test-doctor")
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def settings(connection: Connection, nats_url: str, namespace: str) -> Settings:
    """Of a deployment that lacks nothing but what one server and an open user are."""
    await provision(connection, Names(namespace), STREAMS, notifier=True)
    log = await JetStreamLog.open(connection, Names(namespace), STREAMS)
    await log.announce(AgentEntry("greet", b"{}"), "w1")
    await provision(connection, Names(namespace), STREAMS, notifier=True)
    return Settings(nats=nats_url, namespace=namespace, shards=1)


async def changed(connection: Connection, stream: str, **settings: object) -> None:
    config = (await connection.api(f"STREAM.INFO.{stream}"))["config"] | settings
    answer = await connection.api(f"STREAM.UPDATE.{stream}", config)
    assert "error" not in answer, answer


async def problems(settings: Settings, **more: Any) -> list[Finding]:
    return [one for one in await doctor.examine(settings, **more) if one.level is Level.PROBLEM]


async def test_a_deployment_that_lacks_nothing_has_no_problem(settings: Settings) -> None:
    found = await doctor.examine(settings)
    assert [one for one in found if one.level is Level.PROBLEM] == []
    assert {one.check for one in found} == {
        "server", "permissions", "durability", "streams", "replicas", "limits", "clock", "agents", "notifiers",
        "dead letters",
    }  # fmt: skip
    assert all(one.says.endswith(".") for one in found)
    assert all(one.do for one in found if one.level is not Level.OK)


async def test_nothing_provisioned(nats_url: str, namespace: str) -> None:
    found = await problems(Settings(nats=nats_url, namespace=namespace, shards=1))
    assert f"Stream {Names(namespace).log_stream('main', 0)} is not there." in [one.says for one in found]
    assert any("a2a-events provision" in one.says for one in found if one.check == "agents")


async def test_a_stream_that_somebody_changed(connection: Connection, settings: Settings) -> None:
    stream = Names(settings.namespace).snapshot_stream("main")
    await changed(connection, stream, max_msgs_per_subject=3)
    (found,) = await problems(settings)
    assert found.says.startswith(f"Stream {stream} has max_msgs_per_subject 3 where 1 is needed")


async def test_fewer_replicas_than_are_set(settings: Settings) -> None:
    (found,) = await problems(msgspec.structs.replace(settings, replicas=3))
    names = Names(settings.namespace)
    for stream in (names.log_stream("main", 0), names.snapshot_stream("main"), names.registry_stream("main")):
        assert f"{stream} has 1" in found.says
    assert "That of snapshots refuses it" in found.do


async def test_a_consumer_that_somebody_paused(connection: Connection, settings: Settings) -> None:
    stream = Names(settings.namespace).log_stream("main", 0)
    await connection.api(f"CONSUMER.PAUSE.{stream}.worker-greet", {"pause_until": "2099-01-01T00:00:00Z"})
    (found,) = await problems(settings)
    assert found.says == f"Consumer {stream}/worker-greet is paused until 2099-01-01T00:00:00Z: it hands out nothing."
    assert "resume" in found.do


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"max_age": int(3600e9)}, "it drops records of tasks that have not ended"),
        ({"max_bytes": 1 << 20}, "discards its oldest records"),
    ],
)
async def test_limits_that_lose_records(
    connection: Connection, settings: Settings, limits: dict[str, int], said: str
) -> None:
    await changed(connection, Names(settings.namespace).log_stream("main", 0), **limits)
    (found,) = await problems(settings)
    assert said in found.says


async def test_a_stream_that_is_nearly_full(connection: Connection, settings: Settings) -> None:
    names = Names(settings.namespace)
    log = await JetStreamLog.open(connection, names, STREAMS)
    await log.try_append(new_task(log), offered(0, size=30_000), 0)
    await changed(connection, names.log_stream("main", 0), max_bytes=33_000, discard="new")
    (found,) = await problems(settings)
    assert (found.check, found.says[2:]) == (
        "limits",
        f"% of max_bytes of stream {names.log_stream('main', 0)} is used.",
    )


async def test_messages_that_nobody_works_on(connection: Connection, settings: Settings) -> None:
    names = Names(settings.namespace)
    log = await JetStreamLog.open(connection, names, STREAMS)
    await log.announce(AgentEntry("lonely", b"{}"), "w1")
    await provision(connection, names, STREAMS)
    task = msgspec.structs.replace(new_task(log), agent="lonely")
    await log.try_append(task, offered(0, kind=Kind.SUBMITTED), 0)
    signs = {"filter": names.alive("main", "*", "*")}
    await connection.api(f"STREAM.PURGE.{names.registry_stream('main')}", signs)
    (found,) = await problems(settings)
    assert found.says == "Agent lonely has 0 workers and 1 message queued or running."
    assert "Start workers" in found.do


async def test_tasks_that_were_given_up_are_counted(connection: Connection, settings: Settings) -> None:
    log = await JetStreamLog.open(connection, Names(settings.namespace), STREAMS)
    await log.put_dead_letter(Letter(new_task(log), 1, "it raised", 3, 4))
    (found,) = [one for one in await doctor.examine(settings) if one.check == "dead letters"]
    assert (found.level, found.says) == (Level.WARNING, "1 task were given up.")


async def test_clocks_that_differ(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "time", SimpleNamespace(time=lambda: time.time() + 60))
    (found,) = await problems(settings)
    assert found.check == "clock"
    assert found.says.startswith(tuple(f"This machine's clock and the log's are {n}" for n in (59, 60)))


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """A server with a monitoring port, a sync_interval, and a user of few permissions; its two addresses."""
    config = tmp_path / "nats.conf"
    config.write_text(
        f'port: -1\nhttp: "127.0.0.1:-1"\nports_file_dir: "{tmp_path}"\n'
        f'jetstream {{ store_dir: "{tmp_path}/js", sync_interval: {request.param}, max_file_store: {STORE_BYTES} }}\n'
        "authorization { users: [{ user: few, password: few, permissions: { subscribe: ['_INBOX.>'],"
        " publish: ['$SYS.REQ.USER.INFO', '$JS.API.STREAM.INFO.>'] } }, { user: all, password: all }] }\n"
    )
    process = subprocess.Popen([binary(), "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:

        def ports() -> dict[str, list[str]] | None:
            file = next(tmp_path.glob("*.ports"), None)
            return json.loads(file.read_text() or "null") if file else None

        found = asyncio.run(eventually(ports))
        yield found["nats"][0].replace("nats://", "nats://few:few@"), found["monitoring"][0]
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize(
    ("server", "level"), [("always", Level.OK), ("2m", Level.PROBLEM)], indirect=["server"], ids=["always", "2m"]
)
async def test_how_durable_it_is_and_what_may_not_be_looked_at(server: tuple[str, str], level: Level) -> None:
    nats, monitor = server
    every = await doctor.examine(Settings(nats=nats, shards=1), monitor=monitor)
    assert "0% of what this server may store is used." in [one.says for one in every if one.level is Level.OK]
    found = {one.check: one for one in every}
    assert found["durability"].level is level
    assert found["permissions"].says == "This is user few of account $G, whose permissions are limited."
    assert found["limits"].level is Level.UNKNOWN
    assert "This user may not look" in found["limits"].says


@pytest.mark.parametrize("server", ["2m"], indirect=True)
async def test_a_server_whose_store_is_nearly_full(server: tuple[str, str]) -> None:
    nats, monitor = server
    settings = Settings(nats=nats.replace("few:few", "all:all"), shards=1)
    made = Connection(settings.servers, name="test-doctor")
    await made.open()
    await provision(made, Names(settings.namespace), STREAMS)
    log = await JetStreamLog.open(made, Names(settings.namespace), STREAMS)
    for _ in range(13):
        await log.try_append(new_task(log), offered(0, size=700_000), 0)
    await made.close()
    assert [one for one in await problems(settings) if one.check == "limits"] == [], "no connection tells"
    (found,) = [one for one in await problems(settings, monitor=monitor) if one.check == "limits"]
    assert found.says == "91% of what this server may store is used."
    assert "disk full" in found.do


@pytest.mark.parametrize("server", ["2m"], indirect=True)
async def test_limits_of_streams_are_looked_at_by_who_may_not_see_the_account_s(server: tuple[str, str]) -> None:
    nats, _ = server
    settings, names = Settings(nats=nats, shards=1), Names("a2a")
    made = Connection([nats.replace("few:few", "all:all")], name="test-doctor")
    await made.open()
    await provision(made, names, STREAMS)
    await changed(made, names.log_stream("main", 0), max_age=int(3600e9))
    await made.close()
    found = [one for one in await doctor.examine(settings) if one.check == "limits"]
    assert [one.level for one in found] == [Level.PROBLEM, Level.UNKNOWN]
    assert "max_age" in found[0].says
