"""What a gateway adds to A2A 1.0: the replay extension, agents by tenant, extended cards, and A2A 1.1 to come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from a2a_events import Turn, agent
from a2a_events.agents import echo, scripted
from a2a_events.model import AgentExtension
from tests.interop.conftest import serving
from tests.interop.wire import BINDINGS, JSONRPC, Caller, Frame, script, send

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

REPLAY = "urn:a2a-events:replay:v1"
ACTIVE = {"A2A-Extensions": REPLAY}
NEEDED = "https://example.com/needed/v1"


@agent(name="strict", extensions=(AgentExtension(uri=NEEDED, required=True),))
async def strict(turn: Turn) -> None:
    """Talks only to those who know its extension."""
    await turn.artifact(" ".join(turn.extensions))


@agent(name="billing", tenant="bills")
async def billing(turn: Turn) -> None:
    """Is reached at the root by its tenant."""
    await turn.artifact(f"billed {turn.text}")


@pytest.fixture(scope="module")
def extended_card(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with the extended card of ``echo``."""
    path = tmp_path_factory.mktemp("cards") / "extended.json"
    card = json.loads(echo.card_json())
    path.write_text(json.dumps({**card, "description": "only for friends", "supportedInterfaces": []}))
    return str(path)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def more(nats_url: str, extended_card: str) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway with every addition switched on."""
    agents = [scripted, echo, strict, billing]
    async with (
        serving(agents, nats=nats_url, default_agent="scripted", extended_card=extended_card, a2a_1_1=True) as settings,
        httpx.AsyncClient(base_url=settings.base_url, timeout=20) as http,
    ):
        yield http


@pytest.fixture(params=BINDINGS)
def added(more: httpx.AsyncClient, request: pytest.FixtureRequest) -> Caller:
    return Caller(more, request.param)


def at(caller: Caller, name: str) -> Caller:
    return Caller(caller.http, caller.binding, f"/agents/{name}")


def marks(frames: list[Frame]) -> list[dict[str, Any]]:
    return [next(iter(frame.data.values()))["metadata"][REPLAY] for frame in frames]


# --- the replay extension --------------------------------------------------------------------------------------------


async def test_every_card_declares_what_every_agent_can_do_and_requires_none_of_it(http: httpx.AsyncClient) -> None:
    for path in ("", "/agents/echo"):
        card = (await http.get(f"{path}/.well-known/agent-card.json")).json()
        declared = card["capabilities"]["extensions"]
        assert [REPLAY, "urn:a2a-events:idempotent-send:v1"] == [extension["uri"] for extension in declared]
        assert not any("required" in extension for extension in declared)


async def test_an_activated_stream_carries_revisions_and_cursors_in_metadata(caller: Caller) -> None:
    frames = await caller.frames("SendStreamingMessage", send(script(chunks=3)), headers=ACTIVE)

    assert [frame.id for frame in frames] == [mark["cursor"] for mark in marks(frames)]
    revisions = [mark["revision"] for mark in marks(frames)]
    assert revisions == sorted(set(revisions))
    assert [frame.id.rsplit(".", 1)[1] for frame in frames] == [str(revision) for revision in revisions]


async def test_apart_from_the_metadata_an_activated_stream_is_the_plain_one(caller: Caller) -> None:
    active = await caller.frames("SendStreamingMessage", send(script(chunks=3)), headers=ACTIVE)
    first = active[0]
    task_id = first.data["task"]["id"]
    plain = await caller.frames("SubscribeToTask", {"id": task_id}, headers={"Last-Event-ID": first.id})
    for frame in active:
        del next(iter(frame.data.values()))["metadata"]

    assert [frame.data for frame in plain] == [frame.data for frame in active[1:]]
    assert [frame.id for frame in plain] == [frame.id for frame in active[1:]]


async def test_a_replay_is_activated_like_a_stream(caller: Caller) -> None:
    frames = await caller.frames("SendStreamingMessage", send(script(chunks=3)), headers=ACTIVE)
    task_id = frames[0].data["task"]["id"]

    again = await caller.frames(
        "SubscribeToTask", {"id": task_id}, headers={**ACTIVE, "Last-Event-ID": marks(frames)[1]["cursor"]}
    )

    assert again == frames[2:]


async def test_the_answer_names_the_extensions_that_are_active_and_no_others(caller: Caller) -> None:
    for asked, named in [
        (REPLAY, REPLAY),
        (f"https://example.com/other/v1, {REPLAY}", REPLAY),
        ("https://example.com/other/v1", None),
        ("", None),
    ]:
        request = caller.request("SendMessage", send("hi"), headers={"A2A-Extensions": asked} if asked else {})
        response = await caller.http.send(request)
        assert response.headers.get("a2a-extensions") == named


async def test_without_activation_there_is_no_metadata(caller: Caller) -> None:
    frames = await caller.frames("SendStreamingMessage", send(script(chunks=2)))
    assert all("metadata" not in next(iter(frame.data.values())) for frame in frames)


# --- required extensions ---------------------------------------------------------------------------------------------


async def test_an_agent_that_requires_an_extension_refuses_who_does_not_name_it(added: Caller) -> None:
    asked = at(added, "strict")
    for operation, params in [
        ("SendMessage", send("hi")),
        ("SendStreamingMessage", send("hi")),
        ("GetTask", {"id": "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA"}),
        ("ListTasks", {}),
    ]:
        refused = await asked.refused(operation, params, headers=ACTIVE)
        assert refused.reason == "EXTENSION_SUPPORT_REQUIRED"
        assert refused.details[0]["metadata"] == {"extensions": NEEDED}
        assert refused.code == (-32008 if added.binding == JSONRPC else 400)

    answer = await asked.call("SendMessage", send("hi"), headers={"A2A-Extensions": f"{REPLAY},{NEEDED}"})
    assert answer["task"]["artifacts"][0]["parts"][0]["text"] == f"{NEEDED} {REPLAY}"


# --- several agents --------------------------------------------------------------------------------------------------


async def test_a_tenant_that_an_agent_announced_reaches_it_at_the_root(added: Caller) -> None:
    answer = await added.call("SendMessage", {**send("me"), "tenant": "bills"})
    task = answer["task"]
    at_path = await at(added, "billing").call("GetTask", {"id": task["id"]})
    at_root = await added.call("GetTask", {"id": task["id"], "tenant": "bills"})

    assert task["artifacts"][0]["parts"][0]["text"] == "billed me"
    assert at_path == at_root == {**task}
    assert (await added.refused("GetTask", {"id": task["id"]})).reason == "TASK_NOT_FOUND"
    assert (await at(added, "echo").refused("GetTask", {"id": task["id"]})).reason == "TASK_NOT_FOUND"


async def test_a_card_names_the_agents_own_addresses(more: httpx.AsyncClient) -> None:
    base = str(more.base_url).rstrip("/")
    found = {}
    for name in ("", "echo", "billing"):
        path = f"/agents/{name}" if name else ""
        card = (await more.get(f"{path}/.well-known/agent-card.json")).json()
        found[name] = [(i["url"], i["protocolBinding"], i.get("tenant")) for i in card["supportedInterfaces"]]

    assert found[""] == [(base, "JSONRPC", None), (base, "HTTP+JSON", None)]
    assert found["echo"] == [(f"{base}/agents/echo", b, None) for b in ("JSONRPC", "HTTP+JSON")]
    own = f"{base}/agents/billing"
    assert found["billing"] == [
        (own, "JSONRPC", None),
        (own, "HTTP+JSON", None),
        (base, "JSONRPC", "bills"),
        (base, "HTTP+JSON", "bills"),
    ]


# --- extended cards --------------------------------------------------------------------------------------------------


async def test_an_extended_card_is_declared_and_shown(added: Caller) -> None:
    card = (await added.http.get("/agents/echo/.well-known/agent-card.json")).json()
    extended = await at(added, "echo").call("GetExtendedAgentCard", {})

    assert card["capabilities"]["extendedAgentCard"] is True
    assert extended["description"] == "only for friends"
    assert card["description"] != extended["description"]
    assert extended["supportedInterfaces"] == card["supportedInterfaces"]
    assert extended["capabilities"] == card["capabilities"]


async def test_an_agent_without_an_extended_card_says_that_it_has_none(added: Caller) -> None:
    refused = await added.refused("GetExtendedAgentCard", {})
    assert refused.reason == "UNSUPPORTED_OPERATION"


# --- A2A 1.1 ---------------------------------------------------------------------------------------------------------


async def test_generations_count_what_clients_see(added: Caller) -> None:
    frames = await added.frames("SendStreamingMessage", send(script(chunks=3)))
    generations = [int(next(iter(frame.data.values()))["generation"]) for frame in frames]
    task = await added.call("GetTask", {"id": frames[0].data["task"]["id"]})

    assert generations == sorted(set(generations))
    assert generations[1:] == list(range(generations[1], generations[-1] + 1))
    assert task["generation"] == str(generations[-1])
    listed = (await added.call("ListTasks", {"contextId": task["contextId"]}))["tasks"]
    assert [task["generation"]] == [one["generation"] for one in listed]


async def test_get_task_waits_until_a_task_is_past_a_generation(added: Caller) -> None:
    task = (await added.call("SendMessage", send(script(chunks=2, inputAt=1))))["task"]
    asked = {"id": task["id"], "currentGeneration": task["generation"]}
    waiting = asyncio.get_running_loop().create_task(added.call("GetTask", asked))
    await asyncio.wait([waiting], timeout=0.2)
    assert not waiting.done()
    await added.call("SendMessage", send("go on", taskId=task["id"]))

    newer = await waiting
    assert int(newer["generation"]) > int(task["generation"])
    ended = await added.call("GetTask", {"id": task["id"]})
    assert await added.call("GetTask", {"id": task["id"], "currentGeneration": ended["generation"]}) == ended


async def test_a_message_may_be_conditional_on_the_tasks_generation(added: Caller) -> None:
    task = (await added.call("SendMessage", send(script(chunks=2, inputAt=1))))["task"]
    stale = {**send("go on", taskId=task["id"]), "configuration": {"ifGenerationMatch": "1"}}
    fresh = {**stale, "configuration": {"ifGenerationMatch": task["generation"]}}

    refused = await added.refused("SendMessage", stale)
    assert refused.reason == "TASK_GENERATION_MISMATCH"
    assert (refused.http_status, refused.code) in {(200, -32010), (409, 409)}
    assert refused.details[0]["metadata"] == {"generation": task["generation"]}
    assert (await added.call("GetTask", {"id": task["id"]})) == task
    answer = await added.call("SendMessage", fresh)
    assert answer["task"]["status"]["state"] == "TASK_STATE_COMPLETED"


async def test_plain_1_0_shows_no_generation(caller: Caller) -> None:
    frames = await caller.frames("SendStreamingMessage", send(script(chunks=1)))
    assert all("generation" not in next(iter(frame.data.values())) for frame in frames)
    task = await caller.call("GetTask", {"id": frames[0].data["task"]["id"], "currentGeneration": 1000})
    assert "generation" not in task
