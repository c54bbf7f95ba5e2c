"""Plain JSON of one form as that of another, by tables of members: what older dialects are translated with.

A table says which members an object has, what each is called on the other side, and how its value is translated.
Members that it does not name are left out. A value that is not of the expected kind stays as it is: whoever decodes the
result refuses it by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Form: TypeAlias = Callable[[Any], Any]
"""Translates one value."""
Member: TypeAlias = Form | tuple[str, Form]
"""How a member is translated, with its name on the other side where that is another one."""
Table: TypeAlias = Mapping[str, Member]


def same(value: Any) -> Any:
    """A value that both sides write alike."""
    return value


def is_object(value: Any) -> bool:
    """Whether it has members."""
    return isinstance(value, dict)


def members_of(value: Any) -> dict[str, Any]:
    """The members of an object; none of anything else."""
    members: dict[str, Any] = value if is_object(value) else {}
    return members


def elements_of(value: Any) -> list[Any]:
    """The elements of an array; none of anything else."""
    elements: list[Any] = value if _is_array(value) else []
    return elements


def shape(value: Any, table: Table) -> Any:
    """An object by its table; anything else as it is."""
    if not is_object(value):
        return value
    members = members_of(value)
    made: dict[str, Any] = {}
    for name, member in table.items():
        if name in members:
            called, form = (name, member) if callable(member) else member
            made[called] = form(members[name])
    return made


def each(form: Form) -> Form:
    """Every element of an array."""

    def translated(value: Any) -> Any:
        return [form(element) for element in elements_of(value)] if _is_array(value) else value

    return translated


def one_of(names: Mapping[str, str]) -> Form:
    """A name out of a closed set; one that is not in it stays as it is."""

    def named(value: Any) -> Any:
        return names.get(value, value) if isinstance(value, str) else value

    return named


def _is_array(value: Any) -> bool:
    return isinstance(value, list)
