"""Agent cards as JSON, made from the schema that signatures go by."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, TypeAlias, cast

from hypothesis import strategies as st

from a2a_events.signing.canonical import SCHEMA, Member

Json: TypeAlias = dict[str, Any]
Path: TypeAlias = tuple[str | int, ...]

_TEXT = st.one_of(st.sampled_from(["", "a", "text/plain", "é€😀", '\u2028\x07\\"', "ﬀ"]), st.text(max_size=6))
_JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**60), 2**60),
        st.floats(allow_nan=False, allow_infinity=False),
        _TEXT,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_TEXT, inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def cards(draw: st.DrawFn) -> Json:
    """A card of 1.0: with what is required, though it may be empty, and some of the rest."""
    return _message(draw, "AgentCard")


def _message(draw: st.DrawFn, of: str) -> Json:
    return {
        name: _member(draw, member)
        for name, member in SCHEMA[of].items()
        if member.required or draw(st.integers(0, 3)) == 0
    }


def _member(draw: st.DrawFn, member: Member) -> Any:
    match member.many:
        case "list":
            return [_one(draw, member.of) for _ in range(draw(st.integers(0, 2)))]
        case "map":
            return {draw(_TEXT): _one(draw, member.of) for _ in range(draw(st.integers(0, 2)))}
        case _:
            return _one(draw, member.of)


def _one(draw: st.DrawFn, of: str) -> Any:
    match of:
        case "text":
            return draw(_TEXT)
        case "flag":
            return draw(st.booleans())
        case "json":
            return draw(st.dictionaries(_TEXT, _JSON, max_size=3))
        case _:
            return _message(draw, of)


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every place in a JSON document but its root."""
    if isinstance(value, dict | list):
        for name, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*path, name)
            yield from places(each, (*path, name))


def changed(card: Json, path: Path, how: str) -> Json:
    """The card with one place in it changed, emptied, taken out or doubled."""
    other = copy.deepcopy(card)
    inner: Any = other
    *above, name = cast("tuple[Any, ...]", path)
    for each in above:
        inner = inner[each]
    match how:
        case "changed":
            inner[name] = _another(inner[name])
        case "emptied":
            inner[name] = type(inner[name])() if inner[name] is not None else ""
        case "gone":
            del inner[name]
        case _ if isinstance(inner, list):
            inner.insert(name, copy.deepcopy(inner[name]))
        case _:
            inner[f"{name}x"] = copy.deepcopy(inner[name])
    return other


def _another(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case str():
            return value + "!"
        case int() | float():
            return value / 2 + 1.5
        case list():
            return [*value, value[0] if value else {}]
        case dict():
            return {**value, "streaming": True, "x!": {}}
        case _:
            return "!"
