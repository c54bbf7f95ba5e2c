"""A2A 0.3 as bytes on a wire: versions, errors, streams and cards, in both of its bindings."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
import structlog
from a2a.client.card_resolver import parse_agent_card
from a2a.compat.v0_3 import types as v0_3
from hypothesis import given, settings
from hypothesis import strategies as st

from a2a_events import Turn, agent
from a2a_events.agents import echo
from a2a_events.bindings.v0_3.names import METHODS
from a2a_events.model import AgentExtension
from a2a_events.services.connect import jetstream_log
from a2a_events.settings import Settings
from a2a_events.timeline.events import Submitted
from a2a_events.timeline.ids import reference
from tests.interop.conftest import serving
from tests.interop.wire import BINDINGS, HTTP_JSON, JSONRPC, Caller, failure, script, send
from tests.unit.wire_strategies import older_json

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

UNKNOWN = "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA"


NAMES = ("message", "id", "configuration", "taskId", "pushNotificationConfig", "historyLength", "status", "metadata")


def said(content: str | dict[str, Any], **members: Any) -> dict[str, Any]:
    """A message in 0.3's schema."""
    part = {"kind": "text", "text": content} if isinstance(content, str) else {"kind": "data", "data": content}
    return {"kind": "message", "messageId": "m", "role": "user", "parts": [part], **members}


def told(**members: Any) -> dict[str, Any]:
    """A script for the scripted agent, in 0.3's schema."""
    return said({"script": members})


class Older:
    """A client of 0.3's JSON-RPC."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    def request(self, method: str, params: Any, headers: dict[str, str] | None = None, query: str = "") -> Any:
        body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
        return self.http.build_request("POST", f"/{query}", json=body, headers=headers or {})

    async def call(self, method: str, params: Any, **given: Any) -> Any:
        document = (await self.http.send(self.request(method, params, **given))).json()
        assert {"jsonrpc", "id", "result"} == set(document), document
        return document["result"]

    async def refused(self, method: str, params: Any, **given: Any) -> dict[str, Any]:
        document = (await self.http.send(self.request(method, params, **given))).json()
        assert {"jsonrpc", "id", "error"} == set(document), document
        error: dict[str, Any] = document["error"]
        return error

    async def events(self, method: str, params: Any, **given: Any) -> list[tuple[str, dict[str, Any]]]:
        """A whole stream: cursors and results."""
        answer = await self.http.send(self.request(method, params, **given))
        assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
        return framed(answer.text)


def framed(text: str) -> list[tuple[str, dict[str, Any]]]:
    """The cursor and content of every event."""
    shown = []
    for frame in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in frame.split("\n") if line and not line.startswith(":"))
        if fields:
            document = json.loads(fields["data"])
            shown.append((fields.get("id", ""), document.get("result", document)))
    return shown


@pytest_asyncio.fixture(loop_scope="module")
async def older(http: httpx.AsyncClient) -> AsyncIterator[Older]:
    yield Older(http)


# --- versions (specification 1.0, 3.6 and appendix A) ----------------------------------------------------------------

VERSIONS: list[tuple[str | None, str, bool]] = [
    (None, "", True),
    ("", "", True),
    ("0.3", "", True),
    ("0.3.0", "", True),
    (None, "?A2A-Version=0.3", True),
    ("0.2", "", False),
    ("9.9", "", False),
    ("abc", "", False),
]


@pytest.mark.parametrize(("version", "query", "served"), VERSIONS)
async def test_methods_of_0_3_are_served_without_a_version_or_with_their_own(
    older: Older, version: str | None, query: str, served: bool
) -> None:
    headers = {} if version is None else {"A2A-Version": version}
    refused = await older.refused("tasks/get", {"id": UNKNOWN}, headers=headers, query=query)
    assert (-32001 if served else -32009) == refused["code"]
    answer = await older.http.get(f"/v1/tasks/{UNKNOWN}{query}", headers=headers)
    assert (-32001 if served else 400) == answer.json().get("code", answer.status_code)


async def test_a_version_decides_which_methods_there_are(older: Older) -> None:
    assert -32601 == (await older.refused("tasks/get", {"id": UNKNOWN}, headers={"A2A-Version": "1.0"}))["code"]
    forgotten = await older.refused("GetTask", {"id": UNKNOWN})
    assert (-32009, "1.0") == (forgotten["code"], forgotten["data"][0]["metadata"]["supportedVersions"])
    assert -32601 == (await older.refused("tasks/shout", {}))["code"]
    neither = await older.refused("tasks/shout", {}, headers={"A2A-Version": "0.2"})
    assert (-32009, "1.0, 0.3") == (neither["code"], neither["data"][0]["metadata"]["supportedVersions"])


async def test_in_1_0_the_segment_v1_is_a_tenant(http: httpx.AsyncClient) -> None:
    headers = {"A2A-Version": "1.0"}
    sent = (await http.post("/v1/message:send", json=send(script(chunks=1)), headers=headers)).json()
    task_id = sent["task"]["id"]
    assert 200 == (await http.get(f"/v1/tasks/{task_id}", headers=headers)).status_code
    assert 404 == (await http.get(f"/v1/tasks/{task_id}")).status_code


# --- JSON-RPC --------------------------------------------------------------------------------------------------------


async def test_results_are_bare_and_of_the_published_types(older: Older) -> None:
    task = v0_3.Task.model_validate(await older.call("message/send", {"message": told(chunks=2)}))
    assert v0_3.TaskState.completed is task.status.state
    assert task == v0_3.Task.model_validate(await older.call("tasks/get", {"id": task.id}))
    message = v0_3.Message.model_validate(await older.call("message/send", {"message": told(message=True)}))
    assert v0_3.Role.agent is message.role


async def test_a_task_of_one_version_is_the_same_task_in_the_other(older: Older) -> None:
    task = await older.call("message/send", {"message": told(chunks=2)})
    for binding in BINDINGS:
        shown = await Caller(older.http, binding).call("GetTask", {"id": task["id"]})
        assert (task["id"], task["contextId"]) == (shown["id"], shown["contextId"])
        assert [part["text"] for part in task["artifacts"][0]["parts"]] == [
            part["text"] for part in shown["artifacts"][0]["parts"]
        ]


async def test_a_stream_ends_with_its_only_final_event(older: Older) -> None:
    for asked, state in [({"chunks": 3}, "completed"), ({"chunks": 3, "inputAt": 1}, "input-required")]:
        events = await older.events("message/stream", {"message": told(**asked)})
        assert "task" == events[0][1]["kind"]
        assert [False] * (len(events) - 1) + [True] == [event.get("final", False) for _, event in events]
        assert state == events[-1][1]["status"]["state"]
        assert len(events) == len({cursor for cursor, _ in events})
        for _, event in events:
            v0_3.SendStreamingMessageSuccessResponse.model_validate({"jsonrpc": "2.0", "result": event})


async def test_the_only_event_of_a_bare_reply_is_the_message(older: Older) -> None:
    ((_, only),) = await older.events("message/stream", {"message": told(message=True)})
    assert "message" == only["kind"]


async def test_a_cursor_replays_what_came_after_it_through_an_interruption(older: Older) -> None:
    before = await older.events("message/stream", {"message": told(chunks=2, inputAt=1)})
    task_id = before[0][1]["id"]
    after = await older.events("message/stream", {"message": said("yes", taskId=task_id)})
    replayed = await older.events("tasks/resubscribe", {"id": task_id}, headers={"Last-Event-ID": before[0][0]})
    assert [cursor for cursor, _ in [*before[1:], *after[1:]]] == [cursor for cursor, _ in replayed]
    # The question is final where the stream ended with it, and is not where the stream goes on.
    finals = [event["status"]["state"] for _, event in replayed if event.get("final")]
    assert ["completed"] == finals


async def test_a_cursor_of_one_version_holds_in_the_other(older: Older) -> None:
    events = await older.events("message/stream", {"message": told(chunks=3)})
    task_id, cursor = events[0][1]["id"], events[1][0]
    for binding in BINDINGS:
        newer = Caller(older.http, binding)
        frames = await newer.frames("SubscribeToTask", {"id": task_id}, headers={"Last-Event-ID": cursor})
        assert [cursor for cursor, _ in events[2:]] == [frame.id for frame in frames]


async def test_errors_of_streams_come_in_a_stream(older: Older) -> None:
    for method, params in [
        ("message/stream", {"message": said("x", taskId=UNKNOWN)}),
        ("tasks/resubscribe", {"id": UNKNOWN}),
    ]:
        ((_, only),) = await older.events(method, params)
        assert (7, -32001) == (only["id"], only["error"]["code"])


async def test_a_send_that_does_not_block_returns_at_once_and_can_be_canceled(older: Older) -> None:
    configuration = {"blocking": False}
    task = await older.call(
        "message/send", {"message": told(chunks=10_000, delayMs=20), "configuration": configuration}
    )
    assert task["status"]["state"] in {"submitted", "working"}
    canceled = await older.call("tasks/cancel", {"id": task["id"], "metadata": {"why": "enough"}})
    assert "canceled" == canceled["status"]["state"]


REFUSED: list[tuple[str, Any, int]] = [
    ("message/send", {}, -32602),
    ("message/send", [], -32602),
    ("message/send", {"message": {**told(), "role": "assistant"}}, -32602),
    ("message/send", {"message": {**told(), "parts": [{"kind": "video"}]}}, -32602),
    ("message/send", {"message": said("x", taskId=UNKNOWN)}, -32001),
    ("tasks/get", {}, -32602),
    ("tasks/get", {"id": UNKNOWN, "historyLength": -1}, -32602),
    ("tasks/cancel", {"id": UNKNOWN}, -32001),
    ("tasks/pushNotificationConfig/set", {"taskId": UNKNOWN}, -32602),
    ("tasks/pushNotificationConfig/get", {}, -32602),
    ("tasks/pushNotificationConfig/list", {}, -32602),
    ("tasks/pushNotificationConfig/delete", {"id": UNKNOWN}, -32602),
    ("agent/getAuthenticatedExtendedCard", None, -32004),
]


@pytest.mark.parametrize(("method", "params", "code"), REFUSED, ids=lambda value: str(value)[:60])
async def test_what_cannot_be_done_is_refused_with_an_error_of_0_3(
    older: Older, method: str, params: Any, code: int
) -> None:
    error = await older.refused(method, params)
    assert code == error["code"]
    assert error["message"]


WEBHOOK = {
    "id": "mine",
    "url": "https://example.com/hook",
    "token": "secret",
    "authentication": {"schemes": ["Bearer"], "credentials": "k"},
}


async def test_webhooks_are_set_shown_and_deleted_in_the_form_of_0_3(older: Older) -> None:
    task_id = (await older.call("message/send", {"message": told(chunks=1)}))["id"]
    config = {"taskId": task_id, "pushNotificationConfig": WEBHOOK}
    card = (await older.http.get("/.well-known/agent.json")).json()
    if not card["capabilities"].get("pushNotifications"):
        assert -32003 == (await older.refused("tasks/pushNotificationConfig/set", config))["code"]
        return
    place = {"id": task_id, "pushNotificationConfigId": "mine"}
    assert config == await older.call("tasks/pushNotificationConfig/set", config)
    shown = await older.call("tasks/pushNotificationConfig/get", place)
    v0_3.TaskPushNotificationConfig.model_validate(shown)
    assert ("mine", WEBHOOK["url"]) == (shown["pushNotificationConfig"]["id"], shown["pushNotificationConfig"]["url"])
    assert shown == await older.call("tasks/pushNotificationConfig/get", {"id": task_id})
    assert [shown] == await older.call("tasks/pushNotificationConfig/list", {"id": task_id})
    path = f"/v1/tasks/{task_id}/pushNotificationConfigs"
    of_proto = (await older.http.get(f"{path}/mine")).json()
    assert (f"{path}/mine", WEBHOOK["url"]) == (f"/v1/{of_proto['name']}", of_proto["pushNotificationConfig"]["url"])
    assert {"configs": [of_proto]} == (await older.http.get(path)).json()
    nested = {"config": {"pushNotificationConfig": {**WEBHOOK, "id": "other"}}}
    assert 200 == (await older.http.post(path, json=nested)).status_code
    assert 2 == len(await older.call("tasks/pushNotificationConfig/list", {"id": task_id}))
    assert None is await older.call("tasks/pushNotificationConfig/delete", place)
    assert {} == (await older.http.delete(f"{path}/other")).json()
    assert [] == await older.call("tasks/pushNotificationConfig/list", {"id": task_id})
    assert -32001 == (await older.refused("tasks/pushNotificationConfig/get", {"id": task_id}))["code"]


@settings(max_examples=120, deadline=None)
@given(method=st.sampled_from(sorted(METHODS)), params=st.dictionaries(st.sampled_from(NAMES), older_json, max_size=3))
async def test_whatever_is_sent_is_answered_and_never_with_an_internal_error(
    http: httpx.AsyncClient, method: str, params: dict[str, Any]
) -> None:
    body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
    for path in ("/", "/fasta2a"):
        answer = await http.post(path, json=body)
        assert 200 == answer.status_code
        shown = framed(answer.text)[0][1] if "event-stream" in answer.headers["content-type"] else answer.json()
        assert -32603 != shown.get("error", {}).get("code")


# --- HTTP+JSON -------------------------------------------------------------------------------------------------------

PROTO_MESSAGE = {"messageId": "m", "role": "ROLE_USER", "content": [{"text": "hello"}]}


async def test_paths_below_v1_carry_the_json_of_the_proto(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/message:send", json={"message": PROTO_MESSAGE})
    assert (200, "application/json") == (answer.status_code, answer.headers["content-type"])
    task = answer.json()["task"]
    assert ("TASK_STATE_COMPLETED", [{"text": "hello"}]) == (task["status"]["state"], task["history"][0]["content"])
    assert task == (await http.get(f"/v1/tasks/{task['id']}")).json()
    newest = (await http.get(f"/v1/tasks/{task['id']}?historyLength=1")).json()
    assert 1 == len(newest["history"])


@pytest.mark.parametrize("verb", ["GET", "POST"])
async def test_a_task_is_subscribed_to_by_either_verb_and_from_a_cursor(http: httpx.AsyncClient, verb: str) -> None:
    streamed = framed((await http.post("/v1/message:stream", json={"message": PROTO_MESSAGE})).text)
    assert streamed[-1][1]["statusUpdate"]["final"] is True
    task_id = streamed[0][1]["task"]["id"]
    again = await http.request(verb, f"/v1/tasks/{task_id}:subscribe", headers={"Last-Event-ID": streamed[0][0]})
    assert streamed[1:] == framed(again.text)


async def test_errors_are_bare_and_named(http: httpx.AsyncClient) -> None:
    sent = (await http.post("/v1/message:send", json={"message": PROTO_MESSAGE})).json()["task"]
    cases: list[tuple[str, str, Any, int, int, str]] = [
        ("GET", f"/v1/tasks/{UNKNOWN}", None, 404, -32001, "TaskNotFoundError"),
        ("POST", f"/v1/tasks/{sent['id']}:cancel", None, 409, -32002, "TaskNotCancelableError"),
        ("POST", f"/v1/tasks/{sent['id']}:subscribe", None, 400, -32004, "UnsupportedOperationError"),
        ("POST", "/v1/message:send", {"message": 7}, 400, -32602, "InvalidParamsError"),
        ("POST", "/v1/message:send", [], 400, -32602, "InvalidParamsError"),
        (
            "POST",
            "/v1/message:stream",
            {"message": {**PROTO_MESSAGE, "taskId": UNKNOWN}},
            404,
            -32001,
            "TaskNotFoundError",
        ),
        ("GET", "/v1/nothing", None, 404, -32601, "MethodNotFoundError"),
        ("PUT", "/v1/message:send", None, 405, -32601, "MethodNotFoundError"),
        ("GET", "/v1/card", None, 400, -32004, "UnsupportedOperationError"),
    ]
    for verb, path, body, status, code, name in cases:
        answer = await http.request(verb, path, json=body)
        shown = answer.json()
        assert (status, code, name) == (answer.status_code, shown["code"], shown["type"]), path
        assert "application/json" == answer.headers["content-type"]
        assert shown["message"]


async def test_without_a_version_other_paths_are_still_refused(http: httpx.AsyncClient) -> None:
    answer = await http.get(f"/tasks/{UNKNOWN}")
    assert "VERSION_NOT_SUPPORTED" == failure(HTTP_JSON, answer).reason


# --- cards -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/agents/echo"])
async def test_the_old_path_shows_a_card_of_0_3(url: str, http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(f"{path}/.well-known/agent.json")
    card = v0_3.AgentCard.model_validate(answer.json())
    assert ("0.3.0", url + path, JSONRPC) == (card.protocol_version, card.url, card.preferred_transport)
    assert [(JSONRPC, url + path), (HTTP_JSON, url + path)] == [
        (interface.transport, interface.url) for interface in card.additional_interfaces or []
    ]
    assert "supportedInterfaces" not in answer.json()
    again = await http.get(f"{path}/.well-known/agent.json", headers={"If-None-Match": answer.headers["etag"]})
    assert 304 == again.status_code


async def test_the_card_of_1_0_has_no_member_of_0_3(http: httpx.AsyncClient) -> None:
    shown = (await http.get("/.well-known/agent-card.json")).json()
    assert not {"url", "preferredTransport", "protocolVersion", "additionalInterfaces", "security"} & set(shown)


# --- what a gateway may be set to, and what the log remembers --------------------------------------------------------

NEEDED = "https://example.com/needed/v1"


@agent(name="strict", extensions=(AgentExtension(uri=NEEDED, required=True),))
async def strict(turn: Turn) -> None:
    """Talks only to those who know its extension."""
    await turn.artifact(turn.text)


@pytest.fixture(scope="module")
def extended_card(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with the extended card of ``echo``."""
    path = tmp_path_factory.mktemp("cards") / "extended.json"
    card = json.loads(echo.card_json())
    path.write_text(json.dumps({**card, "description": "only for friends", "supportedInterfaces": []}))
    return str(path)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def other(nats_url: str, extended_card: str) -> AsyncIterator[Settings]:
    """A gateway with a hybrid card and an extended one, and what 1.1 adds."""
    given: dict[str, Any] = {"hybrid_card": True, "extended_card": extended_card, "a2a_1_1": True}
    async with serving([echo, strict], nats=nats_url, default_agent="echo", **given) as settings:
        yield settings


@pytest_asyncio.fixture(loop_scope="module")
async def others(other: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """For the gateway that is set up so."""
    async with httpx.AsyncClient(base_url=other.base_url, timeout=10) as client:
        yield client


async def test_a_hybrid_card_can_be_read_as_of_either_version(others: httpx.AsyncClient) -> None:
    answer = (await others.get("/.well-known/agent-card.json")).json()
    assert JSONRPC == v0_3.AgentCard.model_validate(answer).preferred_transport
    card = parse_agent_card(answer)
    versions = [(i.protocol_binding, i.protocol_version) for i in card.supported_interfaces]
    assert {"1.0", "0.3"} == {version for _, version in versions}
    assert "1.0" == versions[0][1]


async def test_a_required_extension_is_asked_for_and_named_in_either_header(others: httpx.AsyncClient) -> None:
    body = {"jsonrpc": "2.0", "id": 7, "method": "message/send", "params": {"message": said("hello")}}
    without = (await others.post("/agents/strict", json=body)).json()
    assert (-32600, NEEDED) == (without["error"]["code"], without["error"]["data"][0]["metadata"]["extensions"])
    for header in ("X-A2A-Extensions", "A2A-Extensions"):
        answer = await others.post("/agents/strict", json=body, headers={header: NEEDED})
        assert "completed" == answer.json()["result"]["status"]["state"]
        assert NEEDED == answer.headers["X-A2A-Extensions"] == answer.headers["A2A-Extensions"]


async def test_the_extended_card_is_one_of_0_3(others: httpx.AsyncClient) -> None:
    shown = await Older(others).call("agent/getAuthenticatedExtendedCard", None)
    card = v0_3.AgentCard.model_validate(shown)
    assert ("only for friends", True) == (card.description, card.supports_authenticated_extended_card)
    assert "only for friends" == (await others.get("/v1/card")).json()["description"]


async def test_nothing_of_1_1_is_shown(others: httpx.AsyncClient) -> None:
    events = await Older(others).events("message/stream", {"message": said("hello")})
    task = await Older(others).call("tasks/get", {"id": events[0][1]["id"]})
    assert not [shown for shown in (task, *(event for _, event in events)) if "generation" in shown]


async def test_tasks_are_listed_in_the_form_that_is_asked_for(others: httpx.AsyncClient) -> None:
    older = Older(others)
    task = await older.call("message/send", {"message": said("hello", contextId="listed")})
    asked = {"contextId": "listed", "status": "completed", "includeArtifacts": True, "historyLength": 1}
    page = await older.call("tasks/list", asked)
    assert ([task], 1, "") == (page["tasks"], page["totalSize"], page["nextPageToken"])
    rest = (await others.get("/v1/tasks", params={"contextId": "listed", "status": "completed"})).json()
    assert [(task["id"], "TASK_STATE_COMPLETED")] == [(t["id"], t["status"]["state"]) for t in rest["tasks"]]
    assert [] == (await older.call("tasks/list", {**asked, "status": "failed"}))["tasks"]


async def test_the_line_that_is_logged_of_a_request_names_its_dialect(others: httpx.AsyncClient) -> None:
    with structlog.testing.capture_logs() as lines:
        await Older(others).refused("tasks/get", {"id": UNKNOWN})
        await others.get(f"/v1/tasks/{UNKNOWN}")
        await Caller(others, HTTP_JSON).refused("GetTask", {"id": UNKNOWN})
        await Caller(others, JSONRPC, "/fasta2a").refused("tasks/get", {"id": UNKNOWN}, version=None)
    assert ["0.3", "0.3", "1.0", "fasta2a"] == [line["dialect"] for line in lines if line["event"] == "request"]


async def test_the_first_event_of_a_task_remembers_the_form_it_came_in(
    other: Settings, others: httpx.AsyncClient
) -> None:
    of_0_3 = await Older(others).call("message/send", {"message": said("hello")})
    of_proto = (await others.post("/v1/message:send", json={"message": PROTO_MESSAGE})).json()["task"]
    of_1_0 = (await Caller(others, JSONRPC).call("SendMessage", send("hello")))["task"]
    of_fasta2a = {"role": "user", "messageId": "m", "parts": [{"text": "hello"}]}
    sent = Caller(others, JSONRPC, "/fasta2a").call("message/send", {"message": of_fasta2a}, version=None)
    remembered = []
    async with jetstream_log(other, "test") as (log, _):
        for task in (of_0_3, of_proto, of_1_0, (await sent)["task"]):
            ref = reference(task["id"], agent="echo", tenant="")
            assert ref is not None
            records = [record async for run in log.read(ref) for record in run]
            first = records[0].events()[0]
            assert isinstance(first, Submitted)
            remembered.append((first.dialect, first.protocol_version))
    assert [("0.3", "0.3"), ("0.3", "0.3"), ("1.0", "1.0"), ("fasta2a", "1.0")] == remembered
