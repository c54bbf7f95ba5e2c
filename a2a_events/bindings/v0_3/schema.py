"""0.3's JSON schema, which JSON-RPC and webhooks carry: ``kind`` on every object, results without a wrapper. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from a2a_events.bindings.shape import Form, Table, is_object, members_of, one_of, same, shape
from a2a_events.bindings.v0_3.card import card
from a2a_events.bindings.v0_3.names import ROLES, STATES
from a2a_events.bindings.v0_3.objects import Objects
from a2a_events.bindings.v0_3.requests import WRAPPED

_FILE: Final[Table] = {
    "raw": ("bytes", same),
    "url": ("uri", same),
    "mediaType": ("mimeType", same),
    "filename": ("name", same),
}


def part(value: Any) -> Any:
    """A part. The media type and file name of text and data have no place in 0.3, and are left out."""
    members = members_of(value)
    rest = shape(value, {"metadata": same})
    if "text" in members:
        return {"kind": "text", "text": members["text"], **rest}
    if "data" not in members:
        return {"kind": "file", "file": shape(value, _FILE), **rest}
    data = members["data"]
    if is_object(data):
        return {"kind": "data", "data": data, **rest}
    return {"kind": "data", "data": {"value": data}, "metadata": {**members_of(rest.get("metadata")), WRAPPED: True}}


OBJECTS: Final = Objects(part=part, role=one_of(ROLES), state=one_of(STATES), parts="parts", kinds=True)


def update(value: Any, last: bool) -> Any:  # noqa: FBT001 -- a callable's second argument is positional
    """A StreamResponse, or what a send answers with, without its wrapper.

    Args:
        value: exactly one of task, message, statusUpdate, artifactUpdate.
        last: whether the stream ends after it.
    """
    ((kind, content),) = members_of(value).items()
    match kind:
        case "task":
            return OBJECTS.task(content)
        case "message":
            return OBJECTS.message(content)
        case "statusUpdate":
            return OBJECTS.status_update(content, last=last)
        case _:
            return OBJECTS.artifact_update(content)


def webhook_body(task_json: bytes) -> bytes:
    """What a webhook of a 0.3 client is sent: the whole task, as ``application/json`` (specification 0.3, 9.5).

    Args:
        task_json: the Task of 1.0, as GetTask shows it.
    """
    return msgspec.json.encode(OBJECTS.task(msgspec.json.decode(task_json)))


def authentication(value: Any) -> Any:
    """How a webhook wants to be authenticated to."""
    scheme = members_of(value).get("scheme")
    return {"schemes": [scheme] if scheme else [], **shape(value, {"credentials": same})}


PUSH_CONFIG: Final[Table] = {"id": same, "url": same, "token": same, "authentication": authentication}


def push_config(value: Any) -> Any:
    """A webhook of a task, nested."""
    return {**shape(value, {"taskId": same}), "pushNotificationConfig": shape(value, PUSH_CONFIG)}


def _sent(value: Any) -> Any:
    return update(value, True)  # noqa: FBT003 -- as above


def _push_configs(value: Any) -> Any:
    return [push_config(config) for config in members_of(value).get("configs", [])]


def _nothing(value: Any) -> Any:  # noqa: ARG001 -- as the others
    return None


RESULTS: Final[Mapping[str, Form]] = {
    "SendMessage": _sent,
    "GetTask": OBJECTS.task,
    "ListTasks": OBJECTS.tasks,
    "CancelTask": OBJECTS.task,
    "CreateTaskPushNotificationConfig": push_config,
    "GetTaskPushNotificationConfig": push_config,
    "ListTaskPushNotificationConfigs": _push_configs,
    "DeleteTaskPushNotificationConfig": _nothing,
    "GetExtendedAgentCard": card,
}
"""How the result of each operation is written."""
