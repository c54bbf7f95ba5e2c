"""A connection that was lost, or that nats-py has closed for good: the process notices, makes a new one and goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError

from a2a_events.agents import scripted
from a2a_events.errors import LogError
from a2a_events.log.append import append
from a2a_events.log.jetstream import Connection, JetStreamLog, dispatch
from a2a_events.model import StreamResponse
from a2a_events.services.nats_server import NatsServer
from a2a_events.testing import eventually, unique_namespace
from a2a_events.timeline.events import Kind
from tests.contract.logs import Author, Kit, jetstream_kit, new_task, offered, read_all, taken
from tests.integration.stack import Stack, accumulate, stack_of, states

pytestmark = pytest.mark.integration


def connection_of(log: object) -> Connection:
    assert isinstance(log, JetStreamLog)
    return log._connection


async def close_for_good(connection: Connection) -> None:
    """What nats-py does to itself after some errors of the server."""
    wire = connection._wire
    assert wire is not None
    await wire.client.close()


@pytest.fixture(params=[True, False], ids=["raw", "stock"])
async def kit(request: pytest.FixtureRequest, nats_url: str, namespace: str) -> AsyncIterator[Kit]:
    async with jetstream_kit(nats_url, namespace, raw=request.param) as made:
        yield made


async def test_a_client_closed_for_good_is_rebuilt_with_its_subscriptions(kit: Kit) -> None:
    author = Author(kit.log, new_task(kit.log))
    other = kit.connections[1]
    async with kit.other.watch(author.task) as watch, aclosing(watch.after(0, 0)) as runs:
        await author.write_many(3)
        seen = await taken(runs, 3)
        await close_for_good(other)
        await author.write_many(3)  # while the reader is away
        await eventually(lambda: other.connected)
        seen += await taken(runs, 6)
        await author.write_many(3)
        seen += await taken(runs, 9)

    assert seen == author.records
    assert other.reconnects == 1


async def test_deliveries_go_on_after_a_client_was_rebuilt(kit: Kit) -> None:
    dispatch = await kit.other.follow("agent")
    dispatch.grant(10)
    handles = aiter(dispatch)
    await Author(kit.log, new_task(kit.log)).write(kind=Kind.SUBMITTED)
    async with asyncio.timeout(20):
        await (await anext(handles)).acknowledge()
        await close_for_good(kit.connections[1])
        author = Author(kit.log, new_task(kit.log))
        await author.write(kind=Kind.SUBMITTED)
        while (handle := await anext(handles)).task != author.task:
            await handle.acknowledge()
    await dispatch.close()


async def test_wakeups_that_are_waited_for_while_the_broker_is_away_hold_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "PULL_SECONDS", 0.01)
    monkeypatch.setattr(dispatch, "OVERDUE_SECONDS", 0.0)
    monkeypatch.setattr(dispatch, "TEND_SECONDS", 0.01)
    server = NatsServer(tmp_path)
    await server.start()
    try:
        async with jetstream_kit(server.url, unique_namespace(), raw=True) as kit:
            task = new_task(kit.log)
            waiting = asyncio.ensure_future(anext(aiter(await kit.log.wakeups(task.agent))))
            server.kill()
            await eventually(lambda: not kit.connections[0].connected)
            await server.start()
            await eventually(lambda: kit.connections[0].connected)
            await kit.log.wake_at(task, 1, 0)

            assert (await asyncio.wait_for(waiting, 20)).task == task
    finally:
        await server.stop()
        server.clean()


async def test_a_request_under_way_when_a_client_dies_is_not_left_hanging(kit: Kit) -> None:
    author = Author(kit.log, new_task(kit.log))
    await author.write()
    reading = [asyncio.create_task(read_all(kit.log, author.task)) for _ in range(50)]
    await asyncio.sleep(0)
    await close_for_good(kit.connections[0])

    results = await asyncio.wait_for(asyncio.gather(*reading, return_exceptions=True), 20)
    assert all(isinstance(r, list | LogError) for r in results), results
    await eventually(lambda: kit.connections[0].connected)
    assert await read_all(kit.log, author.task) == author.records


@pytest.mark.parametrize("whose", [0, 1, 2], ids=["gateway", "other gateway", "worker"])
async def test_streams_survive_a_client_closed_for_good(nats_url: str, namespace: str, whose: int) -> None:
    async with stack_of("jetstream", scripted, nats_url, namespace) as stack:
        await stack.worker()

        async def follow(number: int) -> None:
            calls = (stack.calls, stack.other)[number % 2]
            await _whole(stack, await calls.collect({"script": {"chunks": 40, "delayMs": 10}}))

        async with asyncio.TaskGroup() as group:
            for number in range(6):
                group.create_task(follow(number))
            for _ in range(3):
                await asyncio.sleep(0.1)
                await close_for_good(connection_of(stack._logs[whose]))
                await eventually(lambda: connection_of(stack._logs[whose]).connected)


async def _whole(stack: Stack, seen: list[StreamResponse]) -> None:
    assert states(seen)[-1].value == "TASK_STATE_COMPLETED", seen[-1]
    chunks = [u.artifact_update for u in seen if u.artifact_update is not None]
    assert [int(str(c.artifact.parts[0].text).split()[0]) for c in chunks] == list(range(40))
    accumulate(seen).assert_equals(await stack.calls.get(chunks[0].task_id))


async def test_streams_survive_a_broker_that_is_killed_twice(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    await server.start()
    try:
        # An ack wait far above the outage: a shorter one takes the outage for the death of the worker.
        async with stack_of("jetstream", scripted, server.url, unique_namespace(), ack_wait_seconds=30) as stack:
            await stack.worker()

            async def follow(number: int) -> None:
                calls = (stack.calls, stack.other)[number % 2]
                await _whole(stack, await calls.collect({"script": {"chunks": 40, "delayMs": 50}}))

            async with asyncio.TaskGroup() as group:
                for number in range(10):
                    group.create_task(follow(number))
                for _ in range(2):
                    await asyncio.sleep(0.5)
                    server.kill()
                    await asyncio.sleep(0.2)
                    await server.start()
    finally:
        await server.stop()
        server.clean()


async def test_an_append_during_an_outage_is_stored_once(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    await server.start()
    try:
        async with jetstream_kit(server.url, unique_namespace(), raw=True) as kit:
            task, expected = new_task(kit.log), 0
            ids: list[str] = []

            async def outages() -> None:
                for _ in range(2):
                    await asyncio.sleep(0.15)
                    server.kill()
                    await server.start()

            breaking = asyncio.create_task(outages())
            while not breaking.done():
                made = offered(len(ids))
                expected = await append(kit.log, task, made, expected)
                ids.append(made.header.record_id)
            await breaking

            async def read() -> list[str] | None:
                try:
                    return [r.header.record_id for r in await read_all(kit.other, task)]
                except LogError:
                    return None

            assert await eventually(read) == ids
    finally:
        await server.stop()
        server.clean()


async def test_what_was_left_during_an_outage_is_not_listened_to_after_it(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    await server.start()
    connection = Connection([server.url], name="reader", raw=True)
    try:
        await connection.open()
        before = await connection.subscribe("left.before", lambda *_: None)
        kept = await connection.subscribe("kept", lambda *_: None)
        server.kill()
        await eventually(lambda: not connection.connected)
        during = await connection.subscribe("left.during", lambda *_: None)
        await connection.unsubscribe(before)
        await connection.unsubscribe(during)
        await server.start()
        await eventually(lambda: connection.connected)
        asker = await nats.connect(server.url)
        try:
            await eventually(lambda: heard(asker, kept.subject))
            assert not await heard(asker, "left.before")
            assert not await heard(asker, "left.during")
        finally:
            await asker.close()
    finally:
        await connection.close()
        await server.stop()
        server.clean()


async def heard(asker: Client, subject: str) -> bool:
    """Whether anybody listens; nobody answers."""
    try:
        await asker.request(subject, timeout=0.5)
    except NoRespondersError:
        return False
    except NatsTimeoutError:
        return True
    raise AssertionError("somebody answered")
