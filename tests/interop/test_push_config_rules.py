"""The four operations on webhooks (specification 3.1.7 to 3.1.10), in both bindings."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interop.wire import JSONRPC, Caller, script, send

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

UNKNOWN = "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA"
"""An id that we could have made, and have not."""
HOOK = "https://example.com/hook?a=b"

CREATE, GET = "CreateTaskPushNotificationConfig", "GetTaskPushNotificationConfig"
LIST, DELETE = "ListTaskPushNotificationConfigs", "DeleteTaskPushNotificationConfig"


async def waiting(caller: Caller, **members: Any) -> str:
    """Id of a task that waits for its client."""
    asked = {**send(script(chunks=2, inputAt=1)), **members}
    return str((await caller.call("SendMessage", asked))["task"]["id"])


async def listed(caller: Caller, task_id: str, **asked: Any) -> list[str]:
    """Ids of a task's configs."""
    page = await caller.call(LIST, {"taskId": task_id, **asked})
    return [config["id"] for config in page.get("configs", [])]


async def test_a_config_gets_an_id_and_is_got_and_listed(caller: Caller) -> None:
    task_id = await waiting(caller)
    made = await caller.call(CREATE, {"taskId": task_id, "url": HOOK, "token": "opaque"})
    assert made["id"]
    assert (task_id, HOOK) == (made["taskId"], made["url"])
    other = await caller.call(CREATE, {"taskId": task_id, "url": HOOK})
    assert other["id"] != made["id"]
    got = await caller.call(GET, {"taskId": task_id, "id": made["id"]})
    assert (made["id"], task_id, HOOK) == (got["id"], got["taskId"], got["url"])
    assert {made["id"], other["id"]} == set(await listed(caller, task_id))


async def test_secrets_are_not_shown_again(caller: Caller) -> None:
    task_id = await waiting(caller)
    given = {"url": HOOK, "token": "t-secret", "authentication": {"scheme": "Bearer", "credentials": "c-secret"}}
    made = await caller.call(CREATE, {"taskId": task_id, **given})
    shown = [
        await caller.call(GET, {"taskId": task_id, "id": made["id"]}),
        await caller.call(LIST, {"taskId": task_id}),
        await caller.call("GetTask", {"id": task_id}),
    ]
    assert "secret" not in str(shown)
    assert "Bearer" == shown[0]["authentication"]["scheme"]


@pytest.mark.parametrize("config_id", ["mine", "a/b c", "ünï", "a:b", "x" * 100])
async def test_an_id_that_a_client_chose_is_kept_and_is_the_tasks_own(caller: Caller, config_id: str) -> None:
    first, second = await waiting(caller), await waiting(caller)
    for task_id in (first, second):
        made = await caller.call(CREATE, {"taskId": task_id, "id": config_id, "url": f"{HOOK}&task={task_id}"})
        assert config_id == made["id"]
    for task_id in (first, second):
        got = await caller.call(GET, {"taskId": task_id, "id": config_id})
        assert f"{HOOK}&task={task_id}" == got["url"]
        assert [config_id] == await listed(caller, task_id)


async def test_the_same_id_again_replaces(caller: Caller) -> None:
    task_id = await waiting(caller)
    for url in (HOOK, "https://example.com/other"):
        await caller.call(CREATE, {"taskId": task_id, "id": "one", "url": url})
    assert ["one"] == await listed(caller, task_id)
    assert "https://example.com/other" == (await caller.call(GET, {"taskId": task_id, "id": "one"}))["url"]


async def test_deleting_is_for_good_and_may_be_repeated(caller: Caller) -> None:
    task_id = await waiting(caller)
    for config_id in ("one", "two"):
        await caller.call(CREATE, {"taskId": task_id, "id": config_id, "url": HOOK})
    for _ in range(2):
        gone = await caller.call(DELETE, {"taskId": task_id, "id": "one"})
        assert gone in (None, {}) if caller.binding == JSONRPC else gone == {}
        assert ["two"] == await listed(caller, task_id)
        assert "TASK_NOT_FOUND" == (await caller.refused(GET, {"taskId": task_id, "id": "one"})).reason
    await caller.call(DELETE, {"taskId": task_id, "id": "never there"})


@pytest.mark.parametrize("operation", ["SendMessage", "SendStreamingMessage"])
async def test_a_config_may_ride_with_a_message(caller: Caller, operation: str) -> None:
    asked = send(script(chunks=1, inputAt=0), configuration={"taskPushNotificationConfig": {"url": HOOK, "id": "in"}})
    if operation == "SendMessage":
        task_id = (await caller.call(operation, asked))["task"]["id"]
    else:
        task_id = (await caller.frames(operation, asked))[0].data["task"]["id"]
    got = await caller.call(GET, {"taskId": task_id, "id": "in"})
    assert (task_id, HOOK) == (got["taskId"], got["url"])


async def test_an_ended_task_still_takes_configs(caller: Caller) -> None:
    task_id = (await caller.call("SendMessage", send(script(chunks=1))))["task"]["id"]
    await caller.call(CREATE, {"taskId": task_id, "id": "late", "url": HOOK})
    assert ["late"] == await listed(caller, task_id)
    await caller.call(DELETE, {"taskId": task_id, "id": "late"})
    assert [] == await listed(caller, task_id)


async def test_configs_of_a_task_that_is_not_there_or_not_the_callers_are_not_found(caller: Caller) -> None:
    foreign = await waiting(caller, tenant="owner")
    await caller.call(CREATE, {"taskId": foreign, "id": "c", "url": HOOK, "tenant": "owner"})
    for task_id in (UNKNOWN, foreign):
        for operation, params in [
            (CREATE, {"taskId": task_id, "url": HOOK}),
            (GET, {"taskId": task_id, "id": "c"}),
            (LIST, {"taskId": task_id}),
            (DELETE, {"taskId": task_id, "id": "c"}),
        ]:
            assert "TASK_NOT_FOUND" == (await caller.refused(operation, params)).reason, operation
    assert ["c"] == await listed(caller, foreign, tenant="owner")


INVALID: dict[str, tuple[dict[str, Any], str]] = {
    "no url": ({}, "url"),
    "an empty url": ({"url": ""}, "url"),
    "no url at all": ({"url": "not a url"}, "url"),
    "another scheme": ({"url": "ftp://example.com/x"}, "url"),
    "a file": ({"url": "file:///etc/passwd"}, "url"),
    "no host": ({"url": "https:///x"}, "url"),
    "a number": ({"url": 7}, "url"),
    "authentication without a scheme": ({"url": HOOK, "authentication": {"credentials": "x"}}, "authentication.scheme"),
    "a header in the token": ({"url": HOOK, "token": "a\r\nX-Evil: 1"}, "token"),
    "a long id": ({"url": HOOK, "id": "x" * 10_000}, "id"),
}


@pytest.mark.parametrize("case", INVALID)
async def test_an_invalid_config_is_refused_by_the_name_of_its_field(caller: Caller, case: str) -> None:
    given, field = INVALID[case]
    task_id = await waiting(caller)
    refused = await caller.refused(CREATE, {"taskId": task_id, **given})
    assert ("INVALID_PARAMS", [field]) == (refused.reason, refused.fields), refused.body
    assert [] == await listed(caller, task_id)
    inline = send(script(chunks=1), configuration={"taskPushNotificationConfig": given})
    within = await caller.refused("SendMessage", inline)
    assert [f"configuration.taskPushNotificationConfig.{field}"] == within.fields, within.body


async def test_the_protos_own_names_are_accepted(caller: Caller) -> None:
    task_id = await waiting(caller)
    params: dict[str, Any] = {"task_id": task_id, "id": "c", "url": HOOK}
    if caller.binding != JSONRPC:
        params["taskId"] = params.pop("task_id")  # it is in the path
    await caller.call(CREATE, params)
    assert ["c"] == await listed(caller, task_id, page_size=10)


async def test_configs_are_listed_in_pages(caller: Caller) -> None:
    task_id = await waiting(caller)
    made = {f"c{number}" for number in range(5)}
    for config_id in sorted(made):
        await caller.call(CREATE, {"taskId": task_id, "id": config_id, "url": HOOK})
    seen: list[str] = []
    token = ""
    for _ in range(3):
        page = await caller.call(LIST, {"taskId": task_id, "pageSize": 2, **({"pageToken": token} if token else {})})
        seen += [config["id"] for config in page["configs"]]
        token = page.get("nextPageToken", "")
    assert "" == token
    assert (5, made) == (len(seen), set(seen))
