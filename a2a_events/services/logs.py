"""Logging: one line a request and a turn; pretty on a terminal, JSON otherwise. Never content, never credentials."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

import msgspec
import structlog

from a2a_events import __version__, tracing

_LEVELS: Final = {name: getattr(logging, name.upper()) for name in ("debug", "info", "warning", "error")}


def configure(level: str = "info", form: str = "", service: str = "") -> None:
    """Set up structlog for this process; lines go to standard error.

    Args:
        level: debug, info, warning or error.
        form: json or pretty; empty: pretty if standard error is a terminal.
        service: what this process is, for lines of JSON.
    """
    pretty = form == "pretty" or (not form and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _with_trace,
    ]
    if pretty:
        structlog.configure(
            # Tracebacks without local variables: these may hold what clients and agents said.
            processors=[
                *shared,
                _without_none,
                structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(_LEVELS.get(level, logging.INFO)),
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
            cache_logger_on_first_use=True,
        )
    else:
        structlog.configure(
            processors=[*shared, _with_process(service), structlog.processors.format_exc_info, _without_none, _render],
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


def _without_none(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in event.items() if value is not None}


_encoder: Final = msgspec.json.Encoder(enc_hook=str)


def _render(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> bytes:
    return _encoder.encode(event)
