"""Our translations of A2A 0.3 beside those of the official ``a2a-sdk``: both make the same of the same."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from a2a.compat.v0_3 import a2a_v0_3_pb2 as pb2
from a2a.compat.v0_3 import conversions, proto_utils
from a2a.types import AgentCard, Message, Task, TaskPushNotificationConfig
from google.protobuf.json_format import MessageToDict, ParseDict
from hypothesis import given, settings

from a2a_events.bindings.v0_3 import card, proto, schema
from a2a_events.bindings.v0_3.dialects import HTTP_JSON, JSONRPC
from a2a_events.model import Message as OurMessage
from a2a_events.model import Task as OurTask
from a2a_events.model import encode
from tests.unit.wire_strategies import messages, tasks

pytestmark = pytest.mark.interop

PROPERTY = settings(max_examples=30, deadline=None)


def plain(value: object) -> Any:
    return msgspec.json.decode(encode(value))


def without_nothing(value: Any) -> Any:
    """The same without members that hold nothing, which are left out or not as a library likes; numbers as doubles."""
    if isinstance(value, dict):
        kept = {name: without_nothing(content) for name, content in value.items()}
        return {name: content for name, content in kept.items() if content not in (None, "", [], {}, False)}
    if isinstance(value, list):
        return [without_nothing(element) for element in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def dumped(model: Any) -> Any:
    return json.loads(model.model_dump_json(by_alias=True, exclude_none=True))


@PROPERTY
@given(tasks)
def test_a_task_is_written_as_the_official_library_writes_it(task: OurTask) -> None:
    core = ParseDict(plain(task), Task())
    older = conversions.to_compat_task(core)
    assert without_nothing(dumped(older)) == without_nothing(schema.OBJECTS.task(MessageToDict(core)))


@PROPERTY
@given(messages)
def test_a_message_that_the_official_library_writes_is_read_as_it_was(message: OurMessage) -> None:
    core = ParseDict(plain(message), Message())
    written = dumped(conversions.to_compat_message(core))
    read = JSONRPC.made("SendMessage", {"message": written}).message
    expected = dumped(conversions.to_compat_message(core))
    assert without_nothing(expected) == without_nothing(schema.OBJECTS.message(plain(read)))


@PROPERTY
@given(messages)
def test_a_message_in_the_official_proto_is_read_as_it_was(message: OurMessage) -> None:
    """Files apart: that library encodes their bytes twice in this spelling."""
    kept = msgspec.structs.replace(message, parts=tuple(p for p in message.parts if p.raw is msgspec.UNSET))
    older = conversions.to_compat_message(ParseDict(plain(kept), Message()))
    in_proto = proto_utils.ToProto.message(older)
    assert in_proto is not None
    written = MessageToDict(in_proto)
    read = HTTP_JSON.made("SendMessage", {"message": {"parts": [], "content": [], "messageId": "", **written}}).message
    assert without_nothing(written) == without_nothing(proto.OBJECTS.message(plain(read)))


@PROPERTY
@given(tasks)
def test_what_is_written_in_the_proto_is_parsed_by_the_official_one(task: OurTask) -> None:
    shown = proto.OBJECTS.task(MessageToDict(ParseDict(plain(task), Task())))
    assert without_nothing(shown) == without_nothing(MessageToDict(ParseDict(shown, pb2.Task())))


CONFIG: dict[str, Any] = {
    "taskId": "t",
    "id": "c",
    "url": "https://example.com/hook",
    "token": "secret",
    "authentication": {"scheme": "Bearer", "credentials": "k"},
}


def test_a_webhook_is_written_as_the_official_library_writes_it() -> None:
    core = ParseDict(CONFIG, TaskPushNotificationConfig())
    older = conversions.to_compat_task_push_notification_config(core)
    assert dumped(older) == schema.push_config(CONFIG)
    assert MessageToDict(proto_utils.ToProto.task_push_notification_config(older)) == proto.push_config(CONFIG)
    assert dumped(older) == schema.push_config(plain(JSONRPC.made("CreateTaskPushNotificationConfig", dumped(older))))


def test_a_card_is_written_as_the_official_library_writes_it() -> None:
    interfaces = [
        {"url": "https://example.com", "protocolBinding": "JSONRPC", "protocolVersion": "0.3.0"},
        {"url": "https://example.com", "protocolBinding": "HTTP+JSON", "protocolVersion": "0.3.0"},
    ]
    shown = {
        "name": "n",
        "description": "d",
        "version": "7",
        "supportedInterfaces": interfaces,
        "capabilities": {"streaming": True, "extensions": [{"uri": "u"}]},
        "defaultInputModes": ["text/plain"],
        "defaultOutputModes": ["text/plain"],
        "skills": [{"id": "s", "name": "S", "description": "D", "tags": ["t"]}],
        "securitySchemes": {
            "key": {"apiKeySecurityScheme": {"location": "header", "name": "X-Key"}},
            "bearer": {"httpAuthSecurityScheme": {"scheme": "Bearer"}},
            "oidc": {"openIdConnectSecurityScheme": {"openIdConnectUrl": "u"}},
        },
        "securityRequirements": [{"schemes": {"oidc": {"list": ["openid"]}}}],
    }
    theirs = dumped(conversions.to_compat_agent_card(ParseDict(shown, AgentCard())))
    ours = card.card(shown)
    # It lists only the further interfaces; 0.3 says that the first should be among them.
    assert theirs.pop("additionalInterfaces") == ours.pop("additionalInterfaces")[1:]
    assert without_nothing(theirs) == without_nothing(ours)
