"""Where in which trace something happens, and spans for who records them (ADR 0027).

A *trace context* is one text: W3C's ``traceparent``, and behind a space its ``tracestate`` if there is one. It comes
with a request, is stored beside records, and goes with them to workers, agents and webhooks. Without a recorder it is
passed on as it came; with one (``services.spans``) there are spans on the way. No recorder is ever imported from here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Final, Literal, Protocol, Self, TypeAlias

Kind: TypeAlias = Literal["server", "producer", "consumer", "client"]
Attributes: TypeAlias = Mapping[str, str | int | bool]

STATE_CHARACTERS: Final = 512
"""Longest ``tracestate`` that is passed on; W3C asks for at least as much."""
_PARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}")
_PARENT_CHARACTERS: Final = 55
_MEMBER: Final = re.compile(
    r"[a-z0-9][a-z0-9_\-*/@]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
"""One of a state's members, as W3C's Trace Context has them."""

_passed: ContextVar[str] = ContextVar("a2a_events_trace", default="")


class Span(Protocol):
    """Something that takes time; it is current while it is entered."""

    @property
    def context(self) -> str:
        """Its trace context, for who goes on elsewhere; empty without one."""
        ...

    def set(self, attributes: Attributes, *, name: str = "") -> None:
        """Say more of it, or what it is called."""
        ...

    def failed(self, why: str) -> None:
        """It did not do what it was for."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Recorder(Protocol):
    """Records spans. Nothing that it does waits for anybody."""

    def current(self) -> str:
        """The trace context of the span that is current."""
        ...

    def event(self, name: str) -> None:
        """Something has happened in the span that is current."""
        ...

    def span(self, kind: Kind, name: str, parent: str | None, links: Sequence[str], attributes: Attributes) -> Span:
        """See :func:`span`."""
        ...


class _Unrecorded:
    """In place of a span: passes a context on.

    Args:
        context: to pass on; empty: none, whatever is current; None: what is current.
    """

    __slots__ = ("_given", "_token")

    def __init__(self, context: str | None = None) -> None:
        self._given = context
        self._token: Token[str] | None = None

    @property
    def context(self) -> str:
        return _passed.get() if self._given is None else self._given

    def set(self, attributes: Attributes, *, name: str = "") -> None:
        pass

    def failed(self, why: str) -> None:
        pass

    def __enter__(self) -> Self:
        if self._given is not None:
            self._token = _passed.set(self._given)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _passed.reset(self._token)


NOTHING: Final[Span] = _Unrecorded()
"""A span that nobody records, of something that came with no context."""
_recorder: Recorder | None = None


def record_by(recorder: Recorder | None) -> None:
    """From now on this process's spans are recorded; None: no more."""
    global _recorder  # noqa: PLW0603 -- one a process, as loggers are configured
    _recorder = recorder


def recording() -> bool:
    """Whether spans are recorded; where not, nobody need think of what to say of them."""
    return _recorder is not None


def span(
    kind: Kind,
    name: str,
    attributes: Attributes | None = None,
    *,
    parent: str | None = None,
    links: Sequence[str] = (),
) -> Span:
    """A span that begins now; to be entered.

    Args:
        kind: as OpenTelemetry has it.
        name: of few different ones.
        attributes: of it.
        parent: the context that it belongs to; empty: none, it begins a trace; None: the current one.
        links: contexts of what has led to it.
    """
    if _recorder is not None:
        return _recorder.span(kind, name, parent, links, attributes or {})
    passed = parent or next(iter(links), "")
    # What begins a trace must not pass on that of whoever was served before in this task, as pipelined requests are.
    return _Unrecorded(passed) if passed or (parent is not None and _passed.get()) else NOTHING


def event(name: str) -> None:
    """Something has happened in the current span."""
    if _recorder is not None:
        _recorder.event(name)


def current() -> str:
    """The current trace context; empty without one."""
    return _passed.get() if _recorder is None else _recorder.current()


def ids(context: str) -> tuple[str, str]:
    """Trace id and span id of a context; empty without one."""
    return (context[3:35], context[36:52]) if context else ("", "")


def headers(context: str) -> dict[str, str]:
    """The HTTP headers that carry a context; none without one."""
    if not context:
        return {}
    parent, _, state = context.partition(" ")
    return {"traceparent": parent, "tracestate": state} if state else {"traceparent": parent}


def parse(traceparent: str, tracestate: str = "") -> str:
    """The context that a caller has sent; empty if it is none. A state that is none, or too long, is left out."""
    if not _PARENT.match(traceparent):
        return ""
    if len(traceparent) != _PARENT_CHARACTERS:
        # Versions after 00 may have more behind a hyphen, of which we know nothing.
        if traceparent.startswith("00") or traceparent[_PARENT_CHARACTERS] != "-":
            return ""
        traceparent = traceparent[:_PARENT_CHARACTERS]
    members = [member.strip(" \t") for member in tracestate.split(",") if member.strip(" \t")]
    state = ",".join(members)
    if not state or len(state) > STATE_CHARACTERS or not all(map(_MEMBER.fullmatch, members)):
        return traceparent
    return f"{traceparent} {state}"
