"""What 0.3 servers answer, as the JSON of 1.0. Pure, and no judge: what is missing is for the 1.0 reader to name.

JSON-RPC of 0.3 tells objects apart by ``kind``. Its REST binding is the ProtoJSON of the 0.3 ``a2a.proto``: the same
objects without ``kind``, with ``content`` for the parts of a message and other spellings of enums and files. Both are
read alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, cast

from a2a_events.model import Role, TaskState
from a2a_events.model.decode import camel

Json: TypeAlias = dict[str, Any]
"""A JSON object."""

STATES: Final[dict[str, TaskState]] = {
    **{state.name.lower().replace("_", "-"): state for state in TaskState},
    "TASK_STATE_CANCELLED": TaskState.CANCELED,  # two Ls in the 0.3 proto
    # 0.3 allowed an agent not to know. Something may still come: that is working, as far as a client is concerned.
    "unknown": TaskState.WORKING,
    "TASK_STATE_UNSPECIFIED": TaskState.WORKING,
}
ROLES: Final[dict[str, Role]] = {"user": Role.USER, "agent": Role.AGENT}
NOT_AN_OBJECT: Final = "data_part_compat"
"""Marks, in its metadata, a data part whose value stands in ``{"value": …}``: 0.3 allows objects only. From a2a-sdk."""

_SCHEMES: Final = {
    "apiKey": "apiKeySecurityScheme",
    "http": "httpAuthSecurityScheme",
    "oauth2": "oauth2SecurityScheme",
    "openIdConnect": "openIdConnectSecurityScheme",
    "mutualTLS": "mtlsSecurityScheme",
}


def update(value: Any) -> Json:
    """StreamResponse or SendMessageResponse out of a bare object with its ``kind``, or a wrapped one (REST)."""
    given = _object(value)
    for name, (member, reader) in _KINDS.items():
        if given.get("kind", "") == name:
            return {member: reader(given)}
        if isinstance(given.get(member), dict) and len(given) == 1:
            return {member: reader(given[member])}
    match given:
        case {"kind": kind}:
            return {str(kind): given}  # from a future of 0.3: no member that 1.0 knows
        case {"messageId": _}:
            return {"message": message(given)}
        case {"artifact": _}:
            return {"artifactUpdate": artifact_update(given)}
        case {"status": _, "taskId": _}:
            return {"statusUpdate": status_update(given)}
        case {"status": _}:
            return {"task": task(given)}
        case _:
            return given


def task(value: Any) -> Json:
    """Task."""
    return _with(value, status=_status, artifacts=_each(_artifact), history=_each(message))


def message(value: Any) -> Json:
    """Message."""
    given = _object(value)
    parts = _array(given.get("parts")) or _array(given.get("content"))
    return _with({**given, "parts": parts}, parts=_each(_part), role=lambda role: _enum(ROLES.get(str(role)), role))


def status_update(value: Any) -> Json:
    """TaskStatusUpdateEvent; ``final`` has no counterpart, the state says it."""
    return _with(value, status=_status)


def artifact_update(value: Any) -> Json:
    """TaskArtifactUpdateEvent."""
    return _with(value, artifact=_artifact)


def push_config(value: Any) -> Json:
    """TaskPushNotificationConfig: flat instead of nested."""
    given = _object(value)
    config = _object(given.get("pushNotificationConfig"))
    path = str(given.get("name", "")).split("/")  # tasks/{id}/pushNotificationConfigs/{id}, REST only
    task_id, config_id = (path[1], path[3]) if len(path) == 4 else ("", "")  # noqa: PLR2004 -- segments of that path
    flat: Json = {"taskId": given.get("taskId") or task_id, "id": config.get("id") or config_id}
    flat |= {name: config.get(name) for name in ("url", "token")}
    if authentication := _object(config.get("authentication")):
        scheme = next(iter(_array(authentication.get("schemes"))), "")
        flat["authentication"] = {"scheme": scheme, "credentials": authentication.get("credentials")}
    return flat


def push_configs(value: Any) -> Json:
    """ListTaskPushNotificationConfigsResponse out of a bare array, or a wrapped one (REST)."""
    page = _object(value)
    configs = page.get("configs") if page else value
    return {"configs": [push_config(config) for config in _array(configs)], "nextPageToken": page.get("nextPageToken")}


def card(value: Any) -> Json:
    """AgentCard: the main address and the additional ones become interfaces of version 0.3, in this order."""
    given = {camel(name): member for name, member in _object(value).items()}
    first = {"url": given.get("url"), "transport": given.get("preferredTransport") or "JSONRPC"}
    offered: list[Json] = []
    for each in [first, *map(_object, _array(given.get("additionalInterfaces")))]:
        interface = {"url": each.get("url"), "protocolBinding": each.get("transport"), "protocolVersion": "0.3"}
        if interface not in offered:
            offered.append(interface)
    capabilities = _object(given.get("capabilities"))
    return {
        **_with(given, securitySchemes=_security_schemes, skills=_each(_skill)),
        "supportedInterfaces": offered,
        "capabilities": {**capabilities, "extendedAgentCard": given.get("supportsAuthenticatedExtendedCard")},
        "securityRequirements": _requirements(given.get("security")),
    }


_KINDS: Final[dict[str, tuple[str, Callable[[Any], Json]]]] = {
    "task": ("task", task),
    "message": ("message", message),
    "status-update": ("statusUpdate", status_update),
    "artifact-update": ("artifactUpdate", artifact_update),
}


def _status(value: Any) -> Json:
    return _with(value, state=lambda state: _enum(STATES.get(str(state)), state), message=message)


def _artifact(value: Any) -> Json:
    return _with(value, parts=_each(_part))


def _part(value: Any) -> Json:
    given = _object(value)
    metadata = _object(given.get("metadata"))
    if "file" in given:
        file = _object(given["file"])
        content = file.get("bytes") or file.get("fileWithBytes")
        # An empty file is one of bytes: proto leaves them out.
        where = file.get("uri") or file.get("fileWithUri")
        part: Json = {"url": where} if where else {"raw": content or ""}
        part |= {"mediaType": file.get("mimeType"), "filename": file.get("name")}
    elif "data" in given:
        data = given["data"]
        if "kind" not in given and _object(data).keys() == {"data"}:
            data = data["data"]  # ProtoJSON: DataPart is a message of its own
        if metadata.get(NOT_AN_OBJECT):
            metadata = {name: member for name, member in metadata.items() if name != NOT_AN_OBJECT}
            data = _object(data).get("value")
        part = {"data": data}
    else:
        part = {name: member for name, member in given.items() if name not in {"kind", "metadata"}}
    return {**part, "metadata": metadata} if metadata else part


def _skill(value: Any) -> Json:
    return {**_object(value), "securityRequirements": _requirements(_object(value).get("security"))}


def _requirements(value: Any) -> list[Json]:
    return [
        {"schemes": {name: {"list": scopes} for name, scopes in _object(alternative).items()}}
        for alternative in _array(value)
    ]


def _security_schemes(value: Any) -> Json:
    return {name: _security_scheme(_object(scheme)) for name, scheme in _object(value).items()}


def _security_scheme(value: Json) -> Json:
    members = {("location" if name == "in" else name): member for name, member in value.items() if name != "type"}
    return {_SCHEMES.get(str(value.get("type")), str(value.get("type"))): members}


def _with(value: Any, **readers: Callable[[Any], Any]) -> Json:
    given = _object(value)
    changed = {name: reader(given[name]) for name, reader in readers.items() if given.get(name) is not None}
    return {**given, **changed}


def _each(reader: Callable[[Any], Json]) -> Callable[[Any], Any]:
    return lambda values: [reader(value) for value in _array(values)] if isinstance(values, list) else values


def _enum(known: TaskState | Role | None, given: Any) -> Any:
    return given if known is None else known.value


def _array(value: Any) -> Sequence[Any]:
    return cast("Sequence[Any]", value) if isinstance(value, list) else ()


def _object(value: Any) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}
