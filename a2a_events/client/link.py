"""What it takes to speak to one interface of an agent, whatever the wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from a2a_events.client.answers import Answer
from a2a_events.client.operations import Request
from a2a_events.client.sse import Event
from a2a_events.model import AgentInterface


class Reply(Struct, frozen=True):
    """What an operation gave: its result as the JSON of A2A 1.0, and the extensions that were active for it."""

    raw: bytes
    extensions: frozenset[str] = frozenset()


class Frames(Protocol):
    """The open answer of a streaming operation."""

    extensions: frozenset[str]
    """What the server activated."""

    @property
    def retry_seconds(self) -> float:
        """How long the server wants clients to wait before they reconnect; 0 if it did not say."""
        ...

    @property
    def lived_seconds(self) -> float:
        """From opening to the last sign of life."""
        ...

    async def read(self) -> list[Event] | None:
        """The next events; may be none yet. None is a clean end.

        If this is cancelled, the connection is lost, and no event that was given out before.

        Raises:
            A2AError: the server's error, where the wire itself carries it.
            NoAnswer: the connection broke, or nothing came for too long.
            BadAnswer: the bytes are no event stream.
        """
        ...

    def update(self, event: Event) -> bytes:
        """The JSON of one update, as A2A 1.0 has it.

        Raises:
            A2AError: the server's error, in mid-stream.
            BadAnswer: not an update of this binding.
        """
        ...

    async def aclose(self, *, drain: bool = False) -> None:
        """Give the connection back; ``drain`` allows the server a moment to end its answer first."""
        ...


class Link(Protocol):
    """One interface of the agent, and the wire to it."""

    async def ask(self, request: Request, headers: Mapping[str, str], patience_seconds: float | None) -> Reply:
        """An operation that answers once.

        Args:
            request: what to ask.
            headers: service parameters, by their HTTP names.
            patience_seconds: for the whole answer; None: no limit.

        Raises:
            A2AError: the server's error.
            ConnectionFailed: not sent.
            NoAnswer: sent, no whole answer in time.
            BadAnswer: the answer is none of this protocol.
        """
        ...

    async def open(self, request: Request, headers: Mapping[str, str], patience_seconds: float | None) -> Frames:
        """An operation that answers with a stream; returns when the server has accepted it. Errors as for ``ask``."""
        ...

    async def aclose(self) -> None:
        """Close what belongs to this link alone; its open streams break."""
        ...


class Call(Struct, frozen=True, kw_only=True):
    """One HTTP request, ready to send. ``otherwise`` is tried if the server does not know this method there."""

    url: str
    method: str = "POST"
    body: bytes = b""
    headers: Mapping[str, str] = {}
    otherwise: Call | None = None


class Binding(Protocol):
    """How operations look over HTTP in one version of the protocol."""

    version: str
    """The value of ``A2A-Version``."""
    extensions_header: str
    """The header that names extensions, both ways."""

    def call(self, at: AgentInterface, request: Request, *, streaming: bool) -> Call:
        """An operation as one HTTP request.

        Args:
            at: the interface to call: its URL, and its tenant to be echoed.
            request: of the operation.
            streaming: SendStreamingMessage rather than SendMessage; of no effect elsewhere.

        Raises:
            UnsupportedOperationError: this version of the protocol has no such operation.
        """
        ...

    def result(self, request: Request, answer: Answer) -> bytes:
        """The JSON of what the operation gave, as A2A 1.0 has it.

        Raises:
            A2AError: the server's error.
            BadAnswer: not an answer of this binding.
        """
        ...

    def update(self, event: Event) -> bytes:
        """See :class:`Frames`."""
        ...
