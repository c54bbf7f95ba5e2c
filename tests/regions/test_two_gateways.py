"""Gateways with their sockets in two regions: what clients see over HTTP and gRPC, judged by the checker of faults."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from grpc import aio
from msgspec.structs import replace

from a2a_events.client import Client
from a2a_events.errors import Unreachable
from a2a_events.log.jetstream import Names
from a2a_events.log.jetstream.reads import Message
from a2a_events.log.jetstream.takeover import take_over
from a2a_events.log.jetstream.wire import header_value
from a2a_events.log.port import Log
from a2a_events.model import Message as A2AMessage
from a2a_events.model import Part, Role, Task
from a2a_events.services import gateway
from a2a_events.services.connect import jetstream_log
from a2a_events.services.health import Health
from a2a_events.settings import Settings
from a2a_events.testing import eventually, free_port
from faults import history as h
from faults import log_dump
from faults.checker.judge import judge
from faults.checker.run import Terms, load
from faults.recording import recorded
from faults.regions import EU, US, domain
from tests.integration.http import Frame, client, frames, message, serves
from tests.interop.grpc_wire import GrpcCaller
from tests.regions.two import TwoRegions, ref

pytestmark = pytest.mark.integration

STALENESS = "a2a-staleness-seconds"
AT_ONCE_SECONDS = 3.0
"""Far above what an answer takes, far below every patience."""


class Recorded(TwoRegions):
    """Both regions; what every process does with the log is written down."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self._recorders = 0

    def seen(self, log: Log, role: str) -> Log:
        self._recorders += 1
        recorder = h.Recorder(self.folder / "histories", f"{role}-{self._recorders}")
        self._exits.callback(recorder.close)
        return recorded(log, recorder)

    async def http(self, region: str, health: Health | None = None, **more: Any) -> Settings:
        """A gateway with a socket; its settings."""
        settings = replace(self.settings(region), port=free_port(), drain_spread_seconds=0.0, **more)
        log, connection = await self._exits.enter_async_context(jetstream_log(settings, "gateway", health=health))
        stop = asyncio.Event()
        # A log that is wrapped is no regional one: who wants to see how a gateway ends streams gets it as it is.
        of: Any = log if health is not None else self.seen(log, f"gateway-{region}")
        serving = asyncio.create_task(gateway.serve(of, connection, settings, stop, health=health))

        async def ended() -> None:
            stop.set()
            await serving

        self._exits.push_async_callback(ended)
        await serves(settings.base_url, serving)
        return settings

    async def dump(self) -> None:
        """Both logs, each from its home, and its mirror as another replica of it."""
        names = Names(self.namespace)
        for log, other in ((EU, self.us), (US, self.eu)):
            home = self.gateways[log]
            await log_dump.dump(home.connection, names, log, 2, self.folder)
            for shard, end in (await other.log.ends(log)).items():
                stream = names.log_stream(log, shard)
                for written in (self.folder / log_dump.FOLDER).glob(f"{stream}.*{log_dump.REPLICA}"):
                    written.unlink()  # with what a mirror has not
                for region, connection in (("home", home.connection), ("mirror", other.connection)):
                    messages = await log_dump._messages(connection, stream, end.position)
                    log_dump.write_replica(self.folder, stream, region, ((m.position, _copied(m)) for m in messages))


def _copied(message: Message) -> bytes:
    """What of a message a mirror has: all but the conditions of its append."""
    record = header_value(message.headers, b"A2A-Record")
    return b"\n".join((message.subject.encode(), record.encode(), message.stored_at.encode(), message.payload))


@pytest.fixture
async def regions(tmp_path: Path) -> AsyncIterator[Recorded]:
    async with Recorded(tmp_path) as made:
        yield made


class Driver:
    """A client that writes down what it does and sees."""

    def __init__(self, folder: Path) -> None:
        self.recorder = h.Recorder(folder / "histories", "driver")
        self.cursor = ""
        self.task = ""

    async def sends(self, http: httpx.AsyncClient, region: str, text: str) -> dict[str, Any]:
        """A whole task by SendMessage."""
        params = message(text)
        call = self.recorder.invoke(h.Send(client="c", gateway=region, message_id=params["message"]["messageId"]))
        answered = await http.post("/message:send", json=params)
        assert answered.status_code == 200, answered.text
        task: dict[str, Any] = answered.json()["task"]
        call.ok(h.answer(msgspec.json.encode(task)))
        return task

    @asynccontextmanager
    async def streams(self, http: httpx.AsyncClient, region: str, text: str) -> AsyncIterator[Any]:
        params = message(text)
        sent = h.Send(client="c", gateway=region, message_id=params["message"]["messageId"], streaming=True)
        call = self.recorder.invoke(sent)
        async with http.stream("POST", "/message:stream", json=params) as response:
            yield self._seen(call, frames(response), sends=True)

    @asynccontextmanager
    async def resumes(self, http: httpx.AsyncClient, region: str, before: int) -> AsyncIterator[Any]:
        call = self.recorder.invoke(
            h.Subscribe(client="c", gateway=region, task=self.task, cursor=self.cursor, resumes=before)
        )
        headers = {"Last-Event-ID": self.cursor}
        async with http.stream("GET", f"/tasks/{self.task}:subscribe", headers=headers) as response:
            assert response.status_code == 200
            assert response.headers[STALENESS].isdigit()
            call.ok(h.Opened())
            yield self._seen(call, frames(response), sends=False)

    async def _seen(self, call: h.Call, shown: AsyncIterator[Frame], *, sends: bool) -> AsyncIterator[Frame]:
        self.number = call.number
        how = "left"
        try:
            async for frame in shown:
                if sends and not self.task:
                    assert frame.update.task is not None
                    self.task = frame.update.task.id
                    call.ok(h.answer(msgspec.json.encode(msgspec.json.decode(frame.raw)["task"])))
                self.recorder.note(h.update(call.number, frame.cursor, frame.raw))
                self.cursor = frame.cursor
                yield frame
            how = "closed"
        finally:
            self.recorder.note(h.StreamEnd(stream=call.number, how=how))  # type: ignore[arg-type]

    async def at_last(self, http: httpx.AsyncClient, region: str, tasks: list[str]) -> None:
        for task in tasks:
            call = self.recorder.invoke(h.Get(client=f"final-{region}", gateway=region, task=task, final=True))
            call.ok(h.answer((await http.get(f"/tasks/{task}")).content))
        call = self.recorder.invoke(h.ListTasks(client=f"final-{region}", gateway=region, walk=region, final=True))
        page = (await http.get("/tasks")).json()
        rows = tuple(h.Row(task["id"], task["status"]["state"]) for task in page["tasks"])
        call.ok(h.Page(rows=rows, last=not page.get("nextPageToken")))


async def until(shown: AsyncIterator[Frame], text: bytes) -> None:
    async with asyncio.timeout(40):
        async for frame in shown:
            if text in frame.raw:
                return
    raise AssertionError(f"the stream ended before {text!r}")


async def test_a_stream_goes_from_one_region_to_the_other_and_through_a_cut_and_all_invariants_hold(
    regions: Recorded,
) -> None:
    two, driver = regions, Driver(regions.folder)
    gate = two.gate("through everything")
    at = {EU: await two.http(EU), US: await two.http(US, grpc_port=free_port())}
    async with AsyncExitStack() as exits:
        eu, us = [await exits.enter_async_context(client(at[region].base_url)) for region in (EU, US)]

        async with driver.streams(eu, EU, "through everything") as shown:
            gate.put_nowait("one")
            await until(shown, b"one")
            await shown.aclose()
        task_id, first = driver.task, driver.number

        async with driver.resumes(us, US, first) as shown:
            gate.put_nowait("two")
            await until(shown, b"two")
            await two.even()

            fault = driver.recorder.invoke(h.Fault(kind="cut", target="leaf"))
            await two.cut()
            gate.put_nowait("three")
            await eventually(lambda: _stored(two, task_id, b"three"))

            read = await us.get(f"/tasks/{task_id}")
            assert read.status_code == 200
            assert int(read.headers[STALENESS]) >= 1
            assert b"three" not in read.content
            listed = await us.get("/tasks")
            assert int(listed.headers[STALENESS]) >= 1
            assert task_id in listed.text
            assert STALENESS not in (await eu.get(f"/tasks/{task_id}")).headers
            await _refused_at_once(driver, us, task_id)
            async with aio.insecure_channel(at[US].grpc_address) as channel:
                call = GrpcCaller(channel).start("GetTask", {"id": task_id})
                await call
                assert int(dict(await call.initial_metadata())[STALENESS]) >= 1
                opened = GrpcCaller(channel).start("SubscribeToTask", {"id": task_id})
                assert int(dict(await opened.initial_metadata())[STALENESS]) >= 1
                opened.cancel()
            own = await driver.sends(us, US, "of us, meanwhile")
            assert own["id"].startswith("t1-us-")

            await two.heal()
            fault.ok(h.Bitten(evidence="the other region was not reached"))
            driver.recorder.note(h.Heal())
            gate.put_nowait("")
            await until(shown, b"three")
            await until(shown, b"TASK_STATE_COMPLETED")
            async for _ in shown:
                raise AssertionError("nothing comes after the end")

        await two.even()
        for region, http in ((EU, eu), (US, us)):
            await driver.at_last(http, region, [task_id, own["id"]])
        await two.dump()
    driver.recorder.close()
    result = judge(load(regions.folder, Terms(progress_seconds=60.0, closed_world=False)))
    assert result.valid, result.violations
    assert not {"I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I11"} & set(result.not_judged), result.not_judged


async def _stored(two: TwoRegions, task_id: str, text: bytes) -> bool:
    return any(text in record.payload for record in await two.eu.records(ref(task_id)))


async def _refused_at_once(driver: Driver, us: httpx.AsyncClient, task_id: str) -> None:
    call = driver.recorder.invoke(h.Cancel(client="c", gateway=US, task=task_id))
    for path, body in ((f"/tasks/{task_id}:cancel", {}), ("/message:send", message("more", taskId=task_id))):
        began = time.monotonic()
        refused = await us.post(path, json=body)
        assert time.monotonic() - began < AT_ONCE_SECONDS
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
    call.fail("503")


async def test_a_client_s_tasks_stay_in_its_region_and_a_message_sent_again_in_the_other_is_known(
    regions: Recorded,
) -> None:
    two = regions
    urls = {region: (await two.http(region)).base_url for region in (EU, US)}
    async with Client(urls[EU]) as eu, Client(urls[US]) as us:
        for region, own in ((EU, eu), (US, us)):
            for number in range(6):
                task = await own.send(f"from {region} {number}")
                assert isinstance(task, Task)
                assert task.id.startswith(f"t1-{region}-")
        once = A2AMessage(message_id="once", role=Role.USER, parts=(Part(text="once"),))
        async with us.stream(once) as updates:
            async for _ in updates:
                pass
        assert updates.idempotency_key.startswith("us.")
        again = await eu.send(once, idempotency_key=updates.idempotency_key)
        assert isinstance(again, Task)
        assert again.id == updates.task_id


async def test_the_gateways_of_a_region_that_was_taken_over_say_so_and_end_their_streams(regions: Recorded) -> None:
    two, health = regions, Health()
    gate = two.gate("stays open")
    async with health.beating():
        settings = await two.http(EU, health)
        async with (
            client(settings.base_url) as eu,
            eu.stream("POST", "/message:stream", json=message("stays open")) as r,
        ):
            shown = frames(r)
            gate.put_nowait("one")
            await until(shown, b"one")
            assert (await eu.get("/readyz")).status_code == 200
            listed = (await eu.get("/tasks")).json()["tasks"]
            await two.even()
            await two.cut()
            await take_over(two.us.connection, Names(two.namespace), EU, domain(EU), lost=True)
            await two.heal()

            async with asyncio.timeout(40):
                rest = [frame async for frame in shown]
            assert not any(b"TASK_STATE_COMPLETED" in frame.raw for frame in rest)
            read = await eu.get(f"/tasks/{listed[0]['id']}")
            assert int(read.headers[STALENESS]) >= 1

            async def unready() -> bool:
                answer = await eu.get("/readyz")
                return answer.status_code == 503 and "taken over" in answer.text

            await eventually(unready, timeout_seconds=30)
            refused = await eu.get(f"/tasks/{listed[0]['id']}:subscribe")
            assert refused.status_code == 503
    with pytest.raises(Unreachable):
        await two.eu.send("nothing is written here any more")
