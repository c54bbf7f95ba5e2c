"""The operations of A2A (specification 3.1), each known by the request it takes."""

from __future__ import annotations

from typing import Final, TypeAlias

from a2a_events.model import (
    CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest,
    GetExtendedAgentCardRequest,
    GetTaskPushNotificationConfigRequest,
    GetTaskRequest,
    ListTaskPushNotificationConfigsRequest,
    ListTasksRequest,
    SendMessageRequest,
    SubscribeToTaskRequest,
    TaskPushNotificationConfig,
)

Request: TypeAlias = (
    SendMessageRequest
    | GetTaskRequest
    | ListTasksRequest
    | CancelTaskRequest
    | SubscribeToTaskRequest
    | TaskPushNotificationConfig
    | GetTaskPushNotificationConfigRequest
    | ListTaskPushNotificationConfigsRequest
    | DeleteTaskPushNotificationConfigRequest
    | GetExtendedAgentCardRequest
)
"""What an operation takes. A ``TaskPushNotificationConfig`` is one to create."""

_NAMES: Final[dict[type[Request], str]] = {
    SendMessageRequest: "SendMessage",
    GetTaskRequest: "GetTask",
    ListTasksRequest: "ListTasks",
    CancelTaskRequest: "CancelTask",
    SubscribeToTaskRequest: "SubscribeToTask",
    TaskPushNotificationConfig: "CreateTaskPushNotificationConfig",
    GetTaskPushNotificationConfigRequest: "GetTaskPushNotificationConfig",
    ListTaskPushNotificationConfigsRequest: "ListTaskPushNotificationConfigs",
    DeleteTaskPushNotificationConfigRequest: "DeleteTaskPushNotificationConfig",
    GetExtendedAgentCardRequest: "GetExtendedAgentCard",
}


def name_of(request: Request, *, streaming: bool) -> str:
    """The operation's name, the same in JSON-RPC and gRPC."""
    if streaming and isinstance(request, SendMessageRequest):
        return "SendStreamingMessage"
    return _NAMES[type(request)]
