"""Whatever the bytes, reading them ends in an object or in an error that a client may see."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2a_events import limits
from a2a_events.errors import A2AError, InvalidParamsError, ParseError, PayloadTooLargeError
from a2a_events.model import (
    AgentCard,
    GetTaskRequest,
    Message,
    SendMessageRequest,
    StreamResponse,
    Task,
    decode,
    encode,
)
from a2a_events.model.decode import check_names, parse
from tests.unit.wire_strategies import messages, tasks

FUZZ = settings(max_examples=120, deadline=None)
TYPES: list[type[Any]] = [AgentCard, GetTaskRequest, Message, SendMessageRequest, StreamResponse, Task]
DATA = b'{"messageId":"m","role":"ROLE_USER","parts":[{"data":%s}]}'
TEXT = b'{"messageId":"m","role":"ROLE_USER","parts":[{"text":"%s"}]}'


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"   ", id="white space"),
        pytest.param(b"{", id="cut"),
        pytest.param(DATA[:-1] % b"1", id="cut late"),
        pytest.param(DATA % b"1" + b"x", id="something after it"),
        pytest.param(DATA % b"1" + DATA % b"1", id="two documents"),
        pytest.param(b"\xef\xbb\xbf" + DATA % b"1", id="byte order mark"),
        pytest.param((DATA % b"1").decode().encode("utf-16"), id="utf-16"),
        pytest.param(DATA % b"NaN", id="NaN"),
        pytest.param(DATA % b"-Infinity", id="infinity"),
        pytest.param(DATA % b"01", id="leading zero"),
        pytest.param(DATA % b"[1,]", id="trailing comma"),
        pytest.param(DATA % b"'a'", id="single quotes"),
        pytest.param(DATA % b"/**/1", id="comment"),
        pytest.param(TEXT % b"\xff", id="invalid utf-8"),
        pytest.param(TEXT % b"\xed\xa0\x80", id="utf-8 of a surrogate"),
        pytest.param(TEXT % b"\xc0\xaf", id="overlong utf-8"),
        pytest.param(TEXT % b"\n", id="raw newline in text"),
        pytest.param(TEXT % b"\\x41", id="unknown escape"),
        pytest.param(b"[" * 100_000, id="deep lists"),
        pytest.param(b'{"a":' * 100_000, id="deep objects"),
        pytest.param(DATA % (b"[" * 5000 + b"]" * 5000), id="deep data"),
        pytest.param(b'{"x":"\\\n","y":' + b"[" * 5000 + b"]" * 5000 + b',"z":1}', id="deep, hidden by a bad escape"),
    ],
)
def test_what_is_not_json_is_a_parse_error(body: bytes) -> None:
    with pytest.raises(ParseError):
        decode(body, Message)
    with pytest.raises(ParseError):
        decode(body.replace(b"messageId", b"message_id"), Message)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(DATA % b"1e999", id="a number beyond doubles"),
        pytest.param(DATA % b"-1e999", id="a negative number beyond doubles"),
        pytest.param(DATA % (b"9" * 5000), id="a number of five thousand digits"),
        pytest.param(TEXT % b"\\ud800", id="lone high surrogate"),
        pytest.param(TEXT % b"\\udc00", id="lone low surrogate"),
        pytest.param(TEXT % b"\\ud800\\u0041", id="high surrogate before a letter"),
        pytest.param(DATA % (b"[" + b"1" * 10_000 + b"]"), id="ten thousand digits in a list"),
    ],
)
def test_json_with_values_that_nobody_can_hold_is_named_as_that(body: bytes) -> None:
    for spelled in (body, body.replace(b"messageId", b"message_id")):
        with pytest.raises(InvalidParamsError, match="too large, or text with half of a surrogate pair"):
            decode(spelled, Message)


@pytest.mark.parametrize("number", [b"1e308", b"-0", b"0.1", b"18446744073709551616", b"1" * 300, b"5e-324", b"1E5"])
def test_numbers_that_a_double_or_an_integer_holds_are_read(number: bytes) -> None:
    read = decode(DATA % number, Message)
    assert read == decode(encode(read), Message)


@pytest.mark.parametrize("text", [b"\\u0000", b"\\ud83d\\ude00", "\u2028\ufeff".encode(), b"\\u007f", b"\\/"])
def test_odd_but_valid_text_is_read_and_written_without_a_raw_newline(text: bytes) -> None:
    read = decode(TEXT % text, Message)
    assert read == decode(encode(read), Message)
    assert b"\n" not in encode(read)


def test_the_last_of_two_members_of_one_name_counts() -> None:
    assert "b" == decode(b'{"id":"a","id":"b"}', GetTaskRequest).id


def test_text_that_never_ends_costs_time_in_proportion_to_its_length() -> None:
    unterminated = b"[]" * 70 + b'"' + b'\\"' * 60_000
    began = time.process_time()
    with pytest.raises(ParseError):
        decode(unterminated, Message)
    assert time.process_time() - began < 20  # seconds; what grows with the square takes minutes


def levels(value: Any) -> int:
    """How deep a value is nested."""
    if isinstance(value, dict):
        return 1 + max(map(levels, value.values()), default=0)
    return 1 + max(map(levels, value), default=0) if isinstance(value, list) else 0


bracketed = st.recursive(
    st.text('[]{}"\\,:a\n', max_size=8) | st.integers(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('[]{}"\\', max_size=4), inner, max_size=4),
)


@FUZZ
@given(bracketed, st.integers(0, 5))
def test_the_depth_of_json_is_that_of_its_containers(value: Any, limit: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "JSON_DEPTH", limit)
        if levels(value) > limit:
            with pytest.raises(ParseError):
                parse(encode(value))
        else:
            assert value == parse(encode(value))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" + b"[]," * (limits.JSON_CONTAINERS + 1) + b"1]", id="lists"),
        pytest.param(b"[" + b'["["],' * (limits.JSON_CONTAINERS + 1) + b"1]", id="lists of text with a bracket"),
        pytest.param(b"[" + b'{"]":"["},' * (limits.JSON_CONTAINERS + 1) + b"1]", id="objects"),
    ],
)
def test_json_of_too_many_containers_is_refused(body: bytes) -> None:
    with pytest.raises(PayloadTooLargeError):
        parse(body)


def test_text_full_of_brackets_holds_no_containers() -> None:
    texts = ['["', "[", "]", '\\"{'] * limits.JSON_CONTAINERS
    assert texts == parse(encode([texts, [[]] * 100]))[0]


def names(value: Any) -> int:
    """How many members the largest object in a value has."""
    if isinstance(value, dict):
        return max(len(value), max(map(names, value.values()), default=0))
    return max(map(names, value), default=0) if isinstance(value, list) else 0


colons = st.recursive(
    st.text('[:"\\,a', max_size=8) | st.integers(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(':"\\', max_size=4), inner, max_size=4),
)


@FUZZ
@given(colons, st.integers(0, 6))
def test_the_names_in_json_are_the_members_of_its_largest_object(value: Any, most: int) -> None:
    if names(value) > most:
        with pytest.raises(InvalidParamsError):
            check_names(encode(value), most)
    else:
        check_names(encode(value), most)


@pytest.mark.parametrize("member", [b'"%d":1', b'"":"%d"', b'":":"%d:"', b'"\\"%d:":{}'])
def test_objects_of_too_many_members_are_refused(member: bytes) -> None:
    members = [member.replace(b"%d", b"%d" % number) for number in range(limits.JSON_NAMES + 1)]
    with pytest.raises(InvalidParamsError, match="more than 10000 members"):
        check_names(b"{" + b",".join(members) + b"}", limits.JSON_NAMES)
    check_names(b"[{" + b",".join(members[1:]) + b'},{"a":1}]', limits.JSON_NAMES)


def test_many_objects_of_many_members_are_refused_together() -> None:
    row = b"{" + b",".join(b'"%d":1' % number for number in range(1000)) + b"}"
    check_names(b"[" + b",".join([row] * 250) + b"]", limits.JSON_NAMES)
    with pytest.raises(InvalidParamsError, match="more than 250000 members"):
        check_names(b"[" + b",".join([row] * 251) + b"]", limits.JSON_NAMES)


def only_errors_for_clients(body: bytes, of: type[Any]) -> None:
    try:
        decoded = decode(body, of)
    except (ParseError, InvalidParamsError) as error:
        refusal: A2AError = error
    else:
        assert decoded == decode(encode(decoded), of)
        return
    assert refusal.message
    assert all(isinstance(text, str) for violation in refusal.violations for text in violation)


@FUZZ
@given(st.binary(max_size=80), st.sampled_from(TYPES))
def test_arbitrary_bytes_only_ever_raise_errors_for_clients(body: bytes, of: type[Any]) -> None:
    only_errors_for_clients(body, of)


fragments = st.sampled_from(
    [
        *[bytes([character]) for character in b'{}[]":,\\ \n\x00\xff0-e_'],
        *[b"null", b"true", b"1e999", b"NaN", b'"a_b":', b'"data":', b'"raw":"-_"', b'"state":3', b'"role":1'],
        *[b"\\ud800", b"\xef\xbb\xbf", b"\xc3", "é".encode(), b"9" * 400],
        *[b"[" * 70, b'{"x_y":' * 70, b'"metadata":null,'],
    ]
)
valid_bodies = st.one_of(
    messages.map(encode),
    tasks.map(encode),
    messages.map(lambda message: encode(SendMessageRequest(message=message))),
    tasks.map(lambda task: encode(StreamResponse(task=task))),
    st.just(b'{"id":"t","historyLength":3,"tenant":"x"}'),
)


@FUZZ
@given(
    valid_bodies,
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), fragments), min_size=1, max_size=3),
    st.sampled_from(TYPES),
)
def test_a_mutated_body_only_ever_raises_errors_for_clients(
    body: bytes, mutations: list[tuple[float, int, bytes]], of: type[Any]
) -> None:
    for where, cut, inserted in mutations:
        at = int(where * len(body))
        body = body[:at] + inserted + body[at + cut :]
    only_errors_for_clients(body, of)
