"""Protobuf messages from and to the JSON of the operations, by the rules of ProtoJSON (specification 5.5)."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from functools import cache
from math import isfinite
from typing import Any, Final, TypeVar, cast

import msgspec
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Error, Message
from google.protobuf.message_factory import GetMessageClass

from a2a_events import limits
from a2a_events.errors import InvalidParamsError, ParseError, PayloadTooLargeError, UnsupportedOperationError
from a2a_events.model import decode, encode
from a2a_events.model.decode import check_names

M = TypeVar("M", bound=Message)
T = TypeVar("T")

_UNTRANSLATABLE: Final = (json_format.Error, Error, ArithmeticError, TypeError, ValueError)
"""What json_format and the serializer raise, among them the numbers and times that the other side cannot hold."""
_EXACT: Final = 2.0**53
"""From here on a double does not hold every integer."""


def parse(content: bytes, of: type[M]) -> M:
    """A message as it came.

    Raises:
        ParseError: these bytes are not one.
    """
    try:
        return of.FromString(content)
    except DecodeError:
        raise ParseError("The request is not the protobuf message of this method") from None


def request(message: Message, tenant: str, of: type[T], names: int = limits.JSON_NAMES) -> T:
    """The request object that a message is.

    Args:
        message: what the client sent.
        tenant: takes the place of the message's.
        of: the struct to make.
        names: most members of one object in its JSON.

    Raises:
        PayloadTooLargeError: it holds more than ``limits.JSON_CONTAINERS`` messages and values.
        ParseError, InvalidParamsError: as :func:`a2a_events.model.decode` and ``check_names``.
    """
    try:
        members = _Reading().members(message)
    except _UNTRANSLATABLE:
        raise InvalidParamsError("The request holds a number or time that JSON does not have") from None
    content = encode({**members, "tenant": tenant})
    check_names(content, names)
    return decode(content, of)


def answer(content: bytes, of: type[Message]) -> bytes:
    """The serialized message that an operation's JSON is. Members that the message does not have are left out.

    Raises:
        UnsupportedOperationError: protobuf cannot carry what is shown.
    """
    try:
        return of(**_fields(msgspec.json.decode(content) or {}, cast("Descriptor", of.DESCRIPTOR))).SerializeToString()
    except _UNTRANSLATABLE:
        raise UnsupportedOperationError(
            "This holds content that protobuf cannot carry (nested too deeply, or a number too large); "
            "use the JSON-RPC or HTTP+JSON interface"
        ) from None


# json_format could do all of this. It takes seven times as long for an artifact chunk, which is most of a stream.


def _fields(members: dict[str, Any], of: Descriptor) -> dict[str, Any]:
    """Keyword arguments that make a message of the members of a JSON object."""
    known = _translations(of)
    made: dict[str, Any] = {}
    for name, content in members.items():
        if name in known:
            field, translate = known[name]
            made[field] = content if translate is None else translate(content)
    return made


@cache
def _translations(of: Descriptor) -> dict[str, tuple[str, Callable[[Any], Any] | None]]:
    """For each member of an object: the field that it is, and how its content is translated; None: taken as it is."""
    return {field.json_name: (field.name, _translation(field)) for field in of.fields}


def _translation(field: FieldDescriptor) -> Callable[[Any], Any] | None:
    one = _translation_of_one(field)
    if one is None or not field.is_repeated:
        return one
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        of_value = _translation_of_one(field.message_type.fields_by_name["value"])
        return lambda content: {name: of_value(value) if of_value else value for name, value in content.items()}
    return lambda content: [one(item) for item in content]


def _translation_of_one(field: FieldDescriptor) -> Callable[[Any], Any] | None:
    described = field.message_type
    if described is None:
        return b64decode if field.type == FieldDescriptor.TYPE_BYTES else None
    made = GetMessageClass(described)
    if described.file.package == "google.protobuf":  # Struct, Value and Timestamp have a JSON of their own
        return lambda content: json_format.ParseDict(content, made())
    return lambda content: made(**_fields(content, described))


class _Reading:
    """One request on its way to JSON. Counts its messages: in protobuf each part is one, and each value in a Struct."""

    def __init__(self) -> None:
        self._left = limits.JSON_CONTAINERS

    def members(self, message: Any) -> dict[str, Any]:
        self._count()
        return {field.json_name: self._field(field, content) for field, content in message.ListFields()}

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise PayloadTooLargeError(f"The request holds more than {limits.JSON_CONTAINERS} messages and values")

    def _field(self, field: FieldDescriptor, content: Any) -> Any:
        return [self._one(field, item) for item in content] if field.is_repeated else self._one(field, content)

    def _one(self, field: FieldDescriptor, content: Any) -> Any:
        described = field.message_type
        if described is None:
            return _scalar(field, content)
        match described.full_name:
            case "google.protobuf.Struct":
                return self._object(content)
            case "google.protobuf.Value":
                return self._value(content)
            case "google.protobuf.Timestamp":
                return content.ToJsonString()
            case _:
                return self.members(content)

    def _object(self, struct: Any) -> dict[str, Any]:
        return {name: self._value(value) for name, value in struct.fields.items()}

    def _value(self, value: Any) -> Any:
        self._count()
        match value.WhichOneof("kind"):
            case "number_value":
                return _number(value.number_value)
            case "struct_value":
                return self._object(value.struct_value)
            case "list_value":
                return [self._value(item) for item in value.list_value.values]
            case "string_value":
                return value.string_value
            case "bool_value":
                return value.bool_value
            case _:
                return None


def _scalar(field: FieldDescriptor, content: Any) -> Any:
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(content)
        return content if known is None else known.name
    return b64encode(content).decode() if field.type == FieldDescriptor.TYPE_BYTES else content


def _number(value: float) -> float:
    """As an integer where it is whole: a Struct has doubles only, and in JSON 3.0 is not how 3 was meant."""
    if not isfinite(value):
        raise ValueError("not a number of JSON")
    return int(value) if value.is_integer() and abs(value) < _EXACT else value
