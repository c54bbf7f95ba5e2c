"""Requests drawn from the published schema: the descriptors of the official ``a2a.proto``, as the SDK ships them.

``documents`` draws what the schema allows, in every spelling that ProtoJSON has. ``mutated`` and ``corrupted`` break
it: the one keeps it JSON, the other does not care.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from typing import Any, Final, TypeAlias

from a2a.types import a2a_pb2
from google.api.annotations_pb2 import http as http_rule  # type: ignore[import-untyped]
from google.api.field_behavior_pb2 import REQUIRED, field_behavior  # type: ignore[import-untyped]
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import strategies as st
from msgspec import Struct

Json: TypeAlias = Any
Strategy: TypeAlias = st.SearchStrategy[Any]

NEEDLE: Final = "a needle that belongs into no log"
"""Drawn as content, so that a log which repeats content gives itself away."""
SERVICE: Final = a2a_pb2.DESCRIPTOR.services_by_name["A2AService"]
STREAMS: Final = frozenset({"SendStreamingMessage", "SubscribeToTask"})


def rarely(times: int) -> st.SearchStrategy[bool]:
    """True once in so many times."""
    return st.sampled_from([*[False] * (times - 1), True])


def _mostly(usual: Strategy, odd: Strategy) -> Strategy:
    """Seven times of eight the one: what is odd everywhere gets no further than the first check."""
    return rarely(8).flatmap(lambda drawn: odd if drawn else usual)


_texts = st.text(max_size=12) | st.sampled_from(["", "\u2028\x00\r\n", "a" * 600, "../../x", "%2e%2e", "\U0001f600"])
_values: Strategy = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)
_contents = _values | st.just(NEEDLE)
_WELL_KNOWN: Final[Mapping[str, Strategy]] = {
    "google.protobuf.Value": _contents,
    "google.protobuf.Struct": st.dictionaries(_texts, _contents, max_size=3),
    "google.protobuf.Timestamp": _mostly(
        st.sampled_from(["2026-01-02T03:04:05Z", "1970-01-01T00:00:00.000001Z"]), _texts
    ),
}
_integers = _mostly(st.integers(0, 100), st.sampled_from([-(2**31), -1, 101, 2**31 - 1, "7", "-1"]))
_urls = st.sampled_from(["https://example.com/hook", "http://127.0.0.1/", "file:///etc/passwd", "no url", ""])
_junk: Strategy = st.one_of(
    st.none(),
    st.booleans(),
    _texts,
    _values,
    st.sampled_from([{}, [], 0, -1, 2**31, 2**63, 2**64, -(2**64), 1e308, 0.5, "NaN", [[[]]], {"": {}}, "x" * 100_000]),
    st.integers(1, 80).map(lambda depth: json.loads("[" * depth + "]" * depth)),
).map(deepcopy)  # what is drawn may be changed in its place


class Ids(Struct, frozen=True):
    """Ids that are worth asking for. An empty one in a message begins a task."""

    tasks: tuple[str, ...] = ("t1-main-0-AAAAAAAAAAAAAAAAAAAAAA", "t1-main-99-AAAAAAAAAAAAAAAAAAAAAA", "*", "a.b/c", "")
    tenants: tuple[str, ...] = ("", "acme", "a/b", "t" * 500)


def documents(message: Descriptor, ids: Ids) -> Strategy:
    """JSON of one message of the schema: every REQUIRED member, some of the others, one of each oneof."""
    return _drawn(message, ids)


@cache
def _drawn(message: Descriptor, ids: Ids) -> Strategy:
    @st.composite
    def draw_document(draw: st.DrawFn) -> Json:
        snake = draw(st.sampled_from([False, False, False, True]))
        chosen = {
            group.name: draw(st.sampled_from([field.name for field in group.fields]))
            for group in message.oneofs
            if len(group.fields) > 1  # proto's `optional` members are oneofs of one
        }
        document = {}
        for field in message.fields:
            group = field.containing_oneof
            if group is not None and group.name in chosen:
                if chosen[group.name] != field.name:
                    continue
            elif not _required(field) and not draw(st.booleans()):
                continue
            document[field.name if snake else field.json_name] = draw(_content(field, ids))
        return document

    return draw_document()


def _required(field: FieldDescriptor) -> bool:
    options: Any = field.GetOptions()
    return REQUIRED in options.Extensions[field_behavior]


def _content(field: FieldDescriptor, ids: Ids) -> Strategy:
    one = _single(field, ids)
    return st.lists(one, min_size=_required(field), max_size=3) if field.is_repeated else one


def _single(field: FieldDescriptor, ids: Ids) -> Strategy:
    if field.message_type is not None:
        known = _WELL_KNOWN.get(field.message_type.full_name)
        return documents(field.message_type, ids) if known is None else known
    if field.enum_type is not None:
        names = [value.name for value in field.enum_type.values]
        likely = ["ROLE_USER", 1] if "ROLE_USER" in names else names
        return _mostly(st.sampled_from(likely), st.sampled_from([*names, *range(len(names))]))
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return _string(field, ids)
        case FieldDescriptor.TYPE_BYTES:
            return st.binary(max_size=9).map(lambda raw: base64.b64encode(raw).decode())
        case FieldDescriptor.TYPE_BOOL:
            return st.booleans()
        case _:
            return _integers


def _string(field: FieldDescriptor, ids: Ids) -> Strategy:
    match field.json_name:
        case "id" | "taskId":
            return st.sampled_from(ids.tasks)
        case "pageToken":
            return _mostly(st.just(""), _texts)
        case "tenant":
            return _mostly(st.just(""), st.sampled_from(ids.tenants))
        case "text":
            return _texts | st.just(NEEDLE)
        case "url":
            return _urls
        case "mediaType":
            return st.sampled_from(["", "text/plain", "application/json; a=b", "text", "\x00"])
        case "messageId":
            return _mostly(st.text(min_size=1, max_size=12), _texts)
        case _:
            return _texts


def _places(value: Json, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything in a document."""
    found: list[tuple[Any, ...]] = [path]
    if isinstance(value, dict):
        for name, held in value.items():
            found += _places(held, (*path, name))
    elif isinstance(value, list):
        for index, held in enumerate(value):
            found += _places(held, (*path, index))
    return found


@st.composite
def mutated(draw: st.DrawFn, documents_: Strategy) -> Json:
    """A document with one to three members removed, replaced, renamed, wrapped or added."""
    document = deepcopy(draw(documents_))
    for _ in range(draw(st.integers(1, 3))):
        *parents, last = draw(st.sampled_from(_places(document))) or (None,)
        if last is None:
            return draw(_junk)
        held = document
        for name in parents:
            held = held[name]
        match draw(st.sampled_from(["remove", "replace", "rename", "wrap", "add"])):
            case "remove":
                del held[last]
            case "replace":
                held[last] = draw(_junk)
            case "rename" if isinstance(held, dict):
                held[draw(_texts)] = held.pop(last)
            case "wrap":
                held[last] = draw(st.sampled_from([[held[last]], {"value": held[last]}, {last: held[last]}]))
            case _ if isinstance(held, dict):
                held[draw(_texts | st.sampled_from(["kind", "data", "text", "raw", "taskId"]))] = draw(_junk)
            case _:
                held.insert(last, draw(_junk))
    return document


@st.composite
def corrupted(draw: st.DrawFn, content: st.SearchStrategy[bytes]) -> bytes:
    """Bytes with one to three places cut, changed, doubled or filled with others."""
    made = bytearray(draw(content))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(made)))
        end = draw(st.integers(start, min(len(made), start + 20)))
        match draw(st.sampled_from(["cut", "fill", "double", "end", "swap"])):
            case "cut":
                del made[start:end]
            case "fill":
                made[start:end] = draw(st.binary(max_size=8) | st.sampled_from(_BYTES))
            case "double":
                made[start:start] = made[start:end]
            case "end":
                del made[start:]
            case _:
                made[start:end] = made[start:end][::-1]
    return bytes(made)


_BYTES: Final = (
    *(b"\\ud800", b"\\u0000", b"\xff", b"\xed\xa0\x80", b"NaN", b"-", b"1e999", b"null", b"[", b"{", b"\xef\xbb\xbf"),
    *(b'"', b"\\", b",", b":", b"\n", b"\x00", b"[" * 200, b'{"a":' * 200, b"9" * 400),
)


class Place(Struct, frozen=True):
    """Where an operation is in HTTP+JSON."""

    verb: str
    path: str


def place(operation: str) -> Place:
    """As the schema says it, without a tenant."""
    options: Any = SERVICE.methods_by_name[operation].GetOptions()
    rule = options.Extensions[http_rule]
    verb = str(rule.WhichOneof("pattern"))
    return Place(verb.upper(), str(getattr(rule, verb)))
