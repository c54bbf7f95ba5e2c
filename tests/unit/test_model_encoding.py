"""What the server writes: camelCase, no nulls, defaults left out, required members always there."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings

from a2a_events.model import (
    INTERRUPTED_STATES,
    TERMINAL_STATES,
    Artifact,
    Message,
    Part,
    Role,
    StreamResponse,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatus,
    encode,
)
from tests.unit.wire_strategies import FREE_FORM, tasks

CAMEL = re.compile(r"[a-z][a-zA-Z0-9]*")


def lines_out_of_style(value: Any, path: str = "$") -> list[str]:
    """Every member that is null or not in camelCase, outside of what belongs to the sender."""
    if isinstance(value, list):
        return [bad for index, item in enumerate(value) for bad in lines_out_of_style(item, f"{path}[{index}]")]
    if not isinstance(value, dict):
        return []
    bad = [f"{path}.{name}" for name in value if not CAMEL.fullmatch(name)]
    for name, content in value.items():
        if name in FREE_FORM:
            continue
        if content is None:
            bad.append(f"{path}.{name}")
        bad += lines_out_of_style(content, f"{path}.{name}")
    return bad


@settings(max_examples=40, deadline=None)
@given(tasks)
def test_output_is_camel_case_without_nulls_and_on_one_line(task: Task) -> None:
    written = encode(StreamResponse(task=task))
    assert [] == lines_out_of_style(json.loads(written))
    assert b"\n" not in written


def test_optional_members_at_their_default_are_left_out() -> None:
    artifact = Artifact(artifact_id="a", parts=(Part(text=""),))
    update = TaskArtifactUpdateEvent(task_id="t", context_id="c", artifact=artifact)
    assert (
        b'{"artifactUpdate":{"taskId":"t","contextId":"c","artifact":{"artifactId":"a","parts":[{"text":""}]}}}'
        == encode(StreamResponse(artifact_update=update))
    )


def test_required_members_are_written_even_when_they_are_empty() -> None:
    assert b'{"id":"","status":{"state":"TASK_STATE_WORKING"}}' == encode(
        Task(id="", status=TaskStatus(state=TaskState.WORKING))
    )
    assert b'{"messageId":"","role":"ROLE_AGENT","parts":[]}' == encode(
        Message(message_id="", role=Role.AGENT, parts=())
    )


@pytest.mark.parametrize(
    ("part", "written"),
    [
        (Part(text=""), b'{"text":""}'),
        (Part(raw=b""), b'{"raw":""}'),
        (Part(raw=b"hi", filename="a.bin"), b'{"raw":"aGk=","filename":"a.bin"}'),
        (Part(url="https://x", media_type="text/html"), b'{"url":"https://x","mediaType":"text/html"}'),
        (Part(data=None), b'{"data":null}'),
        (Part(data={"a_b": None}), b'{"data":{"a_b":null}}'),
    ],
)
def test_a_part_is_written_as_the_member_it_holds(part: Part, written: bytes) -> None:
    assert written == encode(part)


@pytest.mark.parametrize("content", [{}, {"text": "a", "url": "b"}, {"raw": b"", "data": None}])
def test_a_part_without_exactly_one_content_cannot_be_made(content: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="exactly one of text, raw, url and data"):
        Part(**content)


def test_an_update_without_exactly_one_member_cannot_be_made() -> None:
    message = Message(message_id="m", role=Role.AGENT, parts=(Part(text="a"),))
    with pytest.raises(ValueError, match="exactly one of"):
        StreamResponse()
    with pytest.raises(ValueError, match="exactly one of"):
        StreamResponse(message=message, task=Task(id="t", status=TaskStatus(state=TaskState.WORKING)))


def test_every_state_is_active_interrupted_or_terminal() -> None:
    assert {TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELED, TaskState.REJECTED} == TERMINAL_STATES
    assert {TaskState.INPUT_REQUIRED, TaskState.AUTH_REQUIRED} == INTERRUPTED_STATES
    assert {TaskState.SUBMITTED, TaskState.WORKING} == set(TaskState) - TERMINAL_STATES - INTERRUPTED_STATES
