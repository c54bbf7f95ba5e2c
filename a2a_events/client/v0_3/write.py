"""Requests of 1.0 as 0.3 takes them, in its two spellings. Pure.

``Schema`` is the JSON of JSON-RPC, with ``kind``. ``Proto`` is the ProtoJSON of the 0.3 ``a2a.proto``, which its REST
binding takes.
"""

from __future__ import annotations

import base64
from typing import Any, Final, cast

import msgspec
from msgspec import UNSET

from a2a_events.client.v0_3.read import NOT_AN_OBJECT, Json
from a2a_events.model import (
    AuthenticationInfo,
    Message,
    Part,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    TaskPushNotificationConfig,
)

_ROLES: Final = {Role.USER: "user", Role.AGENT: "agent"}


class Schema:
    """As the 0.3 JSON schema has it."""

    def message(self, message: Message) -> Json:
        """Message."""
        parts = [self.part(part) for part in message.parts]
        return {**_rest(message), "kind": "message", "role": _ROLES[message.role], "parts": parts}

    def part(self, part: Part) -> Json:
        """TextPart, FilePart or DataPart."""
        if part.text is not UNSET:
            return _given(kind="text", text=part.text, metadata=part.metadata)
        if part.data is not UNSET:
            data, metadata = _data(part)
            return _given(kind="data", data=data, metadata=metadata)
        file = _given(mimeType=part.media_type, name=part.filename, uri=_url(part), bytes=_base64(part))
        return _given(kind="file", file=file, metadata=part.metadata)

    def send(self, request: SendMessageRequest) -> Json:
        """MessageSendParams."""
        configuration = request.configuration or SendMessageConfiguration()
        config = configuration.task_push_notification_config
        return _given(
            message=self.message(request.message),
            configuration={
                **_configuration(configuration),
                **_given(pushNotificationConfig=push_config(config) if config else None),
            },
            metadata=request.metadata,
        )


class Proto:
    """As the ProtoJSON of 0.3 has it."""

    def message(self, message: Message) -> Json:
        """Message."""
        parts = [self.part(part) for part in message.parts]
        return {**_rest(message), "role": message.role.value, "content": parts}

    def part(self, part: Part) -> Json:
        """Part."""
        if part.text is not UNSET:
            return _given(text=part.text, metadata=part.metadata)
        if part.data is not UNSET:
            data, metadata = _data(part)
            return _given(data={"data": data}, metadata=metadata)
        file = _given(mimeType=part.media_type, name=part.filename, fileWithUri=_url(part), fileWithBytes=_base64(part))
        return _given(file=file, metadata=part.metadata)

    def send(self, request: SendMessageRequest) -> Json:
        """SendMessageRequest."""
        configuration = request.configuration or SendMessageConfiguration()
        config = configuration.task_push_notification_config
        return _given(
            message=self.message(request.message),
            configuration={
                **_configuration(configuration),
                **_given(pushNotification=push_config(config) if config else None),
            },
            metadata=request.metadata,
        )

    def create_config(self, config: TaskPushNotificationConfig) -> Json:
        """CreateTaskPushNotificationConfigRequest."""
        parent = f"tasks/{config.task_id}"
        name = f"{parent}/pushNotificationConfigs/{config.id}"
        nested: Json = {"name": name, "pushNotificationConfig": push_config(config)}
        return _given(parent=parent, configId=config.id, config=nested)


def push_config(config: TaskPushNotificationConfig) -> Json:
    """PushNotificationConfig, without the task it is for."""
    return _given(
        id=config.id,
        url=config.url,
        token=config.token,
        authentication=_authentication(config.authentication) if config.authentication else None,
    )


def _authentication(authentication: AuthenticationInfo) -> Json:
    return {"schemes": [authentication.scheme], **_given(credentials=authentication.credentials)}


def _configuration(configuration: SendMessageConfiguration) -> Json:
    # 0.3 names no default for blocking: say it always.
    return {
        "blocking": not configuration.return_immediately,
        **_given(
            acceptedOutputModes=list(configuration.accepted_output_modes), historyLength=configuration.history_length
        ),
    }


def _rest(message: Message) -> Json:
    """What is the same in every spelling."""
    members: Json = msgspec.to_builtins(msgspec.structs.replace(message, parts=()))
    return {name: member for name, member in members.items() if name not in {"role", "parts"}}


def _data(part: Part) -> tuple[Any, Json | None]:
    if isinstance(part.data, dict):
        return cast("Json", part.data), part.metadata
    return {"value": part.data}, {**(part.metadata or {}), NOT_AN_OBJECT: True}


def _url(part: Part) -> str | None:
    return None if part.url is UNSET else part.url


def _base64(part: Part) -> str | None:
    return None if part.raw is UNSET else base64.b64encode(part.raw).decode()


def _given(**members: Any) -> Json:
    """The members that say something; an empty file or text does."""
    kept = {"text", "bytes", "fileWithBytes"}
    return {name: m for name, m in members.items() if m is not None and (m not in ("", [], {}) or name in kept)}
