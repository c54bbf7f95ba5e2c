"""``send`` to an agent whose card is one of A2A 0.3."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.cli.commands import Command
from tests.client.scripted import Answer, frame, gateway, result

pytestmark = pytest.mark.processes

TASK = {"kind": "task", "id": "t1", "contextId": "c1", "status": {"state": "submitted"}}
STATUS = {"kind": "status-update", "taskId": "t1", "contextId": "c1", "final": True, "status": {"state": "completed"}}


async def test_an_old_agent_is_spoken_to_as_its_card_says(start: Callable[..., Command]) -> None:
    async with gateway() as old:
        old.card = {"name": "old", "url": old.url, "version": "1", "capabilities": {"streaming": True}}
        old.will(Answer(frames=(frame(TASK), frame(STATUS))), result({**TASK, "status": {"state": "failed"}}))
        streamed = start("send", "hi", "--url", old.url)
        assert 0 == await streamed.end(), streamed.err
        waited = start("send", "--no-stream", "hi", "--url", old.url)
        assert 1 == await waited.end(), waited.err
    assert ["message/stream", "message/send"] == old.operations
    assert ["task", "statusUpdate"] == [
        next(iter(json.loads(line).keys() & {"task", "statusUpdate"})) for line in streamed.out.splitlines()
    ]
