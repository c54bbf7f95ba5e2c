"""Messages and artifacts larger than a record, through gateways and workers: whole to every client, or refused."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from nats.aio.client import Client as NatsClient

from a2a_events import Turn, agent, limits
from a2a_events.client import Client, accumulate
from a2a_events.client.endpoint import BindingName
from a2a_events.errors import Unavailable, Unreadable
from a2a_events.log.jetstream import JetStreamLog, Names, StreamSettings, provision
from a2a_events.log.jetstream.claim_check import ENCODING
from a2a_events.log.jetstream.names import RECORD
from a2a_events.log.jetstream.wire import header_block
from a2a_events.model import Message, Part, Role, Task, TaskState
from a2a_events.services.nats_server import NatsServer
from a2a_events.testing import eventually, unique_namespace
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import pack
from a2a_events.timeline.snapshot import restore
from tests.contract.logs import Author, Kit, jetstream_kit, new_task, offered, read_all
from tests.integration.http import Frame, client, gateway_in_process, get_task, message, rpc, streaming, subscribed
from tests.integration.stack import stack_of

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

GOLDEN = Path(__file__).parents[1] / "golden" / "objects"
MIB = 1024 * 1024
BINDINGS = ["JSONRPC", "HTTP+JSON"]


@agent(name="mirror")
async def mirror(turn: Turn) -> None:
    """Says what it was told, or as many artifacts of these sizes as it was asked for."""
    if turn.data is None:
        await turn.artifact(turn.text, artifact_id="echo")
    for number, size in enumerate(turn.data["sizes"] if turn.data else []):
        await turn.artifact(text(size, number), artifact_id=f"a{number}")


def text(size: int, number: int = 0) -> str:
    """A text of this length whose pieces differ, with what JSON escapes and what UTF-8 encodes."""
    piece = f'{number:08} "é\n'
    return (piece * (size // len(piece) + 1))[:size]


def parts(said: str, data: dict[str, Any]) -> Message:
    return Message(message_id=os.urandom(6).hex(), role=Role.USER, parts=(Part(text=said), Part(data=data)))


class Site:
    """Two gateways over HTTP and a worker, each with connections of its own."""

    def __init__(self, urls: list[str], namespace: str, log: JetStreamLog) -> None:
        self.one, self.other = (client(url) for url in urls)
        self.namespace = namespace
        self.log = log

    async def call(self, binding: str, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The result of SendMessage or GetTask at the first gateway."""
        if binding == "JSONRPC":
            answer = await self.one.post("/", json=rpc(method, params))
            result: dict[str, Any] = answer.json()["result"]
            return result
        if method == "GetTask":
            answer = await self.one.get(f"/tasks/{params['id']}")
        else:
            answer = await self.one.post("/message:send", json=params)
        assert answer.status_code == 200, answer.text[:1000]
        shown: dict[str, Any] = answer.json()
        return shown

    def ref(self, task_id: str) -> TaskRef:
        _, log, shard, _ = task_id.split("-", 3)
        return TaskRef(log, int(shard), "mirror", "-", task_id)

    async def stream_of(self, params: dict[str, Any]) -> list[Frame]:
        async with streaming(self.one, params) as shown:
            return [frame async for frame in shown]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(nats_url: str) -> AsyncIterator[Site]:
    namespace = unique_namespace()
    async with AsyncExitStack() as exits:
        # One event loop serves client, gateways and worker: half a second of JSON must not look like a dead worker.
        stack = await exits.enter_async_context(
            stack_of("jetstream", mirror, nats_url, namespace, ack_wait_seconds=20.0)
        )
        await stack.worker()
        urls = [await exits.enter_async_context(gateway_in_process(nats_url, namespace)) for _ in range(2)]
        assert isinstance(stack.log, JetStreamLog)
        made = Site(urls, namespace, stack.log)
        exits.push_async_callback(made.one.aclose)
        exits.push_async_callback(made.other.aclose)
        yield made


def texts(task: Task) -> list[object]:
    return [part.text for artifact in task.artifacts for part in artifact.parts]


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("size", [1000, limits.RECORD_BYTES - 300, 5 * MIB, 12 * MIB])
async def test_a_message_of_any_size_reaches_the_agent_and_comes_back(site: Site, binding: str, size: int) -> None:
    said = text(size)
    shown = (await site.call(binding, "SendMessage", message(said)))["task"]

    assert shown["status"]["state"] == TaskState.COMPLETED.value
    assert shown["artifacts"][0]["parts"] == [{"text": said}]
    assert shown["history"][0]["parts"] == [{"text": said}]
    assert await site.call(binding, "GetTask", {"id": shown["id"]}) == shown
    assert texts(await get_task(site.other, shown["id"])) == [said]


@pytest.mark.parametrize("binding", BINDINGS)
async def test_raw_and_data_parts_of_any_size_come_back(site: Site, binding: str) -> None:
    raw = base64.b64encode(os.urandom(2 * MIB)).decode()
    rows = [{"n": number, "tags": ["a", "]"]} for number in range(40_000)]
    params = message("both")
    params["message"]["parts"] += [{"raw": raw, "filename": "x.bin"}, {"data": {"sizes": [], "rows": rows}}]
    shown = (await site.call(binding, "SendMessage", params))["task"]

    parts = shown["history"][0]["parts"]
    assert parts == [{"text": "both"}, {"raw": raw, "filename": "x.bin"}, {"data": {"sizes": [], "rows": rows}}]


async def test_artifacts_of_any_size_are_streamed_whole_and_in_order_beside_small_ones(site: Site) -> None:
    sizes = [1000, 3 * MIB, 1000, 1000, limits.RECORD_BYTES, 5 * MIB, 1000]
    shown = await site.stream_of(message({"sizes": sizes}))

    changed = [frame.update.artifact_update for frame in shown if frame.update.artifact_update is not None]
    assert [(a.artifact.artifact_id, a.artifact.parts[0].text) for a in changed] == [
        (f"a{number}", text(size, number)) for number, size in enumerate(sizes)
    ]
    assert shown[-1].state == TaskState.COMPLETED.value
    revisions = [frame.revision for frame in shown]
    assert revisions == sorted(set(revisions))


async def test_a_cursor_among_large_artifacts_replays_the_rest_at_another_gateway(site: Site) -> None:
    shown = await site.stream_of(message({"sizes": [1000, 2 * MIB, 2 * MIB, 1000]}))
    assert shown[0].update.task is not None
    task_id = shown[0].update.task.id

    for at in range(len(shown) - 1):
        async with subscribed(site.other, task_id, shown[at].cursor) as rest:
            again = [frame async for frame in rest]
        assert [(f.cursor, f.raw) for f in again] == [(f.cursor, f.raw) for f in shown[at + 1 :]]


async def test_a_task_of_several_large_artifacts_is_shown_whole_by_every_gateway(site: Site) -> None:
    sizes = [5 * MIB, 5 * MIB, 5 * MIB]
    sent = await site.one.post("/message:send", json=message({"sizes": sizes}))
    task_id = sent.json()["task"]["id"]

    for http in (site.one, site.other):
        assert texts(await get_task(http, task_id)) == [text(size, number) for number, size in enumerate(sizes)]


async def test_a_snapshot_of_large_artifacts_shows_the_same_task(site: Site) -> None:
    """More than a worker holds of a task: it writes a snapshot on the way, in segments that fit messages."""
    sizes = [6 * MIB, 6 * MIB, 6 * MIB, 300_000, 1000]
    assert sum(sizes) > limits.SNAPSHOT_BYTES
    sent = await site.one.post("/message:send", json=message({"sizes": sizes}))
    task_id = sent.json()["task"]["id"]

    head = await site.log.snapshot(site.ref(task_id))
    assert head is not None
    fold = restore(head)
    assert fold is not None
    keys = [key for artifact in fold.content.artifacts.values() for key in artifact.parts.segments]
    segments = await site.log.segments(site.ref(task_id), keys)
    assert set(segments) == set(keys)
    assert sum(map(len, segments.values())) > 3 * 6 * MIB
    assert max(map(len, segments.values())) <= limits.SEGMENT_LARGEST_BYTES
    assert texts(await get_task(site.other, task_id)) == [text(size, number) for number, size in enumerate(sizes)]


async def test_large_content_is_the_same_in_a2a_0_3(site: Site) -> None:
    said = text(2 * MIB)
    old = {"kind": "message", "messageId": "m", "role": "user", "parts": [{"kind": "text", "text": said}]}
    answer = await site.one.post("/", json=rpc("message/send", {"message": old}), headers={"A2A-Version": "0.3"})

    assert answer.json()["result"]["artifacts"][0]["parts"] == [{"kind": "text", "text": said}]


async def test_a_task_made_by_a_large_message_is_listed(site: Site) -> None:
    sent = await site.one.post("/message:send", json=message(text(MIB), contextId="ctx-large"))

    listed = (await site.other.get("/tasks", params={"contextId": "ctx-large"})).json()["tasks"]
    assert [task["id"] for task in listed] == [sent.json()["task"]["id"]]
    assert listed[0]["status"]["state"] == TaskState.COMPLETED.value


@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON"])
async def test_the_client_library_sends_streams_resumes_and_gets_what_is_large(
    site: Site, binding: BindingName
) -> None:
    sizes = [3 * MIB, 1000, 4 * MIB]
    expected = [text(size, number) for number, size in enumerate(sizes)]
    async with Client([str(site.one.base_url), str(site.other.base_url)], binding=binding) as made:
        task = None
        cursors = []
        async with made.stream(parts(text(2 * MIB), {"sizes": sizes})) as updates:
            async for update in updates:
                task = accumulate(task, update.response)
                cursors.append(update.cursor)
        assert task is not None
        assert texts(task) == expected
        assert texts(await made.get(task.id)) == expected
        async with made.subscribe(task.id, cursors[1]) as updates:
            replayed = [update.response async for update in updates]
    artifacts = [r.artifact_update.artifact for r in replayed if r.artifact_update is not None]
    assert [a.parts[0].text for a in artifacts] == expected


async def test_large_streams_do_not_mix(site: Site) -> None:
    async def one(number: int) -> None:
        sizes = [MIB + number, 100, MIB]
        shown = await site.stream_of(message({"sizes": sizes}))
        changed = [f.update.artifact_update.artifact for f in shown if f.update.artifact_update is not None]
        assert [a.parts[0].text for a in changed] == [text(size, index) for index, size in enumerate(sizes)]

    await asyncio.gather(*(one(number) for number in range(6)))


# --- what is stored --------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="module")
async def kit(nats_url: str) -> AsyncIterator[Kit]:
    async with jetstream_kit(nats_url, unique_namespace(), raw=True) as made:
        yield made


def log_of(kit: Kit) -> JetStreamLog:
    assert isinstance(kit.log, JetStreamLog)
    return kit.log


async def reference_of(kit: Kit, author: Author) -> dict[str, Any]:
    """What stands in the author's last record."""
    stored = await log_of(kit)._stored_last(author.task)
    assert stored is not None
    assert stored.header.encoding == ENCODING
    reference: dict[str, Any] = msgspec.json.decode(stored.payload)
    return reference


async def messages_in_bucket(kit: Kit) -> int:
    info = await kit.connections[0].api(f"STREAM.INFO.OBJ_{log_of(kit)._names.bucket('main')}")
    return int(info["state"]["messages"])


async def test_what_is_stored_can_be_read_with_any_client_of_the_object_store(kit: Kit, nats_url: str) -> None:
    author = Author(kit.log, new_task(kit.log, tenant="acme corp"))
    record = await author.write(size=2 * MIB)
    reference = await reference_of(kit, author)
    nats = NatsClient()
    await nats.connect(nats_url)
    try:
        bucket = await nats.jetstream().object_store(reference["bucket"])
        found = await bucket.get(reference["name"])
    finally:
        await nats.close()

    assert found.data == record.payload
    assert found.info.size == reference["size"] == len(record.payload)
    assert "acme" not in reference["name"]
    assert author.task.task_id in reference["name"]


async def test_a_missing_object_is_said_to_be_gone_and_other_records_are_read(kit: Kit) -> None:
    author, other = (Author(kit.log, new_task(kit.log)) for _ in range(2))
    await author.write(size=MIB)
    await other.write(size=MIB)
    reference = await reference_of(kit, author)
    stream = f"OBJ_{reference['bucket']}"
    await kit.connections[0].api(
        f"STREAM.PURGE.{stream}", {"filter": f"$O.{reference['bucket']}.C.{reference['nuid']}"}
    )

    with pytest.raises(Unreadable, match=f"{author.task.task_id}.* is gone"):
        await read_all(kit.other, author.task)
    with pytest.raises(Unreadable, match="is gone"):
        await kit.other.last(author.task)
    assert await read_all(kit.other, other.task) == other.records


async def test_an_object_without_all_of_its_chunks_is_unreadable(kit: Kit) -> None:
    author = Author(kit.log, new_task(kit.log))
    await author.write(size=2 * MIB)
    reference = await reference_of(kit, author)
    chunks = f"$O.{reference['bucket']}.C.{reference['nuid']}"
    stream = f"OBJ_{reference['bucket']}"
    last = await kit.connections[0].api(f"STREAM.MSG.GET.{stream}", {"last_by_subj": chunks})
    await kit.connections[0].api(f"STREAM.MSG.DELETE.{stream}", {"seq": last["message"]["seq"]})

    with pytest.raises(Unreadable, match=r"bytes of \d+"):
        await read_all(kit.other, author.task)


async def test_an_object_that_was_changed_is_unreadable(kit: Kit) -> None:
    author = Author(kit.log, new_task(kit.log))
    await author.write(size=MIB)
    reference = await reference_of(kit, author)
    chunks = f"$O.{reference['bucket']}.C.{reference['nuid']}"
    await kit.connections[0].api(f"STREAM.PURGE.OBJ_{reference['bucket']}", {"filter": chunks})
    left = reference["size"]
    while left:
        piece = min(left, 400_000)
        await kit.connections[0].request(chunks, b"z" * piece)
        left -= piece

    with pytest.raises(Unreadable, match="not what was stored"):
        await read_all(kit.other, author.task)


async def test_a_record_cannot_refer_to_the_object_of_another_task(kit: Kit) -> None:
    theirs, mine = (Author(kit.log, new_task(kit.log, tenant=tenant)) for tenant in ("theirs", "mine"))
    await theirs.write(size=MIB)
    stolen = await log_of(kit)._stored_last(theirs.task)
    assert stolen is not None
    made = offered(0)
    header = msgspec.structs.replace(made.header, encoding=ENCODING)
    await log_of(kit)._append(mine.task, type(made)(header, stolen.payload), 0, "")

    with pytest.raises(Unreadable, match="not its own"):
        await read_all(kit.other, mine.task)


async def test_a_record_of_an_unknown_encoding_is_refused_and_not_misread(kit: Kit) -> None:
    task, made = new_task(kit.log), offered(0)
    header = msgspec.structs.replace(made.header, encoding="zstd")
    await log_of(kit)._append(task, type(made)(header, made.payload), 0, "")

    with pytest.raises(Unreadable, match="encoded as 'zstd'"):
        await read_all(kit.other, task)


async def test_a_sweep_removes_what_writers_left_behind_and_nothing_else(kit: Kit) -> None:
    author = Author(kit.log, new_task(kit.log))
    await author.write(size=MIB)
    kept = await messages_in_bucket(kit)
    log = log_of(kit)
    await log._content.store(author.task, offered(1, size=MIB))  # killed before its record
    await kit.connections[0].request(f"$O.{log._names.bucket('main')}.C.cut", b"x" * 1000)  # killed before its entry

    assert await log.sweep(limits.SWEEP_SECONDS) == 0, "whatever is young may have a record yet to come"
    assert await log.sweep(older_than_seconds=-1) == 2
    assert await messages_in_bucket(kit) == kept
    assert await read_all(kit.other, author.task) == author.records
    await author.write(size=MIB)
    assert await read_all(kit.other, author.task) == author.records


async def test_a_sweep_leaves_objects_whose_task_cannot_be_read(kit: Kit) -> None:
    author = Author(kit.log, new_task(kit.log))
    for _ in range(2):
        await author.write(size=MIB)
    log = log_of(kit)
    await log._content.store(new_task(kit.log, shard=99), offered(0, size=MIB))  # of a shard that is not there now
    kept = await messages_in_bucket(kit)
    header = msgspec.structs.replace(offered(2).header, encoding=ENCODING)
    block = header_block({RECORD: pack(header).replace("1|", "9|", 1)})  # as a later version might write it
    await kit.connections[0].request(log._names.task("log", author.task, "out"), b"{}", headers=block)

    assert await log.sweep(older_than_seconds=-1) == 0
    assert await messages_in_bucket(kit) == kept


async def test_a_log_provisioned_by_an_earlier_version_says_what_to_do(kit: Kit) -> None:
    log = log_of(kit)
    await kit.connections[0].api(f"STREAM.DELETE.OBJ_{log._names.bucket('main')}")

    with pytest.raises(Unavailable, match="a2a-events provision"):
        await JetStreamLog.open(kit.connections[1], log._names, StreamSettings("main", 2))


@pytest.mark.parametrize(
    "golden", [json.loads(path.read_text(encoding="utf-8")) for path in sorted(GOLDEN.glob("*.json"))]
)
async def test_objects_as_they_were_first_stored_are_read_for_ever(kit: Kit, golden: dict[str, Any]) -> None:
    """Messages as an earlier version sent them, put back under the names that they had."""
    connection = kit.connections[0]
    names = Names(golden["namespace"])
    await provision(connection, names, StreamSettings("main", 1))
    try:
        for stored in golden["messages"]:
            headers = "".join(f"{name}: {value}\r\n" for name, value in stored.get("headers", {}).items())
            block = f"NATS/1.0\r\n{headers}\r\n".encode() if headers else b""
            await connection.request(stored["subject"], stored["payload"].encode(), headers=block)
        log = await JetStreamLog.open(connection, names, StreamSettings("main", 1))
        task = TaskRef(*golden["task"])
        (record,) = await read_all(log, task)
        assert record.payload.decode() == golden["content"]
        assert record.header.encoding == ""
    finally:
        for stream in ("LOG_main_0", "SNAP_main", "TIMER_main", "AGENTS"):
            await connection.api(f"STREAM.DELETE.{golden['namespace'].upper()}_{stream}")
        await connection.api(f"STREAM.DELETE.OBJ_{names.bucket('main')}")


async def test_large_content_survives_a_restart_of_the_broker(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    await server.start()
    try:
        async with stack_of("jetstream", mirror, server.url, unique_namespace()) as stack:
            await stack.worker()
            said = text(3 * MIB)
            task = await stack.calls.send_task(said)
            server.kill()
            await server.start()

            async def shown() -> bool:
                try:
                    return texts(await stack.other.get(task.id)) == [said]
                except Unavailable:
                    return False

            await eventually(shown, what="the task after the restart")
            assert texts(await stack.calls.send_task(said)) == [said]
    finally:
        await server.stop()
        server.clean()


async def test_a_status_and_a_bare_reply_may_be_large(nats_url: str, namespace: str) -> None:
    @agent(name="either", replies="either")
    async def either(turn: Turn) -> None:
        if turn.text == "reply":
            turn.reply(text(3 * MIB))
        else:
            await turn.working(text(2 * MIB))
            turn.complete(text(3 * MIB, 1))

    async with stack_of("jetstream", either, nats_url, namespace) as stack:
        await stack.worker()
        reply = await stack.calls.send("reply")
        assert isinstance(reply, Message)
        assert reply.parts[0].text == text(3 * MIB)
        task = await stack.calls.send_task("task")
        assert task.status.message is not None
        assert task.status.message.parts[0].text == text(3 * MIB, 1)
        assert [m.parts[0].text for m in (await stack.other.get(task.id)).history][1:] == [text(2 * MIB)]
