"""ListTasks as the specification has it (3.1.4), in both bindings. Every test lists a tenant of its own."""

from __future__ import annotations

import asyncio
import secrets
from itertools import pairwise
from typing import Any

import httpx
import pytest

from tests.interop.wire import BINDINGS, Caller, script, send

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]


class Tenant:
    """One caller's own tasks, listed and made in one binding."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.name = f"tenant-{secrets.token_hex(6)}"

    async def call(self, operation: str, params: dict[str, Any]) -> Any:
        return await self.caller.call(operation, {**params, "tenant": self.name})

    async def made(self, **members: Any) -> dict[str, Any]:
        """A task that has completed, or that waits if its script says so."""
        context = members.pop("contextId", "")
        result = await self.call("SendMessage", send(script(chunks=1, **members), contextId=context))
        task: dict[str, Any] = result["task"]
        return task

    async def listed(self, **asked: Any) -> list[str]:
        """Ids on one page."""
        return [task["id"] for task in (await self.call("ListTasks", asked))["tasks"]]

    async def refused(self, **asked: Any) -> list[str]:
        """Fields named as wrong."""
        failure = await self.caller.refused("ListTasks", {**asked, "tenant": self.name})
        assert "INVALID_PARAMS" == failure.reason, failure.body
        return failure.fields


@pytest.fixture
def tenant(caller: Caller) -> Tenant:
    return Tenant(caller)


async def test_a_caller_without_tasks_gets_an_empty_page_with_all_four_members(tenant: Tenant) -> None:
    empty = {"tasks": [], "nextPageToken": "", "pageSize": 50, "totalSize": 0}
    assert empty == await tenant.call("ListTasks", {})
    await tenant.made()
    assert empty == await tenant.call("ListTasks", {"contextId": "of nobody"})


async def test_a_task_is_in_the_list_of_who_has_just_made_it(tenant: Tenant) -> None:
    made: list[str] = []
    for _ in range(5):
        made.append((await tenant.made())["id"])
        assert made[-1] in await tenant.listed()
    asked = {**send(script(chunks=10_000, delayMs=20), configuration={"returnImmediately": True})}
    running = (await tenant.call("SendMessage", asked))["task"]["id"]
    assert {*made, running} == set(await tenant.listed())
    await tenant.call("CancelTask", {"id": running})
    shown = (await tenant.call("ListTasks", {}))["tasks"]
    assert [(running, "TASK_STATE_CANCELED")] == [(t["id"], t["status"]["state"]) for t in shown if t["id"] == running]


async def test_a_bare_reply_is_no_task_in_the_list(tenant: Tenant) -> None:
    await tenant.call("SendMessage", send(script(message=True)))
    assert [] == await tenant.listed()


async def test_tasks_are_listed_as_get_shows_them_without_artifacts_unless_asked(tenant: Tenant) -> None:
    made = await tenant.made()
    whole = await tenant.call("GetTask", {"id": made["id"]})
    (plain,) = (await tenant.call("ListTasks", {}))["tasks"]
    (also_plain,) = (await tenant.call("ListTasks", {"includeArtifacts": False}))["tasks"]
    (full,) = (await tenant.call("ListTasks", {"includeArtifacts": True}))["tasks"]
    assert whole == {**plain, "artifacts": whole["artifacts"], "history": whole["history"]}
    assert "artifacts" not in plain
    assert plain == also_plain
    assert whole["artifacts"] == full["artifacts"]


async def test_history_in_a_list_is_as_long_as_asked_for(tenant: Tenant) -> None:
    task = await tenant.made(inputAt=0)
    await tenant.call("SendMessage", send("yes", taskId=task["id"]))
    whole = await tenant.call("GetTask", {"id": task["id"]})
    for length in (0, 1, 2, 100):
        (shown,) = (await tenant.call("ListTasks", {"historyLength": length}))["tasks"]
        assert whole["history"][-length:] == shown["history"] if length else "history" not in shown
    for bad in (-1, 2**31):
        assert ["historyLength"] == await tenant.refused(historyLength=bad)


async def test_the_task_whose_status_is_newest_comes_first(tenant: Tenant) -> None:
    waiting = await tenant.made(inputAt=0)
    for _ in range(3):
        await tenant.made()
    assert waiting["id"] == (await tenant.listed())[-1]
    await tenant.call("SendMessage", send("yes", taskId=waiting["id"]))
    tasks = (await tenant.call("ListTasks", {}))["tasks"]
    assert waiting["id"] == tasks[0]["id"]
    assert all(a["status"]["timestamp"] >= b["status"]["timestamp"] for a, b in pairwise(tasks))


async def test_pages_show_every_task_once_and_the_last_has_no_token(tenant: Tenant) -> None:
    made = {(await tenant.made())["id"] for _ in range(7)}
    whole = await tenant.listed()
    seen: list[str] = []
    token = ""
    sizes = []
    while True:
        page = await tenant.call("ListTasks", {"pageSize": 3, **({"pageToken": token} if token else {})})
        assert (3, 7) == (page["pageSize"], page["totalSize"])
        sizes.append(len(page["tasks"]))
        seen += [task["id"] for task in page["tasks"]]
        token = page["nextPageToken"]
        if not token:
            break
    assert [3, 3, 1] == sizes
    assert whole == seen
    assert made == set(seen)
    assert "" == (await tenant.call("ListTasks", {"pageSize": 7}))["nextPageToken"]


async def test_pages_neither_miss_nor_repeat_what_stays_while_tasks_come_and_change(tenant: Tenant) -> None:
    waiting = await tenant.made(inputAt=0)
    staying = {(await tenant.made())["id"] for _ in range(6)}
    seen: list[str] = []
    token = ""
    first = True
    while first or token:
        page = await tenant.call("ListTasks", {"pageSize": 2, **({"pageToken": token} if token else {})})
        seen += [task["id"] for task in page["tasks"]]
        token = page["nextPageToken"]
        if first:
            await asyncio.gather(*(tenant.made() for _ in range(3)))
            await tenant.call("SendMessage", send("yes", taskId=waiting["id"]))
        first = False
    assert sorted(staying) == sorted(task_id for task_id in seen if task_id in staying)


@pytest.mark.parametrize("size", [1, 50, 100])
async def test_a_page_may_hold_1_to_100(tenant: Tenant, size: int) -> None:
    assert size == (await tenant.call("ListTasks", {"pageSize": size}))["pageSize"]


@pytest.mark.parametrize("size", [0, -1, 101, 150, 2**31, "many", 1.5])
async def test_another_size_of_a_page_is_refused(tenant: Tenant, size: Any) -> None:
    assert ["pageSize"] == await tenant.refused(pageSize=size)


@pytest.mark.parametrize("token", ["x", "0", "-1", "null", "e30=", "' OR 1=1 --", "\u00e9\U0001f600", "A" * 4000])
async def test_a_page_token_that_is_none_is_refused(tenant: Tenant, token: str) -> None:
    await tenant.made()
    assert ["pageToken"] == await tenant.refused(pageToken=token)


async def test_the_page_token_of_another_caller_shows_nothing_of_theirs(caller: Caller) -> None:
    theirs, mine = Tenant(caller), Tenant(caller)
    foreign = {(await theirs.made())["id"] for _ in range(3)}
    token = (await theirs.call("ListTasks", {"pageSize": 1}))["nextPageToken"]
    assert ["pageToken"] == await mine.refused(pageToken=token)
    assert all(task_id not in token for task_id in foreign)
    assert theirs.name not in token


async def test_filters_narrow_the_list_and_its_total_together(tenant: Tenant) -> None:
    one, two = await tenant.made(contextId="c 1/ü"), await tenant.made(contextId="c 1/ü", inputAt=0)
    three = await tenant.made(contextId="another", inputAt=0)
    for asked, expected in [
        ({"contextId": "c 1/ü"}, [two, one]),
        ({"contextId": "C 1/Ü"}, []),
        ({"contextId": "c 1/"}, []),
        ({"contextId": "another"}, [three]),
        ({"status": "TASK_STATE_INPUT_REQUIRED"}, [three, two]),
        ({"status": "TASK_STATE_COMPLETED"}, [one]),
        ({"status": "TASK_STATE_FAILED"}, []),
        ({"status": "TASK_STATE_UNSPECIFIED"}, [three, two, one]),
        ({"status": "TASK_STATE_INPUT_REQUIRED", "contextId": "c 1/ü"}, [two]),
        ({"status": "TASK_STATE_COMPLETED", "contextId": "another"}, []),
    ]:
        page = await tenant.call("ListTasks", asked)
        assert [task["id"] for task in expected] == [task["id"] for task in page["tasks"]], asked
        assert len(expected) == page["totalSize"]


async def test_the_time_filter_includes_its_own_moment(tenant: Tenant) -> None:
    tasks = [await tenant.made() for _ in range(3)]
    at = tasks[1]["status"]["timestamp"]
    since = [task["id"] for task in reversed(tasks) if task["status"]["timestamp"] >= at]
    after = [task["id"] for task in reversed(tasks) if task["status"]["timestamp"] > at]
    assert tasks[1]["id"] in since
    for spelled in (at, at.replace("Z", "000Z")):
        assert sorted(since) == sorted(await tenant.listed(statusTimestampAfter=spelled))
    assert sorted(after) == sorted(await tenant.listed(statusTimestampAfter=at.replace("Z", "001Z")))
    assert [] == await tenant.listed(statusTimestampAfter="2999-01-01T00:00:00Z")
    assert 3 == len(await tenant.listed(statusTimestampAfter="1970-01-01T00:00:00Z"))


@pytest.mark.parametrize("moment", ["yesterday", "2026-13-01T00:00:00Z", "0", "2026-01-01"])
async def test_a_time_that_is_none_is_refused(tenant: Tenant, moment: str) -> None:
    assert ["statusTimestampAfter"] == await tenant.refused(statusTimestampAfter=moment)


@pytest.mark.parametrize("state", ["working", "TASK_STATE_SLEEPING", "task_state_working", "99"])
async def test_a_state_that_is_none_is_refused(tenant: Tenant, state: str) -> None:
    assert ["status"] == await tenant.refused(status=state)


async def test_the_protos_own_names_and_unknown_ones_are_accepted(tenant: Tenant) -> None:
    one, two = await tenant.made(contextId="c"), await tenant.made(contextId="c")
    asked = {"context_id": "c", "page_size": 1, "include_artifacts": True, "history_length": 0, "nobody": "knows"}
    page = await tenant.call("ListTasks", asked)
    assert ([two["id"]], 1, 2) == ([task["id"] for task in page["tasks"]], page["pageSize"], page["totalSize"])
    assert "artifacts" in page["tasks"][0]
    assert "history" not in page["tasks"][0]
    assert [one["id"]] == await tenant.listed(context_id="c", page_token=page["nextPageToken"], page_size=1)


async def test_tasks_of_other_tenants_and_agents_are_not_listed(caller: Caller) -> None:
    mine, other = Tenant(caller), Tenant(caller)
    task = await mine.made(contextId="shared name")
    foreign = await other.made(contextId="shared name")
    elsewhere = Caller(caller.http, caller.binding, "/agents/echo")
    await elsewhere.call("SendMessage", {**send("x", contextId="shared name"), "tenant": mine.name})
    assert [task["id"]] == await mine.listed() == await mine.listed(contextId="shared name")
    assert [foreign["id"]] == await other.listed()
    unscoped = await caller.call("ListTasks", {"contextId": "shared name", "pageSize": 100})
    assert not {task["id"], foreign["id"]} & {shown["id"] for shown in unscoped["tasks"]}


async def test_both_bindings_list_the_same(http: httpx.AsyncClient) -> None:
    first, second = (Tenant(Caller(http, binding)) for binding in BINDINGS)
    second.name = first.name
    for _ in range(3):
        await first.made()
        await second.made()
    for asked in ({}, {"includeArtifacts": True}, {"pageSize": 2}, {"status": "TASK_STATE_COMPLETED"}):
        shown = [await tenant.call("ListTasks", asked) for tenant in (first, second)]
        tokens = [page.pop("nextPageToken") != "" for page in shown]
        assert shown[0] == shown[1]
        assert tokens[0] == tokens[1]
