"""The closed union of facts, line by line."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from a2a_events.model import Role, StreamResponse, TaskState, decode, encode
from a2a_events.timeline.events import (
    MEMBERS,
    NOTHING,
    Actor,
    ArtifactChanged,
    CancelRequested,
    DeadLetter,
    Event,
    Kind,
    MessageReceived,
    MessageUnread,
    PushConfigDeleted,
    PushConfigSet,
    Replied,
    StatusChanged,
    Submitted,
    TurnClaimed,
    TurnConfirmed,
    TurnEnded,
    TurnNudged,
    TurnReleased,
    Unknown,
    decode_line,
    line_of,
)
from tests.unit.timeline_builders import artifact, said, status
from tests.unit.wire_strategies import messages, names, texts

PROPERTY = settings(max_examples=100, deadline=None)
counts = st.integers(0, 2**63 - 1)
raw_messages = messages.map(lambda message: Raw(encode(message)))
raw_objects = st.just(NOTHING) | st.dictionaries(names, texts, min_size=1).map(lambda o: Raw(msgspec.json.encode(o)))
actors = st.builds(Actor, tenant=texts, subject=texts, role=texts)
lists = st.lists(texts, max_size=3).map(tuple)
internal_events: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        Submitted,
        context_id=texts,
        message=raw_messages,
        owner=actors,
        actor=actors,
        replies=st.sampled_from(["task", "either"]),
        configuration=raw_objects,
        metadata=raw_objects,
        extensions=lists,
        idempotency_key=texts,
        body_hash=texts,
        origin=raw_objects,
    ),
    st.builds(MessageReceived, message=raw_messages, actor=actors, metadata=raw_objects, body_hash=texts),
    st.builds(MessageUnread, message_ids=lists),
    st.builds(CancelRequested, actor=actors, metadata=raw_objects),
    st.builds(
        TurnClaimed, epoch=counts, lease=counts, delivery=counts, attempt=counts, policy=texts, agent_version=texts
    ),
    st.builds(TurnReleased, epoch=counts, reason=texts),
    st.builds(TurnNudged, epoch=counts),
    st.builds(TurnConfirmed, epoch=counts),
    st.builds(TurnEnded, epoch=counts, handled=counts, reason=texts),
    st.builds(PushConfigSet, id=texts, url=texts, scheme=texts, sealed=texts, actor=actors),
    st.builds(PushConfigDeleted, id=texts, actor=actors),
    st.builds(DeadLetter, config=texts, config_revision=counts, revision=counts, attempts=counts, reason=texts),
    st.builds(Replied, message=raw_messages),
)
EXAMPLES: list[tuple[Event, str, bytes]] = [
    (
        Submitted(
            context_id="c", message=Raw(b'{"messageId":"m"}'), owner=Actor(), actor=Actor(tenant="t", subject="a")
        ),
        "s",
        b'{"submitted":{"contextId":"c","message":{"messageId":"m"},"owner":{},"actor":{"tenant":"t","subject":"a"}}}',
    ),
    (MessageReceived(message=Raw(b"{}"), actor=Actor()), "m", b'{"messageReceived":{"message":{},"actor":{}}}'),
    (MessageUnread(message_ids=("m",)), "u", b'{"messageUnread":{"messageIds":["m"]}}'),
    (CancelRequested(actor=Actor()), "x", b'{"cancelRequested":{"actor":{}}}'),
    (TurnClaimed(epoch=1, lease=3), "c", b'{"turnClaimed":{"epoch":1,"lease":3}}'),
    (TurnReleased(epoch=1, reason="r"), "r", b'{"turnReleased":{"epoch":1,"reason":"r"}}'),
    (TurnNudged(epoch=1), "n", b'{"turnNudged":{"epoch":1}}'),
    (TurnConfirmed(epoch=1), "y", b'{"turnConfirmed":{"epoch":1}}'),
    (TurnEnded(epoch=1, handled=3), "e", b'{"turnEnded":{"epoch":1,"handled":3}}'),
    (
        PushConfigSet(id="w", url="https://u", scheme="Bearer", sealed="1.k.c", actor=Actor(subject="a")),
        "w",
        b'{"pushConfigSet":{"id":"w","url":"https://u","scheme":"Bearer","sealed":"1.k.c","actor":{"subject":"a"}}}',
    ),
    (PushConfigDeleted(id="w"), "d", b'{"pushConfigDeleted":{"id":"w"}}'),
    (
        DeadLetter(config="w", config_revision=2, revision=5, attempts=3, reason="r"),
        "l",
        b'{"deadLetter":{"config":"w","configRevision":2,"revision":5,"attempts":3,"reason":"r"}}',
    ),
    (Replied(message=Raw(b'{"messageId":"m"}')), "M", b'{"message":{"messageId":"m"}}'),
]


def plain(event: Event) -> dict[str, Any]:
    """An event as plain values, with its JSON bytes parsed."""
    members: dict[str, Any] = {}
    for name in event.__struct_fields__:
        value = getattr(event, name)
        members[name] = (json.loads(bytes(value)) if bytes(value) else None) if isinstance(value, Raw) else value
    return members


@PROPERTY
@given(internal_events)
def test_an_event_reads_back_as_it_was_written_and_holds_no_newline(event: Event) -> None:
    kind, line = line_of(event)
    read = decode_line(kind.value, line)
    assert b"\n" not in line
    assert type(event) is type(read)
    assert plain(event) == plain(read)
    assert [MEMBERS[kind]] == list(json.loads(line))


@pytest.mark.parametrize(("event", "code", "line"), EXAMPLES)
def test_a_line_is_as_it_was_promised(event: Event, code: str, line: bytes) -> None:
    assert (Kind(code), line) == line_of(event)
    assert plain(event) == plain(decode_line(code, line))


def test_what_was_written_before_an_optional_member_existed_still_reads() -> None:
    read = decode_line("c", b'{"turnClaimed":{"epoch":1,"lease":3}}')
    assert TurnClaimed(epoch=1, lease=3, delivery=1, attempt=1, policy="fail", agent_version="") == read


def test_members_that_a_later_version_adds_are_ignored() -> None:
    assert TurnNudged(epoch=4) == decode_line("n", b'{"turnNudged":{"epoch":4,"later":{"a":[1]}}}')


@PROPERTY
@given(st.sampled_from(TaskState), texts)
def test_a_status_line_is_the_protocol_s_update_and_reads_as_the_fact(state: TaskState, text: str) -> None:
    line = status(state, text).line
    shown = decode(line, StreamResponse).status_update
    assert shown is not None
    assert state is shown.status.state
    read = decode_line("S", line)
    assert isinstance(read, StatusChanged)
    assert state is read.status.state
    assert shown.status.timestamp == read.status.timestamp
    assert bytes(said(f"status-{text}", text, Role.AGENT)) * bool(text) == bytes(read.status.message)
    assert b"\n" not in line


def test_an_artifact_line_is_the_protocol_s_update_and_reads_as_the_fact() -> None:
    line = artifact("a", "x\n", "y", append=True, last=True, name="n", metadata={"k": 1}).line
    shown = decode(line, StreamResponse).artifact_update
    assert shown is not None
    read = decode_line("A", line)
    assert isinstance(read, ArtifactChanged)
    assert (True, True, "a", "n") == (read.append, read.last_chunk, read.artifact.artifact_id, read.artifact.name)
    assert b'[{"text":"x\\n"},{"text":"y"}]' == bytes(read.artifact.parts)
    assert {"k": 1} == shown.artifact.metadata == json.loads(bytes(read.artifact.metadata))


@pytest.mark.parametrize("code", ["v", "Q", "?"])
@pytest.mark.parametrize("line", [b'{"step":{"b": 1, "a":  2}}', b"", b"\xff\x00", b"not json"])
def test_a_kind_that_this_version_does_not_know_is_kept_byte_for_byte(code: str, line: bytes) -> None:
    assert Unknown(line=line) == decode_line(code, line)


def test_an_unknown_kind_is_never_written() -> None:
    with pytest.raises(AssertionError):
        line_of(Unknown(line=b"{}"))


@pytest.mark.parametrize("code", "smuxcrnyeSAwdl")
@pytest.mark.parametrize(
    "line",
    [b"", b"{}", b"null", b"[]", b"{", b'{"other":{}}', b'{"message":5}', b"\xff", b'{"turnEnded":{"epoch":"x"}}'],
)
def test_a_damaged_line_is_a_value_error(code: str, line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- whatever the decoder says
        decode_line(code, line)


@pytest.mark.parametrize(
    "line",
    [b"", b"{}", b'{"task":{}}', b'{"message":', b'{"message":{"messageId":"m"}', b'{"message":{"messageId":"m"}}]'],
)
def test_a_damaged_reply_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- as above
        decode_line("M", line)


def test_codes_and_members_of_all_kinds_are_as_they_were_promised() -> None:
    assert {
        "s": "submitted",
        "m": "messageReceived",
        "u": "messageUnread",
        "x": "cancelRequested",
        "c": "turnClaimed",
        "r": "turnReleased",
        "n": "turnNudged",
        "y": "turnConfirmed",
        "e": "turnEnded",
        "S": "statusUpdate",
        "A": "artifactUpdate",
        "M": "message",
        "h": "turnSuspended",
        "L": "taskDeadLettered",
        "f": "forked",
        "p": "step",
        "t": "timer",
        "w": "pushConfigSet",
        "d": "pushConfigDeleted",
        "v": "deliveryAttempt",
        "l": "deadLetter",
        "z": "tombstone",
    } == {kind.value: member for kind, member in MEMBERS.items()}
    assert set(Kind) == set(MEMBERS)
