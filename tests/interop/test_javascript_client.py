"""The client of the official ``@a2a-js/sdk`` on Node against our gateway, in both bindings.

One program holds all conversations with a gateway (``node/converse.mjs``); each test looks at one of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest
import pytest_asyncio

from tests.interop import javascript
from tests.interop.wire import BINDINGS

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

Seen: TypeAlias = dict[str, Any]

PROGRAM = Path(__file__).with_name("node") / "converse.mjs"
SCENARIOS = (
    *("card", "streamed", "sent", "replied", "asked", "canceled", "subscribed"),
    *("refused", "promised", "extended", "listed", "odd"),
)
"""Those that need no webhook."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=BINDINGS)
async def conversations(url: str, request: pytest.FixtureRequest) -> Seen:
    """What the client saw in each scenario, in one binding."""
    output = await javascript.run(PROGRAM, url, request.param, *SCENARIOS)
    return {"binding": request.param, **msgspec.json.decode(output)}


def saw(conversations: Seen, scenario: str) -> Any:
    """One conversation that came to its end."""
    result = conversations[scenario]
    assert "failed" not in result, result["failed"]
    return result


def chunks(responses: list[Seen]) -> list[str]:
    """The number that each artifact chunk begins with."""
    updates = [r["artifactUpdate"] for r in responses if "artifactUpdate" in r]
    return [part["text"][:6] for update in updates for part in update["artifact"]["parts"]]


def state(response: Seen) -> str:
    """The state that a response shows, if it shows one."""
    content = response.get("task") or response.get("statusUpdate") or {}
    return str(content.get("status", {}).get("state", "")).removeprefix("TASK_STATE_")


def numbers(count: int, begin: int = 0) -> list[str]:
    return [f"{number:06d}" for number in range(begin, count)]


async def test_the_binding_that_the_client_prefers_is_spoken_in_1_0(conversations: Seen) -> None:
    card = saw(conversations, "card")
    assert {"name": "scripted", "spoken": conversations["binding"], "version": "1.0"} == card


async def test_a_stream_is_the_task_then_every_chunk_in_order_then_the_end(conversations: Seen) -> None:
    seen = saw(conversations, "streamed")
    assert "task" in seen[0]
    assert numbers(12) == chunks(seen)
    assert "COMPLETED" == state(seen[-1])
    assert 1 == sum(state(response) == "COMPLETED" for response in seen)


async def test_characters_that_some_take_for_line_ends_come_through_a_stream(conversations: Seen) -> None:
    seen = saw(conversations, "odd")
    assert [seen["text"]] == [
        r["artifactUpdate"]["artifact"]["parts"][0]["text"] for r in seen["seen"] if "artifactUpdate" in r
    ]


async def test_a_blocking_send_gives_the_task_with_all_it_has_made(conversations: Seen) -> None:
    seen = saw(conversations, "sent")
    assert seen["sent"] == seen["got"]
    texts = [[part["text"][:6] for part in artifact["parts"]] for artifact in seen["sent"]["artifacts"]]
    assert [numbers(3), numbers(5, 3)] == texts
    assert "COMPLETED" == state({"task": seen["sent"]})


async def test_an_agent_may_answer_with_a_message_and_no_task(conversations: Seen) -> None:
    assert {"role": 2, "text": "done", "taskId": ""} == saw(conversations, "replied")


async def test_a_task_that_asks_goes_on_with_the_answer(conversations: Seen) -> None:
    seen = saw(conversations, "asked")
    assert "INPUT_REQUIRED" == state(seen["before"][-1])
    assert ["task", seen["before"][0]["task"]["id"]] == [*seen["after"][0], seen["after"][0]["task"]["id"]]
    assert (numbers(2), numbers(4, 2)) == (chunks(seen["before"]), chunks(seen["after"]))
    assert "COMPLETED" == state(seen["after"][-1])
    assert {"0": 0, "1": 1, "all": 3} == seen["lengths"]


async def test_canceling_ends_the_task_and_the_stream_of_a_second_connection(conversations: Seen) -> None:
    seen = saw(conversations, "canceled")
    assert state({"task": seen["begun"]}) in {"SUBMITTED", "WORKING"}
    assert "CANCELED" == state({"task": seen["answer"]}) == state(seen["seen"][-1])
    assert "task" in seen["seen"][0]


async def test_a_second_connection_misses_nothing_after_the_task_it_is_shown(conversations: Seen) -> None:
    seen = saw(conversations, "subscribed")
    assert numbers(30) == chunks(seen["first"])
    (shown,) = (response["task"] for response in seen["second"] if "task" in response)
    held = [part["text"][:6] for artifact in shown["artifacts"] for part in artifact["parts"]]
    assert numbers(30) == held + chunks(seen["second"])
    assert "COMPLETED" == state(seen["first"][-1]) == state(seen["second"][-1])


async def test_errors_arrive_as_the_clients_own_classes(conversations: Seen) -> None:
    names = {case: error["class"] for case, error in saw(conversations, "refused").items()}
    kind = "JsonRpc" if conversations["binding"] == "JSONRPC" else "Rest"
    missing, ended = f"{kind}TaskNotFoundError", f"{kind}UnsupportedOperationError"
    assert {
        "get unknown": missing,
        "cancel unknown": missing,
        "subscribe unknown": missing,
        "send to unknown": missing,
        "stream to unknown": missing,
        "cancel ended": f"{kind}TaskNotCancelableError",
        "subscribe ended": ended,
        "send to ended": ended,
        "negative history": f"{kind}RequestMalformedError",
    } == names


async def test_the_extended_card_is_asked_for_where_it_is_promised(conversations: Seen) -> None:
    assert {"skills": ["reader", "secret"], "without": ["reader"]} == saw(conversations, "promised")


async def test_an_extension_that_the_card_requires_can_be_activated(conversations: Seen) -> None:
    seen = saw(conversations, "extended")
    assert seen["without"]["class"].endswith("ExtensionSupportRequiredError")
    assert "TASK_STATE_COMPLETED" == seen["state"]


async def test_tasks_are_listed_page_by_page(conversations: Seen) -> None:
    seen = saw(conversations, "listed")
    assert seen["made"][::-1] == [task_id for page in seen["pages"] for task_id in page["ids"]]
    assert [[1, 1], [0, 0], [0]] == [page["artifacts"] for page in seen["pages"]]
    assert [(5, 2)] * 3 == [(page["totalSize"], page["pageSize"]) for page in seen["pages"]]
    assert 0 == seen["none"]


@pytest.mark.parametrize("binding", BINDINGS)
async def test_updates_are_pushed_to_a_webhook_in_order(pushing: str, binding: str) -> None:
    output = await javascript.run(PROGRAM, pushing, binding, "pushed")
    seen = saw(msgspec.json.decode(output), "pushed")
    assert ("mine", seen["config"]["url"], ["mine"], 0) == (seen["created"], seen["got"], seen["listed"], seen["left"])
    updates = [delivery["update"] for delivery in seen["received"]]
    assert "COMPLETED" == state(updates[-1])
    assert ["000001"] == chunks(updates)
    for delivery in seen["received"]:
        headers = delivery["headers"]
        assert ("Bearer a-credential", "a-token") == (headers["authorization"], headers["x-a2a-notification-token"])
        assert "application/a2a+json" == headers["content-type"].split(";")[0]
