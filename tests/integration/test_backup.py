"""The drill: a backup is restored to another server, and every task is what it was, byte for byte."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec
import pytest

from a2a_events import Turn, agent, limits
from a2a_events.log.jetstream import Connection, JetStreamLog, Names, StreamSettings, provision
from a2a_events.log.jetstream import backup as backups
from a2a_events.log.jetstream.backup import BackupError
from a2a_events.log.jetstream.streams import shards_of
from a2a_events.log.port import AgentEntry
from a2a_events.model import TaskState
from a2a_events.services import backup
from a2a_events.services.nats_server import NatsServer
from a2a_events.settings import Settings
from a2a_events.testing import eventually
from a2a_events.timeline import cursor as cursors
from a2a_events.timeline.cursor import Cursor
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import pack
from tests.contract.logs import new_task, offered
from tests.integration.stack import Stack, stack_of

pytestmark = pytest.mark.integration

SHARDS = 2


@agent(name="drilled")
async def drilled(turn: Turn) -> None:
    if turn.text == "ask":
        turn.require_input("what else?")
    else:
        await turn.artifact(turn.text)


@pytest.fixture
async def elsewhere() -> AsyncIterator[str]:
    """Another server, with nothing in it."""
    server = NatsServer(sync="2m")
    await server.start()
    yield server.url
    await server.stop()
    server.clean()


@asynccontextmanager
async def opened(url: str, namespace: str, shards: int = 1) -> AsyncIterator[JetStreamLog]:
    """A log that is provisioned if it is not there."""
    names, streams = Names(namespace), StreamSettings("main", shards)
    connection = Connection([url], name="test-backup")
    await connection.open()
    try:
        await provision(connection, names, streams)
        yield await JetStreamLog.open(connection, names, streams)
    finally:
        await connection.close()


async def digest(log: JetStreamLog, task: TaskRef) -> str:
    """Of everything that the log holds of a task: positions, headers and contents."""
    made = hashlib.sha256()
    async for records in log.read(task):
        for record in records:
            made.update(f"{record.position} {pack(record.header)} {record.inbound} ".encode() + record.payload)
    return made.hexdigest()


async def digests(log: JetStreamLog) -> dict[str, str]:
    tasks: set[TaskRef] = set()
    for shard, end in (await log.ends()).items():
        async for batch in log.scan(shard, 1, end.position):
            tasks |= {stored.task for stored in batch}
    return {task.task_id: await digest(log, task) for task in tasks}


async def test_every_task_is_what_it_was_and_goes_on(
    nats_url: str, namespace: str, elsewhere: str, tmp_path: Path
) -> None:
    names, settings = Names(namespace), Settings(nats=nats_url, namespace=namespace, shards=SHARDS)
    folder = tmp_path / "monday"
    async with stack_of("jetstream", drilled, nats_url, namespace, ack_wait_seconds=10.0) as stack:
        worker = await stack.worker()
        waits = await stack.calls.send_task("ask")
        for number in range(20):
            await stack.calls.send_task(f"{number}")
        large = await stack.calls.send_task("x" * (limits.RECORD_BYTES + 10))
        assert isinstance(stack.log, JetStreamLog)
        await worker.stop()
        queued = await stack.calls.send_task("queued", immediately=True)
        before = await digests(stack.log)
        key = await stack.log.sealing_key()
        await backup.save(settings, folder)
        await stack.calls.send_task("after the backup", immediately=True)
        first = (await stack.records(waits.id))[0]
        cursor = cursors.text(stack.ref(waits.id), Cursor(first.header.incarnation, first.position, 1))

    assert len(before) == 23
    assert folder.stat().st_mode & 0o777 == 0o700
    await backup.restore(msgspec.structs.replace(settings, nats=elsewhere), folder)

    async with AsyncExitStack() as exits:
        connection = Connection([elsewhere], name="restored")
        await connection.open()
        exits.push_async_callback(connection.close)
        log = await JetStreamLog.open(connection, names, StreamSettings("main", SHARDS))
        assert await digests(log) == before
        assert await log.sealing_key() == key
        restored = Stack([log, log, log], stack.agent, 10.0, 0)
        exits.push_async_callback(restored.close)
        assert (await restored.calls.get(large.id)).status.state is TaskState.COMPLETED
        await restored.worker()
        ended = await restored.calls.send_task("more", task_id=waits.id)
        assert ended.status.state is TaskState.COMPLETED
        replayed = [update async for update in restored.calls.subscribe(waits.id, cursor=cursor)]
        assert len(replayed) >= 3, "a cursor of before the disaster is one after it"

        async def worked() -> bool:
            return (await restored.calls.get(queued.id)).status.state is TaskState.COMPLETED

        await eventually(worked, timeout_seconds=60, what="the message that nobody had taken")


async def test_what_is_replaced_while_it_is_saved_does_not_spoil_the_backup(
    nats_url: str, namespace: str, elsewhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(nats=nats_url, namespace=namespace, shards=1)
    async with opened(nats_url, namespace) as log:
        task, tasks = new_task(log), [new_task(log) for _ in range(200)]
        await log.try_append(task, offered(0), 0)
        for one in tasks:
            await log.put_notified(one, os.urandom(100_000), 0)
        ours, pushed = backups._write, Names(namespace).push_stream("main")
        replaced = False

        def written(file: BinaryIO, chunk: bytes) -> None:
            """The server stands still meanwhile: it sends no more than a few chunks that were not acknowledged."""
            nonlocal replaced
            if pushed in file.name and not replaced:
                replaced = True
                asyncio.run_coroutine_threadsafe(replace(), loop).result(30)
            ours(file, chunk)

        async def replace() -> None:
            for one in tasks[-50:]:
                _, version = await log.notified(one)
                await log.put_notified(one, b"later", version)
            await log.put_progress("sweep", b"later", 0)
            await log.announce(AgentEntry("greet", b"{}"), "w1")

        loop = asyncio.get_running_loop()
        monkeypatch.setattr(backups, "_write", written)
        await backup.save(settings, tmp_path / "b")
        assert replaced
        kept = [await log.notified(one) for one in tasks[:100]]
    await backup.restore(msgspec.structs.replace(settings, nats=elsewhere), tmp_path / "b")
    async with opened(elsewhere, namespace) as restored:
        assert [await restored.notified(one) for one in tasks[:100]] == kept
        assert await restored.last(task) is not None


async def test_snapshots_of_what_came_later_are_not_left_beside_a_restored_log(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    names, settings = Names(namespace), Settings(nats=nats_url, namespace=namespace, shards=1)
    async with opened(nats_url, namespace) as log:
        await backup.save(settings, tmp_path / "b")
        kept = names.snapshot_stream("main")
        await remove_all_but(log, kept)
        with pytest.raises(BackupError, match=f"stream {kept} is there already"):
            await backup.restore(settings, tmp_path / "b")
        await remove_all_but(log, "")
        await backup.restore(settings, tmp_path / "b")


async def remove_all_but(log: JetStreamLog, kept: str) -> None:
    """As when streams were deleted by mistake."""
    listed = await log._connection.api("STREAM.NAMES", {"subject": f"{log._names.namespace}.>"})
    for stream in [*(listed["streams"] or []), f"OBJ_{log._names.bucket(log.name)}"]:
        if stream != kept:
            await log._connection.api(f"STREAM.DELETE.{stream}")


async def test_a_restored_log_has_the_shards_that_it_had(
    nats_url: str, namespace: str, elsewhere: str, tmp_path: Path
) -> None:
    settings = Settings(nats=nats_url, namespace=namespace)  # where 4 are the default
    async with opened(nats_url, namespace, 2):
        await backup.save(settings, tmp_path / "b")
    await backup.restore(msgspec.structs.replace(settings, nats=elsewhere), tmp_path / "b")
    connection = Connection([elsewhere], name="test-backup")
    await connection.open()
    assert set(await shards_of(connection, Names(namespace), "main")) == {0, 1}
    await connection.close()


async def test_what_was_changed_or_cut_is_refused_before_anything_is_made(
    nats_url: str, namespace: str, elsewhere: str, tmp_path: Path
) -> None:
    settings = Settings(nats=nats_url, namespace=namespace, shards=1)
    there = msgspec.structs.replace(settings, nats=elsewhere)
    connection = Connection([nats_url], name="test-backup")
    await connection.open()
    await provision(connection, Names(namespace), StreamSettings("main", 1))
    log = await JetStreamLog.open(connection, Names(namespace), StreamSettings("main", 1))
    await log.try_append(new_task(log), offered(0, size=1000), 0)
    await backup.save(settings, tmp_path / "b")
    await connection.close()
    with pytest.raises(BackupError, match="is not empty"):
        await backup.save(settings, tmp_path / "b")
    with pytest.raises(BackupError, match="is there already"):
        await backup.restore(settings, tmp_path / "b")
    with pytest.raises(BackupError, match="restore it with these settings"):
        await backup.restore(msgspec.structs.replace(there, namespace="other"), tmp_path / "b")

    file = tmp_path / "b" / f"{Names(namespace).log_stream('main', 0)}.snapshot"
    whole = file.read_bytes()
    for broken in (whole[:-1], whole[:50] + bytes([whole[50] ^ 1]) + whole[51:]):
        file.write_bytes(broken)
        with pytest.raises(BackupError, match="is not what was saved"):
            await backup.restore(there, tmp_path / "b")
    file.unlink()
    with pytest.raises(BackupError, match="is missing"):
        await backup.restore(there, tmp_path / "b")
    (tmp_path / "b" / backups.MANIFEST).unlink()
    with pytest.raises(BackupError, match="no finished backup"):
        await backup.restore(there, tmp_path / "b")
    empty = Connection([elsewhere], name="test-backup")
    await empty.open()
    assert not (await empty.api("STREAM.NAMES"))["streams"]
    await empty.close()
