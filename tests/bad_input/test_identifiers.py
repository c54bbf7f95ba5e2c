"""Group D: ids that mean something else to the broker, wherever a client can write one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bad_input.rows import NOT_FOUND, OTHER_TENANT, PARAMS, UNSUPPORTED
from tests.bad_input.site import Site
from tests.interop.wire import BINDINGS, HTTP_JSON, Caller, script, send

pytestmark = [pytest.mark.integration, pytest.mark.processes, pytest.mark.asyncio(loop_scope="session")]

IDS: dict[str, str] = {
    "row-49-of-nobody": "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA",
    "row-49-of-no-shard": "t1-main-99999-AAAAAAAAAAAAAAAAAAAAAA",
    "row-49-of-no-log": "t1-nosuchlog-0-AAAAAAAAAAAAAAAAAAAAAA",
    "row-49-star": "*",
    "row-49-star-in-an-id": "t1-main-0-*",
    "row-49-star-as-shard": "t1-main-*-AAAAAAAAAAAAAAAAAAAAAA",
    "row-50-tail": ">",
    "row-50-tail-in-an-id": "t1-main-0->",
    "row-52-tokens": "a.b",
    "row-52-dot": ".",
    "row-52-dots": "..",
    "row-52-dot-after": "a.",
    "row-52-dot-before": ".a",
    "row-52-more-of-a-subject": "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA.in",
    "row-52-path": "../../etc/passwd",
    "row-52-path-encoded": "%2e%2e%2f",
    "row-53-space": "a b",
    "row-53-tab": "a\tb",
    "row-53-no-break-space": "a\u00a0b",
    "row-53-line-separator": "a\u2028b",
    "row-53-vertical-tab": "a\x0bb",
    "row-53-beyond-ascii": "ünï¢ødé \U0001f600",
    "row-53-null-alone": "\x00",
    "row-53-backslashes": "..\\..\\etc",
    "row-53-sql": "'; DROP TABLE tasks; --",
    "row-53-next-line": "a\x85b",
    "row-53-null": "a\x00b",
    "row-53-commands": "x\r\nPUB a2a.log 0\r\n\r\n",
    "row-53-digits-of-others": "t1-main-٠-AAAAAAAAAAAAAAAAAAAAAA",
    "row-53-a-line-feed-at-the-end": "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA\n",
    "row-55-api": "$JS.API.STREAM.DELETE.T",
    "row-55-system": "$SYS.>",
    "row-55-inbox": "_INBOX.>",
    "row-56-5000-characters": "x" * 5000,
    "row-56-a-long-shard": "t1-main-" + "9" * 5000 + "-AAAAAAAAAAAAAAAAAAAAAA",
    "row-56-a-long-log": "t1-" + "m" * 5000 + "-0-AAAAAAAAAAAAAAAAAAAAAA",
}
HOOK = "https://example.com/hook"
OPERATIONS: list[tuple[str, Any]] = [
    ("GetTask", lambda bad: {"id": bad}),
    ("CancelTask", lambda bad: {"id": bad}),
    ("SubscribeToTask", lambda bad: {"id": bad}),
    ("CreateTaskPushNotificationConfig", lambda bad: {"taskId": bad, "id": "c", "url": HOOK}),
    ("GetTaskPushNotificationConfig", lambda bad: {"taskId": bad, "id": "c"}),
    ("ListTaskPushNotificationConfigs", lambda bad: {"taskId": bad}),
    ("DeleteTaskPushNotificationConfig", lambda bad: {"taskId": bad, "id": "c"}),
    ("SendMessage", lambda bad: send("hi", taskId=bad)),
    ("SendStreamingMessage", lambda bad: send("hi", taskId=bad)),
]


@pytest.mark.parametrize("case", IDS)
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_task_that_was_never_ours_is_not_found(site: Site, binding: str, case: str) -> None:
    caller, shown = site.caller(binding), set()
    for operation, params in OPERATIONS:
        response = await site.http.send(caller.request(operation, params(IDS[case])))
        assert [] == NOT_FOUND.check(binding, response), operation
        shown.add(response.content)
    assert len(shown) == 1, "the same, whatever was asked of it"


async def one(site: Site) -> str:
    """A task with a webhook ``c``, for all of this."""
    if "webhook" not in site.kept:
        site.kept["webhook"] = (await site.task())["id"]
        config = {"taskId": site.kept["webhook"], "id": "c", "url": HOOK}
        await site.caller(HTTP_JSON).call("CreateTaskPushNotificationConfig", config)
    return site.kept["webhook"]


@pytest.mark.parametrize("case", IDS)
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_webhook_is_found_by_its_whole_id_only(site: Site, binding: str, case: str) -> None:
    config = {"taskId": await one(site), "id": IDS[case]}
    response = await site.http.send(site.caller(binding).request("GetTaskPushNotificationConfig", config))
    assert [] == NOT_FOUND.check(binding, response)
    # Deleting is idempotent: what is not there is deleted already.
    assert {} == await site.caller(binding).call("DeleteTaskPushNotificationConfig", config)
    listed = await site.caller(binding).call("ListTaskPushNotificationConfigs", {"taskId": config["taskId"]})
    assert ["c"] == [each["id"] for each in listed["configs"]]


SHORT = {case: bad for case, bad in IDS.items() if len(bad) <= 512}


@pytest.mark.parametrize("case", [case.replace("row-", "row-58-", 1) for case in SHORT])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_context_is_whatever_its_client_calls_it_and_no_subject(site: Site, binding: str, case: str) -> None:
    site.appends = True
    bad = SHORT[case.replace("row-58-", "row-")]
    caller = site.caller(binding)
    task = (await caller.call("SendMessage", send("hi", contextId=bad, messageId=bad)))["task"]
    assert (bad, bad) == (task["contextId"], task["history"][0]["messageId"])
    # Listing by it finds those of this context, and no wildcard's.
    listed = await caller.call("ListTasks", {"contextId": bad})
    assert {bad} == {each["contextId"] for each in listed["tasks"]}
    assert task["id"] in {each["id"] for each in listed["tasks"]}


@pytest.mark.parametrize("case", ["row-58-no-subject"])
async def test_no_subject_holds_what_a_client_has_written(site: Site, case: str) -> None:
    site.appends = True
    for number, bad in enumerate(("*", ">", "a.b", "canary", "CANARY context")):
        await site.caller(BINDINGS[number % 2]).call("SendMessage", send("hi", contextId=bad, messageId=bad))
    for subject in await site.subjects():
        assert all(token and token.isascii() and not set(token) & set("*> ") for token in subject.split(".")), subject
        assert "canary" not in subject.lower()


@pytest.mark.parametrize("case", ["row-58-5-kb", "row-58-5-kb-of-message-id", "row-58-a-number", "row-58-an-object"])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_context_or_message_of_5_kb_is_refused(site: Site, binding: str, case: str) -> None:
    member = "messageId" if "message" in case else "contextId"
    bad: Any = {"row-58-a-number": 7, "row-58-an-object": {"a": 1}}.get(case, "c" * 5000)
    for operation in ("SendMessage", "SendStreamingMessage"):
        response = await site.http.send(site.caller(binding).request(operation, send("hi", **{member: bad})))
        assert [f"message.{member}"] == PARAMS.check(binding, response)


TENANTS = {
    "row-59-star": "*",
    "row-59-tail": ">",
    "row-59-path": "../acme",
    "row-59-capitals": "ACME",
    "row-59-another": "evil",
    "row-59-space-after": "acme ",
    "row-59-null-after": "acme\x00",
    "row-59-homoglyph": "аcme",
    "row-59-none": "null",
    "row-59-slash": "acme/tasks",
}


@pytest.mark.parametrize("case", TENANTS)
@pytest.mark.parametrize("binding", BINDINGS)
async def test_another_tenant_is_refused_and_they_all_look_alike(site: Site, binding: str, case: str) -> None:
    caller = site.caller(binding)
    for operation, params in (
        ("SendMessage", send("hi")),
        ("SendStreamingMessage", send("hi")),
        ("GetTask", {"id": await one(site)}),
        ("ListTasks", {}),
    ):
        seen = []
        for tenant in (TENANTS[case], "nobody-has-ever-heard-of-it"):
            response = await site.http.send(caller.request(operation, {**params, "tenant": tenant}))
            OTHER_TENANT.check(binding, response)
            seen.append(response.content)
        assert seen[0] == seen[1]


@pytest.mark.parametrize("case", ["row-59-in-the-path"])
async def test_another_tenant_in_a_path_is_refused(site: Site, case: str) -> None:
    for tenant in ("evil", "%2A", "%3E", "..%2Facme", "ACME", "acme%00"):
        for verb, path in (("GET", "/tasks"), ("GET", f"/tasks/{await one(site)}")):
            response = await site.http.request(verb, f"/{tenant}{path}", headers={"A2A-Version": "1.0"})
            OTHER_TENANT.check(HTTP_JSON, response)


@pytest.mark.parametrize("case", ["row-59-5000-characters"])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_tenant_of_5000_characters_is_refused(site: Site, binding: str, case: str) -> None:
    response = await site.http.send(site.caller(binding).request("ListTasks", {"tenant": "t" * 5000}))
    assert ["tenant"] == PARAMS.check(binding, response)


@pytest.mark.parametrize("case", ["row-61-another", "row-61-in-capitals", "row-61-with-a-space", "row-61-5-kb"])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_context_that_is_not_the_task_s_is_refused(site: Site, binding: str, case: str) -> None:
    caller = site.caller(binding)
    asked = (await caller.call("SendMessage", send(script(chunks=2, inputAt=1), contextId="mine")))["task"]
    before = await site.stored()
    other = {"row-61-in-capitals": "MINE", "row-61-with-a-space": "mine ", "row-61-5-kb": "m" * 5000}.get(case, "other")
    for operation in ("SendMessage", "SendStreamingMessage"):
        response = await site.http.send(caller.request(operation, send("yes", taskId=asked["id"], contextId=other)))
        assert ["message.contextId"] == PARAMS.check(binding, response)
    assert before == await site.stored(), "only the task was appended"
    site.appends = True
    await caller.call("CancelTask", {"id": asked["id"]})


@pytest.mark.parametrize("case", ["row-62-completed", "row-62-failed", "row-62-rejected", "row-62-canceled"])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_task_that_has_ended_takes_no_message(site: Site, binding: str, case: str) -> None:
    caller = site.caller(binding)
    if "canceled" in case:
        task = await site.task(chunks=2, inputAt=1)
        await caller.call("CancelTask", {"id": task["id"]})
    else:
        task = await site.task(fail="failed" in case, reject="rejected" in case)
    before = await site.stored()
    for operation in ("SendMessage", "SendStreamingMessage"):
        response = await site.http.send(caller.request(operation, send("more", taskId=task["id"])))
        assert [] == UNSUPPORTED.check(binding, response)
    assert before == await site.stored(), "only the task was appended"


@pytest.mark.parametrize("case", ["row-64-message-id", "row-64-key", "row-64-another-subject"])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_what_one_tenant_calls_a_message_is_nothing_to_another(site: Site, binding: str, case: str) -> None:
    site.appends = True
    key = {"Idempotency-Key": f"{binding}-{case}"} if case != "row-64-message-id" else {}
    alice = (await site.caller(binding).call("SendMessage", send("hi", messageId=case), headers=key))["task"]
    who = ("bob", "acme") if "subject" in case else ("alice", "other")
    async with site.client(*who) as http:
        other = Caller(http, binding)
        theirs = (await other.call("SendMessage", send("hi", messageId=case), headers=key))["task"]
        assert alice["id"] != theirs["id"]
        NOT_FOUND.check(binding, await http.send(other.request("GetTask", {"id": alice["id"]})))
        assert [theirs["id"]] == [each["id"] for each in (await other.call("ListTasks", {}))["tasks"]][:1]
    NOT_FOUND.check(binding, await site.http.send(site.caller(binding).request("GetTask", {"id": theirs["id"]})))
