"""The SDK's protobuf messages as our objects and back, by way of ProtoJSON (specification 5.5)."""

from __future__ import annotations

import json
from typing import Any, Final, TypeVar

import msgspec
from google.protobuf import json_format
from google.protobuf.message import Message

from a2a_events.model import encode

M = TypeVar("M", bound=Message)
T = TypeVar("T")

_EXACT: Final = 2.0**53
"""From here on a double does not hold every integer."""


def read(message: Message, of: type[T]) -> T:
    """Our object for a message of the SDK.

    Raises:
        ValueError: it lacks what the protocol requires, or holds what JSON does not have (NaN, infinity).
    """
    return msgspec.json.decode(encode(members(message)), type=of)


def members(message: Message) -> dict[str, Any]:
    """A message as JSON object, for example metadata. In protobuf every number is a double: whole ones are integers.

    Raises:
        ValueError: it holds what JSON does not have.
    """
    try:
        # Lists that the protocol requires are there when they are empty, too.
        text = json_format.MessageToJson(message, indent=None, always_print_fields_with_no_presence=True)
    except json_format.Error as error:
        raise ValueError(str(error)) from None
    made: dict[str, Any] = json.loads(text, parse_float=_number)
    return made


def write(ours: object, of: type[M]) -> M:
    """The SDK's message for an object of ours. Members that it does not know are left out."""
    return json_format.Parse(encode(ours), of(), ignore_unknown_fields=True)


def _number(literal: str) -> float:
    value = float(literal)
    return int(value) if value.is_integer() and abs(value) < _EXACT else value
