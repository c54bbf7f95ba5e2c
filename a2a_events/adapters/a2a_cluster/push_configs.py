"""``PushNotificationConfigStore`` of a2a-sdk on the log: a webhook is an event of its task, its secrets sealed.

Webhooks may be called by a2a-sdk's own sender, which asks :meth:`LogPushConfigStore.get_info_for_dispatch`; or by
``a2a-events notifier``, in order and until they answer. One of the two, or each update comes twice.
"""

from __future__ import annotations

from a2a.server.context import ServerCallContext
from a2a.server.owner_resolver import OwnerResolver
from a2a.server.tasks import PushNotificationConfigStore
from a2a.server.tasks.push_notification_config_store import normalize_push_notification_config
from a2a.types.a2a_pb2 import AuthenticationInfo, TaskPushNotificationConfig
from a2a.utils.errors import InvalidParamsError, TaskNotFoundError

from a2a_events import limits
from a2a_events.adapters.a2a_cluster.early_configs import EarlyConfigs
from a2a_events.adapters.a2a_cluster.fold import SdkFold
from a2a_events.adapters.a2a_cluster.journal import Journal
from a2a_events.runtime import seal
from a2a_events.runtime.seal import Seals, Secrets
from a2a_events.timeline.events import Actor, PushConfigDeleted, PushConfigSet
from a2a_events.timeline.ids import TaskRef
from a2a_events.timeline.record import entry


class LogPushConfigStore(PushNotificationConfigStore):
    """Webhooks of a2a-sdk's tasks. Made by :class:`~a2a_events.adapters.a2a_cluster.Cluster`.

    Args:
        journal: of the agent.
        owner_resolver: whose a webhook is.
        early: where those are kept whose task is not saved yet.
        keys: that seal secrets, as operators give them to notifiers; none: the key that the log keeps.
    """

    def __init__(
        self, journal: Journal, owner_resolver: OwnerResolver, early: EarlyConfigs, keys: tuple[bytes, ...] = ()
    ) -> None:
        self._journal = journal
        self._owner_of = owner_resolver
        self._early = early
        self._keys = keys
        self._seals: Seals | None = None

    async def set_info(
        self, task_id: str, notification_config: TaskPushNotificationConfig, context: ServerCallContext
    ) -> TaskPushNotificationConfig:
        """Set a webhook, in the place of one of the same id; durable once its task is. Two round trips.

        Raises:
            TaskNotFoundError: the task was deleted, or is somebody else's.
            InvalidParamsError: it has ``limits.WEBHOOKS`` already.
            ModuleNotFoundError: there are secrets, and nothing that could seal them.
            Unavailable: nothing was written.
            Uncertain: it may be set; repeating is safe.
        """
        config = normalize_push_notification_config(task_id, notification_config)
        owner, ref = self._owner_of(context), await self._journal.ref(task_id)
        event = await self._event(ref, config, owner)
        while True:
            fold = await self._journal.current(ref)
            if fold.head.removed or (fold.task is not None and fold.owner != owner):
                raise TaskNotFoundError
            if fold.task is None:
                self._early.put(ref, event)
                return config
            if config.id not in fold.configs and len(fold.configs) >= limits.WEBHOOKS:
                raise InvalidParamsError(
                    message=f"The task has {limits.WEBHOOKS} push notification configs; delete one first"
                )
            if await self._journal.append(fold, [entry(event, self._journal.now(fold))]):
                return config

    async def get_info(self, task_id: str, context: ServerCallContext) -> list[TaskPushNotificationConfig]:
        """The caller's webhooks of the task, with their secrets; by id. One round trip, as ``LogTaskStore.get``."""
        owner, ref = self._owner_of(context), await self._journal.ref(task_id)
        fold = await self._journal.current(ref)
        known = list(fold.configs.values()) if fold.task is not None else self._early.of(ref, owner)
        return [await self._config(task_id, ref, event) for event in known if event.actor.subject == owner]

    async def get_info_for_dispatch(self, task_id: str) -> list[TaskPushNotificationConfig]:
        """Every webhook of the task, with its secrets: for who calls them."""
        ref = await self._journal.ref(task_id)
        fold = await self._journal.current(ref)
        known = list(fold.configs.values()) if fold.task is not None else self._early.of(ref)
        return [await self._config(task_id, ref, event) for event in known]

    async def delete_info(self, task_id: str, context: ServerCallContext, config_id: str | None = None) -> None:
        """Delete one of the caller's webhooks, or all of them; what is not there is deleted already.

        Raises:
            Unavailable: nothing was written; repeating is safe.
            Uncertain: they may be deleted; repeating is safe.
        """
        owner, ref = self._owner_of(context), await self._journal.ref(task_id)
        self._early.remove(ref, owner, config_id)
        while True:
            fold = await self._journal.current(ref)
            entries = [
                entry(PushConfigDeleted(id=event.id, actor=event.actor), self._journal.now(fold))
                for event in _owned(fold, owner)
                if config_id in {None, event.id}
            ]
            if not entries or await self._journal.append(fold, entries):
                return

    async def _event(self, ref: TaskRef, config: TaskPushNotificationConfig, owner: str) -> PushConfigSet:
        secrets = Secrets(config.token, config.authentication.credentials)
        if secrets != Secrets() and not seal.available():
            raise ModuleNotFoundError(
                "a webhook's secrets are sealed with a package that is not here: install a2a-events[push]"
            )
        return PushConfigSet(
            id=config.id,
            url=config.url,
            scheme=config.authentication.scheme,
            sealed=await (await self._sealing()).seal(secrets, ref.task_id, config.id),
            actor=Actor(tenant=config.tenant, subject=owner),
        )

    async def _config(self, task_id: str, ref: TaskRef, event: PushConfigSet) -> TaskPushNotificationConfig:
        secrets = await (await self._sealing()).open(event.sealed, ref.task_id, event.id)
        config = TaskPushNotificationConfig(
            tenant=event.actor.tenant, id=event.id, task_id=task_id, url=event.url, token=secrets.token
        )
        if event.scheme or secrets.credentials:
            config.authentication.CopyFrom(AuthenticationInfo(scheme=event.scheme, credentials=secrets.credentials))
        return config

    async def _sealing(self) -> Seals:
        if self._seals is None:
            self._seals = Seals(await self._journal.log(), self._keys)
        return self._seals


def _owned(fold: SdkFold, owner: str) -> list[PushConfigSet]:
    return [event for event in fold.configs.values() if event.actor.subject == owner]
