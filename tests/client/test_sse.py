"""Server-sent events are read the same however the bytes arrive."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2a_events.client import BadAnswer
from a2a_events.client.sse import Event, Parser

_TEXT = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=12)
_LINES = st.one_of(
    _TEXT.map(lambda text: f"data: {text}"),
    _TEXT.map(lambda text: f"data:{text}"),
    _TEXT.map(lambda text: f"id: {text}"),
    _TEXT.map(lambda text: f"event: {text}"),
    _TEXT.map(lambda text: f": {text}"),
    st.sampled_from(["", "", "data", "retry: 1500", "retry: soon", "unknown: x"]),
)
_ENDS = st.sampled_from(["\n", "\r\n", "\r"])
_STREAMS = st.lists(st.tuples(_LINES, _ENDS), max_size=20).map(lambda lines: "".join(a + b for a, b in lines).encode())


def _read(*chunks: bytes) -> list[Event]:
    parser = Parser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


@given(_STREAMS, st.data())
def test_any_cut_gives_the_same_events(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    bounds = [0, *cuts, len(stream)]
    chunks = [stream[a:b] for a, b in itertools.pairwise(bounds)]
    assert _read(stream) == _read(*chunks)


@given(st.lists(st.tuples(_TEXT.filter(bool), _TEXT), max_size=10), _ENDS)
def test_what_was_framed_comes_back(events: list[tuple[str, str]], end: str) -> None:
    stream = "".join(f"id: {i}{end}data: {text}{end}{end}" for i, text in events).encode()
    expected = [Event(text.encode(), i) for i, text in events]
    assert expected == _read(stream)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_of_data_are_joined_by_newlines(end: str) -> None:
    assert [Event(b"a\nb\n", "7", "named")] == _read(
        end.join(["id: 7", "event: named", "data: a", "data:b", "data", "", ""]).encode()
    )


def test_each_byte_alone_gives_the_same_events() -> None:
    stream = b"\xef\xbb\xbfid: 1\r\ndata: a\r\n\r\ndata: b\r\r: ping\n\ndata: c\n\n"
    assert [Event(b"a", "1"), Event(b"b"), Event(b"c")] == _read(*(bytes([byte]) for byte in stream))


def test_characters_that_only_python_takes_for_line_ends_stay_in_the_data() -> None:
    text = '{"text":"a\u2028b\u2029c\x85d\x0be"}'
    assert [Event(text.encode())] == _read(f"data: {text}\n\n".encode())


def test_an_id_belongs_to_the_event_that_brought_it() -> None:
    assert [Event(b"a", "1"), Event(b"b", None)] == _read(b"id: 1\ndata: a\n\ndata: b\n\n")


def test_an_id_without_data_is_reported_because_it_moves_the_reader() -> None:
    assert [Event(b"", "9")] == _read(b"id: 9\n\n")


def test_comments_and_blank_lines_are_no_events() -> None:
    assert [] == _read(b": keep-alive\n\n\n\nevent: named\n\n")


def test_an_event_without_its_blank_line_is_dropped() -> None:
    assert [Event(b"a")] == _read(b"data: a\n\ndata: b\n")


def test_an_id_with_a_null_is_ignored() -> None:
    assert [Event(b"a", None)] == _read(b"id: 1\0\ndata: a\n\n")


def test_the_reconnection_time_is_in_seconds() -> None:
    parser = Parser()
    parser.feed(b"retry: 1500\n")
    assert 1.5 == parser.retry_seconds
    parser.feed(b"retry: never\nretry: -1\n")
    assert 1.5 == parser.retry_seconds


@pytest.mark.parametrize("line", [b"data: ", b"x", b": "])
def test_a_line_that_never_ends_is_refused(line: bytes) -> None:
    parser = Parser(limit_bytes=100)
    with pytest.raises(BadAnswer):
        parser.feed(line + b"a" * 101)


def test_an_event_of_too_many_lines_is_refused() -> None:
    parser = Parser(limit_bytes=100)
    parser.feed(b"data:\n" * 100)
    with pytest.raises(BadAnswer):
        parser.feed(b"data:\n")


def test_many_small_events_are_no_large_one() -> None:
    parser = Parser(limit_bytes=100)
    assert 1000 == sum(len(parser.feed(b"id: 1\ndata: 0123456789\n\n")) for _ in range(1000))
