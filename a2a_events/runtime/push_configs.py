# ruff: noqa: ARG002 -- the operations are to come
"""The four push-notification-config operations (specification 3.1.7 to 3.1.10)."""

from __future__ import annotations

from a2a_events.errors import PushNotificationNotSupportedError
from a2a_events.model import (
    DeleteTaskPushNotificationConfigRequest,
    GetTaskPushNotificationConfigRequest,
    ListTaskPushNotificationConfigsRequest,
    TaskPushNotificationConfig,
)
from a2a_events.runtime.caller import Caller, Result
from a2a_events.runtime.directory import ServedAgent


class PushConfigs:
    """Webhooks of tasks. Not offered yet: every operation is refused, as the card says."""

    async def create(self, caller: Caller, agent: ServedAgent, request: TaskPushNotificationConfig) -> Result:
        """CreateTaskPushNotificationConfig."""
        raise PushNotificationNotSupportedError

    async def get(self, caller: Caller, agent: ServedAgent, request: GetTaskPushNotificationConfigRequest) -> Result:
        """GetTaskPushNotificationConfig."""
        raise PushNotificationNotSupportedError

    async def page(self, caller: Caller, agent: ServedAgent, request: ListTaskPushNotificationConfigsRequest) -> Result:
        """ListTaskPushNotificationConfigs."""
        raise PushNotificationNotSupportedError

    async def delete(
        self, caller: Caller, agent: ServedAgent, request: DeleteTaskPushNotificationConfigRequest
    ) -> Result:
        """DeleteTaskPushNotificationConfig."""
        raise PushNotificationNotSupportedError
