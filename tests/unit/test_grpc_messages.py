"""Messages of the gRPC binding from and to the JSON of the operations."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

pytest.importorskip("grpc_reflection", reason="the extra grpc is not installed")

from a2a.types import a2a_pb2
from a2a.types.a2a_pb2 import SendMessageResponse, StreamResponse
from google.protobuf.empty_pb2 import Empty
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import NULL_VALUE, Value

from a2a_events import limits
from a2a_events.bindings.grpc.messages import answer, parse, request
from a2a_events.errors import InvalidParamsError, ParseError, PayloadTooLargeError, UnsupportedOperationError
from a2a_events.model import Message, SendMessageRequest, Task, encode
from tests.unit import wire_strategies as wire

CARD = {
    "name": "n",
    "supportedInterfaces": [{"url": "h:1", "protocolBinding": "GRPC", "protocolVersion": "1.0", "tenant": "t"}],
    "capabilities": {"streaming": False, "extensions": [{"uri": "u", "params": {"deep": [1, {"x": None}]}}]},
    "securitySchemes": {"key": {"apiKeySecurityScheme": {"location": "header", "name": "X-Key"}}},
    "securityRequirements": [{"schemes": {"key": {"list": ["a", "b"]}, "other": {}}}],
}


@given(wire.tasks)
def test_a_task_becomes_the_message_that_protobuf_itself_reads_out_of_its_json(task: Task) -> None:
    shown = encode(task)
    assert ParseDict(json.loads(shown), a2a_pb2.Task()) == a2a_pb2.Task.FromString(answer(shown, a2a_pb2.Task))


def test_a_card_with_its_maps_does_too() -> None:
    assert ParseDict(CARD, a2a_pb2.AgentCard()) == a2a_pb2.AgentCard.FromString(
        answer(json.dumps(CARD).encode(), a2a_pb2.AgentCard)
    )


@given(wire.messages.filter(lambda message: message.message_id))
def test_a_request_is_what_was_sent(message: Message) -> None:
    sent = SendMessageRequest(message=message, metadata=message.metadata)
    received = ParseDict(json.loads(encode(sent)), a2a_pb2.SendMessageRequest(tenant="agents/x/acme"))
    content = parse(received.SerializeToString(), a2a_pb2.SendMessageRequest)
    assert sent == request(content, "", SendMessageRequest)
    assert "acme" == request(content, "acme", SendMessageRequest).tenant


def test_whole_numbers_are_read_as_such_and_others_as_they_are() -> None:
    numbers: Any = {"a": 3, "b": -0.5, "c": 1e300, "d": [2, {"e": 2**53 - 1}]}
    sent = a2a_pb2.SendMessageRequest(message={"message_id": "m", "role": "ROLE_USER", "parts": [{"text": "x"}]})
    sent.metadata.update(numbers)
    metadata: Any = request(sent, "", SendMessageRequest).metadata
    assert numbers == metadata
    assert [int, float, float] == [type(metadata[name]) for name in "abc"]


def test_a_number_that_json_does_not_have_is_refused() -> None:
    sent = a2a_pb2.SendMessageRequest()
    sent.metadata["x"] = float("inf")
    with pytest.raises(InvalidParamsError, match="number"):
        request(sent, "", SendMessageRequest)


@pytest.mark.parametrize("what", ["values", "parts"])
def test_a_request_of_too_many_messages_is_refused(what: str) -> None:
    sent = a2a_pb2.SendMessageRequest(message={"message_id": "m", "role": "ROLE_USER"})
    if what == "parts":
        sent.message.parts.extend([a2a_pb2.Part()] * (limits.JSON_CONTAINERS + 1))
    else:
        values: Any = sent.message.parts.add().data.list_value.values
        values.extend([Value(null_value=NULL_VALUE)] * (limits.JSON_CONTAINERS + 1))
    with pytest.raises(PayloadTooLargeError, match="messages and values"):
        request(sent, "", SendMessageRequest)


@pytest.mark.parametrize("content", [b"\xff", b"\x0a\xff", b'{"message":{}}'])
def test_bytes_that_are_no_message_are_refused(content: bytes) -> None:
    with pytest.raises(ParseError):
        parse(content, a2a_pb2.SendMessageRequest)


def test_members_that_the_message_does_not_have_are_left_out() -> None:
    shown = b'{"task":{"id":"1","generation":"7","status":{"state":"TASK_STATE_WORKING"}}}'
    assert {"task": {"id": "1", "status": {"state": "TASK_STATE_WORKING"}}} == MessageToDict(
        SendMessageResponse.FromString(answer(shown, SendMessageResponse))
    )


@pytest.mark.parametrize("nothing", [b"{}", b"null"])
def test_an_answer_of_nothing_is_empty(nothing: bytes) -> None:
    assert b"" == answer(nothing, Empty)


@pytest.mark.parametrize("content", [b"1" * 400, b"[" * 60 + b"]" * 60], ids=["a number", "nesting"])
def test_what_protobuf_cannot_carry_is_an_error_of_the_protocol(content: bytes) -> None:
    with pytest.raises(UnsupportedOperationError, match="use the JSON-RPC or HTTP"):
        answer(b'{"task":{"id":"1","metadata":{"x":%b}}}' % content, StreamResponse)
