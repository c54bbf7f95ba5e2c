"""Row 76: what belongs to somebody else is not there, byte for byte.

``tests/integration/test_foreign_reads.py`` has what is read for the answer.

Alice and Bob are of one tenant, Eve is of another. Everything that Eve and Bob try with what is Alice's is answered as
if they had made the name up.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from msgspec import Struct

from a2a_events import audit
from a2a_events.testing import eventually
from tests.bad_input.test_identity import Guarded, guarding
from tests.interop.grpc_wire import GrpcCaller, channel
from tests.interop.wire import BINDINGS, HTTP_JSON, JSONRPC, Caller, script, send

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

MADE_UP = "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA"
STRANGERS = {"bob": {"subject": "bob"}, "eve": {"subject": "eve", "tenant": "evil"}}


class World(Struct):
    """What Alice has."""

    guarded: Guarded
    working: str
    """A task that goes on."""
    done: str
    """One that has ended."""
    cursor: str
    """A place in that."""
    config: str
    """Id of the webhook of both."""

    def as_(self, who: str) -> dict[str, str]:
        return self.guarded.bearer(**{"subject": who, **STRANGERS.get(who, {})})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(nats_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with guarding(nats_url, tmp_path_factory.mktemp("world")) as guarded, guarded.http() as http:
        caller, alice = Caller(http, HTTP_JSON), guarded.bearer("alice")
        working = await caller.call(
            "SendMessage",
            send(script(chunks=100_000, delayMs=500), configuration={"returnImmediately": True}),
            headers=alice,
        )
        frames = await caller.frames("SendStreamingMessage", send(script(chunks=3)), headers=alice)
        made = World(guarded, working["task"]["id"], frames[0].data["task"]["id"], frames[1].id, "hook")
        for task_id in (made.working, made.done):
            hook = {"taskId": task_id, "id": made.config, "url": "http://127.0.0.1:9/"}
            await caller.call("CreateTaskPushNotificationConfig", hook, headers=alice)
        yield made
        await caller.call("CancelTask", {"id": made.working}, headers=alice)


OPERATIONS: dict[str, Any] = {
    "GetTask": lambda task: {"id": task},
    "CancelTask": lambda task: {"id": task},
    "SubscribeToTask": lambda task: {"id": task},
    "CreateTaskPushNotificationConfig": lambda task: {"taskId": task, "id": "hook", "url": "http://127.0.0.1:9/"},
    "GetTaskPushNotificationConfig": lambda task: {"taskId": task, "id": "hook"},
    "ListTaskPushNotificationConfigs": lambda task: {"taskId": task},
    "DeleteTaskPushNotificationConfig": lambda task: {"taskId": task, "id": "hook"},
    "SendMessage": lambda task: send("more", taskId=task),
    "SendStreamingMessage": lambda task: send("more", taskId=task),
}


@pytest.mark.parametrize("who", STRANGERS)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("binding", BINDINGS)
async def test_76_a_task_of_somebody_else_answers_byte_for_byte_as_none(
    world: World, binding: str, operation: str, who: str
) -> None:
    async with world.guarded.http() as http:
        caller, headers = Caller(http, binding), world.as_(who)

        async def answer(task_id: str) -> tuple[int, bytes, list[tuple[str, str]]]:
            request = caller.request(operation, OPERATIONS[operation](task_id), headers=headers)
            response = await http.send(request)
            told = [(name, value) for name, value in response.headers.items() if name != "x-request-id"]
            return response.status_code, response.content, told

        missing = await answer(MADE_UP)
        assert missing[0] == (200 if binding == JSONRPC else 404)
        assert b"TASK_NOT_FOUND" in missing[1]
        assert await answer(world.working) == missing
        assert await answer(world.done) == missing
        known = await caller.call("GetTask", {"id": world.working}, headers=world.as_("alice"))
        assert known["status"]["state"] == "TASK_STATE_WORKING", "nothing came of it"


@pytest.mark.parametrize("who", STRANGERS)
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_76_so_it_does_over_grpc(world: World, operation: str, who: str) -> None:
    async with channel(world.guarded.settings.grpc_address) as opened:
        caller, headers = GrpcCaller(opened), world.as_(who)

        async def answer(task_id: str) -> Any:
            return await caller.refused(
                operation, OPERATIONS[operation](task_id), authorization=headers["Authorization"]
            )

        missing = await answer(MADE_UP)
        assert missing.code == "NOT_FOUND"
        assert await answer(world.working) == missing
        assert await answer(world.done) == missing


@pytest.mark.parametrize("method", ["tasks/get", "tasks/cancel", "tasks/resubscribe"])
@pytest.mark.parametrize("who", STRANGERS)
async def test_76_so_it_does_in_0_3(world: World, method: str, who: str) -> None:
    async with world.guarded.http() as http:

        async def answer(task_id: str) -> bytes:
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"id": task_id}}
            return (await http.post("/", json=body, headers=world.as_(who))).content

        missing = await answer(MADE_UP)
        assert b"-32001" in missing
        assert await answer(world.working) == missing
        assert await answer(world.done) == missing


@pytest.mark.parametrize("path", ["", "/rows", "/at/1", "/events", "/bundle", "/why"])
@pytest.mark.parametrize("who", STRANGERS)
async def test_76_so_do_timelines(world: World, path: str, who: str) -> None:
    async with world.guarded.http() as http:

        async def answer(task_id: str) -> tuple[int, bytes]:
            response = await http.get(f"/debug/timelines/tasks/{task_id}{path}", headers=world.as_(who))
            return response.status_code, response.content

        assert (await answer(MADE_UP))[0] == 404
        assert await answer(world.working) == await answer(MADE_UP)
        assert await answer(world.done) == await answer(MADE_UP)


@pytest.mark.parametrize("binding", [*BINDINGS, "GRPC", "timelines"])
async def test_76_operators_are_told_of_it(world: World, monkeypatch: pytest.MonkeyPatch, binding: str) -> None:
    """And of nothing else: an id that nobody has is a slip, one of somebody else has come into wrong hands."""
    denials: list[dict[str, str]] = []
    monkeypatch.setattr(audit, "denied", lambda reason, **of: denials.append({"reason": reason, **of}))
    bob = world.as_("bob")
    async with world.guarded.http() as http:
        for task_id in (MADE_UP, world.working, world.done):
            if binding == "GRPC":
                async with channel(world.guarded.settings.grpc_address) as opened:
                    await GrpcCaller(opened).refused("CancelTask", {"id": task_id}, authorization=bob["Authorization"])
            elif binding == "timelines":
                await http.get(f"/debug/timelines/tasks/{task_id}", headers=bob)
            else:
                await Caller(http, binding).refused("CancelTask", {"id": task_id}, headers=bob)
    operation = "Timeline" if binding == "timelines" else "CancelTask"
    expected = [("foreign", task_id, "bob", "acme", operation) for task_id in (world.working, world.done)]

    def told() -> list[tuple[str, ...]]:
        names = ("reason", "task_id", "subject", "tenant", "operation")
        return [tuple(each[name] for name in names) for each in denials]

    # Lines are written after the answers; those of an earlier test may come late, too.
    await eventually(lambda: told()[-2:] == expected)
    assert MADE_UP not in {each["task_id"] for each in denials}


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("who", STRANGERS)
async def test_76_a_cursor_of_somebody_else_opens_nothing(world: World, binding: str, who: str) -> None:
    async with world.guarded.http() as http:
        caller = Caller(http, binding)
        resume = {**world.as_(who), "Last-Event-ID": world.cursor}
        theirs = await caller.refused("SubscribeToTask", {"id": world.done}, headers=resume)
        # Of the same tenant the cursor is one of this task, and the task is not there. Of another it is one of none.
        assert theirs.reason == ("TASK_NOT_FOUND" if who == "bob" else "INVALID_PARAMS")
        own = {**world.as_("alice"), "Last-Event-ID": world.cursor}
        assert await caller.frames("SubscribeToTask", {"id": world.done}, headers=own)


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("who", STRANGERS)
async def test_76_lists_contexts_and_page_tokens_never_cross(world: World, binding: str, who: str) -> None:
    async with world.guarded.http() as http:
        caller = Caller(http, binding)
        alice, stranger = world.as_("alice"), world.as_(who)
        first = await caller.call("ListTasks", {"pageSize": 1}, headers=alice)
        assert first["totalSize"] >= 2
        fresh = await caller.call("SendMessage", send("a conversation"), headers=alice)
        context = fresh["task"]["contextId"]
        first = await caller.call("ListTasks", {"pageSize": 1}, headers=alice)
        theirs = await caller.call("ListTasks", {}, headers=stranger)
        assert {task["id"] for task in theirs["tasks"]} & {world.working, world.done} == set()
        by_context = await caller.call("ListTasks", {"contextId": context}, headers=stranger)
        assert by_context == await caller.call("ListTasks", {"contextId": "c-of-nobody"}, headers=stranger)
        refused = await caller.refused(
            "ListTasks", {"pageSize": 1, "pageToken": first["nextPageToken"]}, headers=stranger
        )
        assert (refused.reason, refused.fields) == ("INVALID_PARAMS", ["pageToken"])
        # A task of theirs may be in a conversation of this name, and shows nothing of the other.
        own = await caller.call("SendMessage", send("mine", contextId=context), headers=stranger)
        assert own["task"]["contextId"] == context
        for whose, task_id in ((stranger, own["task"]["id"]), (alice, fresh["task"]["id"])):
            seen = await caller.call("ListTasks", {"contextId": context}, headers=whose)
            assert [task["id"] for task in seen["tasks"]] == [task_id]
            assert seen["totalSize"] == 1


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("who", STRANGERS)
async def test_76_an_idempotency_key_of_somebody_else_is_another_key(world: World, binding: str, who: str) -> None:
    async with world.guarded.http() as http:
        caller = Caller(http, binding)
        key = {"Idempotency-Key": f"key-{binding}-{who}"}
        hers = await caller.call("SendMessage", send("one"), headers={**world.as_("alice"), **key})
        theirs = await caller.call("SendMessage", send("another"), headers={**world.as_(who), **key})
        assert hers["task"]["id"] != theirs["task"]["id"]
        again = await caller.call("SendMessage", send("one"), headers={**world.as_("alice"), **key})
        assert again["task"]["id"] == hers["task"]["id"]


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_page_token_of_webhooks_is_of_one_task(world: World, binding: str) -> None:
    async with world.guarded.http() as http:
        caller, alice = Caller(http, binding), world.as_("alice")
        task_ids = []
        for _ in range(2):
            made = await caller.call("SendMessage", send(script(chunks=1)), headers=alice)
            task_ids.append(made["task"]["id"])
            for name in ("a", "b"):
                hook = {"taskId": task_ids[-1], "id": name, "url": "http://127.0.0.1:9/"}
                await caller.call("CreateTaskPushNotificationConfig", hook, headers=alice)
        listing = {"taskId": task_ids[0], "pageSize": 1}
        page = await caller.call("ListTaskPushNotificationConfigs", listing, headers=alice)
        more = {"pageToken": page["nextPageToken"]}
        assert await caller.call("ListTaskPushNotificationConfigs", {**listing, **more}, headers=alice)
        other = {**listing, "taskId": task_ids[1], **more}
        refused = await caller.refused("ListTaskPushNotificationConfigs", other, headers=alice)
        assert (refused.reason, refused.fields) == ("INVALID_PARAMS", ["pageToken"])
