"""Row 109: a task with a hundred thousand messages of history costs its reader and the gateway no more than others."""

from __future__ import annotations

import time

import pytest

from a2a_events import Turn, agent, limits
from a2a_events.testing.deployment import Deployment
from a2a_events.timeline.render import HISTORY_OMITTED
from tests.integration.http import client, message
from tests.interop.wire import BINDINGS, Caller

pytestmark = [
    pytest.mark.integration,
    pytest.mark.processes,
    pytest.mark.slow,
    pytest.mark.timeout(240),
]

MESSAGES = 100_000
AT_ONCE_SECONDS = 1.0
"""Row 109."""


@agent(name="talks")
async def talks(turn: Turn) -> None:
    """Says so many sentences, and waits for more."""
    for number in range(int(turn.text)):
        await turn.working(f"sentence {number}")
    turn.require_input("more?")


async def test_109_a_long_history_is_shown_from_its_end_at_once(nats_url: str) -> None:
    async with (
        Deployment(nats_url, agents="tests.bad_input.test_long_history:talks", gateways=2) as deployment,
        client(deployment.gateways[0].url) as http,
        client(deployment.gateways[1].url) as other,
    ):
        sent = (await http.post("/message:send", json=message(str(MESSAGES)), timeout=200)).json()["task"]
        assert sent["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
        fewer = [{}, {"historyLength": MESSAGES}]
        for at, asked in enumerate((http, other)):
            for binding in BINDINGS:
                for more in fewer:
                    begun = time.monotonic()
                    shown = await Caller(asked, binding).call("GetTask", {"id": sent["id"], **more})
                    took = time.monotonic() - begun
                    texts = [one["parts"][0]["text"] for one in shown["history"]]
                    assert texts == [f"sentence {n}" for n in range(MESSAGES - limits.HISTORY_MESSAGES, MESSAGES)]
                    assert shown["metadata"][HISTORY_OMITTED] is True
                    assert took < AT_ONCE_SECONDS, f"gateway {at}, {binding}, {more}"
        few = await Caller(http, BINDINGS[0]).call("GetTask", {"id": sent["id"], "historyLength": 3})
        assert len(few["history"]) == 3
        assert "metadata" not in few
        assert len(sent["history"]) == limits.HISTORY_MESSAGES
