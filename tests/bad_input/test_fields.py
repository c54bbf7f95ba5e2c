"""Group C: requests whose members are missing, of another type, or out of range."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.bad_input.rows import EXTENSION, PARAMS, VERSION, with_header
from tests.bad_input.site import SENDS_AT_ONCE, Site
from tests.interop.agents import REQUIRED
from tests.interop.wire import BINDINGS, message, script, send

pytestmark = [pytest.mark.integration, pytest.mark.processes, pytest.mark.asyncio(loop_scope="session")]


def without(member: str) -> dict[str, Any]:
    """A send whose message lacks a member."""
    return {"message": {name: value for name, value in message("hi").items() if name != member}}


def configured(**members: Any) -> dict[str, Any]:
    """A send with a configuration."""
    return send("hi", configuration=members)


MESSAGES: dict[str, tuple[dict[str, Any], str]] = {
    "row-31-absent": ({}, "message"),
    "row-31-null": ({"message": None}, "message"),
    "row-31-text": ({"message": "hi"}, "message"),
    "row-31-an-array": ({"message": [message("hi")]}, "message"),
    "row-31-an-empty-object": ({"message": {}}, "message.messageId"),
    "row-31-beside-metadata-that-is-a-list": ({**send("hi"), "metadata": [1]}, "metadata"),
    "row-32-empty": (send(), "message.parts"),
    "row-32-absent": (without("parts"), "message.parts"),
    "row-32-an-object": (send("hi", parts={}), "message.parts"),
    "row-32-of-numbers": (send("hi", parts=[1]), "message.parts[0]"),
    "row-32-a-part-without-content": (send({"mediaType": "text/plain"}), "message.parts[0]"),
    "row-32-a-part-with-two-contents": (send({"text": "a", "url": "b"}), "message.parts[0]"),
    "row-32-a-part-of-0.3": (send({"kind": "file", "file": {"uri": "x"}}), "message.parts[0]"),
    "row-32-1001": (send(*["x"] * 1001), "message.parts"),
    "row-34-absent": (without("messageId"), "message.messageId"),
    "row-34-empty": (send("hi", messageId=""), "message.messageId"),
    "row-34-10-kb": (send("hi", messageId="m" * 10_000), "message.messageId"),
    "row-34-a-number": (send("hi", messageId=7), "message.messageId"),
    "row-34-an-object": (send("hi", messageId={}), "message.messageId"),
    "row-35-of-the-agent": (send("hi", role="ROLE_AGENT"), "message.role"),
    "row-35-of-nobody": (send("hi", role="ROLE_UNSPECIFIED"), "message.role"),
    "row-35-of-0.3": (send("hi", role="user"), "message.role"),
    "row-35-the-number-7": (send("hi", role=7), "message.role"),
    "row-35-true": (send("hi", role=True), "message.role"),
    "row-35-the-agent-s-number": (send("hi", role=2), "message.role"),
    "row-35-absent": (without("role"), "message.role"),
    "row-37-negative": (configured(historyLength=-1), "configuration.historyLength"),
    "row-37-over-31-bits": (configured(historyLength=2**31), "configuration.historyLength"),
    "row-37-over-63-bits": (configured(historyLength=2**64), "configuration.historyLength"),
    "row-37-a-word": (configured(historyLength="ten"), "configuration.historyLength"),
    "row-37-a-fraction": (configured(historyLength=1.5), "configuration.historyLength"),
    "row-37-true": (configured(historyLength=True), "configuration.historyLength"),
    "row-37-an-array": (configured(historyLength=[1]), "configuration.historyLength"),
    "row-41-exclamation-marks": (send({"raw": "!!"}), "message.parts[0].raw"),
    "row-41-cut": (send({"raw": "QUJDR"}), "message.parts[0].raw"),
    "row-41-white-space": (send({"raw": "QU JD"}), "message.parts[0].raw"),
    "row-41-not-ascii": (send({"raw": "QUJÉ"}), "message.parts[0].raw"),
    "row-41-padding-in-the-middle": (send({"raw": "QQ==QQ=="}), "message.parts[0].raw"),
    "row-41-a-number": (send({"raw": 7}), "message.parts[0].raw"),
}


@pytest.mark.parametrize("case", MESSAGES)
@pytest.mark.parametrize("binding", BINDINGS)
async def test_an_invalid_message_is_refused_by_the_name_of_its_field(site: Site, binding: str, case: str) -> None:
    params, field = MESSAGES[case]
    for operation in ("SendMessage", "SendStreamingMessage"):
        response = await site.http.send(site.caller(binding).request(operation, params))
        assert [field] == PARAMS.check(binding, response)


QUERIES: dict[str, tuple[str, dict[str, Any]]] = {
    "row-37-get-negative": ("GetTask", {"historyLength": -1}),
    "row-37-get-over-31-bits": ("GetTask", {"historyLength": 2**31}),
    "row-37-get-a-word": ("GetTask", {"historyLength": "ten"}),
    "row-37-get-a-fraction": ("GetTask", {"historyLength": "1.5"}),
    "row-37-get-digits-of-others": ("GetTask", {"historyLength": "١٢"}),
    "row-37-list-negative": ("ListTasks", {"historyLength": -1}),
    "row-38-0": ("ListTasks", {"pageSize": 0}),
    "row-38-negative": ("ListTasks", {"pageSize": -1}),
    "row-38-101": ("ListTasks", {"pageSize": 101}),
    "row-38-a-milliard": ("ListTasks", {"pageSize": 10**9}),
    "row-38-a-word": ("ListTasks", {"pageSize": "all"}),
    "row-38-over-64-bits": ("ListTasks", {"pageSize": 2**70}),
    "row-40-garbage": ("ListTasks", {"statusTimestampAfter": "yesterday"}),
    "row-40-year-99999": ("ListTasks", {"statusTimestampAfter": "99999-01-01T00:00:00Z"}),
    "row-40-an-offset": ("ListTasks", {"statusTimestampAfter": "2026-11-21T00:00:00+02:00"}),
    "row-40-no-zone": ("ListTasks", {"statusTimestampAfter": "2026-11-21T00:00:00"}),
    "row-40-no-time": ("ListTasks", {"statusTimestampAfter": "2026-11-21"}),
    "row-40-february-30": ("ListTasks", {"statusTimestampAfter": "2026-02-30T00:00:00Z"}),
    "row-40-hour-25": ("ListTasks", {"statusTimestampAfter": "2026-02-20T25:00:00Z"}),
    "row-40-year-0": ("ListTasks", {"statusTimestampAfter": "0000-01-01T00:00:00Z"}),
    "row-40-digits-of-others": ("ListTasks", {"statusTimestampAfter": "٢٠٢٦-11-21T00:00:00Z"}),
    "row-40-7-kb": ("ListTasks", {"statusTimestampAfter": "2026-11-21T00:00:00." + "1" * 7_000 + "Z"}),
}


@pytest.mark.parametrize("case", QUERIES)
@pytest.mark.parametrize("binding", BINDINGS)
async def test_an_invalid_question_is_refused_by_the_name_of_its_field(site: Site, binding: str, case: str) -> None:
    operation, asked = QUERIES[case]
    task = {"id": "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA"} if operation == "GetTask" else {}
    response = await site.http.send(site.caller(binding).request(operation, {**task, **asked}))
    assert list(asked) == PARAMS.check(binding, response)


@pytest.mark.parametrize("case", ["row-43-everywhere"])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_unknown_members_are_ignored(site: Site, binding: str, case: str) -> None:
    site.appends = True
    more: dict[str, Any] = {"nobody": {"knows": [1]}, "__proto__": 1, "kind": "x", "id_": None}
    asked = {
        **send({"text": "hi", **more}, **more),
        "configuration": {"blocking": False, **more},
        **more,
    }
    task = (await site.caller(binding).call("SendMessage", asked))["task"]
    assert [{"text": "hi"}] == task["history"][0]["parts"]
    assert not more.keys() & {*task, *task["history"][0]}
    assert task == await site.caller(binding).call("GetTask", {"id": task["id"], "nobody": "knows"})


VERSIONS = [
    "9.9",
    "1",
    "abc",
    "1.1",
    "1.0.0.0",
    "10.0",
    "0.3",
    "",
    "1.0, 9.9",
    "9.9, 1.0",
    "١.٠",
    "1" * 5000,
    "*",
    "1.0\t;q=1",
]


@pytest.mark.parametrize("case", [f"row-44-{ascii(version)[1:20]}" for version in VERSIONS])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_version_that_is_not_served_is_refused(site: Site, binding: str, case: str) -> None:
    (version,) = [each for each in VERSIONS if case == f"row-44-{ascii(each)[1:20]}"]
    asked = site.caller(binding).request("SendMessage", send("hi"), version=None)
    VERSION.check(binding, await site.http.send(with_header(asked, b"A2A-Version", version.encode())))


@pytest.mark.parametrize("case", ["row-44-two-headers", "row-44-in-the-query"])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_versions_that_contradict_each_other_are_not_served(site: Site, binding: str, case: str) -> None:
    caller = site.caller(binding)
    if "headers" in case:
        asked = with_header(caller.request("SendMessage", send("hi")), b"a2a-version", b"9.9")
    else:
        asked = caller.request("SendMessage", send("hi"), version=None, query="?A2A-Version=9.9&A2A-Version=1.0")
    VERSION.check(binding, await site.http.send(asked))


ASKED = {
    "row-46-not-at-all": {},
    "row-46-empty": {"A2A-Extensions": ""},
    "row-46-another": {"A2A-Extensions": "https://example.com/other"},
    "row-46-half-of-it": {"A2A-Extensions": REQUIRED[:-1]},
    "row-46-under-another-name": {"X-Extensions": REQUIRED},
}


@pytest.mark.parametrize("case", ASKED)
@pytest.mark.parametrize("binding", BINDINGS)
async def test_an_agent_that_requires_an_extension_takes_nothing_without_it(
    site: Site, binding: str, case: str
) -> None:
    strict = site.caller(binding, "strict")
    for operation in ("SendMessage", "SendStreamingMessage"):
        EXTENSION.check(binding, await site.http.send(strict.request(operation, send("hi"), headers=ASKED[case])))


@pytest.mark.parametrize("case", ["row-47-new-task", "row-47-stream", "row-47-further-message"])
@pytest.mark.parametrize("binding", BINDINGS)
async def test_one_idempotency_key_is_one_message_however_often_it_is_sent(site: Site, binding: str, case: str) -> None:
    site.appends = True
    caller = site.caller(binding)
    key = {"Idempotency-Key": f"{binding}-{case}"}
    task = {}
    if "further" in case:
        waiting = (await caller.call("SendMessage", send(script(chunks=2, inputAt=1))))["task"]
        task = {"taskId": waiting["id"]}
    asked = send(script(chunks=2), **task)
    if "stream" in case:
        seen = await asyncio.gather(*(caller.frames("SendStreamingMessage", asked, headers=key) for _ in range(20)))
        ids = {frames[0].data["task"]["id"] for frames in seen}
        assert {"TASK_STATE_COMPLETED"} == {frames[-1].state for frames in seen}
    else:
        seen = await asyncio.gather(*(caller.call("SendMessage", asked, headers=key) for _ in range(SENDS_AT_ONCE)))
        ids = {result["task"]["id"] for result in seen}
    (task_id,) = ids
    shown = await caller.call("GetTask", {"id": task_id})
    said = [message for message in shown["history"] if message["role"] == "ROLE_USER"]
    assert (2 if "further" in case else 1) == len(said)


KEYS = {"row-47-empty": "", "row-47-too-long": "k" * 256, "row-47-not-ascii": "k\xe9"}


@pytest.mark.parametrize("case", KEYS)
@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_key_that_is_none_is_refused(site: Site, binding: str, case: str) -> None:
    asked = site.caller(binding).request("SendMessage", send("hi"))
    asked = with_header(asked, b"Idempotency-Key", KEYS[case].encode("latin-1"))
    PARAMS.check(binding, await site.http.send(asked))
