"""Logging: one line a request and a turn; pretty on a terminal, JSON otherwise. Never content, never credentials.

A worker's log is also its agents', and libraries': what they say is bounded, cannot begin a line, and does nothing to a
terminal. Nothing that is logged fails whoever logs it.
"""

from __future__ import annotations

import json
import logging
import re
import socket
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import msgspec
import structlog

from a2a_events import __version__, limits, tracing

_LEVELS: Final = {name: getattr(logging, name.upper()) for name in ("debug", "info", "warning", "error")}
_PLAIN: Final = frozenset({str, float, bool})
_NAME_CHARACTERS: Final = 64
_OURS: Final = ("event", "level", "timestamp", "service", "version", "pod", "trace_id", "span_id", "exception")
"""Members that a line keeps whatever else is in it."""
_STACKS: Final = ("exception", "stack")
"""Members that have lines, and whose end says most."""
_NOT_PLAIN: Final = re.compile("[^ -~]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def configure(level: str = "info", form: str = "", service: str = "") -> None:
    """Set up structlog for this process; lines go to standard error.

    Args:
        level: debug, info, warning or error.
        form: json or pretty; empty: pretty if standard error is a terminal.
        service: what this process is, for lines of JSON.
    """
    pretty = form == "pretty" or (not form and sys.stderr.isatty())
    # Only where nobody else handles it: an agent's own logging is its author's.
    logging.lastResort = _Libraries(logging.WARNING)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _with_trace,
    ]
    # Tracebacks without local variables: these may hold what clients and agents said.
    told: list[Any] = [structlog.processors.format_exc_info, _bounded]
    if pretty:
        structlog.configure(
            processors=[
                *shared,
                *told,
                _printable,
                structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(_LEVELS.get(level, logging.INFO)),
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
            cache_logger_on_first_use=True,
        )
    else:
        structlog.configure(
            processors=[*shared, _with_process(service), *told, _render],
            wrapper_class=structlog.make_filtering_bound_logger(_LEVELS.get(level, logging.INFO)),
            logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
            cache_logger_on_first_use=True,
        )


def _with_trace(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    context = tracing.current()
    if context:
        event["trace_id"], event["span_id"] = tracing.ids(context)
    return event


def _with_process(service: str) -> Any:
    """Adds which process says it."""
    said = {"service": service or None, "version": __version__, "pod": socket.gethostname()}

    def add(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.update(said)
        return event

    return add


class _Libraries(logging.Handler):
    """What libraries log, as lines of ours; on standard error it would be lines of anybody's making."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._logger: Any = structlog.get_logger("libraries")

    def emit(self, record: logging.LogRecord) -> None:
        """One line."""
        try:
            said = record.getMessage()
        except Exception:  # noqa: BLE001 -- arguments that do not fit, or cannot be shown
            said = str(record.msg)
        say = self._logger.error if record.levelno >= logging.ERROR else self._logger.warning
        say(said, logger=record.name, exc_info=record.exc_info)


def _bounded(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Few members, each short, and each something that JSON can hold."""
    names = [name for name, value in event.items() if value is not None]
    if len(names) > limits.LOG_FIELDS:
        names.sort(key=lambda name: name not in _OURS)
        names = names[: limits.LOG_FIELDS]
    return {_legible(name)[:_NAME_CHARACTERS]: _short(name, event[name]) for name in names}


def _short(name: str, value: Any) -> Any:
    kept = value if type(value) in _PLAIN else _told(value)
    if type(kept) is not str:
        return kept
    if len(kept) > limits.LOG_FIELD_CHARACTERS:
        kept = _cut(name, kept)
    return _legible(kept)


def _told(value: Any) -> Any:
    """Anything else as JSON has it, where it is short; as text otherwise."""
    try:
        encoded = _encoder.encode(value)
        return msgspec.json.decode(encoded) if len(encoded) <= limits.LOG_FIELD_CHARACTERS else encoded.decode()
    except Exception:  # noqa: BLE001 -- whatever it is, its line is written
        try:
            return str(value)
        except Exception:  # noqa: BLE001 -- as above
            return f"<{type(value).__name__}>"


def _cut(name: str, text: str) -> str:
    """The beginning; of a traceback or a stack the end as well, which says what it was."""
    if name not in _STACKS:
        return f"{text[: limits.LOG_FIELD_CHARACTERS]}… {len(text)} characters"
    if len(text) <= limits.LOG_TRACEBACK_CHARACTERS:
        return text
    half = limits.LOG_TRACEBACK_CHARACTERS // 2
    return f"{text[:half]}\n… {len(text)} characters …\n{text[-half:]}"


def _printable(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Text that can do nothing to a terminal but be shown."""
    return {
        _harmless(name): _harmless(value, kept="\n\t" if name in _STACKS else "") if isinstance(value, str) else value
        for name, value in event.items()
    }


def _harmless(text: str, kept: str = "") -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in kept else ascii(c)[1:-1] for c in text)


def _legible(text: str) -> str:
    """Text without lone surrogates, which are none: no encoding has them."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _render(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> bytes:
    """One line of ASCII: whoever takes another character for the end of a line, or for a command, finds none."""
    line = _encoder.encode(event)
    if line.isascii() and b"\x7f" not in line:
        return line
    return _NOT_PLAIN.sub(lambda found: json.dumps(found[0])[1:-1], line.decode()).encode()


_encoder: Final = msgspec.json.Encoder(enc_hook=str)
