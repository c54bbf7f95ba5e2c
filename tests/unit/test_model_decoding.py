"""What clients may send, and what is said when they send something else."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from a2a_events import limits
from a2a_events.errors import InvalidParamsError, ParseError
from a2a_events.model import (
    AgentCard,
    CancelTaskRequest,
    GetTaskRequest,
    Message,
    Part,
    Role,
    SendMessageRequest,
    StreamResponse,
    Task,
    TaskState,
    decode,
    encode,
)
from tests.unit.wire_strategies import in_proto_names, messages, tasks

PROPERTY = settings(max_examples=40, deadline=None)


def message_of(part: dict[str, Any], **members: Any) -> bytes:
    return json.dumps({"messageId": "m", "role": "ROLE_USER", "parts": [part], **members}).encode()


def part_of(part: dict[str, Any]) -> Part:
    return decode(message_of(part), Message).parts[0]


def violated_fields(body: bytes, of: type[Any]) -> list[str]:
    with pytest.raises(InvalidParamsError) as refusal:
        decode(body, of)
    return [field for field, _ in refusal.value.violations]


@PROPERTY
@given(messages)
def test_a_message_reads_back_as_it_was_written(message: Message) -> None:
    assert message == decode(encode(message), Message)


@PROPERTY
@given(tasks)
def test_a_task_reads_back_as_it_was_written(task: Task) -> None:
    assert task == decode(encode(task), Task)


@PROPERTY
@given(tasks)
def test_proto_names_read_like_camel_case_and_leave_the_sender_s_own_names_alone(task: Task) -> None:
    assert task == decode(msgspec.json.encode(in_proto_names(task)), Task)


def test_snake_case_members_are_read_at_every_depth() -> None:
    body = b"""{"message":{"message_id":"m","role":"ROLE_USER","context_id":"c","reference_task_ids":["t_1"],
        "parts":[{"text":"a_b","media_type":"text/plain"}]},
        "configuration":{"history_length":3,"return_immediately":true,
        "task_push_notification_config":{"url":"u","task_id":"t"}}}"""
    request = decode(body, SendMessageRequest)
    assert ("m", "c", ("t_1",)) == (
        request.message.message_id,
        request.message.context_id,
        request.message.reference_task_ids,
    )
    assert Part(text="a_b", media_type="text/plain") == request.message.parts[0]
    assert request.configuration is not None
    assert (3, True) == (request.configuration.history_length, request.configuration.return_immediately)
    assert request.configuration.task_push_notification_config is not None
    assert "t" == request.configuration.task_push_notification_config.task_id


def test_snake_case_is_read_when_the_member_name_is_escaped() -> None:
    assert 3 == decode(b'{"id":"t","history\\u005flength":3,"message_id":1}', GetTaskRequest).history_length


@pytest.mark.parametrize("member", ["contextId", "taskId", "metadata", "extensions", "referenceTaskIds", "context_id"])
def test_null_means_an_absent_member(member: str) -> None:
    assert decode(message_of({"text": "a"}), Message) == decode(message_of({"text": "a"}, **{member: None}), Message)


def test_null_for_a_required_member_is_refused() -> None:
    with pytest.raises(InvalidParamsError):
        decode(b'{"id":null}', CancelTaskRequest)


def test_null_content_is_absent_except_for_data_whose_value_may_be_null() -> None:
    assert Part(url="u") == part_of({"text": None, "url": "u"})
    assert Part(data=None) == part_of({"data": None})
    assert Part(data=None, media_type="x") == part_of({"data": None, "media_type": "x"})


@pytest.mark.parametrize("content", [{"text": ""}, {"raw": ""}, {"url": ""}, {"data": False}, {"data": {}}])
def test_presence_decides_which_content_a_part_holds_not_truth(content: dict[str, Any]) -> None:
    assert json.loads(encode(part_of(content))) == content


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"filename": "a"},
        {"text": None},
        {"text": "a", "url": "b"},
        {"text": "", "raw": ""},
        {"text": "a", "data": None},
        {"text": "a", "url": "b", "media_type": "text/plain"},
    ],
)
def test_a_part_without_exactly_one_content_is_refused_by_name(content: dict[str, Any]) -> None:
    assert ["parts[0]"] == violated_fields(message_of(content), Message)


@pytest.mark.parametrize(("number", "state"), list(enumerate(TaskState, 1)))
def test_states_are_read_as_numbers_too(number: int, state: TaskState) -> None:
    body = b'{"statusUpdate":{"taskId":"t","contextId":"c","status":{"state":%d}}}' % number
    update = decode(body, StreamResponse).status_update
    assert update is not None
    assert state is update.status.state


@pytest.mark.parametrize(("number", "role"), [(1, Role.USER), (2, Role.AGENT)])
def test_roles_are_read_as_numbers_too(number: int, role: Role) -> None:
    assert role is decode(message_of({"text": "a"}, role=number), Message).role


@pytest.mark.parametrize(
    "role", [0, 3, -1, 10**40, 1.0, True, "ROLE_UNSPECIFIED", "user", "ROLE_user", ["ROLE_USER"], {}]
)
def test_a_role_that_is_none_is_refused_by_name(role: Any) -> None:
    assert ["role"] == violated_fields(message_of({"text": "a"}, role=role), Message)


@pytest.mark.parametrize("spelling", ["+/8=", "+/8", "-_8=", "-_8", "-/8"])
def test_bytes_are_read_in_both_alphabets_with_and_without_padding(spelling: str) -> None:
    assert b"\xfb\xff" == part_of({"raw": spelling}).raw


def test_bytes_are_written_in_the_standard_alphabet_with_padding() -> None:
    assert b'{"raw":"+/8="}' == encode(part_of({"raw": "-_8"}))


@pytest.mark.parametrize("spelling", ["a", "!!!!", "a b=", "é", "aGk=\n", "YQ==YQ=="])
def test_bytes_that_are_not_base64_are_refused_by_name(spelling: str) -> None:
    assert ["parts[0].raw"] == violated_fields(message_of({"raw": spelling}), Message)


def test_a_decimal_string_is_read_as_an_integer() -> None:
    assert 5 == decode(b'{"id":"t","historyLength":"5"}', GetTaskRequest).history_length


@pytest.mark.parametrize("value", ["-1", "2147483648", '"-1"', '"x"', '""', '"\\u0665"', "1.5", "true", "[]", "1e3"])
def test_a_history_length_out_of_range_or_kind_is_refused_by_name(value: str) -> None:
    assert ["historyLength"] == violated_fields(f'{{"id":"t","historyLength":{value}}}'.encode(), GetTaskRequest)


def test_a_decimal_string_of_thousands_of_digits_is_refused_by_name() -> None:
    body = b'{"id":"t","historyLength":"%s"}' % (b"1" * 5000)
    assert ["historyLength"] == violated_fields(body, GetTaskRequest)


def test_history_length_zero_differs_from_absent() -> None:
    assert 0 == decode(b'{"id":"t","historyLength":0}', GetTaskRequest).history_length
    assert decode(b'{"id":"t"}', GetTaskRequest).history_length is None


def test_unknown_members_are_ignored_at_every_depth() -> None:
    body = b"""{"kind":"x","future_member":{"deep_er":[null]},"message":{"kind":"message","messageId":"m",
        "role":"ROLE_USER","parts":[{"kind":"text","text":"a","x":{"text":1,"role":9}}]},"configuration":{"y":null}}"""
    request = decode(body, SendMessageRequest)
    assert Message(message_id="m", role=Role.USER, parts=(Part(text="a"),)) == request.message


def test_metadata_and_data_are_left_alone_whatever_they_hold() -> None:
    free = {"snake_case": None, "raw": "-_8", "state": 1, "historyLength": "5", "metadata": {"a_b": [None]}, "": 0}
    body = message_of({"data": free, "media_type": "application/json"}, metadata=free)
    message = decode(body, Message)
    assert free == message.metadata
    assert free == message.parts[0].data


def test_names_that_a_card_s_author_chose_are_left_alone() -> None:
    card = {
        "name": "n",
        "description": "d",
        "version": "1",
        "supportedInterfaces": [],
        "capabilities": {},
        "defaultInputModes": [],
        "defaultOutputModes": [],
        "skills": [],
        "securitySchemes": {"my_oauth": {"oauth2SecurityScheme": {"flows": {"x_y": None}}}},
        "securityRequirements": [{"schemes": {"my_oauth": {"list": ["read_it"]}}}],
    }
    read = decode(json.dumps(card).encode(), AgentCard)
    assert card["securitySchemes"] == read.security_schemes
    assert ["my_oauth"] == list(read.security_requirements[0].schemes)


@pytest.mark.parametrize(
    ("body", "of", "field"),
    [
        (b'{"id":5}', GetTaskRequest, "id"),
        (b'{"id":"t","metadata":"x"}', CancelTaskRequest, "metadata"),
        (b'{"id":"t","metadata":[1]}', CancelTaskRequest, "metadata"),
        (message_of({"text": 5}), Message, "parts[0].text"),
        (message_of({"text": "a"}, context_id=5), Message, "contextId"),
        (message_of({"text": "a"}, extensions=["a", 5]), Message, "extensions[1]"),
        (b'{"message":{"messageId":"m","role":"ROLE_USER","parts":{}}}', SendMessageRequest, "message.parts"),
        (b'{"message":{"messageId":"m","role":"ROLE_USER","parts":[{"text":"a"},{"url":1}]}}', SendMessageRequest,
         "message.parts[1].url"),
    ],
)  # fmt: skip
def test_a_violation_names_the_field(body: bytes, of: type[Any], field: str) -> None:
    assert [field] == violated_fields(body, of)


@pytest.mark.parametrize(
    ("body", "of", "field"),
    [
        (b"{}", GetTaskRequest, "id"),
        (b'{"message":{"role":"ROLE_USER","parts":[{"text":"a"}]}}', SendMessageRequest, "message.messageId"),
        (b'{"message":{"message_id":"m","parts":[{"text":"a"}]}}', SendMessageRequest, "message.role"),
        (b'{"message":{"messageId":"m","role":"ROLE_USER"}}', SendMessageRequest, "message.parts"),
    ],
)
def test_a_violation_names_the_required_field_that_is_missing(body: bytes, of: type[Any], field: str) -> None:
    assert [field] == violated_fields(body, of)


@pytest.mark.parametrize("body", [b"{}", b'{"task":null}', b'{"future":{}}'])
def test_an_update_without_a_member_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidParamsError):
        decode(body, StreamResponse)


@pytest.mark.parametrize("body", [b"null", b"[]", b"5", b'"x"', b"true"])
def test_json_that_is_no_object_is_refused_as_parameters(body: bytes) -> None:
    with pytest.raises(InvalidParamsError):
        decode(body, GetTaskRequest)


def nested(levels: int) -> bytes:
    """A message whose data makes the whole body so many levels deep."""
    own = 3
    return message_of({"data": 0}).replace(b": 0", b": " + b"[" * (levels - own) + b"]" * (levels - own))


def test_json_as_deep_as_the_limit_is_read() -> None:
    assert decode(nested(limits.JSON_DEPTH), Message).message_id == "m"


def test_json_one_level_deeper_than_the_limit_is_refused() -> None:
    with pytest.raises(ParseError, match=f"nested deeper than {limits.JSON_DEPTH}"):
        decode(nested(limits.JSON_DEPTH + 1), Message)


@pytest.mark.parametrize("text", ["[" * 200, "{" * 200, '\\"' + "[" * 200, '\\\\"[{' * 60])
def test_brackets_inside_text_are_not_depth(text: str) -> None:
    assert text == part_of({"text": text}).text


def test_many_brackets_side_by_side_are_not_depth() -> None:
    assert [[]] * 500 == part_of({"data": [[]] * 500}).data
