"""The JSON of 0.3's proto, which HTTP+JSON carries: no ``kind``, results in a wrapper, as in 1.0. Pure.

Messages have ``content`` in place of ``parts``, files are nested, data parts doubly so, and CANCELLED has two Ls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from a2a_events.bindings.shape import Form, Table, each, is_object, members_of, one_of, same, shape
from a2a_events.bindings.v0_3.card import proto_card
from a2a_events.bindings.v0_3.names import PROTO_STATES
from a2a_events.bindings.v0_3.objects import Objects
from a2a_events.bindings.v0_3.requests import WRAPPED
from a2a_events.bindings.v0_3.schema import PUSH_CONFIG

_FILE: Final[Table] = {
    "raw": ("fileWithBytes", same),
    "url": ("fileWithUri", same),
    "mediaType": ("mimeType", same),
    "filename": ("name", same),
}


def part(value: Any) -> Any:
    """A part. The media type and file name of text and data have no place in 0.3, and are left out."""
    members = members_of(value)
    rest = shape(value, {"metadata": same})
    if "text" in members:
        return {"text": members["text"], **rest}
    if "data" not in members:
        return {"file": shape(value, _FILE), **rest}
    data = members["data"]
    if is_object(data):
        return {"data": {"data": data}, **rest}
    return {"data": {"data": {"value": data}}, "metadata": {**members_of(rest.get("metadata")), WRAPPED: True}}


OBJECTS: Final = Objects(part=part, role=same, state=one_of(PROTO_STATES), parts="content", kinds=False)


def update(value: Any, last: bool) -> Any:  # noqa: FBT001 -- a callable's second argument is positional
    """A StreamResponse, or what a send answers with, in its wrapper.

    Args:
        value: exactly one of task, message, statusUpdate, artifactUpdate.
        last: whether the stream ends after it.
    """

    def status_update(content: Any) -> Any:
        return OBJECTS.status_update(content, last=last)

    return shape(
        value,
        {
            "task": OBJECTS.task,
            "message": OBJECTS.message,
            "statusUpdate": status_update,
            "artifactUpdate": OBJECTS.artifact_update,
        },
    )


def push_config(value: Any) -> Any:
    """A webhook of a task, under its resource name."""
    config = members_of(value)
    name = f"tasks/{config.get('taskId', '')}/pushNotificationConfigs/{config.get('id', '')}"
    return {"name": name, "pushNotificationConfig": shape(value, PUSH_CONFIG)}


def _sent(value: Any) -> Any:
    return update(value, True)  # noqa: FBT003 -- as above


def _push_configs(value: Any) -> Any:
    return shape(value, {"configs": each(push_config), "nextPageToken": same})


RESULTS: Final[Mapping[str, Form]] = {
    "SendMessage": _sent,
    "GetTask": OBJECTS.task,
    "ListTasks": OBJECTS.tasks,
    "CancelTask": OBJECTS.task,
    "CreateTaskPushNotificationConfig": push_config,
    "GetTaskPushNotificationConfig": push_config,
    "ListTaskPushNotificationConfigs": _push_configs,
    "DeleteTaskPushNotificationConfig": same,
    "GetExtendedAgentCard": proto_card,
}
"""How the result of each operation is written."""
