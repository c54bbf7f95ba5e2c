"""JSON that means one thing: what two readers could take for two different documents is refused."""

from __future__ import annotations

import json
from typing import Any, Final, TypeAlias, TypeGuard

Json: TypeAlias = dict[str, Any]

_WHOLE: Final = 2**53 - 1
"""Largest number up to which every integer is a double, which is what JSON's numbers are to RFC 8785."""
_WHOLE_DIGITS: Final = 16


def read(content: bytes | str) -> Any:
    """A JSON document.

    Raises:
        ValueError: it is none, names a member twice, or is nested too deeply to be read.
    """
    try:
        return json.loads(
            content.decode() if isinstance(content, bytes) else content,  # json would guess among encodings
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_constant=_constant,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def is_object(value: Any) -> TypeGuard[Json]:
    """Whether it is a JSON object."""
    return isinstance(value, dict)


def is_list(value: Any) -> TypeGuard[list[Any]]:
    """Whether it is a JSON array."""
    return isinstance(value, list)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the member {twice[:64]!r} is there twice")
    return members


def _integer(digits: str) -> int | float:
    if len(digits.lstrip("-")) <= _WHOLE_DIGITS and abs(int(digits)) <= _WHOLE:
        return int(digits)
    return float(digits)


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
