"""Two servers of a2a-sdk as processes over one nats-server, asked by a2a-sdk's own client; one of them is killed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from a2a.client import Client, ClientConfig, ClientFactory
from a2a.types import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    Message,
    Part,
    Role,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    TaskState,
)

from a2a_events.services import provisioner
from a2a_events.services.nats_server import NatsServer
from a2a_events.settings import PREFIX
from a2a_events.testing import eventually, free_port
from tests.adapters.a2a_cluster.replicas import settings_for

pytestmark = [pytest.mark.integration, pytest.mark.processes, pytest.mark.timeout(120)]

SERVER = Path(__file__).with_name("server.py")
WAIT_SECONDS = 30


class Server:
    """One process, and a client of a2a-sdk that asks it."""

    def __init__(self, environment: dict[str, str], log_file: Path) -> None:
        self.port = free_port()
        self._log_file = log_file
        with log_file.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(SERVER), str(self.port)],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._http = httpx.AsyncClient(timeout=60)
        self.client: Client

    async def ready(self) -> None:
        url = f"http://127.0.0.1:{self.port}"

        async def up() -> bool:
            assert self.process.poll() is None, self._log_file.read_text()
            try:
                return (await self._http.get(f"{url}/.well-known/agent-card.json")).status_code == httpx.codes.OK
            except httpx.TransportError:
                return False

        await eventually(up, timeout_seconds=WAIT_SECONDS)
        factory = ClientFactory(ClientConfig(streaming=True, httpx_client=self._http))
        self.client = await factory.create_from_url(url)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    async def close(self) -> None:
        await self._http.aclose()
        if self.process.poll() is None:
            self.kill()


@pytest.fixture
async def servers(nats_url: str, namespace: str, tmp_path: Path) -> AsyncIterator[tuple[Server, Server]]:
    await provisioner.run(settings_for(nats_url, namespace))
    async with AsyncExitStack() as exits:
        made = []
        for name in ("one", "other"):
            environment = {f"{PREFIX}NATS": nats_url, f"{PREFIX}NAMESPACE": namespace, f"{PREFIX}INSTANCE": name}
            server = Server(environment, tmp_path / f"{name}.log")
            exits.push_async_callback(server.close)
            made.append(server)
        await asyncio.gather(*(server.ready() for server in made))
        yield made[0], made[1]


def counting_to(number: int) -> SendMessageRequest:
    return SendMessageRequest(message=Message(message_id="m-1", role=Role.ROLE_USER, parts=[Part(text=str(number))]))


class Seen:
    """What a stream has shown so far, read beside the test."""

    def __init__(self, stream: Any) -> None:
        self.updates: list[StreamResponse] = []
        self._reading = asyncio.create_task(self._read(stream))

    async def _read(self, stream: Any) -> None:
        async for update in stream:
            self.updates.append(update)

    async def begun(self, count: int = 1) -> str:
        await eventually(lambda: len(self.updates) >= count, timeout_seconds=WAIT_SECONDS)
        return self.updates[0].task.id

    async def ended(self) -> None:
        await asyncio.wait_for(self._reading, WAIT_SECONDS)

    async def cut(self) -> None:
        """It broke, as streams of a process that is killed do."""
        with pytest.raises(Exception):  # noqa: B017, PT011 -- what the client makes of it is its own affair
            await asyncio.wait_for(self._reading, WAIT_SECONDS)

    @property
    def numbers(self) -> list[int]:
        shown = list(self.updates[0].task.artifacts)
        shown += [u.artifact_update.artifact for u in self.updates if u.HasField("artifact_update")]
        return [int(part.text) for artifact in shown for part in artifact.parts]

    @property
    def last_state(self) -> str:
        return TaskState.Name(self.updates[-1].status_update.status.state)


async def test_a_task_is_followed_at_the_server_that_does_not_run_it(servers: tuple[Server, Server]) -> None:
    one, other = servers
    streaming = Seen(one.client.send_message(counting_to(40)))
    task_id = await streaming.begun(10)
    following = Seen(other.client.subscribe(SubscribeToTaskRequest(id=task_id)))
    await following.begun()

    await asyncio.gather(streaming.ended(), following.ended())

    assert streaming.numbers == list(range(40))
    assert following.numbers == list(range(40))
    assert streaming.last_state == following.last_state == "TASK_STATE_COMPLETED"
    found = await other.client.get_task(GetTaskRequest(id=task_id))
    assert len(found.artifacts[0].parts) == 40
    assert [task.id for task in (await other.client.list_tasks(ListTasksRequest())).tasks] == [task_id]


async def test_a_follower_whose_server_is_killed_goes_on_at_the_other(servers: tuple[Server, Server]) -> None:
    one, other = servers
    streaming = Seen(one.client.send_message(counting_to(60)))
    task_id = await streaming.begun(10)
    following = Seen(other.client.subscribe(SubscribeToTaskRequest(id=task_id)))
    await following.begun(5)
    other.kill()
    await following.cut()
    again = Seen(one.client.subscribe(SubscribeToTaskRequest(id=task_id)))

    await asyncio.gather(streaming.ended(), again.ended())

    assert streaming.numbers == list(range(60))
    assert again.last_state == "TASK_STATE_COMPLETED"


async def test_what_a_killed_server_has_reported_is_kept_and_its_task_can_be_canceled(
    servers: tuple[Server, Server],
) -> None:
    one, other = servers
    streaming = Seen(one.client.send_message(counting_to(1000)))
    task_id = await streaming.begun(10)
    following = Seen(other.client.subscribe(SubscribeToTaskRequest(id=task_id)))
    await following.begun(5)
    one.kill()
    await streaming.cut()

    # What a client was shown is stored; nobody goes on with it, which is a2a-sdk's to say.
    found = await other.client.get_task(GetTaskRequest(id=task_id))
    kept = [int(part.text) for part in found.artifacts[0].parts]
    assert kept[: len(streaming.numbers)] == streaming.numbers
    assert TaskState.Name(found.status.state) == "TASK_STATE_WORKING"

    canceled = await other.client.cancel_task(CancelTaskRequest(id=task_id))
    assert TaskState.Name(canceled.status.state) == "TASK_STATE_CANCELED"
    await following.ended()
    assert following.last_state == "TASK_STATE_CANCELED"
    assert following.numbers == kept


async def test_streams_outlive_the_broker(tmp_path: Path) -> None:
    broker = NatsServer(tmp_path / "nats")
    await broker.start()
    await provisioner.run(settings_for(broker.url, "a2a"))
    one, other = (
        Server({f"{PREFIX}NATS": broker.url, f"{PREFIX}SHARDS": "2"}, tmp_path / f"{name}.log") for name in "ab"
    )
    try:
        await asyncio.gather(one.ready(), other.ready())
        streaming = Seen(one.client.send_message(counting_to(60)))
        task_id = await streaming.begun(10)
        following = Seen(other.client.subscribe(SubscribeToTaskRequest(id=task_id)))
        await following.begun()
        await broker.stop()
        await broker.start()

        await asyncio.gather(streaming.ended(), following.ended())

        assert streaming.numbers == following.numbers == list(range(60))
        assert following.last_state == "TASK_STATE_COMPLETED"
    finally:
        await one.close()
        await other.close()
        await broker.stop()
        broker.clean()
