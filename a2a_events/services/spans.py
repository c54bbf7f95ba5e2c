"""Spans of OpenTelemetry, where a deployment wants them; the only place that imports it.

Exporting happens in a thread of the SDK, from a bounded queue: what a collector does not take in time is dropped, and
no request ever waits for it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from contextvars import Token
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from a2a_events import __version__, tracing
from a2a_events.settings import PREFIX, SettingsError
from a2a_events.tracing import Attributes, Kind

FILE: Final = "file:"
QUEUE_SPANS: Final = 4096
"""Spans that wait to be exported; more are dropped."""
END_SECONDS: Final = 2.0
"""What the spans of a process that ends get to leave it."""
_KINDS: Final = {
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
    "client": SpanKind.CLIENT,
}


class _Span:
    """See ``tracing.Span``."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._token: Token[Context] | None = None

    @property
    def context(self) -> str:
        return _text(self._span.get_span_context())

    def set(self, attributes: Attributes, *, name: str = "") -> None:
        self._span.set_attributes(attributes)
        if name:
            self._span.update_name(name)

    def failed(self, why: str) -> None:
        self._span.set_status(Status(StatusCode.ERROR, why))

    def __enter__(self) -> Self:
        self._token = otel_context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            self.failed(type(error).__name__)
        self._span.end()
        if self._token is not None:
            otel_context.detach(self._token)


class Recorder:
    """See ``tracing.Recorder``.

    Args:
        provider: of the SDK.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("a2a_events", __version__)

    def current(self) -> str:
        """See ``tracing.Recorder``."""
        return _text(trace.get_current_span().get_span_context())

    def event(self, name: str) -> None:
        """See ``tracing.Recorder``."""
        trace.get_current_span().add_event(name)

    def span(self, kind: Kind, name: str, parent: str | None, links: Sequence[str], attributes: Attributes) -> _Span:
        """See ``tracing.Recorder``."""
        within = None
        if parent is not None:
            remote = _context(parent)
            within = trace.set_span_in_context(NonRecordingSpan(remote), Context()) if remote else Context()
        linked = [Link(remote) for link in links if (remote := _context(link)) is not None]
        return _Span(
            self._tracer.start_span(name, within, kind=_KINDS[kind], links=linked, attributes=dict(attributes))
        )


def _text(context: SpanContext) -> str:
    if not context.is_valid:
        return ""
    state = context.trace_state.to_header()
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 1:02x}"
    return f"{parent} {state}" if state and len(state) <= tracing.STATE_CHARACTERS else parent


def _context(text: str) -> SpanContext | None:
    if not text:
        return None
    trace_id, span_id = tracing.ids(text)
    _, _, state = text.partition(" ")
    return SpanContext(
        int(trace_id, 16),
        int(span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(int(text[53:55], 16) & 1),
        trace_state=TraceState.from_header([state]) if state else None,
    )


def _exporter(where: str, role: str) -> SpanExporter:
    if where == "otlp":
        return OTLPSpanExporter()
    if not where.startswith(FILE):
        raise SettingsError(f"{PREFIX}TRACES={where!r}: expected 'otlp' or 'file:FOLDER'")
    folder = Path(where.removeprefix(FILE))
    try:
        file = (folder / f"{role}-{os.getpid()}.jsonl").open("a", encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{PREFIX}TRACES={where!r}: {error.strerror}") from None
    return ConsoleSpanExporter(out=file, formatter=lambda span: span.to_json(indent=None) + "\n")


@asynccontextmanager
async def recorded(where: str, role: str) -> AsyncGenerator[None]:
    """Record the spans of this process while this is entered; those of agents and libraries, too.

    Args:
        where: ``otlp``, and the environment variables ``OTEL_…`` say more; or ``file:FOLDER``, a file a process.
        role: of the service.

    Raises:
        SettingsError: that is neither, or the folder cannot be written to.
    """
    if tracing.recording():  # by another service of this process
        yield
        return
    ours = {
        "service.name": f"a2a-events-{role}",
        "service.version": __version__,
        "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
    }
    # What the environment says goes first; the SDK has it the other way round, and a name of its own for "nothing".
    said = OTELResourceDetector().detect().attributes
    resource = Resource.create({name: value for name, value in ours.items() if name not in said})
    os.environ.setdefault("OTEL_BSP_MAX_QUEUE_SIZE", str(QUEUE_SPANS))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_exporter(where, role)))
    trace.set_tracer_provider(provider)
    tracing.record_by(Recorder(provider))
    try:
        yield
    finally:
        tracing.record_by(None)
        # A collector that does not answer must not keep the process from ending.
        ending = threading.Thread(target=provider.shutdown, name="spans", daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, END_SECONDS)
