"""Requests of 1.0 as 0.3 takes them, in its two spellings: with ``kind`` for JSON-RPC, as ProtoJSON for REST. Pure."""

from __future__ import annotations

import base64
from typing import Any, Final

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


def send_params(request: SendMessageRequest) -> Json:
    """MessageSendParams, for JSON-RPC."""
    parts = [_schema_part(part) for part in request.message.parts]
    message = {**_members(request.message), "kind": "message", "role": _ROLES[request.message.role], "parts": parts}
    return _sending(request, message, "pushNotificationConfig")


def send_request(request: SendMessageRequest) -> Json:
    """SendMessageRequest, for REST."""
    parts = [_proto_part(part) for part in request.message.parts]
    message = {**_members(request.message), "role": request.message.role.value, "content": parts}
    message.pop("referenceTaskIds", None)  # not in the proto of 0.3, and some servers refuse what is not
    return _sending(request, message, "pushNotification")


def create_params(config: TaskPushNotificationConfig) -> Json:
    """TaskPushNotificationConfig, for JSON-RPC."""
    return {"taskId": config.task_id, "pushNotificationConfig": push_config(config)}


def create_request(config: TaskPushNotificationConfig) -> Json:
    """CreateTaskPushNotificationConfigRequest, for REST."""
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


def _sending(request: SendMessageRequest, message: Json, push_member: str) -> Json:
    wanted = request.configuration or SendMessageConfiguration()
    config = wanted.task_push_notification_config
    configuration = _given(
        blocking=not wanted.return_immediately,  # always: 0.3 names no default
        acceptedOutputModes=list(wanted.accepted_output_modes),
        historyLength=wanted.history_length,
        **{push_member: push_config(config) if config else None},
    )
    return _given(message=message, configuration=configuration, metadata=request.metadata)


def _members(message: Message) -> Json:
    """What is the same in both spellings."""
    members: Json = msgspec.to_builtins(msgspec.structs.replace(message, parts=()))
    return {name: member for name, member in members.items() if name not in {"role", "parts"}}


def _schema_part(part: Part) -> Json:
    """TextPart, FilePart or DataPart."""
    if part.text is not UNSET:
        return _given(kind="text", text=part.text, metadata=part.metadata)
    if part.data is not UNSET:
        data, metadata = _data(part)
        return {"kind": "data", "data": data, **_given(metadata=metadata)}
    file = _given(mimeType=part.media_type, name=part.filename, uri=_url(part), bytes=_base64(part))
    return _given(kind="file", file=file, metadata=part.metadata)


def _proto_part(part: Part) -> Json:
    """Part."""
    if part.text is not UNSET:
        return _given(text=part.text, metadata=part.metadata)
    if part.data is not UNSET:
        data, metadata = _data(part)
        return {"data": {"data": data}, **_given(metadata=metadata)}
    file = _given(mimeType=part.media_type, name=part.filename, fileWithUri=_url(part), fileWithBytes=_base64(part))
    return _given(file=file, metadata=part.metadata)


def _data(part: Part) -> tuple[Any, Json | None]:
    is_object = isinstance(part.data, dict)
    if is_object:
        return part.data, part.metadata
    return {"value": part.data}, {**(part.metadata or {}), NOT_AN_OBJECT: True}


def _url(part: Part) -> str | None:
    return None if part.url is UNSET else part.url


def _base64(part: Part) -> str | None:
    return None if part.raw is UNSET else base64.b64encode(part.raw).decode()


def _given(**members: Any) -> Json:
    """The members that say something; an empty file or text does."""
    kept = {"text", "bytes", "fileWithBytes"}
    return {name: m for name, m in members.items() if m is not None and (m not in ("", [], {}) or name in kept)}
