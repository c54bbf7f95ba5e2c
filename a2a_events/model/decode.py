"""Reading what clients send: strict where it matters, tolerant where ProtoJSON is (specification 5.5, 5.7).

The fast path is one typed decode. Only a body that it refuses, or that seems to use the proto's own snake_case names,
takes the slow path: parse to plain values, bring them to canonical form, convert.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Hashable
from functools import cache
from itertools import accumulate
from typing import Any, TypeVar, cast

import msgspec

from a2a_events import limits
from a2a_events.errors import InvalidParamsError, ParseError, PayloadTooLargeError
from a2a_events.model.wire import Role, TaskState

T = TypeVar("T")

_encoder = msgspec.json.Encoder()
_SNAKE_MEMBER = re.compile(rb'"[a-z]++(?:_[a-z]++)++"\s*+:')
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""One level down or up, as a signed byte."""
_NO_MARKS = bytes(set(range(256)) - set(b'[]{}"'))
_OPENING, _COLON = b"[{", ord(":")
_NO_NAMES = bytes(set(range(256)) - set(b'[]{}:"'))
_PATH = re.compile(r" - at `\$\.?([^`]*)`$")
_MISSING = re.compile(r"missing required field `([^`]+)`")
_FREE_FORM = frozenset({"metadata", "data", "params", "header", "securitySchemes", "schemes"})
"""Members whose content, or the names in it, belong to the sender: never renamed, and null inside them is a value."""
_STATE_NUMBERS = {
    1: TaskState.SUBMITTED,
    2: TaskState.WORKING,
    3: TaskState.COMPLETED,
    4: TaskState.FAILED,
    5: TaskState.CANCELED,
    6: TaskState.INPUT_REQUIRED,
    7: TaskState.REJECTED,
    8: TaskState.AUTH_REQUIRED,
}
_ROLE_NUMBERS = {1: Role.USER, 2: Role.AGENT}
_ENUM_NUMBERS: dict[str, dict[int, str]] = {
    "state": {number: state.value for number, state in _STATE_NUMBERS.items()},
    "status": {number: state.value for number, state in _STATE_NUMBERS.items()},
    "role": {number: role.value for number, role in _ROLE_NUMBERS.items()},
}
_INTEGERS = frozenset({"historyLength", "pageSize", "currentGeneration", "ifGenerationMatch"})


def encode(value: object) -> bytes:
    """Canonical JSON of a wire object: camelCase, defaults left out, no white space and so no raw newline."""
    return _encoder.encode(value)


def decode(body: bytes, of: type[T]) -> T:
    """One wire object out of JSON that a client wrote.

    Accepts lowerCamelCase and the proto's snake_case names, null for an absent member, enum numbers, base64url and
    missing padding; ignores unknown members at every depth.

    Args:
        body: UTF-8 JSON.
        of: the struct to make.

    Raises:
        ParseError: the body is not JSON, or is nested deeper than ``limits.JSON_DEPTH``.
        PayloadTooLargeError: it holds more than ``limits.JSON_CONTAINERS`` arrays and objects.
        InvalidParamsError: JSON, but not this object; ``violations`` names the field.
    """
    check_depth(body)
    try:
        if not _SNAKE_MEMBER.search(body):
            decoded: T = _decoder(cast("Hashable", of)).decode(body)
            return decoded
    except (msgspec.ValidationError, ValueError):
        pass  # the slow path tells malformed JSON, a tolerated spelling and a real violation apart
    return convert(canonical(parse(body)), of)


def convert(plain: Any, of: type[T], *, strict: bool = True) -> T:
    """One wire object out of plain values in canonical form.

    Args:
        plain: as :func:`canonical` gives them.
        of: the struct to make.
        strict: whether text is no number and no boolean; it is both in a URL.

    Raises:
        InvalidParamsError: ``violations`` names the field.
    """
    try:
        return msgspec.convert(plain, of, strict=strict)
    except (msgspec.ValidationError, ValueError) as error:
        raise InvalidParamsError(violations=(_violation(error),)) from None


def parse(body: bytes) -> Any:
    """Plain values out of JSON.

    Raises:
        ParseError: not JSON, not UTF-8, or nested too deep.
        InvalidParamsError: JSON with a number that is too large, or with half of a surrogate pair.
    """
    check_depth(body)
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if _well_formed(body):
            raise InvalidParamsError(
                "The JSON holds a number that is too large, or text with half of a surrogate pair"
            ) from None
        raise ParseError from None


def _well_formed(body: bytes) -> bool:
    """Whether a body is JSON in form, whatever values it holds."""
    try:
        json.loads(body.decode(), parse_int=len, parse_float=len, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def check_depth(body: bytes) -> None:
    """Refuse JSON nested deeper than ``limits.JSON_DEPTH``, or of more containers than ``limits.JSON_CONTAINERS``.

    Costs two byte counts for nearly every body; for the others a few passes, and a step a bracket that is no text.

    Raises:
        ParseError: nested too deep.
        PayloadTooLargeError: too many containers.
    """
    if body.count(b"[") + body.count(b"{") <= limits.JSON_DEPTH:
        return
    unescaped = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Two quotes that touch hold nothing, and without them the rest is in strings, or not, as before.
    marks = unescaped.translate(_STEPS, _NO_MARKS).replace(b'""', b"")
    # Between two strings that are left stands a bracket.
    if marks.count(b'"') > 4 * (limits.JSON_CONTAINERS + 1):
        raise _too_many()
    steps = b"".join(marks.split(b'"')[::2])
    if len(steps) > 2 * limits.JSON_CONTAINERS:
        raise _too_many()
    if max(accumulate(memoryview(steps).cast("b")), default=0) > limits.JSON_DEPTH:
        message = f"The JSON is nested deeper than {limits.JSON_DEPTH} levels"
        raise ParseError(message)


def check_names(body: bytes, most: int) -> None:
    """Refuse JSON with an object of more members than this, or of more than ``limits.JSON_MEMBERS`` in all objects.

    Costs one byte count for nearly every body; for the others some passes, and a step a mark that is no text.

    Args:
        body: JSON in UTF-8.
        most: members of one object.

    Raises:
        InvalidParamsError: too many.
    """
    if body.count(b":") <= most:
        return
    unescaped = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = unescaped.translate(None, _NO_NAMES).replace(b'""', b"")
    # As in :func:`check_depth`: between two strings that are left stands a bracket or a colon.
    if marks.count(b'"') > 2 * (2 * limits.JSON_CONTAINERS + limits.JSON_MEMBERS + 2):
        raise _too_many()
    rest = b"".join(marks.split(b'"')[::2])
    if rest.count(b":") > limits.JSON_MEMBERS:
        text = f"The objects in the JSON hold more than {limits.JSON_MEMBERS} members"
        raise InvalidParamsError(text)
    if len(rest) > 2 * limits.JSON_CONTAINERS + limits.JSON_MEMBERS:
        raise _too_many()
    members = [0]
    for mark in rest:
        if mark == _COLON:
            members[-1] += 1
            if members[-1] > most:
                text = f"An object in the JSON holds more than {most} members"
                raise InvalidParamsError(text)
        elif mark in _OPENING:
            members.append(0)
        elif len(members) > 1:
            members.pop()


def _too_many() -> PayloadTooLargeError:
    return PayloadTooLargeError(f"The JSON holds more than {limits.JSON_CONTAINERS} arrays and objects")


@cache
def _decoder(of: Hashable) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(of)


def _violation(error: Exception) -> tuple[str, str]:
    text = str(error)
    path = _PATH.search(text)
    missing = _MISSING.search(text)
    names = [path.group(1) if path else "", missing.group(1) if missing else ""]
    return (".".join(name for name in names if name), _PATH.sub("", text))


def canonical(value: Any) -> Any:
    """Plain values as we write them: camelCase, no null, enum names, integers; content of the sender's stays."""
    if isinstance(value, list):
        return [canonical(item) for item in _any(value)]
    if not isinstance(value, dict):
        return value
    members: dict[str, Any] = {}
    for name, content in _any(value).items():
        spelled = camel(name)
        if spelled in _FREE_FORM:
            if content is not None or spelled == "data":
                members[spelled] = content
        elif content is not None:
            members[spelled] = _scalar(spelled, canonical(content))
    return members


def _any(value: Any) -> Any:
    """A value whose type was narrowed to a container of unknowns, as what it was."""
    return value


def camel(name: str) -> str:
    """A member's name as it is written: ``contextId`` for ``context_id`` and for itself."""
    head, *rest = name.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in rest) if head else name


def _scalar(name: str, value: Any) -> Any:
    if name == "raw" and isinstance(value, str):
        return _bytes(value)
    if name in _ENUM_NUMBERS and isinstance(value, int) and not isinstance(value, bool):
        return _ENUM_NUMBERS[name].get(value, value)
    if name in _INTEGERS and isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:  # noqa: PLR2004 -- digits of an int64
        return int(value)
    return value


def _bytes(text: str) -> Any:
    standard = text.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except ValueError:
        return text  # left as it is, so that the conversion names the field
