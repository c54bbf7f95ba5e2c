"""Hypothesis strategies for the protocol's objects, and the same objects as other peers spell them."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st

from a2a_events.model import Artifact, Message, Part, Role, Task, TaskState, TaskStatus, timestamp_of

FREE_FORM = frozenset({"metadata", "data"})

texts = st.text(max_size=12)
names = st.text("abcXYZ_", min_size=1, max_size=8)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
metadata = st.none() | st.dictionaries(names, json_values, min_size=1, max_size=3)


@st.composite
def parts(draw: st.DrawFn) -> Part:
    member, value = draw(
        st.one_of(
            st.tuples(st.just("text"), texts),
            st.tuples(st.just("url"), texts),
            st.tuples(st.just("raw"), st.binary(max_size=8)),
            st.tuples(st.just("data"), json_values),
        )
    )
    content: dict[str, Any] = {member: value}
    return Part(**content, metadata=draw(metadata), filename=draw(texts), media_type=draw(texts))


several_parts = st.lists(parts(), min_size=1, max_size=3).map(tuple)
messages = st.builds(
    Message,
    message_id=texts,
    role=st.sampled_from(Role),
    parts=several_parts,
    context_id=texts,
    task_id=texts,
    metadata=metadata,
    extensions=st.lists(texts, max_size=2).map(tuple),
    reference_task_ids=st.lists(texts, max_size=2).map(tuple),
)
artifacts = st.builds(
    Artifact,
    artifact_id=texts,
    parts=several_parts,
    name=texts,
    description=texts,
    metadata=metadata,
    extensions=st.lists(texts, max_size=2).map(tuple),
)
tasks = st.builds(
    Task,
    id=texts,
    status=st.builds(
        TaskStatus,
        state=st.sampled_from(TaskState),
        message=st.none() | messages,
        timestamp=st.integers(0, 4 * 10**12).map(timestamp_of),
    ),
    context_id=texts,
    artifacts=st.lists(artifacts, max_size=2).map(tuple),
    history=st.lists(messages, max_size=2).map(tuple),
    metadata=metadata,
)

_OLDER_MEMBERS = (
    *("message", "request", "parts", "content", "file", "data", "text", "kind", "role", "metadata", "messageId"),
    *("configuration", "blocking", "historyLength", "status", "bytes", "uri", "fileWithBytes", "value", "name"),
    *("pushNotificationConfig", "pushNotification", "authentication", "schemes", "config", "configId", "id", "url"),
    *("taskId", "data_part_compat"),
)
older_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(_OLDER_MEMBERS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)
"""Anything, of members that A2A 0.3 has in one place or another."""


def in_proto_names(value: Any) -> Any:
    """Plain values of an object, its members named as in ``a2a.proto``; what belongs to the sender stays as it is."""
    if isinstance(value, msgspec.Struct):
        members = {name: getattr(value, name) for name in value.__struct_fields__}
        return {
            name: content if name in FREE_FORM else in_proto_names(content)
            for name, content in members.items()
            if content is not msgspec.UNSET and (content is not None or name == "data")
        }
    if isinstance(value, tuple):
        return [in_proto_names(item) for item in value]
    return msgspec.to_builtins(value)
