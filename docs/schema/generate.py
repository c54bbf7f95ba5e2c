# ruff: noqa: INP001 -- a script beside what it writes
"""Writes the published schemas beside this file, from the structs that records are made of.

``python docs/schema/generate.py``; ``tests/unit/test_schema.py`` fails while they are not up to date.
"""

from __future__ import annotations

import json
from inspect import cleandoc
from pathlib import Path
from typing import Any

import msgspec

from a2a_events.model import Message
from a2a_events.model.wire import TaskArtifactUpdateEvent, TaskStatusUpdateEvent
from a2a_events.timeline import events
from a2a_events.timeline.events import INBOUND_CODES, MEMBERS, PUBLIC_CODES, Kind

HERE = Path(__file__).parent
DIALECT = "https://json-schema.org/draft/2020-12/schema"
PUBLIC: dict[str, type[Any]] = {
    Kind.STATUS.value: TaskStatusUpdateEvent,
    Kind.ARTIFACT.value: TaskArtifactUpdateEvent,
    Kind.REPLY.value: Message,
}
"""What clients see is A2A's own object."""
_WORD = "[A-Za-z0-9_-]+"
_NUMBER, _TEXT = "[0-9]+", "[^|]*"
HEADER = (
    "^"
    + r"\|".join(["1", "[a-z]*", _TEXT, "[^|]+", "[1-9][0-9]*", "[A-Za-z]+", *[_NUMBER] * 3, *[_TEXT] * 5, ".+"])
    + "$"
)
"""``A2A-Record``: fifteen fields, and room for more."""


def _described(struct: type[Any]) -> type[Any]:
    """The struct with JSON values where it holds bytes that the core never interprets."""
    fields: list[Any] = []
    for field in msgspec.structs.fields(struct):
        of = field.type
        if of is msgspec.Raw:
            of = Message if field.name == "message" else Any
        given = [field.encode_name, of]
        if not field.required:
            plain = field.default is not msgspec.NODEFAULT and not isinstance(field.default, msgspec.Raw)
            given.append(field.default if plain else msgspec.field(default_factory=_none))
        fields.append(tuple(given))
    return msgspec.defstruct(struct.__name__, fields, namespace={"__doc__": struct.__doc__}, kw_only=True)


def _none() -> None:
    return None


def event_schema() -> dict[str, Any]:
    """JSON Schema of one event: one line of a record."""
    internal = {code: _described(struct) for code, struct in events._STRUCTS.items()}  # noqa: SLF001 -- the only table
    structs = {**internal, **PUBLIC}
    _, components = msgspec.json.schema_components(list(structs.values()), ref_template="#/$defs/{name}")
    kinds = []
    for code, struct in sorted(structs.items(), key=lambda item: MEMBERS[Kind(item[0])]):
        member = MEMBERS[Kind(code)]
        definition = components[struct.__name__]
        kinds.append(
            {
                "title": member,
                "description": definition.get("description", "").split("\n")[0],
                "type": "object",
                "properties": {member: {"$ref": f"#/$defs/{struct.__name__}"}},
                "required": [member],
                "x-code": code,
                "x-public": code in PUBLIC_CODES,
                "x-in-lane": code in INBOUND_CODES,
            }
        )
    return {
        "$schema": DIALECT,
        "title": "An event of a task",
        "description": (
            "One line of a record. Exactly one of these members names the kind. Members that are not listed may be "
            "there: ignore them. A line of a kind that is not listed comes from a newer version: skip it, unless the "
            "record's flags hold c, which says that nobody may go past it without knowing it."
        ),
        "oneOf": kinds,
        "$defs": dict(sorted(components.items())),
    }


def record_schema() -> dict[str, Any]:
    """JSON Schema of one record, as a consumer that has taken a message apart sees it."""
    return {
        "$schema": DIALECT,
        "title": "A record of the log",
        "description": "One JetStream message: events of one task that were stored together.",
        "type": "object",
        "properties": {
            "subject": {
                "type": "string",
                "description": "<namespace>.log.<log>.<shard>.<agent>.<tenant>.<task>.<in|out>",
                "pattern": rf"^[^ *>]+\.log\.[a-z0-9]{{1,16}}\.[0-9]{{1,3}}\.{_WORD}\.{_WORD}\.{_WORD}\.(in|out)$",
            },
            "position": {
                "type": "integer",
                "minimum": 1,
                "description": "The stream sequence: the same in the origin and in every mirror.",
            },
            "headers": {
                "type": "object",
                "properties": {
                    "A2A-Record": {
                        "type": "string",
                        "pattern": HEADER,
                        "description": (
                            "version|flags|incarnation|id|revision|kinds|generation|epoch|attempt|role|instance|"
                            "software|encoding|key|times; see docs/formats.md"
                        ),
                    },
                    "traceparent": {"type": "string", "description": "W3C trace context of who wrote it."},
                },
                "required": ["A2A-Record"],
            },
            "events": {
                "type": "array",
                "minItems": 1,
                "items": {"$ref": "event.schema.json"},
                "description": "The payload's lines, one JSON object each, separated by a line feed.",
            },
        },
        "required": ["subject", "position", "headers", "events"],
    }


def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3 document of the log, as other teams' services may follow it."""
    parameters = {
        "namespace": "The deployment's namespace, a2a by default.",
        "log": "The log in which the task lives; also in its id.",
        "shard": "A number below 1,000; each shard is one stream, with positions of its own.",
        "agent": "The agent's name.",
        "tenant": "- for none, else the first 26 characters of base32(SHA-256) in lower case.",
        "task": "The task's id.",
        "lane": "in: a worker is asked for something; out: all else.",
    }
    payload = {
        "type": "string",
        "contentMediaType": "application/x-ndjson",
        "description": "One event a line; each line is an object of event.schema.json.",
        "x-line-schema": {"$ref": "event.schema.json"},
    }
    header = record_schema()["properties"]["headers"]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "a2a-events: the log of all tasks",
            "version": "1",
            "description": (
                "Every change of every task, in order within a task. Follow the streams with consumers of your own, "
                "from a cursor that you keep: incarnation and position of each shard. Only a2a-events writes."
            ),
        },
        "defaultContentType": "application/x-ndjson",
        "servers": {
            "region": {
                "host": "nats.example:4222",
                "protocol": "nats",
                "description": "Any region: streams of the other regions' logs are mirrored under the same names.",
            }
        },
        "channels": {
            "records": {
                "address": "{namespace}.log.{log}.{shard}.{agent}.{tenant}.{task}.{lane}",
                "description": "Stored in the streams <NAMESPACE>_LOG_<log>_<shard>.",
                "parameters": {name: {"description": text} for name, text in parameters.items()},
                "messages": {"record": {"$ref": "#/components/messages/record"}},
            }
        },
        "operations": {
            "follow": {
                "action": "receive",
                "channel": {"$ref": "#/channels/records"},
                "summary": "Follow the log. At least once: remember what you have acted on by position.",
                "messages": [{"$ref": "#/channels/records/messages/record"}],
            }
        },
        "components": {
            "messages": {
                "record": {
                    "name": "record",
                    "title": "A record",
                    "contentType": "application/x-ndjson",
                    "headers": header,
                    "payload": payload,
                }
            }
        },
    }


DOCUMENTS = {
    "event.schema.json": event_schema,
    "record.schema.json": record_schema,
    "asyncapi.json": asyncapi,
}


def written(document: dict[str, Any]) -> str:
    """A document as it stands in its file."""
    return json.dumps(_dedented(document), indent=2, ensure_ascii=False) + "\n"


def _dedented(value: Any) -> Any:
    """With every description without the indentation of its docstring, which Python has from 3.13 on by itself."""
    if isinstance(value, dict):
        return {
            key: cleandoc(v) if key == "description" and isinstance(v, str) else _dedented(v)
            for key, v in value.items()
        }
    return [_dedented(one) for one in value] if isinstance(value, list) else value


if __name__ == "__main__":
    for name, make in DOCUMENTS.items():
        (HERE / name).write_text(written(make()))
