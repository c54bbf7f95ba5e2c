"""The dialect of fasta2a 2.1: 0.3's method names, objects of 1.0, and states and roles in lower case. Pure.

Nothing in ``tasks/get`` tells it from 0.3, so it has a path of its own: ``/fasta2a`` below the agent's. There the
methods of 1.0 are served as well, in 1.0's form and without a version header, as fasta2a does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from a2a_events.bindings.dialect import Dialect
from a2a_events.bindings.shape import Form, Table, each, is_object, members_of, one_of, same, shape
from a2a_events.bindings.v0_3.names import METHODS, ROLES, ROLES_READ, STATES, STATES_READ
from a2a_events.errors import A2AError, PushNotificationNotSupportedError, TaskNotCancelableError, TaskNotFoundError

PATH: Final = "fasta2a"
"""Below the agent's path."""

_MESSAGES: Final[dict[type[A2AError], str]] = {
    TaskNotFoundError: "Task not found",
    TaskNotCancelableError: "Task not cancelable",
    PushNotificationNotSupportedError: "Push notification not supported",
}
"""Its types allow these errors this one sentence."""


def _message(role: Form) -> Form:
    table: Table = {
        "messageId": same,
        "contextId": same,
        "taskId": same,
        "role": role,
        "parts": same,
        "metadata": same,
        "extensions": same,
        "referenceTaskIds": same,
    }
    return lambda value: shape(value, table)


_read_message: Final = _message(one_of(ROLES_READ))
_shown_message: Final = _message(one_of(ROLES))
_STATUS: Final[Table] = {"state": one_of(STATES), "message": _shown_message, "timestamp": same}


def _status(value: Any) -> Any:
    return shape(value, _STATUS)


def _configuration(value: Any) -> Any:
    if not is_object(value):
        return value
    made = shape(value, {"acceptedOutputModes": same, "historyLength": same, "taskPushNotificationConfig": same})
    blocking = members_of(value).get("blocking", False)  # it never waits unless it is told to
    return {**made, "returnImmediately": not blocking if isinstance(blocking, bool) else blocking}


def _send(params: Any) -> Any:
    asked: dict[str, Any] = {"configuration": {}, **members_of(params)}
    return shape(asked, {"message": _read_message, "configuration": _configuration, "metadata": same, "tenant": same})


def _tasks_list(params: Any) -> Any:
    return {**members_of(params), **shape(params, {"status": one_of(STATES_READ)})}


_REQUESTS: Final[Mapping[str, Form]] = {
    **dict.fromkeys(METHODS.values(), same),
    "SendMessage": _send,
    "SendStreamingMessage": _send,
    "ListTasks": _tasks_list,
}
_TASK: Final[Table] = {
    "id": same,
    "contextId": same,
    "status": _status,
    "artifacts": same,
    "history": each(_shown_message),
    "metadata": same,
}


def task(value: Any) -> Any:
    """A task."""
    return shape(value, _TASK)


def status_update(value: Any) -> Any:
    """A change of status."""
    return shape(value, {"taskId": same, "contextId": same, "status": _status, "metadata": same})


_UPDATE: Final[Table] = {
    "task": task,
    "message": _shown_message,
    "statusUpdate": status_update,
    "artifactUpdate": same,
}


def update(value: Any, _last: bool = False) -> Any:  # noqa: FBT001, FBT002 -- a callable's second argument
    """A StreamResponse, or what a send answers with: in its wrapper, as in 1.0."""
    return shape(value, _UPDATE)


def _tasks(value: Any) -> Any:
    return {**members_of(value), **shape(value, {"tasks": each(task)})}


_RESULTS: Final[Mapping[str, Form]] = {
    **dict.fromkeys(METHODS.values(), same),
    "SendMessage": update,
    "GetTask": task,
    "CancelTask": task,
    "ListTasks": _tasks,
}


def error(raised: A2AError) -> A2AError:
    """An error with the sentence that its types allow."""
    if type(raised) in _MESSAGES:
        return type(raised)(_MESSAGES[type(raised)], metadata=raised.metadata)
    return raised


def card(value: Any) -> Any:
    """The card at its path: one interface, and skills with the modes that its types ask for.

    Args:
        value: the card of 1.0, with the addresses of this gateway.
    """
    members = members_of(value)
    offers = [offer for offer in members["supportedInterfaces"] if offer["protocolBinding"] == "JSONRPC"]
    modes = {"inputModes": members["defaultInputModes"], "outputModes": members["defaultOutputModes"]}
    return {
        **members,
        "supportedInterfaces": [{**offer, "url": f"{offer['url']}/{PATH}"} for offer in offers[:1]],
        "skills": [{**modes, **members_of(skill)} for skill in members["skills"]],
    }


FASTA2A: Final = Dialect(
    name="fasta2a",
    version="1.0",
    methods={
        **METHODS,
        "tasks/pushNotification/set": "CreateTaskPushNotificationConfig",
        "tasks/pushNotification/get": "GetTaskPushNotificationConfig",
    },
    requests=_REQUESTS,
    results=_RESULTS,
    update=update,
    error=error,
    refuses_in_streams=True,
)
