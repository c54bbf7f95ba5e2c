"""The client against the official SDK's server, in every binding and version: a server without cursors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Literal, cast

import pytest

from a2a_events.client import (
    Client,
    NoAnswer,
    Receiver,
    ReceiverApp,
    StreamInterrupted,
    Update,
    Updates,
    accumulate,
)
from a2a_events.client.endpoint import BindingName
from a2a_events.errors import (
    InvalidParamsError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
    VersionNotSupportedError,
)
from a2a_events.model import (
    AuthenticationInfo,
    Message,
    Part,
    Role,
    Task,
    TaskPushNotificationConfig,
    TaskState,
)
from tests.client.conftest import QUICK
from tests.client.official import CHUNKS, Agent, official, old_base
from tests.client.serving import PATIENCE_SECONDS, dead, listener, serving, url_of, wire_to

pytestmark = pytest.mark.interop


@pytest.fixture
def agent() -> Agent:
    return Agent()


@pytest.fixture
async def url(agent: Agent) -> AsyncIterator[str]:
    async with official(agent) as served:
        yield served


@pytest.fixture(params=["JSONRPC", "HTTP+JSON", "GRPC", "JSONRPC 0.3", "HTTP+JSON 0.3"])
def dialect(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "GRPC":
        pytest.importorskip("grpc", reason="the extra grpc is not installed")
    return name


@pytest.fixture
async def client(dialect: str, url: str) -> AsyncIterator[Client]:
    binding, _, version = dialect.partition(" ")
    base = old_base(url, binding) if version else url
    async with Client(base, binding=cast("BindingName", binding), retry=QUICK) as made:
        yield made


@pytest.fixture(autouse=True)
async def bounded() -> AsyncIterator[None]:
    async with asyncio.timeout(3 * PATIENCE_SECONDS):
        yield


def _artifact(task: Task) -> list[object]:
    return [part.text for artifact in task.artifacts for part in artifact.parts]


async def _read(updates: Updates) -> None:
    """Servers tell errors before they open a stream, or in its first frame (the SDK in 0.3)."""
    async with updates:
        async for _ in updates:
            pass


async def _follow(updates: Updates) -> tuple[Task | None, list[TaskState | None]]:
    task, states = None, []
    async for update in updates:
        assert update.cursor is None
        task = accumulate(task, update.response)
        states.append(update.state)
    return task, states


async def test_a_blocking_message_gives_the_task_when_it_has_ended(client: Client) -> None:
    task = await client.send("chunks")
    assert isinstance(task, Task)
    assert TaskState.COMPLETED is task.status.state
    assert [str(number) for number in range(CHUNKS)] == _artifact(task)


async def test_an_agent_may_reply_without_a_task(client: Client) -> None:
    reply = await client.send("reply")
    assert isinstance(reply, Message)
    async with client.stream("reply") as updates:
        assert ["reply"] == [update.message.message_id async for update in updates if update.message]


async def test_updates_add_up_to_the_task(client: Client) -> None:
    async with client.stream("chunks") as updates:
        task, states = await _follow(updates)
        assert updates.task_id is not None
        stored = await client.get(updates.task_id)
    assert task is not None
    assert (TaskState.SUBMITTED, TaskState.COMPLETED) == (states[0], states[-1])
    assert stored.artifacts == task.artifacts
    assert stored.status.state is task.status.state


async def test_a_task_is_followed_while_it_waits_and_canceled(client: Client) -> None:
    task = await client.send("wait", return_immediately=True)
    assert isinstance(task, Task)
    async with client.subscribe(task.id) as updates:
        assert (await anext(updates)).task is not None
        canceled = await client.cancel(task.id)
        assert TaskState.CANCELED is canceled.status.state
        states = [update.state async for update in updates]
    assert TaskState.CANCELED is states[-1]


async def test_a_question_ends_the_stream_and_an_answer_goes_on(client: Client) -> None:
    async with client.stream("ask") as updates:
        task, states = await _follow(updates)
    assert task is not None
    assert TaskState.INPUT_REQUIRED is states[-1]
    async with client.stream("chunks", task_id=task.id, context_id=task.context_id) as updates:
        _, states = await _follow(updates)
        assert task.id == updates.task_id
    assert TaskState.COMPLETED is states[-1]


async def test_history_is_as_long_as_asked_for(client: Client, dialect: str) -> None:
    task = await client.send("chunks")
    assert isinstance(task, Task)
    if not dialect.endswith("0.3"):  # there the SDK takes 0 for unset
        assert () == (await client.get(task.id, history_length=0)).history
    assert 1 == len((await client.get(task.id, history_length=1)).history)


@pytest.mark.parametrize(
    ("path", "binding", "version"),
    [
        ("/rpc", "JSONRPC", "1.0"),
        ("", "HTTP+JSON", "1.0"),
        ("/rpc", "JSONRPC", "0.3"),
        ("", "HTTP+JSON", "0.3"),
    ],
)
class TestBreak:
    async def test_a_broken_connection_is_bridged_by_a_task(
        self, url: str, agent: Agent, path: str, binding: BindingName, version: Literal["1.0", "0.3"]
    ) -> None:
        task, bridged = None, 0
        async with (
            wire_to(url) as (detour, wire),
            Client.at(f"{detour}{path}", binding, version=version, retry=QUICK) as through,
            through.stream("wait") as updates,
        ):
            async for update in updates:
                task = accumulate(task, update.response)
                if update.resynchronised:
                    assert update.task is not None
                    bridged += 1
                    agent.go.set()
                elif len(_artifact(task)) == CHUNKS // 2 and not agent.go.is_set():
                    wire.cut()
        assert 1 == bridged
        assert task is not None
        assert TaskState.COMPLETED is task.status.state
        assert [str(number) for number in range(CHUNKS)] == _artifact(task)

    async def test_a_task_that_ended_during_the_break_is_the_last_update(
        self, url: str, agent: Agent, path: str, binding: BindingName, version: Literal["1.0", "0.3"]
    ) -> None:
        async with (
            wire_to(url) as (detour, wire),
            Client(url) as direct,
            Client.at(f"{detour}{path}", binding, version=version, retry=QUICK) as through,
            through.stream("wait") as updates,
        ):
            first = await anext(updates)
            assert first.task is not None
            async with direct.subscribe(first.task.id) as watched:
                wire.cut()
                agent.go.set()
                await _follow(watched)
            rest = [update async for update in updates]
        assert rest[-1].task is not None
        assert (True, TaskState.COMPLETED) == (rest[-1].resynchronised, rest[-1].state)


async def test_a_dead_gateway_is_passed_over(url: str) -> None:
    with dead() as gone:
        async with Client([gone, url], retry=QUICK) as client:
            assert isinstance(await client.send("chunks"), Task)


async def test_errors_have_the_classes_of_the_protocol(client: Client, dialect: str) -> None:
    with pytest.raises(TaskNotFoundError):
        await client.get("nobody")
    with pytest.raises(TaskNotFoundError):
        await client.cancel("nobody")
    streamed = dialect != "HTTP+JSON 0.3"  # there the SDK breaks off its streams without a word
    with pytest.raises(TaskNotFoundError if streamed else StreamInterrupted):
        await _read(client.subscribe("nobody"))
    with pytest.raises(TaskNotFoundError if streamed else NoAnswer):
        await _read(client.stream("chunks", task_id="nobody"))
    with pytest.raises(InvalidParamsError):
        await client.send(Message(message_id="", role=Role.USER, parts=(Part(text=""),)))
    task = await client.send("chunks")
    assert isinstance(task, Task)
    with pytest.raises(TaskNotCancelableError):
        await client.cancel(task.id)
    with pytest.raises(UnsupportedOperationError if streamed else StreamInterrupted):
        await _read(client.subscribe(task.id))


async def test_the_card_is_revalidated(url: str) -> None:
    async with Client(url) as client:
        card = await client.card()
        assert card is await client.card()
        assert "official" == card.name


async def test_the_extended_card_takes_the_place_of_the_public_one(client: Client) -> None:
    public = await client.card()
    extended = await client.extended_card()
    assert "Does what the text says, and knows you." == extended.description != public.description
    assert extended == await client.card()


async def test_the_list_has_every_task_and_comes_in_pages(client: Client, dialect: str) -> None:
    if dialect.endswith("0.3"):
        with pytest.raises(UnsupportedOperationError):
            await client.list_tasks()
        return
    sent = [await client.send("chunks", context_id=f"c{number % 2}") for number in range(5)]
    ids = [task.id for task in sent if isinstance(task, Task)]
    page = await client.list_tasks(page_size=2, include_artifacts=True)
    assert (2, 2, 5) == (len(page.tasks), page.page_size, page.total_size)
    assert page.next_page_token
    assert all(task.artifacts for task in page.tasks)
    assert sorted(ids) == sorted([task.id async for task in client.tasks(page_size=2)])
    found = [task.id async for task in client.tasks(context_id="c1", state=TaskState.COMPLETED, page_size=1)]
    assert sorted(ids[1::2]) == sorted(found)
    assert [] == [task async for task in client.tasks(state=TaskState.REJECTED)]
    last = await client.list_tasks(since="2999-01-01T00:00:00Z", history_length=0)
    assert ((), "") == (last.tasks, last.next_page_token)


async def test_webhooks_are_made_shown_and_ended(client: Client, dialect: str) -> None:
    task = await client.send("chunks")  # has ended: nothing is pushed
    assert isinstance(task, Task)
    authentication = AuthenticationInfo(scheme="Bearer", credentials="secret")
    made = await client.push_configs.create(
        task.id, "http://127.0.0.1:9/push", config_id="one", token="t0", authentication=authentication
    )
    assert ("one", task.id, "http://127.0.0.1:9/push", "t0", authentication) == (
        made.id,
        made.task_id,
        made.url,
        made.token,
        made.authentication,
    )
    assert made == await client.push_configs.get(task.id, "one")
    assert (made,) == (await client.push_configs.list(task.id)).configs
    if dialect == "HTTP+JSON 0.3":  # the SDK's server takes the path for one of 1.0
        with pytest.raises(VersionNotSupportedError):
            await client.push_configs.delete(task.id, "one")
        return
    await client.push_configs.delete(task.id, "one")
    await client.push_configs.delete(task.id, "one")
    assert () == (await client.push_configs.list(task.id)).configs
    with pytest.raises(TaskNotFoundError):
        await client.push_configs.get(task.id, "one")


async def test_parts_of_every_kind_arrive_and_come_back(client: Client, dialect: str) -> None:
    files = (
        Part(raw=b"\x00\xff", filename="a.bin", media_type="application/octet-stream"),
        Part(raw=b"", media_type="text/plain"),
    )
    parts = (
        Part(text="chunks"),
        *(files if dialect != "HTTP+JSON 0.3" else ()),  # there the SDK wants bytes in base64 twice
        Part(url="https://files.example/a.pdf", filename="a.pdf", media_type="application/pdf"),
        Part(data={"k": [1, None]}, metadata={"m": 1}),
        Part(data=[1, "two"]),
        Part(data=7, metadata={"m": 2}),
    )
    task = await client.send(Message(message_id="m1", role=Role.USER, parts=parts, metadata={"a": {"b": 1}}))
    assert isinstance(task, Task)
    first = task.history[0]
    assert (parts, {"a": {"b": 1}}, Role.USER) == (first.parts, first.metadata, first.role)


async def test_a_push_is_believed_and_handled_once(client: Client) -> None:
    receiver, updates, ended = Receiver(), list[Update](), asyncio.Event()

    async def handle(update: Update) -> None:
        updates.append(update)
        if update.state is TaskState.COMPLETED:
            ended.set()

    bound = listener()
    webhook = TaskPushNotificationConfig(url=f"{url_of(bound)}/push", token="once")
    receiver.expect(webhook)
    async with serving(ReceiverApp(receiver, handle), bound):
        task = await client.send("chunks", push=webhook)
        assert isinstance(task, Task)
        await ended.wait()
    assert {task.id} == {update.task_id for update in updates}
    told: Task | None = None
    for update in updates:
        told = accumulate(told, update.response)
    assert told is not None
    assert _artifact(task) == _artifact(told)


async def test_many_streams_at_once_are_kept_apart(client: Client) -> None:
    async def run() -> list[object]:
        async with client.stream("chunks") as updates:
            task, _ = await _follow(updates)
        assert task is not None
        return _artifact(task)

    assert [[str(number) for number in range(CHUNKS)]] * 20 == await asyncio.gather(*(run() for _ in range(20)))
