"""Names that A2A 0.3 spells differently: methods, states, roles."""

from __future__ import annotations

from typing import Final

from a2a_events.model import Role, TaskState

METHODS: Final = {
    "message/send": "SendMessage",
    "message/stream": "SendStreamingMessage",
    "tasks/get": "GetTask",
    "tasks/list": "ListTasks",
    "tasks/cancel": "CancelTask",
    "tasks/resubscribe": "SubscribeToTask",
    "tasks/pushNotificationConfig/set": "CreateTaskPushNotificationConfig",
    "tasks/pushNotificationConfig/get": "GetTaskPushNotificationConfig",
    "tasks/pushNotificationConfig/list": "ListTaskPushNotificationConfigs",
    "tasks/pushNotificationConfig/delete": "DeleteTaskPushNotificationConfig",
    "agent/getAuthenticatedExtendedCard": "GetExtendedAgentCard",
}
"""Methods of JSON-RPC, and the operations that they are (specification 1.0, appendix A). 0.3 itself lists tasks in its
other bindings only."""

STATES: Final = {
    TaskState.SUBMITTED.value: "submitted",
    TaskState.WORKING.value: "working",
    TaskState.COMPLETED.value: "completed",
    TaskState.FAILED.value: "failed",
    TaskState.CANCELED.value: "canceled",
    TaskState.INPUT_REQUIRED.value: "input-required",
    TaskState.REJECTED.value: "rejected",
    TaskState.AUTH_REQUIRED.value: "auth-required",
}
"""States in the JSON schema, by their name in 1.0. ``unknown`` is a state of no task of ours."""
ROLES: Final = {Role.USER.value: "user", Role.AGENT.value: "agent"}

PROTO_STATES: Final = {TaskState.CANCELED.value: "TASK_STATE_CANCELLED"}
"""States whose name in the 0.3 proto is not the one of 1.0: there it has two Ls."""

STATES_READ: Final = {
    **{name: state for state, name in STATES.items()},
    **{name: state for state, name in PROTO_STATES.items()},
}
ROLES_READ: Final = {name: role for role, name in ROLES.items()}
