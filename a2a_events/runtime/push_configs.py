"""The four push-notification-config operations (specification 3.1.7 to 3.1.10), and configs that come with a message.

A config is an event of its task. It may be set, read and deleted after the task's end too. Secrets are shown once, in
the answer to whoever just sent them, and never again.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import time
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct

from a2a_events import limits
from a2a_events.errors import InvalidParamsError, PushNotificationNotSupportedError, TaskNotFoundError
from a2a_events.log.port import Log
from a2a_events.model import (
    AuthenticationInfo,
    DeleteTaskPushNotificationConfigRequest,
    GetTaskPushNotificationConfigRequest,
    ListTaskPushNotificationConfigsRequest,
    TaskPushNotificationConfig,
    encode,
)
from a2a_events.runtime.caller import Caller, Result
from a2a_events.runtime.commit import commit
from a2a_events.runtime.directory import ServedAgent
from a2a_events.runtime.load import advance, load_for
from a2a_events.runtime.seal import Seals, Secrets
from a2a_events.runtime.webhook_url import TargetRefused, target
from a2a_events.timeline import decide
from a2a_events.timeline.bounds import TaskBounds
from a2a_events.timeline.events import Actor, PushConfigDeleted, PushConfigSet
from a2a_events.timeline.fold import TaskFold, Webhook
from a2a_events.timeline.ids import TaskRef, reference
from a2a_events.timeline.record import Writer

_PAGE_SIZE: Final = 50
_SCHEME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_HEADER_TEXT: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")
"""What a header can carry unchanged."""


class Targets(Struct, frozen=True):
    """Which webhooks a gateway accepts, and what seals their secrets."""

    keys: tuple[bytes, ...] = ()
    """None: the deployment's own key."""
    allow_private: bool = False


class PushConfigs:
    """Webhooks of tasks.

    Args:
        log: the log.
        writer: names this process in records.
        targets: which webhooks are accepted.
        bounds: of each task.
        now: the clock, milliseconds since 1970.
    """

    def __init__(
        self,
        log: Log,
        writer: Writer,
        targets: Targets,
        *,
        bounds: TaskBounds | None = None,
        now: Callable[[], int] = lambda: int(time.time() * 1000),
    ) -> None:
        self._log = log
        self._writer = writer
        self._targets = targets
        self._bounds = bounds or TaskBounds()
        self._seals = Seals(log, targets.keys)
        self._now = now

    async def create(self, caller: Caller, agent: ServedAgent, request: TaskPushNotificationConfig) -> Result:
        """CreateTaskPushNotificationConfig (specification 3.1.7): updates after this are delivered.

        One of the same id is replaced. Calling it again without an id makes another one.

        Returns:
            The config as it was sent, with its ids.

        Raises:
            PushNotificationNotSupportedError: the agent's card does not offer it.
            TaskNotFoundError: not there, or not this caller's.
            InvalidParamsError: names the members that are wrong.
        """
        task = _task(caller, agent, request.task_id)
        checked = self.check(agent, request, "")
        fold = await self._visible(caller, task)
        event = await self.event(caller, task, checked)
        bounds = self._bounds
        await commit(
            self._log,
            self._writer,
            task,
            fold,
            lambda: decide.set_webhook(fold.head, event, self._now(), bounds=bounds),
        )
        shown = msgspec.structs.replace(checked, tenant=caller.tenant, task_id=task.task_id)
        return _result(task, fold, encode(shown))

    async def get(self, caller: Caller, agent: ServedAgent, request: GetTaskPushNotificationConfigRequest) -> Result:
        """GetTaskPushNotificationConfig (specification 3.1.8): without secrets.

        Raises:
            PushNotificationNotSupportedError: the agent's card does not offer it.
            TaskNotFoundError: the task or the config is not there, or not this caller's.
        """
        task = _task(caller, agent, request.task_id)
        fold = await self._visible(caller, task)
        webhook = fold.head.webhook(request.id)
        if webhook is None:
            raise TaskNotFoundError("The task has no push notification config of this id")
        return _result(task, fold, encode(_shown(caller, task, webhook)))

    async def page(self, caller: Caller, agent: ServedAgent, request: ListTaskPushNotificationConfigsRequest) -> Result:
        """ListTaskPushNotificationConfigs (specification 3.1.9): by id, without secrets.

        Raises:
            PushNotificationNotSupportedError: the agent's card does not offer it.
            TaskNotFoundError: not there, or not this caller's.
            InvalidParamsError: the page token is not one of ours.
        """
        task = _task(caller, agent, request.task_id)
        bound = _bound_to(task, caller)
        after = _parse_token(request.page_token, bound)
        fold = await self._visible(caller, task)
        rest = [webhook for webhook in fold.head.webhooks if webhook.id > after or not request.page_token]
        size = request.page_size or _PAGE_SIZE
        shown = b",".join(encode(_shown(caller, task, webhook)) for webhook in rest[:size])
        more = b',"nextPageToken":' + encode(_token(rest[size - 1].id, bound)) if len(rest) > size else b""
        return _result(task, fold, b'{"configs":[' + shown + b"]" + more + b"}")

    async def delete(
        self, caller: Caller, agent: ServedAgent, request: DeleteTaskPushNotificationConfigRequest
    ) -> Result:
        """DeleteTaskPushNotificationConfig (specification 3.1.10); what is not there is deleted already.

        Raises:
            PushNotificationNotSupportedError: the agent's card does not offer it.
            TaskNotFoundError: the task is not there, or not this caller's.
        """
        task = _task(caller, agent, request.task_id)
        fold = await self._visible(caller, task)
        event = PushConfigDeleted(id=request.id, actor=_actor(caller))
        await commit(self._log, self._writer, task, fold, lambda: decide.delete_webhook(fold.head, event, self._now()))
        return _result(task, fold, b"{}")

    def check(self, agent: ServedAgent, config: TaskPushNotificationConfig, path: str) -> TaskPushNotificationConfig:
        """A config as it may be set, with an id. No round trip, and no look-up of the target's name.

        Args:
            agent: whose card must offer it.
            config: as a client sent it.
            path: of the config in the request, with a dot at its end, for naming what is wrong.

        Raises:
            PushNotificationNotSupportedError: the agent's card does not offer it.
            InvalidParamsError: names the members that are wrong.
        """
        _offered(agent)
        violations: list[tuple[str, str]] = []
        if len(config.id) > limits.IDENTIFIER_CHARACTERS:
            violations.append((f"{path}id", f"must be at most {limits.IDENTIFIER_CHARACTERS} characters"))
        try:
            target(config.url, allow_private=self._targets.allow_private)
        except TargetRefused as refused:
            violations.append((f"{path}url", str(refused)))
        secrets = [("token", config.token)]
        if config.authentication is not None:
            secrets.append(("authentication.credentials", config.authentication.credentials))
            if not _SCHEME.fullmatch(config.authentication.scheme):
                violations.append((f"{path}authentication.scheme", "must be an HTTP authentication scheme"))
        for name, secret in secrets:
            if secret and (len(secret) > limits.WEBHOOK_SECRET_CHARACTERS or not _HEADER_TEXT.fullmatch(secret)):
                text = f"must be printable ASCII of at most {limits.WEBHOOK_SECRET_CHARACTERS} characters"
                violations.append((path + name, text))
        if violations:
            raise InvalidParamsError(violations=tuple(violations))
        return msgspec.structs.replace(config, id=config.id or base64.urlsafe_b64encode(os.urandom(12)).decode())

    async def event(self, caller: Caller, task: TaskRef, config: TaskPushNotificationConfig) -> PushConfigSet:
        """The event that sets a checked config.

        Raises:
            Unavailable: the key for secrets could not be had; nothing was written.
        """
        authentication = config.authentication
        secrets = Secrets(config.token, authentication.credentials if authentication else "")
        return PushConfigSet(
            id=config.id,
            url=config.url,
            scheme=authentication.scheme if authentication else "",
            sealed=await self._seals.seal(secrets, task.task_id, config.id),
            actor=_actor(caller),
        )

    async def _visible(self, caller: Caller, task: TaskRef) -> TaskFold:
        fold = await load_for(self._log, task, caller.subject)
        if fold.head.terminal:
            await advance(self._log, task, fold)  # what a terminal snapshot says of webhooks may be old
        return fold


def _offered(agent: ServedAgent) -> None:
    if not agent.card.capabilities.push_notifications:
        raise PushNotificationNotSupportedError


def _task(caller: Caller, agent: ServedAgent, raw_id: str) -> TaskRef:
    _offered(agent)
    task = reference(raw_id, agent=agent.name, tenant=caller.tenant)
    if task is None:
        raise TaskNotFoundError
    return task


def _actor(caller: Caller) -> Actor:
    return Actor(tenant=caller.tenant, subject=caller.subject)


def _shown(caller: Caller, task: TaskRef, webhook: Webhook) -> TaskPushNotificationConfig:
    return TaskPushNotificationConfig(
        url=webhook.url,
        tenant=caller.tenant,
        id=webhook.id,
        task_id=task.task_id,
        authentication=AuthenticationInfo(scheme=webhook.scheme) if webhook.scheme else None,
    )


def _result(task: TaskRef, fold: TaskFold, json: bytes) -> Result:
    return Result(json, task.task_id, fold.head.context_id, fold.head.revision)


def _bound_to(task: TaskRef, caller: Caller) -> bytes:
    """What binds a page token to one list: of these configs, for this caller."""
    return hashlib.blake2s(encode((task, caller.subject)), digest_size=8).digest()


def _token(config_id: str, bound: bytes) -> str:
    return base64.urlsafe_b64encode(bound + config_id.encode()).decode()


def _parse_token(token: str, bound: bytes) -> str:
    try:
        config_id = base64.b64decode(token.encode(), altchars=b"-_", validate=True)[len(bound) :].decode()
    except ValueError:
        config_id = ""
    if token and _token(config_id, bound) != token:
        text = "is not a page token of this list"
        raise InvalidParamsError(violations=(("pageToken", text),))
    return config_id
