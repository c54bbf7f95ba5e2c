"""The operations by their name in the protocol, with the request each takes: one table for all bindings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from a2a_events.model import CancelTaskRequest, GetTaskRequest, SendMessageRequest, SubscribeToTaskRequest
from a2a_events.runtime.directory import ServedAgent
from a2a_events.runtime.operations import Caller, Operations, Result, Updates

Unary: TypeAlias = Callable[[Operations, Caller, ServedAgent, Any], Awaitable[Result]]
Streaming: TypeAlias = Callable[[Operations, Caller, ServedAgent, Any, str | None], Awaitable[Updates]]

UNARY: Final[dict[str, tuple[type[Any], Unary]]] = {
    "SendMessage": (SendMessageRequest, lambda ops, caller, agent, request: ops.send(caller, agent, request)),
    "GetTask": (GetTaskRequest, lambda ops, caller, agent, request: ops.get(caller, agent, request)),
    "CancelTask": (CancelTaskRequest, lambda ops, caller, agent, request: ops.cancel(caller, agent, request)),
}
STREAMING: Final[dict[str, tuple[type[Any], Streaming]]] = {
    "SendStreamingMessage": (
        SendMessageRequest,
        lambda ops, caller, agent, request, cursor: ops.send_stream(caller, agent, request, cursor=cursor),
    ),
    "SubscribeToTask": (
        SubscribeToTaskRequest,
        lambda ops, caller, agent, request, cursor: ops.subscribe(caller, agent, request, cursor=cursor),
    ),
}
NOT_OFFERED: Final = frozenset(
    {
        "ListTasks",
        "CreateTaskPushNotificationConfig",
        "GetTaskPushNotificationConfig",
        "ListTaskPushNotificationConfigs",
        "DeleteTaskPushNotificationConfig",
        "GetExtendedAgentCard",
    }
)
"""Operations of A2A 1.0 that answer UnsupportedOperation here."""
