"""fasta2a's dialect as 1.0 and back: objects of 1.0, with states and roles in lower case."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from a2a_events.bindings import fasta2a
from a2a_events.bindings.fasta2a import FASTA2A
from a2a_events.errors import A2A_ERRORS, A2AError, InvalidParamsError, TaskNotFoundError
from a2a_events.model import Message, Task, TaskState, encode
from tests.unit.wire_strategies import messages, tasks

PROPERTY = settings(max_examples=40, deadline=None)
STATES = {
    "submitted",
    "working",
    "completed",
    "failed",
    "canceled",
    "input-required",
    "rejected",
    "auth-required",
}


def plain(value: object) -> Any:
    return msgspec.json.decode(encode(value))


def message(**members: Any) -> dict[str, Any]:
    return {"messageId": "m", "role": "user", "parts": [{"text": "x"}], **members}


@PROPERTY
@given(messages)
def test_a_message_comes_back_as_it_went(said: Message) -> None:
    shown = fasta2a.update({"message": plain(said)})["message"]
    assert shown["role"] in {"user", "agent"}
    assert said == FASTA2A.made("SendMessage", {"message": shown}).message


@PROPERTY
@given(tasks)
def test_a_task_differs_from_that_of_1_0_in_states_and_roles_alone(task: Task) -> None:
    of_1_0, shown = plain(task), fasta2a.task(plain(task))
    assert shown["status"]["state"] in STATES
    assert list(of_1_0) == sorted(shown, key=list(of_1_0).index)
    assert of_1_0.get("artifacts") == shown.get("artifacts")
    assert [said["parts"] for said in of_1_0.get("history", [])] == [said["parts"] for said in shown.get("history", [])]
    assert {said["role"] for said in shown.get("history", [])} <= {"user", "agent"}


@pytest.mark.parametrize("state", TaskState)
def test_every_state_has_a_name_in_lower_case(state: TaskState) -> None:
    update = {"statusUpdate": {"taskId": "t", "contextId": "c", "status": {"state": state.value}}}
    shown = fasta2a.update(update)
    assert shown["statusUpdate"]["status"]["state"] in STATES
    assert state.value == FASTA2A.made("ListTasks", {"status": shown["statusUpdate"]["status"]["state"]}).status


@pytest.mark.parametrize(
    ("configuration", "immediately"),
    [
        (None, True),
        ({}, True),
        ({"acceptedOutputModes": []}, True),
        ({"blocking": True}, False),
        ({"blocking": 7}, None),
    ],
)
def test_a_send_waits_only_when_told_to(configuration: Any, immediately: bool | None) -> None:
    members = {"message": message(), **({} if configuration is None else {"configuration": configuration})}
    if immediately is None:
        with pytest.raises(InvalidParamsError) as refusal:
            FASTA2A.made("SendMessage", members)
        assert ["configuration.returnImmediately"] == [field for field, _ in refusal.value.violations]
    else:
        assert immediately == FASTA2A.made("SendMessage", members).configuration.return_immediately


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({}, "message"),
        ({"message": 7}, "message"),
        ({"message": message(role="assistant")}, "message.role"),
        ({"message": message(parts=[{"kind": "video"}])}, "message.parts[0]"),
        ({"message": message(), "configuration": "x"}, "configuration"),
    ],
)
def test_a_malformed_send_is_refused_by_the_name_of_its_field(params: Any, field: str) -> None:
    with pytest.raises(InvalidParamsError) as refusal:
        FASTA2A.made("SendMessage", params)
    assert [field] == [name for name, _ in refusal.value.violations]


@pytest.mark.parametrize("of", A2A_ERRORS)
def test_an_error_keeps_its_code_and_has_the_sentence_that_its_types_allow(of: type[A2AError]) -> None:
    shown = fasta2a.error(of())
    assert of.jsonrpc_code == shown.jsonrpc_code
    allowed = {-32001: "Task not found", -32002: "Task not cancelable", -32003: "Push notification not supported"}
    assert allowed.get(of.jsonrpc_code, shown.message) == shown.message


def test_an_error_with_a_sentence_of_ours_gets_the_one_that_its_types_allow() -> None:
    raised = TaskNotFoundError("No agent is served here", metadata={"taskId": "t"})
    assert ("Task not found", {"taskId": "t"}) == (fasta2a.error(raised).message, fasta2a.error(raised).metadata)
