"""Clients of ``@a2a-js/sdk`` on Node against our gateway, in both bindings of A2A 0.3.

That of 0.3 holds all its conversations in one program (``node_0_3/converse.mjs``), and so does that of 1.0, which takes
the gateway for one of 0.3 (``later.mjs``); each test looks at one conversation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
import pytest
import pytest_asyncio

from tests.interop import javascript
from tests.interop.wire import BINDINGS, JSONRPC

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

FOLDER: Final = Path(__file__).with_name("node_0_3")
Seen: TypeAlias = dict[str, Any]


async def conversed(program: str, url: str, binding: str) -> Seen:
    """What a program saw."""
    return {"binding": binding, **msgspec.json.decode(await javascript.run(FOLDER / program, url, binding))}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=BINDINGS)
async def conversations(url: str, request: pytest.FixtureRequest) -> Seen:
    """What the client saw in each scenario, in one binding."""
    return await conversed("converse.mjs", url, request.param)


def saw(conversations: Seen, scenario: str) -> Any:
    """One conversation that came to its end."""
    result = conversations[scenario]
    assert "failed" not in result, result["failed"]
    return result


def chunks(events: list[Seen]) -> list[str]:
    """The number that each artifact chunk begins with."""
    updates = [event for event in events if event["kind"] == "artifact-update"]
    return [part["text"][:6] for update in updates for part in update["artifact"]["parts"]]


def numbers(end: int, begin: int = 0) -> list[str]:
    return [f"{number:06d}" for number in range(begin, end)]


async def test_the_card_is_understood_and_either_transport_can_be_chosen(conversations: Seen) -> None:
    transport = "JsonRpcTransport" if conversations["binding"] == JSONRPC else "RestTransport"
    shown = saw(conversations, "card")
    assert transport == shown["transport"].lstrip("_")
    assert ("scripted", "0.3.0", "JSONRPC") == (shown["name"], shown["protocolVersion"], shown["preferredTransport"])


async def test_a_stream_is_the_task_then_every_chunk_in_order_then_the_final_update(conversations: Seen) -> None:
    seen = saw(conversations, "streamed")
    assert "task" == seen[0]["kind"]
    assert numbers(12) == chunks(seen)
    assert ("status-update", "completed", True) == (seen[-1]["kind"], seen[-1]["status"]["state"], seen[-1]["final"])
    assert 1 == sum(event.get("final", False) for event in seen)


async def test_a_blocking_send_gives_the_task_with_all_it_has_made(conversations: Seen) -> None:
    seen = saw(conversations, "sent")
    assert seen["sent"] == seen["got"]
    assert ("task", "completed") == (seen["sent"]["kind"], seen["sent"]["status"]["state"])
    texts = [[part["text"][:6] for part in artifact["parts"]] for artifact in seen["sent"]["artifacts"]]
    assert [numbers(3), numbers(5, 3)] == texts


async def test_an_agent_may_answer_with_a_message_and_no_task(conversations: Seen) -> None:
    message = saw(conversations, "replied")
    assert ("message", "agent", "done") == (message["kind"], message["role"], message["parts"][0]["text"])


async def test_a_question_ends_the_stream_with_a_final_update_and_the_answer_goes_on(conversations: Seen) -> None:
    seen = saw(conversations, "asked")
    before, after = seen["before"], seen["after"]
    assert ("input-required", True) == (before[-1]["status"]["state"], before[-1]["final"])
    assert ("task", before[0]["id"]) == (after[0]["kind"], after[0]["id"])
    assert (numbers(2), numbers(4, 2)) == (chunks(before), chunks(after))
    assert ("completed", True) == (after[-1]["status"]["state"], after[-1]["final"])
    assert ["yes"] == [said["parts"][0]["text"] for said in seen["newest"]["history"]]


async def test_canceling_ends_the_task_and_the_stream_of_a_second_connection(conversations: Seen) -> None:
    seen = saw(conversations, "canceled")
    assert seen["begun"]["status"]["state"] in {"submitted", "working"}
    assert "canceled" == seen["answer"]["status"]["state"] == seen["seen"][-1]["status"]["state"]
    assert "task" == seen["seen"][0]["kind"]
    assert seen["seen"][-1]["final"]


async def test_a_second_connection_misses_nothing_after_the_task_it_is_shown(conversations: Seen) -> None:
    seen = saw(conversations, "resubscribed")
    assert numbers(30) == chunks(seen["first"])
    held = [part["text"][:6] for artifact in seen["second"][0]["artifacts"] for part in artifact["parts"]]
    assert numbers(30) == held + chunks(seen["second"])
    assert "completed" == seen["first"][-1]["status"]["state"] == seen["second"][-1]["status"]["state"]


async def test_files_come_back_as_they_were_sent(conversations: Seen) -> None:
    content, link, text = saw(conversations, "file")
    assert ("+/8=", "image/png") == (content["file"]["bytes"], content["file"]["mimeType"])
    assert "https://example.com/a" == link["file"]["uri"]
    assert {"kind": "text", "text": "look"} == text


async def test_errors_arrive_as_the_clients_own_classes(conversations: Seen) -> None:
    names = {
        case: error["class"].lstrip("_").replace("JSONRPC", "") for case, error in saw(conversations, "refused").items()
    }
    missing, ended = "TaskNotFoundError", "UnsupportedOperationError"
    assert {
        "get unknown": missing,
        "cancel unknown": missing,
        "resubscribe to unknown": missing,
        "send to unknown": missing,
        "cancel ended": "TaskNotCancelableError",
        "resubscribe to ended": ended,
        "send to ended": ended,
        "stream to ended": ended,
    } == names


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_later_client_takes_the_gateway_for_one_of_0_3(url: str, binding: str) -> None:
    seen = await conversed("later.mjs", url, binding)
    legacy = "LegacyJsonRpcTransport" if binding == JSONRPC else "LegacyRestTransport"
    assert legacy == seen["transport"].lstrip("_")
    updates = [response["artifactUpdate"] for response in seen["streamed"] if "artifactUpdate" in response]
    assert numbers(5) == [part["text"][:6] for update in updates for part in update["artifact"]["parts"]]
    assert "TASK_STATE_COMPLETED" == seen["streamed"][-1]["statusUpdate"]["status"]["state"]
    assert seen["sent"] == seen["got"]
    assert "TASK_STATE_INPUT_REQUIRED" == seen["asked"][-1]["statusUpdate"]["status"]["state"]
    assert seen["asked"][0]["task"]["id"] == seen["answered"][0]["task"]["id"]
    assert "TASK_STATE_COMPLETED" == seen["answered"][-1]["statusUpdate"]["status"]["state"]
    assert "TASK_STATE_CANCELED" == seen["canceled"]["status"]["state"]
    assert "TASK_STATE_CANCELED" == seen["watched"][-1]["statusUpdate"]["status"]["state"]
    expected = {
        "get": "TaskNotFoundError",
        "cancel": "TaskNotCancelableError",
        "stream": "UnsupportedOperationError",
    }
    refused = {case: name.lstrip("_").removeprefix("JsonRpc") for case, name in seen["refused"].items()}
    assert expected == {case: name.removeprefix("Rest") for case, name in refused.items()}
