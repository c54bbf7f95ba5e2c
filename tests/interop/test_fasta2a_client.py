"""fasta2a's own client against our gateway."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import pytest_asyncio
from fasta2a.client import A2AClient
from fasta2a.schema import agent_card_ta

from tests.interop.wire import JSONRPC, Caller, script, send

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

UNKNOWN = "t1-main-0-AAAAAAAAAAAAAAAAAAAAAA"


@pytest_asyncio.fixture(loop_scope="module")
async def client(url: str) -> Any:
    """A client with its own idea of a base URL."""
    async with httpx.AsyncClient(timeout=10) as http:
        yield A2AClient(f"{url}/fasta2a", http)


def saying(content: str | dict[str, Any], **members: Any) -> Any:
    """A message with a text, or with a script for the scripted agent."""
    part = {"text": content} if isinstance(content, str) else {"data": {"script": content}}
    return {"role": "user", "message_id": "m", "parts": [part], **members}


def waiting() -> Any:
    """A configuration that waits for the end."""
    return {"accepted_output_modes": ["text/plain"], "blocking": True}


async def test_a_send_gives_a_task_that_can_be_got_until_it_has_ended(client: Any) -> None:
    sent = (await client.send_message(saying({"chunks": 3})))["result"]["task"]
    assert sent["status"]["state"] in {"submitted", "working", "completed"}
    answered = await client.send_message(saying({"chunks": 3}), configuration=waiting())
    task = answered["result"]["task"]
    got = (await client.get_task(task["id"]))["result"]
    assert task == got
    assert "completed" == got["status"]["state"]
    assert ["user"] == [said["role"] for said in got["history"]]
    assert [f"{number:06d}" for number in range(3)] == [part["text"][:6] for part in got["artifacts"][0]["parts"]]


async def test_a_send_does_not_wait_unless_it_says_so(http: httpx.AsyncClient, client: Any) -> None:
    sent = (await client.send_message(saying({"chunks": 10_000, "delayMs": 20})))["result"]["task"]
    assert sent["status"]["state"] in {"submitted", "working"}
    canceled = await Caller(http, JSONRPC, "/fasta2a").call("tasks/cancel", {"id": sent["id"]}, version=None)
    assert "canceled" == canceled["status"]["state"]


async def test_a_stream_is_the_task_then_every_chunk_in_order_then_the_end(client: Any) -> None:
    results = [event["result"] async for event in client.stream_message(saying({"chunks": 20, "artifacts": 2}))]
    assert ["task"] == list(results[0])
    chunks = [r["artifact_update"]["artifact"]["parts"] for r in results if "artifact_update" in r]
    assert [f"{number:06d}" for number in range(20)] == [part["text"][:6] for parts in chunks for part in parts]
    assert "completed" == results[-1]["status_update"]["status"]["state"]


async def test_a_task_that_asks_goes_on_with_the_answer(client: Any) -> None:
    before = [event["result"] async for event in client.stream_message(saying({"chunks": 2, "inputAt": 1}))]
    status = before[-1]["status_update"]["status"]
    assert ("input-required", "agent") == (status["state"], status["message"]["role"])
    task_id = before[0]["task"]["id"]
    after = await client.send_message(saying("yes", task_id=task_id), configuration=waiting())
    assert (task_id, "completed") == (after["result"]["task"]["id"], after["result"]["task"]["status"]["state"])


async def test_an_agent_may_answer_with_a_message_and_no_task(client: Any) -> None:
    message = (await client.send_message(saying({"message": True})))["result"]["message"]
    assert ("agent", "done") == (message["role"], message["parts"][0]["text"])


async def test_an_unknown_task_is_not_found_in_a_stream_as_well(client: Any) -> None:
    missing = {"code": -32001, "message": "Task not found"}
    assert missing.items() <= (await client.get_task(UNKNOWN))["error"].items()
    (only,) = [event async for event in client.stream_message(saying("x", task_id=UNKNOWN))]
    assert missing.items() <= only["error"].items()


async def test_its_card_is_one_that_the_client_can_start_from(url: str, http: httpx.AsyncClient) -> None:
    answer = await http.get("/agents/echo/fasta2a/.well-known/agent-card.json")
    card = agent_card_ta.validate_json(answer.content)
    assert "echo" == card["name"]
    client: Any = A2AClient(card, httpx.AsyncClient(timeout=10))
    answered = await client.send_message(saying("hello"), configuration=waiting())
    await client.http_client.aclose()
    assert "hello" == answered["result"]["task"]["artifacts"][0]["parts"][0]["text"]


async def test_methods_of_1_0_are_served_in_1_0_form_without_a_version(http: httpx.AsyncClient) -> None:
    caller = Caller(http, JSONRPC, "/fasta2a")
    task = (await caller.call("SendMessage", send(script(chunks=1)), version=None))["task"]
    assert "TASK_STATE_COMPLETED" == task["status"]["state"]
    assert task == await caller.call("GetTask", {"id": task["id"]}, version=None)
    frames = await caller.frames("SendStreamingMessage", send(script(chunks=1)), version=None)
    assert "TASK_STATE_COMPLETED" == frames[-1].state


async def test_tasks_are_the_same_in_every_dialect(http: httpx.AsyncClient, client: Any) -> None:
    task = (await client.send_message(saying({"chunks": 1}), configuration=waiting()))["result"]["task"]
    shown = await Caller(http, JSONRPC).call("GetTask", {"id": task["id"]})
    assert (task["id"], "TASK_STATE_COMPLETED") == (shown["id"], shown["status"]["state"])


async def test_what_is_no_method_is_not_found(http: httpx.AsyncClient) -> None:
    caller = Caller(http, JSONRPC, "/fasta2a")
    assert -32601 == (await caller.refused("tasks/shout", {}, version=None)).code
    assert 405 == (await http.get("/fasta2a")).status_code
