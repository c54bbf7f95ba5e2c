"""What 0.3 clients ask for, as requests of 1.0. Pure.

0.3 has two spellings: its JSON schema (JSON-RPC) and the JSON of its proto (HTTP+JSON). Where they name a thing
differently both are read; a message with ``content`` is one of the proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from a2a_events.bindings.shape import Form, Table, each, elements_of, is_object, members_of, one_of, same, shape
from a2a_events.bindings.v0_3.names import ROLES_READ, STATES_READ

WRAPPED: Final = "data_part_compat"
"""Metadata of a data part that holds another value than an object, as published libraries write it."""

_FILE: Final[Table] = {
    "bytes": ("raw", same),
    "fileWithBytes": ("raw", same),
    "uri": ("url", same),
    "fileWithUri": ("url", same),
    "mimeType": ("mediaType", same),
    "name": ("filename", same),
}


def part(value: Any) -> Any:
    """A part; what it holds says which kind it is."""
    if not is_object(value):
        return value
    members = members_of(value)
    made = {**shape(value, {"text": same, "metadata": same}), **members_of(shape(members.get("file"), _FILE))}
    if "data" in members:
        data = members["data"]
        if "kind" not in members and set(members_of(data)) == {"data"}:
            data = data["data"]  # the proto's DataPart
        metadata = members_of(made.get("metadata"))
        if metadata.get(WRAPPED) is True and set(members_of(data)) == {"value"}:
            data = data["value"]
            rest = {name: value for name, value in metadata.items() if name != WRAPPED}
            made = {**made, "metadata": rest} if rest else {}
        made["data"] = data
    return made


def authentication(value: Any) -> Any:
    """How a webhook wants to be authenticated to: 1.0 knows one scheme, so it is the first."""
    schemes = elements_of(members_of(value).get("schemes"))
    made = shape(value, {"credentials": same})
    return {**made, "scheme": schemes[0]} if schemes else made


def push_config(value: Any) -> Any:
    """A webhook."""
    return shape(value, {"id": same, "url": same, "token": same, "authentication": authentication})


_MESSAGE: Final[Table] = {
    "messageId": same,
    "contextId": same,
    "taskId": same,
    "role": one_of(ROLES_READ),
    "parts": each(part),
    "content": ("parts", each(part)),
    "metadata": same,
    "extensions": same,
    "referenceTaskIds": same,
}
_CONFIGURATION: Final[Table] = {
    "acceptedOutputModes": same,
    "historyLength": same,
    "pushNotificationConfig": ("taskPushNotificationConfig", push_config),
    "pushNotification": ("taskPushNotificationConfig", push_config),
}


def _message(value: Any) -> Any:
    return shape(value, _MESSAGE)


def send(params: Any) -> Any:
    """``message/send`` and ``message/stream``."""
    of_proto = "content" in members_of(members_of(params).get("message", members_of(params).get("request")))

    def configuration(value: Any) -> Any:
        made = shape(value, _CONFIGURATION)
        if not is_object(value):
            return made
        # In the proto an absent boolean is false and an absent number is 0, which there means all.
        blocking = members_of(value).get("blocking", False if of_proto else None)
        if of_proto and made.get("historyLength") == 0:
            del made["historyLength"]
        if blocking is not None:
            made["returnImmediately"] = not blocking if isinstance(blocking, bool) else blocking
        return made

    return shape(
        params,
        {
            "message": _message,
            "request": ("message", _message),  # its name in the proto, which some clients write
            "configuration": configuration,
            "metadata": same,
        },
    )


def tasks_list(params: Any) -> Any:
    """``tasks/list``: the members of 1.0, with the states of either version."""
    return shape(
        params,
        {
            "contextId": same,
            "status": one_of(STATES_READ),
            "pageSize": same,
            "pageToken": same,
            "historyLength": same,
            "statusTimestampAfter": same,
            "includeArtifacts": same,
        },
    )


def push_config_set(params: Any) -> Any:
    """``tasks/pushNotificationConfig/set``: the config is nested, in the proto's request once more."""
    outer = members_of(params)
    inner = members_of(outer.get("config")) or outer
    config: Any = inner.get("pushNotificationConfig")
    named: Any = outer.get("configId")
    made = {**members_of(push_config(config)), **shape(params, {"taskId": same})}
    return {"id": named, **made} if named else made


def _task_get(params: Any) -> Any:
    return shape(params, {"id": same, "historyLength": same})


def _task_cancel(params: Any) -> Any:
    return shape(params, {"id": same, "metadata": same})


def _task_id(params: Any) -> Any:
    return shape(params, {"id": same})


def _push_config_id(params: Any) -> Any:
    return shape(params, {"id": ("taskId", same), "pushNotificationConfigId": ("id", same)})


def _push_config_get(params: Any) -> Any:
    return {"id": "", **_push_config_id(params)}  # without an id it is the task's first one that is meant


def _push_configs_of(params: Any) -> Any:
    return shape(params, {"id": ("taskId", same)})


def _nothing(params: Any) -> Any:  # noqa: ARG001 -- as the others
    return {}


JSONRPC: Final[Mapping[str, Form]] = {
    "SendMessage": send,
    "SendStreamingMessage": send,
    "GetTask": _task_get,
    "ListTasks": tasks_list,
    "CancelTask": _task_cancel,
    "SubscribeToTask": _task_id,
    "CreateTaskPushNotificationConfig": push_config_set,
    "GetTaskPushNotificationConfig": _push_config_get,
    "ListTaskPushNotificationConfigs": _push_configs_of,
    "DeleteTaskPushNotificationConfig": _push_config_id,
    "GetExtendedAgentCard": _nothing,
}
"""How the params of each operation are read."""
HTTP_JSON: Final[Mapping[str, Form]] = {
    "SendMessage": send,
    "SendStreamingMessage": send,
    "GetTask": _task_get,
    "ListTasks": tasks_list,
    "CancelTask": _task_cancel,
    "SubscribeToTask": _task_id,
    "CreateTaskPushNotificationConfig": push_config_set,
    "GetTaskPushNotificationConfig": _nothing,
    "ListTaskPushNotificationConfigs": _nothing,
    "DeleteTaskPushNotificationConfig": _nothing,
    "GetExtendedAgentCard": _nothing,
}
"""How the body or query of each operation is read; what its path binds is in the form of 1.0."""
