"""Webhooks of tasks: the four push notification config operations (specification 3.1.7 to 3.1.10)."""

from __future__ import annotations

from a2a_events.client.answers import read
from a2a_events.client.repetition import Repetition
from a2a_events.client.replicas import Replicas
from a2a_events.model import (
    AuthenticationInfo,
    DeleteTaskPushNotificationConfigRequest,
    GetTaskPushNotificationConfigRequest,
    ListTaskPushNotificationConfigsRequest,
    ListTaskPushNotificationConfigsResponse,
    TaskPushNotificationConfig,
)


class PushConfigs:
    """The webhooks of an agent's tasks, as ``client.push_configs``.

    What takes the updates at the other end is :class:`~a2a_events.client.receiver.Receiver`.

    Every operation may raise, beside what it names:
        PushNotificationNotSupportedError: the agent has no push notifications.
        TaskNotFoundError: no such task for this caller.
        A2AError: another error of the server.
        ConnectionFailed, NoAnswer: no gateway answered.
        BadAnswer: the answer is not of this protocol.
    """

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas

    async def create(
        self,
        task_id: str,
        url: str,
        *,
        config_id: str = "",
        token: str = "",
        authentication: AuthenticationInfo | None = None,
    ) -> TaskPushNotificationConfig:
        """Have updates of a task posted to a URL. The answer is the config as stored, with its id.

        Safe to repeat with a ``config_id``: the same id is overwritten. Without one a repetition may make a second
        config, so it is repeated only if it was certainly not sent.

        Args:
            task_id: the task.
            url: of the webhook.
            config_id: unique within the task; empty: the server makes one up.
            token: comes back with every update, in ``X-A2A-Notification-Token``; empty: none.
            authentication: comes back with every update, in ``Authorization``.
        """
        config = TaskPushNotificationConfig(
            url=url, id=config_id, task_id=task_id, token=token, authentication=authentication
        )
        raw = await self._replicas.ask(
            config,
            repetition=Repetition.ALWAYS if config_id else Repetition.NEVER,
            patience_seconds=self._replicas.patience_seconds,
        )
        return read(raw, TaskPushNotificationConfig)

    async def get(self, task_id: str, config_id: str) -> TaskPushNotificationConfig:
        """One config. Servers may hide its secrets. Safe to repeat.

        Raises:
            TaskNotFoundError: no such task, or no such config of it.
        """
        request = GetTaskPushNotificationConfigRequest(task_id=task_id, id=config_id)
        raw = await self._replicas.ask(request, patience_seconds=self._replicas.patience_seconds)
        return read(raw, TaskPushNotificationConfig)

    async def list(
        self, task_id: str, *, page_size: int | None = None, page_token: str = ""
    ) -> ListTaskPushNotificationConfigsResponse:
        """One page of a task's configs; most servers give all of them at once. Safe to repeat.

        Args:
            task_id: the task.
            page_size: most configs to get; None: the server's choice.
            page_token: ``next_page_token`` of the page before.
        """
        request = ListTaskPushNotificationConfigsRequest(task_id=task_id, page_size=page_size, page_token=page_token)
        raw = await self._replicas.ask(request, patience_seconds=self._replicas.patience_seconds)
        return read(raw, ListTaskPushNotificationConfigsResponse)

    async def delete(self, task_id: str, config_id: str) -> None:
        """End a webhook. Safe to repeat, also when it is gone."""
        request = DeleteTaskPushNotificationConfigRequest(task_id=task_id, id=config_id)
        await self._replicas.ask(request, patience_seconds=self._replicas.patience_seconds)
