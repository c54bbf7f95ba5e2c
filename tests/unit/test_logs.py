"""Lines of a log: whatever is logged, each is one object of bounded and harmless text, and whoever logs goes on."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from typing import Any

import pytest
import structlog

from a2a_events import limits
from a2a_events.services import logs


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


HOSTILE: dict[str, Any] = {
    "line ends": 'x\r\n{"event":"forged"}\n\x0b\x0c\x1c\x85\u2028\u2029',
    "escapes": "\x1b[2J\x07\x9b31m\x7f\x00",
    "direction": "\u202eevil\u2066",
    "lone": "a \ud800 b \udfff",
    "astral": "\U0001f600",
    "long": "x" * 1_000_000,
    "bytes": b"\xff\x00" * 100_000,
    "unspeakable": Unspeakable(),
    "huge": 10**5000,
    "nan": float("nan"),
    "nested": {"\ud800": [{"x\n": "y" * 5000}]},
    "small": {"a": [1, "\x1b", None]},
    "itself": [],
}
HOSTILE["itself"].append(HOSTILE["itself"])


@pytest.fixture(params=["json", "pretty"])
def said(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> io.TextIOWrapper:
    """Standard error, and the log of a service that writes to it."""
    shown = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)
    logs.configure("debug", request.param, "test")
    return shown


def written(shown: io.TextIOWrapper) -> str:
    assert isinstance(shown.buffer, io.BytesIO)
    return shown.buffer.getvalue().decode()


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_is_logged_is_one_line_of_bounded_text(said: io.TextIOWrapper, name: str) -> None:
    logger = structlog.get_logger()
    value = HOSTILE[name]
    logger.info(value if isinstance(value, str) else "said", value=value, **{str(name) + "\n\x1b\ud800": 1})
    logger.info("next")
    _assert_plain(written(said), 2)


def test_a_traceback_is_kept_at_both_ends(said: io.TextIOWrapper) -> None:
    try:
        try:
            raise ValueError("first\n\x1b[2J\ud800\u2028")
        except ValueError as error:
            raise KeyError("x" * 1_000_000) from error
    except KeyError:
        structlog.get_logger().error("failed", exc_info=True)
    text = written(said)
    assert "ValueError: first" in text
    assert "1000" in text
    assert len(text) < 3 * limits.LOG_TRACEBACK_CHARACTERS
    assert "\x1b[2J" not in text


def test_a_stack_is_kept_at_both_ends(said: io.TextIOWrapper) -> None:
    structlog.get_logger().warning("blocked", stack="outermost\n" + "  called\n" * 10_000 + "where it hangs")
    text = written(said)
    assert "outermost" in text
    assert "where it hangs" in text
    assert len(text) < 3 * limits.LOG_TRACEBACK_CHARACTERS


def test_what_libraries_log_is_a_line_like_any(said: io.TextIOWrapper) -> None:
    handler = logging.lastResort  # whose turn it is where nobody handles what is logged, which pytest does
    assert handler is not None
    assert handler.level == logging.WARNING, "a library's chatter was not asked for"
    hostile = HOSTILE["line ends"] + HOSTILE["escapes"] + HOSTILE["lone"]
    records: list[tuple[str, tuple[Any, ...]]] = [
        ("%s", (hostile,)),
        ("%d", ("does not fit",)),
        ("%s", (Unspeakable(),)),
    ]
    for text, arguments in records:
        handler.handle(logging.LogRecord("library\nforged", logging.ERROR, "x.py", 1, text, arguments, None))
    _assert_plain(written(said), 3)


def test_a_line_keeps_what_is_ours_however_many_members_it_is_given(said: io.TextIOWrapper) -> None:
    structlog.get_logger().info("many", **{f"m{number}": number for number in range(1000)})
    text = written(said)
    _assert_plain(text, 1)
    assert "many" in text
    assert "m10" in text
    assert "m999" not in text


def _assert_plain(text: str, lines: int) -> None:
    body = re.sub(r"\x1b\[\d+m", "", text)  # colours of ours
    found = body.split("\n")
    assert found.pop() == ""
    assert len(found) == lines, found
    for line in found:
        assert line.isprintable(), ascii(line)
        assert len(line) <= limits.LOG_LINE_CHARACTERS
        if line.startswith("{"):
            document = json.loads(line)
            assert {"event", "level", "timestamp", "service", "version", "pod"} <= set(document)
            assert len(document) <= limits.LOG_FIELDS
