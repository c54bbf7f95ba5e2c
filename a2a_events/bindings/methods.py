"""The operations by their name in the protocol, with the request each takes: one table for all bindings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

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
from a2a_events.runtime.caller import Caller, Result
from a2a_events.runtime.directory import ServedAgent
from a2a_events.runtime.operations import Operations, Updates

Unary: TypeAlias = Callable[[Operations, Caller, ServedAgent, Any], Awaitable[Result]]
Streaming: TypeAlias = Callable[[Operations, Caller, ServedAgent, Any, str | None], Awaitable[Updates]]

UNARY: Final[dict[str, tuple[type[Any], Unary]]] = {
    "SendMessage": (SendMessageRequest, lambda ops, caller, agent, asked: ops.send(caller, agent, asked)),
    "GetTask": (GetTaskRequest, lambda ops, caller, agent, asked: ops.get(caller, agent, asked)),
    "ListTasks": (ListTasksRequest, lambda ops, caller, agent, asked: ops.list_tasks(caller, agent, asked)),
    "CancelTask": (CancelTaskRequest, lambda ops, caller, agent, asked: ops.cancel(caller, agent, asked)),
    "CreateTaskPushNotificationConfig": (
        TaskPushNotificationConfig,
        lambda ops, caller, agent, asked: ops.push_configs.create(caller, agent, asked),
    ),
    "GetTaskPushNotificationConfig": (
        GetTaskPushNotificationConfigRequest,
        lambda ops, caller, agent, asked: ops.push_configs.get(caller, agent, asked),
    ),
    "ListTaskPushNotificationConfigs": (
        ListTaskPushNotificationConfigsRequest,
        lambda ops, caller, agent, asked: ops.push_configs.page(caller, agent, asked),
    ),
    "DeleteTaskPushNotificationConfig": (
        DeleteTaskPushNotificationConfigRequest,
        lambda ops, caller, agent, asked: ops.push_configs.delete(caller, agent, asked),
    ),
    "GetExtendedAgentCard": (
        GetExtendedAgentCardRequest,
        lambda ops, caller, agent, _asked: ops.extended_card(caller, agent),
    ),
}
STREAMING: Final[dict[str, tuple[type[Any], Streaming]]] = {
    "SendStreamingMessage": (
        SendMessageRequest,
        lambda ops, caller, agent, asked, cursor: ops.send_stream(caller, agent, asked, cursor=cursor),
    ),
    "SubscribeToTask": (
        SubscribeToTaskRequest,
        lambda ops, caller, agent, asked, cursor: ops.subscribe(caller, agent, asked, cursor=cursor),
    ),
}
WITHOUT_PARAMS: Final = frozenset({"ListTasks", "GetExtendedAgentCard"})
"""Operations whose request may be left out: every member of it is optional."""
