"""What the operations take and give (specification section 3)."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from a2a_events.model.wire import Message, Task, Wire

HistoryLength = Annotated[int, Meta(ge=0, le=2**31 - 1)]
"""0: no history; n: at most the n newest messages; absent: all."""

Generation = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""A2A 1.1: how often a task has visibly changed."""
PageSize = Annotated[int, Meta(ge=1, le=100)]
"""How many entries one page may hold."""


class AuthenticationInfo(Wire, frozen=True):
    """How a webhook wants to be authenticated to."""

    scheme: str
    credentials: str = ""


class TaskPushNotificationConfig(Wire, frozen=True):
    """A webhook that wants a task's updates."""

    url: str
    tenant: str = ""
    id: str = ""
    task_id: str = ""
    token: str = ""
    authentication: AuthenticationInfo | None = None


class SendMessageConfiguration(Wire, frozen=True):
    """How the caller wants the answer."""

    accepted_output_modes: tuple[str, ...] = ()
    task_push_notification_config: TaskPushNotificationConfig | None = None
    history_length: HistoryLength | None = None
    return_immediately: bool = False
    if_generation_match: Generation | None = None
    """A2A 1.1: the message is refused unless the task is at this generation."""


class SendMessageRequest(Wire, frozen=True):
    """SendMessage and SendStreamingMessage."""

    message: Message
    tenant: str = ""
    configuration: SendMessageConfiguration | None = None
    metadata: dict[str, Any] | None = None


class GetTaskRequest(Wire, frozen=True):
    """GetTask."""

    id: str
    tenant: str = ""
    history_length: HistoryLength | None = None
    current_generation: Generation | None = None
    """A2A 1.1: wait for the task to be past this generation."""


class CancelTaskRequest(Wire, frozen=True):
    """CancelTask."""

    id: str
    tenant: str = ""
    metadata: dict[str, Any] | None = None


class SubscribeToTaskRequest(Wire, frozen=True):
    """SubscribeToTask."""

    id: str
    tenant: str = ""


class ListTasksRequest(Wire, frozen=True):
    """ListTasks. ``status`` is the name of a state; empty or ``TASK_STATE_UNSPECIFIED`` for all."""

    tenant: str = ""
    context_id: str = ""
    status: str = ""
    page_size: PageSize | None = None
    page_token: str = ""
    history_length: HistoryLength | None = None
    status_timestamp_after: str = ""
    include_artifacts: bool = False


class ListTasksResponse(Wire, frozen=True):
    """ListTasks' answer: all four members are always there."""

    tasks: tuple[Task, ...]
    next_page_token: str
    page_size: int
    total_size: int


class GetTaskPushNotificationConfigRequest(Wire, frozen=True):
    """GetTaskPushNotificationConfig."""

    task_id: str
    id: str
    tenant: str = ""


class ListTaskPushNotificationConfigsRequest(Wire, frozen=True):
    """ListTaskPushNotificationConfigs."""

    task_id: str
    tenant: str = ""
    page_size: PageSize | None = None
    page_token: str = ""


class DeleteTaskPushNotificationConfigRequest(Wire, frozen=True):
    """DeleteTaskPushNotificationConfig."""

    task_id: str
    id: str
    tenant: str = ""


class GetExtendedAgentCardRequest(Wire, frozen=True):
    """GetExtendedAgentCard."""

    tenant: str = ""


class SendMessageResponse(Wire, frozen=True):
    """SendMessage's answer: exactly one member is set."""

    task: Task | None = None
    message: Message | None = None


class ListTaskPushNotificationConfigsResponse(Wire, frozen=True):
    """ListTaskPushNotificationConfigs' answer: one page."""

    configs: tuple[TaskPushNotificationConfig, ...] = ()
    next_page_token: str = ""
